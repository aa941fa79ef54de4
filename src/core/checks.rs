//! Ready and healthy: what is looked at, what a service says of itself, and what follows.
//!
//! A test is looked at until it passes, then its health for as long as it is up. Both go by the
//! same steps and never pile up: the next look waits until the last one is cleared away.

use super::effect::{AuxKind, Effect, Notice};
use super::event::{Exit, Failed, Told};
use super::machine::{Out, Supervisor};
use super::readiness::{AfterFailure, Probe};
use super::receipt::Cause;
use super::service::{Main, Run, Service, State, StopWanted};
use super::spec::Test;
use super::stop::{AuxState, end_aux};
use super::time::Timer;
use super::{OpId, ServiceId};

impl Service {
    /// What is looked at in its state.
    fn looked_at(&self) -> Option<(&Test, AuxKind)> {
        match &self.state {
            State::Starting(_) => Some((self.spec.test.as_ref()?, AuxKind::Test)),
            State::Up(_) => Some((&self.spec.health.as_ref()?.test, AuxKind::Health)),
            _ => None,
        }
    }

    /// Its generation, while that is not on the ladder.
    pub(super) fn run(&mut self) -> Option<&mut Run> {
        match &mut self.state {
            State::Starting(run) | State::Up(run) => Some(run),
            _ => None,
        }
    }
}

impl Run {
    /// As [`end_aux`], of this generation.
    pub(super) fn end_aux(&mut self, out: &mut Out, aux: OpId) {
        end_aux(out, self.r#gen, &mut self.auxes, aux);
    }

    /// Whether nothing is left of the last look.
    fn looks_clear(&self) -> bool {
        self.auxes.keys().all(|aux| Some(*aux) == self.reload_aux)
    }
}

impl Supervisor {
    /// It has become ready: its health is looked at from now on.
    pub(super) fn begin_health(&mut self, id: ServiceId) {
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        if service.spec.oneshot {
            return;
        }
        let pause = service
            .spec
            .health
            .as_ref()
            .and_then(|health| health.test.interval);
        let watchdog = service.spec.watchdog;
        if let Some(run) = service.run() {
            run.probe = pause.map(|_| Box::new(Probe::new(now)));
        }
        if let Some(pause) = pause {
            self.out.timers.set(Timer::TestPause(id), now + pause);
        }
        if let Some(watchdog) = watchdog {
            self.out.timers.set(Timer::Watchdog(id), now + watchdog);
        }
    }

