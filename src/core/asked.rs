//! Requests: what each asks of the graph, and when it is answered. Each gets exactly one reply.

use std::collections::BTreeSet;

use super::ServiceId;
use super::effect::{Effect, ShutdownKind};
use super::lifecycle::starting_again;
use super::machine::Supervisor;
use super::receipt::{Cause, Receipt, Verdict};
use super::request::{Reply, Request, RequestError, RequestId};
use super::service::{State, StopWanted, Target};
use super::shutdown::Phase;
use super::time::Timer;

impl Supervisor {
    pub(super) fn on_request(&mut self, id: RequestId, request: Request) {
        let (Request::Start { service: name, .. }
        | Request::Stop { service: name, .. }
        | Request::Restart { service: name, .. }) = &request
        else {
            if let Request::Shutdown { kind } = request {
                self.on_shutdown_request(id, kind);
            }
            return;
        };
        let Some(service) = self.graph.find(name) else {
            let error = RequestError::NotFound {
                service: name.clone(),
            };
            return self.reply(id, Reply::Error(error));
        };
        match request {
            Request::Stop { force, .. } => self.on_stop_request(id, service, force),
            Request::Start { .. } | Request::Restart { .. } if self.shutdown.is_some() => {
                self.reply(id, Reply::Error(RequestError::ShuttingDown));
            }
            Request::Start { wait, force, .. } => self.on_start_request(id, service, wait, force),
            Request::Restart { wait, .. } => self.on_restart_request(id, service, wait),
            Request::Shutdown { .. } => {}
        }
    }

    pub(super) fn reply(&mut self, id: RequestId, reply: Reply) {
        self.out.push(Effect::Reply { id, reply });
    }

    fn on_start_request(&mut self, request: RequestId, id: ServiceId, wait: bool, force: bool) {
        if let Some(error) = self.unstartable(id) {
            return self.reply(request, Reply::Error(error));
        }
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        if let State::Lingering(ladder) = &service.state {
            if !force {
                let receipt = Box::new(ladder.receipt().clone());
                return self.reply(request, Reply::Error(RequestError::Lingering(receipt)));
            }
            self.set_aside(id);
        }
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.target = Target::Up;
        service.forced |= force;
        match &service.state {
            State::Down | State::Backoff { .. } | State::Failed { .. } | State::Done => {
                service.backoff.reset();
                self.out.timers.cancel(Timer::Backoff(id));
                self.set_state(id, starting_again());
            }
            State::Starting(_) | State::Up(_) => {
                // A stop that has not begun is taken back; one for another reason comes again up.
                if service
                    .stop_wanted
                    .is_some_and(|wanted| wanted.cause == Cause::Stop)
                {
                    self.take_back_stop(id, |name| RequestError::Superseded { service: name });
                }
            }
            State::Stopping(_) => service.again = true,
            State::Blocked { .. } | State::Lingering(_) => {
                self.dirty.insert(id);
            }
        }
        self.wait_for_start(request, id, wait);
    }

    fn wait_for_start(&mut self, request: RequestId, id: ServiceId, wait: bool) {
        if wait {
            self.start_waits.insert(request, id);
        } else {
            self.reply(request, Reply::Accepted);
        }
    }

    /// A service on a cycle can never start.
    fn unstartable(&self, id: ServiceId) -> Option<RequestError> {
        let cycle = self.graph.cycle_through(id)?;
        let service = self.services.get(&id)?.spec.name.clone();
        Some(RequestError::Refused {
            service,
            why: format!("dependency cycle: {cycle}"),
        })
    }

