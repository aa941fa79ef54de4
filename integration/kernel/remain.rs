//! Services that are what their main process leaves running, and processes kept on purpose.

use serde_json::{Value, json};

use crate::look::{self, until};
use crate::receipt::{assert_verified, pids, rungs};
use crate::world::World;

fn state(world: &World, name: &str) -> Value {
    world.status(name)["state"].clone()
}

#[test]
fn a_daemon_that_forks_is_up_until_it_is_stopped() {
    let mut world = World::new();
    world
        .fixture("daemon", "daemon", "remain: true")
        .fixture("web", "stay", "requires: [daemon]")
        .init();
    world.reach("web", "up");
    let daemon = world.pid("daemon", "daemon");
    assert_eq!(state(&world, "daemon"), "up");
    let status = world.status("daemon");
    assert_eq!(status["pid"], 0, "its main process is gone");
    assert_eq!(status["detail"], "what its main process left running");
    let receipt = world.stop("daemon");
    assert_verified(&receipt);
    assert!(look::alive(daemon).is_none());
    assert_eq!(receipt["cause"], "stop");
    assert_eq!(receipt["exit"]["code"], 0);
    let signal = &receipt["rungs"][0];
    assert_eq!(
        (&signal["rung"], &signal["to"]),
        (&json!("signal"), &json!("rest"))
    );
    assert_eq!(signal["grace_ms"], 10_000.0, "{receipt:#}");
    assert_eq!(
        state(&world, "web"),
        "blocked",
        "its requirer went before it"
    );
    world.start("web").unwrap_err();
    world.start("daemon").unwrap();
    world.reach("web", "up");
    world.end();
}

#[test]
fn a_daemon_that_dies_is_started_again() {
    let mut world = World::new();
    world.fixture("daemon", "daemon", "remain: true").init();
    let first = world.numbers("daemon", "daemon", 1)[0];
    world.reach("daemon", "up");
    look::signal(u32::try_from(first).unwrap(), libc::SIGKILL);
    world.numbers("daemon", "daemon", 2);
    let status = world.reach("daemon", "up");
    assert_eq!(status["restarts"], 1, "{status}");
    let receipt = world.receipt("daemon");
    assert_verified(&receipt);
    assert_eq!(receipt["cause"], "ended");
    world.log_with("daemon: up");
    world.end();
}

#[test]
fn a_oneshot_keeps_what_it_left_running_and_is_done_when_that_has_ended() {
    let mut world = World::new();
    world
        .fixture("setup", "daemon", "oneshot: true\nremain: true")
        .fixture("web", "stay", "requires: [setup]")
        .init();
    world.reach("web", "up");
    let daemon = world.pid("setup", "daemon");
    assert_eq!(state(&world, "setup"), "up");
    look::signal(daemon, libc::SIGKILL);
    world.reach("setup", "done");
    assert_eq!(world.receipt("setup")["cause"], "ended");
    assert_eq!(state(&world, "web"), "up", "its work is done");
    world.end();
}

#[test]
fn one_that_leaves_nothing_is_done_and_one_that_fails_keeps_nothing() {
    let mut world = World::new();
    world
        .fixture("nothing", "exit 0", "oneshot: true\nremain: true")
        .fixture("failed", "leave-child 3", "oneshot: true\nremain: true")
        .init();
    world.reach("nothing", "done");
    world.reach("failed", "failed");
    let child = world.pid("failed", "child");
    assert!(look::alive(child).is_none());
    world.end();
}

#[test]
fn its_stop_command_is_run_and_its_test_decides_when_it_is_up() {
    let mut world = World::new();
    let dir = world.dir.display().to_string();
    let lines = format!(
        "remain: true\ntest: test -e {dir}/ready\n\
         stop: [sh, -c, 'echo stopped > {dir}/stopped; kill $(sed -n \"s/^daemon //p\" {dir}/daemon.said)']"
    );
    world.fixture("daemon", "daemon", &lines).init();
    let daemon = world.pid("daemon", "daemon");
    assert_eq!(state(&world, "daemon"), "starting");
    std::fs::write(world.dir.join("ready"), "").unwrap();
    world.reach("daemon", "up");
    let receipt = world.stop("daemon");
    assert_verified(&receipt);
    assert_eq!(rungs(&receipt)[0], "stop-command", "{receipt:#}");
    assert!(world.dir.join("stopped").exists());
    // The command's own shell may not be through when the daemon is.
    assert!(!pids(&receipt, "killed").contains(&daemon), "{receipt:#}");
    world.end();
}

