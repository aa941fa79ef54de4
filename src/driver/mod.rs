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
mod asked;
mod births;
mod check;
mod clean;
mod dispatch;
mod examine;
mod fd_store;
mod first;
mod generation;
mod intake;
mod keep;
mod ladder;
mod lane;
mod last_words;
mod leftovers;
mod main_pid;
mod message;
pub mod pattern;
mod place;
mod report;
mod resolve;
mod resources;
mod run;
mod scans;
mod service_files;
mod sockets;
mod store;
mod sweep;
mod threads;
mod told;
pub mod translate;
mod watch;
mod watches;

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;

use crate::config::Dialect;
use crate::core::{GenId, Outcome, Settings, Supervisor};
use crate::logs::{self, Limits, Logs, Sink};
use crate::sys::power::Power;
use crate::sys::socket::{Listening, SocketError};
use crate::sys::{clock, heap, reap, rlimit, signal, socket};
use crate::{config, control, state};

pub use crate::core::{Guarantee, Resources, Signal};
pub use clean::{CleanUp, Cleaned, clean};
pub use examine::{Examination, Finding, Surroundings, examine};
pub use ladder::KILL_SETTLE;
pub(crate) use resources::option_for;

use asked::Ends;
use place::Place;
use run::{Driver, Parts, now};
use service_files::ServiceFiles;
use store::Store;
use threads::Threads;

/// Where programs are when our own environment does not say.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What a service manager tells a service (sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)).
const OURS: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
];
/// The file in the state directory that says the token for HTTP.
const HTTP_TOKEN: &str = "http-token";
/// How long whoever asked process 1 for the end may take to read the answer.
const FAREWELL: Duration = Duration::from_secs(1);
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
    /// Whose service files they are.
    pub dialect: Dialect,
    /// A group whose members may use the socket, too.
    pub socket_group: Option<u32>,
    /// The control socket.
    pub socket: PathBuf,
    /// The state directory; `None`: the default for the socket.
    pub state_dir: Option<PathBuf>,
    /// How long a shutdown may take in all.
    pub deadline: Duration,
    /// What is kept in memory of each service's output.
    pub ring: Limits,
    /// Where HTTP is served from the start; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// Nobody may change anything over HTTP.
    pub http_read_only: bool,
    /// The file that the verdict on the whole is written to at the end, if it is there
    /// (Kubernetes mounts /dev/termination-log); `None`: none.
    pub termination_log: Option<PathBuf>,
    /// Bring about what changes in `config` when it changes.
    pub watch: bool,
    /// Log at debug level.
    pub debug: bool,
    /// Do not begin where less can be promised.
    pub min_guarantee: Option<Guarantee>,
    /// What all services may use together.
    pub together: Resources,
    /// As process 1 of a machine.
    pub machine: Option<OnMachine>,
}

/// What is different as process 1 of a machine: signals have its meanings (Ctrl-Alt-Del
/// reboots), and the last resort is armed when a shutdown begins.
#[derive(Clone, Debug)]
pub struct OnMachine {
    /// How long after the shutdown's deadline the last resort acts.
    pub last_resort_after: Duration,
    /// Set to the boot clock, in nanoseconds, again and again while the loop turns: for a
    /// watchdog.
    pub beat: Option<(Arc<AtomicU64>, Duration)>,
}

/// How the supervisor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The exit code: 0, 70 when anything lingers, 71 when the end could not be proven.
    pub exit_code: u8,
    /// What is to become of the machine, where we are its process 1.
    pub power: Power,
    /// Services whose last verdict is lingering.
    pub lingering: Vec<String>,
    /// Services whose last verdict is unverified.
    pub unverified: Vec<String>,
    /// The service whose end stopped everything, where nobody asked for it.
    pub because: Option<String>,
}

/// Runs the supervisor to its end.
///
/// # Errors
/// When it cannot begin: the state directory or the socket cannot be had, or a descriptor the
/// loop needs. Once it has begun nothing makes it give up.
pub fn run(options: &Options, sink: &Sink) -> anyhow::Result<End> {
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
    let outcome = outcome?;
    let because = outcome.because.clone().filter(|_| !outcome.asked);
    Ok(End {
        exit_code: outcome.exit_code(),
        power: translate::power(outcome.kind),
        lingering: outcome.lingering,
        unverified: outcome.unverified,
        because: because.map(|because| because.service),
    })
}

/// Readies the process for [`run`] and for whatever logs before it: signals unblocked, a small
/// heap, the log installed. Before any thread, which would inherit the mask.
///
/// # Errors
/// When NOUGHT_LOG names no level, or the log is installed already.
pub fn ready(debug: bool) -> anyhow::Result<Sink> {
    let sink = Sink::stdio();
    let level = logs::level(debug, std::env::var("NOUGHT_LOG").ok().as_deref())?;
    signal::unblock_all()?;
    heap::share_one_arena();
    logs::install(sink.clone(), level).context("failed to install the log")?;
    Ok(sink)
}

/// Keeps the beat of the loop's thread, for whoever watches it.
async fn beat(at: Arc<AtomicU64>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    loop {
        ticks.tick().await;
        at.store(clock::boot_now(), Ordering::Relaxed);
    }
}

