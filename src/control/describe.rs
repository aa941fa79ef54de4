//! The core's views and receipts in the words of the wire.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::api::{self, millis_from_nanos};
use crate::core::{
    Allotment, Exit, Failed, Foreigner, GenId, Plan, Planned, Proc, Reach, Receipt, Rung,
    ServiceView, Signal, Supervisor, Survivor, Target, Time, Verdict,
};

/// The two clocks read at one moment, to tell wall time for a moment of boot time.
#[derive(Clone, Copy, Debug)]
pub struct Clocks {
    /// CLOCK_BOOTTIME.
    pub boot: Time,
    /// Milliseconds since the Unix epoch at that moment; 0 when it could not be read.
    pub wall_ms: u64,
}

impl Clocks {
    /// A moment of boot time on the wall clock; `None` where that could not be read.
    pub fn rfc3339(self, at: Time) -> Option<String> {
        let ago = u64::try_from(self.boot.since(at).as_millis()).ok()?;
        let wall_ms = self.wall_ms.checked_sub(ago).filter(|ms| *ms > 0)?;
        let wall = UNIX_EPOCH.checked_add(Duration::from_millis(wall_ms))?;
        Some(humantime::format_rfc3339_millis(wall).to_string())
    }
}

/// What there is to know of the supervisor, in the words of the wire.
pub fn info(
    core: &Supervisor,
    base: Option<&Path>,
    config_dir: &Path,
    notes: &[String],
) -> api::Info {
    let guarantee = core.guarantee();
    let services = core.views().iter().filter(|view| !view.ghost).count();
    api::Info {
        version: env!("CARGO_PKG_VERSION").into(),
        json_version: api::JSON_VERSION,
        pid: std::process::id(),
        guarantee: guarantee.to_string(),
        containment: guarantee.containment.as_str().into(),
        scan: guarantee.scan.as_str().into(),
        base: base
            .map(|base| base.display().to_string())
            .unwrap_or_default(),
        config_dir: config_dir.display().to_string(),
        // The connection that asks knows.
        http: Vec::new(),
        http_token: String::new(),
        uptime_ms: 0,
        notes: notes.to_vec(),
        services: u64::try_from(services).unwrap_or(u64::MAX),
        shutting_down: core.shutting_down(),
    }
}

/// A service as both kinds of client see it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// In our own words.
    pub status: api::ServiceStatus,
    /// In zinit's.
    pub zinit: api::ZinitStatus,
    /// Whether it is a leftover or a lingering generation beside a forced start.
    pub ghost: bool,
}

/// What there is to see of a service. How many processes it has is not the core's to know.
pub fn see(core: &Supervisor, view: &ServiceView<'_>) -> Seen {
    let states = core.dependency_states(&view.spec.name);
    let of = |names: &[String]| -> BTreeMap<String, String> {
        let state = |name: &String| states.get(name).copied().unwrap_or("unknown").to_owned();
        names
            .iter()
            .map(|name| (name.clone(), state(name)))
            .collect()
    };
    let status = api::ServiceStatus {
        name: view.spec.name.clone(),
        state: state(view.state),
        detail: detail(view),
        target: target(view.target).to_lowercase(),
        pid: view.pid.unwrap_or(0),
        generation: generation(view).map_or(0, |r#gen| r#gen.0),
        since_ms: millis(view.since),
        restarts: view.starts.saturating_sub(1),
        processes: 0,
        memory_bytes: None,
        guarantee: view.spec.guarantee(core.guarantee()).to_string(),
        last_exit: view.last.and_then(|last| last.exit).map(exit),
        last_oom_kills: view.receipt.map_or(0, |receipt| receipt.oom_kills),
        oom_kills: view.oom_kills,
        next_start_ms: view.next_start.map(millis),
        left_ms: view.left.map(millis),
        rung: view.rung.map(str::to_owned),
        last_start: start_times(view),
        after: of(&view.spec.after),
        requires: of(&view.spec.requires),
    };
    let lingering = view.receipt.filter(|_| view.state == "lingering");
    let survivor = lingering.and_then(|r| r.survivors.iter().map(|s| s.pid).find(|pid| *pid != 0));
    let after = view.spec.dependencies().map(|name| {
        let state = core
            .view(name)
            .map_or("Unknown".into(), |dep| zinit_state(&dep));
        (name.to_owned(), state)
    });
    let zinit = api::ZinitStatus {
        name: view.spec.name.clone(),
        // A lingering service never looks stopped: clients take pid 0 and target Down for that.
        pid: view
            .pid
            .or(survivor)
            .unwrap_or(u32::from(lingering.is_some())),
        state: zinit_state(view),
        target: target(view.target).into(),
        after: after.collect(),
    };
    Seen {
        status,
        zinit,
        ghost: view.ghost,
    }
}

fn start_times(view: &ServiceView<'_>) -> Option<api::StartTimes> {
    let mono = |at: Time| millis_from_nanos(at.as_nanos());
    // Wanted again, and waiting: what began before was another start.
    let begun = view.begun.filter(|begun| *begun >= view.asked)?;
    Some(api::StartTimes {
        asked_mono_ms: mono(view.asked),
        began_mono_ms: mono(begun),
        ready_mono_ms: view.ready.map(mono),
        waited_for: view.start_waited.map(str::to_owned),
    })
}

/// Why it is in its state; while it waits to be started again, what went wrong the last time.
fn detail(view: &ServiceView<'_>) -> String {
    let failure = || view.last.and_then(|last| last.failure.clone());
    match view.state {
        "backoff" if view.detail.is_empty() => failure().unwrap_or_default(),
        _ => view.detail.clone(),
    }
}

/// This start, or the last that was.
fn generation(view: &ServiceView<'_>) -> Option<GenId> {
    view.r#gen.or(view.receipt.map(|receipt| receipt.r#gen))
}

fn target(target: Target) -> &'static str {
    match target {
        Target::Up => "Up",
        Target::Down => "Down",
    }
}

