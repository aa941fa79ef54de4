//! Readiness: the test is run until it passes; dependents wait until then.

use std::time::Duration;

use super::OpId;
use super::spec::{Health, Test};
use super::time::Time;

const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(1);

/// The readiness test of one generation.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    began: Time,
    /// The run under way; its result is still open.
    pub(super) running: Option<OpId>,
    /// The pause is over and the last run is still being cleared away.
    pub(super) due: bool,
    failures: u32,
    /// Those of them that count for `retries`.
    counted: u32,
    /// Why the last one failed.
    last: String,
}

/// What follows a failed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AfterFailure {
    /// Run it again after this pause.
    Again(Duration),
    /// The start has failed; this pause, should it go on all the same.
    GiveUp(Duration),
}

impl Probe {
    pub(super) fn new(now: Time) -> Self {
        Self {
            began: now,
            running: None,
            due: false,
            failures: 0,
            counted: 0,
            last: String::new(),
        }
    }

    /// Counts a failed run.
    pub(super) fn failed(&mut self, test: &Test, now: Time, why: String) -> AfterFailure {
        self.running = None;
        self.last = why;
        self.failures = self.failures.saturating_add(1);
        if now >= self.began + test.start_period {
            self.counted = self.counted.saturating_add(1);
        }
        let doubled =
            PAUSE_FIRST.saturating_mul(1u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX));
        let pause = test.interval.unwrap_or(doubled.min(PAUSE_LAST));
        if test.retries.is_some_and(|retries| self.counted > retries) {
            AfterFailure::GiveUp(pause)
        } else {
            AfterFailure::Again(pause)
        }
    }

    /// A look at its health found nothing wrong.
    pub(super) fn passed(&mut self) {
        self.running = None;
        self.failures = 0;
        self.counted = 0;
        self.last.clear();
    }

    /// Counts a failed look at its health.
    pub(super) fn unhealthy(&mut self, health: &Health, now: Time, why: String) -> AfterFailure {
        self.running = None;
        self.last = why;
        self.failures = self.failures.saturating_add(1);
        if now >= self.began + health.test.start_period {
            self.counted = self.counted.saturating_add(1);
        }
        let pause = health.test.interval.unwrap_or(PAUSE_LAST);
        if self.counted >= health.failures {
            AfterFailure::GiveUp(pause)
        } else {
            AfterFailure::Again(pause)
        }
    }

    /// How many failures counted so far.
    pub(super) fn counted(&self) -> u32 {
        self.counted
    }

    /// Why the last run failed; empty when none has.
    pub(super) fn last_failure(&self) -> &str {
        &self.last
    }

    /// How many runs have failed so far.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Check;

    fn probe() -> Probe {
        Probe::new(Time::from_nanos(0))
    }

    fn fail(probe: &mut Probe, test: &Test, at_ms: u64) -> AfterFailure {
        let now = Time::from_nanos(0) + Duration::from_millis(at_ms);
        probe.failed(test, now, "exit code 1".into())
    }

    #[test]
    fn pauses_double_to_a_second_and_retries_bound_the_runs() {
        let mut test = Test::new(Check::Exec(vec!["true".into()]));
        let mut endless = probe();
        let pauses: Vec<AfterFailure> = (0..40).map(|_| fail(&mut endless, &test, 0)).collect();
        assert_eq!(pauses[0], AfterFailure::Again(Duration::from_millis(50)));
        assert_eq!(pauses[4], AfterFailure::Again(Duration::from_millis(800)));
        assert_eq!(pauses[39], AfterFailure::Again(PAUSE_LAST));
        test.retries = Some(1);
        let mut bounded = probe();
        assert!(matches!(
            fail(&mut bounded, &test, 0),
            AfterFailure::Again(_)
        ));
        assert!(matches!(
            fail(&mut bounded, &test, 0),
            AfterFailure::GiveUp(_)
        ));
    }

    #[test]
    fn failures_within_the_start_period_do_not_count() {
        let mut test = Test::new(Check::File("/ready".into()));
        test.retries = Some(1);
        test.start_period = Duration::from_secs(5);
        let mut probe = probe();
        for at in [0, 1000, 4999, 5000] {
            assert!(matches!(
                fail(&mut probe, &test, at),
                AfterFailure::Again(_)
            ));
        }
        assert_eq!(probe.failures(), 4);
        assert!(matches!(
            fail(&mut probe, &test, 5001),
            AfterFailure::GiveUp(_)
        ));
    }
}
