//! The terminal: taken, drawn on, and given back as it was, whatever ends us.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use ratatui_core::backend::Backend;
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_crossterm::CrosstermBackend;

use super::Incoming;
use super::keys::Keys;
use super::model::{Event, Model};
use super::view;
use crate::sys::signalfd::{self, Signals};
use crate::sys::terminal;

/// The alternate screen, empty, without a cursor. What knows no such screen ignores it.
const ENTER: &str = "\x1b[?1049h\x1b[0m\x1b[2J\x1b[?25l";
/// Clean, for terminals without another screen, and then back.
const LEAVE: &str = "\x1b[0m\x1b[2J\x1b[H\x1b[?25h\x1b[?1049l";
/// What comes later than this after the beginning of a key is another key: ten bytes at 2400 baud.
const KEY: u16 = 50;
/// How long whoever draws may need for a signal that ends us before the terminal is given back
/// without it: the terminal may not take what is drawn.
const LAST: u16 = 1000;

/// The signals that end us once the terminal is as it was.
pub(super) const FATAL: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
];

/// Whether the signal that stops our process group is our own: it reaches us twice.
static SUSPENDING: AtomicBool = AtomicBool::new(false);

/// The terminal, from [`Screen::open`] until it is dropped.
pub(super) struct Screen {
    backend: CrosstermBackend<BufWriter<Stdout>>,
    /// What is there.
    shown: Buffer,
    before: Termios,
    entered: bool,
}

impl Screen {
    /// Takes the terminal on stdin and stdout.
    pub(super) fn open() -> io::Result<Self> {
        let before = tcgetattr(io::stdin().as_fd())?;
        let mut screen = Screen {
            backend: CrosstermBackend::new(BufWriter::with_capacity(1 << 16, io::stdout())),
            shown: Buffer::empty(Rect::ZERO),
            before,
            entered: false,
        };
        screen.enter()?;
        Ok(screen)
    }

    /// The settings it had, for whoever else may have to give it back.
    pub(super) fn before(&self) -> Termios {
        self.before.clone()
    }

    /// Takes it again, after [`Screen::leave`] or whatever else changed it.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        let mut raw = self.before.clone();
        cfmakeraw(&mut raw);
        self.entered = true;
        tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &raw)?;
        self.forget();
        say(ENTER)
    }

    /// Gives it back.
    pub(super) fn leave(&mut self) {
        if std::mem::take(&mut self.entered) {
            // Where it is gone there is nobody to give it back to.
            let _ = Backend::flush(&mut self.backend);
            let _ = say(LEAVE);
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &self.before);
        }
    }

    /// Everything is drawn the next time.
    pub(super) fn redraw(&mut self) -> io::Result<()> {
        self.forget();
        self.backend.clear()
    }

    fn forget(&mut self) {
        self.shown = Buffer::empty(Rect::ZERO);
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, model: &Model) -> io::Result<()> {
        let (columns, rows) = model.size;
        let area = Rect::new(0, 0, columns, rows);
        if self.shown.area != area {
            self.shown = Buffer::empty(area);
            self.backend.clear()?;
        }
        let mut next = Buffer::empty(area);
        view::draw(model, &mut next);
        let changed = self.shown.diff(&next);
        if !changed.is_empty() {
            self.backend.draw(changed.into_iter())?;
            Backend::flush(&mut self.backend)?;
        }
        self.shown = next;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

fn say(sequence: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(sequence.as_bytes())?;
    stdout.flush()
}

/// Gives it back from anywhere: `before` are the settings it had.
pub(super) fn give_back(before: &Mutex<Termios>) {
    let before = before.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = say(LEAVE);
    let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &before);
}

/// Whether keys can be read and pictures shown here.
pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Columns and rows: as the terminal says, else LINES and COLUMNS (a serial line says nothing),
/// else 80 and 24.
pub(super) fn size() -> (u16, u16) {
    if let Some((columns, rows)) = terminal_size::terminal_size_of(io::stdout()) {
        return (columns.0, rows.0);
    }
    let of = |name: &str, usual: u16| {
        let said = std::env::var(name).ok().and_then(|text| text.parse().ok());
        said.filter(|n| (1..=1000).contains(n)).unwrap_or(usual)
    };
    (of("COLUMNS", 80), of("LINES", 24))
}

/// Blocks what [`signals`] tells of, for this thread and those it makes from now on.
pub(super) fn take_signals() -> io::Result<Signals> {
    let others = [Signal::SIGTSTP, Signal::SIGCONT, Signal::SIGWINCH];
    let all: Vec<Signal> = FATAL.into_iter().chain(others).collect();
    Signals::new(&all).map_err(io::Error::other)
}

/// Tells of signals. What ends us gives the terminal back here when nobody else does.
pub(super) fn signals(signals: &Signals, before: &Termios, news: &SyncSender<Incoming>) {
    loop {
        let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        while let Some(came) = signals.next() {
            let Ok(signal) = Signal::try_from(came.signal) else {
                continue;
            };
            if signal == Signal::SIGTSTP && SUSPENDING.load(Ordering::Acquire) {
                continue;
            }
            if !FATAL.contains(&signal) {
                let _ = news.send(Incoming::Signal(signal));
                continue;
            }
            let _ = news.try_send(Incoming::Signal(signal));
            let _ = poll(&mut [], LAST);
            let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, before);
            die_of(signal);
        }
    }
}

/// Ends us as the signal does to whoever does not catch it, so that whoever waits for us sees it.
pub(super) fn die_of(signal: Signal) {
    let _ = raise(signal);
    signalfd::let_through(&[signal]);
}

/// Tells of keys, until there can be no more.
pub(super) fn keys(news: &SyncSender<Incoming>) {
    let (mut keys, mut bytes) = (Keys::default(), [0; 1024]);
    loop {
        let stdin = io::stdin();
        let wait = if keys.is_open() {
            PollTimeout::from(KEY)
        } else {
            PollTimeout::NONE
        };
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let found = match poll(&mut fds, wait) {
            Ok(0) => keys.settle().into_iter().collect(),
            Ok(_) => match nix::unistd::read(stdin.as_fd(), &mut bytes) {
                Ok(n @ 1..) => keys.push(bytes.get(..n).unwrap_or_default()),
                Err(Errno::EINTR | Errno::EAGAIN) => Vec::new(),
                // It was closed, or hung up.
                Ok(0) | Err(_) => {
                    let _ = news.send(Incoming::End);
                    return;
                }
            },
            Err(Errno::EINTR) => Vec::new(),
            Err(_) => {
                let _ = news.send(Incoming::End);
                return;
            }
        };
        for key in found {
            if news.send(Incoming::Event(Event::Key(key))).is_err() {
                return;
            }
        }
    }
}

/// Stops us as Ctrl-Z would have, and returns when somebody continues us. `false`: nobody could.
pub(super) fn suspend(screen: &mut Screen) -> io::Result<bool> {
    if terminal::is_orphaned() {
        return Ok(false);
    }
    screen.leave();
    SUSPENDING.store(true, Ordering::Release);
    signalfd::stop_own_group();
    let _ = raise(Signal::SIGTSTP);
    signalfd::let_through(&[Signal::SIGTSTP]);
    let stops: SigSet = [Signal::SIGTSTP].into_iter().collect();
    stops.thread_block()?;
    SUSPENDING.store(false, Ordering::Release);
    screen.enter()?;
    Ok(true)
}
