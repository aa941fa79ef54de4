//! Ways to survive a stop outside of one's cgroup, with less and less to be known by.

use super::table::row;
use super::{ends_with, escapee_ends, from_environment, start_service, with_service};
use crate::look::{self, until};
use crate::receipt::{assert_verified, pids};
use crate::world::World;

#[test]
fn above_its_own_generation() {
    // Its service's directory, and the one of all services.
    for levels in [2, 3] {
        let (world, _) = with_service(&format!("escape-above {levels}"), "");
        let orphan = world.pid("web", "wiped");
        let receipt = escapee_ends(&world, orphan);
        row!(
            Survive,
            "an orphan in the directories above its generation's cgroup"
        )
        .receipt(&receipt);
        world.end();
    }
}

#[test]
fn a_crowd_outside() {
    let count = from_environment("NOUGHT_CROWD", 600);
    let (world, outside) = start_service(
        World::alone(),
        &format!("crowd-outside {count} OUTSIDE"),
        "",
    );
    world.number("web", "out");
    until("all are orphans", || {
        (look::members(&outside).len() == count).then_some(())
    });
    let receipt = world.stop_verified("web");
    assert_eq!(pids(&receipt, "escaped").len(), count);
    assert!(look::members(&outside).is_empty());
    row!(
        Survive,
        "hundreds of orphans outside that ignore the signal (5,000 by night)"
    )
    .receipt(&receipt);
    world.end();
}

/// Ends the world of a service that was not proven gone: the orphan, which could only come from
/// a service of ours, is ended last of all.
fn ends_with_its_supervisor(mut world: World, orphan: u32) {
    let id = look::alive(orphan).unwrap();
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    assert!(!look::is_alive(id), "{}", world.log());
    world.log_with("could only come from one of our services, and was ended");
    world.end();
}

#[test]
fn our_own_time_namespace_joined() {
    let (world, _) = with_service("join-our-time OUTSIDE", "");
    let orphan = world.pid("web", "wiped");
    until("it is an orphan", || {
        (look::parent(orphan)? == world.supervisor()).then_some(())
    });
    let receipt = world.stop("web");
    assert_eq!(pids(&receipt, "foreign"), [orphan].into(), "{receipt:#}");
    assert!(look::alive(orphan).is_some());
    row!(Survive, "an orphan outside that joined the supervisor's own time namespace: ended with the supervisor").receipt(&receipt);
    ends_with_its_supervisor(world, orphan);
}

#[test]
fn our_own_time_namespace_joined_below_process_1() {
    let (mut world, _) = start_service(
        crate::machine::as_process_1(&["--container"]),
        "join-our-time OUTSIDE",
        "",
    );
    world.number("web", "wiped");
    let own = world.supervisor();
    let orphan = until("it is an orphan", || {
        let children = look::children_of(own);
        let cgroup = |pid: u32| look::cgroup_of(pid).is_some_and(|path| path.ends_with("/foreign"));
        children.into_iter().find(|pid| cgroup(*pid))
    });
    world.note(orphan);
    let receipt = world.stop("web");
    // Pids are those of its namespace.
    let foreign = receipt["foreign"].as_array().unwrap();
    assert_eq!(foreign.len(), 1, "{receipt:#}");
    assert!(look::alive(orphan).is_some());
    row!(
        Survive,
        "an orphan outside that joined our own time namespace, the supervisor being process 1: left alone"
    )
    .receipt(&receipt);
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    world.log_with("final sweep: process");
    until("it ends with its pid namespace", || {
        look::alive(orphan).is_none().then_some(())
    });
    world.end();
}

#[test]
fn somebody_elses_pid_namespace() {
    let mut world = World::new();
    world.tool("holder", &["pid-namespace"]);
    let first = world.pid("holder", "first");
    let (mut world, _) = start_service(world, &format!("join-pids {first} OUTSIDE"), "");
    let orphan = until("it is inherited there", || {
        look::children_of(first).first().copied()
    });
    world.note(orphan);
    let receipt = world.stop("web");
    assert_eq!(receipt["verdict"], "unverified", "{receipt:#}");
    assert_eq!(pids(&receipt, "foreign"), [orphan].into(), "{receipt:#}");
    row!(
        Survive,
        "an orphan in a pid namespace of somebody else's, which inherits it: left alone"
    )
    .receipt(&receipt);
    // In the end it is looked for once more, and nobody says that nothing is left.
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(71), "{}", world.log());
    world.end_tools();
    until("it ends with that namespace", || {
        look::alive(orphan).is_none().then_some(())
    });
    until("and its process 1", || {
        look::alive(first).is_none().then_some(())
    });
    world.end();
}

