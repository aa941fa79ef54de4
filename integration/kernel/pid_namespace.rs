//! Services with a pid namespace of their own (`pid_namespace: true`): what holds them where no
//! cgroup does, and what they see.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::catalogue::table::row;
use crate::look::{self, until};
use crate::receipt::{assert_verified, pids};
use crate::world::World;

const OWN: &str = "pid_namespace: true";

fn without_cgroups() -> World {
    let mut world = World::new();
    world.launch = vec![format!("no-cgroup={}", look::cgroup_mount().display())];
    world
}

/// Who lives in the pid namespace of a service, as numbered here, its first process included.
fn inside(world: &World, name: &str) -> BTreeSet<u32> {
    // A service may say that it is up before its supervisor knows who it is.
    let first = u32::try_from(world.reach(name, "up")["pid"].as_u64().unwrap()).unwrap();
    let namespace = |pid: u32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let wanted = namespace(first);
    assert!(wanted.is_some() && wanted != namespace(std::process::id()));
    let all = look::pids().into_iter();
    all.filter(|pid| namespace(*pid) == wanted).collect()
}

fn is_held_by(receipt: &Value, containment: &str) {
    assert_eq!(
        receipt["guarantee"],
        json!({"containment": containment, "scan": "marked"}),
        "{receipt:#}"
    );
}

fn all_gone(pids: &BTreeSet<u32>, receipt: &Value) {
    let left: Vec<_> = pids.iter().filter_map(|pid| look::alive(*pid)).collect();
    assert!(left.is_empty(), "{left:?}: {receipt:#}");
}

/// Stops `web`: all that lived in its pid namespace is gone, and that is what held it.
fn goes_with_its_namespace(world: &World) -> Value {
    let lived = inside(world, "web");
    let receipt = world.stop("web");
    assert_verified(&receipt);
    is_held_by(&receipt, "pid-namespace");
    all_gone(&lived, &receipt);
    receipt
}

/// Starts services with a pid namespace of their own (name, fixture, more of their files) and stops
/// each: nobody is left of it, and its receipt is as it shall be.
fn each_goes(
    world: &mut World,
    cases: &[(&str, &str, &str)],
    mut shall_be: impl FnMut(&str, &Value),
) {
    for (name, words, more) in cases {
        world.fixture(name, words, &format!("{OWN}\n{more}"));
    }
    world.init();
    for (name, ..) in cases {
        world.number(name, "up");
        let lived = inside(world, name);
        assert!(lived.len() > 1, "{name}: {lived:?}");
        let receipt = world.stop(name);
        shall_be(name, &receipt);
        all_gone(&lived, &receipt);
    }
}

#[test]
fn what_no_cgroup_holds_a_pid_namespace_does() {
    let mut world = without_cgroups();
    let cases = [
        ("web", "children 3", ""),
        ("sly", "double-fork", ""),
        ("away", "session", ""),
        ("orphans", "generations 5", ""),
        ("stubborn", "stubborn", "shutdown_timeout: 100ms"),
        ("mainless", "mainless", "shutdown_timeout: 50ms"),
        ("crowd", "crowd 50", "shutdown_timeout: 100ms"),
        ("traced", "traced", "shutdown_timeout: 100ms"),
    ];
    each_goes(&mut world, &cases, |name, receipt| {
        assert_verified(receipt);
        is_held_by(receipt, "pid-namespace");
        if name == "crowd" {
            row!(
                Place,
                "no cgroup2; a crowd that ignores the signal, with `pid_namespace: true`"
            )
            .receipt(receipt);
        }
    });
    world.start("web").unwrap();
    world.numbers("web", "up", 2);
    world.end();
}

/// The kernel ends them all with the first, before anybody could look.
#[test]
fn who_is_killed_with_a_pid_namespace_is_on_the_receipt() {
    let mut world = without_cgroups();
    let more = format!("{OWN}\nshutdown_timeout: 100ms");
    world.fixture("stubborn", "stubborn", &more);
    world.fixture("crowd", "crowd 20", &more);
    world.init();
    for name in ["stubborn", "crowd"] {
        world.number(name, "up");
        let first = u32::try_from(world.status(name)["pid"].as_u64().unwrap()).unwrap();
        let mut lived = inside(&world, name);
        assert!(lived.remove(&first) && !lived.is_empty());
        let receipt = world.stop(name);
        assert_verified(&receipt);
        is_held_by(&receipt, "pid-namespace");
        assert_eq!(pids(&receipt, "killed"), lived, "{receipt:#}");
    }
    world.end();
}

