//! Services and the supervisor itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use super::{Table, bytes, clean, colored, count, duration, millis};
use crate::api::{Exit, Info, List, ServiceState, ServiceStatus, ShutdownDone};
use crate::cli::output::Style;

/// How its last start ended, a kill for memory named as that.
pub(in crate::cli) fn last_exit(service: &ServiceStatus) -> Option<String> {
    let ended = service.last_exit.as_ref().map(exit);
    let memory = out_of_memory(service.last_oom_kills);
    match (ended, memory) {
        (Some(ended), Some(memory)) => Some(format!("{ended}, {memory}")),
        (ended, memory) => ended.or(memory),
    }
}

/// Who the kernel killed for want of memory, if anybody.
pub(super) fn out_of_memory(kills: u64) -> Option<String> {
    let kills = usize::try_from(kills).ok().filter(|kills| *kills > 0)?;
    let processes = super::count(kills, "process", "processes");
    Some(format!("out of memory: {processes} killed for memory"))
}

pub(super) fn exit(exit: &Exit) -> String {
    match exit {
        Exit::Code { code } => format!("exit code {code}"),
        Exit::Signal { signal, core, .. } => {
            let core = if *core { " (core dumped)" } else { "" };
            format!("{}{core}", clean(signal))
        }
    }
}

pub(in crate::cli) fn whole_millis(ms: u64) -> String {
    let elapsed = Duration::from_millis(ms);
    match ms {
        0..1000 => duration(elapsed),
        _ => duration(Duration::from_secs(elapsed.as_secs())),
    }
}

/// What a service's state needs said beside the word.
pub(in crate::cli) fn detail(service: &ServiceStatus) -> String {
    let mut parts = Vec::new();
    if !service.detail.is_empty() {
        parts.push(clean(&service.detail).into_owned());
    }
    match service.state {
        ServiceState::Stopping => {
            parts.extend(service.rung.as_deref().map(|rung| clean(rung).into_owned()));
            parts.extend(left(service));
        }
        ServiceState::Starting => parts.extend(left(service)),
        ServiceState::Backoff => {
            let next = service.next_start_ms.map(whole_millis);
            parts.extend(next.map(|next| format!("next start in {next}")));
            let restarts = usize::try_from(service.restarts).unwrap_or(usize::MAX);
            parts.push(format!("{} so far", count(restarts, "restart", "restarts")));
        }
        _ => {}
    }
    parts.join("; ")
}

fn left(service: &ServiceStatus) -> Option<String> {
    let left = service.left_ms.map(whole_millis)?;
    Some(format!("at most {left} more"))
}

fn or_dash(number: u64) -> String {
    if number == 0 {
        "-".into()
    } else {
        number.to_string()
    }
}

/// `nought list`.
pub(in crate::cli) fn list(list: &List, style: Style) -> String {
    if list.services.is_empty() {
        return "no services\n".into();
    }
    let head = ["NAME", "STATE", "TARGET", "PID", "FOR", "DETAIL"];
    let mut table = Table::with_head(&[3, 4], &head, style);
    for service in &list.services {
        table.rows.push(vec![
            clean(&service.name).into_owned().into(),
            colored(style, service.state.as_str()),
            clean(&service.target).into_owned().into(),
            or_dash(service.pid.into()).into(),
            whole_millis(service.since_ms).into(),
            detail(service).into(),
        ]);
    }
    table.render("")
}

/// `nought status`, and of several services.
pub(in crate::cli) fn statuses(services: &[ServiceStatus], style: Style) -> String {
    let head = [
        "NAME",
        "STATE",
        "SINCE",
        "PID",
        "RESTARTS",
        "PROCS",
        "MEMORY",
        "GUARANTEE",
        "WHY",
    ];
    let mut table = Table::with_head(&[2, 3, 4, 5, 6], &head, style);
    for service in services {
        table.rows.push(vec![
            clean(&service.name).into_owned().into(),
            colored(style, service.state.as_str()),
            whole_millis(service.since_ms).into(),
            or_dash(service.pid.into()).into(),
            or_dash(service.restarts).into(),
            or_dash(service.processes).into(),
            memory(service).into(),
            clean(&service.guarantee).into_owned().into(),
            detail(service).into(),
        ]);
    }
    table.render("")
}

fn memory(service: &ServiceStatus) -> String {
    match service.memory_bytes {
        Some(size) if size > 0 => bytes(size),
        _ => "-".into(),
    }
}

/// `nought status S`.
pub(in crate::cli) fn status(service: &ServiceStatus, style: Style) -> String {
    let mut out = format!(
        "{}: {} for {}, target {}\n",
        clean(&service.name),
        colored(style, service.state.as_str()).shown,
        whole_millis(service.since_ms),
        clean(&service.target),
    );
    let mut table = Table::new(&[]);
    let mut row = |name: &str, value: String| {
        if !value.is_empty() {
            table.rows.push(vec![name.to_string().into(), value.into()]);
        }
    };
    row("detail", detail(service));
    if service.pid != 0 {
        row("main pid", service.pid.to_string());
    }
    row("processes", service.processes.to_string());
    row(
        "memory",
        service.memory_bytes.map(bytes).unwrap_or_default(),
    );
    row("generation", or_dash(service.generation));
    row("restarts", service.restarts.to_string());
    row("last exit", last_exit(service).unwrap_or_default());
    row("after", states(&service.after));
    row("requires", states(&service.requires));
    row("guarantee", clean(&service.guarantee).into_owned());
    out.push_str(&table.render("  "));
    if service.state == ServiceState::Lingering {
        let name = clean(&service.name);
        let _ = writeln!(
            out,
            "  what survives: `nought receipt {name}`; it turns down by itself when that has ended"
        );
    }
    out
}

