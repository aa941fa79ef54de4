//! `top` as text and as documents, and where there is no terminal.

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, check};

fn usage(name: &str, state: &str, at_ms: f64, cpu_ms: f64) -> Value {
    let up = state == "up";
    let processes = match up {
        true => json!([{"pid": 30, "ppid": 1, "comm": "sh", "memory_bytes": 1, "cpu_ms": cpu_ms}]),
        false => json!([]),
    };
    json!({
        "status": {
            "name": name, "state": state, "target": "up", "pid": if up { 30 } else { 0 },
            "generation": 3, "since_ms": 125_300, "processes": u8::from(up),
            "guarantee": "cgroup-kill marked", "detail": if up { "" } else { "exec \u{1b}[2J" },
        },
        "memory_bytes": if up { 13_107_200 } else { 0 }, "cpu_ms": cpu_ms,
        "read_mono_ms": at_ms, "processes": processes,
    })
}

fn fake() -> Fake {
    let info = json!({"version": "0.1.0", "pid": 41, "guarantee": "cgroup-kill marked",
                      "uptime_ms": 90_000, "http": ["127.0.0.1:8080"]});
    let reading = |at_ms, cpu_ms| {
        let services = [
            usage("db", "failed", at_ms, 0.0),
            usage("web", "up", at_ms, cpu_ms),
        ];
        (
            "nought_usage",
            Answer::Result(json!({"services": services})),
        )
    };
    Fake::new(&[
        ("nought_info", Answer::Result(info)),
        reading(1000.0, 500.0),
        reading(3000.0, 750.0),
    ])
}

#[test]
fn one_picture_as_text_has_what_was_used_meanwhile() {
    let fake = fake();
    check(
        &fake.run("top --once -n 100ms"),
        0,
        "\
nought 0.1.0, pid 41, up 1m 30s, cgroup-kill marked, http 127.0.0.1:8080
1 up, 1 failed; 1 not as wanted; CPU 12.5 %, 12.5 MiB, 1 processes
NAME     STATE        SINCE     PID  CPU %     MEMORY PROCS RST PRESSURE GUARANTEE          WHY
db       failed       2m 5s       -      -          -     -   -        - cgroup-kill marked exec \\u{1b}[2J
web      up           2m 5s      30   12.5   12.5 MiB     1   -        - cgroup-kill marked
",
        "",
    );
    assert_eq!(
        fake.asked(),
        ["nought_usage {}", "nought_info null", "nought_usage {}"]
    );
}

#[test]
fn a_document_is_what_was_answered_and_what_was_used_meanwhile() {
    let run = fake().run("top --once --json -n 100ms");
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    let document: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(document["info"]["pid"], 41);
    let services = document["services"].as_array().unwrap();
    assert_eq!(services[0]["cpu_now_percent"], Value::Null);
    assert_eq!(services[1]["cpu_now_percent"], 12.5);
    assert_eq!(services[1]["status"]["name"], "web");
    assert_eq!(services[1]["cpu_ms"], 750.0);
}

#[test]
fn where_there_is_no_terminal_it_says_what_else_there_is() {
    check(
        &fake().run("top"),
        1,
        "",
        "error[NoTerminal]: cannot draw on a terminal\n  because: stdin or stdout is no terminal\n  \
         hint: `nought top --once` prints one picture, `nought status` the states, `nought stats` \
         what a service uses\n",
    );
    let often = fake().run("top -n 10ms");
    assert_eq!(often.code, 2, "{}", often.stderr);
    assert!(
        often.stderr.contains("write 100ms or more"),
        "{}",
        often.stderr
    );
}

#[test]
fn no_services_are_no_trouble() {
    let fake = Fake::new(&[
        ("nought_info", Answer::Result(json!({"version": "0.1.0"}))),
        ("nought_usage", Answer::Result(json!({"services": []}))),
    ]);
    let run = fake.run("top --once -n 100ms");
    assert_eq!(run.code, 0, "{}", run.stderr);
    assert!(
        run.stdout
            .contains("\nno services; CPU 0.0 %, 0 B, 0 processes\n"),
        "{}",
        run.stdout
    );
}
