//! What /proc says of ourselves, and the kernel where asking it is cheaper.
#![expect(unsafe_code, reason = "nix has no capget")]

use std::path::Path;
use std::sync::OnceLock;

use super::{Proc, read_file};
use crate::sys::usage::ticks_per_second;
use crate::sys::{SysError, clock};

/// The inode number of our pid namespace: pids mean something within one only. A process never
/// leaves the one it was born in (pid_namespaces(7)), so that it is looked at once.
pub fn pid_namespace() -> Result<u64, SysError> {
    static OURS: OnceLock<u64> = OnceLock::new();
    if let Some(ours) = OURS.get() {
        return Ok(*ours);
    }
    let path = Path::new("/proc/self/ns/pid");
    let stat = nix::sys::stat::stat(path).map_err(|e| SysError::at("look at", path, e))?;
    Ok(*OURS.get_or_init(|| stat.st_ino))
}

/// The inode number of the machine's first pid namespace (PROC_PID_INIT_INO,
/// include/linux/proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Whether we are in the machine's first pid namespace, where the kernel's threads are seen.
pub fn sees_kernel_threads() -> bool {
    #[cfg(test)]
    if let Some(seen) = crate::sys::scan::tests::sees_kernel_threads() {
        return seen;
    }
    pid_namespace().is_ok_and(|own| own == FIRST_PID_NAMESPACE)
}

/// Whether a process is in no process group of the machine's first pid namespace: the kernel's
/// threads, and whoever process 1 started before its first setsid(2). Whomever we start makes a group
/// of its own before it executes anything, and all its descendants are in one: setpgid(2) and
/// setsid(2) lead into another group, never out of all. Takes a twentieth of a look at a file.
pub fn has_no_group(pid: u32) -> bool {
    #[cfg(test)]
    if let Some(group) = crate::sys::scan::tests::group(pid) {
        return group == Some(0);
    }
    let pid = i32::try_from(pid).map(nix::unistd::Pid::from_raw);
    pid.is_ok_and(|pid| nix::unistd::getpgid(Some(pid)).is_ok_and(|group| group.as_raw() == 0))
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
    /// `_LINUX_CAPABILITY_VERSION_3` of <linux/capability.h>: 64 bits, in two halves.
    const VERSION: u32 = 0x2008_0522;
    // `struct __user_cap_header_struct`: the version, and whose; 0 means the calling thread.
    let mut header = [VERSION, 0];
    // `struct __user_cap_data_struct`, twice: effective, permitted, inheritable.
    let mut data = [[0_u32; 3]; 2];
    // SAFETY: both are as large as capget(2) has them for this version, and outlive the call.
    let done = unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) };
    let (half, bit) = (capability / 32, capability % 32);
    let half = usize::try_from(half).ok().and_then(|half| data.get(half));
    done == 0 && half.is_some_and(|[effective, ..]| effective >> bit & 1 == 1)
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
