//! What the keys do and the columns mean.

use ratatui_core::style::Style;

use super::model::Model;
use super::text::BOLD;
use super::view::Pen;

const TEXT: &[(&str, &str)] = &[
    ("up down j k g G", "choose a service; PgUp PgDn by pages"),
    ("s, x or S, r", "start, stop, restart it: after y"),
    ("l, t, w", "its log, its processes, why it is as it is"),
    (
        "Enter, z, Esc",
        "why with its last receipt; a pane on all of the screen; back",
    ),
    ("left right", "longer lines"),
    ("/", "only services with this in their names; Esc shows all"),
    (
        "N A P M R",
        "sort by name, state (wrong first), CPU, memory, restarts",
    ),
    ("o O", "sort by the next column; the other way round"),
    ("^L, ^Z", "draw again; suspend"),
    ("q ^C", "quit; what was asked for goes on"),
    ("", ""),
    ("CPU %", "of one processor, since the reading before"),
    ("RST", "how often it was started again by itself"),
    (
        "PRESSURE",
        "percent of the last 10 s in which it waited for",
    ),
    ("", "a processor, memory or io: the most of these (PSI)"),
];

pub(super) fn draw(model: &Model, pen: &mut Pen<'_>) {
    let (columns, rows) = model.size;
    pen.put(0, 0, columns, "nought top: any key goes back", BOLD);
    for (y, (keys, does)) in (2..rows).zip(TEXT) {
        pen.put(1, y, columns.saturating_sub(1), keys, BOLD);
        pen.put(18, y, columns.saturating_sub(18), does, Style::new());
    }
}
