//! Who was born: found out by the parent while the child waits to be let go.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;

use super::Mark;
use super::outcome::{self, ExecOutcome, read_exec_outcome};
use super::prepare::{Prepared, SpawnMethod};
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::{self, Proc, ProcId};
use crate::sys::{SysError, clock, namespace};

/// Who was born, once it is in its cgroup, and its mark, or why it has none.
pub(super) fn find_out(
    prepared: &Prepared,
    pid: u32,
    pidfd: Option<&PidFd>,
    mut unmarked: Option<SysError>,
    exec_read: &OwnedFd,
) -> Result<(ProcId, Option<Mark>, Option<SysError>), SysError> {
    if prepared.method != SpawnMethod::Clone3Into {
        let errno = await_placed(exec_read, pid)?;
        if errno != 0 {
            let errno = Errno::from_raw(errno);
            unmarked = Some(SysError::new("give a mark to", describe(pid), errno));
        }
    }
    let stat = Proc::open()?.stat(pid)?.filter(|stat| !stat.is_dead());
    let id = stat.ok_or_else(|| killed_at_birth(pid))?.id();
    if !prepared.mark || unmarked.is_some() {
        return Ok((id, None, unmarked));
    }
    match open_mark(pid, prepared.method) {
        Ok(mark) => Ok((id, Some(mark), None)),
        Err(_) if pidfd.is_some_and(PidFd::is_gone) => Err(killed_at_birth(pid)),
        Err(e) => Ok((id, None, Some(e))),
    }
}

pub(super) fn describe(pid: u32) -> String {
    format!("process {pid}")
}

fn killed_at_birth(pid: u32) -> SysError {
    SysError::because(
        "start",
        describe(pid),
        "killed before its first instruction (was its cgroup killed before?)",
    )
}

/// How long a child may take to move itself into its cgroup; the write waits for every CPU
/// (15 ms when rare), and for the kernel's other users of the same lock.
const PLACED_BOUND: Duration = Duration::from_secs(10);

/// Waits for the child's word that it is in its cgroup; the errno of its unshare, if any.
fn await_placed(exec_read: &OwnedFd, pid: u32) -> Result<i32, SysError> {
    let deadline = clock::boot_now().saturating_add(PLACED_BOUND.as_nanos() as u64);
    let mut said = Vec::new();
    loop {
        let left_ms = deadline.saturating_sub(clock::boot_now()) / 1_000_000;
        let mut fds = [PollFd::new(exec_read.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX);
        let ready = match poll(&mut fds, timeout) {
            Ok(ready) => ready,
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(SysError::new("wait for", describe(pid), e)),
        };
        if ready == 0 {
            let why = format!("not in its cgroup after {} s", PLACED_BOUND.as_secs());
            return Err(SysError::because("start", describe(pid), why));
        }
        let mut word = [0_u8; outcome::WORD];
        let len = nix::unistd::read(exec_read, &mut word).unwrap_or(0);
        said.extend_from_slice(word.get(..len).unwrap_or_default());
        if let Some(errno) = outcome::placed(&said) {
            return Ok(errno);
        }
        if len == 0 || said.len() >= outcome::WORD {
            return Err(match read_exec_outcome(&said) {
                ExecOutcome::Failed { stage, errno } => {
                    SysError::new(stage.doing(), describe(pid), errno)
                }
                _ => killed_at_birth(pid),
            });
        }
    }
}

/// Opens the child's time namespace, which keeps its number its own.
///
/// After a plain fork the child has unshared: it enters at its exec (Linux 6.3; before, only
/// its children do), and until then only `time_for_children` names the namespace.
fn open_mark(pid: u32, method: SpawnMethod) -> Result<Mark, SysError> {
    let name = match method {
        SpawnMethod::ForkThenWrite => "time_for_children",
        _ => "time",
    };
    let path = format!("{pid}/ns/{name}");
    let failed = |e| SysError::new("open the mark", format!("/proc/{path}"), e);
    let fd = Proc::open()?.open_file(&path).map_err(failed)?;
    let inode = fstat(&fd).map_err(failed)?.st_ino;
    if inode == procfs::own_mark()? {
        return Err(SysError::because(
            "give a mark to",
            describe(pid),
            "it shares ours",
        ));
    }
    let id = namespace::id(&fd);
    Ok(Mark { inode, id, fd })
}
