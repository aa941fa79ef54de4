//! Starts that fail, hang, or have to follow at once.

use serde_json::{Value, json};

use crate::catalogue::table::row;
use crate::look::{self, until};
use crate::receipt::assert_verified;
use crate::world::World;

/// A service that cannot be started says so in words, stays failed, and harms no neighbour.
fn fails_to_start(exec: &str, more: &str, words: &[&str]) {
    let mut world = World::new();
    world.fixture("neighbour", "stay", "");
    world
        .service(
            "broken",
            &format!("exec: {exec}\nrestart: {{policy: never}}\n{more}\n"),
        )
        .init();
    world.number("neighbour", "up");
    let status = world.reach("broken", "failed");
    let detail = status["detail"].as_str().unwrap();
    for word in words {
        assert!(detail.contains(word), "{detail:?} should say {word:?}");
        world.log_with(word);
    }
    let error = world.start("broken").unwrap_err();
    assert_eq!(error["code"], -32014, "{error}");
    assert!(
        error["message"].as_str().unwrap().contains(words[0]),
        "{error}"
    );
    assert_eq!(
        world
            .call("service_status", json!({"name": "broken"}))
            .unwrap()["state"],
        "Failure"
    );
    assert!(world.generations("broken").is_empty());
    let receipt = world.receipt("broken");
    assert_verified(&receipt);
    assert_eq!(receipt["cause"], "start-failed");
    assert_eq!(world.status("neighbour")["state"], "up");
    world.end();
}

#[test]
fn a_program_that_is_not_there_fails_with_its_path_and_why() {
    fails_to_start(
        "/no/such/program",
        "",
        &["/no/such/program", "No such file or directory"],
    );
}

#[test]
fn a_program_that_may_not_be_executed_fails_with_its_path_and_why() {
    fails_to_start("/etc/passwd", "", &["/etc/passwd", "Permission denied"]);
}

#[test]
fn a_directory_that_is_none_fails_with_its_path_and_why() {
    fails_to_start(
        "sleep 1000",
        "dir: /etc/passwd",
        &["/etc/passwd", "Not a directory"],
    );
}

#[test]
fn a_directory_that_is_not_there_fails_with_its_path_and_why() {
    fails_to_start(
        "sleep 1000",
        "dir: /no/such/dir",
        &["/no/such/dir", "No such file or directory"],
    );
}

#[test]
fn a_program_that_cannot_be_executed_is_tried_again_after_a_pause() {
    let mut world = World::new();
    world
        .service(
            "broken",
            "exec: /no/such/program\nrestart: {delay: 1h, max_delay: 1h}\n",
        )
        .init();
    let status = world.reach("broken", "backoff");
    assert!(
        status["next_start_ms"].as_u64().unwrap() > 1_800_000,
        "{status}"
    );
    assert!(
        status["detail"]
            .as_str()
            .unwrap()
            .contains("/no/such/program"),
        "{status}"
    );
    world.stop("broken");
    assert_eq!(world.status("broken")["state"], "down");
    world.end();
}

/// A world whose `dead` directory is a file system that answers nothing; `hung` is to start in it.
fn with_dead_file_system(manner: &str) -> (World, u32) {
    with_dead_file_system_and(manner, |dead| {
        format!("dir: {dead}\nshutdown_timeout: 200ms\nkill_timeout: 1s")
    })
}

fn with_dead_file_system_and(manner: &str, lines: impl Fn(&str) -> String) -> (World, u32) {
    let mut world = World::new();
    let dead = world.dir.join("dead");
    std::fs::create_dir(&dead).unwrap();
    let server = world.tool("server", &["file-system", dead.to_str().unwrap(), manner]);
    world.number("server", "serving");
    world.launch.push(format!("mounts-of={server}"));
    world.fixture("hung", "stay", &lines(dead.to_str().unwrap()));
    world.fixture("neighbour", "stay", "");
    (world, server)
}

/// The neighbour starts and stops while the other hangs.
fn neighbour_is_quick(world: &World) {
    world.reach("neighbour", "up");
    let receipt = world.stop_verified("neighbour");
    assert!(
        receipt["elapsed_ms"].as_f64().unwrap() < 5_000.0,
        "{receipt:#}"
    );
    world.start("neighbour").unwrap();
}

#[test]
fn a_start_that_hangs_is_ended_in_its_time_and_holds_nobody_up() {
    let (mut world, _) = with_dead_file_system("deaf");
    world.init();
    world.reach("hung", "starting");
    neighbour_is_quick(&world);
    assert_eq!(world.status("hung")["state"], "starting");
    world.stop_verified("hung");
    neighbour_is_quick(&world);
    world.end();
}

