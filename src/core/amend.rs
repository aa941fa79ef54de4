//! Definitions that change while the supervisor runs.
//!
//! A service that runs takes over what needs no new start; one that does not run takes over
//! everything. The order of all of them changes in one step, or not at all: what is half old and
//! half new could be a cycle that neither was.

use std::collections::BTreeSet;

use super::ServiceId;
use super::machine::Supervisor;
use super::request::{Reply, RequestError, RequestId};
use super::service::{Service, State};
use super::spec::Spec;
use super::time::Timer;

impl Supervisor {
    /// Takes over new definitions of services that are there, all of them or none.
    pub(super) fn on_amend_request(&mut self, request: RequestId, specs: Vec<Spec>) {
        if self.shutdown.is_some() {
            return self.reply(request, Reply::Error(RequestError::ShuttingDown));
        }
        let mut amended = Vec::with_capacity(specs.len());
        for spec in specs {
            match self.amendable(&spec) {
                Ok(id) => amended.push((id, spec)),
                Err(error) => return self.reply(request, Reply::Error(error)),
            }
        }
        let old: Vec<(ServiceId, Spec)> = amended
            .iter()
            .filter_map(|(id, _)| Some((*id, self.services.get(id)?.spec.as_ref().clone())))
            .collect();
        self.reorder(&amended);
        let cyclic = amended.iter().find_map(|(id, spec)| {
            let cycle = self.graph.cycle_through(*id);
            (!cycle.is_empty()).then(|| (spec.name.clone(), self.graph.cycle_text(&cycle)))
        });
        if let Some((service, cycle)) = cyclic {
            self.reorder(&old);
            let error = RequestError::Cycle { service, cycle };
            return self.reply(request, Reply::Error(error));
        }
        self.drop_stop_cycles();
        for (id, spec) in amended {
            self.amend(id, spec);
        }
        self.look_at_all_again();
        self.reply(request, Reply::Accepted);
    }

    /// Which service it is a definition of, unless that runs and would have to start anew.
    fn amendable(&self, spec: &Spec) -> Result<ServiceId, RequestError> {
        let service = spec.name.clone();
        let found = self.graph.find(&spec.name);
        let Some((id, known)) = found.and_then(|id| Some((id, self.services.get(&id)?))) else {
            return Err(RequestError::NotFound { service });
        };
        let differences = known.spec.differences(spec);
        let at_start = differences.iter().filter(|d| d.at_start);
        let keys: Vec<&str> = at_start.map(|d| d.key).collect();
        if known.state.active() && !keys.is_empty() {
            let keys = keys.join(", ");
            let why = format!(
                "it is {}, and {keys} needs a new start",
                known.state.as_str()
            );
            return Err(RequestError::Refused { service, why });
        }
        Ok(id)
    }

    fn reorder(&mut self, specs: &[(ServiceId, Spec)]) {
        for (id, spec) in specs {
            self.graph
                .set_dependencies(*id, &spec.after, &spec.requires);
            self.graph.set_stop_after(*id, &spec.stop_after);
        }
    }

    fn amend(&mut self, id: ServiceId, spec: Spec) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let looked_otherwise = service.spec.health != spec.health;
        *service.spec = spec;
        if let (true, State::Up(run)) = (looked_otherwise, &mut service.state) {
            // A look that is under way is one at what does not count any more.
            let running = run.probe.take().and_then(|probe| probe.running);
            if let Some(aux) = running {
                run.end_aux(&mut self.out, aux);
            }
            for timer in [
                Timer::TestPause(id),
                Timer::TestTimeout(id),
                Timer::TestClear(id),
            ] {
                self.out.timers.cancel(timer);
            }
            self.begin_health(id);
        }
        self.relisten(id);
    }

    /// Nothing that was remembered of the order holds any more.
    fn look_at_all_again(&mut self) {
        for service in self.services.values_mut() {
            service.waits_for = None;
            service.blocked_on = None;
            service.clear_since = None;
        }
        let all: BTreeSet<ServiceId> = self.services.keys().copied().collect();
        self.dirty.extend(all.iter().copied());
        self.recheck.extend(all);
        // Who waits in vain may hope again, and the other way round.
        self.hope_lost = true;
        // Whoever requires what is about to go down by now, goes down before it.
        let leaving =
            |(id, service): (&ServiceId, &Service)| Some((*id, service.stop_wanted?.force));
        for (id, force) in self.services.iter().filter_map(leaving).collect::<Vec<_>>() {
            self.cascade(id, force);
        }
    }
}
