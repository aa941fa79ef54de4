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
    /// Opens and arms it. It may round `timeout` to what it can do; one longer than its longest
    /// becomes that.
    ///
    /// # Errors
    /// ENOENT: there is none; EBUSY: somebody else has it.
    pub fn open(path: &Path, timeout: Duration) -> Result<Self, SysError> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).map_err(|e| SysError::at("open", path, e))?;
        let wanted = i32::try_from(timeout.as_secs().max(1)).unwrap_or(i32::MAX);
        let set = |seconds| set_timeout(&fd, seconds);
        let seconds = match set(wanted) {
            // Some cannot be told; what theirs is they do not say either.
            Err(Errno::ENOTTY | Errno::EOPNOTSUPP) => Ok(wanted),
            // Longer than it can.
            Err(Errno::EINVAL) => longest(wanted, set),
            other => other,
        };
        let armed = |seconds: i32| Duration::from_secs(u64::try_from(seconds).unwrap_or(1).max(1));
        match seconds {
            Ok(seconds) => Ok(Self {
                fd,
                timeout: armed(seconds),
            }),
            Err(e) => {
                // Open it is armed, and nobody is going to pet it.
                Self { fd, timeout }.disarm();
                Err(SysError::at("set the timeout of", path, e))
            }
        }
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

/// Sets the timeout; what it is now, in seconds.
fn set_timeout(fd: &OwnedFd, mut seconds: i32) -> Result<i32, Errno> {
    // SAFETY: the descriptor is open and `seconds` is valid for reads and writes.
    unsafe { request::set_timeout(fd.as_raw_fd(), &raw mut seconds) }.map(|_| seconds)
}

/// The longest timeout below `refused` that `set` takes, set last: no request asks for it.
fn longest(refused: i32, set: impl Fn(i32) -> Result<i32, Errno>) -> Result<i32, Errno> {
    let (mut taken, mut refused) = (0, refused);
    while refused - taken > 1 {
        let middle = taken + (refused - taken) / 2;
        match set(middle) {
            Ok(_) => taken = middle,
            Err(Errno::EINVAL) => refused = middle,
            Err(other) => return Err(other),
        }
    }
    set(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_that_the_hardware_takes_is_found() {
        for longest_of_it in [1, 2, 63, 65_535, i32::MAX - 1] {
            let set = |seconds| match seconds {
                0 => Err(Errno::EINVAL),
                seconds if seconds > longest_of_it => Err(Errno::EINVAL),
                seconds => Ok(seconds),
            };
            assert_eq!(longest(i32::MAX, set), Ok(longest_of_it));
        }
        assert_eq!(longest(60, |_| Err(Errno::EINVAL)), Err(Errno::EINVAL));
        assert_eq!(longest(60, |_| Err(Errno::EIO)), Err(Errno::EIO));
    }
}
