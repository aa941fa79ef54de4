//! nought's own methods: what they take and what they answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::receipt::{Exit, Receipt};
use super::rpc::Parameters;

/// The methods' names.
pub mod method {
    /// What this supervisor is and can promise.
    pub const INFO: &str = "nought_info";
    /// A notification, no call: this connection is told nothing from now on that stands in the
    /// service files that are refused.
    pub const DISCREET: &str = "nought_discreet";
    /// Every service's status.
    pub const LIST: &str = "nought_list";
    /// One service's status.
    pub const STATUS: &str = "nought_status";
    /// Start a service.
    pub const START: &str = "nought_start";
    /// Stop a service; answers with its verdict.
    pub const STOP: &str = "nought_stop";
    /// Stop a service and start it again.
    pub const RESTART: &str = "nought_restart";
    /// A service's stored receipts.
    pub const RECEIPT: &str = "nought_receipt";
    /// The stored receipts of the last shutdown: nothing to [`super::LastShutdown`].
    pub const LAST_SHUTDOWN: &str = "nought_lastShutdown";
    /// Stop everything, then end.
    pub const SHUTDOWN: &str = "nought_shutdown";
    /// Log lines.
    pub const LOG: &str = "nought_log";
    /// Log lines from now on, in notifications of the same name.
    pub const FOLLOW: &str = "nought_subscribeLogs";
    /// No more of them.
    pub const UNFOLLOW: &str = "nought_unsubscribeLogs";
    /// What services use, and who runs in them.
    pub const USAGE: &str = "nought_usage";
    /// What a stop or a shutdown would do.
    pub const PLAN: &str = "nought_plan";
    /// Read the service files again: [`super::Reload`] to [`super::Reloaded`].
    pub const RELOAD: &str = "nought_reload";
    /// Have a service read its own configuration again: [`super::Named`] to
    /// [`super::ServiceReloaded`].
    pub const RELOAD_SERVICE: &str = "nought_reloadService";
}

/// The version of every document that goes over the socket and that `--json` prints
/// (docs/json.md). Raised when a field is renamed, retyped or taken away, not when one is added.
pub const JSON_VERSION: u32 = 1;

/// `nought_info`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Info {
    /// The supervisor's version.
    pub version: String,
    /// [`JSON_VERSION`]; 0 from a supervisor that does not say it.
    pub json_version: u32,
    /// The supervisor's pid, as it sees it itself.
    pub pid: u32,
    /// What it can promise, both words: `cgroup-kill marked`.
    pub guarantee: String,
    /// The first word: `cgroup-kill`, `cgroup-signal`, `pid-namespace`, `subreaper`,
    /// `process-group`.
    pub containment: String,
    /// The second word: `marked`, `descent`, `none`.
    pub scan: String,
    /// The directory of its cgroup; empty when it has none.
    pub base: String,
    /// The directory of service files, absolute.
    pub config_dir: String,
    /// Where it serves HTTP: `ADDRESS:PORT` each.
    pub http: Vec<String>,
    /// The file with the token for HTTP; empty while there is none.
    pub http_token: String,
    /// What it found missing here, a sentence each.
    pub notes: Vec<String>,
    /// How many services there are.
    pub services: u64,
    /// Whether a shutdown is under way.
    pub shutting_down: bool,
    /// How long it has been there, in milliseconds on CLOCK_BOOTTIME.
    pub uptime_ms: u64,
}

/// `nought_list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct List {
    /// Every service, by name.
    pub services: Vec<ServiceStatus>,
}

/// The parameters of `nought_list`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListQuery {
    /// Whether to find out how much memory each has, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
}

impl Parameters for ListQuery {
    const NAMES: &'static [&'static str] = &["memory"];
}

/// The states a service can be in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceState {
    /// Nothing runs, nothing is wanted.
    Down,
    /// Wanted, and waits for something; `detail` says what.
    Blocked,
    /// Nothing of it runs, and it is started when somebody connects; `detail` says where.
    Listening,
    /// Its main process is being started, or is not ready yet.
    Starting,
    /// It runs and is ready.
    Up,
    /// On the stop ladder; `rung` says where.
    Stopping,
    /// Something of it survived its stop.
    Lingering,
    /// It ended and will be started again, in `next_start_ms`.
    Backoff,
    /// It ended or could not be started, and will not be started again by itself.
    Failed,
    /// A oneshot that succeeded.
    Done,
    /// One that this reader does not know.
    #[default]
    #[serde(other)]
    Unknown,
}

