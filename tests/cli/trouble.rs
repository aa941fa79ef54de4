//! When nobody answers, something else answers, or the command line is wrong.

use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, check, directory, output, program, run};

#[test]
fn no_supervisor_at_all() {
    let dir = directory();
    let socket = dir.join("s");
    let missing = "\
error[NotReachable]: cannot reach a supervisor at SOCKET
  because: No such file or directory (os error 2)
  hint: is `nought init` running? With another socket, name it: -s PATH, or NOUGHT_SOCKET
";
    for words in [
        "list",
        "status",
        "status a",
        "start a b",
        "stop a",
        "restart a",
        "receipt a",
        "log",
        "log -f a",
        "status a b",
        "tree",
        "why a",
        "stats a",
        "plan shutdown",
        "plan stop a",
        "monitor a b",
        "forget a",
        "kill a hup",
        "shutdown",
        "poweroff",
        "reboot",
        "halt",
        "health",
        "health --live",
        "",
    ] {
        check(&run(&socket, words), 1, "", missing);
    }
    drop(UnixListener::bind(&socket).unwrap());
    check(
        &run(&socket, "list"),
        1,
        "",
        "\
error[NotReachable]: cannot reach a supervisor at SOCKET
  because: Connection refused (os error 111)
  hint: the supervisor that made this socket has ended: start it again, it finds what is left
",
    );
    let json = run(&socket, "--json list");
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["service"], Value::Null);
    assert_eq!(document["error"]["data"]["code_name"], "NotReachable");
    let file = dir.join("file");
    std::fs::write(&file, "").unwrap();
    for no_socket in [&file, &dir] {
        check(
            &run(no_socket, "list"),
            1,
            "",
            "\
error[NotReachable]: cannot reach a supervisor at SOCKET
  because: it is no socket
  hint: -s names the socket that `nought init` made, not the directory of service files (-c) or any other
",
        );
    }
    let long = dir.join("x".repeat(200));
    let said = run(&long, "list");
    assert_eq!(said.code, 1);
    assert!(
        said.stderr.contains("name the socket with -s PATH"),
        "{}",
        said.stderr
    );
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_supervisor_that_is_busy_or_stopped() {
    let fake = Fake::new(&[
        ("nought_list", Answer::Silence),
        ("nought_stop", Answer::Silence),
    ]);
    check(
        &fake.run("list --timeout 100ms"),
        1,
        "",
        "\
error[NoAnswer]: the supervisor at SOCKET did not answer within 100 ms
  hint: is it stopped (SIGSTOP) or very busy? See its state in /proc; --timeout D waits longer
",
    );
    check(
        &fake.run("stop a --timeout 100ms"),
        1,
        "",
        "\
error[TimedOut]: to stop a took longer than 100 ms
  hint: it goes on all the same: see `nought status`
",
    );
}

/// Its backlog is full and nobody accepts: connecting is bounded too.
#[test]
fn a_supervisor_that_accepts_nothing() {
    let dir = directory();
    let socket = dir.join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let mut waiting = Vec::new();
    let full = loop {
        let client = socket2_connect(&socket);
        match client {
            Some(stream) => waiting.push(stream),
            None => break waiting.len(),
        }
    };
    assert!(full > 0);
    let began = Instant::now();
    let said = run(&socket, "list");
    assert!(began.elapsed() < Duration::from_secs(30));
    check(
        &said,
        1,
        "",
        "\
error[NotReachable]: cannot reach a supervisor at SOCKET
  because: Resource temporarily unavailable (os error 11)
  hint: it takes no connections: is it stopped, or very busy? See its state in /proc
",
    );
    drop((listener, waiting));
    std::fs::remove_dir_all(dir).unwrap();
}

