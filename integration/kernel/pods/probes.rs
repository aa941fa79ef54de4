//! The three probes, the metrics as Prometheus's own client reads them, and hostile callers.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::http::{exchange, get, serving};
use crate::look::{self, until};
use crate::world::World;

/// `nought health`: its exit code and what it printed.
fn health(world: &World, words: &[&str]) -> (Option<i32>, String) {
    let output = world.cli(words);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), text)
}

#[test]
fn the_probes_follow_the_services() {
    let (mut world, http) = serving();
    let gate = world.dir.join("gate");
    world.fixture("db", "polite 1", "");
    // Stops when the test wants it to.
    world.fixture("slow", "stubborn", "shutdown_timeout: 10m");
    world
        .fixture(
            "web",
            "polite 1",
            &format!("after: [db]\ntest: test -e {}", gate.display()),
        )
        .init();
    assert_eq!(get(http, "/livez"), (200, "ok\n".into()));
    for name in ["db", "slow"] {
        world.reach(name, "up");
    }
    let (status, why) = get(http, "/readyz");
    assert!(
        status == 503 && why.starts_with("[-]web: starting"),
        "{why}"
    );
    assert_eq!(
        get(http, "/startupz"),
        (503, "[-]web: never was ready\n".into())
    );
    let (code, text) = health(&world, &["health"]);
    assert_eq!(code, Some(1));
    assert!(text.starts_with("web: starting"), "{text}");
    assert_eq!(
        health(&world, &["health", "--live"]),
        (Some(0), "ok\n".into())
    );

    std::fs::write(&gate, "").unwrap();
    world.reach("web", "up");
    for page in ["/readyz", "/startupz", "/livez"] {
        assert_eq!(get(http, page), (200, "ok\n".into()), "{page}");
    }
    assert_eq!(health(&world, &["health"]), (Some(0), "ok\n".into()));
    let (code, text) = health(&world, &["--json", "health"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    let ready = json!({"ready": true, "shutting_down": false, "unready": []});
    assert_eq!((code, told), (Some(0), ready));

    // What is not wanted is not missed, and what was ready once has started up.
    std::fs::remove_file(&gate).unwrap();
    world.stop_verified("web");
    assert_eq!(get(http, "/readyz").0, 200);
    world
        .call("nought_start", json!({"name": "web", "wait": false}))
        .unwrap();
    assert_eq!(get(http, "/readyz").0, 503);
    assert_eq!(get(http, "/startupz").0, 200);
    std::fs::write(&gate, "").unwrap();
    world.reach("web", "up");

    // While it stops it lives and is not ready.
    world.number("slow", "up");
    let slow = world.pid("slow", "pid");
    world.census();
    world.signal(libc::SIGTERM);
    let down = (503, "[-]supervisor: shutting down\n".to_owned());
    until("it is not ready", || {
        (get(http, "/readyz") == down).then_some(())
    });
    assert_eq!(get(http, "/livez").0, 200);
    look::signal(slow, libc::SIGKILL);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    assert!(TcpStream::connect(http).is_err());
    world.end();
}

/// Reads the page with Prometheus's own client for Python, as Debian has it, which refuses what
/// is malformed: one JSON list `[name, labels, value]` a sample.
fn parsed(page: &str) -> Vec<(String, Value, f64)> {
    const READ: &str = "
import json, sys
from prometheus_client.parser import text_string_to_metric_families
families = list(text_string_to_metric_families(sys.stdin.read()))
assert all(family.documentation and family.type != 'unknown' for family in families), families
print(json.dumps([[s.name, s.labels, s.value] for f in families for s in f.samples]))";
    let mut python = Command::new("/usr/bin/python3")
        .args(["-c", READ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    python
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    let output = python.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "malformed, or no python3-prometheus-client:\n{page}"
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn prometheus_reads_the_metrics_and_they_count() {
    let (mut world, http) = serving();
    let outside = world.foreign_cgroup();
    world.fixture("web", "polite 30", "");
    world.service("busy", "exec: sh -c 'while :; do :; done'\n");
    world.fixture("stubborn", "stubborn", "shutdown_timeout: 50ms");
    world.fixture(
        "away",
        &format!("escape {}", outside.display()),
        "shutdown_timeout: 100ms",
    );
    world.fixture(
        "broken",
        "exit 1",
        "restart: {policy: on-failure, burst: 2}",
    );
    world.init();
    for name in ["web", "stubborn", "away"] {
        world.reach(name, "up");
        world.number(name, "up");
    }
    world.reach("broken", "failed");
    world.stop("away");
    world.stop_verified("stubborn");
    world.stop_verified("web");
    world.start("web").unwrap();
    world.reach("web", "up");

    // Long enough for the kernel to account it.
    until("busy has used a tenth of a second", || {
        let usage = world.call("nought_usage", json!({"name": "busy"})).ok()?;
        let busy = &usage["services"][0];
        // It has waited for no block device, and the kernel says so.
        assert!(busy["pressure"]["io"]["some_ms"].is_number(), "{usage:#}");
        (busy["cpu_ms"].as_f64()? > 100.0).then_some(())
    });
    let (status, page) = get(http, "/metrics");
    assert_eq!(status, 200);
    let samples = parsed(&page);
    let value = |name: &str, labels: Value| {
        let found: Vec<f64> = samples
            .iter()
            .filter(|(n, l, _)| n == name && *l == labels)
            .map(|(.., value)| *value)
            .collect();
        assert_eq!(found.len(), 1, "{name} {labels}:\n{page}");
        found[0]
    };
    let of = |name: &str, service: &str| value(name, json!({"name": service}));
    let state = |service: &str, state: &str| {
        value(
            "nought_unit_state",
            json!({"name": service, "state": state}),
        )
    };
    assert_eq!(
        (state("web", "active"), state("web", "inactive")),
        (1.0, 0.0)
    );
    assert_eq!(
        (state("broken", "failed"), state("stubborn", "inactive")),
        (1.0, 1.0)
    );
    let guarantee = json!({"containment": "cgroup-kill", "scan": "marked"});
    assert_eq!(value("nought_guarantee_info", guarantee), 1.0);
    assert_eq!(of("nought_unit_tasks_current", "web"), 1.0);
    let memory = of("nought_unit_memory_bytes", "web");
    assert!((100e3..1e9).contains(&memory), "{memory}");
    assert_eq!(of("nought_unit_memory_bytes", "stubborn"), 0.0);
    let cpu = |mode: &str| {
        value(
            "nought_unit_cpu_seconds_total",
            json!({"name": "busy", "mode": mode}),
        )
    };
    let (user, system) = (cpu("user"), cpu("system"));
    assert!(
        user > 0.05 && (0.1..60.0).contains(&(user + system)),
        "{user} {system}"
    );
    assert!(of("nought_unit_start_time_seconds", "web") > 1.7e9);
    assert_eq!(of("nought_service_restart_total", "broken"), 2.0);
    assert_eq!(of("nought_service_restart_total", "web"), 1.0);
    assert_eq!(of("nought_forced_kills_total", "stubborn"), 1.0);
    assert_eq!(of("nought_killed_processes_total", "stubborn"), 1.0);
    assert_eq!(of("nought_forced_kills_total", "web"), 0.0);
    assert_eq!(of("nought_escapees_total", "away"), 1.0, "{page}");
    assert_eq!(of("nought_unit_lingering", "web"), 0.0);
    let verified = json!({"name": "web", "verdict": "verified"});
    assert_eq!(value("nought_verdicts_total", verified), 1.0);
    assert_eq!(of("nought_stop_duration_seconds_count", "stubborn"), 1.0);
    let took = of("nought_stop_duration_seconds_sum", "stubborn");
    assert!((0.05..10.0).contains(&took), "{took}");
    let within = |le: &str| {
        let labels = json!({"name": "stubborn", "le": le});
        value("nought_stop_duration_seconds_bucket", labels)
    };
    assert_eq!(
        (within("0.025"), within("30"), within("+Inf")),
        (0.0, 1.0, 1.0)
    );
    world.end();
}

#[test]
fn hostile_callers_concern_nobody_but_themselves() {
    let (mut world, http) = serving();
    world.fixture("web", "polite 1", "").init();
    world.reach("web", "up");
    for (bytes, status) in [
        (
            "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
            "405",
        ),
        ("GET /etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("GET /../livez HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("\x16\x03\x01 this is not HTTP\r\n\r\n", "400"),
    ] {
        let answer = exchange(http, bytes.as_bytes()).unwrap();
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{bytes:?}: {answer:?}"
        );
    }
    let endless = format!("GET /livez HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    // It may be cut off while it still writes.
    if let Ok(answer) = exchange(http, endless.as_bytes()) {
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    // More that say nothing than it takes at a time: they are dropped in their time.
    let idle: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(http).unwrap())
        .collect();
    assert_eq!(get(http, "/livez").0, 200);
    assert_eq!(world.status("web")["restarts"], 0);
    drop(idle);
    world.end();
}

#[test]
fn an_address_that_is_taken_is_said_at_once() {
    let (mut world, http) = serving();
    let taken = std::net::TcpListener::bind(http).unwrap();
    world.fixture("web", "polite 1", "");
    world.spawn();
    assert_eq!(world.wait().code(), Some(1));
    let log = world.log();
    assert!(
        log.contains(&format!("failed to serve HTTP on {http}")) && log.contains("in use"),
        "{log}"
    );
    drop(taken);
    world.end();
}

#[test]
fn clients_that_say_nothing_keep_no_probe_out() {
    let (mut world, http) = serving();
    world.fixture("web", "polite 1", "").init();
    world.reach("web", "up");
    let over = Arc::new(AtomicBool::new(false));
    let silent: Vec<_> = (0..8)
        .map(|_| {
            let over = Arc::clone(&over);
            std::thread::spawn(move || keep_silent(http, 50, &over))
        })
        .collect();
    // More of them than there are places.
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..6 {
        let began = Instant::now();
        assert_eq!(get(http, "/livez"), (200, "ok\n".into()));
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }
    over.store(true, Ordering::Relaxed);
    for thread in silent {
        thread.join().unwrap();
    }
    world.end();
}

/// Keeps so many connections that say nothing, each made anew when it is closed.
fn keep_silent(http: SocketAddr, connections: usize, over: &AtomicBool) {
    let connect = || {
        let stream = TcpStream::connect_timeout(&http, Duration::from_secs(1)).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some(stream)
    };
    let mut open: Vec<Option<TcpStream>> = (0..connections).map(|_| None).collect();
    while !over.load(Ordering::Relaxed) {
        for place in &mut open {
            let closed = place.as_ref().is_none_or(|stream| {
                // What waits to be read, or an end, is no silence.
                let looked = stream.peek(&mut [0]);
                !looked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
            });
            if closed {
                *place = connect();
            }
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
