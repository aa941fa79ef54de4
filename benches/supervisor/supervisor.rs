//! A real `nought init` and a connection to it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::machine::{now_ms, wait_until};

/// The program under test, built with the bench profile.
pub(crate) const NOUGHT: &str = env!("CARGO_BIN_EXE_nought");

/// A directory of ours, removed with everything in it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        // In memory, as /run is on most machines: state, receipts and the socket belong there.
        let tmpfs = Path::new("/dev/shm");
        let parent = match tmpfs.is_dir() {
            true => tmpfs.to_path_buf(),
            false => std::env::temp_dir(),
        };
        let dir = parent.join(format!("nought-bench-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).expect("make a scratch directory");
        Self(dir)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running supervisor.
pub(crate) struct Nought {
    child: Child,
    scratch: Scratch,
    /// When it was spawned, in milliseconds.
    pub(crate) began_ms: f64,
}

impl Nought {
    /// Starts one with these services: names and what stands in their files.
    pub(crate) fn start(name: &str, services: &[(String, String)]) -> Self {
        let scratch = Scratch::new(name);
        let config = scratch.path().join("config");
        fs::create_dir_all(&config).expect("make the config directory");
        for (service, text) in services {
            fs::write(config.join(format!("{service}.yaml")), text).expect("write a service file");
        }
        let mut command = Command::new(NOUGHT);
        command
            .args(["init", "--container"])
            .arg("-c")
            .arg(&config)
            .arg("-s")
            .arg(scratch.path().join("socket"))
            .arg("--state-dir")
            .arg(scratch.path().join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        match std::env::var_os("NOUGHT_BENCH_LOG") {
            Some(path) => command.stderr(fs::File::create(path).expect("the log file")),
            None => command.stderr(Stdio::null()),
        };
        let began_ms = now_ms();
        let child = command.spawn().expect("start nought init");
        Self {
            child,
            scratch,
            began_ms,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.scratch.path().join("socket")
    }

    /// Connects as soon as somebody listens.
    pub(crate) fn connect(&self) -> Client {
        let mut stream = None;
        wait_until("the supervisor's socket", || {
            stream = UnixStream::connect(self.socket()).ok();
            stream.is_some()
        });
        Client::new(stream.expect("connected"))
    }

    /// Shuts it down and waits for its end: how long that took, in milliseconds.
    pub(crate) fn shut_down(mut self) -> f64 {
        let began = now_ms();
        let client = UnixStream::connect(self.socket()).expect("connect");
        let mut client = Client::new(client);
        client.send("nought_shutdown", &json!({}));
        let status = self.child.wait().expect("wait for nought init");
        let took = now_ms() - began;
        assert!(status.success(), "the shutdown ended with {status}");
        took
    }
}

impl Drop for Nought {
    fn drop(&mut self) {
        // Where a bench gave up in the midst: it stops its services on SIGTERM.
        if let Ok(None) = self.child.try_wait() {
            let pid = i32::try_from(self.child.id()).expect("a pid");
            let term = nix::sys::signal::Signal::SIGTERM;
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), term);
            let _ = self.child.wait();
        }
    }
}

/// A connection to the control socket.
pub(crate) struct Client {
    writer: UnixStream,
    reader: BufReader<UnixStream>,
}

impl Client {
    fn new(stream: UnixStream) -> Self {
        let reader = BufReader::new(stream.try_clone().expect("duplicate the socket"));
        Self {
            writer: stream,
            reader,
        }
    }

    fn send(&mut self, method: &str, params: &Value) {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let line = format!("{request}\n");
        self.writer
            .write_all(line.as_bytes())
            .expect("send a request");
    }

    /// A request and its answer.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Value {
        self.send(method, params);
        let mut line = String::new();
        self.reader.read_line(&mut line).expect("read an answer");
        let mut answer: Value = serde_json::from_str(&line).expect("an answer is JSON");
        let error = &answer["error"];
        assert!(error.is_null(), "{method}: {error}");
        answer["result"].take()
    }

    /// Starts a service and waits until it is up.
    pub(crate) fn start(&mut self, name: &str) {
        self.call("nought_start", &json!({"name": name}));
    }

    /// Stops a service: the receipt, which has to say `verified`.
    pub(crate) fn stop(&mut self, name: &str) -> Value {
        let mut done = self.call("nought_stop", &json!({"name": name}));
        let receipt = done["receipt"].take();
        assert_eq!(receipt["verdict"], "verified", "{receipt}");
        receipt
    }

    /// Waits until the service has so many processes.
    pub(crate) fn await_processes(&mut self, name: &str, count: usize) {
        wait_until("a service's processes", || {
            let status = self.call("nought_status", &json!({"name": name}));
            status["processes"].as_u64() == u64::try_from(count).ok()
        });
    }
}
