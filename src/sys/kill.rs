//! Ending everything in a cgroup, and seeing it end.
//!
//! cgroup.kill does it in one write that no fork outruns, with one exception probed on 6.1 and
//! 6.18: a process whose main thread has exited while others run is not killed, and holds
//! `populated 1`. So after the write whatever is still listed and does not go by itself is
//! killed singly, through a pidfd, after its membership was checked again.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;

use super::pidfd::PidFd;
use super::procfs::{Proc, ProcStat};
use super::{SysError, cgroup, clock};

/// With what a cgroup is killed, found by the start-up test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KillHow {
    /// cgroup.kill; where a cgroup refuses it (threaded: EOPNOTSUPP), as `FreezeAndSignal`.
    CgroupKill,
    /// Frozen, so that nobody forks meanwhile, then each signalled (before Linux 5.14).
    FreezeAndSignal,
}

/// A process that was in the cgroup when its kill began, or had to be killed singly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its pid.
    pub pid: u32,
    /// What /proc said about it before the kill; `None` beyond the first [`STAT_BOUND`] and
    /// for those that came or went meanwhile.
    pub stat: Option<ProcStat>,
}

/// What a kill did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KillResult {
    /// Whether the last reading of cgroup.events said that somebody lives; `None`: it could
    /// not be read. A cgroup that is gone is empty.
    pub populated: Option<bool>,
    /// Who was there when it began, and who was found later and killed singly.
    pub killed: Vec<Listed>,
    /// What went wrong first, if anything.
    pub error: Option<SysError>,
    /// Nothing was done, because we are in the cgroup ourselves: cgroup.kill would end us, and a
    /// freeze would stop us for good. Who is root can move anybody anywhere.
    pub holds_us: bool,
}

/// How many of the processes to be killed are looked at one by one before: at about 8 µs each
/// this stays well below what their deaths take (about 43 µs each).
pub const STAT_BOUND: usize = 256;

/// How many processes are killed singly at a time: each needs a descriptor for a moment.
const BATCH: usize = 256;

/// Kills everything in the cgroup and below, then waits up to `settle` for `populated 0`,
/// killing singly what does not go. Returns with what is left; the caller may call again.
///
/// **Blocks**: for `settle`, and as long as the writes take (130 ms for 5,000 processes). Looks
/// only at /proc/PID/stat of its victims, which cannot hang on them.
pub fn kill_tree(path: &Path, how: KillHow, settle: Duration) -> KillResult {
    let mut result = KillResult::default();
    match list(path) {
        Ok(killed) if killed.iter().any(|listed| listed.pid == std::process::id()) => {
            let path = path.display().to_string();
            let error = SysError::because("kill everything in", path, "we live there ourselves");
            return KillResult {
                populated: Some(true),
                error: Some(error),
                holds_us: true,
                ..result
            };
        }
        Ok(killed) => result.killed = killed,
        Err(e) => result.error = Some(e),
    }
    let mut how = how;
    if let Err(e) = kill_once(path, how) {
        if e.is(Errno::EOPNOTSUPP) && how == KillHow::CgroupKill {
            how = KillHow::FreezeAndSignal;
            let again = kill_once(path, how);
            result.error = result.error.or(again.err());
        } else if !cgroup::is_gone(&e) {
            result.error = result.error.or(Some(e));
        }
    }
    settle_down(path, how, settle, &mut result);
    result
}

fn list(path: &Path) -> Result<Vec<Listed>, SysError> {
    let proc = Proc::open()?;
    let pids = cgroup::procs_recursive(path)?;
    let look = |(n, pid)| {
        let stat = if n < STAT_BOUND {
            proc.stat(pid).ok().flatten()
        } else {
            None
        };
        Listed { pid, stat }
    };
    Ok(pids.into_iter().enumerate().map(look).collect())
}

fn kill_once(path: &Path, how: KillHow) -> Result<(), SysError> {
    match how {
        KillHow::CgroupKill => cgroup::write_kill(path),
        KillHow::FreezeAndSignal => freeze_and_signal(path),
    }
}

/// How long to wait for `frozen 1`: a process in an uninterruptible wait keeps the freeze from
/// completing, and is signalled all the same.
const FREEZE_BOUND: Duration = Duration::from_millis(50);

fn freeze_and_signal(path: &Path) -> Result<(), SysError> {
    // Without a freezer (before 5.2) the signals alone have to do: a fork may outrun them, and
    // the caller sees that it did.
    let frozen = cgroup::set_freeze(path, true);
    if frozen.is_ok() {
        let events = EventsFile::open(path)?;
        let bound = clock::boot_now().saturating_add(clock::as_nanos(FREEZE_BOUND));
        while !events.read().is_none_or(|e| e.frozen || !e.populated) {
            let now = clock::boot_now();
            if now >= bound {
                break;
            }
            events.wait(Duration::from_nanos((bound - now).min(1_000_000)));
        }
    }
    let signalled = kill_singly(path);
    if frozen.is_ok() {
        cgroup::set_freeze(path, false).or_else(gone_is_fine)?;
    }
    signalled.map(drop)
}

