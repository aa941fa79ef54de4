//! What may be shown on the terminal: nothing that drives it, nothing that moves what stands
//! beside it.

use ratatui_core::style::{Color, Modifier, Style};
use unicode_width::UnicodeWidthChar as _;

use crate::cli::render::{self, Tone};

/// Marks above and below a letter that are kept; more of them paint over the lines around.
const MARKS: usize = 2;

/// What the terminal can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) color: bool,
    /// Characters beyond ASCII.
    pub(super) unicode: bool,
}

impl Look {
    /// From the variables that say so: NO_COLOR (no-color.org), TERM, and the locale as setlocale(3)
    /// finds it.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let is_set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let term = is_set("TERM").unwrap_or_default();
        // The terminals of that time have no colours and ignore what asks for them, or do not.
        let plain = ["dumb", "vt1", "vt2", "vt52"];
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(is_set);
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        Look {
            color: is_set("NO_COLOR").is_none()
                && !plain.iter().any(|name| term.starts_with(name))
                && !term.ends_with("-mono"),
            unicode: locale.contains("utf-8") || locale.contains("utf8"),
        }
    }

    /// Text of whoever it is from, in at most `columns` columns.
    pub(super) fn shown(self, text: &str, columns: usize) -> String {
        // Longer than any line: what is cut off need not be looked at.
        let near: String = text.chars().take(columns.saturating_mul(4)).collect();
        let mut out = String::new();
        let (mut used, mut marks) = (0, 0);
        // Where there is room for what says that something is cut off.
        let mut cut = 0;
        for c in render::clean(&near).chars() {
            let c = if self.unicode || c.is_ascii() { c } else { '?' };
            let wide = c.width().unwrap_or_default();
            marks = if wide == 0 { marks + 1 } else { 0 };
            if wide == 0 && (marks > MARKS || out.is_empty()) {
                continue;
            }
            if used < columns {
                cut = out.len();
            }
            if used + wide > columns {
                out.truncate(cut);
                out.push_str(self.or("…", "~"));
                break;
            }
            used += wide;
            out.push(c);
        }
        if columns == 0 { String::new() } else { out }
    }

    /// The first where characters beyond ASCII can be shown, else the second.
    pub(super) fn or<'a>(self, unicode: &'a str, ascii: &'a str) -> &'a str {
        if self.unicode { unicode } else { ascii }
    }

    /// A state's or verdict's colour; without colours what is bad is bold.
    pub(super) fn tone(self, tone: Tone) -> Style {
        let color = |color| Style::new().fg(color);
        match (tone, self.color) {
            (Tone::Good, true) => color(Color::Green),
            (Tone::Warn, true) => color(Color::Yellow),
            (Tone::Bad, true) => color(Color::Red).add_modifier(Modifier::BOLD),
            (Tone::Bad, false) => Style::new().add_modifier(Modifier::BOLD),
            _ => Style::new(),
        }
    }

    pub(super) fn dim(self) -> Style {
        if self.color {
            Style::new().add_modifier(Modifier::DIM)
        } else {
            Style::new()
        }
    }
}

pub(super) const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
pub(super) const REVERSED: Style = Style::new().add_modifier(Modifier::REVERSED);

#[cfg(test)]
mod tests {
    use super::*;

    const UNICODE: Look = Look {
        color: true,
        unicode: true,
    };
    const ASCII: Look = Look {
        color: false,
        unicode: false,
    };

    #[test]
    fn nothing_drives_the_terminal_or_leaves_its_columns() {
        for (text, columns, unicode, ascii) in [
            ("plain", 10, "plain", "plain"),
            ("plain", 5, "plain", "plain"),
            ("plain", 4, "pla…", "pla~"),
            ("x", 0, "", ""),
            ("\x1b[2Jx", 20, "\\u{1b}[2Jx", "\\u{1b}[2Jx"),
            ("数据库", 6, "数据库", "???"),
            ("数据库", 5, "数据…", "???"),
            ("a\u{202e}b", 12, "a\\u{202e}b", "a\\u{202e}b"),
            (
                "e\u{301}\u{301}\u{301}\u{301}x",
                9,
                "e\u{301}\u{301}x",
                "e????x",
            ),
            ("\u{301}x", 9, "x", "?x"),
            ("tab\tbell\x07", 20, "tab\\tbell\\u{7}", "tab\\tbell\\u{7}"),
        ] {
            assert_eq!(UNICODE.shown(text, columns), unicode, "{text:?}");
            assert_eq!(ASCII.shown(text, columns), ascii, "{text:?}");
        }
    }

    #[test]
    fn what_a_terminal_can_is_in_its_variables() {
        let of = |set: &[(&str, &str)]| {
            Look::of(|name| {
                let found = set.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let look = |color, unicode| Look { color, unicode };
        assert_eq!(
            of(&[("TERM", "xterm"), ("LANG", "C.UTF-8")]),
            look(true, true)
        );
        assert_eq!(
            of(&[("TERM", "vt100"), ("LANG", "de_DE.utf8")]),
            look(false, true)
        );
        assert_eq!(
            of(&[("TERM", "linux"), ("NO_COLOR", "1")]),
            look(false, false)
        );
        assert_eq!(
            of(&[("TERM", "linux"), ("NO_COLOR", "")]),
            look(true, false)
        );
        let posix = [("LC_ALL", "C"), ("LANG", "C.UTF-8"), ("TERM", "tmux")];
        assert_eq!(of(&posix), look(true, false));
    }
}
