//! Spawning: place, mark, state of the new process, and every way to fail.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nought::sys::reap::Ended;
use nought::sys::spawn::{ExecOutcome, SpawnError, SpawnMethod, Stage};
use nought::sys::{SysError, cgroup, procfs, reap};

use crate::scene::{Scene, Start, is_dead, until};

const METHODS: [SpawnMethod; 3] = [
    SpawnMethod::Clone3Into,
    SpawnMethod::Clone3ThenWrite,
    SpawnMethod::ForkThenWrite,
];

#[test]
fn a_process_is_born_into_its_cgroup_and_marked() {
    for method in METHODS {
        let scene = Scene::new();
        let start = Start::new(&["sleep"])
            .cgroup(&scene.dir)
            .marked()
            .method(method);
        let mut seen = None;
        let child = start
            .try_start(|born| {
                seen = Some((
                    cgroup::procs(&scene.dir)?,
                    born.mark.as_ref().map(|m| m.inode),
                ));
                Ok(())
            })
            .unwrap();
        let mark = child.born.mark.as_ref().map(|mark| mark.inode);
        // Both are settled before it may execute anything.
        assert_eq!(seen, Some((vec![child.pid()], mark)), "{method:?}");
        let child = child.ready();
        assert_eq!(child.outcome(), ExecOutcome::Executed);
        let proc = procfs::Proc::open().unwrap();
        let own = procfs::own_mark().unwrap();
        // Where the child unshares, and exec does not enter what it unshared (before Linux 6.3),
        // only its children are marked: the start-up test says `descent` for that.
        let marked = method != SpawnMethod::ForkThenWrite || exec_enters_a_time_namespace();
        assert_eq!(
            proc.mark(child.pid()).unwrap().inode(),
            if marked { mark } else { Some(own) },
            "{method:?}: {:?}",
            child.born.unmarked
        );
        assert_ne!(mark, Some(own));
        assert_eq!(proc.stat(child.pid()).unwrap().unwrap().id(), child.born.id);
        assert!(child.born.pidfd.is_some());
    }
}

fn exec_enters_a_time_namespace() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split('.')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(3))
}

#[test]
fn descendants_inherit_the_mark() {
    let scene = Scene::new();
    let child = Start::new(&["children", "3"])
        .cgroup(&scene.dir)
        .marked()
        .start()
        .ready();
    let proc = procfs::Proc::open().unwrap();
    let members = cgroup::procs(&scene.dir).unwrap();
    assert_eq!(members.len(), 4);
    let mark = child.born.mark.as_ref().map(|mark| mark.inode);
    assert!(
        members
            .iter()
            .all(|&pid| proc.mark(pid).unwrap().inode() == mark)
    );
}

