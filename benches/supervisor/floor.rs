//! The floor: the same work by hand, with nothing around it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::{SigSet, Signal, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;
use nought::sys::scan::{ScanContext, ScanTarget, scan_pass};
use nought::sys::spawn::{self, Born, Prepared, SpawnMethod, Spec, Stdio};
use nought::sys::{mount, reap};

use crate::machine::{now_ms, wait_until};

/// A cgroup of ours below our own, for what is done by hand.
pub(crate) struct Yard {
    dir: PathBuf,
    children: SignalFd,
    number: usize,
}

/// How a crowd is ended by hand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// SIGTERM and SIGCONT to the process group.
    Signal,
    /// cgroup.kill.
    Kill,
}

/// How long the parts of one stop by hand took, in milliseconds, each from the beginning.
pub(crate) struct Parts {
    /// Until the cgroup was empty and everybody reaped.
    pub(crate) empty: f64,
    /// Until a conclusive pass over /proc was over.
    pub(crate) scanned: f64,
    /// Until the cgroup was removed.
    pub(crate) removed: f64,
}

/// Processes in a cgroup of their own.
pub(crate) struct Crowd {
    dir: PathBuf,
    born: Born,
}

impl Yard {
    pub(crate) fn new() -> Self {
        let base = mount::find_base().expect("a cgroup2");
        let dir = base.dir.join(format!("bench-{}", std::process::id()));
        fs::create_dir(&dir).expect("make a cgroup");
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block().expect("block SIGCHLD");
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let children = SignalFd::with_flags(&mask, flags).expect("a signalfd");
        Self {
            dir,
            children,
            number: 0,
        }
    }

    /// Starts `words` in a fresh cgroup, marked as our services are, and waits for its
    /// `processes`.
    pub(crate) fn start(&mut self, words: &str, processes: usize) -> Crowd {
        self.number += 1;
        let dir = self.dir.join(self.number.to_string());
        fs::create_dir(&dir).expect("make a cgroup");
        let born = spawn_in(&dir, words);
        wait_until("the exec", || {
            let said = nix::unistd::read(&born.exec_pipe, &mut [0; 64]);
            said == Ok(0)
        });
        wait_until("the crowd", || members(&dir) == processes);
        Crowd { dir, born }
    }

    /// Starts `words` as the supervisor has to, at the least: a cgroup and a process.
    pub(crate) fn start_only(&mut self, words: &str) -> Crowd {
        self.number += 1;
        let dir = self.dir.join(self.number.to_string());
        fs::create_dir(&dir).expect("make a cgroup");
        let born = spawn_in(&dir, words);
        Crowd { dir, born }
    }

    /// Ends a crowd; proof by our own scanner, or by the least that could prove it.
    pub(crate) fn stop(&mut self, crowd: Crowd, end: End, own_scanner: bool) -> Parts {
        let events = File::open(crowd.dir.join("cgroup.events")).expect("open cgroup.events");
        let mark = crowd.born.mark.as_ref().expect("a mark").inode;
        // The supervisor under test is our child and nobody's orphan.
        let known_children = reap::children().expect("our children");
        let began = now_ms();
        match end {
            End::Signal => crowd.signal(),
            End::Kill => fs::write(crowd.dir.join("cgroup.kill"), "1").expect("kill"),
        }
        self.await_empty(&events);
        let empty = now_ms() - began;
        if own_scanner {
            let target = ScanTarget {
                mark: Some(mark),
                main: Some(crowd.born.id),
                cgroup: Some(crowd.dir.clone()),
                ..ScanTarget::default()
            };
            let context = ScanContext {
                known_children: known_children.into_iter().collect(),
                ..ScanContext::new()
            };
            until_conclusive(|| {
                let pass = scan_pass(&target, &context);
                assert!(pass.escaped.is_empty() && pass.error.is_none(), "{pass:?}");
                pass.conclusive
            });
        } else {
            until_conclusive(|| least_pass(mark));
        }
        let scanned = now_ms() - began;
        fs::remove_dir(&crowd.dir).expect("remove the cgroup");
        let removed = now_ms() - began;
        Parts {
            empty,
            scanned,
            removed,
        }
    }

    fn await_empty(&self, events: &File) {
        loop {
            while reap::reap_next().expect("reap").is_some() {}
            if !populated(events) {
                break;
            }
            let mut fds = [
                PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
                PollFd::new(events.as_fd(), PollFlags::POLLPRI),
            ];
            // A change within 10 ms of the last one is told late: look again.
            let _ = poll(&mut fds, 1_u16);
            while let Ok(Some(_)) = self.children.read_signal() {}
        }
    }

