//! What a container leaves behind for `kubectl describe pod`.

use std::fs;

use serde_json::{Value, json};

use crate::world::World;

/// A world that leaves its last words in a file.
fn last_words() -> (World, std::path::PathBuf) {
    let mut world = World::new();
    let path = world.dir.join("termination-log");
    fs::write(&path, "what was there before, and is longer than nothing").unwrap();
    let flag = "--termination-log".to_owned();
    world.flags = vec!["--container".into(), flag, path.display().to_string()];
    (world, path)
}

fn read(path: &std::path::Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.len() < 4096, "{}", text.len());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn a_verified_end_is_left_as_json() {
    let (mut world, path) = last_words();
    world.fixture("web", "polite 1", "").init();
    world.reach("web", "up");
    world.number("web", "up");
    world.census();
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    let told = read(&path);
    assert_eq!(
        told,
        json!({
            "verdict": "verified", "exit_code": 0, "reason": null,
            "guarantee": "cgroup-kill marked", "deadline_hit": false,
            "lingering": [], "unverified": [], "survivors": [], "omitted": 0,
        })
    );
    world.end();
}

#[test]
fn survivors_are_left_by_name() {
    let (mut world, path) = last_words();
    world.flags.extend(["--deadline".into(), "3s".into()]);
    world
        .fixture("web", "stay", "shutdown_timeout: 50ms\nkill_timeout: 500ms")
        .init();
    world.reach("web", "up");
    let pid = world.pid("web", "pid");
    let tracer = world.tool("tracer", &["trace", &pid.to_string()]);
    world.number("tracer", "tracing");
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(70), "{}", world.log());
    let told = read(&path);
    assert_eq!(
        (&told["verdict"], &told["exit_code"], &told["lingering"]),
        (&json!("lingering"), &json!(70), &json!(["web"])),
        "{told:#}"
    );
    assert_eq!(told["survivors"][0]["pid"], pid, "{told:#}");
    world.end_tool(tracer);
    world.init();
    world.end();
}

#[test]
fn without_the_file_nothing_is_left_and_nothing_is_wrong() {
    let (mut world, path) = last_words();
    fs::remove_file(&path).unwrap();
    world.fixture("web", "polite 1", "").init();
    world.reach("web", "up");
    world.number("web", "up");
    world.census();
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    assert!(
        !path.exists() && !world.log().contains("failed"),
        "{}",
        world.log()
    );
    world.end();
}
