//! Stops that do not come to pass: taken back by a request, or halted by a dependent that lingers.

use std::collections::BTreeSet;

use super::ServiceId;
use super::effect::{Effect, Notice};
use super::machine::Supervisor;
use super::receipt::{Cause, Receipt};
use super::request::{Reply, RequestError, RequestId};
#[cfg(test)]
use super::sabotage::{Bug, planted};
use super::service::{State, StopWanted, Target};

impl Supervisor {
    /// A wanted stop that has not begun does not happen, unless a service it requires goes down.
    pub(super) fn take_back_stop(&mut self, id: ServiceId) {
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
        if self.lost_requirement(id).is_some() {
            let cause = Cause::Dependency;
            self.want_stop(id, StopWanted { cause, force: true });
            self.cascade(id, true);
        }
        self.mark_concerned(id);
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
            let stops = std::mem::take(&mut service.stop_waits);
            let starts = self.start_waits.remove(id).unwrap_or_default();
            let waits = stops.into_iter().chain(starts);
            self.out.push(Effect::Notice(Notice::Trouble {
                service: *id,
                detail: format!("left running: {} lingers", receipt.service),
            }));
            for request in waits {
                let error = RequestError::DependentLingers(Box::new(receipt.clone()));
                self.reply(request, Reply::Error(error));
            }
        }
        for id in halted {
            self.follow_lost_requirement(id);
        }
    }

    /// Without force a service is not taken from under a requirer that still lives on.
    pub(super) fn refuse_below_lingering(&mut self, request: RequestId, id: ServiceId) -> bool {
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
}
