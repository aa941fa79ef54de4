//! The driver: events one way, effects the other.
//!
//! ```text
//!   intake: readiness → Event                          dispatch: Effect → system call
//!   SIGCHLD, inotify, timer, messages  ──► core ──►    inline, or off the loop with an answer
//! ```
//!
//! One thread runs the loop and the connections. What may block (cgroup.kill, rmdir, clone,
//! scans, files) runs on blocking threads and comes back as a message.

mod answers;
mod check;
mod dispatch;
mod generation;
mod intake;
mod keep;
mod lane;
mod last_words;
mod leftovers;
mod message;
mod place;
mod report;
mod resolve;
mod run;
mod scans;
mod store;
mod sweep;
mod threads;
mod translate;

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;

use crate::core::{GenId, Outcome, Settings, ShutdownKind, Supervisor};
use crate::logs::{self, Limits, Logs, Sink};
use crate::sys::socket::{Listening, SocketError};
use crate::sys::{clock, heap, reap, rlimit, signal, socket};
use crate::{config, control, state};

use place::Place;
use run::{Driver, Ends, Parts, now};
use store::Store;
use threads::Threads;

/// How long the last lines may take to get out.
const LAST_LINES: Duration = Duration::from_secs(1);
/// How often a socket is tried again on which somebody listens, and the pause between: half a
/// second in all.
const LISTEN_TRIES: u32 = 50;
const LISTEN_PAUSE: Duration = Duration::from_millis(10);

/// How the supervisor is to run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory of service files.
    pub config: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
    /// The state directory; `None`: the default for the socket.
    pub state_dir: Option<PathBuf>,
    /// How long a shutdown may take in all.
    pub deadline: Duration,
    /// Lines kept in memory for each service.
    pub ring_lines: usize,
    /// Where probes and metrics are served over HTTP; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// The file that the verdict on the whole is written to at the end, if it is there
    /// (Kubernetes mounts /dev/termination-log); `None`: none.
    pub termination_log: Option<PathBuf>,
    /// Log at debug level.
    pub debug: bool,
}

/// How the supervisor ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The exit code: 0, 70 when anything lingers, 71 when the end could not be proven.
    pub exit_code: u8,
    /// A reboot was asked for, not a shutdown.
    pub reboot: bool,
}

/// Runs the supervisor to its end.
///
/// # Errors
/// When it cannot begin: the state directory or the socket cannot be had, or a descriptor the
/// loop needs. Once it has begun nothing makes it give up.
pub fn run(options: &Options) -> anyhow::Result<End> {
    let sink = Sink::stdio();
    let level = logs::level(options.debug, std::env::var("NOUGHT_LOG").ok().as_deref())?;
    // Before any thread, which would inherit the mask.
    signal::unblock_all()?;
    heap::share_one_arena();
    logs::install(sink.clone(), level).context("failed to install the log")?;
    let open_files = rlimit::raise_open_files()
        .inspect_err(|error| tracing::warn!("failed to {error}"))
        .ok();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start the event loop")?;
    let outcome = runtime.block_on(supervise(options, sink.clone(), open_files));
    // A thread that hangs in the kernel must not keep us from ending.
    runtime.shutdown_background();
    sink.flush(LAST_LINES);
    outcome.map(|outcome| End {
        exit_code: outcome.exit_code(),
        reboot: outcome.kind == ShutdownKind::Reboot,
    })
}

