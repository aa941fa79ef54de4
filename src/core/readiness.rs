//! Readiness: the test command is run until it passes; dependents wait until then.

use std::time::Duration;

use super::OpId;
use super::spec::Test;

const PAUSE_FIRST: Duration = Duration::from_millis(50);
const PAUSE_LAST: Duration = Duration::from_secs(1);

/// The readiness test of one generation.
#[derive(Clone, Debug, Default)]
pub(super) struct Probe {
    /// The run under way; its result is still open.
    pub(super) running: Option<OpId>,
    /// The pause is over and the last run is still being cleared away.
    pub(super) due: bool,
    failures: u32,
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
    /// Counts a failed run.
    pub(super) fn failed(&mut self, test: &Test) -> AfterFailure {
        self.running = None;
        self.failures = self.failures.saturating_add(1);
        let doubled =
            PAUSE_FIRST.saturating_mul(1u32.checked_shl(self.failures - 1).unwrap_or(u32::MAX));
        let pause = test.interval.unwrap_or(doubled.min(PAUSE_LAST));
        if test.retries.is_some_and(|retries| self.failures > retries) {
            AfterFailure::GiveUp(pause)
        } else {
            AfterFailure::Again(pause)
        }
    }

    /// How many runs have failed so far.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_second_and_retries_bound_the_runs() {
        let mut test = Test::new(vec!["true".into()]);
        let mut probe = Probe::default();
        let pauses: Vec<AfterFailure> = (0..40).map(|_| probe.failed(&test)).collect();
        assert_eq!(pauses[0], AfterFailure::Again(Duration::from_millis(50)));
        assert_eq!(pauses[4], AfterFailure::Again(Duration::from_millis(800)));
        assert_eq!(pauses[39], AfterFailure::Again(PAUSE_LAST));
        test.retries = Some(1);
        let mut probe = Probe::default();
        assert!(matches!(probe.failed(&test), AfterFailure::Again(_)));
        assert!(matches!(probe.failed(&test), AfterFailure::GiveUp(_)));
    }
}
