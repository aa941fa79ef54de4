//! How a run ended, for whoever tells of it.

use std::time::Duration;

use crate::control::Clocks;
use crate::core::{Exit, Guarantee, Receipt, Why};
use crate::sys::holdings::Holdings;
use crate::sys::usage::CgroupUsage;

/// What became of the command and of everything it started.
#[derive(Clone, Debug)]
pub(super) struct JobEnd {
    /// The command's pid.
    pub(super) pid: Option<u32>,
    /// How the command ended; `None`: it was not started, or its end was not seen.
    pub(super) exit: Option<Exit>,
    /// Why it came to its end.
    pub(super) why: Why,
    /// Why it was not started.
    pub(super) not_started: Option<NotStarted>,
    /// What is proven; `None` where there was nothing to prove: nothing was ever started.
    pub(super) receipt: Option<Box<Receipt>>,
    /// What could be promised here.
    pub(super) guarantee: Guarantee,
    /// Who still ran when the command had ended by itself, and was ended.
    pub(super) leaks: Vec<Process>,
    /// Who was kept.
    pub(super) kept: Vec<Process>,
    /// What it used.
    pub(super) usage: Usage,
    /// When it was started and when all was over.
    pub(super) moments: Moment,
    /// The two clocks at the end.
    pub(super) clocks: Clocks,
    /// What is missing here, and what follows from it.
    pub(super) notes: Vec<String>,
    /// Limits that were asked for and are not in force.
    pub(super) unmet: Vec<String>,
}

/// When what happened, on CLOCK_BOOTTIME.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Moment {
    /// The command was started.
    pub(super) started: u64,
    /// It ended (0: not seen).
    pub(super) ended: u64,
    /// All was over.
    pub(super) over: u64,
}

/// What the command and everything below it used, as far as the cgroup says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// What the command's cgroup accounted for.
    pub(super) cgroup: CgroupUsage,
    /// The largest process that was reaped, in bytes (ru_maxrss).
    pub(super) largest_process: Option<u64>,
}

/// Why there is no command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotStarted {
    /// What the exit code says: 125 for our own failure, 126 not to be executed, 127 not there.
    pub(super) code: u8,
    /// What failed, to follow 'failed to'.
    pub(super) text: String,
}

/// A process that ran when nothing was to run any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    /// Its pid.
    pub(super) pid: u32,
    /// Its parent's pid.
    pub(super) ppid: u32,
    /// Its command line; its name in brackets when that cannot be read.
    pub(super) argv: Vec<String>,
    /// Its state letter.
    pub(super) state: char,
    /// Where in the kernel it waits, where readable.
    pub(super) wchan: String,
    /// How long it has lived.
    pub(super) age: Duration,
    /// Its cgroup as /proc names it.
    pub(super) cgroup: String,
    /// Its ancestors up to the command or to us, nearest first: pid and name.
    pub(super) chain: Vec<(u32, String)>,
    /// How it left: what it did to be on its own.
    pub(super) left: Vec<&'static str>,
    /// What it holds.
    pub(super) holdings: Holdings,
}
