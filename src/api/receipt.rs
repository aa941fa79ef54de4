//! The receipt as JSON. Its fields are stable: they may be added to, never renamed or retyped.

use serde::{Deserialize, Serialize};

/// Nanoseconds as milliseconds, to the microsecond: what every fractional `…_ms` field holds.
pub fn millis_from_nanos(nanos: u64) -> f64 {
    // 2^53 microseconds are 285 years.
    #[expect(
        clippy::cast_precision_loss,
        reason = "exact up to 285 years of microseconds"
    )]
    let micros = (nanos / 1000) as f64;
    micros / 1000.0
}

/// What the end of one generation did, saw and proved.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Receipt {
    /// The service's name.
    pub service: String,
    /// Which start of it; counts over the supervisor's life.
    pub generation: u64,
    /// The main process's pid; null when there was none.
    pub pid: Option<u32>,
    /// Why it ended: `stop`, `restart`, `dependency`, `shutdown`, `ended` (by itself),
    /// `start-failed`, `leftover` (a killed supervisor's).
    pub cause: String,
    /// What is proven.
    pub verdict: Verdict,
    /// Why the verdict is not `verified`; null when it is.
    pub reason: Option<String>,
    /// What could be promised here.
    pub guarantee: GuaranteeWords,
    /// When the generation was started, wall clock, RFC 3339; null for a leftover.
    pub started_at: Option<String>,
    /// When its end began, wall clock, RFC 3339; null when the wall clock could not be read.
    pub began_at: Option<String>,
    /// When the verdict fell, wall clock, RFC 3339; null likewise.
    pub ended_at: Option<String>,
    /// When the generation was started, milliseconds on CLOCK_BOOTTIME; null for a leftover.
    pub started_mono_ms: Option<f64>,
    /// When its end began, milliseconds on CLOCK_BOOTTIME.
    pub began_mono_ms: f64,
    /// When the verdict fell, milliseconds on CLOCK_BOOTTIME.
    pub ended_mono_ms: f64,
    /// From the beginning of the end to the verdict, milliseconds to the microsecond, measured
    /// on CLOCK_BOOTTIME: setting the wall clock does not change it.
    pub elapsed_ms: f64,
    /// How the main process ended; null when that was not seen.
    pub exit: Option<Exit>,
    /// How many of its processes the kernel killed for want of memory; absent when none.
    #[serde(skip_serializing_if = "is_zero")]
    pub oom_kills: u64,
    /// What it was given of a shutdown's deadline; absent outside of a shutdown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// The service whose verdict it waited for last before it was asked; null: none.
    pub waited_for: Option<String>,
    /// Everything the ladder did and saw, in order.
    pub rungs: Vec<Rung>,
    /// Processes killed inside the cgroup.
    pub killed: Vec<Process>,
    /// Processes found outside the cgroup and killed.
    pub escaped: Vec<Process>,
    /// Processes that look like this service's and are not proven so: not signalled, unless
    /// `why` says that cgroup.kill reached them.
    pub foreign: Vec<ForeignProcess>,
    /// Escapees that were kept because the service's file says so.
    pub kept: Vec<Process>,
    /// What lives.
    pub survivors: Vec<Survivor>,
    /// Whether this replaces an earlier, worse verdict on the same generation.
    pub late: bool,
}

/// A service's part of a shutdown's deadline, planned and as it came; all in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// What its polite part (stop command and grace) may take by its own file.
    pub wish_ms: f64,
    /// What was planned for that: the wish where it fits, else a fair share.
    pub planned_ms: f64,
    /// What it got for that: more than planned where others left time over.
    pub granted_ms: f64,
    /// What was kept for its kill and proof.
    pub reserve_ms: f64,
    /// When its turn was to come, after the shutdown began, if those before it took all that was
    /// planned.
    pub turn_ms: f64,
    /// When it was asked, after the shutdown began; 0 for a stop that was under way already.
    pub asked_ms: f64,
    /// How long the whole shutdown could take.
    pub deadline_ms: f64,
}

