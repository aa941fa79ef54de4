//! What keys do.

use std::collections::BTreeSet;

use super::{AT_ONCE, Effect, Mode, Model, Pane, Verb};
use crate::api::ServiceState;
use crate::cli::render::Tone;
use crate::cli::top::keys::Key;
use crate::cli::top::reading::{Row, Sort};
use crate::cli::top::view;

impl Model {
    pub(super) fn on_key(&mut self, key: Key) -> Vec<Effect> {
        match key {
            Key::Ctrl('c') => return vec![Effect::Quit],
            Key::Ctrl('z') => return vec![Effect::Suspend],
            Key::Ctrl('l') => return vec![Effect::Redraw],
            Key::Pasted(_) if !matches!(self.mode, Mode::Filter(_)) => return Vec::new(),
            // Nobody sees what another key would do.
            Key::Char('q') if view::is_too_small(self) => return vec![Effect::Quit],
            _ if view::is_too_small(self) => return Vec::new(),
            _ => {}
        }
        match std::mem::replace(&mut self.mode, Mode::Browse) {
            Mode::Browse => self.on_browsing(key),
            Mode::Help => Vec::new(),
            Mode::Filter(before) => self.on_filter(key, before),
            Mode::Question(verb, name, others) => match key {
                Key::Char('y' | 'Y') if self.offered.is_some_and(|at| self.now >= at) => {
                    self.act(verb, name)
                }
                // Typed, or pasted by a terminal that does not say so, before it could be read.
                Key::Char('y' | 'Y') => {
                    self.mode = Mode::Question(verb, name, others);
                    Vec::new()
                }
                _ => {
                    self.say(
                        format!("{} is left as it is", self.look.shown(&name, 40)),
                        Tone::Plain,
                    );
                    Vec::new()
                }
            },
        }
    }

    fn on_filter(&mut self, key: Key, before: String) -> Vec<Effect> {
        let place = self.place();
        match key {
            Key::Enter => return Vec::new(),
            Key::Escape => self.filter.clear(),
            Key::Ctrl('u') => {
                self.filter.clear();
                self.mode = Mode::Filter(before);
            }
            Key::Backspace => {
                self.filter.pop();
                self.mode = Mode::Filter(before);
            }
            Key::Char(c) | Key::Pasted(c) if self.filter.chars().count() < 60 => {
                self.filter.push(c);
                self.mode = Mode::Filter(before);
            }
            _ => self.mode = Mode::Filter(before),
        }
        self.arrange(place);
        self.tell(false)
    }

    fn on_browsing(&mut self, key: Key) -> Vec<Effect> {
        match key {
            Key::Char('q') => return vec![Effect::Quit],
            Key::Char('?' | 'h') => self.mode = Mode::Help,
            Key::Char('/') => self.mode = Mode::Filter(self.filter.clone()),
            Key::Char('l') => return self.open(Pane::Log),
            Key::Char('t') => return self.open(Pane::Processes),
            Key::Char('w') => return self.open(Pane::Why),
            Key::Enter => {
                self.zoomed = !(self.zoomed && self.pane == Pane::Why);
                self.pane = Pane::Why;
                self.scroll = (0, 0);
                return self.tell(false);
            }
            Key::Char('z') if self.pane != Pane::None => {
                self.zoomed = !self.zoomed;
                // Beside the table nothing scrolls back.
                self.scroll.0 = 0;
            }
            Key::Tab => {
                return self.open(match self.pane {
                    Pane::Log => Pane::Processes,
                    Pane::Processes => Pane::Why,
                    Pane::Why | Pane::None => Pane::Log,
                });
            }
            Key::Escape => self.on_escape(),
            Key::Char('s') => return self.ask(Verb::Start),
            Key::Char('S' | 'x') => return self.ask(Verb::Stop),
            Key::Char('r') => return self.ask(Verb::Restart),
            Key::Char('o') => self.sort_by(self.sort.next()),
            Key::Char('N') => self.sort_by(Sort::Name),
            Key::Char('A') => self.sort_by(Sort::State),
            Key::Char('P') => self.sort_by(Sort::Cpu),
            Key::Char('M') => self.sort_by(Sort::Memory),
            Key::Char('R') => self.sort_by(Sort::Restarts),
            Key::Char('O' | 'I') => {
                self.reverse = !self.reverse;
                self.arrange(self.place());
            }
            Key::Left => self.scroll.1 = self.scroll.1.saturating_sub(8),
            Key::Right => self.scroll.1 = (self.scroll.1 + 8).min(4096),
            _ => return self.on_moving(key),
        }
        Vec::new()
    }

