//! The signals that reach the loop, and what each asks for.

use std::future::poll_fn;
use std::task::Poll;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::core::ShutdownKind;
use crate::sys::await_signal::real_time;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Means {
    /// The end, of this kind.
    End(ShutdownKind),
    /// Nothing here.
    Nothing,
}

/// The signals that reach the loop.
pub(super) struct Ends {
    pub(super) asked: Asked,
    pub(super) child: Signal,
}

/// The signals that ask for something.
pub(super) struct Asked(Vec<(&'static str, Means, Signal)>);

impl Ends {
    /// Installs the handlers: before anything is started, since PID 1 ignores what it has no
    /// handler for. As process 1 of a `machine` Ctrl-Alt-Del (SIGINT) reboots, and what closes a
    /// terminal does not end it.
    pub(super) fn install(machine: bool) -> std::io::Result<Self> {
        use Means::{End, Nothing};
        use ShutdownKind::{Halt, PowerOff, Reboot};
        let (int, hup) = if machine {
            (End(Reboot), Nothing)
        } else {
            (End(PowerOff), End(PowerOff))
        };
        let real = |offset| SignalKind::from_raw(real_time(offset));
        let wanted = [
            ("SIGTERM", End(PowerOff), SignalKind::terminate()),
            ("SIGINT", int, SignalKind::interrupt()),
            ("SIGHUP", hup, SignalKind::hangup()),
            ("SIGQUIT", hup, SignalKind::quit()),
            ("SIGPWR", End(PowerOff), SignalKind::from_raw(libc::SIGPWR)),
            ("SIGRTMIN+3", End(Halt), real(3)),
            ("SIGRTMIN+4", End(PowerOff), real(4)),
            ("SIGRTMIN+5", End(Reboot), real(5)),
        ];
        let mut asked = Vec::with_capacity(wanted.len());
        for (name, means, kind) in wanted {
            asked.push((name, means, signal(kind)?));
        }
        Ok(Self {
            asked: Asked(asked),
            child: signal(SignalKind::child())?,
        })
    }
}

impl Asked {
    pub(super) async fn next(&mut self) -> (&'static str, Means) {
        poll_fn(|cx| {
            for (name, means, signal) in &mut self.0 {
                if signal.poll_recv(cx).is_ready() {
                    return Poll::Ready((*name, *means));
                }
            }
            Poll::Pending
        })
        .await
    }
}
