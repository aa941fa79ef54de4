//! Signals to groups and members.

use nought::sys::procfs::Proc;
use nought::sys::reap::Ended;
use nought::sys::{cgroup, signal};

use crate::scene::{Scene, Start, until};

const TERMINATED: Ended = Ended::Signal {
    signal: libc::SIGTERM,
    core: false,
};

#[test]
fn a_group_is_signalled_and_woken() {
    let child = Start::new(&["sleep"]).start().ready();
    let pid = child.pid();
    child
        .born
        .pidfd
        .as_ref()
        .unwrap()
        .send(libc::SIGSTOP)
        .unwrap();
    let proc = Proc::open().unwrap();
    until("it is stopped", || {
        (proc.stat(pid).unwrap()?.state == 'T').then_some(())
    });
    assert!(signal::send_group(pid, libc::SIGTERM).unwrap());
    assert_eq!(child.wait(), TERMINATED);
    assert!(
        !signal::send_group(pid, libc::SIGTERM).unwrap(),
        "nobody is left"
    );
    assert!(signal::send_group(1, libc::SIGTERM).is_err());
    assert!(signal::send_group(0, libc::SIGTERM).is_err());
}

#[test]
fn members_are_chosen() {
    let scene = Scene::new();
    let child = Start::new(&["children", "5"])
        .cgroup(&scene.dir)
        .start()
        .ready();
    let main = child.pid();
    let sent = signal::send_members(&scene.dir, libc::SIGTERM, &|stat| stat.pid != main);
    assert_eq!((sent.to.len(), sent.error), (5, None));
    until("only the main process is left", || {
        (cgroup::procs(&scene.dir).unwrap() == [main]).then_some(())
    });
    let sent = signal::send_members(&scene.dir, libc::SIGTERM, &|_| true);
    assert_eq!(sent.to, [main]);
    assert_eq!(child.wait(), TERMINATED);
    let gone = signal::send_members(&scene.dir, libc::SIGTERM, &|_| true);
    assert_eq!((gone.to.len(), gone.error), (0, None));
}

/// Once its leader is reaped a group's number may be anybody's: who was born after that is proven
/// by the others alone.
#[test]
fn who_is_left_of_a_group_is_proven_before_it_is_signalled() {
    let child = Start::new(&["children", "3"]).start().ready();
    let (leader, proc) = (child.born.id, Proc::open().unwrap());
    let members = || -> Vec<u32> {
        let all = proc.pids().unwrap().into_iter();
        let stats = all.filter_map(|pid| proc.stat(pid).unwrap());
        let left = stats.filter(|stat| stat.pgrp == leader.pid && !stat.is_dead());
        left.map(|stat| stat.pid).collect()
    };
    assert_eq!(members().len(), 4);
    child
        .born
        .pidfd
        .as_ref()
        .unwrap()
        .send(libc::SIGKILL)
        .unwrap();
    let born_before = nought::sys::procfs::ticks_now() + 1;
    child.wait();
    assert_eq!(members().len(), 3);
    // As if all of them had been born after that: then nothing says whose the number is.
    signal::end_left_group(leader, leader.start_time).unwrap();
    assert_eq!(members().len(), 3);
    signal::end_left_group(leader, born_before).unwrap();
    until("nobody is left", || members().is_empty().then_some(()));
}
