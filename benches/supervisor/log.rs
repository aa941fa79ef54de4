//! What a service writes, until it is in rotated files: how much a second, and what that takes of
//! the processor, beside svlogd, s6-log, multilog and cat(1) with the same writer.
//!
//! Whoever is not installed is left out (Debian's packages `runit`, `s6`, `daemontools`).

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::stat::Mode;
use nix::sys::time::TimeVal;
use nix::unistd::mkfifo;

use crate::Options;
use crate::fixture::{self, LAST_LINE};
use crate::machine::{cpu_seconds, now_ms, wait_until};
use crate::report::{Report, Samples};
use crate::supervisor::{Nought, Scratch};

/// Bytes of a file before it is rotated, and how many older ones are kept: multilog takes no more
/// than 16,777,215.
const MAX_SIZE: u64 = 16_000_000;
const KEEP: u32 = 5;

/// What one run took.
#[derive(Default)]
struct Runs {
    /// Megabytes (10^6 bytes) a second that the service wrote, until the last line was in its file.
    speed: Samples,
    /// Processor seconds of the logger alone, for 10^9 bytes.
    cpu: Samples,
}

/// A program that reads lines from its stdin, and its words; `{}` stands for the directory.
struct Peer {
    what: &'static str,
    words: &'static [&'static str],
}

/// As they came.
const PLAIN: [Peer; 3] = [
    Peer {
        what: "svlogd",
        words: &["svlogd", "-b", "65536", "{}"],
    },
    Peer {
        what: "s6-log",
        words: &["s6-log", "-b", "n5", "s16000000", "{}"],
    },
    Peer {
        what: "multilog",
        words: &["multilog", "n5", "s16000000", "{}"],
    },
];

/// With the time of each line.
const TIMED: [Peer; 3] = [
    Peer {
        what: "svlogd -ttt",
        words: &["svlogd", "-b", "65536", "-ttt", "{}"],
    },
    Peer {
        what: "s6-log T",
        words: &["s6-log", "-b", "n5", "s16000000", "T", "{}"],
    },
    Peer {
        what: "multilog t",
        words: &["multilog", "t", "n5", "s16000000", "{}"],
    },
];

const FLOOR: Peer = Peer {
    what: "cat >file, no rotation",
    words: &["sh", "-c", "exec cat >{}/current"],
};

pub(crate) fn run(options: &Options, report: &mut Report) {
    let mib = options.rounds(256, 64);
    let rounds = options.rounds(7, 2);
    let mut floor = Runs::default();
    let mut plain: Vec<Runs> = PLAIN.iter().map(|_| Runs::default()).collect();
    let mut timed: Vec<Runs> = TIMED.iter().map(|_| Runs::default()).collect();
    let mut ours: Vec<Runs> = ["plain", "prefix", "json"].map(|_| Runs::default()).into();
    // In turns: what else the machine does comes to all of them.
    for _ in 0..rounds {
        floor.measure_peer(&FLOOR, mib);
        for (peer, runs) in PLAIN.iter().zip(&mut plain) {
            runs.measure_peer(peer, mib);
        }
        for (peer, runs) in TIMED.iter().zip(&mut timed) {
            runs.measure_peer(peer, mib);
        }
        for (format, runs) in ["plain", "prefix", "json"].iter().zip(&mut ours) {
            runs.measure_nought(format, mib);
        }
    }
    for (unit, of) in [
        ("MB/s", speed as fn(&Runs) -> &Samples),
        ("CPU s/GB", |runs| &runs.cpu),
    ] {
        report.title(&format!(
            "a service writes {mib} MiB of lines of 100 bytes into rotated files: {unit}"
        ));
        let base = of(&floor);
        report.row(FLOOR.what, unit, base, None);
        let peers = PLAIN.iter().zip(&plain).chain(TIMED.iter().zip(&timed));
        for (peer, runs) in peers.filter(|(peer, _)| peer.is_there()) {
            report.row(peer.what, unit, of(runs), Some(base));
        }
        for (format, runs) in ["plain", "prefix", "json"].iter().zip(&ours) {
            let what = format!("nought, format: {format}");
            report.row(&what, unit, of(runs), Some(base));
        }
    }
    for peer in PLAIN.iter().filter(|peer| !peer.is_there()) {
        report.note(&format!("{} is not installed and left out", peer.what));
    }
}

