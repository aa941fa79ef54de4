//! Who waits for whom: what keeps a service from starting, and a stop from being asked.

use std::collections::BTreeSet;

use super::ServiceId;
use super::graph::NameId;
use super::machine::Supervisor;
#[cfg(test)]
use super::sabotage::{Bug, planted};
use super::service::{Service, State, StopWanted};

impl Supervisor {
    /// The service shall go down as soon as its dependents are through.
    pub(super) fn want_stop(&mut self, id: ServiceId, wanted: StopWanted) {
        if let Some(service) = self.services.get_mut(&id) {
            self.descents += u64::from(!service.going_down());
            service.stop_wanted = Some(wanted);
            self.dirty.insert(id);
        }
    }

    /// Why a wanted service cannot start now; `None`: it can.
    pub(super) fn blocked_by(&mut self, id: ServiceId) -> Option<String> {
        #[cfg(test)]
        if planted(Bug::NoDependencyGuard) {
            return None;
        }
        if let Some(why) = self.cannot_listen(id) {
            return Some(why);
        }
        if let Some(why) = self.unready_dependency(id) {
            return Some(why);
        }
        if let Some((name, state)) = self.lost_requirement(id) {
            let name = self.graph.name(name);
            return Some(format!(
                "{name}, which what it requires requires, is {state}"
            ));
        }
        let requirer = self.blocking_dependent(id, true)?;
        self.held.entry(requirer).or_default().insert(id);
        let name = self.graph.name_of(requirer);
        Some(format!("{name}, which requires it, is stopping"))
    }

    /// Why a wanted service cannot even listen now: who is to be ended first may hold its addresses.
    pub(super) fn cannot_listen(&self, id: ServiceId) -> Option<String> {
        if self.leftovers > 0 {
            return Some("what an earlier supervisor left behind is being ended".into());
        }
        let haunted = || "an earlier start of it lingers".into();
        self.haunted(id).then(haunted)
    }

    /// Whether an earlier start of it lingers beside which it was not told to start.
    pub(super) fn haunted(&self, id: ServiceId) -> bool {
        let ghosts = self.graph.ghosts_of(id).iter();
        let mut ghosts = ghosts.filter_map(|ghost| self.services.get(ghost));
        ghosts.any(|ghost| !ghost.accepted)
    }

    /// Something that the service waits for by its own file, and that is not ready.
    fn unready_dependency(&mut self, id: ServiceId) -> Option<String> {
        let unready = |id: ServiceId| {
            let dependency = self.services.get(&id).filter(|service| !service.ready())?;
            let (name, state) = (&dependency.spec.name, dependency.state.as_str());
            Some(format!("{name} is {state}"))
        };
        // The one that was not ready last time most likely still is not.
        let last = self.services.get(&id)?.blocked_on;
        if let Some(why) = last.and_then(unready) {
            return Some(why);
        }
        let mut waits = Vec::new();
        for name in self.graph.edges(id)?.dependencies() {
            match self.graph.primary(name) {
                None => return Some(format!("{} is unknown", self.graph.name(name))),
                Some(dependency) if !self.services.get(&dependency)?.ready() => {
                    waits.push(dependency);
                }
                Some(_) => {}
            }
        }
        // From the middle: whether they become ready in order or against it, this is looked for
        // only a few times.
        let blocker = waits.get(waits.len() / 2).copied();
        let why = blocker.and_then(unready);
        self.services.get_mut(&id)?.blocked_on = blocker;
        why
    }

    /// Something that the service requires, directly or through what is done, and that is not
    /// ready.
    pub(super) fn lost_requirement(&self, id: ServiceId) -> Option<(NameId, &'static str)> {
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            let names = self.graph.edges(at).into_iter().flat_map(|e| &e.requires);
            for name in names {
                let required = self.graph.primary(*name);
                let Some((required, service)) =
                    required.and_then(|id| Some((id, self.services.get(&id)?)))
                else {
                    #[cfg(test)]
                    if planted(Bug::ForgottenIsReady) {
                        continue;
                    }
                    return Some((*name, "unknown"));
                };
                if !service.ready() {
                    return Some((*name, service.state.as_str()));
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

    pub(super) fn going_down(&self, id: ServiceId) -> bool {
        self.services.get(&id).is_some_and(Service::going_down)
    }

    /// A dependent, direct or through others, that is on its way down and has no verdict yet.
    pub(super) fn blocking_dependent(
        &mut self,
        id: ServiceId,
        requires_only: bool,
    ) -> Option<ServiceId> {
        #[cfg(test)]
        if !requires_only && planted(Bug::NoDependentsGuard) {
            return None;
        }
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        let mut next = Vec::new();
        while let Some(at) = open.pop() {
            #[cfg(test)]
            if !requires_only && at != id && planted(Bug::DirectDependentsOnly) {
                continue;
            }
            next.clear();
            if requires_only {
                next.extend(self.graph.requirers(at));
            } else {
                self.extend_stopped_before(id, at, &mut next);
            }
            next.retain(|dependent| seen.insert(*dependent));
            // From the middle, as above.
            let down = next.iter().filter(|dependent| self.going_down(**dependent));
            let down: Vec<ServiceId> = down.copied().collect();
            if let Some(blocker) = down.get(down.len() / 2) {
                return Some(*blocker);
            }
            let opens = next
                .iter()
                .filter(|id| self.may_hide_descent(**id, requires_only));
            open.extend(opens);
        }
        if !requires_only && let Some(service) = self.services.get_mut(&id) {
            service.clear_since = Some(self.descents);
        }
        None
    }

    /// Who comes before `at` in the stop of `id`. What an earlier supervisor left goes down by the
    /// order it was started in: today's `stop_after` means nothing to it, and could close a cycle.
    fn extend_stopped_before(&self, id: ServiceId, at: ServiceId, next: &mut Vec<ServiceId>) {
        if self.services.get(&id).is_some_and(|service| service.ghost) {
            next.extend(self.graph.dependents(at));
        } else {
            next.extend(self.graph.stopped_before(at));
        }
    }

    /// Whether something above a service that is not going down itself may be.
    fn may_hide_descent(&self, id: ServiceId, requires_only: bool) -> bool {
        let Some(service) = self.services.get(&id) else {
            return false;
        };
        // Nothing above it was going down, and nothing anywhere began to since.
        let clear = service.clear_since == Some(self.descents);
        // What never started holds no requirer that could be running.
        let fresh =
            requires_only && service.starts == 0 && !service.ghost && !self.graph.was_forgotten(id);
        !clear && !fresh
    }
}
