//! Receipts: the one line of a stop, the survivors, the whole story.

use std::fmt::Write as _;

use super::service::{exit, out_of_memory};
use super::{Table, clean, colored, count, millis, trimmed};
use crate::api::{Budget, ForeignProcess, Process, Receipt, Rung, Survivor, Verdict};
use crate::cli::output::Style;

/// What `nought stop` prints: one line when all is well, more when it is not.
pub(in crate::cli) fn stopped(receipt: &Receipt, style: Style) -> String {
    let verdict = colored(style, receipt.verdict.as_str()).shown;
    let mut out = format!("{}: {verdict}: ", clean(&receipt.service));
    let took = millis(receipt.elapsed_ms);
    match receipt.verdict {
        Verdict::Verified | Verdict::Unverified => {
            let _ = write!(out, "stopped in {took}");
        }
        Verdict::Lingering => {
            let left = count(receipt.survivors.len(), "process", "processes");
            let lives = if receipt.survivors.len() == 1 {
                "lives"
            } else {
                "live"
            };
            let _ = write!(out, "{left} still {lives} after {took}");
        }
    }
    if let Some(ended) = &receipt.exit {
        let _ = write!(out, " ({})", exit(ended));
    }
    if let Some(memory) = out_of_memory(receipt.oom_kills) {
        let _ = write!(out, ", {memory}");
    }
    let mut seen = |processes: usize, what: &str| {
        if processes > 0 {
            let _ = write!(out, ", {} {what}", count(processes, "process", "processes"));
        }
    };
    seen(receipt.killed.len(), "killed");
    seen(receipt.escaped.len(), "escaped and killed");
    seen(receipt.foreign.len(), "foreign");
    seen(receipt.kept.len(), "kept");
    match receipt.verdict {
        Verdict::Verified if !receipt.kept.is_empty() => out.push_str(", nothing else left\n"),
        Verdict::Verified => out.push_str(", nothing left\n"),
        Verdict::Unverified => {
            let reason = receipt.reason.as_deref().unwrap_or("no reason was given");
            let _ = writeln!(out, "\n  not proven: {}", clean(reason));
        }
        Verdict::Lingering => {
            out.push('\n');
            if let Some(reason) = &receipt.reason {
                let _ = writeln!(out, "  because: {}", clean(reason));
            }
            out.push_str(&survivors(receipt));
            if !receipt.survivors.is_empty() {
                let _ = writeln!(
                    out,
                    "  next: {}\n  it turns verified by itself when they are gone (`nought status {name}`); \
                     `nought start --force {name}` starts another beside them",
                    advice(&receipt.survivors),
                    name = clean(&receipt.service),
                );
            }
        }
    }
    out
}

/// Every survivor of `receipt`, with all that is known of it.
pub(in crate::cli) fn survivors(receipt: &Receipt) -> String {
    let mut out = String::new();
    for survivor in &receipt.survivors {
        one_survivor(&mut out, survivor);
    }
    out
}

fn one_survivor(out: &mut String, survivor: &Survivor) {
    let argv: Vec<_> = survivor.argv.iter().map(|word| clean(word)).collect();
    let pid = match survivor.pid {
        0 => "a process that cannot be seen from here".to_string(),
        pid => format!("pid {pid} `{}`", argv.join(" ")),
    };
    let _ = write!(out, "  {pid}");
    if !survivor.state.is_empty() {
        let _ = write!(out, ", state {}", clean(&survivor.state));
    }
    if !survivor.wchan.is_empty() {
        let _ = write!(out, ", waits in {}", clean(&survivor.wchan));
    }
    if survivor.tracer != 0 {
        let _ = write!(out, ", traced by pid {}", survivor.tracer);
    }
    if survivor.threads > 1 {
        let _ = write!(out, ", {} threads", survivor.threads);
    }
    out.push('\n');
    if !survivor.cgroup.is_empty() {
        let _ = writeln!(out, "      cgroup {}", clean(&survivor.cgroup));
    }
    if !survivor.mounts.is_empty() {
        let mounts: Vec<_> = survivor.mounts.iter().map(|mount| clean(mount)).collect();
        let _ = writeln!(out, "      holds mounts {}", mounts.join(", "));
    }
    if !survivor.sockets.is_empty() {
        let sockets: Vec<_> = survivor
            .sockets
            .iter()
            .map(|socket| clean(socket))
            .collect();
        let _ = writeln!(out, "      holds sockets {}", sockets.join(", "));
    }
    for frame in &survivor.stack {
        let _ = writeln!(out, "      at {}", clean(frame));
    }
}

