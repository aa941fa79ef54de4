//! The supervisor: events and timeouts in, effects out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::effect::{Effect, EndedAll, Notice, Outcome, ShutdownKind};
use super::event::{Event, SweepReport};
use super::graph::Graph;
use super::receipt::{Cause, Guarantee, Verdict};
use super::request::RequestId;
use super::restart::Rng;
#[cfg(test)]
use super::sabotage::{Bug, planted};
use super::service::{Main, Run, Service, State, StopWanted, Target};
use super::shutdown::{Phase, Shutdown, polite_times};
use super::spec::{Role, Spec};
use super::time::{Time, Timer, Timers};
use super::{GenId, OpId, ServiceId};

/// Room that the queue of effects keeps while nothing is in it.
const EFFECTS_USUAL: usize = 16;
/// How long final replies and receipts may take to get out.
const FLUSH_BOUND: Duration = Duration::from_millis(500);

/// What the supervisor is told once, before everything else.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a shutdown may take in all.
    pub deadline: Duration,
    /// What this place allows us to promise, found by doing.
    pub guarantee: Guarantee,
    /// Why that is not more, in words; empty when there is no more.
    pub shortfall: String,
    /// Seeds the jitter of restarts.
    pub seed: u64,
    /// The first generation's number: above every one that a leftover has.
    pub first_gen: GenId,
}

/// A generation that a supervisor which was killed left behind.
#[derive(Clone, Debug)]
pub struct Leftover {
    /// What its record tells of its service: name, dependencies, stop signal, times.
    pub spec: Spec,
    /// Which generation it is.
    pub r#gen: GenId,
}

/// Effects and timers on their way out, and the names of operations.
#[derive(Clone, Debug, Default)]
pub(super) struct Out {
    pub(super) now: Time,
    pub(super) timers: Timers,
    pub(super) effects: VecDeque<Effect>,
    ops: u64,
}

impl Out {
    pub(super) fn push(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    /// The next effect to be taken.
    pub(super) fn poll(&mut self) -> Option<Effect> {
        let effect = self.effects.pop_front();
        if effect.is_none() {
            // A start of everything left room for as many effects as there are services.
            self.effects.shrink_to(EFFECTS_USUAL);
        }
        effect
    }

    /// The newest operation's name.
    pub(super) fn last_op(&self) -> OpId {
        OpId(self.ops)
    }

    /// A name for a new operation.
    pub(super) fn op(&mut self) -> OpId {
        self.ops += 1;
        OpId(self.ops)
    }
}

/// The supervisor. See the module's picture for how to drive it.
#[derive(Clone, Debug)]
pub struct Supervisor {
    pub(super) settings: Settings,
    pub(super) out: Out,
    pub(super) services: BTreeMap<ServiceId, Service>,
    pub(super) graph: Graph,
    pub(super) gens: BTreeMap<GenId, ServiceId>,
    /// Services whose situation may have changed.
    pub(super) dirty: BTreeSet<ServiceId>,
    /// Whom a service on its way down holds up: looked at again when it changes.
    pub(super) held: BTreeMap<ServiceId, BTreeSet<ServiceId>>,
    /// Requests that wait for a service to be up.
    pub(super) start_waits: BTreeMap<ServiceId, Vec<RequestId>>,
    /// Services that changed: who waits for one may have an answer.
    pub(super) recheck: BTreeSet<ServiceId>,
    /// Something came to a rest that is not up: whoever waits may wait in vain.
    pub(super) hope_lost: bool,
    /// How many times a service began to go down: what was found before may not hold after.
    pub(super) descents: u64,
    pub(super) shutdown: Option<Shutdown>,
    /// Leftovers without a verdict: nothing starts before they have one.
    pub(super) leftovers: usize,
    pub(super) rng: Rng,
    next_service: u32,
    next_gen: u64,
    finished: bool,
}

impl Supervisor {
    /// A supervisor without services.
    pub fn new(settings: Settings, now: Time) -> Self {
        Self {
            out: Out {
                now,
                ..Out::default()
            },
            services: BTreeMap::new(),
            graph: Graph::default(),
            gens: BTreeMap::new(),
            dirty: BTreeSet::new(),
            held: BTreeMap::new(),
            start_waits: BTreeMap::new(),
            recheck: BTreeSet::new(),
            hope_lost: false,
            descents: 0,
            shutdown: None,
            leftovers: 0,
            rng: Rng::new(settings.seed),
            next_service: 0,
            next_gen: settings.first_gen.0,
            finished: false,
            settings,
        }
    }

