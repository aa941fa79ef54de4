//! Reading /proc: what the kernel tells about one process at one moment.
//!
//! A process may end between any two reads: everything here answers `None` for one that is
//! gone, and callers compare start times before they act on a pid. Reads are ordered by what
//! they may cost: `stat`, `ns` and `cgroup` take no lock of the process's memory; `cmdline` and
//! `environ` take its mmap_lock and may hang on a process that is stuck in the kernel.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::read;

use super::{SysError, listing, namespace};

mod details;
mod held;
mod own;

pub(super) use held::forget_held;
pub(super) use own::own_strings;
pub use own::{
    has_capability, has_no_group, own_mark, pid_namespace, sees_kernel_threads, ticks_now,
};

/// A process by a name that is never used twice within a boot: its pid and when it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProcId {
    /// The pid.
    pub pid: u32,
    /// Field 22 of its stat file: clock ticks (usually 10 ms) after boot.
    pub start_time: u64,
}

/// /proc/PID/stat (proc_pid_stat(5)), as far as we need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcStat {
    /// Its pid.
    pub pid: u32,
    /// The command name: at most 15 bytes, chosen by the process itself.
    pub comm: String,
    /// The state letter of its *main thread*: `Z` also while other threads live on.
    pub state: char,
    /// Its parent's pid; 0 when the parent is outside our pid namespace.
    pub ppid: u32,
    /// Its process group.
    pub pgrp: u32,
    /// Its session.
    pub session: u32,
    /// Whether it is a kernel thread (PF_KTHREAD).
    pub kernel_thread: bool,
    /// How many threads it has, an ended main thread included.
    pub num_threads: u32,
    /// When it started, in clock ticks after boot.
    pub start_time: u64,
}

impl ProcStat {
    /// The process by its pid and start time.
    pub fn id(&self) -> ProcId {
        ProcId {
            pid: self.pid,
            start_time: self.start_time,
        }
    }

    /// Whether nothing of it runs any more: a zombie (or `X`) without other threads.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.num_threads <= 1
    }
}

/// Parses a stat file. The command name may hold anything, `)`, spaces and newlines included:
/// it ends at the *last* `)`.
pub fn parse_stat(text: &[u8]) -> Option<ProcStat> {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let open = text.iter().position(|&b| b == b'(')?;
    let close = text.iter().rposition(|&b| b == b')')?;
    let pid = std::str::from_utf8(text.get(..open)?)
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let comm = String::from_utf8_lossy(text.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(text.get(close + 1..)?).ok()?;
    // The first of these is field 3.
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let ppid = fields.next()?.parse().ok()?;
    let pgrp = fields.next()?.parse().unwrap_or(0);
    let session = fields.next()?.parse().unwrap_or(0);
    let flags: u64 = fields.nth(2)?.parse().ok()?;
    let num_threads = fields.nth(10)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    let kernel_thread = flags & PF_KTHREAD != 0;
    Some(ProcStat {
        pid,
        comm,
        state,
        ppid,
        pgrp,
        session,
        kernel_thread,
        num_threads,
        start_time,
    })
}

/// What a process's mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marked {
    /// It is in the time namespace with this inode number.
    With(u64),
    /// It is past its namespaces on its way out: it runs nothing any more, forks nothing, and
    /// may still hang on a file that it closes (do_exit, kernel/exit.c).
    Exiting,
    /// There is no such process, or it is dead.
    Gone,
}

impl Marked {
    /// The mark, if there is one.
    pub fn inode(self) -> Option<u64> {
        match self {
            Marked::With(mark) => Some(mark),
            Marked::Exiting | Marked::Gone => None,
        }
    }
}

/// A cgroup as /proc/PID/cgroup names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupName {
    /// The path, relative to our cgroup namespace's root.
    pub path: String,
    /// Whether the cgroup was removed since (the process is a zombie).
    pub deleted: bool,
}

/// Parses the `0::` line of a cgroup file. `None` where only v1 hierarchies are listed.
pub fn parse_cgroup(text: &[u8]) -> Option<CgroupName> {
    let line = text
        .split(|&b| b == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))?;
    let path = String::from_utf8_lossy(line);
    Some(match path.strip_suffix(" (deleted)") {
        Some(path) => CgroupName {
            path: path.to_owned(),
            deleted: true,
        },
        None => CgroupName {
            path: path.into_owned(),
            deleted: false,
        },
    })
}

