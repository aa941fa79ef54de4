//! Each command, when the supervisor answers.

use serde_json::{Value, json};

use crate::fake::{Answer, Fake, check};

fn receipt(verdict: &str) -> Value {
    json!({
        "service": "web", "generation": 3, "pid": 4242, "cause": "stop", "verdict": verdict,
        "reason": null, "guarantee": {"containment": "cgroup-kill", "scan": "marked"},
        "started_at": "2026-01-02T03:04:05.000Z", "began_at": "2026-01-02T03:05:05.250Z",
        "ended_at": "2026-01-02T03:05:05.253Z", "started_mono_ms": 1000.0,
        "began_mono_ms": 61250.0, "ended_mono_ms": 61253.1, "elapsed_ms": 3.1,
        "exit": {"code": 0},
        "rungs": [
            {"rung": "signal", "at_ms": 0.012, "signal": "SIGTERM", "to": "group", "grace_ms": 10000.0},
            {"rung": "main-exited", "at_ms": 1.2, "exit": {"code": 0}},
            {"rung": "kill", "at_ms": 1.25},
            {"rung": "empty", "at_ms": 2.0},
            {"rung": "scan", "at_ms": 2.9, "escaped": 1, "conclusive": true},
            {"rung": "trouble", "at_ms": 2.95, "error": {"doing": "remove", "what": "/sys/fs/cgroup/x", "errno": 16, "why": "Device or resource busy"}},
            {"rung": "fence", "at_ms": 3.05},
        ],
        "killed": [{"pid": 4243, "ppid": 4242, "comm": "sleep"}, {"pid": 4244, "ppid": 1, "comm": "sh\u{1b}[2J"}],
        "escaped": [{"pid": 4245, "ppid": 1, "comm": "daemon"}],
        "foreign": [{"pid": 9, "ppid": 1, "comm": "bash", "why": "marked, and its ancestors are not ours"}],
        "kept": [], "survivors": [], "late": false,
    })
}

fn lingering() -> Value {
    let mut receipt = receipt("lingering");
    receipt["reason"] = json!("1 process lives 5 s after the last kill");
    receipt["elapsed_ms"] = json!(15020.5);
    receipt["exit"] = Value::Null;
    receipt["rungs"] = json!([{"rung": "inspect", "at_ms": 15020.0}]);
    receipt["killed"] = json!([]);
    receipt["escaped"] = json!([]);
    receipt["foreign"] = json!([]);
    receipt["survivors"] = json!([
        {"pid": 4243, "ppid": 1, "argv": ["cat", "/mnt/a b\n"], "state": "D", "wchan": "fuse_wait_answer",
         "stack": ["request_wait_answer+0x1", "fuse_simple_request+0x2"], "tracer": 0,
         "cgroup": "/nought-1/web/3/main", "mounts": ["/mnt"]},
        {"pid": 4250, "ppid": 1, "argv": ["[x]"], "state": "t", "wchan": "", "stack": [], "tracer": 77,
         "cgroup": "", "mounts": []},
    ]);
    receipt
}

fn status(name: &str, state: &str) -> Value {
    json!({
        "name": name, "state": state, "detail": "", "target": "up", "pid": 4242, "generation": 3,
        "since_ms": 125_300, "restarts": 0, "processes": 2, "guarantee": "cgroup-kill marked",
        "last_exit": null, "next_start_ms": null, "rung": null, "after": {}, "requires": {},
    })
}

fn services() -> Value {
    let mut waiting = status("backend", "backoff");
    waiting["pid"] = json!(0);
    waiting["detail"] = json!("exit code 1");
    waiting["next_start_ms"] = json!(850);
    waiting["restarts"] = json!(4);
    waiting["since_ms"] = json!(150);
    let mut stopping = status("cache", "stopping");
    stopping["target"] = json!("down");
    stopping["rung"] = json!("signal");
    stopping["left_ms"] = json!(7400);
    stopping["memory_bytes"] = json!(1_600_000);
    let mut new = status("later", "hibernating");
    new["field_of_tomorrow"] = json!([1]);
    json!({"services": [waiting, stopping, new, status("web", "up")]})
}