#[test]
fn without_cgroups_what_remains_is_noticed_to_end() {
    let mut world = World::new();
    world.launch = vec![format!(
        "cgroup-read-only={}",
        look::cgroup_mount().display()
    )];
    world
        .fixture("daemon", "daemon", "remain: true")
        .fixture("setup", "daemon", "oneshot: true\nremain: true")
        .init();
    world.reach("daemon", "up");
    world.reach("setup", "up");
    look::signal(world.pid("setup", "daemon"), libc::SIGKILL);
    world.reach("setup", "done");
    look::signal(world.pid("daemon", "daemon"), libc::SIGKILL);
    world.numbers("daemon", "daemon", 2);
    world.reach("daemon", "up");
    assert_verified(&world.stop("daemon"));
    world.end();
}

// ---- kept --------------------------------------------------------------------------------------

/// A service whose main process has two sessions beside it, each with a child of its own, of
/// which one has left the cgroup: who they are.
fn sessions(world: &mut World, more: &str) -> Vec<u32> {
    let said = world.dir.join("sessions.said");
    let session = format!(
        "#!/bin/sh\nif [ -n \"$1\" ]; then echo 0 > \"$1/cgroup.procs\"; fi\n\
         sleep 1000 &\necho \"session $$\" >> {0}\necho \"session $!\" >> {0}\nwait\n",
        said.display()
    );
    let session = world.program("my-session", &session).display().to_string();
    let outside = world.foreign_cgroup().display().to_string();
    let text = format!(
        "exec: [sh, -c, 'setsid {session} & setsid {session} {outside} & exec sleep 1000']\n\
         survivors: {{keep: ['my-sess*']}}\n{more}\n"
    );
    world.service("sshd", &text);
    world.fixture("neighbour", "stay", "");
    world.init();
    let sessions = world.numbers("sessions", "session", 4);
    world.census();
    sessions
        .iter()
        .map(|pid| u32::try_from(*pid).unwrap())
        .collect()
}

#[test]
fn sessions_outlive_a_restart_are_on_the_receipt_and_end_with_everything() {
    let mut world = World::new();
    let sessions = sessions(&mut world, "shutdown_timeout: 1s");
    world.reach("sshd", "up");
    world
        .call("nought_restart", json!({"name": "sshd"}))
        .unwrap();
    let receipt = world.receipt("sshd");
    assert_verified(&receipt);
    let kept = pids(&receipt, "kept");
    for session in &sessions {
        assert!(
            kept.contains(session),
            "{session} of {sessions:?}: {receipt:#}"
        );
        assert!(look::alive(*session).is_some(), "{session}: {receipt:#}");
    }
    assert_eq!(
        (&receipt["killed"], &receipt["escaped"]),
        (&json!([]), &json!([]))
    );
    // They keep nobody else from being verified, nor the next stop, which has its own to keep.
    world.numbers("sessions", "session", 8);
    world.stop_verified("neighbour");
    world.start("neighbour").unwrap();
    let receipt = world.stop("sshd");
    assert_verified(&receipt);
    let said = world.cli(&["receipt", "sshd"]);
    let said = String::from_utf8(said.stdout).unwrap();
    assert!(
        said.contains("kept") && said.contains("my-session"),
        "{said}"
    );
    for session in &sessions {
        assert!(look::alive(*session).is_some());
    }
    world.stop_verified("neighbour");
    world.end();
    for session in &sessions {
        assert!(look::alive(*session).is_none(), "{session}");
    }
}

