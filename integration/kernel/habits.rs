//! Services with bad habits: whatever they do with their processes, nothing of it is left.

use serde_json::json;

use crate::catalogue::table::row;
use crate::look::{self, until};
use crate::receipt::{assert_verified, pids, rungs};
use crate::world::World;

/// How often a storm is raised: more often by night.
fn storms() -> usize {
    std::env::var("NOUGHT_STORMS").map_or(1, |text| text.parse().unwrap())
}

#[test]
fn a_process_whose_main_thread_has_gone_is_ended() {
    let mut world = World::new();
    world
        .fixture("web", "mainless", "shutdown_timeout: 50ms")
        .init();
    let pid = world.pid("web", "pid");
    assert_eq!(look::state(pid).as_deref(), Some("Z"));
    assert!(look::alive(pid).is_some(), "a thread of it lives");
    let receipt = world.stop_verified("web");
    assert!(rungs(&receipt).contains(&"kill".to_owned()), "{receipt:#}");
    assert_eq!(pids(&receipt, "killed"), [pid].into(), "{receipt:#}");
    row!(
        Survive,
        "a main thread that has ended, another thread lives"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn an_orphan_in_a_session_of_its_own_ends_with_its_service() {
    let mut world = World::new();
    world.fixture("web", "session", "").init();
    let child = world.pid("web", "child");
    until("it is an orphan", || {
        (look::parent(child) == Some(world.supervisor())).then_some(())
    });
    let receipt = world.stop_verified("web");
    assert!(look::alive(child).is_none());
    row!(Survive, "an orphan in a session of its own").receipt(&receipt);
    world.end();
}

#[test]
fn an_orphan_of_a_double_fork_ends_with_its_service() {
    let mut world = World::new();
    world.fixture("web", "double-fork", "").init();
    let child = world.pid("web", "child");
    let receipt = world.stop_verified("web");
    assert!(look::alive(child).is_none());
    row!(Survive, "an orphan of a double fork").receipt(&receipt);
    world.end();
}

#[test]
fn a_daemon_that_left_its_main_process_is_ended_with_it() {
    let mut world = World::new();
    world
        .fixture("web", "daemon", "exit_grace: 10s\nrestart: {policy: never}")
        .init();
    let daemon = world.pid("web", "daemon");
    world.reach("web", "done");
    let receipt = world.receipt("web");
    assert_verified(&receipt);
    assert_eq!(receipt["cause"], "ended");
    assert_eq!(receipt["exit"], json!({"code": 0}));
    assert!(look::alive(daemon).is_none());
    row!(
        Survive,
        "a daemon (session, two forks) whose main process ends by itself"
    )
    .receipt(&receipt);
    world.end();
}

/// Starts the service of a storm again and again, and stops it in the midst of it.
pub(crate) fn in_storms(world: &World, stop: impl Fn()) {
    for storm in 1..=storms() {
        if storm > 1 {
            world.start("web").unwrap();
        }
        world.numbers("web", "up", storm);
        stop();
    }
}

#[test]
fn chains_that_go_on_by_forking_and_exiting_are_ended() {
    let mut world = World::alone();
    world
        .fixture("web", "relay 4", "shutdown_timeout: 20ms")
        .init();
    in_storms(&world, || {
        let receipt = world.stop_verified("web");
        row!(
            Survive,
            "relays that fork and exit, in sessions of their own"
        )
        .receipt_that(&receipt, "asked, or killed after its grace");
    });
    world.end();
}

#[test]
fn chains_that_go_on_outside_their_cgroup_are_ended() {
    let mut world = World::alone();
    let outside = world.foreign_cgroup();
    let words = format!("relay 4 {}", outside.display());
    world
        .fixture("web", &words, "shutdown_timeout: 20ms")
        .init();
    in_storms(&world, || {
        assert!(!look::members(&outside).is_empty());
        let receipt = world.stop_verified("web");
        assert!(!pids(&receipt, "escaped").is_empty(), "{receipt:#}");
        until("the cgroup outside is empty", || {
            look::members(&outside).is_empty().then_some(())
        });
        row!(Survive, "relays that fork and exit, outside")
            .receipt_that(&receipt, "asked, or killed after its grace");
    });
    world.end();
}

#[test]
fn a_fork_bomb_is_ended() {
    let mut world = World::alone();
    world
        .fixture("web", "bomb 64901 100", "shutdown_timeout: 20ms\nlog: none")
        .init();
    in_storms(&world, || {
        let main = world.generations("web")[0].join("main");
        until("it has gone off", || {
            (look::members(&main).len() >= 90).then_some(())
        });
        let receipt = world.stop_verified("web");
        row!(Survive, "a fork bomb").receipt_that(&receipt, "asked, or killed after its grace");
    });
    world.end();
}

#[test]
fn stopped_processes_are_ended() {
    let mut world = World::new();
    world.fixture("web", "stopped", "").init();
    let pid = world.pid("web", "pid");
    until("it is stopped", || (look::state(pid)? == "T").then_some(()));
    let receipt = world.stop_verified("web");
    // The signal waits for a stopped process to go on, and it is made to.
    assert_eq!(receipt["exit"]["signal"], "SIGTERM", "{receipt:#}");
    assert_eq!(receipt["killed"], json!([]), "{receipt:#}");
    row!(Survive, "stopped by SIGSTOP, a child too").receipt(&receipt);
    world.end();
}

#[test]
fn a_service_that_somebody_froze_is_ended() {
    let mut world = World::new();
    world
        .fixture("web", "stubborn", "shutdown_timeout: 50ms")
        .init();
    let pid = world.pid("web", "pid");
    let generation = &world.generations("web")[0];
    std::fs::write(generation.join("cgroup.freeze"), "1").unwrap();
    until("it is frozen", || {
        let events = std::fs::read_to_string(generation.join("cgroup.events")).ok()?;
        events.contains("frozen 1").then_some(())
    });
    let receipt = world.stop_verified("web");
    assert_eq!(pids(&receipt, "killed"), [pid].into(), "{receipt:#}");
    row!(Survive, "frozen by hand (cgroup.freeze)").receipt(&receipt);
    world.end();
}
