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

/// What an object has before its text.
#[derive(serde::Serialize)]
struct Object<'a> {
    time: String,
    service: &'a str,
    generation: u64,
    pid: Option<u32>,
    stream: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<&'static str>,
}

/// What stands before the text of a line. Many lines come with one read and differ in nothing else:
/// it is made once for all of them.
#[derive(Debug, Default)]
pub(super) struct Head {
    /// Of which line it is; `None`: of none yet.
    of: Option<Of>,
    bytes: Vec<u8>,
    /// Where the piece came from that was written last and has no line end.
    open: Option<Open>,
}

/// A longer line of which not all pieces are written.
#[derive(Debug)]
struct Open {
    source: String,
    generation: u64,
    stream: Stream,
}

impl Open {
    fn of(line: &Written<'_>) -> Self {
        Self {
            source: line.source.to_owned(),
            generation: line.generation,
            stream: line.stream,
        }
    }

    /// Whether this is its next piece.
    fn goes_on(&self, line: &Written<'_>) -> bool {
        line.cut.before
            && line.stream == self.stream
            && line.generation == self.generation
            && line.source == self.source
    }
}

/// What the head of a line is made of.
#[derive(Debug, PartialEq, Eq)]
struct Of {
    source: String,
    generation: u64,
    pid: u32,
    stream: Stream,
    wall_us: u64,
    cut: Cut,
}

impl Head {
    /// A line of ours beside the one that was written or lost last; `None`: there was none.
    pub(super) fn beside<'a>(&'a self, text: &'a str) -> Option<Written<'a>> {
        let of = self.of.as_ref()?;
        Some(Written {
            source: &of.source,
            generation: of.generation,
            pid: of.pid,
            stream: of.stream,
            wall_us: of.wall_us,
            cut: Cut::default(),
            text: text.as_bytes(),
        })
    }

    /// For what is written next beside others: a line of ours, or those of another format.
    pub(super) fn for_note(&mut self) -> Self {
        Self {
            open: self.open.take(),
            ..Self::default()
        }
    }

    /// The head of this line.
    pub(super) fn of(&mut self, format: Format, line: &Written<'_>) -> &[u8] {
        let is_it = |of: &Of| {
            of.wall_us == line.wall_us
                && of.stream == line.stream
                && of.cut == line.cut
                && of.pid == line.pid
                && of.generation == line.generation
                && of.source == line.source
        };
        if !self.of.as_ref().is_some_and(is_it) {
            self.bytes.clear();
            format.write_head(line, &mut self.bytes);
            self.of = Some(Of {
                source: line.source.to_owned(),
                generation: line.generation,
                pid: line.pid,
                stream: line.stream,
                wall_us: line.wall_us,
                cut: line.cut,
            });
        }
        &self.bytes
    }
}

/// daemon, and how urgent (syslog(3)).
const SYSLOG_OUT: u8 = 3 << 3 | 6;
const SYSLOG_ERR: u8 = 3 << 3 | 4;

impl Format {
    /// Adds the line, with what ends it there.
    pub(super) fn write(self, head: &mut Head, line: &Written<'_>, to: &mut Vec<u8>) {
        // Nobody else's line goes into one that was cut.
        if head.open.take().is_some_and(|open| !open.goes_on(line)) {
            to.push(b'\n');
        }
        to.extend_from_slice(head.of(self, line));
        if self == Format::Json {
            // Strings: nothing that could not be written.
            let _ = serde_json::to_writer(&mut *to, &String::from_utf8_lossy(line.text));
            to.extend_from_slice(b"}\n");
            return;
        }
        to.extend_from_slice(line.text);
        match self {
            // Pieces of a longer line come together again.
            Format::Plain if line.cut.after => {
                head.open = Some(Open::of(line));
                return;
            }
            Format::Plain => {}
            _ if line.cut.after => to.extend_from_slice(CUT_AFTER.as_bytes()),
            _ => {}
        }
        if self != Format::Syslog {
            to.push(b'\n');
        }
    }

