//! What attacks on the supervisor have found, each kept as a case.

use super::table::row;
use super::{escapee_ends, start_service, with_service};
use crate::look::{self, until};
use crate::receipt::assert_verified;
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
