//! Where we are: the base cgroup, and what reading it says.

use nought::sys::mount::{find_base, mounts_held, path_in_proc, proc_is_complete};
use nought::sys::pidfd::PidFd;
use nought::sys::procfs::{Marked, Proc};
use nought::sys::{cgroup, power, rlimit};

use crate::scene::{Scene, Start};

#[test]
fn the_base_is_the_cgroup_we_are_in() {
    let base = find_base().unwrap();
    let pids = cgroup::procs(&base.dir).unwrap();
    assert!(pids.contains(&std::process::id()));
    assert_eq!(
        path_in_proc(&base, &base.dir).map(Into::into),
        Some(base.own_path.clone())
    );
    assert_eq!(proc_is_complete(), Ok(()));
}

#[test]
fn the_kernel_agrees_on_who_and_where() {
    let scene = Scene::new();
    let child = Start::new(&["sleep"]).cgroup(&scene.dir).start().ready();
    let proc = Proc::open().unwrap();
    assert_eq!(
        proc.cgroup(child.pid()).unwrap().unwrap().path,
        scene.name_of(&scene.dir)
    );
    let handle = PidFd::open(child.pid()).unwrap().unwrap();
    // Linux 6.13; nothing to compare before.
    if let Some(info) = handle.info() {
        assert_eq!((info.pid, info.ppid), (child.pid(), std::process::id()));
        assert_eq!(info.cgroup_id, Some(cgroup::id(&scene.dir).unwrap()));
    }
    assert!(!handle.is_gone());
    let pid = child.pid();
    drop(child);
    assert!(handle.is_gone());
    assert_eq!(handle.info().map(|info| info.pid), None);
    assert!(!handle.send(libc::SIGTERM).unwrap());
    assert!(PidFd::open(pid).unwrap().is_none());
    assert_eq!(proc.stat(pid).unwrap(), None);
    assert_eq!(proc.mark(pid).unwrap(), Marked::Gone);
    assert_eq!(proc.cgroup(pid).unwrap(), None);
    assert!(proc.children(pid).unwrap().is_empty());
    assert!(mounts_held(std::process::id(), 8).unwrap().is_empty());
}

#[test]
fn zombies_hold_no_cgroup() {
    let scene = Scene::new();
    let child = Start::new(&["sleep"]).cgroup(&scene.dir).start().ready();
    nought::sys::kill::kill_tree(
        &scene.dir,
        nought::sys::kill::KillHow::CgroupKill,
        std::time::Duration::from_secs(5),
    );
    assert_eq!(cgroup::remove_tree(&scene.dir), cgroup::Removal::Removed);
    let proc = Proc::open().unwrap();
    assert!(proc.stat(child.pid()).unwrap().unwrap().is_dead());
    assert!(proc.cgroup(child.pid()).unwrap().unwrap().deleted);
    assert_eq!(
        proc.mark(child.pid()).unwrap(),
        Marked::Gone,
        "the dead bear no mark"
    );
}

#[test]
fn the_last_pid_moves_with_every_fork() {
    let proc = Proc::open().unwrap();
    let before = proc.last_pid().unwrap();
    let _child = Start::new(&["sleep"]).start();
    assert_ne!(proc.last_pid().unwrap(), before);
}

#[test]
fn the_machine_is_process_ones() {
    for power in [power::Power::Off, power::Power::Reboot, power::Power::Halt] {
        let refused = power::end_machine(power);
        assert!(refused.why.contains("only process 1 may"), "{refused}");
    }
    assert!(power::Machine::take().is_err());
}

#[test]
fn open_files_are_raised_to_the_hard_limit() {
    let old = rlimit::raise_open_files().unwrap();
    let now = rlimit::open_files().unwrap();
    assert_eq!((now.soft, now.hard), (old.hard, old.hard));
}

#[test]
fn the_base_is_found_below_a_namespaces_root() {
    let scene = Scene::new();
    scene.make("a");
    let inner = scene.make("a/b");
    let mut child = Start::new(&["cgroup-namespace", inner.to_str().unwrap()]).start();
    assert_eq!(child.line(), format!("{} /", inner.display()));
}
