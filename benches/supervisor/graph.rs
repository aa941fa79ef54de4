//! Chains and hubs of services that take a known time to stop: the total against the ideal.

use crate::Options;
use crate::fixture;
use crate::floor::{End, Yard};
use crate::machine::now_ms;
use crate::report::{Report, Samples};
use crate::supervisor::Nought;

/// How long each service takes to stop, in milliseconds.
const STOP_MS: f64 = 50.0;

pub(crate) fn run(options: &Options, report: &mut Report) {
    let rounds = options.rounds(7, 3);
    report.title("stop in order, each service takes 50 ms, ms");
    let floor = one_by_hand(report, rounds);
    for length in [5, 20] {
        let services: Vec<(String, String)> = (0..length)
            .map(|n| service(n, (n > 0).then(|| n - 1)))
            .collect();
        measure(
            report,
            &format!("chain of {length}"),
            &services,
            (f64::from(length), &floor),
            rounds,
        );
    }
    let services: Vec<(String, String)> =
        (0..=20).map(|n| service(n, (n > 0).then_some(0))).collect();
    measure(report, "hub of 20", &services, (2.0, &floor), rounds);
}

/// What one such service really takes: its end and the least proof are in every step of a chain.
fn one_by_hand(report: &mut Report, rounds: usize) -> Samples {
    let mut yard = Yard::new();
    let (mut empty, mut removed) = (Samples::default(), Samples::default());
    for _ in 0..rounds {
        let crowd = yard.start(&fixture::command("stops-in 50"), 1);
        crate::machine::pause(std::time::Duration::from_millis(100));
        let parts = yard.stop(crowd, End::Signal, false);
        empty.push(parts.empty);
        removed.push(parts.removed);
    }
    let ideal = Samples::from_iter([STOP_MS]);
    report.row("one by hand: empty, not proven", "", &empty, Some(&ideal));
    report.row("one by hand: the floor", "", &removed, Some(&ideal));
    removed
}

fn service(number: i32, requires: Option<i32>) -> (String, String) {
    let exec = serde_json::json!(fixture::command("stops-in 50"));
    let requires = requires.map_or_else(String::new, |n| format!("requires: [s{n}]\n"));
    (
        format!("s{number}"),
        format!("exec: {exec}\nlog: none\n{requires}"),
    )
}

fn measure(
    report: &mut Report,
    what: &str,
    services: &[(String, String)],
    (steps, floor): (f64, &Samples),
    rounds: usize,
) {
    let nought = Nought::start("graph", services);
    let mut client = nought.connect();
    let mut samples = Samples::default();
    for _ in 0..rounds {
        for (name, _) in services {
            client.start(name);
        }
        // Each is up when it has executed; what it does with TERM is set up a moment later.
        crate::machine::pause(std::time::Duration::from_millis(100));
        let began = now_ms();
        client.stop("s0");
        samples.push(now_ms() - began);
    }
    let ideal = STOP_MS * steps;
    let base = Samples::from_iter([ideal]);
    let row = format!("{what}, ideal {ideal} ms");
    report.row(&row, "", &samples, Some(&base));
    let base = Samples::from_iter([floor.median() * steps]);
    let row = format!("{what}, against {steps} times the floor");
    report.row(&row, "", &samples, Some(&base));
    drop(client);
    nought.shut_down();
}