/// An open /proc.
#[derive(Debug)]
pub struct Proc(Arc<held::Held>);

impl Proc {
    /// A file of a process, or another below /proc.
    ///
    /// # Errors
    /// As of open(2).
    pub fn open_file(&self, path: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        self.open_at(path, flags)
    }

    /// Every process's pid, in ascending order. A process that lives through the whole call is
    /// in the answer: the kernel walks the pids upwards and looks each next one up afresh.
    pub fn pids(&self) -> Result<Vec<u32>, SysError> {
        self.numbered(".")
    }

    /// The threads of a process; empty when it is gone.
    pub fn threads(&self, pid: u32) -> Result<Vec<u32>, SysError> {
        gone_is_default(self.numbered(&format!("{pid}/task")))
    }

    fn numbered(&self, path: &str) -> Result<Vec<u32>, SysError> {
        let failed = |e| Self::failed("list", path, e);
        #[cfg(test)]
        if let Some(numbers) = super::scan::tests::list(path) {
            return numbers.map_err(failed);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = self.open_at(path, flags).map_err(failed)?;
        let mut numbers: Vec<u32> = Vec::new();
        listing::for_each(&dir, |name, _| numbers.extend(listing::number::<u32>(name)))
            .map_err(failed)?;
        Ok(numbers)
    }

    /// The stat file of a process.
    pub fn stat(&self, pid: u32) -> Result<Option<ProcStat>, SysError> {
        let path = format!("{pid}/stat");
        let mut buffer = [0_u8; 2048];
        // seq_file gives a short file in one read.
        let Some(len) = gone_is_default(self.read_into(&path, &mut buffer).map(Some))? else {
            return Ok(None);
        };
        match parse_stat(buffer.get(..len).unwrap_or_default()) {
            Some(stat) => Ok(Some(stat)),
            None if len == 0 => Ok(None),
            None => Err(SysError::because(
                "read",
                in_proc(&path),
                "not in the shape of proc(5)",
            )),
        }
    }

    /// The stat file of exactly that process; `None` when its pid is another's by now.
    pub fn stat_of(&self, id: ProcId) -> Result<Option<ProcStat>, SysError> {
        Ok(self
            .stat(id.pid)?
            .filter(|stat| stat.start_time == id.start_time))
    }

    /// The inode number of the process's time namespace: the mark. One whose main thread has
    /// ended is asked through another.
    /// EACCES: not ours to look at (ptrace(2), access mode checks).
    pub fn mark(&self, pid: u32) -> Result<Marked, SysError> {
        match self.mark_at(&format!("{pid}/ns/time")) {
            Ok(mark) => Ok(Marked::With(mark)),
            // An ended thread has no namespaces (ENOENT), and a process that vanishes during
            // the call gives EACCES too (proc_ns_readlink, fs/proc/namespaces.c).
            Err(e) if e.is(Errno::ENOENT) || e.is(Errno::ESRCH) || e.is(Errno::EACCES) => {
                match self.stat(pid)? {
                    None => Ok(Marked::Gone),
                    Some(stat) if stat.is_dead() => Ok(Marked::Gone),
                    Some(stat) if e.is(Errno::EACCES) && stat.state != 'Z' => Err(e),
                    Some(_) => self.mark_of_threads(pid),
                }
            }
            Err(e) => Err(e),
        }
    }

    /// The own number of the process's time namespace ([`namespace::id`]); `None` where the
    /// kernel has none, and when the process or its main thread has ended.
    pub fn mark_id(&self, pid: u32) -> Option<u64> {
        let path = format!("{pid}/ns/time");
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let namespace = self.open_at(&path, flags).ok()?;
        namespace::id(namespace)
    }

    /// The inode number of the pid namespace a process is in; `None` when it is gone or may not
    /// be looked at.
    pub fn pid_namespace(&self, pid: u32) -> Option<u64> {
        let mut buffer = [0; 64];
        let path = format!("{pid}/ns/pid");
        let link = self.read_link(&path, &mut buffer).ok()?;
        listing::number(link.strip_prefix(b"pid:[")?.strip_suffix(b"]")?)
    }

    fn mark_of_threads(&self, pid: u32) -> Result<Marked, SysError> {
        for tid in self.threads(pid)? {
            match self.mark_at(&format!("{pid}/task/{tid}/ns/time")) {
                Ok(mark) => return Ok(Marked::With(mark)),
                Err(e) if e.is(Errno::ENOENT) || e.is(Errno::ESRCH) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Marked::Exiting)
    }

    fn mark_at(&self, path: &str) -> Result<u64, SysError> {
        let mut buffer = [0; 64];
        let link = self
            .read_link(path, &mut buffer)
            .map_err(|e| Self::failed("read", path, e))?;
        link.strip_prefix(b"time:[")
            .and_then(|link| listing::number(link.strip_suffix(b"]")?))
            .ok_or_else(|| SysError::because("read", in_proc(path), "not the name of a namespace"))
    }

    /// The process's cgroup; `None` when it is gone or there is no v2 hierarchy.
    pub fn cgroup(&self, pid: u32) -> Result<Option<CgroupName>, SysError> {
        let text = gone_is_default(self.read_all(&format!("{pid}/cgroup")))?;
        Ok(parse_cgroup(&text))
    }

    /// The children of all threads of a process (CONFIG_PROC_CHILDREN). Those that come or go
    /// meanwhile may be missed (proc(5)).
    pub fn children(&self, pid: u32) -> Result<Vec<u32>, SysError> {
        self.children_of_threads(pid, &self.threads(pid)?)
    }

    fn children_of_threads(&self, pid: u32, threads: &[u32]) -> Result<Vec<u32>, SysError> {
        let mut children = Vec::new();
        for tid in threads {
            let path = format!("{pid}/task/{tid}/children");
            let text = gone_is_default(self.read_all(&path))?;
            let numbers = text
                .split(|&b| b == b' ' || b == b'\n')
                .map(std::str::from_utf8);
            children.extend(numbers.flatten().filter_map(|n| n.parse::<u32>().ok()));
        }
        Ok(children)
    }

    /// The same for a process whose stat file was just read: one thread needs no list of them.
    pub(super) fn children_of(&self, process: &ProcStat) -> Result<Vec<u32>, SysError> {
        let pid = process.pid;
        if process.num_threads == 1 {
            self.children_of_threads(pid, &[pid])
        } else {
            self.children(pid)
        }
    }

    /// Every descendant of the processes `roots`, by their children files, `roots` not
    /// included. At most `bound` of them.
    pub fn descendants(
        &self,
        roots: impl IntoIterator<Item = u32>,
        bound: usize,
    ) -> Result<BTreeSet<u32>, SysError> {
        let mut queue: Vec<u32> = roots.into_iter().collect();
        let mut seen: BTreeSet<u32> = queue.iter().copied().collect();
        let mut found = BTreeSet::new();
        while let Some(pid) = queue.pop() {
            for child in self.children(pid)? {
                if found.len() >= bound {
                    return Ok(found);
                }
                if seen.insert(child) {
                    found.insert(child);
                    queue.push(child);
                }
            }
        }
        Ok(found)
    }

    /// The parent, its parent and so on, nearest first; what could be followed before one of
    /// them went away.
    pub fn ancestors(&self, pid: u32) -> Result<Vec<u32>, SysError> {
        let mut chain = Vec::new();
        let mut at = pid;
        while let Some(parent) = self.stat(at)?.map(|stat| stat.ppid)
            && parent != 0
            && chain.len() < ANCESTORS_BOUND
        {
            chain.push(parent);
            at = parent;
        }
        Ok(chain)
    }

    /// The process a thread belongs to; `None` when the thread is gone.
    pub fn process_of_thread(&self, tid: u32) -> Result<Option<u32>, SysError> {
        Ok(self
            .status_field(tid, "Tgid:")?
            .and_then(|v| v.parse().ok()))
    }

    fn status_field(&self, pid: u32, field: &str) -> Result<Option<String>, SysError> {
        let text = gone_is_default(self.read_all(&format!("{pid}/status")))?;
        let text = String::from_utf8_lossy(&text);
        let value = text.lines().find_map(|line| line.strip_prefix(field));
        Ok(value.map(|value| value.trim().to_owned()))
    }

    /// The last pid given out in our pid namespace (the last field of /proc/loadavg). It moves
    /// with every process *and thread* made there or in a namespace below, whoever makes it.
    pub fn last_pid(&self) -> Result<u32, SysError> {
        let mut buffer = [0_u8; 128];
        let len = self.read_into("loadavg", &mut buffer)?;
        let text = std::str::from_utf8(buffer.get(..len).unwrap_or_default()).unwrap_or_default();
        text.split_ascii_whitespace()
            .next_back()
            .and_then(|field| field.parse().ok())
            .ok_or_else(|| SysError::because("read", "/proc/loadavg", "its last field is no pid"))
    }

    fn read_into(&self, path: &str, buffer: &mut [u8]) -> Result<usize, SysError> {
        let failed = |e| Self::failed("read", path, e);
        #[cfg(test)]
        if let Some(text) = super::scan::tests::read(path) {
            let text = text.map_err(failed)?;
            buffer[..text.len()].copy_from_slice(&text);
            return Ok(text.len());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = self.open_at(path, flags).map_err(failed)?;
        retry(|| read(&file, buffer)).map_err(failed)
    }

    fn read_all(&self, path: &str) -> Result<Vec<u8>, SysError> {
        #[cfg(test)]
        if let Some(text) = super::scan::tests::read(path) {
            return text.map_err(|e| Self::failed("read", path, e));
        }
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        self.open_at(path, flags)
            .and_then(|file| read_to_end(&file))
            .map_err(|e| Self::failed("read", path, e))
    }
}

/// Whether exactly that process is there, dead or alive; one that cannot be asked about is.
pub fn lives(id: ProcId) -> bool {
    let found = Proc::open().and_then(|proc| proc.stat_of(id));
    !matches!(found, Ok(None))
}

/// Reads a small file of the kernel's in full.
pub fn read_file(path: &Path) -> Result<Vec<u8>, SysError> {
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .and_then(|file| read_to_end(&file))
        .map_err(|e| SysError::at("read", path, e))
}

/// The same as text; `None` when it cannot be read, or is none.
pub(super) fn read_text(path: &Path) -> Option<String> {
    String::from_utf8(read_file(path).ok()?).ok()
}

/// How far up a chain of parents is followed.
const ANCESTORS_BOUND: usize = 65_536;

/// Reads a file of the kernel's that is known to be shorter than `buffer` and than a page: one
/// read gives all of it (seq_file(9)).
pub(super) fn read_short(path: &Path, buffer: &mut [u8]) -> Result<usize, SysError> {
    open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .and_then(|file| retry(|| read(&file, buffer)))
        .map_err(|e| SysError::at("read", path, e))
}

/// More than this of one file is never looked at: an environment may be made megabytes long to
/// keep a reader busy.
const READ_BOUND: usize = 4 << 20;

fn read_to_end(file: impl AsFd) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::new();
    let mut chunk = [0_u8; 4096];
    while text.len() < READ_BOUND {
        let len = retry(|| read(&file, &mut chunk))?;
        if len == 0 {
            break;
        }
        text.extend_from_slice(chunk.get(..len).unwrap_or_default());
    }
    Ok(text)
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

fn in_proc(path: &str) -> String {
    if path == "." {
        "/proc".to_owned()
    } else {
        format!("/proc/{path}")
    }
}

/// A process that is gone reads as nothing: ENOENT when its directory is gone, ESRCH when it
/// went after the open.
fn gone_is_default<T: Default>(result: Result<T, SysError>) -> Result<T, SysError> {
    match result {
        Err(e) if e.is(Errno::ENOENT) || e.is(Errno::ESRCH) => Ok(T::default()),
        other => other,
    }
}

/// Whether `path` is `prefix` or below it, by whole names.
pub fn is_at_or_below(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A file name or path in words.
pub(super) fn lossy(name: &OsStr) -> String {
    String::from_utf8_lossy(name.as_bytes()).into_owned()
}

#[cfg(test)]
mod tests;