#[test]
fn a_path_that_hangs_is_looked_for_once_and_keeps_nobody_waiting() {
    let ready = "ready: {file: DEAD/ready, interval: 1ms, timeout: 20ms}";
    let (mut world, server) = with_dead_file_system_and("mute", |dead| ready.replace("DEAD", dead));
    world.init();
    until("it is looked for again and again", || {
        let status = world.status("hung");
        let detail = status["detail"].as_str().unwrap();
        (detail.contains("the last look at it has not come back")).then_some(())
    });
    neighbour_is_quick(&world);
    let looks = world.said("server").into_iter();
    assert_eq!(looks.filter(|line| line.starts_with("asked")).count(), 1);
    world.stop_verified("hung");
    world.end_tool(server);
    world.end();
}

#[test]
fn a_start_that_hangs_beyond_sigkill_lingers_until_what_it_hangs_on_goes() {
    let (mut world, server) = with_dead_file_system("mute");
    world.init();
    world.reach("hung", "starting");
    until("it hangs", || {
        world
            .said("server")
            .iter()
            .any(|line| line.starts_with("asked"))
            .then_some(())
    });
    neighbour_is_quick(&world);
    let error = world
        .call("nought_stop", json!({"name": "hung"}))
        .unwrap_err();
    let first = error["data"]["receipt"].clone();
    assert_eq!(error["code"], -32010, "{error}");
    let survivor = &error["data"]["receipt"]["survivors"][0];
    assert_eq!(survivor["state"], "D", "{error:#}");
    neighbour_is_quick(&world);
    world.end_tool(server);
    until("the late proof", || {
        (world.status("hung")["state"] == "down").then_some(())
    });
    let late = world.receipt("hung");
    assert_verified(&late);
    row!(
        Survive,
        "a start whose `dir` is on a dead FUSE file system; neighbours stay quick"
    )
    .lingering(&first, &late);
    world.end();
}

#[test]
fn the_successor_binds_the_port_at_once_twenty_times() {
    let port = look::free_port();
    let mut world = World::new();
    world
        .fixture("web", &format!("listen {port}"), "shutdown_timeout: 20ms")
        .init();
    for round in 1..=20 {
        world.numbers("web", "bound", round);
        world
            .call("nought_restart", json!({"name": "web"}))
            .unwrap();
        assert_verified(&world.receipt("web"));
    }
    world.numbers("web", "bound", 21);
    let refused: Vec<_> = world
        .said("web")
        .into_iter()
        .filter(|line| line.starts_with("refused"))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
    world.end();
}

#[test]
fn a_broken_service_file_keeps_no_other_from_running() {
    let mut world = World::new();
    world.fixture("good", "stay", "");
    world.service("typo", "exec: sleep 1000\nshutdown_timeuot: 3\n");
    world.service("torn", "exec: 'sleep\n");
    world
        .service("waits", "exec: sleep 1000\nafter: [typo]\n")
        .init();
    world.number("good", "up");
    world.reach("good", "up");
    let log = world.log_with("good: up");
    assert!(log.contains("typo.yaml:2:1"), "{log}");
    assert!(
        log.contains("shutdown_timeuot") && log.contains("did you mean `shutdown_timeout`"),
        "{log}"
    );
    assert!(log.contains("torn.yaml:1:"), "{log}");
    let status = world.reach("waits", "blocked");
    assert!(
        status["detail"].as_str().unwrap().contains("typo"),
        "{status}"
    );
    let list = world.call("service_list", Value::Null).unwrap();
    assert_eq!(list["good"], "Running", "{list}");
    assert!(list.get("typo").is_none(), "{list}");
    world.end();
}

#[test]
fn a_service_that_ends_is_restarted_at_once_and_then_with_growing_pauses() {
    let mut world = World::new();
    world
        .fixture(
            "web",
            "count-starts",
            "restart: {delay: 200ms, max_delay: 10s}",
        )
        .init();
    world.pid("web", "pid");
    let status = world.reach("web", "up");
    assert_eq!(status["restarts"], 2, "{status}");
    let starts = world.numbers("web", "start", 3);
    let pause = starts[2] - starts[1];
    // The first follows at once; the second 200 ms later, give or take a quarter.
    assert!(pause >= 150_000_000, "{starts:?}");
    let receipt = world.receipt("web");
    assert_verified(&receipt);
    assert_eq!(receipt["exit"], json!({"code": 7}));
    world.end();
}

#[test]
fn a_service_gives_up_after_its_burst() {
    let mut world = World::new();
    world
        .fixture(
            "web",
            "exit 3",
            "restart: {delay: 10ms, burst: 2, window: 1h}",
        )
        .init();
    let status = world.reach("web", "failed");
    assert!(
        status["detail"].as_str().unwrap().contains("exit code 3"),
        "{status}"
    );
    assert_eq!(world.numbers("web", "up", 3).len(), 3);
    assert_eq!(status["last_exit"], json!({"code": 3}));
    assert!(
        look::members(&world.nought_tree()).len() == 1,
        "the supervisor alone"
    );
    world.end();
}
