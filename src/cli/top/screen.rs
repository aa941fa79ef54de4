//! The terminal: taken, drawn on, and given back as it was, whatever ends us.

use std::io::{self, IsTerminal as _};
use std::os::fd::AsFd as _;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::termios::{FlushArg, SetArg, Termios, cfmakeraw, tcflush, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, tcgetpgrp};
use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::keys::Keys;
use super::model::Model;
use super::paint::paint;
use super::{Incoming, now, view};

/// The alternate screen, empty, without a cursor, and what is pasted marked as such. What knows no
/// such thing ignores it.
const ENTER: &str = "\x1b[?1049h\x1b[0m\x1b[2J\x1b[?25l\x1b[?2004h";
/// Clean, for terminals without another screen, and then back. CAN ends what was half said.
const LEAVE: &str = "\x18\x1b[?2004l\x1b[0m\x1b[2J\x1b[H\x1b[?25h\x1b[?1049l";
const CLEAR: &str = "\x1b[0m\x1b[2J";
/// What a terminal may say that nobody believes: each column and row takes memory.
const MOST: (u16, u16) = (1000, 500);

/// The settings that the terminal had, for whoever has to give it back.
pub(super) type Before = Arc<Mutex<Termios>>;

/// The terminal, from [`Screen::open`] until it is dropped.
pub(super) struct Screen {
    /// What is there.
    shown: Buffer,
    before: Before,
    /// The settings it has of us.
    own: Option<Termios>,
    entered: bool,
}

impl Screen {
    /// Takes the terminal on stdin and stdout.
    pub(super) fn open() -> io::Result<Self> {
        let before = tcgetattr(io::stdin().as_fd())?;
        let mut screen = Screen {
            shown: Buffer::empty(Rect::ZERO),
            before: Arc::new(Mutex::new(before)),
            own: None,
            entered: false,
        };
        screen.enter()?;
        Ok(screen)
    }

    /// The settings it had, for whoever else may have to give it back.
    pub(super) fn before(&self) -> Before {
        Arc::clone(&self.before)
    }

    /// Takes it again, after [`Screen::leave`] or whatever else changed it: the settings that are
    /// not ours are those to give back.
    pub(super) fn enter(&mut self) -> io::Result<()> {
        let stdin = io::stdin();
        let mut raw = tcgetattr(stdin.as_fd())?;
        {
            let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
            if self.own.as_ref() != Some(&raw) {
                *before = raw.clone();
            }
            raw = before.clone();
        }
        cfmakeraw(&mut raw);
        self.entered = true;
        tcsetattr(stdin.as_fd(), SetArg::TCSANOW, &raw)?;
        self.own = tcgetattr(stdin.as_fd()).ok();
        self.forget();
        say(ENTER)
    }

    /// Gives it back.
    pub(super) fn leave(&mut self) {
        if std::mem::take(&mut self.entered) {
            // Where it is gone there is nobody to give it back to.
            set_back(&self.before);
            let _ = say(LEAVE);
        }
    }

    /// Everything is drawn the next time.
    pub(super) fn redraw(&mut self) -> io::Result<()> {
        self.forget();
        say(CLEAR)
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
            say(CLEAR)?;
        }
        let mut next = Buffer::empty(area);
        view::draw(model, &mut next);
        say(&paint(self.shown.diff(&next).into_iter()))?;
        self.shown = next;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Writes all of it, however slowly the terminal takes it: it may have been made non-blocking by
/// whoever else has it.
fn say(sequence: &str) -> io::Result<()> {
    let (stdout, mut rest) = (io::stdout(), sequence.as_bytes());
    while !rest.is_empty() {
        match nix::unistd::write(stdout.as_fd(), rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => {
                let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLOUT)];
                let _ = poll(&mut fds, PollTimeout::NONE);
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Writes it, where the terminal takes it within a moment: somebody else may be waiting for that.
fn say_without_waiting(sequence: &str) {
    // Opened anew: O_NONBLOCK on our own would be the shell's, too.
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let mut rest = sequence.as_bytes();
    let opened = ["/proc/self/fd/1", "/dev/tty"]
        .into_iter()
        .find_map(|path| open(path, flags, Mode::empty()).ok());
    let Some(terminal) = opened else {
        return;
    };
    for _ in 0..10 {
        match nix::unistd::write(&terminal, rest) {
            Ok(n) => rest = rest.get(n..).unwrap_or_default(),
            Err(Errno::EAGAIN | Errno::EINTR) => {
                let _ = poll(&mut [], 20_u16);
            }
            Err(_) => return,
        }
        if rest.is_empty() {
            return;
        }
    }
}

/// The settings as they were, and nothing of what was typed for us is left for whoever reads next.
/// From the background neither is ours to change.
fn set_back(before: &Before) {
    if is_foreground() {
        let before = before.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = tcflush(io::stdin().as_fd(), FlushArg::TCIFLUSH);
        let _ = tcsetattr(io::stdin().as_fd(), SetArg::TCSANOW, &before);
    }
}

/// Gives it back from anywhere, without waiting for anybody.
pub(super) fn give_back(before: &Before) {
    set_back(before);
    say_without_waiting(LEAVE);
}

/// Whether the terminal is ours, and not the shell's or another job's.
pub(super) fn is_foreground() -> bool {
    // One that is not our controlling terminal has no jobs.
    tcgetpgrp(io::stdin().as_fd()).map_or(true, |front| front == getpgrp())
}

/// Whether keys can be read and pictures shown here.
pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Columns and rows: as the terminal says, else LINES and COLUMNS (a serial line says nothing),
/// else 80 and 24.
pub(super) fn size() -> (u16, u16) {
    if let Some((columns, rows)) = terminal_size::terminal_size_of(io::stdout()) {
        return (columns.0.min(MOST.0), rows.0.min(MOST.1));
    }
    let of = |name: &str, usual: u16, most: u16| {
        let said = std::env::var(name).ok().and_then(|text| text.parse().ok());
        said.filter(|n| (1..=most).contains(n)).unwrap_or(usual)
    };
    (of("COLUMNS", 80, MOST.0), of("LINES", 24, MOST.1))
}

/// Tells of keys, until there can be no more.
pub(super) fn keys(news: &SyncSender<Incoming>) {
    let (mut keys, mut bytes) = (Keys::default(), [0; 1024]);
    loop {
        let stdin = io::stdin();
        let wait = keys.patience().map_or(PollTimeout::NONE, PollTimeout::from);
        let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        let found = match poll(&mut fds, wait) {
            Ok(0) => keys.settle().into_iter().collect(),
            // Whoever reads from the background is stopped, and must be free to end.
            Ok(_) if !is_foreground() => {
                let _ = poll(&mut [], 100_u16);
                Vec::new()
            }
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
        let read = now();
        for key in found {
            if news.send(Incoming::Key(key, read)).is_err() {
                return;
            }
        }
    }
}
