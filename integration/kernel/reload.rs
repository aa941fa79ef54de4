//! `reload` and `--watch`: service files that change while the supervisor runs.

use std::fs;

use serde_json::{Value, json};

use crate::look::until;
use crate::receipt::assert_verified;
use crate::world::World;

fn pid(world: &World, name: &str) -> u64 {
    world.status(name)["pid"].as_u64().unwrap()
}

fn reload(world: &World) -> Value {
    world.call("nought_reload", json!({})).unwrap()
}

/// `service: change` for each that changes.
fn changes(reloaded: &Value) -> Vec<String> {
    let changes = reloaded["changes"].as_array().unwrap().iter();
    let word = |value: &Value| value.as_str().unwrap().to_owned();
    let text = |c: &Value| {
        let keys: Vec<String> = c["keys"].as_array().unwrap().iter().map(word).collect();
        assert_eq!(c["failed"], Value::Null, "{c}");
        format!(
            "{} {} {}",
            word(&c["service"]),
            word(&c["change"]),
            keys.join(",")
        )
        .trim_end()
        .to_owned()
    };
    changes.map(text).collect()
}

/// Five services that run; `web` requires `db`.
fn five() -> World {
    let mut world = World::new();
    world.fixture("db", "stay", "");
    world.fixture("web", "stay", "requires: [db]");
    world.fixture("still", "stay", "");
    world.fixture("tuned", "stay", "");
    world.fixture("old", "stay", "").init();
    for name in ["db", "web", "still", "tuned", "old"] {
        world.reach(name, "up");
    }
    world
}

#[test]
fn what_changed_is_brought_about_and_the_rest_never_notices() {
    let mut world = five();
    let before: Vec<u64> = ["still", "tuned"].map(|name| pid(&world, name)).to_vec();
    let (db, web) = (pid(&world, "db"), pid(&world, "web"));
    assert_eq!(changes(&reload(&world)), [""; 0]);
    world.fixture("db", "stay", "env: {A: b}");
    world.fixture("tuned", "stay", "shutdown_timeout: 7s\nafter: [still]");
    world.fixture("new", "stay", "after: [db]");
    fs::remove_file(world.dir.join("services/old.yaml")).unwrap();
    let wanted = [
        "db restart env",
        "new add",
        "old remove",
        "tuned amend after,shutdown_timeout",
    ];
    let plan = world
        .call("nought_reload", json!({"dry_run": true}))
        .unwrap();
    assert_eq!(changes(&plan), wanted);
    assert_eq!(
        (&plan["dry_run"], &plan["untouched"]),
        (&json!(true), &json!(2))
    );
    assert_eq!(
        (pid(&world, "db"), pid(&world, "old") > 0),
        (db, true),
        "nothing was done"
    );
    let done = reload(&world);
    assert_eq!(changes(&done), wanted);
    world.reach("new", "up");
    world.reach("web", "up");
    assert_ne!(pid(&world, "db"), db);
    assert_ne!(pid(&world, "web"), web, "it requires db");
    for name in ["db", "web", "old"] {
        assert_verified(&world.receipt(name));
    }
    let gone = world.call("nought_status", json!({"name": "old"}));
    assert_eq!(gone.unwrap_err()["code"], -32000);
    let after: Vec<u64> = ["still", "tuned"].map(|name| pid(&world, name)).to_vec();
    assert_eq!(before, after);
    assert_eq!(changes(&reload(&world)), [""; 0]);
    world.end();
}