/// Pid namespaces hold what cannot be marked, and whom /proc hides, too: the first says what the
/// place can tell at best.
fn holds_where_less_is_told(launch: &[&str], scan: &str, verdict: &str) -> Value {
    let mut world = without_cgroups();
    world
        .launch
        .extend(launch.iter().map(|word| (*word).to_owned()));
    let cases = [
        ("web", "children 3", ""),
        ("sly", "double-fork", ""),
        ("away", "session", ""),
        ("stubborn", "stubborn", "shutdown_timeout: 100ms"),
        ("mainless", "mainless", "shutdown_timeout: 50ms"),
    ];
    each_goes(&mut world, &cases, |_, receipt| {
        let guarantee = json!({"containment": "pid-namespace", "scan": scan});
        assert_eq!(receipt["guarantee"], guarantee, "{receipt:#}");
        assert_eq!(receipt["verdict"], verdict, "{receipt:#}");
    });
    let stubborn = world.receipt("stubborn");
    world.start("web").unwrap();
    world.numbers("web", "up", 2);
    world.kill();
    world.init();
    world.numbers("web", "up", 3);
    world.signal(libc::SIGTERM);
    let code = if verdict == "verified" { 0 } else { 71 };
    assert_eq!(world.wait().code(), Some(code), "{}", world.log());
    world.end();
    stubborn
}

#[test]
fn without_marks_pid_namespaces_hold_all_the_same() {
    let launch = ["user-namespace", "zero=/proc/sys/user/max_time_namespaces"];
    let receipt = holds_where_less_is_told(&launch, "descent", "verified");
    row!(
        Place,
        "no cgroup2, no time namespace; `pid_namespace: true`"
    )
    .receipt(&receipt);
}

#[test]
fn where_proc_hides_processes_pid_namespaces_hold_and_nothing_is_proven() {
    // CAP_SYS_PTRACE, without which root sees no more than others do.
    let launch = ["hide-processes", "no-capability=19"];
    let receipt = holds_where_less_is_told(&launch, "none", "unverified");
    row!(
        Place,
        "no cgroup2, /proc hides processes (hidepid); `pid_namespace: true`"
    )
    .receipt(&receipt);
}

/// The same orphan keeps a stop without it from being verified, and lives on:
/// `degraded::without_cgroups_an_orphan_without_any_mark_keeps_the_stop_from_being_verified`.
#[test]
fn an_orphan_without_any_mark_ends_with_its_pid_namespace() {
    let mut world = without_cgroups();
    world.fixture("web", "disguise", OWN).init();
    world.number("web", "up");
    let receipt = goes_with_its_namespace(&world);
    row!(
        Place,
        "no cgroup2; an orphan whose mark was replaced, with `pid_namespace: true`"
    )
    .receipt(&receipt);
    world.end();
}

/// It cannot be from there: nobody leaves a pid namespace.
#[test]
fn an_orphan_that_may_be_anybodys_is_not_of_a_pid_namespace() {
    let mut world = without_cgroups();
    world.fixture("web", "children 2", OWN);
    world.fixture("plain", "children 2", "");
    world
        .fixture("sly", "disguise", "after: [web, plain]")
        .init();
    let orphan = world.pid("sly", "wiped");
    until("it is an orphan", || {
        (look::parent(orphan)? == world.supervisor()).then_some(())
    });
    let receipt = world.stop("plain");
    assert_eq!(receipt["verdict"], "unverified", "{receipt:#}");
    let receipt = world.stop("web");
    assert_verified(&receipt);
    is_held_by(&receipt, "pid-namespace");
    assert!(look::alive(orphan).is_some());
    world.end();
}

#[test]
fn a_program_sees_its_own_world_and_its_exit_is_its_own() {
    let mut world = World::new();
    let look = "set -- /proc/[0-9]*; echo pids $# self $$ parent $PPID >SEEN; exit 3";
    let seen = world.dir.join("seen");
    let look = look.replace("SEEN", seen.to_str().unwrap());
    let text = format!("exec: ['sh', '-c', \"{look}\"]\noneshot: true\n{OWN}\n");
    world.service("look", &text);
    world.service(
        "killed",
        &format!("exec: ['sh', '-c', 'kill -KILL $$']\noneshot: true\n{OWN}\n"),
    );
    world.service(
        "missing",
        &format!("exec: /nowhere\noneshot: true\n{OWN}\n"),
    );
    world.init();
    for name in ["look", "killed", "missing"] {
        world.reach(name, "failed");
    }
    // The first process and the shell.
    let text = std::fs::read_to_string(&seen).unwrap();
    assert_eq!(text.trim(), "pids 2 self 2 parent 1");
    assert_eq!(world.receipt("look")["exit"]["code"], 3);
    assert_eq!(world.receipt("killed")["exit"]["signal"], "SIGKILL");
    let why = world.status("missing").to_string();
    assert!(
        why.contains("/nowhere") && why.contains("No such file"),
        "{why}"
    );
    for name in ["look", "killed", "missing"] {
        let receipt = world.receipt(name);
        assert_verified(&receipt);
        is_held_by(&receipt, "cgroup-kill");
    }
    world.end();
}

