//! What an onlooker knows who sees only events and effects: the core's own books are not asked.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::core::{
    AuxKind, Cause, Effect, Event, Exit, Fence, GenId, Notice, OpId, Receipt, Reply, Request,
    RequestId, ServiceId, Spec, Supervisor, Told, Verdict,
};
use crate::orders::{gen_of, leftovers_above, requirers, stop_orders};
use crate::scenario::Scenario;
use crate::situations::Situations;

pub const SECOND: u64 = 1_000_000_000;

pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap()
}

/// The main process, as the core was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Main {
    Asked,
    Spawned,
    Never,
    Exited(Exit),
    /// A leftover's.
    Unknown,
}

/// One generation, as seen from outside.
#[derive(Clone, Debug)]
pub struct GenSeen {
    pub name: String,
    pub spec: Spec,
    pub leftover: bool,
    pub main: Main,
    pub pid: Option<u32>,
    pub execed: bool,
    pub tests: BTreeSet<OpId>,
    pub passed: bool,
    /// When it began to go down.
    pub stopping: Option<u64>,
    /// When the polite signal went out.
    pub signalled: Option<u64>,
    /// Whether its main process lived when the signal went out.
    pub signalled_alive: bool,
    pub stop_command: Option<u64>,
    pub kills: u32,
    pub kills_open: BTreeSet<OpId>,
    /// What the scans since the last kill say: passes that count, in a row.
    pub scans_open: BTreeSet<OpId>,
    pub empty_passes: u32,
    pub proven: bool,
    pub fences_open: BTreeSet<OpId>,
    pub fence_removed: bool,
    /// Fences after a proof, whatever came to light since.
    pub fences_sure: BTreeSet<OpId>,
    pub fence_busy: bool,
    pub last_main_reading: Option<bool>,
    pub inspected: bool,
    pub spawned_late: bool,
    /// The newest pass that worked left somebody alive.
    pub alive_outside: bool,
    pub killed: BTreeSet<u32>,
    pub escaped: BTreeSet<u32>,
    pub kept: BTreeSet<u32>,
    /// The most that the core was told were killed for want of memory.
    pub oom_kills: u64,
    /// When it began to go down, what its main process had left running was the service.
    pub remained: bool,
    /// Once it was.
    pub was_remaining: bool,
    pub receipts: u32,
    pub last: Option<Receipt>,
    pub released: bool,
    /// Its service may start beside it: a request said so.
    pub accepted: bool,
}

/// A configured service, as seen from outside.
#[derive(Clone, Debug)]
pub struct ServiceSeen {
    pub spec: Spec,
    pub gens: Vec<GenId>,
    /// The oneshot's work is done.
    pub done: bool,
    /// Requests to stop it that have no answer yet.
    pub stops: BTreeSet<RequestId>,
}

#[derive(Debug)]
pub struct Observer {
    pub deadline: Duration,
    pub services: BTreeMap<String, ServiceSeen>,
    pub gens: BTreeMap<GenId, GenSeen>,
    pub ids: BTreeMap<ServiceId, GenId>,
    pub open: BTreeMap<RequestId, Request>,
    pub answered: BTreeSet<RequestId>,
    pub shutdown_began: Option<u64>,
    pub hurried: bool,
    /// How the main process ended of whose end stopped everything, as the receipt had it.
    pub stopper_exit: Option<Exit>,
    pub running_at_shutdown: BTreeSet<GenId>,
    pub sockets: crate::demand::Sockets,
    pub sockets_of: BTreeMap<ServiceId, String>,
    pub finished: bool,
    /// How far the core's clock may lag behind.
    pub slack: u64,
    /// No timer fires late and no clock jumps: times can be held to the millisecond.
    pub punctual: bool,
    /// Who waits for whom, by today's files; and which leftovers do, by their records too.
    pub above: BTreeMap<String, BTreeSet<String>>,
    pub leftovers_above: BTreeMap<String, BTreeSet<GenId>>,
    pub requirers: BTreeMap<String, BTreeSet<String>>,
    pub leftovers_ordered: bool,
    pub starts: u32,
    pub verdicts: u32,
    pub situations: Situations,
}

