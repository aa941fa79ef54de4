//! What a killed supervisor leaves, and what in its tree is not its own.

use std::process::Command;

use nought::sys::cgroup;

use crate::stage::{Stage, lives, until};

#[test]
fn a_session_in_a_dead_supervisors_leaf_is_left_alone() {
    let mut stage = Stage::new();
    stage.service("s", "exec: sleep 1000\n");
    stage.start();
    let service = stage.reaches("s", "up")["pid"].as_u64().unwrap() as u32;
    let tree = cgroup::tree(&stage.dir).unwrap();
    let leaf = tree.iter().find(|dir| dir.ends_with("supervisor")).unwrap();
    let mut session = Command::new("/bin/sh")
        .args(["-c", "echo 0 > $LEAF/cgroup.procs && exec sleep 1000"])
        .env("LEAF", leaf)
        .spawn()
        .unwrap();
    until("it is there", || {
        cgroup::procs(leaf)
            .unwrap()
            .contains(&session.id())
            .then_some(())
    });

    stage.murder();
    stage.start();
    stage.reaches("s", "up");
    assert!(!lives(service));
    until("the old tree was dealt with", || {
        stage
            .log()
            .contains("of no service that we know")
            .then_some(())
    });
    assert!(lives(session.id()));
    session.kill().unwrap();
    session.wait().unwrap();
    assert_eq!(stage.end(), 0);
}

/// As from a session of the dead supervisor's own sshd.
#[test]
fn a_supervisor_started_inside_a_dead_ones_service_ends_that_and_not_itself() {
    let mut stage = Stage::new();
    stage.service("s", "exec: sleep 1000\n");
    stage.start();
    let service = stage.reaches("s", "up")["pid"].as_u64().unwrap() as u32;
    let tree = cgroup::tree(&stage.dir).unwrap();
    let home = tree
        .iter()
        .find(|dir| cgroup::procs(dir).unwrap() == [service]);
    let home = home.unwrap().clone();

    stage.murder();
    let supervisor = stage.start_in(&home);
    stage.reaches("s", "up");
    assert!(lives(supervisor) && !lives(service));
    assert!(!home.exists());
    assert_eq!(stage.receipt("s")["verdict"], "verified");
    assert_eq!(stage.end(), 0);
    assert_eq!(cgroup::tree(&stage.dir.join("base")).unwrap().len(), 1);
}
