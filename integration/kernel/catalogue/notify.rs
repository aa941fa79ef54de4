//! Notifications that are lost: the queue of inotify(7) is bounded, and what comes after it is
//! full is told by one word, IN_Q_OVERFLOW.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchMask};
use serde_json::Value;

use super::table::row;
use crate::look::{self, until};
use crate::receipt::assert_verified;
use crate::world::World;

/// Services that are daemons: their end shows in their cgroup's events alone.
const DAEMONS: usize = 40;

/// A reader that does not read, of the same events as the supervisor's: it has as much room.
struct Full(Inotify);

impl Full {
    fn new(cgroups: &[PathBuf]) -> Self {
        let inotify = Inotify::init().unwrap();
        for cgroup in cgroups {
            for dir in [cgroup.join("main"), cgroup.clone()] {
                let file = dir.join("cgroup.events");
                inotify.watches().add(file, WatchMask::MODIFY).unwrap();
            }
        }
        Self(inotify)
    }

    /// Whether somebody who did not read since has lost something.
    fn has_overflown(mut self) -> bool {
        let mut buffer = [0; 65_536];
        while let Ok(events) = self.0.read_events(&mut buffer) {
            let mut events = events.peekable();
            if events.peek().is_none() {
                break;
            }
            for event in events {
                if event.mask.contains(EventMask::Q_OVERFLOW) {
                    return true;
                }
            }
        }
        false
    }
}

/// Changes every cgroup's events again and again, more often than a queue holds.
fn fill(cgroups: &[PathBuf]) {
    let bound: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // The kernel tells of one change in 10 ms, of the service's and of the whole.
    let rounds = bound / (2 * cgroups.len()) + 100;
    for round in 0..rounds {
        let began = Instant::now();
        let value = if round % 2 == 0 { "1" } else { "0" };
        for cgroup in cgroups {
            fs::write(cgroup.join("cgroup.freeze"), value).unwrap();
        }
        std::thread::sleep(Duration::from_millis(11).saturating_sub(began.elapsed()));
    }
    for cgroup in cgroups {
        fs::write(cgroup.join("cgroup.freeze"), "0").unwrap();
    }
}

#[test]
fn a_queue_of_notifications_that_runs_over() {
    let mut world = World::alone();
    let daemon = world.program("daemon", "#!/bin/sh\nsetsid sleep 100000 &\n");
    let names: Vec<String> = (0..DAEMONS).map(|n| format!("daemon{n}")).collect();
    for name in &names {
        let text = format!(
            "exec: {}\nremain: true\nrestart: {{policy: never}}\n",
            daemon.display()
        );
        world.service(name, &text);
    }
    world.fixture("web", "stay", "").init();
    for name in &names {
        world.reach(name, "up");
    }
    world.number("web", "up");
    let cgroups: Vec<PathBuf> = names
        .iter()
        .map(|name| world.generations(name)[0].clone())
        .collect();
    let full = Full::new(&cgroups);
    let supervisor = world.supervisor();
    look::signal(supervisor, libc::SIGSTOP);
    fill(&cgroups);
    for cgroup in &cgroups {
        for pid in look::members(cgroup) {
            look::signal(pid, libc::SIGKILL);
        }
    }
    until("all daemons are gone", || {
        let left = cgroups.iter().flat_map(|cgroup| look::members(cgroup));
        (left.count() == 0).then_some(())
    });
    assert!(full.has_overflown(), "the queue was not full");
    look::signal(supervisor, libc::SIGCONT);
    let mut last = Value::Null;
    for name in &names {
        world.reach(name, "failed");
        last = world.receipt(name);
        assert_verified(&last);
        assert_eq!(last["cause"], "ended", "{last:#}");
    }
    assert_eq!(world.status("web")["state"], "up", "nothing was made up");
    row!(
        Lie,
        "40 daemons end while the queue of notifications runs over: each end is seen"
    )
    .receipt(&last);
    world.stop_verified("web");
    world.end();
}
