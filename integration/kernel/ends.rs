//! What the end of one service means to everything else, and to the exit code.

use serde_json::json;

use crate::look::{self, until};
use crate::world::World;

/// Runs until the supervisor ends by itself: its exit code and its log.
fn ends(services: &[(&str, &str, &str)]) -> (Option<i32>, String) {
    let mut world = World::new();
    for (name, words, more) in services {
        world.fixture(name, words, more);
    }
    world.spawn();
    let status = world.wait();
    let log = world.log();
    world.assert_nothing_left();
    world.end();
    (status.code(), log)
}

#[test]
fn the_end_of_an_essential_service_stops_everything_with_its_code() {
    for (words, code) in [("exit 3", 3), ("exit 0", 0)] {
        let (ended, log) = ends(&[
            ("web", "stay", ""),
            ("app", words, "essential: true\nafter: [web]"),
        ]);
        assert_eq!(ended, Some(code), "{log}");
        assert!(log.contains("app: exit code"), "{log}");
        assert!(log.contains("everything stops (essential)"), "{log}");
        assert!(log.contains("web: verified"), "{log}");
    }
}

#[test]
fn an_essential_oneshot_is_a_job() {
    let (ended, log) = ends(&[
        ("db", "stay", ""),
        (
            "job",
            "exit 0",
            "oneshot: true\nessential: true\nrequires: [db]",
        ),
    ]);
    assert_eq!(ended, Some(0), "{log}");
    let (ended, log) = ends(&[("job", "exit 9", "oneshot: true\nessential: true")]);
    assert_eq!(ended, Some(9), "{log}");
}

#[test]
fn an_essential_service_that_a_signal_ends_gives_128_and_the_signal() {
    let mut world = World::new();
    world.fixture("app", "stay", "essential: true").init();
    let status = world.reach("app", "up");
    look::signal(
        u32::try_from(status["pid"].as_u64().unwrap()).unwrap(),
        libc::SIGKILL,
    );
    assert_eq!(world.wait().code(), Some(137), "{}", world.log());
    world.end();
}

#[test]
fn an_essential_service_that_cannot_be_started_stops_everything() {
    let mut world = World::new();
    world.service("app", "exec: /no/such/program\nessential: true\n");
    world.spawn();
    assert_eq!(world.wait().code(), Some(127), "{}", world.log());
    world.end();
    let mut world = World::new();
    world.service(
        "app",
        "exec: sleep 1000\nuser: nemo-of-nowhere\nessential: true\n",
    );
    world.spawn();
    assert_eq!(world.wait().code(), Some(125), "{}", world.log());
    world.end();
}

#[test]
fn restarts_come_first_and_the_end_for_good_decides() {
    let (ended, log) = ends(&[(
        "app",
        "exit 7",
        "essential: true\nrestart: {policy: on-failure, burst: 2, delay: 1ms, max_delay: 1ms}",
    )]);
    assert_eq!(ended, Some(7), "{log}");
    assert_eq!(log.matches("app: starting").count(), 3, "{log}");
    assert!(log.contains("given up after 2 restarts"), "{log}");
}

#[test]
fn on_failure_stops_everything_for_a_failure_alone() {
    let (ended, log) = ends(&[("app", "exit 5", "on_failure: stop_all")]);
    assert_eq!(ended, Some(5), "{log}");
    let mut world = World::new();
    world
        .fixture("app", "exit 0", "on_failure: stop_all")
        .fixture("web", "stay", "")
        .init();
    world.reach("app", "done");
    world.reach("web", "up");
    world.end();
}

#[test]
fn on_end_stops_everything_and_leaves_the_code_alone() {
    for words in ["exit 0", "exit 5"] {
        let (ended, log) = ends(&[("app", words, "on_end: stop_all")]);
        assert_eq!(ended, Some(0), "{log}");
        assert!(log.contains("everything stops (on_end)"), "{log}");
    }
}

#[test]
fn a_stop_that_was_asked_for_stops_nothing_else() {
    let mut world = World::new();
    world.fixture("app", "stay", "essential: true").init();
    world.reach("app", "up");
    world.stop_verified("app");
    world
        .call("nought_restart", json!({"name": "app"}))
        .unwrap();
    world.reach("app", "up");
    // Asked to end, everything ends, and nobody has failed.
    world.end();
}

#[test]
fn what_lingers_of_an_essential_service_does_not_keep_everything_running() {
    let mut world = World::new();
    world
        .fixture(
            "app",
            "children 1",
            "essential: true\nexit_grace: 10ms\nkill_timeout: 500ms",
        )
        .init();
    let status = world.reach("app", "up");
    let main = u32::try_from(status["pid"].as_u64().unwrap()).unwrap();
    let child = until("a child", || look::children_of(main).first().copied());
    let tracer = world.tool("tracer", &["trace", &child.to_string()]);
    world.number("tracer", "tracing");
    world.flags.clear();
    look::signal(main, libc::SIGKILL);
    let code = world.wait().code();
    assert_eq!(
        code,
        Some(137),
        "the service's own goes first: {}",
        world.log()
    );
    world.assert_last_words("lingering: app");
    world.end_tool(tracer);
    until("the survivor ends", || {
        look::alive(child).is_none().then_some(())
    });
    look::clear(&world.cgroup);
    let socket = world.socket();
    assert!(!socket.exists());
    world.end();
}

#[test]
fn what_asks_for_more_than_there_is_does_not_start_and_says_what_is_missing() {
    let mut world = World::new();
    world.launch = vec![format!(
        "cgroup-read-only={}",
        look::cgroup_mount().display()
    )];
    world
        .fixture("strict", "stay", "min_guarantee: cgroup-kill marked")
        .fixture("modest", "stay", "min_guarantee: subreaper")
        .fixture("above", "stay", "requires: [strict]")
        .init();
    world.reach("modest", "up");
    let status = world.reach("strict", "failed");
    let detail = status["detail"].as_str().unwrap();
    for word in [
        "min_guarantee asks for cgroup-kill",
        "this place has subreaper marked",
        "cgroup",
    ] {
        assert!(detail.contains(word), "{detail}");
    }
    assert!(
        detail.contains("no cgroup of our own") || detail.contains("Read-only"),
        "{detail}"
    );
    let refused = world.start("strict").unwrap_err();
    assert!(
        refused["message"]
            .as_str()
            .unwrap()
            .contains("min_guarantee"),
        "{refused}"
    );
    assert_eq!(world.status("above")["state"], "blocked");
    let said = world.cli(&["start", "strict"]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    world.end();
}
