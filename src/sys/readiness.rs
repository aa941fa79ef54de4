//! Descriptors that the event loop watches (epoll(7), through tokio).
#![expect(unsafe_code, reason = "tokio's registration takes raw descriptors")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Has the current tokio runtime watch `descriptor` for reading.
///
/// # Errors
/// When there is no runtime, or epoll refuses (ENOSPC, ENOMEM, EPERM for what cannot be polled).
pub fn readable<T: AsFd + AsRawFd + 'static>(descriptor: T) -> io::Result<AsyncFd<T>> {
    watched(descriptor, Interest::READABLE)
}

/// The same for writing, and for the other end's hangup.
///
/// # Errors
/// As those of [`readable`].
pub fn writable<T: AsFd + AsRawFd + 'static>(descriptor: T) -> io::Result<AsyncFd<T>> {
    watched(descriptor, Interest::WRITABLE)
}

fn watched<T: AsFd + AsRawFd + 'static>(
    descriptor: T,
    interest: Interest,
) -> io::Result<AsyncFd<T>> {
    // SAFETY: `AsFd` promises an open descriptor for as long as the value lives, `'static` that
    // nothing it borrows from ends before, and the registration owns the value and is dropped
    // first. `AsRawFd` of the types that are both names the same descriptor.
    let registered = unsafe { AsyncFd::register_with_interest(descriptor, interest) };
    registered.map_err(io::Error::from)
}
