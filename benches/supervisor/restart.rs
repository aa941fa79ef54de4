//! From the death of a main process to the first instruction of its successor.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::machine::now_ms;
use crate::report::{Report, Samples};
use crate::supervisor::{Nought, Scratch};
use crate::{Options, fixture, peer};

pub(crate) fn run(options: &Options, report: &mut Report) {
    let scratch = Scratch::new("stamps");
    let mut stamps = Stamps::new(&scratch.path().join("fifo"));
    let exec = serde_json::json!(stamps.command());
    let file = format!("exec: {exec}\nlog: none\nrestart: {{stable_after: 1us}}\n");
    let nought = Nought::start("restart", &[("phoenix".into(), file)]);
    let mut client = nought.connect();
    let mut samples = Samples::default();
    stamps.next();
    for _ in 0..options.rounds(60, 10) {
        client.start("phoenix");
        let status = client.call("nought_status", &serde_json::json!({"name": "phoenix"}));
        let pid = status["pid"].as_i64().expect("a pid");
        crate::machine::pause(std::time::Duration::from_millis(20));
        samples.push(stamps.after_kill(u32::try_from(pid).expect("a pid")));
    }
    report.title("restart: main process killed → its successor runs, ms");
    report.row("nought, what was left proven gone", "", &samples, None);
    drop(client);
    nought.shut_down();
    if options.peers {
        peer::restart(options, report);
    }
}

/// A FIFO into which a service says when it began to run.
pub(crate) struct Stamps {
    path: std::path::PathBuf,
    lines: BufReader<File>,
}

impl Stamps {
    pub(crate) fn new(path: &Path) -> Self {
        nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("make a FIFO");
        // With a writer of our own it never ends.
        let file = OpenOptions::new().read(true).write(true).open(path);
        Self {
            path: path.into(),
            lines: BufReader::new(file.expect("open the FIFO")),
        }
    }

    /// What the service executes.
    pub(crate) fn command(&self) -> String {
        fixture::command(&format!("stamp {}", self.path.display()))
    }

    /// The next moment, in milliseconds.
    pub(crate) fn next(&mut self) -> f64 {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("read a moment");
        line.trim().parse::<f64>().expect("a moment") / 1e6
    }

    /// Kills the process and waits for its successor's word: how long that took.
    pub(crate) fn after_kill(&mut self, pid: u32) -> f64 {
        let began = now_ms();
        kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).expect("kill the service");
        self.next() - began
    }
}
