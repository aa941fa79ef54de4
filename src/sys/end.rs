//! What ends a machine, one call each: everybody signalled, swap off, file systems unmounted,
//! block devices taken apart. All of it takes the proof that the machine is ours, and most of it
//! **may hang** on a device or server that does not answer: on a thread of its own, with a bound.
#![expect(unsafe_code, reason = "swapoff(2) and ioctls without a wrapper")]

use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use super::mount::{MountEntry, parse_mountinfo};
use super::power::Machine;
use super::procfs::{Proc, ProcStat};
use super::{SysError, procfs};

/// Sends a signal to every process but us (kill(-1); kernel threads take none). Nobody being
/// there is no failure.
pub fn signal_everyone(_: Machine, signal: Signal) -> Result<(), SysError> {
    match kill(Pid::from_raw(-1), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(e) => Err(SysError::new("signal", "every process", e)),
    }
}

/// Every process that lives, us and kernel threads apart.
pub fn everyone(_: Machine) -> Result<Vec<ProcStat>, SysError> {
    let proc = Proc::open()?;
    let own = std::process::id();
    let mut found = Vec::new();
    for pid in proc.pids()?.into_iter().filter(|pid| *pid != own) {
        if let Some(stat) = proc.stat(pid)?
            && !stat.kernel_thread
            && !stat.is_dead()
        {
            found.push(stat);
        }
    }
    Ok(found)
}

/// Whether a process was sent SIGKILL and has not ended: it can take notice of no other signal.
/// SIGKILL pends for the process (ShdPnd of proc_pid_status(5)) when it was sent to that, and for
/// each of its threads (SigPnd) when cgroup.kill sent it. What cannot be read is not killed.
pub fn is_killed(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let mut pends = threads.map(|thread| {
        let status = procfs::read_file(&thread.ok()?.path().join("status")).ok()?;
        Some(kill_pends(&String::from_utf8_lossy(&status)))
    });
    pends.all(|pends| pends == Some(true))
}

fn kill_pends(status: &str) -> bool {
    let pends = |key: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(key));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & (1 << (libc::SIGKILL - 1)) != 0)
    };
    pends("SigPnd:") || pends("ShdPnd:")
}

/// What is swapped to, as /proc/swaps names it (nothing where there is no such file).
pub fn swaps() -> Vec<PathBuf> {
    let text = procfs::read_file(Path::new("/proc/swaps")).unwrap_or_default();
    String::from_utf8_lossy(&text)
        .lines()
        .skip(1)
        .filter_map(|line| line.split_ascii_whitespace().next())
        .map(|path| path.replace("\\040", " ").into())
        .collect()
}

/// swapoff(2). **Blocks** for as long as it takes to read everything back.
pub fn swap_off(_: Machine, path: &Path) -> Result<(), SysError> {
    let failed = |e| SysError::at("switch off the swap on", path, e);
    let name = CString::new(path.as_os_str().as_bytes()).map_err(|_| failed(Errno::EINVAL))?;
    // SAFETY: a NUL-ended string that lives for the length of the call.
    Errno::result(unsafe { libc::swapoff(name.as_ptr()) })
        .map(drop)
        .map_err(failed)
}

/// Every mount we see, in the order of /proc/self/mountinfo.
pub fn mounts() -> Result<Vec<MountEntry>, SysError> {
    procfs::read_file(Path::new("/proc/self/mountinfo")).map(|text| parse_mountinfo(&text))
}

/// Unmounts what is at `path`; `lazily` (MNT_DETACH): it goes out of sight now and ends when
/// nobody uses it any more.
pub fn unmount(_: Machine, path: &Path, lazily: bool) -> Result<(), SysError> {
    let mut flags = MntFlags::UMOUNT_NOFOLLOW;
    if lazily {
        flags |= MntFlags::MNT_DETACH;
    }
    umount2(path, flags).map_err(|e| SysError::at("unmount", path, e))
}

/// Makes the file system mounted at `path` read-only, which writes everything out. EBUSY:
/// somebody has a file open for writing, or one that is removed already.
pub fn make_read_only(_: Machine, path: &Path) -> Result<(), SysError> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
        .map_err(|e| SysError::at("make read-only", path, e))
}

/// Freezes the file system at `path` (FIFREEZE): everything is written out, its journal needs no
/// recovery, and writers wait for ever from then on.
pub fn freeze(_: Machine, path: &Path) -> Result<(), SysError> {
    // _IOWR('X', 119, int) of <linux/fs.h>.
    const FIFREEZE: libc::c_ulong = 0xC004_5877;
    let failed = |e| SysError::at("freeze the file system at", path, e);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let dir = open(path, flags, Mode::empty()).map_err(failed)?;
    // SAFETY: the descriptor is open, and the request takes no argument.
    Errno::result(unsafe { libc::ioctl(dir.as_raw_fd(), FIFREEZE as _, 0) })
        .map(drop)
        .map_err(failed)
}

