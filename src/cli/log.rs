//! `nought log`: what is kept, and with `-f` what comes.

use std::time::Duration;

use serde_json::Value;

use crate::api::{LogLines, LogQuery, method};

use super::args::Log;
use super::called::Called;
use super::client::{ANSWER, alive};
use super::command::Session;
use super::error::Error;
use super::render;

/// How often a log that says nothing is asked whether the supervisor lives.
const SILENCE: Duration = Duration::from_secs(5);

const OLD: &str = "earlier lines are no longer kept";
const SLOW: &str = "lines were lost: this reader was too slow";

/// Whoever asks for a few of the lines that are kept does not miss those that are not.
fn forgive(lines: &mut LogLines, query: &LogQuery) {
    let most = query.lines.and_then(|n| usize::try_from(n).ok());
    if most.is_some_and(|most| lines.lines.len() >= most) {
        lines.lost = 0;
    }
}

impl Session<'_> {
    pub(super) fn log(&mut self, log: Log) -> Result<u8, Error> {
        let follow = log.follow || (self.options.called == Called::Zinit && !log.snapshot);
        let mut names = log.services;
        let name = if names.len() == 1 { names.pop() } else { None };
        let query = LogQuery {
            name,
            lines: log.lines,
            names,
        };
        if follow {
            return self.follow(&query);
        }
        let (raw, mut lines): (_, LogLines) =
            self.ask(&mut self.connect()?, method::LOG, &query)?;
        forgive(&mut lines, &query);
        self.lines(&raw, &lines, OLD);
        Ok(0)
    }

    fn follow(&mut self, query: &LogQuery) -> Result<u8, Error> {
        let options = self.options;
        let mut client = self.connect()?;
        client.call(method::FOLLOW, query, options.timeout.unwrap_or(ANSWER))?;
        let mut first = true;
        loop {
            match client.item(SILENCE)? {
                Some(raw) => {
                    let mut lines: LogLines = client.typed(&raw)?;
                    if first {
                        forgive(&mut lines, query);
                    }
                    let why = if first { OLD } else { SLOW };
                    self.lines(&raw, &lines, why);
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

    fn lines(&mut self, raw: &Value, lines: &LogLines, lost: &str) {
        if self.output.json {
            self.output.document(raw);
            return;
        }
        let terminal = std::io::IsTerminal::is_terminal(&std::io::stdout());
        let mut text = String::new();
        for line in &lines.lines {
            // A file gets what the service wrote, a terminal what cannot drive it.
            if terminal {
                text.push_str(&render::clean_line(line));
            } else {
                text.push_str(line);
            }
            text.push('\n');
        }
        if !text.is_empty() {
            self.output.text(&text);
        }
        if lines.lost > 0 {
            self.output.error(&format!("note: {} {lost}\n", lines.lost));
        }
    }
}
