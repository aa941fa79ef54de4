//! The wire types: every one round-trips, ignores what it does not know, and has stable names.

#![expect(
    clippy::unwrap_used,
    reason = "tests may be blunt, in what they share too"
)]

use nought::api::{
    Budget, Create, Done, ErrorCode, Exit, Failure, Filter, ForeignProcess, GuaranteeWords,
    Incoming, Info, Kill, List, ListQuery, LogLines, LogQuery, METHODS, Named, Plan, PlanQuery,
    Planned, Process, ProcessUsage, Receipt, ReceiptQuery, Receipts, Reload, Restart, RpcError,
    Rung, ServiceState, ServiceStatus, Shutdown, ShutdownDone, ShutdownKind, Start, StartHttp,
    Stop, Subscribed, Survivor, Usage, UsageQuery, Verdict, ZinitChild, ZinitStats, ZinitStatus,
    incoming, millis_from_nanos, openrpc,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn process(pid: u32) -> Process {
    Process {
        pid,
        ppid: 1,
        comm: "sleep".into(),
    }
}

fn receipt() -> Receipt {
    Receipt {
        service: "web".into(),
        generation: 3,
        pid: Some(42),
        cause: "stop".into(),
        verdict: Verdict::Lingering,
        reason: Some("one survives".into()),
        waited_for: Some("proxy".into()),
        guarantee: GuaranteeWords {
            containment: "cgroup-kill".into(),
            scan: "marked".into(),
        },
        started_at: Some("2026-01-02T03:04:05.678Z".into()),
        began_at: Some("2026-01-02T03:05:05.678Z".into()),
        ended_at: None,
        started_mono_ms: Some(1.5),
        began_mono_ms: 60_001.5,
        ended_mono_ms: 65_002.001,
        elapsed_ms: millis_from_nanos(5_000_501_999),
        exit: Some(Exit::Signal {
            signal: "SIGTERM".into(),
            number: 15,
            core: false,
        }),
        oom_kills: 1,
        budget: Some(Budget {
            wish_ms: 10_000.0,
            planned_ms: 9_000.5,
            ..Budget::default()
        }),
        rungs: vec![
            Rung {
                rung: "signal".into(),
                at_ms: 0.012,
                signal: Some("SIGTERM".into()),
                to: Some("group".into()),
                grace_ms: Some(10_000.0),
                ..Rung::default()
            },
            Rung {
                rung: "trouble".into(),
                at_ms: 1.0,
                error: Some(Failure {
                    doing: "remove the cgroup".into(),
                    what: "/sys/fs/cgroup/x".into(),
                    errno: 16,
                    why: "Device or resource busy".into(),
                }),
                ..Rung::default()
            },
        ],
        killed: vec![process(43)],
        escaped: vec![process(44)],
        foreign: vec![ForeignProcess {
            pid: 45,
            ppid: 1,
            comm: "sh".into(),
            why: "marked, and its parent is not ours".into(),
        }],
        kept: vec![process(46)],
        survivors: vec![Survivor {
            pid: 47,
            ppid: 1,
            argv: vec!["cat".into(), "/mnt/x".into()],
            state: "D".into(),
            wchan: "fuse_wait".into(),
            stack: vec!["fuse_wait+0x1".into()],
            tracer: 0,
            cgroup: "/nought/web/3/main".into(),
            mounts: vec!["/mnt".into()],
            threads: 2,
            sockets: vec!["tcp 127.0.0.1:80".into()],
        }],
        late: true,
    }
}

fn status() -> ServiceStatus {
    ServiceStatus {
        name: "web".into(),
        state: ServiceState::Backoff,
        detail: "exit code 1".into(),
        target: "up".into(),
        pid: 0,
        generation: 3,
        since_ms: 12,
        restarts: 2,
        processes: 0,
        memory_bytes: Some(4096),
        left_ms: None,
        guarantee: "cgroup-kill marked".into(),
        last_exit: Some(Exit::Code { code: 1 }),
        last_oom_kills: 1,
        oom_kills: 2,
        next_start_ms: Some(238),
        rung: None,
        last_start: Some(nought::api::StartTimes {
            asked_mono_ms: 1.0,
            began_mono_ms: 2.5,
            ready_mono_ms: Some(3.25),
            waited_for: Some("db".into()),
        }),
        after: [("db".to_string(), "up".to_string())].into(),
        requires: [("net".to_string(), "done".to_string())].into(),
    }
}

/// Writes, reads, compares; then again with a field that no reader knows.
fn round_trip<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T) {
    let mut json = serde_json::to_value(value).unwrap();
    assert_eq!(&serde_json::from_value::<T>(json.clone()).unwrap(), value);
    add_unknown(&mut json);
    assert_eq!(&serde_json::from_value::<T>(json).unwrap(), value);
}

/// A new field in every object, maps from names to states apart.
fn add_unknown(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map.iter_mut() {
                if key != "after" && key != "requires" {
                    add_unknown(inner);
                }
            }
            map.insert("of_tomorrow".into(), json!([{"x": null}]));
        }
        Value::Array(items) => items.iter_mut().for_each(add_unknown),
        _ => {}
    }
}

