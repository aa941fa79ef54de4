//! zinit's contract on the socket, line by line: methods, error codes, service files at run time,
//! and clients that are not ours.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use nought::api::METHODS;
use serde_json::{Value, json};

use crate::look::{self, until};
use crate::receipt::assert_verified;
use crate::world::World;

fn with_web() -> World {
    let mut world = World::new();
    world.fixture("web", "stay", "").init();
    world.reach("web", "up");
    world
}

/// The error's code and name, which have to be there with everything zinit's data have.
fn code(error: &Value, service: &str, action: &str) -> i64 {
    let data = &error["data"];
    assert!(data["code_name"].is_string(), "{error}");
    assert!(data["retryable"].is_boolean(), "{error}");
    assert!(data["cause_chain"].is_array(), "{error}");
    assert!(data["hint"].is_string(), "{error}");
    assert_eq!(
        (&data["service"], &data["action"]),
        (&json!(service), &json!(action)),
        "{error}"
    );
    error["code"].as_i64().unwrap()
}

fn files(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.dir.join("services")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn services_are_taken_in_and_out_while_others_run() {
    let mut world = with_web();
    let pid = world.status("web")["pid"].clone();
    let call = |world: &World, method: &str, name: &str| world.call(method, json!([name]));
    let error = call(&world, "service_monitor", "web").unwrap_err();
    assert_eq!(code(&error, "web", "monitor"), -32001);
    let error = call(&world, "service_monitor", "new").unwrap_err();
    assert_eq!(code(&error, "new", "monitor"), -32000);
    for name in ["../new", "a/b", "a\\b", "a.b", ""] {
        let error = call(&world, "service_monitor", name).unwrap_err();
        assert_eq!(code(&error, name, "monitor"), -32602);
    }

    world.service("new", "exec: x\nafer: [web]\n");
    let error = call(&world, "service_monitor", "new").unwrap_err();
    assert_eq!(code(&error, "new", "monitor"), -32005);
    let causes = error["data"]["cause_chain"].to_string();
    assert!(
        causes.contains("new.yaml:2:1") && causes.contains("after"),
        "{causes}"
    );

    world.fixture("new", "stay", "after: [web]");
    assert_eq!(call(&world, "service_monitor", "new"), Ok(Value::Null));
    world.reach("new", "up");
    let error = call(&world, "service_forget", "new").unwrap_err();
    assert_eq!(code(&error, "new", "forget"), -32002);
    let error = call(&world, "service_forget", "nobody").unwrap_err();
    assert_eq!(code(&error, "nobody", "forget"), -32000);

    world.service("ring", "exec: x\nafter: [ring2]\n");
    call(&world, "service_monitor", "ring").unwrap();
    world.service("ring2", "exec: x\nafter: [ring]\n");
    let error = call(&world, "service_monitor", "ring2").unwrap_err();
    assert_eq!(code(&error, "ring2", "monitor"), -32005);
    assert_eq!(world.status("ring")["state"], "blocked", "as it was");

    world.stop_verified("new");
    assert_eq!(call(&world, "service_forget", "new"), Ok(Value::Null));
    let list = world.call("service_list", json!([])).unwrap();
    assert_eq!(list, json!({"web": "Running", "ring": "Blocked"}));
    assert_eq!(world.status("web")["pid"], pid, "and web never noticed");
    // Its file changed meanwhile: what is taken in again is what it says now.
    world.fixture("new", "stay", "");
    assert_eq!(call(&world, "service_monitor", "new"), Ok(Value::Null));
    world.reach("new", "up");
    assert_eq!(world.status("new")["after"], json!({}));
    world.end();
}

#[test]
fn a_signal_is_sent_to_the_group_and_nothing_after_it() {
    let mut world = World::new();
    let script = "trap \"echo hup\" HUP; echo ready; while :; do sleep 0.05; done";
    world.service("web", &format!("exec: sh -c '{script}'\n"));
    world.service("idle", "exec: sleep 1000\noneshot: true\nafter: [nobody]\n");
    world.init();
    let log = |world: &World| {
        world
            .call("stream_currentLogs", json!(["web"]))
            .unwrap()
            .to_string()
    };
    world.reach("web", "up");
    until("the trap is set", || {
        log(&world).contains("ready").then_some(())
    });
    let kill = |name: &str, signal: &str| world.call("service_kill", json!([name, signal]));
    for signal in ["SIGHUP", "hup", "1"] {
        let before = log(&world).matches("hup").count();
        assert_eq!(kill("web", signal), Ok(Value::Null));
        until("it came", || {
            (log(&world).matches("hup").count() > before).then_some(())
        });
    }
    for signal in ["SIGNOPE", "0", "65", ""] {
        assert_eq!(
            code(&kill("web", signal).unwrap_err(), "web", "signal"),
            -32004
        );
    }
    assert_eq!(
        code(&kill("idle", "TERM").unwrap_err(), "idle", "signal"),
        -32003
    );
    assert_eq!(
        code(&kill("nobody", "TERM").unwrap_err(), "nobody", "signal"),
        -32000
    );
    let pid = u32::try_from(world.status("web")["pid"].as_u64().unwrap()).unwrap();
    world.note(pid);
    kill("web", "STOP").unwrap();
    until("it is stopped, and stays so", || {
        (look::state(pid).as_deref() == Some("T")).then_some(())
    });
    assert!(world.client().is_answered("nought_info"));
    assert_eq!(look::state(pid).as_deref(), Some("T"));
    world.stop_verified("web");
    world.end();
}

#[test]
fn service_files_are_written_read_and_removed_in_their_directory_alone() {
    let world = with_web();
    let create = |name: &str, content: Value| world.call("service_create", json!([name, content]));
    let content =
        json!({"exec": "sleep 1000", "oneshot": false, "after": ["web"], "env": {"A": "1: x"}});
    let said = create("new", content.clone()).unwrap();
    assert_eq!(said, "Service 'new' created successfully");
    let path = world.dir.join("services/new.yaml");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(
        world.call("service_get", json!(["new"])),
        Ok(content.clone())
    );
    assert_eq!(
        world.call("service_get", json!({"name": "new"})),
        Ok(content.clone())
    );
    let list = world.call("service_list", json!([])).unwrap();
    assert_eq!(list, json!({"web": "Running"}), "nothing is started");

    let error = create("new", content.clone()).unwrap_err();
    assert_eq!(code(&error, "new", "create"), -32007);
    // A link that leads elsewhere is not followed.
    std::os::unix::fs::symlink(
        world.dir.join("elsewhere"),
        world.dir.join("services/link.yaml"),
    )
    .unwrap();
    let error = create("link", content.clone()).unwrap_err();
    assert_eq!(code(&error, "link", "create"), -32007);
    assert!(!world.dir.join("elsewhere").exists());
    let long = "x".repeat(251);
    for name in [
        "../new",
        "a/b",
        "a\\b",
        ".hidden",
        "a.b",
        "",
        "a\nb",
        "a\u{202e}b",
        "a\u{200b}",
        &long,
    ] {
        let error = create(name, content.clone()).unwrap_err();
        assert_eq!(code(&error, name, "create"), -32602);
    }
    let error = create(&long, content.clone()).unwrap_err();
    let said = error["message"].as_str().unwrap();
    assert!(
        said.contains("at most 250 bytes, this one has 251"),
        "{said}"
    );
    let longest = "x".repeat(250);
    create(&longest, content.clone()).unwrap();
    world.call("service_monitor", json!([longest])).unwrap();
    world.reach(&longest, "up");
    world.stop_verified(&longest);
    world.call("service_forget", json!([longest])).unwrap();
    world.call("service_delete", json!([longest])).unwrap();
    for bad in [
        json!({}),
        json!({"exec": ""}),
        json!({"exec": "x", "exce": "y"}),
        json!({"exec": ["x", 7, null, {"a": 1}]}),
        json!({"exec": "x", "shutdown_timeout": -1}),
        json!({"exec": "x", "after": {"a": 1}}),
    ] {
        let error = create("bad", bad.clone()).unwrap_err();
        assert_eq!(code(&error, "bad", "create"), -32005, "{bad}");
        assert!(
            !error["data"]["cause_chain"].as_array().unwrap().is_empty(),
            "{error}"
        );
    }
    let error = world
        .call("service_create", json!(["bad", "exec: x"]))
        .unwrap_err();
    assert_eq!(error["code"], -32602);
    assert_eq!(
        files(&world),
        ["link.yaml", "new.yaml", "web.yaml"],
        "and no draft is left"
    );

    let said = world.call("service_delete", json!(["new"])).unwrap();
    assert_eq!(said, "Service 'new' deleted successfully");
    for method in ["service_delete", "service_get"] {
        let error = world.call(method, json!(["new"])).unwrap_err();
        let action = method.trim_start_matches("service_");
        assert_eq!(code(&error, "new", action), -32000);
        let error = world.call(method, json!(["../web"])).unwrap_err();
        assert_eq!(code(&error, "../web", action), -32602);
    }
    // The file of what runs: the service goes on.
    world.call("service_delete", json!(["web"])).unwrap();
    assert_eq!(world.status("web")["state"], "up");
    let config = world.dir.join("services");
    std::fs::remove_dir_all(&config).unwrap();
    let error = create("new", content).unwrap_err();
    assert_eq!(code(&error, "new", "create"), -32008);
    world.end();
}

#[test]
fn stats_are_read_and_not_measured() {
    let mut world = World::new();
    world.fixture("web", "children 3", "");
    world
        .service("idle", "exec: sleep 1000\nafter: [nobody]\n")
        .init();
    world.reach("web", "up");
    until("its children are there", || {
        (world.status("web")["processes"] == 4).then_some(())
    });
    let stats = world.call("service_stats", json!(["web"])).unwrap();
    let pid = world.pid("web", "pid");
    assert_eq!(
        (&stats["name"], &stats["pid"]),
        (&json!("web"), &json!(pid))
    );
    let children = stats["children"].as_array().unwrap();
    assert_eq!(children.len(), 3, "{stats}");
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(number(&stats["memory_usage"]) > 100_000.0, "{stats}");
    assert!(
        (0.0..=800.0).contains(&number(&stats["cpu_usage"])),
        "{stats}"
    );
    for child in children {
        assert!(number(&child["memory_usage"]) > 0.0 && child["cpu_usage"].is_number());
    }
    let error = world.call("service_stats", json!(["idle"])).unwrap_err();
    assert_eq!(code(&error, "idle", "stats"), -32003);
    assert_eq!(
        error["message"],
        "idle has no stats: no process of it runs, it is blocked"
    );
    let error = world.call("service_stats", json!(["nobody"])).unwrap_err();
    assert_eq!(code(&error, "nobody", "stats"), -32000);
    world.end();
}

#[test]
fn every_method_is_there_and_refuses_what_it_does_not_know() {
    let world = with_web();
    for method in METHODS {
        let name = method.name;
        let error = world.call(name, json!({"no such": 1})).unwrap_err();
        assert_eq!(error["code"], -32602, "{name}: {error}");
        let many: Vec<Value> = vec![json!(1); method.params.len() + 1];
        let error = world.call(name, json!(many)).unwrap_err();
        assert_eq!(error["code"], -32602, "{name}: {error}");
        let required = method.params.iter().filter(|param| param.required);
        for param in required {
            let error = world.call(name, json!({})).unwrap_err();
            assert_eq!(
                error["code"], -32602,
                "{name} without {}: {error}",
                param.name
            );
        }
    }
    for name in [
        "system_start_http_server",
        "service_",
        "nought_",
        "rpc.nope",
        "",
    ] {
        assert_eq!(
            world.call(name, json!([])).unwrap_err()["code"],
            -32601,
            "{name}"
        );
    }
    let document = world.call("rpc.discover", json!([])).unwrap();
    let same = world.call("rpc_discover", json!({})).unwrap();
    assert_eq!(document, same);
    let document: Value = serde_json::from_str(document.as_str().unwrap()).unwrap();
    let listed = document["methods"].as_array().unwrap();
    assert_eq!(listed.len(), METHODS.len());
    // By position and by name it is the same.
    for method in [
        "service_status",
        "nought_receipt",
        "stream_currentLogs",
        "nought_plan",
    ] {
        let by_position = world.call(method, json!(["web"])).unwrap();
        assert_eq!(
            world.call(method, json!({"name": "web"})).unwrap(),
            by_position,
            "{method}"
        );
    }
    world.end();
}

#[test]
fn a_plan_says_what_a_stop_then_does() {
    let mut world = World::new();
    world.fixture("db", "stay", "");
    world.fixture("app", "stay", "after: [db]\nshutdown_timeout: 3");
    world.fixture("web", "stay", "requires: [app]");
    world.init();
    for name in ["db", "app", "web"] {
        world.reach(name, "up");
    }
    let waves = |plan: &Value| -> Vec<(u64, String)> {
        let services = plan["services"].as_array().unwrap().iter();
        services
            .map(|p| {
                (
                    p["wave"].as_u64().unwrap(),
                    p["service"].as_str().unwrap().into(),
                )
            })
            .collect()
    };
    let plan = world.call("nought_plan", json!([])).unwrap();
    let expected = [
        (0, "web".to_owned()),
        (1, "app".to_owned()),
        (2, "db".to_owned()),
    ];
    assert_eq!(waves(&plan), expected);
    assert!(
        plan["worst_ms"].as_f64() <= plan["deadline_ms"].as_f64(),
        "{plan}"
    );
    let plan = world.call("nought_plan", json!(["db"])).unwrap();
    assert_eq!(waves(&plan), [(0, "db".to_owned())]);
    let plan = world.call("nought_plan", json!(["db", true])).unwrap();
    assert_eq!(waves(&plan), expected);
    assert_eq!(
        world.call("nought_plan", json!(["x"])).unwrap_err()["code"],
        -32000
    );
    assert_eq!(world.status("web")["state"], "up", "nothing was done");

    let stop = world.cli(&["stop", "--with-dependents", "db"]);
    assert_eq!(stop.status.code(), Some(0), "{stop:?}");
    let said = String::from_utf8_lossy(&stop.stdout).into_owned();
    for name in ["db", "app", "web"] {
        assert!(said.contains(&format!("{name}: verified: ")), "{said}");
    }
    let ended = |name: &str| world.receipt(name)["ended_mono_ms"].as_f64().unwrap();
    let began = |name: &str| world.receipt(name)["began_mono_ms"].as_f64().unwrap();
    for (first, then) in [("web", "app"), ("app", "db")] {
        assert_verified(&world.receipt(first));
        assert!(ended(first) <= began(then), "{first} before {then}");
    }
    world.end();
}

/// The binary under another name, where everybody may run it.
fn copy_as(world: &World, name: &str) -> std::path::PathBuf {
    let path = world.dir.join(name);
    std::fs::copy(env!("CARGO_BIN_EXE_nought"), &path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn called_as_zinit_a_directory_that_zinit_accepts_loads() {
    let mut world = World::new();
    world.program = copy_as(&world, "zinit");
    world.service(
        "web",
        "exec: sleep 1000\ndescription: unknown to zinit, ignored there\n",
    );
    world.service(
        "null",
        "exec: sleep 1000\nlog: null\nsignal: {stop: sigint}\n",
    );
    world.init();
    world.reach("web", "up");
    world.reach("null", "up");
    let log = world.log();
    assert!(log.contains("warning: unknown key `description`"), "{log}");
    // At run time, too.
    world.service("later", "exec: sleep 1000\nfoo: bar\n");
    assert_eq!(
        world.call("service_monitor", json!(["later"])),
        Ok(Value::Null)
    );
    world.reach("later", "up");
    let checked = |program: &std::path::Path| {
        let mut check = Command::new(program);
        check.args(["check", "-c"]).arg(world.dir.join("services"));
        check.output().unwrap()
    };
    let zinit = checked(&world.program);
    assert_eq!(zinit.status.code(), Some(0), "{zinit:?}");
    let nought = checked(env!("CARGO_BIN_EXE_nought").as_ref());
    assert_eq!(nought.status.code(), Some(1), "{nought:?}");
    world.end();
}

#[test]
fn a_group_may_use_the_socket_when_it_is_told_so() {
    const NOBODY: u32 = 65534;
    let as_nobody = |world: &World, program: &std::path::Path| {
        use std::os::unix::process::CommandExt as _;
        let mut list = Command::new(program);
        list.arg("-s").arg(world.socket()).arg("list").env_clear();
        list.uid(NOBODY).gid(NOBODY).stdin(Stdio::null());
        list.output().unwrap()
    };
    let mut world = World::new();
    let program = copy_as(&world, "nought");
    world.fixture("web", "stay", "").init();
    world.reach("web", "up");
    let refused = as_nobody(&world, &program);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    world.end();

    let mut world = World::new();
    let program = copy_as(&world, "nought");
    world.flags = vec!["--socket-group".into(), NOBODY.to_string()];
    world.fixture("web", "stay", "").init();
    world.reach("web", "up");
    let found = std::fs::metadata(world.socket()).unwrap();
    assert_eq!(
        (found.mode() & 0o777, found.gid(), found.uid()),
        (0o660, NOBODY, 0)
    );
    let listed = as_nobody(&world, &program);
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    assert!(String::from_utf8_lossy(&listed.stdout).contains("web"));
    world.end();
}

/// What zinit's own library does: one object out, without a newline, and one in, by a parser that
/// reads until the object is whole.
fn like_zinit(world: &World, method: &str, params: &Value) -> Value {
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    stream.set_read_timeout(Some(look::BOUND)).unwrap();
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    stream.write_all(request.to_string().as_bytes()).unwrap();
    let mut text = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "closed after {}", String::from_utf8_lossy(&text));
        text.extend(&chunk[..count]);
        let mut values = serde_json::Deserializer::from_slice(&text).into_iter::<Value>();
        if let Some(Ok(answer)) = values.next() {
            return answer;
        }
    }
}

#[test]
fn a_client_like_zinits_is_served() {
    let world = with_web();
    let answer = like_zinit(&world, "service_list", &json!([]));
    assert_eq!(
        answer,
        json!({"jsonrpc": "2.0", "id": 1, "result": {"web": "Running"}})
    );
    let status = like_zinit(&world, "service_status", &json!({"name": "web"}));
    assert_eq!(status["result"]["target"], "Up");
    let stopped = like_zinit(&world, "service_stop", &json!(["web"]));
    assert_eq!(stopped, json!({"jsonrpc": "2.0", "id": 1, "result": null}));
    let status = like_zinit(&world, "service_status", &json!(["web"]))["result"].clone();
    assert!(status["pid"] == 0 && status["target"] == "Down", "{status}");
    let error = like_zinit(&world, "service_start", &json!(["nobody"]))["error"].clone();
    assert_eq!(error["code"], -32000);
    world.end();
}

const PYTHON: &str = r#"
import json, socket, sys
def call(method, *params):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(sys.argv[1])
    s.sendall(json.dumps({"jsonrpc": "2.0", "id": method, "method": method, "params": params}).encode())
    data = b""
    while True:
        data += s.recv(4096)
        try:
            answer = json.loads(data)
        except ValueError:
            continue
        assert answer["id"] == method, answer
        return answer
assert call("service_list")["result"] == {"web": "Running"}
assert call("service_stop", "web")["result"] is None
assert call("service_status", "web")["result"]["pid"] == 0
assert call("service_forget", "web")["result"] is None
assert call("service_monitor", "web")["result"] is None
assert call("service_kill", "web", "nope")["error"]["code"] == -32004
assert call("service_forget", "web")["error"]["data"]["code_name"] == "ServiceIsUp"
print("served")
"#;

#[test]
fn a_client_in_another_language_is_served() {
    let world = with_web();
    let python = Command::new("python3")
        .args(["-c", PYTHON])
        .arg(world.socket())
        .output()
        .expect("integration/run installs python3");
    let stderr = String::from_utf8_lossy(&python.stderr);
    assert_eq!(
        String::from_utf8_lossy(&python.stdout),
        "served\n",
        "{stderr}"
    );
    world.reach("web", "up");
    world.end();
}

#[test]
fn a_service_that_restarts_itself_is_restarted() {
    let mut world = World::new();
    let (nought, socket) = (env!("CARGO_BIN_EXE_nought"), world.socket());
    let flag = world.dir.join("restarted");
    let script = format!(
        "if [ ! -e {flag} ]; then touch {flag}; {nought} -s {socket} restart web; fi; sleep 1000",
        flag = flag.display(),
        socket = socket.display()
    );
    world
        .service("web", &format!("exec: sh -c '{script}'\n"))
        .init();
    until("it was restarted, and its client died of it", || {
        let status = world.status("web");
        (status["generation"].as_u64() > Some(1) && status["state"] == "up").then_some(())
    });
    let receipt = world.receipt("web");
    assert_verified(&receipt);
    assert_eq!(receipt["cause"], "restart");
    world.census();
    world.end();
}

#[test]
fn states_are_zinits_words() {
    let mut world = World::new();
    world.service("blocked", "exec: sleep 1000\nafter: [nobody]\n");
    world.service("testing", "exec: sleep 1000\ntest: sleep 1000\n");
    world.service("failing", "exec: sleep 1000\ntest: \"false\"\n");
    world.service("once", "exec: sleep 1000\noneshot: true\n");
    world.service("done", "exec: \"true\"\noneshot: true\n");
    world.service("bad", "exec: sh -c 'exit 3'\noneshot: true\n");
    world.service("missing", "exec: /nonexistent/program\noneshot: true\n");
    world.service("killed", "exec: sh -c 'kill -9 $$'\noneshot: true\n");
    world.init();
    let status = |name: &str| world.call("service_status", json!([name])).unwrap();
    let reach = |name: &str, state: &str| {
        until(&format!("{name} is {state}"), || {
            let found = status(name);
            let found = found["state"].as_str().unwrap();
            // The pid of what has ended is whatever it was.
            let bare = found.replace(|c: char| c.is_ascii_digit(), "");
            (found == state || bare == state).then_some(())
        });
    };
    for (name, state) in [
        ("blocked", "Blocked"),
        ("testing", "Spawned"),
        ("failing", "TestFailure"),
        ("once", "Running"),
        ("done", "Success"),
        ("bad", "Error(Exited(Pid(), ))"),
        ("missing", "Failure"),
        ("killed", "Error(Signaled(Pid(), SIGKILL, false))"),
    ] {
        reach(name, state);
    }
    assert!(status("bad")["state"].as_str().unwrap().ends_with("), 3))"));
    assert_eq!(status("blocked")["after"], json!({"nobody": "Unknown"}));
    assert_eq!(status("once")["target"], "Up");
    world.call("service_stop", json!(["blocked"])).unwrap();
    let down = status("blocked");
    let never_ran = json!({"name": "blocked", "pid": 0, "state": "Unknown", "target": "Down",
                           "after": {"nobody": "Unknown"}});
    assert_eq!(down, never_ran);
    world.end();
}

#[test]
fn what_is_about_to_stop_runs_and_is_wanted_down() {
    let mut world = World::new();
    world
        .fixture("web", "stubborn", "shutdown_timeout: 2s")
        .init();
    world.reach("web", "up");
    let pid = world.pid("web", "pid");
    let mut client = world.client();
    client.send(1, "service_stop", &json!(["web"]));
    let status = until("it is wanted down", || {
        let status = world.call("service_status", json!(["web"])).unwrap();
        (status["target"] == "Down").then_some(status)
    });
    // Not stopped, for whoever waits for `pid == 0 && target == "Down"`.
    let expected =
        json!({"name": "web", "pid": pid, "state": "Running", "target": "Down", "after": {}});
    assert_eq!(status, expected);
    assert_eq!(client.read().unwrap()["result"], Value::Null);
    let status = world.call("service_status", json!(["web"])).unwrap();
    assert_eq!(
        (&status["pid"], &status["target"]),
        (&json!(0), &json!("Down"))
    );
    world.end();
}

#[test]
fn services_have_what_etc_environment_said_when_the_supervisor_began() {
    let mut world = World::new();
    let file = world.dir.join("environment");
    let text = "# everybody's\nFROM_ETC=one\nOVER=etc\nexport QUOTED=\"a b\"\n";
    std::fs::write(&file, text).unwrap();
    world
        .launch
        .push(format!("cover=/etc/environment>{}", file.display()));
    world.launch.push("env=OVER=inherited".into());
    let script = "echo \"$FROM_ETC $OVER $QUOTED\"; sleep 1000";
    world.service("a", &format!("exec: sh -c '{script}'\n"));
    world.service(
        "b",
        &format!("exec: sh -c '{script}'\nenv: {{OVER: own}}\n"),
    );
    world.init();
    let says = |name: &str, line: &str, times: usize| {
        until(&format!("{name} says {line}"), || {
            let log = world.call("stream_currentLogs", json!([name])).unwrap();
            let found = log.as_array().unwrap().iter();
            let found = found.filter(|said| **said == format!("[+] {name}: {line}"));
            (found.count() == times).then_some(())
        });
    };
    says("a", "one etc a b", 1);
    says("b", "one own a b", 1);
    // Read once: a restart does not see the change.
    std::fs::write(&file, "FROM_ETC=two\n").unwrap();
    world.call("nought_restart", json!(["a"])).unwrap();
    says("a", "one etc a b", 2);
    world.end();
}

#[test]
fn in_a_shutdown_nothing_is_started_taken_in_or_out() {
    let mut world = World::new();
    world.fixture("slow", "stubborn", "shutdown_timeout: 2s");
    world.service("old", "exec: sleep 1000\nafter: [nobody]\n");
    world.service("new", "exec: sleep 1000\n");
    world.init();
    world.reach("slow", "up");
    world.pid("slow", "pid");
    world.call("service_stop", json!(["new"])).unwrap();
    world.call("service_forget", json!(["new"])).unwrap();
    world.call("service_stop", json!(["old"])).unwrap();
    let mut client = world.client();
    let mut other = world.client();
    client.send(1, "system_shutdown", &Value::Null);
    until("it has begun", || {
        let info = other.call("nought_info", &Value::Null).unwrap();
        (info["shutting_down"] == true).then_some(())
    });
    for method in ["service_start", "service_forget"] {
        let error = other.call(method, &json!(["old"])).unwrap_err();
        assert_eq!(error["code"], -32006, "{method}: {error}");
        assert_eq!(
            error["data"]["action"],
            method["service_".len()..],
            "{error}"
        );
    }
    let error = other.call("service_monitor", &json!(["new"])).unwrap_err();
    assert_eq!(error["code"], -32006, "{error}");
    let answer = client.read().unwrap();
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 1, "result": null}));
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    world.end();
}