fn gone_is_fine(error: SysError) -> Result<(), SysError> {
    if cgroup::is_gone(&error) {
        Ok(())
    } else {
        Err(error)
    }
}

/// Pauses between two looks; the last is repeated. A notification cuts them short, but the
/// kernel sends at most one in 10 ms.
const PAUSES_US: [u64; 9] = [30, 50, 100, 200, 300, 1_000, 2_000, 4_000, 8_000];

/// Nobody is killed singly before this: one process takes 300 to 500 µs to die of the first kill.
const DYING_US: u64 = 500;

/// Up to so many leftovers are killed singly at once.
const FEW: usize = 16;

fn settle_down(path: &Path, how: KillHow, settle: Duration, result: &mut KillResult) {
    let events = match EventsFile::open(path) {
        Ok(events) => events,
        Err(e) if cgroup::is_gone(&e) => {
            result.populated = Some(false);
            return;
        }
        Err(e) => {
            result.error.get_or_insert(e);
            return;
        }
    };
    let began = clock::boot_now();
    let deadline = began.saturating_add(clock::as_nanos(settle));
    let mut listed_before = usize::MAX;
    let mut pauses = PAUSES_US.iter().copied();
    let mut pause_us = 0;
    loop {
        result.populated = events.read().map(|e| e.populated);
        let now = clock::boot_now();
        if result.populated != Some(true) || now >= deadline {
            return;
        }
        pause_us = pauses.next().unwrap_or(pause_us);
        let left_us = (deadline - now).div_ceil(1_000);
        let woken = events.wait(Duration::from_micros(pause_us.min(left_us)));
        if woken || (now - began) / 1_000 + pause_us < DYING_US {
            continue;
        }
        // A crowd that is dying goes by itself: step in when it no longer shrinks. A few cost
        // less to kill again than to wait for.
        let listed = cgroup::procs_recursive(path).map_or(0, |pids| pids.len());
        let shrinks = listed < listed_before;
        listed_before = listed;
        if listed > FEW && shrinks {
            continue;
        }
        if let Err(e) = kill_again(path, how, &mut result.killed) {
            result.error.get_or_insert(e);
        }
    }
}

fn kill_again(path: &Path, how: KillHow, killed: &mut Vec<Listed>) -> Result<(), SysError> {
    for pid in kill_singly(path)? {
        if !killed.iter().any(|listed| listed.pid == pid) {
            killed.push(Listed { pid, stat: None });
        }
    }
    kill_once(path, how).or_else(gone_is_fine)
}

/// SIGKILL for every process listed in the cgroup and below, each through a pidfd; returns
/// whom it reached.
///
/// The pidfds are opened first and the members listed *again* after that: a pid on the second
/// list is a member while its handle is held. Had it been reused between the first list and
/// the opening, the handle would be on a stranger that has ended since (its number being a
/// member's again), and the signal would reach nobody.
fn kill_singly(path: &Path) -> Result<Vec<u32>, SysError> {
    let mut reached = Vec::new();
    let mut error = None;
    let pids = cgroup::procs_recursive(path)?;
    for batch in pids.chunks(BATCH) {
        let mut handles = Vec::with_capacity(batch.len());
        for &pid in batch {
            handles.extend(PidFd::open(pid)?.map(|handle| (pid, handle)));
        }
        let members = cgroup::procs_recursive(path)?;
        for (pid, handle) in handles {
            if members.binary_search(&pid).is_ok() && pid != std::process::id() {
                match handle.send(libc::SIGKILL) {
                    Ok(true) => reached.push(pid),
                    Ok(false) => {}
                    Err(e) => error = error.or(Some(e)),
                }
            }
        }
    }
    error.map_or(Ok(reached), Err)
}

/// An open cgroup.events, for reading again and waiting on.
///
/// Where one cgroup is watched it does for inotify, whose descriptor takes the kernel some
/// milliseconds to close.
#[derive(Debug)]
pub struct EventsFile {
    file: File,
}

impl AsFd for EventsFile {
    /// Has POLLPRI when the file changed since it was read.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl EventsFile {
    /// Opens the file of the cgroup at `path`.
    pub fn open(path: &Path) -> Result<Self, SysError> {
        let file = path.join("cgroup.events");
        open(&file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
            .map(|file| Self { file: file.into() })
            .map_err(|e| SysError::at("open", &file, e))
    }

    /// The file as it is now; a cgroup that was removed holds nobody; `None`: unreadable.
    pub fn read(&self) -> Option<cgroup::Events> {
        let mut buffer = [0_u8; 256];
        match self.file.read_at(&mut buffer, 0) {
            Ok(len) => cgroup::parse_events(buffer.get(..len).unwrap_or_default()),
            Err(e) if e.raw_os_error() == Some(libc::ENODEV) => Some(cgroup::Events {
                populated: false,
                frozen: false,
            }),
            Err(_) => None,
        }
    }

    /// Waits until the kernel says that the file changed since it was read: `true`; or until
    /// `pause` is over: `false`.
    fn wait(&self, pause: Duration) -> bool {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLPRI)];
        ppoll(&mut fds, Some(TimeSpec::from_duration(pause)), None).is_ok_and(|n| n > 0)
    }
}
