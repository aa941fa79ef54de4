//! What events mean to a service: each event in each state.

use super::effect::{Effect, Notice};
use super::ending::on_ladder_event;
use super::event::{Event, Exit, Failed};
use super::machine::Supervisor;
use super::readiness::Probe;
use super::receipt::Cause;
#[cfg(test)]
use super::sabotage::{Bug, planted};
use super::service::{Main, Run, Service, State, StopWanted};
use super::time::Timer;
use super::{GenId, ServiceId};

impl Supervisor {
    /// An event about a generation; one of a generation that has its last verdict is late and
    /// means nothing any more.
    pub(super) fn on_generation_event(&mut self, event: Event) {
        let Some(r#gen) = generation(&event) else {
            return;
        };
        let Some(id) = self.gens.get(&r#gen).copied() else {
            return;
        };
        let Some(service) = self.services.get(&id) else {
            return;
        };
        match &service.state {
            State::Starting(_) | State::Up(_) => self.on_run_event(id, event),
            State::Stopping(_) | State::Lingering(_) => {
                self.on_ladder(id, |ladder, out| on_ladder_event(ladder, out, id, event));
            }
            State::Down
            | State::Blocked { .. }
            | State::Listening { .. }
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Done => {}
        }
    }

    /// An event about a generation that is not on the ladder.
    fn on_run_event(&mut self, id: ServiceId, event: Event) {
        match event {
            Event::Spawned { pid, .. } => {
                self.with_run(id, |run| {
                    run.pid = Some(pid);
                    if run.main == Main::Spawning {
                        run.main = Main::Alive(pid);
                    }
                });
            }
            Event::SpawnFailed { error, .. } => self.on_spawn_failed(id, error),
            Event::Execed { .. } => self.on_execed(id),
            Event::ExecFailed { error, .. } => {
                if let Some(service) = self.services.get_mut(&id) {
                    service.failure = Some(error.to_string());
                }
            }
            Event::MainExited { exit, .. } => self.on_main_exited(id, exit),
            Event::MainLost { .. } => self.on_main_lost(id),
            Event::Reloaded { op, error, .. } => self.on_reload_signalled(id, op, error),
            Event::OutOfMemory { kills, .. } => {
                self.with_run(id, |run| run.oom_kills = run.oom_kills.max(kills));
            }
            Event::Cgroup { main, whole, .. } => {
                let mut gone = false;
                self.with_run(id, |run| {
                    run.main_populated = Some(main);
                    run.populated = Some(whole);
                    gone = run.remains && !main;
                });
                if gone {
                    self.on_remains_ended(id);
                }
            }
            Event::AuxExited { aux, exit, .. } => self.on_aux_exited(id, aux, Ok(exit)),
            Event::AuxFailed { aux, error, .. } => self.on_aux_exited(id, aux, Err(error)),
            Event::AuxEnded { aux, error, .. } => self.on_aux_ended(id, aux, error),
            Event::SignalFailed { error, .. } => self.trouble(id, &error),
            Event::Told { told, .. } => self.on_told(id, told),
            // Answers to what only a ladder asks for.
            Event::Killed { .. }
            | Event::Scanned { .. }
            | Event::Fenced { .. }
            | Event::Inspected { .. }
            | Event::SurvivorGone { .. } => {}
            Event::Request { .. }
            | Event::Listening { .. }
            | Event::ListenFailed { .. }
            | Event::Demanded { .. }
            | Event::Terminate
            | Event::Flushed
            | Event::Swept { .. } => {}
        }
    }

    pub(super) fn with_run(&mut self, id: ServiceId, change: impl FnOnce(&mut Run)) {
        if let Some(run) = self.services.get_mut(&id).and_then(Service::run) {
            change(run);
        }
    }

