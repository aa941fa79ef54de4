//! Every schedule of small scenarios: up to three services, a few kinds of trouble, a bounded
//! number of decisions.

use std::time::Duration;

use crate::core::{Request, RestartWhen, ShutdownKind, Spec};
use crate::dice::{Dice, Script};
use crate::faults::Faults;
use crate::run::Run;
use crate::scenario::{End, Outside, Scenario, spec};

/// Runs every path through the scenario's first `depth` decisions; returns how many there are.
fn explore(scenario: &Scenario, depth: usize, what: &str) -> u64 {
    let mut script = Some(Script::new(depth));
    let mut paths = 0;
    while let Some(path) = script {
        let taken = path.clone();
        let mut run = Run::new(scenario, Dice::script(path), false);
        paths += 1;
        if let Err(broken) = run.finish() {
            let mut again = Run::new(scenario, Dice::script(taken.clone()), true);
            let _ = again.finish();
            panic!(
                "{what}, path {:?}: {broken}\n{}",
                taken.path(),
                again.world.trace.tail(150)
            );
        }
        script = run.world.dice.into_script().and_then(Script::next);
    }
    paths
}

fn quick(name: &str) -> Spec {
    let mut spec = spec(name);
    spec.grace = Duration::from_millis(15);
    spec.exit_grace = Duration::from_millis(15);
    spec.kill_timeout = Duration::from_millis(40);
    spec
}

fn below(name: &str, requires: &[&str], after: &[&str]) -> Spec {
    let mut spec = quick(name);
    spec.requires = requires.iter().map(|&name| name.into()).collect();
    spec.after = after.iter().map(|&name| name.into()).collect();
    spec
}

/// Chain, hub, roof, and a chain through a oneshot that is done.
fn graphs() -> Vec<(&'static str, Vec<Spec>)> {
    let mut done = below("b", &["a"], &[]);
    done.oneshot = true;
    vec![
        ("one", vec![quick("a")]),
        (
            "chain",
            vec![quick("a"), below("b", &["a"], &[]), below("c", &[], &["b"])],
        ),
        (
            "hub",
            vec![quick("a"), below("b", &["a"], &[]), below("c", &[], &["a"])],
        ),
        (
            "roof",
            vec![quick("a"), quick("b"), below("c", &["a"], &["b"])],
        ),
        (
            "through a oneshot",
            vec![quick("a"), done, below("c", &["b"], &[])],
        ),
    ]
}

fn scenario(specs: Vec<Spec>, end: End) -> Scenario {
    let mut scenario = Scenario::plain(specs);
    scenario.settings.deadline = Duration::from_millis(800);
    scenario.end = end;
    scenario
}

/// One kind of trouble at a time, or two, wherever it can strike.
fn alphabets() -> Vec<(&'static str, Faults)> {
    let none = Faults::none();
    let half = 500;
    vec![
        (
            "services that will not go",
            Faults {
                ignores_signal: half,
                unkillable: half,
                ..none.clone()
            },
        ),
        (
            "children and escapes",
            Faults {
                children: half,
                escapes: half,
                leaves_children: half,
                ..none.clone()
            },
        ),
        (
            "escapes that come back",
            Faults {
                children: 1000,
                escapes: 1000,
                leaves_children: 1000,
                returns: half,
                relays: half,
                ..none.clone()
            },
        ),
        (
            "starts that fail",
            Faults {
                spawn_fails: half,
                exec_fails: half,
                spawn_hangs: half,
                ..none.clone()
            },
        ),
        (
            "operations that fail or hang",
            Faults {
                op_fails: half,
                op_hangs: half,
                ..none.clone()
            },
        ),
        (
            "operations that are slow, events twice",
            Faults {
                op_slow: half,
                duplicated: half,
                ..none
            },
        ),
    ]
}

#[test]
fn every_small_trouble_in_a_shutdown_and_before_one() {
    let mut paths = 0;
    for (graph, specs) in graphs() {
        for (trouble, faults) in alphabets() {
            for end in [End::Shutdown, End::HealThenProgress] {
                let mut scenario = scenario(specs.clone(), end);
                scenario.faults = faults.clone();
                paths += explore(&scenario, 9, &format!("{graph}, {trouble}, {end:?}"));
            }
        }
    }
    println!("{paths} paths");
    assert!(paths > 10_000);
}

#[test]
fn every_order_of_events_in_a_shutdown() {
    let mut paths = 0;
    for (graph, specs) in graphs() {
        paths += explore(&scenario(specs, End::Shutdown), 11, graph);
    }
    println!("{paths} paths");
    assert!(paths > 1_000);
}

fn requests(service: &str) -> Vec<Outside> {
    let service = || service.to_owned();
    let mut all = vec![
        Outside::Request(Request::Start {
            service: service(),
            wait: true,
            force: true,
        }),
        Outside::Request(Request::Restart {
            service: service(),
            wait: true,
        }),
    ];
    for force in [false, true] {
        let service = service();
        all.push(Outside::Request(Request::Stop { service, force }));
    }
    all
}

/// Any two requests, one right after the other or a step of the ladder later.
#[test]
fn every_pair_of_requests() {
    let mut paths = 0;
    for (graph, specs) in graphs() {
        let mut all: Vec<Outside> = specs.iter().flat_map(|spec| requests(&spec.name)).collect();
        all.push(Outside::Terminate);
        all.push(Outside::Request(Request::Shutdown {
            kind: ShutdownKind::Reboot,
        }));
        for first in &all {
            for second in &all {
                for (later_ms, unkillable) in [(0, 0), (20, 0), (0, 1000), (200, 1000)] {
                    let mut scenario = scenario(specs.clone(), End::HealThenShutdown);
                    scenario.faults.unkillable = unkillable;
                    scenario.faults.ignores_signal = unkillable;
                    scenario.outside = vec![(500, first.clone()), (500 + later_ms, second.clone())];
                    let what = format!("{graph}: {first:?}, {later_ms} ms later {second:?}");
                    paths += explore(&scenario, 3, &what);
                }
            }
        }
    }
    println!("{paths} paths");
    assert!(paths > 10_000);
}

/// A service that ends by itself while something is asked of it or of another.
#[test]
fn every_request_while_a_service_ends() {
    let mut paths = 0;
    for (graph, mut specs) in graphs() {
        for spec in &mut specs {
            spec.restart.when = RestartWhen::OnFailure;
        }
        let all: Vec<Outside> = specs.iter().flat_map(|spec| requests(&spec.name)).collect();
        for request in &all {
            let mut scenario = scenario(specs.clone(), End::HealThenProgress);
            scenario.faults.early_exit = 500;
            scenario.outside = vec![(0, request.clone())];
            paths += explore(&scenario, 8, &format!("{graph}: {request:?}"));
        }
    }
    println!("{paths} paths");
    assert!(paths > 1_000);
}
