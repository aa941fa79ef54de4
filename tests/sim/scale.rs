//! A thousand services: the core's own work stays small, whatever the graph looks like.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use crate::core::{
    Effect, Event, Exit, Fence, KillReport, Outcome, Request, RequestId, ScanReport, ShutdownKind,
    Spec, Supervisor, SweepReport, Time,
};
use crate::scenario::{settings, spec};

const SERVICES: usize = 1_000;
/// Processor time for load, start and shutdown together, in a barely optimised build.
const BOUND: Duration = Duration::from_millis(900);

/// Processor time that this thread has used: another's load does not count.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .unwrap()
        .into()
}

/// A world in which everything goes well at once.
fn carry_out(core: &mut Supervisor, now: Time) -> (usize, Option<Outcome>) {
    let mut up = 0;
    let mut finished = None;
    while let Some(effect) = core.poll_effect() {
        let events = match effect {
            Effect::Spawn { r#gen, .. } => {
                up += 1;
                vec![Event::Spawned { r#gen, pid: 1 }, Event::Execed { r#gen }]
            }
            Effect::Signal { r#gen, .. } => vec![
                Event::MainExited {
                    r#gen,
                    exit: Exit::Code(0),
                },
                Event::Cgroup {
                    r#gen,
                    main: false,
                    whole: false,
                },
            ],
            Effect::Kill { r#gen, op } => {
                let report = KillReport {
                    populated: Some(false),
                    ..KillReport::default()
                };
                vec![Event::Killed { r#gen, op, report }]
            }
            Effect::Scan { r#gen, op } => {
                let report = ScanReport {
                    populated: Some(false),
                    conclusive: true,
                    ..ScanReport::default()
                };
                vec![Event::Scanned { r#gen, op, report }]
            }
            Effect::Fence { r#gen, op } => vec![Event::Fenced {
                r#gen,
                op,
                result: Fence::Removed,
            }],
            Effect::Flush => vec![Event::Flushed],
            Effect::Sweep => vec![Event::Swept {
                report: SweepReport::default(),
            }],
            Effect::Finish(outcome) => {
                finished = Some(outcome);
                Vec::new()
            }
            _ => Vec::new(),
        };
        for event in events {
            core.handle(now, event);
        }
    }
    (up, finished)
}

fn up_and_down(shape: &str, specs: Vec<Spec>, waiting: bool) {
    let now = Time::from_nanos(1);
    let count = specs.len();
    let names: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    let began = used();
    let mut core = Supervisor::new(settings(Duration::from_secs(90)), now);
    core.load(now, specs, Vec::new());
    let loaded = used() - began;
    if waiting {
        for (n, service) in names.into_iter().enumerate() {
            let request = Request::Start {
                service,
                wait: true,
                force: false,
            };
            let id = RequestId(n as u64);
            core.handle(now, Event::Request { id, request });
        }
    }
    let (up, _) = carry_out(&mut core, now);
    let started = used() - began;
    assert_eq!(up, count, "{shape}");
    let request = Request::Shutdown {
        kind: ShutdownKind::PowerOff,
    };
    let id = RequestId(u64::MAX);
    core.handle(now, Event::Request { id, request });
    let (_, outcome) = carry_out(&mut core, now);
    let took = used() - began;
    assert_eq!(
        outcome.map(|outcome| outcome.exit_code()),
        Some(0),
        "{shape}"
    );
    println!("{shape}: {count} loaded in {loaded:?}, up after {started:?}, down after {took:?}");
    assert!(took < BOUND, "{shape}: {took:?}");
}

fn name(n: usize) -> String {
    format!("s{n}")
}

/// Each service after (or requiring) the one before it; listed from either end.
fn chain(requires: bool, backwards: bool) -> Vec<Spec> {
    let mut specs: Vec<Spec> = (0..SERVICES)
        .map(|n| {
            let mut spec = spec(&name(n));
            if n > 0 {
                let before = name(n - 1);
                if requires {
                    spec.requires.push(before);
                } else {
                    spec.after.push(before);
                }
            }
            spec
        })
        .collect();
    if backwards {
        specs.reverse();
    }
    specs
}

fn hub() -> Vec<Spec> {
    let mut specs: Vec<Spec> = (0..SERVICES).map(|n| spec(&name(n))).collect();
    for spec in &mut specs[1..] {
        spec.requires.push(name(0));
    }
    specs
}

fn roof() -> Vec<Spec> {
    let mut specs: Vec<Spec> = (0..SERVICES).map(|n| spec(&name(n))).collect();
    specs[0].requires = (1..SERVICES).map(name).collect();
    specs
}

/// Layers of 20, each service after all of the layer below.
fn layers() -> Vec<Spec> {
    let mut specs: Vec<Spec> = (0..SERVICES).map(|n| spec(&name(n))).collect();
    for (n, spec) in specs.iter_mut().enumerate().skip(20) {
        let layer = n / 20;
        spec.after = ((layer - 1) * 20..layer * 20).map(name).collect();
    }
    specs
}

#[test]
fn a_thousand_services_in_every_shape() {
    up_and_down("chain", chain(false, false), false);
    up_and_down("chain, listed backwards", chain(false, true), false);
    up_and_down("requiring chain", chain(true, false), false);
    up_and_down(
        "requiring chain, listed backwards",
        chain(true, true),
        false,
    );
    up_and_down("hub", hub(), false);
    up_and_down("roof", roof(), false);
    up_and_down("layers", layers(), false);
}

#[test]
fn a_thousand_requests_that_wait() {
    up_and_down("chain", chain(true, false), true);
    up_and_down("chain, listed backwards", chain(true, true), true);
    up_and_down("roof", roof(), true);
}

/// One service is stopped below a thousand that require it, and comes again with them.
#[test]
fn a_thousand_requirers_follow_a_restart() {
    for (shape, specs) in [("hub", hub()), ("chain", chain(true, false))] {
        let now = Time::from_nanos(1);
        let mut core = Supervisor::new(settings(Duration::from_secs(90)), now);
        core.load(now, specs, Vec::new());
        carry_out(&mut core, now);
        let began = used();
        let request = Request::Restart {
            service: name(0),
            wait: true,
        };
        let id = RequestId(1);
        core.handle(now, Event::Request { id, request });
        let (up, _) = carry_out(&mut core, now);
        let took = used() - began;
        println!("{shape}: restarted in {took:?}");
        assert_eq!(up, SERVICES, "{shape}");
        assert!(took < BOUND, "{shape}: {took:?}");
    }
}

/// A cycle of a thousand is refused at once, naming it.
#[test]
fn a_cycle_of_a_thousand_is_refused() {
    let now = Time::from_nanos(1);
    let mut specs = chain(false, false);
    specs[0].after.push(name(SERVICES - 1));
    let began = used();
    let mut core = Supervisor::new(settings(Duration::from_secs(90)), now);
    core.load(now, specs, Vec::new());
    let took = used() - began;
    println!("cycle: {took:?}");
    let view = core.view("s700").unwrap();
    assert_eq!(view.state, "failed");
    let cycle = "s0 → s999 → s998 → s997 → s996 → … → s4 → s3 → s2 → s1 → s0";
    assert_eq!(view.detail, format!("dependency cycle: {cycle}"));
    assert!(took < BOUND, "{took:?}");
}
