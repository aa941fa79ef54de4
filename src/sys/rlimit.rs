//! Resource limits. The supervisor raises its own on open files; its children get the old one
//! back, or what their service's file says.

use std::os::fd::AsFd;
use std::path::Path;

pub use nix::sys::resource::Resource;
use nix::sys::resource::{getrlimit, setrlimit};

use super::SysError;

/// RLIMIT_NOFILE as getrlimit(2) gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFiles {
    /// The limit in force.
    pub soft: u64,
    /// How far an ordinary user may raise `soft`.
    pub hard: u64,
}

/// A limit to start a process with, as in setrlimit(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is limited.
    pub resource: Resource,
    /// The limit in force; [`UNLIMITED`] for none.
    pub soft: u64,
    /// How far an ordinary user may raise `soft`.
    pub hard: u64,
}

/// No limit.
pub const UNLIMITED: u64 = libc::RLIM_INFINITY;

/// The limit in force now.
pub fn open_files() -> Result<OpenFiles, SysError> {
    getrlimit(Resource::RLIMIT_NOFILE)
        .map(|(soft, hard)| OpenFiles { soft, hard })
        .map_err(|e| SysError::new("read the limit on", "open files", e))
}

/// Raises our soft limit to the hard one and returns what it was, for the children: programs
/// that use select(2) break with descriptors above 1023, so only those that ask get more.
pub fn raise_open_files() -> Result<OpenFiles, SysError> {
    let old = open_files()?;
    if old.soft < old.hard {
        setrlimit(Resource::RLIMIT_NOFILE, old.hard, old.hard)
            .map_err(|e| SysError::new("raise the limit on", "open files", e))?;
    }
    Ok(old)
}

/// Descriptors that a start leaves free for what the stops of everything that runs may need.
const SPARE: u64 = 24;

/// Whether so many descriptors are free that one more start keeps nothing else from being done.
/// Found by taking them for a moment: some 5 µs.
///
/// # Errors
/// EMFILE when they are not.
pub fn room_for_a_start() -> Result<(), SysError> {
    let spare = open_files().map_or(SPARE, |limit| SPARE.min(limit.soft / 4));
    // Not stdin(), which allocates a buffer.
    let any = std::io::stderr();
    let mut taken = Vec::new();
    for _ in 0..spare {
        let copy = any.as_fd().try_clone_to_owned();
        let stops = Path::new("descriptors for stops");
        taken.push(copy.map_err(|e| SysError::io("start it and keep enough", stops, &e))?);
    }
    Ok(())
}
