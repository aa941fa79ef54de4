//! What is shown and what a key does: no clock, no terminal, no socket. Events go in, what is to
//! be done comes out, and `view` draws what is there. `typing` is what keys do.

mod typing;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::keys::Key;
use super::reading::{self, Row, Sort};
use super::text::Look;
use crate::api::{Info, LogLines, LogRecord, Receipt, ServiceState, Usage};
use crate::cli::render::Tone;

/// Log lines that are kept here; the supervisor's own ring has more.
const KEPT_LINES: usize = 2000;
/// How long a result stays when nothing else comes.
const MESSAGE: Duration = Duration::from_secs(20);
/// What is typed sooner than this after a question was seen is no answer to it.
const READ: Duration = Duration::from_millis(300);
/// Nobody reads more of them, and each takes a connection.
const AT_ONCE: usize = 16;

/// What can be done to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Start,
    Stop,
    Restart,
}

impl Verb {
    pub(super) fn word(self) -> &'static str {
        match self {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
        }
    }
}

/// What comes in.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Key(Key),
    /// Columns and rows.
    Size(u16, u16),
    Reading(Vec<Usage>),
    Info(Box<Info>),
    /// The supervisor cannot be asked, and why.
    Trouble(String),
    /// Lines of the log that was asked for by this number; `first`: those that were kept.
    Lines {
        ticket: u64,
        lines: LogLines,
        first: bool,
    },
    LogTrouble {
        ticket: u64,
        why: String,
    },
    Told(Box<Told>),
    /// What came of it, a verdict or a refusal, and whether it is good.
    Done {
        verb: Verb,
        name: String,
        text: String,
        tone: Tone,
    },
    /// Something to say.
    Note(String),
}

/// What has to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Quit,
    Suspend,
    /// All of the screen again.
    Redraw,
    Do(Verb, String),
    /// What `why` and `receipt` say of a service.
    Tell(String),
}

/// What only a question of its own brings: a service's last stop and, of those that keep it, the
/// last words.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    pub(super) name: String,
    pub(super) words: BTreeMap<String, Vec<String>>,
    pub(super) receipt: Option<Receipt>,
    pub(super) trouble: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    None,
    Log,
    Processes,
    Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Browse,
    /// The filter is being written; what it was before.
    Filter(String),
    /// Whether to do that to a service, and to whom else it happens.
    Question(Verb, String, Vec<String>),
    Help,
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) text: String,
    pub(super) tone: Tone,
    until: Duration,
}

/// A service's log.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) of: Option<String>,
    ticket: u64,
    pub(super) lines: VecDeque<LogRecord>,
    /// Lines that came too fast for us.
    pub(super) lost: u64,
    pub(super) trouble: Option<String>,
}

/// Everything.
#[derive(Debug)]
pub(super) struct Model {
    pub(super) look: Look,
    pub(super) size: (u16, u16),
    pub(super) now: Duration,
    pub(super) info: Option<(Duration, Info)>,
    /// By name.
    pub(super) rows: Vec<Row>,
    /// The rows that are shown, in their order.
    pub(super) order: Vec<usize>,
    pub(super) selected: Option<String>,
    /// What was selected when a filter left nobody to select.
    kept: Option<String>,
    /// The first row that is shown.
    pub(super) first: usize,
    pub(super) sort: Sort,
    pub(super) reverse: bool,
    pub(super) filter: String,
    pub(super) mode: Mode,
    /// Since when the question is seen, and since when that it can be answered.
    asked: Option<Duration>,
    offered: Option<Duration>,
    pub(super) pane: Pane,
    pub(super) zoomed: bool,
    /// Lines that the pane is away from its end (log) or its beginning (others), and columns.
    pub(super) scroll: (usize, usize),
    pub(super) message: Option<Message>,
    pub(super) doing: Vec<(Verb, String)>,
    pub(super) log: Log,
    pub(super) told: Option<Told>,
    /// The last answer: when, and why there is none since.
    pub(super) heard: Option<Duration>,
    pub(super) trouble: Option<String>,
    began: Duration,
    interval: Duration,
}

