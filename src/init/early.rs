//! What a machine's process 1 does before anything else: the console first, so that what goes
//! wrong is seen, then the file systems that are missing. Nothing here keeps the boot from going
//! on, and the random number generator is not waited for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use nix::mount::MsFlags;
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{AccessFlags, access};

use crate::sys::SysError;
use crate::sys::early::{self, Wanted};
use crate::sys::power::Machine;

const NOTHING: MsFlags = MsFlags::MS_NOSUID
    .union(MsFlags::MS_NODEV)
    .union(MsFlags::MS_NOEXEC);
const PRIVATE: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

const DEV: Wanted = Wanted {
    at: "/dev",
    fstype: "devtmpfs",
    flags: MsFlags::MS_NOSUID,
    options: "mode=0755",
};

/// After /dev and the console.
const WANTED: &[Wanted] = &[
    wanted("/proc", "proc", NOTHING, ""),
    wanted("/sys", "sysfs", NOTHING, ""),
    wanted(
        "/dev/pts",
        "devpts",
        MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC),
        "gid=5,mode=620,ptmxmode=666",
    ),
    wanted("/dev/shm", "tmpfs", PRIVATE, "mode=1777"),
    wanted("/run", "tmpfs", PRIVATE, "mode=0755"),
    wanted(
        "/sys/fs/cgroup",
        "cgroup2",
        NOTHING,
        "nsdelegate,memory_recursiveprot",
    ),
];

const TMP: Wanted = wanted("/tmp", "tmpfs", PRIVATE, "mode=1777");

const fn wanted(
    at: &'static str,
    fstype: &'static str,
    flags: MsFlags,
    options: &'static str,
) -> Wanted {
    Wanted {
        at,
        fstype,
        flags,
        options,
    }
}

/// Links that programs expect in /dev, and devtmpfs does not make.
const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

/// How many files a process may open if it asks for more than the usual 1024: the kernel's own
/// hard limit of 4096 is too low for databases.
const OPEN_FILES: (u64, u64) = (1024, 524_288);

/// Before the log: /dev and the console, then everything else that is missing. What went wrong.
pub(super) fn prepare(machine: Machine) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut note = |result: Result<(), SysError>| {
        if let Err(error) = result {
            wrong.push(format!("failed to {error}"));
        }
    };
    note(early::mount_missing(machine, &DEV).map(drop));
    note(early::use_console(machine));
    for wanted in WANTED {
        note(early::mount_missing(machine, wanted).map(drop));
    }
    note(temporary(machine));
    for (link, to) in LINKS {
        if !Path::new(link).exists() {
            let made = std::os::unix::fs::symlink(to, link);
            note(made.map_err(|e| SysError::io("make the link", Path::new(link), &e)));
        }
    }
    wrong
}

/// /tmp, where nothing could be written to it: a read-only root, or none of its own.
fn temporary(machine: Machine) -> Result<(), SysError> {
    let tmp = Path::new(TMP.at);
    if access(tmp, AccessFlags::W_OK).is_ok() {
        return Ok(());
    }
    if std::fs::create_dir(tmp).is_ok() {
        let mode = std::fs::Permissions::from_mode(0o1777);
        return std::fs::set_permissions(tmp, mode)
            .map_err(|e| SysError::io("set the mode of", tmp, &e));
    }
    early::mount_missing(machine, &TMP).map(drop)
}

/// With the log: the host's name, the loopback interface, limits.
pub(super) fn settle(machine: Machine) {
    let name = host_name();
    for result in [
        name.map_or(Ok(()), |name| write("/proc/sys/kernel/hostname", &name)),
        early::loopback_up(machine),
        setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES.0, OPEN_FILES.1)
            .map_err(|e| SysError::new("raise the limit on", "open files", e)),
        // Or it would drop our lines when there are many at a time.
        write("/proc/sys/kernel/printk_devkmsg", "on\n"),
    ] {
        if let Err(error) = result {
            tracing::warn!("failed to {error}");
        }
    }
}

fn write(path: &str, text: &str) -> Result<(), SysError> {
    std::fs::write(path, text).map_err(|e| SysError::io("write", Path::new(path), &e))
}

/// The first line of /etc/hostname that is no comment (hostname(5)).
fn host_name() -> Option<String> {
    let text = std::fs::read_to_string("/etc/hostname").ok()?;
    let mut lines = text.lines().map(str::trim);
    lines
        .find(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
}
