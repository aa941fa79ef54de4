//! What a container may do with cgroups, from everything to nothing, as process 1 and beside a
//! neighbour in a shared pid namespace: it is said, stops work, and nobody else is touched.

use std::fs;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::look;
use crate::receipt::assert_verified;
use crate::world::World;

/// What a runtime makes of cgroup2 for a container.
#[derive(Clone, Copy, Debug)]
enum Tier {
    /// Privileged without a cgroup namespace: the node's whole tree, writable.
    NodeTree,
    /// A cgroup namespace with writable cgroups.
    Writable,
    /// A cgroup namespace, mounted read-only.
    ReadOnly,
    /// No cgroup2 at all: the node has v1 only.
    None,
}

const ALL: [Tier; 4] = [Tier::NodeTree, Tier::Writable, Tier::ReadOnly, Tier::None];

impl Tier {
    fn world(self, process_1: bool) -> World {
        let mut world = World::new();
        let mount = look::cgroup_mount().display().to_string();
        let script = match self {
            Tier::NodeTree => "exec \"$@\"".to_owned(),
            Tier::Writable => {
                format!("umount -l {mount} && mount -t cgroup2 none {mount} && exec \"$@\"")
            }
            Tier::ReadOnly => {
                format!("umount -l {mount} && mount -t cgroup2 -o ro none {mount} && exec \"$@\"")
            }
            Tier::None => format!("umount -l {mount} && exec \"$@\""),
        };
        let mut wrapper: Vec<&str> = vec!["unshare", "--mount", "--propagation", "private"];
        if matches!(self, Tier::Writable | Tier::ReadOnly) {
            wrapper.push("--cgroup");
        }
        if process_1 {
            wrapper.extend(["--pid", "--mount-proc", "--kill-child=KILL"]);
        }
        // Forked either way, so that the supervisor is the wrapper's child.
        wrapper.extend(["--fork", "sh", "-c", &script, "container"]);
        world.wrapper = wrapper.into_iter().map(str::to_owned).collect();
        world.flags = vec!["--container".into()];
        world
    }

    fn guarantee(self) -> &'static str {
        match self {
            Tier::NodeTree | Tier::Writable => "cgroup-kill marked",
            Tier::ReadOnly | Tier::None => "subreaper marked",
        }
    }
}

/// A neighbour's process in a cgroup beside the container's, as another container of a pod with a
/// shared pid namespace has them.
fn neighbour(world: &World) -> Child {
    let child = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let procs = world.foreign_cgroup().join("cgroup.procs");
    fs::write(procs, child.id().to_string()).unwrap();
    child
}

/// What an exec probe is: started by the runtime into the container's own cgroup.
fn probe(world: &World) -> Child {
    let child = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let own = look::cgroup_of(world.supervisor()).unwrap();
    let dir = look::cgroup_mount().join(own.trim_start_matches('/'));
    fs::write(dir.join("cgroup.procs"), child.id().to_string()).unwrap();
    child
}

fn stops_with_proof_and_touches_nobody_else(tier: Tier, process_1: bool) {
    let mut world = tier.world(process_1);
    world.fixture("web", "children 3", "");
    world.fixture("sly", "session", "");
    world.fixture("stubborn", "stubborn", "shutdown_timeout: 100ms");
    world.init();
    let info = world.call("nought_info", json!({})).unwrap();
    assert_eq!(info["guarantee"], tier.guarantee(), "{tier:?}: {info:#}");
    assert_eq!(info["pid"] == 1, process_1, "{info:#}");
    let mut others = [neighbour(&world), probe(&world)];
    let own = matches!(tier, Tier::NodeTree | Tier::Writable);
    let tree = own.then(|| world.nought_tree());
    for name in ["web", "sly", "stubborn"] {
        world.number(name, "up");
        assert_verified(&world.stop(name));
    }
    world.start("web").unwrap();
    world.reach("web", "up");
    world.census();
    look::signal(world.supervisor(), libc::SIGTERM);
    let status = world.wait();
    assert_eq!(status.code(), Some(0), "{tier:?}: {}", world.log());
    world.assert_last_words("verified: every service is gone, nothing is left");
    for other in &mut others {
        assert!(
            other.try_wait().unwrap().is_none(),
            "{tier:?}: {}",
            world.log()
        );
        other.kill().unwrap();
        other.wait().unwrap();
    }
    // What was somebody else's was left, with the cgroup it was in, and that is said.
    if let Some(tree) = tree {
        assert!(
            world.log().contains("left standing: the cgroup"),
            "{}",
            world.log()
        );
        let left = [tree.join("supervisor"), tree];
        left.iter().for_each(|dir| fs::remove_dir(dir).unwrap());
    }
    world.end();
}

#[test]
fn every_tier_stops_with_proof_as_process_1() {
    for tier in ALL {
        stops_with_proof_and_touches_nobody_else(tier, true);
    }
}

#[test]
fn every_tier_stops_with_proof_in_a_shared_pid_namespace() {
    for tier in ALL {
        stops_with_proof_and_touches_nobody_else(tier, false);
    }
}
