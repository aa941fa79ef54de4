//! Processes that leave their cgroup, and what the receipt says of them.

use nought::sys::{cgroup, clock};

use crate::stage::{Stage, lives, until};

/// The one process outside.
fn escapee(stage: &Stage) -> u32 {
    until("one is outside", || {
        match cgroup::procs(&stage.outside()).unwrap()[..] {
            [pid] => Some(pid),
            _ => None,
        }
    })
}

/// A service that moves a child outside, which then becomes an orphan; `as_what` starts it.
fn escaping(stage: &Stage, as_what: &str) -> String {
    let outside = stage.outside();
    stage.script(
        "escape",
        &format!(
            "setsid sh -c 'echo 0 > {}/cgroup.procs; {as_what} & exit 0' </dev/null >/dev/null 2>&1",
            outside.display()
        ),
    )
}

#[test]
fn what_a_readiness_test_leaves_behind_outside_is_found() {
    let mut stage = Stage::new();
    let script = escaping(&stage, "exec env -i sleep 1000");
    stage.service("s", &format!("exec: sleep 1000\ntest: sh {script}\n"));
    stage.start();
    stage.reaches("s", "up");
    let escapee = escapee(&stage);

    assert_eq!(stage.ask(&["stop", "s"]).code, 0);
    let receipt = stage.receipt("s");
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    assert_eq!(receipt["escaped"][0]["pid"], escapee, "{receipt}");
    assert!(!lives(escapee));
}

#[test]
fn an_escapee_in_the_supervisors_own_leaf_is_found() {
    let mut stage = Stage::new();
    let base = stage.dir.join("base");
    let script = stage.script(
        "escape",
        &format!(
            "for leaf in {}/nought-*/supervisor; do setsid sh -c \"echo 0 > $leaf/cgroup.procs; \
             exec env -i sleep 1000\" </dev/null >/dev/null 2>&1 & done; exec sleep 1000",
            base.display()
        ),
    );
    stage.service("s", &format!("exec: sh {script}\n"));
    let supervisor = stage.start();
    stage.reaches("s", "up");
    let leaf = cgroup::tree(&base).unwrap();
    let leaf = leaf.iter().find(|dir| dir.ends_with("supervisor")).unwrap();
    let escapee = until("somebody is in our leaf", || {
        let pids = cgroup::procs(leaf).unwrap();
        pids.into_iter().find(|&pid| pid != supervisor)
    });

    assert_eq!(stage.ask(&["stop", "s"]).code, 0);
    let receipt = stage.receipt("s");
    assert_eq!(receipt["escaped"][0]["pid"], escapee, "{receipt}");
    assert!(!lives(escapee));
    assert_eq!(stage.end(), 0);
}

/// Out of the cgroup, with a mark of its own, an empty environment, a session of its own and
/// nobody left who could tell: it may be this start's, so this start is not proven gone.
#[test]
fn an_orphan_that_nothing_attributes_leaves_every_start_before_it_unverified() {
    let mut stage = Stage::new();
    let script = escaping(
        &stage,
        "unshare --time sh -c \"setsid --fork env -i sleep 1000\"",
    );
    stage.service(
        "evil",
        &format!("exec: sh -c 'sh {script}; exec sleep 1000'\n"),
    );
    stage.service("later", "exec: sleep 1000\nafter: [gate]\n");
    stage.service("gate", "exec: sleep 1000\n");
    let gone = stage.outside();
    stage.start();
    stage.reaches("evil", "up");
    let orphan = until("it is alone out there", || {
        let pids = cgroup::procs(&gone).unwrap();
        let comm = |pid| std::fs::read_to_string(format!("/proc/{pid}/comm"));
        match pids[..] {
            [pid] if comm(pid).is_ok_and(|comm| comm == "sleep\n") => Some(pid),
            _ => None,
        }
    });
    // A start that came after it cannot be where it is from; start times are told in ticks.
    let seen = clock::boot_now();
    until("the tick is over", || {
        (clock::boot_now() > seen + 20_000_000).then_some(())
    });
    assert_eq!(stage.ask(&["restart", "later"]).code, 0);
    stage.reaches("later", "up");
    assert_eq!(stage.ask(&["stop", "later"]).code, 0);

    assert_eq!(stage.ask(&["stop", "evil"]).code, 4);
    let receipt = stage.receipt("evil");
    assert_eq!(receipt["verdict"], "unverified", "{receipt}");
    let reason = receipt["reason"].as_str().unwrap();
    assert!(reason.contains(&orphan.to_string()), "{reason}");
    assert_eq!(receipt["foreign"][0]["pid"], orphan, "{receipt}");
    assert!(lives(orphan), "a stop kills nobody who may be another's");
    // In the end all were to go, and from where but a service of ours it came is no question.
    assert_eq!(stage.end(), 0);
    assert!(!lives(orphan));
}
