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
    for (word, value) in [("memory", memory), ("cpu", cpu)] {
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

/// /proc counts in hundredths of a second.
fn ticks(ms: f64) -> String {
    let whole = std::time::Duration::try_from_secs_f64((ms / 10.0).round() / 100.0);
    whole.map_or_else(|_| "?".into(), duration)
}
