//! The supervisor itself, moved where it does not belong.

use crate::stage::{Stage, lives, until};

/// cgroup.kill on a cgroup that holds us would end us, and everything with us.
#[test]
fn a_service_that_moves_the_supervisor_into_its_cgroup_does_not_end_it() {
    let mut stage = Stage::new();
    stage.service("good", "exec: sleep 1000\n");
    let deaf = stage.script("deaf", "") + ".set";
    stage.service(
        "evil",
        &format!(
            "exec: sh -c 'trap \"\" TERM; echo >>{deaf}; while :; do sleep 1; done'\n\
             test: test -e {deaf}\nshutdown_timeout: 1\n"
        ),
    );
    let supervisor = stage.start();
    let good = stage.reaches("good", "up");
    let evil = stage.reaches("evil", "up");
    let pid = evil["pid"].as_u64().unwrap().to_string();
    let mut moved = false;
    for generation in nought::sys::cgroup::tree(&stage.dir).unwrap() {
        let procs = generation.join("cgroup.procs");
        if std::fs::read_to_string(&procs).is_ok_and(|text| text.lines().any(|line| line == pid)) {
            std::fs::write(&procs, supervisor.to_string()).unwrap();
            moved = true;
        }
    }
    assert!(moved);

    assert_eq!(stage.ask(&["stop", "evil"]).code, 0);
    let receipt = stage.receipt("evil");
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    assert!(lives(supervisor));
    let still = stage.reaches("good", "up");
    assert_eq!(still["pid"], good["pid"]);
    until("it says so", || {
        stage.log().contains("somebody has moved us").then_some(())
    });
    assert_eq!(stage.end(), 0);
}
