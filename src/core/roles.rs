//! Roles, with the meaning that Kubernetes gives to the containers of a pod.
//!
//! ```text
//!   init ─► sidecar ─► init ─► … ─► every main           one after the other, by name
//!                                     └─ the last main ends ─► sidecars, in reverse ─► the end
//! ```
//!
//! Inits run to completion; sidecars are ready before whatever comes after them, are started
//! again whenever they end, also while the mains go down, and their exit codes mean nothing;
//! mains decide: when the last of them has ended for good everything stops, with the code of the
//! first that failed.
//!
//! What is taken in later finds the sequence as far as it has come: an init or a sidecar is its
//! new end, a main comes after its end, and a sidecar goes down after the mains that are there.
//! Whoever is there keeps the order it has.

use std::collections::{BTreeMap, BTreeSet};

use super::ServiceId;
use super::effect::{Effect, EndedAll, Notice, ShutdownKind};
use super::machine::Supervisor;
use super::receipt::Cause;
use super::service::{Main, Run, Service, State, StopWanted, Target};
use super::shutdown::Phase;
use super::spec::{Role, Spec};
use super::time::Timer;

/// Adds to `after` what roles imply: inits and sidecars one after the other, by their own `after`
/// and `requires` and else by name; mains after the last of them.
pub fn imply_order(specs: &mut [Spec]) {
    let first = |spec: &&Spec| matches!(spec.role, Some(Role::Init | Role::Sidecar));
    let mut waiting: BTreeMap<String, BTreeSet<String>> = specs
        .iter()
        .filter(first)
        .map(|spec| {
            (
                spec.name.clone(),
                spec.dependencies().map(str::to_owned).collect(),
            )
        })
        .collect();
    let mut order: Vec<String> = Vec::new();
    while !waiting.is_empty() {
        let free = |(_, waits): &(&String, &BTreeSet<String>)| {
            waits.iter().all(|name| !waiting.contains_key(name))
        };
        // On a cycle nobody is free: it is refused as one, whatever comes first.
        let next = waiting.iter().find(free).or_else(|| waiting.iter().next());
        let Some(next) = next.map(|(name, _)| name.clone()) else {
            break;
        };
        waiting.remove(&next);
        order.push(next);
    }
    let before: BTreeMap<&String, &String> = order.iter().skip(1).zip(&order).collect();
    for spec in specs {
        let implied = match spec.role {
            Some(Role::Main) => order.last(),
            Some(Role::Init | Role::Sidecar) => before.get(&spec.name).copied(),
            None => None,
        };
        if let Some(name) = implied
            && spec.dependencies().all(|known| known != name)
        {
            spec.after.push(name.clone());
        }
    }
}

/// Every name that a service comes after, directly or through others of `known`.
fn names_below<'a>(known: &BTreeMap<&str, &'a Spec>, of: &'a Spec) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![of];
    while let Some(at) = open.pop() {
        for name in at.dependencies() {
            if found.insert(name) {
                open.extend(known.get(name).copied());
            }
        }
    }
    found
}

impl Supervisor {
    /// Adds to a service that is about to be taken in what its role implies among those there.
    pub(super) fn imply_order_of_one(&self, spec: &mut Spec) {
        let Some(role) = spec.role else {
            return;
        };
        let there = self.services.values().filter(|service| !service.ghost);
        let known: BTreeMap<&str, &Spec> = there
            .map(|service| (service.spec.name.as_str(), &*service.spec))
            .collect();
        let of = |wanted: &[Role]| -> Vec<(&str, BTreeSet<&str>)> {
            let members = known
                .iter()
                .filter(|(_, other)| other.role.is_some_and(|role| wanted.contains(&role)));
            let below = members.map(|(name, other)| (*name, names_below(&known, other)));
            // Whoever waits for its name comes after it already.
            below
                .filter(|(_, below)| !below.contains(spec.name.as_str()))
                .collect()
        };
        let sequence = of(&[Role::Init, Role::Sidecar]);
        let is_last = |name: &str| sequence.iter().all(|(_, below)| !below.contains(name));
        let ends: Vec<String> = sequence
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .filter(|name| is_last(name) && spec.dependencies().all(|known| known != name))
            .collect();
        let own = names_below(&known, spec);
        let mains: Vec<String> = match role {
            Role::Sidecar => of(&[Role::Main])
                .into_iter()
                .map(|(name, _)| name.to_owned())
                .filter(|name| !own.contains(name.as_str()) && !spec.stop_after.contains(name))
                .collect(),
            Role::Init | Role::Main => Vec::new(),
        };
        spec.after.extend(ends);
        spec.stop_after.extend(mains);
    }

    /// A stop order of its own that contradicts itself, or what is required, is taken for none.
    pub(super) fn drop_stop_cycles(&mut self) {
        let cyclic = self.graph.stop_cycles();
        for id in cyclic {
            self.graph.forget_stop_after(id);
            self.out.push(Effect::Notice(Notice::Trouble {
                service: id,
                detail: "keep its `stop_after`: it closes a cycle in the order of stops, and \
                         has no effect"
                    .into(),
            }));
        }
    }

