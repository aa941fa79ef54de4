//! Being asked to end, and time that is over.

use std::process::Command;
use std::time::Duration;

use super::{code, number_in, output, report, spawn, stderr, timed};
use crate::look::{self, until};
use crate::world::World;

/// Says in the file `asked` that each of two processes got the signal, and ends with code 3.
/// Monitor mode: without it a shell starts `&` with INT and QUIT ignored for good.
const POLITE: &str = "set -m; trap 'echo main >>asked; wait; exit 3' TERM INT HUP QUIT; \
    setsid sh -c 'trap \"echo child >>asked; exit\" TERM INT HUP QUIT; echo >ready; \
                  while :; do sleep 0.01; done' & \
    while :; do sleep 0.01; done";

#[test]
fn what_asks_us_to_end_goes_to_the_whole_tree() {
    let world = World::new();
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        let run = spawn(&world, &["--report", "r.json", "--", "bash", "-c", POLITE]);
        until("both are ready", || {
            world.dir.join("ready").exists().then_some(())
        });
        look::signal(run.id(), signal);
        let ran = run.wait_with_output().unwrap();
        let said = stderr(&ran);
        assert_eq!(code(&ran), Some(3), "{said}");
        let asked = std::fs::read_to_string(world.dir.join("asked")).unwrap();
        let mut asked: Vec<&str> = asked.lines().collect();
        asked.sort_unstable();
        assert_eq!(asked, ["child", "main"], "each once");
        let report = report(&world.dir.join("r.json"));
        assert_eq!(report["ended_by"], "signal", "{report:#}");
        assert_eq!(report["verdict"], "verified");
        assert!(
            said.contains("the command ended (exit code 3), nothing is left"),
            "{said}"
        );
        for file in ["ready", "asked"] {
            std::fs::remove_file(world.dir.join(file)).unwrap();
        }
    }
    world.end();
}

const STUBBORN: &str = "trap '' TERM INT; echo $$ >main; while :; do sleep 0.01; done";

#[test]
fn a_stubborn_command_is_gone_within_seven_seconds_of_a_term() {
    let world = World::new();
    let run = spawn(&world, &["--", "sh", "-c", STUBBORN]);
    let main = number_in(&world.dir.join("main"));
    world.note(main);
    // What the machine makes of the grace alone.
    let grace = std::thread::spawn(|| timed(|| Command::new("sleep").arg("5").status().unwrap()).0);
    look::signal(run.id(), libc::SIGTERM);
    let (took, ran) = timed(|| run.wait_with_output().unwrap());
    assert_eq!(code(&ran), Some(137), "{}", stderr(&ran));
    assert!(
        took >= Duration::from_millis(4900),
        "it has its grace: {took:?}"
    );
    let grace = grace.join().unwrap();
    assert!(took < grace + Duration::from_secs(2), "{took:?}, {grace:?}");
    assert!(
        stderr(&ran).contains("had to be killed"),
        "{}",
        stderr(&ran)
    );
    world.end();
}

#[test]
fn the_second_int_cuts_the_grace_short() {
    let world = World::new();
    let run = spawn(&world, &["--grace", "100s", "--", "sh", "-c", STUBBORN]);
    number_in(&world.dir.join("main"));
    look::signal(run.id(), libc::SIGINT);
    let asked = |pid: u32| {
        // Taken from the queue, so that the second is one of its own.
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let pending = status
            .lines()
            .find_map(|line| line.strip_prefix("ShdPnd:"))
            .unwrap();
        (u64::from_str_radix(pending.trim(), 16).unwrap() == 0).then_some(())
    };
    until("the first is taken", || asked(run.id()));
    look::signal(run.id(), libc::SIGINT);
    let (took, ran) = timed(|| run.wait_with_output().unwrap());
    assert_eq!(code(&ran), Some(137), "{}", stderr(&ran));
    assert!(took < Duration::from_secs(20), "{took:?}");
    world.end();
}

