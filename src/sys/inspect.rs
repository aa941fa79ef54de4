//! All that can be told about a process that survived everything.

use std::time::Duration;

use super::holdings::{self, Ours, Sockets};
use super::mount;
use super::procfs::Proc;
use super::signal;

/// How long reading the command lines of survivors may take.
const ARGV_BOUND: Duration = Duration::from_millis(200);
const ARGV_STACK: usize = 128 * 1024;

/// A survivor, as one look saw it. Fields that could not be read are empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SurvivorInfo {
    /// Its pid.
    pub pid: u32,
    /// Its parent's pid.
    pub ppid: u32,
    /// Its command line; until [`read_argv`], or when that finds none: the command name in
    /// brackets, as ps(1) shows it.
    pub argv: Vec<String>,
    /// Its state letter (proc_pid_stat(5)); that of a live thread when the main thread ended.
    pub state: char,
    /// Where in the kernel it waits.
    pub wchan: String,
    /// Its kernel stack, innermost first (root only).
    pub stack: Vec<String>,
    /// Who traces it; 0: nobody. A tracer can keep even SIGKILL from ending it.
    pub tracer: u32,
    /// How many threads of it live.
    pub threads: u32,
    /// Its cgroup, as /proc/PID/cgroup names it.
    pub cgroup: String,
    /// Sockets it listens on or has bound, as [`holdings`] names them.
    pub sockets: Vec<String>,
    /// Mounts of its namespace that are not in ours, at most 32.
    pub mounts: Vec<String>,
}

const MOUNTS_BOUND: usize = 32;

/// Looks at each process that still lives, with reads that take no lock of its memory. Call
/// [`read_argv`] on the answers after they are safe: that may hang.
pub fn inspect(pids: &[u32]) -> Vec<SurvivorInfo> {
    let Ok(proc) = Proc::open() else {
        return Vec::new();
    };
    let mut sockets = Sockets::default();
    pids.iter()
        .filter_map(|&pid| look(&proc, pid, &mut sockets))
        .collect()
}

fn look(proc: &Proc, pid: u32, sockets: &mut Sockets) -> Option<SurvivorInfo> {
    let stat = proc.stat(pid).ok()??;
    if stat.is_dead() {
        return None;
    }
    // /proc/TID exists for every thread, though it is not listed.
    let mut seen = stat.clone();
    let mut threads = stat.num_threads;
    if stat.state == 'Z' {
        // The main thread is counted, and has ended.
        threads = threads.saturating_sub(1);
        let ended = stat.pid;
        let others = proc.threads(pid).unwrap_or_default();
        let mut stats = others
            .iter()
            .filter(|tid| **tid != ended)
            .filter_map(|&tid| proc.stat(tid).ok().flatten());
        seen = stats.find(|thread| thread.state != 'Z').unwrap_or(seen);
    }
    Some(SurvivorInfo {
        pid,
        ppid: stat.ppid,
        argv: vec![format!("[{}]", stat.comm)],
        state: seen.state,
        wchan: proc.wchan(seen.pid).unwrap_or_default(),
        stack: proc.stack(seen.pid).unwrap_or_default(),
        tracer: proc.tracer(seen.pid).unwrap_or_default(),
        threads,
        sockets: holdings::look(seen.pid, &Ours::default(), sockets).ports,
        cgroup: proc
            .cgroup(pid)
            .ok()
            .flatten()
            .map(|name| name.path)
            .unwrap_or_default(),
        mounts: mount::mounts_held(pid, MOUNTS_BOUND).unwrap_or_default(),
    })
}

/// Reads the command line. **May hang** on a process that is stuck in the kernel: on a blocking
/// thread, with a bound, one process at a time. One in state `D` is left alone.
pub fn read_argv(survivor: &mut SurvivorInfo) {
    if survivor.state == 'D' {
        return;
    }
    let argv = Proc::open()
        .and_then(|proc| proc.cmdline(survivor.pid))
        .unwrap_or_default();
    if !argv.is_empty() {
        survivor.argv = argv;
    }
}

/// Adds the command lines, as far as they can be read in time: that may hang on a process that is
/// stuck in the kernel. **Blocks** for up to 200 ms, and leaves a thread behind then.
pub fn with_argv(found: Vec<SurvivorInfo>) -> Vec<SurvivorInfo> {
    let (sender, complete) = std::sync::mpsc::channel();
    let mut full = found.clone();
    // Not one of the blocking threads: those that hang for good would be missed there.
    let work = move || {
        // It may outlive us, and a signal for the process is not for it.
        let _ = signal::block_all();
        full.iter_mut().for_each(read_argv);
        // Nobody waits any more when this took too long.
        let _ = sender.send(full);
    };
    let reader = std::thread::Builder::new().stack_size(ARGV_STACK);
    if reader.spawn(work).is_err() {
        return found;
    }
    complete.recv_timeout(ARGV_BOUND).unwrap_or(found)
}
