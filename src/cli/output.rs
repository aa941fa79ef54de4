//! Standard output and error: what they are, and writing to them without dying of it.

use std::io::{self, IsTerminal as _, Write as _};

/// Whether to colour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Style {
    pub(super) color: bool,
}

/// How wide the terminal on stdout is; 80 where there is none.
pub(super) fn columns() -> usize {
    let size = terminal_size::terminal_size_of(io::stdout());
    size.map_or(80, |(width, _)| usize::from(width.0).clamp(40, 200))
}

impl Style {
    pub(super) fn of_stdout() -> Self {
        Style {
            color: may_color() && io::stdout().is_terminal(),
        }
    }

    pub(super) fn of_stderr() -> Self {
        Style {
            color: may_color() && io::stderr().is_terminal(),
        }
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.color {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_string()
        }
    }

    /// In a colour of its own, as far as there are colours.
    pub(super) fn of_name(self, name: &str) -> String {
        const COLORS: [&str; 6] = ["36", "33", "35", "32", "34", "96"];
        let sum: usize = name.bytes().map(usize::from).sum();
        self.paint(COLORS.get(sum % COLORS.len()).unwrap_or(&"36"), name)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn warn(self, text: &str) -> String {
        self.paint("33", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }
}

/// NO_COLOR is honoured when set and not empty (no-color.org).
fn may_color() -> bool {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !no_color && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Where a command's output goes.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) style: Style,
    pub(super) json: bool,
    /// Whether all of it got out.
    pub(super) complete: bool,
    /// Whether whoever read it went away.
    pub(super) closed: bool,
    progress: bool,
    shown: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Output {
            style: Style::of_stdout(),
            json,
            complete: true,
            closed: false,
            progress: io::stderr().is_terminal() && !json,
            shown: false,
        }
    }

    /// Text on stdout. A reader that went away (`| head`) is no failure.
    pub(super) fn text(&mut self, text: &str) {
        self.clear_progress();
        let mut stdout = io::stdout().lock();
        let written = stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush());
        let Err(error) = written else { return };
        self.closed = true;
        if error.kind() != io::ErrorKind::BrokenPipe && self.complete {
            self.complete = false;
            to_stderr(&format!(
                "error: cannot write to stdout\n  because: {error}\n"
            ));
        }
    }

    /// One JSON document on a line of its own.
    pub(super) fn document(&mut self, value: &serde_json::Value) {
        self.text(&format!("{value}\n"));
    }

    /// Text on stderr.
    pub(super) fn error(&mut self, text: &str) {
        self.clear_progress();
        to_stderr(text);
    }

    /// Whether somebody watches stderr.
    pub(super) fn wants_progress(&self) -> bool {
        self.progress
    }

    /// Replaces the line that says what is waited for.
    pub(super) fn show_progress(&mut self, line: &str) {
        if self.progress {
            to_stderr(&format!("\r\x1b[K{line}"));
            self.shown = true;
        }
    }

    pub(super) fn clear_progress(&mut self) {
        if std::mem::take(&mut self.shown) {
            to_stderr("\r\x1b[K");
        }
    }
}

pub(super) fn to_stderr(text: &str) {
    // Nobody is left to tell when this fails.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
