//! Callers that mean ill, or well and too much: they concern nobody but themselves.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Served, answer, call, served};
use crate::look;
use crate::pods::http::get;

/// Nobody who does no ill notices: probes, the socket, a stop with its proof.
fn nobody_notices(http: &Served) {
    let began = Instant::now();
    assert_eq!(get(http.address, "/livez"), (200, "ok\n".into()));
    assert_eq!(http.world.status("web")["generation"], 1);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

fn raw(address: SocketAddr, bytes: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    // It may be cut off while it still writes.
    let _ = stream.write_all(bytes);
    let mut text = Vec::new();
    let _ = stream.read_to_end(&mut text);
    (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
}

/// A POST with the token, as it goes over the wire.
fn posted(http: &Served, body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        http.address,
        http.token,
        body.len()
    )
}

#[test]
fn requests_too_large_or_cut_short_are_refused() {
    let http = served(&[]);
    let large = format!("[{}]", "1,".repeat(1 << 20));
    assert_eq!(http.may(&large).refused(), (413, -32600));
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n",
        http.address
    );
    // Chunks have no length that could be refused at once.
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(40);
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
    let refused = answer(&raw(http.address, chunked.as_bytes()).unwrap());
    assert_eq!(refused.refused(), (413, -32600));
    for headers in [1_000, 100_000] {
        let many: String = (0..headers).map(|n| format!("X-{n}: y\r\n")).collect();
        let said = raw(http.address, format!("{head}{many}\r\n").as_bytes());
        let said = said.unwrap_or_default();
        assert!(!said.contains(" 200 "), "{said}");
    }
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    assert_eq!(http.may(&deep).refused(), (400, -32700));
    for odd in [
        format!("{head}Content-Length: -1\r\n\r\n"),
        format!("{head}Content-Length: 5\r\nContent-Length: 6\r\n\r\n12345"),
        format!("{head}Content-Length: 99999999999999999999\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(3)),
        "POST http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
        "CONNECT evil.example:80 HTTP/1.1\r\nHost: evil.example:80\r\n\r\n".into(),
        "PUT / HTTP/1.1\r\nHost: localhost\r\n\r\n".into(),
    ] {
        let said = raw(http.address, odd.as_bytes()).unwrap_or_default();
        assert!(!said.contains("HTTP/1.1 2"), "{odd}: {said}");
    }
    nobody_notices(&http);
    http.world.end();
}

#[test]
fn half_requests_are_waited_for_in_a_bound_and_keep_no_probe_out() {
    let http = served(&[]);
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n",
        http.address
    );
    let began = Instant::now();
    let mut halves: Vec<TcpStream> = (0..60)
        .map(|_| {
            let mut half = TcpStream::connect(http.address).unwrap();
            half.write_all(head.as_bytes()).unwrap();
            half.write_all(b"{\"jsonrpc\"").unwrap();
            half.set_read_timeout(Some(Duration::from_secs(30)))
                .unwrap();
            half
        })
        .collect();
    nobody_notices(&http);
    let mut statuses = Vec::new();
    for half in &mut halves {
        let mut text = String::new();
        let _ = half.read_to_string(&mut text);
        statuses.push(answer(&text).status);
    }
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "{:?}",
        began.elapsed()
    );
    statuses.sort_unstable();
    statuses.dedup();
    assert_eq!(
        statuses,
        [408, 503],
        "some are waited for, more are refused"
    );
    assert_eq!(
        http.call("service_list", &json!([])).unwrap()["web"],
        "Running"
    );
    http.world.end();
}

#[test]
fn a_thousand_connections_are_borne() {
    let http = served(&[]);
    let before = look::rss_kib(http.world.supervisor());
    let silent: Vec<TcpStream> = (0..1000)
        .filter_map(|_| TcpStream::connect_timeout(&http.address, Duration::from_secs(5)).ok())
        .collect();
    assert!(silent.len() > 200, "{}", silent.len());
    nobody_notices(&http);
    let grown = look::rss_kib(http.world.supervisor()).saturating_sub(before);
    assert!(grown < 8 * 1024, "{grown} KiB");
    drop(silent);
    assert_eq!(http.call("service_stop", &json!(["web"])), Ok(Value::Null));
    http.world.end();
}

#[test]
fn who_does_not_read_costs_little_and_is_dropped() {
    let http = served(&[]);
    // Some answers of half a megabyte.
    let content = json!({"exec": "x", "env": {"A": "y".repeat(500 << 10)}});
    http.call("service_create", &json!(["large", content]))
        .unwrap();
    let before = look::rss_kib(http.world.supervisor());
    let get = call("service_get", &json!(["large"]));
    let batch = format!("[{}]", [get.as_str()].repeat(8).join(","));
    let request = posted(&http, &batch);
    let idle: Vec<TcpStream> = (0..40)
        .map(|_| {
            let mut stream = TcpStream::connect(http.address).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    nobody_notices(&http);
    look::until("they are dropped", || {
        let answered = http.may(&call("service_list", &json!([])));
        (answered.status == 200).then_some(())
    });
    let grown = look::rss_kib(http.world.supervisor()).saturating_sub(before);
    assert!(grown < 128 * 1024, "{grown} KiB");
    drop(idle);
    http.world.end();
}

#[test]
fn too_many_requests_a_second_are_refused_and_the_token_is_not_kept_out() {
    let http = served(&[]);
    let list = call("service_list", &json!([]));
    let refused = look::until("it has enough", || {
        let answered = http.post(&list, &[]);
        (answered.status == 429).then_some(answered)
    });
    assert_eq!(refused.refused(), (429, -32016));
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(http.may(&list).status, 200);
    nobody_notices(&http);
    http.world.end();
}

#[test]
fn a_batch_counts_as_many_as_it_has_calls() {
    let http = served(&[]);
    let list = call("service_list", &json!([]));
    let batch = format!("[{}]", vec![list.as_str(); 256].join(","));
    // As large as any may be, and more than may come at once: it is answered, all of it.
    let answered = http.post(&batch, &[]);
    assert_eq!(answered.status, 200);
    assert_eq!(answered.json().as_array().unwrap().len(), 256);
    let began = std::time::Instant::now();
    let refused = http.post(&batch, &[]);
    // 156 are missing at the least, a hundred come in a second.
    if began.elapsed() < std::time::Duration::from_secs(1) {
        assert_eq!(refused.refused(), (429, -32016));
    }
    assert_eq!(http.may(&batch).status, 200, "with the token");
    look::until("it may again", || {
        (http.post(&batch, &[]).status == 200).then_some(())
    });
    // So many came in a second at the most.
    assert!(began.elapsed() > std::time::Duration::from_secs(1));
    http.world.end();
}

#[test]
fn a_client_that_goes_away_loses_nothing() {
    let http = served(&[]);
    let stop = call("service_stop", &json!(["web"]));
    let request = posted(&http, &stop);
    let mut stream = TcpStream::connect(http.address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    // Read, and under way.
    look::until("it stops", || {
        (http.world.status("web")["state"] != "up").then_some(())
    });
    drop(stream);
    http.world.reach("web", "down");
    assert_eq!(http.world.receipt("web")["verdict"], "verified");
    http.world.end();
}
