//! Reaping: the one place that takes exit statuses from the kernel.
//!
//! Nothing else in the process may wait for a child: a status is given out once.
#![expect(
    unsafe_code,
    reason = "nix's waitid knows no __WALL and reports no core dump"
)]

use nix::errno::Errno;
use nix::sys::prctl;

use super::{SysError, procfs};

/// How a process ended, as waitid(2) reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It exited with this code (0 to 255).
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether it dumped core.
        core: bool,
    },
}

/// A child that was reaped: its pid is free for reuse from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    /// The pid it had.
    pub pid: u32,
    /// How it ended.
    pub ended: Ended,
}

/// Makes orphans below us our children instead of process 1's (PR_SET_CHILD_SUBREAPER,
/// Linux 3.4). Not inherited by children. Needless but harmless for process 1.
pub fn set_child_subreaper() -> Result<(), SysError> {
    prctl::set_child_subreaper(true)
        .map_err(|e| SysError::new("become the reaper of", "orphans below us", e))
}

/// Reaps one child that has ended, known or inherited; `None` when none has. Call until `None`
/// after every SIGCHLD: signals of one kind merge.
pub fn reap_next() -> Result<Option<Reaped>, SysError> {
    wait_for(libc::P_ALL, 0, libc::WNOHANG)
}

/// Waits for the end of one child of ours, by pid, and reaps it; blocks until it ends. For the
/// start-up test, which runs before the reaper. ECHILD if it is not our child (any more).
pub fn reap_pid(pid: u32) -> Result<Option<Reaped>, SysError> {
    wait_for(libc::P_PID, pid, 0)
}

/// The signal that has stopped our child `pid` since this was last asked (SIGTSTP, SIGTTIN,
/// SIGSTOP …); takes no exit status.
pub fn has_stopped(pid: u32) -> Option<i32> {
    // SAFETY: as in `wait_for`.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WSTOPPED | libc::WNOHANG;
    // SAFETY: as in `wait_for`.
    let result = unsafe { libc::waitid(libc::P_PID, pid, &raw mut info, flags) };
    // SAFETY: zeroed before, and filled by waitid(2) when somebody is found.
    (result == 0 && unsafe { info.si_pid() } != 0).then(|| unsafe { info.si_status() })
}

fn wait_for(kind: libc::idtype_t, id: u32, flags: i32) -> Result<Option<Reaped>, SysError> {
    loop {
        // SAFETY: siginfo_t is plain data for which all zeroes is a valid value; waitid leaves
        // si_pid at 0 when WNOHANG finds nobody.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // __WALL also takes children whose exit signal is not SIGCHLD.
        let flags = libc::WEXITED | libc::__WALL | flags;
        // SAFETY: `info` is valid for writes for the whole call and nothing else is passed by
        // pointer.
        let result = unsafe { libc::waitid(kind, id, &raw mut info, flags) };
        match Errno::result(result) {
            Ok(_) => return Ok(decode(&info)),
            Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) if kind == libc::P_ALL => return Ok(None),
            Err(e) => return Err(SysError::new("wait for", format!("child {id}"), e)),
        }
    }
}

fn decode(info: &libc::siginfo_t) -> Option<Reaped> {
    // SAFETY: waitid(2) fills si_pid and si_status for every child it returns, and the zeroes
    // put there before it are valid for both.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let pid = u32::try_from(pid).ok().filter(|&pid| pid != 0)?;
    let ended = match info.si_code {
        libc::CLD_EXITED => Ended::Code(status),
        code => Ended::Signal {
            signal: status,
            core: code == libc::CLD_DUMPED,
        },
    };
    Some(Reaped { pid, ended })
}

/// Whether we have no child at all (ECHILD of waitid(2)). Takes no exit status.
fn has_none() -> bool {
    let flags = libc::WEXITED | libc::__WALL | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: waitid(2) takes a null pointer for what nobody wants to know.
    let result = unsafe { libc::waitid(libc::P_ALL, 0, std::ptr::null_mut(), flags) };
    Errno::result(result) == Err(Errno::ECHILD)
}

/// Our own children, those we started and those we inherited, from the `children` files of all
/// our threads (CONFIG_PROC_CHILDREN). Children that come or go meanwhile may be missed
/// (proc(5)): a place to look first, never proof that nobody is there.
pub fn children() -> Result<Vec<u32>, SysError> {
    if has_none() {
        return Ok(Vec::new());
    }
    procfs::Proc::open()?.children(nix::unistd::getpid().as_raw().unsigned_abs())
}
