//! What only all files together show: names that exist nowhere, and cycles.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;

use super::problem::{Position, Problem, Severity};

/// One file, as far as dependencies go.
pub(super) struct File {
    pub(super) path: PathBuf,
    /// Whether it is a service; otherwise it has errors of its own.
    pub(super) sound: bool,
    pub(super) dependencies: Vec<(String, Position)>,
}

/// Every problem of the dependencies between `files`, which are listed by service.
pub(super) fn check(files: &BTreeMap<String, File>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let looped = cyclic(files);
    for (name, file) in files {
        let mut cycle_said = false;
        for (dependency, position) in &file.dependencies {
            let mut push = |severity, message, hint: &str| {
                problems.push(Problem {
                    severity,
                    path: file.path.clone(),
                    position: Some(position.clone()),
                    message,
                    hint: Some(hint.into()),
                });
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
                Some(_) => {
                    let same_loop = looped
                        .get(name.as_str())
                        .is_some_and(|id| looped.get(dependency.as_str()) == Some(id));
                    if same_loop
                        && !cycle_said
                        && let Some(way) = way_back(files, &looped, name, dependency)
                    {
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
    problems
}

fn unknown_hint(name: &str, files: &BTreeMap<String, File>) -> String {
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    match super::keys::nearest(name, &names) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("add {name}.yaml, or take the name out"),
    }
}

/// Every service on a cycle, with a number that those of one loop share.
fn cyclic(files: &BTreeMap<String, File>) -> BTreeMap<&str, usize> {
    let mut forward: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, file) in files {
        let known = file.dependencies.iter().filter_map(|(dependency, _)| {
            files
                .get_key_value(dependency)
                .map(|(name, _)| name.as_str())
        });
        forward.insert(name, known.collect());
    }
    let mut backward: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, dependencies) in &forward {
        for dependency in dependencies {
            backward.entry(dependency).or_default().insert(name);
        }
    }
    let mut out = BTreeMap::new();
    let mut done = BTreeSet::new();
    for root in finishing_order(&forward).into_iter().rev() {
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

/// The shortest way `name`, `first`, …, `name`.
fn way_back(
    files: &BTreeMap<String, File>,
    looped: &BTreeMap<&str, usize>,
    name: &str,
    first: &str,
) -> Option<Vec<String>> {
    let id = looped.get(name);
    let mut from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([first]);
    while let Some(at) = queue.pop_front() {
        if at == name {
            break;
        }
        for (next, _) in &files.get(at)?.dependencies {
            let next = next.as_str();
            if looped.get(next) == id && next != first && !from.contains_key(next) {
                from.insert(next, at);
                queue.push_back(next);
            }
        }
    }
    let mut way = vec![name.to_string()];
    let mut at = name;
    while at != first {
        at = from.get(at)?;
        way.push(at.to_string());
    }
    way.push(name.to_string());
    way.reverse();
    Some(way)
}
