//! Limits for all services together where no controller can be had: said, refused, undone. Where
//! they hold is the virtual machine's (integration/vm/limits.rs).

use crate::world::World;

const ASKED: [&str; 6] = ["--memory", "64M", "--cpus", "1.5", "--pids", "100"];

#[test]
fn limits_of_all_together_that_cannot_be_enforced_start_nothing_and_say_why() {
    let mut world = World::new();
    world.fixture("web", "stay", "");
    let mut init = world.launcher(&["init"]);
    let refused = init.args(ASKED).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    for words in [
        "refused to start: failed to limit all services together: --memory cannot be enforced: \
         the controller `memory` is ",
        "--cpus cannot be enforced: the controller `cpu` is ",
        "--pids cannot be enforced: the controller `pids` is ",
        "`--limits=optional` starts without",
    ] {
        assert!(said.contains(words), "no {words:?}: {said}");
    }
    assert!(!world.socket().exists());
    assert!(world.said("web").is_empty(), "it was started");
    world.end();
}

#[test]
fn optional_limits_of_all_together_are_missed_aloud_and_services_go_as_ever() {
    let mut world = World::new();
    world.fixture("web", "children 3", "");
    world.flags = ASKED.map(str::to_owned).into();
    world.flags.push("--limits=optional".to_owned());
    world.init();
    world.log_with("all services together: --memory cannot be enforced");
    world.log_with("they run without");
    world.number("web", "up");
    world.stop_verified("web");
    world.end();
}
