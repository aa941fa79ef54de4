//! The model as a picture: the header, the table, a pane, a line that says something, the keys.

use ratatui_core::buffer::Buffer;
use ratatui_core::style::Style;
use unicode_width::UnicodeWidthStr as _;

use super::model::{Mode, Model, Pane, Verb};
use super::reading::urgency;
use super::text::{BOLD, Look, REVERSED};
use super::{help, panes, table};
use crate::api::{self, ServiceState};
use crate::cli::render::{self, Tone};

/// Smaller than this nothing can be told.
pub(super) const LEAST: (u16, u16) = (18, 3);
/// A result may have so many lines here; `w` shows all of it.
const MESSAGE_LINES: usize = 3;

/// How many rows each part has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Areas {
    pub(super) header: u16,
    /// The columns' names.
    pub(super) head: u16,
    pub(super) table: u16,
    /// Its title included.
    pub(super) pane: u16,
    pub(super) message: u16,
    pub(super) keys: u16,
}

/// Whether there is room for a pane beside the table.
pub(super) fn has_room(model: &Model) -> bool {
    model.size.1 >= 14
}

pub(super) fn areas(model: &Model) -> Areas {
    let height = model.size.1;
    let keys = u16::from(height >= 5);
    let header = if height >= 10 { 2 } else { 1 };
    let room = height.saturating_sub(header + keys);
    let said = u16::try_from(message(model).len()).unwrap_or(0);
    let message = match height {
        0..8 => 0,
        8..12 => said.min(1),
        _ => said.max(1),
    };
    let room = room.saturating_sub(message);
    if model.zoomed {
        return Areas {
            header,
            pane: room,
            message,
            keys,
            ..Areas::default()
        };
    }
    let head = u16::from(height >= 4);
    let room = room.saturating_sub(head);
    let pane = match model.pane != Pane::None && has_room(model) {
        true => room / 2,
        false => 0,
    };
    let rows = u16::try_from(model.order.len()).unwrap_or(u16::MAX).max(3);
    let table = rows.min(room - pane);
    Areas {
        header,
        head,
        table: if pane == 0 { room } else { table },
        pane: if pane == 0 { 0 } else { room - table },
        message,
        keys,
    }
}

/// Whether there is no room for anything.
pub(super) fn is_too_small(model: &Model) -> bool {
    model.size.0 < LEAST.0 || model.size.1 < LEAST.1
}

/// Whether there is room for the question that is asked.
pub(super) fn can_ask(model: &Model) -> bool {
    !is_too_small(model)
}

/// How far the pane can be scrolled: to where its first or last line is at the pane's edge.
pub(super) fn furthest(model: &Model) -> usize {
    let seen = usize::from(areas(model).pane.saturating_sub(1));
    panes::lines(model).saturating_sub(seen)
}

/// How many rows of the table are seen.
pub(super) fn rows_seen(model: &Model) -> usize {
    usize::from(areas(model).table)
}

/// Writes into a part of a buffer; what does not fit is not written.
pub(super) struct Pen<'a> {
    pub(super) buffer: &'a mut Buffer,
    pub(super) look: Look,
}

impl Pen<'_> {
    /// Text of whoever it is from, in at most `columns` columns; the column after it.
    pub(super) fn put(&mut self, x: u16, y: u16, columns: u16, text: &str, style: Style) -> u16 {
        let shown = self.look.shown(text, usize::from(columns));
        self.raw(x, y, &shown, style)
    }

    /// The same at the right end of its columns.
    pub(super) fn right(&mut self, x: u16, y: u16, columns: u16, text: &str, style: Style) {
        let shown = self.look.shown(text, usize::from(columns));
        let wide = u16::try_from(shown.width()).unwrap_or(columns).min(columns);
        self.raw(x + columns - wide, y, &shown, style);
    }

    fn raw(&mut self, x: u16, y: u16, shown: &str, style: Style) -> u16 {
        let area = self.buffer.area;
        if y >= area.bottom() || x >= area.right() {
            return x;
        }
        let left = usize::from(area.right() - x);
        self.buffer.set_stringn(x, y, shown, left, style).0
    }

    pub(super) fn line(&mut self, y: u16, style: Style) {
        let mut area = self.buffer.area;
        if y < area.bottom() {
            (area.y, area.height) = (y, 1);
            self.buffer.set_style(area, style);
        }
    }
}

