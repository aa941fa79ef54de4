//! The orders that hold, worked out from the files alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::{Event, GenId, Spec};
use crate::scenario::Scenario;

/// For every name, everything that waits for it, directly or through others.
pub fn closure<'a>(
    specs: &[&'a Spec],
    edges: impl Fn(&'a Spec) -> Vec<&'a str>,
) -> BTreeMap<String, BTreeSet<String>> {
    let mut direct: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for spec in specs {
        direct.entry(&spec.name).or_default();
        for dependency in edges(spec) {
            direct.entry(dependency).or_default().insert(&spec.name);
        }
    }
    let mut all = BTreeMap::new();
    for name in direct.keys() {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut open = vec![*name];
        while let Some(at) = open.pop() {
            for dependent in &direct[at] {
                if seen.insert(dependent) {
                    open.push(dependent);
                }
            }
        }
        let seen = seen.into_iter().map(str::to_owned).collect();
        all.insert((*name).to_owned(), seen);
    }
    all
}

/// Who has to go down when a service does. Whoever requires what starts on demand needs no more than
/// that it listens, whatever becomes of what that requires itself.
pub fn requirers(specs: &[&Spec]) -> BTreeMap<String, BTreeSet<String>> {
    let mut all = closure(specs, |spec| match spec.on_demand {
        true => Vec::new(),
        false => spec.requires.iter().map(String::as_str).collect(),
    });
    for spec in specs.iter().filter(|spec| spec.on_demand) {
        for required in &spec.requires {
            all.entry(required.clone())
                .or_default()
                .insert(spec.name.clone());
        }
    }
    all
}

/// For the name of every leftover, the leftovers that wait for it, through whatever is between.
/// Whose verdicts each one's stop waits for, directly or through others.
pub fn stop_orders(specs: &[&Spec]) -> BTreeMap<String, BTreeSet<String>> {
    closure(specs, |spec| {
        let kept = |name: &&str| {
            let required = spec.requires.iter().any(|required| required == name);
            required || spec.stop_after.iter().all(|turned| turned != name)
        };
        let own = spec.dependencies().filter(kept);
        let later = specs
            .iter()
            .filter(|other| other.stop_after.contains(&spec.name));
        own.chain(later.map(|other| other.name.as_str())).collect()
    })
}

pub fn leftovers_above(scenario: &Scenario) -> BTreeMap<String, BTreeSet<GenId>> {
    let configured = scenario.specs.iter().map(|spec| (spec, None));
    let leftovers = scenario.leftovers.iter();
    let all: Vec<(&Spec, Option<GenId>)> = configured
        .chain(leftovers.map(|leftover| (&leftover.spec, Some(leftover.r#gen))))
        .collect();
    let mut above = BTreeMap::new();
    for leftover in &scenario.leftovers {
        let mut names = BTreeSet::new();
        let mut found = BTreeSet::new();
        let mut open = vec![leftover.spec.name.as_str()];
        while let Some(name) = open.pop() {
            for (spec, r#gen) in &all {
                if spec.dependencies().any(|dependency| dependency == name) {
                    found.extend(*r#gen);
                    if names.insert(&spec.name) {
                        open.push(&spec.name);
                    }
                }
            }
        }
        above.insert(leftover.spec.name.clone(), found);
    }
    above
}

pub fn gen_of(event: &Event) -> Option<GenId> {
    match event {
        Event::Spawned { r#gen, .. }
        | Event::SpawnFailed { r#gen, .. }
        | Event::Execed { r#gen }
        | Event::ExecFailed { r#gen, .. }
        | Event::MainExited { r#gen, .. }
        | Event::MainLost { r#gen }
        | Event::Reloaded { r#gen, .. }
        | Event::OutOfMemory { r#gen, .. }
        | Event::Cgroup { r#gen, .. }
        | Event::AuxExited { r#gen, .. }
        | Event::AuxFailed { r#gen, .. }
        | Event::AuxEnded { r#gen, .. }
        | Event::SignalFailed { r#gen, .. }
        | Event::Told { r#gen, .. }
        | Event::Killed { r#gen, .. }
        | Event::Scanned { r#gen, .. }
        | Event::Fenced { r#gen, .. }
        | Event::Inspected { r#gen, .. }
        | Event::SurvivorGone { r#gen } => Some(*r#gen),
        Event::Request { .. }
        | Event::Listening { .. }
        | Event::ListenFailed { .. }
        | Event::Demanded { .. }
        | Event::Terminate
        | Event::Flushed
        | Event::Swept { .. } => None,
    }
}
