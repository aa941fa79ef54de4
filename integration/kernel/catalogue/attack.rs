//! What attacks on the supervisor have found, each kept as a case.

use std::path::{Path, PathBuf};

use super::lie::in_its_mounts;
use super::table::row;
use super::{escapee_ends, start_service, with_service};
use crate::look::{self, until};
use crate::receipt::{assert_verified, pids};
use crate::world::World;

#[test]
fn another_pid_namespaces_proc_over_the_supervisors() {
    let mut world = World::new();
    world.launch = vec!["own-mounts".to_owned()];
    let (world, _) = start_service(world, "cover-proc OUTSIDE", "");
    world.number("web", "covered");
    let orphan = world.pid("web", "wiped");
    let receipt = escapee_ends(&world, orphan);
    row!(
        Lie,
        "the /proc of another pid namespace is mounted over the supervisor's, an orphan outside"
    )
    .receipt(&receipt);
    world.start("web").unwrap();
    world.numbers("web", "up", 2);
    assert_eq!(world.status("web")["guarantee"], "cgroup-kill marked");
    world.end();
}

#[test]
fn an_orphan_outside_hidden_behind_a_mount() {
    let mut world = World::new();
    world.launch = vec!["own-mounts".to_owned()];
    let (world, _) = start_service(world, "cover-orphan OUTSIDE", "");
    world.number("web", "covered");
    let orphan = world.pid("web", "orphan");
    let receipt = escapee_ends(&world, orphan);
    row!(
        Survive,
        "an orphan outside over whose directory in /proc something is mounted"
    )
    .receipt(&receipt);
    world.end();
}

/// Without CAP_SYS_ADMIN the supervisor has no /proc of its own, and somebody who may mounts.
#[test]
fn an_orphan_hidden_behind_a_mount_where_nothing_can_be_marked() {
    const CAP_SYS_ADMIN: u32 = 21;
    let mut world = World::new();
    world.launch = vec![
        "own-mounts".to_owned(),
        format!("no-capability={CAP_SYS_ADMIN}"),
    ];
    let (mut world, _) = start_service(world, "escape OUTSIDE", "");
    let orphan = world.pid("web", "wiped");
    until("it is an orphan", || {
        (look::parent(orphan)? == world.supervisor()).then_some(())
    });
    let own = format!("/proc/{orphan}");
    in_its_mounts(&world, &["mount", "-t", "tmpfs", "tmpfs", &own]);
    let receipt = world.stop("web");
    assert_eq!(receipt["verdict"], "unverified", "{receipt:#}");
    let reason = receipt["reason"].as_str().unwrap();
    assert!(
        reason.contains(&own) && reason.contains("something is mounted over it"),
        "{reason}"
    );
    row!(
        Lie,
        "something is mounted over a process's directory in /proc, without CAP_SYS_ADMIN"
    )
    .receipt(&receipt);
    in_its_mounts(&world, &["umount", &own]);
    world.signal(libc::SIGTERM);
    world.wait();
    assert!(look::alive(orphan).is_none(), "{}", world.log());
    world.end();
}

#[test]
fn an_orphan_in_what_looks_like_another_generation() {
    let (mut world, _) = with_service("false-generation", "");
    let orphan = world.pid("web", "wiped");
    until("it is an orphan", || {
        (look::parent(orphan)? == world.supervisor()).then_some(())
    });
    let receipt = world.stop("web");
    assert_eq!(receipt["verdict"], "unverified", "{receipt:#}");
    assert_eq!(pids(&receipt, "foreign"), [orphan].into(), "{receipt:#}");
    row!(
        Survive,
        "an orphan with a mark of its own in a directory that looks like another generation's: ended with the supervisor"
    )
    .receipt(&receipt);
    world.signal(libc::SIGTERM);
    world.wait();
    assert!(look::alive(orphan).is_none(), "{}", world.log());
    world.end();
}

#[test]
fn an_orphan_outside_without_its_main_thread() {
    let (world, _) = with_service("mainless-outside OUTSIDE", "");
    let orphan = world.pid("web", "orphan");
    until("its main thread has ended", || {
        (look::state(orphan).as_deref() == Some("Z")).then_some(())
    });
    let receipt = escapee_ends(&world, orphan);
    row!(Survive, "an orphan outside whose main thread has ended").receipt(&receipt);
    world.end();
}

