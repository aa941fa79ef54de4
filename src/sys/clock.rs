//! Clocks: boot time for every duration, wall time for people, one timer for the loop.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::{TimeSpec, TimeValLike};
use nix::sys::timerfd::{
    ClockId as TimerClock, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags,
};
use nix::time::{ClockId, clock_gettime};

use super::SysError;

/// Nanoseconds since boot on CLOCK_BOOTTIME: counts suspend, never runs backwards.
pub fn boot_now() -> u64 {
    nanos(ClockId::CLOCK_BOOTTIME)
}

/// How long ago `began` was, a moment on CLOCK_BOOTTIME as [`boot_now`] gives it.
pub fn since(began: u64) -> Duration {
    Duration::from_nanos(boot_now().saturating_sub(began))
}

/// A duration in nanoseconds, as [`boot_now`] counts them; at most what 64 bits hold.
pub fn as_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Milliseconds since the Unix epoch on the wall clock. May jump; for people to read.
pub fn wall_now_ms() -> u64 {
    nanos(ClockId::CLOCK_REALTIME) / 1_000_000
}

/// clock_gettime(2) fails only for clocks the kernel does not have, and CLOCK_BOOTTIME is
/// there since 2.6.39; should it fail nevertheless, 0 makes every wait end at once instead of
/// never.
fn nanos(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |now| u64::try_from(now.num_nanoseconds()).unwrap_or(0))
}

/// A timer descriptor on CLOCK_BOOTTIME (timerfd_create(2)), set to absolute moments:
/// readable once its moment is past. Non-blocking and close-on-exec.
#[derive(Debug)]
pub struct BootTimer {
    timer: TimerFd,
}

impl BootTimer {
    /// A timer that is not set. Fails with EMFILE, ENFILE or ENOMEM.
    pub fn new() -> Result<Self, SysError> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        TimerFd::new(TimerClock::CLOCK_BOOTTIME, flags)
            .map(|timer| Self { timer })
            .map_err(|e| SysError::new("create a timer on", "CLOCK_BOOTTIME", e))
    }

    /// Sets the moment, in nanoseconds since boot; `None` unsets it, so that an idle process
    /// never wakes. A moment already past makes the descriptor readable at once.
    pub fn set(&self, at_nanos: Option<u64>) -> Result<(), SysError> {
        let result = match at_nanos {
            None => self.timer.unset(),
            Some(nanos) => {
                // All zeroes would unset the timer: 1 ns after boot is as much in the past.
                let at = Duration::from_nanos(nanos.clamp(1, i64::MAX as u64));
                let expiration = Expiration::OneShot(TimeSpec::from_duration(at));
                self.timer
                    .set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)
            }
        };
        result.map_err(|e| SysError::new("set the timer on", "CLOCK_BOOTTIME", e))
    }

    /// Takes the readiness away; `true` if the timer had fired.
    pub fn clear(&self) -> Result<bool, SysError> {
        match self.timer.wait() {
            Ok(()) => Ok(true),
            Err(Errno::EAGAIN) => Ok(false),
            Err(e) => Err(SysError::new("read the timer on", "CLOCK_BOOTTIME", e)),
        }
    }
}

impl AsFd for BootTimer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }
}

impl AsRawFd for BootTimer {
    fn as_raw_fd(&self) -> RawFd {
        self.timer.as_fd().as_raw_fd()
    }
}