    /// The lingering generation becomes a ghost of its own, so that the service can start
    /// beside it.
    fn set_aside(&mut self, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let spec = service.spec.clone();
        let State::Lingering(mut ladder) = std::mem::replace(&mut service.state, State::Down)
        else {
            return;
        };
        self.out.timers.cancel_service(id);
        let ghost = self.add(spec, true);
        self.gens.insert(ladder.r#gen, ghost);
        ladder.on_survivor_gone(&mut self.out, ghost);
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
                service.target = Target::Up;
                service.again = true;
                service.backoff.reset();
                if service
                    .stop_wanted
                    .is_none_or(|wanted| wanted.cause != Cause::Shutdown)
                {
                    let force = service.stop_wanted.is_some_and(|wanted| wanted.force);
                    service.stop_wanted = Some(StopWanted {
                        cause: Cause::Restart,
                        force,
                    });
                }
                self.dirty.insert(id);
                self.cascade(id, false);
                self.wait_for_start(request, id, wait);
            }
            _ => self.on_start_request(request, id, wait, false),
        }
    }

    fn on_stop_request(&mut self, request: RequestId, id: ServiceId, force: bool) {
        let shutting_down = self.shutdown.is_some();
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.target = Target::Down;
        service.again = false;
        match &mut service.state {
            State::Starting(_) | State::Up(_) => {
                if !shutting_down {
                    let force = force || service.stop_wanted.is_some_and(|wanted| wanted.force);
                    service.stop_wanted = Some(StopWanted {
                        cause: Cause::Stop,
                        force,
                    });
                    self.cascade(id, force);
                }
                self.dirty.insert(id);
                self.push_stop_wait(id, request);
            }
            State::Stopping(_) => self.push_stop_wait(id, request),
            State::Lingering(ladder) => {
                ladder.kill_again(&mut self.out);
                let receipt = Box::new(ladder.receipt().clone());
                self.reply(request, Reply::Error(RequestError::Lingering(receipt)));
            }
            State::Down | State::Blocked { .. } | State::Backoff { .. } | State::Failed { .. } => {
                self.put_down(id);
                self.reply(request, Reply::AlreadyDown);
            }
            State::Done => {
                self.cascade(id, force);
                self.put_down(id);
                self.reply(request, Reply::AlreadyDown);
            }
        }
    }

    fn push_stop_wait(&mut self, id: ServiceId, request: RequestId) {
        if let Some(service) = self.services.get_mut(&id) {
            service.stop_waits.push(request);
        }
    }

    fn put_down(&mut self, id: ServiceId) {
        self.out.timers.cancel_service(id);
        let down = |state: &State| matches!(state, State::Down);
        if self
            .services
            .get(&id)
            .is_some_and(|service| !down(&service.state))
        {
            self.set_state(id, State::Down);
        }
    }

    /// A wanted stop that has not begun does not happen.
    fn take_back_stop(&mut self, id: ServiceId, why: impl Fn(String) -> RequestError) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.stop_wanted = None;
        service.waits_for = None;
        service.again = false;
        service.target = Target::Up;
        let name = service.spec.name.clone();
        let mut waits = std::mem::take(&mut service.stop_waits);
        let starts = self
            .start_waits
            .iter()
            .filter(|(_, service)| **service == id);
        let is_error = !matches!(why(String::new()), RequestError::Superseded { .. });
        let starts: Vec<RequestId> = starts.map(|(request, _)| *request).collect();
        if is_error {
            for request in starts {
                self.start_waits.remove(&request);
                waits.push(request);
            }
        }
        for request in waits {
            self.reply(request, Reply::Error(why(name.clone())));
        }
        self.mark_concerned(id);
    }

    /// A dependent lingers: the stops that wait for it, and were not told to go on, halt here,
    /// and what they would have stopped is left running.
    pub(super) fn halt_stops_below(&mut self, id: ServiceId, receipt: &Receipt) {
        if self.shutdown.is_some() {
            return;
        }
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            let Some(edges) = self.graph.edges(at) else {
                continue;
            };
            let deps: Vec<ServiceId> = edges
                .requires
                .iter()
                .filter_map(|name| self.graph.primary(*name))
                .collect();
            for dep in deps {
                let Some(service) = self.services.get(&dep) else {
                    continue;
                };
                let halts = service.stop_wanted.is_some_and(|wanted| !wanted.force);
                if seen.insert(dep) && halts {
                    let receipt = Box::new(receipt.clone());
                    self.take_back_stop(dep, |_| RequestError::DependentLingers(receipt.clone()));
                    open.push(dep);
                }
            }
        }
    }

    // ---- answers that wait --------------------------------------------------------------

    pub(super) fn resolve_start_waits(&mut self) {
        if self.start_waits.is_empty() {
            return;
        }
        let waits: Vec<(RequestId, ServiceId)> = self
            .start_waits
            .iter()
            .map(|(request, id)| (*request, *id))
            .collect();
        for (request, id) in waits {
            if let Some(reply) = self.start_reply(id) {
                self.start_waits.remove(&request);
                self.reply(request, reply);
            }
        }
    }

    fn start_reply(&self, id: ServiceId) -> Option<Reply> {
        if self.shutdown.is_some() {
            return Some(Reply::Error(RequestError::ShuttingDown));
        }
        let service = self.services.get(&id)?;
        let name = service.spec.name.clone();
        if service.target == Target::Down {
            return Some(Reply::Error(RequestError::Superseded { service: name }));
        }
        let error = match &service.state {
            State::Up(_) | State::Done if service.stop_wanted.is_none() => {
                return Some(Reply::Reached {
                    state: service.state.as_str(),
                });
            }
            State::Starting(_) | State::Up(_) | State::Stopping(_) | State::Done | State::Down => {
                return None;
            }
            State::Lingering(ladder) => RequestError::Lingering(Box::new(ladder.receipt().clone())),
            State::Failed { why } => RequestError::Failed {
                service: name,
                why: why.clone(),
            },
            State::Backoff { .. } => {
                let last = service.last.as_ref();
                let failure = last.and_then(|last| last.failure.clone());
                let exit = last.and_then(|last| last.exit).map(|exit| exit.to_string());
                let why = failure.or(exit).unwrap_or_else(|| "ended".into());
                RequestError::Failed {
                    service: name,
                    why: format!("{why}; it is tried again"),
                }
            }
            State::Blocked { why } => {
                let hopeless = self.hopeless(id);
                return hopeless.then(|| {
                    let why = why.clone();
                    Reply::Error(RequestError::Blocked { service: name, why })
                });
            }
        };
        Some(Reply::Error(error))
    }

    /// Whether a blocked service waits for something that will not come by itself.
    fn hopeless(&self, id: ServiceId) -> bool {
        if self.leftovers > 0 {
            return false;
        }
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            let Some(service) = self.services.get(&at) else {
                return true;
            };
            if !service.forced && !self.graph.ghosts_of(at).is_empty() {
                return true;
            }
            let Some(edges) = self.graph.edges(at) else {
                return true;
            };
            for name in edges.dependencies() {
                let Some(dep) = self.graph.primary(name) else {
                    return true;
                };
                let Some(service) = self.services.get(&dep) else {
                    return true;
                };
                match &service.state {
                    State::Failed { .. } | State::Lingering(_) => return true,
                    State::Down => return true,
                    State::Done if !service.spec.oneshot => return true,
                    State::Blocked { .. } if seen.insert(dep) => open.push(dep),
                    _ if service.target == Target::Down => return true,
                    _ => {}
                }
            }
        }
        false
    }

    fn on_shutdown_request(&mut self, request: RequestId, kind: ShutdownKind) {
        if self.shutdown.is_none() {
            self.begin_shutdown(kind);
        }
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        if shutdown.phase == Phase::Stopping {
            shutdown.waits.push(request);
        } else {
            let reply = self.shutdown_reply();
            self.reply(request, reply);
        }
    }

    fn shutdown_reply(&self) -> Reply {
        Reply::ShutDown {
            lingering: self.with_verdict(Verdict::Lingering),
            unverified: self.with_verdict(Verdict::Unverified),
        }
    }

    /// Answers those that wait for the shutdown, and whoever still waits for anything.
    pub(super) fn reply_shutdown(&mut self) {
        let reply = self.shutdown_reply();
        let waits = self
            .shutdown
            .as_mut()
            .map(|shutdown| std::mem::take(&mut shutdown.waits));
        for request in waits.unwrap_or_default() {
            self.reply(request, reply.clone());
        }
        let starts = std::mem::take(&mut self.start_waits);
        let stops = self
            .services
            .values_mut()
            .flat_map(|s| std::mem::take(&mut s.stop_waits));
        let stops: Vec<RequestId> = stops.collect();
        for request in starts.into_keys().chain(stops) {
            self.reply(request, Reply::Error(RequestError::ShuttingDown));
        }
    }
}
