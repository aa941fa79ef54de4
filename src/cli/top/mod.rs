//! `nought top`: what services do and use, on a terminal, with keys that start and stop them.
//!
//! `model` decides what is shown and what a key does, `view` and what it uses draw it, `link` asks
//! the supervisor on threads of its own, `screen` has the terminal. Here they meet: everything that
//! happens comes through one channel, one at a time.

mod help;
mod keys;
mod link;
mod model;
mod once;
mod paint;
mod panes;
mod reading;
mod screen;
mod signals;
mod table;
mod text;
mod view;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::EXIT_FAILED;
use super::args::Top;
use super::command::Session;
use super::error::Error;
use crate::sys::{clock, terminal};
use keys::Key;
use link::Link;
use model::{Effect, Event, Model};
use screen::{Before, Screen};
use signals::Caught;
use text::Look;

/// Not more pictures a second than anybody sees.
const FRAME: Duration = Duration::from_millis(40);
/// How long a service is selected before its log is asked for: whoever pages through hundreds asks
/// for none of them.
const SETTLED: Duration = Duration::from_millis(150);

/// Threads that follow a log: the one that is wanted, and one that has not ended yet.
const FOLLOWERS: usize = 2;

/// What happens.
enum Incoming {
    Event(Event),
    /// A key, and when it was read.
    Key(Key, Duration),
    /// See [`Caught`].
    Signals,
    /// There are no more keys: the terminal is gone.
    End,
}

impl Session<'_> {
    pub(super) fn top(&mut self, top: &Top) -> Result<u8, Error> {
        if top.once || self.output.json {
            return self.top_as_text(top);
        }
        let no = |why: &str| Err(Error::NoTerminal { why: why.into() });
        if !screen::is_terminal() {
            return no("stdin or stdout is no terminal");
        }
        if std::env::var_os("TERM").is_some_and(|term| term == "dumb") {
            return no("TERM=dumb: this terminal cannot move its cursor");
        }
        let link = self.link();
        // Told here, where the socket is wrong from the start, and not on a screen that goes away.
        drop(link.connect()?);
        let failed = |error: io::Error| Error::NoTerminal {
            why: error.to_string(),
        };
        match watch(&link, top.interval).map_err(failed)? {
            Ended::Quit => Ok(0),
            Ended::Lost => Ok(EXIT_FAILED),
            Ended::Signal(signal) => {
                signals::die_of(signal);
                // It is ignored.
                Ok(EXIT_FAILED)
            }
        }
    }

    fn link(&self) -> Link {
        use std::io::IsTerminal as _;
        Link {
            socket: self.options.socket.clone(),
            // It would be written over the picture.
            debug: self.options.debug && !io::stderr().is_terminal(),
            timeout: self.options.timeout,
        }
    }
}

/// What ended it.
enum Ended {
    Quit,
    /// The terminal went away.
    Lost,
    Signal(Signal),
}

fn now() -> Duration {
    Duration::from_nanos(clock::boot_now())
}

fn watch(link: &Link, interval: Duration) -> io::Result<Ended> {
    let caught = Arc::new(Caught::new()?);
    let mut screen = Screen::open()?;
    let before = screen.before();
    give_back_on_panic(Arc::clone(&before));
    let (news, incoming) = sync_channel(64);
    let told = news.clone();
    let all = Arc::clone(&caught);
    spawn("signals", move || signals::watch(&all, &before, &told))?;
    let told = news.clone();
    spawn("keys", move || screen::keys(&told))?;
    let (events, came) = sync_channel(16);
    let all = news.clone();
    spawn("events", move || {
        while let Ok(event) = came.recv() {
            if all.send(Incoming::Event(event)).is_err() {
                return;
            }
        }
    })?;
    drop(news);
    let look = Look::of(|name| std::env::var(name).ok());
    let mut watch = Watch {
        model: Model::new(look, interval, now()),
        ask: ask(link, interval, &events)?,
        tell: tell(link, &events)?,
        link: link.clone(),
        caught,
        events,
        followers: Arc::new(()),
        followed: None,
        tickets: 0,
        settled: now(),
    };
    let (columns, rows) = screen::size();
    watch.model.size = (columns, rows);
    watch.run(&mut screen, &incoming)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let thread = thread::Builder::new().name(format!("top-{name}"));
    thread.spawn(work).map(drop)
}

fn ask(link: &Link, interval: Duration, events: &SyncSender<Event>) -> io::Result<Sender<()>> {
    let (ask, asked) = channel();
    let (link, events) = (link.clone(), events.clone());
    spawn("readings", move || {
        link::poll(&link, interval, &asked, &events)
    })?;
    Ok(ask)
}

fn tell(link: &Link, events: &SyncSender<Event>) -> io::Result<Sender<String>> {
    let (tell, asked) = channel();
    let (link, events) = (link.clone(), events.clone());
    spawn("receipts", move || link::tell(&link, &asked, &events))?;
    Ok(tell)
}

/// A panic's message is of use where it can be read.
fn give_back_on_panic(before: Before) {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        screen::give_back(&before);
        tell(info);
    }));
}

struct Watch {
    model: Model,
    link: Link,
    caught: Arc<Caught>,
    events: SyncSender<Event>,
    /// Has a reading made now.
    ask: Sender<()>,
    /// Has a service's last stop told.
    tell: Sender<String>,
    /// One for us, and one for each thread that follows a log.
    followers: Arc<()>,
    /// Whose log is followed, and what ends that.
    followed: Option<(String, Arc<AtomicBool>)>,
    tickets: u64,
    /// Since when the log that is wanted is the same.
    settled: Duration,
}