/// What ends survivors such as these.
fn advice(survivors: &[Survivor]) -> String {
    let mut parts: Vec<String> = Vec::new();
    for survivor in survivors {
        let part = if survivor.tracer != 0 {
            format!(
                "end pid {} or make it detach: it traces pid {} and keeps it from ending",
                survivor.tracer, survivor.pid
            )
        } else {
            match survivor.state.as_str() {
                _ if survivor.wchan.contains("refrigerator")
                    || survivor.stack.iter().any(|frame| frame.contains("refrigerator")) =>
                {
                    "what is frozen by the freezer of cgroup v1 ends when it is thawed: write \
                     THAWED to the freezer.state of its cgroup there (/proc/PID/cgroup)"
                        .to_string()
                }
                "D" => "those in state D wait inside the kernel, which no signal ends: bring back \
                        what they wait for (a disk, a network or FUSE file system), or `umount -f` it"
                    .to_string(),
                "Z" => "those in state Z have threads that live: see /proc/PID/task".to_string(),
                _ => "see /proc/PID/status and /proc/PID/stack for what keeps them".to_string(),
            }
        };
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join("; ")
}

/// What a shutdown gave it.
fn budget(budget: &Budget) -> String {
    format!(
        "wished {}, planned {}, granted {}; asked after {} of the shutdown",
        millis(budget.wish_ms),
        millis(budget.planned_ms),
        millis(budget.granted_ms),
        millis(budget.asked_ms),
    )
}

/// `nought receipt S`.
pub(in crate::cli) fn receipt(receipt: &Receipt, style: Style) -> String {
    let late = if receipt.late {
        ", later than first said"
    } else {
        ""
    };
    let mut out = format!(
        "{}, generation {}: {}{late}\n",
        clean(&receipt.service),
        receipt.generation,
        colored(style, receipt.verdict.as_str()).shown,
    );
    let mut table = Table::new(&[]);
    let mut row = |name: &str, value: String| {
        if !value.trim().is_empty() {
            table.rows.push(vec![name.to_string().into(), value.into()]);
        }
    };
    row(
        "reason",
        receipt
            .reason
            .as_deref()
            .map(clean)
            .unwrap_or_default()
            .into_owned(),
    );
    row("cause", clean(&receipt.cause).into_owned());
    if let Some(memory) = out_of_memory(receipt.oom_kills) {
        row("memory", memory);
    }
    row(
        "budget",
        receipt.budget.as_ref().map(budget).unwrap_or_default(),
    );
    let ended = receipt
        .exit
        .as_ref()
        .map(|ended| format!(", {}", exit(ended)));
    let pid = receipt
        .pid
        .map(|pid| format!("pid {pid}{}", ended.unwrap_or_default()));
    row("main", pid.unwrap_or_default());
    let guarantee = &receipt.guarantee;
    row(
        "guarantee",
        format!(
            "{} {}",
            clean(&guarantee.containment),
            clean(&guarantee.scan)
        ),
    );
    let wall = |at: &Option<String>| at.as_deref().map(clean).unwrap_or_default().into_owned();
    row("started", wall(&receipt.started_at));
    row("began", wall(&receipt.began_at));
    row("took", millis(receipt.elapsed_ms));
    out.push_str(&table.render("  "));
    out.push_str(&timeline(receipt, style));
    processes(&mut out, "killed", &receipt.killed);
    processes(&mut out, "escaped and killed", &receipt.escaped);
    processes(&mut out, "kept", &receipt.kept);
    foreign(&mut out, &receipt.foreign);
    if !receipt.survivors.is_empty() {
        out.push_str("  survivors\n");
        for line in survivors(receipt).lines() {
            let _ = writeln!(out, "  {line}");
        }
    }
    out
}

/// The rungs, each with its time since the beginning and since the one before it.
fn timeline(receipt: &Receipt, style: Style) -> String {
    let mut table = Table::new(&[0, 1]);
    let mut before = 0.0;
    let end = Rung {
        rung: receipt.verdict.as_str().into(),
        at_ms: receipt.elapsed_ms,
        ..Rung::default()
    };
    for rung in receipt.rungs.iter().chain([&end]) {
        table.rows.push(vec![
            format!("{:.3} ms", rung.at_ms).into(),
            format!("+{}", trimmed((rung.at_ms - before).max(0.0), 3)).into(),
            colored(style, &clean(&rung.rung)),
            rung_detail(rung).into(),
        ]);
        before = rung.at_ms;
    }
    table.render("  ")
}

fn rung_detail(rung: &Rung) -> String {
    let mut parts = Vec::new();
    if let Some(signal) = &rung.signal {
        let to = rung.to.as_deref().map(|to| format!(" to {}", clean(to)));
        parts.push(format!("{}{}", clean(signal), to.unwrap_or_default()));
    }
    parts.extend(
        rung.grace_ms
            .map(|grace| format!("grace {}", millis(grace))),
    );
    parts.extend(rung.exit.as_ref().map(exit));
    if rung.exit.is_none() && rung.rung == "stop-command-ended" {
        parts.push("cut short".into());
    }
    if let Some(escaped) = rung.escaped.filter(|escaped| *escaped > 0) {
        parts.push(format!("{escaped} escaped and killed"));
    }
    parts.extend(rung.conclusive.map(|conclusive| {
        let word = if conclusive {
            "conclusive"
        } else {
            "something was forked meanwhile"
        };
        word.to_string()
    }));
    if let Some(error) = &rung.error {
        parts.push(format!(
            "failed to {} {}: {}",
            clean(&error.doing),
            clean(&error.what),
            clean(&error.why)
        ));
    }
    parts.join(", ")
}

fn processes(out: &mut String, what: &str, processes: &[Process]) {
    if processes.is_empty() {
        return;
    }
    let _ = writeln!(out, "  {what}");
    for process in processes {
        let _ = writeln!(
            out,
            "    pid {} {} (parent {})",
            process.pid,
            clean(&process.comm),
            process.ppid
        );
    }
}

fn foreign(out: &mut String, processes: &[ForeignProcess]) {
    if processes.is_empty() {
        return;
    }
    out.push_str("  foreign\n");
    for process in processes {
        let _ = writeln!(
            out,
            "    pid {} {} (parent {}): {}",
            process.pid,
            clean(&process.comm),
            process.ppid,
            clean(&process.why)
        );
    }
}
