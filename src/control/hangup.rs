//! Whether a client is there at all, however long it says nothing.

use std::os::fd::{AsFd as _, BorrowedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::net::UnixStream;

use crate::sys::readiness;

/// Waits until the client has closed its socket altogether. One that closed its writing end
/// alone has not: only the former is POLLHUP (poll(2)).
pub(super) async fn hung_up(stream: &UnixStream) {
    if is_hung_up(stream.as_fd()) {
        return;
    }
    // A descriptor of its own: on the connection's own one, readiness to write is the writer's.
    let watched = stream
        .as_fd()
        .try_clone_to_owned()
        .and_then(readiness::writable);
    let Ok(watched) = watched else {
        // No descriptor is left: it goes when somebody needs its place.
        return std::future::pending().await;
    };
    while let Ok(mut guard) = watched.writable().await {
        if is_hung_up(watched.as_fd()) {
            return;
        }
        guard.clear_ready();
    }
}

fn is_hung_up(fd: BorrowedFd<'_>) -> bool {
    // POLLHUP is always reported.
    let mut polled = [PollFd::new(fd, PollFlags::empty())];
    let hung_up = |polled: &[PollFd<'_>]| {
        let found = polled.first().and_then(PollFd::revents);
        found.is_some_and(|found| found.contains(PollFlags::POLLHUP))
    };
    poll(&mut polled, PollTimeout::ZERO).is_ok() && hung_up(&polled)
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::unix::net::UnixStream as StdStream;
    use std::time::Duration;

    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_closed_writing_end_is_no_hangup() {
        let (client, ours) = StdStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let soon = Duration::from_millis(50);
        let early = tokio::time::timeout(soon, hung_up(&ours)).await;
        assert!(early.is_err(), "it may still read");
        let watch = tokio::spawn(async move { hung_up(&ours).await });
        tokio::task::yield_now().await;
        drop(client);
        let bound = Duration::from_secs(10);
        tokio::time::timeout(bound, watch).await.unwrap().unwrap();
    }
}
