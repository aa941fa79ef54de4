//! Signals: what ends us, what changes the screen, and the way out where whoever draws cannot go
//! it. Nothing here waits for anybody, and none that ends us is lost.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Mutex, PoisonError};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{Signal, raise};

use super::Incoming;
use super::screen::{self, Before};
use crate::sys::signalfd::{self, Signals};

/// How long whoever draws may need for a signal that ends us before the terminal is given back
/// without it, in milliseconds: the terminal may not take what is drawn.
const LAST: u16 = 1000;

/// The signals that end us once the terminal is as it was.
const FATAL: [Signal; 4] = [
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
];
/// Those that tell of something.
const TELLING: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGCONT, Signal::SIGWINCH];

/// Whether the signal that stops our process group is our own: it reaches us twice.
static SUSPENDING: AtomicBool = AtomicBool::new(false);

/// What came and was not looked at yet; of one kind no more than one.
#[derive(Debug)]
pub(super) struct Caught {
    signals: Signals,
    /// Who reads a signal files it before anybody else looks.
    filing: Mutex<()>,
    /// The first that ends us; 0: none.
    fatal: AtomicI32,
    telling: [AtomicBool; TELLING.len()],
}

impl Caught {
    /// Blocks what it catches, for this thread and those it makes from now on. SIGTTOU too: who
    /// gives the terminal back from the background must not be stopped by that.
    pub(super) fn new() -> io::Result<Self> {
        let all: Vec<Signal> = FATAL
            .into_iter()
            .chain(TELLING)
            .chain([Signal::SIGTTOU])
            .collect();
        Ok(Caught {
            signals: Signals::new(&all).map_err(io::Error::other)?,
            filing: Mutex::new(()),
            fatal: AtomicI32::new(0),
            telling: Default::default(),
        })
    }

    /// Files what has come.
    pub(super) fn collect(&self) {
        let _filing = self.filing.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(came) = self.signals.next() {
            let Ok(signal) = Signal::try_from(came.signal) else {
                continue;
            };
            if FATAL.contains(&signal) {
                let (none, order) = (0, Ordering::AcqRel);
                let _ = self
                    .fatal
                    .compare_exchange(none, came.signal, order, Ordering::Acquire);
            }
            let own = signal == Signal::SIGTSTP && SUSPENDING.load(Ordering::Acquire);
            let place = TELLING.iter().position(|telling| *telling == signal);
            if let Some(came) = place.and_then(|place| self.telling.get(place))
                && !own
            {
                came.store(true, Ordering::Release);
            }
        }
    }

    /// What ends us.
    pub(super) fn fatal(&self) -> Option<Signal> {
        Signal::try_from(self.fatal.load(Ordering::Acquire)).ok()
    }

    /// What else has come since it was asked last.
    pub(super) fn take(&self) -> Vec<Signal> {
        let came = TELLING.into_iter().zip(&self.telling);
        came.filter(|(_, came)| came.swap(false, Ordering::AcqRel))
            .map(|(signal, _)| signal)
            .collect()
    }

    /// Waits a second at the most for one to come.
    fn wait(&self) {
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        // An interruption is as good as a second.
        let _ = poll(&mut fds, 1000_u16);
    }
}

/// Tells that signals came. What ends us gives the terminal back here when nobody else does.
pub(super) fn watch(caught: &Caught, before: &Before, news: &SyncSender<Incoming>) {
    loop {
        caught.wait();
        caught.collect();
        // Where it is full nobody has to be woken: signals are looked at before anything else.
        let _ = news.try_send(Incoming::Signals);
        if let Some(signal) = caught.fatal() {
            let _ = poll(&mut [], LAST);
            screen::give_back(before);
            die_of(signal);
        }
    }
}

/// Ends us as the signal does to whoever does not catch it, so that whoever waits for us sees it.
pub(super) fn die_of(signal: Signal) {
    let _ = raise(signal);
    signalfd::let_through(&[signal]);
}

/// Stops our process group as Ctrl-Z would have, and returns when somebody continues us.
pub(super) fn suspend() -> io::Result<()> {
    SUSPENDING.store(true, Ordering::Release);
    signalfd::stop_own_group();
    signalfd::stop_by(Signal::SIGTSTP).map_err(io::Error::other)?;
    SUSPENDING.store(false, Ordering::Release);
    Ok(())
}

/// Stops us as the kernel stops who draws from the background; returns when somebody continues us.
pub(super) fn stop_in_background() -> io::Result<()> {
    signalfd::stop_by(Signal::SIGTTOU).map_err(io::Error::other)
}
