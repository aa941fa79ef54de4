//! Asking process 1 itself, by signal, when nothing answers at its socket: a supervisor that
//! broke, or a rescue shell before there is one, can still end the machine.

use std::path::Path;

use nix::sys::stat::stat;

use crate::api::ShutdownKind;
use crate::sys::await_signal::real_time;
use crate::sys::pidfd::PidFd;

/// What process 1 can be asked by signal.
pub(super) struct Ask {
    process: PidFd,
    /// The signal's name.
    pub(super) name: &'static str,
    signal: i32,
}

impl Ask {
    /// Process 1, to be asked for `kind`; `None` when it is not this program, or has no signal
    /// for that.
    pub(super) fn of(kind: ShutdownKind) -> Option<Self> {
        let (name, signal) = match kind {
            ShutdownKind::PowerOff => ("SIGRTMIN+4", real_time(4)),
            ShutdownKind::Reboot => ("SIGRTMIN+5", real_time(5)),
            ShutdownKind::Halt => ("SIGRTMIN+3", real_time(3)),
            ShutdownKind::Kexec => return None,
        };
        let process = PidFd::open(1).ok()??;
        let file = |path| {
            stat(Path::new(path))
                .ok()
                .map(|file| (file.st_dev, file.st_ino))
        };
        let first = file("/proc/1/exe")?;
        (Some(first) == file("/proc/self/exe")).then_some(Self {
            process,
            name,
            signal,
        })
    }

    /// Sends it; whether it went.
    pub(super) fn send(&self) -> bool {
        self.process.send(self.signal).unwrap_or(false)
    }
}

/// Whether a kernel is loaded that kexec could start.
pub(super) fn kernel_is_loaded() -> bool {
    std::fs::read_to_string("/sys/kernel/kexec_loaded").is_ok_and(|text| text.trim() == "1")
}
