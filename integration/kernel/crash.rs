//! Supervisors that are killed, and what the next one makes of what they leave.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use crate::look::{self, until};
use crate::receipt::assert_verified;
use crate::world::World;

/// Numbers that are the same each time, from a seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// From the environment's seed, or always the same.
    pub(crate) fn seeded() -> Self {
        Self(from_environment("NOUGHT_SEED", 0x6e6f_7567_6874))
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // xorshift64 (Marsaglia 2003).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

pub(crate) fn from_environment(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// Whoever of the world is neither the supervisor nor in one of its cgroups.
fn strays(world: &World) -> Vec<u32> {
    let tree = world.nought_tree();
    let tree = format!("/{}/", tree.file_name().unwrap().to_str().unwrap());
    let all = world.everyone().into_iter().map(|id| id.pid);
    all.filter(|pid| look::cgroup_of(*pid).is_some_and(|path| !path.contains(&tree)))
        .filter(|pid| look::alive(*pid).is_some())
        .collect()
}

fn trees(world: &World) -> BTreeSet<PathBuf> {
    let entries = fs::read_dir(&world.cgroup).unwrap().flatten();
    let dirs = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("nought-"));
    dirs.map(|entry| entry.path()).collect()
}

/// What came first in the log: every leftover's verdict before any start.
fn assert_leftovers_first(log: &str) {
    let lines: Vec<&str> = log.lines().collect();
    let last_leftover = lines
        .iter()
        .rposition(|line| line.contains("left behind by an earlier supervisor"));
    let first_start = lines.iter().position(|line| line.ends_with(": starting"));
    if let (Some(leftover), Some(start)) = (last_leftover, first_start) {
        assert!(
            leftover < start,
            "something was started before the leftovers were gone:\n{log}"
        );
    }
    let announced = lines
        .iter()
        .filter(|line| line.contains("an earlier supervisor left generation"))
        .count();
    let verified = lines.iter().filter(|line| {
        line.contains("(left behind by an earlier supervisor)") && line.contains("verified")
    });
    assert_eq!(
        announced,
        verified.count(),
        "each leftover ends verified:\n{log}"
    );
}

#[test]
fn what_a_killed_supervisor_left_is_ended_with_proof_before_anything_starts() {
    let mut world = World::new();
    let outside = world.foreign_cgroup();
    world.fixture("web", "children 3", "after: [db]");
    world.fixture("db", "stubborn", "shutdown_timeout: 50ms");
    world
        .fixture("sly", &format!("escape {}", outside.display()), "")
        .init();
    let old: Vec<u32> = [
        ("web", "pid"),
        ("db", "pid"),
        ("sly", "wiped"),
        ("sly", "pid"),
    ]
    .map(|(name, word)| world.pid(name, word))
    .into();
    world.reach("web", "up");
    let tree = world.nought_tree();
    world.kill();
    assert!(
        world.socket().exists(),
        "a killed supervisor leaves its socket"
    );
    assert!(old.iter().all(|pid| look::alive(*pid).is_some()));
    world.init();
    world.reach("web", "up");
    assert!(
        old.iter().all(|pid| look::alive(*pid).is_none()),
        "{old:?}\n{}",
        world.log()
    );
    // Once it is up nobody is on the way out any more.
    world.numbers("sly", "up", 2);
    assert!(
        strays(&world)
            .iter()
            .all(|pid| look::cgroup_of(*pid).is_none_or(|path| path.ends_with("/foreign"))),
        "{}",
        world.log()
    );
    until("the old tree is removed", || (!tree.exists()).then_some(()));
    let log = world.log_with(": up");
    assert_leftovers_first(&log);
    for name in ["web", "db", "sly"] {
        assert!(
            log.contains(&format!("{name}: an earlier supervisor left generation")),
            "{log}"
        );
        let receipts = world
            .call("nought_receipt", json!({"name": name, "last": 10}))
            .unwrap();
        let receipts = receipts["receipts"].as_array().unwrap().clone();
        let leftover = receipts
            .iter()
            .find(|receipt| receipt["cause"] == "leftover")
            .unwrap();
        assert_verified(leftover);
    }
    world.end();
}

#[test]
fn a_supervisor_killed_at_random_moments_leaves_nothing_to_its_successor() {
    let rounds = from_environment("NOUGHT_KILL_ROUNDS", 50);
    let seed = from_environment("NOUGHT_SEED", 0x6e6f_7567_6874);
    let mut random = Random(seed);
    let mut world = World::alone();
    let outside = world.foreign_cgroup();
    world.fixture("db", "children 3", "");
    world.fixture("web", "stubborn", "after: [db]\nshutdown_timeout: 20ms");
    world.fixture("sly", &format!("escape {}", outside.display()), "");
    world.fixture("setup", "leave-child 0", "oneshot: true\nexit_grace: 10ms");
    world.service(
        "tested",
        "exec: sleep 100000\ntest: {exec: 'true', interval: 1ms}\n",
    );
    let mut leftovers = 0;
    for round in 0..rounds {
        let moment = Duration::from_micros(random.below(30_000));
        match random.below(3) {
            // While it starts, itself and its services.
            0 => {
                world.spawn();
                std::thread::sleep(moment * 2);
            }
            // While everything runs.
            1 => {
                world.init();
                std::thread::sleep(moment * 5);
            }
            // While services stop, all of them or one.
            _ => {
                world.init();
                world.reach("db", "up");
                if random.below(2) == 0 {
                    world.signal(libc::SIGTERM);
                } else {
                    world
                        .client()
                        .send(1, "nought_restart", &json!({"name": "web"}));
                }
                std::thread::sleep(moment);
            }
        }
        world.kill();
        world.init();
        for name in ["db", "web", "sly", "tested"] {
            world.reach(name, "up");
        }
        let said = format!("round {round} of seed {seed}");
        let wild = |pid: &u32| !look::cgroup_of(*pid).is_none_or(|path| path.ends_with("/foreign"));
        let strays: Vec<_> = strays(&world).into_iter().filter(wild).collect();
        assert!(strays.is_empty(), "{said}: {strays:?}\n{}", world.log());
        until(&format!("{said}: only its own cgroups stand"), || {
            (trees(&world) == [world.nought_tree()].into()).then_some(())
        });
        let log = world.log_with(": up");
        assert_leftovers_first(&log);
        leftovers += log.matches("an earlier supervisor left generation").count();
        // At most the escapee of this start lives outside; it says so a moment after it is up.
        assert!(look::members(&outside).len() <= 2, "{said}: {log}");
        world.signal(libc::SIGTERM);
        assert_eq!(world.wait().code(), Some(0), "{said}\n{}", world.log());
        world.assert_nothing_left();
    }
    eprintln!("{rounds} rounds, {leftovers} leftovers ended");
    assert!(
        u64::try_from(leftovers).unwrap() > rounds,
        "they are killed too early to leave anything"
    );
    world.end();
}

#[test]
fn a_second_supervisor_on_the_same_socket_is_refused_while_one_lives() {
    let mut world = World::new();
    world.fixture("web", "stay", "").init();
    world.reach("web", "up");
    let second = world.launcher(&["init"]).output().unwrap();
    let says = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{says}");
    let own = world.supervisor().to_string();
    assert!(
        says.contains(&own) || says.contains(world.socket().to_str().unwrap()),
        "{says}"
    );
    // With a state directory of its own the socket alone keeps them apart.
    let other = world.dir.join("other");
    let third = world
        .launcher(&["init"])
        .arg("--state-dir")
        .arg(&other)
        .output()
        .unwrap();
    let says = String::from_utf8_lossy(&third.stderr).into_owned();
    assert_ne!(third.status.code(), Some(0), "{says}");
    assert_eq!(
        world.numbers("web", "up", 1).len(),
        1,
        "neither started anything"
    );
    assert_eq!(trees(&world), [world.nought_tree()].into());
    assert_eq!(world.status("web")["state"], "up");
    world.end();
}

#[test]
fn a_stale_socket_is_replaced_and_what_is_no_socket_is_not() {
    let mut world = World::new();
    drop(std::os::unix::net::UnixListener::bind(world.socket()).unwrap());
    assert!(world.socket().exists());
    world.fixture("web", "stay", "").init();
    let mode = fs::metadata(world.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.reach("web", "up");
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0));
    fs::write(world.socket(), "mine").unwrap();
    let refused = world.launcher(&["init"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(fs::read_to_string(world.socket()).unwrap(), "mine");
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(says.contains("not a socket"), "{says}");
    fs::remove_file(world.socket()).unwrap();
    world.end();
}