/// A connection that does not wait; none when the backlog is full.
fn socket2_connect(path: &std::path::Path) -> Option<std::os::fd::OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
    use std::os::fd::AsRawFd as _;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
    match connect(fd.as_raw_fd(), &UnixAddr::new(path).unwrap()) {
        Ok(()) => Some(fd),
        Err(nix::errno::Errno::EAGAIN) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_supervisor_that_dies_meanwhile() {
    let gone = "\
error[Gone]: the supervisor at SOCKET closed the connection before it answered
  hint: it lives, and sent this client away: what was asked may have been done, see `nought list`; \
its log says more
";
    for method in ["nought_stop", "nought_start", "nought_restart"] {
        let fake = Fake::new(&[(method, Answer::Close)]);
        let words = format!("{} a", method.trim_start_matches("nought_"));
        check(&fake.run(&words), 1, "", gone);
    }
    let up = json!({"service": "a", "state": "up"});
    let fake = Fake::new(&[
        ("nought_start", Answer::Result(up)),
        ("nought_start", Answer::Close),
    ]);
    check(&fake.run("start a b"), 1, "a: up\n", gone);
}

/// The connection stays, nothing comes, and nobody answers on a second one: not alive.
#[test]
fn a_supervisor_that_stops_answering_while_it_works() {
    let fake = Fake::new(&[
        ("nought_stop", Answer::Silence),
        ("nought_info", Answer::Close),
    ]);
    let said = fake.run("stop a");
    assert_eq!(said.code, 1);
    assert!(said.stderr.starts_with("error[Gone]"), "{}", said.stderr);
    assert_eq!(fake.asked().last().unwrap(), "nought_info null");
}

#[test]
fn something_else_answers() {
    for (bytes, why) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n"[..],
            "what came is not JSON",
        ),
        (b"[1]", "invalid type"),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":\"x\",\"result\":1}",
            "it answers what was not asked",
        ),
        (
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":5}",
            "invalid type: integer `5`",
        ),
    ] {
        let fake = Fake::new(&[("nought_list", Answer::Bytes(bytes))]);
        let said = fake.run("list");
        let start =
            format!("error[Protocol]: what answers at SOCKET is no supervisor\n  because: {why}");
        assert!(said.stderr.starts_with(&start), "{}", said.stderr);
        assert!(
            said.stderr
                .ends_with("  hint: is another program's socket named with -s or NOUGHT_SOCKET?\n")
        );
        assert_eq!((said.code, said.stdout.as_str()), (1, ""));
    }
}

#[test]
fn an_answer_beyond_all_bounds_is_not_kept() {
    let mut endless = b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"lines\":[\"".to_vec();
    endless.resize((64 << 20) + 1024, b'x');
    let fake = Fake::new(&[("nought_log", Answer::Bytes(endless.leak()))]);
    check(
        &fake.run("log"),
        1,
        "",
        "\
error[TooMuch]: the answer is larger than 67108864 bytes
  hint: ask for less: name services, or the newest lines with -n N
",
    );
}

/// What every command that names a service says of one that is not there.
#[test]
fn a_service_that_is_not_there_is_said_by_every_command() {
    let no = || {
        Answer::Error(json!({
            "code": -32000, "message": "there is no service \"nix\"",
            "data": {"code_name": "ServiceNotFound", "service": "nix", "retryable": false,
                     "cause_chain": [], "hint": "`nought list` shows those there are"},
        }))
    };
    let said = "error[ServiceNotFound]: there is no service \"nix\"\n  \
                hint: `nought list` shows those there are\n";
    for (words, method) in [
        ("status nix", "nought_status"),
        ("start nix", "nought_start"),
        ("stop nix", "nought_stop"),
        ("restart nix", "nought_restart"),
        ("receipt nix", "nought_receipt"),
        ("why nix", "nought_status"),
        ("stats nix", "nought_usage"),
        ("plan stop nix", "nought_plan"),
        ("monitor nix", "service_monitor"),
        ("forget nix", "service_forget"),
        ("kill nix hup", "service_kill"),
        ("log nix", "nought_log"),
        ("log -f nix", "nought_subscribeLogs"),
    ] {
        let fake = Fake::new(&[(method, no())]);
        check(&fake.run(words), 1, "", said);
        let json = fake.run(&format!("{words} --json"));
        let document: Value = serde_json::from_str(json.stdout.lines().next().unwrap()).unwrap();
        assert_eq!(document["error"]["code"], -32000, "{words}");
        assert_eq!(document["service"], "nix", "{words}");
        assert_eq!((json.code, json.stderr.as_str()), (1, said), "{words}");
    }
}