/// A state's word as the wire's enum.
pub(super) fn state(word: &str) -> api::ServiceState {
    use api::ServiceState as S;
    let all = [
        S::Down,
        S::Blocked,
        S::Listening,
        S::Starting,
        S::Up,
        S::Stopping,
        S::Lingering,
        S::Backoff,
        S::Failed,
        S::Done,
    ];
    all.into_iter()
        .find(|state| state.as_str() == word)
        .unwrap_or(S::Unknown)
}

/// The state as zinit's Debug prints its own.
fn zinit_state(view: &ServiceView<'_>) -> String {
    match view.state {
        // zinit has no word for what waits for somebody to connect.
        "blocked" | "listening" => "Blocked".into(),
        "starting" if view.test_failing => "TestFailure".into(),
        "starting" if view.spec.oneshot && view.pid.is_some() => "Running".into(),
        "starting" => "Spawned".into(),
        "up" | "stopping" => "Running".into(),
        "done" => "Success".into(),
        "lingering" => "Error(Lingering)".into(),
        _ => ended_state(view),
    }
}

fn ended_state(view: &ServiceView<'_>) -> String {
    let Some(last) = view.last else {
        return if view.state == "failed" {
            "Failure".into()
        } else {
            "Unknown".into()
        };
    };
    let pid = last.pid.unwrap_or(0);
    match last.exit {
        _ if last.failure.is_some() => "Failure".into(),
        Some(Exit::Code(0)) => "Success".into(),
        Some(Exit::Code(code)) => format!("Error(Exited(Pid({pid}), {code}))"),
        Some(Exit::Signal { signal, core }) => {
            let name =
                Signal::from_number(signal).map_or_else(|| signal.to_string(), |s| s.to_string());
            format!("Error(Signaled(Pid({pid}), {name}, {core}))")
        }
        None => "Unknown".into(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn millis_f64(duration: Duration) -> f64 {
    millis_from_nanos(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

/// How a service went down, by a stored receipt; `None`: in no shutdown.
pub fn course(line: &str) -> Option<api::Course> {
    api::Course::of_line(line)
}

/// A receipt in the words of the wire.
pub fn receipt(receipt: &Receipt, clocks: Clocks) -> api::Receipt {
    api::Receipt {
        service: receipt.service.clone(),
        generation: receipt.r#gen.0,
        pid: receipt.pid,
        cause: receipt.cause.as_str().into(),
        verdict: match receipt.verdict {
            Verdict::Verified => api::Verdict::Verified,
            Verdict::Lingering => api::Verdict::Lingering,
            Verdict::Unverified => api::Verdict::Unverified,
        },
        reason: receipt.reason.clone(),
        guarantee: api::GuaranteeWords {
            containment: receipt.guarantee.containment.as_str().into(),
            scan: receipt.guarantee.scan.as_str().into(),
        },
        started_at: receipt.started.and_then(|at| clocks.rfc3339(at)),
        began_at: clocks.rfc3339(receipt.began),
        ended_at: clocks.rfc3339(receipt.ended),
        started_mono_ms: receipt.started.map(|at| millis_from_nanos(at.as_nanos())),
        began_mono_ms: millis_from_nanos(receipt.began.as_nanos()),
        ended_mono_ms: millis_from_nanos(receipt.ended.as_nanos()),
        elapsed_ms: millis_f64(receipt.ended.since(receipt.began)),
        exit: receipt.exit.map(exit),
        oom_kills: receipt.oom_kills,
        budget: receipt.allotment.map(budget),
        waited_for: receipt.waited_for.clone(),
        rungs: receipt
            .steps
            .iter()
            .map(|step| rung(&step.rung, step.at.since(receipt.began)))
            .collect(),
        killed: receipt.killed.iter().map(process).collect(),
        escaped: receipt.escaped.iter().map(process).collect(),
        foreign: receipt.foreign.iter().map(foreigner).collect(),
        kept: receipt.kept.iter().map(process).collect(),
        survivors: receipt.survivors.iter().map(survivor).collect(),
        late: receipt.late,
    }
}

fn budget(allotment: Allotment) -> api::Budget {
    api::Budget {
        wish_ms: millis_f64(allotment.wish),
        planned_ms: millis_f64(allotment.planned),
        granted_ms: millis_f64(allotment.granted),
        reserve_ms: millis_f64(allotment.reserve),
        turn_ms: millis_f64(allotment.turn),
        asked_ms: millis_f64(allotment.asked_after),
        deadline_ms: millis_f64(allotment.deadline),
    }
}

/// How a process ended, in the words of the wire.
pub fn exit(exit: Exit) -> api::Exit {
    match exit {
        Exit::Code(code) => api::Exit::Code { code },
        Exit::Signal { signal, core } => {
            let name =
                Signal::from_number(signal).map_or_else(|| signal.to_string(), |s| s.to_string());
            api::Exit::Signal {
                signal: name,
                number: signal,
                core,
            }
        }
    }
}

fn rung(rung: &Rung, at: Duration) -> api::Rung {
    let mut wire = api::Rung {
        rung: rung.as_str().into(),
        at_ms: millis_f64(at),
        ..api::Rung::default()
    };
    match rung {
        Rung::Signal { signal, to, grace } => {
            wire.signal = Some(signal.to_string());
            wire.to = Some((*to).into());
            wire.grace_ms = Some(millis_f64(*grace));
        }
        Rung::MainExited { exit: how } => wire.exit = Some(exit(*how)),
        Rung::StopCommandEnded { exit: how } => wire.exit = how.map(exit),
        Rung::Scan {
            escaped,
            conclusive,
        } => {
            wire.escaped = u64::try_from(*escaped).ok();
            wire.conclusive = Some(*conclusive);
        }
        Rung::Trouble(failed) => wire.error = Some(failure(failed)),
        Rung::AwaitSpawn
        | Rung::StopCommand
        | Rung::Empty
        | Rung::Kill
        | Rung::FenceBusy
        | Rung::Fence
        | Rung::Inspect => {}
    }
    wire
}

fn failure(failed: &Failed) -> api::Failure {
    api::Failure {
        doing: failed.doing.clone(),
        what: failed.what.clone(),
        errno: failed.errno,
        why: failed.why.clone(),
    }
}

fn process(process: &Proc) -> api::Process {
    api::Process {
        pid: process.pid,
        ppid: process.ppid,
        comm: process.comm.clone(),
    }
}

fn foreigner(foreigner: &Foreigner) -> api::ForeignProcess {
    let Proc { pid, ppid, comm } = foreigner.process.clone();
    api::ForeignProcess {
        pid,
        ppid,
        comm,
        why: foreigner.why.clone(),
    }
}

fn survivor(survivor: &Survivor) -> api::Survivor {
    let Survivor {
        pid,
        ppid,
        argv,
        state,
        wchan,
        stack,
        tracer,
        threads,
        cgroup,
        mounts,
        sockets,
    } = survivor.clone();
    api::Survivor {
        pid,
        ppid,
        argv,
        state: state.to_string(),
        wchan,
        stack,
        tracer,
        threads,
        cgroup,
        mounts,
        sockets,
    }
}

/// A plan in the words of the wire.
pub(super) fn plan(plan: &Plan) -> api::Plan {
    api::Plan {
        services: plan.services.iter().map(planned).collect(),
        worst_ms: millis_f64(plan.worst),
        deadline_ms: plan.deadline.map(millis_f64),
        end_reserve_ms: plan.end_reserve.map(millis_f64),
    }
}

fn planned(planned: &Planned) -> api::Planned {
    api::Planned {
        service: planned.service.clone(),
        state: planned.state.into(),
        wave: planned.wave,
        waits_for: planned.waits_for.clone(),
        stop_command: planned.stop_command,
        signal: planned.signal.to_string(),
        to: match planned.to {
            Reach::Main => "main",
            Reach::Group => "group",
            Reach::All => "all",
        }
        .into(),
        wish_ms: millis_f64(planned.wish),
        grace_ms: millis_f64(planned.grace),
        proof_ms: millis_f64(planned.proof),
        asked_at_ms: millis_f64(planned.asked_at),
        ends_at_ms: millis_f64(planned.ends_at),
        budget: planned.allotment.map(budget),
    }
}
