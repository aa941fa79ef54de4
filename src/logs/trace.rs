//! What the supervisor says of itself: `tracing` events as lines on stderr, through the [`Sink`].
//!
//! Our own subscriber: tracing-subscriber's layers and registry cost more memory than the rest
//! of an idle supervisor's logging, and its writers block. Spans are accepted and not shown.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::SetGlobalDefaultError;
use tracing::{Event, Metadata, Subscriber};

use super::{Sink, Stream, kernel};

/// No level has this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownLevel(String);

impl fmt::Display for UnknownLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unknown log level '{}' in NOUGHT_LOG: use off, error, warn, info, debug or trace",
            self.0.escape_debug()
        )
    }
}

impl std::error::Error for UnknownLevel {}

/// The level to show: `debug` with `-d`, else what NOUGHT_LOG says, else `info`.
///
/// # Errors
/// When `-d` is not given and `env` names no level.
pub fn level(debug: bool, env: Option<&str>) -> Result<LevelFilter, UnknownLevel> {
    if debug {
        return Ok(LevelFilter::DEBUG);
    }
    match env.map(str::trim) {
        None | Some("") => Ok(LevelFilter::INFO),
        Some(word) => match word.to_ascii_lowercase().as_str() {
            "off" => Ok(LevelFilter::OFF),
            "error" => Ok(LevelFilter::ERROR),
            "warn" => Ok(LevelFilter::WARN),
            "info" => Ok(LevelFilter::INFO),
            "debug" => Ok(LevelFilter::DEBUG),
            "trace" => Ok(LevelFilter::TRACE),
            _ => Err(UnknownLevel(word.into())),
        },
    }
}

/// Sends every `tracing` event of the process up to `level` to `sink`'s stderr.
///
/// # Errors
/// When the process has a subscriber already.
pub fn install(sink: Sink, level: LevelFilter) -> Result<(), SetGlobalDefaultError> {
    tracing::subscriber::set_global_default(Trace::new(sink, level))
}

/// A `tracing` subscriber that writes `nought: LEVEL message key=value` lines.
///
/// A line stays one line and shows all it holds: characters that are not seen are escaped in a
/// message, and values with them or with spaces are quoted.
#[derive(Debug)]
pub struct Trace {
    sink: Sink,
    level: LevelFilter,
}

impl Trace {
    /// A subscriber that shows events up to `level`.
    pub fn new(sink: Sink, level: LevelFilter) -> Self {
        Self { sink, level }
    }
}

impl Subscriber for Trace {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut said = Said::default();
        event.record(&mut said);
        kernel::copy(*event.metadata().level(), &said.message, &said.fields);
        self.sink.line(
            Stream::Stderr,
            &[
                b"nought: ",
                event.metadata().level().as_str().as_bytes(),
                if said.message.is_empty() { b"" } else { b" " },
                said.message.as_bytes(),
                said.fields.as_bytes(),
            ],
        );
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Said {
    fn field(&mut self, name: &str, value: &str) {
        self.fields.push(' ');
        self.fields.push_str(name);
        self.fields.push('=');
        if !value.is_empty() && value.chars().all(is_plain) {
            self.fields.push_str(value);
        } else {
            // Writing to a String cannot fail.
            let _ = write!(self.fields, "{value:?}");
        }
    }
}

impl Visit for Said {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            escape_hidden(value, &mut self.message);
        } else {
            self.field(field.name(), value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// What is not seen where it is shown, or changes how others are seen (controls, directions of
/// writing, what has no width), is what `escape_debug` escapes, quotes and backslashes apart.
fn escape_hidden(text: &str, to: &mut String) {
    for c in text.chars() {
        if matches!(c, '"' | '\'' | '\\') {
            to.push(c);
        } else {
            to.extend(c.escape_debug());
        }
    }
}

fn is_plain(c: char) -> bool {
    c != '"' && !c.is_whitespace() && c.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_seen_is_shown() {
        let mut said = Said::default();
        escape_hidden("it's \"größe\" \\ a\u{202e}b\u{200b}\n", &mut said.message);
        assert_eq!(said.message, "it's \"größe\" \\ a\\u{202e}b\\u{200b}\\n");
        said.field("name", "web");
        said.field("name", "w\u{202e}b");
        said.field("name", "two words");
        assert_eq!(
            said.fields,
            " name=web name=\"w\\u{202e}b\" name=\"two words\""
        );
    }
}