fn states(states: &BTreeMap<String, String>) -> String {
    let states = states
        .iter()
        .map(|(name, state)| format!("{} ({})", clean(name), clean(state)));
    states.collect::<Vec<_>>().join(", ")
}

/// `nought status`.
pub(in crate::cli) fn info(info: &Info, services: &List, style: Style) -> String {
    let mut out = format!("nought {}, pid {}", clean(&info.version), info.pid);
    if info.shutting_down {
        let _ = write!(out, ", {}", style.warn("shutting down"));
    }
    out.push('\n');
    let mut states: BTreeMap<ServiceState, usize> = BTreeMap::new();
    for service in &services.services {
        *states.entry(service.state).or_default() += 1;
    }
    let states = states
        .iter()
        .map(|(state, n)| format!("{n} {}", colored(style, state.as_str()).shown));
    let mut table = Table::new(&[]);
    let mut row = |name: &str, value: String| {
        table.rows.push(vec![name.to_string().into(), value.into()]);
    };
    row("guarantee", clean(&info.guarantee).into_owned());
    if !info.base.is_empty() {
        row("cgroup", clean(&info.base).into_owned());
    }
    let total = usize::try_from(info.services).unwrap_or(usize::MAX);
    let mut total = count(total, "service", "services");
    let states = states.collect::<Vec<_>>().join(", ");
    if !states.is_empty() {
        let _ = write!(total, ": {states}");
    }
    row("services", total);
    if !info.http.is_empty() {
        let at = info.http.join(", ");
        let token = clean(&info.http_token);
        row("http", format!("{}, token in {token}", clean(&at)));
    }
    for note in &info.notes {
        row("note", clean(note).into_owned());
    }
    out.push_str(&table.render("  "));
    out
}

/// `nought shutdown` and `nought reboot`.
pub(in crate::cli) fn shut_down(done: &ShutdownDone, style: Style) -> String {
    let verdict = if !done.lingering.is_empty() {
        "lingering"
    } else if !done.unverified.is_empty() {
        "unverified"
    } else {
        "verified"
    };
    let mut out = format!(
        "{}: everything stopped in {}",
        colored(style, verdict).shown,
        millis(done.elapsed_ms)
    );
    let names = |names: &[String]| {
        let names: Vec<_> = names.iter().map(|name| clean(name)).collect();
        names.join(", ")
    };
    if verdict == "verified" {
        out.push_str(", nothing left\n");
        return out;
    }
    out.push('\n');
    if !done.lingering.is_empty() {
        let _ = writeln!(out, "  something lives of: {}", names(&done.lingering));
    }
    if !done.unverified.is_empty() {
        let _ = writeln!(out, "  could not be proven of: {}", names(&done.unverified));
    }
    out.push_str("  the receipts are in the supervisor's state directory and in its log\n");
    out
}

/// What a command waits for, on one line that is replaced.
pub(in crate::cli) fn waiting(service: &ServiceStatus, waited: Duration) -> String {
    let detail = detail(service);
    let detail = if detail.is_empty() {
        detail
    } else {
        format!(" ({detail})")
    };
    format!(
        "{}: {}{detail}, waited {} s; Ctrl-C stops waiting, not the work",
        clean(&service.name),
        service.state.as_str(),
        waited.as_secs()
    )
}

/// Whom a shutdown waits for, likewise; `None`: nobody tells any more.
pub(in crate::cli) fn stopping(list: Option<&List>, waited: Duration) -> String {
    const SHOWN: usize = 3;
    let services = list
        .map(|list| list.services.as_slice())
        .unwrap_or_default();
    let mut waits: Vec<&ServiceStatus> = services
        .iter()
        .filter(|service| {
            let state = service.state;
            matches!(
                state,
                ServiceState::Stopping | ServiceState::Up | ServiceState::Starting
            )
        })
        .collect();
    // Those on their way hold up the others.
    waits.sort_by_key(|service| service.state != ServiceState::Stopping);
    let seconds = waited.as_secs();
    if waits.is_empty() {
        return format!("waiting for the end of the shutdown, {seconds} s");
    }
    let shown = waits.iter().take(SHOWN).map(|service| {
        let detail = detail(service);
        format!(
            "{} {} ({detail})",
            clean(&service.name),
            service.state.as_str()
        )
    });
    let shown: Vec<String> = shown.map(|text| text.replace(" ()", "")).collect();
    let more = match waits.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("waiting for {}{more}, {seconds} s", shown.join(", "))
}
