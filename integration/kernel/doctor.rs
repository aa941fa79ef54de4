//! `nought doctor`, and starts that ask for a guarantee.

use std::process::Output;

use serde_json::{Value, json};

use crate::look::{self, until};
use crate::receipt::assert_verified;
use crate::world::World;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn examine(world: &World, args: &[&str]) -> (Output, Value) {
    let words = [&["doctor", "--json"], args].concat();
    let output = world
        .in_place(&words)
        .arg("-s")
        .arg(world.socket())
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert_eq!(said.lines().count(), 1, "{said}{}", text(&output.stderr));
    let value = serde_json::from_str(&said).unwrap();
    (output, value)
}

fn in_place(words: &[&str]) -> World {
    let mut world = World::new();
    world.launch = words.iter().map(|word| (*word).to_owned()).collect();
    world
}

/// What it finds, and the advice, here.
fn finds(world: &World, place: &str, guarantee: &str, words: &[&str], advice: &str) {
    let (output, found) = examine(world, &["--place", place]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(found["guarantee"], guarantee, "{found:#}");
    let findings = found["findings"].to_string();
    for word in words.iter().chain(&[advice]) {
        assert!(findings.contains(word), "{found:#} should say {word:?}");
    }
    let plain = world
        .in_place(&["doctor", "--place", place])
        .output()
        .unwrap();
    let plain = text(&plain.stdout);
    assert!(
        plain.contains(&format!("guarantee here: {guarantee}")),
        "{plain}"
    );
    assert!(
        plain.contains("to change that: ") && plain.contains(advice),
        "{plain}"
    );
}

#[test]
fn where_nothing_is_missing_it_says_so_and_leaves_no_trace() {
    let mut world = World::new();
    let (output, found) = examine(&world, &["--min-guarantee", "cgroup-kill marked"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(found["guarantee"], "cgroup-kill marked");
    assert_eq!(
        (&found["findings"], &found["best_verdict"]),
        (&json!([]), &json!("verified"))
    );
    assert_eq!(found["running"], Value::Null);
    assert_eq!(
        look::tree(&world.cgroup).len(),
        1,
        "{:?}",
        look::tree(&world.cgroup)
    );
    let plain = world
        .in_place(&["doctor", "--place", "host"])
        .arg("-s")
        .arg(world.socket())
        .output()
        .unwrap();
    let said = format!(
        "guarantee here: cgroup-kill marked (in a host)\n  the best verdict of a stop: verified\n  \
         our cgroup: {}\n  nothing is missing\n",
        world.cgroup.display()
    );
    assert_eq!(
        (
            text(&plain.stdout),
            text(&plain.stderr),
            plain.status.code()
        ),
        (said, String::new(), Some(0))
    );
    // Beside a supervisor that runs it says what that one has.
    world.fixture("web", "stay", "").init();
    world.number("web", "up");
    assert_eq!(examine(&world, &[]).1["running"], "cgroup-kill marked");
    world.end();
}

#[test]
fn it_says_what_is_missing_and_what_to_change() {
    let mount = look::cgroup_mount();
    let read_only = format!("cgroup-read-only={}", mount.display());
    let no_cgroup = format!("no-cgroup={}", mount.display());
    let none = "zero=/proc/sys/user/max_time_namespaces";
    let (read_only, no_cgroup) = (&[read_only.as_str()][..], &[no_cgroup.as_str()][..]);
    let unmarked = &["no-capability=21"][..];
    let cases: [(&[&str], &str, &str, &str, &str); 8] = [
        (
            read_only,
            "container",
            "subreaper marked",
            "Read-only file system",
            "--privileged",
        ),
        (
            read_only,
            "pod",
            "subreaper marked",
            "Read-only file system",
            "privileged: true",
        ),
        (
            no_cgroup,
            "host",
            "subreaper marked",
            "no cgroup2 file system is mounted",
            "mount -t cgroup2",
        ),
        (
            unmarked,
            "host",
            "cgroup-kill descent",
            "CAP_SYS_ADMIN",
            "run it as root",
        ),
        (
            unmarked,
            "container",
            "cgroup-kill descent",
            "CAP_SYS_ADMIN",
            "--cap-add SYS_ADMIN",
        ),
        (
            unmarked,
            "pod",
            "cgroup-kill descent",
            "CAP_SYS_ADMIN",
            "add: [SYS_ADMIN]",
        ),
        (
            &["user-namespace", none],
            "host",
            "cgroup-kill descent",
            "no time namespace may be made",
            "max_time_namespaces",
        ),
        (
            &["user=64905"],
            "host",
            "subreaper descent",
            "Permission denied",
            "Delegate=yes",
        ),
    ];
    for (launch, place, guarantee, word, advice) in cases {
        let world = in_place(launch);
        finds(&world, place, guarantee, &[word], advice);
        world.end();
    }
}

#[test]
fn it_knows_a_pod_by_its_environment() {
    let world = World::new();
    let mut doctor = world.in_place(&["doctor"]);
    let output = doctor
        .env("KUBERNETES_SERVICE_HOST", "10.0.0.1")
        .output()
        .unwrap();
    assert!(
        text(&output.stdout).contains("in a Kubernetes pod"),
        "{output:?}"
    );
    world.end();
}

#[test]
fn a_guarantee_that_is_asked_for_is_held_or_nothing_starts() {
    let read_only = format!("cgroup-read-only={}", look::cgroup_mount().display());
    let mut world = in_place(&[&read_only]);
    world.fixture("web", "stay", "");
    let init = |level: &str| {
        let mut init = world.launcher(&["init"]);
        init.args(["--min-guarantee", level]).output().unwrap()
    };
    let refused = init("cgroup-kill");
    let says = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(1), "{says}");
    for word in [
        "--min-guarantee",
        "subreaper marked",
        "Read-only file system",
        "nought doctor",
    ] {
        assert!(says.contains(word), "{says} should say {word:?}");
    }
    assert!(!world.socket().exists());
    assert!(world.said("web").is_empty(), "it was started");
    assert_eq!(init("cgroups").status.code(), Some(2));
    let (output, _) = examine(&world, &["--min-guarantee", "cgroup-kill,marked"]);
    assert_eq!(output.status.code(), Some(1));
    world.flags = ["--min-guarantee", "subreaper,descent"]
        .map(str::to_owned)
        .into();
    world.init();
    world.number("web", "up");
    world.end();
}

#[test]
fn cleaning_ends_what_a_killed_supervisor_left_and_starts_nothing() {
    let mut world = World::new();
    let outside = world.foreign_cgroup();
    world.fixture("web", "children 3", "");
    world
        .fixture("sly", &format!("escape {}", outside.display()), "")
        .init();
    world.number("web", "up");
    let escapee = world.pid("sly", "wiped");
    let clean = |world: &World| {
        let mut clean = world.in_place(&["doctor", "--clean", "--state-dir"]);
        clean.arg(world.dir.join("state")).output().unwrap()
    };
    // While it lives, nothing is touched.
    let done = clean(&world);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(
        text(&done.stdout).contains("its supervisor lives"),
        "{done:?}"
    );
    assert_eq!(world.status("web")["state"], "up");
    world.kill();
    assert!(look::alive(escapee).is_some());
    let done = clean(&world);
    let says = text(&done.stdout) + &text(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{says}");
    assert!(says.contains("verified: 2 start(s) were left"), "{says}");
    assert!(look::alive(escapee).is_none(), "{says}");
    assert_eq!(world.numbers("web", "up", 1).len(), 1, "nothing is started");
    let done = clean(&world);
    assert!(text(&done.stdout).contains("nothing was left"), "{done:?}");
    std::fs::remove_file(world.socket()).unwrap();
    world.assert_nothing_left();
    // Its receipts are there for the next supervisor to show.
    world.init();
    world.numbers("web", "up", 2);
    let receipts = world
        .call("nought_receipt", json!({"name": "web", "last": 3}))
        .unwrap();
    assert_eq!(receipts["receipts"][0]["cause"], "leftover", "{receipts:#}");
    world.end();
}

#[test]
fn cleaning_refuses_a_directory_of_others() {
    let world = World::new();
    let dir = world.dir.join("others");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("file"), "theirs").unwrap();
    let mut clean = world.in_place(&["doctor", "--clean", "--state-dir"]);
    let done = clean.arg(&dir).output().unwrap();
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let says = text(&done.stderr);
    assert!(says.contains("is no state directory"), "{says}");
    let entries = std::fs::read_dir(&dir).unwrap().flatten();
    let names: Vec<_> = entries.map(|entry| entry.file_name()).collect();
    assert_eq!(names, ["file"]);
    world.end();
}

#[test]
fn cleaning_says_what_lingers() {
    let mut world = World::new();
    world
        .fixture("web", "stay", "shutdown_timeout: 50ms\nkill_timeout: 500ms")
        .init();
    world.number("web", "up");
    let pid = world.pid("web", "pid");
    let tracer = world.tool("tracer", &["trace", &pid.to_string()]);
    world.number("tracer", "tracing");
    world.kill();
    let mut clean = world.in_place(&["doctor", "--clean", "--deadline", "3s", "--state-dir"]);
    let done = clean.arg(world.dir.join("state")).output().unwrap();
    let says = text(&done.stdout) + &text(&done.stderr);
    assert_eq!(done.status.code(), Some(3), "{says}");
    assert!(says.contains(&format!("survivor {pid}")), "{says}");
    assert!(says.contains(&format!("traced by {tracer}")), "{says}");
    world.end_tool(tracer);
    until("it ends", || look::alive(pid).is_none().then_some(()));
    let mut clean = world.in_place(&["doctor", "--clean", "--state-dir"]);
    let done = clean.arg(world.dir.join("state")).output().unwrap();
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    std::fs::remove_file(world.socket()).unwrap();
    world.end();
}

#[test]
fn the_history_of_receipts_is_bounded_and_outlives_the_supervisor() {
    let mut world = World::new();
    world
        .fixture("web", "exit 0", "restart: {policy: never}")
        .init();
    world.reach("web", "done");
    for _ in 0..19 {
        world.start("web").unwrap();
        until("it is done", || {
            (world.status("web")["state"] == "done").then_some(())
        });
    }
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0));
    world.fixture("web", "stay", "");
    world.init();
    world.reach("web", "up");
    let receipts = world
        .call("nought_receipt", json!({"name": "web", "last": 100}))
        .unwrap();
    let receipts = receipts["receipts"].as_array().unwrap().clone();
    assert_eq!(receipts.len(), 16);
    receipts.iter().for_each(assert_verified);
    let generations: Vec<u64> = receipts
        .iter()
        .map(|receipt| receipt["generation"].as_u64().unwrap())
        .collect();
    assert!(
        generations.windows(2).all(|pair| pair[0] < pair[1]),
        "{generations:?}"
    );
    world.stop_verified("web");
    assert!(
        world.receipt("web")["generation"].as_u64() > generations.last().copied(),
        "numbers go on"
    );
    world.end();
}
