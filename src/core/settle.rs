//! The dirty queue: every change marks who may be concerned, and the graph is brought to rest
//! before anything else happens. No recursion: whoever changes here marks others again.

use std::collections::BTreeSet;

use super::ServiceId;
use super::effect::{Effect, Notice};
use super::machine::Supervisor;
use super::receipt::Cause;
use super::reload;
use super::service::{Main, Run, State, StopWanted, Target};
use super::shutdown::polite_times;
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
                let awaits = service.awaits_demand();
                let blocked = match awaits {
                    true => self.cannot_listen(id),
                    false => self.blocked_by(id),
                };
                match blocked {
                    None if awaits => self.listen(id),
                    None => self.start(id),
                    Some(why) => self.block(id, why),
                }
            }
            State::Down
            | State::Blocked { .. }
            | State::Listening { .. }
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
        let blocker = service.blocked_on.and_then(|id| self.graph.name_id(id));
        let unchanged = matches!(&service.state, State::Blocked { why: known } if *known == why);
        if !unchanged {
            self.set_state(id, State::Blocked { why });
            if let Some(service) = self.services.get_mut(&id) {
                service.start_waited = blocker.or(service.start_waited);
            }
        }
    }

    fn start(&mut self, id: ServiceId) {
        if let Some(why) = self.below_guarantee(id) {
            return self.refuse_start(id, why);
        }
        let r#gen = self.new_gen(id);
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.starts += 1;
        service.again = false;
        service.failure = None;
        service.main_end = None;
        service.up_since = None;
        service.begun = Some(now);
        service.stop_waited = None;
        service.held = false;
        service.holds |= service.spec.keeps_descriptors();
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
        let name = blocker.and_then(|id| self.graph.name_id(id));
        if let Some(service) = self.services.get_mut(&id) {
            service.waits_for = blocker;
            service.stop_waited = name.or(service.stop_waited);
        }
        match blocker {
            None => self.begin_ladder(id, wanted.cause),
            Some(blocker) => {
                self.held.entry(blocker).or_default().insert(id);
            }
        }
    }

    /// Puts the service's generation on the stop ladder.
    pub(super) fn begin_ladder(&mut self, id: ServiceId, cause: Cause) {
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let mut run = match std::mem::replace(&mut service.state, State::Down) {
            State::Starting(run) | State::Up(run) => run,
            other => {
                service.state = other;
                return;
            }
        };
        let spec = &service.spec;
        reload::give_up(&mut self.out, &mut run, &spec.name);
        let remains = run.remains && run.main_populated != Some(false);
        let asked = remains || matches!(run.main, Main::Alive(_) | Main::Spawning | Main::Unknown);
        let grace = if asked { spec.grace } else { spec.exit_grace };
        let (budget, allotment) = match &self.shutdown {
            Some(shutdown) => {
                let polite = (grace, polite_times(service));
                let shared =
                    shutdown.budget(now, service.share.as_deref(), polite, spec.kill_timeout);
                (shared.0, Some(shared.1))
            }
            None => {
                let own = Budget {
                    grace,
                    proof: spec.kill_timeout,
                    limit: None,
                };
                (own, None)
            }
        };
        self.out.timers.cancel_service(id);
        self.descents += u64::from(service.stop_wanted.is_none());
        service.stop_wanted = None;
        service.waits_for = None;
        let stop_command = spec.stop_command.is_some();
        let waited = service.stop_waited.take();
        let waited = waited.map(|name| self.graph.name(name).to_owned());
        let mut ladder = Ladder::new(
            &self.out,
            spec,
            spec.guarantee(self.settings.guarantee),
            *run,
            cause,
            budget,
        );
        if let Some(allotment) = allotment {
            ladder.note_allotment(allotment);
        }
        ladder.note_waited(waited);
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
                        if let Some(wanted) = &mut service.stop_wanted {
                            wanted.force |= force;
                        } else {
                            let cause = Cause::Dependency;
                            self.want_stop(requirer, StopWanted { cause, force });
                        }
                        open.push(requirer);
                    }
                    // It listens on, and that is all its own requirers need of it now.
                    State::Listening { .. } => {}
                    _ => open.push(requirer),
                }
            }
        }
    }

    /// Changes a state and marks everybody whom that may concern.
    pub(super) fn set_state(&mut self, id: ServiceId, state: State) {
        self.hope_lost |= self.ends_hope(id, &state);
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
            State::Down
            | State::Listening { .. }
            | State::Starting(_)
            | State::Up(_)
            | State::Done => String::new(),
        };
        let name = state.as_str();
        // On its way to another state within this very settling.
        let passing = matches!(&state, State::Blocked { why } if why.is_empty());
        service.state = state;
        service.since = self.out.now;
        if service.spec.oneshot && matches!(service.state, State::Done) {
            service.up_since.get_or_insert(self.out.now);
        }
        if passing {
            service.asked = self.out.now;
            service.start_waited = None;
        }
        if !passing {
            self.out.push(Effect::Notice(Notice::State {
                service: id,
                state: name,
                detail,
            }));
        }
        self.mark_concerned(id);
        self.close_unless_kept(id);
    }

    /// Whether a service that goes into `state` may make waiting for it vain.
    fn ends_hope(&self, id: ServiceId, state: &State) -> bool {
        let Some(service) = self.services.get(&id) else {
            return true;
        };
        match state {
            State::Down | State::Failed { .. } | State::Lingering(_) => true,
            // Done itself, and what it requires may have gone meanwhile.
            State::Done => !service.spec.oneshot || self.lost_requirement(id).is_some(),
            // It ran, or was asked to, and cannot.
            State::Blocked { .. } => {
                matches!(&service.state, State::Blocked { why } if why.is_empty())
            }
            State::Listening { .. }
            | State::Starting(_)
            | State::Up(_)
            | State::Stopping(_)
            | State::Backoff { .. } => false,
        }
    }

    /// Marks the service, who waits for it to be ready, also through what is done, and whom it
    /// held up.
    pub(super) fn mark_concerned(&mut self, id: ServiceId) {
        self.dirty.insert(id);
        self.recheck.insert(id);
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
