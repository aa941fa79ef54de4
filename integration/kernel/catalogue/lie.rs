//! Ways to lie to the supervisor: each a clear error, the rest keeps running, and nothing false
//! stands on a receipt.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::table::row;
use super::with_service;
use crate::look::{self, until};
use crate::receipt::{assert_verified, pids};
use crate::world::World;

/// Who has not gone by the signal when the scan comes by is killed.
const ASKED_OR_FOUND: &str = "when asked; who is found outside is killed";

/// Processes that a test started beside the supervisor; ended with it.
struct Bystanders(Vec<Child>);

impl Bystanders {
    fn add(&mut self, command: &mut Command) -> u32 {
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let pid = child.id();
        self.0.push(child);
        pid
    }
}

impl Drop for Bystanders {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// What the environment of a process says after this name.
fn variable(pid: u32, name: &str) -> String {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap();
    let environ = String::from_utf8_lossy(&environ).into_owned();
    let found = environ
        .split('\0')
        .find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='));
    found.unwrap().to_owned()
}

/// Who was born of us after a look began is not known to it.
#[test]
fn neighbours_that_are_born_while_it_stops() {
    let mut world = World::new();
    world.fixture("web", "stay", "");
    for n in 0..6 {
        let restart = "restart: {delay: 1ms, max_delay: 1ms}";
        world.service(&format!("again{n}"), &format!("exec: 'true'\n{restart}\n"));
    }
    world.init();
    for generation in 1..=40 {
        world.numbers("web", "pid", generation);
        let receipt = world.stop_verified("web");
        assert_eq!(receipt["foreign"], json!([]), "{receipt:#}");
        world.start("web").unwrap();
    }
    world.numbers("web", "pid", 41);
    row!(Lie, "neighbours that are born while it stops").receipt(&world.stop_verified("web"));
    world.end();
}

#[test]
fn a_neighbour_that_looks_like_the_service() {
    let (world, _) = with_service("stay", "");
    let pid = world.pid("web", "pid");
    let mut bystanders = Bystanders(Vec::new());
    let neighbour = bystanders.add(
        Command::new("sleep")
            .arg("100000")
            .env("NOUGHT_GENERATION", variable(pid, "NOUGHT_GENERATION")),
    );
    let id = look::alive(neighbour).unwrap();
    let receipt = world.stop_verified("web");
    assert!(look::is_alive(id), "it was signalled");
    row!(
        Lie,
        "a neighbour with the environment marker of the service: left alone"
    )
    .receipt(&receipt);
    drop(bystanders);
    world.end();
}

#[test]
fn its_cgroup_removed_under_it() {
    let (world, outside) = with_service("children 2", "");
    let generation = world.generations("web")[0].clone();
    world.census();
    for pid in look::members(&generation) {
        fs::write(outside.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    for dir in look::tree(&generation).iter().rev() {
        fs::remove_dir(dir).unwrap();
    }
    fs::remove_dir(generation.parent().unwrap()).unwrap();
    let receipt = world.stop("web");
    assert_verified(&receipt);
    row!(Lie, "a service is moved elsewhere and its cgroup removed")
        .receipt_that(&receipt, ASKED_OR_FOUND);
    world.start("web").unwrap();
    world.numbers("web", "up", 2);
    world.end();
}

#[test]
fn its_cgroup_renamed() {
    let (world, _) = with_service("stay", "");
    let generation = world.generations("web")[0].clone();
    let error = fs::rename(&generation, generation.with_file_name("other")).unwrap_err();
    assert!(generation.is_dir());
    let receipt = world.stop_verified("web");
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    row!(Lie, "a cgroup is renamed: the kernel refuses (EPERM)").receipt(&receipt);
    world.end();
}

/// Runs a command in the supervisor's mount namespace.
pub(super) fn in_its_mounts(world: &World, command: &[&str]) {
    let pid = world.supervisor().to_string();
    let mut nsenter = Command::new("nsenter");
    let status = nsenter
        .args(["--target", &pid, "--mount"])
        .args(command)
        .status();
    assert!(status.unwrap().success(), "{command:?}");
}

fn with_own_mounts() -> World {
    let mut world = World::new();
    world.launch.push("own-mounts".to_owned());
    world.fixture("web", "children 2", "");
    world.fixture("stubborn", "stubborn", "shutdown_timeout: 50ms");
    world.fixture("neighbour", "stay", "").init();
    for name in ["web", "stubborn", "neighbour"] {
        world.number(name, "up");
    }
    world
}

#[test]
fn cgroups_read_only_under_it() {
    let world = with_own_mounts();
    let mount = look::cgroup_mount();
    let mount = mount.to_str().unwrap();
    in_its_mounts(&world, &["mount", "-o", "remount,bind,ro", mount]);
    let receipt = world.stop("web");
    assert_eq!(receipt["verdict"], "unverified", "{receipt:#}");
    let reason = receipt["reason"].as_str().unwrap();
    assert!(reason.contains("Read-only file system"), "{reason}");
    let stubborn = world.pid("stubborn", "pid");
    let killed = world.stop("stubborn");
    assert!(look::alive(stubborn).is_none(), "{killed:#}");
    let refused = world.start("web").unwrap_err();
    assert!(
        refused.to_string().contains("Read-only file system"),
        "{refused}"
    );
    assert_eq!(world.status("neighbour")["state"], "up");
    row!(
        Lie,
        "cgroup2 becomes read-only under the supervisor: it stops, and says what it cannot prove"
    )
    .receipt(&receipt);
    in_its_mounts(&world, &["mount", "-o", "remount,bind,rw", mount]);
    world.start("web").unwrap();
    world.numbers("web", "up", 2);
    assert_verified(&world.stop("web"));
    world.signal(libc::SIGTERM);
    finish_unverified(world);
}

/// Earlier receipts were not verified, and the end says so or has proven it since.
fn finish_unverified(mut world: World) {
    let status = world.wait();
    assert!(
        matches!(status.code(), Some(0 | 71)),
        "{status} {}",
        world.log()
    );
    world.end();
}

#[test]
fn cgroups_unmounted_under_it() {
    let world = with_own_mounts();
    let mount = look::cgroup_mount();
    let mount = mount.to_str().unwrap();
    in_its_mounts(&world, &["umount", "--lazy", mount]);
    let receipt = world.stop("web");
    assert_eq!(receipt["verdict"], "unverified", "{receipt:#}");
    let reason = receipt["reason"].as_str().unwrap();
    assert!(reason.contains("no longer there"), "{reason}");
    let stubborn = world.pid("stubborn", "pid");
    let killed = world.stop("stubborn");
    assert!(look::alive(stubborn).is_none(), "{killed:#}");
    world.start("web").unwrap_err();
    assert_eq!(world.status("neighbour")["state"], "up");
    row!(
        Lie,
        "cgroup2 is unmounted under the supervisor: it stops, and says what it cannot prove"
    )
    .receipt_that(&receipt, ASKED_OR_FOUND);
    in_its_mounts(&world, &["mount", "-t", "cgroup2", "none", mount]);
    world.start("web").unwrap();
    world.signal(libc::SIGTERM);
    finish_unverified(world);
}

#[test]
fn no_cgroup_can_be_made() {
    let mut world = World::new();
    world.fixture("neighbour", "stay", "");
    world
        .fixture("web", "stay", "restart: {policy: never}")
        .init();
    world.number("web", "up");
    world.number("neighbour", "up");
    let limit = world.nought_tree().join("cgroup.max.descendants");
    world.stop_verified("web");
    fs::write(&limit, "0").unwrap();
    let refused = world.start("web").unwrap_err();
    let text = refused.to_string();
    assert!(
        text.contains("make the cgroup") && text.contains("Try again"),
        "{text}"
    );
    assert!(text.contains("cgroup.max.descendants"), "{text}");
    let receipt = world.stop_verified("neighbour");
    row!(
        Lie,
        "no cgroup can be made (cgroup.max.descendants): the start says so, others stop as ever"
    )
    .receipt(&receipt);
    fs::write(&limit, "max").unwrap();
    world.start("web").unwrap();
    world.end();
}

#[test]
fn a_service_that_limits_its_own_directory() {
    let (world, _) = with_service("deep-limit", "");
    let receipt = world.stop_verified("web");
    world.start("web").unwrap();
    world.numbers("web", "up", 2);
    world.log_with("web was limited or frozen, by the service as a rule");
    row!(
        Lie,
        "a service limits its own directory (cgroup.max.descendants): it starts again all the same"
    )
    .receipt(&receipt);
    world.stop_verified("web");
    world.end();
}

#[test]
fn a_state_directory_without_room() {
    let mut world = World::new();
    let state = world.dir.join("state");
    fs::create_dir(&state).unwrap();
    world.launch = vec![
        "own-mounts".to_owned(),
        format!("small={}", state.display()),
    ];
    world.fixture("web", "children 2", "").init();
    world.number("web", "up");
    let seen = format!("/proc/{}/root{}/fill", world.supervisor(), state.display());
    let mut fill = fs::File::create(Path::new(&seen)).unwrap();
    let mut fill = || while std::io::Write::write(&mut fill, &[0; 1024]).is_ok_and(|n| n > 0) {};
    fill();
    let receipt = world.stop("web");
    assert_verified(&receipt);
    world.log_with("No space left on device");
    // What is removed makes room.
    let records = Path::new(&seen).with_file_name("generations");
    until("its record is removed", || {
        fs::read_dir(&records)
            .unwrap()
            .next()
            .is_none()
            .then_some(())
    });
    fill();
    world.start("web").unwrap();
    world.numbers("web", "up", 2);
    world.log_with("its start is not recorded");
    assert_verified(&world.stop("web"));
    row!(
        Lie,
        "a full disk under the state directory: said, and stops are proven all the same"
    )
    .receipt(&receipt);
    world.end();
}

#[test]
fn a_state_directory_that_is_removed() {
    let (world, _) = with_service("children 2", "");
    fs::remove_dir_all(world.dir.join("state")).unwrap();
    let receipt = world.stop("web");
    assert_verified(&receipt);
    world.start("web").unwrap();
    world.numbers("web", "up", 2);
    assert_verified(&world.stop("web"));
    row!(Lie, "the state directory is removed under the supervisor").receipt(&receipt);
    world.end();
}

/// A pid namespace with a process 1 of the test's, which reaps; the supervisor is another
/// process in it, so that its pids can be given out again by hand.
pub(super) fn with_pids_of_its_own(world: &mut World) -> u32 {
    let holder = world.tool("holder", &["pid-namespace"]);
    let first = world.pid("holder", "first");
    world.wrapper = [
        "nsenter",
        "--target",
        &first.to_string(),
        "--pid",
        "--mount",
    ]
    .map(str::to_owned)
    .into();
    let _ = holder;
    first
}

pub(super) fn inside(first: u32, script: &str) -> Child {
    Command::new("nsenter")
        .args([
            "--target",
            &first.to_string(),
            "--pid",
            "--mount",
            "sh",
            "-c",
            script,
        ])
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
fn a_pid_that_is_given_out_again() {
    let mut world = World::new();
    let first = with_pids_of_its_own(&mut world);
    world.fixture("web", "stay", "").init();
    world.number("web", "up");
    let pid = world.reach("web", "up")["pid"].as_u64().unwrap();
    let own = world.supervisor();
    let service = look::children_of(own)[0];
    // The supervisor, then its service: what is on record is dead.
    look::signal(own, libc::SIGKILL);
    world.wait();
    look::signal(service, libc::SIGKILL);
    until("it is gone", || {
        look::alive(service).is_none().then_some(())
    });
    let found = world.dir.join("found");
    let script = format!(
        "for i in $(seq 200); do echo {} >/proc/sys/kernel/ns_last_pid; sleep 100000 & \
         [ $! = {pid} ] && break; kill $!; done; echo $! >{}; wait",
        pid - 1,
        found.display()
    );
    let mut imposter = inside(first, &script);
    let has = until("somebody else has the pid", || {
        fs::read_to_string(&found).ok()?.trim().parse::<u64>().ok()
    });
    assert_eq!(has, pid);
    world.init();
    world.numbers("web", "up", 2);
    assert!(imposter.try_wait().unwrap().is_none());
    let receipts = world
        .call("nought_receipt", json!({"name": "web", "last": 5}))
        .unwrap();
    let leftover = receipts["receipts"][0].clone();
    assert_eq!(leftover["cause"], "leftover", "{receipts:#}");
    assert_verified(&leftover);
    assert_eq!(leftover["killed"], Value::Array(Vec::new()), "{leftover:#}");
    row!(
        Lie,
        "the pid on a killed supervisor's record is somebody else's by now: left alone"
    )
    .receipt(&leftover);
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    world.end_tools();
    imposter.wait().unwrap();
    until("its process 1 ends", || {
        look::alive(first).is_none().then_some(())
    });
    world.end();
}

#[test]
fn a_namespace_number_that_is_given_out_again() {
    let mut world = World::alone();
    world.fixture("web", "stay", "").init();
    world.number("web", "up");
    let service = world.pid("web", "pid");
    let mark = fs::read_link(format!("/proc/{service}/ns/time")).unwrap();
    world.kill();
    look::signal(service, libc::SIGKILL);
    until("it is gone", || {
        look::alive(service).is_none().then_some(())
    });
    // An orphan of process 1's, as the service's own would be.
    let imposter = world.tool("imposter", &["take-mark", mark.to_str().unwrap()]);
    let orphan = world.pid("imposter", "orphan");
    let has = world.number("imposter", "mark").to_string();
    assert!(mark.to_str().unwrap().contains(&has));
    let id = look::alive(orphan).unwrap();
    world.init();
    world.numbers("web", "up", 2);
    assert!(look::is_alive(id), "it was killed: {}", world.log());
    let receipts = world
        .call("nought_receipt", json!({"name": "web", "last": 5}))
        .unwrap();
    let leftover = receipts["receipts"][0].clone();
    assert_eq!(
        leftover["escaped"],
        Value::Array(Vec::new()),
        "{leftover:#}"
    );
    assert!(pids(&leftover, "foreign").contains(&orphan), "{leftover:#}");
    row!(
        Lie,
        "the mark's number on a killed supervisor's record is somebody else's by now: left alone"
    )
    .receipt(&leftover);
    look::signal(orphan, libc::SIGKILL);
    until("it ends", || look::alive(orphan).is_none().then_some(()));
    world.end_tool(imposter);
    world.end();
}

fn with_abducted(fixture: &str, grace: &str) -> (World, look::ProcId) {
    let mut world = World::new();
    world.fixture("db", "stubborn", "shutdown_timeout: 50ms");
    let more = format!("after: [db]\nshutdown_timeout: {grace}");
    world.fixture("web", &format!("{fixture} db"), &more).init();
    let pid = world.pid("db", "pid");
    let id = look::alive(pid).unwrap();
    world.number("web", "up");
    let here = look::members(&world.generations("web")[0]);
    assert!(here.contains(&pid), "{here:?}");
    (world, id)
}

#[test]
fn another_service_moved_into_one() {
    let (world, theirs) = with_abducted("abduct", "300ms");
    let receipt = world.stop_verified("web");
    assert_eq!(
        pids(&receipt, "foreign"),
        [theirs.pid].into(),
        "{receipt:#}"
    );
    assert!(
        !pids(&receipt, "killed").contains(&theirs.pid),
        "{receipt:#}"
    );
    until("it is started again", || {
        (world.numbers("db", "up", 1).len() > 1).then_some(())
    });
    row!(Lie, "another service's process is moved into a service: killed with it, named, and started again")
        .receipt(&receipt);
    world.end();
}

#[test]
fn another_service_moved_in_and_out_again() {
    let (world, theirs) = with_abducted("abduct-and-return", "10s");
    let receipt = world.stop_verified("web");
    assert!(look::is_alive(theirs), "it was killed: {receipt:#}");
    assert_eq!(world.status("db")["state"], "up");
    assert_eq!(receipt["killed"], Value::Array(Vec::new()), "{receipt:#}");
    assert_eq!(receipt["escaped"], Value::Array(Vec::new()), "{receipt:#}");
    row!(
        Lie,
        "another service's process is moved into a service and out again while it stops: unharmed"
    )
    .receipt(&receipt);
    world.end();
}
