//! What a stop or a shutdown would do, without doing it: who goes down, in which order, and how
//! long that may take at the worst.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::effect::ShutdownKind;
use super::machine::Supervisor;
use super::receipt::Allotment;
use super::service::{Service, State};
use super::shutdown::{Shutdown, polite_times};
use super::spec::Reach;
use super::{ServiceId, Signal};

/// What is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// Everything goes down.
    Shutdown {
        /// Within this; `None`: within the supervisor's own deadline. A shutdown that is under way
        /// keeps the one it has.
        deadline: Option<Duration>,
    },
    /// A service goes down, and whatever requires it.
    Stop {
        /// Its name.
        service: String,
        /// Everything else that waits for it goes down, too.
        with_dependents: bool,
    },
}

/// What would be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Everyone who goes down, by wave and name.
    pub services: Vec<Planned>,
    /// The latest moment at which the last verdict falls, counted from now.
    pub worst: Duration,
    /// By when it has to be over: a shutdown's deadline.
    pub deadline: Option<Duration>,
    /// What is kept of that for flush and final sweep.
    pub end_reserve: Option<Duration>,
}

/// One service that goes down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Its name.
    pub service: String,
    /// The name of its state now.
    pub state: &'static str,
    /// How many others have to have their verdict one after another before it is asked.
    pub wave: u32,
    /// Who of these is waited for directly, or through services that do not run.
    pub waits_for: Vec<String>,
    /// Whether a stop command is run first.
    pub stop_command: bool,
    /// The polite signal.
    pub signal: Signal,
    /// Whom it reaches.
    pub to: Reach,
    /// What its file grants it before the kill.
    pub wish: Duration,
    /// What it is granted: less where the deadline is too near.
    pub grace: Duration,
    /// How long after a kill its verdict may take.
    pub proof: Duration,
    /// The latest moment at which it is asked, counted from now.
    pub asked_at: Duration,
    /// The latest moment of its verdict, counted from now.
    pub ends_at: Duration,
    /// Its part of a shutdown's deadline, as its receipt will tell it, should everybody before it
    /// take all the time they have; `None`: no deadline is shared out.
    pub allotment: Option<Allotment>,
}

impl Supervisor {
    /// What would be done; `None`: there is no such service.
    pub fn plan(&self, goal: &Goal) -> Option<Plan> {
        let now = self.out.now;
        let shutdown = match goal {
            Goal::Shutdown { deadline } => Some(self.shutdown.clone().unwrap_or_else(|| {
                let total = deadline.unwrap_or(self.settings.deadline);
                Shutdown::new(ShutdownKind::PowerOff, now, total)
            })),
            Goal::Stop { .. } => None,
        };
        let going = self.going(goal)?;
        let shares = match &shutdown {
            Some(shutdown) => self.shares(shutdown.stops_end.since(now)),
            None => BTreeMap::new(),
        };
        let mut plan = Plan {
            deadline: shutdown.as_ref().map(|s| s.deadline.since(now)),
            end_reserve: shutdown.as_ref().map(|s| s.deadline.since(s.stops_end)),
            ..Plan::default()
        };
        let mut ends: BTreeMap<ServiceId, (u32, Duration)> = BTreeMap::new();
        for id in self.dependents_first(&going) {
            let Some(service) = self.services.get(&id) else {
                continue;
            };
            let waits_for = self.waited_for(id, &going);
            let before = waits_for.iter().filter_map(|id| ends.get(id));
            let (wave, asked_at) = before.fold((0, Duration::ZERO), |(wave, at), (w, end)| {
                (wave.max(w + 1), at.max(*end))
            });
            let (wish, wish_proof) = wishes(service);
            let times = polite_times(service);
            let (grace, proof, limit, allotment) = match &shutdown {
                Some(shutdown) => {
                    let share = shares.get(&id).copied().unwrap_or_default();
                    let at = now + asked_at;
                    let (budget, allotment) =
                        shutdown.budget(at, Some(&share), (wish, times), wish_proof);
                    let limit = budget.limit.map(|limit| limit.since(now));
                    (budget.grace, budget.proof, limit, Some(allotment))
                }
                None => (wish, wish_proof, None, None),
            };
            let ends_at = asked_at + grace.saturating_mul(times) + proof;
            let ends_at = limit.map_or(ends_at, |limit| ends_at.min(limit));
            ends.insert(id, (wave, ends_at));
            plan.worst = plan.worst.max(ends_at);
            let name = |id: &ServiceId| self.graph.name_of(*id).to_owned();
            plan.services.push(Planned {
                service: service.spec.name.clone(),
                state: service.state.as_str(),
                wave,
                waits_for: waits_for.iter().map(name).collect(),
                stop_command: service.spec.stop_command.is_some(),
                signal: service.spec.stop_signal,
                to: service.spec.signal_to,
                wish,
                grace,
                proof,
                asked_at,
                ends_at,
                allotment,
            });
        }
        plan.services
            .sort_by(|a, b| (a.wave, &a.service).cmp(&(b.wave, &b.service)));
        Some(plan)
    }

