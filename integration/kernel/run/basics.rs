//! Exit codes, what the command is given, and what is written about it.

use std::io::Write as _;
use std::process::Stdio;

use super::{code, is_executed, output, report, stderr, stdout, trees};
use crate::world::World;

#[test]
fn the_exit_code_is_the_commands_or_says_what_went_wrong() {
    let world = World::new();
    let directory = world.dir.join("no-such-directory");
    let directory = directory.to_str().unwrap();
    for (words, expected, says) in [
        (&["--", "true"][..], 0, ""),
        (&["--", "sh", "-c", "exit 7"], 7, ""),
        (&["--", "sh", "-c", "kill -TERM $$"], 143, ""),
        (&["--", "sh", "-c", "kill -KILL $$"], 137, ""),
        (
            &["--", "no-such-command"],
            127,
            "failed to execute no-such-command: No such file",
        ),
        (
            &["--", "/etc/passwd"],
            126,
            "failed to execute /etc/passwd: Permission denied",
        ),
        (
            &["--dir", directory, "--", "true"],
            125,
            "failed to change to its working directory",
        ),
        (
            &["--min-guarantee", "perfect", "--", "true"],
            125,
            "`perfect` is no guarantee",
        ),
        (
            &["--forward", "NONE", "--", "true"],
            125,
            "there is no signal `NONE`",
        ),
        (
            &["--timeout", "1 parsec", "--", "true"],
            125,
            "invalid value",
        ),
        (&["--"], 125, "required"),
    ] {
        let ran = output(&world, words);
        assert_eq!(code(&ran), Some(expected), "{words:?}: {}", stderr(&ran));
        assert!(stderr(&ran).contains(says), "{words:?}: {}", stderr(&ran));
        assert_eq!(stderr(&ran).is_empty(), says.is_empty(), "{}", stderr(&ran));
        assert!(trees(&world).is_empty(), "{words:?}");
    }
    world.end();
}

#[test]
fn the_command_gets_our_descriptors_environment_and_directory_as_they_are() {
    let world = World::new();
    std::fs::create_dir(world.dir.join("below")).unwrap();
    let script = "cat; echo err >&2; echo five >&5; pwd; echo \"$A-$B-${C-unset}\"; \
                  ulimit -n; cut -d' ' -f5-6 /proc/$$/stat";
    let mut job = world.job(&[
        "-C", "below", "-e", "A=1=2", "-e", "C", "--", "sh", "-c", script,
    ]);
    let fifth = std::fs::File::create(world.dir.join("fifth")).unwrap();
    let raw = std::os::fd::AsRawFd::as_raw_fd(&fifth);
    let mut child = {
        use std::os::unix::process::CommandExt as _;
        let job = job.env("B", "two").env("C", "three");
        let job = job
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // SAFETY: dup2 in the child, between fork and exec.
        unsafe {
            job.pre_exec(move || {
                // Onto itself, dup2 leaves the flag that closes it.
                assert_eq!(if raw == 5 { 5 } else { libc::dup2(raw, 5) }, 5);
                assert_eq!(libc::fcntl(5, libc::F_SETFD, 0), 0);
                Ok(())
            });
        }
        job.spawn().unwrap()
    };
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"from outside\n")
        .unwrap();
    let ran = child.wait_with_output().unwrap();
    assert_eq!(code(&ran), Some(0), "{}", stderr(&ran));
    let out = stdout(&ran);
    let lines: Vec<&str> = out.lines().collect();
    let below = world.dir.join("below").canonicalize().unwrap();
    assert_eq!(
        lines[..3],
        ["from outside", below.to_str().unwrap(), "1=2-two-unset"]
    );
    assert_eq!(stderr(&ran), "err\n");
    assert_eq!(
        std::fs::read_to_string(world.dir.join("fifth")).unwrap(),
        "five\n"
    );
    world.end();
}

#[test]
fn signals_that_were_ignored_stay_ignored_and_no_other_is() {
    let mut world = World::new();
    world.launch = vec!["ignore-signals".to_owned(), "block-signals".to_owned()];
    let ran = output(
        &world,
        &["--", "grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"],
    );
    // HUP and USR1; PIPE is Rust's own to ignore, so it is reset.
    assert_eq!(
        stdout(&ran),
        "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000201\n"
    );
    world.end();
}

#[test]
fn a_report_and_a_junit_file_tell_how_it_ended() {
    let world = World::new();
    let (json, xml) = (world.dir.join("r.json"), world.dir.join("r.xml"));
    let (json_path, xml_path) = (json.to_str().unwrap(), xml.to_str().unwrap());
    let script = format!("sleep 1000 & {}; exit 3", is_executed("sleep"));
    let words = [
        "--report", json_path, "--junit", xml_path, "--", "sh", "-c", &script,
    ];
    let ran = output(&world, &words);
    assert_eq!(code(&ran), Some(3));
    let report = report(&json);
    assert_eq!(report["exit_code"], 3, "{report:#}");
    assert_eq!(report["exit"]["code"], 3);
    assert_eq!(report["ended_by"], "itself");
    assert_eq!(report["verdict"], "verified");
    assert_eq!(report["guarantee"]["containment"], "cgroup-kill");
    assert_eq!(report["guarantee"]["scan"], "marked");
    assert_eq!(report["leaks"].as_array().unwrap().len(), 1);
    assert_eq!(
        report["leaks"][0]["argv"],
        serde_json::json!(["sleep", "1000"])
    );
    assert_eq!(report["receipt"]["cause"], "ended");
    assert!(report["total_ms"].as_f64().unwrap() >= report["command_ms"].as_f64().unwrap());
    assert!(report["cpu_ms"].as_f64().unwrap() > 0.0, "{report:#}");
    let xml = std::fs::read_to_string(&xml).unwrap();
    assert!(xml.contains("<failure message=\"exit code 3\"/>"), "{xml}");
    assert!(xml.contains("name=\"nothing is left behind\""), "{xml}");
    assert!(xml.contains("sleep 1000"), "{xml}");
    world.end();
}

