//! Killing: everything that is hard to kill, and the removal after it.

use std::path::Path;
use std::time::Duration;

use nought::sys::cgroup::{self, Removal};
use nought::sys::kill::{KillHow, KillResult, kill_tree};
use nought::sys::procfs::Proc;

use crate::scene::{BOUND, Scene, Start, until};

const BOTH: [KillHow; 2] = [KillHow::CgroupKill, KillHow::FreezeAndSignal];

fn kill(dir: &Path, how: KillHow) -> KillResult {
    let result = kill_tree(dir, how, BOUND);
    assert_eq!(result.populated, Some(false), "{how:?}: {:?}", result.error);
    assert_eq!(result.error, None);
    result
}

#[test]
fn one_process() {
    for how in BOTH {
        let scene = Scene::new();
        let child = Start::new(&["sleep"]).cgroup(&scene.dir).start().ready();
        let result = kill(&scene.dir, how);
        let killed: Vec<u32> = result.killed.iter().map(|listed| listed.pid).collect();
        assert_eq!(killed, [child.pid()]);
        let stat = result.killed[0].stat.as_ref().unwrap();
        assert_eq!((stat.id(), stat.ppid), (child.born.id, std::process::id()));
        assert_eq!(cgroup::remove_tree(&scene.dir), Removal::Removed);
        assert_eq!(
            cgroup::remove_tree(&scene.dir),
            Removal::Removed,
            "gone counts as removed"
        );
        assert_eq!(
            kill_tree(&scene.dir, how, Duration::ZERO).populated,
            Some(false)
        );
    }
}

#[test]
fn two_hundred_in_a_tree() {
    for how in BOTH {
        let scene = Scene::new();
        let inner = scene.make("main");
        let _ones = Start::new(&["children", "99"])
            .cgroup(&inner)
            .start()
            .ready();
        let _others = Start::new(&["children", "99"])
            .cgroup(&scene.dir)
            .start()
            .ready();
        assert_eq!(kill(&scene.dir, how).killed.len(), 200);
    }
}

#[test]
fn stopped_and_frozen() {
    for how in BOTH {
        let scene = Scene::new();
        let stopped = Start::new(&["sleep"]).cgroup(&scene.dir).start().ready();
        stopped
            .born
            .pidfd
            .as_ref()
            .unwrap()
            .send(libc::SIGSTOP)
            .unwrap();
        let proc = Proc::open().unwrap();
        until("it is stopped", || {
            (proc.stat(stopped.pid()).unwrap()?.state == 'T').then_some(())
        });
        cgroup::set_freeze(&scene.dir, true).unwrap();
        until("it is frozen", || {
            cgroup::read_events(&scene.dir)
                .unwrap()
                .frozen
                .then_some(())
        });
        kill(&scene.dir, how);
    }
}

#[test]
fn a_process_whose_main_thread_has_ended() {
    for how in BOTH {
        let scene = Scene::new();
        let child = Start::new(&["mainless"])
            .cgroup(&scene.dir)
            .marked()
            .start()
            .ready();
        let proc = Proc::open().unwrap();
        until("its main thread ended", || {
            (proc.stat(child.pid()).unwrap()?.state == 'Z').then_some(())
        });
        assert!(!proc.stat(child.pid()).unwrap().unwrap().is_dead());
        let mark = child.born.mark.as_ref().map(|mark| mark.inode);
        assert_eq!(
            proc.mark(child.pid()).unwrap().inode(),
            mark,
            "asked through another thread"
        );
        kill(&scene.dir, how);
        assert!(child.born.pidfd.as_ref().unwrap().is_gone());
    }
}

#[test]
fn a_fork_bomb() {
    for (n, how) in (0..).zip(BOTH) {
        let scene = Scene::new();
        // A user of this run's own: its limit counts zombies until they are reaped.
        let uid = (70_000 + 2 * std::process::id() + n).to_string();
        let _bomb = Start::new(&["bomb", &uid])
            .cgroup(&scene.dir)
            .start()
            .ready();
        until("it has filled its limit", || {
            (cgroup::procs(&scene.dir).unwrap().len() > 30).then_some(())
        });
        kill(&scene.dir, how);
    }
}

