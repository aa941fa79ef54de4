//! Commands that look, and those that take services in and out: whole outputs and exit codes.

use serde_json::{Value, json};

use crate::fake::{self, Answer, Fake, check, directory, output, program, run};

fn status(name: &str, state: &str) -> Value {
    json!({
        "name": name, "state": state, "detail": "", "target": "up", "pid": 0, "generation": 3,
        "since_ms": 125_300, "restarts": 0, "processes": 0, "guarantee": "cgroup-kill marked",
        "last_exit": null, "next_start_ms": null, "rung": null, "after": {}, "requires": {},
    })
}

/// late waits for web and for nobody; web waits for db, which fails again and again.
fn chain() -> Vec<Value> {
    let mut late = status("late", "blocked");
    late["detail"] = json!("nobody is unknown");
    late["after"] = json!({"nobody": "unknown", "web": "blocked"});
    let mut web = status("web", "blocked");
    web["detail"] = json!("db is backoff");
    web["after"] = json!({"db": "backoff", "net": "up"});
    web["requires"] = json!({"db": "backoff"});
    let mut db = status("db", "backoff");
    db["next_start_ms"] = json!(900);
    db["restarts"] = json!(2);
    db["last_exit"] = json!({"code": 3});
    vec![db, late, status("net", "up"), web]
}

fn asked_for(name: &str, services: &[Value]) -> Value {
    let found = services.iter().find(|service| service["name"] == name);
    found.unwrap().clone()
}