async fn supervise(
    options: &Options,
    sink: Sink,
    open_files: Option<rlimit::OpenFiles>,
) -> anyhow::Result<Outcome> {
    let ends =
        Ends::install(options.machine.is_some()).context("failed to take the signals over")?;
    if let Some((at, every)) = options.machine.as_ref().and_then(|m| m.beat.clone()) {
        tokio::spawn(beat(at, every));
    }
    if let Err(error) = reap::set_child_subreaper() {
        tracing::warn!("failed to {error}");
    }
    let dir = open_state(options)?;
    // Before the socket, which would be left if this fails.
    let http_listener = options.http.map(listen_http).transpose()?;
    let token_file = dir.path().join(HTTP_TOKEN);
    let listening = listen(&options.socket, options.socket_group)
        .await
        .with_context(|| format!("failed to serve {}", options.socket.display()))?;
    let mut place = Place::find(&dir);
    announce(&place);
    let refused = options.min_guarantee.and_then(|least| place.refuses(least));
    let refused = refused.or_else(|| {
        let limited = place.limit_together(&options.together);
        let failed = |error| format!("refused to start: failed to {error}");
        limited.err().map(failed)
    });
    if let Some(refused) = refused {
        place.abandon();
        // That it could not be removed is no matter beside this.
        let _ = listening.unlink();
        anyhow::bail!(refused);
    }
    let place = Arc::new(place);
    let loaded = load(&options.config, options.dialect);
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
    let logs = Logs::new(options.ring, sink);
    let (asks, asked) = mpsc::unbounded_channel();
    let gauge = control::Gauge::default();
    let threads = Threads::new();
    let listener = listening
        .listener
        .try_clone()
        .context("failed to serve the socket")?;
    let tally = control::Tally::default();
    let http = control::Http::new(token_file, options.http_read_only, tally.clone());
    let admission = match options.socket_group {
        None => control::Admission::Owner,
        Some(_) => control::Admission::SocketFile,
    };
    let flushed = logs.clone();
    let context = control::Context::new(
        asks,
        logs.clone(),
        gauge.clone(),
        http.clone(),
        &options.config,
    );
    if let Some(listener) = http_listener
        && let Err(error) = http.serve(listener, &context)
    {
        let _ = listening.unlink();
        return Err(anyhow::Error::new(error).context("failed to serve HTTP"));
    }
    let watch = options
        .watch
        .then(|| tokio::spawn(watch::watch(options.config.clone(), context.clone())));
    let server = tokio::spawn(control::serve(listener, context.clone(), admission));
    let driver = Driver::new(Parts {
        core,
        previous: dir.previous_instance().cloned(),
        store: Store::new(dir, threads.clone()),
        files: ServiceFiles {
            dir: options.config.clone(),
            dialect: options.dialect,
        },
        threads,
        place: Arc::clone(&place),
        gens,
        asks: asked,
        logs,
        gauge,
        tally,
        environment: environment(),
        last_resort: options
            .machine
            .as_ref()
            .map(|machine| options.deadline + machine.last_resort_after),
        open_files,
    })?;
    let (outcome, ends_by) = driver.run(ends).await;
    server.abort();
    http.end().await;
    if let Some(watch) = watch {
        watch.abort();
    }
    if let Err(error) = listening.unlink() {
        tracing::warn!("failed to {error}");
    }
    flushed.flush(LAST_LINES.min(ends_by.since(now())));
    report::outcome(&outcome, &place.guarantee().to_string());
    if let Some(path) = &options.termination_log {
        last_words::write(path, &outcome, &place.guarantee().to_string());
    }
    if std::process::id() == 1 {
        // Its namespace, or the machine, ends with us, and with it whoever asked for that from
        // within: its last words are read first.
        let left = FAREWELL.min(ends_by.since(now()));
        let _ = tokio::time::timeout(left, context.farewell()).await;
    }
    Ok(outcome)
}

/// Listens on the control socket. A supervisor that was killed while it started something may
/// have left a child that holds its socket until it comes to close it: that passes.
async fn listen(path: &Path, group: Option<u32>) -> Result<Listening, SocketError> {
    let mut tries = LISTEN_TRIES;
    loop {
        match socket::listen_at(path, group) {
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
fn load(dir: &Path, dialect: Dialect) -> Vec<crate::core::Spec> {
    let loaded = config::load_dir_as(dialect, dir);
    for problem in &loaded.problems {
        // A record is one line, and a problem shows its place in several.
        for line in problem.to_string().lines() {
            if problem.is_error() {
                tracing::error!("{line}");
            } else {
                tracing::warn!("{line}");
            }
        }
    }
    loaded.services.into_iter().map(|(spec, _)| spec).collect()
}

/// Our environment, and what /etc/environment adds to it.
fn environment() -> Vec<(OsString, OsString)> {
    let mut environment: Vec<(OsString, OsString)> = std::env::vars_os().collect();
    // The kernel gives process 1 none.
    if !environment.iter().any(|(key, _)| key == "PATH") {
        environment.push(("PATH".into(), DEFAULT_PATH.into()));
    }
    // What whoever supervises us says to us is not for our services.
    environment.retain(|(key, _)| !OURS.iter().any(|ours| key == ours));
    let Ok(text) = std::fs::read_to_string("/etc/environment") else {
        return environment;
    };
    for (key, value) in config::parse_environment(&text).vars {
        environment.retain(|(known, _)| *known != *key);
        environment.push((key.into(), value.into()));
    }
    environment
}
