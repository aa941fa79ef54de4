//! `timeline`, `blame` and `graph` of services that run, and of a shutdown that is over.

use std::fs;

use serde_json::Value;

use crate::world::World;

fn chain() -> World {
    let mut world = World::new();
    let ready = world.open_dir().join("ready");
    let exec = format!(
        "exec: [sh, -c, 'sleep 0.2; touch {}; exec sleep 1000']",
        ready.display()
    );
    world.service(
        "db",
        &format!(
            "{exec}\nready: {{file: {}, interval: 10ms}}",
            ready.display()
        ),
    );
    world.fixture("web", "stay", "requires: [db]");
    world.fixture(
        "stubborn",
        "stubborn",
        "after: [web]\nshutdown_timeout: 100ms",
    );
    world.init();
    world.number("stubborn", "up");
    world.reach("stubborn", "up");
    world
}

fn shown(world: &World, args: &[&str]) -> String {
    let output = world.cli(args);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        output.status.code(),
        Some(0),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

#[test]
fn a_boot_says_who_waited_for_whom() {
    let world = chain();
    let text = shown(&world, &["timeline"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].starts_with("boot: ") && lines[0].ends_with("of 3 services was ready"),
        "{text}"
    );
    assert!(lines[1].starts_with("* db "), "{text}");
    assert!(
        lines[2].starts_with("* web ") && lines[2].ends_with(" for db"),
        "{text}"
    );
    assert!(lines[3].starts_with("* stubborn "), "{text}");
    let document: Value =
        serde_json::from_str(&shown(&world, &["--json", "timeline", "boot"])).unwrap();
    let db = &document["services"][0];
    assert!(db["took_ms"].as_f64().unwrap() >= 200.0, "{db}");
    assert!(
        document["services"][1]["waited_ms"].as_f64().unwrap() >= 200.0,
        "{document}"
    );
    let blame = shown(&world, &["blame"]);
    assert!(blame.lines().next().unwrap().contains("* db"), "{blame}");
    let graph = shown(&world, &["graph"]);
    assert_eq!(
        graph,
        "db        up\nweb       up        ← db!\nstubborn  up        ← web\n\
         ← what it waits for, ! what it requires\n"
    );
    assert!(shown(&world, &["graph", "--dot"]).contains("\"web\" -> \"db\" [style=bold];"));
    let file = world.dir.join("picture.svg");
    let path = file.display().to_string();
    for args in [["timeline", "--svg", &path], ["graph", "--svg", &path]] {
        assert_eq!(shown(&world, &args), format!("{path}\n"));
        let svg = fs::read_to_string(&file).unwrap();
        assert!(
            svg.starts_with("<svg ") && svg.contains(">stubborn</text>"),
            "{svg}"
        );
        fs::remove_file(&file).unwrap();
    }
    world.end();
}

#[test]
fn a_shutdown_is_drawn_from_the_receipts_it_left() {
    let mut world = chain();
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0));
    // Where they are found by the socket alone is a supervisor's own place; this one has another.
    let state = world.dir.join("state").display().to_string();
    let text = shown(&world, &["timeline", "shutdown", "--state-dir", &state]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].contains("until the last of 3 services was gone, deadline 1m 30s"),
        "{text}"
    );
    assert!(
        lines[1].starts_with("* stubborn ") && lines[1].contains('#'),
        "{text}"
    );
    assert!(
        lines[2].starts_with("* web ") && lines[2].ends_with(" for stubborn"),
        "{text}"
    );
    assert!(
        lines[3].starts_with("* db ") && lines[3].ends_with(" for web"),
        "{text}"
    );
    let nothing = world.cli(&["timeline", "shutdown", "--state-dir", "/nonexistent"]);
    assert_eq!(nothing.status.code(), Some(1));
    world.end();
}