    fn on_spawn_failed(&mut self, id: ServiceId, error: Failed) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let State::Starting(run) = &mut service.state else {
            return;
        };
        if run.main != Main::Spawning {
            return;
        }
        run.main = Main::None;
        service.failure = Some(error.to_string());
        self.fail_demand(id);
        self.begin_ladder(id, Cause::StartFailed);
    }

    fn on_execed(&mut self, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let State::Starting(run) = &mut service.state else {
            return;
        };
        if std::mem::replace(&mut run.execed, true) {
            return;
        }
        // The readiness of these begins with their main process's exit.
        if service.spec.oneshot || service.spec.remain {
            return;
        }
        self.begin_readiness(id);
    }

    fn begin_readiness(&mut self, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let State::Starting(run) = &mut service.state else {
            return;
        };
        if service.spec.oneshot || service.spec.test.is_none() {
            self.become_up(id);
        } else if service.spec.is_told() {
            if run.said.ready {
                self.become_up(id);
            }
        } else {
            run.probe = Some(Box::new(Probe::new(self.out.now)));
            self.run_check(id);
        }
    }

    pub(super) fn become_up(&mut self, id: ServiceId) {
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        if !matches!(service.state, State::Starting(_)) {
            return;
        }
        service.up_since = Some(now);
        if let State::Starting(run) = std::mem::replace(&mut service.state, State::Down) {
            #[cfg(test)]
            if planted(Bug::StaleTimer) {
                return self.set_state(id, State::Up(run));
            }
            self.out.timers.cancel_service(id);
            self.set_state(id, State::Up(run));
            self.begin_health(id);
        }
    }

    fn on_main_exited(&mut self, id: ServiceId, exit: Exit) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        if let State::Starting(run) | State::Up(run) = &service.state
            && run.remains
        {
            // Heard again.
            return;
        }
        let failed = service.failure.is_some();
        let oneshot = service.spec.oneshot;
        if let State::Starting(run) = &mut service.state
            && service.spec.remain
            && exit.success()
            && run.main_populated != Some(false)
        {
            run.main = Main::Gone(exit);
            run.remains = true;
            return self.begin_readiness(id);
        }
        // A oneshot that got done before its dependency took it along is done.
        let done = oneshot && !failed && exit.success();
        let cause = service
            .stop_wanted
            .map(|wanted| wanted.cause)
            .filter(|cause| !(done && *cause == Cause::Dependency));
        // Whoever requires one that comes and goes on demand may connect to it all the same.
        let comes_back = service.spec.on_demand && exit.success() && !failed && cause.is_none();
        self.with_run(id, |run| run.main = Main::Gone(exit));
        if !oneshot && !comes_back {
            self.cascade(id, true);
        }
        let ended = if failed {
            Cause::StartFailed
        } else {
            Cause::Ended
        };
        self.begin_ladder(id, cause.unwrap_or(ended));
    }

    /// Its main process was another's child, who alone knows how it ended.
    fn on_main_lost(&mut self, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let wanted = service.stop_wanted.map(|wanted| wanted.cause);
        if wanted.is_none() {
            let why = "its main process has ended, and how was for its parent to see alone";
            service.failure.get_or_insert_with(|| why.into());
        }
        self.with_run(id, |run| run.main = Main::None);
        self.cascade(id, true);
        self.begin_ladder(id, wanted.unwrap_or(Cause::Ended));
    }

    /// Nobody is left of what the main process left running, and nobody asked for that.
    fn on_remains_ended(&mut self, id: ServiceId) {
        #[cfg(test)]
        if planted(Bug::RemainsUnwatched) {
            return;
        }
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let wanted = service.stop_wanted.map(|wanted| wanted.cause);
        if service.spec.oneshot {
            // Its work was done before.
            let cause = wanted.filter(|cause| *cause != Cause::Dependency);
            return self.begin_ladder(id, cause.unwrap_or(Cause::Ended));
        }
        if wanted.is_none() {
            service.failure = Some("what it left running has ended".into());
        }
        self.cascade(id, true);
        self.begin_ladder(id, wanted.unwrap_or(Cause::Ended));
    }

    pub(super) fn on_start_timeout(&mut self, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        if !matches!(service.state, State::Starting(_)) {
            return;
        }
        let timeout = service.spec.start_timeout.unwrap_or_default();
        if service.stop_wanted.is_some() {
            // Should that stop be taken back, the start has its time again.
            let again = self.out.now + timeout;
            self.out.timers.set(Timer::StartTimeout(id), again);
            return;
        }
        self.fail_start(id, format!("not ready within {timeout:?}"));
    }

    /// The start has failed while its processes live: they go down, in order.
    pub(super) fn fail_start(&mut self, id: ServiceId, why: String) {
        if let Some(service) = self.services.get_mut(&id) {
            service.failure = Some(why);
            let cause = Cause::StartFailed;
            self.want_stop(id, StopWanted { cause, force: true });
            self.fail_demand(id);
        }
    }

    /// On demand it counted as ready before it was: whoever requires it goes down as if it had been
    /// up.
    pub(super) fn fail_demand(&mut self, id: ServiceId) {
        if self.services.get(&id).is_some_and(|s| s.spec.on_demand) {
            self.cascade(id, true);
        }
    }

    pub(super) fn trouble(&mut self, id: ServiceId, error: &Failed) {
        let notice = Notice::Trouble {
            service: id,
            detail: error.to_string(),
        };
        self.out.push(Effect::Notice(notice));
    }

    pub(super) fn on_backoff_over(&mut self, id: ServiceId) {
        let waiting = |service: &Service| matches!(service.state, State::Backoff { .. });
        if self.services.get(&id).is_some_and(waiting) {
            if self.shutdown.is_some() {
                return self.on_backoff_in_shutdown(id);
            }
            self.set_state(id, starting_again());
        }
    }
}

/// Wanted up, and nothing known yet that would block it: settle looks at it next.
pub(super) fn starting_again() -> State {
    State::Blocked { why: String::new() }
}

fn generation(event: &Event) -> Option<GenId> {
    match event {
        Event::Spawned { r#gen, .. }
        | Event::SpawnFailed { r#gen, .. }
        | Event::Execed { r#gen }
        | Event::ExecFailed { r#gen, .. }
        | Event::MainExited { r#gen, .. }
        | Event::MainLost { r#gen }
        | Event::Reloaded { r#gen, .. }
        | Event::OutOfMemory { r#gen, .. }
        | Event::Cgroup { r#gen, .. }
        | Event::AuxExited { r#gen, .. }
        | Event::AuxFailed { r#gen, .. }
        | Event::AuxEnded { r#gen, .. }
        | Event::SignalFailed { r#gen, .. }
        | Event::Told { r#gen, .. }
        | Event::Killed { r#gen, .. }
        | Event::Scanned { r#gen, .. }
        | Event::Fenced { r#gen, .. }
        | Event::Inspected { r#gen, .. }
        | Event::SurvivorGone { r#gen } => Some(*r#gen),
        Event::Request { .. }
        | Event::Listening { .. }
        | Event::ListenFailed { .. }
        | Event::Demanded { .. }
        | Event::Terminate
        | Event::Flushed
        | Event::Swept { .. } => None,
    }
}
