//! Cells as what a terminal is told: where, how, and what. No more than a VT100 knows, and of
//! colours the eight of ECMA-48.

use std::fmt::Write as _;

use ratatui_core::buffer::Cell;
use ratatui_core::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr as _;

/// What shows these cells, each at its column and row, and leaves the terminal's usual way to write.
pub(super) fn paint<'a>(cells: impl Iterator<Item = (u16, u16, &'a Cell)>) -> String {
    let mut out = String::new();
    let (mut style, mut next) = ((Color::Reset, Modifier::empty()), None);
    for (x, y, cell) in cells {
        if next != Some((x, y)) {
            // Rows and columns count from one (CUP).
            let _ = write!(out, "\x1b[{};{}H", u32::from(y) + 1, u32::from(x) + 1);
        }
        // After a wide character it is anybody's guess where a terminal stands.
        let is_narrow = cell.symbol().width() == 1;
        next = x.checked_add(1).map(|x| (x, y)).filter(|_| is_narrow);
        if style != (cell.fg, cell.modifier) {
            style = (cell.fg, cell.modifier);
            rendition(&mut out, cell.fg, cell.modifier);
        }
        out.push_str(cell.symbol());
    }
    if style != (Color::Reset, Modifier::empty()) {
        out.push_str("\x1b[0m");
    }
    out
}

/// SGR. From the beginning each time: 22, 24 and 27, which take one away, came after the VT100.
fn rendition(out: &mut String, color: Color, modifier: Modifier) {
    out.push_str("\x1b[0");
    for (bit, code) in [
        (Modifier::BOLD, ";1"),
        (Modifier::DIM, ";2"),
        (Modifier::UNDERLINED, ";4"),
        (Modifier::REVERSED, ";7"),
    ] {
        if modifier.contains(bit) {
            out.push_str(code);
        }
    }
    out.push_str(match color {
        Color::Red => ";31",
        Color::Green => ";32",
        Color::Yellow => ";33",
        _ => "",
    });
    out.push('m');
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui_core::buffer::Buffer;
    use ratatui_core::layout::Rect;
    use ratatui_core::style::Style;

    #[test]
    fn a_terminal_is_told_where_how_and_what() {
        let empty = Buffer::empty(Rect::new(0, 0, 9, 3));
        let mut next = empty.clone();
        let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        next.set_string(1, 0, "ab", red);
        next.set_string(3, 0, "c", Style::new().add_modifier(Modifier::REVERSED));
        next.set_string(0, 2, "据x", Style::new());
        let told = paint(empty.diff(&next).into_iter());
        let expected = "\x1b[1;2H\x1b[0;1;31mab\x1b[0;7mc\x1b[3;1H\x1b[0m据\x1b[3;3Hx";
        assert_eq!(told, expected);
        assert_eq!(paint(next.diff(&next).into_iter()), "");
        let told = paint(next.diff(&empty).into_iter());
        assert!(!told.contains("\x1b[0m"), "{told:?}");
    }
}
