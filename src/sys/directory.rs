//! Waiting for changes in a directory (inotify(7)).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use inotify::{EventMask, Inotify, WatchMask};

use super::{SysError, notify};

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
        let failed = |e: std::io::Error| notify::limited(SysError::io("watch", path, &e));
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
        let own =
            EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT | EventMask::IGNORED;
        notify::drain(&mut self.inotify, |event| {
            if event.mask.intersects(own) {
                happened = Happened::Gone;
            } else if happened == Happened::Nothing {
                happened = Happened::Changed;
            }
        })?;
        Ok(happened)
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
