//! The one /proc that is read from beginning to end, and through nothing that is mounted in it.
#![expect(
    unsafe_code,
    reason = "neither nix nor std wraps open_tree and mount_setattr"
)]

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

use super::Proc;
use crate::sys::{SysError, listing};

/// /proc as it was when it was first opened.
static HELD: Mutex<Option<Arc<Held>>> = Mutex::new(None);

#[derive(Debug)]
pub(super) struct Held {
    dir: OwnedFd,
    /// Whether it is a mount of our own, over which nobody can mount anything.
    private: bool,
}

const DIR: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_CLOEXEC);

impl Proc {
    /// /proc, the same file system each time: whoever is root in our mount namespace may mount
    /// another pid namespace's over it, which would hide everybody, or anything over the
    /// directory of one process, which would hide that one. So it is a mount of our own that has
    /// no place in any namespace. Where that may not be made, a file behind another mount is an
    /// error that names it.
    pub fn open() -> Result<Self, SysError> {
        let failed = |e| SysError::new("open", "/proc", e);
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.as_ref() {
            return Ok(Self(Arc::clone(held)));
        }
        let dir = open("/proc", DIR, Mode::empty()).map_err(failed)?;
        // Before it is mounted there may be an empty directory, which is nothing to hold on to.
        let mounted = fstatfs(&dir).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC);
        let found = match mounted.then(|| private_copy(&dir)) {
            Some(Ok(dir)) => Held { dir, private: true },
            // Not allowed (EPERM, EINVAL), or not known (ENOSYS).
            _ => Held {
                dir,
                private: false,
            },
        };
        let found = Arc::new(found);
        if mounted {
            *held = Some(Arc::clone(&found));
        }
        Ok(Self(found))
    }

    /// Opens a file below /proc that is behind no other mount. EXDEV: it is.
    pub(super) fn open_at(&self, path: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        let plain = |dir: &OwnedFd, path: &str| openat(dir, path, flags, Mode::empty());
        // What belongs to no process is mounted over for good reasons (lxcfs).
        if self.0.private || !path.contains('/') {
            return plain(&self.0.dir, path);
        }
        // The links in `ns` lead to another file system by themselves.
        let (way, name) = match path.rsplit_once('/') {
            Some((way, name)) if way.ends_with("/ns") => (way, Some(name)),
            _ => (path, None),
        };
        let way_flags = match name {
            Some(_) => OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            None => flags,
        };
        let how = OpenHow::new()
            .flags(way_flags)
            .resolve(ResolveFlag::RESOLVE_NO_XDEV);
        match (openat2(&self.0.dir, way, how), name) {
            (Ok(file), None) => Ok(file),
            (Ok(dir), Some(name)) => plain(&dir, name),
            // Before Linux 5.6, or a seccomp filter.
            (Err(Errno::ENOSYS | Errno::EPERM), _) => plain(&self.0.dir, path),
            (Err(e), _) => Err(e),
        }
    }

    /// Where a link in the directory `ns` of a process leads, cut to `buffer`.
    pub(super) fn read_link<'b>(
        &self,
        path: &str,
        buffer: &'b mut [u8],
    ) -> Result<&'b [u8], Errno> {
        #[cfg(test)]
        if let Some(link) = crate::sys::scan::tests::read(path) {
            let link = link?;
            buffer[..link.len()].copy_from_slice(&link);
            return Ok(&buffer[..link.len()]);
        }
        match path.rsplit_once('/') {
            Some((way, name)) if !self.0.private => {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
                listing::read_link(self.open_at(way, flags)?, name, buffer)
            }
            _ => listing::read_link(&self.0.dir, path, buffer),
        }
    }

    /// The error of a file below /proc that could not be had.
    pub(super) fn failed(doing: &'static str, path: &str, error: Errno) -> SysError {
        let what = super::in_proc(path);
        if error == Errno::EXDEV {
            let why = "something is mounted over it and hides the process: unmount that (see \
                       /proc/self/mountinfo)";
            return SysError::because(doing, what, why);
        }
        SysError::new(doing, what, error)
    }
}

/// A copy of the mount without those that are in it, in no namespace, which learns of no later
/// ones. EPERM: without CAP_SYS_ADMIN. EINVAL: it must hide something, as in a container of a
/// user namespace.
fn private_copy(of: &OwnedFd) -> Result<OwnedFd, Errno> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    let flags =
        OPEN_TREE_CLONE | libc::O_CLOEXEC.unsigned_abs() | libc::AT_EMPTY_PATH.unsigned_abs();
    // SAFETY: a descriptor that is open while borrowed, an empty path that ends with a NUL byte,
    // and flags.
    let result = unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            of.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
        )
    };
    let fd = RawFd::try_from(Errno::result(result)?).unwrap_or(-1);
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    let copy = unsafe { OwnedFd::from_raw_fd(fd) };
    // It would be told what is mounted in a shared /proc.
    let private: [u64; 4] = [0, 0, libc::MS_PRIVATE, 0];
    // SAFETY: as above; `private` is a struct mount_attr of its first version (set, cleared,
    // propagation, user namespace), and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            copy.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            private.as_ptr(),
            size_of_val(&private),
        )
    };
    Errno::result(result)?;
    openat(&copy, ".", DIR, Mode::empty())?;
    Ok(copy)
}

/// In a copy of ourselves that closes its descriptors: the one on /proc is gone with them.
pub(in crate::sys) fn forget_held() {
    let held = HELD.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Closed already, or about to be; its number may be another file's.
    std::mem::forget(held);
}