#[test]
fn a_socket_named_after_log_is_taken_for_a_service_and_told() {
    let fake = Fake::new(&[]);
    check(
        &fake.run("log -s /run/other.sock"),
        1,
        "",
        "\
error[ServiceNotFound]: there is no service \"/run/other.sock\"
  hint: after `log`, -s is --snapshot: name the socket with --socket PATH, or with -s before `log`
",
    );
}

#[test]
fn an_error_shows_its_causes_once_and_its_hint() {
    let error = json!({
        "code": -32014, "message": "web failed to start",
        "data": {"code_name": "Failed", "service": "web", "action": "start", "retryable": false,
                 "cause_chain": ["failed to execute /bin/web", "No such file or directory", "No such file or directory"],
                 "hint": "check `exec` in web.yaml"},
    });
    let fake = Fake::new(&[
        ("nought_start", Answer::Error(error)),
        (
            "nought_status",
            Answer::Error(json!({"code": -32000, "message": "there is no service `\u{1b}c`"})),
        ),
        (
            "nought_log",
            Answer::Error(json!({"code": -1, "message": "?"})),
        ),
        (
            "service_monitor",
            Answer::Error(json!({
                "code": -32005, "message": "failed to take in bad: its file is no service's",
                "data": {"cause_chain": [
                    "bad.yaml:1:1: error: unknown key `exce`\n    exce: sleep\n    ^^^^\n    hint: did you \u{1b}mean `exec`?",
                ]},
            })),
        ),
    ]);
    check(
        &fake.run("monitor bad"),
        1,
        "",
        "\
error[ConfigError]: failed to take in bad: its file is no service's
  because: bad.yaml:1:1: error: unknown key `exce`
      exce: sleep
      ^^^^
      hint: did you \\u{1b}mean `exec`?
",
    );
    check(
        &fake.run("start web"),
        1,
        "",
        "\
error[Failed]: web failed to start
  because: failed to execute /bin/web
  because: No such file or directory
  hint: check `exec` in web.yaml
",
    );
    check(
        &fake.run("status x"),
        1,
        "",
        "error[ServiceNotFound]: there is no service `\\u{1b}c`\n",
    );
    check(&fake.run("log"), 1, "", "error[-1]: ?\n");
    check(
        &fake.run("list"),
        1,
        "",
        "error[MethodNotFound]: there is no method `nought_list`\n",
    );
}

#[test]
fn wrong_usage_is_2_and_help_is_0() {
    let dir = directory();
    let socket = dir.join("s");
    for words in [
        "stop",
        "frobnicate",
        "receipt a b",
        "receipt a --last 0",
        "kill a",
        "monitor",
        "plan stop",
        "log -f -s",
        "completions klingon",
        "init --socket-group no-such-group",
        "stop a --timeout soon",
        "restart --force a",
        "init --deadline x",
        "init --deadline 0",
    ] {
        let said = run(&socket, words);
        assert_eq!((said.code, said.stdout.as_str()), (2, ""), "{words}");
        assert!(
            said.stderr.starts_with("error: "),
            "{words}: {}",
            said.stderr
        );
    }
    for (words, said) in [
        (
            "log -n 99999999999999999999",
            "error: invalid value '99999999999999999999' for '--lines <N>': write a number of \
             lines, 4294967295 at the most\n",
        ),
        (
            "init -b many",
            "error: invalid value 'many' for '--buffer <LINES>': write a number of lines, \
             4294967295 at the most\n",
        ),
        (
            "receipt a --last 0",
            "error: invalid value '0' for '--last <N>': write a number from 1 to 4294967295\n",
        ),
        (
            "doctor --place moon",
            "error: invalid value 'moon' for '--place <PLACE>': say host, container or pod\n",
        ),
    ] {
        let help = "\nFor more information, try '--help'.\n";
        check(&run(&socket, words), 2, "", &format!("{said}{help}"));
    }
    assert!(run(&socket, "stpo a").stderr.contains("stop"));
    for words in ["--help", "help", "stop --help", "--version", "log -h"] {
        let said = run(&socket, words);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{words}");
    }
    assert_eq!(
        run(&socket, "--version").stdout,
        format!("nought {}\n", env!("CARGO_PKG_VERSION"))
    );
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let fake = Fake::new(&[("nought_list", Answer::Result(json!({"services": []})))]);
    let (reader, writer) = UnixStream::pair().unwrap();
    drop(reader);
    let mut command = program();
    command.env("NOUGHT_SOCKET", &fake.socket).arg("list");
    command.stdout(std::os::fd::OwnedFd::from(writer));
    let said = output(command, &fake.socket);
    assert_eq!((said.code, said.stderr.as_str()), (0, ""));
    let mut command = program();
    command.env("NOUGHT_SOCKET", &fake.socket).arg("list");
    command.stdout(
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap(),
    );
    let said = output(command, &fake.socket);
    assert_eq!(said.code, 1);
    assert!(
        said.stderr
            .starts_with("error: cannot write to stdout\n  because: No space left")
    );
}

