//! A hardware watchdog (/dev/watchdog, watchdog-api.rst): it resets the machine when nobody has
//! written to it for as long as it was told.
#![expect(unsafe_code, reason = "an ioctl without a wrapper")]

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::write;

use super::SysError;

mod request {
    // WDIOC_SETTIMEOUT of <linux/watchdog.h>, seconds in, what was set out.
    nix::ioctl_readwrite!(set_timeout, b'W', 6, i32);
}

/// The watchdog, armed from the moment it is opened. Dropped without [`Self::disarm`] it goes
/// on: nobody petting it any more is what it is there for.
#[derive(Debug)]
pub struct Watchdog {
    fd: OwnedFd,
    timeout: Duration,
}

impl Watchdog {
    /// Opens and arms it. It may round `timeout` to what it can do.
    ///
    /// # Errors
    /// ENOENT: there is none; EBUSY: somebody else has it.
    pub fn open(path: &Path, timeout: Duration) -> Result<Self, SysError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|e| SysError::at("open", path, e))?;
        let mut seconds = i32::try_from(timeout.as_secs().max(1)).unwrap_or(i32::MAX);
        // SAFETY: the descriptor is open and `seconds` is valid for reads and writes.
        match unsafe { request::set_timeout(fd.as_raw_fd(), &raw mut seconds) } {
            // Some cannot be told; what theirs is they do not say either.
            Ok(_) | Err(Errno::ENOTTY | Errno::EOPNOTSUPP) => {}
            Err(e) => return Err(SysError::at("set the timeout of", path, e)),
        }
        let timeout = Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1));
        Ok(Self { fd, timeout })
    }

    /// How long it waits.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Has it wait anew.
    pub fn pet(&self) -> Result<(), SysError> {
        write(&self.fd, b"1")
            .map(drop)
            .map_err(|e| SysError::new("pet", "the watchdog", e))
    }

    /// Stops it when it is closed, unless it was built never to (the magic `V`).
    pub fn disarm(self) {
        // Refused, it resets the machine in its time, which is what it was bought for.
        let _ = write(&self.fd, b"V");
    }
}
