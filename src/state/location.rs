//! Where the state directory is when nobody says.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::StateError;

/// The state directory of the supervisor that serves `socket`: `/run/nought/<hash>` for root,
/// `<runtime_dir>/nought/<hash>` for others, where `runtime_dir` is `$XDG_RUNTIME_DIR`.
///
/// The hash is of the socket's real path (its directory with symlinks resolved, and its name),
/// so that every way of naming one socket leads to one directory, and one lock.
///
/// # Errors
/// When the socket's directory does not exist (make it first), or an ordinary user has no
/// absolute `runtime_dir`.
pub fn default_path(
    socket: &Path,
    euid: u32,
    runtime_dir: Option<&OsStr>,
) -> Result<PathBuf, StateError> {
    let root = match runtime_dir.map(Path::new) {
        _ if euid == 0 => Path::new("/run"),
        Some(dir) if dir.is_absolute() => dir,
        _ => return Err(StateError::NoDefault),
    };
    let directory = match socket.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut real = directory
        .canonicalize()
        .map_err(StateError::io("resolve the socket's directory", directory))?;
    real.push(socket.file_name().unwrap_or_default());
    let hash = fnv1a(real.as_os_str().as_bytes());
    Ok(root.join("nought").join(format!("{hash:016x}")))
}

/// FNV-1a with 64 bits (Fowler, Noll, Vo: draft-eastlake-fnv). Std's hashers promise no stable
/// result from one release to the next, and an upgraded supervisor has to find its predecessor.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv1a() {
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv1a(text.as_bytes()), hash, "{text}");
        }
    }
}