#[test]
fn a_threaded_cgroup_is_killed_by_signals() {
    let scene = Scene::new();
    let inner = scene.make("threaded");
    std::fs::write(inner.join("cgroup.type"), "threaded").unwrap();
    let args = ["thread-in", inner.to_str().unwrap()];
    let child = Start::new(&args).cgroup(&scene.dir).start().ready();
    assert_eq!(cgroup::procs(&inner).unwrap(), [child.pid()]);
    assert_eq!(cgroup::procs_recursive(&scene.dir).unwrap(), [child.pid()]);
    kill(&inner, KillHow::CgroupKill);
    // Its other thread was never in there.
    until("all of it is gone", || {
        child.born.pidfd.as_ref()?.is_gone().then_some(())
    });
}

#[test]
fn an_unkillable_time_is_bounded() {
    let scene = Scene::new();
    let _child = Start::new(&["children", "50"])
        .cgroup(&scene.dir)
        .start()
        .ready();
    let began = nought::sys::clock::boot_now();
    kill_tree(&scene.dir, KillHow::CgroupKill, Duration::ZERO);
    assert!(nought::sys::clock::boot_now() - began < 5_000_000_000);
}

#[test]
fn removal_tells_busy_from_nested() {
    let scene = Scene::new();
    let a = scene.make("a");
    let b = scene.make("a/b");
    scene.make("a/b/c");
    scene.make("a/d");
    assert_eq!(cgroup::tree(&scene.dir).unwrap().len(), 5);
    let child = Start::new(&["sleep"]).cgroup(&b).start().ready();
    assert_eq!(cgroup::remove_tree(&a), Removal::Busy { path: b });
    assert_eq!(cgroup::procs_recursive(&scene.dir).unwrap(), [child.pid()]);
    drop(child);
    assert_eq!(cgroup::remove_tree(&a), Removal::Removed);
    assert!(!a.exists());
}

#[test]
fn a_census_has_descendants_outside() {
    let scene = Scene::new();
    let inside = scene.make("inside");
    let outside = scene.make("outside");
    let child = Start::new(&["children", "2"])
        .cgroup(&inside)
        .start()
        .ready();
    let members = cgroup::procs(&inside).unwrap();
    let moved = *members.iter().find(|&&pid| pid != child.pid()).unwrap();
    std::fs::write(outside.join("cgroup.procs"), moved.to_string()).unwrap();
    let census: Vec<u32> = cgroup::census(&inside, Some(std::process::id()))
        .unwrap()
        .iter()
        .map(|id| id.pid)
        .collect();
    assert_eq!(census, members);
}

#[test]
fn what_a_tracer_keeps_from_ending_is_told() {
    let scene = Scene::new();
    let (a, b) = (scene.make("a"), scene.make("b"));
    let child = Start::new(&["sleep"]).cgroup(&a).start().ready();
    let tracer = Start::new(&["trace", &child.pid().to_string()])
        .cgroup(&b)
        .start()
        .ready();
    let result = kill_tree(&a, KillHow::CgroupKill, Duration::from_millis(30));
    assert_eq!((result.populated, result.error), (Some(true), None));
    assert!(matches!(cgroup::remove_tree(&a), Removal::Busy { .. }));
    // It may have to run once more until it stops for its tracer.
    let told = until("it stops on its way out", || {
        let told = nought::sys::inspect::inspect(&[child.pid()]);
        (told[0].state == 't').then_some(told)
    });
    assert_eq!(told[0].tracer, tracer.pid());
    drop(tracer);
    until("it is gone", || {
        (!cgroup::is_populated(&a).unwrap()).then_some(())
    });
}
