//! A note on a cgroup: an extended attribute of its directory (cgroup2 has had them for users
//! since Linux 5.7), which goes when the cgroup goes.
#![expect(unsafe_code, reason = "nix has no extended attributes")]

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::SysError;

/// Which note: each has an attribute of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// Who was born in it.
    Birth,
    /// Which controllers we had it give to those below it.
    Controllers,
}

impl Note {
    fn attribute(self) -> &'static CStr {
        match self {
            Self::Birth => c"user.nought",
            Self::Controllers => c"user.nought.controllers",
        }
    }
}

/// Notes longer than this are neither written nor read.
pub const NOTE_BOUND: usize = 1024;

/// Puts a note on the cgroup, in the place of the one that is there.
pub fn write(cgroup: &Path, which: Note, note: &str) -> Result<(), SysError> {
    let failed = |e| SysError::at("put a note on the cgroup", cgroup, e);
    let path = CString::new(cgroup.as_os_str().as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
    let bytes = note.as_bytes();
    if bytes.len() > NOTE_BOUND {
        return Err(failed(Errno::E2BIG));
    }
    // SAFETY: two strings that end with NUL, and as many readable bytes as are said.
    let done = unsafe {
        libc::setxattr(
            path.as_ptr(),
            which.attribute().as_ptr(),
            bytes.as_ptr().cast(),
            bytes.len(),
            0,
        )
    };
    Errno::result(done).map(drop).map_err(failed)
}

/// The note on the cgroup, if there is one that can be read.
pub fn read(cgroup: &Path, which: Note) -> Option<String> {
    let path = CString::new(cgroup.as_os_str().as_bytes()).ok()?;
    let mut bytes = [0_u8; NOTE_BOUND];
    // SAFETY: two strings that end with NUL, and as many writable bytes as are said.
    let length = unsafe {
        libc::getxattr(
            path.as_ptr(),
            which.attribute().as_ptr(),
            bytes.as_mut_ptr().cast(),
            bytes.len(),
        )
    };
    let length = usize::try_from(length).ok()?;
    String::from_utf8(bytes.get(..length)?.to_vec()).ok()
}