impl Model {
    pub(super) fn new(look: Look, interval: Duration, now: Duration) -> Self {
        Model {
            look,
            size: (80, 24),
            now,
            info: None,
            rows: Vec::new(),
            order: Vec::new(),
            selected: None,
            kept: None,
            first: 0,
            sort: Sort::default(),
            reverse: false,
            filter: String::new(),
            mode: Mode::Browse,
            asked: None,
            offered: None,
            pane: Pane::Log,
            zoomed: false,
            scroll: (0, 0),
            message: None,
            doing: Vec::new(),
            log: Log::default(),
            told: None,
            heard: None,
            trouble: None,
            began: now,
            interval,
        }
    }

    /// Takes an event in at `now`, a moment on CLOCK_BOOTTIME; a key when it was read.
    pub(super) fn handle(&mut self, now: Duration, event: Event) -> Vec<Effect> {
        self.tick(now);
        match event {
            Event::Key(key) => return self.on_key(key),
            Event::Size(columns, rows) => {
                self.size = (columns, rows);
                if matches!(self.mode, Mode::Question(..)) && !super::view::can_ask(self) {
                    self.mode = Mode::Browse;
                }
                return vec![Effect::Redraw];
            }
            Event::Reading(usages) => return self.on_reading(usages),
            Event::Info(info) => self.info = Some((now, *info)),
            Event::Trouble(why) => self.trouble = Some(why),
            Event::Lines {
                ticket,
                lines,
                first,
            } => self.on_lines(ticket, lines, first),
            Event::LogTrouble { ticket, why } => {
                if ticket == self.log.ticket {
                    self.log.trouble = Some(why);
                }
            }
            Event::Told(told) => {
                if self.selected.as_ref() == Some(&told.name) {
                    self.told = Some(*told);
                }
            }
            Event::Done {
                verb,
                name,
                text,
                tone,
            } => return self.on_done(verb, &name, text, tone),
            Event::Note(text) => self.say(text, Tone::Warn),
        }
        Vec::new()
    }

    /// Time goes by.
    pub(super) fn tick(&mut self, now: Duration) {
        self.now = now;
        if self
            .message
            .as_ref()
            .is_some_and(|message| message.until < now)
        {
            self.message = None;
        }
    }

    /// What there is has been drawn at `now`.
    pub(super) fn drawn(&mut self, now: Duration) {
        if !matches!(self.mode, Mode::Question(..)) {
            (self.asked, self.offered) = (None, None);
            return;
        }
        // As it was drawn, not as it would be now.
        if self.is_offered() {
            self.offered.get_or_insert(now);
        }
        self.asked.get_or_insert(now);
    }

    /// Whether the question has been seen for long enough to be answered.
    pub(super) fn is_offered(&self) -> bool {
        self.asked.is_some_and(|asked| self.now >= asked + READ)
    }

    /// How long until there is something else to draw that nobody tells of; `None`: no such thing.
    pub(super) fn due(&self) -> Option<Duration> {
        let asked = self.asked.filter(|_| self.offered.is_none())?;
        Some((asked + READ).saturating_sub(self.now))
    }

    /// How long the supervisor has not answered, where that is longer than it should be.
    pub(super) fn silence(&self) -> Option<Duration> {
        let silent = self.now.saturating_sub(self.heard.unwrap_or(self.began));
        let is_long = silent > self.interval + Duration::from_secs(2);
        (is_long || self.trouble.is_some()).then_some(silent)
    }

    /// Whose log is to be followed.
    pub(super) fn log_wanted(&self) -> Option<&str> {
        let seen = self.pane == Pane::Log && self.is_open();
        self.selected.as_deref().filter(|_| seen)
    }

    /// Whether the pane is seen: on a small screen only when it has all of it.
    fn is_open(&self) -> bool {
        self.pane != Pane::None && (self.zoomed || super::view::has_room(self))
    }

    /// The log of `of` comes by this number from now on; what comes by an earlier one is not shown.
    pub(super) fn follow(&mut self, of: Option<String>, ticket: u64) {
        if self.log.of != of {
            self.scroll = (0, 0);
        }
        self.log = Log {
            of,
            ticket,
            ..Log::default()
        };
    }

