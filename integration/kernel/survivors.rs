//! What nothing can end: said with all there is to say, and cleared up when it goes.

use serde_json::{Value, json};

use crate::catalogue::table::row;
use crate::look::{self, until};
use crate::receipt::assert_verified;
use crate::world::World;

/// A service that a tracer from outside keeps from ending: its pid and the tracer's.
fn unkillable(world: &mut World) -> (u32, u32) {
    world
        .fixture("web", "stay", "shutdown_timeout: 50ms\nkill_timeout: 1s")
        .init();
    world.reach("web", "up");
    let pid = world.pid("web", "pid");
    let tracer = world.tool("tracer", &["trace", &pid.to_string()]);
    world.number("tracer", "tracing");
    (pid, tracer)
}

#[test]
fn an_unkillable_survivor_is_named_refuses_a_start_and_turns_verified_when_it_goes() {
    let mut world = World::new();
    let (pid, tracer) = unkillable(&mut world);
    let stop = world.cli(&["--json", "stop", "web"]);
    assert_eq!(stop.status.code(), Some(3), "{stop:?}");
    let receipt = world.receipt("web");
    assert_eq!(receipt["verdict"], "lingering", "{receipt:#}");
    let survivor = &receipt["survivors"][0];
    assert_eq!(survivor["pid"], pid);
    assert_eq!(survivor["tracer"], tracer);
    let argv = survivor["argv"].as_array().unwrap();
    assert!(
        argv.iter().any(|word| word == "stay") || argv[0].as_str().unwrap().starts_with('['),
        "{survivor:#}"
    );
    assert!(
        ["t", "T", "D"].contains(&survivor["state"].as_str().unwrap()),
        "{survivor:#}"
    );
    assert!(
        survivor["cgroup"].as_str().unwrap().contains("/web/"),
        "{survivor:#}"
    );
    assert_eq!(world.status("web")["state"], "lingering");
    let zinit = world
        .call("service_status", json!({"name": "web"}))
        .unwrap();
    assert_eq!(
        (&zinit["state"], &zinit["pid"]),
        (&json!("Error(Lingering)"), &json!(pid)),
        "{zinit}"
    );

    let refused = world.start("web").unwrap_err();
    assert_eq!(refused["code"], -32010, "{refused}");
    assert_eq!(
        refused["data"]["receipt"]["survivors"][0]["pid"], pid,
        "{refused}"
    );
    assert_eq!(world.cli(&["start", "web"]).status.code(), Some(3));
    let again = world
        .call("service_stop", json!({"name": "web"}))
        .unwrap_err();
    assert_eq!(again["code"], -32010, "never null: {again}");

    world.end_tool(tracer);
    until("it turns verified by itself", || {
        (world.receipt("web")["verdict"] == "verified").then_some(())
    });
    let late = world.receipt("web");
    assert_verified(&late);
    row!(
        Survive,
        "traced from outside so that its end waits for the tracer"
    )
    .lingering(&receipt, &late);
    assert!(look::alive(pid).is_none());
    assert_eq!(world.status("web")["state"], "down");
    world.start("web").unwrap();
    world.reach("web", "up");
    assert_ne!(world.numbers("web", "pid", 2)[1], u64::from(pid));
    world.end();
}

#[test]
fn a_forced_start_runs_beside_the_survivor() {
    let mut world = World::new();
    let (pid, tracer) = unkillable(&mut world);
    world
        .call("nought_stop", json!({"name": "web"}))
        .unwrap_err();
    world
        .call("nought_start", json!({"name": "web", "force": true}))
        .unwrap();
    world.reach("web", "up");
    assert!(look::alive(pid).is_some());
    assert_ne!(world.numbers("web", "pid", 2)[1], u64::from(pid));
    world.end_tool(tracer);
    until("the survivor is cleared up", || {
        (look::alive(pid).is_none() && world.generations("web").len() == 1).then_some(())
    });
    assert_eq!(world.status("web")["state"], "up", "its successor stays");
    world.end();
}

#[test]
fn a_shutdown_with_an_unkillable_survivor_ends_and_says_so() {
    let mut world = World::new();
    world.flags = ["--deadline", "3s"].map(str::to_owned).into();
    world.fixture("db", "polite 1", "");
    let (pid, tracer) = unkillable(&mut world);
    world.number("db", "up");
    world.signal(libc::SIGTERM);
    let status = world.wait();
    assert_eq!(status.code(), Some(70), "{}", world.log());
    world.assert_last_words("lingering: web");
    assert!(
        world.log().contains(&format!("survivor {pid}")),
        "{}",
        world.log()
    );
    assert!(
        world.said("db").iter().any(|line| line.starts_with("gone")),
        "everyone is asked"
    );
    assert!(!world.socket().exists());

    // The next supervisor finds what this one could not end.
    world.end_tool(tracer);
    world.init();
    until("the next one clears it up", || {
        look::alive(pid).is_none().then_some(())
    });
    world.end();
}

#[test]
fn a_dependency_is_not_stopped_under_a_dependent_that_lingers() {
    let mut world = World::new();
    world.fixture("db", "stay", "");
    world
        .fixture(
            "web",
            "stay",
            "requires: [db]\nshutdown_timeout: 50ms\nkill_timeout: 1s",
        )
        .init();
    world.reach("web", "up");
    let pid = world.pid("web", "pid");
    let tracer = world.tool("tracer", &["trace", &pid.to_string()]);
    world.number("tracer", "tracing");
    let stop = world.cli(&["stop", "db"]);
    assert_eq!(stop.status.code(), Some(3), "{stop:?}");
    assert_eq!(world.status("db")["state"], "up");
    assert_eq!(world.status("web")["state"], "lingering");
    world.end_tool(tracer);
    until("web is cleared up", || {
        (world.status("web")["state"] != "lingering").then_some(())
    });
    world.end();
}

#[test]
fn the_receipt_of_a_lingering_stop_reads_as_one_document_a_line() {
    let mut world = World::new();
    let (_, tracer) = unkillable(&mut world);
    let stop = world.cli(&["--json", "stop", "web"]);
    let text = String::from_utf8(stop.stdout).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 1, "{text}");
    world.end_tool(tracer);
    until("it is cleared up", || {
        (world.status("web")["state"] == "down").then_some(())
    });
    world.end();
}
