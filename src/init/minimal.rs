//! Process 1 without a supervisor: it reaps, and ends the machine when a signal asks for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::sys::await_signal::{Awaited, real_time};
use crate::sys::power::Power;
use crate::sys::{SysError, reap, shell, signal};

/// Woken at least this often: a signal may have come before it was blocked.
const TURN: Duration = Duration::from_secs(1);

/// The supervisor broke.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broke;

/// Runs `work`; its panic, whose message is out by then, becomes an answer.
///
/// # Errors
/// When it panicked.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Broke> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| Broke)
}

/// The signals that process 1 waits for without its loop.
#[derive(Debug)]
pub struct Minimal(Option<Awaited>);

impl Minimal {
    /// From now on signals are waited for. Every other thread blocks them already.
    pub fn begin() -> Self {
        let mut signals: Vec<i32> = meanings().iter().map(|(signal, _)| *signal).collect();
        signals.push(libc::SIGCHLD);
        let awaited = Awaited::block(&signals);
        Self(
            awaited
                .inspect_err(|e| tracing::error!("failed to {e}"))
                .ok(),
        )
    }

    /// Waits for one signal, or for `bound`, and reaps; what the signal asks for.
    pub fn turn(&self, bound: Duration) -> Option<Power> {
        let signal = match &self.0 {
            Some(awaited) => awaited.next_within(bound),
            None => None,
        };
        reap();
        let (_, power) = meanings()
            .into_iter()
            .find(|(known, _)| Some(*known) == signal)?;
        Some(power)
    }

    /// Reaps until a signal asks for the end.
    pub fn until_asked(&self) -> Power {
        loop {
            if let Some(power) = self.turn(TURN) {
                return power;
            }
        }
    }

    /// The loop is to have them again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn over(self) -> Result<(), SysError> {
        signal::unblock_all()
    }
}

fn meanings() -> [(i32, Power); 6] {
    [
        (libc::SIGINT, Power::Reboot),
        (libc::SIGTERM, Power::Off),
        (libc::SIGPWR, Power::Off),
        (real_time(3), Power::Halt),
        (real_time(4), Power::Off),
        (real_time(5), Power::Reboot),
    ]
}

/// Everything that ended; a status is nobody's here.
fn reap() {
    while let Ok(Some(_)) = reap::reap_next() {}
}

/// A shell on the console until it ends (`None`), or a signal asks for the end of the machine.
pub(super) fn rescue_shell() -> Option<Power> {
    let minimal = Minimal::begin();
    let environment = [
        "HOME=/root",
        "TERM=linux",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PS1=nought rescue # ",
    ];
    tracing::warn!("a shell on the console: `exit` goes on");
    let asked = match shell::on_console("/bin/sh", &environment) {
        Ok(pid) => loop {
            if let Some(power) = minimal.turn(TURN) {
                break Some(power);
            }
            // Reaped like everybody else.
            if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
                break None;
            }
        },
        Err(error) => {
            tracing::error!("failed to {error}");
            None
        }
    };
    if asked.is_none()
        && let Err(error) = minimal.over()
    {
        tracing::error!("failed to {error}");
    }
    asked
}
