//! What still runs when the command has ended: named, ended, proven gone.

use std::process::{Command, Stdio};
use std::time::Duration;

use super::{code, is_executed, number_in, output, report, stderr, stdout, timed, trees};
use crate::look;
use crate::world::World;

/// A process in a session of its own that holds the output, as a stray server does.
const STRAY: &str = "setsid sh -c 'echo $$ >stray; exec sleep 1000' & \
                     while ! test -s stray; do sleep 0.01; done; \
                     until grep -qx sleep /proc/$(cat stray)/comm; do sleep 0.01; done";

#[test]
fn a_stray_is_named_ended_and_reported_and_holds_nobody_up() {
    let world = World::new();
    // `output` waits for the end of both pipes, which the stray holds.
    let (took, ran) = timed(|| output(&world, &["--report", "r.json", "--", "sh", "-c", STRAY]));
    let stray = number_in(&world.dir.join("stray"));
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert!(look::alive(stray).is_none());
    assert_eq!(code(&ran), Some(0));
    let said = stderr(&ran);
    assert!(
        said.contains("1 process still ran when the command had ended (exit code 0)"),
        "{said}"
    );
    assert!(said.contains("it was ended, nothing is left"), "{said}");
    assert!(said.contains(&format!("  {stray} sleep 1000\n")), "{said}");
    assert!(
        said.contains("a session of its own (setsid), its parent has ended"),
        "{said}"
    );
    assert!(said.contains("holds   our output"), "{said}");
    let report = report(&world.dir.join("r.json"));
    let leak = &report["leaks"][0];
    assert_eq!(leak["pid"], stray);
    assert_eq!(leak["holds_our_output"], true);
    assert!(
        leak["cgroup"].as_str().unwrap().ends_with("/job"),
        "{leak:#}"
    );
    assert!(leak["age_ms"].as_f64().unwrap() > 0.0);
    world.end();
}

#[test]
fn what_leaks_mean_is_the_callers_to_say() {
    let world = World::new();
    for (words, exit, expected, silent) in [
        (&["--leaks=warn"][..], 0, 0, false),
        (&["--leaks=warn", "--quiet"], 0, 0, true),
        (&["--leaks=allow"], 0, 0, true),
        (&["--leaks=fail"], 0, 120, false),
        (&["--leaks=fail", "--quiet"], 0, 120, false),
        // Its own failure is the better news.
        (&["--leaks=fail"], 4, 4, false),
    ] {
        let script = format!("sleep 1000 & exit {exit}");
        let words = [words, &["--", "sh", "-c", &script]].concat();
        let ran = output(&world, &words);
        assert_eq!(code(&ran), Some(expected), "{words:?}: {}", stderr(&ran));
        assert_eq!(
            stderr(&ran).is_empty(),
            silent,
            "{words:?}: {}",
            stderr(&ran)
        );
    }
    world.end();
}

#[test]
fn a_port_and_a_file_are_named_and_free_again() {
    let world = World::new();
    let port = look::free_port();
    let server = world.command("server", &format!("listen {port}"));
    let script = format!("{server} 9>>held & while ! grep -q up server.said; do sleep 0.01; done");
    let ran = output(&world, &["--", "sh", "-c", &script]);
    let said = stderr(&ran);
    assert!(said.contains(&format!("tcp 127.0.0.1:{port}")), "{said}");
    assert!(
        said.contains(&format!("{}/held", world.dir.display())),
        "{said}"
    );
    drop(std::net::TcpListener::bind(("127.0.0.1", port)).unwrap());
    world.end();
}

#[test]
fn an_escapee_is_found_named_and_ended() {
    let world = World::new();
    let outside = world.foreign_cgroup();
    let escape = world.command("sly", &format!("escape {}", outside.display()));
    let script = format!("{escape} & while ! grep -q wiped sly.said; do sleep 0.01; done");
    let ran = output(&world, &["--report", "r.json", "--", "sh", "-c", &script]);
    let escapee = world.pid("sly", "wiped");
    assert!(look::alive(escapee).is_none(), "{}", stderr(&ran));
    let report = report(&world.dir.join("r.json"));
    assert_eq!(report["verdict"], "verified", "{report:#}");
    assert_eq!(
        report["receipt"]["escaped"][0]["pid"], escapee,
        "{report:#}"
    );
    let leaks = report["leaks"].as_array().unwrap();
    let leak = leaks.iter().find(|leak| leak["pid"] == escapee).unwrap();
    assert_eq!(leak["left"][0], "left the cgroup", "{leak:#}");
    assert!(leak["argv"].to_string().contains("wiped"), "{leak:#}");
    world.end();
}

