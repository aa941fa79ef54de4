//! The kubelet's order of events, replayed against a pod of services: a Job whose main ends, and
//! a deletion with its preStop hook, TERM, deadline and KILL.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::look::{self, until};
use crate::world::World;

/// A pod: an init, two sidecars, a main.
fn pod(main: &str, more: &str) -> World {
    let mut world = World::new();
    world.flags = vec!["--container".into()];
    world.fixture("10-fetch", "exit 0", "role: init");
    world.fixture("20-proxy", "polite 20", "role: sidecar");
    world.fixture("30-logs", "polite 20 1", "role: sidecar");
    world.fixture("web", main, &format!("role: main\n{more}"));
    world
}

#[test]
fn a_job_whose_main_ends_stops_its_helpers_and_ends_with_its_code() {
    let mut world = pod("exit 7", "");
    world.spawn();
    let status = world.wait();
    assert_eq!(status.code(), Some(7), "{}", world.log());
    let log = world.log();
    let at = |words: &str| {
        log.find(words)
            .unwrap_or_else(|| panic!("{words:?}:\n{log}"))
    };
    // The inits to completion, the sidecars one after the other, the main; and back.
    let order = [
        "10-fetch: done",
        "20-proxy: up",
        "30-logs: up",
        "web: starting",
        "web: verified",
        "30-logs: verified",
        "20-proxy: verified",
        "verified: every service is gone",
    ];
    for pair in order.windows(2) {
        assert!(at(pair[0]) < at(pair[1]), "{pair:?}:\n{log}");
    }
    world.end();
}

#[test]
fn an_init_that_fails_ends_the_container_with_its_code() {
    let mut world = pod("polite 1", "");
    world.fixture("10-fetch", "exit 4", "role: init").spawn();
    assert_eq!(world.wait().code(), Some(4), "{}", world.log());
    assert!(!world.log().contains("web: starting"), "{}", world.log());
    world.end();
}

#[test]
fn a_deletion_is_over_before_the_kubelet_kills() {
    let mut world = pod("polite 500", "shutdown_timeout: 10s");
    world.flags.extend(["--deadline".into(), "4s".into()]);
    world.init();
    world.reach("web", "up");
    world.number("web", "up");
    let supervisor = world.supervisor();
    world.census();
    // A preStop hook spends some of the pod's grace in the container, as `kubectl exec` does:
    // beside the supervisor, and no service of it.
    let mut hook = Command::new("sleep")
        .arg("0.5")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    fs::write(world.cgroup.join("cgroup.procs"), hook.id().to_string()).ok();
    let deleted = std::time::Instant::now();
    assert!(hook.wait().unwrap().success(), "the hook was disturbed");
    world.signal(libc::SIGTERM);
    let status = world.wait();
    assert_eq!(status.code(), Some(0), "{}", world.log());
    assert!(
        deleted.elapsed() < Duration::from_secs(5),
        "{:?}",
        deleted.elapsed()
    );
    assert!(look::alive(supervisor).is_none());
    let at = |name: &str, word: &str| world.number(name, word);
    // No sidecar is asked before the main has gone.
    assert!(at("web", "gone") <= at("30-logs", "asked"));
    assert!(at("30-logs", "gone") <= at("20-proxy", "asked"));
    world.end();
}

#[test]
fn stop_after_keeps_a_service_until_another_has_gone() {
    let mut world = World::new();
    world.fixture("php", "polite 100", "");
    world
        .fixture("web", "polite 1", "after: [php]\nstop_after: [php]")
        .init();
    for name in ["php", "web"] {
        world.reach(name, "up");
        world.number(name, "up");
    }
    world.census();
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    assert!(world.number("php", "gone") <= world.number("web", "asked"));
    world.end();
}

#[test]
fn a_deadline_that_is_longer_than_the_pods_ends_with_the_kubelets_kill() {
    let mut world = pod("stubborn", "shutdown_timeout: 10m");
    // A container of its own: its process 1 takes everybody along, as the runtime sees to it.
    world.wrapper = ["unshare", "--mount", "--pid", "--mount-proc", "--fork"]
        .map(str::to_owned)
        .into();
    world.flags.extend(["--deadline".into(), "10m".into()]);
    world.init();
    world.reach("web", "up");
    let supervisor = world.supervisor();
    let tree = world.nought_tree();
    world.census();
    world.signal(libc::SIGTERM);
    world.log_with("shutdown: stopping");
    look::signal(supervisor, libc::SIGKILL);
    let status = world.wait();
    assert_ne!(status.code(), Some(0), "{status:?}");
    until("nobody is left", || {
        world.everyone().is_empty().then_some(())
    });
    // What the runtime clears away.
    look::clear(&tree);
    fs::remove_file(world.socket()).unwrap();
    world.end();
}

#[test]
fn what_is_taken_in_while_others_run_finds_its_place_among_the_roles() {
    let mut world = pod("polite 20", "");
    world.init();
    world.reach("web", "up");
    let file = world.dir.join("services/05-late.yaml");
    world.fixture("05-late", "polite 20", "role: sidecar");
    assert!(file.exists());
    let monitor = world.cli(&["monitor", "05-late"]);
    assert!(monitor.status.success(), "{monitor:?}");
    world.reach("05-late", "up");
    for name in ["web", "20-proxy", "30-logs", "05-late"] {
        world.number(name, "up");
    }
    world.census();
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    let at = |name: &str, word: &str| world.number(name, word);
    assert!(at("web", "gone") <= at("05-late", "asked"));
    assert!(at("05-late", "gone") <= at("30-logs", "asked"));
    assert!(at("30-logs", "gone") <= at("20-proxy", "asked"));
    world.end();
}