#[test]
fn other_signals_are_passed_on_to_the_command_alone() {
    let world = World::new();
    let script = "for name in USR1 HUP; do trap \"echo $name >>told\" $name; done; \
                  trap 'echo TERM >>told; exit 0' TERM; \
                  echo $$ >main; while :; do sleep 0.01; done";
    let run = spawn(&world, &["--forward", "HUP", "--", "sh", "-c", script]);
    number_in(&world.dir.join("main"));
    let told = || std::fs::read_to_string(world.dir.join("told")).unwrap_or_default();
    let mut expected = String::new();
    for (signal, name) in [
        (libc::SIGUSR1, "USR1\n"),
        (libc::SIGHUP, "HUP\n"),
        (libc::SIGTERM, "TERM\n"),
    ] {
        look::signal(run.id(), signal);
        expected += name;
        until(&expected, || (told() == expected).then_some(()));
    }
    let ran = run.wait_with_output().unwrap();
    assert_eq!(told(), expected, "each once: {}", stderr(&ran));
    assert_eq!(code(&ran), Some(0));
    world.end();
}

#[test]
fn time_that_is_over_is_said_with_what_runs_and_ends_it() {
    let world = World::new();
    let command = "echo \"on timeout: $(cat /proc/$NOUGHT_PID/comm)\"; sleep 1000 &";
    let words = [
        "--timeout",
        "5s",
        "--on-timeout",
        command,
        "--report",
        "r.json",
        "--junit",
        "r.xml",
    ];
    // By then all of it runs.
    let script = "sh -c 'sleep 1000; :' & wait";
    let (took, ran) = timed(|| output(&world, &[&words[..], &["--", "sh", "-c", script]].concat()));
    let said = stderr(&ran);
    assert_eq!(code(&ran), Some(124), "{said}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(
        said.contains("not done after 5 s; 3 processes running:"),
        "{said}"
    );
    // The tree: each below its parent, with what it waits for.
    let evidence: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("sleeping in "))
        .collect();
    assert!(
        evidence[0].starts_with("  ") && evidence[2].starts_with("      "),
        "{said}"
    );
    assert!(
        evidence[2].contains("sleep 1000") && evidence[2].contains("nanosleep"),
        "{said}"
    );
    assert!(said.contains("on timeout: sh\n"), "{said}");
    assert!(
        said.contains("timed out after 5 s: the command ended (SIGTERM)"),
        "{said}"
    );
    let report = report(&world.dir.join("r.json"));
    assert_eq!(report["ended_by"], "timeout");
    assert_eq!(report["verdict"], "verified", "{report:#}");
    let xml = std::fs::read_to_string(world.dir.join("r.xml")).unwrap();
    assert!(xml.contains("<failure message=\"timed out\"/>"), "{xml}");
    world.end();
}

#[test]
fn what_runs_when_the_time_is_over_has_no_longer_than_the_grace() {
    let world = World::new();
    let words = [
        "--timeout",
        "50ms",
        "--grace",
        "300ms",
        "--on-timeout",
        "sleep 1000",
        "--",
    ];
    let (took, ran) = timed(|| output(&world, &[&words[..], &["sleep", "1000"]].concat()));
    assert_eq!(code(&ran), Some(124), "{}", stderr(&ran));
    assert!(took < Duration::from_secs(20), "{took:?}");
    world.end();
}

#[test]
fn a_reader_that_does_not_read_holds_nothing_up() {
    let world = World::new();
    // Nobody empties the pipe while they wait.
    let script = "echo $$ >main; exec yes >&2";
    let words = ["--timeout", "5s", "--grace", "200ms", "--report", "r.json"];
    let mut run = spawn(&world, &[&words[..], &["--", "sh", "-c", script]].concat());
    let status = until("its time is over", || run.try_wait().unwrap());
    assert_eq!(status.code(), Some(124));
    let report = report(&world.dir.join("r.json"));
    assert_eq!(report["verdict"], "verified", "{report:#}");
    std::fs::remove_file(world.dir.join("main")).unwrap();
    let mut run = spawn(&world, &["--", "sh", "-c", script]);
    number_in(&world.dir.join("main"));
    look::signal(run.id(), libc::SIGTERM);
    let status = until("it is ended", || run.try_wait().unwrap());
    assert_eq!(status.code(), Some(143));
    // Of its own end it waits for whoever reads, and a signal ends that.
    let script =
        "setsid sleep 1000 & dd if=/dev/zero bs=65536 count=1 >&2 2>/dev/null; echo $! >at";
    let mut run = spawn(&world, &["--report", "own.json", "--", "sh", "-c", script]);
    until("it has reported", || {
        world.dir.join("own.json").exists().then_some(())
    });
    assert!(run.try_wait().unwrap().is_none());
    look::signal(run.id(), libc::SIGTERM);
    until("it is ended", || run.try_wait().unwrap());
    world.end();
}