impl Watch {
    fn run(&mut self, screen: &mut Screen, incoming: &Receiver<Incoming>) -> io::Result<Ended> {
        let (mut drawn, mut dirty) = (Duration::ZERO, true);
        loop {
            if let Some(ended) = self.on_signals(screen)? {
                return Ok(ended);
            }
            let since = now().saturating_sub(drawn);
            if dirty && since >= FRAME {
                self.model.tick(now());
                let height = view::rows_seen(&self.model);
                self.model.fit(height);
                screen.draw(&self.model)?;
                self.model.drawn(now());
                (drawn, dirty) = (now(), false);
            }
            let wait = match (dirty, self.follow()?) {
                (true, _) => FRAME.saturating_sub(since),
                (false, true) => SETTLED,
                // Silence is shown in seconds.
                (false, false) => Duration::from_secs(1),
            };
            dirty = true;
            let wait = self.model.due().map_or(wait, |due| wait.min(due));
            let effects = match incoming.recv_timeout(wait) {
                Ok(Incoming::Event(event)) => self.take(now(), event),
                Ok(Incoming::Key(key, read)) => self.take(read, Event::Key(key)),
                Ok(Incoming::End) | Err(RecvTimeoutError::Disconnected) => return Ok(Ended::Lost),
                Ok(Incoming::Signals) | Err(RecvTimeoutError::Timeout) => continue,
            };
            if let Some(ended) = self.carry_out(effects, screen)? {
                return Ok(ended);
            }
        }
    }

    fn take(&mut self, at: Duration, event: Event) -> Vec<Effect> {
        let wanted = self.model.log_wanted().map(str::to_owned);
        if matches!(event, Event::Done { .. }) {
            // The states have changed. Where it has ended there is nothing to ask.
            let _ = self.ask.send(());
        }
        let effects = self.model.handle(at, event);
        if self.model.log_wanted() != wanted.as_deref() {
            self.settled = now();
        }
        effects
    }

    fn on_signals(&mut self, screen: &mut Screen) -> io::Result<Option<Ended>> {
        if let Some(fatal) = self.caught.fatal() {
            return Ok(Some(Ended::Signal(fatal)));
        }
        for signal in self.caught.take() {
            let ended = match signal {
                Signal::SIGTSTP => self.carry_out(vec![Effect::Suspend], screen)?,
                Signal::SIGCONT => self.resume(screen)?,
                _ => self.resize(screen)?,
            };
            if ended.is_some() {
                return Ok(ended);
            }
        }
        Ok(None)
    }

    /// Somebody has continued us: to end us, to go on in the background, where we stop again, or
    /// to have the terminal.
    fn resume(&mut self, screen: &mut Screen) -> io::Result<Option<Ended>> {
        loop {
            self.caught.collect();
            if let Some(fatal) = self.caught.fatal() {
                return Ok(Some(Ended::Signal(fatal)));
            }
            if screen::is_foreground() {
                break;
            }
            if terminal::is_orphaned() {
                return Ok(Some(Ended::Lost));
            }
            signals::stop_in_background()?;
        }
        screen.enter()?;
        self.resize(screen)
    }

    fn resize(&mut self, screen: &mut Screen) -> io::Result<Option<Ended>> {
        let (columns, rows) = screen::size();
        let effects = self.take(now(), Event::Size(columns, rows));
        self.carry_out(effects, screen)
    }

    fn carry_out(
        &mut self,
        effects: Vec<Effect>,
        screen: &mut Screen,
    ) -> io::Result<Option<Ended>> {
        for effect in effects {
            match effect {
                Effect::Quit => return Ok(Some(Ended::Quit)),
                Effect::Redraw => screen.redraw()?,
                Effect::Suspend if terminal::is_orphaned() => {
                    let text = "not suspended: no shell is there to continue it";
                    self.model.handle(now(), Event::Note(text.into()));
                }
                Effect::Suspend => {
                    screen.leave();
                    signals::suspend()?;
                    if let Some(ended) = self.resume(screen)? {
                        return Ok(Some(ended));
                    }
                }
                Effect::Do(verb, name) => {
                    let (link, events) = (self.link.clone(), self.events.clone());
                    spawn("work", move || link::act(&link, verb, name, &events))?;
                }
                Effect::Tell(name) => {
                    let _ = self.tell.send(name);
                }
            }
        }
        Ok(None)
    }

    /// Follows the log that is wanted, once it has been so for a moment; whether it will be.
    fn follow(&mut self) -> io::Result<bool> {
        let wanted = self.model.log_wanted();
        let followed = self.followed.as_ref().map(|(name, _)| name.as_str());
        if wanted == followed {
            return Ok(false);
        }
        if now() < self.settled + SETTLED && followed.is_some() {
            return Ok(true);
        }
        let wanted = wanted.map(str::to_owned);
        if let Some((_, ended)) = self.followed.take() {
            ended.store(true, Ordering::Release);
        }
        // Those that are not wanted any more end within a second or two, also while the supervisor
        // says nothing.
        if Arc::strong_count(&self.followers) > 1 + FOLLOWERS {
            return Ok(true);
        }
        self.tickets += 1;
        let ticket = self.tickets;
        self.model.follow(wanted.clone(), ticket);
        if let Some(name) = wanted {
            let ended = Arc::new(AtomicBool::new(false));
            self.followed = Some((name.clone(), Arc::clone(&ended)));
            let (link, events) = (self.link.clone(), self.events.clone());
            let counted = Arc::clone(&self.followers);
            spawn("log", move || {
                link::follow(&link, &name, ticket, &ended, &events);
                drop(counted);
            })?;
        }
        Ok(false)
    }
}
