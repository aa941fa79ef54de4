//! What a supervisor's process does around its loop: nothing before it, and after it the end of
//! the machine where it is one's process 1.
//!
//! ```text
//!   early    what is missing is mounted, console, host name, loopback     ─┐
//!   rescue   a shell on the console, where the kernel's command line asks  │ as process 1
//!   driver   the supervisor                                                │ of a machine
//!   minimal  when that broke: reaps, and can end the machine               │
//!   end      sweep, swap, file systems, devices, reboot(2)                ─┘
//! ```
//!
//! Process 1 of a pid namespace that is no `--container` ends that namespace and nothing else.

mod bounded;
mod cmdline;
mod early;
mod end;
mod file_systems;
mod last_time;
mod machine;
mod minimal;
mod receipt;
mod rest;
mod sweep;
mod watchdog;

use std::process::ExitCode;
use std::time::Duration;

use crate::driver::{self, Options};
use crate::sys::power::{self, Machine};

pub use minimal::{Broke, Minimal, guarded};

/// What kind of home the supervisor has.
#[derive(Clone, Debug, Default)]
pub struct Home {
    /// Exit after a shutdown, never reboot(2).
    pub container: bool,
    /// How long a hardware watchdog waits for a machine's process 1.
    pub watchdog: Option<Duration>,
    /// Log at debug level.
    pub debug: bool,
}

/// Runs the supervisor to its end. Exits with the code of its end, except as process 1 of a host
/// (not `container`): then the machine ends, or the pid namespace whose first process we are.
///
/// # Errors
/// When the supervisor cannot begin; never as process 1 of a machine.
pub fn run(options: Options, home: &Home) -> anyhow::Result<ExitCode> {
    let first = std::process::id() == 1 && !home.container;
    if first && let Ok(machine) = Machine::take() {
        return Ok(machine::run(machine, options, home));
    }
    let sink = driver::ready(home.debug)?;
    if home.watchdog.is_some() {
        tracing::warn!("--watchdog is for process 1 of a machine, which this is not: ignored");
    }
    let end = driver::run(&options, &sink)?;
    if first {
        nix::unistd::sync();
        let refused = power::end_machine(end.power);
        eprintln!("nought: failed to {refused}; exiting instead");
    }
    Ok(ExitCode::from(end.exit_code))
}
