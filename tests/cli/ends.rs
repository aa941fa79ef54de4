//! What ends everything, what asks whether all is well, and supervisors that refuse to begin:
//! whole outputs and exit codes.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, check, directory, output, program, run};

fn info(shutting_down: bool) -> Answer {
    Answer::Result(json!({"version": "0.1.0", "pid": 1, "shutting_down": shutting_down}))
}

fn services(states: &[(&str, &str, &str)]) -> Answer {
    let services: Vec<Value> = states
        .iter()
        .map(|(name, state, target)| json!({"name": name, "state": state, "target": target}))
        .collect();
    Answer::Result(json!({ "services": services }))
}

#[test]
fn health_says_who_is_not_as_wanted() {
    let well = Fake::new(&[
        ("nought_info", info(false)),
        (
            "nought_list",
            services(&[
                ("web", "up", "up"),
                ("setup", "done", "up"),
                ("off", "down", "down"),
            ]),
        ),
    ]);
    check(&well.run("health"), 0, "ok\n", "");
    check(&well.run("health --live"), 0, "ok\n", "");
    check(
        &well.run("health --json"),
        0,
        "{\"ready\":true,\"shutting_down\":false,\"unready\":[]}\n",
        "",
    );
    let ill = Fake::new(&[
        ("nought_info", info(false)),
        (
            "nought_list",
            services(&[("web", "up", "up"), ("d\u{202e}b", "failed", "up")]),
        ),
    ]);
    check(&ill.run("health"), 1, "d\\u{202e}b: failed\n", "");
    check(&ill.run("health --live"), 0, "ok\n", "");
    let ending = Fake::new(&[("nought_info", info(true)), ("nought_list", services(&[]))]);
    check(
        &ending.run("health"),
        1,
        "the supervisor is shutting down\n",
        "",
    );
    check(&ending.run("health --live"), 0, "ok\n", "");
    let busy = Fake::new(&[("nought_info", Answer::Silence)]);
    check(
        &busy.run("health --timeout 100ms"),
        1,
        "",
        "\
error[NoAnswer]: the supervisor at SOCKET did not answer within 100 ms
  hint: is it stopped (SIGSTOP) or very busy? See its state in /proc; --timeout D waits longer
",
    );
}

#[test]
fn every_end_asks_for_its_kind_and_waits_for_the_proof() {
    let done = json!({"lingering": [], "unverified": [], "elapsed_ms": 23.4});
    let refused = json!({"code": -32006, "message": "failed to shut down: a shutdown is under way",
                         "data": {"code_name": "ShuttingDown", "hint": "wait for its end"}});
    for (word, kind) in [
        ("poweroff", "poweroff"),
        ("shutdown", "poweroff"),
        ("reboot", "reboot"),
        ("halt", "halt"),
    ] {
        let fake = Fake::new(&[
            ("nought_shutdown", Answer::Result(done.clone())),
            ("nought_shutdown", Answer::Error(refused.clone())),
            ("nought_shutdown", Answer::Close),
        ]);
        check(
            &fake.run(word),
            0,
            "verified: everything stopped in 23.4 ms, nothing left\n",
            "",
        );
        check(
            &fake.run(word),
            1,
            "",
            "error[ShuttingDown]: failed to shut down: a shutdown is under way\n  hint: wait for its end\n",
        );
        check(
            &fake.run(word),
            1,
            "",
            "\
error[Gone]: the supervisor at SOCKET closed the connection before it answered
  hint: it lives, and sent this client away: what was asked may have been done, see `nought list`; its log says more
",
        );
        assert_eq!(
            fake.asked()[0],
            format!("nought_shutdown {{\"kind\":\"{kind}\"}}")
        );
    }
    // Nothing is asked for when there is no kernel to start.
    let fake = Fake::new(&[("nought_shutdown", Answer::Result(done))]);
    check(
        &fake.run("kexec"),
        1,
        "",
        "\
error[NoKernel]: there is no kernel to start
  hint: load one: kexec -l KERNEL --initrd=INITRD --reuse-cmdline
",
    );
    assert!(fake.asked().is_empty());
}

