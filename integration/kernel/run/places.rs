//! Where it may have to work: in itself, under a supervisor, in crowds, with less than root.

use std::process::{Command, Stdio};

use super::{code, is_executed, output, report, spawn, stderr, stdout, trees};
use crate::look;
use crate::receipt::assert_verified;
use crate::world::World;

const NOUGHT: &str = env!("CARGO_BIN_EXE_nought");

#[test]
fn nested_in_itself() {
    let world = World::new();
    let inner = format!(
        "setsid sleep 1000 & {}; {NOUGHT} run --leaks=fail -- sh -c 'setsid sleep 1001 & exit 0'; \
         echo inner $?",
        is_executed("sleep")
    );
    let ran = output(
        &world,
        &[
            "--leaks=fail",
            "--report",
            "r.json",
            "--",
            "sh",
            "-c",
            &inner,
        ],
    );
    assert_eq!(stdout(&ran), "inner 120\n", "{}", stderr(&ran));
    assert_eq!(code(&ran), Some(120), "{}", stderr(&ran));
    let report = report(&world.dir.join("r.json"));
    assert_eq!(report["leaks"].as_array().unwrap().len(), 1, "{report:#}");
    assert_eq!(report["leaks"][0]["argv"][1], "1000");
    // The outer one is ended in the midst of the inner one's work.
    let mut run = spawn(
        &world,
        &[
            "--",
            NOUGHT,
            "run",
            "--",
            "sh",
            "-c",
            "setsid sleep 1000 & wait",
        ],
    );
    look::until("two are there", || {
        let tree = trees(&world).pop()?;
        (look::tree(&tree).len() >= 4 && look::members(&tree).len() >= 5).then_some(())
    });
    look::signal(run.id(), libc::SIGTERM);
    assert_eq!(run.wait().unwrap().code(), Some(143));
    assert!(trees(&world).is_empty());
    world.end();
}

#[test]
fn under_a_supervisor() {
    let mut world = World::new();
    let exec = format!("{NOUGHT} run -- sh -c 'setsid sleep 1000 & echo >>up; sleep 1001'");
    let dir = world.dir.display().to_string();
    world
        .service("job", &format!("exec: {exec}\ndir: {dir}\n"))
        .init();
    world.reach("job", "up");
    look::until("it runs", || world.dir.join("up").exists().then_some(()));
    let receipt = world.stop_verified("job");
    assert_verified(&receipt);
    world.end();
}

#[test]
fn a_hundred_at_once() {
    let world = World::alone();
    let runs: Vec<_> = (0..100)
        .map(|n| {
            let script = format!("setsid sleep 1000 & sleep 0.0{}; exit {n}", n % 10);
            spawn(&world, &["--leaks=allow", "--", "sh", "-c", &script])
        })
        .collect();
    for (n, run) in runs.into_iter().enumerate() {
        let ran = run.wait_with_output().unwrap();
        assert_eq!(
            code(&ran),
            Some(i32::try_from(n).unwrap()),
            "{}",
            stderr(&ran)
        );
        assert_eq!(stderr(&ran), "");
    }
    assert!(trees(&world).is_empty());
    world.end();
}

/// An ordinary user whose cgroup was handed over to them.
fn delegated(world: &mut World) {
    let user = nix::unistd::Uid::from_raw(65_534);
    for path in [
        "",
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
    ] {
        nix::unistd::chown(&world.cgroup.join(path), Some(user), None).unwrap();
    }
    nix::unistd::chown(&world.dir, Some(user), None).unwrap();
    let words = "setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs";
    world.wrapper = words.split(' ').map(str::to_owned).collect();
}

#[test]
fn an_ordinary_user_in_a_subtree_of_their_own() {
    let mut world = World::new();
    delegated(&mut world);
    let script = "setsid env -i sleep 1000 & setsid sleep 1001 & id -u";
    let ran = output(&world, &["--report", "r.json", "--", "sh", "-c", script]);
    assert_eq!(stdout(&ran), "65534\n", "{}", stderr(&ran));
    let said = stderr(&ran);
    let falls = "only `cgroup-kill descent` can be guaranteed here";
    assert_eq!(said.matches(falls).count(), 1, "{said}");
    let report = report(&world.dir.join("r.json"));
    assert_eq!(report["verdict"], "verified", "{report:#}");
    assert_eq!(report["leaks"].as_array().unwrap().len(), 2, "{report:#}");
    let mut run = spawn(
        &world,
        &["--", "sh", "-c", "setsid sleep 1000 & echo >up; sleep 1001"],
    );
    look::until("it runs", || world.dir.join("up").exists().then_some(()));
    world.census();
    run.kill().unwrap();
    run.wait().unwrap();
    look::until("everybody is gone", || {
        world.everyone().is_empty().then_some(())
    });
    look::until("its cgroups are removed", || {
        trees(&world).is_empty().then_some(())
    });
    world.end();
}

