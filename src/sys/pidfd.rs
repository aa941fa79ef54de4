//! pidfds: handles on processes that no reuse of a pid can redirect (pidfd_open(2), Linux 5.3).
#![expect(
    unsafe_code,
    reason = "neither nix nor std's stable part wraps the pidfd calls"
)]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::SysError;

/// A handle on one process. Readable (poll, epoll) once the whole process, all its threads
/// included, has ended; close-on-exec.
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
    /// A process of the simulated kernel instead.
    #[cfg(test)]
    simulated: Option<u64>,
}

/// What PIDFD_GET_INFO tells without a race (Linux 6.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PidInfo {
    /// Its pid in our pid namespace.
    pub pid: u32,
    /// Its parent's pid; 0 when that is outside our pid namespace.
    pub ppid: u32,
    /// The inode number of its cgroup v2 directory, where the kernel could tell.
    pub cgroup_id: Option<u64>,
}

/// `struct pidfd_info` of <linux/pidfd.h>, first version.
#[repr(C)]
#[derive(Default)]
struct RawInfo {
    mask: u64,
    cgroup_id: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    credentials: [u32; 8],
    exit_code: i32,
}

const INFO_PID: u64 = 1;
const INFO_CGROUP: u64 = 4;
/// `_IOWR(0xFF, 11, struct pidfd_info)` at the 64 bytes of its first version.
const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;

impl PidFd {
    /// Opens the process that has `pid` now; `None` when nobody has. The caller checks after
    /// this that it is the one it means.
    pub fn open(pid: u32) -> Result<Option<Self>, SysError> {
        #[cfg(test)]
        if let Some(found) = super::scan::tests::open(pid) {
            return Ok(found.map(Self::simulated));
        }
        // SAFETY: pidfd_open takes two integers.
        let result = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::c_ulong::from(pid), 0) };
        match Errno::result(result) {
            Ok(fd) => {
                let fd = RawFd::try_from(fd).unwrap_or(-1);
                // SAFETY: the kernel has just made this descriptor for us, and nobody else
                // knows it.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                Ok(Some(Self::from_fd(fd)))
            }
            // EINVAL: a thread's id, which is nobody's pid; or 0.
            Err(Errno::ESRCH | Errno::EINVAL) => Ok(None),
            Err(e) => Err(SysError::new(
                "open a handle on",
                format!("process {pid}"),
                e,
            )),
        }
    }

    /// Takes a descriptor that clone3 made.
    pub(super) fn from_fd(fd: OwnedFd) -> Self {
        Self {
            fd,
            #[cfg(test)]
            simulated: None,
        }
    }

    #[cfg(test)]
    fn simulated(key: u64) -> Self {
        let nothing = std::fs::File::open("/dev/null").unwrap();
        Self {
            fd: nothing.into(),
            simulated: Some(key),
        }
    }

    /// Sends a signal; `false` when the process is gone. EPERM: not ours to signal.
    pub fn send(&self, signal: i32) -> Result<bool, SysError> {
        #[cfg(test)]
        if let Some(sent) = self
            .simulated
            .and_then(|key| super::scan::tests::send(key, signal))
        {
            return Ok(sent);
        }
        // SAFETY: a descriptor that we own, an integer, a null siginfo (the kernel fills it as
        // kill(2) would) and no flags.
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.fd.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match Errno::result(result) {
            Ok(_) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(e) => Err(SysError::new("send", format!("signal {signal}"), e)),
        }
    }

    /// Whether the process and all its threads have ended (it may still be unreaped).
    pub fn is_gone(&self) -> bool {
        #[cfg(test)]
        if let Some(gone) = self.simulated.and_then(super::scan::tests::is_gone) {
            return gone;
        }
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Waits up to `wait` (whole milliseconds) for [`Self::is_gone`]. **Blocks** for that.
    pub fn ends_within(&self, wait: Duration) -> bool {
        #[cfg(test)]
        if self.simulated.is_some() {
            return self.is_gone();
        }
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(wait.as_millis()).unwrap_or(PollTimeout::MAX);
        poll(&mut fds, timeout).is_ok_and(|ready| ready > 0)
    }

    /// Asks the kernel about the process. `None`: it is gone, or the kernel is older than 6.13.
    pub fn info(&self) -> Option<PidInfo> {
        let mut raw = RawInfo {
            mask: INFO_PID | INFO_CGROUP,
            ..RawInfo::default()
        };
        // SAFETY: `raw` has the size the request's number names and is valid for writes.
        let result = unsafe { libc::ioctl(self.fd.as_raw_fd(), PIDFD_GET_INFO as _, &raw mut raw) };
        if result != 0 || raw.mask & INFO_PID == 0 {
            return None;
        }
        let cgroup_id = (raw.mask & INFO_CGROUP != 0).then_some(raw.cgroup_id);
        Some(PidInfo {
            pid: raw.tgid,
            ppid: raw.ppid,
            cgroup_id,
        })
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}