/// The links of those names, called with what they have always been called with.
#[test]
fn called_by_the_name_of_an_end_it_means_that() {
    let done = json!({"lingering": [], "unverified": [], "elapsed_ms": 1.0});
    let fake = Fake::new(&[("nought_shutdown", Answer::Result(done))]);
    let dir = directory();
    let called = |name: &str, words: &str| {
        let link = dir.join(name);
        let _ = std::os::unix::fs::symlink(program().get_program(), &link);
        let mut command = std::process::Command::new(&link);
        command
            .env_clear()
            .env("NOUGHT_SOCKET", &fake.socket)
            .args(words.split_whitespace());
        output(command, &fake.socket)
    };
    let verified = "verified: everything stopped in 1 ms, nothing left\n";
    for (name, words, kind) in [
        ("poweroff", "", "poweroff"),
        ("reboot", "-d", "reboot"),
        ("halt", "-p", "poweroff"),
        ("shutdown", "-r now", "reboot"),
        ("init", "6", "reboot"),
    ] {
        check(&called(name, words), 0, verified, "");
        assert_eq!(
            fake.asked().last().unwrap(),
            &format!("nought_shutdown {{\"kind\":\"{kind}\"}}")
        );
    }
    check(
        &called("shutdown", "-r 23:00"),
        2,
        "",
        "error: `23:00` is not known here; write: shutdown -r now\n",
    );
    check(
        &called("init", "3"),
        2,
        "",
        "error: called as `init` and not process 1: only `init 0` and `init 6` mean something; \
         to run a supervisor: nought init\n",
    );
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn nothing_is_looked_for_where_no_supervisor_was() {
    let dir = directory();
    let cleaned = |words: &str| {
        let mut command = program();
        command.current_dir(&dir).args(words.split_whitespace());
        output(command, &dir)
    };
    check(
        &cleaned("doctor --clean --state-dir gone"),
        1,
        "",
        "error: there is no state directory gone: name the one that `nought init` was given with \
         --state-dir\n",
    );
    assert!(!dir.join("gone").exists());
    check(
        &cleaned("-s ./s doctor --clean"),
        0,
        "no supervisor has left a state directory here\n",
        "",
    );
    std::fs::write(dir.join("file"), "").unwrap();
    check(
        &cleaned("doctor --clean --state-dir file"),
        1,
        "",
        "error: file is no state directory: it has no lock and no generations; name the one that \
         `nought init` was given with --state-dir\n",
    );
    check(
        &cleaned("doctor --state-dir file"),
        2,
        "",
        "\
error: the following required arguments were not provided:
  --clean

Usage: nought doctor --clean --state-dir <DIR>

For more information, try '--help'.
",
    );
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_supervisor_that_cannot_begin_says_why_and_what_to_do() {
    let dir = directory();
    std::fs::create_dir(dir.join("services")).unwrap();
    std::fs::write(dir.join("file"), "").unwrap();
    let init = |words: &str| {
        let mut command = program();
        command
            .current_dir(&dir)
            .args("init --container -c services".split(' '))
            .args(words.split_whitespace());
        output(command, &dir)
    };
    let long = "x".repeat(120);
    for (words, error) in [
        (
            "-s nowhere/s",
            "failed to resolve the socket's directory nowhere (make it, or give another path)\n  \
             because: No such file or directory (os error 2)\n",
        ),
        (
            "-s /proc/s --state-dir state",
            "failed to serve /proc/s\n  because: bind the socket /proc/s: No such file or directory\n  \
             hint: make the directory that the socket is to be in, or choose another socket with -s\n",
        ),
        (
            "-s file --state-dir state",
            "failed to serve file\n  because: file is a file, not a socket: move it \
             away or choose another socket\n",
        ),
        (
            "-s services --state-dir state",
            "failed to serve services\n  because: services is a directory, not a \
             socket: move it away or choose another socket\n",
        ),
        (
            "-s s --state-dir file",
            "refused the state directory file: it is not a directory; remove it, or give \
             another with --state-dir\n",
        ),
    ] {
        check(&init(words), 1, "", &format!("error: {error}"));
    }
    let said = init(&format!("-s {long} --state-dir state"));
    assert_eq!((said.code, said.stdout.as_str()), (1, ""));
    assert!(
        said.stderr
            .contains("a socket's path may have at most 107 bytes (unix(7))\n  hint: choose a shorter path with -s\n"),
        "{}",
        said.stderr
    );
    let mut command = program();
    command.env("NOUGHT_LOG", "loud").current_dir(&dir);
    command.args("init -c services -s s --state-dir state".split(' '));
    check(
        &output(command, &dir),
        1,
        "",
        "error: unknown log level 'loud' in NOUGHT_LOG: use off, error, warn, info, debug or trace\n",
    );
    check(
        &run(&dir, "init extra"),
        2,
        "",
        "\
error: unexpected argument 'extra' found

Usage: nought init [OPTIONS]

For more information, try '--help'.
",
    );
    std::fs::remove_dir_all(dir).unwrap();
}

/// Process 1 ends everybody once the connection is closed: whoever waits for our exit code is to
/// have it by then.
#[test]
fn the_connection_that_ended_everything_is_closed_when_the_exit_code_is_settled() {
    let dir = directory();
    let socket = dir.join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    // Where it runs on, it is through in no time: not each is caught.
    for _ in 0..16 {
        let mut command = program();
        command.arg("-s").arg(&socket).arg("shutdown");
        command.stdout(std::process::Stdio::null());
        let mut child = command.spawn().unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        let mut asked = [0; 4096];
        assert!(stream.read(&mut asked).unwrap() > 0);
        let done = json!({"lingering": [], "unverified": [], "elapsed_ms": 1.0});
        let answer = json!({"jsonrpc": "2.0", "id": 1, "result": done}).to_string();
        stream.write_all(answer.as_bytes()).unwrap();
        while stream.read(&mut asked).unwrap() > 0 {}
        // The kernel takes its memory before its descriptors, and its exit code before both.
        let running = std::fs::read_link(format!("/proc/{}/exe", child.id()));
        assert!(running.is_err(), "it still runs: {running:?}");
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_state_directory_that_cannot_be_read_is_named_with_the_reason() {
    let dir = directory();
    std::fs::write(dir.join("receipts"), "").unwrap();
    let mut command = program();
    command
        .args(["timeline", "shutdown", "--state-dir"])
        .arg(&dir);
    check(
        &output(command, &dir),
        1,
        "",
        "\
error: failed to read SOCKET/receipts
  because: Not a directory (os error 20)
",
    );
    std::fs::remove_dir_all(&dir).unwrap();
}
