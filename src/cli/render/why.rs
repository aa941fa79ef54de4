//! Why a service is in its state, down the chain of what it waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::service::{detail, last_exit, whole_millis};
use super::{clean, colored};
use crate::api::{RpcError, ServiceState, ServiceStatus};
use crate::cli::output::Style;

/// What keeps a blocked service: those it waits for that are not ready, or not there.
pub(in crate::cli) fn unready<'a>(
    service: &'a ServiceStatus,
    known: &BTreeMap<&'a str, &'a ServiceStatus>,
) -> Vec<&'a str> {
    let names = service.after.keys().chain(service.requires.keys());
    let mut seen = BTreeSet::new();
    names
        .map(String::as_str)
        .filter(|name| seen.insert(*name))
        .filter(|name| {
            let state = known.get(name).map(|service| service.state);
            !matches!(
                state,
                Some(ServiceState::Up | ServiceState::Done | ServiceState::Listening)
            )
        })
        .collect()
}

/// `nought why S`; `unknown` is what there is to say of those that are not there, `words` are the
/// last lines of those that failed.
pub(in crate::cli) fn why(
    name: &str,
    known: &BTreeMap<&str, &ServiceStatus>,
    unknown: &BTreeMap<&str, RpcError>,
    words: &BTreeMap<String, Vec<String>>,
    style: Style,
) -> String {
    let mut out = String::new();
    let mut seen = BTreeSet::new();
    let mut open = vec![(name, 0)];
    while let Some((at, depth)) = open.pop() {
        if !seen.insert(at) {
            continue;
        }
        let indent = "  ".repeat(depth);
        let Some(service) = known.get(at) else {
            missing(&mut out, at, unknown.get(at), &indent, style);
            continue;
        };
        one(&mut out, service, &indent, style);
        for line in words.get(at).into_iter().flatten() {
            let _ = writeln!(out, "{indent}  said: {}", clean(line));
        }
        if service.state == ServiceState::Blocked {
            let below = unready(service, known);
            open.extend(below.into_iter().rev().map(|name| (name, depth + 1)));
        }
        if let Some(next) = next(service) {
            let _ = writeln!(out, "{indent}  next: {next}");
        }
    }
    out
}

fn missing(out: &mut String, name: &str, why: Option<&RpcError>, indent: &str, style: Style) {
    let name = clean(name);
    let unknown = style.bad("unknown");
    let data = why.and_then(|why| why.data.as_deref());
    // Its file says more than that it is not there.
    let causes = data.map(|data| &data.cause_chain[..]).unwrap_or_default();
    let (Some(why), Some(hint), [_, ..]) = (why, data.and_then(|d| d.hint.as_ref()), causes) else {
        let _ = writeln!(
            out,
            "{indent}{name} is {unknown}: there is no such service\n{indent}  next: write its file \
             and take it in with `nought monitor {name}`; `nought check` says whether a file is \
             wrong",
        );
        return;
    };
    let _ = writeln!(out, "{indent}{name} is {unknown}: {}", clean(&why.message));
    for line in causes.iter().flat_map(|cause| cause.lines()) {
        let _ = writeln!(out, "{indent}  {}", clean(line));
    }
    let _ = writeln!(out, "{indent}  next: {}", clean(hint));
}

fn one(out: &mut String, service: &ServiceStatus, indent: &str, style: Style) {
    let _ = write!(
        out,
        "{indent}{} is {} for {}, wanted {}",
        clean(&service.name),
        colored(style, service.state.as_str()).shown,
        whole_millis(service.since_ms),
        clean(&service.target),
    );
    match detail(service) {
        detail if detail.is_empty() => out.push('\n'),
        detail => {
            let _ = writeln!(out, ": {detail}");
        }
    }
    if let Some(last) = last_exit(service) {
        let _ = writeln!(out, "{indent}  its last start ended with {last}");
    }
}

/// What to do about it, where something can be done.
fn next(service: &ServiceStatus) -> Option<String> {
    let name = clean(&service.name);
    let text = match service.state {
        ServiceState::Failed => format!("`nought log {name}`, mend it, then `nought start {name}`"),
        ServiceState::Backoff => {
            format!("it is tried again by itself; `nought start {name}` tries at once")
        }
        ServiceState::Lingering => {
            format!("`nought receipt {name}` names what survives, and what holds it")
        }
        ServiceState::Down => format!("`nought start {name}`"),
        ServiceState::Starting => format!("`nought log {name}/test` if its test does not pass"),
        ServiceState::Stopping => format!("`nought plan stop {name}` says how long it may take"),
        ServiceState::Listening => format!("`nought start {name}` starts it without that"),
        ServiceState::Blocked | ServiceState::Up | ServiceState::Done | ServiceState::Unknown => {
            return None;
        }
    };
    Some(text)
}
