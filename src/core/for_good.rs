//! The end of a service that is not started again, and what it means to everything else.
//!
//! ```text
//!  ended, or could not be started ─► restart policy ─► again: nothing else is asked
//!                                         └─► for good ─► essential ─► on_failure ─► on_end
//! ```

use super::ServiceId;
use super::effect::{Effect, EndedAll, Notice, ShutdownKind};
use super::event::Exit;
use super::machine::Supervisor;
use super::receipt::Cause;
#[cfg(test)]
use super::sabotage::{Bug, planted};
use super::service::{Ended, Service, State, Target};
use super::spec::{EndAction, RestartWhen};

/// The exit code for what has none of its own: as env(1) has it for its own failures.
const NO_CODE: u8 = 125;

impl Service {
    /// Whether its end, for this cause, was none that anybody has to worry about.
    pub(super) fn succeeded(&self, cause: Cause) -> bool {
        let exit = self.last.as_ref().and_then(|last| last.exit);
        cause == Cause::Ended && self.failure.is_none() && exit.is_some_and(Exit::success)
    }

    /// Whether its file has it started again after such an end, or on demand have it listen again;
    /// how often is another question.
    pub(super) fn restarts_after(&self, success: bool) -> bool {
        let idle = success && self.spec.on_demand;
        let again = idle
            || match self.spec.restart.when {
                RestartWhen::Always => true,
                RestartWhen::OnFailure => !success,
                RestartWhen::Never => false,
            };
        again && !self.spec.oneshot
    }
}

impl Supervisor {
    /// It ended and somebody of it lives on: it will not be started again before that is over,
    /// and what its end means does not wait for it if it would not be even then.
    pub(super) fn on_lingers(&mut self, id: ServiceId, cause: Cause) {
        let Some(service) = self.services.get(&id) else {
            return;
        };
        let ended = cause.of_itself() && !service.ghost;
        let wanted = service.target == Target::Up && !service.again;
        let success = service.succeeded(cause);
        if ended && wanted && !service.restarts_after(success) {
            self.on_ended_for_good(id, success);
        }
    }

    /// It is not started again by itself. One that was given up has failed, whatever its last
    /// exit was.
    pub(super) fn on_ended_for_good(&mut self, id: ServiceId, success: bool) {
        #[cfg(test)]
        if planted(Bug::EndIgnored) {
            return;
        }
        let Some(service) = self.services.get(&id) else {
            return;
        };
        let spec = &service.spec;
        let exit = service.last.as_ref().and_then(|last| last.exit);
        let of_its_own = EndedAll {
            service: spec.name.clone(),
            code: exit_code(success, exit),
        };
        let (key, code) = if spec.essential {
            ("essential", true)
        } else if !success && spec.on_failure == EndAction::StopAll {
            ("on_failure", true)
        } else if spec.on_end == EndAction::StopAll {
            ("on_end", false)
        } else {
            return self.on_main_role_ended(id, of_its_own);
        };
        if self.shutdown.is_some() {
            return;
        }
        let how = match (&service.failure, exit) {
            (Some(failure), _) => failure.clone(),
            (None, Some(exit)) => exit.to_string(),
            (None, None) => "it has ended".into(),
        };
        let because = EndedAll {
            code: if code { of_its_own.code } else { 0 },
            ..of_its_own
        };
        self.out.push(Effect::Notice(Notice::StopsAll {
            service: id,
            key,
            how,
        }));
        self.begin_shutdown(ShutdownKind::PowerOff, Some(because));
    }

    /// Why this place does not promise what the service asks for at least; `None`: it does.
    pub(super) fn below_guarantee(&self, id: ServiceId) -> Option<String> {
        let spec = &self.services.get(&id)?.spec;
        let least = spec.min_guarantee?;
        let here = spec.guarantee(self.settings.guarantee);
        if here.meets(least) {
            return None;
        }
        let mut wanted = Vec::new();
        if here.containment > least.containment {
            wanted.push(least.containment.as_str());
        }
        if here.scan > least.scan {
            wanted.push(least.scan.as_str());
        }
        let mut why = format!(
            "its min_guarantee asks for {}, and this place has {here}",
            wanted.join(" ")
        );
        if !self.settings.shortfall.is_empty() {
            why = format!("{why} ({})", self.settings.shortfall);
        }
        Some(why)
    }

    /// It is not even tried.
    pub(super) fn refuse_start(&mut self, id: ServiceId, why: String) {
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.again = false;
        service.failure = Some(why.clone());
        service.last = Some(Box::new(Ended {
            pid: None,
            exit: None,
            failure: Some(why.clone()),
            at: now,
        }));
        self.set_state(id, State::Failed { why });
        self.cascade(id, true);
        self.on_ended_for_good(id, false);
    }
}

fn exit_code(success: bool, exit: Option<Exit>) -> u8 {
    let code = match exit {
        _ if success => 0,
        Some(Exit::Code(code)) if code != 0 => code,
        Some(Exit::Signal { signal, .. }) => 128 + signal,
        Some(Exit::Code(_)) | None => i32::from(NO_CODE),
    };
    u8::try_from(code).unwrap_or(NO_CODE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_the_services_own_and_never_0_for_a_failure() {
        let signal = |signal| {
            let core = false;
            Some(Exit::Signal { signal, core })
        };
        for (success, exit, code) in [
            (true, Some(Exit::Code(0)), 0),
            (false, Some(Exit::Code(3)), 3),
            (false, signal(9), 137),
            (false, signal(64), 192),
            (false, Some(Exit::Code(0)), NO_CODE),
            (false, None, NO_CODE),
        ] {
            assert_eq!(exit_code(success, exit), code, "{success} {exit:?}");
        }
    }
}
