//! Requests: what each asks of the graph, and when it is answered. Each gets exactly one reply.

use std::collections::BTreeSet;

use super::ServiceId;
use super::effect::{Effect, ShutdownKind};
use super::lifecycle::starting_again;
use super::machine::Supervisor;
use super::receipt::{Cause, Receipt, Verdict};
use super::request::{Reply, Request, RequestError, RequestId};
#[cfg(test)]
use super::sabotage::{Bug, planted};
use super::service::{Service, State, StopWanted, Target};
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
            if matches!(request, Request::Stop { .. }) && self.stop_ghosts(id, name) {
                return;
            }
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
        #[cfg(test)]
        let force = force || planted(Bug::TwoGenerations);
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
        service.forced |= force && !service.state.active();
        match &service.state {
            State::Down | State::Backoff { .. } | State::Failed { .. } | State::Done => {
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
        let ghost = self.add(spec, true);
        self.out.timers.hand_over(id, ghost);
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
                service.stop_wanted = Some(StopWanted {
                    cause: Cause::Restart,
                    force,
                });
                self.dirty.insert(id);
                self.cascade(id, false);
                self.wait_for_start(request, id, wait);
            }
            State::Done => {
                self.cascade(id, false);
                self.on_start_request(request, id, wait, false);
            }
            State::Down
            | State::Blocked { .. }
            | State::Stopping(_)
            | State::Lingering(_)
            | State::Backoff { .. }
            | State::Failed { .. } => self.on_start_request(request, id, wait, false),
        }
    }

    /// Without force a service is not taken from under a requirer that still lives on.
    fn refuse_below_lingering(&mut self, request: RequestId, id: ServiceId) -> bool {
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        let mut found = None;
        while let Some(at) = open.pop() {
            for requirer in self.graph.requirers(at) {
                if !seen.insert(requirer) {
                    continue;
                }
                open.push(requirer);
                if let Some(State::Lingering(ladder)) =
                    self.services.get(&requirer).map(|service| &service.state)
                {
                    found = Some(Box::new(ladder.receipt().clone()));
                }
            }
        }
        let Some(receipt) = found else { return false };
        self.reply(
            request,
            Reply::Error(RequestError::DependentLingers(receipt)),
        );
        true
    }

    fn on_stop_request(&mut self, request: RequestId, id: ServiceId, force: bool) {
        let shutting_down = self.shutdown.is_some();
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let running = matches!(service.state, State::Starting(_) | State::Up(_));
        let force = force || service.stop_wanted.is_some_and(|wanted| wanted.force);
        if running && !force && !shutting_down && self.refuse_below_lingering(request, id) {
            return;
        }
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.target = Target::Down;
        service.again = false;
        service.forced = false;
        match &mut service.state {
            State::Starting(_) | State::Up(_) => {
                if !shutting_down {
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

    /// A wanted stop that has not begun does not happen, unless a service it requires goes down.
    fn take_back_stop(&mut self, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.stop_wanted = None;
        service.waits_for = None;
        service.again = false;
        service.target = Target::Up;
        let name = service.spec.name.clone();
        let waits = std::mem::take(&mut service.stop_waits);
        #[cfg(test)]
        if planted(Bug::LostReply) {
            return;
        }
        for request in waits {
            let service = name.clone();
            self.reply(request, Reply::Error(RequestError::Superseded { service }));
        }
        self.follow_lost_requirement(id);
    }

    /// After a stop was taken back: it goes down all the same when what it requires does.
    fn follow_lost_requirement(&mut self, id: ServiceId) {
        if self.lost_requirement(id).is_some()
            && let Some(service) = self.services.get_mut(&id)
        {
            service.stop_wanted = Some(StopWanted {
                cause: Cause::Dependency,
                force: true,
            });
            self.cascade(id, true);
        }
        self.mark_concerned(id);
    }

    /// Something that the service requires, directly or through what is done, and that is not
    /// ready.
    pub(super) fn lost_requirement(&self, id: ServiceId) -> Option<ServiceId> {
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            let names = self.graph.edges(at).into_iter().flat_map(|e| &e.requires);
            for name in names {
                let Some(required) = self.graph.primary(*name) else {
                    continue;
                };
                let Some(service) = self.services.get(&required) else {
                    continue;
                };
                if !service.ready() {
                    return Some(required);
                }
                #[cfg(test)]
                if planted(Bug::DirectRequirementsOnly) {
                    continue;
                }
                if matches!(service.state, State::Done) && seen.insert(required) {
                    open.push(required);
                }
            }
        }
        None
    }

    /// A dependent lingers: the stops below it that were not told to go on halt here, and what
    /// they would have stopped is left running.
    pub(super) fn halt_stops_below(&mut self, id: ServiceId, receipt: &Receipt) {
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        let mut halted = Vec::new();
        while let Some(at) = open.pop() {
            let names = self.graph.edges(at).into_iter().flat_map(|e| &e.requires);
            for dependency in names.filter_map(|name| self.graph.primary(*name)) {
                if seen.insert(dependency) {
                    open.push(dependency);
                    halted.push(dependency);
                }
            }
        }
        halted.retain(|id| {
            let wanted = self.services.get(id).and_then(|s| s.stop_wanted);
            wanted.is_some_and(|wanted| !wanted.force)
        });
        for id in &halted {
            let Some(service) = self.services.get_mut(id) else {
                continue;
            };
            service.stop_wanted = None;
            service.waits_for = None;
            service.again = false;
            service.target = Target::Up;
            let mut waits = std::mem::take(&mut service.stop_waits);
            let starts = self.start_waits.iter().filter(|(_, of)| *of == id);
            waits.extend(starts.map(|(request, _)| *request));
            for request in waits {
                self.start_waits.remove(&request);
                let error = RequestError::DependentLingers(Box::new(receipt.clone()));
                self.reply(request, Reply::Error(error));
            }
        }
        for id in halted {
            self.follow_lost_requirement(id);
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
                    // What it requires may have been lost since.
                    State::Done if seen.insert(dep) => open.push(dep),
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
