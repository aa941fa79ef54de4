//! A supervisor with a cgroup, a directory and service files of its own, gone with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::poll::{PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use nought::sys::kill::{KillHow, kill_tree};
use nought::sys::mount::find_base;
use nought::sys::{cgroup, clock};
use serde_json::Value;

const BOUND: Duration = Duration::from_secs(60);

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = clock::boot_now() + BOUND.as_nanos() as u64;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(clock::boot_now() < deadline, "never: {what}");
        poll(&mut [], PollTimeout::from(5_u8)).unwrap();
    }
}

/// Whether a process lives.
pub(crate) fn lives(pid: u32) -> bool {
    let stat = nought::sys::procfs::Proc::open().unwrap().stat(pid);
    stat.unwrap().is_some_and(|stat| !stat.is_dead())
}

/// Where everything of one test is.
pub(crate) struct Stage {
    /// A cgroup; supervisors are started in `dir/base`, escapees go to `dir/outside`.
    pub(crate) dir: PathBuf,
    files: PathBuf,
    supervisor: Option<Child>,
}

/// What a command of the client said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) text: String,
}

impl Stage {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nought-driver-test-{}-{n}", std::process::id());
        let dir = find_base().expect("cgroup v2 is needed").dir.join(&name);
        let files = std::env::temp_dir().join(&name);
        for dir in [&dir, &dir.join("base"), &dir.join("outside")] {
            cgroup::make_dir(dir).unwrap();
        }
        std::fs::create_dir_all(files.join("services")).unwrap();
        Self {
            dir,
            files,
            supervisor: None,
        }
    }

    pub(crate) fn outside(&self) -> PathBuf {
        self.dir.join("outside")
    }

    /// Writes a service file.
    pub(crate) fn service(&self, name: &str, text: &str) {
        std::fs::write(
            self.files.join("services").join(format!("{name}.yaml")),
            text,
        )
        .unwrap();
    }

    /// Writes a shell script and returns its path.
    pub(crate) fn script(&self, name: &str, text: &str) -> String {
        let path = self.files.join(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path.display().to_string()
    }

    /// Starts a supervisor in `cgroup` and waits until it answers.
    pub(crate) fn start_in(&mut self, cgroup: &Path) -> u32 {
        let files = self.files.display();
        let start = format!(
            "echo 0 > {}/cgroup.procs && exec {} init -c {files}/services -s {files}/s \
             --state-dir {files}/state --deadline 10s",
            cgroup.display(),
            env!("CARGO_BIN_EXE_nought"),
        );
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.files.join("log"))
            .unwrap();
        let child = Command::new("/bin/sh")
            .args(["-c", &start])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let pid = child.id();
        self.supervisor = Some(child);
        until("it answers", || {
            (self.ask(&["list"]).code == 0).then_some(())
        });
        pid
    }

    pub(crate) fn start(&mut self) -> u32 {
        self.start_in(&self.dir.join("base"))
    }

    /// Runs a command of the client.
    pub(crate) fn ask(&self, args: &[&str]) -> Said {
        let out = Command::new(env!("CARGO_BIN_EXE_nought"))
            .arg("-s")
            .arg(self.files.join("s"))
            .arg("--json")
            .args(args)
            .output()
            .unwrap();
        Said {
            code: out.status.code().unwrap_or(-1),
            text: String::from_utf8(out.stdout).unwrap(),
        }
    }

    /// The newest receipt of a service.
    pub(crate) fn receipt(&self, service: &str) -> Value {
        until("it has a receipt", || {
            let said = self.ask(&["receipt", service]);
            serde_json::from_str(said.text.lines().last()?).ok()
        })
    }

    /// Waits until a service is in a state and returns its status.
    pub(crate) fn reaches(&self, service: &str, state: &str) -> Value {
        until(&format!("{service} is {state}"), || {
            let said = self.ask(&["status", service]);
            let status: Value = serde_json::from_str(said.text.lines().next()?).ok()?;
            (status["state"] == state).then_some(status)
        })
    }

    /// What the supervisors have logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.files.join("log")).unwrap()
    }

    /// The supervisor dies of SIGKILL.
    pub(crate) fn murder(&mut self) {
        let mut child = self.supervisor.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Shuts down and returns the supervisor's exit code.
    pub(crate) fn end(&mut self) -> i32 {
        let mut child = self.supervisor.take().unwrap();
        kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
        let status = until("it ends", || child.try_wait().unwrap());
        status.code().unwrap_or(-1)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(mut child) = self.supervisor.take() {
            // It may be gone.
            let _ = child.kill();
            let _ = child.wait();
        }
        kill_tree(&self.dir, KillHow::CgroupKill, BOUND);
        cgroup::remove_tree(&self.dir);
        let _ = std::fs::remove_dir_all(&self.files);
    }
}