/// Draws everything.
pub(super) fn draw(model: &Model, buffer: &mut Buffer) {
    let (columns, rows) = model.size;
    let look = model.look;
    let mut pen = Pen { buffer, look };
    if is_too_small(model) {
        pen.put(
            0,
            0,
            columns,
            &format!("{}x{} at least", LEAST.0, LEAST.1),
            BOLD,
        );
        return;
    }
    if model.mode == Mode::Help {
        help::draw(model, &mut pen);
        return;
    }
    let areas = areas(model);
    header(model, &mut pen, areas.header);
    let mut y = areas.header;
    if areas.table > 0 {
        table::draw(model, &mut pen, y, areas);
    }
    y += areas.head + areas.table;
    if areas.pane > 0 {
        panes::draw(model, &mut pen, y, areas.pane);
    }
    y += areas.pane;
    let said = message(model);
    for (line, (text, tone)) in (0..areas.message).zip(&said) {
        pen.put(0, y + line, columns, text, look.tone(*tone));
    }
    let last = rows.saturating_sub(1);
    match areas.keys {
        0 if model.mode == Mode::Browse => {}
        _ => keys(model, &mut pen, last, areas.message == 0),
    }
}

/// Who is asked, and whether it answers; how the services are.
fn header(model: &Model, pen: &mut Pen<'_>, rows: u16) {
    let columns = model.size.0;
    let who = supervisor(model);
    let (text, style) = match trouble(model) {
        Some(trouble) => (trouble, model.look.tone(Tone::Bad).patch(REVERSED)),
        None => (services(model), Style::new()),
    };
    if rows > 1 {
        pen.put(0, 0, columns, &who, BOLD);
        pen.put(0, 1, columns, &text, style);
    } else {
        pen.put(0, 0, columns, &text, style);
    }
}

pub(super) fn supervisor(model: &Model) -> String {
    let Some((at, info)) = &model.info else {
        return "nought top".into();
    };
    // Whoever is silent may have ended: as long as it was heard of.
    let until = match model.silence() {
        Some(_) => model.heard.unwrap_or(*at),
        None => model.now,
    };
    let since = u64::try_from(until.saturating_sub(*at).as_millis()).unwrap_or(u64::MAX);
    let uptime = render::whole_millis(info.uptime_ms.saturating_add(since));
    let mut text = format!(
        "nought {}, pid {}, up {uptime}, {}",
        info.version, info.pid, info.guarantee
    );
    if info.shutting_down {
        text.push_str(", shutting down");
    }
    if !info.http.is_empty() {
        text.push_str(&format!(", http {}", info.http.join(" ")));
    }
    text
}

/// Why there is no new reading.
fn trouble(model: &Model) -> Option<String> {
    let silence = model.silence()?.as_secs();
    Some(match &model.trouble {
        Some(why) => format!("no answer for {silence} s, trying again: {why}"),
        None => format!("the supervisor does not answer since {silence} s; waiting for it"),
    })
}

/// How many are in which state, how many are wanted and are not as they are wanted, and what all
/// use together.
pub(super) fn services(model: &Model) -> String {
    if model.heard.is_none() {
        return "asking the supervisor".into();
    }
    let mut states: Vec<(ServiceState, usize)> = Vec::new();
    let mut statuses = Vec::new();
    for row in &model.rows {
        let status = &row.usage.status;
        match states.iter_mut().find(|(state, _)| *state == status.state) {
            Some((_, n)) => *n += 1,
            None => states.push((status.state, 1)),
        }
        statuses.push(status.clone());
    }
    states.sort_by_key(|(state, _)| (*state != ServiceState::Up, urgency(*state)));
    let states: Vec<String> = states
        .iter()
        .map(|(state, n)| format!("{n} {}", state.as_str()))
        .collect();
    let unready = api::unready(&statuses).len();
    // Nothing summed up would be -0.
    let all = model.rows.iter().filter_map(|row| row.cpu_percent);
    let cpu = all.fold(0.0, |sum, percent| sum + percent);
    let memory = model.rows.iter().map(|row| row.usage.memory_bytes);
    let memory = memory.fold(0, u64::saturating_add);
    let processes: usize = model.rows.iter().map(|row| row.usage.processes.len()).sum();
    let mut text = match states.is_empty() {
        true => "no services".to_owned(),
        false => states.join(", "),
    };
    if unready > 0 {
        text.push_str(&format!("; {unready} not as wanted"));
    }
    if !model.doing.is_empty() {
        text.push_str(&format!("; {} under way", model.doing.len()));
    }
    let memory = render::bytes(memory);
    text.push_str(&format!(
        "; CPU {cpu:.1} %, {memory}, {processes} processes"
    ));
    text
}

