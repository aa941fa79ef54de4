//! Numbers that are given out again while the supervisor still knows them as somebody else's.

use std::fs;
use std::process::Child;

use serde_json::{Value, json};

use super::lie::{inside, with_pids_of_its_own};
use super::table::row;
use crate::look::{self, until};
use crate::machine::own_pids;
use crate::receipt::assert_verified;
use crate::world::World;

/// Who has this number in the supervisor's pid namespace, as numbered here.
fn outside(world: &World, number: u32) -> u32 {
    let namespace = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let theirs = namespace(world.supervisor());
    let has = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let last = line.and_then(|line| line.split_whitespace().last());
        last == Some(&number.to_string()) && namespace(*pid) == theirs
    };
    until("somebody has the number", || {
        look::pids().into_iter().find(|pid| has(pid))
    })
}

fn number_in(world: &World, file: &str) -> u32 {
    until(&format!("there is a number in {file}"), || {
        let text = fs::read_to_string(world.dir.join(file)).ok()?;
        text.trim().parse().ok()
    })
}

/// Runs this command under that number.
fn imposter(world: &World, first: u32, number: u32, command: &str) -> Child {
    let found = world.dir.join("found");
    let script = format!(
        "for i in $(seq 500); do echo {} >/proc/sys/kernel/ns_last_pid; {command} & \
         [ $! = {number} ] && break; kill $!; done; echo $! >{}; wait",
        number - 1,
        found.display()
    );
    let child = inside(first, &script);
    assert_eq!(number_in(world, "found"), number);
    child
}

fn kept(receipt: &Value) -> Vec<u32> {
    let kept = receipt["kept"].as_array().unwrap().iter();
    kept.map(|process| u32::try_from(process["pid"].as_u64().unwrap()).unwrap())
        .collect()
}

#[test]
fn a_kept_number_that_is_given_out_again() {
    let mut world = World::new();
    let first = with_pids_of_its_own(&mut world);
    let session = world.dir.join("my-session");
    fs::copy("/bin/sleep", &session).unwrap();
    let session = format!("{} 100000", session.display());
    world.service(
        "web",
        &format!(
            "exec: [sh, -c, 'setsid {session} & exec sleep 1000']\n\
             survivors: {{keep: [my-session]}}\n"
        ),
    );
    world.init();
    world.reach("web", "up");
    // By its name: the words of the command line are its shell's, too.
    let main = world.generations("web")[0].join("main");
    let comm = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    until("the session is there", || {
        let members = look::members(&main);
        members
            .iter()
            .any(|pid| comm(pid) == "my-session\n")
            .then_some(())
    });
    world
        .call("nought_restart", json!({"name": "web"}))
        .unwrap();
    let receipt = world.receipt("web");
    assert_verified(&receipt);
    let [number] = kept(&receipt)[..] else {
        panic!("{receipt:#}");
    };
    // It ends by itself, and its number is that of another who looks like it.
    look::signal(outside(&world, number), libc::SIGKILL);
    let mut stranger = imposter(&world, first, number, &session);
    let theirs = look::alive(outside(&world, number)).unwrap();
    let receipt = world.stop("web");
    assert_verified(&receipt);
    assert!(!kept(&receipt).contains(&number), "{receipt:#}");
    row!(
        Lie,
        "the number of somebody kept is somebody else's by now: left alone, also in the end"
    )
    .receipt(&receipt);
    world.census();
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    assert!(look::is_alive(theirs), "it was killed: {}", world.log());
    world.end_tools();
    stranger.wait().unwrap();
    until("its process 1 ends", || {
        look::alive(first).is_none().then_some(())
    });
    world.end();
}

/// A main process has gone, and what it left is in sessions of its own; another service's process
/// gets its number, leads a session under it, and leaves an orphan in that.
#[test]
fn a_session_number_that_is_given_out_again() {
    let mut world = World::new();
    world.launch = vec![format!("no-cgroup={}", look::cgroup_mount().display())];
    // As an ordinary container runs it: process 1, no cgroup, no mark.
    world.wrapper = own_pids(&[
        "setpriv",
        "--bounding-set=-sys_admin",
        "--inh-caps=-sys_admin",
    ]);
    world.flags = vec!["--container".to_owned()];
    let dir = world.dir.display().to_string();
    let gone = world.program(
        "gone",
        &format!("#!/bin/sh\necho $$ >{dir}/main\nsetsid sh -c 'sleep 100000 &'\n"),
    );
    let leader = world.program(
        "leader",
        &format!(
            "#!/bin/sh\n[ $$ = $(cat {dir}/main) ] || exit 0\nsleep 100000 &\n\
             echo $! >{dir}/child\n"
        ),
    );
    let other = world.program(
        "other",
        &format!(
            "#!/bin/sh\nuntil [ -e {dir}/go ]; do sleep 0.02; done\n\
             for i in $(seq 500); do\n\
             echo $(($(cat {dir}/main) - 1)) >/proc/sys/kernel/ns_last_pid\n\
             setsid {}\n[ -s {dir}/child ] && break\ndone\nexec sleep 100000\n",
            leader.display()
        ),
    );
    let text = format!("exec: {}\noneshot: true\nremain: true\n", gone.display());
    world.service("gone", &text);
    world.service("other", &format!("exec: {}\n", other.display()));
    world.init();
    world.reach("gone", "up");
    world.reach("other", "up");
    fs::write(world.dir.join("go"), "").unwrap();
    let orphan = outside(&world, number_in(&world, "child"));
    until("it is an orphan", || {
        (look::parent(orphan)? == world.supervisor()).then_some(())
    });
    let id = look::alive(orphan).unwrap();
    let receipt = world.stop("gone");
    assert!(look::is_alive(id), "it was killed: {receipt:#}");
    assert_verified(&receipt);
    row!(
        Lie,
        "the number of a main process that has gone leads another service's session by now: its \
         orphan is left alone"
    )
    .receipt(&receipt);
    world.stop("other");
    assert!(!look::is_alive(id), "{}", world.log());
    world.end();
}
