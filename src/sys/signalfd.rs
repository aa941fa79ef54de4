//! Signals as something to read: blocked, and taken from a descriptor (signalfd(2)).
#![expect(unsafe_code, reason = "nix only reads an action by setting another")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::SysError;
use super::signal::set_of;

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// Its number.
    pub signal: i32,
    /// Who sent it; 0: the kernel, or somebody outside our pid namespace.
    pub from: u32,
    /// The kernel sent it by itself: a terminal's key, its hang-up (SI_KERNEL, sigaction(2)).
    pub by_kernel: bool,
}

/// The descriptor; non-blocking and close-on-exec.
#[derive(Debug)]
pub struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks exactly `signals`, for the calling thread and those it makes from now on, and reads
    /// them from here. Of one kind at most one waits (signal(7)).
    pub fn new(signals: &[Signal]) -> Result<Self, SysError> {
        Self::of(signals.iter().copied().collect())
    }

    /// The same by numbers, real-time signals among them, for a process with threads: each of the
    /// others has to block them, too. Whoever started us may have left them ignored, which for
    /// SIGCHLD would let the kernel reap our children (waitpid(2)): that ends.
    pub fn take_over(numbers: &[i32]) -> Result<Self, SysError> {
        for number in numbers {
            // SAFETY: takes two integers; a number that is no signal is refused with EINVAL.
            unsafe { libc::signal(*number, libc::SIG_DFL) };
        }
        Self::of(set_of(numbers))
    }

    fn of(set: SigSet) -> Result<Self, SysError> {
        let failed = |e| SysError::new("take over", "signals", e);
        set.thread_set_mask().map_err(failed)?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let fd = SignalFd::with_flags(&set, flags).map_err(failed)?;
        Ok(Self { fd })
    }

    /// The next that waits to be read.
    pub fn next(&self) -> Option<Came> {
        let info = self.fd.read_signal().ok().flatten()?;
        Some(Came {
            signal: i32::try_from(info.ssi_signo).unwrap_or(0),
            from: info.ssi_pid,
            by_kernel: info.ssi_code == libc::SI_KERNEL,
        })
    }
}

impl AsRawFd for Signals {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Signals 1 to 31 that are ignored in us, as exec leaves them to a program (bit `n - 1` stands
/// for signal `n`). SIGPIPE is left out: Rust's start-up ignores it whatever it was.
pub fn ignored() -> u64 {
    (1..=31)
        .filter(|&signal| signal != libc::SIGPIPE && is_ignored(signal))
        .fold(0, |set, signal| set | 1 << (signal - 1))
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeroes is a valid sigaction, which the call overwrites or leaves; a null new
    // action changes nothing.
    let action = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        let done = libc::sigaction(signal, std::ptr::null(), &raw mut action);
        (done == 0).then_some(action.sa_sigaction)
    };
    action == Some(libc::SIG_IGN)
}

/// Lets these have their usual effect again; one that waits has it at once.
pub fn let_through(signals: &[Signal]) {
    let set: SigSet = signals.iter().copied().collect();
    // A signal that stays blocked is what was before.
    let _ = set.thread_unblock();
}

/// Dies of a signal (without a core dump: the command has left its own), and gives it to our whole
/// process group if that is wanted, as the terminal gives one to its foreground. Returns where that
/// is not fatal: it is ignored, or we are process 1.
pub fn die_of(signal: Signal, with_group: bool) {
    if is_ignored(signal as i32) {
        return;
    }
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    if with_group {
        // SAFETY: kill takes two integers; 0 is our own process group.
        unsafe { libc::kill(0, signal as i32) };
    } else {
        let _ = raise(signal);
    }
    let_through(&[signal]);
}

/// Stops us alone as `signal` does whoever does not catch it, also where it is blocked; returns when
/// somebody continues us (at once where our process group is orphaned).
pub fn stop_by(signal: Signal) -> Result<(), SysError> {
    let failed = |e| SysError::new("stop by", signal.as_str(), e);
    raise(signal).map_err(failed)?;
    let stops: SigSet = [signal].into_iter().collect();
    let before = stops.thread_swap_mask(SigmaskHow::SIG_UNBLOCK);
    before
        .and_then(|before| before.thread_set_mask())
        .map_err(failed)
}

/// Stops our process group as the terminal's Ctrl-Z would, and ourselves with it unless we block
/// SIGTSTP; returns when we are continued (at once where the group is orphaned).
pub fn stop_own_group() {
    // SAFETY: kill takes two integers; 0 is our own process group.
    unsafe { libc::kill(0, libc::SIGTSTP) };
}