    /// Takes in the configured services, all wanted up, and what a killed supervisor left
    /// behind, which is ended, in order and politely, before anything starts. Members of a
    /// dependency cycle fail at once, naming it.
    pub fn load(&mut self, now: Time, mut specs: Vec<Spec>, leftovers: Vec<Leftover>) {
        self.out.now = self.out.now.max(now);
        for leftover in leftovers {
            let id = self.add(leftover.spec, true);
            self.gens.insert(leftover.r#gen, id);
            self.leftovers += 1;
            if let Some(service) = self.services.get_mut(&id) {
                let run = Run::new(leftover.r#gen, Main::Unknown, None);
                service.state = State::Up(Box::new(run));
                let cause = Cause::Leftover;
                self.want_stop(id, StopWanted { cause, force: true });
            }
        }
        #[cfg(test)]
        if planted(Bug::StartBeforeLeftovers) {
            self.leftovers = 0;
        }
        super::imply_order(&mut specs);
        for spec in specs {
            // One name, one service: of two that say the same the first counts.
            if self.graph.find(&spec.name).is_none() {
                self.add(spec, false);
            }
        }
        // Before anything else is allocated around it.
        self.tidy_up();
        let unordered = self.graph.unordered();
        self.graph.forget_ghosts_on_cycles(&unordered);
        self.drop_stop_cycles();
        for id in unordered {
            let failed = |service: &Service| matches!(service.state, State::Failed { .. });
            if self.services.get(&id).is_some_and(failed) {
                continue;
            }
            let cycle = self.graph.cycle_through(id);
            let why = format!("dependency cycle: {}", self.graph.cycle_text(&cycle));
            for member in cycle {
                let why = why.clone();
                self.set_state(member, State::Failed { why });
            }
        }
        self.settle();
    }

    pub(super) fn add(&mut self, spec: Spec, ghost: bool) -> ServiceId {
        let id = ServiceId(self.next_service);
        self.next_service += 1;
        self.descents += 1;
        self.graph
            .add(id, &spec.name, &spec.after, &spec.requires, ghost);
        if !spec.stop_after.is_empty() && !ghost {
            self.graph.set_stop_after(id, &spec.stop_after);
        }
        self.services
            .insert(id, Service::new(spec, ghost, self.out.now));
        self.dirty.insert(id);
        id
    }

    pub(super) fn new_gen(&mut self, id: ServiceId) -> GenId {
        let r#gen = GenId(self.next_gen);
        self.next_gen += 1;
        self.gens.insert(r#gen, id);
        r#gen
    }

    /// Takes in something that happened. Then take effects, then ask for the next timeout.
    pub fn handle(&mut self, now: Time, event: Event) {
        if self.finished {
            return;
        }
        // A clock that ran backwards must not; timers keep what they were set to.
        self.out.now = self.out.now.max(now);
        match event {
            Event::Request { id, request } => self.on_request(id, request),
            Event::Terminate => self.on_terminate(),
            Event::Listening { service, op } => self.on_listening(service, op),
            Event::ListenFailed { service, op, error } => {
                self.on_listen_failed(service, op, &error);
            }
            Event::Demanded { service, op } => self.on_demanded(service, op),
            Event::Flushed => self.on_flushed(),
            Event::Swept { report } => self.on_swept(report),
            event => self.on_generation_event(event),
        }
        self.settle();
    }

    /// Fires every timer that is due. A spurious call does nothing.
    pub fn handle_timeout(&mut self, now: Time) {
        self.out.now = self.out.now.max(now);
        while !self.finished
            && let Some(timer) = self.out.timers.pop_due(self.out.now)
        {
            self.on_timer(timer);
            self.settle();
        }
    }

    /// The next thing to do; call until there is none.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.out.poll()
    }

    /// When to call [`Supervisor::handle_timeout`]; `None`: not before the next event.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.finished {
            None
        } else {
            self.out.timers.next()
        }
    }

    /// Whether the end was said: [`Effect::Finish`] is out or waits to be taken.
    pub fn finished(&self) -> bool {
        self.finished
    }

