//! The pane below the table: the selected service's log, its processes, or why it is as it is.

use std::collections::BTreeMap;

use ratatui_core::style::Style;

use super::model::{Model, Pane};
use super::reading::Row;
use super::text::BOLD;
use super::view::Pen;
use crate::api::{ProcessUsage, ServiceStatus};
use crate::cli::output;
use crate::cli::render::{self, Tone};

/// Nobody reads further to the right.
const DEEPEST: usize = 30;

/// How many lines the pane's content has.
pub(super) fn lines(model: &Model) -> usize {
    match model.pane {
        Pane::None => 0,
        Pane::Log => model.log.lines.len(),
        Pane::Processes | Pane::Why => content(model).len(),
    }
}

/// The title at `y`, and below it what is seen of the content.
pub(super) fn draw(model: &Model, pen: &mut Pen<'_>, y: u16, rows: u16) {
    let columns = model.size.0;
    let line = model.look.or("─", "-").repeat(usize::from(columns));
    pen.put(0, y, columns, &line, model.look.dim());
    let title = format!(" {} ", title(model));
    pen.put(1, y, columns.saturating_sub(2), &title, BOLD);
    let seen = usize::from(rows.saturating_sub(1));
    if model.pane == Pane::Log {
        log(model, pen, y + 1, seen);
        return;
    }
    let content = content(model);
    let first = model.scroll.0.min(content.len().saturating_sub(seen));
    for (at, (text, style)) in (y + 1..).zip(content.iter().skip(first).take(seen)) {
        pen.put(0, at, columns, &aside(text, model.scroll.1), *style);
    }
}

fn title(model: &Model) -> String {
    let name = model
        .look
        .shown(model.selected.as_deref().unwrap_or("nobody"), 40);
    match model.pane {
        Pane::None => String::new(),
        Pane::Log => {
            let mut text = format!("log of {name}");
            if model.log.lost > 0 {
                text.push_str(&format!(", {} lines came too fast to show", model.log.lost));
            }
            if model.scroll.0 > 0 {
                text.push_str(&format!(", {} newer below (G)", model.scroll.0));
            }
            text
        }
        Pane::Processes => format!("processes of {name}"),
        Pane::Why => format!("why {name} is so, and its last stop"),
    }
}

/// `text` from column `columns` on.
fn aside(text: &str, columns: usize) -> String {
    text.chars().skip(columns).collect()
}

fn log(model: &Model, pen: &mut Pen<'_>, y: u16, seen: usize) {
    let (columns, look, log) = (model.size.0, model.look, &model.log);
    if let (Some(why), true) = (&log.trouble, log.lines.is_empty()) {
        pen.put(0, y, columns, why, look.dim());
        return;
    }
    // The one before: its lines are not of whom the title names.
    if log.of != model.selected {
        return;
    }
    let scroll = model.scroll.0.min(log.lines.len().saturating_sub(seen));
    let end = log.lines.len() - scroll;
    let lines = log.lines.iter().take(end).skip(end.saturating_sub(seen));
    for (y, record) in (y..).zip(lines) {
        // 2026-11-23T05:12:33.123456Z
        let time = record.time.get(11..19).unwrap_or_default();
        let mut x = 0;
        if columns >= 60 {
            x = pen.put(0, y, 9, &format!("{time} "), look.dim());
        }
        let (sign, style) = match record.stream.as_str() {
            "stdout" => ("+ ", look.dim()),
            _ => ("- ", look.tone(Tone::Bad)),
        };
        x = pen.put(x, y, 2, sign, style);
        // What its test or stop command says comes by a name of its own.
        if let Some((_, part)) = record.service.split_once('/') {
            x = pen.put(x, y, columns - x, &format!("{part}: "), look.dim());
        }
        let text = aside(&record.shown(), model.scroll.1);
        pen.put(x, y, columns.saturating_sub(x), &text, Style::new());
    }
}

fn content(model: &Model) -> Vec<(String, Style)> {
    let Some(row) = model.selected_row() else {
        return Vec::new();
    };
    match model.pane {
        Pane::Processes => processes(model, row),
        Pane::Why => why(model, row),
        Pane::Log | Pane::None => Vec::new(),
    }
}

