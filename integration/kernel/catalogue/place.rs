//! Places that offer less: found by doing, said in status and on every receipt, and still every
//! service is stopped with what there is.

use std::os::unix::fs::chown;

use serde_json::Value;

use super::table::row;
use crate::look::{self, until};
use crate::machine::own_pids;
use crate::world::World;

fn world_in(words: &[&str]) -> World {
    let mut world = World::new();
    world.launch = words.iter().map(|word| (*word).to_owned()).collect();
    world
}

/// The supervisor says this guarantee everywhere, and stops an ordinary service, one with an
/// orphan outside its session, and one that has to be killed: the receipt of that.
fn stops_under(world: &mut World, guarantee: &str, verdict: &str) -> Value {
    world.fixture("web", "children 3", "");
    world.fixture("sly", "double-fork", "");
    world
        .fixture("stubborn", "stubborn", "shutdown_timeout: 100ms")
        .init();
    let info = world.call("nought_info", Value::Null).unwrap();
    assert_eq!(info["guarantee"], guarantee, "{info:#}");
    world.log_with(&format!("guarantee here: {guarantee}"));
    world.number("web", "up");
    assert_eq!(world.status("web")["guarantee"], guarantee);
    let child = world.pid("sly", "child");
    world.number("stubborn", "up");
    for name in ["web", "sly"] {
        let receipt = world.stop(name);
        assert_eq!(receipt["verdict"], verdict, "{receipt:#}");
    }
    assert!(look::alive(child).is_none());
    let receipt = world.stop("stubborn");
    let words = &receipt["guarantee"];
    let words = format!(
        "{} {}",
        words["containment"].as_str().unwrap(),
        words["scan"].as_str().unwrap()
    );
    assert_eq!(words, guarantee);
    receipt
}

fn notes(world: &World) -> String {
    world.call("nought_info", Value::Null).unwrap()["notes"].to_string()
}

