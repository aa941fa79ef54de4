//! The command line's entry.

use std::process::ExitCode;

use nought::cli;

fn main() -> ExitCode {
    cli::run(std::env::args_os(), |args| {
        Err(anyhow::anyhow!(
            "cannot supervise {}: this build has the client commands only",
            args.config_dir.display()
        ))
    })
}
