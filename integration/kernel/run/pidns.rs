//! A pid namespace of the command's own: asked for, never silent.

use super::{code, is_executed, output, report, spawn, stderr, stdout, trees};
use crate::look::{self, until};
use crate::world::World;

#[test]
fn the_command_sees_nobody_outside_and_what_it_leaves_is_named() {
    let world = World::new();
    let script = "echo $$; cat /proc/1/comm; ls -d /proc/[0-9]* | wc -l; \
                  setsid sleep 1000 & (setsid sleep 1001 &); \
                  until [ $(pgrep -xc sleep) = 2 ]; do sleep 0.01; done; exit 5";
    let words = ["--pidns", "--report", "r.json", "--", "sh", "-c", script];
    let ran = output(&world, &words);
    let said = stderr(&ran);
    assert_eq!(code(&ran), Some(5), "{said}");
    let seen = stdout(&ran);
    let seen: Vec<&str> = seen.lines().collect();
    assert_eq!(seen[..2], ["2", "nought-reaper"], "{said}");
    // Process 1, the shell, ls, and wc if that was born first.
    let processes: u32 = seen[2].trim().parse().unwrap();
    assert!((3..=4).contains(&processes), "{seen:?}");
    assert!(said.contains("2 processes still ran"), "{said}");
    assert!(!said.contains("nought-reaper  "), "{said}");
    let report = report(&world.dir.join("r.json"));
    assert_eq!(report["verdict"], "verified", "{report:#}");
    let leaks = report["leaks"].as_array().unwrap();
    assert_eq!(leaks.len(), 2, "{report:#}");
    for leak in leaks {
        assert_eq!(leak["argv"][0], "sleep", "{report:#}");
        let left = leak["left"].to_string();
        assert!(
            left.contains("setsid") && left.contains("its parent has ended"),
            "{left}"
        );
    }
    // Its pid is ours to see.
    assert_ne!(report["pid"], 2, "{report:#}");
    assert!(trees(&world).is_empty());
    let clean = output(&world, &["--pidns", "--", "true"]);
    assert_eq!((code(&clean), stderr(&clean)), (Some(0), String::new()));
    world.end();
}

#[test]
fn codes_signals_and_a_command_that_is_not_there() {
    let world = World::new();
    for (words, expected) in [
        (&["no-such-command"][..], 127),
        (&["/etc/passwd"], 126),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["sh", "-c", "exit 9"], 9),
    ] {
        let ran = output(&world, &[&["--pidns", "--"][..], words].concat());
        assert_eq!(code(&ran), Some(expected), "{words:?}: {}", stderr(&ran));
    }
    let script = "trap 'echo asked; exit 6' TERM; trap 'echo >told' USR1; echo >up; \
                  while :; do sleep 0.01; done";
    let run = spawn(&world, &["--pidns", "--", "sh", "-c", script]);
    until("it runs", || world.dir.join("up").exists().then_some(()));
    look::signal(run.id(), libc::SIGUSR1);
    until("it was told", || {
        world.dir.join("told").exists().then_some(())
    });
    look::signal(run.id(), libc::SIGTERM);
    let ran = run.wait_with_output().unwrap();
    let said = (code(&ran), stdout(&ran));
    assert_eq!(said, (Some(6), "asked\n".to_owned()), "{}", stderr(&ran));
    let ran = output(&world, &["--pidns", "--keep", "sleep", "--", "true"]);
    assert_eq!(code(&ran), Some(125), "{}", stderr(&ran));
    assert!(
        stderr(&ran).contains("cannot be used with"),
        "{}",
        stderr(&ran)
    );
    world.end();
}

/// The names of those that the receipt says were killed.
fn killed(report: &serde_json::Value) -> Vec<&str> {
    let killed = report["receipt"]["killed"].as_array().unwrap().iter();
    let mut names: Vec<&str> = killed.map(|p| p["comm"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn it_holds_the_command_where_there_is_no_cgroup() {
    let mut world = World::new();
    world.launch = vec![format!("no-cgroup={}", look::cgroup_mount().display())];
    let least = [
        "--pidns",
        "--min-guarantee",
        "pid-namespace",
        "--leaks=fail",
    ];
    let script = "setsid sleep 1000 & (setsid env -i sleep 1001 &); exit 0";
    let more = ["--report", "r.json", "--", "sh", "-c", script];
    let ran = output(&world, &[&least[..], &more].concat());
    assert_eq!(code(&ran), Some(120), "{}", stderr(&ran));
    let first = report(&world.dir.join("r.json"));
    assert_eq!(first["verdict"], "verified", "{first:#}");
    assert_eq!(
        first["guarantee"]["containment"], "pid-namespace",
        "{first:#}"
    );
    assert_eq!(first["leaks"].as_array().unwrap().len(), 2, "{first:#}");
    // Deaf to everything but the end of its namespace.
    let script = format!(
        "trap '' TERM; sleep 1000 & {}; echo >up; wait",
        is_executed("sleep")
    );
    let run = spawn(
        &world,
        &[
            "--pidns", "--grace", "50ms", "--report", "k.json", "--", "sh", "-c", &script,
        ],
    );
    until("it runs", || world.dir.join("up").exists().then_some(()));
    look::signal(run.id(), libc::SIGTERM);
    let ran = run.wait_with_output().unwrap();
    assert_eq!(code(&ran), Some(137), "{}", stderr(&ran));
    assert_eq!(killed(&report(&world.dir.join("k.json"))), ["sh", "sleep"]);
    // What it leaves, deaf as well: ended with the namespace, and on the receipt by name.
    let script = format!("trap '' TERM; sleep 1000 & {}", is_executed("sleep"));
    let words = ["--pidns", "--report", "l.json", "--", "sh", "-c", &script];
    let ran = output(&world, &words);
    assert_eq!(code(&ran), Some(0), "{}", stderr(&ran));
    assert_eq!(killed(&report(&world.dir.join("l.json"))), ["sleep"]);
    world.end();
}

#[test]
fn whoever_may_not_have_one_gets_nothing_less() {
    let mut world = World::new();
    let words = "setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs";
    world.wrapper = words.split(' ').map(str::to_owned).collect();
    let ran = output(&world, &["--pidns", "--", "echo", "started"]);
    assert_eq!((code(&ran), stdout(&ran)), (Some(125), String::new()));
    assert!(stderr(&ran).contains("CAP_SYS_ADMIN"), "{}", stderr(&ran));
    world.end();
}

#[test]
fn killed_it_leaves_nothing() {
    let world = World::new();
    for rounds in 0..5_u64 {
        let script = "trap '' TERM; setsid sleep 1000 & (sleep 1000 &); echo >up; sleep 1001";
        let mut run = spawn(&world, &["--pidns", "--", "sh", "-c", script]);
        until("it runs", || world.dir.join("up").exists().then_some(()));
        std::thread::sleep(std::time::Duration::from_millis(rounds));
        world.census();
        run.kill().unwrap();
        run.wait().unwrap();
        until("everybody is gone", || {
            world.everyone().is_empty().then_some(())
        });
        until("its cgroups are removed", || {
            trees(&world).is_empty().then_some(())
        });
        std::fs::remove_file(world.dir.join("up")).unwrap();
    }
    world.end();
}
