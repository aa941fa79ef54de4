//! A container engine as a service: podman with runc, which puts its containers into cgroups
//! outside the service's, below a process of their own (conmon) that outlives it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use serde_json::json;

use super::table::row;
use crate::look::{self, until};
use crate::receipt::{assert_verified, pids};
use crate::world::World;

const CONFIGURATION: &str = r#"
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
pids_limit = 0
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
runtime = "runc"
"#;

/// One that goes when it is asked, and one that does not.
const POLITE: &str = "trap \"exit 0\" TERM; setsid sleep 100000 & sleep 100000 & wait";
const STUBBORN: &str =
    "trap \"\" TERM; setsid sleep 100000 & sleep 100000 & while :; do wait; done";

/// A world in which engines find cgroup2, and a root file system for their containers.
fn with_engine() -> World {
    let mut world = World::new();
    world.launch = vec!["engine".to_owned()];
    let root = world.dir.join("rootfs");
    for dir in ["bin", "proc", "sys", "dev", "etc", "tmp", "run"] {
        fs::create_dir_all(root.join(dir)).unwrap();
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox")).expect("busybox is installed");
    for name in ["sh", "sleep", "setsid"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    fs::write(world.dir.join("containers.conf"), CONFIGURATION).unwrap();
    world
}

/// The service that runs `podman run FLAGS` of a container that runs `script`.
fn serve(world: &mut World, before: &str, flags: &str, script: &str, after: &str, more: &str) {
    let dir = world.dir.display().to_string();
    let engine = world.program(
        "engine",
        &format!(
            "#!/bin/sh\n{before} podman --root {dir}/store --runroot {dir}/runroot --tmpdir {dir}/tmp \
             --storage-driver vfs run {flags} --network=none --rootfs {dir}/rootfs sh -c '{script}'\n\
             {after}\n"
        ),
    );
    let text = format!(
        "exec: {}\nenv: {{CONTAINERS_CONF: {dir}/containers.conf}}\n{more}\n",
        engine.display()
    );
    world.service("web", &text);
}

/// Who lives in containers, whose cgroups the engine has made.
fn contained(world: &World) -> BTreeSet<u32> {
    look::members(&world.cgroup.join("libpod_parent"))
}

/// Waits until as many containers run, with the two processes that each has beside its first.
fn until_running(world: &World, containers: usize) {
    let sleeps = |pid: &u32| {
        let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
        comm.is_ok_and(|comm| comm == "sleep\n")
    };
    until("the containers run", || {
        (contained(world).iter().filter(|pid| sleeps(pid)).count() == 2 * containers).then_some(())
    });
    world.census();
}

/// Removes the cgroups that the engine leaves standing, which is possible when they are empty.
fn end(mut world: World) {
    world.census();
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    assert_eq!(contained(&world), BTreeSet::new());
    for dir in look::tree(&world.cgroup.join("libpod_parent")).iter().rev() {
        fs::remove_dir(dir).unwrap();
    }
    world.end();
}

/// The engine's cgroups of containers that stand.
fn cgroups(world: &World) -> Vec<PathBuf> {
    let all = look::tree(&world.cgroup.join("libpod_parent"));
    let is_containers = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libpod-")
    };
    all.into_iter().filter(is_containers).collect()
}

/// No conmon, no container, and no mount of theirs where the supervisor is.
fn nothing_is_left(world: &World) {
    assert_eq!(contained(world), BTreeSet::new());
    let all = world.everyone();
    assert_eq!(all.len(), 1, "more than the supervisor: {all:?}");
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", world.supervisor())).unwrap();
    let dir = world.dir.display().to_string();
    let left: Vec<_> = mounts.lines().filter(|line| line.contains(&dir)).collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn podman_with_a_container_that_goes_when_asked() {
    let mut world = with_engine();
    let exec = "exec";
    serve(&mut world, exec, "--rm", POLITE, "", "");
    world.init();
    until_running(&world, 1);
    assert!(world.generations("web").len() == 1);
    let receipt = world.stop_verified("web");
    nothing_is_left(&world);
    assert!(cgroups(&world).is_empty(), "{:?}", cgroups(&world));
    row!(
        Program,
        "podman with runc: a container that goes when asked"
    )
    .receipt_that(&receipt, "when asked");
    end(world);
}

#[test]
fn podman_with_a_container_that_has_to_be_killed() {
    let mut world = with_engine();
    let exec = "exec unshare --mount";
    serve(
        &mut world,
        exec,
        "--rm",
        STUBBORN,
        "",
        "shutdown_timeout: 500ms",
    );
    world.init();
    until_running(&world, 1);
    let receipt = world.stop_verified("web");
    nothing_is_left(&world);
    row!(
        Program,
        "podman with runc in a mount namespace of its own: a container that ignores the signal"
    )
    .receipt_that(&receipt, "killed after its grace, escapees too");
    end(world);
}

#[test]
fn podman_in_a_pid_namespace() {
    let mut world = with_engine();
    let more = "pid_namespace: true\nshutdown_timeout: 500ms";
    serve(&mut world, "exec", "--rm", STUBBORN, "", more);
    world.init();
    until_running(&world, 1);
    let receipt = world.stop_verified("web");
    nothing_is_left(&world);
    row!(
        Program,
        "podman with runc, `pid_namespace: true`: a container that ignores the signal"
    )
    .receipt_that(&receipt, "killed after its grace");
    end(world);
}

#[test]
fn podman_whose_containers_are_kept() {
    let mut world = with_engine();
    let more = "survivors: {keep: [conmon]}\nshutdown_timeout: 500ms";
    let stay = "exec sleep 100000";
    serve(&mut world, "", "--detach", STUBBORN, stay, more);
    world.init();
    until_running(&world, 1);
    let first = contained(&world);
    until("the engine's service stays", || {
        (world.status("web")["processes"].as_u64()? >= 1).then_some(())
    });
    world
        .call("nought_restart", json!({"name": "web"}))
        .unwrap();
    let receipt = world.receipt("web");
    assert_verified(&receipt);
    let kept = pids(&receipt, "kept");
    assert!(kept.is_superset(&first), "{kept:?} {first:?} {receipt:#}");
    until_running(&world, 2);
    assert!(contained(&world).is_superset(&first));
    row!(
        Program,
        "podman restarted with `survivors: {keep: [conmon]}`: its container lives on, and ends with the supervisor"
    )
    .receipt_that(&receipt, "asked, or killed after its grace");
    end(world);
}
