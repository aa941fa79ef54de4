//! One test's world: a directory with service files, a socket and a state directory; a cgroup
//! of its own with a supervisor in it; and the proof, at the end of every test, that nothing of
//! it is left.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fixtures::FLAG;
use crate::look::{self, BOUND, ProcId, until};
use crate::receipt::assert_verified;
use crate::wire::Client;

/// Tests that disturb others (storms of forks, hundreds of processes) run alone.
static TURN: RwLock<()> = RwLock::new(());

enum Turn {
    Shared(#[expect(dead_code, reason = "held")] RwLockReadGuard<'static, ()>),
    Alone(#[expect(dead_code, reason = "held")] RwLockWriteGuard<'static, ()>),
}

/// The variable that every process of a world inherits from its supervisor.
const MARKER: &str = "NOUGHT_TEST";

pub(crate) struct World {
    pub(crate) dir: PathBuf,
    /// Holds the supervisor, and so everything of it, wherever that moves below.
    pub(crate) cgroup: PathBuf,
    marker: String,
    /// What the launcher does before it becomes the supervisor: see [`crate::fixtures`].
    pub(crate) launch: Vec<String>,
    /// A command that the supervisor is run by.
    pub(crate) wrapper: Vec<String>,
    pub(crate) flags: Vec<String>,
    /// What the supervisor's stdout is; a file of the world's if nothing else is said.
    pub(crate) stdout: Option<Stdio>,
    supervisor: Option<Child>,
    tools: Vec<Child>,
    starts: u32,
    /// Every process that was ever seen of it.
    seen: RefCell<BTreeSet<ProcId>>,
    ended: bool,
    _turn: Turn,
}

impl World {
    /// A world beside others.
    pub(crate) fn new() -> Self {
        Self::with(Turn::Shared(
            TURN.read().unwrap_or_else(PoisonError::into_inner),
        ))
    }

    /// A world that nothing else runs beside.
    pub(crate) fn alone() -> Self {
        Self::with(Turn::Alone(
            TURN.write().unwrap_or_else(PoisonError::into_inner),
        ))
    }

    fn with(turn: Turn) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let marker = format!("nought-kernel-{}-{n}", std::process::id());
        let dir = std::env::temp_dir().join(&marker);
        fs::create_dir(&dir).unwrap();
        fs::create_dir(dir.join("services")).unwrap();
        let cgroup = look::cgroup_base().join(&marker);
        fs::create_dir(&cgroup).expect("these tests need root and a writable cgroup2");
        Self {
            dir,
            cgroup,
            marker,
            launch: Vec::new(),
            wrapper: Vec::new(),
            flags: Vec::new(),
            stdout: None,
            supervisor: None,
            tools: Vec::new(),
            starts: 0,
            seen: RefCell::default(),
            ended: false,
            _turn: turn,
        }
    }

    // ---- services -----------------------------------------------------------------------

    /// Writes a service file.
    pub(crate) fn service(&mut self, name: &str, text: &str) -> &mut Self {
        fs::write(self.dir.join(format!("services/{name}.yaml")), text).unwrap();
        self
    }

    /// Writes the file of a service that runs a fixture; `more` are further lines of it.
    pub(crate) fn fixture(&mut self, name: &str, words: &str, more: &str) -> &mut Self {
        let exec = self.command(name, words);
        self.service(name, &format!("exec: {exec}\n{more}\n"))
    }

    /// The command that runs a fixture which says what it has to say as `name`.
    pub(crate) fn command(&self, name: &str, words: &str) -> String {
        let own = std::env::current_exe().unwrap();
        let said = self.dir.join(format!("{name}.said"));
        format!("{} {FLAG} {} {words}", own.display(), said.display())
    }

    /// What the fixture said, a line each.
    pub(crate) fn said(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join(format!("{name}.said"))).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The numbers it said after `word`, once there are `count`.
    pub(crate) fn numbers(&self, name: &str, word: &str, count: usize) -> Vec<u64> {
        until(&format!("{name} says {word:?} {count} times"), || {
            let lines = self.said(name);
            let rest = lines.iter().filter_map(|line| line.strip_prefix(word));
            let numbers: Vec<u64> = rest.filter_map(|rest| rest.trim().parse().ok()).collect();
            (numbers.len() >= count).then_some(numbers)
        })
    }

    pub(crate) fn number(&self, name: &str, word: &str) -> u64 {
        self.numbers(name, word, 1)[0]
    }

    /// A pid it said after `word`.
    pub(crate) fn pid(&self, name: &str, word: &str) -> u32 {
        let pid = u32::try_from(self.number(name, word)).unwrap();
        self.note(pid);
        pid
    }

    // ---- the supervisor -----------------------------------------------------------------

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("s.sock")
    }

