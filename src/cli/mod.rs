//! The command line: arguments to requests, answers to text.
//!
//! `args` says what can be asked, `client` talks to the supervisor, `command` carries out what
//! changes something, `show` what only looks, `log` the log, `manual` what needs no supervisor;
//! `render` makes text of data and does nothing else. A client command is
//! synchronous and short: it connects, asks, prints, ends.

mod args;
mod client;
mod command;
mod error;
mod log;
mod manual;
mod order;
mod output;
mod render;
mod show;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

pub use args::{DEFAULT_CONFIG_DIR, InitArgs, ZINIT_CONFIG_DIR, ZINIT_SOCKET, default_socket};
pub use error::report_chain;

/// Exit code: refused or failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: the command line is wrong.
pub const EXIT_USAGE: u8 = 2;
/// Exit code: something survived its stop.
pub const EXIT_LINGERING: u8 = 3;
/// Exit code: nothing is known to live, and it could not be proven.
pub const EXIT_UNVERIFIED: u8 = 4;

/// Carries out the command line `argv` (the program's name first). `init` runs the supervisor:
/// the caller brings it, so that a client command needs nothing of it.
pub fn run(
    argv: impl IntoIterator<Item = OsString>,
    init: impl FnOnce(InitArgs) -> anyhow::Result<ExitCode>,
) -> ExitCode {
    let argv: Vec<OsString> = argv.into_iter().collect();
    let called = args::Called::of(argv.first().map(OsString::as_os_str));
    let cli = match args::Cli::try_parse_from(argv) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell when this cannot be printed.
            let _ = error.print();
            let code = if error.use_stderr() { EXIT_USAGE } else { 0 };
            return ExitCode::from(code);
        }
    };
    match cli.split(called) {
        args::Task::Init(args) => init(args).unwrap_or_else(|error| {
            report_chain(&error);
            ExitCode::from(EXIT_FAILED)
        }),
        args::Task::Client(options, command) => ExitCode::from(command::run(&options, command)),
    }
}