/// A block device that stands on others or on a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stacked {
    /// A loop device (its name, `loop0`) with a file behind it.
    Loop(String),
    /// A device-mapper device, by the name it was given.
    Mapped(String),
}

impl std::fmt::Display for Stacked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Stacked::Loop(name) => f.write_str(name),
            Stacked::Mapped(name) => write!(f, "mapper/{name}"),
        }
    }
}

/// Every loop and device-mapper device in use, as /sys/block lists them.
pub fn stacked() -> Vec<Stacked> {
    let Ok(entries) = std::fs::read_dir("/sys/block") else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let dir = entry.path();
        if dir.join("loop/backing_file").exists() {
            found.push(Stacked::Loop(entry.file_name().to_string_lossy().into()));
        } else if let Ok(name) = std::fs::read_to_string(dir.join("dm/name")) {
            found.push(Stacked::Mapped(name.trim_end().to_owned()));
        }
    }
    found
}

/// Takes a stacked device apart. EBUSY (ENXIO: gone already): something is mounted on it, or
/// stands on it.
pub fn detach(_: Machine, device: &Stacked) -> Result<(), SysError> {
    match device {
        Stacked::Loop(name) => detach_loop(name),
        Stacked::Mapped(name) => remove_mapped(name),
    }
}

fn detach_loop(name: &str) -> Result<(), SysError> {
    // LOOP_CLR_FD of <linux/loop.h>.
    const LOOP_CLR_FD: libc::c_ulong = 0x4C01;
    let path = Path::new("/dev").join(name);
    let failed = |e| SysError::at("detach", &path, e);
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let device = open(&path, flags, Mode::empty()).map_err(failed)?;
    // SAFETY: the descriptor is open, and the request takes no argument.
    match Errno::result(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CLR_FD as _, 0) }) {
        Ok(_) | Err(Errno::ENXIO) => Ok(()),
        Err(e) => Err(failed(e)),
    }
}

/// `struct dm_ioctl` of <linux/dm-ioctl.h>.
#[repr(C)]
struct MapperRequest {
    version: [u32; 3],
    data_size: u32,
    data_start: u32,
    target_count: u32,
    open_count: i32,
    flags: u32,
    event_nr: u32,
    padding: u32,
    device: u64,
    name: [u8; 128],
    uuid: [u8; 129],
    data: [u8; 7],
}

fn remove_mapped(name: &str) -> Result<(), SysError> {
    // _IOWR(0xfd, 4, struct dm_ioctl): DM_DEV_REMOVE.
    const DM_DEV_REMOVE: libc::c_ulong = 0xC138_FD04;
    let failed = |e| SysError::new("remove the device-mapper device", name, e);
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let control = open("/dev/mapper/control", flags, Mode::empty()).map_err(failed)?;
    let size = u32::try_from(size_of::<MapperRequest>()).unwrap_or(0);
    let mut request = MapperRequest {
        version: [4, 0, 0],
        data_size: size,
        data_start: size,
        target_count: 0,
        open_count: 0,
        flags: 0,
        event_nr: 0,
        padding: 0,
        device: 0,
        name: [0; 128],
        uuid: [0; 129],
        data: [0; 7],
    };
    // The last byte stays NUL.
    for (to, from) in request.name.iter_mut().take(127).zip(name.bytes()) {
        *to = from;
    }
    // SAFETY: the descriptor is open, and `request` has the size that the request's number and
    // `data_size` name.
    let done = unsafe { libc::ioctl(control.as_raw_fd(), DM_DEV_REMOVE as _, &raw mut request) };
    match Errno::result(done) {
        Ok(_) | Err(Errno::ENXIO) => Ok(()),
        Err(e) => Err(failed(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_killed, kill_pends};

    #[test]
    fn who_was_killed_is_told_by_what_pends() {
        let status = |thread: &str, process: &str| {
            format!("Name:\tsh\nSigPnd:\t{thread}\nShdPnd:\t{process}\nSigBlk:\t0\n")
        };
        let (none, kill) = ("0000000000000000", "0000000000000100");
        assert!(kill_pends(&status(none, kill)));
        assert!(kill_pends(&status(kill, none)));
        assert!(kill_pends(&status(none, "0000000000004100")));
        assert!(!kill_pends(&status(none, "0000000000004000")));
        assert!(!kill_pends("Name:\tsh\n"));
        assert!(!is_killed(std::process::id()));
    }
}