#[test]
fn sessions_outlive_a_main_process_that_is_killed() {
    let mut world = World::new();
    let sessions = sessions(&mut world, "");
    let status = world.reach("sshd", "up");
    look::signal(
        u32::try_from(status["pid"].as_u64().unwrap()).unwrap(),
        libc::SIGKILL,
    );
    until("it is up again", || {
        let status = world.status("sshd");
        (status["state"] == "up" && status["restarts"] == 1).then_some(())
    });
    for session in &sessions {
        assert!(look::alive(*session).is_some(), "{session}");
    }
    assert_verified(&world.receipt("sshd"));
    world.end();
}

#[test]
fn who_is_kept_in_the_main_process_s_own_group_is_not_asked_to_go() {
    let mut world = World::new();
    let said = world.dir.join("helper.said");
    let helper = world.program(
        "kept-helper",
        &format!(
            "#!/bin/sh\ntrap 'echo asked >> {0}' TERM\necho \"pid $$\" >> {0}\n\
             while :; do sleep 0.05; done\n",
            said.display()
        ),
    );
    let text = format!(
        "exec: [sh, -c, '{} & exec sleep 1000']\nsurvivors: {{keep: kept-helper}}\n",
        helper.display()
    );
    world.service("web", &text).init();
    let helper = world.pid("helper", "pid");
    let receipt = world.stop("web");
    assert_verified(&receipt);
    assert!(pids(&receipt, "kept").contains(&helper), "{receipt:#}");
    assert!(look::alive(helper).is_some());
    assert!(!world.said("helper").contains(&"asked".to_owned()));
    world.end();
    assert!(look::alive(helper).is_none());
}

#[test]
fn who_was_kept_by_a_supervisor_that_was_killed_is_ended_by_the_next() {
    let mut world = World::new();
    let sessions = sessions(&mut world, "restart: never");
    world.reach("sshd", "up");
    assert_verified(&world.stop("sshd"));
    for session in &sessions {
        assert!(look::alive(*session).is_some());
    }
    world.kill();
    world.service("sshd", "exec: sleep 1000\n");
    world.init();
    world.reach("sshd", "up");
    for session in &sessions {
        assert!(look::alive(*session).is_none(), "{session} of {sessions:?}");
    }
    world.end();
}

#[test]
fn the_main_process_is_never_kept() {
    let mut world = World::new();
    world
        .service("web", "exec: sleep 1000\nsurvivors: {keep: [sleep]}\n")
        .init();
    let pid = u32::try_from(world.reach("web", "up")["pid"].as_u64().unwrap()).unwrap();
    let receipt = world.stop_verified("web");
    assert_eq!(receipt["kept"], json!([]));
    assert!(look::alive(pid).is_none());
    world.end();
}

#[test]
fn who_is_kept_goes_on_writing_and_is_heard() {
    let mut world = World::new();
    let go = world.open_dir().join("go");
    let text = format!(
        "#!/bin/sh\nwhile :; do [ -e {} ] && echo kept and heard; sleep 0.02; done\n",
        go.display()
    );
    let talker = world.program("talker", &text);
    world.service(
        "web",
        &format!(
            "exec: [sh, -c, 'setsid {} & exec sleep 1000']\nsurvivors: {{keep: [talker]}}\n",
            talker.display()
        ),
    );
    world.init();
    world.reach("web", "up");
    let dir = world.generations("web")[0].join("main");
    // Before its program runs it is one more shell of the service.
    let comm = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm"));
    let talks = |pid: &u32| comm(pid).is_ok_and(|comm| comm == "talker\n");
    until("the talker runs", || {
        look::members(&dir).iter().find(|pid| talks(pid)).copied()
    });
    world
        .call("nought_restart", json!({"name": "web"}))
        .unwrap();
    let receipt = world.receipt("web");
    let kept = crate::receipt::pids(&receipt, "kept");
    assert!(!kept.is_empty(), "{receipt:#}");
    std::fs::write(&go, "").unwrap();
    until("it is heard", || {
        let said = world.cli(&["log", "web"]);
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        (said.matches("kept and heard").count() >= 3).then_some(())
    });
    assert!(kept.iter().any(|pid| look::alive(*pid).is_some()));
    world.end();
}
