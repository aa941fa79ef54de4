//! Signals to the supervisor, and what it must not do to the machine.

use serde_json::json;

use crate::look::{self, until};
use crate::world::World;

/// The signal shuts everything down.
fn shuts_down(signal: i32, flags: &[&str]) {
    let mut world = World::new();
    world.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    world
        .fixture("db", "polite 1", "")
        .fixture("web", "children 3", "after: [db]")
        .init();
    world.reach("web", "up");
    world.number("web", "up");
    world.number("db", "up");
    world.signal(signal);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    world.assert_last_words("verified: every service is gone, nothing is left");
    world.number("db", "gone");
    world.end();
}

macro_rules! each_shuts_down {
    ($($name:ident: $signal:expr, $flags:expr;)*) => {
        $(#[test]
        fn $name() {
            shuts_down($signal, $flags);
        })*
    };
}

each_shuts_down! {
    sigterm_shuts_down: libc::SIGTERM, &[];
    sigint_shuts_down: libc::SIGINT, &[];
    sighup_shuts_down: libc::SIGHUP, &[];
    sigquit_shuts_down: libc::SIGQUIT, &[];
    sigterm_shuts_a_container_down: libc::SIGTERM, &["--container"];
    sigint_shuts_a_container_down: libc::SIGINT, &["--container"];
    sighup_shuts_a_container_down: libc::SIGHUP, &["--container"];
    sigquit_shuts_a_container_down: libc::SIGQUIT, &["--container"];
}

#[test]
fn a_second_signal_cuts_every_grace_short() {
    let mut world = World::new();
    world.fixture("web", "stubborn", "shutdown_timeout: 10m");
    world
        .fixture("db", "stubborn", "shutdown_timeout: 10m")
        .init();
    let pids = ["web", "db"].map(|name| world.pid(name, "pid"));
    world.signal(libc::SIGTERM);
    until("it has asked", || {
        (world.status("web")["state"] == "stopping").then_some(())
    });
    assert!(pids.iter().all(|pid| look::alive(*pid).is_some()));
    world.signal(libc::SIGINT);
    // Waiting for either grace would outlast the bound.
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    assert!(world.log().contains("asked again"), "{}", world.log());
    world.end();
}

/// A client's shutdown or reboot stops everything, ends the supervisor, and leaves the machine
/// as it is.
fn ends_itself_alone(method: &str, launch: &[&str], flags: &[&str]) {
    let mut world = World::new();
    world.launch = launch.iter().map(|word| (*word).to_owned()).collect();
    world.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    world.fixture("web", "children 2", "").init();
    world.number("web", "up");
    world.census();
    assert_eq!(
        world.call(method, json!({})).unwrap(),
        serde_json::Value::Null
    );
    let status = world.wait();
    assert_eq!(status.code(), Some(0), "{}", world.log());
    world.assert_last_words("verified: every service is gone");
    assert!(
        !world.log().contains("failed to"),
        "not even tried: {}",
        world.log()
    );
    world.end();
}

#[test]
fn a_reboot_sent_to_an_ordinary_init_ends_that_alone() {
    // First where the kernel would refuse it: the same words, so nothing was tried.
    ends_itself_alone("system_reboot", &["no-boot"], &[]);
    ends_itself_alone("system_reboot", &[], &[]);
}

#[test]
fn a_shutdown_sent_to_an_ordinary_init_ends_that_alone() {
    ends_itself_alone("system_shutdown", &["no-boot"], &[]);
    ends_itself_alone("system_shutdown", &[], &[]);
}

#[test]
fn a_reboot_sent_to_a_container_ends_that_alone() {
    ends_itself_alone("system_reboot", &[], &["--container"]);
}

#[test]
fn a_client_that_shuts_down_gets_its_answer() {
    let mut world = World::new();
    world.fixture("web", "polite 50", "").init();
    world.number("web", "up");
    let done = world.cli(&["--json", "shutdown"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let done: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(done["elapsed_ms"].as_f64().unwrap() >= 50.0, "{done}");
    assert_eq!(world.wait().code(), Some(0));
    world.end();
}

#[test]
fn nothing_is_started_during_a_shutdown() {
    let mut world = World::new();
    world.fixture("slow", "stubborn", "shutdown_timeout: 10m");
    world.fixture("web", "polite 1", "").init();
    let slow = world.pid("slow", "pid");
    world.number("slow", "up");
    world.number("web", "up");
    world.signal(libc::SIGTERM);
    until("the shutdown is under way", || {
        (world.status("slow")["state"] == "stopping").then_some(())
    });
    let refused = world.start("web").unwrap_err();
    assert_eq!(refused["code"], -32006, "{refused}");
    look::signal(slow, libc::SIGKILL);
    assert_eq!(world.wait().code(), Some(0));
    assert_eq!(world.numbers("web", "up", 1).len(), 1);
    world.end();
}

#[test]
fn a_shutdown_ends_at_its_deadline_and_asks_everyone_first() {
    let mut world = World::new();
    world.flags = ["--deadline", "8s"].map(str::to_owned).into();
    world.fixture("db", "polite 1", "");
    world.fixture("app", "stubborn", "after: [db]\nshutdown_timeout: 1h");
    world
        .fixture("web", "stubborn", "after: [app]\nshutdown_timeout: 1h")
        .init();
    for name in ["db", "app", "web"] {
        world.number(name, "up");
    }
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    world.number("db", "gone");
    for name in ["app", "web"] {
        assert!(
            world.log().contains(&format!("{name}: verified")),
            "{}",
            world.log()
        );
    }
    world.end();
}

/// Whoever starts a service and signals it at once is not told that there is nobody yet.
#[test]
fn a_signal_right_after_a_start_waits_for_the_process() {
    let mut world = World::new();
    world
        .service("web", "exec: sleep 1000\nrestart: {policy: never}\n")
        .init();
    world.reach("web", "up");
    world.stop_verified("web");
    for _ in 0..30 {
        let mut client = world.client();
        client.send(1, "service_start", &json!(["web"]));
        assert!(client.read().unwrap()["error"].is_null());
        client.send(2, "service_kill", &json!(["web", "USR1"]));
        let answer = client.read().unwrap();
        assert!(answer["error"].is_null(), "{answer}");
        world.reach("web", "failed");
        assert_eq!(world.receipt("web")["exit"]["signal"], "SIGUSR1");
    }
    world.end();
}

/// A start that never gets to a process answers who waits to signal it.
#[test]
fn a_signal_to_a_start_that_fails_is_answered() {
    let mut world = World::new();
    world
        .service("web", "exec: /nowhere\nrestart: {policy: never}\n")
        .init();
    world.reach("web", "failed");
    let mut client = world.client();
    client.send(1, "service_start", &json!(["web"]));
    client.send(2, "service_kill", &json!(["web", "TERM"]));
    for _ in 0..2 {
        assert!(client.read().is_some());
    }
    world.reach("web", "failed");
    world.end();
}