#[test]
fn signals_reach_the_program_and_what_it_leaves_has_its_grace() {
    let mut world = World::new();
    world.fixture("polite", "polite 10 7", OWN);
    world.fixture(
        "main",
        "polite 10 7",
        &format!("{OWN}\nsignal: {{to: main}}"),
    );
    world.fixture("all", "polite 10 7", &format!("{OWN}\nsignal: {{to: all}}"));
    world.fixture(
        "left",
        "leave-child 0",
        &format!("{OWN}\nexit_grace: 10s\noneshot: true"),
    );
    world.init();
    for name in ["polite", "main", "all"] {
        world.number(name, "up");
        let receipt = world.stop_verified(name);
        assert_eq!(receipt["exit"]["code"], 7, "{receipt:#}");
        assert_eq!(receipt["killed"], json!([]), "{receipt:#}");
        // Asked once: the first process passes on what is meant for it alone.
        assert_eq!(world.numbers(name, "asked", 1).len(), 1, "{name}");
    }
    // The program has gone; its child is asked like any other, well within the grace.
    world.reach("left", "done");
    let receipt = world.receipt("left");
    assert_verified(&receipt);
    assert_eq!(receipt["killed"], json!([]), "{receipt:#}");
    world.end();
}

#[test]
fn daemons_remain_and_commands_of_the_service_are_born_in_its_world() {
    for mut world in [World::new(), without_cgroups()] {
        let pidfile = world.dir.join("pid");
        let pidfile = pidfile.to_str().unwrap();
        // A number that means something in its own world alone.
        let daemon = format!("setsid sleep 100000 & echo $! >{pidfile}");
        world.service(
            "daemon",
            &format!(
                "exec: ['sh', '-c', '{daemon}']\nremain: true\n{OWN}\n\
                 test: ['sh', '-c', 'kill -0 $(cat {pidfile})']\n\
                 stop: ['sh', '-c', 'kill $(cat {pidfile})']\n"
            ),
        );
        world.init();
        world.reach("daemon", "up");
        let number: u32 = std::fs::read_to_string(pidfile)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert!(number < 100, "{number}");
        let receipt = world.stop("daemon");
        assert_verified(&receipt);
        // Outside of its world the number would be nobody's, or another's.
        let rungs = receipt["rungs"].as_array().unwrap();
        let ended = rungs
            .iter()
            .find(|rung| rung["rung"] == "stop-command-ended");
        // The end of the daemon is that of its world, and of the shell that has just ended it.
        let exit = ended.map_or(&Value::Null, |rung| &rung["exit"]);
        let cut = exit.is_null() || exit["signal"] == "SIGKILL";
        assert!(cut || exit["code"] == 0, "{receipt:#}");
        assert_eq!(pids(&receipt, "killed"), BTreeSet::new(), "{receipt:#}");
        world.end();
    }
}

#[test]
fn what_a_killed_supervisor_left_in_a_pid_namespace_is_ended() {
    let mut world = without_cgroups();
    world.fixture("web", "disguise", OWN).init();
    world.number("web", "up");
    let old = inside(&world, "web");
    world.kill();
    assert!(old.iter().all(|pid| look::alive(*pid).is_some()));
    world.init();
    world.numbers("web", "up", 2);
    until("all of the first are gone", || {
        old.iter()
            .all(|pid| look::alive(*pid).is_none())
            .then_some(())
    });
    world.end();
}

#[test]
fn without_clone3_there_are_pid_namespaces_all_the_same() {
    let mut world = without_cgroups();
    world.launch.push("no-clone3".to_owned());
    world.fixture("web", "double-fork", OWN).init();
    world.number("web", "up");
    let receipt = goes_with_its_namespace(&world);
    row!(
        Place,
        "no cgroup2, clone3 answers ENOSYS; `pid_namespace: true`"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn where_none_can_be_made_the_start_says_so() {
    const CAP_SYS_ADMIN: u32 = 21;
    let mut world = World::new();
    world.launch = vec![format!("no-capability={CAP_SYS_ADMIN}")];
    world.fixture("plain", "stay", "");
    world
        .fixture("web", "stay", &format!("{OWN}\nrestart: {{policy: never}}"))
        .init();
    world.number("plain", "up");
    let status = world.reach("web", "failed");
    let why = status.to_string();
    assert!(
        why.contains("make a pid namespace") && why.contains("CAP_SYS_ADMIN"),
        "{why}"
    );
    world.stop_verified("plain");
    row!(Place, "no CAP_SYS_ADMIN; `pid_namespace: true`").says(
        "not started",
        "at once",
        "cgroup-kill descent",
    );
    world.end();
}

#[test]
fn a_service_may_ask_for_it_as_the_least() {
    let mut world = without_cgroups();
    world.fixture(
        "web",
        "stay",
        &format!("{OWN}\nmin_guarantee: pid-namespace"),
    );
    world
        .fixture("plain", "stay", "min_guarantee: pid-namespace")
        .init();
    world.number("web", "up");
    let status = world.reach("plain", "failed");
    assert!(
        status
            .to_string()
            .contains("its min_guarantee asks for pid-namespace"),
        "{status}"
    );
    is_held_by(&world.stop("web"), "pid-namespace");
    world.end();
}
