//! What a service is: the checked form of a service file.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::Check;
use super::effect::AuxKind;
use super::receipt::{Containment, Guarantee};
use super::resources::Resources;
use super::signal::Signal;
use super::sockets::Socket;

/// A service as its file describes it, checked. `config` makes these; the core never sees text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The file's stem: no `/`, `\`, `.`, not empty.
    pub name: String,
    /// The command, one word per element; never empty.
    pub exec: Vec<String>,
    /// Readiness: dependents wait until this passed. A oneshot's readiness is its exit; its test
    /// is not run.
    pub test: Option<Box<Test>>,
    /// Opened before its first start and handed to each (sd_listen_fds(3)), in this order.
    pub sockets: Vec<Socket>,
    /// It is started when somebody connects to one of its sockets, not when everything is.
    pub on_demand: bool,
    /// So many descriptors it may have kept for its next start (FDSTORE=1, sd_notify(3)).
    pub fd_store: u32,
    /// How it is asked to read its configuration again; none: it is not.
    pub reload: Option<Box<Reload>>,
    /// Looked at while it is up; a oneshot has none.
    pub health: Option<Box<Health>>,
    /// While it is up it has to send `WATCHDOG=1` (sd_notify(3)) at least as often as this.
    pub watchdog: Option<Duration>,
    /// Asked to stop by running this in the generation's `control` cgroup, before any signal.
    pub stop_command: Option<Vec<String>>,
    /// Runs once: done when it exited 0 and left nothing; dependents wait for that.
    pub oneshot: bool,
    /// Order only: starts after these are ready, stops before them when they go down together.
    pub after: Vec<String>,
    /// `after`, plus: stopped when one of these stops, fails or restarts, started again with it.
    pub requires: Vec<String>,
    /// The polite signal of a stop.
    pub stop_signal: Signal,
    /// Whom the polite signal reaches.
    pub signal_to: Reach,
    /// How long a stop waits after the polite signal before it kills. A stop command may take as
    /// long before that.
    pub grace: Duration,
    /// How long what the main process left behind has before it is killed.
    pub exit_grace: Duration,
    /// How long after a kill the verdict may take, and how long a stop waits for a start that is
    /// under way.
    pub kill_timeout: Duration,
    /// How long a start may take until it is ready; none: for ever.
    pub start_timeout: Option<Duration>,
    /// When and how it is started again.
    pub restart: RestartPolicy,
    /// Where its output goes.
    pub log: LogMode,
    /// Where else it goes.
    pub log_to: Option<Box<LogTo>>,
    /// Added to the supervisor's environment.
    pub env: BTreeMap<String, String>,
    /// Files of `KEY=value` lines, read at each start: added before `env`.
    pub env_files: Vec<EnvFile>,
    /// Working directory.
    pub dir: String,
    /// What its main process leaves running belongs to it until it is stopped: it is ready when
    /// that process has exited 0, and has ended when nobody of it is left.
    pub remain: bool,
    /// Command names (`*` and `?` stand for anything) of processes that a stop lets live.
    pub keep: Vec<String>,
    /// It runs in a pid namespace of its own, whose end is its processes' end.
    pub pid_namespace: bool,
    /// It is not started where less than this can be promised.
    pub min_guarantee: Option<Guarantee>,
    /// What its end means to everything else, when it is not started again.
    pub on_end: EndAction,
    /// What its failure means, likewise.
    pub on_failure: EndAction,
    /// Everything stops when it has ended for good, with its exit code.
    pub essential: bool,
    /// What it is to the others, in Kubernetes' words.
    pub role: Option<Role>,
    /// A stop order of its own: when they go down together it is asked only after these have
    /// their verdict, whatever `after` says between the two.
    pub stop_after: Vec<String>,
    /// Whom its processes run as: a name or a number; none: whoever the supervisor is.
    pub user: Option<String>,
    /// Their group, a name or a number; none: the user's own.
    pub group: Option<String>,
    /// Their file mode creation mask; none: the supervisor's.
    pub umask: Option<u32>,
    /// Their resource limits, where they differ from the supervisor's.
    pub limits: BTreeMap<Resource, Limit>,
    /// Their nice value; none: the supervisor's.
    pub nice: Option<i32>,
    /// Their oom_score_adj; none: the supervisor's.
    pub oom_score_adj: Option<i32>,
    /// What they may use together; none: no limit.
    pub resources: Option<Box<Resources>>,
}

