//! One stop, with proof: by hand, over the socket, by command.

use std::process::{Command, Stdio};

use crate::fixture::{crowd, deaf_crowd};
use crate::floor::{End, Yard};
use crate::machine::{now_ms, pause};
use crate::report::{Report, Samples};
use crate::supervisor::{NOUGHT, Nought};
use crate::{Options, peer};

pub(crate) fn run(options: &Options, report: &mut Report) {
    for (processes, many, few) in [(1, 150, 30), (100, 30, 8), (1000, 8, 3)] {
        let rounds = options.rounds(many, few);
        one(report, End::Signal, processes, rounds);
        one(report, End::Kill, processes, rounds.min(50));
    }
    rested(options, report);
    if options.peers {
        peer::stop(options, report);
    }
}

#[derive(Default)]
struct Floor {
    empty: Samples,
    scanned: Samples,
    least: Samples,
    own: Samples,
}

fn one(report: &mut Report, end: End, processes: usize, rounds: usize) {
    let (words, how) = match end {
        End::Signal => (crowd(processes), "signal"),
        End::Kill => (deaf_crowd(processes), "kill"),
    };
    // Killed as soon as it was asked.
    let grace = if end == End::Kill {
        "shutdown_timeout: 0\n"
    } else {
        ""
    };
    let file = format!("exec: {}\nlog: none\n{grace}", serde_json::json!(words));
    let nought = Nought::start("stop", &[("crowd".into(), file)]);
    let mut client = nought.connect();
    let mut yard = Yard::new();
    let mut floor = Floor::default();
    let (mut socket, mut command) = (Samples::default(), Samples::default());
    let mut steps = Steps::default();
    for round in 0..rounds {
        // One crowd at a time: each pass sees the same number of processes.
        let crowd = yard.start(&words, processes);
        let by_hand = yard.stop(crowd, end, false);
        floor.empty.push(by_hand.empty);
        floor.scanned.push(by_hand.scanned);
        floor.least.push(by_hand.removed);
        client.start("crowd");
        client.await_processes("crowd", processes);
        let began = now_ms();
        let receipt = client.stop("crowd");
        socket.push(now_ms() - began);
        steps.add(&receipt);
        let crowd = yard.start(&words, processes);
        floor.own.push(yard.stop(crowd, end, true).removed);
        if round % 3 == 0 {
            client.start("crowd");
            client.await_processes("crowd", processes);
            command.push(by_command(&nought));
        }
    }
    report.title(&format!("stop by {how}, {processes} process(es), ms"));
    report.row("by hand: empty, not proven", "", &floor.empty, None);
    report.row("by hand: empty, least pass", "", &floor.scanned, None);
    report.row(
        "by hand, least pass, rmdir: the floor",
        "",
        &floor.least,
        None,
    );
    report.row(
        "by hand, our scanner, rmdir",
        "",
        &floor.own,
        Some(&floor.least),
    );
    report.row("over the socket, verified", "", &socket, Some(&floor.least));
    report.row("`nought stop`, verified", "", &command, Some(&floor.least));
    steps.report(report);
    drop(client);
    nought.shut_down();
}

fn by_command(nought: &Nought) -> f64 {
    let mut command = Command::new(NOUGHT);
    command
        .arg("-s")
        .arg(nought.socket())
        .args(["stop", "crowd"]);
    command.stdout(Stdio::null()).stdin(Stdio::null());
    let began = now_ms();
    let status = command.status().expect("run nought stop");
    assert!(status.success(), "nought stop ended with {status}");
    now_ms() - began
}

/// A first stop after a rest, when no thread is awake and no cache warm.
fn rested(options: &Options, report: &mut Report) {
    let file = "exec: sleep 100000\nlog: none\n".to_owned();
    let nought = Nought::start("rested", &[("crowd".into(), file)]);
    let mut client = nought.connect();
    let mut yard = Yard::new();
    let (mut socket, mut floor) = (Samples::default(), Samples::default());
    for _ in 0..options.rounds(12, 3) {
        client.start("crowd");
        pause(std::time::Duration::from_millis(3000));
        let began = now_ms();
        client.stop("crowd");
        socket.push(now_ms() - began);
        let crowd = yard.start("sleep 100000", 1);
        pause(std::time::Duration::from_millis(1000));
        floor.push(yard.stop(crowd, End::Signal, false).removed);
    }
    report.title("stop by signal, 1 process, after 3 s of rest, ms");
    report.row("by hand, least pass, rmdir: the floor", "", &floor, None);
    report.row("over the socket, verified", "", &socket, Some(&floor));
    drop(client);
    nought.shut_down();
}

/// When each rung was reached, from the receipts.
#[derive(Default)]
struct Steps(Vec<(String, Samples)>);

impl Steps {
    fn add(&mut self, receipt: &serde_json::Value) {
        for rung in receipt["rungs"].as_array().expect("rungs") {
            let name = rung["rung"].as_str().expect("a rung's word");
            let at = rung["at_ms"].as_f64().expect("a rung's moment");
            match self.0.iter_mut().find(|(known, _)| known == name) {
                Some((_, samples)) => samples.push(at),
                None => self.0.push((name.into(), Samples::from_iter([at]))),
            }
        }
    }

    fn report(&self, report: &mut Report) {
        let words: Vec<String> = self
            .0
            .iter()
            .map(|(rung, samples)| format!("{rung} {:.2}", samples.median()))
            .collect();
        report.note(&format!(
            "receipt, median ms since the request: {}",
            words.join(", ")
        ));
    }
}
