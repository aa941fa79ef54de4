//! What a supervisor's process does around its loop: nothing before it, and after it the end of
//! the machine where it is one's process 1.

use std::process::ExitCode;

use crate::driver::{self, Options};
use crate::sys::power::{self, Power};

/// Runs the supervisor to its end. Exits with the code of its end, except as process 1 of a host
/// (not `container`): then the machine ends, or the pid namespace whose first process we are.
///
/// # Errors
/// When the supervisor cannot begin.
pub fn run(options: &Options, container: bool) -> anyhow::Result<ExitCode> {
    let end = driver::run(options)?;
    if std::process::id() == 1 && !container {
        nix::unistd::sync();
        let refused = power::end_machine(if end.reboot {
            Power::Reboot
        } else {
            Power::Off
        });
        eprintln!("nought: failed to {refused}; exiting instead");
    }
    Ok(ExitCode::from(end.exit_code))
}
