//! Where a service's output goes besides memory, and how the log is read.

use std::fs;

use serde_json::Value;

use crate::look::until;
use crate::world::World;

fn shown(world: &World, args: &[&str]) -> String {
    let output = world.cli(args);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_file_has_every_line_with_its_process_and_the_end_keeps_the_last() {
    let mut world = World::new();
    let path = world.open_dir().join("web.log");
    let script =
        "trap 'echo bye; exit 0' TERM; echo out; echo err >&2; while :; do sleep 0.05; done";
    let log = format!("log: {{path: {}, format: json}}", path.display());
    world
        .service("web", &format!("exec: [sh, -c, \"{script}\"]\n{log}\n"))
        .init();
    let pid = world.reach("web", "up")["pid"].as_u64().unwrap();
    let records = || -> Vec<Value> {
        let text = fs::read_to_string(&path).unwrap_or_default();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    until("both lines are there", || {
        (records().len() >= 2).then_some(())
    });
    world.stop_verified("web");
    until("the last line is there", || {
        (records().len() >= 3).then_some(())
    });
    let said: Vec<(String, String)> = records()
        .iter()
        .map(|record| {
            assert_eq!(record["pid"], pid, "{record}");
            assert_eq!(record["service"], "web");
            assert_eq!(record["generation"], 1);
            assert!(record["time"].as_str().unwrap().ends_with('Z'), "{record}");
            let word = |key: &str| record[key].as_str().unwrap().to_owned();
            (word("stream"), word("text"))
        })
        .collect();
    for wanted in [("stdout", "out"), ("stderr", "err"), ("stdout", "bye")] {
        assert!(
            said.contains(&(wanted.0.into(), wanted.1.into())),
            "{said:?}"
        );
    }
    world.end();
}

#[test]
fn a_log_that_cannot_be_written_keeps_nobody_from_running() {
    let mut world = World::new();
    world.service(
        "full",
        "exec: [sh, -c, 'echo hello; exec sleep 1000']\nlog: {path: /dev/full}",
    );
    world.service(
        "lost",
        "exec: [sh, -c, 'echo hello; exec sleep 1000']\nlog: {path: /nowhere/x.log}",
    );
    world.init();
    world.reach("full", "up");
    world.reach("lost", "up");
    world.log_with("failed to write /dev/full: No space left on device");
    world.log_with("failed to write /nowhere/x.log: No such file or directory");
    until("the lines are in memory", || {
        let said = shown(&world, &["log", "full", "lost"]);
        (said.matches("hello").count() == 2).then_some(())
    });
    world.stop_verified("full");
    world.stop_verified("lost");
    let why = "are lost: it was too slow or could not be written";
    world.log_with(&format!("1 lines for /dev/full {why}"));
    let log = world.log_with(&format!("1 lines for /nowhere/x.log {why}"));
    world.end();
    assert_eq!(log.matches(why).count(), 2, "{log}");
}

#[test]
fn lines_are_chosen_by_time_and_pattern() {
    let mut world = World::new();
    world.service(
        "web",
        "exec: [sh, -c, 'for n in 1 2 3; do echo line $n; done; exec sleep 1000']",
    );
    world.init();
    until("three lines", || {
        shown(&world, &["log", "web"])
            .contains("line 3")
            .then_some(())
    });
    assert_eq!(
        shown(&world, &["log", "--grep", "line [23]", "web"]),
        "[+] web: line 2\n[+] web: line 3\n"
    );
    assert_eq!(
        shown(&world, &["log", "--grep", "line", "-n", "1", "web"]),
        "[+] web: line 3\n"
    );
    assert_eq!(
        shown(&world, &["log", "--since", "1h", "--grep", "1$", "web"]),
        "[+] web: line 1\n"
    );
    assert_eq!(
        shown(&world, &["log", "--since", "2999-01-01 00:00:00"]),
        ""
    );
    let records = shown(&world, &["--json", "log", "--grep", "line 1", "web"]);
    let record: Value = serde_json::from_str(records.trim()).unwrap();
    assert_eq!(
        (&record["service"], &record["stream"]),
        (&"web".into(), &"stdout".into())
    );
    assert_eq!(record["text"], "line 1");
    let timed = shown(&world, &["log", "-t", "--grep", "line 1", "web"]);
    assert_eq!(
        timed,
        format!("{} [+] web: line 1\n", record["time"].as_str().unwrap())
    );
    let bad = world.cli(&["log", "--grep", "("]);
    assert_eq!(bad.status.code(), Some(2));
    world.end();
}

/// As a container has a single file: what is mounted cannot be renamed.
#[test]
fn a_log_that_is_mounted_alone_is_written_on_and_why_it_is_not_rotated_is_said_once() {
    const LINES: usize = 300;
    let mut world = World::new();
    let path = world.open_dir().join("web.log");
    fs::write(&path, "").unwrap();
    let older = path.with_file_name("web.log.1");
    fs::write(&older, "older\n").unwrap();
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&path), &path, None::<&str>, flags, None::<&str>).unwrap();
    let mounted = Mounted(path.clone());
    let line = "x".repeat(90);
    let script =
        format!("for n in $(seq 1 {LINES}); do echo $n {line}; sleep 0.001; done; exec sleep 1000");
    let log = format!(
        "log: {{path: {}, format: plain, max_size: 4K, keep: 1}}",
        path.display()
    );
    world
        .service("web", &format!("exec: [sh, -c, '{script}']\n{log}\n"))
        .init();
    until("all is written", || {
        let text = fs::read_to_string(&path).unwrap();
        text.ends_with(&format!("{LINES} {line}\n")).then_some(())
    });
    let text = fs::read_to_string(&path).unwrap();
    let numbers = text.lines().map(|line| line.split(' ').next().unwrap());
    assert!(numbers.eq((1..=LINES).map(|n| n.to_string()).collect::<Vec<_>>()));
    assert_eq!(fs::read_to_string(&older).unwrap(), "older\n");
    let said = world.log_with(&format!("failed to rotate {}", path.display()));
    assert_eq!(said.matches("failed to rotate").count(), 1, "{said}");
    assert!(said.contains("Device or resource busy"), "{said}");
    world.stop_verified("web");
    drop(mounted);
    world.end();
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
