//! The kernel layer: one family of system calls per file, and the crate's only unsafe code.
//!
//! It knows paths, pids and descriptors, no services, and imports nothing of the crate. Every
//! function does what it says at once and reports what the kernel answered; who waits, for how
//! long, and on which thread is the caller's decision. What may block says so.
//!
//! ```text
//!  find a place   mount, selftest        end it      kill, signal, pidfd, cgroup (rmdir)
//!  start          spawn (child, exec)    prove it    scan, procfs, inspect, namespace
//!  learn of it    reap, notify, clock    the rest    socket, rlimit, power
//! ```

pub mod accounts;
pub mod cgroup;
pub mod clock;
mod error;
pub mod heap;
pub mod inspect;
pub mod kill;
mod listing;
pub mod mount;
pub mod namespace;
pub mod notify;
pub mod pidfd;
pub mod power;
pub mod procfs;
pub mod readiness;
pub mod reap;
pub mod rlimit;
pub mod scan;
pub mod selftest;
pub mod signal;
pub mod socket;
pub mod spawn;

pub use error::SysError;
