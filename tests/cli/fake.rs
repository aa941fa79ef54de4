//! A supervisor that recites canned answers, and the program run against it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nought::api::Frames;
use serde_json::{Value, json};

/// What one method answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Result(Value),
    Error(Value),
    /// These bytes, whatever they are.
    Bytes(&'static [u8]),
    /// Nothing, and the connection stays open.
    Silence,
    /// Nothing, and the connection ends.
    Close,
}

/// Ends with the test, thread and socket included.
pub(crate) struct Fake {
    dir: PathBuf,
    pub(crate) socket: PathBuf,
    asked: Arc<Mutex<Vec<Value>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What a run of the program gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A directory of this test's own.
pub(crate) fn directory() -> PathBuf {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("nought-cli-{}-{n}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

impl Fake {
    /// Answers `method` with its entry; the last entry of a method is repeated.
    pub(crate) fn new(script: &[(&str, Answer)]) -> Self {
        let dir = directory();
        let socket = dir.join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let script: Vec<(String, Answer)> = script
            .iter()
            .map(|(method, answer)| ((*method).to_string(), answer.clone()))
            .collect();
        let script = Arc::new(Mutex::new(script));
        let (record, stopping) = (asked.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut connections = Vec::new();
            for stream in listener.incoming() {
                if stopping.load(Ordering::Acquire) {
                    break;
                }
                let (stream, record, script) = (stream.unwrap(), record.clone(), script.clone());
                connections.push(std::thread::spawn(move || serve(stream, &record, &script)));
            }
            for connection in connections {
                connection.join().unwrap();
            }
        });
        Fake {
            dir,
            socket,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    /// Runs the program with `words`, this socket and a bare environment.
    pub(crate) fn run(&self, words: &str) -> Run {
        run(&self.socket, words)
    }

    /// Every request so far, as `method params`.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        asked
            .iter()
            .map(|request| {
                format!(
                    "{} {}",
                    request["method"].as_str().unwrap(),
                    request["params"]
                )
            })
            .collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        drop(UnixStream::connect(&self.socket));
        if let Some(thread) = self.thread.take() {
            let joined = thread.join();
            if !std::thread::panicking() {
                joined.unwrap();
            }
        }
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn serve(
    mut stream: UnixStream,
    record: &Mutex<Vec<Value>>,
    script: &Mutex<Vec<(String, Answer)>>,
) {
    let mut frames = Frames::new();
    let mut chunk = [0; 4096];
    loop {
        let n = match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(n) => n,
        };
        frames.push(&chunk[..n]);
        while let Some(request) = frames.next_value() {
            let request = request.unwrap();
            let (id, method) = (
                request["id"].clone(),
                request["method"].as_str().unwrap().to_string(),
            );
            record.lock().unwrap().push(request);
            let answer = next(&mut script.lock().unwrap(), &method);
            let bytes = match answer {
                Answer::Result(result) => {
                    json!({"jsonrpc": "2.0", "id": id, "result": result}).to_string()
                }
                Answer::Error(error) => {
                    json!({"jsonrpc": "2.0", "id": id, "error": error}).to_string()
                }
                Answer::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Answer::Silence => continue,
                Answer::Close => return,
            };
            if stream.write_all(bytes.as_bytes()).is_err() {
                return;
            }
        }
    }
}

fn next(script: &mut Vec<(String, Answer)>, method: &str) -> Answer {
    let places: Vec<usize> = (0..script.len())
        .filter(|i| script[*i].0 == method)
        .collect();
    match places[..] {
        [] => Answer::Error(
            json!({"code": -32601, "message": format!("there is no method `{method}`")}),
        ),
        [only] => script[only].1.clone(),
        [first, ..] => script.remove(first).1,
    }
}

/// Runs the program with `words`, split at blanks, on `socket`.
pub(crate) fn run(socket: &Path, words: &str) -> Run {
    let mut command = program();
    command
        .env("NOUGHT_SOCKET", socket)
        .args(words.split_whitespace());
    output(command, socket)
}

/// The program with a bare environment.
pub(crate) fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nought"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// What it prints, with the socket's path as `SOCKET`.
pub(crate) fn output(mut command: Command, socket: &Path) -> Run {
    let output = command.output().unwrap();
    let path = socket.to_string_lossy();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&*path, "SOCKET");
    Run {
        code: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    }
}

/// Compares a run's three parts, each with a readable difference.
#[track_caller]
pub(crate) fn check(run: &Run, code: i32, stdout: &str, stderr: &str) {
    if (run.code, run.stdout.as_str(), run.stderr.as_str()) != (code, stdout, stderr) {
        panic!(
            "\n== code {}, expected {code}\n== stdout\n{}== expected\n{stdout}== stderr\n{}== expected\n{stderr}",
            run.code, run.stdout, run.stderr
        );
    }
}
