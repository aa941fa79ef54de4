//! What can be written after `nought run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, FromArgMatches as _, ValueEnum};

use super::super::args::duration;
use crate::config;

#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: the command's own; 128+N when signal N ended it; 120 it \
    succeeded and left something behind (with --leaks=fail); 121 something survived everything; \
    124 its time was over; 125 this command failed itself; 126, 127 it could not be executed, \
    was not found."
)]
pub(in crate::cli) struct Run {
    /// End the command when it has run for this long (0: never)
    #[arg(long, value_name = "D", value_parser = duration)]
    timeout: Option<Duration>,
    /// What a shell runs, as us, when that time is over, before the command is asked to end;
    /// NOUGHT_PID and NOUGHT_CGROUP say where the command is
    #[arg(long, value_name = "COMMAND")]
    on_timeout: Option<OsString>,
    /// How long the command has between a signal and the kill
    #[arg(long, value_name = "D", value_parser = duration, default_value = "5s")]
    grace: Duration,
    /// How long the proof may take after a kill
    #[arg(long, value_name = "D", value_parser = duration, default_value = "1500ms")]
    kill_timeout: Duration,
    /// What a command that succeeded and left something behind means
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Leaks::Warn)]
    leaks: Leaks,
    /// How long what outlives the command may take to end by itself
    #[arg(long, value_name = "D", value_parser = duration, default_value = "100ms")]
    settle: Duration,
    /// How long what is left then has between SIGTERM and SIGKILL [default: killed at once]
    #[arg(long, value_name = "D", value_parser = duration)]
    leak_grace: Option<Duration>,
    /// Let processes live on whose name or command line matches (`*` and `?` as in a shell), with
    /// all that is below them; may be given again
    #[arg(long, value_name = "PATTERN")]
    keep: Vec<String>,
    /// Pass this signal on to the command instead of ending it; may be given again. USR1 and
    /// USR2 always are
    #[arg(long, value_name = "SIGNAL")]
    forward: Vec<String>,
    /// Start nothing where less than this can be guaranteed: a containment, a scan, or both
    /// (`cgroup-kill`, `marked`, `cgroup-kill,marked`)
    #[arg(long, value_name = "LEVEL")]
    min_guarantee: Option<String>,
    /// Give the command a pid namespace of its own, and a /proc that shows that: nobody can leave
    /// it, and all of it ends with its first process. The command sees itself as another process
    /// than 1, and nobody outside
    #[arg(long, conflicts_with = "keep")]
    pidns: bool,
    /// How much memory the command and all it starts may use (`512M`, `2G`); beyond that the
    /// kernel kills in it, and the report says so
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    memory: Option<u64>,
    /// How much processor time they may use: a number of processors (`1.5`, `150%`)
    #[arg(long, value_name = "N", value_parser = processors)]
    cpus: Option<u64>,
    /// How many processes and threads they may be
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=4_194_304))]
    pids: Option<u64>,
    /// What a limit means that cannot be enforced here
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = Demand::Required)]
    limits: Demand,
    /// Set a variable for the command (`NAME=VALUE`), or take one away (`NAME`); may be given again
    #[arg(short, long, value_name = "NAME[=VALUE]")]
    env: Vec<OsString>,
    /// The command's working directory
    #[arg(short = 'C', long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Run the command as this user, and group if there is one after a colon (names or numbers),
    /// with the user's other groups, HOME, USER, LOGNAME and SHELL
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Write how it ended as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Write how it ended as JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Say nothing but errors
    #[arg(short, long)]
    quiet: bool,
    /// The command and its arguments
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = false,
        value_name = "COMMAND"
    )]
    command: Vec<OsString>,
}

pub(in crate::cli) fn bytes(text: &str) -> Result<u64, String> {
    config::parse_bytes(text)
        .ok_or_else(|| "write whole bytes or a number with K, M, G or T: `512M`, `1.5G`".to_owned())
}

pub(in crate::cli) fn processors(text: &str) -> Result<u64, String> {
    config::parse_processors(text)
        .ok_or_else(|| "write a number of processors: `1.5`, `150%`".to_owned())
}

/// What is made of processes that outlive their command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Leaks {
    /// They are ended and named; the exit code is the command's.
    Warn,
    /// They are ended and named; a command that succeeded has failed (120).
    Fail,
    /// They are ended.
    Allow,
}

/// What is made of a limit that cannot be enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Demand {
    /// Nothing is started.
    Required,
    /// It is said, and the command runs without.
    Optional,
}