#[test]
fn whoever_is_to_be_kept_lives_on_with_what_is_below() {
    let world = World::new();
    let script = "setsid sh -c 'echo $$ >daemon; sleep 1001 & echo $! >below; wait' >/dev/null 2>&1 & \
                  sleep 1002 >/dev/null 2>&1 & echo $! >other; \
                  while ! test -s below; do sleep 0.01; done";
    let words = [
        "--keep",
        "sh -c echo *daemon*",
        "--leaks=fail",
        "--report",
        "r.json",
    ];
    let ran = output(&world, &[&words[..], &["--", "sh", "-c", script]].concat());
    let [daemon, below, other] =
        ["daemon", "below", "other"].map(|name| number_in(&world.dir.join(name)));
    let report = report(&world.dir.join("r.json"));
    let pids = |field: &str| -> Vec<u64> {
        let all = report[field].as_array().unwrap().iter();
        all.map(|process| process["pid"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(code(&ran), Some(120), "{}", stderr(&ran));
    assert_eq!(pids("leaks"), [u64::from(other)], "{report:#}");
    assert_eq!(pids("kept"), [daemon, below].map(u64::from), "{report:#}");
    assert_eq!(report["verdict"], "verified", "{report:#}");
    assert!(look::alive(other).is_none());
    for pid in [daemon, below] {
        assert!(look::alive(pid).is_some(), "{pid} was to be kept");
        let cgroup = look::cgroup_of(pid).unwrap();
        assert!(
            world.cgroup.ends_with(cgroup.trim_start_matches('/')),
            "{cgroup}"
        );
        look::signal(pid, libc::SIGKILL);
        look::until("it ends", || look::alive(pid).is_none().then_some(()));
    }
    assert!(trees(&world).is_empty());
    world.end();
}

#[test]
fn what_ends_by_itself_in_a_moment_is_no_leak() {
    let world = World::new();
    // bash does not wait for the process behind `>(…)`, which has yet to write all this.
    let script = "exec > >(sleep 0.03; cat); for i in $(seq 2000); do echo line $i; done";
    for _ in 0..5 {
        let ran = output(&world, &["--settle", "10s", "--", "bash", "-c", script]);
        assert_eq!(stderr(&ran), "");
        assert_eq!(stdout(&ran).lines().count(), 2000);
    }
    // Without it they are killed at once.
    let (took, ran) = timed(|| {
        output(
            &world,
            &[
                "--settle",
                "0",
                "--",
                "sh",
                "-c",
                "sleep 1000 & sleep 1000 &",
            ],
        )
    });
    assert!(
        stderr(&ran).contains("2 processes still ran"),
        "{}",
        stderr(&ran)
    );
    assert!(took < Duration::from_secs(20));
    world.end();
}

#[test]
fn what_is_left_may_be_asked_first() {
    let world = World::new();
    let script = "sh -c 'trap \"echo asked; exit\" TERM; echo >ready; \
                  while :; do sleep 0.01; done' & while ! test -e ready; do sleep 0.01; done";
    let words = [
        "--leak-grace",
        "20s",
        "--leaks=allow",
        "--",
        "sh",
        "-c",
        script,
    ];
    let ran = output(&world, &words);
    assert_eq!(stdout(&ran), "asked\n", "{}", stderr(&ran));
    world.end();
}

#[test]
fn nothing_escapes_by_forking_faster() {
    let world = World::alone();
    let relay = world.command("relay", "relay 2");
    let script = format!("{relay} & while ! test -s relay.said; do sleep 0.01; done");
    let ran = output(&world, &["--report", "r.json", "--", "sh", "-c", &script]);
    assert_eq!(code(&ran), Some(0), "{}", stderr(&ran));
    assert_eq!(report(&world.dir.join("r.json"))["verdict"], "verified");
    world.end();
}

#[test]
fn a_survivor_of_everything_is_named_and_said_by_the_exit_code() {
    let mut world = World::new();
    // To files: it holds what it was given for as long as it lives.
    let file = |name: &str| std::fs::File::create(world.dir.join(name)).unwrap();
    let script = "sleep 1000 & echo $! >survivor; read x";
    let mut run = world
        .job(&["--kill-timeout", "300ms", "--", "sh", "-c", script])
        .stdin(Stdio::piped())
        .stdout(file("out"))
        .stderr(file("err"))
        .spawn()
        .unwrap();
    let survivor = number_in(&world.dir.join("survivor"));
    world.note(survivor);
    let tracer = world.tool("tracer", &["trace", &survivor.to_string()]);
    world.pid("tracer", "tracing");
    drop(run.stdin.take());
    let status = run.wait().unwrap();
    let said = std::fs::read_to_string(world.dir.join("err")).unwrap();
    assert_eq!(status.code(), Some(121), "{said}");
    assert!(said.contains("1 process survived everything"), "{said}");
    assert!(said.contains(&format!("traced by {tracer}")), "{said}");
    world.end_tool(tracer);
    look::until("it ends", || look::alive(survivor).is_none().then_some(()));
    // What it left is found by the next run here.
    let ran = output(&world, &["--", "true"]);
    assert_eq!(code(&ran), Some(0), "{}", stderr(&ran));
    assert!(trees(&world).is_empty());
    world.end();
}

#[test]
fn tee_and_command_substitution_see_the_end_at_once() {
    let world = World::new();
    let run = format!("{} run -q", env!("CARGO_BIN_EXE_nought"));
    let script = format!(
        "{run} -- sh -c 'setsid sleep 1000 & echo said' | tee copy; \
         got=$({run} -- sh -c 'setsid sleep 1000 & echo more'); echo \"$got\""
    );
    let mut shell = Command::new("bash");
    let shell = shell.args(["-c", &script]).current_dir(&world.dir);
    let (took, ran) = timed(|| shell.output().unwrap());
    assert_eq!(stdout(&ran), "said\nmore\n", "{}", stderr(&ran));
    assert!(took < Duration::from_secs(20), "{took:?}");
    world.end();
}

#[test]
fn a_test_suite_that_forgets_its_server_is_caught() {
    let world = World::new();
    let suite = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ci/test-suite");
    let ran = output(&world, &["--leaks=fail", "--junit", "r.xml", "--", suite]);
    let (out, said) = (stdout(&ran), stderr(&ran));
    assert_eq!(code(&ran), Some(120), "{out}{said}");
    let port: u16 = out.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(out, format!("3 passed, 0 failed, on port {port}\n"));
    assert!(
        said.contains("1 process still ran when the command had ended"),
        "{said}"
    );
    assert!(said.contains(&format!("tcp 127.0.0.1:{port}")), "{said}");
    assert!(said.contains("perl -MIO::Socket::INET"), "{said}");
    assert!(
        std::net::TcpStream::connect(("127.0.0.1", port)).is_err(),
        "it is gone"
    );
    let xml = std::fs::read_to_string(world.dir.join("r.xml")).unwrap();
    assert!(
        xml.contains("<failure message=\"1 process(es) still ran\"/>"),
        "{xml}"
    );
    world.end();
}

#[test]
fn all_are_counted_and_the_first_are_described() {
    let world = World::alone();
    let all = "i=0; while [ $i -lt 300 ]; do sleep 1000 & i=$((i+1)); done";
    let script = format!("{all}; {}", is_executed("sleep"));
    let ran = output(&world, &["--report", "r.json", "--", "sh", "-c", &script]);
    let said = stderr(&ran);
    assert!(said.contains("300 processes still ran"), "{said}");
    assert!(said.ends_with("  and 44 more\n"), "{said}");
    let report = report(&world.dir.join("r.json"));
    let leaks = report["leaks"].as_array().unwrap();
    assert_eq!(leaks.len(), 300);
    assert_eq!(leaks[299]["argv"][0], "[sleep]");
    world.end();
}