#[test]
fn without_a_cgroup_the_guarantee_falls_and_that_is_said_once() {
    for how in ["no-cgroup", "cgroup-read-only"] {
        let mut world = World::new();
        world.launch = vec![format!("{how}={}", look::cgroup_mount().display())];
        let script = "setsid sleep 1000 & (setsid sleep 1001 &); exit 0";
        let ran = output(
            &world,
            &[
                "--leaks=fail",
                "--report",
                "r.json",
                "--",
                "sh",
                "-c",
                script,
            ],
        );
        let said = stderr(&ran);
        assert_eq!(code(&ran), Some(120), "{how}: {said}");
        assert_eq!(
            said.matches("only `subreaper marked` can be guaranteed")
                .count(),
            1,
            "{said}"
        );
        let report = report(&world.dir.join("r.json"));
        assert_eq!(report["verdict"], "verified", "{how}: {report:#}");
        assert_eq!(
            report["leaks"].as_array().unwrap().len(),
            2,
            "{how}: {report:#}"
        );
        let run = spawn(
            &world,
            &[
                "--grace",
                "50ms",
                "--",
                "sh",
                "-c",
                "trap '' TERM; echo >up; sleep 1000; sleep 1001",
            ],
        );
        look::until("it runs", || world.dir.join("up").exists().then_some(()));
        look::signal(run.id(), libc::SIGTERM);
        assert_eq!(code(&run.wait_with_output().unwrap()), Some(137), "{how}");
        let clean = output(&world, &["-q", "--", "true"]);
        assert_eq!(
            (code(&clean), stderr(&clean)),
            (Some(0), String::new()),
            "{how}"
        );
        world.end();
    }
}

/// Runs a script as a container's first process would be run: its own pid and mount namespaces,
/// and a /proc of its own.
fn contained(world: &World, words: &[&str]) -> Command {
    let mut container = Command::new("unshare");
    container
        .args([
            "--pid",
            "--fork",
            "--kill-child=KILL",
            "--mount",
            "--mount-proc",
            "--cgroup",
        ])
        .args(words)
        .stdin(Stdio::null())
        .current_dir(&world.dir);
    container
}

#[test]
fn as_the_first_process_of_a_container() {
    let world = World::new();
    for (script, expected) in [
        ("exit 9", 9),
        ("kill -9 $$", 137),
        // Orphans of others are reaped, not signalled, and hold nothing up.
        ("(setsid sleep 0.01 &) ; sleep 0.1; exit 4", 4),
    ] {
        let ran = contained(&world, &[NOUGHT, "run", "--", "sh", "-c", script])
            .output()
            .unwrap();
        assert_eq!(code(&ran), Some(expected), "{script}: {}", stderr(&ran));
    }
    let mut container = contained(
        &world,
        &[
            NOUGHT,
            "run",
            "--",
            "sh",
            "-c",
            "trap 'echo asked; exit 6' TERM; echo >up; while :; do sleep 0.01; done",
        ],
    );
    let run = container
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    look::until("it runs", || world.dir.join("up").exists().then_some(()));
    let first = look::until("its first process", || {
        look::children_of(run.id()).first().copied()
    });
    look::signal(first, libc::SIGTERM);
    let ran = run.wait_with_output().unwrap();
    assert_eq!((code(&ran), stdout(&ran)), (Some(6), "asked\n".to_owned()));
    world.end();
}

#[test]
fn where_orphans_are_reaped_the_guardian_is_nobodys_child() {
    let world = World::new();
    // bash reaps whatever it inherits.
    let script = format!(
        "{NOUGHT} run -- sh -c 'setsid sleep 1000 & echo >up; sleep 1001' & run=$!; \
         while ! test -e up; do sleep 0.01; done; \
         guard=$(pgrep -f ^nought-guardian); ps -o ppid= -p $guard | tr -d ' '; \
         kill -9 $run; while pgrep -x sleep >left; do sleep 0.01; done; \
         while test -e /proc/$guard; do sleep 0.01; done; echo gone"
    );
    let ran = contained(&world, &["bash", "-c", &script])
        .output()
        .unwrap();
    assert_eq!(stdout(&ran), "1\ngone\n", "{}", stderr(&ran));
    world.end();
}

#[test]
fn in_an_unprivileged_container() {
    let mut world = World::new();
    // A container's default: cgroup2 to be read only, and none of the capabilities that count.
    world.launch = vec![format!(
        "cgroup-read-only={}",
        look::cgroup_mount().display()
    )];
    let words = "setpriv --bounding-set=-all --inh-caps=-all --no-new-privs";
    world.wrapper = words.split(' ').map(str::to_owned).collect();
    let script = "setsid sleep 1000 & (setsid sleep 1001 &); exit 3";
    let ran = output(&world, &["--report", "r.json", "--", "sh", "-c", script]);
    let said = stderr(&ran);
    assert_eq!(code(&ran), Some(3), "{said}");
    assert_eq!(
        said.matches("only `subreaper descent` can be guaranteed")
            .count(),
        1,
        "{said}"
    );
    let report = report(&world.dir.join("r.json"));
    assert_eq!(report["leaks"].as_array().unwrap().len(), 2, "{report:#}");
    assert_eq!(report["verdict"], "verified", "{report:#}");
    world.end();
}

