//! As process 1 of a pid namespace.

use serde_json::json;

use crate::look::{self, until};
use crate::receipt::assert_verified;
use crate::world::World;

/// What makes a supervisor process 1 of a pid namespace of its own, and these words after it.
pub(crate) fn own_pids(more: &[&str]) -> Vec<String> {
    let own = [
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child=KILL",
    ];
    own.iter()
        .chain(more)
        .map(|word| (*word).to_owned())
        .collect()
}

/// A world whose supervisor is that.
pub(crate) fn as_process_1(flags: &[&str]) -> World {
    let mut world = World::new();
    world.wrapper = own_pids(&[]);
    world.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    world
}

#[test]
fn process_1_stops_with_proof_and_passes_its_exit_code_on() {
    let mut world = as_process_1(&["--container"]);
    world
        .fixture("web", "children 3", "")
        .fixture("db", "session", "")
        .init();
    assert_eq!(world.call("nought_info", json!({})).unwrap()["pid"], 1);
    world.number("web", "up");
    world.number("db", "up");
    assert_verified(&world.stop("web"));
    assert_verified(&world.stop("db"));
    world.start("web").unwrap();
    world.end();
}

#[test]
fn process_1_ends_its_namespace_when_it_is_no_container() {
    let mut world = as_process_1(&[]);
    world.fixture("web", "children 3", "").init();
    world.number("web", "up");
    world.census();
    assert_eq!(
        world.call("system_shutdown", json!({})).unwrap(),
        serde_json::Value::Null
    );
    let status = world.wait();
    // reboot(2) in a pid namespace: POWER_OFF ends its process 1 with SIGINT.
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(libc::SIGINT),
        "{status} {}",
        world.log()
    );
    world.assert_last_words("verified: every service is gone");
    world.end();
}

#[test]
fn process_1_restarts_its_namespace_when_it_is_told_to_reboot() {
    let mut world = as_process_1(&[]);
    world.fixture("web", "stay", "").init();
    world.number("web", "up");
    world.census();
    world.call("system_reboot", json!({})).unwrap();
    let status = world.wait();
    assert_eq!(
        std::os::unix::process::ExitStatusExt::signal(&status),
        Some(libc::SIGHUP),
        "{status} {}",
        world.log()
    );
    world.end();
}

#[test]
fn process_1_reaps_orphans_that_are_nobodys() {
    let mut world = as_process_1(&["--container"]);
    world.fixture("web", "stay", "").init();
    world.number("web", "up");
    let own = world.supervisor();
    // Sessions that are executed in a container from outside leave their orphans to process 1.
    for _ in 0..20 {
        let status = std::process::Command::new("nsenter")
            .args([
                "--pid",
                "--target",
                &own.to_string(),
                "sh",
                "-c",
                "(sleep 0.02 &) ; exit 0",
            ])
            .status()
            .unwrap();
        assert!(status.success());
    }
    let zombies = || {
        look::children_of(own)
            .into_iter()
            .filter(|pid| look::state(*pid).as_deref() == Some("Z"))
            .count()
    };
    until("no orphan is left", || {
        (look::children_of(own).len() == 1 && zombies() == 0).then_some(())
    });
    world.end();
}

#[test]
fn process_1_passes_on_that_something_lingers() {
    let mut world = as_process_1(&["--container", "--deadline", "3s"]);
    world
        .fixture("web", "stay", "shutdown_timeout: 50ms\nkill_timeout: 1s")
        .init();
    world.reach("web", "up");
    world.number("web", "up");
    let own = world.supervisor();
    let pid = look::children_of(own)[0];
    let tracer = world.tool("tracer", &["trace", &pid.to_string()]);
    world.number("tracer", "tracing");
    world.signal(libc::SIGTERM);
    // Its namespace cannot end while the survivor is in it: the code is passed on after that.
    until("it has said so", || {
        world.log().contains("lingering: web").then_some(())
    });
    world.end_tool(tracer);
    assert_eq!(world.wait().code(), Some(70), "{}", world.log());
    until("the survivor ends with its namespace", || {
        look::alive(pid).is_none().then_some(())
    });
    // What held its cgroup went after the supervisor: the next one would remove it.
    look::clear(&world.cgroup);
    std::fs::create_dir(&world.cgroup).unwrap();
    world.end();
}

#[test]
fn a_broken_core_leaves_a_process_1_that_reaps_and_can_reboot() {
    let world = World::new();
    let said = world.dir.join("broken.said");
    let own = std::env::current_exe().unwrap();
    let mut process = std::process::Command::new("unshare")
        .args(["--pid", "--fork", "--mount-proc", "--kill-child=KILL"])
        .arg(&own)
        .arg(crate::fixtures::FLAG)
        .arg(&said)
        .arg("broken-core")
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    world.number("broken", "broke");
    let first = until("it has a child", || {
        look::children_of(process.id()).first().copied()
    });
    // It made ten orphans, and none is left unreaped.
    until("nobody is left unreaped", || {
        look::children_of(first).is_empty().then_some(())
    });
    look::signal(first, libc::SIGRTMIN() + 5);
    // reboot(2) in a pid namespace: RESTART ends its process 1 with SIGHUP.
    let status = process.wait().unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    assert_eq!(
        signal.or(status.code().map(|code| code - 128)),
        Some(libc::SIGHUP),
        "{status}"
    );
    world.end();
}

/// A client that takes a moment to say what it has read.
const READS_AND_SAYS: &str = r#"
import socket, sys, time
client = socket.socket(socket.AF_UNIX)
client.connect(sys.argv[1])
client.sendall(b'{"jsonrpc": "2.0", "id": 1, "method": "nought_shutdown", "params": {}}\n')
answer = client.makefile().readline()
time.sleep(0.1)
print(answer)
"#;

/// A session that is executed in a container from outside ends with its process 1, which therefore
/// waits until it has read what it asked for.
#[test]
fn whoever_shuts_process_1_down_from_within_can_say_so() {
    let mut world = as_process_1(&["--container"]);
    world.fixture("web", "stay", "").init();
    world.number("web", "up");
    let own = world.supervisor().to_string();
    let within = std::process::Command::new("nsenter")
        .args(["--pid", "--target", &own, "/usr/bin/python3", "-c"])
        .arg(READS_AND_SAYS)
        .arg(world.socket())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&within.stdout);
    assert!(said.contains("elapsed_ms"), "{within:?} {}", world.log());
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    world.end();
}