    /// Through the table, or through the pane while that has all of the screen.
    fn on_moving(&mut self, key: Key) -> Vec<Effect> {
        let page = usize::from(self.size.1).saturating_sub(6).max(1);
        let (at, last) = if self.zoomed {
            (self.scroll.0, usize::MAX)
        } else {
            (self.place(), self.order.len().saturating_sub(1))
        };
        // The log's newest line is where one stands first.
        let upwards = self.zoomed && self.pane == Pane::Log;
        let (page_table, page_pane) = (view::rows_seen(self).max(1), page);
        let page = if self.zoomed { page_pane } else { page_table };
        let back = |n: usize| {
            if upwards {
                at.saturating_add(n)
            } else {
                at.saturating_sub(n)
            }
        };
        let on = |n: usize| {
            if upwards {
                at.saturating_sub(n)
            } else {
                at.saturating_add(n)
            }
        };
        let to = match key {
            Key::Up | Key::Char('k') => back(1),
            Key::Down | Key::Char('j') => on(1),
            Key::PageUp | Key::Ctrl('b' | 'u') => back(page),
            Key::PageDown | Key::Ctrl('f' | 'd') | Key::Char(' ') => on(page),
            Key::Home | Key::Char('g') => {
                if upwards {
                    usize::MAX
                } else {
                    0
                }
            }
            Key::End | Key::Char('G') => {
                if upwards {
                    0
                } else {
                    last
                }
            }
            _ => return Vec::new(),
        };
        if self.zoomed {
            self.scroll.0 = to.min(view::furthest(self));
            return Vec::new();
        }
        self.select(to.min(last));
        self.tell(false)
    }

    fn on_escape(&mut self) {
        if self.zoomed {
            self.zoomed = false;
            self.scroll = (0, 0);
        } else {
            self.message = None;
            self.filter.clear();
            self.arrange(self.place());
        }
    }

    /// A pane, or none where it is open already.
    fn open(&mut self, pane: Pane) -> Vec<Effect> {
        let closes = self.pane == pane && self.is_open();
        self.pane = if closes { Pane::None } else { pane };
        self.zoomed = !closes && (self.zoomed || !view::has_room(self));
        self.scroll = (0, 0);
        self.tell(false)
    }

    fn sort_by(&mut self, sort: Sort) {
        self.sort = sort;
        self.reverse = false;
        self.arrange(self.place());
        self.say(format!("sorted by {}", sort.word()), Tone::Plain);
    }

    /// Nothing is done by one key alone: it may be a letter of a text that was meant for a shell.
    fn ask(&mut self, verb: Verb) -> Vec<Effect> {
        let Some(name) = self.selected.clone() else {
            return Vec::new();
        };
        let others = match verb {
            Verb::Start => Vec::new(),
            Verb::Stop | Verb::Restart => self.go_along(&name),
        };
        self.message = None;
        self.mode = Mode::Question(verb, name, others);
        (self.asked, self.offered) = (None, None);
        Vec::new()
    }

    fn act(&mut self, verb: Verb, name: String) -> Vec<Effect> {
        if self.doing.len() >= AT_ONCE {
            let text = format!("{AT_ONCE} starts and stops are under way: wait for one of them");
            self.say(text, Tone::Bad);
            return Vec::new();
        }
        self.message = None;
        self.doing.push((verb, name.clone()));
        vec![Effect::Do(verb, name)]
    }

    /// Who requires it, directly or not, and is not down: a stop takes them along.
    fn go_along(&self, name: &str) -> Vec<String> {
        let mut found = BTreeSet::from([name.to_owned()]);
        loop {
            let goes = |row: &&Row| {
                let status = &row.usage.status;
                let rests = matches!(status.state, ServiceState::Down | ServiceState::Failed);
                !rests && status.requires.keys().any(|needs| found.contains(needs))
            };
            let all: BTreeSet<String> = self
                .rows
                .iter()
                .filter(goes)
                .map(|row| row.name().to_owned())
                .collect();
            if all.is_subset(&found) {
                found.remove(name);
                return found.into_iter().collect();
            }
            found.extend(all);
        }
    }
}