/// Runs the program on a terminal of its own: script(1) is on every Debian. What it shows.
fn on_a_terminal(fake: &Fake, words: &str, no_color: &str) -> (i32, String) {
    let mut command = std::process::Command::new("script");
    let program = env!("CARGO_BIN_EXE_nought");
    command
        .args(["-qec", &format!("{program} {words}"), "/dev/null"])
        .env("NOUGHT_SOCKET", &fake.socket)
        .env("TERM", "xterm-256color")
        .env("NO_COLOR", no_color)
        .stdin(std::process::Stdio::null());
    let shown = output(command, &fake.socket);
    (shown.code, shown.stdout)
}

#[test]
fn colour_only_where_somebody_sees_it() {
    let up = Answer::Result(json!({"service": "a", "state": "up"}));
    let fake = Fake::new(&[("nought_start", up)]);
    assert_eq!(fake.run("start a").stdout, "a: up\n");
    assert_eq!(
        on_a_terminal(&fake, "start a", ""),
        (0, "a: \x1b[32mup\x1b[0m\r\n".into())
    );
    assert_eq!(
        on_a_terminal(&fake, "start a", "1"),
        (0, "a: up\r\n".into())
    );
}

#[test]
fn a_terminal_is_told_what_is_waited_for_and_not_driven_by_log_lines() {
    let status = json!({"name": "a", "state": "stopping", "target": "down", "rung": "signal"});
    let fake = Fake::new(&[
        ("nought_stop", Answer::Silence),
        ("nought_status", Answer::Result(status)),
        (
            "nought_log",
            Answer::Result(json!({"lines": ["[+] a: \u{1b}[2Jx"]})),
        ),
    ]);
    let (code, shown) = on_a_terminal(&fake, "stop a --timeout 1500ms", "1");
    let line =
        "\r\x1b[Ka: stopping (signal), waited 1 s; Ctrl-C stops waiting, not the work\r\x1b[K";
    assert!(
        shown.starts_with(&format!(
            "{line}error[TimedOut]: to stop a took longer than 1.5 s"
        )),
        "{shown:?}"
    );
    assert_eq!(code, 1);
    let (code, shown) = on_a_terminal(&fake, "log a", "1");
    assert_eq!((code, shown.as_str()), (0, "[+] a: \\u{1b}[2Jx\r\n"));
}

#[test]
fn a_shutdown_shows_whom_it_waits_for_and_how_long_that_may_take() {
    let services = json!({"services": [
        {"name": "db", "state": "up"},
        {"name": "web", "state": "stopping", "rung": "signal", "detail": "shutdown", "left_ms": 7400},
        {"name": "off", "state": "down"},
    ]});
    let fake = Fake::new(&[
        ("nought_shutdown", Answer::Silence),
        ("nought_list", Answer::Result(services)),
        ("nought_info", Answer::Result(json!({}))),
    ]);
    let (code, shown) = on_a_terminal(&fake, "shutdown --timeout 1500ms", "1");
    let line =
        "\r\x1b[Kwaiting for web stopping (shutdown; signal; at most 7 s more), db up, 1 s\r\x1b[K";
    let error = "error[TimedOut]: the shutdown took longer than 1.5 s";
    assert!(shown.starts_with(&format!("{line}{error}")), "{shown:?}");
    assert_eq!(code, 1);
}