#[test]
fn in_a_privileged_container() {
    let world = World::new();
    let script = format!(
        "mount -t cgroup2 none /sys/fs/cgroup && \
         {NOUGHT} run --min-guarantee cgroup-kill,marked --leaks=fail -- \
         sh -c 'setsid sleep 1000 & exit 0'; echo $?"
    );
    let inner = format!(
        "echo $$ >{}/cgroup.procs; exec unshare --cgroup sh -c '{}'",
        world.cgroup.display(),
        script.replace('\'', "'\"'\"'")
    );
    let ran = contained(&world, &["sh", "-c", &inner]).output().unwrap();
    assert_eq!(stdout(&ran), "120\n", "{}", stderr(&ran));
    assert!(trees(&world).is_empty());
    world.end();
}

/// An ordinary user in somebody else's cgroup.
pub(super) fn ordinary(world: &mut World) {
    let user = nix::unistd::Uid::from_raw(65_534);
    nix::unistd::chown(&world.dir, Some(user), None).unwrap();
    let words = "setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs";
    world.wrapper = words.split(' ').map(str::to_owned).collect();
}

#[test]
fn an_orphan_without_a_trace_is_ended_where_it_can_only_be_the_commands() {
    let mut world = World::new();
    ordinary(&mut world);
    let script = "(setsid env -i sh -c 'sleep 1000 & echo $$ >orphan; wait' &); \
                  while ! test -s orphan; do sleep 0.01; done";
    let ran = output(&world, &["--report", "r.json", "--", "sh", "-c", script]);
    let said = stderr(&ran);
    assert_eq!(code(&ran), Some(0), "{said}");
    assert!(said.contains("only `subreaper descent`"), "{said}");
    let report = report(&world.dir.join("r.json"));
    assert_eq!(report["verdict"], "verified", "{report:#}");
    assert_eq!(report["leaks"].as_array().unwrap().len(), 2, "{report:#}");
    let orphan = super::number_in(&world.dir.join("orphan"));
    assert!(look::alive(orphan).is_none(), "{said}");
    world.end();
}

/// The other side of the last: somebody was our child before, whose orphans come to us as well.
#[test]
fn an_orphan_without_a_trace_that_may_be_anybodys_is_left_alone_and_nothing_is_proven() {
    let mut world = World::new();
    ordinary(&mut world);
    let never = world.dir.join("never");
    world.launch.push(format!("stranger={}", never.display()));
    let script = "(setsid env -i sh -c 'echo $$ >orphan; exec sleep 1000' &); \
                  while ! test -s orphan; do sleep 0.01; done";
    let mut run = world.job(&["--report", "r.json", "--", "sh", "-c", script]);
    // Who lives on would hold a pipe.
    let file = |name| std::fs::File::create(world.dir.join(name)).unwrap();
    let status = run
        .stdout(file("out"))
        .stderr(file("err"))
        .status()
        .unwrap();
    let said = std::fs::read_to_string(world.dir.join("err")).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    let report = report(&world.dir.join("r.json"));
    assert_eq!(report["verdict"], "unverified", "{report:#}");
    let reason = report["reason"].as_str().unwrap();
    assert!(reason.contains("nothing says whose it is"), "{reason}");
    assert!(said.contains("not proven"), "{said}");
    let orphan = super::number_in(&world.dir.join("orphan"));
    assert!(look::alive(orphan).is_some(), "{said}");
    let foreign = crate::receipt::pids(&report["receipt"], "foreign");
    assert!(foreign.contains(&orphan), "{report:#}");
    assert_eq!(report["leaks"], serde_json::json!([]), "{report:#}");
    for id in world.everyone() {
        look::signal(id.pid, libc::SIGKILL);
    }
    look::signal(orphan, libc::SIGKILL);
    look::until("both end", || {
        (world.everyone().is_empty() && look::alive(orphan).is_none()).then_some(())
    });
    world.end();
}

#[test]
fn killed_without_a_cgroup_its_process_group_is_ended() {
    let mut world = World::new();
    ordinary(&mut world);
    let script = "(sleep 1000 &); echo >up; exec sleep 1001";
    let mut run = spawn(&world, &["-q", "--", "sh", "-c", script]);
    look::until("it runs", || world.dir.join("up").exists().then_some(()));
    world.census();
    run.kill().unwrap();
    run.wait().unwrap();
    look::until("everybody is gone", || {
        world.everyone().is_empty().then_some(())
    });
    world.end();
}