impl Spec {
    /// A service called `name` that runs `exec`, everything else at its default.
    pub fn new(name: impl Into<String>, exec: Vec<String>) -> Self {
        Self {
            name: name.into(),
            exec,
            test: None,
            sockets: Vec::new(),
            on_demand: false,
            fd_store: FD_STORE,
            reload: None,
            health: None,
            watchdog: None,
            stop_command: None,
            oneshot: false,
            after: Vec::new(),
            requires: Vec::new(),
            stop_signal: Signal::TERM,
            signal_to: Reach::Group,
            grace: Duration::from_secs(10),
            exit_grace: Duration::from_secs(2),
            kill_timeout: Duration::from_secs(5),
            start_timeout: None,
            restart: RestartPolicy::default(),
            log: LogMode::default(),
            log_to: None,
            env: BTreeMap::new(),
            env_files: Vec::new(),
            dir: "/".into(),
            remain: false,
            keep: Vec::new(),
            pid_namespace: false,
            min_guarantee: None,
            on_end: EndAction::Ignore,
            on_failure: EndAction::Ignore,
            essential: false,
            role: None,
            stop_after: Vec::new(),
            user: None,
            group: None,
            umask: None,
            limits: BTreeMap::new(),
            nice: None,
            oom_score_adj: None,
            resources: None,
        }
    }

    /// Whether its processes may tell something about it (sd_notify(3)).
    pub fn listens(&self) -> bool {
        let waits = |test: &Test| test.check == Check::Notify;
        let reloads = self.reload.as_ref().is_some_and(|reload| reload.notify);
        self.watchdog.is_some() || reloads || self.test.as_deref().is_some_and(waits)
    }

    /// Whether it says itself that it is ready.
    pub fn is_told(&self) -> bool {
        self.test.as_ref().is_some_and(|test| test.check.is_told())
    }

    /// What is looked at; `None`: nothing, or nothing is looked at.
    pub fn check(&self, kind: AuxKind) -> Option<&Check> {
        match kind {
            AuxKind::Test => Some(&self.test.as_ref()?.check),
            AuxKind::Health => Some(&self.health.as_ref()?.test.check),
            AuxKind::Stop | AuxKind::Reload => None,
        }
    }

    /// The auxiliary command, if it is one.
    pub fn aux_command(&self, kind: AuxKind) -> Option<&[String]> {
        match kind {
            AuxKind::Test | AuxKind::Health => self.check(kind)?.command(),
            AuxKind::Stop => self.stop_command.as_deref(),
            AuxKind::Reload => match &self.reload.as_ref()?.by {
                ReloadBy::Command(argv) => Some(argv),
                ReloadBy::Signal(_) => None,
            },
        }
    }

    /// What can be promised for it where `here` is what the place offers: a pid namespace of its
    /// own holds it where no cgroup does.
    pub fn guarantee(&self, here: Guarantee) -> Guarantee {
        let own = match self.pid_namespace {
            true => Containment::PidNamespace,
            false => Containment::ProcessGroup,
        };
        Guarantee {
            containment: here.containment.min(own),
            ..here
        }
    }

    /// Every name this waits for: `after`, then `requires`.
    pub fn dependencies(&self) -> impl Iterator<Item = &str> {
        self.after.iter().chain(&self.requires).map(String::as_str)
    }
}

/// So many descriptors a service may have kept when its file does not say.
pub const FD_STORE: u32 = 16;

/// How a service is asked to read its configuration again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reload {
    /// What asks it.
    pub by: ReloadBy,
    /// It says `RELOADING=1` and, when that is done, `READY=1` (sd_notify(3)): waited for.
    pub notify: bool,
    /// How long all of that may take.
    pub timeout: Duration,
}

impl Reload {
    /// Asked by this, everything else at its default (not waited for, 30 s).
    pub fn new(by: ReloadBy) -> Self {
        let timeout = Duration::from_secs(30);
        Self {
            by,
            notify: false,
            timeout,
        }
    }
}

/// What asks a service to read its configuration again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadBy {
    /// This signal, to its main process alone.
    Signal(Signal),
    /// This command, run in the generation's `control` cgroup. Never empty.
    Command(Vec<String>),
}

/// A readiness test: looked at again and again until it passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Test {
    /// What is looked at.
    pub check: Check,
    /// Pause between two runs; none: 50 ms, doubling to 1 s.
    pub interval: Option<Duration>,
    /// How long one run may take before it is ended and counts as failed.
    pub timeout: Duration,
    /// The start has failed after more failed runs than this; none: never.
    pub retries: Option<u32>,
    /// Runs that fail within this time of the first one do not count for `retries`.
    pub start_period: Duration,
}

