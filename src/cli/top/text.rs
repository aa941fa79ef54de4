//! What may be shown on the terminal: nothing that drives it, nothing that moves what stands
//! beside it.

use ratatui_core::style::{Color, Modifier, Style};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

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
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(is_set);
        let locale = locale.unwrap_or_default().to_ascii_lowercase();
        Look {
            color: is_set("NO_COLOR").is_none() && has_colors(&term, is_set("COLORTERM").is_some()),
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

    /// The same, cut in the middle: names differ at their ends.
    pub(super) fn middle(self, text: &str, columns: usize) -> String {
        let whole = self.shown(text, usize::MAX);
        if whole.width() <= columns {
            return whole;
        }
        let room = columns.saturating_sub(1);
        let fits = |chars: &mut dyn Iterator<Item = char>, room: usize| {
            let mut left = room;
            let fits = chars.map_while(|c| {
                left = left.checked_sub(c.width().unwrap_or_default())?;
                Some(c)
            });
            fits.collect::<Vec<char>>()
        };
        let front = fits(&mut whole.chars(), room - room / 2);
        let mut back = fits(&mut whole.chars().rev(), room / 2);
        // A mark belongs to the letter before it.
        while back.last().is_some_and(|c| c.width() == Some(0)) {
            back.pop();
        }
        let cut = if columns == 0 {
            ""
        } else {
            self.or("…", "~")
        };
        let front = front.into_iter().chain(cut.chars());
        front.chain(back.into_iter().rev()).collect()
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

    /// What was said by somebody who is silent now; without colours it is underlined.
    pub(super) fn stale(self) -> Style {
        if self.color {
            self.dim()
        } else {
            Style::new().add_modifier(Modifier::UNDERLINED)
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

/// Whether a terminal of that name is known to have eight colours. Where nobody knows there are none:
/// an old one may do anything when it is asked for them.
fn has_colors(term: &str, said: bool) -> bool {
    // Terminals of DEC's, and those that are told to have none.
    let plain = ["dumb", "vt1", "vt2", "vt3", "vt4", "vt52"];
    if term.is_empty()
        || plain.iter().any(|name| term.starts_with(name))
        || ["-mono", "-m", "-nc"].iter().any(|end| term.ends_with(end))
    {
        return false;
    }
    let known = [
        "alacritty",
        "ansi",
        "contour",
        "cygwin",
        "eterm",
        "foot",
        "ghostty",
        "gnome",
        "iterm",
        "jfbterm",
        "kitty",
        "konsole",
        "linux",
        "mintty",
        "mlterm",
        "mrxvt",
        "nsterm",
        "putty",
        "rio",
        "rxvt",
        "screen",
        "st-",
        "teraterm",
        "terminator",
        "tmux",
        "vte",
        "wezterm",
        "xterm",
        "zellij",
    ];
    let term = term.to_ascii_lowercase();
    said || term == "st"
        || term.contains("color")
        || known.iter().any(|name| term.starts_with(name))
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
    fn a_long_name_keeps_both_its_ends() {
        for (text, columns, expected) in [
            ("short", 5, "short"),
            ("postgres-eu", 7, "pos…-eu"),
            ("postgres-us", 8, "post…-us"),
            ("数据库数据", 6, "数…据"),
            ("xxxxxe\u{301}", 4, "xx…e\u{301}"),
            ("a\x1b[2Jb", 7, "a\\u…2Jb"),
            ("x", 0, ""),
            ("xy", 1, "…"),
        ] {
            assert_eq!(UNICODE.middle(text, columns), expected, "{text:?}");
        }
        assert_eq!(ASCII.middle("postgres-eu", 7), "pos~-eu");
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
        for term in [
            "vt100",
            "vt420",
            "vt220-8bit",
            "wyse60",
            "xterm-mono",
            "dumb",
            "",
        ] {
            assert_eq!(of(&[("TERM", term)]), look(false, false), "{term}");
        }
        for term in [
            "xterm-256color",
            "screen",
            "linux",
            "tmux",
            "ansi",
            "new-256color",
        ] {
            assert_eq!(of(&[("TERM", term)]), look(true, false), "{term}");
        }
        let said = |term| of(&[("TERM", term), ("COLORTERM", "truecolor")]).color;
        assert!(
            said("brand-new") && !said("vt100"),
            "kept from another terminal"
        );
        let posix = [("LC_ALL", "C"), ("LANG", "C.UTF-8"), ("TERM", "tmux")];
        assert_eq!(of(&posix), look(true, false));
    }
}