#[test]
fn list_is_an_aligned_table_and_what_no_command_means() {
    let fake = Fake::new(&[("nought_list", Answer::Result(services()))]);
    let table = "\
NAME     STATE     TARGET   PID    FOR  DETAIL
backend  backoff   up         -  150 ms  exit code 1; next start in 850 ms; 4 restarts so far
cache    stopping  down    4242   2m 5s  signal; at most 7 s more
later    unknown   up      4242   2m 5s
web      up        up      4242   2m 5s
";
    let table = table.replace("PID    FOR  DETAIL", "PID     FOR  DETAIL");
    check(&fake.run("list"), 0, &table, "");
    check(&fake.run(""), 0, &table, "");
    assert_eq!(fake.asked(), ["nought_list null", "nought_list null"]);
}

#[test]
fn list_of_nothing_says_so() {
    let fake = Fake::new(&[("nought_list", Answer::Result(json!({"services": []})))]);
    check(&fake.run("list"), 0, "no services\n", "");
    check(&fake.run("list --json"), 0, "", "");
}

#[test]
fn json_is_one_document_a_line_and_keeps_what_is_not_known() {
    let fake = Fake::new(&[("nought_list", Answer::Result(services()))]);
    let run = fake.run("--json list");
    let lines: Vec<Value> = run
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(json!(lines), services()["services"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
}

#[test]
fn status_shows_a_service() {
    let mut web = status("web", "backoff");
    web["detail"] = json!("SIGSEGV");
    web["next_start_ms"] = json!(2000);
    web["restarts"] = json!(1);
    web["last_exit"] = json!({"signal": "SIGSEGV", "number": 11, "core": true});
    web["after"] = json!({"db": "up", "net": "done"});
    web["requires"] = json!({"db": "up"});
    let fake = Fake::new(&[("nought_status", Answer::Result(web))]);
    check(
        &fake.run("status web"),
        0,
        "\
web: backoff for 2m 5s, target up
  detail      SIGSEGV; next start in 2 s; 1 restart so far
  main pid    4242
  processes   2
  generation  3
  restarts    1
  last exit   SIGSEGV (core dumped)
  after       db (up), net (done)
  requires    db (up)
  guarantee   cgroup-kill marked
",
        "",
    );
    assert_eq!(fake.asked(), ["nought_status {\"name\":\"web\"}"]);
}

#[test]
fn status_of_nothing_in_particular_is_the_supervisors() {
    let info = json!({
        "version": "0.1.0", "pid": 1, "guarantee": "cgroup-kill marked", "containment": "cgroup-kill",
        "scan": "marked", "base": "/sys/fs/cgroup", "notes": ["memory.max cannot be set: no memory controller"],
        "services": 4, "shutting_down": true,
    });
    let fake = Fake::new(&[
        ("nought_info", Answer::Result(info)),
        ("nought_list", Answer::Result(services())),
    ]);
    check(
        &fake.run("status"),
        0,
        "\
nought 0.1.0, pid 1, shutting down
  guarantee  cgroup-kill marked
  cgroup     /sys/fs/cgroup
  services   4 services: 1 up, 1 stopping, 1 backoff, 1 unknown
  note       memory.max cannot be set: no memory controller

NAME     STATE      SINCE   PID  RESTARTS  PROCS   MEMORY  GUARANTEE           WHY
backend  backoff   150 ms     -         4      2        -  cgroup-kill marked  exit code 1; \
next start in 850 ms; 4 restarts so far
cache    stopping   2m 5s  4242         -      2  1.5 MiB  cgroup-kill marked  signal; at most 7 s more
later    unknown    2m 5s  4242         -      2        -  cgroup-kill marked
web      up         2m 5s  4242         -      2        -  cgroup-kill marked
",
        "",
    );
    assert_eq!(fake.asked()[1], "nought_list {\"memory\":true}");
}

#[test]
fn a_verified_stop_is_one_line() {
    let mut clean = receipt("verified");
    clean["escaped"] = json!([]);
    clean["foreign"] = json!([]);
    let done = json!({"service": "web", "state": "down", "receipt": clean});
    let fake = Fake::new(&[("nought_stop", Answer::Result(done.clone()))]);
    check(
        &fake.run("stop web"),
        0,
        "web: verified: stopped in 3.1 ms (exit code 0), 2 processes killed, nothing left\n",
        "",
    );
    check(
        &fake.run("stop web --json --force"),
        0,
        &format!("{done}\n"),
        "",
    );
    assert_eq!(
        fake.asked(),
        [
            "nought_stop {\"force\":false,\"name\":\"web\"}",
            "nought_stop {\"force\":true,\"name\":\"web\"}",
        ]
    );
}

#[test]
fn what_escaped_is_said() {
    let done = json!({"service": "web", "state": "down", "receipt": receipt("verified")});
    let fake = Fake::new(&[("nought_stop", Answer::Result(done))]);
    check(
        &fake.run("stop web"),
        0,
        "web: verified: stopped in 3.1 ms (exit code 0), 2 processes killed, \
1 process escaped and killed, 1 process foreign, nothing left\n",
        "",
    );
}

#[test]
fn a_lingering_stop_names_every_survivor_and_what_to_do() {
    let done = json!({"service": "web", "state": "lingering", "receipt": lingering()});
    let fake = Fake::new(&[("nought_stop", Answer::Result(done))]);
    check(
        &fake.run("stop web"),
        3,
        "\
web: lingering: 2 processes still live after 15.02 s
  because: 1 process lives 5 s after the last kill
  pid 4243 `cat /mnt/a b\\n`, state D, waits in fuse_wait_answer
      cgroup /nought-1/web/3/main
      holds mounts /mnt
      at request_wait_answer+0x1
      at fuse_simple_request+0x2
  pid 4250 `[x]`, state t, traced by pid 77
  next: those in state D wait inside the kernel, which no signal ends: bring back what they wait \
for (a disk, a network or FUSE file system), or `umount -f` it; end pid 77 or make it detach: it \
traces pid 4250 and keeps it from ending
  it turns verified by itself when they are gone (`nought status web`); `nought start --force web` \
starts another beside them
",
        "",
    );
}

#[test]
fn an_unverified_stop_says_why() {
    let mut receipt = receipt("unverified");
    receipt["reason"] = json!("/proc cannot be read: Permission denied");
    receipt["killed"] = json!([]);
    receipt["escaped"] = json!([]);
    receipt["foreign"] = json!([]);
    let done = json!({"service": "web", "state": "down", "receipt": receipt});
    let fake = Fake::new(&[("nought_stop", Answer::Result(done))]);
    check(
        &fake.run("stop web"),
        4,
        "\
web: unverified: stopped in 3.1 ms (exit code 0)
  not proven: /proc cannot be read: Permission denied
",
        "",
    );
}

#[test]
fn several_names_end_with_the_first_of_1_3_and_4() {
    let done = |name: &str, verdict: &str| {
        let mut receipt = receipt(verdict);
        receipt["service"] = json!(name);
        receipt["killed"] = json!([]);
        receipt["escaped"] = json!([]);
        receipt["foreign"] = json!([]);
        Answer::Result(json!({"service": name, "state": "down", "receipt": receipt}))
    };
    let down = |name: &str| {
        Answer::Result(json!({"service": name, "state": "down", "already_down": true}))
    };
    let no = Answer::Error(json!({
        "code": -32000, "message": "there is no service `nix`",
        "data": {"code_name": "ServiceNotFound", "service": "nix", "action": "stop", "retryable": false,
                 "cause_chain": [], "hint": "see `nought list`"},
    }));
    let script = |last: Answer| {
        [
            ("nought_stop", down("a")),
            ("nought_stop", done("b", "unverified")),
            ("nought_stop", done("c", "lingering")),
            ("nought_stop", last.clone()),
            ("nought_stop", last),
        ]
    };
    let fake = Fake::new(&script(done("d", "verified")));
    let stdout = "\
a: already down
b: unverified: stopped in 3.1 ms (exit code 0)
  not proven: no reason was given
c: lingering: 0 processes still live after 3.1 ms (exit code 0)
";
    let last = "d: verified: stopped in 3.1 ms (exit code 0), nothing left\n";
    check(&fake.run("stop a b c d"), 3, &format!("{stdout}{last}"), "");
    let fake = Fake::new(&script(no));
    check(
        &fake.run("stop a b c nix"),
        1,
        stdout,
        "error[ServiceNotFound]: there is no service `nix`\n  hint: see `nought list`\n",
    );
    let fake = Fake::new(&[
        ("nought_stop", down("a")),
        ("nought_stop", done("b", "unverified")),
    ]);
    assert_eq!(fake.run("stop a b").code, 4);
}

#[test]
fn a_dependent_that_lingers_ends_with_3_and_the_survivors() {
    let error = json!({
        "code": -32011, "message": "db was left running: web depends on it and lingers",
        "data": {"code_name": "DependentLingers", "service": "db", "action": "stop", "retryable": true,
                 "cause_chain": ["2 processes of web live"], "hint": "`nought stop --force db` stops it all the same",
                 "receipt": lingering()},
    });
    let fake = Fake::new(&[("nought_stop", Answer::Error(error.clone()))]);
    let stderr = "\
error[DependentLingers]: db was left running: web depends on it and lingers
  because: 2 processes of web live
  pid 4243 `cat /mnt/a b\\n`, state D, waits in fuse_wait_answer
      cgroup /nought-1/web/3/main
      holds mounts /mnt
      at request_wait_answer+0x1
      at fuse_simple_request+0x2
  pid 4250 `[x]`, state t, traced by pid 77
  hint: `nought stop --force db` stops it all the same
";
    check(&fake.run("stop db"), 3, "", stderr);
    let json = fake.run("stop db --json");
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(document["service"], "db");
    assert_eq!(document["error"]["code"], -32011);
    assert_eq!(
        document["error"]["data"]["receipt"]["survivors"][0]["pid"],
        4243
    );
    assert_eq!(json.stderr, stderr);
}

#[test]
fn start_and_restart_say_the_state_they_reached() {
    let up = json!({"service": "web", "state": "up"});
    let mut clean = receipt("verified");
    clean["escaped"] = json!([]);
    clean["foreign"] = json!([]);
    let again = json!({"service": "web", "state": "up", "receipt": clean});
    let fake = Fake::new(&[
        ("nought_start", Answer::Result(up)),
        ("nought_restart", Answer::Result(again)),
    ]);
    check(&fake.run("start web"), 0, "web: up\n", "");
    check(&fake.run("start --no-wait --force web"), 0, "web: up\n", "");
    check(
        &fake.run("restart web"),
        0,
        "web: verified: stopped in 3.1 ms (exit code 0), 2 processes killed, nothing left\nweb: up\n",
        "",
    );
    assert_eq!(
        fake.asked(),
        [
            "nought_start {\"force\":false,\"name\":\"web\",\"wait\":true}",
            "nought_start {\"force\":true,\"name\":\"web\",\"wait\":false}",
            "nought_restart {\"name\":\"web\",\"wait\":true}",
        ]
    );
}

#[test]
fn a_stop_that_is_not_waited_for_says_so() {
    let fake = Fake::new(&[("nought_stop", Answer::Silence)]);
    check(
        &fake.run("stop --no-wait web"),
        0,
        "web: stop asked for, not waited for\n",
        "",
    );
    let fake = Fake::new(&[(
        "nought_stop",
        Answer::Error(json!({"code": -32006, "message": "a shutdown is under way"})),
    )]);
    check(
        &fake.run("stop --no-wait web"),
        1,
        "",
        "error[ShuttingDown]: a shutdown is under way\n",
    );
}

#[test]
fn receipt_prints_the_rungs_with_their_times() {
    let fake = Fake::new(&[(
        "nought_receipt",
        Answer::Result(json!({"receipts": [receipt("verified"), lingering()]})),
    )]);
    check(
        &fake.run("receipt web --last 2"),
        0,
        "\
web, generation 3: verified
  cause      stop
  main       pid 4242, exit code 0
  guarantee  cgroup-kill marked
  started    2026-01-02T03:04:05.000Z
  began      2026-01-02T03:05:05.250Z
  took       3.1 ms
  0.012 ms  +0.012  signal       SIGTERM to group, grace 10 s
  1.200 ms  +1.188  main-exited  exit code 0
  1.250 ms   +0.05  kill
  2.000 ms   +0.75  empty
  2.900 ms    +0.9  scan         1 escaped and killed, conclusive
  2.950 ms   +0.05  trouble      failed to remove /sys/fs/cgroup/x: Device or resource busy
  3.050 ms    +0.1  fence
  3.100 ms   +0.05  verified
  killed
    pid 4243 sleep (parent 4242)
    pid 4244 sh\\u{1b}[2J (parent 1)
  escaped and killed
    pid 4245 daemon (parent 1)
  foreign
    pid 9 bash (parent 1): marked, and its ancestors are not ours

web, generation 3: lingering
  reason     1 process lives 5 s after the last kill
  cause      stop
  main       pid 4242
  guarantee  cgroup-kill marked
  started    2026-01-02T03:04:05.000Z
  began      2026-01-02T03:05:05.250Z
  took       15.02 s
  15020.000 ms  +15020  inspect
  15020.500 ms    +0.5  lingering
  survivors
    pid 4243 `cat /mnt/a b\\n`, state D, waits in fuse_wait_answer
        cgroup /nought-1/web/3/main
        holds mounts /mnt
        at request_wait_answer+0x1
        at fuse_simple_request+0x2
    pid 4250 `[x]`, state t, traced by pid 77
",
        "",
    );
    let json = fake.run("receipt web --json");
    assert_eq!(
        json.stdout,
        format!("{}\n{}\n", receipt("verified"), lingering())
    );
    let fake = Fake::new(&[("nought_receipt", Answer::Result(json!({"receipts": []})))]);
    check(
        &fake.run("receipt web"),
        0,
        "web: no receipt yet: it was never stopped\n",
        "",
    );
}

#[test]
fn log_prints_lines_and_what_was_lost() {
    let fake = Fake::new(&[(
        "nought_log",
        Answer::Result(json!({"lines": ["[+] web: hello", "[-] web: \u{1b}[31mred"], "lost": 7})),
    )]);
    check(
        &fake.run("log web"),
        0,
        "[+] web: hello\n[-] web: \u{1b}[31mred\n",
        "note: 7 earlier lines are no longer kept\n",
    );
    let socket = fake.socket.display();
    assert_eq!(fake.run("log -s -n 5").code, 0);
    assert_eq!(fake.run(&format!("-s {socket} log")).code, 0);
    assert_eq!(fake.run(&format!("log --socket {socket}")).code, 0);
    assert_eq!(
        fake.asked(),
        [
            "nought_log {\"name\":\"web\"}",
            "nought_log {\"lines\":5}",
            "nought_log {}",
            "nought_log {}",
        ]
    );
}

#[test]
fn shutdown_and_reboot_wait_for_the_proof() {
    let good = json!({"lingering": [], "unverified": [], "elapsed_ms": 23.4});
    let bad = json!({"lingering": ["web", "db"], "unverified": ["x"], "elapsed_ms": 25_000.0});
    let unsure = json!({"lingering": [], "unverified": ["x"], "elapsed_ms": 5.0});
    let fake = Fake::new(&[
        ("nought_shutdown", Answer::Result(good)),
        ("nought_shutdown", Answer::Result(bad)),
        ("nought_shutdown", Answer::Result(unsure)),
    ]);
    check(
        &fake.run("shutdown"),
        0,
        "verified: everything stopped in 23.4 ms, nothing left\n",
        "",
    );
    check(
        &fake.run("reboot"),
        3,
        "\
lingering: everything stopped in 25 s
  something lives of: web, db
  could not be proven of: x
  the receipts are in the supervisor's state directory and in its log
",
        "",
    );
    assert_eq!(fake.run("shutdown").code, 4);
    assert_eq!(
        fake.asked(),
        [
            "nought_shutdown {\"kind\":\"poweroff\"}",
            "nought_shutdown {\"kind\":\"reboot\"}",
            "nought_shutdown {\"kind\":\"poweroff\"}",
        ]
    );
}

#[test]
fn debug_shows_what_goes_over_the_socket() {
    let fake = Fake::new(&[("nought_list", Answer::Result(json!({"services": []})))]);
    check(
        &fake.run("-d list"),
        0,
        "no services\n",
        "\
> {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"nought_list\"}
< {\"id\":1,\"jsonrpc\":\"2.0\",\"result\":{\"services\":[]}}
",
    );
}