    fn on_timer(&mut self, timer: Timer) {
        match timer {
            Timer::StartTimeout(id) => self.on_start_timeout(id),
            Timer::TestTimeout(id) => self.on_test_timeout(id),
            Timer::TestPause(id) => self.on_test_pause(id),
            Timer::TestClear(id) => self.on_test_clear_timeout(id),
            Timer::Watchdog(id) => self.on_watchdog(id),
            Timer::Reload(id) => self.on_reload_timeout(id),
            Timer::Backoff(id) => self.on_backoff_over(id),
            Timer::Rung(id) => self.on_ladder(id, |ladder, out| ladder.on_rung_timeout(out, id)),
            Timer::Retry(id) => self.on_ladder(id, |ladder, out| {
                ladder.on_retry(out, id);
                None
            }),
            Timer::Proof(id) => self.on_ladder(id, |ladder, out| ladder.on_proof_timeout(out, id)),
            Timer::StopsEnd => self.force_verdicts(),
            Timer::Flush => self.on_flushed(),
            Timer::Deadline => self.on_deadline(),
        }
    }

    // ---- the shutdown -------------------------------------------------------------------

    fn on_terminate(&mut self) {
        match &mut self.shutdown {
            None => self.begin_shutdown(ShutdownKind::PowerOff, None),
            Some(shutdown) if !shutdown.hurried => {
                shutdown.hurried = true;
                self.out.push(Effect::Notice(Notice::Hurry));
                for (id, service) in &mut self.services {
                    if let State::Stopping(ladder) = &mut service.state {
                        ladder.hurry(&mut self.out, *id);
                    }
                }
            }
            Some(_) => {}
        }
    }

    /// Begins it, asked for or `because` a service ended.
    pub(super) fn begin_shutdown(&mut self, kind: ShutdownKind, because: Option<EndedAll>) {
        let now = self.out.now;
        let asked = because.is_none();
        let mut shutdown = Shutdown::new(kind, now, self.settings.deadline);
        (shutdown.asked, shutdown.because) = (asked, because);
        self.out.timers.set(Timer::StopsEnd, shutdown.stops_end);
        self.out.timers.set(Timer::Deadline, shutdown.deadline);
        #[cfg(test)]
        if planted(Bug::DeadlineIgnored) {
            self.out.timers.cancel(Timer::Deadline);
        }
        let running = self
            .services
            .values()
            .filter(|service| service.state.active())
            .count();
        self.out.push(Effect::Notice(Notice::ShutdownBegan {
            kind,
            asked,
            running,
        }));
        let shares = self.shares(shutdown.stops_end.since(now));
        let ids: Vec<ServiceId> = self.services.keys().copied().collect();
        self.shutdown = Some(shutdown.clone());
        for id in ids {
            let Some(service) = self.services.get_mut(&id) else {
                continue;
            };
            service.target = Target::Down;
            service.again = false;
            service.held = false;
            service.share = shares.get(&id).copied().map(Box::new);
            let times = polite_times(service);
            match &mut service.state {
                State::Starting(_) | State::Up(_) => {
                    let cause = service
                        .stop_wanted
                        .map_or(Cause::Shutdown, |wanted| wanted.cause);
                    self.want_stop(id, StopWanted { cause, force: true });
                }
                State::Stopping(ladder) => {
                    let (grace, proof) = ladder.wishes();
                    let (budget, allotment) =
                        shutdown.budget(now, service.share.as_deref(), (grace, times), proof);
                    ladder.note_allotment(allotment);
                    ladder.tighten(&mut self.out, id, budget);
                }
                // Somebody may need it until the end: its pause goes on.
                State::Backoff { .. } if service.spec.role == Some(Role::Sidecar) => {}
                State::Blocked { .. } | State::Listening { .. } | State::Backoff { .. } => {
                    self.out.timers.cancel_service(id);
                    self.set_state(id, State::Down);
                }
                State::Down | State::Lingering(_) | State::Failed { .. } | State::Done => {}
            }
            self.close_unless_kept(id);
        }
    }