#[test]
fn a_name_that_looks_like_a_status() {
    let (world, _) = with_service("oddly-named OUTSIDE", "");
    let orphan = world.pid("web", "orphan");
    let receipt = escapee_ends(&world, orphan);
    row!(
        Survive,
        "an orphan outside whose name looks like the rest of its stat file"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn an_orphan_outside_that_waits_for_a_vfork() {
    let (world, _) = with_service("vfork-outside OUTSIDE", "");
    let orphan = world.pid("web", "orphan");
    until("it waits", || {
        (look::state(orphan).as_deref() == Some("D")).then_some(())
    });
    let receipt = escapee_ends(&world, orphan);
    row!(
        Survive,
        "an orphan outside in state D that waits for its vfork child"
    )
    .receipt(&receipt);
    world.end();
}

/// By its cgroup and its mark it is the other service's, and nothing else tells: as documented
/// in docs/guarantees.md, it ends with that one.
#[test]
fn another_services_mark_and_cgroup_taken() {
    let mut world = World::new();
    world.fixture("db", "stay", "");
    world.fixture("web", "join-mark db", "after: [db]").init();
    world.number("web", "up");
    let orphan = world.pid("web", "wiped");
    until("it is an orphan", || {
        (look::parent(orphan)? == world.supervisor()).then_some(())
    });
    let receipt = world.stop_verified("web");
    assert!(look::alive(orphan).is_some());
    row!(
        Survive,
        "an orphan in another service's cgroup and with its mark: that service's by all there is to see, it ends with it"
    )
    .receipt(&receipt);
    world.stop_verified("db");
    assert!(look::alive(orphan).is_none());
    world.end();
}

/// Waits until one more than its process 1 is in the pid namespace of `first`.
fn guest(first: u32) -> u32 {
    let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let theirs = namespace(first);
    until("the orphan is in the other namespace", || {
        let mut pids = look::pids().into_iter();
        pids.find(|pid| *pid != first && namespace(*pid) == theirs)
    })
}

/// The limit of what a scan can see (docs/guarantees.md): without ancestors, cgroup and mark it
/// is nobody's. A pid namespace of the service's own closes this way out.
#[test]
fn an_orphan_in_somebody_elses_pid_namespace_without_its_mark() {
    let mut world = World::new();
    let holder = world.tool("holder", &["pid-namespace"]);
    let first = world.pid("holder", "first");
    let outside = world.foreign_cgroup().display().to_string();
    let words = format!("vanish {first} {outside}");
    world.fixture("held", &words, "pid_namespace: true");
    world.fixture("web", &words, "").init();
    world.number("held", "cannot");
    world.number("web", "up");
    let orphan = guest(first);
    let receipt = world.stop_verified("web");
    assert!(look::alive(orphan).is_some());
    row!(
        Survive,
        "an orphan in a pid namespace of somebody else's, its mark replaced: **not seen**, it lives on"
    )
    .receipt(&receipt);
    let held = world.stop("held");
    assert_verified(&held);
    look::signal(orphan, libc::SIGKILL);
    until("it ends", || look::alive(orphan).is_none().then_some(()));
    world.end_tool(holder);
    until("their process 1 ends, too", || {
        look::alive(first).is_none().then_some(())
    });
    world.end();
}

/// A supervisor, and a service that leaves an orphan in this cgroup, which forks and exits for ever
/// under numbers of its own choice.
fn with_numbered_relay(world: &mut World) -> PathBuf {
    let outside = world.foreign_cgroup();
    let words = format!("numbered-relay {}", outside.display());
    let more = "shutdown_timeout: 20ms\nkill_timeout: 2s";
    world.fixture("web", &words, more).init();
    outside
}

/// Its start of this round, and the orphan at it.
fn relays(world: &World, outside: &Path, round: usize) {
    if round > 1 {
        world.start("web").unwrap();
    }
    world.numbers("web", "up", round);
    world.numbers("web", "relay", round);
    assert!(!look::members(outside).is_empty());
}

/// Numbers of its own choice move no last pid: only that it is met tells of it, and that its
/// predecessors end.
#[test]
fn an_orphan_outside_under_numbers_of_its_own_choice() {
    let mut world = World::alone();
    let outside = with_numbered_relay(&mut world);
    for round in 1..=super::from_environment("NOUGHT_STORMS", 3) {
        relays(&world, &outside, round);
        let receipt = world.stop_verified("web");
        let left = look::members(&outside);
        assert!(left.is_empty(), "{left:?} live on: {receipt:#}");
        row!(
            Survive,
            "an orphan outside that forks and exits for ever, under numbers of its own choice"
        )
        .receipt_that(&receipt, "when asked; escapees are killed");
    }
    world.end();
}

/// The same where it bears no mark.
#[test]
fn an_orphan_outside_under_numbers_of_its_own_choice_where_nothing_is_marked() {
    let mut world = World::alone();
    world.launch = vec!["no-capability=21".to_owned()];
    let outside = with_numbered_relay(&mut world);
    let mut verdicts = Vec::new();
    for round in 1..=super::from_environment("NOUGHT_STORMS", 3) {
        relays(&world, &outside, round);
        let receipt = world.stop("web");
        let left = look::members(&outside);
        let verdict = receipt["verdict"].as_str().unwrap().to_owned();
        assert!(
            left.is_empty() || verdict != "verified",
            "round {round}: {left:?} live on: {receipt:#}"
        );
        verdicts.push(verdict);
        until("nobody is left", || {
            std::fs::write(outside.join("cgroup.kill"), "1").unwrap();
            look::members(&outside).is_empty().then_some(())
        });
    }
    println!("{verdicts:?}");
    row!(
        Place,
        "no CAP_SYS_ADMIN; an orphan outside that forks and exits for ever, under numbers of its own \
         choice"
    )
    .says(
        "verified and gone, or unverified",
        "when asked, or at its kill timeout",
        "cgroup-kill descent",
    );
    world.end();
}
