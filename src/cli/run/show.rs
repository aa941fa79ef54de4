//! A run's end as text: what a person reads in a CI log, and what GitHub makes annotations of.

use std::fmt::Write as _;
use std::time::Duration;

use super::super::output::Style;
use super::super::render::{self, clean};
use super::{Leaks, RunArgs};
use crate::api::{Exit, RunProcess, RunReport, Verdict};

/// Processes that are shown one by one.
const SHOWN: usize = 256;
/// Leaks that become an annotation each: GitHub shows no more of a step.
const ANNOTATED: usize = 10;
/// How a line of ours begins.
const US: &str = "nought run";

/// Something to know.
pub(super) fn note(text: &str, style: Style) -> String {
    format!("{}: {}\n", style.warn(US), clean(text))
}

/// What ran when the time was over.
pub(super) fn evidence(after: Duration, running: &[RunProcess], style: Style) -> String {
    let mut out = format!(
        "{}: not done after {}; {} running:\n",
        style.bad(US),
        render::duration(after),
        count(running.len()),
    );
    for process in in_order(running).into_iter().take(SHOWN) {
        let depth = process.ancestors.len();
        let (state, wait) = (state(process), wait(process));
        let _ = writeln!(
            out,
            "  {:indent$}{} {}  {state}{wait}, {} old",
            "",
            process.pid,
            argv(process),
            age(process),
            indent = 2 * depth,
        );
    }
    out.push_str(&and_more(running.len()));
    out
}

/// Parents before their children.
fn in_order(running: &[RunProcess]) -> Vec<&RunProcess> {
    let mut ordered: Vec<&RunProcess> = Vec::with_capacity(running.len());
    let known = |pid: u32| running.iter().any(|process| process.pid == pid);
    let mut next: Vec<&RunProcess> = running.iter().filter(|p| !known(p.ppid)).rev().collect();
    while let Some(process) = next.pop() {
        ordered.push(process);
        next.extend(running.iter().filter(|p| p.ppid == process.pid).rev());
    }
    ordered
}

/// Everything worth saying at the end; nothing when all is well.
pub(super) fn end(report: &RunReport, args: &RunArgs, style: Style) -> String {
    let mut out = String::new();
    if let Some(error) = &report.error {
        let _ = writeln!(out, "{}: failed to {}", style.bad(US), clean(error));
    }
    if report.ended_by == "signal" && !args.quiet {
        let signal = report.signal.as_deref().unwrap_or("a signal");
        let _ = writeln!(out, "{}: {signal}: {}", style.warn(US), cancelled(report));
    }
    if report.ended_by == "timeout" {
        let after = render::duration(args.timeout.unwrap_or_default());
        let _ = writeln!(
            out,
            "{}: timed out after {after}: {}",
            style.bad(US),
            cancelled(report)
        );
    }
    out.push_str(&at_limits(report, args, style));
    if args.leaks != Leaks::Allow && (args.leaks == Leaks::Fail || !args.quiet) {
        out.push_str(&leaks(report, args, style));
    }
    out.push_str(&not_verified(report, style));
    out
}

/// What the limits did: a kill for memory is not to look like any other SIGKILL.
fn at_limits(report: &RunReport, args: &RunArgs, style: Style) -> String {
    let mut out = String::new();
    if let Some(words) = out_of_memory(report, args) {
        let _ = writeln!(out, "{}: {words}", style.bad(US));
    }
    if let Some(refused) = report.pids_refused.filter(|refused| *refused > 0)
        && !args.quiet
    {
        let (max, times) = (args.pids.unwrap_or_default(), times(refused));
        let _ = writeln!(
            out,
            "{}: --pids {max} was reached: {times} it could have no process more",
            style.warn(US)
        );
    }
    out
}

