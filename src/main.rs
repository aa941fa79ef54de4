//! The command line's entry.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nought::api::{RunProcess, RunReport};
use nought::cli::{self, Cleared, Demand, InitArgs, Leaks, RunArgs, Teller};
use nought::driver::Options;
use nought::init::Home;
use nought::logs;
use nought::run::{
    self, CpuMax, Guarantee, JobOptions, JobSettings, Left, Limits, Onlooker, Signal,
};
use nought::{api, init, sys};

/// A shutdown ends within this where a container engine waits for it.
const DEADLINE_CONTAINER: Duration = Duration::from_secs(25);
/// And within this elsewhere.
const DEADLINE_HOST: Duration = Duration::from_secs(90);
/// How long the proof may take that nothing is left of a killed run.
const CLEAN: Duration = Duration::from_secs(5);
/// A line of a log is rarely longer.
const USUAL_LINE_BYTES: usize = 128;
/// Where Kubernetes looks for a container's last words (terminationMessagePath's default).
const TERMINATION_LOG: &str = "/dev/termination-log";

fn main() -> ExitCode {
    if let Some(code) = sys::selftest::run_if_probe() {
        return code;
    }
    let init = |args: InitArgs| {
        let home = Home {
            container: args.container,
            watchdog: args.watchdog,
            debug: args.debug,
        };
        init::run(options(args), &home)
    };
    let job =
        |args: &RunArgs, teller: &mut Teller<'_>| Ok(run::run(&job(args)?, &mut Told(teller)));
    let clean = || run::clean(CLEAN).into_iter().map(cleared).collect();
    cli::run(std::env::args_os(), init, job, clean)
}

fn cleared(left: Left) -> Cleared {
    Cleared {
        cgroup: left.cgroup,
        processes: left.processes,
        verdict: left.verdict.map(|verdict| match verdict {
            run::Verdict::Verified => api::Verdict::Verified,
            run::Verdict::Lingering => api::Verdict::Lingering,
            run::Verdict::Unverified => api::Verdict::Unverified,
        }),
    }
}

/// A run's onlooker tells it on standard error.
struct Told<'a, 'b>(&'a mut Teller<'b>);

impl Onlooker for Told<'_, '_> {
    fn evidence(&mut self, after: Duration, running: &[RunProcess]) {
        self.0.evidence(after, running);
    }

    fn note(&mut self, text: &str) {
        self.0.note(text);
    }

    fn interrupted(&mut self, signal: i32, alone: bool) {
        self.0.interrupted(signal, alone);
    }

    fn orphaned(&mut self, report: &RunReport) {
        self.0.orphaned(report);
    }
}

fn job(args: &RunArgs) -> anyhow::Result<JobOptions> {
    let mut forward = Vec::new();
    for name in ["USR1", "USR2"]
        .into_iter()
        .chain(args.forward.iter().map(String::as_str))
    {
        let signal = Signal::parse(name)
            .with_context(|| format!("there is no signal `{name}` to forward"))?;
        if matches!(signal.to_string().as_str(), "SIGKILL" | "SIGSTOP") {
            bail!("{signal} cannot be forwarded: the kernel lets nobody catch it");
        }
        forward.push(signal);
    }
    let min_guarantee = args.min_guarantee.as_deref().map(Guarantee::asked_for);
    let min_guarantee = min_guarantee.transpose().map_err(anyhow::Error::msg)?;
    Ok(JobOptions {
        argv: args.command.clone(),
        env: environment(&args.env)?,
        dir: args.dir.clone(),
        user: args.user.clone(),
        settings: JobSettings {
            grace: args.grace,
            leak_grace: args.leak_grace,
            settle: args.settle,
            kill_timeout: args.kill_timeout,
            timeout: args.timeout,
            timeout_command: args.on_timeout.is_some(),
        },
        on_timeout: args.on_timeout.clone(),
        keep: args.keep.clone(),
        forward,
        pidns: args.pidns,
        limits: Limits {
            memory_max: args.memory,
            // Of a tenth of a second, in microseconds: a tenth of the millionths.
            cpu_max: args.cpus.map(|millionths| CpuMax {
                quota_us: millionths / 10,
                period_us: 100_000,
            }),
            pids_max: args.pids,
            ..Limits::default()
        },
        limits_optional: args.limits == Demand::Optional,
        min_guarantee,
        fail_on_leaks: args.leaks == Leaks::Fail,
    })
}

/// Our environment with what `--env` sets and takes away.
fn environment(changes: &[OsString]) -> anyhow::Result<Vec<(OsString, OsString)>> {
    let mut env: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    for change in changes {
        let bytes = change.as_bytes();
        let (name, value) = match bytes.iter().position(|byte| *byte == b'=') {
            Some(at) => (bytes.get(..at), bytes.get(at + 1..)),
            None => (Some(bytes), None),
        };
        let owned = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        let name = owned(name.unwrap_or_default());
        if name.is_empty() {
            let change = change.to_string_lossy();
            bail!("`--env {change}` names no variable: write NAME=VALUE, or NAME to take it away");
        }
        env.retain(|(known, _)| *known != name);
        env.extend(value.map(|value| (name, owned(value))));
    }
    Ok(env)
}

fn options(args: InitArgs) -> Options {
    let deadline = if args.container {
        DEADLINE_CONTAINER
    } else {
        DEADLINE_HOST
    };
    let kubernetes = args.container.then(|| TERMINATION_LOG.into());
    Options {
        // Problems and hints name it to people elsewhere.
        config: std::path::absolute(&args.config_dir).unwrap_or(args.config_dir),
        socket: args.socket,
        state_dir: args.state_dir,
        deadline: args.deadline.unwrap_or(deadline),
        http: args.http,
        http_read_only: args.http_read_only,
        watch: args.watch,
        termination_log: args.termination_log.or(kubernetes),
        ring: ring(args.ring_lines),
        dialect: args.dialect,
        socket_group: args.socket_group,
        debug: args.debug,
        min_guarantee: args.min_guarantee,
        together: args.together,
        machine: None,
    }
}

/// What is kept of each service's output. Whoever asks for so many lines gets room for them, were
/// they of a usual length: the bound is in bytes all the same.
fn ring(lines: Option<usize>) -> logs::Limits {
    let usual = logs::Limits::default();
    match lines {
        None => usual,
        Some(lines) => logs::Limits {
            ring_lines: lines,
            ring_bytes: usual.ring_bytes.max(lines.saturating_mul(USUAL_LINE_BYTES)),
        },
    }
}