/// A supervisor as a service, whose own service has left its cgroup.
fn nested(more: &str) -> (World, u32) {
    let mut world = World::new();
    let outside = world.foreign_cgroup();
    let inner = world.dir.join("inner");
    std::fs::create_dir(&inner).unwrap();
    let exec = world.command("inner", &format!("escape {}", outside.display()));
    std::fs::write(inner.join("sly.yaml"), format!("exec: {exec}\n")).unwrap();
    let exec = format!(
        "{} init -c {} -s {} --state-dir {}",
        env!("CARGO_BIN_EXE_nought"),
        inner.display(),
        world.dir.join("inner.sock").display(),
        world.dir.join("inner.state").display(),
    );
    world
        .service("web", &format!("exec: {exec}\n{more}\n"))
        .init();
    let orphan = world.pid("inner", "wiped");
    (world, orphan)
}

#[test]
fn below_a_supervisor_of_its_own() {
    let (world, orphan) = nested("");
    let receipt = ends_with(&world, orphan);
    row!(
        Survive,
        "an orphan outside with the mark of a nested nought, which ends it"
    )
    .receipt(&receipt);
    world.end();
}

/// Whether it was written down as below a member of the cgroup before that was killed is a
/// matter of a moment: then it is found, and else nothing says whose it is.
#[test]
fn below_a_supervisor_that_is_killed() {
    let (mut world, orphan) = nested("signal: {stop: sigkill, to: main}");
    let id = look::alive(orphan).unwrap();
    let receipt = world.stop("web");
    if receipt["verdict"] == "verified" {
        assert_verified(&receipt);
        assert!(pids(&receipt, "escaped").contains(&orphan), "{receipt:#}");
        assert!(!look::is_alive(id), "{receipt:#}");
    } else {
        assert_eq!(receipt["verdict"], "unverified", "{receipt:#}");
        assert_eq!(pids(&receipt, "foreign"), [orphan].into(), "{receipt:#}");
    }
    row!(
        Survive,
        "an orphan outside with the mark of a nested nought, which is killed"
    )
    .says(
        "verified, or unverified, the stranger named",
        "when asked, or with the supervisor",
        "cgroup-kill marked",
    );
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    assert!(!look::is_alive(id), "{}", world.log());
    world.end();
}

/// The freezer of cgroup v1, which no signal overcomes.
#[test]
fn frozen_by_the_old_freezer() {
    let (mut world, _) = with_service("stubborn", "shutdown_timeout: 50ms\nkill_timeout: 500ms");
    let pid = world.pid("web", "pid");
    let freezer = world.dir.join("freezer");
    std::fs::create_dir(&freezer).unwrap();
    let tool = world.tool(
        "freezer",
        &["freeze", freezer.to_str().unwrap(), &pid.to_string()],
    );
    world.number("freezer", "frozen");
    let stop = world.cli(&["stop", "web"]);
    assert_eq!(stop.status.code(), Some(3), "{stop:?}");
    let says =
        String::from_utf8_lossy(&stop.stderr).into_owned() + &String::from_utf8_lossy(&stop.stdout);
    assert!(says.contains("__refrigerator"), "{says}");
    let first = world.receipt("web");
    assert_eq!(first["survivors"][0]["pid"], pid, "{first:#}");
    world.signal_tool(tool, libc::SIGTERM);
    until("it turns verified by itself", || {
        (world.receipt("web")["verdict"] == "verified").then_some(())
    });
    let late = world.receipt("web");
    world.log_with("web: verified at last");
    row!(Survive, "frozen by the freezer of cgroup v1").lingering(&first, &late);
    world.end_tool(tool);
    world.end();
}

#[test]
fn an_outsider_that_cannot_be_killed() {
    let (mut world, _) = with_service("escape OUTSIDE", "kill_timeout: 1s");
    let orphan = world.pid("web", "wiped");
    let tracer = world.tool("tracer", &["trace", &orphan.to_string()]);
    world.number("tracer", "tracing");
    let stop = world.cli(&["stop", "web"]);
    assert_eq!(stop.status.code(), Some(3), "{stop:?}");
    let first = world.receipt("web");
    let survivor = &first["survivors"][0];
    assert_eq!(
        (&survivor["pid"], &survivor["tracer"]),
        (&orphan.into(), &tracer.into()),
        "{first:#}"
    );
    assert!(
        survivor["cgroup"].as_str().unwrap().ends_with("/foreign"),
        "{first:#}"
    );
    world.end_tool(tracer);
    until("it turns verified by itself", || {
        (world.receipt("web")["verdict"] == "verified").then_some(())
    });
    let late = world.receipt("web");
    assert_verified(&late);
    row!(
        Survive,
        "an orphan outside, traced so that its end waits for the tracer"
    )
    .lingering(&first, &late);
    world.end();
}
