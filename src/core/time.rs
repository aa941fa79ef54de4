//! Time as the core sees it: nanoseconds on CLOCK_BOOTTIME, handed in with every event.
//!
//! The core never reads a clock. Boot time counts suspend, so a grace of ten seconds is over
//! after a laptop slept for an hour, and never runs backwards when the wall clock is set.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::ServiceId;

/// A moment on CLOCK_BOOTTIME, in nanoseconds since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The moment `nanos` nanoseconds after boot.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since boot.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Milliseconds since boot, rounded down.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// How long this is after `earlier`; zero when it is not after it.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;

    fn add(self, rhs: Duration) -> Time {
        let nanos = u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX);
        Time(self.0.saturating_add(nanos))
    }
}

/// Everything the core waits for with a clock. Each is set for at most one moment per service;
/// setting it again moves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Starting has taken as long as it may: the start has failed.
    StartTimeout(ServiceId),
    /// The readiness test, or the look at its health, has run as long as it may: end it and count a failure.
    TestTimeout(ServiceId),
    /// The pause between two of them is over: run the next.
    TestPause(ServiceId),
    /// The last of them should be cleared away by now: the start has failed, or it is not healthy.
    TestClear(ServiceId),
    /// It has not said that it is alive for as long as it may: it is not healthy.
    Watchdog(ServiceId),
    /// A reload has taken as long as it may: it has failed.
    Reload(ServiceId),
    /// The back-off is over: start again.
    Backoff(ServiceId),
    /// The current rung of the stop ladder (start awaited, stop command, grace, inspection) is
    /// over.
    Rung(ServiceId),
    /// Look again (kill again, scan again): the last look did not settle it. The one timer that
    /// may run while a service lingers and nothing is under way: its passes all failed.
    Retry(ServiceId),
    /// The proof has taken as long as it may: give the verdict with what is known. After a
    /// verdict of lingering: this look has, so wait for the next hint.
    Proof(ServiceId),
    /// The stops of a shutdown have taken as long as they may: force the remaining verdicts.
    StopsEnd,
    /// Final replies and receipts had their time to get out: sweep.
    Flush,
    /// The shutdown's deadline: finish, whatever remains.
    Deadline,
}

/// The one table of timers: what fires next, and when.
#[derive(Clone, Debug, Default)]
pub struct Timers {
    at: BTreeMap<Timer, Time>,
    order: BTreeSet<(Time, Timer)>,
}

impl Timers {
    /// Sets `timer` for `at`, moving it if it was set.
    pub fn set(&mut self, timer: Timer, at: Time) {
        self.cancel(timer);
        self.at.insert(timer, at);
        self.order.insert((at, timer));
    }

    /// Takes `timer` out of the table; no-op when it was not set.
    pub fn cancel(&mut self, timer: Timer) {
        if let Some(at) = self.at.remove(&timer) {
            self.order.remove(&(at, timer));
        }
    }

    /// Cancels every timer of `service`.
    pub fn cancel_service(&mut self, service: ServiceId) {
        for timer in Timer::of_service(service) {
            self.cancel(timer);
        }
    }

    /// Every timer of `from` becomes one of `to`.
    pub fn hand_over(&mut self, from: ServiceId, to: ServiceId) {
        for (old, new) in Timer::of_service(from)
            .into_iter()
            .zip(Timer::of_service(to))
        {
            if let Some(at) = self.when(old) {
                self.cancel(old);
                self.set(new, at);
            }
        }
    }

    /// When `timer` fires, if it is set.
    pub fn when(&self, timer: Timer) -> Option<Time> {
        self.at.get(&timer).copied()
    }

    /// When the next timer fires.
    pub fn next(&self) -> Option<Time> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due at `now` out of the table.
    pub fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let (at, timer) = *self.order.first()?;
        if at > now {
            return None;
        }
        self.cancel(timer);
        Some(timer)
    }

    /// Every timer that is set, for invariants and diagnostics.
    pub fn iter(&self) -> impl Iterator<Item = (Timer, Time)> + '_ {
        self.at.iter().map(|(timer, at)| (*timer, *at))
    }
}

impl Timer {
    fn of_service(id: ServiceId) -> [Timer; 10] {
        [
            Timer::StartTimeout(id),
            Timer::TestTimeout(id),
            Timer::TestPause(id),
            Timer::TestClear(id),
            Timer::Watchdog(id),
            Timer::Reload(id),
            Timer::Backoff(id),
            Timer::Rung(id),
            Timer::Retry(id),
            Timer::Proof(id),
        ]
    }

    /// The service the timer belongs to, if it belongs to one.
    pub fn service(self) -> Option<ServiceId> {
        match self {
            Timer::StartTimeout(id)
            | Timer::TestTimeout(id)
            | Timer::TestPause(id)
            | Timer::TestClear(id)
            | Timer::Watchdog(id)
            | Timer::Reload(id)
            | Timer::Backoff(id)
            | Timer::Rung(id)
            | Timer::Retry(id)
            | Timer::Proof(id) => Some(id),
            Timer::StopsEnd | Timer::Flush | Timer::Deadline => None,
        }
    }
}