/// What `nought run` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunArgs {
    /// The command, the program first; not empty.
    pub command: Vec<OsString>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// A shell's command to run when that is over.
    pub on_timeout: Option<OsString>,
    /// From a signal to the kill.
    pub grace: Duration,
    /// From the kill to the verdict.
    pub kill_timeout: Duration,
    /// What leaks mean.
    pub leaks: Leaks,
    /// How long what outlives the command may take to end by itself.
    pub settle: Duration,
    /// From SIGTERM to SIGKILL for what is left then; zero: killed at once.
    pub leak_grace: Duration,
    /// Who may live on.
    pub keep: Vec<String>,
    /// Signals to pass on, beside USR1 and USR2.
    pub forward: Vec<String>,
    /// The least guarantee, as it was written.
    pub min_guarantee: Option<String>,
    /// Whether it gets a pid namespace of its own.
    pub pidns: bool,
    /// The most memory, in bytes.
    pub memory: Option<u64>,
    /// The most processor time, in millionths of a processor.
    pub cpus: Option<u64>,
    /// The most processes and threads.
    pub pids: Option<u64>,
    /// What a limit means that cannot be enforced.
    pub limits: Demand,
    /// `NAME=VALUE` to set, `NAME` to take away.
    pub env: Vec<OsString>,
    /// The working directory; `None`: ours.
    pub dir: Option<PathBuf>,
    /// Whom it runs as, `USER[:GROUP]`; `None`: as us.
    pub user: Option<String>,
    /// Where to write the report.
    pub report: Option<PathBuf>,
    /// Where to write it as JUnit's XML.
    pub junit: Option<PathBuf>,
    /// Say nothing but errors.
    pub quiet: bool,
}

/// `nought run …` by its own words alone: to make every other command's words ready takes longer
/// than making a cgroup. `None`: something else, or nothing that is right; then the whole command
/// line is read, and says what is wrong.
pub(in crate::cli) fn alone(argv: &[OsString]) -> Option<RunArgs> {
    let words = argv
        .get(1..)
        .filter(|words| words.first().is_some_and(|word| word == "run"))?;
    match words {
        [_, dashes, command @ ..] if dashes == "--" && !command.is_empty() => {
            Some(RunArgs::plain(command.to_vec()))
        }
        _ => parsed(words),
    }
}

fn parsed(words: &[OsString]) -> Option<RunArgs> {
    let command = Run::augment_args(clap::Command::new("run"));
    let matches = command.try_get_matches_from(words).ok()?;
    let run = Run::from_arg_matches(&matches).ok()?;
    Some(run.into_args())
}

impl RunArgs {
    /// `nought run -- COMMAND…` without an option: what they all are when nothing is said. A
    /// parser that knows them takes as long as a fork to get ready.
    fn plain(command: Vec<OsString>) -> Self {
        Self {
            command,
            timeout: None,
            on_timeout: None,
            grace: Duration::from_secs(5),
            kill_timeout: Duration::from_millis(1500),
            leaks: Leaks::Warn,
            settle: Duration::from_millis(100),
            leak_grace: Duration::ZERO,
            keep: Vec::new(),
            forward: Vec::new(),
            min_guarantee: None,
            pidns: false,
            memory: None,
            cpus: None,
            pids: None,
            limits: Demand::Required,
            env: Vec::new(),
            dir: None,
            user: None,
            report: None,
            junit: None,
            quiet: false,
        }
    }
}

impl Run {
    pub(in crate::cli) fn into_args(self) -> RunArgs {
        RunArgs {
            command: self.command,
            timeout: self.timeout.filter(|timeout| !timeout.is_zero()),
            on_timeout: self.on_timeout,
            grace: self.grace,
            kill_timeout: self.kill_timeout,
            leaks: self.leaks,
            settle: self.settle,
            leak_grace: self.leak_grace.unwrap_or_default(),
            keep: self.keep,
            forward: self.forward,
            min_guarantee: self.min_guarantee,
            pidns: self.pidns,
            memory: self.memory,
            cpus: self.cpus,
            pids: self.pids,
            limits: self.limits,
            env: self.env,
            dir: self.dir,
            user: self.user,
            report: self.report,
            junit: self.junit,
            quiet: self.quiet,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_options_everything_is_as_the_parser_has_it() {
        for command in [&["true"][..], &["sh", "-c", "exit 3"], &["a", "--", "-b"]] {
            let words = ["nought", "run", "--"]
                .into_iter()
                .chain(command.iter().copied());
            let argv: Vec<OsString> = words.map(Into::into).collect();
            let alone = alone(&argv).unwrap();
            assert_eq!(Some(&alone), parsed(&argv[1..]).as_ref());
            assert_eq!(alone.command, command);
        }
    }

    #[test]
    fn what_is_not_right_is_left_to_the_whole_command_line() {
        for words in [
            &["nought", "run"][..],
            &["nought", "run", "--"],
            &["nought", "run", "--nonsense", "--", "true"],
            &["nought", "list"],
            &["nought"],
        ] {
            let argv: Vec<OsString> = words.iter().map(Into::into).collect();
            assert_eq!(alone(&argv), None, "{words:?}");
        }
    }
}
