//! A service reads its own configuration again: asked by a signal or a command, one at a time,
//! bounded, and answered when it is known what came of it.

use super::effect::{AuxKind, Effect};
use super::event::{Exit, Failed};
use super::machine::{Out, Supervisor};
use super::request::{Reply, RequestError, RequestId};
#[cfg(test)]
use super::sabotage::{Bug, planted};
use super::service::{Main, Run, Service, State};
use super::spec::ReloadBy;
use super::stop::AuxState;
use super::time::Timer;
use super::{OpId, ServiceId};

/// A reload that is under way.
#[derive(Clone, Debug)]
pub(super) struct Reloading {
    pub(super) request: RequestId,
    at: At,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// The signal is on its way, or the command runs.
    Asked(OpId),
    /// It has to say that it reloads.
    Begins,
    /// It has to say that it is ready again.
    Ends,
}

const LOOK: &str = "`nought status` says what it does";
const AGAIN: &str = "ask again when that one is done";
const LOG: &str = "its log may say why; it goes on with the configuration it has";

impl Supervisor {
    pub(super) fn on_reload_request(&mut self, request: RequestId, id: ServiceId) {
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        if let Some((why, hint)) = unreloadable(service) {
            let service = service.spec.name.clone();
            let error = RequestError::NotReloaded { service, why, hint };
            return self.reply(request, Reply::Error(error));
        }
        let (State::Up(run), Some(reload)) = (&mut service.state, &service.spec.reload) else {
            return;
        };
        let op = self.out.op();
        let at = At::Asked(op);
        run.reload = Some(Reloading { request, at });
        // What it said of an earlier one is no answer to this.
        run.said.reloading = false;
        let r#gen = run.r#gen;
        match reload.by {
            ReloadBy::Signal(signal) => self.out.push(Effect::Reload { r#gen, op, signal }),
            ReloadBy::Command(_) => {
                run.reload_aux = Some(op);
                run.auxes.insert(op, AuxState::Running);
                let (aux, kind) = (op, AuxKind::Reload);
                self.out.push(Effect::RunAux { r#gen, aux, kind });
            }
        }
        let ends = now + reload.timeout;
        self.out.timers.set(Timer::Reload(id), ends);
    }

    pub(super) fn on_reload_signalled(&mut self, id: ServiceId, op: OpId, error: Option<Failed>) {
        match error {
            Some(error) if self.reloads_at(id, At::Asked(op)) => {
                self.fail_reload(id, format!("failed to {error}"));
            }
            _ => self.on_reload_asked(id, op, false),
        }
    }

    /// The command has ended; nothing of it is left soon.
    pub(super) fn on_reload_command(
        &mut self,
        id: ServiceId,
        aux: OpId,
        result: Result<Exit, Failed>,
    ) {
        if !self.reloads_at(id, At::Asked(aux)) {
            return;
        }
        match result {
            Ok(exit) if exit.success() => self.on_reload_asked(id, aux, true),
            Ok(exit) => self.fail_reload(id, format!("its reload command ended with {exit}")),
            Err(error) => self.fail_reload(id, format!("failed to {error}")),
        }
    }

    /// It was asked; `done`: by a command, whose end says that it is done.
    fn on_reload_asked(&mut self, id: ServiceId, op: OpId, done: bool) {
        if !self.reloads_at(id, At::Asked(op)) {
            return;
        }
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let notify = service.spec.reload.as_ref().is_some_and(|r| r.notify);
        let Some(run) = service.run() else { return };
        let next = match (run.said.reloading, notify) {
            (true, _) => At::Ends,
            (false, true) => At::Begins,
            (false, false) => return self.answer_reload(id, Reply::Reloaded { done }),
        };
        if let Some(reload) = &mut run.reload {
            reload.at = next;
        }
    }

    pub(super) fn on_said_reloading(&mut self, id: ServiceId) {
        self.with_run(id, |run| {
            if let Some(reload) = run.reload.as_mut().filter(|reload| reload.at == At::Begins) {
                reload.at = At::Ends;
            }
        });
    }

    pub(super) fn on_said_reloaded(&mut self, id: ServiceId) {
        if self.reloads_at(id, At::Ends) {
            self.answer_reload(id, Reply::Reloaded { done: true });
        }
    }

    pub(super) fn on_reload_timeout(&mut self, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let timeout = service.spec.reload.as_ref().map(|reload| reload.timeout);
        let Some(run) = service.run() else { return };
        if let Some(aux) = run.reload_aux {
            run.end_aux(&mut self.out, aux);
        }
        let timeout = timeout.unwrap_or_default();
        self.fail_reload(id, format!("it is not done within {timeout:?}"));
    }

    fn reloads_at(&mut self, id: ServiceId, at: At) -> bool {
        let run = self.services.get_mut(&id).and_then(Service::run);
        run.and_then(|run| run.reload.as_ref())
            .is_some_and(|reload| reload.at == at)
    }

    fn fail_reload(&mut self, id: ServiceId, why: String) {
        let Some(service) = self.services.get(&id) else {
            return;
        };
        let service = service.spec.name.clone();
        let error = RequestError::NotReloaded {
            service,
            why,
            hint: LOG,
        };
        self.answer_reload(id, Reply::Error(error));
    }

    fn answer_reload(&mut self, id: ServiceId, reply: Reply) {
        self.out.timers.cancel(Timer::Reload(id));
        let run = self.services.get_mut(&id).and_then(Service::run);
        if let Some(reload) = run.and_then(|run| run.reload.take()) {
            self.reply(reload.request, reply);
        }
    }
}

/// It goes down: whoever waits for its reload waits in vain.
pub(super) fn give_up(out: &mut Out, run: &mut Run, name: &str) {
    #[cfg(test)]
    if planted(Bug::ReloadUnanswered) {
        return;
    }
    if let Some(reload) = run.reload.take() {
        let (service, why) = (name.to_owned(), "it went down meanwhile".into());
        let hint = LOOK;
        let error = RequestError::NotReloaded { service, why, hint };
        let (id, reply) = (reload.request, Reply::Error(error));
        out.push(Effect::Reply { id, reply });
    }
}

/// Why a service cannot be asked to reload, and what to do about it.
fn unreloadable(service: &Service) -> Option<(String, &'static str)> {
    let Some(reload) = &service.spec.reload else {
        let hint = "add `reload: SIGHUP` to its file, or a command; `nought reload` without a name \
                    reads the service files again";
        return Some(("its file has no `reload`".into(), hint));
    };
    let State::Up(run) = &service.state else {
        return Some((format!("it is {}", service.state.as_str()), LOOK));
    };
    if service.stop_wanted.is_some() {
        return Some(("it is about to stop".into(), LOOK));
    }
    if run.reload.is_some() || run.reload_aux.is_some() {
        return Some(("another reload of it is under way".into(), AGAIN));
    }
    let signals = matches!(reload.by, ReloadBy::Signal(_));
    if signals && !matches!(run.main, Main::Alive(_)) {
        let hint = "give its file a command: `reload: [CTL, reload]`";
        return Some(("there is no main process to signal".into(), hint));
    }
    None
}
