//! Requests: what each asks of the graph, and when it is answered. Each gets exactly one reply.

use super::ServiceId;
use super::effect::Effect;
use super::lifecycle::starting_again;
use super::machine::Supervisor;
use super::receipt::Cause;
use super::request::{Reply, Request, RequestError, RequestId};
#[cfg(test)]
use super::sabotage::{Bug, planted};
use super::service::{Service, State, StopWanted, Target};
use super::time::Timer;

/// Who goes down with a service that is asked to stop, and whether what is kept open for it stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Along {
    Nobody,
    NobodyAndHold,
    Dependents,
}

impl Supervisor {
    pub(super) fn on_request(&mut self, id: RequestId, request: Request) {
        let name = match request {
            Request::Shutdown { kind } => return self.on_shutdown_request(id, kind),
            Request::Load { spec } => return self.on_load_request(id, *spec),
            Request::Amend { specs } => return self.on_amend_request(id, specs),
            Request::Start { ref service, .. }
            | Request::Stop { ref service, .. }
            | Request::StopWithDependents { ref service, .. }
            | Request::StopToAmend { ref service }
            | Request::Reload { ref service }
            | Request::Forget { ref service }
            | Request::Restart { ref service, .. } => service,
        };
        let Some(service) = self.graph.find(name) else {
            let stops = matches!(
                request,
                Request::Stop { .. }
                    | Request::StopWithDependents { .. }
                    | Request::StopToAmend { .. }
            );
            if stops && self.stop_ghosts(id, name) {
                return;
            }
            let error = RequestError::NotFound {
                service: name.clone(),
            };
            return self.reply(id, Reply::Error(error));
        };
        match request {
            Request::Stop { force, .. } => self.on_stop_request(id, service, force, Along::Nobody),
            Request::StopWithDependents { force, .. } => {
                self.on_stop_request(id, service, force, Along::Dependents);
            }
            Request::StopToAmend { .. } => {
                self.on_stop_request(id, service, false, Along::NobodyAndHold);
            }
            Request::Start { .. }
            | Request::Restart { .. }
            | Request::Reload { .. }
            | Request::Forget { .. }
                if self.shutdown.is_some() =>
            {
                self.reply(id, Reply::Error(RequestError::ShuttingDown));
            }
            Request::Start { wait, force, .. } => self.on_start_request(id, service, wait, force),
            Request::Restart { wait, .. } => self.on_restart_request(id, service, wait),
            Request::Forget { .. } => self.on_forget_request(id, service),
            Request::Reload { .. } => self.on_reload_request(id, service),
            Request::Shutdown { .. } | Request::Load { .. } | Request::Amend { .. } => {}
        }
    }

    pub(super) fn reply(&mut self, id: RequestId, reply: Reply) {
        self.out.push(Effect::Reply { id, reply });
    }

    fn on_start_request(&mut self, request: RequestId, id: ServiceId, wait: bool, force: bool) {
        if let Some(service) = self.services.get_mut(&id) {
            service.held = false;
        }
        if let Some(error) = self.unstartable(id) {
            self.close_unless_kept(id);
            return self.reply(request, Reply::Error(error));
        }
        #[cfg(test)]
        let force = force || planted(Bug::TwoGenerations);
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        if let State::Lingering(ladder) = &service.state {
            if !force {
                let receipt = Box::new(ladder.receipt().clone());
                self.close_unless_kept(id);
                return self.reply(request, Reply::Error(RequestError::Lingering(receipt)));
            }
            self.set_aside(id);
        }
        if force {
            self.accept_ghosts(id);
        }
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.target = Target::Up;
        service.demanded = true;
        match &service.state {
            State::Down
            | State::Listening { .. }
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Done => {
                service.backoff.reset();
                self.out.timers.cancel(Timer::Backoff(id));
                self.set_state(id, starting_again());
            }
            State::Starting(_) | State::Up(_) => {
                // A stop that has not begun is taken back; after one for another reason it comes
                // up again.
                if service
                    .stop_wanted
                    .is_some_and(|wanted| wanted.cause == Cause::Stop)
                {
                    self.take_back_stop(id);
                }
            }
            State::Stopping(_) => service.again = true,
            State::Blocked { .. } | State::Lingering(_) => {
                self.dirty.insert(id);
            }
        }
        self.wait_for_start(request, id, wait);
    }

    /// A service on a cycle can never start, nor one that asks for more than this place can
    /// promise.
    fn unstartable(&self, id: ServiceId) -> Option<RequestError> {
        let cycle = self.graph.cycle_through(id);
        let why = if cycle.is_empty() {
            self.below_guarantee(id)?
        } else {
            format!("dependency cycle: {}", self.graph.cycle_text(&cycle))
        };
        let service = self.services.get(&id)?.spec.name.clone();
        Some(RequestError::Refused { service, why })
    }

    /// Whatever of it lingers now no longer keeps it from starting, this time or later.
    fn accept_ghosts(&mut self, id: ServiceId) {
        for ghost in self.graph.ghosts_of(id) {
            if let Some(ghost) = self.services.get_mut(ghost) {
                ghost.accepted = true;
            }
        }
    }