    /// The stops had their time: whatever is still on the ladder gets its verdict now, and what
    /// that releases is asked with no time left.
    fn force_verdicts(&mut self) {
        let ids: Vec<ServiceId> = self.services.keys().copied().collect();
        for id in ids {
            let stopping = self
                .services
                .get(&id)
                .is_some_and(|service| matches!(service.state, State::Stopping(_)));
            if stopping {
                self.on_ladder(id, |ladder, out| Some(ladder.force_verdict(out, id)));
            }
        }
    }

    /// Goes on to the end when every service has its verdict.
    pub(super) fn advance_shutdown(&mut self) {
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        let stopping = shutdown.phase == Phase::Stopping;
        if !stopping || self.services.values().any(|service| service.state.active()) {
            return;
        }
        shutdown.phase = Phase::Flushing;
        let pausing = |(id, service): (&ServiceId, &Service)| {
            matches!(service.state, State::Backoff { .. }).then_some(*id)
        };
        // A sidecar that was to come back, and is needed no more.
        for id in self.services.iter().filter_map(pausing).collect::<Vec<_>>() {
            self.out.timers.cancel_service(id);
            self.set_state(id, State::Down);
        }
        let Some(shutdown) = &self.shutdown else {
            return;
        };
        self.out.timers.cancel(Timer::StopsEnd);
        let left = shutdown.deadline.since(self.out.now);
        self.out
            .timers
            .set(Timer::Flush, self.out.now + FLUSH_BOUND.min(left / 2));
        self.reply_shutdown();
        self.out.push(Effect::Flush);
    }

    fn on_flushed(&mut self) {
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        if shutdown.phase == Phase::Flushing {
            shutdown.phase = Phase::Sweeping;
            self.out.timers.cancel(Timer::Flush);
            self.out.push(Effect::Sweep);
        }
    }

    fn on_swept(&mut self, report: SweepReport) {
        if self
            .shutdown
            .as_ref()
            .is_some_and(|shutdown| shutdown.phase == Phase::Sweeping)
        {
            self.finish(report, false);
        }
    }

    /// The deadline: every service that was not asked yet is asked, and then it is over.
    fn on_deadline(&mut self) {
        // Each round frees at least one wave of those that were not asked yet.
        for _ in 0..=self.services.len() {
            if !self.services.values().any(|service| service.state.active()) {
                break;
            }
            self.force_verdicts();
            self.settle();
        }
        self.reply_shutdown();
        let error = super::Failed {
            doing: "finish the final sweep of".into(),
            what: "the supervisor's processes".into(),
            errno: 0,
            why: "the shutdown's deadline came first".into(),
        };
        self.finish(
            SweepReport {
                error: Some(error),
                ..SweepReport::default()
            },
            true,
        );
    }

    fn finish(&mut self, report: SweepReport, deadline_hit: bool) {
        let Some(shutdown) = &self.shutdown else {
            return;
        };
        if self.finished {
            return;
        }
        let mut survivors = report.survivors;
        // Where the sweep was sure, it knows best what lives; else the receipts do.
        if report.error.is_some() {
            for service in self.services.values() {
                if let State::Lingering(ladder) = &service.state {
                    survivors.extend(ladder.receipt().survivors.iter().cloned());
                }
            }
            survivors.sort_by(|a, b| (a.pid, &a.cgroup).cmp(&(b.pid, &b.cgroup)));
            survivors.dedup_by(|a, b| (a.pid, &a.cgroup) == (b.pid, &b.cgroup));
        }
        let outcome = Outcome {
            kind: shutdown.kind,
            asked: shutdown.asked,
            survivors,
            because: shutdown.because.clone(),
            sure: report.error.is_none() && self.settings.guarantee.can_verify(),
            lingering: self.with_verdict(Verdict::Lingering),
            unverified: self.with_verdict(Verdict::Unverified),
            sweep_error: report.error,
            deadline_hit,
        };
        self.out.push(Effect::Finish(outcome));
        self.finished = true;
    }

    /// The services whose last verdict this is, by name.
    pub(super) fn with_verdict(&self, verdict: Verdict) -> Vec<String> {
        let has = |service: &&Service| match (&service.state, &service.receipt) {
            (State::Lingering(_), _) => verdict == Verdict::Lingering,
            (_, Some(receipt)) => receipt.verdict == verdict,
            (_, None) => false,
        };
        self.services
            .values()
            .filter(has)
            .map(|service| service.spec.name.clone())
            .collect()
    }
}
