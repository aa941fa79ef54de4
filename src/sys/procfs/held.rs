//! The one /proc that is read from beginning to end.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::Proc;
use crate::sys::SysError;

/// /proc as it was when it was first opened.
static HELD: Mutex<Option<OwnedFd>> = Mutex::new(None);

impl Proc {
    /// /proc, the same file system each time: whoever is root in our mount namespace may mount
    /// another pid namespace's over it, which would hide everybody.
    pub fn open() -> Result<Self, SysError> {
        let failed = |e| SysError::new("open", "/proc", e);
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        // A file description of its own: the place in a listing is a description's.
        let open_anew = |dir: &OwnedFd| openat(dir, ".", flags, Mode::empty()).map_err(failed);
        if let Some(held) = held.as_ref() {
            return Ok(Self {
                dir: open_anew(held)?,
            });
        }
        let dir = open("/proc", flags, Mode::empty()).map_err(failed)?;
        // Before it is mounted there may be an empty directory, which is nothing to hold on to.
        let mounted = fstatfs(&dir).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC);
        if mounted {
            *held = Some(open_anew(&dir)?);
        }
        Ok(Self { dir })
    }
}

/// In a copy of ourselves that closes its descriptors: the one on /proc is gone with them.
pub(in crate::sys) fn forget_held() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Closed already, or about to be; its number may be another file's.
    std::mem::forget(held);
}
