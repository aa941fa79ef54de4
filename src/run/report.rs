//! How a run ended, in the words of its report, and the exit code.

use std::time::Duration;

use super::JobOptions;
use super::result::{JobEnd, Process};
use crate::api::{GuaranteeWords, RunAncestor, RunProcess, RunReport, millis_from_nanos};
use crate::control;
use crate::core::{Exit, Time, Verdict, Why};

/// Exit codes: left behind although asked not to (`--leaks=fail`); something survives; the time
/// was over; our own failure; as timeout(1) and env(1) have them from 124 on.
const LEAKED: u8 = 120;
const LINGERS: u8 = 121;
const TIMED_OUT: u8 = 124;
const FAILED: u8 = 125;

pub(super) fn report(end: &JobEnd, options: &JobOptions) -> RunReport {
    let receipt = end.receipt.as_deref();
    let receipt = receipt.map(|receipt| control::receipt(receipt, end.clocks));
    let between = |from: u64, to: u64| millis_from_nanos(to.saturating_sub(from));
    let moments = end.moments;
    let used = end.usage.cgroup;
    let wall = |nanos| end.clocks.rfc3339(Time::from_nanos(nanos));
    RunReport {
        version: env!("CARGO_PKG_VERSION").into(),
        command: options
            .argv
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        pid: end.pid,
        exit_code: exit_code(end, options.fail_on_leaks),
        exit: end.exit.map(control::exit),
        ended_by: ended_by(end.why).into(),
        signal: match end.why {
            Why::Signal(signal) => Some(signal.to_string()),
            _ => None,
        },
        error: end.not_started.as_ref().map(|not| not.text.clone()),
        verdict: receipt.as_ref().map(|receipt| receipt.verdict),
        reason: receipt.as_ref().and_then(|receipt| receipt.reason.clone()),
        guarantee: GuaranteeWords {
            containment: end.guarantee.containment.as_str().into(),
            scan: end.guarantee.scan.as_str().into(),
        },
        leaks: end.leaks.iter().map(process).collect(),
        kept: end.kept.iter().map(process).collect(),
        survivors: receipt
            .as_ref()
            .map(|receipt| receipt.survivors.clone())
            .unwrap_or_default(),
        started_at: wall(moments.started),
        ended_at: wall(moments.over),
        command_ms: (moments.ended > 0).then(|| between(moments.started, moments.ended)),
        total_ms: between(moments.started, moments.over),
        cpu_ms: used.cpu.map(|cpu| millis(cpu.total())),
        throttled_ms: used.throttled.map(millis),
        memory_peak_bytes: used.memory_peak_bytes,
        oom_kills: used.oom_kills,
        pids_refused: used.pids_refused,
        largest_process_bytes: end.usage.largest_process,
        limits_unmet: end.unmet.clone(),
        notes: end.notes.clone(),
        receipt,
    }
}

fn exit_code(end: &JobEnd, fail_on_leaks: bool) -> u8 {
    let lingers = end
        .receipt
        .as_ref()
        .is_some_and(|receipt| receipt.verdict == Verdict::Lingering);
    if let Some(not) = &end.not_started {
        return not.code;
    }
    if lingers {
        return LINGERS;
    }
    match (end.why, end.exit) {
        (Why::Timeout, _) => TIMED_OUT,
        (_, Some(Exit::Code(0))) if fail_on_leaks && !end.leaks.is_empty() => LEAKED,
        (_, Some(Exit::Code(code))) => u8::try_from(code).unwrap_or(FAILED),
        (_, Some(Exit::Signal { signal, .. })) => u8::try_from(128 + signal).unwrap_or(FAILED),
        (_, None) => FAILED,
    }
}

fn ended_by(why: Why) -> &'static str {
    match why {
        Why::Itself => "itself",
        Why::Timeout => "timeout",
        Why::Signal(_) => "signal",
        Why::NotStarted => "not-started",
        Why::Orphaned => "run-killed",
    }
}

fn millis(duration: Duration) -> f64 {
    millis_from_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// A process in the words of the report.
pub(super) fn process(process: &Process) -> RunProcess {
    let holdings = &process.holdings;
    RunProcess {
        pid: process.pid,
        ppid: process.ppid,
        argv: process.argv.clone(),
        state: process.state.to_string(),
        wchan: process.wchan.clone(),
        age_ms: millis(process.age),
        cgroup: process.cgroup.clone(),
        ancestors: process
            .chain
            .iter()
            .map(|(pid, comm)| RunAncestor {
                pid: *pid,
                comm: comm.clone(),
            })
            .collect(),
        left: process.left.iter().map(|left| (*left).to_owned()).collect(),
        ports: holdings.ports.clone(),
        files: holdings.files.clone(),
        descriptors: u64::try_from(holdings.descriptors).unwrap_or(u64::MAX),
        holds_our_output: !holdings.our_output.is_empty(),
    }
}
