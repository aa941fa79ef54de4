//! What a service is born with, whatever the supervisor itself was started with.

use serde_json::{Value, json};

use crate::look;
use crate::world::World;

fn report(world: &World, name: &str) -> Value {
    let text = look::until("the report", || world.said(name).first().cloned());
    serde_json::from_str(&text).unwrap()
}

/// A supervisor started in a place as untidy as a shell leaves it.
fn untidy() -> World {
    let mut world = World::new();
    let words = [
        "open-files=512",
        "umask=027",
        "ignore-signals",
        "block-signals",
        "leak-descriptors=20",
    ];
    world.launch = words.map(str::to_owned).into();
    world
}

#[test]
fn in_its_own_pid_namespace_a_service_has_default_signals_too() {
    let mut world = untidy();
    world.fixture("web", "report", "pid_namespace: true").init();
    let report = report(&world, "web");
    for mask in ["blocked", "ignored", "caught"] {
        assert_eq!(report[mask], "0000000000000000", "{mask}: {report:#}");
    }
    world.stop_verified("web");
    world.end();
}

#[test]
fn a_service_is_born_tidy() {
    let mut world = untidy();
    world.fixture("web", "report", "").init();
    let report = report(&world, "web");
    let fds = report["fds"].as_array().unwrap();
    let numbers: Vec<_> = fds.iter().map(|fd| fd[0].as_u64().unwrap()).collect();
    assert_eq!(numbers, [0, 1, 2], "{report:#}");
    assert_eq!(fds[0][1], "/dev/null");
    assert!(
        fds[1][1].as_str().unwrap().starts_with("pipe:")
            && fds[2][1].as_str().unwrap().starts_with("pipe:")
    );
    assert_ne!(fds[1][1], fds[2][1], "stdout and stderr are told apart");
    for mask in ["blocked", "ignored", "caught"] {
        assert_eq!(report[mask], "0000000000000000", "{mask}: {report:#}");
    }
    let (pid, soft) = (&report["pid"], &report["open_files"][0]);
    assert_eq!(
        (&report["session"], &report["group"]),
        (pid, pid),
        "a session of its own: {report:#}"
    );
    assert_eq!(
        soft, "512",
        "the limit that the supervisor was started with"
    );
    assert_eq!(report["umask"], "0027");
    assert_eq!(report["dir"], "/");
    assert_eq!(report["threads"], "1");
    assert_eq!(*pid, world.reach("web", "up")["pid"]);
    let cgroup = report["cgroup"].as_str().unwrap();
    assert!(cgroup.contains("/web/1/main\n"), "{cgroup}");
    let ours = std::fs::read_link("/proc/self/ns/time").unwrap();
    assert_ne!(report["time"], json!(ours), "it bears a mark");
    // The supervisor raised its own limit.
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.supervisor())).unwrap();
    let open_files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let soft: u64 = open_files
        .split_whitespace()
        .nth(3)
        .unwrap()
        .parse()
        .unwrap();
    assert!(soft > 512, "{open_files}");
    world.stop_verified("web");
    world.end();
}

#[test]
fn an_untidy_place_keeps_nothing_from_ending() {
    let mut world = untidy();
    world
        .fixture("web", "children 3", "")
        .fixture("db", "daemon", "exit_grace: 10ms\nrestart: {policy: never}")
        .init();
    world.number("web", "up");
    world.reach("db", "done");
    world.stop_verified("web");
    world.end();
}

#[test]
fn a_service_has_the_environment_and_the_directory_of_its_file() {
    let mut world = World::new();
    world
        .fixture(
            "web",
            "report",
            "dir: /usr\nenv: {GREETING: 'hello world', PATH: /usr/bin, EMPTY: ''}",
        )
        .init();
    let report = report(&world, "web");
    let environment = &report["environment"];
    assert_eq!(environment["GREETING"], "hello world");
    assert_eq!(
        environment["PATH"], "/usr/bin",
        "its own goes over the supervisor's"
    );
    assert_eq!(environment["EMPTY"], "");
    assert!(
        environment["NOUGHT_TEST"].is_string(),
        "the supervisor's own is inherited"
    );
    assert!(
        environment["NOUGHT_GENERATION"]
            .as_str()
            .unwrap()
            .ends_with("/web/1"),
        "{environment:#}"
    );
    assert_eq!(report["dir"], "/usr");
    world.end();
}

#[test]
fn a_command_is_split_as_a_shell_splits_it_and_no_shell_is_run() {
    let mut world = World::new();
    world.fixture("web", "report 'a b' \"c  d\" e\\ f '$HOME' '' *", "");
    // Words that the fixture does not know are no matter of this test: it takes any.
    world.init();
    let report = report(&world, "web");
    let arguments: Vec<_> = report["arguments"].as_array().unwrap()[4..].to_vec();
    assert_eq!(arguments, ["a b", "c  d", "e f", "$HOME", "", "*"]);
    world.end();
}

#[test]
fn a_service_that_logs_nothing_has_nothing_to_write_to() {
    let mut world = World::new();
    world.fixture("web", "report", "log: none").init();
    let report = report(&world, "web");
    let targets: Vec<_> = report["fds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fd| fd[1].clone())
        .collect();
    assert_eq!(
        targets,
        ["/dev/null", "/dev/null", "/dev/null"],
        "{report:#}"
    );
    world.end();
}