#[test]
fn a_child_starts_clean() {
    // Ignored in us, and must not be in the child (nohup starts us with HUP ignored; Rust
    // itself ignores PIPE).
    for method in METHODS {
        let start = Start::new(&["sleep"])
            .open_files(256, 512)
            .dir("/tmp")
            .env("A", "b=c");
        let child = start.method(method).start().ready();
        let read =
            |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", child.pid())).unwrap();
        let status: BTreeMap<String, String> = read("status")
            .lines()
            .filter_map(|line| line.split_once(":\t"))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        for signals in ["SigBlk", "SigIgn"] {
            assert_eq!(status[signals], "0000000000000000", "{method:?} {signals}");
        }
        let mut fds: Vec<String> = std::fs::read_dir(format!("/proc/{}/fd", child.pid()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        fds.sort();
        assert_eq!(fds, ["0", "1", "2"], "{method:?}");
        let limits = read("limits");
        let files = limits
            .lines()
            .find(|line| line.starts_with("Max open files"))
            .unwrap();
        let numbers: Vec<_> = files.split_whitespace().skip(3).take(2).collect();
        assert_eq!(numbers, ["256", "512"]);
        let stat = procfs::Proc::open()
            .unwrap()
            .stat(child.pid())
            .unwrap()
            .unwrap();
        assert_eq!((stat.session, stat.pgrp), (child.pid(), child.pid()));
        assert_eq!(read("environ"), "A=b=c\0");
        let dir = std::fs::read_link(format!("/proc/{}/cwd", child.pid())).unwrap();
        assert_eq!(dir.to_str(), Some("/tmp"));
    }
}

#[test]
fn a_failed_exec_names_its_stage_and_errno() {
    let failed = |start: Start| {
        let child = start.start();
        let outcome = child.outcome();
        assert_eq!(child.wait(), Ended::Code(127));
        outcome
    };
    let outcome = |stage, errno| ExecOutcome::Failed { stage, errno };
    for method in METHODS {
        let program = |program| Start::program(program, vec!["x".into()]).method(method);
        let missing = failed(program("/nonexistent/x"));
        assert_eq!(missing, outcome(Stage::Exec, Errno::ENOENT));
        assert_eq!(
            failed(program("/etc/passwd")),
            outcome(Stage::Exec, Errno::EACCES)
        );
        assert_eq!(failed(program("/etc")), outcome(Stage::Exec, Errno::EACCES));
        let nowhere = failed(program("/bin/true").dir("/nonexistent"));
        assert_eq!(nowhere, outcome(Stage::Directory, Errno::ENOENT));
        let path = failed(program("nought-nonexistent").env("PATH", "/nonexistent:/bin"));
        assert_eq!(path, outcome(Stage::Exec, Errno::ENOENT));
    }
}

#[test]
fn the_services_own_path_is_searched() {
    let start = Start::program("true", vec!["true".into()]).env("PATH", "/nonexistent:/etc:/bin");
    let child = start.start();
    assert_eq!(child.outcome(), ExecOutcome::Executed);
    assert_eq!(child.wait(), Ended::Code(0));
}

#[test]
fn without_a_go_nothing_is_executed() {
    let scene = Scene::new();
    for method in METHODS {
        let start = Start::new(&["sleep"])
            .cgroup(&scene.dir)
            .marked()
            .method(method);
        let refused = start.try_start(|_| Err(SysError::because("write", "the record", "full")));
        match refused.map(|child| child.pid()) {
            Err(SpawnError::Stillborn { pid, error }) => {
                assert_eq!(error.to_string(), "write the record: full");
                let ended = reap::reap_pid(pid).unwrap().unwrap().ended;
                let killed = Ended::Signal {
                    signal: libc::SIGKILL,
                    core: false,
                };
                assert!(ended == killed || ended == Ended::Code(127), "{ended:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(!cgroup::is_populated(&scene.dir).unwrap());
}

#[test]
fn a_missing_cgroup_is_an_error_before_anything_is_born() {
    let scene = Scene::new();
    for method in METHODS {
        let gone = scene.dir.join("gone");
        let start = Start::new(&["sleep"]).cgroup(&gone).method(method);
        match start.try_start(|_| Ok(())).map(|child| child.pid()) {
            Err(SpawnError::NotBorn(e)) => assert!(e.is(Errno::ENOENT), "{e}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_poisoned_cgroup_is_recognised() {
    let scene = Scene::new();
    cgroup::write_kill(&scene.dir).unwrap();
    let start = Start::new(&["sleep"]).cgroup(&scene.dir).marked();
    match start.try_start(|_| Ok(())) {
        // Kernels without the bug, and the case in which the child lived until it was let go.
        Ok(child) => match child.outcome() {
            ExecOutcome::Executed => {}
            ExecOutcome::KilledBefore => {
                let killed = Ended::Signal {
                    signal: libc::SIGKILL,
                    core: false,
                };
                assert_eq!(child.wait(), killed);
            }
            other => panic!("{other:?}"),
        },
        Err(SpawnError::Stillborn { pid, error }) => {
            assert!(
                error.why.contains("killed before its first instruction"),
                "{error}"
            );
            reap::reap_pid(pid).unwrap();
        }
        Err(other) => panic!("{other}"),
    }
    // The write still works there: what the fallback is for.
    let start = Start::new(&["sleep"])
        .cgroup(&scene.dir)
        .method(SpawnMethod::ForkThenWrite);
    let child = start.start().ready();
    assert_eq!(cgroup::procs(&scene.dir).unwrap(), [child.pid()]);
}

#[test]
fn a_child_killed_before_its_go_is_no_exec() {
    let mut pid = 0;
    let child = Start::new(&["sleep"])
        .try_start(|born| {
            pid = born.id.pid;
            born.pidfd.as_ref().unwrap().send(libc::SIGKILL)?;
            until("it is dead", || is_dead(pid).then_some(()));
            Ok(())
        })
        .unwrap();
    assert_eq!(child.outcome(), ExecOutcome::KilledBefore);
}

#[test]
fn a_frozen_cgroup_takes_newborns() {
    let scene = Scene::new();
    cgroup::set_freeze(&scene.dir, true).unwrap();
    let child = Start::new(&["sleep"]).cgroup(&scene.dir).marked().start();
    assert!(cgroup::is_populated(&scene.dir).unwrap());
    cgroup::set_freeze(&scene.dir, false).unwrap();
    assert_eq!(child.outcome(), ExecOutcome::Executed);
}

#[test]
fn reaping_takes_known_and_unknown_children() {
    let mut child = Start::new(&["reap-all"]).start();
    assert_eq!(
        child.line(),
        "[(false, Code(7)), (true, Signal { signal: 9, core: false })] true"
    );
    assert_eq!(child.wait(), Ended::Code(0));
}
