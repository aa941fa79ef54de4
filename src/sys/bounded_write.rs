//! Writing to whoever may not read: what is not taken in time is left out.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::{Mode, SFlag, fstat};

use super::clock;

/// At most so much at a time: a pipe that is ready takes it whole (PIPE_BUF).
const PIECE: usize = 4096;

/// How a descriptor that others share is written to without waiting.
enum Way {
    /// Through a description of our own, which alone is non-blocking.
    Own(OwnedFd),
    Socket,
    /// As it is, when it says that it is ready.
    AsItIs,
}

/// Writes to standard error for at most `bound`; how many bytes were taken. Its description is
/// shared with others, so it is left as it is (O_NONBLOCK would be theirs, too).
pub fn stderr_within(bytes: &[u8], bound: Duration) -> usize {
    let stderr = io::stderr().lock();
    let fd = stderr.as_fd();
    let way = way(fd);
    let until = clock::boot_now().saturating_add(clock::as_nanos(bound));
    let mut done = 0;
    while let Some(piece) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
        let piece = piece.get(..piece.len().min(PIECE)).unwrap_or(piece);
        if matches!(way, Way::AsItIs) && !is_ready(fd, until) {
            break;
        }
        let written = match &way {
            Way::Own(own) => nix::unistd::write(own, piece),
            Way::Socket => send(
                fd.as_raw_fd(),
                piece,
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
            ),
            Way::AsItIs => nix::unistd::write(fd, piece),
        };
        match written {
            Ok(taken) => done += taken,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if is_ready(fd, until) => {}
            Err(_) => break,
        }
    }
    done
}

fn way(fd: BorrowedFd<'_>) -> Way {
    let Ok(stat) = fstat(fd) else {
        return Way::AsItIs;
    };
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    if kind == SFlag::S_IFSOCK {
        return Way::Socket;
    }
    if kind != SFlag::S_IFIFO && kind != SFlag::S_IFCHR {
        // A file has an offset that goes with the description.
        return Way::AsItIs;
    }
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let flags = OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(path.as_str(), flags, Mode::empty()).map_or(Way::AsItIs, Way::Own)
}

/// Waits until it takes something, or the time is over (on CLOCK_BOOTTIME).
fn is_ready(fd: BorrowedFd<'_>, until: u64) -> bool {
    loop {
        let left_ms = until.saturating_sub(clock::boot_now()).div_ceil(1_000_000);
        let timeout = PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLOUT)], timeout) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}

/// A file to be written as a whole, later: found to be writable now.
#[derive(Debug)]
pub struct Target {
    /// What is no regular file is kept open: its reader is there now.
    held: Option<File>,
}

impl Target {
    /// Makes sure that `path` can be written, and leaves it as it is.
    ///
    /// # Errors
    /// The kernel's; ENXIO for a named pipe that nobody reads.
    pub fn check(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_NONBLOCK);
        match options.clone().create_new(true).open(path) {
            Ok(_) => {
                std::fs::remove_file(path)?;
                return Ok(Self { held: None });
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let file = options.open(path)?;
        let held = (!file.metadata()?.is_file()).then_some(file);
        Ok(Self { held })
    }

    /// Writes all of `bytes`, in the place of what a regular file held before.
    ///
    /// # Errors
    /// The kernel's, and when a pipe or socket did not take it all within `bound`.
    pub fn write(&self, path: &Path, bytes: &[u8], bound: Duration) -> io::Result<()> {
        match &self.held {
            Some(file) => all_within(file, bytes, bound),
            None => replace(path, bytes, bound),
        }
    }
}

/// Writes `bytes` to the file at `path`, in the place of what it held, for at most `bound`.
///
/// # Errors
/// As for [`Target::write`].
pub fn replace(path: &Path, bytes: &[u8], bound: Duration) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    let file = options.custom_flags(libc::O_NONBLOCK).open(path)?;
    all_within(&file, bytes, bound)
}

fn all_within(file: &File, bytes: &[u8], bound: Duration) -> io::Result<()> {
    let until = clock::boot_now().saturating_add(clock::as_nanos(bound));
    let mut rest = bytes;
    while !rest.is_empty() {
        match nix::unistd::write(file, rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => rest = rest.get(taken..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if is_ready(file.as_fd(), until) => {}
            Err(Errno::EAGAIN) => {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "whoever reads it did not take it in time",
                ));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nobody_empties_holds_nobody_up() {
        let (reads, writes) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap();
        let file = File::from(writes);
        let bytes = vec![b'x'; 1 << 20];
        let error = all_within(&file, &bytes, Duration::from_millis(10)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(reads);
    }

    #[test]
    fn a_target_is_checked_and_left_as_it_is() {
        let dir = std::env::temp_dir().join(format!("nought-target-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("report");
        let target = Target::check(&path).unwrap();
        assert!(!path.exists());
        target.write(&path, b"one", Duration::ZERO).unwrap();
        Target::check(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        let fifo = dir.join("fifo");
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        let error = Target::check(&fifo).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENXIO));
        assert!(Target::check(&dir.join("none/report")).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