    /// Ends many crowds together: all asked, all empty, one pass, all removed.
    pub(crate) fn stop_all(&mut self, crowds: Vec<Crowd>) -> f64 {
        let began = now_ms();
        for crowd in &crowds {
            crowd.signal();
        }
        for crowd in &crowds {
            let events = File::open(crowd.dir.join("cgroup.events")).expect("open cgroup.events");
            self.await_empty(&events);
        }
        until_conclusive(|| least_pass(0));
        for crowd in &crowds {
            fs::remove_dir(&crowd.dir).expect("remove the cgroup");
        }
        now_ms() - began
    }
}

impl Drop for Yard {
    fn drop(&mut self) {
        // Whoever is started from here on inherits the mask.
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let _ = mask.thread_unblock();
        let _ = fs::write(self.dir.join("cgroup.kill"), "1");
        for _ in 0..1000 {
            while let Ok(Some(_)) = reap::reap_next() {}
            match nought::sys::cgroup::remove_tree(&self.dir) {
                nought::sys::cgroup::Removal::Removed => return,
                _ => std::thread::sleep(std::time::Duration::from_millis(1)),
            }
        }
    }
}

impl Crowd {
    fn signal(&self) {
        let group = i32::try_from(self.born.id.pid).expect("a pid");
        killpg(Pid::from_raw(group), Signal::SIGTERM).expect("signal");
        // It may have gone already.
        let _ = killpg(Pid::from_raw(group), Signal::SIGCONT);
    }
}

fn spawn_in(dir: &Path, words: &str) -> Born {
    let null = || {
        OwnedFd::from(
            File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .expect("null"),
        )
    };
    let argv = nought_words(words);
    let spec = Spec {
        program: argv[0].clone(),
        argv,
        env: std::env::vars_os().collect(),
        dir: "/".into(),
        stdio: Stdio::Only([null(), null(), null()]),
        open_files: None,
        cgroup: Some(dir.to_path_buf()),
        mark: true,
        join: None,
        pid_namespace: None,
        enter: None,
        new_session: true,
        job: None,
        attributes: spawn::Attributes::default(),
    };
    let prepared = Prepared::new(spec, SpawnMethod::Clone3Into).expect("prepare");
    spawn::spawn(&prepared, |_| Ok(())).expect("spawn")
}

/// Splits as the service files' `exec` is split; the fixtures' quoting is simple.
fn nought_words(text: &str) -> Vec<OsString> {
    match text.split_once(" -c '") {
        Some((shell, script)) => vec![
            shell.into(),
            "-c".into(),
            script.trim_end_matches('\'').into(),
        ],
        None => text.split(' ').map(OsString::from).collect(),
    }
}

fn members(dir: &Path) -> usize {
    let text = fs::read_to_string(dir.join("cgroup.procs")).expect("read cgroup.procs");
    text.lines().count()
}

fn populated(events: &File) -> bool {
    let mut text = [0_u8; 64];
    let len = events.read_at(&mut text, 0).expect("read cgroup.events");
    text[..len].starts_with(b"populated 1")
}

/// Three empty passes in a row stand for a conclusive one, here as in the supervisor.
fn until_conclusive(mut pass: impl FnMut() -> bool) {
    for _ in 0..3 {
        if pass() {
            return;
        }
    }
}

/// Everybody's time namespace and nothing else: whether nobody bears `mark` and nothing was
/// forked meanwhile.
fn least_pass(mark: u64) -> bool {
    let before = last_pid();
    let name = OsString::from(format!("time:[{mark}]"));
    let mut borne = false;
    for entry in fs::read_dir("/proc").expect("list /proc").flatten() {
        let pid = entry.file_name();
        if !pid
            .as_encoded_bytes()
            .first()
            .is_some_and(u8::is_ascii_digit)
        {
            continue;
        }
        let mut path = OsString::from("/proc/");
        path.push(&pid);
        path.push("/ns/time");
        borne |= nix::fcntl::readlink(path.as_os_str()).is_ok_and(|link| link == name);
    }
    assert!(!borne, "somebody of a stopped crowd lives");
    last_pid() == before
}

fn last_pid() -> Vec<u8> {
    let text = fs::read("/proc/loadavg").expect("read /proc/loadavg");
    text.rsplit(|b| *b == b' ')
        .next()
        .unwrap_or_default()
        .to_vec()
}