impl ServiceState {
    /// The state's word.
    pub fn as_str(self) -> &'static str {
        match self {
            ServiceState::Down => "down",
            ServiceState::Blocked => "blocked",
            ServiceState::Listening => "listening",
            ServiceState::Starting => "starting",
            ServiceState::Up => "up",
            ServiceState::Stopping => "stopping",
            ServiceState::Lingering => "lingering",
            ServiceState::Backoff => "backoff",
            ServiceState::Failed => "failed",
            ServiceState::Done => "done",
            ServiceState::Unknown => "unknown",
        }
    }
}

/// `nought_status`, and each entry of `nought_list`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceStatus {
    /// The service's name.
    pub name: String,
    /// What it is doing.
    pub state: ServiceState,
    /// Why it is in that state, where there is a why; else empty.
    pub detail: String,
    /// What is wanted: `up` or `down`.
    pub target: String,
    /// The main process's pid; 0 for none.
    pub pid: u32,
    /// Which start this is, or the last was; counts over the supervisor's life. 0: none yet.
    pub generation: u64,
    /// How long it has been in this state, in milliseconds.
    pub since_ms: u64,
    /// How often it was started again by itself.
    pub restarts: u64,
    /// How many processes it has.
    pub processes: u64,
    /// How many bytes of memory it has; null when it was not asked for, or cannot be told.
    pub memory_bytes: Option<u64>,
    /// What a stop of it can promise, both words.
    pub guarantee: String,
    /// How its main process last ended; null when it never did.
    pub last_exit: Option<Exit>,
    /// How many processes of its last start the kernel killed for want of memory; absent when
    /// none.
    #[serde(skip_serializing_if = "super::receipt::is_zero")]
    pub last_oom_kills: u64,
    /// The same for all starts that have ended; absent when none.
    #[serde(skip_serializing_if = "super::receipt::is_zero")]
    pub oom_kills: u64,
    /// In how many milliseconds it is started again; null unless in `backoff`.
    pub next_start_ms: Option<u64>,
    /// How many milliseconds what it does now may still take: a start until its timeout, a stop
    /// until its next rung; null where nothing limits it.
    pub left_ms: Option<u64>,
    /// Where on the stop ladder it is, a word of [`super::Rung::rung`]; null unless `stopping`.
    pub rung: Option<String>,
    /// When its current or last start was wanted, began, and was ready; null: there was none.
    pub last_start: Option<StartTimes>,
    /// The state of each service in its `after`.
    pub after: BTreeMap<String, String>,
    /// The state of each service in its `requires`.
    pub requires: BTreeMap<String, String>,
}

/// How a start went; all in milliseconds on CLOCK_BOOTTIME.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartTimes {
    /// When it was wanted.
    pub asked_mono_ms: f64,
    /// When it began, when all it waits for was ready.
    pub began_mono_ms: f64,
    /// When it was ready; null: not yet, or never.
    pub ready_mono_ms: Option<f64>,
    /// The service that it waited for last; null: none.
    pub waited_for: Option<String>,
}

/// A service's name: the parameters of `nought_status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The service.
    pub name: String,
}

impl Parameters for Named {
    const NAMES: &'static [&'static str] = &["name"];
}

/// The parameters of `nought_start`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// The service.
    pub name: String,
    /// Answer when it is ready, done, failed or cannot go on by itself (the default); else at
    /// once.
    #[serde(default = "yes")]
    pub wait: bool,
    /// Start it although an earlier generation lingers.
    #[serde(default)]
    pub force: bool,
}

impl Parameters for Start {
    const NAMES: &'static [&'static str] = &["name", "wait", "force"];
}

/// The parameters of `nought_stop`. It always waits for the verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// The service.
    pub name: String,
    /// Go on to the service although a dependent lingers.
    #[serde(default)]
    pub force: bool,
    /// Stop everything that waits for it, too, and first.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_dependents: bool,
}

impl Parameters for Stop {
    const NAMES: &'static [&'static str] = &["name", "force", "with_dependents"];
}