    /// Looks once.
    pub(super) fn run_check(&mut self, id: ServiceId) {
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let Some((timeout, kind)) = service.looked_at().map(|(test, kind)| (test.timeout, kind))
        else {
            return;
        };
        let Some(run) = service.run() else { return };
        let Some(probe) = &mut run.probe else { return };
        let aux = self.out.op();
        probe.running = Some(aux);
        probe.due = false;
        run.auxes.insert(aux, AuxState::Running);
        let r#gen = run.r#gen;
        self.out.push(Effect::RunAux { r#gen, aux, kind });
        self.out.timers.set(Timer::TestTimeout(id), now + timeout);
    }

    pub(super) fn on_aux_exited(&mut self, id: ServiceId, aux: OpId, result: Result<Exit, Failed>) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let Some(run) = service.run() else { return };
        if run.auxes.get(&aux) != Some(&AuxState::Running) {
            return;
        }
        run.end_aux(&mut self.out, aux);
        if run.reload_aux == Some(aux) {
            return self.on_reload_command(id, aux, result);
        }
        let current = |probe: &Probe| probe.running == Some(aux);
        if !run.probe.as_deref().is_some_and(current) {
            return;
        }
        let runs_a_command = |(test, _): (&Test, AuxKind)| test.check.command().is_some();
        let runs_a_command = service.looked_at().is_some_and(runs_a_command);
        match result {
            Ok(exit) if exit.success() => self.on_check_passed(id),
            Ok(exit) => self.on_check_failed(id, exit.to_string()),
            Err(error) => {
                // A command that cannot be run is trouble; what does not answer yet is not.
                if runs_a_command {
                    self.trouble(id, &error);
                }
                self.on_check_failed(id, format!("failed to {error}"));
            }
        }
    }

    fn on_check_passed(&mut self, id: ServiceId) {
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let State::Up(run) = &mut service.state else {
            return self.become_up(id);
        };
        if let (Some(probe), Some(health)) = (&mut run.probe, &service.spec.health) {
            probe.passed();
            let pause = health.test.interval.unwrap_or_default();
            self.out.timers.cancel(Timer::TestTimeout(id));
            self.out.timers.set(Timer::TestPause(id), now + pause);
        }
    }

    pub(super) fn on_test_timeout(&mut self, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let timeout = service.looked_at().map(|(test, _)| test.timeout);
        let Some(run) = service.run() else { return };
        let Some(aux) = run.probe.as_ref().and_then(|probe| probe.running) else {
            return;
        };
        run.end_aux(&mut self.out, aux);
        let timeout = timeout.unwrap_or_default();
        self.on_check_failed(id, format!("no answer within {timeout:?}"));
    }

    fn on_check_failed(&mut self, id: ServiceId, why: String) {
        let now = self.out.now;
        self.out.timers.cancel(Timer::TestTimeout(id));
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let leaving = service.stop_wanted.is_some();
        let spec = &service.spec;
        let (up, after, verdict) = match (&mut service.state, &spec.test, &spec.health) {
            (State::Starting(run), Some(test), _) => {
                let Some(probe) = &mut run.probe else { return };
                let after = probe.failed(test, now, why);
                let (failures, last) = (probe.failures(), probe.last_failure());
                let verdict = format!("its test failed {failures} times, at last: {last}");
                (false, after, verdict)
            }
            (State::Up(run), _, Some(health)) => {
                let Some(probe) = &mut run.probe else { return };
                let after = probe.unhealthy(health, now, why);
                let (failures, last) = (probe.counted(), probe.last_failure());
                let verdict =
                    format!("its health check failed {failures} times in a row, at last: {last}");
                (true, after, verdict)
            }
            _ => return,
        };
        let (AfterFailure::Again(pause) | AfterFailure::GiveUp(pause)) = after;
        let given_up = matches!(after, AfterFailure::GiveUp(_)) && !leaving;
        // Should a stop that is under way be taken back, the looks decide again.
        if up || !given_up {
            self.out.timers.set(Timer::TestPause(id), now + pause);
        }
        match given_up {
            true if up => self.become_unhealthy(id, verdict),
            true => self.fail_start(id, verdict),
            false => {}
        }
    }

    /// It is up and does not do its work: it goes down, those that require it first.
    fn become_unhealthy(&mut self, id: ServiceId, why: String) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        if service.stop_wanted.is_some() || !matches!(service.state, State::Up(_)) {
            return;
        }
        let detail = why.clone();
        service.failure = Some(why);
        let notice = Notice::Trouble {
            service: id,
            detail,
        };
        self.out.push(Effect::Notice(notice));
        let (cause, force) = (Cause::Unhealthy, true);
        self.want_stop(id, StopWanted { cause, force });
        self.cascade(id, force);
    }

    /// The next look may be made, unless the last one is still being cleared away.
    pub(super) fn on_test_pause(&mut self, id: ServiceId) {
        let mut clear = false;
        self.with_run(id, |run| {
            clear = run.looks_clear();
            if let Some(probe) = &mut run.probe {
                probe.due = !clear;
            }
        });
        if clear {
            return self.run_check(id);
        }
        let kill_timeout = self.services.get(&id).map(|s| s.spec.kill_timeout);
        let ends = self.out.now + kill_timeout.unwrap_or_default();
        self.out.timers.set(Timer::TestClear(id), ends);
    }

