//! Accepting clients: who may come in, and how many.

use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::net::{UnixListener, UnixStream};

use super::methods::Context;
use super::places::{Places, Seat};
use super::session;
use crate::sys::socket;

/// How long to leave the listen queue alone when a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who may come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Root, and the user whom the supervisor runs as.
    Owner,
    /// Whoever may open the socket's file: connect(2) needs write permission on it (unix(7)).
    SocketFile,
}

/// Whether a connection is in the queue. accept(2) wants a descriptor before it looks, so that it
/// fails for want of one although nobody came.
fn somebody_waits(listener: &UnixListener) -> bool {
    let mut polled = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Accepts connections until the task is dropped.
///
/// # Errors
/// When the listener cannot be watched.
pub async fn serve(
    listener: StdListener,
    context: Context,
    admission: Admission,
) -> std::io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let places = Places::default();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let seat = places.take();
                tokio::spawn(connection(stream, context.clone(), admission, seat));
            }
            // ECONNABORTED and the like concern that client only; with no descriptors left the
            // connection stays in the queue and would be reported again at once.
            Err(error) => {
                let full = [Errno::EMFILE, Errno::ENFILE].map(|e| Some(e as i32));
                let full = full.contains(&error.raw_os_error());
                if full && !somebody_waits(&listener) {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
                let made_room = full && places.make_room();
                tracing::warn!(
                    "failed to accept a connection: {error}{}",
                    if made_room {
                        "; the longest idle one goes"
                    } else {
                        ""
                    }
                );
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, context: Context, admission: Admission, seat: Seat) {
    match socket::peer(&stream) {
        Ok(peer) if peer.uid == 0 || peer.uid == nix::unistd::geteuid().as_raw() => {}
        Ok(_) if admission == Admission::SocketFile => {}
        Ok(peer) => {
            tracing::warn!(
                "refused a connection of user {}, process {}",
                peer.uid,
                peer.pid
            );
            return;
        }
        Err(error) => {
            tracing::warn!("refused a connection: failed to {error}");
            return;
        }
    }
    session::run(stream, context, seat).await;
}
