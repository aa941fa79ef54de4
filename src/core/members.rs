//! Services that come and go while the supervisor runs.
//!
//! A service is taken out only when nothing of it is left and nobody wants it; what waits for
//! its name waits on, as for one that was never there. One that is taken in may close no cycle:
//! whatever runs, and the order it goes down in, stays as it is.

use super::ServiceId;
use super::effect::Effect;
use super::machine::Supervisor;
use super::receipt::Cause;
use super::request::{Reply, RequestError, RequestId};
use super::service::{State, StopWanted, Target};
use super::spec::Spec;

impl Supervisor {
    /// Takes in a service that was not there.
    pub(super) fn on_load_request(&mut self, request: RequestId, mut spec: Spec) {
        if self.shutdown.is_some() {
            return self.reply(request, Reply::Error(RequestError::ShuttingDown));
        }
        let service = spec.name.clone();
        if self.graph.find(&service).is_some() {
            let error = RequestError::AlreadyLoaded { service };
            return self.reply(request, Reply::Error(error));
        }
        self.imply_order_of_one(&mut spec);
        let id = self.add(spec, false);
        let cycle = self.graph.cycle_through(id);
        if !cycle.is_empty() {
            let cycle = self.graph.cycle_text(&cycle);
            self.take_out(id);
            let error = RequestError::Cycle { service, cycle };
            return self.reply(request, Reply::Error(error));
        }
        if self.services.values().any(|service| service.ghost) {
            let unordered = self.graph.unordered();
            self.graph.forget_ghosts_on_cycles(&unordered);
        }
        self.drop_stop_cycles();
        self.mark_concerned(id);
        // Who waits in vain for a name may hope again.
        self.hope_lost = true;
        self.reply(request, Reply::Accepted);
    }

    /// Takes out a service of which nothing is left.
    pub(super) fn on_forget_request(&mut self, request: RequestId, id: ServiceId) {
        let reply = match self.keeps(id) {
            Some(error) => Reply::Error(error),
            None => {
                self.mark_concerned(id);
                self.take_out(id);
                self.hope_lost = true;
                Reply::Accepted
            }
        };
        self.reply(request, reply);
    }

    /// Why a service cannot be taken out; `None`: it can.
    fn keeps(&self, id: ServiceId) -> Option<RequestError> {
        let service = self.services.get(&id)?;
        let own = [id];
        for holder in own.iter().chain(self.graph.ghosts_of(id)) {
            let Some(holder) = self.services.get(holder) else {
                continue;
            };
            if let State::Lingering(ladder) = &holder.state {
                let receipt = Box::new(ladder.receipt().clone());
                return Some(RequestError::Lingering(receipt));
            }
            if holder.state.active() || holder.target == Target::Up {
                return Some(RequestError::IsUp {
                    service: service.spec.name.clone(),
                    state: holder.state.as_str(),
                });
            }
        }
        None
    }

    fn take_out(&mut self, id: ServiceId) {
        self.out.timers.cancel_service(id);
        let name = self.graph.name_of(id).to_owned();
        let service = self.services.remove(&id);
        if service.is_some_and(|service| service.holds) {
            self.out.push(Effect::Close { service: id });
        }
        self.graph.remove(id);
        self.dirty.remove(&id);
        self.recheck.remove(&id);
        for waiting in self.start_waits.remove(&id).unwrap_or_default() {
            let service = name.clone();
            self.reply(waiting, Reply::Error(RequestError::Superseded { service }));
        }
        if let Some(held) = self.held.remove(&id) {
            self.dirty.extend(held);
        }
    }

    /// Nobody who waits for the service, directly or through others, is wanted any more.
    pub(super) fn put_dependents_down(&mut self, id: ServiceId, force: bool) {
        for dependent in self.all_dependents(id) {
            let Some(service) = self.services.get_mut(&dependent) else {
                continue;
            };
            service.target = Target::Down;
            service.again = false;
            service.held = false;
            service.demanded = false;
            self.hope_lost = true;
            match &service.state {
                State::Starting(_) | State::Up(_) => {
                    let force = force || service.stop_wanted.is_some_and(|wanted| wanted.force);
                    let cause = Cause::Stop;
                    self.want_stop(dependent, StopWanted { cause, force });
                }
                State::Blocked { .. }
                | State::Listening { .. }
                | State::Backoff { .. }
                | State::Failed { .. }
                | State::Done => self.put_down(dependent),
                State::Down | State::Stopping(_) | State::Lingering(_) => {}
            }
            self.close_unless_kept(dependent);
        }
    }

    /// Every configured service that waits for this one, directly or through others.
    pub(super) fn all_dependents(&self, id: ServiceId) -> Vec<ServiceId> {
        let mut seen = std::collections::BTreeSet::from([id]);
        let mut open = vec![id];
        let mut found = Vec::new();
        while let Some(at) = open.pop() {
            for dependent in self.graph.dependents(at) {
                if seen.insert(dependent) {
                    open.push(dependent);
                    if self.services.get(&dependent).is_some_and(|s| !s.ghost) {
                        found.push(dependent);
                    }
                }
            }
        }
        found
    }
}