    pub(super) fn row(&self, name: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.name() == name)
    }

    pub(super) fn selected_row(&self) -> Option<&Row> {
        self.selected.as_deref().and_then(|name| self.row(name))
    }

    /// The rows that are shown, in their order.
    pub(super) fn shown(&self) -> impl Iterator<Item = &Row> {
        self.order.iter().filter_map(|index| self.rows.get(*index))
    }

    /// Where the selected row stands among those that are shown.
    pub(super) fn place(&self) -> usize {
        let selected = self.selected.as_deref();
        let place = self.shown().position(|row| Some(row.name()) == selected);
        place.unwrap_or_default()
    }

    /// Keeps the selected row among `height` rows that are seen.
    pub(super) fn fit(&mut self, height: usize) {
        let (place, last) = (self.place(), self.order.len().saturating_sub(height.max(1)));
        self.first = self
            .first
            .min(place)
            .max((place + 1).saturating_sub(height.max(1)));
        self.first = self.first.min(last);
    }

    pub(super) fn say(&mut self, text: String, tone: Tone) {
        let until = self.now + MESSAGE;
        self.message = Some(Message { text, tone, until });
    }

    fn on_reading(&mut self, usages: Vec<Usage>) -> Vec<Effect> {
        self.heard = Some(self.now);
        self.trouble = None;
        let before = self.selected_row().map(state_of);
        let place = self.place();
        self.rows = reading::rows(&self.rows, usages);
        self.arrange(place);
        let changed = self.selected_row().map(state_of) != before;
        self.tell(changed)
    }

    /// Which rows are shown, in which order. What was selected stays so; where it is gone, what
    /// stands at its `place` now is.
    fn arrange(&mut self, place: usize) {
        let wanted = self.filter.to_lowercase();
        let fits = |row: &Row| row.name().to_lowercase().contains(&wanted);
        let rows = self.rows.iter().enumerate().filter(|(_, row)| fits(row));
        let mut order: Vec<(usize, &Row)> = rows.collect();
        order.sort_by(|(_, a), (_, b)| {
            let order = self.sort.compare(a, b);
            if self.reverse { order.reverse() } else { order }
        });
        self.order = order.into_iter().map(|(index, _)| index).collect();
        let selected = self.selected.as_deref();
        if self.shown().any(|row| Some(row.name()) == selected) {
            return;
        }
        if self.order.is_empty() && !self.rows.is_empty() {
            self.kept = self.kept.take().or_else(|| self.selected.clone());
        }
        let kept = self.kept.as_deref();
        let kept = self.shown().position(|row| Some(row.name()) == kept);
        self.select(kept.unwrap_or(place));
    }

    /// Selects the row at `place`, or the last.
    fn select(&mut self, place: usize) {
        let last = self.order.len().saturating_sub(1);
        let name = self
            .shown()
            .nth(place.min(last))
            .map(|row| row.name().to_owned());
        if name.is_some() {
            self.kept = None;
        }
        if name != self.selected {
            self.selected = name;
            self.told = None;
            self.scroll = (0, 0);
        }
    }

    /// What is to be asked for the pane, where it shows something else from now on.
    fn tell(&self, changed: bool) -> Vec<Effect> {
        let wanted = self.pane == Pane::Why && (changed || self.told.is_none());
        let name = self.selected.clone().filter(|_| wanted);
        name.map(Effect::Tell).into_iter().collect()
    }

    fn on_lines(&mut self, ticket: u64, mut lines: LogLines, first: bool) {
        if ticket != self.log.ticket {
            return;
        }
        let log = &mut self.log;
        if first {
            log.lines.clear();
            log.lost = 0;
        } else {
            log.lost = log.lost.saturating_add(lines.lost);
        }
        log.trouble = None;
        let came = lines.records.len().min(KEPT_LINES);
        let skipped = lines.records.len() - came;
        log.lines.extend(lines.records.drain(skipped..));
        let over = log.lines.len().saturating_sub(KEPT_LINES);
        log.lines.drain(..over);
        // Whoever reads further up goes on reading the same lines, while they are kept.
        if self.pane == Pane::Log && self.scroll.0 > 0 {
            self.scroll.0 = (self.scroll.0 + came).min(super::view::furthest(self));
        }
    }

    fn on_done(&mut self, verb: Verb, name: &str, text: String, tone: Tone) -> Vec<Effect> {
        let same = |doing: &(Verb, String)| doing.0 == verb && doing.1 == name;
        if let Some(at) = self.doing.iter().position(same) {
            self.doing.remove(at);
        }
        self.say(text, tone);
        self.tell(self.selected.as_deref() == Some(name))
    }
}

/// What `why` tells of: another answer may be worth asking for when it changes.
fn state_of(row: &Row) -> (String, ServiceState, u64) {
    let status = &row.usage.status;
    (status.name.clone(), status.state, status.generation)
}

#[cfg(test)]
mod tests;
