//! inotify on cgroup.events.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nought::sys::notify::CgroupEvents;
use nought::sys::{cgroup, reap};

use crate::scene::{BOUND, Scene, Start};

#[test]
fn changes_arrive_and_removed_watches_are_silent() {
    let scene = Scene::new();
    let (a, b) = (scene.make("a"), scene.make("b"));
    let mut events = CgroupEvents::new().unwrap();
    let watch_a = events.add(&a).unwrap();
    let watch_b = events.add(&b).unwrap();
    assert_eq!(events.add(&a).unwrap(), watch_a);
    assert_ne!(watch_a, watch_b);
    assert_eq!(events.len(), 2);
    assert!(events.drain().unwrap().changed.is_empty());

    let child = Start::new(&["sleep"]).cgroup(&a).start().ready();
    let readable = |events: &CgroupEvents| {
        let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::try_from(BOUND.as_millis()).unwrap()).unwrap() > 0
    };
    assert!(readable(&events));
    let drained = events.drain().unwrap();
    assert_eq!((drained.changed, drained.overflow), (vec![watch_a], false));

    let pid = child.pid();
    drop(child);
    assert!(reap::reap_pid(pid).is_err(), "reaped with the value");
    assert!(readable(&events));
    assert_eq!(events.drain().unwrap().changed, [watch_a]);

    events.remove(watch_a);
    events.remove(watch_a);
    cgroup::remove_tree(&a);
    assert!(events.drain().unwrap().changed.is_empty());
    assert_eq!(events.len(), 1);
    assert!(
        events
            .add(&a)
            .unwrap_err()
            .to_string()
            .contains("No such file")
    );
    events.remove(watch_b);
    assert!(events.is_empty());
}
