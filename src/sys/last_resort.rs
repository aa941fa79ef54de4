//! The last resort: a thread that calls reboot(2) when a shutdown has not come to its end long
//! after it should have.
//!
//! It takes no lock, allocates nothing and opens nothing once it runs, so that nothing another
//! thread holds can keep it from its one duty. Until it is armed it sleeps in poll(2).

use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::reboot::{RebootMode, reboot};
use nix::sys::stat::Mode;
use nix::unistd::write;

use super::power::{Machine, Power};
use super::{SysError, clock, signal};

/// When it acts, in nanoseconds since boot; 0: not armed.
static AT: AtomicU64 = AtomicU64::new(0);
static HOW: AtomicU8 = AtomicU8::new(0);
/// reboot(2) was called elsewhere: should that hang in the kernel, it holds the lock that a
/// second call would wait for.
static CALLED: AtomicBool = AtomicBool::new(false);
static WAKE: OnceLock<EventFd> = OnceLock::new();

/// poll(2) and a few atomics.
const STACK_BYTES: usize = 64 * 1024;

/// Starts the thread. Only once; a second call does nothing.
///
/// # Errors
/// When the thread or its descriptor cannot be had.
pub fn begin(_: Machine) -> Result<(), SysError> {
    let failed = |e| SysError::new("make the descriptor of", "the last resort", e);
    let wake =
        EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).map_err(failed)?;
    if WAKE.set(wake).is_err() {
        return Ok(());
    }
    let open = |path: &str| {
        open(
            path,
            OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOCTTY,
            Mode::empty(),
        )
        .ok()
    };
    let (kmsg, sysrq) = (open("/dev/kmsg"), open("/proc/sysrq-trigger"));
    std::thread::Builder::new()
        .name("nought-last".into())
        .stack_size(STACK_BYTES)
        .spawn(move || keep_watch(kmsg, sysrq))
        .map(drop)
        .map_err(|e| SysError::because("make the thread of", "the last resort", e.to_string()))
}

/// Has it act at `at_nanos` since boot, unless the machine has ended before. Armed again it
/// keeps the earlier moment. Takes no lock and allocates nothing.
pub fn arm(at_nanos: u64, power: Power) {
    HOW.store(code(power), Ordering::SeqCst);
    let earlier = |at: u64| (at == 0 || at > at_nanos).then_some(at_nanos.max(1));
    if AT
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, earlier)
        .is_ok()
        && let Some(wake) = WAKE.get()
    {
        // Only a full counter refuses, and then it is readable all the same.
        let _ = wake.write(1);
    }
}

/// Takes back that it was armed: somebody is at the console and decides.
pub fn disarm() {
    AT.store(0, Ordering::SeqCst);
}

/// How long it still waits; `None`: it is not armed.
pub fn left() -> Option<std::time::Duration> {
    let at = AT.load(Ordering::SeqCst);
    let left = at.saturating_sub(clock::boot_now());
    (at != 0).then(|| std::time::Duration::from_nanos(left))
}

/// Says that reboot(2) is about to be called: should it not return, the kernel is told by
/// other means.
pub fn reboot_is_called() {
    CALLED.store(true, Ordering::SeqCst);
}

fn code(power: Power) -> u8 {
    match power {
        Power::Off => 0,
        Power::Reboot | Power::Kexec => 1,
        Power::Halt => 2,
    }
}

fn keep_watch(kmsg: Option<OwnedFd>, sysrq: Option<OwnedFd>) {
    // What fails here costs a wake-up and nothing else.
    let _ = signal::block_all();
    let Some(wake) = WAKE.get() else { return };
    loop {
        let at = AT.load(Ordering::SeqCst);
        let now = clock::boot_now();
        if at != 0 && now >= at {
            act(kmsg.as_ref(), sysrq.as_ref());
        }
        let wait = match at {
            0 => PollTimeout::NONE,
            // It may have failed: once a second from then on.
            at => PollTimeout::try_from((at.saturating_sub(now) / 1_000_000).clamp(1, 1000))
                .unwrap_or(PollTimeout::MAX),
        };
        let mut fds = [PollFd::new(wake.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, wait).is_ok_and(|ready| ready > 0) {
            let _ = wake.read();
        }
    }
}

fn act(kmsg: Option<&OwnedFd>, sysrq: Option<&OwnedFd>) {
    let (mode, key, line): (RebootMode, &[u8], &[u8]) = match HOW.load(Ordering::SeqCst) {
        0 => (
            RebootMode::RB_POWER_OFF,
            b"o",
            b"<2>nought: the shutdown is long over its time: last resort: power off\n",
        ),
        1 => (
            RebootMode::RB_AUTOBOOT,
            b"b",
            b"<2>nought: the shutdown is long over its time: last resort: reboot\n",
        ),
        _ => (
            RebootMode::RB_HALT_SYSTEM,
            b"b",
            b"<2>nought: the shutdown is long over its time: last resort: halt\n",
        ),
    };
    if let Some(kmsg) = kmsg {
        let _ = write(kmsg, line);
    }
    if !CALLED.load(Ordering::SeqCst) {
        // Only process 1 has this thread.
        let refused: Result<_, Errno> = reboot(mode);
        let _ = refused;
    }
    // It was called before and hangs, or it was refused: this takes no lock of the kernel's.
    if let Some(sysrq) = sysrq {
        let _ = write(sysrq, key);
    }
}
