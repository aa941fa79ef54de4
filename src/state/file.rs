//! Reading and writing the state directory's files: a few system calls each, no fsync (what
//! is written is worth nothing after a boot).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::StateError;

/// No file of ours comes near this.
const FILE_MAX: u64 = 16 * 1024 * 1024;

const MODE: u32 = 0o600;

/// Whether a file may, must or must not be there already.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    New,
    Present,
    Either,
}

/// Appends `line` and a line feed with one write(2), so that a SIGKILL leaves all of it or
/// nothing. What a full disk took of it is cut off again. Returns the file's new size.
pub(super) fn append(path: &Path, line: &str, expect: Expect) -> Result<u64, StateError> {
    let file = OpenOptions::new()
        .append(true)
        .create(expect == Expect::Either)
        .create_new(expect == Expect::New)
        .mode(MODE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .map_err(StateError::io("open", path))?;
    let before = file
        .metadata()
        .map_err(StateError::io("stat", path))?
        .size();
    let mut bytes = Vec::with_capacity(line.len() + 1);
    bytes.extend_from_slice(line.as_bytes());
    bytes.push(b'\n');
    write_whole(&file, &bytes).map_err(|error| {
        // Best effort: a torn line is recognised when it is read.
        let _ = file.set_len(before);
        StateError::io("write to", path)(error)
    })?;
    Ok(before + bytes.len() as u64)
}

/// Puts `bytes` in the place of `path` at once, by way of `spare`.
pub(super) fn replace(path: &Path, spare: &Path, bytes: &[u8]) -> Result<(), StateError> {
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(MODE)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(spare)
        .and_then(|file| write_whole(&file, bytes))
        .map_err(StateError::io("write", spare))
        .and_then(|()| fs::rename(spare, path).map_err(StateError::io("replace", path)));
    if written.is_err() {
        // Best effort: the next replacement starts it anew.
        let _ = fs::remove_file(spare);
    }
    written
}

fn write_whole(mut file: &File, bytes: &[u8]) -> io::Result<()> {
    loop {
        return match file.write(bytes) {
            Ok(written) if written == bytes.len() => Ok(()),
            Ok(_) => Err(io::ErrorKind::StorageFull.into()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}

/// All of a regular file; `None` when there is none. Never blocks on what somebody put in its
/// place (a fifo), never follows a symlink.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, StateError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StateError::io("open", path)(error)),
    };
    let metadata = file.metadata().map_err(StateError::io("stat", path))?;
    if !metadata.is_file() || metadata.len() > FILE_MAX {
        let what = if metadata.is_file() {
            "larger than anything we write"
        } else {
            "not a regular file"
        };
        return Err(StateError::io("read", path)(io::Error::other(what)));
    }
    let mut bytes = Vec::new();
    file.take(FILE_MAX)
        .read_to_end(&mut bytes)
        .map_err(StateError::io("read", path))?;
    Ok(Some(bytes))
}

/// Removes a file; it is well if there is none.
pub(super) fn remove(path: &Path) -> Result<(), StateError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StateError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}
