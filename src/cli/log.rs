//! `nought log`: what is kept, and with `-f` what comes.

use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::time::{Duration, SystemTime};

use regex_lite::Regex;
use serde_json::Value;

use crate::api::{ErrorCode, LogLines, LogQuery, LogRecord, RpcError, method};

use super::args::Log;
use super::called::Called;
use super::client::{ANSWER, alive};
use super::command::Session;
use super::error::Error;
use super::output::Style;
use super::render;

/// How often a log that says nothing is asked whether the supervisor lives.
const SILENCE: Duration = Duration::from_secs(5);

const OLD: &str = "earlier lines are no longer kept";
const SLOW: &str = "lines were lost: this reader was too slow";

/// What is asked for, and what of it is shown.
struct Wanted {
    query: LogQuery,
    since: Option<SystemTime>,
    grep: Option<Regex>,
    /// At most so many of the lines that are kept.
    last: Option<usize>,
    times: bool,
}

/// What is asked for unless something has to be known of each line.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Lines,
    Records,
}

impl Wanted {
    fn of(log: Log, shape: Shape) -> Self {
        let mut names = log.services;
        let name = if names.len() == 1 { names.pop() } else { None };
        let chosen = log.since.is_some() || log.grep.is_some();
        let query = LogQuery {
            name,
            // What is chosen here is counted here.
            lines: log.lines.filter(|_| !chosen),
            names,
            records: shape == Shape::Records || chosen || log.times,
        };
        Self {
            query,
            since: log.since,
            grep: log.grep,
            last: log.lines.and_then(|n| usize::try_from(n).ok()),
            times: log.times,
        }
    }

    /// Only what is asked for; `kept`: these are the lines that are kept.
    fn choose(&self, lines: &mut LogLines, kept: bool) {
        let since = |record: &LogRecord| {
            let at = humantime::parse_rfc3339(&record.time).ok();
            self.since
                .is_none_or(|since| at.is_none_or(|at| at >= since))
        };
        let matches = |record: &LogRecord| {
            let regex = self.grep.as_ref();
            regex.is_none_or(|regex| regex.is_match(&record.text))
        };
        let first = lines.records.first().is_some_and(since);
        lines
            .records
            .retain(|record| since(record) && matches(record));
        if !kept {
            return;
        }
        // Whoever asks for a few of the lines that are kept does not miss those that are not.
        let count = lines.records.len() + lines.lines.len();
        let enough = self.last.is_some_and(|last| count >= last);
        if enough || (self.since.is_some() && !first) {
            lines.lost = 0;
        }
        if let Some(last) = self.last {
            let before = lines.records.len().saturating_sub(last);
            lines.records.drain(..before);
        }
    }
}

impl Session<'_> {
    pub(super) fn log(&mut self, log: Log) -> Result<u8, Error> {
        let follow = log.follow || (self.options.called == Called::Zinit && !log.snapshot);
        let is_path = |name: &&String| log.snapshot && name.starts_with(['/', '.']);
        let path = log.services.iter().find(is_path).cloned();
        let records = self.output.json || Style::of_stdout().color;
        let wanted = Wanted::of(
            log,
            if records {
                Shape::Records
            } else {
                Shape::Lines
            },
        );
        if let Some(path) = path {
            let error = RpcError::new(
                ErrorCode::ServiceNotFound,
                format!("there is no service {path:?}"),
            );
            let hint = "after `log`, -s is --snapshot: name the socket with --socket PATH, or with -s \
                        before `log`";
            return Err(Error::Refused(error.about(path, "log").hint(hint)));
        }
        if follow {
            return self.follow(&wanted);
        }
        let (_, mut lines): (Value, LogLines) =
            self.ask(&mut self.connect()?, method::LOG, &wanted.query)?;
        wanted.choose(&mut lines, true);
        self.lines(&wanted, &lines, OLD);
        Ok(0)
    }

    fn follow(&mut self, wanted: &Wanted) -> Result<u8, Error> {
        let options = self.options;
        let mut client = self.connect()?;
        let wait = options.timeout.unwrap_or(ANSWER);
        client.call(method::FOLLOW, &wanted.query, wait)?;
        let mut first = true;
        loop {
            match client.item(SILENCE)? {
                Some(raw) => {
                    let mut lines: LogLines = client.typed(&raw)?;
                    wanted.choose(&mut lines, first);
                    let why = if first { OLD } else { SLOW };
                    self.lines(wanted, &lines, why);
                    first = false;
                }
                None => {
                    alive(&options.socket)?;
                }
            }
            if self.output.closed {
                return Ok(0);
            }
        }
    }

    fn lines(&mut self, wanted: &Wanted, lines: &LogLines, lost: &str) {
        if self.output.json {
            for record in &lines.records {
                let document = serde_json::to_value(record).unwrap_or_default();
                self.output.document(&document);
            }
        } else {
            let terminal = std::io::stdout().is_terminal();
            let style = Style::of_stdout();
            let mut text = String::new();
            for line in &lines.lines {
                let line = if terminal {
                    render::clean_line(line)
                } else {
                    line.into()
                };
                let _ = writeln!(text, "{line}");
            }
            for record in &lines.records {
                let line = line(record, wanted.times, style);
                // A file gets what the service wrote, a terminal what cannot drive it.
                let said = format!("{}{}", line.1, record.shown());
                let said = if terminal {
                    render::clean_line(&said).into_owned()
                } else {
                    said
                };
                let _ = writeln!(text, "{}{said}", line.0);
            }
            if !text.is_empty() {
                self.output.text(&text);
            }
        }
        if lines.lost > 0 {
            self.output.error(&format!("note: {} {lost}\n", lines.lost));
        }
    }
}

/// What stands before a line: what is ours of it, with its colours, and what may be anything.
fn line(record: &LogRecord, times: bool, style: Style) -> (String, String) {
    let time = if times {
        format!("{} ", style.dim(&record.time))
    } else {
        String::new()
    };
    let stdout = record.stream == "stdout";
    let sign = if stdout { "[+]" } else { "[-]" };
    let head = format!("{sign} {}: ", record.service);
    if style.color {
        // A colour each: by the name, so that it stays from one call to the next.
        let name = render::clean(&record.service);
        let sign = if stdout {
            sign.to_owned()
        } else {
            style.bad(sign)
        };
        let name = style.of_name(&name);
        return (format!("{time}{sign} {name}: "), String::new());
    }
    (time, head)
}
