//! `nought run` itself killed, as CI systems do it in the end: its guardian leaves nothing.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::json;

use super::{code, number_in, output, report, spawn, stderr, stdout, trees};
use crate::crash::{Random, from_environment};
use crate::look::{self, until};
use crate::world::World;

/// Whoever guards a run.
fn guardian(world: &World) -> Option<u32> {
    let tree = trees(world).pop()?;
    let procs = std::fs::read_to_string(tree.join("cgroup.procs")).ok()?;
    procs.lines().next()?.parse().ok()
}

/// A command that leaves its session and its cgroup, holds on, and forks now and then.
fn hostile(world: &World) -> String {
    let outside = world.foreign_cgroup();
    let escape = world.command("sly", &format!("escape {}", outside.display()));
    format!(
        "trap '' TERM; {escape} & setsid sleep 1000 & (sleep 1000 &) ; \
         while :; do sleep 0.01; done"
    )
}

/// Kills a run's guardian, then the run.
fn kill_both(world: &World, run: &mut Child) {
    let guardian = until("it is guarded", || guardian(world));
    world.census();
    look::signal(guardian, libc::SIGKILL);
    until("the guardian is gone", || {
        look::alive(guardian).is_none().then_some(())
    });
    run.kill().unwrap();
    run.wait().unwrap();
}

/// What a hostile command left when both were killed: the world, and one that has escaped.
fn left_by_both() -> (World, u32) {
    let world = World::new();
    let script = hostile(&world);
    let mut run = spawn(&world, &["--", "sh", "-c", &script]);
    let escapee = world.pid("sly", "wiped");
    kill_both(&world, &mut run);
    assert!(look::alive(escapee).is_some());
    (world, escapee)
}

/// Kills a run, or its whole process group, a moment after its first child is born: while its
/// guardian and the command are. Whoever waits for the end of its output sees that.
fn killed_at_births(world: &World, whole_group: bool) {
    let mut random = Random::seeded();
    for round in 0..from_environment("NOUGHT_RUN_KILLS", 25) {
        let mut run = world.job(&["-q", "--", "sleep", "1000"]);
        let mut run = run.process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let children = format!("/proc/{0}/task/{0}/children", run.id());
        until("it has a child", || {
            let children = std::fs::read_to_string(&children).unwrap_or_default();
            (!children.is_empty()).then_some(())
        });
        std::thread::sleep(Duration::from_micros(random.below(3_000)));
        let whom = i32::try_from(run.id()).unwrap();
        let whom = if whole_group { -whom } else { whom };
        // SAFETY: a signal for a child of ours that is not reaped yet, or for its group.
        assert_eq!(unsafe { libc::kill(whom, libc::SIGKILL) }, 0);
        run.wait().unwrap();
        let said = format!("round {round} of {random:?}");
        until(
            &format!("{said}: everybody is gone: {:?}", world.everyone()),
            || world.everyone().is_empty().then_some(()),
        );
        let mut rest = String::new();
        run.stdout
            .take()
            .unwrap()
            .read_to_string(&mut rest)
            .unwrap();
    }
}

#[test]
fn killed_with_its_group_while_the_command_is_born_it_leaves_nobody() {
    let world = World::alone();
    killed_at_births(&world, true);
    // The next finds the cgroups of those whose guardians were killed with them.
    output(&world, &["--", "true"]);
    world.end();
}

#[test]
fn killed_while_the_command_is_born_it_leaves_nobody() {
    let world = World::alone();
    killed_at_births(&world, false);
    output(&world, &["--", "true"]);
    world.end();
}

#[test]
fn killed_without_a_cgroup_while_the_command_is_born_it_leaves_nobody() {
    for whole_group in [true, false] {
        let mut world = World::alone();
        super::places::ordinary(&mut world);
        killed_at_births(&world, whole_group);
        world.end();
    }
}

#[test]
fn killed_at_random_moments_it_leaves_nothing() {
    let rounds = from_environment("NOUGHT_RUN_KILLS", 25);
    let mut random = Random::seeded();
    let world = World::alone();
    let script = hostile(&world);
    let mut started = 0;
    for round in 0..rounds {
        let mut run = spawn(&world, &["--", "sh", "-c", &script]);
        std::thread::sleep(Duration::from_micros(random.below(60_000)));
        world.census();
        run.kill().unwrap();
        run.wait().unwrap();
        started += usize::from(!trees(&world).is_empty());
        let said = format!("round {round} of {random:?}");
        until(
            &format!("{said}: everybody is gone: {:?}", world.everyone()),
            || world.everyone().is_empty().then_some(()),
        );
        // The next finds what cgroups it left when it was killed before it had a guardian.
        if round % 5 == 4 {
            let ran = output(&world, &["--", "true"]);
            assert_eq!(code(&ran), Some(0), "{said}: {}", stderr(&ran));
            until(&format!("{said}: no cgroup stands"), || {
                trees(&world).is_empty().then_some(())
            });
        }
    }
    output(&world, &["--", "true"]);
    eprintln!("{rounds} rounds, {started} of them with cgroups at the end");
    world.end();
}

