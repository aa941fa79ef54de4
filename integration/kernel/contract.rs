//! zinit's contract on the socket, line by line: methods, states, error codes.

use nought::api::METHODS;
use serde_json::{Value, json};

use crate::look::{self, until};
use crate::receipt::assert_verified;
use crate::world::World;

pub(crate) fn with_web() -> World {
    let mut world = World::new();
    world.fixture("web", "stay", "").init();
    world.reach("web", "up");
    world
}

/// The error's code and name, which have to be there with everything zinit's data have.
pub(crate) fn code(error: &Value, service: &str, action: &str) -> i64 {
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
    world.service("still", "exec: sleep 1000\n");
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
    // Not of a shell: it would wait for a child that is stopped before it is a program (vfork(2)),
    // and not be stopped itself.
    let pid = u32::try_from(world.reach("still", "up")["pid"].as_u64().unwrap()).unwrap();
    world.note(pid);
    kill("still", "STOP").unwrap();
    until("it is stopped, and stays so", || {
        (look::state(pid).as_deref() == Some("T")).then_some(())
    });
    assert!(world.client().is_answered("nought_info"));
    assert_eq!(look::state(pid).as_deref(), Some("T"));
    world.stop_verified("still");
    world.stop_verified("web");
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
    for name in ["system_start_http", "service_", "nought_", "rpc.nope", ""] {
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
    let bad = world.dir.join("bad.pid");
    let killed = world.dir.join("killed.pid");
    let (bad_says, killed_says) = (bad.display(), killed.display());
    world.service(
        "bad",
        &format!("exec: sh -c 'echo $$ > {bad_says}; exit 3'\noneshot: true\n"),
    );
    world.service("missing", "exec: /nonexistent/program\noneshot: true\n");
    world.service(
        "killed",
        &format!("exec: sh -c 'echo $$ > {killed_says}; kill -9 $$'\noneshot: true\n"),
    );
    world.init();
    let status = |name: &str| world.call("service_status", json!([name])).unwrap();
    let reach = |name: &str, state: &str| {
        until(&format!("{name} is {state}"), || {
            let found = status(name);
            (found["state"] == state).then_some(())
        });
    };
    let pid = |file: &std::path::Path| {
        until("it says its pid", || {
            let said = std::fs::read_to_string(file).ok()?;
            Some(said.strip_suffix('\n')?.to_owned())
        })
    };
    let exited = format!("Error(Exited(Pid({}), 3))", pid(&bad));
    let signaled = format!("Error(Signaled(Pid({}), SIGKILL, false))", pid(&killed));
    for (name, state) in [
        ("blocked", "Blocked"),
        ("testing", "Spawned"),
        ("failing", "TestFailure"),
        ("once", "Running"),
        ("done", "Success"),
        ("bad", &exited),
        ("missing", "Failure"),
        ("killed", &signaled),
    ] {
        reach(name, state);
    }
    assert_eq!(world.receipt("bad")["pid"].to_string(), pid(&bad));
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
        .fixture("web", "stubborn", "shutdown_timeout: 10m")
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
    look::signal(pid, libc::SIGKILL);
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
    world.fixture("slow", "stubborn", "shutdown_timeout: 10m");
    world.service("old", "exec: sleep 1000\nafter: [nobody]\n");
    world.service("new", "exec: sleep 1000\n");
    world.init();
    world.reach("slow", "up");
    let slow = world.pid("slow", "pid");
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
    look::signal(slow, libc::SIGKILL);
    let answer = client.read().unwrap();
    assert_eq!(answer, json!({"jsonrpc": "2.0", "id": 1, "result": null}));
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    world.end();
}