#[test]
fn every_type_round_trips_and_ignores_what_it_does_not_know() {
    round_trip(&receipt());
    round_trip(&Receipt::default());
    round_trip(&status());
    round_trip(&ServiceStatus::default());
    round_trip(&Info {
        json_version: 1,
        version: "0.1.0".into(),
        pid: 1,
        guarantee: "cgroup-kill marked".into(),
        containment: "cgroup-kill".into(),
        scan: "marked".into(),
        base: "/sys/fs/cgroup".into(),
        config_dir: "/etc/nought".into(),
        http: vec!["127.0.0.1:8080".into()],
        http_token: "/run/nought/http-token".into(),
        notes: vec!["no memory controller".into()],
        services: 4,
        shutting_down: true,
        uptime_ms: 12_345,
    });
    round_trip(&List {
        services: vec![status()],
    });
    round_trip(&Done {
        service: "web".into(),
        state: ServiceState::Lingering,
        already_down: false,
        receipt: Some(receipt()),
    });
    round_trip(&Done {
        already_down: true,
        ..Done::default()
    });
    round_trip(&Receipts {
        receipts: vec![receipt()],
    });
    round_trip(&ShutdownDone {
        lingering: vec!["web".into()],
        unverified: vec!["db".into()],
        elapsed_ms: 12.345,
    });
    round_trip(&LogLines {
        lines: vec!["[+] web: hello".into()],
        lost: 3,
        records: vec![nought::api::LogRecord::default()],
    });
    round_trip(&ZinitStatus {
        name: "web".into(),
        pid: 42,
        state: "Running".into(),
        target: "Up".into(),
        after: [("db".to_string(), "Running".to_string())].into(),
    });
    round_trip(&Named { name: "web".into() });
    round_trip(&Start {
        name: "web".into(),
        wait: false,
        force: true,
    });
    round_trip(&Stop {
        name: "web".into(),
        force: true,
        with_dependents: true,
    });
    round_trip(&Restart {
        name: "web".into(),
        wait: false,
    });
    round_trip(&ReceiptQuery {
        name: "web".into(),
        last: 5,
    });
    round_trip(&Shutdown {
        kind: ShutdownKind::Reboot,
    });
    round_trip(&LogQuery {
        name: Some("web".into()),
        lines: Some(10),
        names: vec!["db".into()],
        records: true,
    });
    round_trip(&Usage {
        status: status(),
        processes: vec![ProcessUsage::default()],
        ..Usage::default()
    });
    round_trip(&Plan {
        services: vec![Planned::default()],
        worst_ms: 1.5,
        end_reserve_ms: Some(2000.0),
        deadline_ms: None,
    });
    round_trip(&ZinitStats {
        children: vec![ZinitChild::default()],
        ..ZinitStats::default()
    });
    round_trip(
        &RpcError::new(ErrorCode::Lingering, "web lingers")
            .about("web", "stop")
            .because("a process is in D")
            .hint("end it")
            .receipt(receipt()),
    );
}

#[test]
fn the_receipts_names_are_stable() {
    let json = serde_json::to_value(receipt()).unwrap();
    let names: Vec<&str> = json
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let mut expected = vec![
        "service",
        "generation",
        "pid",
        "cause",
        "verdict",
        "waited_for",
        "reason",
        "guarantee",
        "started_at",
        "began_at",
        "ended_at",
        "started_mono_ms",
        "began_mono_ms",
        "budget",
        "ended_mono_ms",
        "elapsed_ms",
        "exit",
        "rungs",
        "killed",
        "escaped",
        "foreign",
        "kept",
        "survivors",
        "late",
        "oom_kills",
    ];
    expected.sort_unstable();
    let mut names = names;
    names.sort_unstable();
    assert_eq!(names, expected);
    assert_eq!(json["verdict"], "lingering");
    assert_eq!(
        json["guarantee"],
        json!({"containment": "cgroup-kill", "scan": "marked"})
    );
    assert_eq!(json["elapsed_ms"], 5000.501);
    assert_eq!(
        json["rungs"][0],
        json!({"rung": "signal", "at_ms": 0.012, "signal": "SIGTERM", "to": "group", "grace_ms": 10000.0})
    );
    assert_eq!(
        json["exit"],
        json!({"signal": "SIGTERM", "number": 15, "core": false})
    );
    assert_eq!(
        json["foreign"][0]["why"],
        "marked, and its parent is not ours"
    );
}

#[test]
fn words_of_tomorrow_are_read_with_care() {
    assert_eq!(
        serde_json::from_value::<ServiceState>(json!("hibernating")).unwrap(),
        ServiceState::Unknown
    );
    assert_eq!(
        serde_json::from_value::<Verdict>(json!("probably")).unwrap(),
        Verdict::Unverified
    );
    for kind in ["poweroff", "reboot", "halt", "kexec"] {
        assert_eq!(
            serde_json::to_value(serde_json::from_value::<ShutdownKind>(json!(kind)).unwrap())
                .unwrap(),
            kind
        );
    }
    assert!(serde_json::from_value::<ShutdownKind>(json!("explode")).is_err());
}

