//! What every test needs: a cgroup of its own that goes with it, and children to put there.

use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use nought::sys::cgroup::{self, Removal};
use nought::sys::kill::{KillHow, kill_tree};
use nought::sys::mount::{CgroupBase, find_base, path_in_proc};
use nought::sys::rlimit::OpenFiles;
use nought::sys::spawn::{
    Attributes, Born, ExecOutcome, Prepared, SpawnError, SpawnMethod, Spec, Stdio,
    read_exec_outcome, spawn,
};
use nought::sys::{clock, reap};

/// What the test binary is called when it is a fixture.
pub(crate) const NAME: &str = "nought-fixture";

/// How long anything may take here.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Waits a moment without looking at the clock.
pub(crate) fn nap(pause: Duration) {
    let timeout = PollTimeout::try_from(pause.as_millis().max(1)).unwrap();
    poll(&mut [], timeout).unwrap();
}

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::boot_now() + BOUND.as_nanos() as u64;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(clock::boot_now() < deadline, "never: {what}");
        nap(Duration::from_millis(1));
    }
}

/// A cgroup of the test's own; killed and removed with it.
pub(crate) struct Scene {
    pub(crate) base: CgroupBase,
    pub(crate) dir: PathBuf,
}

impl Scene {
    pub(crate) fn new() -> Self {
        static SUBREAPER: Once = Once::new();
        SUBREAPER.call_once(|| reap::set_child_subreaper().unwrap());
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let base = find_base().expect("these tests need cgroup v2");
        let dir = base
            .dir
            .join(format!("nought-test-{}-{n}", std::process::id()));
        cgroup::make_dir(&dir).expect("these tests need a writable cgroup v2");
        Self { base, dir }
    }

    /// A cgroup below.
    pub(crate) fn make(&self, name: &str) -> PathBuf {
        let dir = self.dir.join(name);
        cgroup::make_dir(&dir).unwrap();
        dir
    }

    /// As /proc names it.
    pub(crate) fn name_of(&self, dir: &Path) -> String {
        path_in_proc(&self.base, dir).unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let result = kill_tree(&self.dir, KillHow::CgroupKill, BOUND);
        let removal = cgroup::remove_tree(&self.dir);
        for listed in &result.killed {
            // Those that became ours when their parents died; ECHILD for the others.
            let _ = reap::reap_pid(listed.pid);
        }
        if !std::thread::panicking() {
            assert_eq!(result.populated, Some(false), "{:?}", result.error);
            assert_eq!(removal, Removal::Removed);
        }
    }
}

/// How a fixture is to be started.
pub(crate) struct Start {
    pub(crate) spec: Spec,
    method: SpawnMethod,
    stdout: OwnedFd,
    stdin: OwnedFd,
}

impl Start {
    /// The fixture `args`, outside of any cgroup of its own and unmarked.
    pub(crate) fn new(args: &[&str]) -> Self {
        let argv = [NAME].iter().chain(args).map(OsString::from).collect();
        Self::program("/proc/self/exe", argv)
    }

    pub(crate) fn program(program: &str, argv: Vec<OsString>) -> Self {
        let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let (stdin, our_stdin) = pipe();
        let (our_stdout, stdout) = pipe();
        let stderr = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
        let spec = Spec {
            program: program.into(),
            argv,
            env: Vec::new(),
            dir: "/".into(),
            stdio: Stdio::Only([stdin, stdout, stderr]),
            open_files: None,
            cgroup: None,
            mark: false,
            join: None,
            pid_namespace: None,
            enter: None,
            new_session: true,
            job: None,
            attributes: Attributes::default(),
        };
        Self {
            spec,
            method: SpawnMethod::Clone3Into,
            stdout: our_stdout,
            stdin: our_stdin,
        }
    }

    pub(crate) fn marked(mut self) -> Self {
        self.spec.mark = true;
        self
    }

    pub(crate) fn cgroup(mut self, dir: &Path) -> Self {
        self.spec.cgroup = Some(dir.to_path_buf());
        self
    }

    pub(crate) fn env(mut self, key: &str, value: &str) -> Self {
        self.spec.env.push((key.into(), value.into()));
        self
    }

    pub(crate) fn dir(mut self, dir: &str) -> Self {
        self.spec.dir = dir.into();
        self
    }

    pub(crate) fn open_files(mut self, soft: u64, hard: u64) -> Self {
        self.spec.open_files = Some(OpenFiles { soft, hard });
        self
    }

    pub(crate) fn method(mut self, method: SpawnMethod) -> Self {
        self.method = method;
        self
    }

    /// Starts it and asserts that it is let go.
    pub(crate) fn start(self) -> Child {
        self.try_start(|_| Ok(())).unwrap()
    }

    pub(crate) fn try_start(
        self,
        before_go: impl FnOnce(&Born) -> Result<(), nought::sys::SysError>,
    ) -> Result<Child, SpawnError> {
        let prepared = Prepared::new(self.spec, self.method).map_err(SpawnError::NotBorn)?;
        let born = spawn(&prepared, before_go)?;
        let stdout = BufReader::new(File::from(self.stdout));
        Ok(Child {
            born,
            stdout,
            stdin: Some(self.stdin),
            reaped: false,
        })
    }
}

/// A started fixture; killed and reaped with the value.
pub(crate) struct Child {
    pub(crate) born: Born,
    stdout: BufReader<File>,
    stdin: Option<OwnedFd>,
    reaped: bool,
}

impl Child {
    pub(crate) fn pid(&self) -> u32 {
        self.born.id.pid
    }

    /// The next line it says.
    pub(crate) fn line(&mut self) -> String {
        let mut fds = [PollFd::new(
            self.stdout.get_ref().as_fd(),
            PollFlags::POLLIN,
        )];
        let bound = PollTimeout::try_from(BOUND.as_millis()).unwrap();
        assert!(
            !self.stdout.buffer().is_empty() || poll(&mut fds, bound).unwrap() > 0,
            "not a word"
        );
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits for its word that it is where it wants to be.
    pub(crate) fn ready(mut self) -> Self {
        assert_eq!(self.line(), "ready");
        self
    }

    /// The number of a line `pid N`.
    pub(crate) fn said_pid(&mut self) -> u32 {
        let line = self.line();
        line.strip_prefix("pid ")
            .unwrap_or_else(|| panic!("{line:?}"))
            .parse()
            .unwrap()
    }

    /// Gives it a line to read.
    pub(crate) fn tell(&mut self) {
        let stdin = self.stdin.take().unwrap();
        nix::unistd::write(&stdin, b"\n").unwrap();
    }

    pub(crate) fn outcome(&self) -> ExecOutcome {
        let pipe = self.born.exec_pipe.as_fd().try_clone_to_owned().unwrap();
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::empty())).unwrap();
        let mut said = Vec::new();
        File::from(pipe).read_to_end(&mut said).unwrap();
        read_exec_outcome(&said)
    }

    /// Reaps it, when it ends.
    pub(crate) fn wait(mut self) -> reap::Ended {
        self.reaped = true;
        reap::reap_pid(self.pid()).unwrap().unwrap().ended
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self
                .born
                .pidfd
                .as_ref()
                .map(|handle| handle.send(libc::SIGKILL));
            let _ = reap::reap_pid(self.pid());
        }
    }
}

/// Whether the process has ended, reaped or not.
pub(crate) fn is_dead(pid: u32) -> bool {
    let proc = nought::sys::procfs::Proc::open().unwrap();
    proc.stat(pid).unwrap().is_none_or(|stat| stat.is_dead())
}