async fn supervise(
    options: &Options,
    sink: Sink,
    open_files: Option<rlimit::OpenFiles>,
) -> anyhow::Result<Outcome> {
    let ends = Ends::install().context("failed to install the signal handlers")?;
    if let Err(error) = reap::set_child_subreaper() {
        tracing::warn!("failed to {error}");
    }
    let dir = open_state(options)?;
    // Before the socket, which would be left if this fails.
    let http = options.http.map(listen_http).transpose()?;
    let listening = listen(&options.socket)
        .await
        .with_context(|| format!("failed to serve {}", options.socket.display()))?;
    let place = Arc::new(Place::find(&dir));
    announce(&place);
    let loaded = load(&options.config);
    let (leftovers, gens) = leftovers::find(&dir, &place);
    let settings = Settings {
        deadline: options.deadline,
        guarantee: place.guarantee(),
        shortfall: place.notes.join("; "),
        seed: clock::boot_now(),
        first_gen: GenId(dir.next_generation_hint().0.max(1)),
    };
    let mut core = Supervisor::new(settings, now());
    core.load(now(), loaded, leftovers);
    let limits = Limits {
        ring_lines: options.ring_lines,
        ..Limits::default()
    };
    let logs = Logs::new(limits, sink);
    let (asks, asked) = mpsc::unbounded_channel();
    let gauge = control::Gauge::default();
    let threads = Threads::new();
    let listener = listening
        .listener
        .try_clone()
        .context("failed to serve the socket")?;
    let tally = control::Tally::default();
    let http = http
        .map(|listener| tokio::spawn(control::http::serve(listener, asks.clone(), tally.clone())));
    let server = tokio::spawn(control::serve(listener, asks, logs.clone(), gauge.clone()));
    let driver = Driver::new(Parts {
        core,
        previous: dir.previous_instance().cloned(),
        store: Store::new(dir, threads.clone()),
        threads,
        place: Arc::clone(&place),
        gens,
        asks: asked,
        logs,
        gauge,
        tally,
        environment: environment(),
        open_files,
    })?;
    let outcome = driver.run(ends).await;
    server.abort();
    if let Some(http) = http {
        http.abort();
    }
    if let Err(error) = listening.unlink() {
        tracing::warn!("failed to {error}");
    }
    report::outcome(&outcome, &place.guarantee().to_string());
    if let Some(path) = &options.termination_log {
        last_words::write(path, &outcome, &place.guarantee().to_string());
    }
    Ok(outcome)
}

/// Listens on the control socket. A supervisor that was killed while it started something may
/// have left a child that holds its socket until it comes to close it: that passes.
async fn listen(path: &Path) -> Result<Listening, SocketError> {
    let mut tries = LISTEN_TRIES;
    loop {
        match socket::listen_at(path) {
            Err(SocketError::Live(_)) if tries > 0 => tries -= 1,
            other => return other,
        }
        tokio::time::sleep(LISTEN_PAUSE).await;
    }
}

fn listen_http(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).with_context(|| {
        format!(
            "failed to serve HTTP on {address}: give another address to --http, or leave it out"
        )
    })
}

fn open_state(options: &Options) -> anyhow::Result<state::StateDir> {
    let path = match &options.state_dir {
        Some(path) => path.clone(),
        None => state::default_path(
            &options.socket,
            nix::unistd::geteuid().as_raw(),
            std::env::var_os("XDG_RUNTIME_DIR").as_deref(),
        )?,
    };
    let dir = state::StateDir::open(&path)?;
    for remark in dir.remarks() {
        tracing::warn!("{remark}");
    }
    Ok(dir)
}

fn announce(place: &Place) {
    let guarantee = place.guarantee();
    tracing::info!("guarantee here: {guarantee}");
    for note in &place.notes {
        tracing::warn!("{note}");
    }
}

/// The services whose files are good; every problem of the others is logged.
fn load(dir: &Path) -> Vec<crate::core::Spec> {
    let loaded = config::load_dir(dir);
    for problem in &loaded.problems {
        // A record is one line, and a problem shows its place in several.
        for line in problem.to_string().lines() {
            tracing::error!("{line}");
        }
    }
    loaded.services.into_iter().map(|(spec, _)| spec).collect()
}

/// Our environment, and what /etc/environment adds to it.
fn environment() -> Vec<(OsString, OsString)> {
    let mut environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    let Ok(text) = std::fs::read_to_string("/etc/environment") else {
        return environment;
    };
    for (key, value) in config::parse_environment(&text).vars {
        environment.retain(|(known, _)| *known != *key);
        environment.push((key.into(), value.into()));
    }
    environment
}