impl Test {
    /// A test that looks at `check`, everything else at its default (10 s a run, for ever).
    pub fn new(check: Check) -> Self {
        Self {
            check,
            interval: None,
            timeout: Duration::from_secs(10),
            retries: None,
            start_period: Duration::ZERO,
        }
    }
}

/// What is looked at while a service is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// One look. `retries` and a pause that doubles mean nothing here: `interval` is given.
    pub test: Test,
    /// So many failed looks in a row are a failure of the service; at least 1.
    pub failures: u32,
}

impl Health {
    /// Looks at `check`, everything else at its default (every 10 s, 10 s a look, 3 failures).
    pub fn new(check: Check) -> Self {
        let mut test = Test::new(check);
        test.interval = Some(Duration::from_secs(10));
        Self { test, failures: 3 }
    }
}

/// Whom a stop signal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// The main process alone.
    Main,
    /// The main process's process group (zinit's way).
    Group,
    /// Every process of the generation's `main` cgroup.
    All,
}

/// Where a service's output goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogMode {
    /// Kept in memory, bounded per service.
    #[default]
    Ring,
    /// The supervisor's stdout, each line prefixed with the service's name (and kept as `Ring`).
    Stdout,
    /// Nowhere.
    None,
}

/// Where a service's output goes besides memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogTo {
    /// Where to.
    pub target: LogTarget,
    /// How a line looks in a file.
    pub format: LogFormat,
    /// When it is too slow: the service waits, instead of losing lines.
    pub block: bool,
}

/// A place that takes lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// A file.
    File {
        /// An absolute path.
        path: String,
        /// It is rotated before it has more bytes than this; 0: never.
        max_size: u64,
        /// So many older ones are kept.
        keep: u32,
        /// Whether those are compressed.
        compress: bool,
    },
    /// systemd's journal, at this socket.
    Journal(String),
    /// A syslog daemon, at this socket.
    Syslog(String),
}

/// How a line looks in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// As it came.
    Plain,
    /// Behind when it was read, by whom and where it was written.
    #[default]
    Prefix,
    /// One JSON object a line.
    Json,
}

/// When and how a service that ended is started again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Which ends lead to a new start. A oneshot is never started again by itself.
    pub when: RestartWhen,
    /// The second restart's delay (the first is at once); doubles with each further one.
    pub delay: Duration,
    /// No delay is longer than this.
    pub max_delay: Duration,
    /// Being up for this long resets the delay.
    pub stable_after: Duration,
    /// Give up after this many restarts within `window`; none: never.
    pub burst: Option<u32>,
    /// See `burst`.
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            when: RestartWhen::Always,
            delay: Duration::from_millis(250),
            max_delay: Duration::from_secs(60),
            stable_after: Duration::from_secs(10),
            burst: None,
            window: Duration::from_secs(60),
        }
    }
}

/// Which ends lead to a new start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartWhen {
    /// Every end.
    Always,
    /// Only an end other than exit code 0.
    OnFailure,
    /// None.
    Never,
}

/// What the end of a service means to everything else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EndAction {
    /// Nothing.
    #[default]
    Ignore,
    /// Everything stops: the supervisor shuts down.
    StopAll,
}

/// What a service is to the others; see [`super::imply_order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// When the last main has ended for good, everything stops.
    Main,
    /// Up before the mains and stopped after them; started again until it is asked to end.
    Sidecar,
    /// Runs to completion before what comes after it.
    Init,
}

/// A file of environment variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFile {
    /// An absolute path.
    pub path: String,
    /// Whether the service starts all the same when there is no such file.
    pub optional: bool,
}

/// A resource that setrlimit(2) limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// Address space, in bytes.
    AddressSpace,
    /// Size of a core dump, in bytes.
    Core,
    /// Processor time, in seconds.
    Cpu,
    /// Data segment, in bytes.
    Data,
    /// Size of a file written, in bytes.
    FileSize,
    /// Memory locked, in bytes.
    LockedMemory,
    /// POSIX message queues, in bytes.
    MessageQueues,
    /// How far the nice value may be lowered, as 20 minus it.
    Nice,
    /// Descriptors.
    OpenFiles,
    /// Processes and threads of the user.
    Processes,
    /// Realtime priority.
    RealtimePriority,
    /// Processor time without a rest under realtime scheduling, in microseconds.
    RealtimeCpu,
    /// Signals queued.
    PendingSignals,
    /// Stack of the main thread, in bytes.
    Stack,
}

/// A resource limit; `None`: unlimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is in force.
    pub soft: Option<u64>,
    /// How far the process may raise it.
    pub hard: Option<u64>,
}
