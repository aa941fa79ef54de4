//! `nought run`: its command line, and what a person reads of its end. The running itself is
//! brought by the caller.

mod args;
mod junit;
mod show;

use std::path::Path;

use crate::api::{RunProcess, RunReport};

pub(super) use args::Run;
pub use args::{Demand, Leaks, RunArgs};
pub(super) use args::{bytes, processors};

use super::error::report_chain;
use super::output::{Style, to_stderr};

/// Who tells of a run on standard error while it goes on.
#[derive(Debug)]
pub struct Teller<'a> {
    args: &'a RunArgs,
    style: Style,
}

impl<'a> Teller<'a> {
    fn new(args: &'a RunArgs) -> Self {
        Self {
            args,
            style: Style::of_stderr(),
        }
    }

    /// The time is over, and this is what runs.
    pub fn evidence(&mut self, after: std::time::Duration, running: &[RunProcess]) {
        to_stderr(&show::evidence(after, running, self.style));
    }

    /// Something to know.
    pub fn note(&mut self, text: &str) {
        if !self.args.quiet {
            to_stderr(&show::note(text, self.style));
        }
    }

    /// The guardian's report: nobody reads its standard error.
    pub fn orphaned(&mut self, report: &RunReport) {
        if let Some(path) = &self.args.report {
            // Nobody is left to tell when this fails.
            let _ = write_report(path, report);
        }
    }
}

/// Runs the command by `job` and tells of its end; the exit code.
pub(super) fn run(
    args: &RunArgs,
    job: impl FnOnce(&RunArgs, &mut Teller<'_>) -> anyhow::Result<RunReport>,
) -> u8 {
    let mut teller = Teller::new(args);
    let report = match job(args, &mut teller) {
        Ok(report) => report,
        Err(error) => {
            report_chain(&error);
            return FAILED;
        }
    };
    let told = show::end(&report, args, teller.style);
    if !told.is_empty() {
        to_stderr(&told);
    }
    if std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
        to_stderr(&show::annotations(&report, args));
    }
    let mut code = report.exit_code;
    let written = [
        args.report
            .as_deref()
            .map(|path| write_report(path, &report)),
        args.junit
            .as_deref()
            .map(|path| write(path, &junit::document(&report, args))),
    ];
    for error in written.into_iter().flatten().filter_map(Result::err) {
        report_chain(&error);
        // A report that was asked for and is not there is a failure of ours.
        code = if code == 0 { FAILED } else { code };
    }
    code
}

/// Our own failure, as timeout(1) has it.
pub(super) const FAILED: u8 = 125;

fn write_report(path: &Path, report: &RunReport) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    write(path, &text)
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    use anyhow::Context as _;
    std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}