#[test]
fn a_filter_that_refuses_clone3() {
    let mut world = world_in(&["no-clone3"]);
    let receipt = stops_under(&mut world, "cgroup-kill marked", "verified");
    assert!(notes(&world).contains("clone3"), "{}", notes(&world));
    row!(
        Place,
        "a filter answers clone3 with ENOSYS: fork, then a move into the cgroup"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn a_policy_that_denies_cgroup_kill() {
    let policy = format!("policy={}", look::cgroup_mount().display());
    let mut world = world_in(&[&policy]);
    let receipt = stops_under(&mut world, "cgroup-signal marked", "verified");
    assert!(notes(&world).contains("cgroup.kill"), "{}", notes(&world));
    row!(
        Place,
        "a security policy denies cgroup.kill: frozen, then signalled one by one"
    )
    .receipt(&receipt);
    world.census();
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    // Its monitor ends when it has seen the supervisor end.
    let monitor = world.pid("launch", "monitor");
    until("the policy ends", || {
        look::alive(monitor).is_none().then_some(())
    });
    world.end();
}

#[test]
fn where_orphans_go_to_others() {
    let no_cgroup = format!("no-cgroup={}", look::cgroup_mount().display());
    let mut world = world_in(&[&no_cgroup, "no-subreaper"]);
    let receipt = stops_under(&mut world, "process-group marked", "unverified");
    assert!(notes(&world).contains("orphans"), "{}", notes(&world));
    row!(
        Place,
        "no cgroup2, and a filter lets nobody become a subreaper"
    )
    .receipt(&receipt);
    world.census();
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(71), "{}", world.log());
    world.end();
}

#[test]
fn without_the_capability_to_mark() {
    const CAP_SYS_ADMIN: &str = "no-capability=21";
    let mut world = world_in(&[CAP_SYS_ADMIN]);
    let receipt = stops_under(&mut world, "cgroup-kill descent", "verified");
    assert!(notes(&world).contains("no mark"), "{}", notes(&world));
    row!(Place, "no CAP_SYS_ADMIN").receipt(&receipt);
    world.end();
}

#[test]
fn without_time_namespaces() {
    let mut world = world_in(&["user-namespace", "zero=/proc/sys/user/max_time_namespaces"]);
    let receipt = stops_under(&mut world, "cgroup-kill descent", "verified");
    assert!(notes(&world).contains("No space left"), "{}", notes(&world));
    row!(
        Place,
        "no time namespace is to be had (max_time_namespaces)"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn in_a_threaded_cgroup() {
    let world = World::new();
    let threaded = world.cgroup.join("threaded");
    std::fs::create_dir(&threaded).unwrap();
    std::fs::write(threaded.join("cgroup.type"), "threaded").unwrap();
    let mut world = world;
    world.launch = vec![format!("threaded={}", threaded.display())];
    let receipt = stops_under(&mut world, "subreaper marked", "verified");
    row!(
        Place,
        "started inside a threaded cgroup, which takes no process of its own"
    )
    .receipt(&receipt);
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    std::fs::remove_dir(&threaded).unwrap();
    world.end();
}

/// Somebody without privileges, in a cgroup that was handed over.
pub(crate) fn delegated(world: &World) {
    let user = Some(64_905);
    let cgroup = &world.cgroup;
    for path in [
        "",
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
    ] {
        chown(cgroup.join(path), user, user).unwrap();
    }
    chown(&world.dir, user, user).unwrap();
}

#[test]
fn an_ordinary_user_in_a_delegated_cgroup() {
    let mut world = world_in(&["user=64905"]);
    delegated(&world);
    let receipt = stops_under(&mut world, "cgroup-kill descent", "verified");
    row!(Place, "an ordinary user in a delegated cgroup").receipt(&receipt);
    world.end();
}

#[test]
fn a_proc_that_hides_processes() {
    let mut world = world_in(&["own-mounts", "hide-processes", "user=64905"]);
    delegated(&world);
    let receipt = stops_under(&mut world, "cgroup-kill none", "unverified");
    assert!(notes(&world).contains("hidepid"), "{}", notes(&world));
    row!(
        Place,
        "an ordinary user where /proc hides processes (hidepid)"
    )
    .receipt(&receipt);
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(71), "{}", world.log());
    world.end();
}

#[test]
fn no_inotify_instance_is_left() {
    let mut world = world_in(&[
        "user-namespace",
        "zero=/proc/sys/user/max_inotify_instances",
    ]);
    let receipt = stops_under(&mut world, "cgroup-kill marked", "verified");
    world.log_with("cgroups are read again and again while they stop");
    row!(
        Place,
        "no inotify instance is to be had: cgroups are read again and again while they stop"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn no_inotify_watch_is_left() {
    let mut world = world_in(&["user-namespace", "zero=/proc/sys/user/max_inotify_watches"]);
    let receipt = stops_under(&mut world, "cgroup-kill marked", "verified");
    world.log_with("it is read again and again while it stops");
    row!(
        Place,
        "no inotify watch is to be had: cgroups are read again and again while they stop"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn few_open_files() {
    let mut world = world_in(&["all-open-files=64"]);
    for n in 0..30 {
        world.fixture(
            &format!("crowd{n}"),
            "stay",
            "restart: {delay: 100ms, max_delay: 100ms}",
        );
    }
    world.init();
    let log = until("some do not start", || {
        Some(world.log()).filter(|log| log.contains("Too many open files"))
    });
    assert!(log.contains("crowd"), "{log}");
    let up = || {
        (0..30)
            .filter(|n| world.status(&format!("crowd{n}"))["state"] == "up")
            .count()
    };
    until("others run", || (up() > 3).then_some(()));
    assert!(up() < 30, "64 descriptors are too many for this test");
    let name = (0..30)
        .map(|n| format!("crowd{n}"))
        .find(|name| world.status(name)["state"] == "up")
        .unwrap();
    let receipt = world.stop_verified(&name);
    row!(
        Place,
        "64 open files and 30 services: some start later, and say why"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn too_few_open_files_to_begin_with() {
    let mut world = world_in(&["all-open-files=20"]);
    world.fixture("web", "stay", "").init();
    let text = notes(&world);
    assert!(
        text.contains("RLIMIT_NOFILE") && text.contains("20"),
        "{text}"
    );
    let status = world.reach("web", "backoff");
    let detail = status["detail"].as_str().unwrap();
    assert!(detail.contains("open files"), "{detail}");
    world.log_with(&format!("web: failed to {detail}"));
    let receipt = world.stop("web");
    assert_eq!(receipt, Value::Null);
    let guarantee = world.status("web")["guarantee"]
        .as_str()
        .unwrap()
        .to_owned();
    let says = "the limit is named; no service starts";
    row!(Place, "20 open files").says(says, "tried again after growing pauses", &guarantee);
    // With as few the last sweep may be sure, or say that it is not.
    world.signal(libc::SIGTERM);
    assert!(
        matches!(world.wait().code(), Some(0 | 71)),
        "{}",
        world.log()
    );
    world.end();
}

/// A pid namespace whose pids are nearly used up.
#[test]
fn no_process_is_left_to_fork() {
    let mut world = World::alone();
    let few = "echo 400 >/proc/sys/kernel/pid_max && exec \"$0\" \"$@\"";
    world.wrapper = own_pids(&["sh", "-c", few]);
    world.flags = vec!["--container".to_owned()];
    world.fixture("web", "stay", "restart: {delay: 50ms, max_delay: 50ms}");
    world.fixture("neighbour", "stay", "");
    world
        .fixture("hog", "fill", "shutdown_timeout: 50ms")
        .init();
    world.number("web", "up");
    world.number("neighbour", "up");
    world.number("hog", "full");
    world.stop_verified("web");
    let refused = world.start("web").unwrap_err();
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("pids.max"), "{message}");
    assert_eq!(world.status("neighbour")["state"], "up");
    let receipt = world.stop_verified("hog");
    row!(
        Place,
        "no pid is left to fork with: a start says so and is tried again, stops are proven"
    )
    .receipt(&receipt);
    world.numbers("web", "up", 2);
    world.end();
}

/// Without a mark nothing tells whose this orphan is: nobody says that nothing is left.
#[test]
fn an_escapee_where_nothing_is_marked() {
    let mut world = world_in(&["no-capability=21"]);
    let outside = world.foreign_cgroup();
    world
        .fixture("web", &format!("escape {}", outside.display()), "")
        .init();
    let orphan = world.pid("web", "wiped");
    until("it is an orphan", || {
        (look::parent(orphan)? == world.supervisor()).then_some(())
    });
    let receipt = world.stop("web");
    assert_eq!(receipt["verdict"], "unverified", "{receipt:#}");
    assert_eq!(
        crate::receipt::pids(&receipt, "foreign"),
        [orphan].into(),
        "{receipt:#}"
    );
    row!(
        Place,
        "no CAP_SYS_ADMIN; an orphan outside, its environment wiped: ended with the supervisor"
    )
    .receipt(&receipt);
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    assert!(look::alive(orphan).is_none(), "{}", world.log());
    world.end();
}