    /// Who goes down.
    fn going(&self, goal: &Goal) -> Option<BTreeSet<ServiceId>> {
        let active = |id: &ServiceId| self.services.get(id).is_some_and(|s| s.state.active());
        let ids = match goal {
            Goal::Shutdown { .. } => self.services.keys().copied().collect(),
            Goal::Stop {
                service,
                with_dependents,
            } => {
                let id = self.graph.find(service)?;
                let mut ids = vec![id];
                if *with_dependents {
                    ids.extend(self.all_dependents(id));
                }
                // Whatever requires one of them goes with it.
                let mut seen: BTreeSet<ServiceId> = ids.iter().copied().collect();
                let mut open = ids.clone();
                while let Some(at) = open.pop() {
                    for requirer in self.graph.requirers(at) {
                        if seen.insert(requirer) {
                            open.push(requirer);
                            ids.push(requirer);
                        }
                    }
                }
                ids
            }
        };
        Some(ids.into_iter().filter(active).collect())
    }

    /// Those of `going` that a service waits for: its nearest dependents among them.
    fn waited_for(&self, id: ServiceId, going: &BTreeSet<ServiceId>) -> Vec<ServiceId> {
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        let mut found = Vec::new();
        while let Some(at) = open.pop() {
            for dependent in self.graph.stopped_before(at) {
                if !seen.insert(dependent) {
                    continue;
                }
                if going.contains(&dependent) {
                    found.push(dependent);
                } else {
                    open.push(dependent);
                }
            }
        }
        found
    }

    /// `going`, everyone after all whom it waits for; those on a cycle come as they come.
    fn dependents_first(&self, going: &BTreeSet<ServiceId>) -> Vec<ServiceId> {
        let above = |id: ServiceId| self.waited_for(id, going);
        let mut open: BTreeMap<ServiceId, usize> =
            going.iter().map(|id| (*id, above(*id).len())).collect();
        let mut below: BTreeMap<ServiceId, Vec<ServiceId>> = BTreeMap::new();
        for id in going {
            for dependent in above(*id) {
                below.entry(dependent).or_default().push(*id);
            }
        }
        let free = open.iter().filter(|(_, n)| **n == 0).map(|(id, _)| *id);
        let mut free: Vec<ServiceId> = free.collect();
        let mut order = Vec::new();
        while let Some(id) = free.pop().or_else(|| open.keys().next().copied()) {
            if open.remove(&id).is_none() {
                continue;
            }
            order.push(id);
            for next in below.remove(&id).unwrap_or_default() {
                if let Some(n) = open.get_mut(&next) {
                    *n = n.saturating_sub(1);
                    if *n == 0 {
                        free.push(next);
                    }
                }
            }
        }
        order
    }
}

/// What a service asks for from now on: its grace, and the time for its proof.
fn wishes(service: &Service) -> (Duration, Duration) {
    match &service.state {
        State::Stopping(ladder) => ladder.wishes(),
        _ => (service.spec.grace, service.spec.kill_timeout),
    }
}