    /// All that comes before its text. Writing to memory does not fail.
    fn write_head(self, line: &Written<'_>, to: &mut Vec<u8>) {
        let before = if line.cut.before { CUT_BEFORE } else { "" };
        let (source, pid, generation) = (line.source, line.pid, line.generation);
        let _ = match self {
            Format::Plain => Ok(()),
            Format::Json => {
                let object = Object {
                    time: rfc3339(line.wall_us),
                    service: source,
                    generation,
                    pid: (pid > 0).then_some(pid),
                    stream: line.stream.as_str(),
                    cut: line.cut.word(),
                };
                let _ = serde_json::to_writer(&mut *to, &object);
                // The text is one more of its fields.
                to.pop();
                write!(to, ",\"text\":")
            }
            Format::Prefix => {
                let (time, stream) = (rfc3339(line.wall_us), stream(line.stream));
                write!(to, "{time} {source}/{generation}[{pid}] {stream}: {before}")
            }
            Format::Journal => {
                let priority = if line.stream == Stream::Stdout { 6 } else { 4 };
                let stream = stream(line.stream);
                write!(
                    to,
                    "PRIORITY={priority}\nSYSLOG_IDENTIFIER={source}\nSYSLOG_PID={pid}\n\
                     NOUGHT_SERVICE={source}\nNOUGHT_GENERATION={generation}\n\
                     NOUGHT_STREAM={stream}\nMESSAGE={before}"
                )
            }
            Format::Syslog => {
                let priority = match line.stream {
                    Stream::Stdout => SYSLOG_OUT,
                    Stream::Stderr => SYSLOG_ERR,
                };
                // Without a time, which the daemon has too: no time zone has to be known here.
                write!(to, "<{priority}>{source}[{pid}]: {before}")
            }
        };
    }
}

fn stream(stream: Stream) -> &'static str {
    match stream {
        Stream::Stdout => "out",
        Stream::Stderr => "err",
    }
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
        format.write(&mut Head::default(), &line, &mut to);
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

    #[test]
    fn nobody_elses_line_goes_into_one_that_was_cut() {
        let first = Written {
            source: "web",
            generation: 7,
            pid: 1234,
            stream: Stream::Stdout,
            wall_us: 1,
            cut: Cut {
                before: false,
                after: true,
            },
            text: b"begin,",
        };
        let last = Written {
            cut: Cut {
                before: true,
                after: false,
            },
            wall_us: 2,
            text: b"end",
            ..first
        };
        let whole = Written {
            cut: Cut::default(),
            text: b"whole",
            ..first
        };
        let after = |lines: &[Written<'_>]| {
            let (mut head, mut to) = (Head::default(), Vec::new());
            for line in lines {
                Format::Plain.write(&mut head, line, &mut to);
            }
            String::from_utf8(to).unwrap_or_default()
        };
        assert_eq!(after(&[first, last, whole]), "begin,end\nwhole\n");
        let others = [
            whole,
            Written {
                stream: Stream::Stderr,
                ..last
            },
            Written {
                generation: 8,
                ..last
            },
            Written {
                source: "db",
                ..last
            },
        ];
        for other in others {
            let text = std::str::from_utf8(other.text).unwrap_or_default();
            let wanted = format!("begin,\n{text}\nend\n");
            assert_eq!(after(&[first, other, last]), wanted, "{other:?}");
        }
        // Nor does what we say of lost lines, after which the line does not go on.
        let (mut head, mut to) = (Head::default(), Vec::new());
        Format::Plain.write(&mut head, &first, &mut to);
        Format::Plain.write(&mut head.for_note(), &whole, &mut to);
        Format::Plain.write(&mut head, &last, &mut to);
        assert_eq!(String::from_utf8_lossy(&to), "begin,\nwhole\nend\n");
    }

    #[test]
    fn a_line_never_has_the_head_of_another() {
        let first = Written {
            source: "web",
            generation: 7,
            pid: 1234,
            stream: Stream::Stdout,
            wall_us: 1_795_410_753_123_456,
            cut: Cut::default(),
            text: b"text",
        };
        let cut = Cut {
            before: true,
            after: true,
        };
        let others = [
            Written {
                wall_us: first.wall_us + 1,
                ..first
            },
            Written {
                stream: Stream::Stderr,
                ..first
            },
            Written { pid: 1, ..first },
            Written {
                generation: 8,
                ..first
            },
            Written {
                source: "db",
                ..first
            },
            Written { cut, ..first },
            Written {
                text: b"other",
                ..first
            },
        ];
        for format in [
            Format::Plain,
            Format::Prefix,
            Format::Json,
            Format::Journal,
            Format::Syslog,
        ] {
            let mut head = Head::default();
            for line in others.iter().flat_map(|other| [&first, other]) {
                // What ends a piece before another's line is not of its head.
                head.open = None;
                let (mut kept, mut anew) = (Vec::new(), Vec::new());
                format.write(&mut head, line, &mut kept);
                format.write(&mut Head::default(), line, &mut anew);
                assert_eq!(kept, anew, "{format:?} {line:?}");
            }
        }
    }
}