impl GenSeen {
    pub fn new(spec: &Spec, leftover: bool) -> Self {
        Self {
            name: spec.name.clone(),
            spec: spec.clone(),
            leftover,
            main: if leftover { Main::Unknown } else { Main::Asked },
            pid: None,
            execed: false,
            tests: BTreeSet::new(),
            passed: false,
            stopping: None,
            signalled: None,
            signalled_alive: false,
            stop_command: None,
            kills: 0,
            kills_open: BTreeSet::new(),
            scans_open: BTreeSet::new(),
            empty_passes: 0,
            proven: false,
            fences_open: BTreeSet::new(),
            fence_removed: false,
            fences_sure: BTreeSet::new(),
            fence_busy: false,
            last_main_reading: None,
            inspected: false,
            spawned_late: false,
            alive_outside: false,
            killed: BTreeSet::new(),
            escaped: BTreeSet::new(),
            kept: BTreeSet::new(),
            oom_kills: 0,
            remained: false,
            was_remaining: false,
            receipts: 0,
            last: None,
            released: false,
            accepted: false,
        }
    }

    /// Its main process lives, or may, as far as anybody was told.
    pub fn main_lives(&self) -> bool {
        matches!(self.main, Main::Spawned | Main::Asked | Main::Unknown)
    }

    pub fn verdict(&self) -> Option<Verdict> {
        self.last.as_ref().map(|receipt| receipt.verdict)
    }

    /// What its main process left running is the service, as far as anybody was told.
    pub fn remains(&self) -> bool {
        self.spec.remain
            && self.main == Main::Exited(Exit::Code(0))
            && self.last_main_reading != Some(false)
    }

    /// Somebody lives who has to be asked to go.
    pub fn lives(&self) -> bool {
        self.main_lives() || self.remains()
    }

    fn ready(&self) -> bool {
        let runs = if self.spec.remain {
            self.remains()
        } else {
            self.main == Main::Spawned && self.execed
        };
        runs && (self.spec.test.is_none() || self.spec.oneshot || self.passed)
            && self.stopping.is_none()
            && self.last.is_none()
    }
}

