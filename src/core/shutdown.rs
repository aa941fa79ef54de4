//! The shutdown: its phases, its one deadline, and each service's share of it.
//!
//! ```text
//!   ◄──────────────────────── deadline ────────────────────────►
//!   stops, along the longest chain              flush and sweep
//!   polite ┆ proof │ polite ┆ proof │ …       │ a tenth, at most 2 s
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use super::ServiceId;
use super::effect::{EndedAll, ShutdownKind};
use super::machine::Supervisor;
use super::receipt::Allotment;
use super::request::RequestId;
#[cfg(test)]
use super::sabotage::{Bug, planted};
use super::service::{Service, State};
use super::share::{Need, Share, share_out};
use super::stop::Budget;
use super::time::Time;

/// The final sweep's share: a tenth of the deadline within these bounds.
const SWEEP_LEAST: Duration = Duration::from_millis(100);
const SWEEP_MOST: Duration = Duration::from_secs(2);

/// A shutdown under way.
#[derive(Clone, Debug)]
pub(super) struct Shutdown {
    pub(super) kind: ShutdownKind,
    pub(super) phase: Phase,
    /// When it was asked for.
    pub(super) began: Time,
    /// When everything is over, whatever remains.
    pub(super) deadline: Time,
    /// When every stop has its verdict.
    pub(super) stops_end: Time,
    /// Requests that wait for it.
    pub(super) waits: Vec<RequestId>,
    /// Every grace is cut short.
    pub(super) hurried: bool,
    /// Somebody asked for it, at first or since.
    pub(super) asked: bool,
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

/// What is kept of a deadline for flush and final sweep.
pub(super) fn end_reserve(total: Duration) -> Duration {
    (total / 10).clamp(SWEEP_LEAST.min(total / 2), SWEEP_MOST)
}

impl Shutdown {
    pub(super) fn new(kind: ShutdownKind, now: Time, total: Duration) -> Self {
        Self {
            kind,
            phase: Phase::Stopping,
            began: now,
            deadline: now + total,
            stops_end: now + total.saturating_sub(end_reserve(total)),
            waits: Vec::new(),
            hurried: false,
            asked: true,
            because: None,
        }
    }

    /// What a service that is asked now may take: see [`super::share`].
    pub(super) fn budget(
        &self,
        now: Time,
        share: Option<&Share>,
        (grace, times): (Duration, u32),
        proof: Duration,
    ) -> (Budget, Allotment) {
        let left = self.stops_end.since(now);
        let share = share.copied().unwrap_or_default();
        let grant = share.grant(left, grace.saturating_mul(times), proof);
        #[cfg(test)]
        let grant = if planted(Bug::GreedyShares) {
            let share = Share::default();
            share.grant(left, grace.saturating_mul(times).min(left), proof)
        } else {
            grant
        };
        let grace = if self.hurried {
            Duration::ZERO
        } else {
            grace.min(grant.polite)
        };
        let budget = Budget {
            grace,
            proof: grant.proof,
            limit: Some(now + grant.all),
        };
        let allotment = Allotment {
            wish: share.wish,
            planned: share.polite,
            granted: grant.polite,
            reserve: share.reserve,
            turn: share.turn,
            asked_after: now.since(self.began),
            deadline: self.deadline.since(self.began),
        };
        (budget, allotment)
    }
}

/// How long the polite part may take: a stop command may take as long before the signal.
pub(super) fn polite_times(service: &Service) -> u32 {
    1 + u32::from(service.spec.stop_command.is_some())
}

impl Supervisor {
    /// Each service's share of `total`; those that do not run have none and keep their place in
    /// the order.
    pub(super) fn shares(&self, total: Duration) -> BTreeMap<ServiceId, Share> {
        let place: BTreeMap<ServiceId, usize> = self
            .services
            .keys()
            .enumerate()
            .map(|(at, id)| (*id, at))
            .collect();
        let need = |service: &Service| {
            let (wish, proof) = match &service.state {
                State::Starting(_) | State::Up(_) => {
                    (Some(service.spec.grace), service.spec.kill_timeout)
                }
                State::Stopping(ladder) => {
                    let (grace, proof) = ladder.wishes();
                    (Some(grace), proof)
                }
                State::Down
                | State::Blocked { .. }
                | State::Listening { .. }
                | State::Lingering(_)
                | State::Backoff { .. }
                | State::Failed { .. }
                | State::Done => (None, Duration::ZERO),
            };
            Need {
                wish: wish.map(|wish| wish.saturating_mul(polite_times(service))),
                proof,
                below: Vec::new(),
            }
        };
        let mut needs: Vec<Need> = self.services.values().map(need).collect();
        for (at, id) in self.services.keys().enumerate() {
            for before in self.graph.stopped_before(*id) {
                let before = place.get(&before).and_then(|before| needs.get_mut(*before));
                if let Some(need) = before {
                    need.below.push(at);
                }
            }
        }
        let shares = share_out(&needs, total);
        self.services.keys().copied().zip(shares).collect()
    }
}
