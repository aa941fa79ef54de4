//! Signals to process groups and to the members of a cgroup.
#![expect(unsafe_code, reason = "nix knows no real-time signals")]

use std::path::Path;

use nix::errno::Errno;
use nix::sys::signal::SigSet;

use super::pidfd::PidFd;
use super::procfs::{Proc, ProcId, ProcStat};
use super::{SysError, cgroup, session};

/// Unblocks every signal for the calling thread and those it makes from now on. exec keeps the
/// mask of whoever started us (signal(7)): with SIGCHLD blocked nothing would ever be reaped.
pub fn unblock_all() -> Result<(), SysError> {
    SigSet::empty()
        .thread_set_mask()
        .map_err(|e| SysError::new("unblock", "every signal", e))
}

/// Blocks every signal for the calling thread, so that what is meant for the process goes to
/// another one.
pub fn block_all() -> Result<(), SysError> {
    SigSet::all()
        .thread_set_mask()
        .map_err(|e| SysError::new("block", "every signal", e))
}

/// A set of signals by their numbers, real-time signals among them; what is no signal is left out.
pub(super) fn set_of(numbers: &[i32]) -> SigSet {
    // SAFETY: plain bits, filled by the calls made for it, which refuse unknown numbers (EINVAL).
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for number in numbers {
            libc::sigaddset(&raw mut set, *number);
        }
        SigSet::from_sigset_t_unchecked(set)
    }
}

/// Sends a signal to a process group, then SIGCONT, so that a stopped process gets to handle
/// it; `false` when nobody is in the group. The caller makes sure that the group is the one it
/// means: its number is safe while its leader is unreaped or a member of it lives.
///
/// Refuses groups 0 (our own) and 1: kill(2) would take the latter for "everyone".
pub fn send_group(pgid: u32, signal: i32) -> Result<bool, SysError> {
    let failed = |e| SysError::new("signal", format!("process group {pgid}"), e);
    let group = i32::try_from(pgid).ok().filter(|&group| group > 1);
    let group = group.ok_or_else(|| failed(Errno::EINVAL))?;
    match kill_group(group, signal) {
        Ok(()) => {}
        Err(Errno::ESRCH) => return Ok(false),
        Err(e) => return Err(failed(e)),
    }
    // That the group has emptied meanwhile is no failure.
    match kill_group(group, libc::SIGCONT) {
        Ok(()) | Err(Errno::ESRCH) => Ok(true),
        Err(e) => Err(failed(e)),
    }
}

/// Sends a signal to a process group and nothing after it; `false` when nobody is in the group.
/// As for [`send_group`], the caller makes sure that the group is the one it means.
pub fn send_group_bare(pgid: u32, signal: i32) -> Result<bool, SysError> {
    let failed = |e| SysError::new("signal", format!("process group {pgid}"), e);
    let group = i32::try_from(pgid).ok().filter(|&group| group > 1);
    match kill_group(group.ok_or_else(|| failed(Errno::EINVAL))?, signal) {
        Ok(()) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(e) => Err(failed(e)),
    }
}

/// Sends a signal to one process and nothing after it; `false` when there is none. The caller makes
/// sure that it is the one it means: the number of a child is safe until that is reaped.
pub fn send_bare(pid: u32, signal: i32) -> Result<bool, SysError> {
    let failed = |e| SysError::new("signal", format!("process {pid}"), e);
    let own = i32::try_from(pid).ok().filter(|&pid| pid > 1);
    let own = own.ok_or_else(|| failed(Errno::EINVAL))?;
    // SAFETY: kill takes two integers, and the pid is that of one process.
    match Errno::result(unsafe { libc::kill(own, signal) }) {
        Ok(_) => Ok(true),
        Err(Errno::ESRCH) => Ok(false),
        Err(e) => Err(failed(e)),
    }
}

fn kill_group(group: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill takes two integers; the callers pass groups above 1 only.
    Errno::result(unsafe { libc::kill(-group, signal) }).map(drop)
}

/// Sends a signal to one process through its handle, then SIGCONT; `false` when it is gone.
pub fn send_process(process: &PidFd, signal: i32) -> Result<bool, SysError> {
    Ok(process.send(signal)? && process.send(libc::SIGCONT)?)
}

/// Sends a signal, then SIGCONT, to exactly these processes; those that are gone are passed
/// over. Goes on after a failure and returns the first.
pub fn send_each(processes: &[ProcId], signal: i32) -> Result<(), SysError> {
    let proc = Proc::open()?;
    let mut failed = None;
    for &id in processes {
        let sent = PidFd::open(id.pid).and_then(|handle| {
            // Looked at while the handle is held: it is on that process, or on nobody.
            match (handle, proc.stat_of(id)?) {
                (Some(handle), Some(_)) => send_process(&handle, signal).map(drop),
                _ => Ok(()),
            }
        });
        failed = failed.or(sent.err());
    }
    failed.map_or(Ok(()), Err)
}

/// How often what is left of a group is listed again.
const GROUP_ROUNDS: usize = 8;

/// Kills who is left of the process group that a child of ours led, which was reaped at `reaped`
/// or a moment later ([`super::procfs::ticks_now`]). The group's number is not its own any more,
/// so that exactly those get the signal who are proven to be of it. **Blocks** for a pass over
/// /proc, or a few.
///
/// # Errors
/// When /proc cannot be read, or one of them cannot be signalled.
pub fn end_left_group(leader: ProcId, reaped: u64) -> Result<(), SysError> {
    for _ in 0..GROUP_ROUNDS {
        let left = session::living_members(leader, reaped)?;
        if left.is_empty() {
            break;
        }
        send_each(&left, libc::SIGKILL)?;
    }
    Ok(())
}

/// What [`send_members`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Who got the signal.
    pub to: Vec<u32>,
    /// What went wrong first, if anything.
    pub error: Option<SysError>,
}

/// How many handles are held at a time.
const BATCH: usize = 256;

/// Sends a signal, then SIGCONT, to every process in the cgroup and below that `among`
/// accepts, each through a pidfd whose membership was checked after it was opened (as the kill
/// does it). Processes that join meanwhile are not reached: this is the polite signal.
pub fn send_members(path: &Path, signal: i32, among: &dyn Fn(&ProcStat) -> bool) -> Sent {
    let mut sent = Sent::default();
    if let Err(e) = send_batches(path, signal, among, &mut sent) {
        sent.error.get_or_insert(e);
    }
    sent
}

fn send_batches(
    path: &Path,
    signal: i32,
    among: &dyn Fn(&ProcStat) -> bool,
    sent: &mut Sent,
) -> Result<(), SysError> {
    let proc = Proc::open()?;
    for batch in cgroup::procs_recursive(path)?.chunks(BATCH) {
        let mut handles = Vec::with_capacity(batch.len());
        for &pid in batch {
            let Some(handle) = PidFd::open(pid)? else {
                continue;
            };
            // Somebody may have moved us in; the signal is not for us.
            let is_us = pid == std::process::id();
            if !is_us && proc.stat(pid)?.is_some_and(|stat| among(&stat)) {
                handles.push((pid, handle));
            }
        }
        let members = cgroup::procs_recursive(path)?;
        for (pid, handle) in handles {
            if members.binary_search(&pid).is_err() {
                continue;
            }
            match send_process(&handle, signal) {
                Ok(true) => sent.to.push(pid),
                Ok(false) => {}
                Err(e) => {
                    sent.error.get_or_insert(e);
                }
            }
        }
    }
    Ok(())
}