#[test]
fn all_files_are_sound_or_nothing_changes() {
    let mut world = five();
    let before = world.call("nought_list", json!({})).unwrap();
    let services = world.dir.join("services");
    world.fixture("tuned", "stay", "shutdown_timeout: 7s");
    let nothing_changes = |words: &str| {
        let error = world.call("nought_reload", json!({})).unwrap_err();
        assert_eq!(error["code"], -32005, "{error}");
        assert!(error.to_string().contains(words), "{words}: {error}");
        let after = world.call("nought_list", json!({})).unwrap();
        let pids = |list: &Value| -> Vec<Value> {
            let all = list["services"].as_array().unwrap().iter();
            all.map(|s| json!([s["name"], s["state"], s["pid"]]))
                .collect()
        };
        assert_eq!(pids(&before), pids(&after));
    };
    for (name, text, words) in [
        ("bad", "exec: [", "bad.yaml"),
        ("bad", "exec: true\nexce: false", "exce"),
        (
            "still",
            "exec: sleep 1\nafter: [web]\nrequires: [still]",
            "cycle",
        ),
    ] {
        let path = services.join(format!("{name}.yaml"));
        let old = fs::read(&path).ok();
        fs::write(&path, text).unwrap();
        nothing_changes(words);
        match old {
            Some(old) => fs::write(&path, old).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
    }
    // A directory that is gone, or was not mounted, is no wish to stop everything.
    let aside = world.dir.join("aside");
    fs::rename(&services, &aside).unwrap();
    nothing_changes("cannot read the directory");
    fs::create_dir(&services).unwrap();
    nothing_changes("no service file any more");
    fs::remove_dir(&services).unwrap();
    fs::rename(&aside, &services).unwrap();
    assert_eq!(changes(&reload(&world)), ["tuned amend shutdown_timeout"]);
    world.end();
}

#[test]
fn one_that_lingers_keeps_its_old_file_and_a_failed_one_starts_by_its_new() {
    let mut world = World::new();
    world.fixture("stuck", "stay", "kill_timeout: 200ms\nshutdown_timeout: 0");
    world
        .service("wrong", "exec: /nonexistent\nrestart: never")
        .init();
    world.reach("wrong", "failed");
    let process = world.pid("stuck", "pid");
    world.reach("stuck", "up");
    let tracer = world.tool("tracer", &["trace", &process.to_string()]);
    world.number("tracer", "tracing");
    world.fixture(
        "stuck",
        "stay",
        "kill_timeout: 200ms\nshutdown_timeout: 0\nenv: {A: b}",
    );
    world.fixture("wrong", "stay", "");
    let done = reload(&world);
    let all = done["changes"].as_array().unwrap();
    assert_eq!(all[0]["service"], "stuck");
    assert_eq!(
        all[0]["failed"], "somebody of it lives on: see its receipt",
        "{done}"
    );
    assert_eq!(all[1]["change"], "start");
    world.reach("wrong", "up");
    world.reach("stuck", "lingering");
    world.end_tool(tracer);
    world.end();
}

#[test]
fn the_command_shows_the_plan_and_what_came_of_it() {
    let mut world = five();
    world.fixture("db", "stay", "env: {A: b}\nshutdown_timeout: 7s");
    fs::remove_file(world.dir.join("services/old.yaml")).unwrap();
    let shows = |args: &[&str], wanted: &str| {
        let output = world.cli(args);
        assert_eq!(String::from_utf8_lossy(&output.stdout), wanted);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(output.status.code(), Some(0));
    };
    let changes = "db   restarts: env, shutdown_timeout changed\nold  removed\n";
    shows(
        &["reload", "--dry-run"],
        &format!("{changes}3 untouched; nothing was done (--dry-run)\n"),
    );
    shows(&["reload"], &format!("{changes}3 untouched\n"));
    shows(&["reload"], "nothing changes: 4 service(s) as they were\n");
    world.service("bad", "exec: [");
    let refused = world.cli(&["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    for words in ["nothing changes", "bad.yaml:", "nought check"] {
        assert!(said.contains(words), "{said}");
    }
    fs::remove_file(world.dir.join("services/bad.yaml")).unwrap();
    world.end();
}

#[test]
fn a_watched_directory_is_brought_about_when_it_is_sound() {
    let mut world = World::new();
    world.flags.push("--watch".into());
    world.fixture("db", "stay", "");
    world.fixture("still", "stay", "").init();
    world.reach("db", "up");
    let still = pid(&world, "still");
    let services = world.dir.join("services");
    // As an editor does: a draft, renamed over it.
    let draft = services.join(".db.yaml.swp");
    let text = fs::read_to_string(services.join("db.yaml")).unwrap();
    fs::write(&draft, format!("{text}env: {{A: b}}\n")).unwrap();
    let first = pid(&world, "db");
    fs::rename(&draft, services.join("db.yaml")).unwrap();
    until("db has started anew", || {
        let status = world.status("db");
        (status["state"] == "up" && status["pid"] != first).then_some(())
    });
    // In place, in two steps, of which the first is no service.
    fs::write(services.join("new.yaml"), "exec: [").unwrap();
    world.log_with("not all service files are sound, so nothing changes");
    world.fixture("new", "stay", "");
    until("new is up", || {
        let status = world.call("nought_status", json!({"name": "new"})).ok()?;
        (status["state"] == "up").then_some(())
    });
    fs::remove_file(services.join("new.yaml")).unwrap();
    until("new is taken out", || {
        world.call("nought_status", json!({"name": "new"})).err()
    });
    assert_eq!(pid(&world, "still"), still);
    // Gone and back.
    let aside = world.dir.join("aside");
    fs::rename(&services, &aside).unwrap();
    world.log_with("no change there is noticed until it is back");
    fs::rename(&aside, &services).unwrap();
    world.log_with("is there again");
    assert_eq!(pid(&world, "still"), still);
    world.end();
}
