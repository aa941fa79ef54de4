//! Places without a cgroup of one's own: less can be promised, and that is said.

use serde_json::{Value, json};

use crate::catalogue::table::row;
use crate::habits::in_storms;
use crate::look::{self, until};
use crate::receipt::{assert_verified, pids};
use crate::world::World;

/// A world whose supervisor finds cgroup2 as `how` leaves it, in a mount namespace of its own.
fn without_cgroups(how: &str) -> World {
    let mut world = World::new();
    world.launch = vec![format!("{how}={}", look::cgroup_mount().display())];
    world
}

/// Stops a service: a receipt that is verified by what this place can do.
fn stop(world: &World, name: &str) -> Value {
    let receipt = world.stop(name);
    assert_verified(&receipt);
    assert_eq!(
        receipt["guarantee"],
        json!({"containment": "subreaper", "scan": "marked"}),
        "{receipt:#}"
    );
    receipt
}

fn says_so_and_still_stops(how: &str) -> Value {
    let mut world = without_cgroups(how);
    world.fixture("web", "children 3", "");
    world.fixture("sly", "double-fork", "");
    world.fixture("away", "session", "");
    world.fixture("stubborn", "stubborn", "shutdown_timeout: 100ms");
    world.fixture("mainless", "mainless", "shutdown_timeout: 50ms");
    world
        .fixture(
            "daemon",
            "daemon",
            "exit_grace: 50ms\nrestart: {policy: never}",
        )
        .init();
    let info = world.call("nought_info", json!({})).unwrap();
    assert_eq!(info["guarantee"], "subreaper marked", "{info}");
    assert_eq!(
        (&info["containment"], &info["scan"]),
        (&json!("subreaper"), &json!("marked"))
    );
    let notes = info["notes"].as_array().unwrap();
    assert!(
        notes
            .iter()
            .any(|note| note.as_str().unwrap().contains("cgroup")),
        "{info}"
    );
    world.log_with("guarantee here: subreaper marked");
    for name in ["web", "sly", "away", "stubborn", "mainless"] {
        world.number(name, "up");
        assert_eq!(world.status(name)["guarantee"], "subreaper marked");
    }
    let receipt = stop(&world, "web");
    assert_eq!(receipt["exit"]["signal"], "SIGTERM");
    for name in ["sly", "away"] {
        let child = world.pid(name, "child");
        let receipt = stop(&world, name);
        // Whoever the group's signal does not reach is asked as well.
        assert_eq!(receipt["killed"], json!([]), "{receipt:#}");
        assert!(look::alive(child).is_none(), "{name}");
    }
    let pid = world.pid("stubborn", "pid");
    let receipt = stop(&world, "stubborn");
    assert_eq!(pids(&receipt, "killed"), [pid].into(), "{receipt:#}");
    stop(&world, "mainless");
    world.reach("daemon", "done");
    let daemon = u32::try_from(world.number("daemon", "daemon")).unwrap();
    assert!(look::alive(daemon).is_none());
    world.start("web").unwrap();
    world.end();
    receipt
}

#[test]
fn with_a_cgroup2_that_is_read_only_it_says_so_and_still_stops() {
    let receipt = says_so_and_still_stops("cgroup-read-only");
    row!(Place, "cgroup2 is read-only").receipt(&receipt);
}

#[test]
fn without_any_cgroup2_it_says_so_and_still_stops() {
    let receipt = says_so_and_still_stops("no-cgroup");
    row!(Place, "no cgroup2 is mounted").receipt(&receipt);
}

#[test]
fn without_cgroups_a_killed_supervisor_is_cleared_up_after() {
    let mut world = without_cgroups("no-cgroup");
    world.fixture("web", "children 3", "");
    world.fixture("sly", "double-fork", "").init();
    let old = [("web", "pid"), ("sly", "pid"), ("sly", "child")]
        .map(|(name, word)| world.pid(name, word));
    world.reach("web", "up");
    world.kill();
    world.init();
    world.reach("web", "up");
    world.reach("sly", "up");
    assert!(
        old.iter().all(|pid| look::alive(*pid).is_none()),
        "{}",
        world.log()
    );
    world.numbers("web", "up", 2);
    world.numbers("sly", "up", 2);
    world.end();
}

#[test]
fn without_cgroups_an_orphan_without_any_mark_keeps_the_stop_from_being_verified() {
    let mut world = without_cgroups("no-cgroup");
    world.fixture("web", "disguise", "");
    let receipt = crate::escapes::a_disguised_orphan_is_left_alone_and_said(world);
    row!(
        Place,
        "no cgroup2; an orphan whose mark was replaced: left alone"
    )
    .receipt(&receipt);
}

#[test]
fn without_cgroups_chains_of_forks_are_ended() {
    let mut world = World::alone();
    world.launch = vec![format!("no-cgroup={}", look::cgroup_mount().display())];
    world
        .fixture("web", "relay 2", "shutdown_timeout: 50ms")
        .init();
    in_storms(&world, || {
        let receipt = stop(&world, "web");
        let left = world.everyone();
        assert_eq!(left.len(), 1, "{left:?}: the supervisor alone: {receipt:#}");
        row!(Place, "no cgroup2; relays that fork and exit")
            .receipt_that(&receipt, "asked, or killed after its grace");
    });
    world.end();
}

#[test]
fn without_cgroups_an_unkillable_survivor_is_named_all_the_same() {
    let mut world = without_cgroups("cgroup-read-only");
    world
        .fixture("web", "stay", "shutdown_timeout: 50ms\nkill_timeout: 1s")
        .init();
    world.reach("web", "up");
    let pid = world.pid("web", "pid");
    let tracer = world.tool("tracer", &["trace", &pid.to_string()]);
    world.number("tracer", "tracing");
    let error = world
        .call("nought_stop", json!({"name": "web"}))
        .unwrap_err();
    assert_eq!(error["code"], -32010, "{error}");
    assert_eq!(
        error["data"]["receipt"]["survivors"][0]["pid"], pid,
        "{error:#}"
    );
    world.end_tool(tracer);
    until("it turns verified by itself", || {
        (world.status("web")["state"] == "down").then_some(())
    });
    let late = world.receipt("web");
    assert_verified(&late);
    row!(Place, "cgroup2 is read-only; traced from outside")
        .lingering(&error["data"]["receipt"], &late);
    world.end();
}
