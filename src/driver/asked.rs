//! The signals that reach the loop, and what each asks for.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Poll, ready};

use tokio::io::unix::AsyncFd;

use crate::core::ShutdownKind;
use crate::sys::await_signal::real_time;
use crate::sys::readiness;
use crate::sys::signalfd::Signals;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// The end, of this kind.
    End(ShutdownKind),
    /// Nothing here.
    Nothing,
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// Children have ended, or stopped.
    Child,
    /// This signal.
    Asked(&'static str, Means),
}

/// The signals that reach the loop: from a descriptor, not by handlers, so that nothing of ours
/// is ever interrupted by one.
pub(super) struct Ends {
    signals: AsyncFd<Signals>,
    means: [(&'static str, Means, i32); 8],
    /// Read, and not told yet.
    waiting: VecDeque<Came>,
}

impl Ends {
    /// Takes the signals over: before anything is started, since PID 1 ignores what it has not
    /// asked for. As process 1 of a `machine` Ctrl-Alt-Del (SIGINT) reboots, and what closes a
    /// terminal does not end it.
    ///
    /// In the thread of the loop, which any other thread that does not block every signal is made
    /// by.
    pub(super) fn install(machine: bool) -> anyhow::Result<Self> {
        use Means::{End, Nothing};
        use ShutdownKind::{Halt, PowerOff, Reboot};
        let (int, hup) = if machine {
            (End(Reboot), Nothing)
        } else {
            (End(PowerOff), End(PowerOff))
        };
        let means = [
            ("SIGTERM", End(PowerOff), libc::SIGTERM),
            ("SIGINT", int, libc::SIGINT),
            ("SIGHUP", hup, libc::SIGHUP),
            ("SIGQUIT", hup, libc::SIGQUIT),
            ("SIGPWR", End(PowerOff), libc::SIGPWR),
            ("SIGRTMIN+3", End(Halt), real_time(3)),
            ("SIGRTMIN+4", End(PowerOff), real_time(4)),
            ("SIGRTMIN+5", End(Reboot), real_time(5)),
        ];
        let asked = means.iter().map(|(_, _, number)| *number);
        let numbers: Vec<i32> = asked.chain([libc::SIGCHLD]).collect();
        Ok(Self {
            signals: readiness::readable(Signals::take_over(&numbers)?)?,
            means,
            waiting: VecDeque::new(),
        })
    }

    /// The next that comes; children first. Nothing is lost when this is not waited for to its end.
    pub(super) async fn next(&mut self) -> Came {
        poll_fn(|cx| {
            loop {
                if let Some(came) = self.waiting.pop_front() {
                    return Poll::Ready(came);
                }
                let Ok(mut ready) = ready!(self.signals.poll_read_ready(cx)) else {
                    // The runtime is about to end.
                    return Poll::Pending;
                };
                while let Some(came) = self.signals.get_ref().next() {
                    let of = |(_, _, number): &&(_, _, i32)| *number == came.signal;
                    match self.means.iter().find(of) {
                        Some((name, means, _)) => {
                            self.waiting.push_back(Came::Asked(name, *means));
                        }
                        None => self.waiting.push_front(Came::Child),
                    }
                }
                ready.clear_ready();
            }
        })
        .await
    }
}