    /// Starts the supervisor and waits until it answers.
    pub(crate) fn init(&mut self) -> &mut Self {
        self.spawn();
        self.await_answer();
        self
    }

    /// Waits until the supervisor answers.
    pub(crate) fn await_answer(&mut self) {
        until("the supervisor answers", || {
            let ended = self.supervisor.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {ended:?}\n{}", self.log());
            let mut client = Client::connect(&self.socket()).ok()?;
            // A socket that a killed supervisor's newborn child holds for a moment is closed
            // without an answer.
            client.is_answered("nought_info").then_some(())
        });
    }

    /// Starts the supervisor.
    pub(crate) fn spawn(&mut self) {
        assert!(self.supervisor.is_none());
        self.starts += 1;
        let stdout = self.stdout.take();
        let stdout = stdout.unwrap_or_else(|| self.file("out").into());
        let stderr = self.file("err");
        let supervisor = self
            .launcher(&["init"])
            .stdout(stdout)
            .stderr(stderr)
            .spawn();
        self.supervisor = Some(supervisor.unwrap());
    }

    /// The supervisor that would be started, with its own flags.
    pub(crate) fn launcher(&self, command: &[&str]) -> Command {
        let mut launcher = Command::new(std::env::current_exe().unwrap());
        launcher
            .arg(FLAG)
            .arg(self.dir.join("launch.said"))
            .arg("launch");
        launcher
            .arg(format!("cgroup={}", self.cgroup.display()))
            .args(&self.launch)
            .arg("--");
        launcher
            .args(&self.wrapper)
            .arg(env!("CARGO_BIN_EXE_nought"));
        launcher
            .args(command)
            .arg("-c")
            .arg(self.dir.join("services"));
        launcher
            .arg("-s")
            .arg(self.socket())
            .arg("--state-dir")
            .arg(self.dir.join("state"));
        launcher
            .args(&self.flags)
            .env(MARKER, &self.marker)
            .env_remove("NOUGHT_LOG");
        launcher.stdin(Stdio::null());
        launcher
    }

    fn file(&self, what: &str) -> File {
        File::create(self.dir.join(format!("{what}.{}", self.starts))).unwrap()
    }

    /// The supervisor's pid as the test sees it.
    pub(crate) fn supervisor(&self) -> u32 {
        let pid = self.supervisor.as_ref().unwrap().id();
        if self.wrapper.is_empty() {
            return pid;
        }
        until("the wrapper runs the supervisor", || {
            look::children_of(pid).first().copied()
        })
    }

    /// What the supervisor of this start has said of itself.
    pub(crate) fn log(&self) -> String {
        let path = self.dir.join(format!("err.{}", self.starts));
        String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
    }

    /// The same, once it has said this: its lines are written in their order, a moment after
    /// what they tell of.
    pub(crate) fn log_with(&self, words: &str) -> String {
        until(&format!("the log says {words:?}"), || {
            Some(self.log()).filter(|log| log.contains(words))
        })
    }

    pub(crate) fn signal(&self, number: i32) {
        look::signal(self.supervisor(), number);
    }