#[test]
fn a_batch_too_large_is_refused_as_a_whole() {
    let batch = |count| Value::Array(vec![json!({}); count]);
    assert!(matches!(
        incoming(batch(nought::api::MAX_BATCH_CALLS)),
        Incoming::Batch(_)
    ));
    let Incoming::Single(Err(refused)) = incoming(batch(nought::api::MAX_BATCH_CALLS + 1)) else {
        panic!("it was taken");
    };
    let refused = serde_json::to_value(refused).unwrap();
    assert_eq!(refused["error"]["code"], -32600, "{refused}");
}

#[test]
fn the_list_of_methods_is_sound_and_matches_what_is_read() {
    use nought::api::Parameters as P;
    let read: &[(&str, &[&str])] = &[
        ("service_status", <Named as P>::NAMES),
        ("service_kill", <Kill as P>::NAMES),
        ("service_create", <Create as P>::NAMES),
        ("system_start_http_server", <StartHttp as P>::NAMES),
        ("stream_currentLogs", <Filter as P>::NAMES),
        ("stream_unsubscribeLogs", <Subscribed as P>::NAMES),
        ("nought_list", <ListQuery as P>::NAMES),
        ("nought_start", <Start as P>::NAMES),
        ("nought_stop", <Stop as P>::NAMES),
        ("nought_restart", <Restart as P>::NAMES),
        ("nought_receipt", <ReceiptQuery as P>::NAMES),
        ("nought_shutdown", <Shutdown as P>::NAMES),
        ("nought_log", <LogQuery as P>::NAMES),
        ("nought_usage", <UsageQuery as P>::NAMES),
        ("nought_plan", <PlanQuery as P>::NAMES),
        ("nought_reload", <Reload as P>::NAMES),
        ("nought_reloadService", <Named as P>::NAMES),
    ];
    for (name, names) in read {
        let method = METHODS.iter().find(|method| method.name == *name).unwrap();
        let listed: Vec<&str> = method.params.iter().map(|param| param.name).collect();
        assert_eq!(listed, *names, "{name}");
    }
    let mut names: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), METHODS.len(), "each is listed once");
}

#[test]
fn the_openrpc_document_is_whole() {
    let document = openrpc();
    assert_eq!(document["openrpc"], "1.3.2");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let methods = document["methods"].as_array().unwrap();
    assert_eq!(methods.len(), METHODS.len());
    for method in methods {
        let name = &method["name"];
        assert!(!method["summary"].as_str().unwrap().is_empty(), "{name}");
        assert_eq!(method["paramStructure"], "either");
        let schema = &method["result"]["schema"];
        assert!(
            schema["type"].is_string() || schema["enum"].is_array(),
            "{name}: {schema}"
        );
        let mut optional = false;
        for param in method["params"].as_array().unwrap() {
            let required = param["required"].as_bool().unwrap();
            assert!(!(required && optional), "{name}: required after optional");
            optional |= !required;
            let schema = &param["schema"];
            assert!(
                schema["type"].is_string() || schema["enum"].is_array(),
                "{name}: {param}"
            );
        }
        for error in method["errors"].as_array().unwrap() {
            let pointer = error["$ref"].as_str().unwrap().strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{name}: {pointer}");
        }
    }
}

#[test]
fn the_docs_name_every_method_and_every_error() {
    let docs = include_str!("../docs/api.md");
    for method in METHODS {
        assert!(
            docs.contains(&format!("`{}`", method.name)),
            "{}",
            method.name
        );
        for param in method.params {
            assert!(docs.contains(param.name), "{}: {}", method.name, param.name);
        }
    }
    for code in ErrorCode::all() {
        let row = format!("| {} | {} |", code.number(), code.name());
        assert!(docs.contains(&row), "{row}");
    }
}

/// Every place that makes an error says in the same function what to do next.
#[test]
fn every_error_that_is_made_has_a_hint() {
    let mut todo = vec![std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let (mut made, mut without) = (0, Vec::new());
    while let Some(path) = todo.pop() {
        if path.is_dir() {
            todo.extend(
                std::fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        // A function that makes one for its callers to complete.
        let bare = "fn invalid(message: impl Into<String>) -> RpcError {\n    \
                    RpcError::new(ErrorCode::InvalidRequest, message)\n}\n";
        let code = code
            .replace(bare, "")
            .replace(" = invalid(", " = RpcError::new(");
        for (at, _) in code.match_indices("RpcError::new(") {
            made += 1;
            let rest = &code[at + "RpcError::new(".len()..];
            let ends = [
                "RpcError::new(",
                "\nfn ",
                "\npub",
                "\n    fn ",
                "\n    pub",
                "\n}\n",
            ];
            let end = ends.iter().filter_map(|end| rest.find(end)).min();
            if !rest[..end.unwrap_or(rest.len())].contains(".hint(") {
                let line = code[..at].matches('\n').count() + 1;
                without.push(format!("{}:{line}", path.display()));
            }
        }
    }
    assert!(made > 20, "{made}");
    assert!(without.is_empty(), "no hint: {without:#?}");
}
