//! A process of our own that outlives us: a copy of ourselves (fork(2)) in a session and a cgroup
//! of its own, without our descriptors, our name and our environment.
#![expect(
    unsafe_code,
    reason = "clone3, fork, and writing over our own command line"
)]

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, setsid};

use super::pidfd::PidFd;
use super::spawn::{CLONE_INTO_CGROUP, CloneArgs};
use super::{SysError, procfs};

/// What the guardian is called in /proc.
const NAME: &[u8] = b"nought-guardian";

/// A guardian on its way: who makes it goes on meanwhile.
#[derive(Debug)]
pub struct Making {
    /// Where its pid is said.
    said: OwnedFd,
    /// Our child: the guardian itself, or the one between.
    child: i32,
    detached: bool,
}

/// A guardian that was made.
#[derive(Debug)]
pub struct Guardian {
    /// Its pid.
    pub pid: u32,
    /// A handle on it.
    pub handle: PidFd,
    /// Whether it is our child, so that we reap it.
    pub is_child: bool,
}

/// Whether orphans that go to process `reaper` are reaped there: it handles SIGCHLD in some way
/// (catches it, reads it from a signalfd, or ignores it, which reaps too). A container's first
/// process often does not (`sleep infinity`, `tail -f /dev/null`).
pub fn reaps(reaper: u32) -> bool {
    let path = format!("/proc/{reaper}/status");
    let text = procfs::read_file(Path::new(&path)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let bit = 1_u64 << (libc::SIGCHLD - 1);
    let has = |field: &str| {
        let set = text.lines().find_map(|line| line.strip_prefix(field));
        set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
            .is_some_and(|set| set & bit != 0)
    };
    ["SigBlk:", "SigIgn:", "SigCgt:"].into_iter().any(has)
}

/// Begins to make the guardian, which runs `guard` and ends with the code that returns.
///
/// Born in `cgroup` where one is given and clone3 can. `detached`: not our child, so that nobody
/// who ends us with all our descendants finds it; its parent is whoever inherits our orphans,
/// provided that we do not become a subreaper before it is [made](Making::finish).
///
/// Only `keep` stays open in it, and its standard descriptors are /dev/null.
///
/// To be called while we have one thread only: it is a copy that goes on with everything.
pub fn begin(
    cgroup: Option<BorrowedFd<'_>>,
    detached: bool,
    keep: &[BorrowedFd<'_>],
    guard: impl FnOnce() -> u8,
) -> Result<Making, SysError> {
    let failed = |e| SysError::new("create a process with", "clone3 or fork", e);
    let (said, say) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    let child = match fork_into(cgroup).map_err(failed)? {
        0 => child(detached, keep, &say, guard),
        pid => pid,
    };
    Ok(Making {
        said,
        child,
        detached,
    })
}

impl Making {
    /// Waits until the guardian is in a session of its own and no descendant of ours that
    /// `detached` forbids.
    pub fn finish(self) -> Result<Guardian, SysError> {
        let found = listen(&self.said, self.child);
        if self.detached || found.is_err() {
            // The one between has done its part, or has ended early.
            let _ = waitpid(Pid::from_raw(self.child), None::<WaitPidFlag>);
        }
        let own = found?;
        let handle = PidFd::open(own)?.ok_or_else(|| gone(own))?;
        Ok(Guardian {
            pid: own,
            handle,
            is_child: !self.detached,
        })
    }
}

fn gone(pid: u32) -> SysError {
    SysError::because("make", format!("guardian {pid}"), "it has ended at once")
}

/// The guardian's pid, said by itself or by whoever is between.
fn listen(said: &OwnedFd, pid: i32) -> Result<u32, SysError> {
    let mut word = [0_u8; 4];
    loop {
        return match nix::unistd::read(said, &mut word) {
            Ok(4) => Ok(u32::from_ne_bytes(word)),
            Err(Errno::EINTR) => continue,
            // Killed at birth by a cgroup that was killed once, as a rule.
            _ => Err(gone(pid.unsigned_abs())),
        };
    }
}

/// The copy's part; never returns.
fn child(detached: bool, keep: &[BorrowedFd<'_>], say: &OwnedFd, guard: impl FnOnce() -> u8) -> ! {
    let session = setsid();
    // Whoever waits for the pid waits for no more than the forks.
    let tell = |pid: u32| nix::unistd::write(say, &pid.to_ne_bytes()) == Ok(4);
    let told = if detached {
        // SAFETY: this process has one thread; its copy may do everything.
        match u32::try_from(unsafe { libc::fork() }) {
            Ok(0) => true,
            other => {
                let told = other.is_ok_and(tell);
                // SAFETY: a raw exit, which runs nothing of what we are a copy of.
                unsafe { libc::_exit(i32::from(!told)) }
            }
        }
    } else {
        tell(std::process::id())
    };
    if session.is_ok() && told {
        procfs::forget_held();
        close_all_but(keep.iter().map(AsRawFd::as_raw_fd).collect());
        rename();
        let code = guard();
        // SAFETY: as above.
        unsafe { libc::_exit(i32::from(code)) };
    }
    // SAFETY: as above.
    unsafe { libc::_exit(1) }
}

/// fork(2), into a cgroup where that works; the child's pid, 0 in the child.
fn fork_into(cgroup: Option<BorrowedFd<'_>>) -> Result<i32, Errno> {
    if let Some(cgroup) = cgroup {
        let args = CloneArgs {
            flags: CLONE_INTO_CGROUP,
            exit_signal: libc::SIGCHLD as u64,
            cgroup: u64::try_from(cgroup.as_raw_fd()).unwrap_or(u64::MAX),
            ..CloneArgs::default()
        };
        // SAFETY: `args` has the size passed and outlives the call; without CLONE_VM the child
        // goes on in a copy of our memory, of which no other thread holds a lock.
        let result = unsafe {
            libc::syscall(
                libc::SYS_clone3,
                &raw const args,
                std::mem::size_of::<CloneArgs>(),
            )
        };
        if let Ok(pid) = Errno::result(result) {
            return Ok(i32::try_from(pid).unwrap_or(-1));
        }
    }
    // SAFETY: we have one thread; its copy may do everything.
    Errno::result(unsafe { libc::fork() })
}

/// Closes every descriptor but these, and puts /dev/null where the standard ones were.
fn close_all_but(mut keep: Vec<RawFd>) {
    let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
    if let Ok(null) = open("/dev/null", flags, Mode::empty()) {
        let _ = dup2_stdin(null.as_fd());
        let _ = dup2_stdout(null.as_fd());
        let _ = dup2_stderr(null.as_fd());
    }
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep.into_iter().chain([RawFd::MAX]) {
        if fd > from {
            let last = if fd == RawFd::MAX { fd } else { fd - 1 };
            close_range(from, last);
        }
        from = from.max(fd.saturating_add(1));
    }
}

fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: closes descriptors of this process that nothing in it uses any more: it is a copy
    // that goes on with those kept alone, and ends by _exit.
    let done = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            libc::c_long::from(first),
            libc::c_long::from(last),
            0,
        )
    };
    if done == 0 {
        return;
    }
    // Before Linux 5.9: no descriptor is above the limit.
    let end = super::rlimit::open_files().map_or(1 << 16, |limit| limit.soft.min(1 << 20));
    for fd in first..=last.min(i32::try_from(end).unwrap_or(i32::MAX)) {
        // SAFETY: as above.
        unsafe { libc::close(fd) };
    }
}

