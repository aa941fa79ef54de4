//! The command line's entry.

use std::process::ExitCode;
use std::time::Duration;

use nought::cli::{self, InitArgs};
use nought::driver::Options;
use nought::logs::Limits;
use nought::{init, sys};

/// A shutdown ends within this where a container engine waits for it.
const DEADLINE_CONTAINER: Duration = Duration::from_secs(25);
/// And within this elsewhere.
const DEADLINE_HOST: Duration = Duration::from_secs(90);
/// A line of a log is rarely longer.
const USUAL_LINE_BYTES: usize = 128;

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
    Options {
        config: args.config_dir,
        socket: args.socket,
        state_dir: args.state_dir,
        deadline: args.deadline.unwrap_or(deadline),
        ring: ring(args.ring_lines),
        dialect: args.dialect,
        socket_group: args.socket_group,
        debug: args.debug,
    }
}

/// What is kept of each service's output. Whoever asks for so many lines gets room for them, were
/// they of a usual length: the bound is in bytes all the same.
fn ring(lines: Option<usize>) -> Limits {
    let usual = Limits::default();
    match lines {
        None => usual,
        Some(lines) => Limits {
            ring_lines: lines,
            ring_bytes: usual.ring_bytes.max(lines.saturating_mul(USUAL_LINE_BYTES)),
        },
    }
}