impl Observer {
    pub fn new(scenario: &Scenario) -> Self {
        let services = scenario.specs.iter();
        let services = services.map(|spec| (spec.name.clone(), ServiceSeen::new(spec)));
        let leftovers_above = leftovers_above(scenario);
        let leftovers_ordered = scenario.leftovers.iter().all(|leftover| {
            let above = &leftovers_above[&leftover.spec.name];
            above.iter().all(|id| *id != leftover.r#gen)
        });
        let specs: Vec<&Spec> = scenario.specs.iter().collect();
        Self {
            deadline: scenario.settings.deadline,
            services: services.collect(),
            gens: scenario
                .leftovers
                .iter()
                .map(|l| (l.r#gen, GenSeen::new(&l.spec, true)))
                .collect(),
            ids: BTreeMap::new(),
            open: BTreeMap::new(),
            answered: BTreeSet::new(),
            shutdown_began: None,
            hurried: false,
            stopper_exit: None,
            running_at_shutdown: BTreeSet::new(),
            sockets: crate::demand::Sockets::default(),
            sockets_of: BTreeMap::new(),
            finished: false,
            requirers: requirers(&specs),
            slack: 0,
            punctual: false,
            above: stop_orders(&specs),
            leftovers_above,
            leftovers_ordered,
            starts: 0,
            verdicts: 0,
            situations: Situations::new(),
        }
    }

    /// The names of what was there from the start.
    pub fn learn_ids(&mut self, core: &Supervisor) {
        for view in core.views() {
            if let Some(r#gen) = view.r#gen {
                self.ids.insert(view.id, r#gen);
            }
        }
    }

    /// The current generation of a configured service, while it has no verdict.
    pub fn current(&self, name: &str) -> Option<GenId> {
        let last = self.services.get(name)?.gens.last()?;
        self.gens
            .get(last)
            .is_some_and(|seen| seen.last.is_none())
            .then_some(*last)
    }

    /// Generations whose last verdict is lingering.
    pub fn lingering(&self) -> impl Iterator<Item = GenId> {
        let lingers = |seen: &GenSeen| seen.verdict() == Some(Verdict::Lingering);
        let found = self.gens.iter().filter(move |(_, seen)| lingers(seen));
        found.map(|(id, _)| *id)
    }

    /// Generations of this name without a verdict.
    pub fn active(&self, name: &str) -> impl Iterator<Item = (GenId, &GenSeen)> {
        self.gens
            .iter()
            .filter(move |(_, seen)| seen.name == name && seen.last.is_none())
            .map(|(id, seen)| (*id, seen))
    }

    /// Whether a dependent of this service may run.
    pub fn ready(&self, name: &str) -> bool {
        let Some(service) = self.services.get(name) else {
            return false;
        };
        if service.spec.oneshot && (service.done || !service.spec.remain) {
            return service.done;
        }
        if service.stops.is_empty() && self.answers(name) {
            return true;
        }
        service.stops.is_empty()
            && self
                .current(name)
                .and_then(|current| self.gens.get(&current))
                .is_some_and(GenSeen::ready)
    }

    /// The core is about to be told this.
    pub fn on_event(&mut self, now: u64, event: &Event) {
        self.witness_event(event);
        match event {
            Event::Request { id, request } => self.on_request(now, *id, request),
            Event::Terminate if self.shutdown_began.is_some() => {
                self.hurried = true;
                self.situations.insert("every grace is cut short");
            }
            Event::Terminate => self.on_shutdown(now),
            Event::Flushed | Event::Swept { .. } => {}
            Event::Listening { service, op } => self.sockets.on_listening(*service, *op),
            Event::Demanded { service, op } => self.sockets.on_demanded(*service, *op),
            Event::ListenFailed { .. } => {}
            other => self.on_gen_event(other),
        }
    }

    fn on_request(&mut self, now: u64, id: RequestId, request: &Request) {
        self.open.insert(id, request.clone());
        match request {
            Request::Shutdown { .. } if self.shutdown_began.is_none() => self.on_shutdown(now),
            Request::Shutdown { .. } => {}
            Request::Stop { service, .. }
            | Request::StopToAmend { service }
            | Request::StopWithDependents { service, .. } => {
                if matches!(request, Request::StopToAmend { .. }) {
                    self.sockets.held.insert(service.clone());
                }
                if let Some(seen) = self.services.get_mut(service) {
                    seen.stops.insert(id);
                }
            }
            Request::Start { service, force, .. } => {
                let lingers = |seen: &&mut GenSeen| {
                    seen.name == *service
                        && (seen.leftover || seen.verdict() == Some(Verdict::Lingering))
                };
                if *force {
                    let lingering = self.gens.values_mut().filter(lingers);
                    lingering.for_each(|seen| seen.accepted = true);
                }
            }
            Request::Restart { .. }
            | Request::Reload { .. }
            | Request::Load { .. }
            | Request::Amend { .. }
            | Request::Forget { .. } => {}
        }
    }

    fn on_shutdown(&mut self, now: u64) {
        self.shutdown_began = Some(now);
        let running = self
            .gens
            .iter()
            .filter(|(_, seen)| seen.last.is_none() && seen.lives());
        self.running_at_shutdown = running.map(|(id, _)| *id).collect();
    }

    fn on_gen_event(&mut self, event: &Event) {
        let Some(seen) = gen_of(event).and_then(|id| self.gens.get_mut(&id)) else {
            return;
        };
        if seen.released && matches!(event, Event::Scanned { .. } | Event::Killed { .. }) {
            self.situations
                .insert("an operation comes back after the verdict");
        }
        match event {
            Event::Spawned { pid, .. } if seen.main == Main::Asked => {
                seen.main = Main::Spawned;
                seen.pid = Some(*pid);
                seen.spawned_late = seen.inspected || seen.last.is_some();
                if seen.spawned_late {
                    self.situations.insert("a start comes back too late");
                }
            }
            Event::SpawnFailed { .. } if seen.main == Main::Asked => seen.main = Main::Never,
            Event::Execed { .. } => seen.execed = true,
            Event::OutOfMemory { kills, .. } => seen.oom_kills = seen.oom_kills.max(*kills),
            Event::MainExited { exit, .. } if seen.main_lives() => {
                seen.main = Main::Exited(*exit);
                seen.was_remaining = seen.remains() && seen.stopping.is_none();
            }
            Event::Cgroup { main, .. } => seen.last_main_reading = Some(*main),
            Event::AuxExited { aux, exit, .. } => {
                seen.passed |= seen.tests.contains(aux) && exit.success();
            }
            Event::Told { told, .. } => {
                let test = seen.spec.test.as_ref();
                let waited = test.is_some_and(|test| test.check.is_told());
                seen.passed |= waited && *told == Told::Ready;
            }
            Event::Killed { op, report, .. } => {
                seen.killed.extend(report.killed.iter().map(|p| p.pid));
                if seen.kills_open.remove(op) {
                    // What was scanned before the kill was over proves nothing.
                    seen.scans_open.clear();
                    seen.forget_proof();
                }
            }
            Event::Scanned { op, report, .. } => {
                seen.escaped.extend(report.escaped.iter().map(|p| p.pid));
                seen.kept.extend(report.kept.iter().map(|p| p.pid));
                if !report.escaped.is_empty() {
                    seen.forget_proof();
                }
                if seen.scans_open.remove(op) {
                    if report.error.is_none() && report.populated == Some(false) {
                        seen.alive_outside = !report.alive.is_empty();
                    }
                    let empty = report.populated == Some(false)
                        && report.escaped.is_empty()
                        && report.error.is_none();
                    seen.empty_passes = if empty { seen.empty_passes + 1 } else { 0 };
                    seen.proven = empty && (report.conclusive || seen.empty_passes >= 3);
                    if seen.proven && !report.conclusive {
                        self.situations
                            .insert("three inconclusive passes stand for one");
                    }
                }
            }
            Event::SurvivorGone { .. } => seen.alive_outside = false,
            Event::Fenced { op, result, .. } => {
                seen.fence_removed |= seen.fences_open.remove(op) && *result == Fence::Removed;
                seen.fence_busy |= seen.fences_sure.contains(op) && *result == Fence::Busy;
            }
            _ => {}
        }
    }

    /// The books after an effect that was found to be right.
    pub fn note(&mut self, now: u64, effect: &Effect) {
        self.witness_effect(effect);
        match effect {
            Effect::Spawn { service, .. } => self.note_spawn(*service, effect),
            Effect::Listen { service, op } => self.sockets.on_listen(*service, *op),
            Effect::Close { service } => self.sockets.on_close(*service),
            Effect::RunAux { r#gen, aux, kind } => {
                if let Some(seen) = self.gens.get_mut(r#gen) {
                    match kind {
                        AuxKind::Test => {
                            if !seen.tests.is_empty() {
                                self.situations.insert("a test fails and is run again");
                            }
                            seen.tests.insert(*aux);
                        }
                        AuxKind::Health => {
                            self.situations.insert("health is looked at");
                        }
                        AuxKind::Stop => {
                            self.situations.insert("a stop command is run");
                            seen.stop_command = Some(now);
                        }
                        AuxKind::Reload => {}
                    }
                }
            }
            Effect::Signal { r#gen, .. } => {
                if let Some(seen) = self.gens.get_mut(r#gen)
                    && seen.signalled.is_none()
                {
                    seen.signalled = Some(now);
                    seen.signalled_alive = seen.main_lives();
                }
            }
            Effect::Kill { r#gen, op } => {
                if let Some(seen) = self.gens.get_mut(r#gen) {
                    seen.kills += 1;
                    seen.kills_open.insert(*op);
                    seen.scans_open.clear();
                    seen.forget_proof();
                }
            }
            Effect::Scan { r#gen, op } => {
                if let Some(seen) = self.gens.get_mut(r#gen) {
                    seen.fences_open.clear();
                    seen.fence_removed = false;
                    // Only the newest pass counts.
                    seen.scans_open = BTreeSet::from([*op]);
                }
            }
            Effect::Fence { r#gen, op } => {
                if let Some(seen) = self.gens.get_mut(r#gen)
                    && seen.proven
                {
                    seen.fences_open.insert(*op);
                    seen.fences_sure.insert(*op);
                }
            }
            Effect::Inspect { r#gen, .. } => {
                if let Some(seen) = self.gens.get_mut(r#gen) {
                    seen.inspected = true;
                }
            }
            Effect::Receipt(receipt) => self.note_receipt(receipt),
            Effect::Release { r#gen } => {
                if let Some(seen) = self.gens.get_mut(r#gen) {
                    seen.released = true;
                }
            }
            Effect::Reply { id, reply } => self.note_reply(*id, reply),
            Effect::Notice(Notice::State { service, state, .. }) if *state == "stopping" => {
                if let Some(seen) = self.ids.get(service).and_then(|id| self.gens.get_mut(id)) {
                    seen.stopping = Some(now);
                    seen.remained = seen.remains();
                    if seen.remained {
                        self.situations.insert("what remains is stopped");
                    } else if seen.spec.remain && seen.was_remaining {
                        self.situations.insert("what remained ends by itself");
                    }
                }
            }
            Effect::Notice(Notice::StopsAll { service, .. }) => {
                let receipt = self
                    .ids
                    .get(service)
                    .and_then(|id| self.gens[id].last.as_ref());
                self.stopper_exit = receipt.and_then(|receipt| receipt.exit);
                self.situations.insert("an end stops everything");
                self.on_shutdown(now);
            }
            Effect::Finish(_) => self.finished = true,
            Effect::EndAux { .. }
            | Effect::Reload { .. }
            | Effect::Notice(_)
            | Effect::Flush
            | Effect::Sweep => {}
        }
    }

    fn note_spawn(&mut self, id: ServiceId, effect: &Effect) {
        let Effect::Spawn { r#gen, .. } = effect else {
            return;
        };
        self.starts += 1;
        self.ids.insert(id, *r#gen);
        let name = self.gens.get(r#gen).map(|seen| seen.name.clone());
        let lingering: Vec<GenId> = self
            .lingering()
            .filter(|id| Some(&self.gens[id].name) == name.as_ref())
            .collect();
        if let Some(seen) = self.gens.get(r#gen)
            && let Some(service) = self.services.get_mut(&seen.name)
        {
            if !service.gens.is_empty() {
                self.situations.insert("a service is started again");
            }
            if !lingering.is_empty() {
                self.situations
                    .insert("a start is forced beside what lingers");
            }
            service.done = false;
            service.gens.push(*r#gen);
            if self.gens[r#gen].spec.keeps_descriptors() {
                self.sockets.holding.insert(id);
            }
        }
    }

    fn note_receipt(&mut self, receipt: &Receipt) {
        self.verdicts += 1;
        let Some(seen) = self.gens.get_mut(&receipt.r#gen) else {
            return;
        };
        seen.receipts += 1;
        seen.last = Some(receipt.clone());
        if receipt.verdict != Verdict::Lingering
            && seen.main == Main::Exited(Exit::Code(0))
            && !seen.signalled_alive
            && !seen.leftover
            && let Some(service) = self.services.get_mut(&seen.name)
            && service.spec.oneshot
            && (!seen.was_remaining || receipt.cause == Cause::Ended)
            && service.gens.last() == Some(&receipt.r#gen)
        {
            service.done = true;
            self.situations.insert("a oneshot is done");
        }
    }

    fn note_reply(&mut self, id: RequestId, reply: &Reply) {
        self.answered.insert(id);
        match self.open.remove(&id) {
            Some(
                Request::Stop { service, .. }
                | Request::StopToAmend { service }
                | Request::StopWithDependents { service, .. },
            ) => {
                if let Some(seen) = self.services.get_mut(&service) {
                    seen.stops.remove(&id);
                    if matches!(reply, Reply::AlreadyDown) {
                        seen.done = false;
                    }
                }
            }
            Some(Request::Load { spec }) if *reply == Reply::Accepted => {
                self.situations.insert("a service is taken in");
                self.services
                    .insert(spec.name.clone(), ServiceSeen::new(&spec));
                self.learn_orders();
            }
            Some(Request::Amend { specs }) if *reply == Reply::Accepted => self.note_amended(specs),
            Some(Request::Forget { service }) if *reply == Reply::Accepted => {
                self.situations.insert("a service is taken out");
                self.services.remove(&service);
                self.learn_orders();
            }
            _ => {}
        }
    }

    /// Who waits for whom, by the files there are now.
    pub(crate) fn learn_orders(&mut self) {
        let specs: Vec<&Spec> = self.services.values().map(|seen| &seen.spec).collect();
        self.above = stop_orders(&specs);
        self.requirers = requirers(&specs);
        // Their order was worked out from the files that there were.
        self.leftovers_ordered = false;
    }
}

impl ServiceSeen {
    fn new(spec: &Spec) -> Self {
        Self {
            spec: spec.clone(),
            gens: Vec::new(),
            done: false,
            stops: BTreeSet::new(),
        }
    }
}

impl GenSeen {
    fn forget_proof(&mut self) {
        self.empty_passes = 0;
        self.proven = false;
        self.fences_open.clear();
        self.fence_removed = false;
    }
}