#[test]
fn a_report_that_cannot_be_written_starts_nothing() {
    let world = World::new();
    let fifo = world.dir.join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // A pipe without a reader would hold us up at the end.
    for path in ["/no/such/place", "fifo"] {
        for option in ["--report", "--junit"] {
            let ran = output(&world, &[option, path, "--", "touch", "started"]);
            assert_eq!(code(&ran), Some(125));
            assert!(stderr(&ran).contains(path), "{}", stderr(&ran));
        }
    }
    assert!(!world.dir.join("started").exists());
    // One that goes away meanwhile is a failure of ours, and no other code's.
    for (script, expected) in [("rm -r gone", 125), ("rm -r gone; exit 1", 1)] {
        std::fs::create_dir(world.dir.join("gone")).unwrap();
        let words = ["--report", "gone/r.json", "--", "sh", "-c", script];
        let ran = output(&world, &words);
        assert_eq!(code(&ran), Some(expected), "{}", stderr(&ran));
        assert!(stderr(&ran).contains("gone/r.json"), "{}", stderr(&ran));
    }
    // A pipe that is read is as good as a file.
    let words = "run -q --report >(cat >copy) -- true; while ! test -s copy; do sleep 0.01; done";
    let script = format!("{} {words}", env!("CARGO_BIN_EXE_nought"));
    let mut shell = std::process::Command::new("bash");
    let shell = shell.args(["-c", &script]).current_dir(&world.dir);
    assert_eq!(code(&shell.output().unwrap()), Some(0));
    assert_eq!(report(&world.dir.join("copy"))["exit_code"], 0);
    world.end();
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_starts() {
    let world = World::new();
    for (words, expected, said) in [
        (
            &["--forward", "KILL"][..],
            125,
            "SIGKILL cannot be forwarded",
        ),
        (&["--forward", "STOP"], 125, "SIGSTOP cannot be forwarded"),
        (&["-e", ""], 125, "names no variable"),
        (&["-e", "=x"], 125, "`--env =x` names no variable"),
        (&["--user", "4242"], 125, "--user USER:GROUP"),
    ] {
        let ran = output(&world, &[words, &["--", "touch", "started"]].concat());
        assert_eq!(code(&ran), Some(expected), "{words:?}: {}", stderr(&ran));
        assert!(stderr(&ran).contains(said), "{words:?}: {}", stderr(&ran));
    }
    assert!(!world.dir.join("started").exists());
    assert_eq!(code(&output(&world, &["--", ""])), Some(127));
    let ran = output(&world, &["--timeout", "0", "--", "sleep", "0.05"]);
    assert_eq!((code(&ran), stderr(&ran)), (Some(0), String::new()));
    world.end();
}

#[test]
fn on_github_leaks_become_annotations() {
    let world = World::new();
    let ran = world
        .job(&["--", "sh", "-c", "sleep 1000 & true"])
        .env("GITHUB_ACTIONS", "true")
        .output()
        .unwrap();
    let said = stderr(&ran);
    let line = said
        .lines()
        .find(|line| line.starts_with("::warning title="))
        .unwrap();
    assert!(line.contains("sleep 1000"), "{said}");
    world.end();
}

#[test]
fn less_than_the_least_guarantee_starts_nothing() {
    let mut world = World::new();
    world.launch = vec![format!(
        "no-cgroup={}",
        crate::look::cgroup_mount().display()
    )];
    let started = world.dir.join("started");
    let words = [
        "--min-guarantee",
        "cgroup-kill",
        "--",
        "touch",
        started.to_str().unwrap(),
    ];
    let ran = output(&world, &words);
    assert_eq!(code(&ran), Some(125), "{}", stderr(&ran));
    assert!(
        stderr(&ran)
            .contains("this place guarantees `subreaper marked`, and `cgroup-kill` was asked for"),
        "{}",
        stderr(&ran)
    );
    assert!(!started.exists());
    world.end();
}

#[test]
fn the_command_runs_as_whom_it_is_to() {
    let world = World::new();
    let script =
        "id -u; id -g; echo $USER; grep ^Groups: /proc/self/status | tr -d '\\t '; sleep 1000 &";
    let words = [
        "--user",
        "nobody:1234",
        "--leaks=fail",
        "--",
        "sh",
        "-c",
        script,
    ];
    let ran = output(&world, &words);
    assert_eq!(
        stdout(&ran),
        "65534\n1234\nnobody\nGroups:1234\n",
        "{}",
        stderr(&ran)
    );
    // What it leaves is ours to end all the same.
    assert_eq!(code(&ran), Some(120), "{}", stderr(&ran));
    let ran = output(&world, &["--user", "nobody-by-that-name", "--", "true"]);
    assert_eq!(code(&ran), Some(125));
    assert!(
        stderr(&ran).contains("nobody-by-that-name"),
        "{}",
        stderr(&ran)
    );
    world.end();
}
