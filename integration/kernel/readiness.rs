//! Oneshots, and tests that pass, fail and hang.

use serde_json::json;

use crate::look::{self, until};
use crate::receipt::assert_verified;
use crate::world::World;

#[test]
fn a_service_starts_when_its_oneshot_has_succeeded() {
    let mut world = World::new();
    world.fixture("setup", "polite 0", "oneshot: true");
    world.fixture("web", "stay", "after: [setup]").init();
    world.number("setup", "up");
    let status = world.reach("web", "blocked");
    assert!(
        status["detail"].as_str().unwrap().contains("setup"),
        "{status}"
    );
    assert_eq!(
        world
            .call("service_status", json!({"name": "setup"}))
            .unwrap()["state"],
        "Running"
    );
    look::signal(
        u32::try_from(world.status("setup")["pid"].as_u64().unwrap()).unwrap(),
        libc::SIGTERM,
    );
    world.reach("web", "up");
    assert!(world.number("setup", "gone") <= world.number("web", "up"));
    assert_eq!(world.status("setup")["state"], "done");
    assert_eq!(
        world
            .call("service_status", json!({"name": "setup"}))
            .unwrap()["state"],
        "Success"
    );
    assert_verified(&world.receipt("setup"));
    world.end();
}

#[test]
fn a_oneshot_is_done_only_when_nothing_of_it_is_left() {
    let mut world = World::new();
    world.fixture("setup", "leave-child 0", "oneshot: true\nexit_grace: 100ms");
    world.fixture("web", "stay", "after: [setup]").init();
    let child = world.pid("setup", "child");
    world.reach("web", "up");
    assert!(look::alive(child).is_none());
    world.end();
}

#[test]
fn a_oneshot_that_fails_keeps_what_follows_from_starting() {
    let mut world = World::new();
    world.fixture("setup", "exit 3", "oneshot: true");
    world.fixture("web", "stay", "after: [setup]").init();
    let status = world.reach("setup", "failed");
    assert!(
        status["detail"].as_str().unwrap().contains("exit code 3"),
        "{status}"
    );
    world.reach("web", "blocked");
    let error = world.start("web").unwrap_err();
    assert_eq!(error["code"], -32013, "{error}");
    let zinit = world
        .call("service_status", json!({"name": "setup"}))
        .unwrap();
    assert!(
        zinit["state"]
            .as_str()
            .unwrap()
            .starts_with("Error(Exited(Pid("),
        "{zinit}"
    );
    world.end();
}

#[test]
fn a_test_that_passes_late_makes_what_follows_wait() {
    let mut world = World::new();
    let (ready, tried) = (world.dir.join("ready"), world.dir.join("tried"));
    let test = format!(
        "sh -c 'echo >>{}; test -e {}'",
        tried.display(),
        ready.display()
    );
    world.fixture(
        "db",
        "stay",
        &format!("test: {{exec: \"{test}\", interval: 5ms}}"),
    );
    world.fixture("web", "stay", "after: [db]").init();
    until("it was tried five times", || {
        (std::fs::read_to_string(&tried).ok()?.lines().count() >= 5).then_some(())
    });
    let status = world.status("db");
    assert_eq!(status["state"], "starting", "{status}");
    assert_eq!(
        world.call("service_status", json!({"name": "db"})).unwrap()["state"],
        "TestFailure"
    );
    assert_eq!(world.status("web")["state"], "blocked");
    std::fs::write(&ready, "").unwrap();
    world.reach("web", "up");
    assert_eq!(world.status("db")["state"], "up");
    let tries = std::fs::read_to_string(&tried).unwrap();
    world.stop_verified("db");
    assert_eq!(
        std::fs::read_to_string(&tried).unwrap(),
        tries,
        "no test runs once it has passed"
    );
    world.end();
}

#[test]
fn a_test_that_goes_on_failing_fails_the_start() {
    let mut world = World::new();
    let test = "test: {exec: 'false', interval: 1ms, retries: 3}\nrestart: {policy: never}";
    world.fixture("db", "children 2", test).init();
    let status = world.reach("db", "failed");
    assert!(
        status["detail"]
            .as_str()
            .unwrap()
            .contains("its test failed"),
        "{status}"
    );
    let receipt = world.receipt("db");
    assert_verified(&receipt);
    assert_eq!(receipt["cause"], "start-failed");
    world.end();
}

#[test]
fn a_test_that_hangs_is_ended_with_all_it_started_and_counts_as_failed() {
    let mut world = World::new();
    let hangs = world.command("test", "children 3");
    let test = format!(
        "test: {{exec: {hangs}, interval: 1ms, timeout: 1s, retries: 2}}\nrestart: {{policy: never}}"
    );
    world.fixture("db", "stay", &test).init();
    let status = world.reach("db", "failed");
    assert!(
        status["detail"]
            .as_str()
            .unwrap()
            .contains("its test failed 3 times"),
        "{status}"
    );
    assert!(!world.said("test").is_empty(), "it did run");
    world.end();
}

#[test]
fn a_stop_ends_a_test_that_runs() {
    let mut world = World::new();
    let hangs = world.command("test", "children 3");
    world
        .fixture("db", "stay", &format!("test: {hangs}"))
        .init();
    world.pid("test", "pid");
    world.stop_verified("db");
    world.end();
}

#[test]
fn a_start_that_is_not_ready_in_time_has_failed() {
    let mut world = World::new();
    let test = "test: {exec: 'false', interval: 5ms}\nstart_timeout: 1s\nrestart: {policy: never}";
    world.fixture("db", "stay", test).init();
    let status = world.reach("db", "failed");
    assert!(
        status["detail"]
            .as_str()
            .unwrap()
            .contains("not ready within"),
        "{status}"
    );
    let error = world.start("db").unwrap_err();
    assert_eq!(error["code"], -32014, "{error}");
    world.end();
}

#[test]
fn a_stop_command_asks_and_the_signal_follows() {
    let mut world = World::new();
    let asked = world.dir.join("asked");
    world
        .fixture("web", "stay", &format!("stop: touch {}", asked.display()))
        .init();
    world.reach("web", "up");
    let receipt = world.stop_verified("web");
    assert!(asked.exists());
    let rungs = crate::receipt::rungs(&receipt);
    let at = |word: &str| rungs.iter().position(|rung| rung == word);
    assert!(
        at("stop-command") < at("stop-command-ended") && at("stop-command-ended") < at("signal"),
        "{rungs:?}"
    );
    world.end();
}
