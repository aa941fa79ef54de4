//! `reload S`: services that read their own configuration again.

use serde_json::{Value, json};

use crate::activation::{does, speaker};
use crate::look::until;
use crate::world::World;

fn reload(world: &World, name: &str) -> Result<Value, Value> {
    world.call("nought_reloadService", json!({"name": name}))
}

fn refused(world: &World, name: &str) -> String {
    let error = reload(world, name).unwrap_err();
    error["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_signal_reaches_the_main_process_and_nobody_else() {
    let mut world = World::new();
    world.fixture("web", "serve 0", "reload: SIGHUP");
    world.fixture("mute", "stay", "").init();
    world.reach("web", "up");
    let said = world.cli(&["reload", "web"]);
    assert_eq!(
        String::from_utf8_lossy(&said.stdout),
        "web: asked to reload\n"
    );
    world.number("web", "hup");
    let status = world.reach("web", "up");
    assert_eq!(status["restarts"], 0);
    let said = world.cli(&["reload", "web", "mute"]);
    assert_eq!(said.status.code(), Some(1));
    let words = String::from_utf8_lossy(&said.stderr).into_owned();
    assert!(
        words.contains("failed to reload mute: its file has no `reload`"),
        "{words}"
    );
    assert!(
        words.contains("add `reload: SIGHUP` to its file"),
        "{words}"
    );
    world.stop_verified("web");
    assert_eq!(refused(&world, "web"), "failed to reload web: it is down");
    world.end();
}

#[test]
fn a_command_runs_beside_it_and_is_ended_in_its_time_with_all_it_started() {
    let mut world = World::new();
    let (go, ran) = (world.dir.join("go"), world.dir.join("ran"));
    let command = world.program(
        "reload-it",
        &format!(
            "#!/bin/sh\necho it runs\ntouch {}\ntest -e {} || exec sleep 1000\n",
            ran.display(),
            go.display()
        ),
    );
    let more = format!("reload: {{exec: {}, timeout: 5s}}", command.display());
    world.fixture("web", "stay", &more).init();
    world.reach("web", "up");
    let late = refused(&world, "web");
    assert_eq!(late, "failed to reload web: it is not done within 5s");
    assert!(ran.exists());
    std::fs::write(&go, "").unwrap();
    let done = until("the last one is cleared away", || {
        reload(&world, "web").ok()
    });
    assert_eq!(done, json!({"service": "web", "done": true}));
    let log = world
        .call("nought_log", json!({"name": "web/reload"}))
        .unwrap();
    assert!(
        log["lines"]
            .as_array()
            .unwrap()
            .contains(&json!("[+] web/reload: it runs")),
        "{log}"
    );
    std::fs::write(&command, "#!/bin/sh\nexit 3\n").unwrap();
    let failed = until("it fails", || {
        let why = refused(&world, "web");
        (!why.contains("another reload")).then_some(why)
    });
    assert_eq!(
        failed,
        "failed to reload web: its reload command ended with exit code 3"
    );
    world.stop_verified("web");
    world.end();
}

#[test]
fn one_that_says_when_it_is_done_is_waited_for() {
    let mut world = World::new();
    // A signal that nobody minds: what follows is said by the test.
    let reload = "ready: {notify: true}\nreload: {signal: SIGURG, notify: true, timeout: 1m}";
    let mut db = speaker(&mut world, reload);
    world.init();
    does(&world, &mut db, "say READY=1");
    world.reach("db", "up");
    let mut client = world.client();
    let params = json!({"name": "db"});
    client.send(1, "nought_reloadService", &params);
    client.send(2, "nought_reloadService", &params);
    let second = client.read().unwrap();
    assert_eq!(second["id"], 2, "the first one waits: {second}");
    let why = second["error"]["message"].as_str().unwrap();
    assert!(
        why.contains("another reload of it is under way"),
        "{second}"
    );
    does(&world, &mut db, "say RELOADING=1");
    until("its state says so", || {
        let status = world.status("db");
        status["detail"].as_str()?.contains("reloads").then_some(())
    });
    does(&world, &mut db, "say READY=1|STATUS=anew");
    let first = client.read().unwrap();
    assert_eq!(
        first["result"],
        json!({"service": "db", "done": true}),
        "{first}"
    );
    assert_eq!(world.reach("db", "up")["detail"], "anew");
    world.end();
}