    /// The lingering generation becomes a ghost of its own, so that the service can start
    /// beside it.
    fn set_aside(&mut self, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let spec = service.spec.as_ref().clone();
        let State::Lingering(mut ladder) = std::mem::replace(&mut service.state, State::Down)
        else {
            return;
        };
        let ghost = self.add(spec, true);
        self.out.timers.hand_over(id, ghost);
        self.gens.insert(ladder.r#gen, ghost);
        ladder.on_hint(&mut self.out, ghost);
        if let Some(service) = self.services.get_mut(&ghost) {
            service.receipt = Some(Box::new(ladder.receipt().clone()));
            service.state = State::Lingering(ladder);
        }
    }

    fn on_restart_request(&mut self, request: RequestId, id: ServiceId, wait: bool) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        match &service.state {
            State::Starting(_) | State::Up(_) => {
                let force = service.stop_wanted.is_some_and(|wanted| wanted.force);
                if !force && self.refuse_below_lingering(request, id) {
                    return;
                }
                let Some(service) = self.services.get_mut(&id) else {
                    return;
                };
                service.target = Target::Up;
                service.again = true;
                service.backoff.reset();
                let cause = Cause::Restart;
                self.want_stop(id, StopWanted { cause, force });
                self.cascade(id, false);
                self.wait_for_start(request, id, wait);
            }
            State::Done => {
                self.cascade(id, false);
                self.on_start_request(request, id, wait, false);
            }
            State::Down
            | State::Blocked { .. }
            | State::Listening { .. }
            | State::Stopping(_)
            | State::Lingering(_)
            | State::Backoff { .. }
            | State::Failed { .. } => self.on_start_request(request, id, wait, false),
        }
    }

    fn on_stop_request(&mut self, request: RequestId, id: ServiceId, force: bool, along: Along) {
        let shutting_down = self.shutdown.is_some();
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let running = matches!(service.state, State::Starting(_) | State::Up(_));
        let force = force || service.stop_wanted.is_some_and(|wanted| wanted.force);
        if running && !force && !shutting_down && self.refuse_below_lingering(request, id) {
            return;
        }
        if along == Along::Dependents && !shutting_down {
            self.put_dependents_down(id, force);
        }
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.target = Target::Down;
        service.again = false;
        service.demanded = false;
        service.held = along == Along::NobodyAndHold && !shutting_down;
        self.hope_lost = true;
        match &mut service.state {
            State::Starting(_) | State::Up(_) => {
                if !shutting_down {
                    let cause = Cause::Stop;
                    self.want_stop(id, StopWanted { cause, force });
                    self.cascade(id, force);
                }
                self.push_stop_wait(id, request);
            }
            State::Stopping(_) => {
                self.push_stop_wait(id, request);
                self.close_unless_kept(id);
            }
            State::Lingering(ladder) => {
                ladder.kill_again(&mut self.out);
                let receipt = Box::new(ladder.receipt().clone());
                self.reply(request, Reply::Error(RequestError::Lingering(receipt)));
                self.close_unless_kept(id);
            }
            State::Down
            | State::Blocked { .. }
            | State::Listening { .. }
            | State::Backoff { .. }
            | State::Failed { .. } => {
                self.stop_what_is_down(request, id);
            }
            State::Done => {
                self.cascade(id, force);
                self.stop_what_is_down(request, id);
            }
        }
    }

    /// Nothing of the service itself is to be stopped; earlier generations of it may be.
    fn stop_what_is_down(&mut self, request: RequestId, id: ServiceId) {
        self.put_down(id);
        let name = self.services.get(&id).map(|s| s.spec.name.clone());
        if !self.stop_ghosts(request, &name.unwrap_or_default()) {
            self.reply(request, Reply::AlreadyDown);
        }
    }

    /// Answers for the leftovers and lingering generations of this name; `false`: there are none.
    fn stop_ghosts(&mut self, request: RequestId, name: &str) -> bool {
        let ghosts = self.graph.ghosts_named(name).to_vec();
        let ending = ghosts.iter().find(|ghost| {
            let service = self.services.get(ghost);
            service.is_some_and(|service| service.state.active())
        });
        if let Some(ending) = ending {
            self.push_stop_wait(*ending, request);
            return true;
        }
        let mut lingering = None;
        for ghost in ghosts {
            if let Some(Service {
                state: State::Lingering(ladder),
                ..
            }) = self.services.get_mut(&ghost)
            {
                ladder.kill_again(&mut self.out);
                lingering = Some(Box::new(ladder.receipt().clone()));
            }
        }
        let Some(receipt) = lingering else {
            return false;
        };
        self.reply(request, Reply::Error(RequestError::Lingering(receipt)));
        true
    }

    fn push_stop_wait(&mut self, id: ServiceId, request: RequestId) {
        if let Some(service) = self.services.get_mut(&id) {
            service.stop_waits.push(request);
        }
    }

    pub(super) fn put_down(&mut self, id: ServiceId) {
        self.out.timers.cancel_service(id);
        let down = |state: &State| matches!(state, State::Down);
        if self
            .services
            .get(&id)
            .is_some_and(|service| !down(&service.state))
        {
            self.set_state(id, State::Down);
        }
        self.close_unless_kept(id);
    }
}
