//! Waiting for signals without handlers (sigtimedwait(2)): for process 1 when it has no loop.
#![expect(unsafe_code, reason = "nix has no sigtimedwait")]

use std::time::Duration;

use nix::sys::signal::SigSet;

use super::{SysError, signal};

/// A set of signals that this thread blocks and waits for. Every other thread has to block them
/// too.
#[derive(Clone, Copy, Debug)]
pub struct Awaited {
    set: SigSet,
}

impl Awaited {
    /// Blocks these signals for the calling thread.
    pub fn block(signals: &[i32]) -> Result<Self, SysError> {
        let set = signal::set_of(signals);
        let blocked = set.thread_block();
        blocked.map_err(|e| SysError::new("block", "signals", e))?;
        Ok(Self { set })
    }

    /// The next of them, or `None` after `bound`.
    pub fn next_within(&self, bound: Duration) -> Option<i32> {
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(bound.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(bound.subsec_nanos().min(999_999_999) as i32),
        };
        // SAFETY: both pointers are valid for reads; no information is asked for.
        let signal = unsafe {
            libc::sigtimedwait(
                std::ptr::from_ref(self.set.as_ref()),
                std::ptr::null_mut(),
                &raw const timeout,
            )
        };
        (signal > 0).then_some(signal)
    }
}

/// The signals that end a machine, besides those with a number of their own: SIGRTMIN+3 halts,
/// +4 powers off, +5 reboots (as container engines and systemd have it).
pub fn real_time(offset: i32) -> i32 {
    libc::SIGRTMIN() + offset
}
