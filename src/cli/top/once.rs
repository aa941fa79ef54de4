//! One picture as text, and readings as documents: for scripts, watch(1) and tests.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::channel;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use serde_json::{Value, json};

use super::model::{Event, Model};
use super::reading::{self, Row};
use super::text::Look;
use super::view::{self, Areas, Pen};
use super::{link, now, table};
use crate::cli::args::Top;
use crate::cli::command::Session;
use crate::cli::error::Error;
use crate::cli::output;

/// Where stdout is no terminal: all columns, and room for reasons.
const COLUMNS: u16 = 160;

impl Session<'_> {
    /// Two readings, the interval apart, and what was used between them; with `--json` a document
    /// for each, until nobody reads them.
    pub(super) fn top_as_text(&mut self, top: &Top) -> Result<u8, Error> {
        let link = self.link();
        let mut client = link.connect()?;
        let (_keep, pause) = channel::<()>();
        let (_, mut before) = link::usages(&mut client, &link)?;
        let mut rows = reading::rows(&[], std::mem::take(&mut before.services));
        loop {
            let _ = pause.recv_timeout(top.interval);
            let info = link::info(&mut client, &link)?;
            let (raw, usages) = link::usages(&mut client, &link)?;
            if self.output.json {
                rows = reading::rows(&rows, usages.services);
                self.output.document(&document(&json!(info), raw, &rows));
            } else {
                let mut model = Model::new(look(), top.interval, now());
                model.rows = rows;
                model.handle(now(), Event::Info(Box::new(info)));
                model.handle(now(), Event::Reading(usages.services));
                self.output.text(&picture(&mut model, columns()));
                return Ok(0);
            }
            if top.once || self.output.closed {
                return Ok(0);
            }
        }
    }
}

/// What was asked for, with what was used since the reading before.
fn document(info: &Value, mut raw: Value, rows: &[Row]) -> Value {
    let services = raw.get_mut("services").and_then(Value::as_array_mut);
    for (service, row) in services.into_iter().flatten().zip(rows) {
        let percent = row
            .cpu_percent
            .map(|percent| (percent * 100.0).round() / 100.0);
        if let Some(service) = service.as_object_mut() {
            service.insert("cpu_now_percent".into(), json!(percent));
        }
    }
    json!({"info": info, "services": raw.get("services")})
}

fn look() -> Look {
    Look {
        color: false,
        ..Look::of(|name| std::env::var(name).ok())
    }
}

fn columns() -> u16 {
    if io::stdout().is_terminal() {
        // Who says more than that is not believed: each takes memory.
        return u16::try_from(output::columns().min(1000)).unwrap_or(COLUMNS);
    }
    COLUMNS
}

/// The header and every row.
fn picture(model: &mut Model, columns: u16) -> String {
    // What a buffer counts in; more services than that have their own page of a table each.
    const MOST: usize = 300;
    let mut out = String::new();
    model.selected = None;
    let services = model.order.len();
    for first in (0..services.max(1)).step_by(MOST) {
        let rows = u16::try_from((services - first).min(MOST)).unwrap_or(0);
        let header = if first == 0 { 2 } else { 0 };
        let head = u16::from(first == 0 && services > 0);
        let areas = Areas {
            header,
            head,
            table: rows.max(1),
            ..Areas::default()
        };
        let height = header + head + areas.table;
        (model.first, model.size) = (first, (columns, height));
        let mut buffer = Buffer::empty(Rect::new(0, 0, columns, height));
        let mut pen = Pen {
            buffer: &mut buffer,
            look: model.look,
        };
        if header > 0 {
            let plain = ratatui_core::style::Style::new();
            pen.put(0, 0, columns, &view::supervisor(model), plain);
            pen.put(0, 1, columns, &view::services(model), plain);
        }
        if services > 0 {
            table::draw(model, &mut pen, header, areas);
        }
        out.push_str(&lines(&buffer));
    }
    out
}

/// A buffer's text.
pub(super) fn lines(buffer: &Buffer) -> String {
    let area = buffer.area;
    let mut out = String::new();
    for y in 0..area.height {
        let (mut line, mut skip) = (String::new(), 0);
        for x in 0..area.width {
            let Some(cell) = buffer.cell((x, y)) else {
                continue;
            };
            // A wide character has the columns after it, too.
            if skip > 0 {
                skip -= 1;
                continue;
            }
            skip = unicode_width::UnicodeWidthStr::width(cell.symbol()).saturating_sub(1);
            line.push_str(cell.symbol());
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
