//! Making, checking and locking the directory, and dropping what another boot left in it.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::poll;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::{Remark, StateError, file};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// How often the lock is tried anew when it is not to be had for a passing reason, and the pause
/// between two attempts: a second in all.
const LOCK_ATTEMPTS: usize = 200;
const LOCK_PAUSE_MS: u8 = 5;

/// Makes `path` where there is nothing, and refuses it unless it is a directory that we own and
/// nobody else can write to.
pub(super) fn prepare(path: &Path) -> Result<(), StateError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            return Err(StateError::io("make the directory", path)(error));
        }
        _ => {}
    }
    let metadata = fs::symlink_metadata(path).map_err(StateError::io("stat", path))?;
    let euid = nix::unistd::geteuid().as_raw();
    let why = if metadata.is_symlink() {
        "it is a symlink".into()
    } else if !metadata.is_dir() {
        "it is not a directory".into()
    } else if metadata.uid() != euid {
        format!("user {} owns it, not we (user {euid})", metadata.uid())
    } else if metadata.mode() & 0o022 != 0 {
        format!(
            "others may write to it (mode {:04o})",
            metadata.mode() & 0o7777
        )
    } else {
        return Ok(());
    };
    Err(StateError::Unsafe {
        path: path.into(),
        why,
    })
}

/// Takes the lock, which lasts until the file is closed, and writes our pid into it.
///
/// The lock is flock(2)'s (what std uses on Linux), so a copy of the descriptor keeps it too:
/// std opens with O_CLOEXEC, but a supervisor killed while it spawns leaves a child that has not
/// come to exec(2) or to closing its descriptors. That passes, and is waited for; there is no
/// event to wait on, and nothing else runs yet.
pub(super) fn lock(path: &Path) -> Result<File, StateError> {
    let mut holder = None;
    for _ in 0..LOCK_ATTEMPTS {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(StateError::io("open", path))?;
        match file.try_lock() {
            Ok(()) if is_still(&file, path) => {
                let pid = format!("{}\n", std::process::id());
                // The lock excludes; the pid only explains: a full disk is no reason to fail.
                let _ = file
                    .set_len(0)
                    .and_then(|()| file.write_all(pid.as_bytes()));
                return Ok(file);
            }
            // Somebody put another file in its place.
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                holder = pid_in(&file);
                if !holder.is_some_and(is_gone) {
                    break;
                }
                let _ = poll(&mut [], LOCK_PAUSE_MS);
            }
            Err(TryLockError::Error(error)) => return Err(StateError::io("lock", path)(error)),
        }
    }
    Err(StateError::Busy {
        path: path.into(),
        pid: holder,
        gone: holder.is_some_and(is_gone),
    })
}

/// Whether the process that wrote its pid into the lock cannot be what holds it.
fn is_gone(pid: u32) -> bool {
    let Ok(raw) = i32::try_from(pid) else {
        return true;
    };
    pid == std::process::id() || kill(Pid::from_raw(raw), None) == Err(Errno::ESRCH)
}

fn is_still(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(theirs)) => (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino()),
        _ => false,
    }
}

fn pid_in(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

pub(super) fn boot_id() -> Result<String, StateError> {
    let text = fs::read_to_string(BOOT_ID).map_err(StateError::io("read", BOOT_ID))?;
    Ok(text.trim().into())
}

/// Drops generations and instance unless `boot` names this boot, then lets it do so. In that
/// order: killed in between, the next supervisor does it again.
pub(super) fn drop_other_boot(
    path: &Path,
    boot_id: &str,
    remarks: &mut Vec<Remark>,
) -> Result<(), StateError> {
    let boot = path.join("boot");
    let written = file::read(&boot)?
        .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned())
        .filter(|text| !text.is_empty());
    if written.as_deref() == Some(boot_id) {
        return Ok(());
    }
    let generations = path.join("generations");
    let mut records = 0;
    for entry in fs::read_dir(&generations).map_err(StateError::io("list", &generations))? {
        let entry = entry.map_err(StateError::io("list", &generations))?;
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        file::remove(&entry.path())?;
        records += 1;
    }
    file::remove(&path.join("instance"))?;
    file::remove(&path.join("trees"))?;
    if records > 0 || written.is_some() {
        remarks.push(Remark::OtherBoot {
            records,
            boot_id: written,
        });
    }
    let text = format!("{boot_id}\n");
    if let Err(error) = file::replace(&boot, &path.join("boot.new"), text.as_bytes()) {
        // The lock and the receipts are worth having on a full disk too.
        remarks.push(Remark::BootNotWritten {
            why: error.reason(),
        });
    }
    Ok(())
}
