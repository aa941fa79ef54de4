//! Limits where no controller can be had: said, refused, undone. Where they hold is the virtual
//! machine's (integration/vm/limits.rs).

use super::{code, output, report, stderr, stdout, trees};
use crate::world::World;

const ASKED: [&str; 6] = ["--memory", "64M", "--cpus", "1.5", "--pids", "100"];

#[test]
fn a_limit_that_cannot_be_enforced_starts_nothing_and_says_why() {
    let world = World::new();
    let words = [&ASKED[..], &["--", "touch", "started"]].concat();
    let ran = output(&world, &words);
    let said = stderr(&ran);
    assert_eq!(code(&ran), Some(125), "{said}");
    assert!(!world.dir.join("started").exists());
    for words in [
        "nought run: failed to limit the command: --memory cannot be enforced: the controller \
         `memory` is ",
        "--cpus cannot be enforced: the controller `cpu` is ",
        "--pids cannot be enforced: the controller `pids` is ",
        "--limits=optional runs it without",
    ] {
        assert!(said.contains(words), "no {words:?}: {said}");
    }
    assert!(trees(&world).is_empty(), "{said}");
    world.end();
}

#[test]
fn optional_limits_are_missed_aloud() {
    let world = World::new();
    let more = [
        "--limits=optional",
        "--report",
        "r.json",
        "--",
        "echo",
        "ran",
    ];
    let ran = output(&world, &[&ASKED[..], &more].concat());
    let said = stderr(&ran);
    assert_eq!((code(&ran), stdout(&ran)), (Some(0), "ran\n".to_owned()));
    assert_eq!(
        said.matches("; the command runs without").count(),
        3,
        "{said}"
    );
    let report = report(&world.dir.join("r.json"));
    let unmet = report["limits_unmet"].as_array().unwrap();
    assert_eq!(unmet.len(), 3, "{report:#}");
    assert!(
        unmet[0]
            .as_str()
            .unwrap()
            .starts_with("--memory cannot be enforced")
    );
    assert_eq!(report["oom_kills"], serde_json::Value::Null, "{report:#}");
    let quiet = [&ASKED[..], &["--limits=optional", "-q", "--", "true"]].concat();
    assert_eq!(stderr(&output(&world, &quiet)), "");
    world.end();
}

#[test]
fn without_a_cgroup_there_is_nothing_to_limit() {
    let mut world = World::new();
    world.launch = vec![format!(
        "no-cgroup={}",
        crate::look::cgroup_mount().display()
    )];
    let ran = output(&world, &["--pids", "10", "--", "true"]);
    assert_eq!(code(&ran), Some(125));
    let says = "--pids cannot be enforced: there is no cgroup to set it on (";
    assert!(stderr(&ran).contains(says), "{}", stderr(&ran));
    world.end();
}

#[test]
fn what_is_no_amount_is_refused() {
    let world = World::new();
    for words in [
        ["--memory", "much"],
        ["--memory", "0"],
        ["--cpus", "0.001"],
        ["--pids", "0"],
        ["--limits", "perhaps"],
    ] {
        let ran = output(&world, &[&words[..], &["--", "true"]].concat());
        assert_eq!(code(&ran), Some(125), "{words:?}");
        assert!(stderr(&ran).contains("invalid value"), "{}", stderr(&ran));
    }
    world.end();
}
