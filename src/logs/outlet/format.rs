//! How a line looks where it goes.

use std::io::Write as _;

use crate::logs::{CUT_AFTER, CUT_BEFORE, Cut, Stream, rfc3339};

/// How a line looks in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As it came.
    Plain,
    /// `2026-11-23T05:12:33.123456Z web/7[1234] out: text`: when it was read, the service and its
    /// generation, its main process, where it came from.
    #[default]
    Prefix,
    /// One JSON object a line: `{"time", "service", "generation", "pid", "stream", "text"}`; a
    /// piece of a longer line has `cut`.
    Json,
    /// What systemd's journal reads.
    Journal,
    /// What a syslog daemon reads.
    Syslog,
}

/// A line and where it comes from.
#[derive(Clone, Copy, Debug)]
pub(in crate::logs) struct Written<'a> {
    pub(in crate::logs) source: &'a str,
    /// The start it comes from; 0: not known.
    pub(in crate::logs) generation: u64,
    /// The main process; 0: not known yet.
    pub(in crate::logs) pid: u32,
    pub(in crate::logs) stream: Stream,
    /// When it was read, in microseconds since the epoch.
    pub(in crate::logs) wall_us: u64,
    pub(in crate::logs) cut: Cut,
    pub(in crate::logs) text: &'a [u8],
}

#[derive(serde::Serialize)]
struct Object<'a> {
    time: String,
    service: &'a str,
    generation: u64,
    pid: Option<u32>,
    stream: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<&'static str>,
    text: std::borrow::Cow<'a, str>,
}

/// daemon, and how urgent (syslog(3)).
const SYSLOG_OUT: u8 = 3 << 3 | 6;
const SYSLOG_ERR: u8 = 3 << 3 | 4;

impl Format {
    /// Adds the line, with what ends it there.
    pub(super) fn write(self, line: &Written<'_>, to: &mut Vec<u8>) {
        let (before, after) = (
            if line.cut.before { CUT_BEFORE } else { "" },
            if line.cut.after { CUT_AFTER } else { "" },
        );
        let (source, pid) = (line.source, line.pid);
        match self {
            Format::Plain => {
                // Pieces of a longer line come together again.
                to.extend_from_slice(line.text);
                if !line.cut.after {
                    to.push(b'\n');
                }
                return;
            }
            Format::Json => return json(line, to),
            Format::Prefix => {
                let (time, generation) = (rfc3339(line.wall_us), line.generation);
                let stream = stream(line.stream);
                // Writing to memory does not fail, here and below.
                let _ = write!(to, "{time} {source}/{generation}[{pid}] {stream}: {before}");
            }
            Format::Journal => {
                let priority = if line.stream == Stream::Stdout { 6 } else { 4 };
                let (generation, stream) = (line.generation, stream(line.stream));
                let _ = write!(
                    to,
                    "PRIORITY={priority}\nSYSLOG_IDENTIFIER={source}\nSYSLOG_PID={pid}\n\
                     NOUGHT_SERVICE={source}\nNOUGHT_GENERATION={generation}\n\
                     NOUGHT_STREAM={stream}\nMESSAGE={before}"
                );
            }
            Format::Syslog => {
                let priority = match line.stream {
                    Stream::Stdout => SYSLOG_OUT,
                    Stream::Stderr => SYSLOG_ERR,
                };
                // Without a time, which the daemon has too: no time zone has to be known here.
                let _ = write!(to, "<{priority}>{source}[{pid}]: {before}");
            }
        }
        to.extend_from_slice(line.text);
        to.extend_from_slice(after.as_bytes());
        if self != Format::Syslog {
            to.push(b'\n');
        }
    }
}

fn stream(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "out",
        Stream::Stderr => "err",
    }
}

fn json(line: &Written<'_>, to: &mut Vec<u8>) {
    let object = Object {
        time: rfc3339(line.wall_us),
        service: line.source,
        generation: line.generation,
        pid: (line.pid > 0).then_some(line.pid),
        stream: line.stream.as_str(),
        cut: line.cut.word(),
        text: String::from_utf8_lossy(line.text),
    };
    // Strings and numbers: nothing that could not be written.
    let _ = serde_json::to_writer(&mut *to, &object);
    to.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, cut: Cut) -> String {
        let line = Written {
            source: "web",
            generation: 7,
            pid: 1234,
            stream: Stream::Stderr,
            wall_us: 1_795_410_753_123_456,
            cut,
            text: b"a \"quoted\" \xFF",
        };
        let mut to = Vec::new();
        format.write(&line, &mut to);
        String::from_utf8_lossy(&to).into_owned()
    }

    #[test]
    fn each_format_shows_what_it_should() {
        let whole = Cut::default();
        let after = Cut {
            before: false,
            after: true,
        };
        assert_eq!(written(Format::Plain, whole), "a \"quoted\" \u{FFFD}\n");
        assert_eq!(written(Format::Plain, after), "a \"quoted\" \u{FFFD}");
        assert_eq!(
            written(Format::Prefix, after),
            "2026-11-23T05:12:33.123456Z web/7[1234] err: a \"quoted\" \u{FFFD} [...]\n"
        );
        assert_eq!(
            written(Format::Json, after),
            "{\"time\":\"2026-11-23T05:12:33.123456Z\",\"service\":\"web\",\"generation\":7,\
             \"pid\":1234,\"stream\":\"stderr\",\"cut\":\"after\",\"text\":\"a \\\"quoted\\\" \u{FFFD}\"}\n"
        );
        assert_eq!(
            written(Format::Syslog, whole),
            "<28>web[1234]: a \"quoted\" \u{FFFD}"
        );
        let journal = written(Format::Journal, whole);
        assert!(
            journal.starts_with("PRIORITY=4\nSYSLOG_IDENTIFIER=web\n"),
            "{journal}"
        );
        assert!(
            journal.ends_with("MESSAGE=a \"quoted\" \u{FFFD}\n"),
            "{journal}"
        );
    }
}
