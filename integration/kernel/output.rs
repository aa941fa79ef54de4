//! Output: floods, readers that do not read, and pipes that others hold.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use serde_json::json;

use crate::catalogue::table::row;
use crate::look::{self, until};
use crate::world::World;

/// Waits until so many megabytes were written.
fn flooded(world: &World, name: &str, megabytes: usize) {
    world.numbers(name, "flooded", megabytes.div_ceil(16));
}

#[test]
fn a_flood_of_one_service_holds_up_no_other() {
    let mut world = World::alone();
    world.stdout = Some(Stdio::null());
    world.fixture("loud", "flood", "log: stdout\nshutdown_timeout: 50ms");
    world.fixture("quiet", "children 3", "").init();
    world.pid("loud", "pid");
    flooded(&world, "loud", 16);
    for _ in 0..10 {
        let receipt = world.stop_verified("quiet");
        assert_eq!(
            receipt["killed"],
            json!([]),
            "it went in its grace: {receipt:#}"
        );
        world.start("quiet").unwrap();
    }
    flooded(&world, "loud", 256);
    world.stop_verified("loud");
    world.end();
}

#[test]
fn a_flood_into_memory_is_bounded_and_keeps_the_newest() {
    let mut world = World::alone();
    world
        .fixture("loud", "flood", "shutdown_timeout: 50ms")
        .init();
    world.pid("loud", "pid");
    flooded(&world, "loud", 64);
    let log = world
        .call("nought_log", json!({"name": "loud", "lines": 3}))
        .unwrap();
    let lines = log["lines"].as_array().unwrap();
    assert_eq!(lines.len(), 3, "{log}");
    assert!(
        lines[2].as_str().unwrap().starts_with("[+] loud: yyy"),
        "{log}"
    );
    assert!(log["lost"].as_u64().unwrap() > 0, "{log}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.supervisor())).unwrap();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .unwrap();
    let kib: u64 = kib.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 * 1024, "{kib} KiB");
    world.end();
}

#[test]
fn a_stdout_that_nobody_reads_holds_nothing_up() {
    let mut world = World::new();
    let (reader, writer) = std::io::pipe().unwrap();
    world.stdout = Some(Stdio::from(OwnedFd::from(writer)));
    world.fixture("loud", "flood", "log: stdout\nshutdown_timeout: 50ms");
    world.fixture("quiet", "stay", "").init();
    flooded(&world, "loud", 32);
    world.stop_verified("quiet");
    world.stop_verified("loud");
    world.start("quiet").unwrap();
    world.end();
    drop(reader);
}

#[test]
fn what_is_written_last_still_gets_out() {
    let mut world = World::new();
    let (mut reader, writer) = std::io::pipe().unwrap();
    world.stdout = Some(Stdio::from(OwnedFd::from(writer)));
    let exec = "exec: sh -c 'trap \"echo farewell; echo oops >&2; exit 0\" TERM; echo hello; while :; do sleep 0.01; done'";
    world
        .service("web", &format!("{exec}\nlog: stdout\n"))
        .init();
    until("it has said hello", || {
        let log = world.call("nought_log", json!({"name": "web"})).unwrap();
        log["lines"].to_string().contains("hello").then_some(())
    });
    world.stop_verified("web");
    let log = world.call("nought_log", json!({"name": "web"})).unwrap();
    let log = log["lines"].to_string();
    assert!(
        log.contains("[-] web: ------------ [start] ------------"),
        "{log}"
    );
    assert!(
        log.contains("[+] web: farewell") && log.contains("[-] web: oops"),
        "{log}"
    );
    world.end();
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert!(
        text.contains("[+] web: hello\n") && text.contains("[+] web: farewell\n"),
        "{text}"
    );
}

#[test]
fn a_stdout_that_is_closed_ends_nobody() {
    let mut world = World::new();
    let (reader, writer) = std::io::pipe().unwrap();
    world.stdout = Some(Stdio::from(OwnedFd::from(writer)));
    drop(reader);
    world
        .fixture("loud", "flood", "log: stdout\nshutdown_timeout: 50ms")
        .init();
    flooded(&world, "loud", 16);
    assert_eq!(world.status("loud")["state"], "up", "no SIGPIPE reaches it");
    world.stop_verified("loud");
    world.end();
}

#[test]
fn somebody_who_holds_a_services_output_delays_nothing_and_costs_nothing() {
    let mut world = World::new();
    world.fixture("web", "stay", "").init();
    let pid = world.pid("web", "pid");
    let held = look::open_fd(pid, 1);
    world.stop_verified("web");
    let before = look::descriptors(world.supervisor());
    // Each start leaves a pipe that somebody holds.
    let mut all = vec![held];
    for round in 2..12 {
        world.start("web").unwrap();
        let pid = u32::try_from(world.numbers("web", "pid", round)[round - 1]).unwrap();
        all.push(look::open_fd(pid, 1));
        world.stop_verified("web");
    }
    until("no pipe is kept for them", || {
        (look::descriptors(world.supervisor()) <= before).then_some(())
    });
    world.end();
}

#[test]
fn an_escapee_that_holds_its_output_delays_nothing() {
    let mut world = World::new();
    let outside = world.foreign_cgroup();
    let words = format!("escape {}", outside.display());
    world.fixture("web", &words, "log: stdout").init();
    let escapee = world.pid("web", "wiped");
    let receipt = world.stop_verified("web");
    assert_eq!(crate::receipt::pids(&receipt, "escaped"), [escapee].into());
    row!(Survive, "an orphan outside that holds the service's output").receipt(&receipt);
    world.end();
}
