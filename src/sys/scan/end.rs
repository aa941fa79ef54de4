//! Ending what the pass found: by pidfd, after it was recognised once more.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::look::Whole;
use super::{Escapee, PassResult, ScanTarget};
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::ProcStat;
use crate::sys::{SysError, clock};

/// How many handles are held for waiting; the death of more is read from /proc.
const HANDLES: usize = 512;

/// Kills everyone in `found`, then waits up to the context's `death_wait` for the last. Whether
/// everyone was reached: who had ended by then may have left a child, or his number, to somebody
/// whom the look did not see.
#[must_use]
pub(super) fn end_all(
    whole: &mut Whole<'_>,
    target: &ScanTarget,
    found: Vec<Escapee>,
    result: &mut PassResult,
) -> bool {
    let mut handles = Vec::new();
    let mut all = true;
    for escapee in found {
        match end_one(whole, target, &escapee) {
            Ok(Some(handle)) => {
                if handles.len() < HANDLES {
                    handles.push(handle);
                }
                result.escaped.push(escapee);
            }
            Ok(None) => all = false,
            Err(e) => {
                result.error.get_or_insert(e);
                result.alive.push(escapee.process);
            }
        }
    }
    if result.escaped.is_empty() {
        return all;
    }
    await_deaths(whole, &mut handles);
    let lives = |stat: &ProcStat| {
        whole
            .proc
            .stat_of(stat.id())
            .is_ok_and(|now| now.is_some_and(|now| !now.is_dead()))
    };
    let alive = result
        .escaped
        .iter()
        .map(|escapee| &escapee.process)
        .filter(|p| lives(p));
    result.alive.extend(alive.cloned());
    all
}

/// `None`: gone, or not the process that was found any more.
fn end_one(
    whole: &mut Whole<'_>,
    target: &ScanTarget,
    escapee: &Escapee,
) -> Result<Option<PidFd>, SysError> {
    let handle = match whole.held.remove(&escapee.process.pid) {
        Some(held) => Some(held.handle),
        None => whole.recognise(target, escapee)?,
    };
    let Some(handle) = handle else {
        return Ok(None);
    };
    Ok(handle.send(libc::SIGKILL)?.then_some(handle))
}

fn await_deaths(whole: &Whole<'_>, handles: &mut Vec<PidFd>) {
    let wait = clock::as_nanos(whole.context.death_wait);
    let deadline = clock::boot_now().saturating_add(wait);
    while let Some(last) = handles.last() {
        let left_ms = deadline
            .saturating_sub(clock::boot_now())
            .div_ceil(1_000_000);
        let mut fds = [PollFd::new(last.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(0) => return,
            Ok(_) => {
                handles.pop();
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
