//! Processes where they should not be: escapees are found, strangers are left alone.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::catalogue::table::row;
use crate::look::{self, until};
use crate::receipt::{pids, rungs};
use crate::world::World;

#[test]
fn an_escapee_in_a_foreign_cgroup_is_found_by_its_mark() {
    let mut world = World::new();
    let outside = world.foreign_cgroup();
    let words = format!("escape {}", outside.display());
    world.fixture("web", &words, "").init();
    let escapee = world.pid("web", "wiped");
    assert!(look::members(&outside).contains(&escapee));
    until("it is an orphan", || {
        (look::parent(escapee)? == world.supervisor()).then_some(())
    });
    let receipt = world.stop_verified("web");
    assert_eq!(pids(&receipt, "escaped"), [escapee].into(), "{receipt:#}");
    assert_eq!(pids(&receipt, "killed"), [].into(), "{receipt:#}");
    assert!(look::alive(escapee).is_none());
    row!(Survive, "an orphan outside, its environment wiped").receipt(&receipt);
    world.end();
}

#[test]
fn an_escapee_of_one_service_is_not_ended_with_another() {
    let mut world = World::new();
    let outside = world.foreign_cgroup();
    let words = format!("escape {}", outside.display());
    world
        .fixture("one", &words, "")
        .fixture("two", &words, "")
        .init();
    let (one, two) = (world.pid("one", "wiped"), world.pid("two", "wiped"));
    world.pid("two", "pid");
    let receipt = world.stop_verified("one");
    assert_eq!(pids(&receipt, "escaped"), [one].into(), "{receipt:#}");
    assert!(look::alive(two).is_some());
    assert_eq!(world.status("two")["state"], "up");
    world.end();
}

/// Stops a service of which a disguised orphan is left: nobody can say whose that is, so it is
/// not signalled, and the stop does not say that nothing is left.
pub(crate) fn a_disguised_orphan_is_left_alone_and_said(mut world: World) -> Value {
    world.init();
    world.pid("web", "pid");
    let orphan = world.pid("web", "wiped");
    until("it is an orphan", || {
        (look::parent(orphan)? == world.supervisor()).then_some(())
    });
    let id = look::alive(orphan).unwrap();
    world.census();
    let stop = world.cli(&["stop", "web"]);
    assert_eq!(stop.status.code(), Some(4), "{stop:?}");
    let receipt = world.receipt("web");
    assert_eq!(receipt["verdict"], "unverified", "{receipt:#}");
    let reason = receipt["reason"].as_str().unwrap();
    assert!(reason.contains(&orphan.to_string()), "{reason}");
    assert_eq!(pids(&receipt, "foreign"), [orphan].into(), "{receipt:#}");
    assert!(look::is_alive(id), "it was signalled");
    world.start("web").unwrap();
    let second = world.numbers("web", "wiped", 2)[1];
    world.census();
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    // Where no orphan can be anybody else's, what no stop could attribute ends with us.
    for orphan in [orphan, u32::try_from(second).unwrap()] {
        assert!(look::alive(orphan).is_none(), "{}", world.log());
    }
    world.end();
    receipt
}

#[test]
fn an_orphan_without_any_mark_is_left_alone_and_the_stop_unverified() {
    let mut world = World::new();
    let words = format!("disguise {}", world.foreign_cgroup().display());
    world.fixture("web", &words, "");
    let receipt = a_disguised_orphan_is_left_alone_and_said(world);
    row!(
        Survive,
        "an orphan outside, its environment wiped, its mark replaced as root can: left alone"
    )
    .receipt(&receipt);
}

/// A process of the test's own, in no way a service's.
fn bystander() -> Child {
    let mut sleep = Command::new("sleep");
    sleep.arg("100000").stdin(Stdio::null()).spawn().unwrap()
}

fn move_in(child: &Child, world: &World) {
    let main = world.generations("web")[0].join("main");
    std::fs::write(main.join("cgroup.procs"), child.id().to_string()).unwrap();
}

fn end(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn somebody_moved_into_a_service_dies_with_its_kill_and_is_named() {
    let mut world = World::new();
    world
        .fixture("web", "stubborn", "shutdown_timeout: 50ms")
        .init();
    let pid = world.pid("web", "pid");
    let stranger = bystander();
    move_in(&stranger, &world);
    let receipt = world.stop_verified("web");
    assert!(rungs(&receipt).contains(&"kill".to_owned()));
    assert_eq!(
        pids(&receipt, "foreign"),
        [stranger.id()].into(),
        "{receipt:#}"
    );
    let why = receipt["foreign"][0]["why"].as_str().unwrap();
    assert!(why.contains("killed with it"), "{receipt:#}");
    assert_eq!(pids(&receipt, "killed"), [pid].into(), "{receipt:#}");
    row!(Lie, "somebody is moved into a service: killed with it").receipt(&receipt);
    end(stranger);
    world.end();
}

#[test]
fn somebody_moved_into_a_service_is_not_asked_to_go_with_it() {
    let mut world = World::new();
    world.fixture("web", "stay", "shutdown_timeout: 1s").init();
    world.pid("web", "pid");
    let mut stranger = bystander();
    move_in(&stranger, &world);
    let receipt = world.stop_verified("web");
    assert_eq!(receipt["exit"]["signal"], "SIGTERM");
    assert_eq!(
        pids(&receipt, "foreign"),
        [stranger.id()].into(),
        "{receipt:#}"
    );
    assert_eq!(pids(&receipt, "killed"), [].into(), "{receipt:#}");
    let status = stranger.wait().unwrap();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(libc::SIGKILL)
    );
    row!(
        Lie,
        "somebody is moved into a service that goes when asked: not asked with it"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn an_orphan_that_the_supervisor_inherited_from_others_is_left_alone() {
    let mut world = World::new();
    let now = world.dir.join("now");
    world.launch.push(format!("stranger={}", now.display()));
    world
        .fixture("web", "stubborn", "shutdown_timeout: 50ms")
        .init();
    world.reach("web", "up");
    std::fs::write(&now, "").unwrap();
    let said = || {
        world
            .said("launch")
            .iter()
            .find_map(|line| line.strip_prefix("stranger ")?.parse().ok())
    };
    let stranger: u32 = until("the stranger", said);
    until("it is inherited", || {
        (look::parent(stranger)? == world.supervisor()).then_some(())
    });
    let id = look::alive(stranger).unwrap();
    let receipt = world.stop_verified("web");
    assert_eq!(receipt["escaped"], Value::Array(Vec::new()), "{receipt:#}");
    assert!(look::is_alive(id), "it was signalled");
    row!(
        Lie,
        "an orphan of processes older than the supervisor: left alone, also in the end"
    )
    .receipt(&receipt);
    world.signal(libc::SIGTERM);
    let status = world.wait();
    assert_eq!(status.code(), Some(0), "{}", world.log());
    assert!(look::is_alive(id), "the final sweep signalled it");
    assert!(
        world.log().contains(&stranger.to_string()),
        "nobody says so:\n{}",
        world.log()
    );
    look::signal(stranger, libc::SIGKILL);
    until("it ends", || look::alive(stranger).is_none().then_some(()));
    world.end();
}
