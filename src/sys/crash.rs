//! When process 1 itself breaks: a signal that would end it would panic the kernel.
//!
//! For SIGSEGV and its like the kernel spares process 1 nothing. A handler that never returns
//! keeps it alive instead: it reaps, and it can end the machine when a signal asks for that, with
//! system calls alone: whatever memory or lock is broken, it touches none.
#![expect(unsafe_code, reason = "signal handlers and what may be called in one")]

use std::sync::atomic::{AtomicU32, Ordering};

use libc::{c_int, c_void};
use nix::errno::Errno;

use super::power::{Machine, Power};
use super::{SysError, last_resort};

const FATAL: [c_int; 5] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
];

/// How long processes have to end when they are asked to, and when they are killed: tenths of a
/// second.
const ASKED_TENTHS: u32 = 50;
const KILLED_TENTHS: u32 = 20;

/// Installs the handlers. What a thread other than the first breaks parks that thread.
pub fn keep_alive(_: Machine) -> Result<(), SysError> {
    for signal in FATAL {
        // SAFETY: the action is plain data, fully set; the handler is async-signal-safe.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = broken as extern "C" fn(c_int) as usize;
            // On the alternative stack that std gives each thread: the stack may be what broke.
            action.sa_flags = libc::SA_ONSTACK;
            libc::sigfillset(&raw mut action.sa_mask);
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        Errno::result(result)
            .map_err(|e| SysError::new("install the handler for", format!("signal {signal}"), e))?;
    }
    Ok(())
}

/// Says `text` on standard error and in the kernel's log.
fn say(text: &[u8]) {
    // SAFETY: raw system calls on a buffer that outlives them.
    unsafe {
        libc::write(2, text.as_ptr().cast::<c_void>(), text.len());
        let kmsg = libc::open(c"/dev/kmsg".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if kmsg >= 0 {
            libc::write(kmsg, text.as_ptr().cast::<c_void>(), text.len());
            libc::close(kmsg);
        }
    }
}

extern "C" fn broken(_: c_int) {
    /// Who was here first: the loop must not be entered twice.
    static ENTERED: AtomicU32 = AtomicU32::new(0);
    // SAFETY: gettid takes nothing.
    let first_thread = unsafe { libc::syscall(libc::SYS_gettid) } == 1;
    if !first_thread || ENTERED.fetch_add(1, Ordering::SeqCst) > 0 {
        say(b"nought: ERROR a thread of process 1 is broken and stands still from now on\n");
        loop {
            // SAFETY: waits for ever.
            unsafe { libc::pause() };
        }
    }
    say(
        b"nought: ERROR process 1 is broken: services run on, nobody supervises them; SIGINT or \
          `nought reboot` reboots, `nought poweroff` powers off\n",
    );
    close_to_clients();
    minimal()
}

/// Nobody answers here any more: a client that connects is refused, and one that waits hears of
/// it, instead of waiting in vain. The descriptors stay: other threads may be using them.
fn close_to_clients() {
    /// Descriptors are given out from the lowest; more than this are not looked at.
    const HIGHEST: c_int = 65_536;
    // SAFETY: raw system calls on numbers; a number that is no socket is refused. After its
    // shutdown a listener gives out who is in its queue, and then fails, never blocking.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        let known = libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0;
        let end = c_int::try_from(limit.rlim_cur).unwrap_or(HIGHEST);
        for fd in 3..if known { end.min(HIGHEST) } else { HIGHEST } {
            if libc::shutdown(fd, libc::SHUT_RDWR) < 0 {
                continue;
            }
            let none = std::ptr::null_mut();
            loop {
                let queued = libc::accept(fd, none, std::ptr::null_mut());
                if queued < 0 {
                    break;
                }
                libc::close(queued);
            }
        }
    }
}

/// Reaps until a signal asks for the end.
fn minimal() -> ! {
    let asks = [
        (libc::SIGINT, Power::Reboot),
        (libc::SIGTERM, Power::Off),
        (libc::SIGPWR, Power::Off),
        (libc::SIGRTMIN() + 3, Power::Halt),
        (libc::SIGRTMIN() + 4, Power::Off),
        (libc::SIGRTMIN() + 5, Power::Reboot),
    ];
    // SAFETY: a set of plain bits, filled by the calls made for it, then waited for.
    let set = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        for (signal, _) in asks {
            libc::sigaddset(&raw mut set, signal);
        }
        set
    };
    loop {
        // SAFETY: the set is valid for reads; no information is asked for. Every signal is
        // blocked in a handler with a full mask, and in all other threads.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
        if signal == libc::SIGCHLD {
            reap();
        }
        if let Some((_, power)) = asks.into_iter().find(|(ask, _)| *ask == signal) {
            end(power);
        }
    }
}

/// Whether there are children yet.
fn reap() -> bool {
    loop {
        // SAFETY: no status is asked for.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG | libc::__WALL) } {
            0 => return true,
            pid if pid < 0 => return false,
            _ => {}
        }
    }
}

/// Everybody asked, killed; everything written out; the end.
fn end(power: Power) {
    say(b"nought: ERROR ending the machine without its supervisor\n");
    last_resort::arm(super::clock::boot_now() + 60_000_000_000, power);
    // SAFETY: raw system calls on numbers and static strings.
    unsafe {
        libc::kill(-1, libc::SIGTERM);
        libc::kill(-1, libc::SIGCONT);
        await_children(ASKED_TENTHS);
        libc::kill(-1, libc::SIGKILL);
        await_children(KILLED_TENTHS);
        libc::sync();
        let flags = libc::MS_REMOUNT | libc::MS_RDONLY;
        let none = std::ptr::null();
        libc::mount(none, c"/".as_ptr(), none, flags, none.cast::<c_void>());
        last_resort::reboot_is_called();
        let refused = nix::sys::reboot::reboot(power.mode());
        let _ = refused;
        // Kexec without a kernel, say.
        let _ = nix::sys::reboot::reboot(Power::Reboot.mode());
    }
}

fn await_children(tenths: u32) {
    for _ in 0..tenths {
        if !reap() {
            return;
        }
        let pause = libc::timespec {
            tv_sec: 0,
            tv_nsec: 100_000_000,
        };
        // SAFETY: the duration is valid for reads.
        unsafe { libc::nanosleep(&raw const pause, std::ptr::null_mut()) };
    }
}