/// In the words of `why` and `receipt`.
fn why(model: &Model, row: &Row) -> Vec<(String, Style)> {
    let plain = |text: &str| {
        text.lines()
            .map(|line| (line.to_owned(), Style::new()))
            .collect()
    };
    let known: BTreeMap<&str, &ServiceStatus> = model
        .rows
        .iter()
        .map(|row| (row.name(), &row.usage.status))
        .collect();
    let told = model.told.as_ref();
    let words = told.map(|told| told.words.clone()).unwrap_or_default();
    let none = output::Style { color: false };
    let text = render::why(row.name(), &known, &BTreeMap::new(), &words, none);
    let mut lines: Vec<(String, Style)> = plain(&text);
    if let Some((_, style)) = lines.first_mut() {
        *style = model
            .look
            .tone(render::tone(row.usage.status.state.as_str()));
    }
    lines.push((String::new(), Style::new()));
    match told {
        Some(told) => match (&told.receipt, &told.trouble) {
            (Some(receipt), _) => lines.extend(plain(&render::receipt(receipt, none))),
            (None, Some(trouble)) => lines.extend(plain(trouble)),
            (None, None) => lines.push((
                "no receipt yet: it was never stopped".into(),
                model.look.dim(),
            )),
        },
        None => lines.push(("asking for its last receipt".into(), model.look.dim())),
    }
    lines
}

/// Each below its parent, where that is of the same service; before them what the cgroup accounts.
fn processes(model: &Model, row: &Row) -> Vec<(String, Style)> {
    let usage = &row.usage;
    if usage.processes.is_empty() {
        let state = usage.status.state.as_str();
        return vec![(format!("no process: it is {state}"), model.look.dim())];
    }
    let mut lines = vec![(totals(row), Style::new())];
    let head = format!("{:>8} {:>6} {:>10}  COMMAND", "PID", "CPU %", "MEMORY");
    lines.push((head, model.look.dim()));
    for (indent, process) in tree(&usage.processes) {
        let cpu = row.processes.get(&process.pid);
        let cpu = cpu.map_or_else(|| "-".into(), |cpu| format!("{cpu:.1}"));
        let memory = render::bytes(process.memory_bytes);
        let text = format!(
            "{:>8} {cpu:>6} {memory:>10}  {indent}{}",
            process.pid,
            render::clean(&process.comm)
        );
        lines.push((text, Style::new()));
    }
    lines
}

/// What is known of all of them together: see `stats`.
fn totals(row: &Row) -> String {
    let usage = &row.usage;
    let mut parts = vec![format!("memory {}", render::bytes(usage.memory_bytes))];
    let peak = usage.memory_peak_bytes;
    parts.extend(peak.map(|peak| format!("peak {}", render::bytes(peak))));
    parts.extend(
        usage
            .pids
            .map(|pids| format!("{pids} processes and threads")),
    );
    if let (Some(read), Some(written)) = (usage.io_read_bytes, usage.io_written_bytes) {
        let (read, written) = (render::bytes(read), render::bytes(written));
        parts.push(format!("{read} read, {written} written"));
    }
    if let Some(of) = &usage.pressure {
        let (cpu, memory, io) = (&of.cpu, &of.memory, &of.io);
        parts.push(format!(
            "pressure cpu {:.1} mem {:.1} io {:.1} %",
            cpu.some_percent, memory.some_percent, io.some_percent
        ));
    }
    parts.join(", ")
}

/// Each process with what stands before its name: two columns for each that it is below.
fn tree(all: &[ProcessUsage]) -> Vec<(String, &ProcessUsage)> {
    let (tops, mut children) = render::descent(all);
    // The next one last.
    let mut open: Vec<_> = tops.into_iter().rev().map(|top| (0, top)).collect();
    let mut lines = Vec::new();
    while let Some((depth, process)) = open.pop() {
        lines.push(("  ".repeat(depth.min(DEEPEST)), process));
        let below = children.remove(&process.pid).unwrap_or_default();
        open.extend(below.into_iter().rev().map(|child| (depth + 1, child)));
    }
    lines
}
