//! Who may do what.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::client::{Served, ask, call, served, served_at};
use crate::pods::http::serving;

fn stop() -> String {
    call("service_stop", &json!(["web"]))
}

fn list() -> String {
    call("service_list", &json!([]))
}

fn runs(http: &Served) -> bool {
    let status = http.world.status("web");
    status["state"] == "up" && status["generation"] == 1
}

#[test]
fn what_changes_something_needs_the_token() {
    let http = served(&[]);
    let file = http.world.dir.join("state/http-token");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(http.token.len(), 64);
    let told = format!(
        "http://{}/, its token is in {}",
        http.address,
        file.display()
    );
    let log = http.world.log_with(&told);
    assert!(!log.contains(&http.token), "{log}");
    let status = String::from_utf8(http.world.cli(&["status"]).stdout).unwrap();
    assert!(status.contains(&file.display().to_string()), "{status}");

    let wrong = format!("Bearer {}", "0".repeat(64));
    let longer = format!("Bearer {}0", http.token);
    for headers in [
        vec![],
        vec![("Authorization", wrong.as_str())],
        vec![("Authorization", longer.as_str())],
        vec![("Authorization", http.token.as_str())],
        vec![("Authorization", "Basic cm9vdDpyb290")],
        vec![("Cookie", http.token.as_str())],
    ] {
        let answer = http.post(&stop(), &headers);
        assert_eq!(answer.refused(), (401, -32017), "{headers:?}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let in_query = ask(
        http.address,
        &format!("POST /?token={}", http.token),
        &[("Content-Type", "application/json")],
        &stop(),
    );
    assert_eq!(in_query.refused(), (401, -32017));
    // Neither does one that may be asked let another one through.
    let batch = format!("[{},{}]", list(), stop());
    assert_eq!(http.post(&batch, &[]).refused(), (401, -32017));
    let told = json!({"jsonrpc": "2.0", "method": "service_stop", "params": ["web"]});
    assert_eq!(http.post(&told.to_string(), &[]).refused(), (401, -32017));
    assert!(runs(&http));

    assert_eq!(http.post(&list(), &[]).status, 200, "to look needs none");
    let listed = http.post(&list(), &[("Authorization", &wrong)]);
    assert_eq!(listed.refused(), (401, -32017), "but not a wrong one");
    // What services say and are told may be secret.
    for (method, params) in [
        ("service_get", json!(["web"])),
        ("nought_log", json!([])),
        ("stream_currentLogs", json!([])),
    ] {
        let answer = http.post(&call(method, &params), &[]);
        assert_eq!(answer.refused(), (401, -32017), "{method}");
        assert!(http.call(method, &params).is_ok(), "{method}");
    }
    assert_eq!(http.may(&stop()).status, 200);
    http.world.end();
    assert!(!file.exists(), "nobody takes it any more");
}

#[test]
fn a_page_of_another_site_asks_in_vain() {
    let http = served(&[]);
    let bearer = format!("Bearer {}", http.token);
    let port = http.address.port();
    let ours = format!("http://127.0.0.1:{port}");
    let with = |header: (&str, &str)| {
        let headers = [
            ("Content-Type", "application/json"),
            ("Authorization", bearer.as_str()),
            header,
        ];
        ask(http.address, "POST /", &headers, &stop())
    };
    // A name that its owner lets point here.
    for host in [
        "evil.example",
        &format!("evil.example:{port}"),
        "",
        "10.0.0.1",
    ] {
        assert_eq!(with(("Host", host)).refused(), (421, -32018), "{host}");
    }
    for origin in [
        "http://evil.example",
        &format!("http://evil.example:{port}"),
        &format!("https://127.0.0.1:{port}"),
        &format!("http://localhost:{port}"),
        "http://127.0.0.1:1",
        "null",
    ] {
        let answer = with(("Origin", origin));
        assert_eq!(answer.refused(), (403, -32018), "{origin}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
    assert_eq!(
        with(("Sec-Fetch-Site", "cross-site")).refused(),
        (403, -32018)
    );
    // What a page may send without asking first.
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let headers = [("Content-Type", kind), ("Authorization", &bearer)];
        let answer = ask(http.address, "POST /", &headers, &stop());
        assert_eq!(answer.refused(), (415, -32600), "{kind}");
    }
    let asked_first = ask(
        http.address,
        "OPTIONS /",
        &[
            ("Origin", "http://evil.example"),
            ("Access-Control-Request-Method", "POST"),
        ],
        "",
    );
    assert_eq!(asked_first.status, 405);
    assert!(!asked_first.head.to_lowercase().contains("access-control"));
    assert!(runs(&http));

    let name = format!("localhost:{port}");
    assert_eq!(with(("Host", &name)).status, 200);
    assert_eq!(with(("Origin", &ours)).status, 200);
    http.world.end();
}

#[test]
fn beyond_this_machine_all_but_the_open_pages_needs_the_token() {
    let (mut world, address) = serving();
    let everywhere = SocketAddr::new([0, 0, 0, 0].into(), address.port());
    world.flags = vec!["--http".into(), everywhere.to_string()];
    let http = served_at(world, address, &[]);
    for body in [list(), stop(), call("rpc.discover", &json!([]))] {
        assert_eq!(http.post(&body, &[]).refused(), (401, -32017), "{body}");
    }
    for page in ["/livez", "/readyz", "/startupz", "/metrics"] {
        // A kubelet's Host is the pod's, whatever that is.
        let host = [("Host", "web-7d4b9.example")];
        let answer = ask(http.address, &format!("GET {page}"), &host, "");
        assert_eq!(answer.status, 200, "{page}");
    }
    assert_eq!(http.may(&list()).status, 200);
    assert!(runs(&http));
    assert_eq!(http.may(&stop()).status, 200);
    http.world.end();
}

#[test]
fn a_read_only_server_changes_nothing_for_anybody() {
    let http = served(&["--http-read-only"]);
    for method in [
        "service_start",
        "service_stop",
        "service_monitor",
        "service_forget",
        "service_kill",
        "service_create",
        "service_delete",
        "system_shutdown",
        "system_reboot",
        "system_start_http_server",
        "system_stop_http_server",
        "nought_start",
        "nought_stop",
        "nought_restart",
        "nought_shutdown",
        "nought_reload",
        "whatever_comes",
    ] {
        let answer = http.may(&call(method, &json!(["web"])));
        assert_eq!(answer.refused(), (403, -32018), "{method}");
        let batch = format!("[{},{}]", list(), call(method, &json!(["web"])));
        assert_eq!(http.may(&batch).refused(), (403, -32018), "{method}");
    }
    assert!(runs(&http));
    assert_eq!(http.may(&list()).status, 200);
    assert!(http.call("nought_log", &json!([])).is_ok());
    http.world.end();
}

#[test]
fn what_stands_in_refused_files_is_not_told_without_the_token() {
    let mut http = served(&[]);
    let text = "exec: sleep 1000\nenv:\n  - PASSWORD=hunter5\npassword: hunter6\n";
    http.world.service("broken", text);
    for (method, params) in [
        ("service_status", json!(["broken"])),
        ("service_stats", json!(["broken"])),
        ("nought_status", json!({"name": "broken"})),
        ("nought_receipt", json!({"name": "broken"})),
        ("nought_usage", json!({"name": "broken"})),
        ("nought_plan", json!({"name": "broken"})),
    ] {
        let asked = call(method, &params);
        let told = http.post(&asked, &[]).json();
        assert_eq!(told["error"]["code"], -32000, "{told}");
        assert!(!told.to_string().contains("hunter"), "{told}");
        let whole = http.may(&asked).json();
        assert!(whole.to_string().contains("hunter"), "{method}: {whole}");
    }
    // Nor in a batch.
    let batch = format!("[{}]", call("nought_status", &json!({"name": "broken"})));
    let told = http.post(&batch, &[]).json();
    assert!(!told.to_string().contains("hunter"), "{told}");
    http.world.end();
}

#[test]
fn on_this_machine_the_open_pages_have_our_names_alone() {
    let http = served(&[]);
    for page in ["/livez", "/readyz", "/metrics"] {
        let line = format!("GET {page}");
        let foreign = ask(http.address, &line, &[("Host", "evil.example")], "");
        assert_eq!(foreign.status, 421, "{page}");
        let ours = ask(http.address, &line, &[("Host", "localhost")], "");
        assert_eq!(ours.status, 200, "{page}");
    }
    http.world.end();
}
