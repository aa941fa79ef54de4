//! What `nought run --report` writes. Its fields are stable: they may be added to, never renamed
//! or retyped.

use serde::{Deserialize, Serialize};

use super::receipt::{Exit, GuaranteeWords, Receipt, Survivor, Verdict};

/// How a run ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunReport {
    /// The version that wrote it.
    pub version: String,
    /// The command, a word per element.
    pub command: Vec<String>,
    /// The command's pid; null when it was not started.
    pub pid: Option<u32>,
    /// The exit code of `nought run`.
    pub exit_code: u8,
    /// How the command ended; null when it was not started or that was not seen.
    pub exit: Option<Exit>,
    /// Why it ended: `itself`, `timeout`, `signal`, `not-started`, `run-killed` (written by the
    /// guardian: `nought run` itself was killed).
    pub ended_by: String,
    /// Of `signal`: which.
    pub signal: Option<String>,
    /// Of `not-started`: what failed.
    pub error: Option<String>,
    /// What is proven; null when nothing was ever started.
    pub verdict: Option<Verdict>,
    /// Why the verdict is not `verified`; null when it is.
    pub reason: Option<String>,
    /// What could be promised here.
    pub guarantee: GuaranteeWords,
    /// Who still ran when the command had ended by itself. They were ended.
    pub leaks: Vec<RunProcess>,
    /// Who was kept, because `--keep` says so.
    pub kept: Vec<RunProcess>,
    /// What lives although it was to end.
    pub survivors: Vec<Survivor>,
    /// When the command was started, wall clock, RFC 3339.
    pub started_at: Option<String>,
    /// When all was over, wall clock, RFC 3339.
    pub ended_at: Option<String>,
    /// From the start of the command to its end, in milliseconds; null when that was not seen.
    pub command_ms: Option<f64>,
    /// From the start of the command to the verdict.
    pub total_ms: f64,
    /// CPU time of the command and everything below it; null where that is not known.
    pub cpu_ms: Option<f64>,
    /// How long it was ready to run and had used up its `--cpus`; null without that.
    pub throttled_ms: Option<f64>,
    /// The most memory it used at a time, in bytes; null without the memory controller.
    pub memory_peak_bytes: Option<u64>,
    /// How many of its processes the kernel killed for want of memory; null without the memory
    /// controller.
    pub oom_kills: Option<u64>,
    /// How often it could not have one more process or thread because of `--pids`; null without
    /// that.
    pub pids_refused: Option<u64>,
    /// The largest single process that was waited for, in bytes.
    pub largest_process_bytes: Option<u64>,
    /// Limits that were asked for and could not be enforced (`--limits=optional`).
    pub limits_unmet: Vec<String>,
    /// What is missing here, and what follows from it.
    pub notes: Vec<String>,
    /// Everything the end did, saw and proved.
    pub receipt: Option<Receipt>,
}

/// A process that ran when nothing was to run any more.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunProcess {
    /// Its pid.
    pub pid: u32,
    /// Its parent's pid.
    pub ppid: u32,
    /// Its command line; the command name in brackets when that cannot be read.
    pub argv: Vec<String>,
    /// Its state letter, as in proc_pid_stat(5).
    pub state: String,
    /// The kernel function it waits in; empty when it cannot be read.
    pub wchan: String,
    /// How long it has lived, in milliseconds.
    pub age_ms: f64,
    /// Its cgroup.
    pub cgroup: String,
    /// Its ancestors up to the command, nearest first.
    pub ancestors: Vec<RunAncestor>,
    /// What it did to be on its own.
    pub left: Vec<String>,
    /// The sockets it listens on.
    pub ports: Vec<String>,
    /// Files it has open, at most eight.
    pub files: Vec<String>,
    /// How many descriptors it has open; 0 when they may not be seen.
    pub descriptors: u64,
    /// Whether it holds our standard output or error open: whoever reads these waits for it.
    pub holds_our_output: bool,
}

/// An ancestor of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunAncestor {
    /// Its pid.
    pub pid: u32,
    /// Its command name, at most 15 bytes.
    pub comm: String,
}
