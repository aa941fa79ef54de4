//! The kernel layer: one family of system calls per file, and the crate's only unsafe code.
//!
//! It knows paths, pids and descriptors, no services, and imports nothing of the crate. Every
//! function does what it says at once and reports what the kernel answered; who waits, for how
//! long, and on which thread is the caller's decision. What may block says so.
//!
//! ```text
//!  find a place   mount, selftest        end it      kill, signal, pidfd, cgroup (rmdir)
//!  start          spawn (child, exec)    prove it    scan, procfs, inspect, holdings
//!  a job          terminal, signalfd     outlive us  guard, note
//!  limit it       limits
//!  learn of it    reap, notify, clock,   the rest    socket, rlimit, power, usage,
//!                 sd_notify, directory                          namespace, random
//! ```

pub mod accounts;
pub mod await_signal;
pub mod bounded_write;
pub mod cgroup;
pub mod clock;
pub mod crash;
pub mod directory;
pub mod early;
pub mod end;
mod error;
pub mod exit;
pub mod guard;
pub mod heap;
pub mod holdings;
pub mod inspect;
pub mod kill;
pub mod last_resort;
pub mod limits;
pub mod listen;
mod listing;
pub mod mount;
pub mod namespace;
pub mod note;
pub mod notify;
pub mod pidfd;
pub mod power;
pub mod pressure;
pub mod procfs;
pub mod random;
pub mod readiness;
pub mod reap;
pub mod rlimit;
pub mod scan;
pub mod sd_notify;
pub mod selftest;
mod session;
pub mod set_aside;
pub mod shell;
pub mod signal;
pub mod signalfd;
pub mod socket;
pub mod spawn;
pub mod terminal;
#[cfg(all(
    target_env = "gnu",
    not(any(target_feature = "crt-static", nought_shared_unwinder))
))]
mod unwind;
pub mod usage;
pub mod watchdog;

pub use error::SysError;
