//! The table of services.

use ratatui_core::style::{Modifier, Style};
use unicode_width::UnicodeWidthStr as _;

use super::model::Model;
use super::reading::{Row, Sort};
use super::text::{Look, REVERSED};
use super::view::{Areas, Pen};
use crate::cli::render;

/// A name has at least so many columns before others go.
const NAME: u16 = 8;
const WHY: u16 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Name,
    State,
    Since,
    Pid,
    Cpu,
    Memory,
    Processes,
    Restarts,
    Pressure,
    Guarantee,
    Why,
}

use Column as C;

/// Besides name, guarantee and why, which get what is left: in their order, and who goes first
/// where there is no room (the highest number).
const FIXED: [(Column, u16, u8); 8] = [
    (C::State, 9, 0),
    (C::Since, 8, 4),
    (C::Pid, 7, 3),
    (C::Cpu, 6, 1),
    (C::Memory, 10, 2),
    (C::Processes, 5, 5),
    (C::Restarts, 3, 6),
    (C::Pressure, 8, 7),
];

impl Column {
    fn head(self) -> &'static str {
        match self {
            C::Name => "NAME",
            C::State => "STATE",
            C::Since => "SINCE",
            C::Pid => "PID",
            C::Cpu => "CPU %",
            C::Memory => "MEMORY",
            C::Processes => "PROCS",
            C::Restarts => "RST",
            C::Pressure => "PRESSURE",
            C::Guarantee => "GUARANTEE",
            C::Why => "WHY",
        }
    }

    fn is_right(self) -> bool {
        !matches!(self, C::Name | C::State | C::Guarantee | C::Why)
    }

    fn sorts(self) -> Option<Sort> {
        Some(match self {
            C::Name => Sort::Name,
            C::State => Sort::State,
            C::Cpu => Sort::Cpu,
            C::Memory => Sort::Memory,
            C::Processes => Sort::Processes,
            C::Restarts => Sort::Restarts,
            C::Pressure => Sort::Pressure,
            C::Since | C::Pid | C::Guarantee | C::Why => return None,
        })
    }

    fn cell(self, row: &Row, look: Look) -> (String, Style) {
        let status = &row.usage.status;
        let or_dash = |number: u64| match number {
            0 => "-".to_owned(),
            number => number.to_string(),
        };
        let text = match self {
            C::Name => status.name.clone(),
            C::State => {
                let word = status.state.as_str();
                return (word.into(), look.tone(render::tone(word)));
            }
            C::Since => render::whole_millis(status.since_ms),
            C::Pid => or_dash(status.pid.into()),
            C::Cpu => row
                .cpu_percent
                .map_or_else(|| "-".into(), |cpu| format!("{cpu:.1}")),
            C::Memory => match row.usage.memory_bytes {
                0 => "-".into(),
                bytes => render::bytes(bytes),
            },
            C::Processes => or_dash(status.processes),
            C::Restarts => or_dash(status.restarts),
            C::Pressure => match row.pressure() {
                Some((percent, what)) if percent >= 0.05 => match percent >= 99.95 {
                    true => format!("100 {what}"),
                    false => format!("{percent:.1} {what}"),
                },
                Some(_) => "0".into(),
                None => "-".into(),
            },
            C::Guarantee => status.guarantee.clone(),
            C::Why => render::detail(status),
        };
        (text, Style::new())
    }
}

/// Which columns there are in `columns` columns, and how wide each is.
fn layout(model: &Model, columns: u16) -> Vec<(Column, u16)> {
    let mut fixed: Vec<(Column, u16, u8)> = FIXED.to_vec();
    let wide = |fixed: &[(Column, u16, u8)]| fixed.iter().map(|(_, w, _)| w + 1).sum::<u16>();
    while NAME + wide(&fixed) > columns && fixed.len() > 1 {
        let last = fixed.iter().map(|(_, _, rank)| *rank).max();
        fixed.retain(|(_, _, rank)| Some(*rank) != last);
    }
    let left = columns.saturating_sub(wide(&fixed));
    let longest = model
        .shown()
        .map(|row| render::clean(row.name()).width())
        .max();
    let longest = u16::try_from(longest.unwrap_or_default()).unwrap_or(u16::MAX);
    let most = if left > 40 { left / 2 } else { left };
    let name = longest.clamp(NAME.min(most), most);
    let mut all = vec![(C::Name, name)];
    all.extend(fixed.iter().map(|(column, wide, _)| (*column, *wide)));
    let left = left - name;
    let longest = model
        .shown()
        .map(|row| row.usage.status.guarantee.len())
        .max();
    let guarantee = u16::try_from(longest.unwrap_or_default())
        .unwrap_or(0)
        .clamp(9, 24);
    if left > guarantee + WHY + 2 {
        all.push((C::Guarantee, guarantee));
        all.push((C::Why, left - guarantee - 2));
    } else if left > WHY {
        all.push((C::Why, left - 1));
    }
    all
}

/// The columns' names at `y` and the rows below.
pub(super) fn draw(model: &Model, pen: &mut Pen<'_>, y: u16, areas: Areas) {
    let (columns, look) = (model.size.0, model.look);
    let layout = layout(model, columns);
    if areas.head > 0 {
        let mut x = 0;
        pen.line(y, REVERSED);
        for (column, wide) in &layout {
            let mut style = REVERSED;
            if column.sorts() == Some(model.sort) {
                style = style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED);
            }
            put(pen, (x, y, *wide), *column, column.head(), style);
            x += wide + 1;
        }
    }
    let stale = model.silence().is_some();
    let rows = model.shown().skip(model.first);
    for (line, row) in (0..areas.table).zip(rows) {
        let (mut x, y) = (0, y + areas.head + line);
        for (column, wide) in &layout {
            let (text, style) = column.cell(row, look);
            // What is shown of a supervisor that does not answer is of the past.
            let style = if stale { look.stale() } else { style };
            put(pen, (x, y, *wide), *column, &text, style);
            x += wide + 1;
        }
        if model.selected.as_deref() == Some(row.name()) {
            pen.line(y, REVERSED);
        }
    }
    if model.order.is_empty() && model.heard.is_some() && areas.table > 0 {
        let text = match model.rows.is_empty() {
            true => "no services",
            false => "no service has that in its name; Esc shows all",
        };
        pen.put(0, y + areas.head, columns, text, look.dim());
    }
}

fn put(pen: &mut Pen<'_>, at: (u16, u16, u16), column: Column, text: &str, style: Style) {
    let (x, y, wide) = at;
    if column.is_right() {
        pen.right(x, y, wide, text, style);
    } else {
        pen.put(x, y, wide, text, style);
    }
}
