//! What the supervisor says of what happens, for people who read its log.

use crate::control::Clocks;
use crate::core::{
    Cause, Foreigner, Notice, Outcome, Receipt, ShutdownKind, Supervisor, Survivor, SweepReport,
    Verdict,
};
use crate::sys::clock;

pub(super) fn clocks() -> Clocks {
    Clocks {
        boot: super::run::now(),
        wall_ms: clock::wall_now_ms(),
    }
}

/// A line for what the core noticed.
pub(super) fn notice(core: &Supervisor, notice: &Notice) {
    let name = |service| core.spec(service).map_or("?", |spec| spec.name.as_str());
    match notice {
        Notice::State {
            service,
            state,
            detail,
        } => {
            let service = name(*service);
            let detail = if detail.is_empty() {
                String::new()
            } else {
                format!(": {detail}")
            };
            match *state {
                // Receipts tell of these with all they know.
                "down" | "lingering" | "blocked" | "stopping" => {
                    tracing::debug!("{service}: {state}{detail}")
                }
                "failed" => tracing::error!("{service}: {state}{detail}"),
                "backoff" => tracing::warn!("{service}: {state}{detail}"),
                _ => tracing::info!("{service}: {state}{detail}"),
            }
        }
        Notice::Trouble { service, detail } => {
            tracing::warn!("{}: failed to {detail}", name(*service))
        }
        Notice::ShutdownBegan { kind, running, .. } => {
            tracing::info!("{}: stopping {running} service(s)", word(*kind));
        }
        Notice::ShutdownTurned { kind } => {
            tracing::warn!("asked for another end: it is to be a {}", word(*kind));
        }
        Notice::StopsAll { service, key, how } => {
            tracing::warn!("{}: {how}: everything stops ({key})", name(*service));
        }
        Notice::Hurry => tracing::warn!("shutdown: asked again, so every grace ends now"),
    }
}

fn word(kind: ShutdownKind) -> &'static str {
    match kind {
        ShutdownKind::PowerOff => "shutdown",
        ShutdownKind::Reboot => "reboot",
        ShutdownKind::Halt => "halt",
        ShutdownKind::Kexec => "kexec",
    }
}

/// A line for a verdict.
pub(super) fn receipt(receipt: &Receipt) {
    let ms = receipt.ended.since(receipt.began).as_secs_f64() * 1000.0;
    let mut parts = Vec::new();
    parts.extend(receipt.exit.map(|exit| exit.to_string()));
    let count = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
    parts.extend(count(receipt.killed.len(), "killed"));
    parts.extend(count(receipt.escaped.len(), "escaped and killed"));
    parts.extend(count(receipt.foreign.len(), "foreign"));
    parts.extend(count(receipt.kept.len(), "kept"));
    parts.extend(receipt.reason.clone());
    let (service, verdict) = (&receipt.service, receipt.verdict.as_str());
    let late = if receipt.late { " at last" } else { "" };
    let cause = match receipt.cause {
        Cause::Leftover => " (left behind by an earlier supervisor)",
        Cause::Ended => " (ended by itself)",
        Cause::StartFailed => " (could not be started)",
        Cause::Unhealthy => " (was not healthy)",
        Cause::Dependency => " (a service it requires went down)",
        Cause::Stop | Cause::Restart | Cause::Shutdown => "",
    };
    let line = format!(
        "{service}: {verdict}{late} in {ms:.1} ms{cause}: {}",
        parts.join(", ")
    );
    match receipt.verdict {
        Verdict::Verified => tracing::info!("{line}"),
        Verdict::Unverified => tracing::warn!("{line}"),
        Verdict::Lingering => {
            tracing::error!("{line}");
            receipt.survivors.iter().for_each(survivor);
        }
    }
}

fn survivor(survivor: &Survivor) {
    let Survivor {
        pid,
        argv,
        state,
        wchan,
        tracer,
        cgroup,
        ..
    } = survivor;
    let traced = if *tracer > 0 {
        format!(", traced by {tracer}")
    } else {
        String::new()
    };
    let waits = if wchan.is_empty() {
        String::new()
    } else {
        format!(" in {wchan}")
    };
    tracing::error!(
        "  survivor {pid}: {}: state {state}{waits}{traced}, cgroup {cgroup}",
        argv.join(" ")
    );
}

/// What the final sweep found that is not a survivor: the outcome has no word for it.
pub(super) fn swept(report: &SweepReport) {
    for Foreigner { process, why } in &report.foreign {
        tracing::warn!(
            "final sweep: process {} ({}): {why}",
            process.pid,
            process.comm
        );
    }
    for path in &report.cgroups_left {
        tracing::warn!("left standing: the cgroup {path}");
    }
}

/// The last lines: what is proven of the whole.
pub(super) fn outcome(outcome: &Outcome, core_guarantee: &str) {
    for left in &outcome.survivors {
        survivor(left);
    }
    if let Some(error) = &outcome.sweep_error {
        tracing::error!("final sweep: failed to {error}");
    }
    if outcome.deadline_hit {
        tracing::error!("the shutdown's deadline came before everything had its verdict");
    }
    let (lingering, unverified) = (&outcome.lingering, &outcome.unverified);
    if let Some(because) = &outcome.because {
        let (service, code) = (&because.service, because.code);
        tracing::info!("everything was stopped because {service} ended; its exit code: {code}");
    }
    let proven = Outcome {
        asked: true,
        because: None,
        ..outcome.clone()
    };
    match proven.exit_code() {
        0 => tracing::info!("verified: every service is gone, nothing is left ({core_guarantee})"),
        70 => tracing::error!(
            "lingering: {}: {} process(es) are left",
            lingering.join(", "),
            outcome.survivors.len()
        ),
        _ if unverified.is_empty() => {
            tracing::warn!("unverified: the final sweep ({core_guarantee})")
        }
        _ => tracing::warn!("unverified: {} ({core_guarantee})", unverified.join(", ")),
    }
}
