//! What only all files together show: names that exist nowhere, and cycles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use super::problem::{Position, Problem, Severity};

/// One file, as far as dependencies go.
pub(super) struct File {
    pub(super) path: PathBuf,
    /// Whether it is a service; otherwise it has errors of its own.
    pub(super) sound: bool,
    /// `after` and `requires`.
    pub(super) dependencies: Vec<(String, Position)>,
    /// Those of them that `stop_after` cannot turn round.
    pub(super) requires: BTreeSet<String>,
    pub(super) stop_after: Vec<(String, Position)>,
}

/// Who waits for whom, of those that there are.
type Edges<'f> = BTreeMap<&'f str, BTreeSet<&'f str>>;

/// Every problem of the dependencies between `files`, which are listed by service.
pub(super) fn check(files: &BTreeMap<String, File>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let starts = starts(files);
    let looped = cyclic(&starts);
    for (name, file) in files {
        let mut cycle_said = false;
        for (dependency, position) in &file.dependencies {
            let mut push = |severity, message, hint: &str| {
                problems.push(problem(file, position, severity, message, hint));
            };
            match files.get(dependency) {
                None => push(
                    Severity::Warning,
                    format!("there is no service `{dependency}`: `{name}` will wait for it"),
                    &unknown_hint(dependency, files),
                ),
                Some(other) if !other.sound => push(
                    Severity::Warning,
                    format!(
                        "the file of `{dependency}` has errors: `{name}` will wait until they are mended"
                    ),
                    &format!("see what is said of {}", other.path.display()),
                ),
                Some(_) if cycle_said => {}
                Some(_) => {
                    if let Some(way) = way_back(&starts, &looped, name, dependency) {
                        cycle_said = true;
                        push(
                            Severity::Error,
                            format!("a dependency cycle: {}", way.join(" → ")),
                            "none of these can ever start: take one of the dependencies out",
                        );
                    }
                }
            }
        }
    }
    problems.extend(check_stops(files));
    problems
}

/// The same of the order of stops: nothing in it keeps a service from running.
fn check_stops(files: &BTreeMap<String, File>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let stops = stops(files);
    let looped = cyclic(&stops);
    for (name, file) in files {
        for (other, position) in &file.stop_after {
            let (message, hint) = if !files.contains_key(other) {
                (
                    format!("there is no service `{other}`: the stop of `{name}` waits for nobody"),
                    unknown_hint(other, files),
                )
            } else if let Some(way) = way_back(&stops, &looped, name, other) {
                (
                    format!(
                        "a cycle in the order of stops: {}: the `stop_after` of `{name}` has no effect",
                        way.join(" → ")
                    ),
                    "whoever comes after another stops before it: take this name out, or turn the other order round".into(),
                )
            } else {
                continue;
            };
            problems.push(problem(file, position, Severity::Warning, message, &hint));
        }
    }
    problems
}

fn problem(
    file: &File,
    position: &Position,
    severity: Severity,
    message: String,
    hint: &str,
) -> Problem {
    Problem {
        severity,
        path: file.path.clone(),
        position: Some(position.clone()),
        message,
        hint: Some(hint.into()),
    }
}

/// Who starts after whom.
fn starts(files: &BTreeMap<String, File>) -> Edges<'_> {
    let mut edges = Edges::new();
    for (name, file) in files {
        let known = file.dependencies.iter().filter_map(|(dependency, _)| {
            files
                .get_key_value(dependency)
                .map(|(name, _)| name.as_str())
        });
        edges.insert(name, known.collect());
    }
    edges
}

/// Who stops after whom: what others come after, unless those are `stop_after` it, and whoever
/// names others in its `stop_after`.
fn stops(files: &BTreeMap<String, File>) -> Edges<'_> {
    let mut edges: Edges<'_> = files
        .keys()
        .map(|name| (name.as_str(), BTreeSet::new()))
        .collect();
    for (name, file) in files {
        for (below, _) in &file.dependencies {
            let Some((below, _)) = files.get_key_value(below) else {
                continue;
            };
            let turned = file.stop_after.iter().any(|(turned, _)| turned == below);
            if !turned || file.requires.contains(below) {
                edges.entry(below).or_default().insert(name);
            }
        }
        for (other, _) in &file.stop_after {
            if let Some((other, _)) = files.get_key_value(other) {
                edges.entry(name).or_default().insert(other);
            }
        }
    }
    edges
}

fn unknown_hint(name: &str, files: &BTreeMap<String, File>) -> String {
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    match super::keys::nearest(name, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add {name}.yaml, or take the name out"),
    }
}

/// Every service on a cycle, with a number that those of one loop share.
fn cyclic<'f>(forward: &Edges<'f>) -> BTreeMap<&'f str, usize> {
    let mut backward: Edges<'f> = BTreeMap::new();
    for (name, others) in forward {
        for other in others {
            backward.entry(other).or_default().insert(name);
        }
    }
    let mut out = BTreeMap::new();
    let mut done = BTreeSet::new();
    for root in finishing_order(forward).into_iter().rev() {
        let mut group = Vec::new();
        let mut todo = vec![root];
        while let Some(name) = todo.pop() {
            if done.insert(name) {
                group.push(name);
                todo.extend(backward.get(name).into_iter().flatten());
            }
        }
        let itself = forward.get(root).is_some_and(|next| next.contains(root));
        if group.len() > 1 || itself {
            let id = out.len();
            out.extend(group.into_iter().map(|name| (name, id)));
        }
    }
    out
}

/// Kosaraju's first pass, without recursion: a chain of ten thousand must not end the stack.
fn finishing_order<'f>(forward: &BTreeMap<&'f str, BTreeSet<&'f str>>) -> Vec<&'f str> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for root in forward.keys() {
        let mut stack = vec![(*root, false)];
        while let Some((name, leaving)) = stack.pop() {
            if leaving {
                order.push(name);
            } else if seen.insert(name) {
                stack.push((name, true));
                let next = forward.get(name).into_iter().flatten();
                stack.extend(next.map(|name| (*name, false)));
            }
        }
    }
    order
}

/// The shortest way `name`, `first`, …, `name`, if both are on one loop.
fn way_back(
    edges: &Edges<'_>,
    looped: &BTreeMap<&str, usize>,
    name: &str,
    first: &str,
) -> Option<Vec<String>> {
    let id = Some(looped.get(name)?);
    let (first, _) = edges.get_key_value(first)?;
    if looped.get(first) != id {
        return None;
    }
    let mut from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([*first]);
    while let Some(at) = queue.pop_front() {
        if at == name {
            break;
        }
        for next in edges.get(at)? {
            if looped.get(next) == id && next != first && !from.contains_key(next) {
                from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    let mut way = vec![name.to_string()];
    let mut at = name;
    while at != *first {
        at = from.get(at)?;
        way.push(at.to_string());
    }
    way.push(name.to_string());
    way.reverse();
    Some(way)
}