/// Who was killed for want of memory, if anybody was.
pub(super) fn out_of_memory(report: &RunReport, args: &RunArgs) -> Option<String> {
    let kills = report.oom_kills.filter(|kills| *kills > 0)?;
    let kills = usize::try_from(kills).unwrap_or(usize::MAX);
    let limit = match args.memory {
        Some(limit) => format!("--memory {}", render::bytes(limit)),
        None => "a limit above, or the machine's end".to_owned(),
    };
    let peak = report
        .memory_peak_bytes
        .map(|peak| format!(", peak {}", render::bytes(peak)));
    let killed = report
        .exit
        .as_ref()
        .is_some_and(|exit| matches!(exit, Exit::Signal { signal, .. } if signal == "SIGKILL"));
    let who = match (kills, killed) {
        (1, true) => "the command was".to_owned(),
        (1, false) => "1 process of the command was".to_owned(),
        (kills, _) => format!("{} of the command were", count(kills)),
    };
    Some(format!(
        "out of memory: {who} killed for memory ({limit}{})",
        peak.unwrap_or_default()
    ))
}

fn cancelled(report: &RunReport) -> String {
    let receipt = report.receipt.as_ref();
    let killed = receipt.map_or(0, |receipt| receipt.killed.len() + receipt.escaped.len());
    let how = match &report.exit {
        Some(exit) => format!("the command ended ({})", exit_words(exit)),
        None => "the command's end was not seen".to_owned(),
    };
    let killed = match killed {
        0 => String::new(),
        killed => format!(", {} had to be killed", count(killed)),
    };
    let verdict = match report.verdict {
        Some(Verdict::Verified) => ", nothing is left",
        _ => "",
    };
    format!("{how}{killed}{verdict}")
}

fn leaks(report: &RunReport, args: &RunArgs, style: Style) -> String {
    if report.leaks.is_empty() {
        return String::new();
    }
    let exit = report.exit.as_ref().map(exit_words).unwrap_or_default();
    let headline = format!(
        "{} still ran when the command had ended ({exit}){}",
        count(report.leaks.len()),
        match report.verdict {
            Some(Verdict::Verified) if report.leaks.len() == 1 => "; it was ended, nothing is left",
            Some(Verdict::Verified) => "; they were ended, nothing is left",
            _ => "",
        },
    );
    let us = if args.leaks == Leaks::Fail {
        style.bad(US)
    } else {
        style.warn(US)
    };
    let mut out = format!("{us}: {headline}\n");
    for process in report.leaks.iter().take(SHOWN) {
        leak(&mut out, process, style);
    }
    out.push_str(&and_more(report.leaks.len()));
    out
}

fn leak(out: &mut String, process: &RunProcess, style: Style) {
    let _ = writeln!(out, "  {} {}", process.pid, argv(process));
    let mut line = |label: &str, text: String| {
        if !text.is_empty() {
            let _ = writeln!(out, "    {}  {text}", style.dim(&format!("{label:<6}")));
        }
    };
    let started = match process.ancestors.as_slice() {
        [] => String::new(),
        chain => {
            let chain: Vec<String> = chain
                .iter()
                .map(|above| format!("{} ({})", clean(&above.comm), above.pid))
                .collect();
            format!(", below {}", chain.join(", below "))
        }
    };
    line(
        "age",
        format!(
            "{}, {}{}{started}",
            age(process),
            state(process),
            wait(process)
        ),
    );
    line("left", process.left.join(", "));
    line("holds", holds(process));
    line("cgroup", clean(&process.cgroup).into_owned());
}

fn holds(process: &RunProcess) -> String {
    let mut held: Vec<String> = process
        .ports
        .iter()
        .map(|port| clean(port).into_owned())
        .collect();
    if process.holds_our_output {
        held.push("our output (whoever reads it would have waited)".to_owned());
    }
    held.extend(process.files.iter().map(|file| clean(file).into_owned()));
    held.join(", ")
}