    /// A main has ended for good: whether it was the last.
    pub(super) fn on_main_role_ended(&mut self, id: ServiceId, because: EndedAll) {
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        if service.spec.role != Some(Role::Main) || self.shutdown.is_some() {
            return;
        }
        service.main_end = Some((now, because.code));
        let decides = |service: &Service| {
            let ended = match service.state {
                State::Done | State::Failed { .. } | State::Lingering(_) => true,
                State::Down => service.target == Target::Down,
                _ => false,
            };
            service.spec.role == Some(Role::Main) && !service.ghost && !ended
        };
        if self.services.values().any(decides) {
            return;
        }
        let failed = |service: &&Service| service.main_end.is_some_and(|(_, code)| code != 0);
        let first = self
            .services
            .values()
            .filter(failed)
            .min_by_key(|service| service.main_end);
        let because = first.map_or(because, |service| EndedAll {
            service: service.spec.name.clone(),
            code: service.main_end.map_or(0, |(_, code)| code),
        });
        self.out.push(Effect::Notice(Notice::StopsAll {
            service: id,
            key: "role: main",
            how: "the last main has ended".into(),
        }));
        self.begin_shutdown(ShutdownKind::PowerOff, Some(because));
    }

    /// Whether a sidecar that ended in a shutdown is still needed: somebody above it goes down
    /// yet, what it needs itself is there, and it was not asked to end.
    fn needed_yet(&mut self, id: ServiceId) -> bool {
        let stopping = self
            .shutdown
            .as_ref()
            .is_some_and(|shutdown| shutdown.phase == Phase::Stopping && !shutdown.hurried);
        let Some(service) = self.services.get(&id) else {
            return false;
        };
        if !stopping || service.spec.role != Some(Role::Sidecar) || service.ghost {
            return false;
        }
        let haunted = self.haunted(id);
        let dependencies: Vec<ServiceId> = self.graph.dependencies(id).collect();
        let there = dependencies.iter().all(|id| {
            let service = self.services.get(id);
            service.is_some_and(|service| match service.state {
                State::Up(_) => true,
                State::Done => service.spec.oneshot,
                _ => false,
            })
        });
        !haunted && there && self.blocking_dependent(id, false).is_some()
    }

    /// A sidecar ended in a shutdown, and not because it was asked: what becomes of it.
    pub(super) fn sidecar_goes_on(&mut self, id: ServiceId) -> bool {
        if !self.needed_yet(id) {
            return false;
        }
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return false;
        };
        let uptime = service
            .up_since
            .map_or(std::time::Duration::ZERO, |since| now.since(since));
        let mut policy = service.spec.restart.clone();
        policy.burst = None;
        match service.backoff.next(&policy, now, uptime, &mut self.rng) {
            Some(delay) if !delay.is_zero() => {
                let until = now + delay;
                self.out.timers.set(Timer::Backoff(id), until);
                self.set_state(id, State::Backoff { until });
            }
            _ => self.start_in_shutdown(id),
        }
        true
    }

    /// Its pause is over while everything goes down.
    pub(super) fn on_backoff_in_shutdown(&mut self, id: ServiceId) {
        if self.needed_yet(id) {
            self.start_in_shutdown(id);
        } else {
            self.set_state(id, State::Down);
        }
    }

    /// Starts it, to be stopped as soon as nobody needs it.
    fn start_in_shutdown(&mut self, id: ServiceId) {
        let r#gen = self.new_gen(id);
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.starts += 1;
        service.failure = None;
        service.up_since = None;
        service.holds |= service.spec.keeps_descriptors();
        let run = Run::new(r#gen, Main::Spawning, Some(now));
        self.set_state(id, State::Starting(Box::new(run)));
        self.out.push(Effect::Spawn { r#gen, service: id });
        let (cause, force) = (Cause::Shutdown, true);
        self.want_stop(id, StopWanted { cause, force });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(specs: &[(&str, Option<Role>, &[&str])]) -> Vec<(String, Vec<String>)> {
        let spec = |(name, role, after): &(&str, Option<Role>, &[&str])| {
            let mut spec = Spec::new(*name, vec!["x".into()]);
            spec.role = *role;
            spec.after = after.iter().map(|name| (*name).to_owned()).collect();
            spec
        };
        let mut specs: Vec<Spec> = specs.iter().map(spec).collect();
        imply_order(&mut specs);
        let pairs = specs.into_iter().map(|spec| (spec.name, spec.after));
        pairs.collect()
    }

    #[test]
    fn inits_and_sidecars_come_one_by_one_and_mains_after_the_last() {
        let found = order(&[
            ("web", Some(Role::Main), &[]),
            ("20-proxy", Some(Role::Sidecar), &[]),
            ("10-fetch", Some(Role::Init), &[]),
            ("30-migrate", Some(Role::Init), &[]),
            ("other", None, &[]),
        ]);
        let of = |name: &str| &found.iter().find(|(n, _)| n == name).unwrap().1;
        assert!(of("10-fetch").is_empty() && of("other").is_empty());
        assert_eq!(*of("20-proxy"), ["10-fetch"]);
        assert_eq!(*of("30-migrate"), ["20-proxy"]);
        assert_eq!(*of("web"), ["30-migrate"]);
    }

    #[test]
    fn their_own_order_goes_before_their_names() {
        let found = order(&[
            ("a", Some(Role::Sidecar), &["b"]),
            ("b", Some(Role::Init), &[]),
            ("c", Some(Role::Main), &["a"]),
        ]);
        let after: Vec<_> = found.iter().map(|(_, after)| after.join(" ")).collect();
        assert_eq!(after, ["b", "", "a"]);
    }
}