/// The parameters of `nought_restart`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// The service.
    pub name: String,
    /// Answer when it is ready again (the default); else at once.
    #[serde(default = "yes")]
    pub wait: bool,
}

impl Parameters for Restart {
    const NAMES: &'static [&'static str] = &["name", "wait"];
}

fn yes() -> bool {
    true
}

/// What `nought_start`, `nought_stop` and `nought_restart` answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// The service.
    pub service: String,
    /// The state it is in now.
    pub state: ServiceState,
    /// Of a stop: there was nothing to stop.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub already_down: bool,
    /// Of a stop that did something: what it proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

/// What `nought_reloadService` answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceReloaded {
    /// The service.
    pub service: String,
    /// Whether it is done: its command has exited 0, or it has said so itself. False: it was
    /// signalled, and what comes of that it does not tell.
    pub done: bool,
}

/// The parameters of `nought_receipt`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptQuery {
    /// The service.
    pub name: String,
    /// At most this many, the newest.
    #[serde(default = "one")]
    pub last: u32,
}

impl Parameters for ReceiptQuery {
    const NAMES: &'static [&'static str] = &["name", "last"];
}

fn one() -> u32 {
    1
}

/// What `nought_receipt` answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Receipts {
    /// Oldest first.
    pub receipts: Vec<Receipt>,
}

/// The parameters of `nought_shutdown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shutdown {
    /// What follows it, where the supervisor is PID 1 of a machine.
    #[serde(default)]
    pub kind: ShutdownKind,
}

impl Parameters for Shutdown {
    const NAMES: &'static [&'static str] = &["kind"];
}

/// What follows a shutdown where the supervisor is PID 1 of a machine; elsewhere it exits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ShutdownKind {
    /// Power off.
    #[default]
    PowerOff,
    /// Reboot.
    Reboot,
    /// Stop the machine, power stays on.
    Halt,
    /// Start the kernel that was loaded with kexec(8).
    Kexec,
}

/// What `nought_shutdown` answers, once everything has its verdict.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ShutdownDone {
    /// Services whose last verdict is lingering.
    pub lingering: Vec<String>,
    /// Services whose last verdict is unverified.
    pub unverified: Vec<String>,
    /// How long it took, in milliseconds to the microsecond.
    pub elapsed_ms: f64,
}

/// The parameters of `nought_log`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogQuery {
    /// The service; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// At most this many lines, the newest; none: all that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// More sources; with none named in either, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// Whether to answer with records instead of lines.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub records: bool,
}

impl Parameters for LogQuery {
    const NAMES: &'static [&'static str] = &["name", "lines", "names", "records"];
}

/// A subscription: the parameters that end it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscribed {
    /// Its number.
    pub subscription: u64,
}

impl Parameters for Subscribed {
    const NAMES: &'static [&'static str] = &["subscription"];
}

/// One item of a subscription: the parameters of its notification.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item<T> {
    /// The subscription's number.
    pub subscription: u64,
    /// The item.
    pub result: T,
}

/// What `nought_log` answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogLines {
    /// Oldest first: `[+] NAME: line` for stdout, `[-] NAME: line` for stderr.
    pub lines: Vec<String>,
    /// How many lines were dropped because they were not kept long enough.
    pub lost: u64,
    /// The same as records, where they were asked for; `lines` is empty then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub records: Vec<LogRecord>,
}

/// A line, and what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogRecord {
    /// When it was read: RFC 3339 with microseconds, in UTC.
    pub time: String,
    /// Who said it: a service, or `NAME/test`, `NAME/health`, `NAME/stop`, `NAME/reload`.
    pub service: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// Where a piece of a longer line was cut: `before`, `after` or `both`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<String>,
    /// What it said, without the line end; what is no UTF-8 is replaced.
    pub text: String,
}

impl LogRecord {
    /// The text, with `[...]` where it was cut.
    pub fn shown(&self) -> String {
        let cut = self.cut.as_deref().unwrap_or_default();
        let before = if matches!(cut, "before" | "both") {
            "[...] "
        } else {
            ""
        };
        let after = if matches!(cut, "after" | "both") {
            " [...]"
        } else {
            ""
        };
        format!("{before}{}{after}", self.text)
    }
}
