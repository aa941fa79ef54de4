//! The shutdown: its phases, its one deadline, and each service's share of it.

use std::time::Duration;

use super::effect::{EndedAll, ShutdownKind};
use super::request::RequestId;
use super::stop::Budget;
use super::time::Time;

/// What is kept for every wave that was not asked yet: a second of signal, a second of proof.
const WAVE_RESERVE: Duration = Duration::from_secs(2);
/// The final sweep's share: a tenth of the deadline within these bounds.
const SWEEP_LEAST: Duration = Duration::from_millis(100);
const SWEEP_MOST: Duration = Duration::from_secs(2);

/// A shutdown under way.
#[derive(Clone, Debug)]
pub(super) struct Shutdown {
    pub(super) kind: ShutdownKind,
    pub(super) phase: Phase,
    /// When everything is over, whatever remains.
    pub(super) deadline: Time,
    /// When every stop has its verdict.
    pub(super) stops_end: Time,
    /// Requests that wait for it.
    pub(super) waits: Vec<RequestId>,
    /// Every grace is cut short.
    pub(super) hurried: bool,
    /// The service whose end began it.
    pub(super) because: Option<EndedAll>,
}

/// How far a shutdown is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Services are stopping.
    Stopping,
    /// Replies and receipts are getting out.
    Flushing,
    /// The final sweep runs.
    Sweeping,
}

impl Shutdown {
    pub(super) fn new(kind: ShutdownKind, now: Time, total: Duration) -> Self {
        let sweep = (total / 10).clamp(SWEEP_LEAST.min(total / 2), SWEEP_MOST);
        Self {
            kind,
            phase: Phase::Stopping,
            deadline: now + total,
            stops_end: now + total.saturating_sub(sweep),
            waits: Vec::new(),
            hurried: false,
            because: None,
        }
    }

    /// What a service that is asked now may take, when `waves_below` waves wait for it: its own
    /// wish, cut to the time left minus the reserve of those waves.
    pub(super) fn budget(
        &self,
        now: Time,
        waves_below: u32,
        grace: Duration,
        proof: Duration,
    ) -> Budget {
        let left = self.stops_end.since(now);
        let fair = left / (waves_below.saturating_add(1)) * waves_below;
        let available = left - WAVE_RESERVE.saturating_mul(waves_below).min(fair);
        let proof = proof.min(available / 2);
        let grace = if self.hurried {
            Duration::ZERO
        } else {
            grace.min(available - proof)
        };
        Budget {
            grace,
            proof,
            limit: Some(now + available),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn shutdown(total: Duration) -> Shutdown {
        Shutdown::new(ShutdownKind::PowerOff, Time::default(), total)
    }

    #[test]
    fn a_wish_that_fits_is_granted() {
        let budget = shutdown(25 * SECOND).budget(Time::default(), 2, 10 * SECOND, 5 * SECOND);
        assert_eq!(budget.grace, 10 * SECOND);
        assert_eq!(budget.proof, 5 * SECOND);
    }

    #[test]
    fn every_wave_gets_its_second_although_each_before_it_takes_all_it_may() {
        let shutdown = shutdown(25 * SECOND);
        let mut now = Time::default();
        for wave in (0..10).rev() {
            let budget = shutdown.budget(now, wave, 600 * SECOND, 600 * SECOND);
            assert!(budget.grace >= SECOND, "wave {wave} has {:?}", budget.grace);
            now = budget.limit.unwrap();
        }
        assert!(now <= shutdown.stops_end);
    }

    #[test]
    fn a_deadline_too_short_is_shared_fairly() {
        let shutdown = shutdown(SECOND);
        let mut now = Time::default();
        for wave in (0..20).rev() {
            let budget = shutdown.budget(now, wave, 10 * SECOND, 5 * SECOND);
            assert!(
                budget.grace >= Duration::from_millis(20),
                "wave {wave} has {:?}",
                budget.grace
            );
            now = budget.limit.unwrap();
        }
        assert!(now <= shutdown.stops_end);
    }
}