#[test]
fn the_guardian_ends_everything_removes_it_and_writes_the_report() {
    let world = World::new();
    let outside = world.foreign_cgroup();
    let script = hostile(&world);
    let words = ["--report", "r.json", "--junit", "r.xml"];
    let mut run = spawn(&world, &[&words[..], &["--", "sh", "-c", &script]].concat());
    let escapee = world.pid("sly", "wiped");
    let guardian = until("it is guarded", || guardian(&world));
    let environment = std::fs::read(format!("/proc/{guardian}/environ")).unwrap();
    assert!(
        environment.iter().all(|byte| *byte == 0),
        "CI systems look for theirs in it"
    );
    let name = std::fs::read(format!("/proc/{guardian}/cmdline")).unwrap();
    assert!(name.starts_with(b"nought-guardian\0"), "{name:?}");
    world.census();
    run.kill().unwrap();
    run.wait().unwrap();
    until("everybody is gone", || {
        world.everyone().is_empty().then_some(())
    });
    assert!(look::alive(escapee).is_none());
    assert!(look::members(&outside).is_empty());
    until("its cgroups are removed", || {
        trees(&world).is_empty().then_some(())
    });
    let report = report(&world.dir.join("r.json"));
    assert_eq!(report["ended_by"], "run-killed", "{report:#}");
    assert_eq!(report["verdict"], "verified", "{report:#}");
    until("the other report tells it, too", || {
        let xml = std::fs::read_to_string(world.dir.join("r.xml")).ok()?;
        xml.contains("nought run was killed").then_some(())
    });
    world.end();
}

#[test]
fn of_many_runs_one_ends_what_a_killed_one_left_whatever_they_keep() {
    let world = World::new();
    let script = "setsid sleep 1000 & echo $! >left; sleep 1001";
    let mut run = spawn(&world, &["--", "sh", "-c", script]);
    let left = number_in(&world.dir.join("left"));
    kill_both(&world, &mut run);
    let runs: Vec<_> = (0..8)
        .map(|_| spawn(&world, &["--keep", "sleep", "--", "sh", "-c", "sleep 0.5"]))
        .collect();
    let said: Vec<String> = runs
        .into_iter()
        .map(|run| stderr(&run.wait_with_output().unwrap()))
        .collect();
    let told = said.iter().filter(|said| said.contains("an earlier run"));
    assert_eq!(told.count(), 1, "{said:#?}");
    assert!(look::alive(left).is_none(), "{said:#?}");
    assert!(trees(&world).is_empty());
    world.end();
}

/// Its orphans went to others: nobody can say that there were no more.
#[test]
fn without_cgroups_the_guardian_ends_what_it_can_tell_and_calls_nothing_verified() {
    let mut world = World::new();
    world.launch = vec![format!("no-cgroup={}", look::cgroup_mount().display())];
    let script = "setsid sleep 1000 & echo $! >left; echo $$ >main; exec sleep 1000";
    let mut run = spawn(&world, &["--report", "r.json", "--", "sh", "-c", script]);
    let main = number_in(&world.dir.join("main"));
    let left = number_in(&world.dir.join("left"));
    run.kill().unwrap();
    run.wait().unwrap();
    until("everybody is gone", || {
        let gone = [main, left].iter().all(|pid| look::alive(*pid).is_none());
        gone.then_some(())
    });
    let report = report(&world.dir.join("r.json"));
    assert_eq!(report["ended_by"], "run-killed", "{report:#}");
    assert_eq!(
        report["guarantee"],
        json!({"containment": "process-group", "scan": "marked"}),
        "{report:#}"
    );
    assert_eq!(report["verdict"], "unverified", "{report:#}");
    // Its last act before it goes.
    until("the guardian is gone", || {
        world.everyone().is_empty().then_some(())
    });
    world.end();
}

#[test]
fn what_a_killed_guardian_leaves_is_ended_by_the_next_run() {
    let (world, escapee) = left_by_both();
    let ran = output(&world, &["--", "true"]);
    assert_eq!(code(&ran), Some(0));
    let said = stderr(&ran);
    assert!(
        said.contains("an earlier run was killed and left"),
        "{said}"
    );
    assert!(said.contains("verified"), "{said}");
    assert!(look::alive(escapee).is_none(), "{said}");
    assert!(trees(&world).is_empty());
    world.end();
}

#[test]
fn what_a_killed_guardian_leaves_is_ended_by_the_doctor() {
    let (world, escapee) = left_by_both();
    // No supervisor was at this socket: only what runs left is looked for.
    let clean = || {
        let mut clean = world.in_place(&["--json", "-s"]);
        let clean = clean.arg(world.dir.join("none.sock"));
        clean.args(["doctor", "--clean"]).output().unwrap()
    };
    let done = clean();
    let said = stdout(&done);
    assert_eq!(code(&done), Some(0), "{said}{}", stderr(&done));
    let first: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    assert_eq!(first["result"], "verified", "{said}");
    assert!(first["processes"].as_u64().unwrap() >= 3, "{said}");
    assert!(look::alive(escapee).is_none(), "{said}");
    assert!(trees(&world).is_empty());
    // A second time there is nothing to be found.
    assert!(!stdout(&clean()).contains("nought-run-"));
    world.end();
}

#[test]
fn a_run_beside_it_is_left_alone() {
    let world = World::new();
    let mut other = spawn(
        &world,
        &["--", "sh", "-c", "echo $$ >main; exec sleep 1000"],
    );
    let main = number_in(&world.dir.join("main"));
    let ran = output(&world, &["--", "true"]);
    assert_eq!(stderr(&ran), "");
    assert!(look::alive(main).is_some());
    look::signal(other.id(), libc::SIGTERM);
    assert_eq!(other.wait().unwrap().code(), Some(143));
    world.end();
}
