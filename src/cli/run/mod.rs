//! `nought run`: its command line, and what a person reads of its end. The running itself is
//! brought by the caller.

mod args;
mod junit;
mod show;

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;

use crate::api::{RunProcess, RunReport};
use crate::sys::bounded_write::{Target, replace, stderr_within};
use crate::sys::signalfd;

pub use args::{Demand, Leaks, RunArgs};
pub(super) use args::{Run, alone};
pub(super) use args::{bytes, processors};

use super::error::report_chain;
use super::output::{Style, to_stderr};

/// How long whoever reads standard error may hold up what is to be done next.
const HELD_UP: Duration = Duration::from_millis(250);
/// How long a report, and the last words of a run that was to end, may take to be read.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Who tells of a run on standard error while it goes on. A reader that does not read misses
/// something and holds nothing up.
#[derive(Debug)]
pub struct Teller<'a> {
    args: &'a RunArgs,
    style: Style,
    /// Bytes that nobody took.
    lost: usize,
    interrupted: Option<(Signal, bool)>,
}

impl<'a> Teller<'a> {
    fn new(args: &'a RunArgs) -> Self {
        Self {
            args,
            style: Style::of_stderr(),
            lost: 0,
            interrupted: None,
        }
    }

    /// The time is over, and this is what runs.
    pub fn evidence(&mut self, after: Duration, running: &[RunProcess]) {
        let text = show::evidence(after, running, self.style);
        self.say(&text, HELD_UP);
    }

    /// Something to know.
    pub fn note(&mut self, text: &str) {
        if !self.args.quiet {
            let text = show::note(text, self.style);
            self.say(&text, HELD_UP);
        }
    }

    /// The terminal's INT or QUIT (by number) ended the command: once all is said we are to die of
    /// it, too; with our process group where the command `alone` got it.
    pub fn interrupted(&mut self, signal: i32, alone: bool) {
        let signal = Signal::try_from(signal).ok();
        self.interrupted = signal.map(|signal| (signal, alone));
    }

    /// The guardian's report: nobody reads its standard error.
    pub fn orphaned(&mut self, report: &RunReport) {
        // Nobody is left to tell when one of these fails.
        if let Some(path) = &self.args.report {
            let _ = as_json(report).map(|text| replace(path, text.as_bytes(), LAST_WORDS));
        }
        if let Some(path) = &self.args.junit {
            let text = junit::document(report, self.args);
            let _ = replace(path, text.as_bytes(), LAST_WORDS);
        }
    }

    fn say(&mut self, text: &str, bound: Duration) {
        // Whoever did not read once is not waited for again.
        let bound = if self.lost > 0 { Duration::ZERO } else { bound };
        self.lost += text.len() - stderr_within(text.as_bytes(), bound).min(text.len());
    }

    /// The last words. Of a run that came to its own end they wait for their reader, as any
    /// program's do, and a signal ends that.
    fn end(&mut self, report: &RunReport) {
        let mut text = String::new();
        if self.lost > 0 {
            let lost = format!(
                "nobody read standard error: {} bytes are missing",
                self.lost
            );
            text.push_str(&show::note(&lost, self.style));
        }
        text.push_str(&show::end(report, self.args, self.style));
        if std::env::var_os("GITHUB_ACTIONS").is_some_and(|value| value == "true") {
            text.push_str(&show::annotations(report, self.args));
        }
        if text.is_empty() {
            return;
        }
        if matches!(report.ended_by.as_str(), "signal" | "timeout") {
            return self.say(&text, LAST_WORDS);
        }
        signalfd::let_through(&[
            Signal::SIGTERM,
            Signal::SIGINT,
            Signal::SIGHUP,
            Signal::SIGQUIT,
        ]);
        to_stderr(&text);
    }
}

/// Where the reports go, found to be writable.
struct Reports<'a> {
    json: Option<(&'a Path, Target)>,
    junit: Option<(&'a Path, Target)>,
}

impl<'a> Reports<'a> {
    fn of(args: &'a RunArgs) -> anyhow::Result<Self> {
        let target = |path: &'a Option<std::path::PathBuf>| {
            let Some(path) = path.as_deref() else {
                return Ok(None);
            };
            let target = Target::check(path);
            target
                .map(|target| Some((path, target)))
                .with_context(|| cannot_write(path))
        };
        Ok(Self {
            json: target(&args.report)?,
            junit: target(&args.junit)?,
        })
    }

    /// Writes all there are; what failed.
    fn write(&self, report: &RunReport, args: &RunArgs) -> Vec<anyhow::Error> {
        let write = |(path, target): &(&Path, Target), text: String| {
            let written = target.write(path, text.as_bytes(), LAST_WORDS);
            written.with_context(|| cannot_write(path))
        };
        let json = self.json.as_ref();
        let json = json.map(|to| as_json(report).and_then(|text| write(to, text)));
        let junit = self.junit.as_ref();
        let junit = junit.map(|to| write(to, junit::document(report, args)));
        [json, junit]
            .into_iter()
            .flatten()
            .filter_map(Result::err)
            .collect()
    }
}

fn cannot_write(path: &Path) -> String {
    format!("failed to write {}", path.display())
}

/// Runs the command by `job` and tells of its end; the exit code.
pub(super) fn run(
    args: &RunArgs,
    job: impl FnOnce(&RunArgs, &mut Teller<'_>) -> anyhow::Result<RunReport>,
) -> u8 {
    let mut teller = Teller::new(args);
    let done = Reports::of(args).and_then(|to| Ok((to, job(args, &mut teller)?)));
    let (to, report) = match done {
        Ok(done) => done,
        Err(error) => {
            report_chain(&error);
            return FAILED;
        }
    };
    let mut code = report.exit_code;
    let failed = to.write(&report, args);
    teller.end(&report);
    for error in failed {
        report_chain(&error);
        // A report that was asked for and is not there is a failure of ours.
        code = if code == 0 { FAILED } else { code };
    }
    if let Some((signal, with_group)) = teller.interrupted {
        signalfd::die_of(signal, with_group);
    }
    code
}

/// Our own failure, as timeout(1) has it.
pub(super) const FAILED: u8 = 125;

fn as_json(report: &RunReport) -> anyhow::Result<String> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}
