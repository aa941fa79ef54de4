//! What a service uses.

use super::{Table, bytes, clean, count, duration, millis};
use crate::api::{Account, Usage};
use crate::cli::output::Style;

/// `nought stats S`.
pub(in crate::cli) fn stats(usage: &Usage, style: Style) -> String {
    let name = clean(&usage.status.name);
    if usage.processes.is_empty() {
        let state = usage.status.state.as_str();
        return format!("{name}: no process: it is {state}\n");
    }
    let from = |account| match account {
        Account::Cgroup => "its cgroup's account",
        Account::Processes => "the sum over its processes",
    };
    let processes = count(usage.processes.len(), "process", "processes");
    let mut out = format!("{name}: {processes}\n");
    let mut totals = Table::new(&[]);
    let memory = format!(
        "{} ({})",
        bytes(usage.memory_bytes),
        from(usage.memory_from)
    );
    let percent = usage.cpu_percent;
    let cpu = format!(
        "{} ({}), {percent:.2} % of a processor since it started",
        millis(usage.cpu_ms),
        from(usage.cpu_from)
    );
    let mut rows = vec![("memory", memory), ("cpu", cpu)];
    rows.extend(at_limits(usage));
    rows.extend(moved_and_waited(usage));
    for (word, value) in rows {
        totals
            .rows
            .push(vec![word.to_string().into(), value.into()]);
    }
    out.push_str(&totals.render("  "));
    let head = ["PID", "PARENT", "MEMORY", "CPU TIME", "CPU %", "COMMAND"];
    let mut table = Table::with_head(&[0, 1, 2, 3, 4], &head, style);
    for process in &usage.processes {
        table.rows.push(vec![
            process.pid.to_string().into(),
            process.ppid.to_string().into(),
            bytes(process.memory_bytes).into(),
            ticks(process.cpu_ms).into(),
            format!("{:.2}", process.cpu_percent).into(),
            clean(&process.comm).into_owned().into(),
        ]);
    }
    out.push_str(&table.render("  "));
    out
}

/// What the cgroup's account says of limits, where it has one.
fn at_limits(usage: &Usage) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let Some(peak) = usage.memory_peak_bytes {
        rows.push(("peak", bytes(peak)));
    }
    if let Some(kills) = usage.oom_kills.filter(|kills| *kills > 0) {
        rows.push(("killed", format!("{kills} for memory")));
    }
    if let Some(pids) = usage.pids {
        let refused = usage.pids_refused.filter(|refused| *refused > 0);
        let refused = refused.map(|times| format!(", {times} more refused"));
        let threads = format!("{pids} processes and threads");
        rows.push(("pids", threads + &refused.unwrap_or_default()));
    }
    if let Some(waited) = usage.throttled_ms.filter(|waited| *waited > 0.0) {
        rows.push(("waited", format!("{} for cpu_max", millis(waited))));
    }
    rows
}

/// What it moved, and what share of the last ten seconds it waited for what.
fn moved_and_waited(usage: &Usage) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    if let (Some(read), Some(written)) = (usage.io_read_bytes, usage.io_written_bytes) {
        let text = format!("{} read, {} written", bytes(read), bytes(written));
        rows.push(("io", text));
    }
    if let Some(pressure) = &usage.pressure {
        let of = [
            ("cpu", &pressure.cpu),
            ("memory", &pressure.memory),
            ("io", &pressure.io),
        ];
        let of = of.map(|(name, of)| format!("{name} {:.2} %", of.some_percent));
        rows.push(("pressure", format!("{} of the last 10 s", of.join(", "))));
    }
    rows
}

/// /proc counts in hundredths of a second.
fn ticks(ms: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64((ms / 10.0).round() / 100.0);
    whole.map_or_else(|_| "?".into(), duration)
}
