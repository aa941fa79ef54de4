//! What a machine's process 1 does first: file systems that are missing, the console, the host
//! name, the loopback interface. Each by itself, each with its own error: none keeps the others
//! from being done.
#![expect(unsafe_code, reason = "ioctls without a wrapper")]

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::sys::stat::{Mode, stat};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

use super::SysError;
use super::power::Machine;

/// A file system that a machine needs.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Where.
    pub at: &'static str,
    /// Its type, also what is given as its source.
    pub fstype: &'static str,
    /// Per-mount flags.
    pub flags: MsFlags,
    /// Options; where the kernel does not know them (EINVAL), none.
    pub options: &'static str,
}

/// Whether something is mounted exactly there: a directory on another device than the one above
/// it, or the same as the one above it (a root).
pub fn is_mount_point(path: &Path) -> bool {
    let above = path.join("..");
    match (stat(path), stat(&above)) {
        (Ok(own), Ok(above)) => own.st_dev != above.st_dev || own.st_ino == above.st_ino,
        _ => false,
    }
}

/// Mounts `wanted` unless something is mounted there; `true` if it was.
///
/// # Errors
/// What mkdir(2) or mount(2) said.
pub fn mount_missing(_: Machine, wanted: &Wanted) -> Result<bool, SysError> {
    let at = Path::new(wanted.at);
    if is_mount_point(at) {
        return Ok(false);
    }
    match nix::unistd::mkdir(at, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => {}
        // On a read-only root it has to be there.
        Err(e) => return Err(SysError::at("make the directory", at, e)),
    }
    let with = |options: Option<&str>| {
        mount(
            Some(wanted.fstype),
            at,
            Some(wanted.fstype),
            wanted.flags,
            options,
        )
    };
    let options = Some(wanted.options).filter(|options| !options.is_empty());
    match with(options) {
        Err(Errno::EINVAL) if options.is_some() => with(None),
        other => other,
    }
    .map(|()| true)
    .map_err(|e| SysError::at("mount a file system at", at, e))
}

/// Opens /dev/console for reading and writing; it does not become our controlling terminal.
pub fn open_console() -> Result<OwnedFd, SysError> {
    let path = Path::new("/dev/console");
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|e| SysError::at("open", path, e))
}

/// Puts the console on standard input, output and error.
pub fn use_console(_: Machine) -> Result<(), SysError> {
    let console = open_console()?;
    let failed = |e| SysError::new("write to", "the console", e);
    dup2_stdin(&console).map_err(failed)?;
    dup2_stdout(&console).map_err(failed)?;
    dup2_stderr(&console).map_err(failed)
}

/// Waits until what was written to the console has left it. **May block** on a terminal that is
/// stopped: on a thread of its own, with a bound.
pub fn drain_console() {
    // What cannot be drained is lost, and nobody could be told.
    let _ = nix::sys::termios::tcdrain(std::io::stdout().as_fd());
}

/// Brings the loopback interface up (netdevice(7)).
pub fn loopback_up(_: Machine) -> Result<(), SysError> {
    let failed = |e| SysError::new("bring up", "the interface lo", e);
    let socket = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )
    .map_err(failed)?;
    // SAFETY: ifreq is plain data for which all zeroes is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    // SAFETY: the descriptor is open, and both calls read and write `request`, which has the
    // size they expect.
    let done = unsafe {
        Errno::result(libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCGIFFLAGS as _,
            &raw mut request,
        ))
        .and_then(|_| {
            request.ifr_ifru.ifru_flags |= libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
            Errno::result(libc::ioctl(
                socket.as_raw_fd(),
                libc::SIOCSIFFLAGS as _,
                &raw mut request,
            ))
        })
    };
    done.map(drop).map_err(failed)
}
