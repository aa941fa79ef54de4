//! Benchmarks: what the supervisor takes, beside what the kernel takes, in the same run.
//!
//! `cargo bench` runs all of them and prints a table; `cargo bench -- stop memory` runs some.
//! `--json FILE` writes every number, `--quick` takes fewer rounds, `--peers` measures s6 (Debian
//! package `s6`) beside it. docs/benchmarks.md says what each number means. Needs root and
//! a writable cgroup2. It is its own fixture: services are `supervisor --fixture NAME …`.
#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    reason = "a bench starts programs as people do, and gives up loudly"
)]

mod command;
mod fixture;
mod floor;
mod graph;
mod idle;
mod log;
mod machine;
mod many;
mod memory;
mod peer;
mod report;
mod restart;
mod stop;
mod supervisor;

use std::path::PathBuf;

use report::Report;

/// What the command line asks for.
pub(crate) struct Options {
    /// Fewer rounds and no long waits.
    pub(crate) quick: bool,
    /// Measure other supervisors beside ours.
    pub(crate) peers: bool,
}

impl Options {
    /// `many` rounds, or `few` when it has to be quick.
    pub(crate) fn rounds(&self, many: usize, few: usize) -> usize {
        if self.quick { few } else { many }
    }
}

type Bench = fn(&Options, &mut Report);

const BENCHES: [(&str, Bench); 8] = [
    ("stop", stop::run),
    ("graph", graph::run),
    ("many", many::run),
    ("memory", memory::run),
    ("idle", idle::run),
    ("restart", restart::run),
    ("command", command::run),
    ("log", log::run),
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name, rest @ ..] = words.as_slice()
        && flag == "--fixture"
    {
        return fixture::run(name, rest);
    }
    let (mut options, mut json, mut chosen) = (
        Options {
            quick: false,
            peers: false,
        },
        None,
        Vec::new(),
    );
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            // What cargo bench adds.
            "--bench" => {}
            "--quick" => options.quick = true,
            "--peers" => options.peers = true,
            "--json" => json = Some(PathBuf::from(words.next().expect("--json FILE"))),
            name if BENCHES.iter().any(|(known, _)| *known == name) => chosen.push(word),
            other => panic!("unknown word {other:?}: a bench, --quick, --peers or --json FILE"),
        }
    }
    assert!(
        nix::unistd::geteuid().is_root(),
        "the benches need root: real cgroups"
    );
    // Orphans of what the floor starts are to be reaped here.
    nought::sys::reap::set_child_subreaper().expect("subreaper");
    let mut report = Report::default();
    report.print_machine();
    for (name, bench) in BENCHES {
        if chosen.is_empty() || chosen.iter().any(|word| word == name) {
            bench(&options, &mut report);
        }
    }
    if let Some(path) = json {
        report.write(&path);
    }
}
