//! What /proc says of ourselves.

use std::path::Path;

use super::{Proc, read_file};
use crate::sys::usage::ticks_per_second;
use crate::sys::{SysError, clock};

/// The inode number of our pid namespace: pids mean something within one only.
pub fn pid_namespace() -> Result<u64, SysError> {
    let path = Path::new("/proc/self/ns/pid");
    let stat = nix::sys::stat::stat(path).map_err(|e| SysError::at("look at", path, e))?;
    Ok(stat.st_ino)
}

/// The inode number of our own time namespace.
pub fn own_mark() -> Result<u64, SysError> {
    Proc::open()?.mark_at("self/ns/time")
}

/// The time as start times are given ([`super::ProcId`]): clock ticks after boot.
pub fn ticks_now() -> u64 {
    #[cfg(test)]
    if let Some(now) = crate::sys::scan::tests::now() {
        return now;
    }
    clock::boot_now() / (1_000_000_000 / ticks_per_second().max(1))
}

/// Whether our effective capabilities hold this one (capabilities(7)).
pub fn has_capability(capability: u32) -> bool {
    let status = read_file(Path::new("/proc/self/status")).unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    effective.is_some_and(|set| set >> capability & 1 == 1)
}

/// Where exec put our own arguments and environment, start and end of each: fields 48 to 51 of
/// our stat file.
pub(in crate::sys) fn own_strings() -> Option<[usize; 4]> {
    let text = read_file(Path::new("/proc/self/stat")).ok()?;
    let text = std::str::from_utf8(&text).ok()?;
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    // The first of these is field 3.
    let mut found = fields.by_ref().skip(45).map(str::parse::<usize>);
    Some([
        found.next()?.ok()?,
        found.next()?.ok()?,
        found.next()?.ok()?,
        found.next()?.ok()?,
    ])
}
