//! What a service says of itself, as sd_notify(3) sends it: datagrams to the socket that
//! `NOTIFY_SOCKET` names.
//!
//! The socket is abstract (unix(7)): it leaves nothing in a file system, and a service reaches it
//! from any root directory and as any user. Anybody in our network namespace may send to it, so
//! each message comes with the credentials that the kernel vouches for, and whose process that is
//! is for the reader to find out.
#![expect(
    unsafe_code,
    reason = "descriptors that a message carries come as numbers"
)]

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials,
    bind, getsockname, recvmsg, setsockopt, socket, sockopt,
};

use super::SysError;

/// A message is not longer than this: more than sd_notify(3) users send.
const MESSAGE_MOST: usize = 4096;
/// Descriptors that a message may carry and that are closed again (SCM_MAX_FD, unix(7)).
const DESCRIPTORS_MOST: usize = 253;

/// One message.
#[derive(Debug)]
pub struct Said {
    /// Who sent it, as seen from here; 0: somebody outside our pid namespace.
    pub pid: u32,
    /// The real user id that it was sent with, as seen from here.
    pub uid: u32,
    /// Its text; what is no UTF-8 is replaced.
    pub text: String,
    /// Descriptors that came with it. The sender of a `BARRIER=1` waits until they are closed.
    pub descriptors: Vec<OwnedFd>,
}

/// The socket; non-blocking, close-on-exec.
#[derive(Debug)]
pub struct NotifySocket {
    fd: OwnedFd,
}

impl NotifySocket {
    /// Binds an abstract address that the kernel finds (autobind, unix(7)), so that nobody can
    /// have taken it before; also returns it, as `NOTIFY_SOCKET` has it.
    ///
    /// # Errors
    /// EMFILE and the like.
    pub fn bind() -> Result<(Self, String), SysError> {
        let failed = |e| SysError::new("listen for notices on", "a socket", e);
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None).map_err(failed)?;
        setsockopt(&fd, sockopt::PassCred, &true).map_err(failed)?;
        bind(fd.as_raw_fd(), &UnixAddr::new_unnamed()).map_err(failed)?;
        let address: UnixAddr = getsockname(fd.as_raw_fd()).map_err(failed)?;
        let name = address.as_abstract().unwrap_or_default();
        let name = format!("@{}", String::from_utf8_lossy(name));
        Ok((Self { fd }, name))
    }

    /// The next message that waits; `None`: none does. One without credentials is dropped.
    pub fn receive(&self) -> Result<Option<Said>, SysError> {
        let mut buffer = [0; MESSAGE_MOST];
        let mut space = nix::cmsg_space!(UnixCredentials, [RawFd; DESCRIPTORS_MOST]);
        loop {
            let mut pieces = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
            let fd = self.fd.as_raw_fd();
            let message = match recvmsg::<()>(fd, &mut pieces, Some(&mut space), flags) {
                Ok(message) => message,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => continue,
                Err(e) => return Err(SysError::new("read", "a notice", e)),
            };
            let (mut sender, mut descriptors) = (None, Vec::new());
            let length = message.bytes;
            for control in message.cmsgs().into_iter().flatten() {
                match control {
                    ControlMessageOwned::ScmCredentials(who) => sender = Some(who),
                    ControlMessageOwned::ScmRights(fds) => {
                        // SAFETY: the kernel has just made these for us; nobody else knows them.
                        descriptors.extend(
                            fds.into_iter()
                                .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                        );
                    }
                    _ => {}
                }
            }
            let Some(sender) = sender else { continue };
            let text = buffer.get(..length).unwrap_or_default();
            return Ok(Some(Said {
                pid: u32::try_from(sender.pid()).unwrap_or(0),
                uid: sender.uid(),
                text: String::from_utf8_lossy(text).into_owned(),
                descriptors,
            }));
        }
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for NotifySocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
