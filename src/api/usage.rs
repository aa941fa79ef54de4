//! What services use, and what a stop would do: the types.

use serde::{Deserialize, Serialize};

use super::ServiceStatus;
use super::receipt::Budget;
use super::rpc::Parameters;

/// The parameters of `nought_usage`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageQuery {
    /// The service; none: all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl Parameters for UsageQuery {
    const NAMES: &'static [&'static str] = &["name"];
}

/// What `nought_usage` answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usages {
    /// Every service asked for, by name.
    pub services: Vec<Usage>,
}

/// Where a number comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Account {
    /// The cgroup's own accounting: what its processes that ended used is in it.
    Cgroup,
    /// The sum over the processes that live, from /proc; shared pages count in each.
    #[default]
    Processes,
}

/// What one service uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// What it is doing.
    pub status: ServiceStatus,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Where that comes from.
    pub memory_from: Account,
    /// The most memory at a time, in bytes, from the cgroup's account; absent without that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_peak_bytes: Option<u64>,
    /// Processes that the kernel killed for want of memory since it started; absent without the
    /// cgroup's account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_kills: Option<u64>,
    /// Processes and threads, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<u64>,
    /// Forks and clones that `pids_max` refused, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_refused: Option<u64>,
    /// How long it was ready to run and had used up its `cpu_max`, in milliseconds, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttled_ms: Option<f64>,
    /// Bytes read from block devices since it started, from the cgroup's account; absent without
    /// that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_read_bytes: Option<u64>,
    /// Bytes written to them, likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io_written_bytes: Option<u64>,
    /// What it waits for; absent where the kernel does not count that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pressure: Option<Pressures>,
    /// Processor time, in milliseconds to the microsecond.
    pub cpu_ms: f64,
    /// Where that comes from.
    pub cpu_from: Account,
    /// The same as a percentage of one processor, over the time since the main process started.
    pub cpu_percent: f64,
    /// When this was read, in milliseconds on CLOCK_BOOTTIME: between two readings lies what was
    /// used meanwhile. 0: this supervisor does not tell.
    pub read_mono_ms: f64,
    /// Who runs in it, the main process first.
    pub processes: Vec<ProcessUsage>,
}

/// The kernel's pressure stall information of a service, by resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressures {
    /// For a processor.
    pub cpu: Pressure,
    /// For memory.
    pub memory: Pressure,
    /// For block devices.
    pub io: Pressure,
}

/// How much of the time its tasks waited for one resource.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pressure {
    /// Percent of the last ten seconds in which at least one of them waited.
    pub some_percent: f64,
    /// All of that time, in milliseconds.
    pub some_ms: f64,
    /// Percent of the last ten seconds in which all that had something to do waited.
    pub full_percent: f64,
    /// All of that time, in milliseconds.
    pub full_ms: f64,
}

/// What one process uses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessUsage {
    /// Its pid.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Its command name, at most 15 bytes.
    pub comm: String,
    /// Bytes of memory that are resident, shared ones included.
    pub memory_bytes: u64,
    /// Processor time, in milliseconds.
    pub cpu_ms: f64,
    /// The same as a percentage of one processor, over its life.
    pub cpu_percent: f64,
}

/// The parameters of `nought_plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanQuery {
    /// The service to stop; none: everything, in a shutdown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// With everything that waits for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub with_dependents: bool,
    /// A shutdown within this many milliseconds; none: within the supervisor's own deadline. A
    /// shutdown that is under way keeps the one it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
}

impl Parameters for PlanQuery {
    const NAMES: &'static [&'static str] = &["name", "with_dependents", "deadline_ms"];
}

/// What `nought_plan` answers. Nothing of it is done.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Everyone who would go down, by wave and name.
    pub services: Vec<Planned>,
    /// The latest moment of the last verdict, in milliseconds from now.
    pub worst_ms: f64,
    /// By when it has to be over, likewise; null when nothing says so.
    pub deadline_ms: Option<f64>,
    /// What is kept of that for flush and final sweep.
    pub end_reserve_ms: Option<f64>,
}

/// One service that would go down.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Planned {
    /// The service.
    pub service: String,
    /// The state it is in now.
    pub state: String,
    /// How many others have to have their verdict one after another before it is asked.
    pub wave: u32,
    /// Who of these is waited for.
    pub waits_for: Vec<String>,
    /// Whether a stop command is run first.
    pub stop_command: bool,
    /// The polite signal.
    pub signal: String,
    /// Whom it reaches: `main`, `group` or `all`.
    pub to: String,
    /// The grace its file asks for, in milliseconds.
    pub wish_ms: f64,
    /// The grace it is granted, in milliseconds.
    pub grace_ms: f64,
    /// How long after a kill the verdict may take, in milliseconds.
    pub proof_ms: f64,
    /// The latest moment at which it is asked, in milliseconds from now.
    pub asked_at_ms: f64,
    /// The latest moment of its verdict, likewise.
    pub ends_at_ms: f64,
    /// Its part of a shutdown's deadline, as its receipt will tell it, should everybody before it
    /// take all the time they have; null in a stop.
    pub budget: Option<Budget>,
}
