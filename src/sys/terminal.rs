//! The controlling terminal and whose its foreground is (credentials(7), termios(3)).

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Pid, getpgrp, getpid, getppid, getsid, tcgetpgrp, tcsetpgrp};

use super::SysError;

/// Our controlling terminal.
#[derive(Debug)]
pub struct Terminal {
    fd: OwnedFd,
}

impl Terminal {
    /// Opens it; `None` when we have none (ENXIO), or may not open it.
    pub fn open() -> Option<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
        let fd = open("/dev/tty", flags, Mode::empty()).ok()?;
        Some(Self { fd })
    }

    /// Whether process group `group` has the foreground.
    pub fn is_foreground(&self, group: u32) -> bool {
        tcgetpgrp(&self.fd).is_ok_and(|front| front.as_raw().unsigned_abs() == group)
    }

    /// Whether our own process group has it.
    pub fn is_ours(&self) -> bool {
        tcgetpgrp(&self.fd).is_ok_and(|front| front == getpgrp())
    }

    /// Whether it was hung up (EIO), or is not ours any more (ENOTTY).
    pub fn is_gone(&self) -> bool {
        tcgetpgrp(&self.fd).is_err()
    }

    /// Gives the foreground to `group`. From the background this sends SIGTTOU to our group
    /// unless that is blocked. EPERM: the group is not of this session; EIO: hung up.
    pub fn give_to(&self, group: u32) -> Result<(), SysError> {
        let pid = Pid::from_raw(i32::try_from(group).unwrap_or(-1));
        tcsetpgrp(&self.fd, pid)
            .map_err(|e| SysError::new("give the terminal to", format!("process group {group}"), e))
    }

    /// Takes the foreground for our own group.
    pub fn take(&self) -> Result<(), SysError> {
        self.give_to(getpgrp().as_raw().unsigned_abs())
    }

    /// A descriptor of it for a child.
    pub fn try_clone(&self) -> Option<OwnedFd> {
        self.fd.try_clone().ok()
    }
}

/// Whether a shell has put us between others, or at one end of them: our standard input or output is
/// a pipe (ksh's are sockets). Some of those may want the terminal (`| less`).
pub fn in_pipeline() -> bool {
    let pipes = |fd: BorrowedFd<'_>| {
        let kind = fstat(fd).map(|found| SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT);
        kind == Ok(SFlag::S_IFIFO) || kind == Ok(SFlag::S_IFSOCK)
    };
    pipes(std::io::stdin().as_fd()) || pipes(std::io::stdout().as_fd())
}

/// Whether nobody could ever continue our process group if it stopped: its leader's parent is in
/// another session (or we lead the session). The kernel lets no terminal stop such a group
/// ("orphaned", setpgid(2)).
pub fn is_orphaned() -> bool {
    let own = getsid(None);
    if own == Ok(getpid()) {
        return true;
    }
    match getsid(Some(getppid())) {
        Ok(parents) => own != Ok(parents),
        Err(Errno::ESRCH | Errno::EPERM) => true,
        Err(_) => false,
    }
}