/// Writes our own name over the command line and the environment that /proc shows of us: who
/// looks for the job's processes by these is not to find its guardian.
fn rename() {
    // SAFETY: prctl reads a string that ends with a NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, c"nought-guardian".as_ptr()) };
    let Some([arg_start, arg_end, env_start, env_end]) = procfs::own_strings() else {
        return;
    };
    let wipe = |start: usize, end: usize| {
        if start == 0 || end <= start {
            return;
        }
        let area = start as *mut u8;
        // SAFETY: the kernel put the strings of exec there, at the top of our stack, writable
        // and ours alone in this copy; they stay ended by zeroes. No other thread reads them.
        unsafe { std::ptr::write_bytes(area, 0, end - start) };
    };
    wipe(arg_start, arg_end);
    wipe(env_start, env_end);
    let length = NAME.len().min(arg_end.saturating_sub(arg_start + 1));
    // SAFETY: `length` bytes of the area just wiped, one less than it has.
    unsafe { std::ptr::copy_nonoverlapping(NAME.as_ptr(), arg_start as *mut u8, length) };
}

// ---- what it is told ----------------------------------------------------------------------

/// A pair of connected sockets that keep messages apart: ours, and the guardian's.
pub fn line() -> Result<(OwnedFd, OwnedFd), SysError> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)
        .map_err(|e| SysError::new("make a pair of sockets for", "the guardian", e))
}

/// Sends a message with, or without, a descriptor. EPIPE: nobody reads it any more.
pub fn send(line: &OwnedFd, message: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), SysError> {
    let fds: Vec<RawFd> = fd.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights[..] };
    let (parts, flags) = ([IoSlice::new(message)], MsgFlags::MSG_NOSIGNAL);
    sendmsg::<()>(line.as_raw_fd(), &parts, control, flags, None)
        .map(drop)
        .map_err(|e| SysError::new("tell", "the guardian", e))
}

/// The next message and the descriptor that came with it; `None` when there is none and never
/// will be, or not now.
pub fn receive(line: &OwnedFd) -> Option<(Vec<u8>, Option<OwnedFd>)> {
    let mut bytes = [0_u8; MESSAGE_BOUND];
    let mut space = nix::cmsg_space!(RawFd);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (length, mut fds) = {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let got = recvmsg::<()>(line.as_raw_fd(), &mut parts, Some(&mut space), flags).ok()?;
        let mut fds = Vec::new();
        for message in got.cmsgs().into_iter().flatten() {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just made these descriptors for us.
                fds.extend(
                    raw.into_iter()
                        .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                );
            }
        }
        (got.bytes, fds)
    };
    (length > 0).then(|| (bytes.get(..length).unwrap_or_default().to_vec(), fds.pop()))
}

const MESSAGE_BOUND: usize = 1024;