/// What a stop proved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing is left: empty after the last kill, a conclusive scan, the cgroup removed.
    Verified,
    /// Something lives; the survivors are named.
    Lingering,
    /// Nothing is known to live, and it cannot be proven here. Also what a reader makes of a
    /// verdict it does not know.
    #[default]
    #[serde(other)]
    Unverified,
}

impl Verdict {
    /// The verdict's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Verified => "verified",
            Verdict::Lingering => "lingering",
            Verdict::Unverified => "unverified",
        }
    }
}

/// The guarantee's two words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuaranteeWords {
    /// What holds processes together: `cgroup-kill`, `cgroup-signal`, `pid-namespace`,
    /// `subreaper`, `process-group`.
    pub containment: String,
    /// How escapees are recognised: `marked`, `descent`, `none`.
    pub scan: String,
}

/// How a process ended: `{"code": 0}` or `{"signal": "SIGKILL", "number": 9, "core": false}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Exit {
    /// It exited.
    Code {
        /// With this code, 0 to 255.
        code: i32,
    },
    /// A signal ended it.
    Signal {
        /// The signal's name, `SIGKILL`.
        signal: String,
        /// The signal's number.
        #[serde(default)]
        number: i32,
        /// Whether it dumped core.
        #[serde(default)]
        core: bool,
    },
}

/// One thing the ladder did or saw. Which of the details are there depends on the rung.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rung {
    /// Which: `await-spawn`, `stop-command`, `stop-command-ended`, `signal`, `main-exited`,
    /// `empty`, `kill`, `scan`, `fence-busy`, `fence`, `inspect`, `trouble`.
    pub rung: String,
    /// When, in milliseconds since the end began, to the microsecond.
    pub at_ms: f64,
    /// Of `signal`: its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Of `signal`: whom it went to: `main`, `group`, `all`, `rest`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Of `signal`: how long it has before the kill, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_ms: Option<f64>,
    /// Of `main-exited` and `stop-command-ended`: how; absent when it was cut short.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Of `scan`: how many escapees it killed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escaped: Option<u64>,
    /// Of `scan`: whether nothing was forked meanwhile, so that it missed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conclusive: Option<bool>,
    /// Of `trouble`: what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// Something that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failure {
    /// What was being done, to follow 'failed to'.
    pub doing: String,
    /// To which path, service or process.
    pub what: String,
    /// The errno; 0 for none.
    pub errno: i32,
    /// Why, in words.
    pub why: String,
}

/// A process, as the kernel named it at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Its parent's pid.
    pub ppid: u32,
    /// Its command name, at most 15 bytes.
    pub comm: String,
}

/// A process that is mentioned, and not counted as the service's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ForeignProcess {
    /// Its pid.
    pub pid: u32,
    /// Its parent's pid.
    pub ppid: u32,
    /// Its command name, at most 15 bytes.
    pub comm: String,
    /// Why it is mentioned.
    pub why: String,
}

/// A process that survived everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Survivor {
    /// Its pid; 0 when it shows only as a cgroup that is not empty.
    pub pid: u32,
    /// Its parent's pid.
    pub ppid: u32,
    /// Its command line; the command name in brackets when that cannot be read.
    pub argv: Vec<String>,
    /// Its state letter, as in proc_pid_stat(5).
    pub state: String,
    /// The kernel function it waits in; empty when it cannot be read.
    pub wchan: String,
    /// Its kernel stack, innermost first; empty when it cannot be read.
    pub stack: Vec<String>,
    /// The pid of who traces it; 0 for nobody.
    pub tracer: u32,
    /// Its cgroup.
    pub cgroup: String,
    /// Mounts it holds that are not the supervisor's.
    pub mounts: Vec<String>,
    /// How many threads of it live; 0 when that is not known.
    pub threads: u32,
    /// Sockets it listens on or has bound: `tcp 127.0.0.1:8080`, `unix /run/x.sock`.
    pub sockets: Vec<String>,
}

/// Whether there is nothing to say.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it")]
pub(super) fn is_zero(number: &u64) -> bool {
    *number == 0
}