/// What was said last; else what there is to say of the selected service.
fn message(model: &Model) -> Vec<(String, Tone)> {
    let columns = usize::from(model.size.0);
    if let Some(said) = &model.message {
        let lines = said.text.lines().flat_map(|line| wrapped(line, columns));
        return lines
            .take(MESSAGE_LINES)
            .map(|line| (line, said.tone))
            .collect();
    }
    let Some(row) = model.selected_row() else {
        return Vec::new();
    };
    let status = &row.usage.status;
    let word = status.state.as_str();
    let mut text = format!("{}: {word}", status.name);
    for more in [render::detail(status), last_exit(row)] {
        if !more.is_empty() {
            text.push_str(&format!("; {more}"));
        }
    }
    vec![(text, render::tone(word))]
}

fn last_exit(row: &super::reading::Row) -> String {
    let status = &row.usage.status;
    let ended = !matches!(status.state, ServiceState::Up | ServiceState::Done);
    let last = render::last_exit(status).filter(|_| ended && status.state != ServiceState::Down);
    last.map_or_else(String::new, |last| {
        format!("its last start ended with {last}")
    })
}

/// At blanks, where a line has some.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let line = lines.last().map_or(0, |line| line.width());
        if line > 0 && line + word.trim_end().width() > columns {
            lines.push(format!("  {word}"));
        } else if let Some(line) = lines.last_mut() {
            line.push_str(word);
        }
    }
    lines
}

/// What is asked or written; else what can be typed. Where results have no line of their own they
/// are here.
fn keys(model: &Model, pen: &mut Pen<'_>, y: u16, says: bool) {
    let columns = model.size.0;
    match &model.mode {
        Mode::Question(verb, name, others) => {
            let lines = question(model, *verb, name, others);
            let style = model.look.tone(Tone::Warn).patch(REVERSED);
            let above = u16::try_from(lines.len().saturating_sub(1)).unwrap_or(0);
            for (y, line) in (y.saturating_sub(above)..=y).zip(&lines) {
                if above > 0 {
                    // What stands there is not part of it.
                    let blank = " ".repeat(usize::from(columns));
                    pen.put(0, y, columns, &blank, Style::new());
                }
                pen.put(0, y, columns, line, style);
            }
        }
        Mode::Filter(_) => {
            let end = pen.put(0, y, columns - 1, &format!("/{}", model.filter), BOLD);
            pen.put(end, y, 1, "_", Style::new());
        }
        _ if says && model.message.is_some() => {
            for (text, tone) in message(model).into_iter().take(1) {
                pen.put(0, y, columns, &text, model.look.tone(tone));
            }
        }
        _ => {
            let mut x = 0;
            if !model.filter.is_empty() {
                let (shown, all) = (model.order.len(), model.rows.len());
                let text = format!("/{} ({shown} of {all})  ", model.filter);
                x = pen.put(x, y, columns, &text, BOLD);
            }
            let keys = match model.zoomed {
                true => "Esc back  ↑↓ scroll  g G ends  x stop  r restart  l log  w why  ? help",
                false => {
                    "q quit  ? help  s start  x stop  r restart  w why  l log  t tree  / find  o sort"
                }
            };
            let keys = keys.replace("↑↓", model.look.or("↑↓", "jk"));
            pen.put(x, y, columns.saturating_sub(x), &keys, model.look.dim());
        }
    }
}

/// In one line, or two where that is too long: the names get what room there is, and what is said
/// of them is never cut off.
fn question(model: &Model, verb: Verb, name: &str, others: &[String]) -> Vec<String> {
    /// Room for a name that is worth showing.
    const WORTH: usize = 8;
    let (columns, look) = (usize::from(model.size.0), model.look);
    let end = if model.is_offered() { "? y/n" } else { "?" };
    let verb = verb.word();
    let along = |room: usize| match others {
        [] => String::new(),
        [one] if room >= "and  which requires it? y/n".len() + WORTH => {
            let room = room - "and  which requires it? y/n".len();
            format!("and {} which requires it", look.middle(one, room))
        }
        [_] => "and 1 more".into(),
        many if room >= "and 1000 services that require it? y/n".len() => {
            format!("and {} services that require it", many.len())
        }
        many => format!("and {} more", many.len()),
    };
    let comma = if others.is_empty() { "" } else { ", " };
    let whole = format!(
        "{verb} {}{comma}{}",
        look.middle(name, usize::MAX),
        along(usize::MAX)
    );
    if whole.width() + "? y/n".len() <= columns {
        return vec![format!("{whole}{end}")];
    }
    let name = look.middle(name, columns.saturating_sub(verb.len() + 2));
    let comma = comma.trim_end();
    vec![
        format!("{verb} {name}{comma}"),
        format!("{}{end}", along(columns)),
    ]
}

#[cfg(test)]
mod tests;
