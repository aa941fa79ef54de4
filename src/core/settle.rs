//! The dirty queue: every change marks who may be concerned, and the graph is brought to rest
//! before anything else happens. No recursion: whoever changes here marks others again.

use std::collections::BTreeSet;

use super::ServiceId;
use super::effect::{Effect, Notice};
use super::machine::Supervisor;
use super::receipt::Cause;
#[cfg(test)]
use super::sabotage::{Bug, planted};
use super::service::{Main, Run, Service, State, StopWanted, Target};
use super::stop::{Budget, Ladder};
use super::time::Timer;

impl Supervisor {
    /// Brings the graph to rest.
    pub(super) fn settle(&mut self) {
        if self.finished() {
            return;
        }
        while let Some(id) = self.dirty.pop_first() {
            self.settle_service(id);
        }
        self.resolve_start_waits();
        self.advance_shutdown();
    }

    fn settle_service(&mut self, id: ServiceId) {
        let Some(service) = self.services.get(&id) else {
            return;
        };
        match &service.state {
            State::Starting(_) | State::Up(_) => {
                if let Some(wanted) = service.stop_wanted {
                    self.stop_when_free(id, wanted);
                }
            }
            State::Down | State::Blocked { .. } if service.target == Target::Up => {
                match self.blocked_by(id) {
                    None => self.start(id),
                    Some(why) => self.block(id, why),
                }
            }
            State::Down
            | State::Blocked { .. }
            | State::Stopping(_)
            | State::Lingering(_)
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Done => {}
        }
    }

    fn block(&mut self, id: ServiceId, why: String) {
        let Some(service) = self.services.get(&id) else {
            return;
        };
        let unchanged = matches!(&service.state, State::Blocked { why: known } if *known == why);
        if !unchanged {
            self.set_state(id, State::Blocked { why });
        }
    }

    /// Why a wanted service cannot start now; `None`: it can.
    fn blocked_by(&mut self, id: ServiceId) -> Option<String> {
        #[cfg(test)]
        if planted(Bug::NoDependencyGuard) {
            return None;
        }
        if self.leftovers > 0 {
            return Some("what an earlier supervisor left behind is being ended".into());
        }
        let service = self.services.get(&id)?;
        if !service.forced
            && self
                .graph
                .ghosts_of(id)
                .iter()
                .any(|ghost| self.services.contains_key(ghost))
        {
            return Some("an earlier start of it lingers".into());
        }
        for name in self.graph.edges(id)?.dependencies() {
            let primary = self.graph.primary(name);
            match primary.and_then(|dependency| self.services.get(&dependency)) {
                None => return Some(format!("{} is unknown", self.graph.name(name))),
                Some(dependency) if !dependency.ready() => {
                    let (name, state) = (&dependency.spec.name, dependency.state.as_str());
                    return Some(format!("{name} is {state}"));
                }
                Some(_) => {}
            }
        }
        if let Some(lost) = self.lost_requirement(id) {
            let state = self.services.get(&lost).map_or("gone", |s| s.state.as_str());
            let name = self.graph.name_of(lost);
            return Some(format!("{name}, which what it requires requires, is {state}"));
        }
        let requirer = self.blocking_dependent(id, true)?;
        self.held.entry(requirer).or_default().insert(id);
        let name = self
            .services
            .get(&requirer)
            .map_or("?", |service| service.spec.name.as_str());
        Some(format!("{name}, which requires it, is stopping"))
    }