#[test]
fn why_follows_the_chain_down_to_what_can_be_done() {
    let services = chain();
    let late = || {
        let status = asked_for("late", &services);
        ("nought_status", Answer::Result(status))
    };
    let nobody = |message: &str, causes: &[&str], hint: &str| {
        let message = format!("there is no service \"nobody\"{message}");
        let data = json!({"code_name": "ServiceNotFound", "service": "nobody",
                          "cause_chain": causes, "hint": hint});
        let error = json!({"code": -32000, "message": message, "data": data});
        ("nought_status", Answer::Error(error))
    };
    let list = ("nought_list", Answer::Result(json!({"services": services})));
    let log = json!({"lines": ["[-] db: cannot bind\u{1b}[2J"], "lost": 0});
    let log = ("nought_log", Answer::Result(log));
    let fake = Fake::new(&[
        late(),
        nobody("", &[], "see"),
        late(),
        nobody(
            ": its file is refused",
            &["/etc/nought/nobody.yaml:1:1: error: \u{1b}\n    exce: x\n    ^^^^"],
            "mend the file",
        ),
        late(),
        nobody("", &[], "see"),
        list,
        log,
    ]);
    check(
        &fake.run("why late"),
        0,
        "\
late is blocked for 2m 5s, wanted up: nobody is unknown
  nobody is unknown: there is no such service
    next: write its file and take it in with `nought monitor nobody`; `nought check` says whether a file is wrong
  web is blocked for 2m 5s, wanted up: db is backoff
    db is backoff for 2m 5s, wanted up: next start in 900 ms; 2 restarts so far
      its last start ended with exit code 3
      said: [-] db: cannot bind\\u{1b}[2J
      next: it is tried again by itself; `nought start db` tries at once
",
        "",
    );
    assert_eq!(
        fake.asked(),
        [
            "nought_status {\"name\":\"late\"}",
            "nought_list null",
            "nought_status {\"name\":\"nobody\"}",
            "nought_log {\"lines\":3,\"name\":\"db\"}",
        ]
    );
    let said = fake.run("why late").stdout;
    let refused = "\
  nobody is unknown: there is no service \"nobody\": its file is refused
    /etc/nought/nobody.yaml:1:1: error: \\u{1b}
        exce: x
        ^^^^
    next: mend the file
  web is blocked";
    assert!(said.contains(refused), "{said}");
    let names = |run: crate::fake::Run| -> Vec<String> {
        let lines = run.stdout.lines();
        let documents = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
        documents
            .map(|document| document["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        names(fake.run("why late --json")),
        ["late", "nobody", "web", "db"]
    );
}

#[test]
fn why_of_every_state_says_what_to_do_next() {
    for (state, next) in [
        (
            "failed",
            "  next: `nought log a`, mend it, then `nought start a`\n",
        ),
        (
            "lingering",
            "  next: `nought receipt a` names what survives, and what holds it\n",
        ),
        ("down", "  next: `nought start a`\n"),
        (
            "starting",
            "  next: `nought log a/test` if its test does not pass\n",
        ),
        (
            "stopping",
            "  next: `nought plan stop a` says how long it may take\n",
        ),
        ("up", ""),
        ("done", ""),
    ] {
        let service = status("a", state);
        let fake = Fake::new(&[
            ("nought_status", Answer::Result(service.clone())),
            (
                "nought_list",
                Answer::Result(json!({"services": [service]})),
            ),
            (
                "nought_log",
                Answer::Result(json!({"lines": [], "lost": 0})),
            ),
        ]);
        let expected = format!("a is {state} for 2m 5s, wanted up\n{next}");
        check(&fake.run("why a"), 0, &expected, "");
    }
}

fn usage(status: Value, processes: &[(u32, u32, &str)]) -> Value {
    let processes: Vec<Value> = processes
        .iter()
        .map(|(pid, ppid, comm)| {
            json!({"pid": pid, "ppid": ppid, "comm": comm, "memory_bytes": 1_572_864,
                   "cpu_ms": 120.0, "cpu_percent": 0.5})
        })
        .collect();
    json!({
        "status": status, "memory_bytes": 13_107_200, "memory_from": "cgroup", "cpu_ms": 1234.5,
        "cpu_from": "cgroup", "cpu_percent": 0.25, "processes": processes,
    })
}

#[test]
fn tree_shows_processes_and_dependencies_once() {
    let mut web = status("web", "up");
    web["requires"] = json!({"db": "up"});
    web["after"] = json!({"gone": "unknown"});
    let mut app = status("app", "blocked");
    app["after"] = json!({"db": "up"});
    let (mut x, mut y) = (status("x", "failed"), status("y", "failed"));
    x["after"] = json!({"y": "failed"});
    y["after"] = json!({"x": "failed"});
    let services = json!({"services": [
        usage(app, &[]),
        usage(status("db", "up"), &[(30, 1, "postgres"), (31, 30, "writer\u{1b}"), (33, 31, "x"), (40, 1, "stray")]),
        usage(web, &[(50, 1, "nginx")]),
        usage(x, &[]),
        usage(y, &[]),
    ]});
    let no = json!({"code": -32000, "message": "there is no service \"nix\": its file is refused",
                    "data": {"code_name": "ServiceNotFound", "service": "nix",
                             "cause_chain": ["nix.yaml:1:1: error: no"], "hint": "mend it"}});
    let fake = Fake::new(&[
        ("nought_usage", Answer::Result(services)),
        ("nought_status", Answer::Error(no)),
    ]);
    check(
        &fake.run("tree"),
        0,
        "\
app  blocked
└─ after db  up, 4 processes
   ├─ 30 postgres
   │  └─ 31 writer\\u{1b}
   │     └─ 33 x
   └─ 40 stray
web  up, 1 process
├─ 50 nginx
├─ requires db  up, shown above
└─ after gone  unknown
x  failed
└─ after y  failed
   └─ after x  failed, shown above
",
        "",
    );
    check(
        &fake.run("tree web nix"),
        1,
        "\
web  up, 1 process
├─ 50 nginx
├─ requires db  up, 4 processes
│  ├─ 30 postgres
│  │  └─ 31 writer\\u{1b}
│  │     └─ 33 x
│  └─ 40 stray
└─ after gone  unknown
",
        "error[ServiceNotFound]: there is no service \"nix\": its file is refused\n  \
         because: nix.yaml:1:1: error: no\n  hint: mend it\n",
    );
    let said = fake.run("tree web nix --json");
    let documents: Vec<Value> = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!((said.code, documents.len()), (1, 2), "{}", said.stdout);
    assert_eq!(documents[0]["service"], "nix");
    assert_eq!(
        documents[0]["error"]["data"]["code_name"],
        "ServiceNotFound"
    );
    assert_eq!(documents[1]["status"]["name"], "web");
    assert_eq!(fake.run("tree --json").stdout.lines().count(), 5);
    let none = Fake::new(&[("nought_usage", Answer::Result(json!({"services": []})))]);
    check(&none.run("tree"), 0, "no services\n", "");
}

#[test]
fn stats_say_where_the_numbers_come_from() {
    let mut of_processes = usage(status("b", "up"), &[(7, 1, "b")]);
    of_processes["memory_from"] = json!("processes");
    of_processes["cpu_from"] = json!("processes");
    let pressure = |some: f64| json!({"some_percent": some, "some_ms": 1.5});
    of_processes["pressure"] =
        json!({"cpu": pressure(12.5), "memory": pressure(0.0), "io": pressure(0.25)});
    of_processes["io_read_bytes"] = json!(3 << 20);
    of_processes["io_written_bytes"] = json!(0);
    let fake = Fake::new(&[
        (
            "nought_usage",
            Answer::Result(
                json!({"services": [usage(status("a", "up"), &[(30, 1, "sh"), (31, 30, "sleep")])]}),
            ),
        ),
        (
            "nought_usage",
            Answer::Result(json!({"services": [of_processes]})),
        ),
        (
            "nought_usage",
            Answer::Result(json!({"services": [usage(status("c", "down"), &[])]})),
        ),
    ]);
    check(
        &fake.run("stats a"),
        0,
        "\
a: 2 processes
  memory  12.5 MiB (its cgroup's account)
  cpu     1.23 s (its cgroup's account), 0.25 % of a processor since it started
  PID  PARENT   MEMORY  CPU TIME  CPU %  COMMAND
   30       1  1.5 MiB    120 ms   0.50  sh
   31      30  1.5 MiB    120 ms   0.50  sleep
",
        "",
    );
    check(
        &fake.run("stats b"),
        0,
        "\
b: 1 process
  memory    12.5 MiB (the sum over its processes)
  cpu       1.23 s (the sum over its processes), 0.25 % of a processor since it started
  io        3.0 MiB read, 0 B written
  pressure  cpu 12.50 %, memory 0.00 %, io 0.25 % of the last 10 s
  PID  PARENT   MEMORY  CPU TIME  CPU %  COMMAND
    7       1  1.5 MiB    120 ms   0.50  b
",
        "",
    );
    check(&fake.run("stats c"), 0, "c: no process: it is down\n", "");
}

fn planned(service: &str, wave: u32, waits_for: &[&str]) -> Value {
    json!({
        "service": service, "state": "up", "wave": wave, "waits_for": waits_for,
        "stop_command": wave == 1, "signal": "SIGTERM", "to": "group", "wish_ms": 10_000.0,
        "grace_ms": if wave == 1 { 4000.0 } else { 10_000.0 }, "proof_ms": 5000.0,
        "asked_at_ms": 0.0, "budget": null, "ends_at_ms": 15_000.0 + 8000.0 * f64::from(wave),
    })
}

#[test]
fn a_plan_has_waves_and_the_worst_case() {
    let services = [planned("web", 0, &[]), planned("db", 1, &["web"])];
    let shutdown = json!({"services": services, "worst_ms": 23_000.0, "deadline_ms": 25_000.0,
                          "end_reserve_ms": 2000.0});
    let stop =
        json!({"services": [planned("web", 0, &[])], "worst_ms": 15_000.0, "deadline_ms": null});
    let nothing = json!({"services": [], "worst_ms": 0.0, "deadline_ms": null});
    let fake = Fake::new(&[
        ("nought_plan", Answer::Result(shutdown)),
        ("nought_plan", Answer::Result(stop)),
        ("nought_plan", Answer::Result(nothing)),
    ]);
    check(
        &fake.run("plan shutdown --deadline 25s"),
        0,
        "\
a shutdown would stop 2 services in 2 waves, at the worst in 23 s of the 25 s it has, 2 s of them for flush and final sweep; nothing was done
  WAVE  SERVICE  STATE  ASKED BY                            WISH  GRACE  RESERVE  LATEST END  WAITS FOR
     1  web      up     SIGTERM to group                    10 s   10 s      5 s        15 s
     2  db       up     its stop command, SIGTERM to group  10 s    4 s      5 s        23 s  web
  db: the deadline leaves 4 s of the 10 s of grace its file asks for
",
        "",
    );
    check(
        &fake.run("plan stop web --with-dependents"),
        0,
        "\
a stop of web would stop 1 service in 1 wave, at the worst in 15 s; nothing was done
  WAVE  SERVICE  STATE  ASKED BY          WISH  GRACE  RESERVE  LATEST END  WAITS FOR
     1  web      up     SIGTERM to group  10 s   10 s      5 s        15 s
",
        "",
    );
    check(
        &fake.run("plan stop web"),
        0,
        "a stop of web would stop nothing: nothing of it runs\n",
        "",
    );
    assert_eq!(
        fake.asked(),
        [
            "nought_plan {\"deadline_ms\":25000}",
            "nought_plan {\"name\":\"web\",\"with_dependents\":true}",
            "nought_plan {\"name\":\"web\"}",
        ]
    );
}

#[test]
fn several_services_in_one_status() {
    let no = json!({"code": -32000, "message": "there is no service \"x\"",
                    "data": {"code_name": "ServiceNotFound", "hint": "`nought list` shows those there are"}});
    let fake = Fake::new(&[
        ("nought_status", Answer::Result(status("a", "up"))),
        ("nought_status", Answer::Error(no)),
        ("nought_status", Answer::Result(status("b", "done"))),
    ]);
    check(
        &fake.run("status a x b"),
        1,
        "\
NAME  STATE  SINCE  PID  RESTARTS  PROCS  MEMORY  GUARANTEE           WHY
a     up     2m 5s    -         -      -       -  cgroup-kill marked
b     done   2m 5s    -         -      -       -  cgroup-kill marked
",
        "error[ServiceNotFound]: there is no service \"x\"\n  hint: `nought list` shows those there are\n",
    );
}

#[test]
fn services_come_and_go_and_are_signalled() {
    let taken = json!({"code": -32001, "message": "b is monitored already",
                       "data": {"code_name": "ServiceAlreadyMonitored", "hint": "forget it first"}});
    let fake = Fake::new(&[
        ("service_monitor", Answer::Result(Value::Null)),
        ("service_monitor", Answer::Error(taken)),
        ("service_forget", Answer::Result(Value::Null)),
        ("service_kill", Answer::Result(Value::Null)),
    ]);
    check(
        &fake.run("monitor a b"),
        1,
        "a: monitored\n",
        "error[ServiceAlreadyMonitored]: b is monitored already\n  hint: forget it first\n",
    );
    check(&fake.run("forget a"), 0, "a: forgotten\n", "");
    check(
        &fake.run("forget a --json"),
        0,
        "{\"done\":\"forgotten\",\"service\":\"a\"}\n",
        "",
    );
    check(&fake.run("kill a hup"), 0, "a: hup sent\n", "");
    assert_eq!(
        fake.asked().last().unwrap(),
        "service_kill {\"name\":\"a\",\"signal\":\"hup\"}"
    );
}

#[test]
fn several_that_stop_are_asked_dependents_first_and_shown_as_given() {
    let mut web = status("web", "up");
    web["after"] = json!({"db": "up"});
    let done = |name: &str| {
        Answer::Result(json!({"service": name, "state": "down", "already_down": true}))
    };
    let fake = Fake::new(&[
        (
            "nought_list",
            Answer::Result(json!({"services": [status("db", "up"), web]})),
        ),
        ("nought_stop", done("web")),
        ("nought_stop", done("db")),
    ]);
    check(
        &fake.run("stop db web"),
        0,
        "db: already down\nweb: already down\n",
        "",
    );
    assert_eq!(
        fake.asked(),
        [
            "nought_list null",
            "nought_stop {\"force\":false,\"name\":\"web\"}",
            "nought_stop {\"force\":false,\"name\":\"db\"}",
        ]
    );
}

#[test]
fn what_goes_down_with_a_service_is_told_and_counts() {
    let receipt = |service: &str, verdict: &str| json!({"service": service, "verdict": verdict, "elapsed_ms": 3.0, "reason": "x"});
    let stopped = json!({"service": "db", "state": "down", "receipt": receipt("db", "verified")});
    let plan = json!({"services": [planned("web", 0, &[]), planned("app", 0, &[]),
                                   planned("db", 1, &["web", "app"])]});
    let fake = Fake::new(&[
        ("nought_plan", Answer::Result(plan)),
        ("nought_stop", Answer::Result(stopped)),
        ("nought_status", Answer::Result(status("web", "down"))),
        ("nought_status", Answer::Result(status("app", "lingering"))),
        (
            "nought_receipt",
            Answer::Result(json!({"receipts": [receipt("web", "verified")]})),
        ),
        (
            "nought_receipt",
            Answer::Result(json!({"receipts": [receipt("app", "lingering")]})),
        ),
    ]);
    check(
        &fake.run("stop --with-dependents db"),
        3,
        "\
db: verified: stopped in 3 ms, nothing left
web: verified: stopped in 3 ms, nothing left
app: lingering: 0 processes still live after 3 ms
  because: x
",
        "",
    );
    assert_eq!(
        fake.asked()[..2],
        [
            "nought_plan {\"name\":\"db\",\"with_dependents\":true}",
            "nought_stop {\"force\":false,\"name\":\"db\",\"with_dependents\":true}",
        ]
    );
}

#[test]
fn a_followed_log_ends_with_its_supervisor() {
    let fake = Fake::new(&[(
        "nought_subscribeLogs",
        Answer::Bytes(
            b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":5}\n\
              {\"jsonrpc\":\"2.0\",\"method\":\"nought_subscribeLogs\",\"params\":{\"subscription\":5,\"result\":{\"lines\":[\"[+] a: x\"],\"lost\":9}}}\n\
              {\"jsonrpc\":\"2.0\",\"method\":\"nought_subscribeLogs\",\"params\":{\"subscription\":5,\"result\":{\"lines\":[\"[+] a: y\"],\"lost\":3}}}\n\
              nonsense",
        ),
    )]);
    let said = fake.run("log -f -n 2 a");
    assert_eq!(
        (said.code, said.stdout.as_str()),
        (1, "[+] a: x\n[+] a: y\n")
    );
    assert!(said.stderr.contains("error[Protocol]"), "{}", said.stderr);
    assert!(
        said.stderr.starts_with(
            "note: 9 earlier lines are no longer kept\nnote: 3 lines were lost: this reader was too slow\n"
        ),
        "{}",
        said.stderr
    );
    assert_eq!(
        fake.asked()[0],
        "nought_subscribeLogs {\"lines\":2,\"name\":\"a\"}"
    );
}

#[test]
fn manual_pages_and_completions_are_made_of_the_definition() {
    let dir = directory();
    let socket = dir.join("s");
    let page = run(&socket, "man");
    assert_eq!((page.code, page.stderr.as_str()), (0, ""));
    assert!(page.stdout.contains(".TH nought 1"), "{}", page.stdout);
    let pages = run(&socket, &format!("man --dir {}", dir.join("man").display()));
    check(&pages, 0, "", "");
    let mut names: Vec<String> = std::fs::read_dir(dir.join("man"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    for name in [
        "nought.1",
        "nought-stop.1",
        "nought-plan-shutdown.1",
        "nought-init.1",
    ] {
        assert!(names.iter().any(|known| known == name), "{name}: {names:?}");
    }
    let refused = run(&socket, "man --dir /dev/null/x");
    assert_eq!(refused.code, 1);
    assert!(
        refused.stderr.contains("hint: name another directory"),
        "{}",
        refused.stderr
    );
    for (shell, word) in [
        ("bash", "complete -F"),
        ("zsh", "#compdef nought"),
        ("fish", "complete -c nought"),
    ] {
        let script = run(&socket, &format!("completions {shell}"));
        assert_eq!((script.code, script.stderr.as_str()), (0, ""));
        assert!(script.stdout.contains(word), "{shell}");
        assert!(script.stdout.contains("with-dependents"), "{shell}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_socket_in_a_directory_of_everybodys_is_looked_at_twice() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let fake = Fake::new(&[("nought_list", Answer::Result(json!({"services": []})))]);
    let shared = directory();
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let link = shared.join("s");
    symlink(&fake.socket, &link).unwrap();
    let refused = run(&link, "list");
    check(
        &refused,
        1,
        "",
        "\
error[NotReachable]: cannot reach a supervisor at SOCKET
  because: it is a symbolic link in a directory that everybody may write to
  hint: somebody may have put it there: see where it leads (readlink), and name that with -s if it is your supervisor's socket
",
    );
    // Where nobody else may write, a link is its owner's own.
    std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o755)).unwrap();
    check(&run(&link, "list"), 0, "no services\n", "");
    std::fs::remove_dir_all(shared).unwrap();
}

#[test]
fn called_as_zinit_hints_name_it() {
    let mut late = status("late", "down");
    late["target"] = json!("down");
    let fake = Fake::new(&[
        ("nought_status", Answer::Result(late.clone())),
        ("nought_list", Answer::Result(json!({"services": [late]}))),
    ]);
    let dir = directory();
    let zinit = dir.join("zinit");
    std::os::unix::fs::symlink(program().get_program(), &zinit).unwrap();
    let mut command = std::process::Command::new(&zinit);
    command
        .env_clear()
        .arg("-s")
        .arg(&fake.socket)
        .args(["why", "late"]);
    check(
        &output(command, &fake.socket),
        0,
        "late is down for 2m 5s, wanted down\n  next: `zinit start late`\n",
        "",
    );
    let done = json!({"service": "web", "state": "starting"});
    let fake = Fake::new(&[
        ("nought_start", Answer::Result(done.clone())),
        ("nought_restart", Answer::Result(done)),
    ]);
    for words in [
        &["start", "web"][..],
        &["restart", "web"],
        &["start", "--wait", "web"],
    ] {
        let mut command = std::process::Command::new(&zinit);
        command.env_clear().arg("-s").arg(&fake.socket).args(words);
        check(&output(command, &fake.socket), 0, "web: starting\n", "");
    }
    let waited: Vec<bool> = fake
        .asked()
        .iter()
        .map(|asked| asked.contains("\"wait\":true"))
        .collect();
    assert_eq!(waited, [false, false, true], "{:?}", fake.asked());
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn called_as_zinit_unknown_keys_are_warned_of() {
    let dir = directory();
    let zinit = dir.join("zinit");
    std::os::unix::fs::symlink(program().get_program(), &zinit).unwrap();
    let mut command = std::process::Command::new(&zinit);
    command
        .env_clear()
        .args(["-s", "/nonexistent/zinit.sock", "list"]);
    let hint = "With another socket, name it: -s PATH";
    let error = "cannot reach a supervisor at /nonexistent/zinit.sock\n  \
                 because: No such file or directory (os error 2)";
    fake::check(
        &output(command, &dir),
        1,
        "",
        &format!("error[NotReachable]: {error}\n  hint: is `zinit init` running? {hint}\n"),
    );
    let mut command = std::process::Command::new(&zinit);
    command.env_clear().args(["check", "--help"]);
    let help = output(command, &dir).stdout;
    assert!(help.contains("[default: /etc/zinit]"), "{help}");
    assert!(help.contains("[default: /tmp/zinit.sock]"), "{help}");
    let mut check = std::process::Command::new(&zinit);
    std::fs::create_dir(dir.join("services")).unwrap();
    std::fs::write(dir.join("services/a.yaml"), "exec: x\nunknown: 1\n").unwrap();
    check
        .env_clear()
        .args(["check", "-c"])
        .arg(dir.join("services"));
    let said = output(check, &dir);
    assert_eq!(said.code, 0);
    assert!(
        said.stdout.contains("warning: unknown key `unknown`"),
        "{}",
        said.stdout
    );
    std::fs::remove_dir_all(dir).unwrap();
}
