//! Services that are stopped: those that go, those that do not, and what they bring with them.

use serde_json::json;

use crate::look;
use crate::receipt::{assert_verified, pids, rungs};
use crate::world::World;

#[test]
fn a_simple_service_is_terminated() {
    let mut world = World::new();
    world.fixture("web", "stay", "").init();
    let status = world.reach("web", "up");
    let pid = world.pid("web", "pid");
    assert_eq!(status["pid"], pid);
    let receipt = world.stop_verified("web");
    assert_eq!(receipt["pid"], pid);
    assert_eq!(receipt["cause"], "stop");
    assert_eq!(
        receipt["exit"],
        json!({"signal": "SIGTERM", "number": 15, "core": false})
    );
    assert_eq!(receipt["killed"], json!([]), "{receipt:#}");
    assert!(!rungs(&receipt).contains(&"kill".to_owned()), "{receipt:#}");
    assert_eq!(world.status("web")["state"], "down");
    assert_eq!(world.status("web")["pid"], 0);
    world.end();
}

#[test]
fn all_children_of_a_service_end_with_it() {
    let mut world = World::new();
    world.fixture("web", "children 5", "").init();
    world.reach("web", "up");
    world.pid("web", "pid");
    world.census();
    assert_eq!(world.status("web")["processes"], 6);
    world.stop_verified("web");
    world.end();
}

#[test]
fn two_hundred_children_of_a_service_end_with_it() {
    let mut world = World::new();
    world.fixture("web", "children 200", "").init();
    world.pid("web", "pid");
    let main = &world.generations("web")[0].join("main");
    assert_eq!(look::members(main).len(), 201);
    world.stop_verified("web");
    world.end();
}

#[test]
fn children_in_groups_and_sessions_of_their_own_end_with_it() {
    let mut world = World::new();
    world
        .fixture("web", "groups 10", "shutdown_timeout: 10s")
        .init();
    world.numbers("web", "child", 10);
    let receipt = world.stop_verified("web");
    // The main process goes by the signal to its group, and the rest is asked as well.
    assert!(
        rungs(&receipt)
            .iter()
            .filter(|rung| *rung == "signal")
            .count()
            == 2,
        "{receipt:#}"
    );
    assert_eq!(
        receipt["killed"],
        json!([]),
        "they go when they are asked: {receipt:#}"
    );
    world.end();
}

#[test]
fn a_service_that_ignores_the_signal_has_its_grace_and_is_killed_then() {
    let mut world = World::new();
    world
        .fixture("web", "stubborn", "shutdown_timeout: 300ms")
        .init();
    world.reach("web", "up");
    let pid = world.pid("web", "pid");
    let receipt = world.stop_verified("web");
    assert_eq!(pids(&receipt, "killed"), [pid].into(), "{receipt:#}");
    assert_eq!(receipt["exit"]["signal"], "SIGKILL");
    let at = |word: &str| {
        let rungs = receipt["rungs"].as_array().unwrap();
        let rung = rungs.iter().find(|rung| rung["rung"] == word).unwrap();
        rung["at_ms"].as_f64().unwrap()
    };
    assert!(at("kill") - at("signal") >= 300.0, "{receipt:#}");
    world.end();
}

#[test]
fn a_service_that_goes_in_time_is_not_waited_for_to_the_end_of_its_grace() {
    let mut world = World::new();
    world
        .fixture("web", "polite 20", "shutdown_timeout: 1h")
        .init();
    world.number("web", "up");
    let receipt = world.stop_verified("web");
    assert_eq!(receipt["exit"], json!({"code": 0}));
    assert_eq!(receipt["killed"], json!([]));
    world.end();
}

#[test]
fn the_stop_signal_is_the_one_the_file_names() {
    let mut world = World::new();
    world.service("web", "exec: sh -c 'trap \"exit 9\" QUIT; trap \"\" TERM; while :; do sleep 0.01; done'\nsignal: {stop: sigquit}\n");
    world.init().reach("web", "up");
    crate::look::until("the shell has its trap", || {
        let pid = world.status("web")["pid"].as_u64()?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let caught = status
            .lines()
            .find_map(|line| line.strip_prefix("SigCgt:\t"))?;
        (u64::from_str_radix(caught, 16).ok()? & 4 != 0).then_some(())
    });
    let receipt = world.stop_verified("web");
    assert_eq!(receipt["exit"], json!({"code": 9}));
    world.end();
}

#[test]
fn the_supervisor_exits_cleanly_after_all_services_were_stopped() {
    let mut world = World::new();
    world
        .fixture("web", "children 3", "")
        .fixture("db", "polite 1", "")
        .init();
    for name in ["web", "db"] {
        world.number(name, "up");
        world.stop_verified(name);
    }
    let names: Vec<_> = ["web", "db"]
        .map(|name| world.status(name)["state"].clone())
        .into();
    assert_eq!(names, ["down", "down"]);
    assert!(
        world.everyone().len() == 1,
        "the supervisor alone: {:?}",
        world.everyone()
    );
    world.end();
}

#[test]
fn a_service_starts_and_stops_again_and_again_without_a_trace() {
    let mut world = World::new();
    world.fixture("web", "children 2", "").init();
    let round = |world: &World| {
        world.start("web").unwrap();
        world.stop_verified("web");
    };
    // The first rounds make what is kept: threads, the descriptors of their wake-ups.
    (0..5).for_each(|_| round(&world));
    let before = look::descriptors(world.supervisor());
    (0..20).for_each(|_| round(&world));
    let after = look::until("no descriptor and no watch more than before", || {
        let now = look::descriptors(world.supervisor());
        (now <= before).then_some(now)
    });
    assert_eq!(after.1, 0, "no watch without a service");
    assert_eq!(world.status("web")["generation"], 25);
    world.end();
}

#[test]
fn what_a_service_leaves_when_it_ends_by_itself_is_ended_before_its_restart() {
    let mut world = World::new();
    world
        .fixture(
            "web",
            "leave-child 0",
            "exit_grace: 50ms\nrestart: {policy: on-failure}",
        )
        .init();
    let child = world.pid("web", "child");
    let receipt = crate::look::until("a receipt", || {
        let receipt = world.receipt("web");
        receipt.is_object().then_some(receipt)
    });
    assert_verified(&receipt);
    assert_eq!(receipt["cause"], "ended");
    assert!(look::alive(child).is_none());
    world.reach("web", "done");
    world.end();
}
