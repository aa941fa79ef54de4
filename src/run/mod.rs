//! `nought run`: one command in a cgroup of its own, and nothing of it left afterwards.
//!
//! The decisions are `core::Job`'s, the system calls `sys`'s; this is what goes between them, on
//! one thread that sleeps in poll(2). There is nobody else to serve, so what blocks, blocks.
//!
//! ```text
//!   BASE/nought-run-<pid>-<start>-<pid namespace>/   whoever ends all that when we are killed
//!     job/         the command and everything it starts: killed, proven empty, removed
//!     aux/         what runs when the time is over
//!     guardian/    the guardian (guardian.rs), where there are limits
//!     run/         ourselves, and kept/ whoever is to be kept, where limits need that
//! ```

mod children;
mod execute;
mod first;
mod guardian;
mod leftovers;
mod list;
mod orphan;
mod report;
mod result;
mod scan;
mod site;
mod start;
mod watch;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::{RunProcess, RunReport};
pub use crate::core::{Containment, Guarantee, JobSettings, ScanQuality, Signal, Verdict};

pub use crate::sys::limits::{CpuMax, Limits};
pub use leftovers::{Left, clean};

/// What is to be run, and how.
#[derive(Clone, Debug)]
pub struct JobOptions {
    /// The command, the program first; not empty.
    pub argv: Vec<OsString>,
    /// Its whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// Its working directory; `None`: ours.
    pub dir: Option<PathBuf>,
    /// Whom it runs as: a user, a name or a number, and a group after a colon; `None`: as us.
    pub user: Option<String>,
    /// How long what may take.
    pub settings: JobSettings,
    /// Run by a shell when the time is over, before the command is asked to end.
    pub on_timeout: Option<OsString>,
    /// Whoever matches one of these may live on, with all that is below it.
    pub keep: Vec<String>,
    /// Signals that are passed on to the command and mean nothing to us.
    pub forward: Vec<Signal>,
    /// Whether it gets a pid namespace of its own, and a /proc that shows that.
    pub pidns: bool,
    /// What the command and all it starts may use.
    pub limits: Limits,
    /// Go on without the limits that cannot be enforced.
    pub limits_optional: bool,
    /// Start nothing where less can be promised.
    pub min_guarantee: Option<Guarantee>,
    /// Whether a command that succeeded and left something behind has failed.
    pub fail_on_leaks: bool,
}

/// Who hears of what happens while it happens.
pub trait Onlooker {
    /// The time is over, and this is what runs.
    fn evidence(&mut self, after: Duration, running: &[RunProcess]);
    /// Something to know.
    fn note(&mut self, text: &str);
    /// The terminal's INT or QUIT (by number) ended the command: whoever waits for us is to see us
    /// die of it. `alone`: the command had the foreground from us and was the only one to get it, so
    /// that our process group is to get it, too.
    fn interrupted(&mut self, signal: i32, alone: bool);
    /// We were killed, and the guardian ended what was left: it alone calls this.
    fn orphaned(&mut self, report: &RunReport);
}

/// Runs the command and returns when it and everything it started are gone, with proof, or when
/// that could not be had in time.
pub fn run(options: &JobOptions, onlooker: &mut dyn Onlooker) -> RunReport {
    let end = watch::run(options, onlooker);
    report::report(&end, options)
}
