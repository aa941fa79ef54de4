//! Waiting for changes in a directory (inotify(7)).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use inotify::{EventMask, Inotify, WatchMask};
use nix::errno::Errno;

use super::SysError;

/// One watched directory. Readable (poll, epoll) when something of it changed; non-blocking and
/// close-on-exec.
#[derive(Debug)]
pub struct Directory {
    inotify: Inotify,
}

/// What had happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// Nothing.
    Nothing,
    /// A file came, went, or was written; or so much did that nobody counted.
    Changed,
    /// The directory itself is gone, or another is in its place: nothing more will be heard.
    Gone,
}

impl Directory {
    /// Watches the directory at `path`; it may be a symbolic link.
    ///
    /// # Errors
    /// ENOENT, ENOTDIR, EACCES; EMFILE and ENOSPC name the limit.
    pub fn watch(path: &Path) -> Result<Self, SysError> {
        let failed = |e: std::io::Error| {
            SysError::io("watch", path, &e)
                .limited_by(
                    Errno::EMFILE,
                    "fs.inotify.max_user_instances or RLIMIT_NOFILE",
                )
                .limited_by(Errno::ENOSPC, "fs.inotify.max_user_watches")
        };
        let inotify = Inotify::init().map_err(failed)?;
        let mask = WatchMask::CREATE
            | WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        inotify.watches().add(path, mask).map_err(failed)?;
        Ok(Self { inotify })
    }

    /// Takes everything that has arrived; never blocks.
    pub fn drain(&mut self) -> Result<Happened, SysError> {
        let mut happened = Happened::Nothing;
        let mut buffer = [0_u8; 4096];
        loop {
            let events = match self.inotify.read_events(&mut buffer) {
                Ok(events) => events,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(happened),
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(SysError::io("read", Path::new("inotify"), &e)),
            };
            for event in events {
                let own = EventMask::DELETE_SELF
                    | EventMask::MOVE_SELF
                    | EventMask::UNMOUNT
                    | EventMask::IGNORED;
                if event.mask.intersects(own) {
                    happened = Happened::Gone;
                } else if happened == Happened::Nothing {
                    happened = Happened::Changed;
                }
            }
        }
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl AsRawFd for Directory {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_raw_fd()
    }
}