    /// Waits for the supervisor's end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut supervisor = self.supervisor.take().unwrap();
        until("the supervisor ends", || supervisor.try_wait().unwrap())
    }

    /// Kills the supervisor as nothing can prevent, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.census();
        let mut supervisor = self.supervisor.take().unwrap();
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
    }

    // ---- what is asked of it ------------------------------------------------------------

    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.socket()).unwrap()
    }

    pub(crate) fn call(&self, method: &str, params: Value) -> Result<Value, Value> {
        self.client().call(method, &params)
    }

    pub(crate) fn status(&self, name: &str) -> Value {
        self.call("nought_status", json!({"name": name})).unwrap()
    }

    /// Waits until the service is in this state.
    pub(crate) fn reach(&self, name: &str, state: &str) -> Value {
        let mut last = Value::Null;
        let began = std::time::Instant::now();
        loop {
            let status = self.status(name);
            if status["state"] == state {
                self.census();
                return status;
            }
            assert!(
                began.elapsed() < BOUND,
                "{name} never was {state}: {last}\n{}",
                self.log()
            );
            last = status;
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub(crate) fn start(&self, name: &str) -> Result<Value, Value> {
        self.call("nought_start", json!({"name": name}))
    }

    /// Stops a service: its receipt.
    pub(crate) fn stop(&self, name: &str) -> Value {
        self.census();
        let done = self.call("nought_stop", json!({"name": name}));
        let done = done.unwrap_or_else(|error| panic!("stop {name}: {error}\n{}", self.log()));
        done["receipt"].clone()
    }

    /// Stops a service, which has to end verified.
    pub(crate) fn stop_verified(&self, name: &str) -> Value {
        let receipt = self.stop(name);
        assert_verified(&receipt);
        assert!(
            self.generations(name).is_empty(),
            "{:?}",
            self.generations(name)
        );
        receipt
    }

    pub(crate) fn receipt(&self, name: &str) -> Value {
        let params = json!({"name": name, "last": 1});
        let answer = self.call("nought_receipt", params).unwrap();
        answer["receipts"][0].clone()
    }

    /// Runs the command line as a client of this supervisor.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nought"));
        command
            .arg("-s")
            .arg(self.socket())
            .args(["--timeout", "60s"])
            .args(args);
        command.stdin(Stdio::null()).output().unwrap()
    }

    // ---- what is there ------------------------------------------------------------------

    /// The supervisor's own directory of cgroups.
    pub(crate) fn nought_tree(&self) -> PathBuf {
        let cgroup = look::cgroup_of(self.supervisor()).unwrap();
        assert!(cgroup.ends_with("/supervisor"), "{cgroup}");
        let tree = cgroup
            .trim_end_matches("/supervisor")
            .rsplit('/')
            .next()
            .unwrap();
        self.cgroup.join(tree)
    }

    /// The cgroups of a service's generations that stand.
    pub(crate) fn generations(&self, name: &str) -> Vec<PathBuf> {
        let service = self.nought_tree().join(name);
        let below = fs::read_dir(service).into_iter().flatten().flatten();
        below
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect()
    }

    /// A cgroup outside the supervisor's tree.
    pub(crate) fn foreign_cgroup(&self) -> PathBuf {
        let dir = self.cgroup.join("foreign");
        let _ = fs::create_dir(&dir);
        dir
    }

    /// Everyone of this world who lives: by cgroup, by inherited marker, by command line.
    pub(crate) fn everyone(&self) -> BTreeSet<ProcId> {
        let members = look::members(&self.cgroup);
        let own = std::process::id();
        let tools: BTreeSet<u32> = self.tools.iter().map(Child::id).collect();
        let marked = |pid: u32| {
            let holds = |file: &str, what: &str| {
                let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
                bytes
                    .windows(what.len())
                    .any(|window| window == what.as_bytes())
            };
            // A prefix of another's: NAME-1 and NAME-12.
            holds("environ", &format!("{MARKER}={}\0", self.marker))
                || holds("cmdline", &format!("{}/", self.dir.display()))
        };
        let pids = look::pids()
            .into_iter()
            .filter(|pid| *pid != own && !tools.contains(pid));
        let ours = pids.filter(|pid| members.contains(pid) || marked(*pid));
        ours.filter_map(look::alive).collect()
    }

    /// Notes everyone who lives, so that the end of the test can ask after them.
    pub(crate) fn census(&self) {
        self.seen.borrow_mut().extend(self.everyone());
    }

    pub(crate) fn note(&self, pid: u32) {
        self.seen.borrow_mut().extend(look::alive(pid));
    }

    /// A process of the test's own beside the supervisor; ended with the world.
    pub(crate) fn tool(&mut self, name: &str, words: &[&str]) -> u32 {
        let said = self.dir.join(format!("{name}.said"));
        let mut tool = Command::new(std::env::current_exe().unwrap());
        let tool = tool
            .arg(FLAG)
            .arg(said)
            .args(words)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = tool.id();
        self.tools.push(tool);
        pid
    }

    pub(crate) fn end_tool(&mut self, pid: u32) {
        let position = self.tools.iter().position(|tool| tool.id() == pid).unwrap();
        let mut tool = self.tools.remove(position);
        tool.kill().unwrap();
        tool.wait().unwrap();
    }

    /// Writes a program that a shell runs.
    pub(crate) fn program(&self, name: &str, text: &str) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// A directory that everybody may write to.
    pub(crate) fn open_dir(&self) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.join("open");
        let _ = fs::create_dir(&path);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        path
    }

    // ---- the end ------------------------------------------------------------------------

    /// Shuts the supervisor down, which has to say that everything is gone, and checks that.
    pub(crate) fn end(mut self) {
        if self.supervisor.is_some() {
            self.census();
            self.signal(libc::SIGTERM);
            let status = self.wait();
            assert_eq!(status.code(), Some(0), "{}", self.log());
            self.assert_last_words("verified: every service is gone, nothing is left");
        }
        self.assert_nothing_left();
        self.ended = true;
    }

    /// The supervisor's last line says this.
    pub(crate) fn assert_last_words(&self, words: &str) {
        let log = self.log();
        let last = log.lines().last().unwrap_or_default();
        assert!(
            last.contains(words),
            "the last line should say {words:?}:\n{log}"
        );
    }

    /// No process, no cgroup, no socket: neither of the supervisor nor of anything it started.
    pub(crate) fn assert_nothing_left(&mut self) {
        assert!(self.supervisor.is_none());
        let left: Vec<String> = self.everyone().into_iter().map(describe).collect();
        assert!(left.is_empty(), "left: {left:#?}\n{}", self.log());
        let seen = self.seen.borrow();
        let left: Vec<_> = seen.iter().filter(|id| look::is_alive(**id)).collect();
        assert!(left.is_empty(), "seen and alive: {left:?}\n{}", self.log());
        let stand = look::tree(&self.cgroup);
        let stand: Vec<_> = stand
            .iter()
            .filter(|dir| dir.to_string_lossy().contains("/nought-"))
            .collect();
        let stand: Vec<_> = stand
            .iter()
            .filter(|dir| **dir != &self.cgroup && !dir.ends_with("foreign"))
            .collect();
        assert!(stand.is_empty(), "cgroups left: {stand:?}\n{}", self.log());
        assert!(!self.socket().exists(), "the socket is left");
    }

    fn clean_up(&mut self) {
        for tool in &mut self.tools {
            let _ = tool.kill();
            let _ = tool.wait();
        }
        if let Some(supervisor) = &mut self.supervisor {
            let _ = supervisor.kill();
        }
        look::clear(&self.cgroup);
        if let Some(supervisor) = &mut self.supervisor {
            let _ = supervisor.wait();
        }
        for id in self.seen.borrow().iter().filter(|id| look::is_alive(**id)) {
            look::signal(id.pid, libc::SIGKILL);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "---- the supervisor's log ----\n{}---- end of it ----",
                self.log()
            );
        }
        self.clean_up();
        let _ = fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            assert!(self.ended, "this test never asked whether anything is left");
            assert!(
                !self.cgroup.exists(),
                "{} could not be removed",
                self.cgroup.display()
            );
        }
    }
}

fn describe(id: ProcId) -> String {
    let pid = id.pid;
    let argv = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let argv = String::from_utf8_lossy(&argv).replace('\0', " ");
    format!(
        "{pid} {argv} in {:?}, state {:?}",
        look::cgroup_of(pid),
        look::state(pid)
    )
}
