//! Data to text, and nothing else: no file, no socket, no clock, no terminal.

mod plan;
mod receipt;
mod reload;
mod service;
mod tree;
mod usage;
mod why;

use std::borrow::Cow;

use super::output::Style;
use crate::config;
pub(super) use crate::pictures::words::{duration, millis, trimmed};

pub(super) use plan::plan;
pub(super) use receipt::{receipt, stopped, survivors};
pub(super) use reload::reload;
pub(super) use service::{
    detail, info, last_exit, list, shut_down, status, statuses, stopping, waiting, whole_millis,
};
pub(super) use tree::{descent, tree};
pub(super) use usage::stats;
pub(super) use why::{unready, why};

/// `text` with everything escaped that could drive a terminal or is not seen there: names,
/// command lines and messages come from processes that nobody vouches for.
pub(super) fn clean(text: &str) -> Cow<'_, str> {
    escaped(text, config::is_hidden)
}

/// A line that a service wrote: as [`clean`], but joiners are part of writing in many languages.
pub(super) fn clean_line(text: &str) -> Cow<'_, str> {
    escaped(text, |c| {
        config::is_hidden(c) && !matches!(c, '\u{200c}' | '\u{200d}' | '\u{ad}')
    })
}

fn escaped(text: &str, hostile: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&hostile) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if hostile(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// `0 B`, `3.4 KiB`, `12.5 MiB`.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut whole = bytes;
    let mut unit = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        whole /= 1024;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit == 0 {
        return format!("{bytes} {name}");
    }
    // In tenths, without the inaccuracy of floating point.
    let size = 1024_u128.pow(u32::try_from(unit).unwrap_or_default());
    let tenths = u128::from(bytes) * 10 / size;
    format!("{}.{} {name}", tenths / 10, tenths % 10)
}

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

/// A table whose columns are as wide as they must be; `right` columns are aligned right.
struct Table {
    right: &'static [usize],
    rows: Vec<Vec<Cell>>,
}

/// A cell's text and the same text coloured.
struct Cell {
    plain: String,
    shown: String,
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Cell {
            shown: text.clone(),
            plain: text,
        }
    }
}

impl Table {
    /// A table whose first row is its columns' names.
    fn with_head(right: &'static [usize], head: &[&str], style: Style) -> Self {
        let cell = |word: &&str| Cell {
            plain: (*word).into(),
            shown: style.dim(word),
        };
        Table {
            right,
            rows: vec![head.iter().map(cell).collect()],
        }
    }

    fn new(right: &'static [usize]) -> Self {
        Table {
            right,
            rows: Vec::new(),
        }
    }

    fn render(&self, indent: &str) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells
                .map(|cell| cell.plain.chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let mut line = String::from(indent);
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let pad = " ".repeat(width.saturating_sub(cell.plain.chars().count()));
                let gap = if column == 0 { "" } else { "  " };
                let (left, right) = if self.right.contains(&column) {
                    (pad.as_str(), "")
                } else {
                    ("", pad.as_str())
                };
                line.extend([gap, left, &cell.shown, right]);
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// What a state or a verdict means to whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Warn,
    Bad,
    Plain,
}

/// A state's or a verdict's word.
pub(super) fn tone(word: &str) -> Tone {
    match word {
        "up" | "done" | "listening" | "verified" => Tone::Good,
        "lingering" | "failed" => Tone::Bad,
        "unverified" | "blocked" | "starting" | "stopping" | "backoff" => Tone::Warn,
        _ => Tone::Plain,
    }
}

fn colored(style: Style, word: &str) -> Cell {
    let shown = match tone(word) {
        Tone::Good => style.good(word),
        Tone::Bad => style.bad(word),
        Tone::Warn => style.warn(word),
        Tone::Plain => word.to_string(),
    };
    Cell {
        plain: word.to_string(),
        shown,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn durations_read_well_at_every_size() {
        for (nanos, text) in [
            (0, "0 ms"),
            (12_345, "0.01 ms"),
            (3_100_000, "3.1 ms"),
            (250_000_000, "250 ms"),
            (5_020_000_000, "5.02 s"),
            (125_000_000_000, "2m 5s"),
            (11_400_000_000_000, "3h 10m"),
            (352_800_000_000_000, "4d 2h"),
        ] {
            assert_eq!(duration(Duration::from_nanos(nanos)), text);
        }
        assert_eq!(millis(-1.0), "? ms");
        assert_eq!(millis(f64::NAN), "? ms");
    }

    #[test]
    fn sizes_read_well() {
        for (size, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (13_107_200, "12.5 MiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn nothing_drives_the_terminal() {
        assert_eq!(clean("a b é"), "a b é");
        assert_eq!(clean("\x1b[2J\r\u{202e}x\n"), "\\u{1b}[2J\\r\\u{202e}x\\n");
    }

    #[test]
    fn colours_do_not_shift_columns() {
        let table = |style| {
            let mut table = Table::new(&[2]);
            for (name, state, pid) in [("a", "up", "1"), ("long", "lingering", "22")] {
                table.rows.push(vec![
                    name.to_string().into(),
                    colored(style, state),
                    pid.to_string().into(),
                ]);
            }
            table.render("")
        };
        let plain = table(Style { color: false });
        assert_eq!(plain, "a     up          1\nlong  lingering  22\n");
        let color = table(Style { color: true });
        let stripped = color
            .replace("\x1b[32m", "")
            .replace("\x1b[1;31m", "")
            .replace("\x1b[0m", "");
        assert_ne!(color, plain);
        assert_eq!(stripped, plain);
    }
}
