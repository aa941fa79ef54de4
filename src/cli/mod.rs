//! The command line: arguments to requests, answers to text.
//!
//! `args` says what can be asked, `client` talks to the supervisor, `command` carries out what
//! changes something, `end` what ends everything, `show` what only looks, `log` the log, `top` all of
//! it on a terminal, `manual` what needs no supervisor, `proxy` what goes between it and HTTP;
//! `render` makes text of data and does nothing else. A client command is
//! synchronous and short: it connects, asks, prints, ends.

mod args;
mod called;
mod client;
mod command;
mod doctor;
mod end;
mod environment;
mod error;
mod log;
mod manual;
mod order;
mod output;
mod process1;
mod proxy;
mod reload;
mod render;
mod run;
mod show;
mod timeline;
mod top;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::api::RunReport;
use crate::sys;

pub use args::InitArgs;
pub use called::{DEFAULT_CONFIG_DIR, ZINIT_CONFIG_DIR, ZINIT_SOCKET, default_socket};
pub use doctor::Cleared;
pub use error::report_chain;
pub use run::{Demand, Leaks, RunArgs, Teller};

/// Exit code: refused or failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code: the command line is wrong.
pub const EXIT_USAGE: u8 = 2;
/// Exit code: something survived its stop.
pub const EXIT_LINGERING: u8 = 3;
/// Exit code: nothing is known to live, and it could not be proven.
pub const EXIT_UNVERIFIED: u8 = 4;

/// Carries out the command line `argv` (the program's name first). `init` runs the supervisor,
/// `job` a command, `clean` ends what killed runs left below the cgroup we are in: the caller brings them, so that a client command needs nothing of them.
pub fn run(
    argv: impl IntoIterator<Item = OsString>,
    init: impl FnOnce(InitArgs) -> anyhow::Result<ExitCode>,
    job: impl FnOnce(&RunArgs, &mut Teller<'_>) -> anyhow::Result<RunReport>,
    clean: impl Fn() -> Vec<Cleared>,
) -> ExitCode {
    let first = called::First::of_us();
    if first == called::First::Machine {
        return as_first_of_machine(argv.into_iter().collect(), init);
    }
    let argv = match called::by_name(argv.into_iter().collect(), first) {
        Ok(called) => called,
        Err(why) => {
            eprintln!("error: {why}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if let Some(args) = run::alone(&argv) {
        // It has said everything, and its caller waits for its end.
        sys::exit::at_once(run::run(&args, job));
    }
    let is_job = argv.get(1).is_some_and(|word| word == "run");
    let called = called::Called::of(argv.first().map(OsString::as_os_str));
    let cli = match args::Cli::parse_called(called, &argv) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell when this cannot be printed.
            let _ = error.print();
            let code = match error.use_stderr() {
                // As timeout(1) and env(1): every other code may be the command's own.
                true if is_job => run::FAILED,
                true => EXIT_USAGE,
                false => 0,
            };
            return ExitCode::from(code);
        }
    };
    match cli.split(called) {
        args::Task::Init(mut args) => {
            if let Some(wrong) = args.take_environment().first() {
                eprintln!("error: {wrong}");
                return ExitCode::from(EXIT_USAGE);
            }
            init(args).unwrap_or_else(|error| {
                report_chain(&error);
                ExitCode::from(EXIT_FAILED)
            })
        }
        args::Task::Run(args) => ExitCode::from(run::run(&args, job)),
        args::Task::Client(options, command) => {
            ExitCode::from(command::run(&options, command, &clean))
        }
    }
}

/// Process 1 of a machine: the kernel panics when it ends, so that no word and no variable is a
/// reason to. What is wrong is said and ignored.
fn as_first_of_machine(
    argv: Vec<OsString>,
    init: impl FnOnce(InitArgs) -> anyhow::Result<ExitCode>,
) -> ExitCode {
    let called = called::Called::of(argv.first().map(OsString::as_os_str));
    let argv = called::by_name(argv, called::First::Machine).unwrap_or_default();
    let parsed = args::Cli::parse_called(called, &argv).or_else(|error| {
        eprintln!("nought: options are ignored: {error}");
        args::Cli::parse_called(called, &["nought".into(), "init".into()])
    });
    let task = parsed.map(|cli| cli.split(called));
    if let Ok(args::Task::Init(mut args)) = task {
        for wrong in args.take_environment() {
            eprintln!("nought: ignored: {wrong}");
        }
        if std::mem::take(&mut args.container) {
            eprintln!("nought: ignored: --container: this is a machine's process 1");
        }
        if let Err(error) = init(args) {
            report_chain(&error);
        }
    }
    // Never reached: `init` has ended the machine. Were it not so, whoever waits can look.
    loop {
        std::thread::park();
    }
}