fn not_verified(report: &RunReport, style: Style) -> String {
    let reason = report.reason.as_deref().unwrap_or("no reason was given");
    match report.verdict {
        None | Some(Verdict::Verified) => String::new(),
        Some(Verdict::Unverified) => format!(
            "{}: not proven that nothing is left: {}\n",
            style.warn(US),
            clean(reason)
        ),
        Some(Verdict::Lingering) => {
            let mut out = format!(
                "{}: {} survived everything: {}\n",
                style.bad(US),
                count(report.survivors.len()),
                clean(reason)
            );
            for survivor in &report.survivors {
                let argv = clean(&survivor.argv.join(" ")).into_owned();
                let _ = write!(out, "  {} {argv}  state {}", survivor.pid, survivor.state);
                if !survivor.wchan.is_empty() {
                    let _ = write!(out, " in {}", clean(&survivor.wchan));
                }
                if survivor.tracer != 0 {
                    let _ = write!(out, ", traced by {}", survivor.tracer);
                }
                let _ = writeln!(out, ", cgroup {}", clean(&survivor.cgroup));
            }
            out
        }
    }
}

/// Lines that GitHub Actions shows on the run's page.
pub(super) fn annotations(report: &RunReport, args: &RunArgs) -> String {
    let mut out = String::new();
    let mut annotate = |level: &str, title: &str, text: &str| {
        let text = text
            .replace('%', "%25")
            .replace('\r', "%0D")
            .replace('\n', "%0A");
        let _ = writeln!(out, "::{level} title={title}::{text}");
    };
    if args.leaks != Leaks::Allow {
        let level = match args.leaks {
            Leaks::Fail => "error",
            _ => "warning",
        };
        for process in report.leaks.iter().take(ANNOTATED) {
            let mut text = format!("{} {}", process.pid, argv(process));
            let held = holds(process);
            if !held.is_empty() {
                let _ = write!(text, "\nholds {held}");
            }
            annotate(level, "left behind by the command", &text);
        }
    }
    if report.ended_by == "timeout" {
        let after = render::duration(args.timeout.unwrap_or_default());
        annotate("error", "timed out", &format!("not done after {after}"));
    }
    if let Some(words) = out_of_memory(report, args) {
        annotate("error", "out of memory", &words);
    }
    if report.verdict == Some(Verdict::Lingering) {
        let reason = report.reason.clone().unwrap_or_default();
        annotate("error", "processes survive", &clean(&reason));
    }
    out
}

// ---- small parts --------------------------------------------------------------------------

pub(super) fn exit_words(exit: &Exit) -> String {
    match exit {
        Exit::Code { code } => format!("exit code {code}"),
        Exit::Signal { signal, .. } => signal.clone(),
    }
}

fn times(times: u64) -> String {
    match times {
        1 => "once".to_owned(),
        times => format!("{times} times"),
    }
}

fn and_more(processes: usize) -> String {
    match processes.saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!("  and {more} more\n"),
    }
}

fn count(processes: usize) -> String {
    match processes {
        1 => "1 process".to_owned(),
        processes => format!("{processes} processes"),
    }
}

/// The command line, cut where it becomes a text of its own.
pub(super) fn argv(process: &RunProcess) -> String {
    let whole = process.argv.join(" ");
    let mut shown: String = whole.chars().take(ARGV_SHOWN).collect();
    if shown.len() < whole.len() {
        shown.push('…');
    }
    clean(&shown).into_owned()
}

/// Characters of a command line that are shown; the report has all.
const ARGV_SHOWN: usize = 160;

fn age(process: &RunProcess) -> String {
    let seconds = (process.age_ms / 1000.0).clamp(0.0, 1e9);
    render::duration(Duration::from_secs_f64(seconds))
}

fn state(process: &RunProcess) -> &'static str {
    match process.state.as_str() {
        "R" => "running",
        "S" => "sleeping",
        "D" => "stuck in the kernel (D)",
        "T" | "t" => "stopped",
        "Z" => "main thread ended",
        _ => "in a state of its own",
    }
}

fn wait(process: &RunProcess) -> String {
    if process.wchan.is_empty() {
        String::new()
    } else {
        format!(" in {}", clean(&process.wchan))
    }
}