    fn start(&mut self, id: ServiceId) {
        let r#gen = self.new_gen(id);
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.starts += 1;
        service.again = false;
        service.forced = false;
        service.failure = None;
        service.up_since = None;
        if let Some(timeout) = service.spec.start_timeout {
            self.out.timers.set(Timer::StartTimeout(id), now + timeout);
        }
        let run = Run::new(r#gen, Main::Spawning, Some(now));
        self.set_state(id, State::Starting(Box::new(run)));
        self.out.push(Effect::Spawn { r#gen, service: id });
    }

    fn stop_when_free(&mut self, id: ServiceId, wanted: StopWanted) {
        // The one that held it up last time most likely still does.
        let hint = self.services.get(&id).and_then(|service| service.waits_for);
        if let Some(hint) = hint
            && self.going_down(hint)
        {
            self.held.entry(hint).or_default().insert(id);
            return;
        }
        let blocker = self.blocking_dependent(id, false);
        if let Some(service) = self.services.get_mut(&id) {
            service.waits_for = blocker;
        }
        match blocker {
            None => self.begin_ladder(id, wanted.cause),
            Some(blocker) => {
                self.held.entry(blocker).or_default().insert(id);
            }
        }
    }

    fn going_down(&self, id: ServiceId) -> bool {
        self.services
            .get(&id)
            .is_some_and(|service| service.going_down())
    }

    /// A dependent, direct or through others, that is on its way down and has no verdict yet.
    fn blocking_dependent(&self, id: ServiceId, requires_only: bool) -> Option<ServiceId> {
        #[cfg(test)]
        if !requires_only && planted(Bug::NoDependentsGuard) {
            return None;
        }
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            #[cfg(test)]
            if !requires_only && at != id && planted(Bug::DirectDependentsOnly) {
                continue;
            }
            let next: Vec<ServiceId> = if requires_only {
                self.graph.requirers(at).collect()
            } else {
                self.graph.dependents(at).collect()
            };
            for dependent in next {
                if seen.insert(dependent) {
                    if self.going_down(dependent) {
                        return Some(dependent);
                    }
                    // What never started holds no requirer that could be running.
                    let fresh = |service: &Service| service.starts == 0 && !service.ghost;
                    if !(requires_only && self.services.get(&dependent).is_some_and(fresh)) {
                        open.push(dependent);
                    }
                }
            }
        }
        None
    }

    /// Puts the service's generation on the stop ladder.
    pub(super) fn begin_ladder(&mut self, id: ServiceId, cause: Cause) {
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let run = match std::mem::replace(&mut service.state, State::Down) {
            State::Starting(run) | State::Up(run) => run,
            other => {
                service.state = other;
                return;
            }
        };
        let spec = &service.spec;
        let asked = matches!(run.main, Main::Alive(_) | Main::Spawning | Main::Unknown);
        let grace = if asked { spec.grace } else { spec.exit_grace };
        let budget = match &self.shutdown {
            Some(shutdown) => shutdown.budget(now, service.waves_below, grace, spec.kill_timeout),
            None => Budget {
                grace,
                proof: spec.kill_timeout,
                limit: None,
            },
        };
        self.out.timers.cancel_service(id);
        service.stop_wanted = None;
        service.waits_for = None;
        let stop_command = spec.stop_command.is_some();
        let ladder = Ladder::new(
            &self.out,
            spec,
            self.settings.guarantee,
            *run,
            cause,
            budget,
        );
        self.set_state(id, State::Stopping(Box::new(ladder)));
        self.on_ladder(id, |ladder, out| {
            ladder.climb(out, id, stop_command);
            None
        });
    }

    /// Everything that requires the service has to go down, and theirs before them.
    pub(super) fn cascade(&mut self, id: ServiceId, force: bool) {
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            for requirer in self.graph.requirers(at).collect::<Vec<_>>() {
                if !seen.insert(requirer) {
                    continue;
                }
                let Some(service) = self.services.get_mut(&requirer) else {
                    continue;
                };
                match service.state {
                    State::Starting(_) | State::Up(_) => {
                        match &mut service.stop_wanted {
                            Some(wanted) => wanted.force |= force,
                            None => {
                                service.stop_wanted = Some(StopWanted {
                                    cause: Cause::Dependency,
                                    force,
                                });
                            }
                        }
                        self.dirty.insert(requirer);
                        open.push(requirer);
                    }
                    _ => open.push(requirer),
                }
            }
        }
    }

    /// Changes a state and marks everybody whom that may concern.
    pub(super) fn set_state(&mut self, id: ServiceId, state: State) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let detail = match &state {
            State::Blocked { why } | State::Failed { why } => why.clone(),
            State::Stopping(ladder) => ladder.cause.as_str().into(),
            State::Lingering(ladder) => {
                let survivors = &ladder.receipt().survivors;
                let pids: Vec<String> = survivors.iter().map(|s| s.pid.to_string()).collect();
                format!("pid {}", pids.join(", "))
            }
            State::Backoff { until } => {
                format!("next start in {} ms", until.since(self.out.now).as_millis())
            }
            State::Down | State::Starting(_) | State::Up(_) | State::Done => String::new(),
        };
        let name = state.as_str();
        service.state = state;
        service.since = self.out.now;
        self.out.push(Effect::Notice(Notice::State {
            service: id,
            state: name,
            detail,
        }));
        self.mark_concerned(id);
    }

    /// Marks the service, who waits for it to be ready, also through what is done, and whom it
    /// held up.
    pub(super) fn mark_concerned(&mut self, id: ServiceId) {
        self.dirty.insert(id);
        let mut done_below = BTreeSet::new();
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            for dependent in self.graph.dependents(at) {
                self.dirty.insert(dependent);
                let service = self.services.get(&dependent);
                let done = service.is_some_and(|s| matches!(s.state, State::Done));
                if done && done_below.insert(dependent) {
                    open.push(dependent);
                }
            }
        }
        if let Some(held) = self.held.remove(&id) {
            self.dirty.extend(held);
        }
    }
}
