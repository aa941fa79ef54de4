//! Ways to survive a stop.

use std::process::Command;

use serde_json::Value;

use super::table::row;
use super::{ends_with, escapee_ends, from_environment, start_service, with_service};
use crate::look::{self, until};
use crate::receipt::{assert_verified, pids};
use crate::world::World;

const SHORT: &str = "shutdown_timeout: 50ms";

#[test]
fn a_bomb_of_threads() {
    let count = from_environment("NOUGHT_THREADS", 500);
    let (world, _) = start_service(World::alone(), &format!("threads {count}"), SHORT);
    let pid = world.pid("web", "pid");
    until("it has gone off", || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.count();
        (threads > count / 2).then_some(())
    });
    let receipt = ends_with(&world, pid);
    row!(Survive, "a bomb of threads that ignore the signal").receipt(&receipt);
    world.end();
}

#[test]
fn every_signal_blocked() {
    let (world, _) = with_service("blocked", SHORT);
    let pid = world.pid("web", "pid");
    let receipt = ends_with(&world, pid);
    assert_eq!(
        receipt["killed"].as_array().unwrap().len(),
        2,
        "{receipt:#}"
    );
    row!(Survive, "every signal blocked, in a child too").receipt(&receipt);
    world.end();
}

#[test]
fn orphans_of_orphans() {
    let (world, _) = with_service("generations 5", "");
    let last = world.pid("web", "last");
    let receipt = ends_with(&world, last);
    row!(
        Survive,
        "an orphan of an orphan, five deep, each in a session of its own"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn a_child_that_its_own_parent_holds_stopped() {
    let (world, _) = with_service("traced", SHORT);
    let child = world.pid("web", "child");
    assert_eq!(look::state(child).as_deref(), Some("t"));
    let receipt = ends_with(&world, child);
    row!(
        Survive,
        "a child stopped by ptrace, its tracer in the service"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn a_parent_that_waits_for_a_vfork() {
    let (world, _) = with_service("vfork", SHORT);
    let pid = world.pid("web", "pid");
    until("it waits", || (look::state(pid)? == "D").then_some(()));
    let receipt = ends_with(&world, pid);
    row!(
        Survive,
        "a parent in state D that waits for its vfork child"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn a_threaded_cgroup_of_its_own() {
    let (world, _) = with_service("threaded", SHORT);
    let pid = world.pid("web", "pid");
    let receipt = ends_with(&world, pid);
    row!(
        Survive,
        "a thread in a threaded cgroup of the service's own"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn cgroups_deep_and_wide() {
    let (world, _) = with_service("nested 30 60", SHORT);
    let children = world.numbers("web", "child", 90);
    let receipt = world.stop_verified("web");
    for child in children {
        assert!(look::alive(u32::try_from(child).unwrap()).is_none());
    }
    row!(
        Survive,
        "90 cgroups of its own, 30 deep and 60 wide, somebody in each"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn never_long_in_one_cgroup() {
    let (world, _) = start_service(World::alone(), "hop", SHORT);
    world.census();
    let receipt = world.stop_verified("web");
    row!(Survive, "children that hop between two cgroups of its own").receipt(&receipt);
    world.end();
}

#[test]
fn a_crowd() {
    let count = from_environment("NOUGHT_CROWD", 500);
    let (world, _) = start_service(World::alone(), &format!("crowd {count}"), SHORT);
    let receipt = world.stop_verified("web");
    assert_eq!(receipt["killed"].as_array().unwrap().len(), count + 1);
    row!(
        Survive,
        "hundreds of processes that ignore the signal (5,000 by night)"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn back_in_between_the_reading_and_the_removal() {
    let (world, _) = start_service(World::alone(), "return OUTSIDE", "shutdown_timeout: 200ms");
    let children: Vec<u64> = world.numbers("web", "child", 2);
    let receipt = world.stop_verified("web");
    for child in children {
        assert!(look::alive(u32::try_from(child).unwrap()).is_none());
    }
    let how = "when found, outside or inside again";
    row!(
        Survive,
        "outsiders that come back in whenever the cgroup reads empty"
    )
    .receipt_that(&receipt, how);
    world.end();
}

#[test]
fn arguments_and_environment_overwritten() {
    let (world, _) = with_service("masked OUTSIDE", "");
    let orphan = world.pid("web", "orphan");
    let cmdline = std::fs::read(format!("/proc/{orphan}/cmdline")).unwrap();
    assert!(
        cmdline.iter().all(|byte| matches!(byte, b' ' | 0)),
        "{cmdline:?}"
    );
    let receipt = escapee_ends(&world, orphan);
    row!(
        Survive,
        "an orphan outside whose arguments, name and environment are overwritten"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn another_user_by_then() {
    let (world, _) = with_service("setuid 64902 OUTSIDE", "");
    let orphan = world.pid("web", "orphan");
    let receipt = escapee_ends(&world, orphan);
    row!(
        Survive,
        "an orphan outside that is another user by then, and not dumpable"
    )
    .receipt(&receipt);
    world.end();
}

fn namespace(kind: &str) -> (World, Value) {
    let (world, _) = with_service(&format!("namespace {kind} OUTSIDE"), "");
    let orphan = world.pid("web", "orphan");
    let receipt = escapee_ends(&world, orphan);
    (world, receipt)
}

#[test]
fn a_pid_namespace_of_its_own() {
    let (world, receipt) = namespace("pid");
    row!(
        Survive,
        "an orphan outside, process 1 of a pid namespace of its own"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn a_user_namespace_of_its_own() {
    let (world, receipt) = namespace("user");
    row!(Survive, "an orphan outside in a user namespace of its own").receipt(&receipt);
    world.end();
}

#[test]
fn a_mount_namespace_of_its_own() {
    let (world, receipt) = namespace("mount");
    row!(Survive, "an orphan outside in a mount namespace of its own").receipt(&receipt);
    world.end();
}

#[test]
fn a_cgroup_namespace_of_its_own() {
    let (world, receipt) = namespace("cgroup");
    row!(
        Survive,
        "an orphan outside in a cgroup namespace of its own"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn a_mark_that_an_ordinary_user_replaced() {
    let (world, _) = with_service("user-mark 64903", "");
    let between = world.pid("web", "between");
    let child = until("its child", || look::children_of(between).first().copied());
    until("it has another mark", || {
        let mark = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/time"));
        (mark(child).ok()? != mark(between).ok()?).then_some(())
    });
    let receipt = ends_with(&world, child);
    row!(Survive, "an ordinary user's child with a mark of its own").receipt(&receipt);
    world.end();
}

#[test]
fn a_subreaper_of_its_own() {
    let (world, _) = with_service("subreaper OUTSIDE", "");
    let orphan = world.pid("web", "orphan");
    let receipt = ends_with(&world, orphan);
    assert!(pids(&receipt, "escaped").contains(&orphan), "{receipt:#}");
    row!(
        Survive,
        "orphans outside that a subreaper of the service's own inherits"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn forking_whenever_it_is_looked_for() {
    let (world, outside) = start_service(World::alone(), "watchful OUTSIDE", "");
    world.numbers("web", "child", 2);
    let receipt = world.stop_verified("web");
    assert!(look::members(&outside).is_empty());
    assert!(!pids(&receipt, "escaped").is_empty(), "{receipt:#}");
    row!(
        Survive,
        "an outsider that forks and ends whenever the supervisor reads anything"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn hidden_in_the_supervisors_own_cgroup() {
    let (world, _) = with_service("escape-to-leaf", "");
    let orphan = world.pid("web", "wiped");
    let receipt = escapee_ends(&world, orphan);
    row!(
        Survive,
        "an orphan in the supervisor's own cgroup, its environment wiped"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn hidden_in_another_service() {
    let mut world = World::new();
    world.fixture("db", "stay", "");
    world
        .fixture("web", "carry-to-service db", "after: [db]")
        .init();
    let orphan = world.pid("web", "orphan");
    let receipt = escapee_ends(&world, orphan);
    assert_eq!(world.status("db")["state"], "up");
    row!(
        Survive,
        "an orphan in another service's cgroup, that one unharmed"
    )
    .receipt(&receipt);
    world.end();
}

/// Nothing but its mark tells, and that it may have joined: it is not killed in there.
#[test]
fn hidden_in_another_service_with_nothing_to_be_known_by() {
    let mut world = World::new();
    world.fixture("db", "stay", "");
    world
        .fixture("web", "escape-to-service db", "after: [db]")
        .init();
    let orphan = world.pid("web", "wiped");
    until("it is an orphan", || {
        (look::parent(orphan)? == world.supervisor()).then_some(())
    });
    let receipt = world.stop("web");
    assert_eq!(receipt["verdict"], "unverified", "{receipt:#}");
    assert_eq!(pids(&receipt, "foreign"), [orphan].into(), "{receipt:#}");
    assert!(look::alive(orphan).is_some());
    assert_eq!(world.status("db")["state"], "up");
    row!(
        Survive,
        "an orphan in another service's cgroup, its environment wiped: it ends with that service"
    )
    .receipt(&receipt);
    let receipt = world.stop("db");
    assert!(look::alive(orphan).is_none(), "{receipt:#}");
    world.end();
}

#[test]
fn a_port_held_by_io_uring() {
    port_is_free_again("uring-accept", |receipt| {
        row!(
            Survive,
            "a pending accept of io_uring; its successor binds the port"
        )
        .receipt(receipt);
    });
}

#[test]
fn a_port_held_by_sockets_in_each_others_queues() {
    port_is_free_again("socket-cycle", |receipt| {
        row!(
            Survive,
            "sockets in each other's queues (SCM_RIGHTS); its successor binds the port"
        )
        .receipt(receipt);
    });
}

fn port_is_free_again(fixture: &str, enter: impl Fn(&Value)) {
    let port = look::free_port();
    let mut world = World::new();
    world
        .fixture(
            "web",
            &format!("{fixture} {port}"),
            "restart: {delay: 10ms}",
        )
        .init();
    world.numbers("web", "bound", 1);
    let receipt = world.stop_verified("web");
    enter(&receipt);
    world.start("web").unwrap();
    world.numbers("web", "bound", 2);
    let refused = world
        .said("web")
        .into_iter()
        .filter(|line| line.starts_with("refused"))
        .count();
    assert!(refused <= 3, "{:?}", world.said("web"));
    world.end();
}

#[test]
fn waiting_in_a_dead_file_system() {
    let mut world = World::new();
    let dead = world.dir.join("dead");
    std::fs::create_dir(&dead).unwrap();
    let server = world.tool("server", &["file-system", dead.to_str().unwrap(), "mute"]);
    world.number("server", "serving");
    world.launch.push(format!("mounts-of={server}"));
    let words = format!("touch {}/file", dead.display());
    world
        .fixture("web", &words, "shutdown_timeout: 50ms\nkill_timeout: 1s")
        .init();
    world.number("web", "touching");
    let pid = world.pid("web", "pid");
    until("it is asked", || {
        let said = world.said("server");
        said.iter()
            .any(|line| line.starts_with("asked"))
            .then_some(())
    });
    let stop = world.cli(&["stop", "web"]);
    assert_eq!(stop.status.code(), Some(3), "{stop:?}");
    let first = world.receipt("web");
    let survivor = &first["survivors"][0];
    assert_eq!(
        (&survivor["pid"], &survivor["state"]),
        (&pid.into(), &"D".into()),
        "{first:#}"
    );
    let waits = |text: &Value| {
        text.as_str()
            .is_some_and(|text| text.contains("fuse") || text.contains("request"))
    };
    let stack = survivor["stack"].as_array().unwrap();
    assert!(
        waits(&survivor["wchan"]) || stack.iter().any(waits),
        "{first:#}"
    );
    world.end_tool(server);
    until("it turns verified by itself", || {
        (world.receipt("web")["verdict"] == "verified").then_some(())
    });
    let late = world.receipt("web");
    assert_verified(&late);
    row!(Survive, "state D in a dead FUSE file system").lingering(&first, &late);
    world.end();
}

#[test]
fn a_mark_that_somebody_else_joined() {
    let (world, _) = with_service("stay", "");
    let pid = world.pid("web", "pid");
    let mut joined = Command::new("nsenter")
        .args(["--target", &pid.to_string(), "--time", "sleep", "100000"])
        .spawn()
        .unwrap();
    let mark = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/time")).ok();
    until("it bears the mark", || {
        (mark(joined.id()) == mark(pid)).then_some(())
    });
    let receipt = world.stop_verified("web");
    assert_eq!(
        pids(&receipt, "foreign"),
        [joined.id()].into(),
        "{receipt:#}"
    );
    assert!(joined.try_wait().unwrap().is_none(), "it was signalled");
    joined.kill().unwrap();
    joined.wait().unwrap();
    row!(
        Lie,
        "somebody joins the service's mark (nsenter --time): left alone"
    )
    .receipt(&receipt);
    world.end();
}