fn speed(runs: &Runs) -> &Samples {
    &runs.speed
}

impl Peer {
    fn is_there(&self) -> bool {
        let program = self.words.first().copied().unwrap_or_default();
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(program).exists())
    }
}

impl Runs {
    fn push(&mut self, mib: usize, took_ms: f64, cpu_s: f64) {
        let bytes = (mib << 20) as f64;
        self.speed.push(bytes / 1e6 / (took_ms / 1e3));
        self.cpu.push(cpu_s / (bytes / 1e9));
    }

    /// The writer on one end of a pipe, the logger on the other.
    fn measure_peer(&mut self, peer: &Peer, mib: usize) {
        if !peer.is_there() {
            return;
        }
        let scratch = Scratch::new("log-peer");
        let dir = scratch.path().to_str().expect("a path of ours");
        let config = format!("s{MAX_SIZE}\nn{KEEP}\n");
        fs::write(scratch.path().join("config"), config).expect("write svlogd's configuration");
        let gate = gate(&scratch);
        let (reader, writer) = std::io::pipe().expect("make a pipe");
        let words: Vec<String> = peer.words.iter().map(|w| w.replace("{}", dir)).collect();
        let (program, words) = words.split_first().expect("a program");
        let mut logger = Command::new(program)
            .args(words)
            .stdin(Stdio::from(reader))
            .stderr(Stdio::null())
            .spawn()
            .expect("start the logger");
        let mut service = Command::new(std::env::current_exe().expect("our own path"))
            .args(["--fixture", "lines", &mib.to_string()])
            .arg(&gate)
            .stdout(Stdio::from(writer))
            .spawn()
            .expect("start the writer");
        let began = open(&gate);
        assert!(service.wait().expect("wait for the writer").success());
        let before = children_seconds();
        assert!(logger.wait().expect("wait for the logger").success());
        let took = now_ms() - began;
        assert!(
            ends_with_the_last_line(&scratch.path().join("current")),
            "{} has not written all",
            peer.what
        );
        self.push(mib, took, children_seconds() - before);
    }

    /// The whole supervisor: pipes, what is kept in memory, and the file.
    fn measure_nought(&mut self, format: &str, mib: usize) {
        let scratch = Scratch::new("log");
        let path = scratch.path().join("current");
        let gate = gate(&scratch);
        let exec = fixture::command(&format!("lines {mib} {}", gate.display()));
        let text = format!(
            "exec: {exec}\noneshot: true\nlog: {{path: {}, format: {format}, \
             max_size: {MAX_SIZE}, keep: {KEEP}, backpressure: block}}\n",
            path.display()
        );
        let nought = Nought::start("log", &[("loud".into(), text)]);
        let began = open(&gate);
        let before = cpu_seconds(nought.pid());
        wait_until("the last line", || ends_with_the_last_line(&path));
        let took = now_ms() - began;
        self.push(mib, took, cpu_seconds(nought.pid()) - before);
        nought.shut_down();
    }
}

/// A FIFO that the writer waits at.
fn gate(scratch: &Scratch) -> PathBuf {
    let path = scratch.path().join("gate");
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).expect("make a FIFO");
    path
}

/// Waits until the writer is there and lets it begin: when that was, in milliseconds.
fn open(gate: &Path) -> f64 {
    let gate = File::options().write(true).open(gate);
    drop(gate.expect("open the FIFO"));
    now_ms()
}

/// Processor seconds of all children that were waited for.
fn children_seconds() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn ends_with_the_last_line(path: &Path) -> bool {
    let mut end = [0; 64];
    let Ok(mut file) = File::open(path) else {
        return false;
    };
    let length = file.metadata().map_or(0, |file| file.len());
    let from = length.saturating_sub(end.len() as u64);
    if file.seek(SeekFrom::Start(from)).is_err() {
        return false;
    }
    let count = file.read(&mut end).unwrap_or(0);
    String::from_utf8_lossy(&end[..count]).contains(LAST_LINE)
}
