//! Directories and links of the kernel's, read without allocating: getdents64(2) without the
//! buffer of opendir(3) and the calls it makes to check what it was given, readlinkat(2) without
//! a buffer for the longest path there can be. A proof lists /proc and reads a link of everyone.
#![expect(
    unsafe_code,
    reason = "nix has neither getdents64 nor readlinkat into a buffer"
)]

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;

/// Names of one call: enough for the processes of a quiet machine.
const BUFFER_BYTES: usize = 8 * 1024;

/// Where the parts of `struct linux_dirent64` are (getdents64(2)): inode, offset, then these.
const LENGTH_AT: usize = 16;
const KIND_AT: usize = 18;
const NAME_AT: usize = 19;

/// Calls `each` with the name and the kind (DT_DIR, …) of everything in an open directory.
pub(super) fn for_each(dir: impl AsFd, mut each: impl FnMut(&[u8], u8)) -> Result<(), Errno> {
    let mut buffer = [0_u8; BUFFER_BYTES];
    loop {
        // SAFETY: the descriptor is open while borrowed, and the kernel writes no more than the
        // length of `buffer`, which lives until after the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_getdents64,
                dir.as_fd().as_raw_fd(),
                buffer.as_mut_ptr(),
                buffer.len(),
            )
        };
        let length = match Errno::result(result) {
            Ok(0) => return Ok(()),
            Ok(length) => usize::try_from(length).unwrap_or(0),
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(e),
        };
        let mut rest = buffer.get(..length).unwrap_or_default();
        while let Some((name, kind, next)) = first(rest) {
            each(name, kind);
            rest = next;
        }
    }
}

/// The first entry's name and kind, and what comes after it.
fn first(entries: &[u8]) -> Option<(&[u8], u8, &[u8])> {
    let length = entries.get(LENGTH_AT..KIND_AT)?.try_into().ok()?;
    let length = usize::from(u16::from_ne_bytes(length));
    let kind = *entries.get(KIND_AT)?;
    let name = entries.get(NAME_AT..length)?;
    let name = name.split(|&b| b == 0).next()?;
    Some((name, kind, entries.get(length..)?))
}

/// Where a link leads, cut to `buffer`. The path is short: EINVAL for more than some 60 bytes.
pub(super) fn read_link<'b>(
    dir: impl AsFd,
    path: &str,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], Errno> {
    let mut name = [0_u8; 64];
    // The last byte stays 0.
    let room = name.get_mut(..path.len()).filter(|room| room.len() < 64);
    room.ok_or(Errno::EINVAL)?.copy_from_slice(path.as_bytes());
    // SAFETY: `name` ends with a NUL byte, the descriptor is open while borrowed, and the kernel
    // writes no more than the length of `buffer`.
    let result = unsafe {
        libc::readlinkat(
            dir.as_fd().as_raw_fd(),
            name.as_ptr().cast(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    let length = usize::try_from(Errno::result(result)?).unwrap_or(0);
    Ok(buffer.get(..length).unwrap_or_default())
}

/// A name that is a number in decimal digits, as pids are.
pub(super) fn number<N: std::str::FromStr>(name: &[u8]) -> Option<N> {
    std::str::from_utf8(name).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_any_size_is_listed_whole() {
        let dir = std::env::temp_dir().join(format!("nought-listing-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        for n in 0..500 {
            std::fs::write(dir.join(format!("a-name-of-some-length-{n}")), "").unwrap();
        }
        std::fs::create_dir(dir.join("7")).unwrap();
        let (mut files, mut dirs) = (0, Vec::new());
        for_each(std::fs::File::open(&dir).unwrap(), |name, kind| {
            if kind == libc::DT_DIR {
                dirs.extend(number::<u32>(name));
            } else {
                files += 1;
            }
        })
        .unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!((files, dirs), (500, vec![7]));
    }

    #[test]
    fn a_link_is_read_and_a_long_path_refused() {
        let own = std::fs::File::open("/proc/self").unwrap();
        let mut buffer = [0; 64];
        let time = read_link(&own, "ns/time", &mut buffer).unwrap();
        let expected = std::fs::read_link("/proc/self/ns/time").unwrap();
        assert_eq!(Some(time), expected.to_str().map(str::as_bytes));
        let cut = read_link(&own, "ns/time", &mut buffer[..4]).unwrap();
        assert_eq!(cut, b"time");
        assert_eq!(read_link(&own, "none", &mut buffer), Err(Errno::ENOENT));
        assert_eq!(
            read_link(&own, &"x".repeat(64), &mut buffer),
            Err(Errno::EINVAL)
        );
    }

    #[test]
    fn nonsense_ends_the_list() {
        assert!(first(&[]).is_none());
        assert!(first(&[0; 30]).is_none());
        assert!(first(&[255; 30]).is_none());
    }
}
