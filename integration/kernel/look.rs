//! What the kernel says of processes and cgroups, read without the supervisor's own code.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take here, on a slow machine with other work.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < BOUND, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A TCP and UDP port of 127.0.0.1 that nobody has, and that no other test here is given. What the
/// kernel gives out itself (ip_local_port_range, from 32768) may be somebody's connection by the
/// time that it is bound again.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    const FIRST: u16 = 10_000;
    const COUNT: u16 = 10_000;
    // Another place to begin for each run: who listened in the last may be remembered.
    let own = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap();
    for _ in 0..COUNT {
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + own.wrapping_add(n) % COUNT;
        if is_free(port) {
            return port;
        }
    }
    panic!("every port from {FIRST} on is taken");
}

/// Without SO_REUSEADDR, as the most careless program binds it.
fn is_free(port: u16) -> bool {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, socket};
    let address = SockaddrIn::new(127, 0, 0, 1, port);
    [SockType::Stream, SockType::Datagram]
        .into_iter()
        .all(|kind| {
            let socket = socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
            bind(socket.as_raw_fd(), &address).is_ok()
        })
}

/// CLOCK_BOOTTIME in nanoseconds.
pub(crate) fn boot_ns() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap();
    u64::try_from(now.tv_sec()).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec()).unwrap()
}

/// A process: its pid and when it started, which together are never given out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProcId {
    pub(crate) pid: u32,
    pub(crate) start: u64,
}

/// The fields of /proc/PID/stat after the command name, and the state first of all.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let rest = text.rsplit_once(')')?.1;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// The process that has this pid now, unless it is dead.
pub(crate) fn alive(pid: u32) -> Option<ProcId> {
    let stat = stat(pid)?;
    // A leader whose thread has ended is Z as well, while others of its threads live.
    let threads: u32 = stat.get(17)?.parse().ok()?;
    if matches!(stat.first()?.as_str(), "Z" | "X") && threads <= 1 {
        return None;
    }
    let start = stat.get(19)?.parse().ok()?;
    Some(ProcId { pid, start })
}

pub(crate) fn is_alive(id: ProcId) -> bool {
    alive(id.pid) == Some(id)
}

/// The state letter of proc_pid_stat(5).
pub(crate) fn state(pid: u32) -> Option<String> {
    stat(pid)?.first().cloned()
}

pub(crate) fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Every pid there is.
pub(crate) fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").unwrap();
    let names = entries.flatten().map(|entry| entry.file_name());
    names
        .filter_map(|name| name.to_str()?.parse().ok())
        .collect()
}

pub(crate) fn children_of(pid: u32) -> Vec<u32> {
    pids()
        .into_iter()
        .filter(|child| parent(*child) == Some(pid))
        .collect()
}

/// Where cgroup2 is mounted.
pub(crate) fn cgroup_mount() -> PathBuf {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = text.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        right
            .starts_with("cgroup2 ")
            .then(|| left.split(' ').nth(4))
            .flatten()
    });
    PathBuf::from(mount.expect("these tests need a cgroup2 mount"))
}

/// The cgroup we are in, as a directory.
pub(crate) fn cgroup_base() -> PathBuf {
    let own = cgroup_of(std::process::id()).unwrap();
    cgroup_mount().join(own.trim_start_matches('/'))
}

/// A process's place in the cgroup2 hierarchy, as /proc names it.
pub(crate) fn cgroup_of(pid: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    Some(path.to_owned())
}

/// The pids in a cgroup and below.
pub(crate) fn members(dir: &Path) -> BTreeSet<u32> {
    let mut all = BTreeSet::new();
    for dir in tree(dir) {
        let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
        all.extend(text.lines().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    all
}

/// A cgroup and all below it, parents first.
pub(crate) fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut all = vec![dir.to_path_buf()];
    let mut next = 0;
    while let Some(dir) = all.get(next).cloned() {
        next += 1;
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                all.push(entry.path());
            }
        }
    }
    all
}

/// Kills whoever is in the cgroup and removes it with all below.
pub(crate) fn clear(dir: &Path) {
    let began = Instant::now();
    while dir.exists() && began.elapsed() < BOUND {
        let _ = fs::write(dir.join("cgroup.freeze"), "0");
        let _ = fs::write(dir.join("cgroup.kill"), "1");
        for pid in members(dir) {
            signal(pid, libc::SIGKILL);
        }
        for dir in tree(dir).iter().rev() {
            let _ = fs::remove_dir(dir);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Sends a signal to a process that the test started or saw in its own cgroup.
pub(crate) fn signal(pid: u32, number: i32) {
    let pid = i32::try_from(pid).unwrap();
    assert!(pid > 1, "that is nobody of ours");
    // SAFETY: kill(2) with a pid above 1.
    unsafe { libc::kill(pid, number) };
}

/// How many descriptors a process has open, and how many inotify watches on them.
pub(crate) fn descriptors(pid: u32) -> (usize, usize) {
    let list = |what: &str| {
        fs::read_dir(format!("/proc/{pid}/{what}"))
            .unwrap()
            .flatten()
    };
    let watches = list("fdinfo").map(|entry| {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        text.lines()
            .filter(|line| line.starts_with("inotify wd:"))
            .count()
    });
    (list("fd").count(), watches.sum())
}

/// Another handle on what a process writes to, which stays open beyond its end.
pub(crate) fn open_fd(pid: u32, fd: u32) -> fs::File {
    fs::File::options()
        .write(true)
        .open(Path::new(&format!("/proc/{pid}/fd/{fd}")))
        .unwrap()
}

/// Resident memory of a process, in KiB.
pub(crate) fn rss_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.unwrap()
        .trim()
        .trim_end_matches(" kB")
        .parse()
        .unwrap()
}