    /// The last look cannot be ended, so that there will not be another.
    pub(super) fn on_test_clear_timeout(&mut self, id: ServiceId) {
        let Some(service) = self.services.get(&id) else {
            return;
        };
        let timeout = service.spec.kill_timeout;
        let up = matches!(service.state, State::Up(_));
        if !up && !matches!(service.state, State::Starting(_)) {
            return;
        }
        if up || service.stop_wanted.is_some() {
            // Should the stop be taken back, this goes on.
            let again = self.out.now + timeout;
            self.out.timers.set(Timer::TestClear(id), again);
        }
        if up {
            let why = format!("its health check could not be ended within {timeout:?}");
            self.become_unhealthy(id, why);
        } else if service.stop_wanted.is_none() {
            let why = format!("its test could not be ended within {timeout:?}");
            self.fail_start(id, why);
        }
    }

    pub(super) fn on_aux_ended(&mut self, id: ServiceId, aux: OpId, error: Option<Failed>) {
        let mut due = false;
        self.with_run(id, |run| {
            run.auxes.remove(&aux);
            run.reload_aux.take_if(|reload| *reload == aux);
            due = run.looks_clear() && run.probe.as_ref().is_some_and(|probe| probe.due);
        });
        if let Some(error) = error {
            self.trouble(id, &error);
        }
        if due {
            self.out.timers.cancel(Timer::TestClear(id));
            self.run_check(id);
        }
    }

    // ---- what it says of itself ---------------------------------------------------------

    pub(super) fn on_told(&mut self, id: ServiceId, told: Told) {
        let now = self.out.now;
        match told {
            Told::Ready => {
                self.with_run(id, |run| {
                    run.said.ready = true;
                    run.said.reloading = false;
                });
                self.on_said_ready(id);
                self.on_said_reloaded(id);
            }
            Told::Stopping => self.with_run(id, |run| run.said.ending = true),
            Told::Reloading => {
                self.with_run(id, |run| run.said.reloading = true);
                self.on_said_reloading(id);
            }
            Told::MainPid(pid) => self.with_run(id, |run| {
                if matches!(run.main, Main::Alive(_)) {
                    run.main = Main::Alive(pid);
                    run.pid = Some(pid);
                }
            }),
            Told::Status(words) => self.with_run(id, |run| run.said.status = words),
            Told::Alive => {
                let Some(service) = self.services.get(&id) else {
                    return;
                };
                if let (State::Up(_), Some(watchdog)) = (&service.state, service.spec.watchdog) {
                    self.out.timers.set(Timer::Watchdog(id), now + watchdog);
                }
            }
            Told::GivesUp => self.become_unhealthy(id, "it said that it does not work".into()),
            Told::Extend(more) => {
                if let Some(ends) = self.out.timers.when(Timer::StartTimeout(id)) {
                    let ends = ends.max(now + more);
                    self.out.timers.set(Timer::StartTimeout(id), ends);
                }
            }
        }
    }

    fn on_said_ready(&mut self, id: ServiceId) {
        let Some(service) = self.services.get(&id) else {
            return;
        };
        let State::Starting(run) = &service.state else {
            return;
        };
        let spec = &service.spec;
        // What it says before counts when its readiness begins.
        let begun = run.execed && (!spec.remain || run.remains);
        if spec.is_told() && begun && !spec.oneshot {
            self.become_up(id);
        }
    }

    /// It has not said in time that it is alive.
    pub(super) fn on_watchdog(&mut self, id: ServiceId) {
        let Some(service) = self.services.get(&id) else {
            return;
        };
        let (State::Up(_), Some(watchdog)) = (&service.state, service.spec.watchdog) else {
            return;
        };
        // Should a stop that is under way be taken back, it has its time again.
        let again = self.out.now + watchdog;
        self.out.timers.set(Timer::Watchdog(id), again);
        self.become_unhealthy(
            id,
            format!("it has not said for {watchdog:?} that it is alive"),
        );
    }
}
