//! The command line's entry.

use std::process::ExitCode;
use std::time::Duration;

use nought::cli::{self, InitArgs};
use nought::driver::Options;
use nought::{init, sys};

/// A shutdown ends within this where a container engine waits for it.
const DEADLINE_CONTAINER: Duration = Duration::from_secs(25);
/// And within this elsewhere.
const DEADLINE_HOST: Duration = Duration::from_secs(90);
/// Where Kubernetes looks for a container's last words (terminationMessagePath's default).
const TERMINATION_LOG: &str = "/dev/termination-log";

fn main() -> ExitCode {
    if let Some(code) = sys::selftest::run_if_probe() {
        return code;
    }
    cli::run(std::env::args_os(), |args| {
        let container = args.container;
        init::run(&options(args), container)
    })
}

fn options(args: InitArgs) -> Options {
    let deadline = if args.container {
        DEADLINE_CONTAINER
    } else {
        DEADLINE_HOST
    };
    let kubernetes = args.container.then(|| TERMINATION_LOG.into());
    Options {
        config: args.config_dir,
        socket: args.socket,
        state_dir: args.state_dir,
        deadline: args.deadline.unwrap_or(deadline),
        ring_lines: args.ring_lines,
        http: args.http,
        termination_log: args.termination_log.or(kubernetes),
        debug: args.debug,
    }
}
