//! WebSockets: calls, the log, who may begin one, and frames that mean ill.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::client::{Served, answer, call, served};
use crate::look::until;
use crate::pods::http::get;

const TEXT: u8 = 0x81;
const CLOSE: u8 = 0x88;

/// A WebSocket, frame by frame.
struct Socket {
    stream: TcpStream,
    read: Vec<u8>,
}

/// What a handshake says besides what every one does.
fn handshake(http: &Served, headers: &[(&str, &str)]) -> (TcpStream, String) {
    let mut request = String::from("GET / HTTP/1.1\r\n");
    let standing = [
        ("Host", http.address.to_string()),
        ("Connection", "keep-alive, Upgrade".into()),
        ("Upgrade", "websocket".into()),
        ("Sec-WebSocket-Version", "13".into()),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==".into()),
    ];
    for (name, value) in &standing {
        let other = headers.iter().find(|(other, _)| other == name);
        let value = other.map_or(value.as_str(), |(_, other)| other);
        request += &format!("{name}: {value}\r\n");
    }
    for (name, value) in headers {
        if !standing.iter().any(|(known, _)| known == name) {
            request += &format!("{name}: {value}\r\n");
        }
    }
    let mut stream = TcpStream::connect(http.address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    stream.write_all((request + "\r\n").as_bytes()).unwrap();
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        head.push(byte[0]);
    }
    (stream, String::from_utf8(head).unwrap())
}

fn refused(http: &Served, headers: &[(&str, &str)]) -> (u16, i64) {
    let (mut stream, mut text) = handshake(http, headers);
    let _ = stream.read_to_string(&mut text);
    answer(&text).refused()
}

impl Socket {
    fn open(http: &Served, protocol: &str) -> Self {
        let (stream, head) = handshake(http, &[("Sec-WebSocket-Protocol", protocol)]);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let head = head.to_lowercase();
        assert!(
            head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
            "{head}"
        );
        assert!(
            head.contains("sec-websocket-protocol: nought\r\n"),
            "{head}"
        );
        let read = Vec::new();
        Socket { stream, read }
    }

    /// With the token.
    fn of(http: &Served) -> Self {
        Self::open(http, &format!("nought, nought.token.{}", http.token))
    }

    fn frame(&mut self, first: u8, payload: &[u8]) -> std::io::Result<()> {
        let mut frame = vec![first];
        match payload.len() {
            n @ 0..126 => frame.push(0x80 | n as u8),
            n @ 126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend((n as u16).to_be_bytes());
            }
            n => {
                frame.push(0x80 | 127);
                frame.extend((n as u64).to_be_bytes());
            }
        }
        let mask = [1, 2, 3, 4];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
        self.stream.write_all(&frame)
    }

    fn send(&mut self, text: &str) {
        self.frame(TEXT, text.as_bytes()).unwrap();
    }

    fn need(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut chunk = [0; 4096];
        while self.read.len() < count {
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.read.extend(&chunk[..n]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no frame: {error}"),
            }
        }
        Some(self.read.drain(..count).collect())
    }

    /// The next frame that is no ping: its first byte and its payload.
    fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            let head = self.need(2)?;
            let size = match head[1] {
                126 => usize::from(u16::from_be_bytes(self.need(2)?.try_into().unwrap())),
                127 => u64::from_be_bytes(self.need(8)?.try_into().unwrap()) as usize,
                n => usize::from(n),
            };
            let payload = self.need(size)?;
            if head[0] != 0x89 {
                return Some((head[0], payload));
            }
            assert!(self.frame(0x8a, &payload).is_ok() || head[0] == 0x89);
        }
    }

    fn json(&mut self) -> Value {
        let (first, payload) = self.next().expect("it is open");
        assert_eq!(first, TEXT, "{payload:?}");
        serde_json::from_slice(&payload).unwrap()
    }

    fn call(&mut self, method: &str, params: &Value) -> Value {
        self.send(&call(method, params));
        self.json()
    }

    /// Whether the server has ended it, with this code if it said one.
    fn is_ended(&mut self, code: Option<u16>) {
        let mut said = None;
        while let Some((first, payload)) = self.next() {
            if first == CLOSE {
                said = Some(u16::from_be_bytes(payload[..2].try_into().unwrap()));
            }
        }
        if code.is_some() {
            assert_eq!(said, code);
        }
    }
}

#[test]
fn calls_and_the_log_go_over_a_web_socket() {
    let mut http = served(&[]);
    let script = "exec: sh -c 'while :; do echo tick; sleep 0.02; done'\n";
    http.world.service("clock", script);
    let mut socket = Socket::of(&http);
    assert_eq!(
        socket.call("service_monitor", &json!(["clock"]))["result"],
        Value::Null
    );
    assert_eq!(
        socket.call("service_list", &json!([]))["result"]["web"],
        "Running"
    );
    let batch = format!(
        "[{},{}]",
        call("service_list", &json!([])),
        call("nope", &json!([]))
    );
    socket.send(&batch);
    assert_eq!(socket.json().as_array().unwrap().len(), 2);
    let params = json!({"name": "clock", "records": true});
    let number = socket.call("nought_subscribeLogs", &params)["result"].clone();
    let mut texts = Vec::new();
    while texts.len() < 5 {
        let item = socket.json();
        assert_eq!(item["method"], "nought_subscribeLogs", "{item}");
        assert_eq!(item["params"]["subscription"], number);
        let records = item["params"]["result"]["records"].as_array().cloned();
        texts.extend(
            records
                .into_iter()
                .flatten()
                .map(|record| record["text"].clone()),
        );
    }
    assert!(texts.iter().any(|text| text == "tick"), "{texts:?}");
    // zinit's, a line each.
    let mut zinit = Socket::of(&http);
    zinit.call("stream_subscribeLogs", &json!(["clock"]));
    let item = zinit.json();
    assert_eq!(item["params"]["result"], "[+] clock: tick", "{item}");
    http.world.stop_verified("clock");
    http.world.end();
}

#[test]
fn who_may_begin_one_and_what_without_the_token() {
    let http = served(&[]);
    let port = http.address.port();
    let protocol = "Sec-WebSocket-Protocol";
    for (header, expected) in [
        (("Host", "evil.example"), (421, -32018)),
        (("Origin", "http://evil.example"), (403, -32018)),
        (("Origin", "null"), (403, -32018)),
        ((protocol, "nought, nought.token.0"), (401, -32017)),
        (("Authorization", "Bearer 0"), (401, -32017)),
        (("Sec-WebSocket-Version", "8"), (400, -32600)),
        (("Sec-WebSocket-Key", "short"), (400, -32600)),
        (("Connection", "close"), (400, -32600)),
    ] {
        assert_eq!(refused(&http, &[header]), expected, "{header:?}");
    }
    let origin = format!("http://127.0.0.1:{port}");
    let (_, head) = handshake(&http, &[("Origin", &origin)]);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");

    let mut socket = Socket::open(&http, "nought");
    assert_eq!(
        socket.call("service_list", &json!([]))["result"]["web"],
        "Running"
    );
    for method in [
        "service_stop",
        "nought_log",
        "stream_subscribeLogs",
        "no_such",
    ] {
        let refused = socket.call(method, &json!(["web"]));
        assert_eq!(refused["error"]["code"], -32017, "{refused}");
        assert_eq!(refused["id"], 1);
    }
    assert_eq!(http.world.status("web")["generation"], 1);
    http.world.end();
}

#[test]
fn frames_that_mean_ill_end_that_socket_alone() {
    let http = served(&[]);
    let mut other = Socket::of(&http);
    // What is no request is answered, and the next one is too.
    let mut socket = Socket::of(&http);
    for (text, code) in [("x", -32700), ("{}{}", -32600), ("", -32700), ("1", -32600)] {
        socket.send(text);
        assert_eq!(socket.json()["error"]["code"], code, "{text}");
    }
    let halves = call("service_list", &json!([]));
    socket.frame(0x01, &halves.as_bytes()[..9]).unwrap();
    socket.frame(0x80, &halves.as_bytes()[9..]).unwrap();
    assert_eq!(socket.json()["result"]["web"], "Running");
    let large = "x".repeat((1 << 20) + 1);
    let too_large = |socket: &mut Socket| {
        let _ = socket.frame(TEXT, large.as_bytes());
    };
    let fragments = |socket: &mut Socket| {
        for n in 0..40 {
            let first = if n == 0 { 0x01 } else { 0x00 };
            if socket.frame(first, &[b'['; 64 << 10]).is_err() {
                break;
            }
        }
    };
    let unmasked = |socket: &mut Socket| {
        let _ = socket.stream.write_all(&[TEXT, 2, b'{', b'}']);
    };
    let no_text = |socket: &mut Socket| {
        let _ = socket.frame(TEXT, &[0xff, 0xfe]);
    };
    let reserved = |socket: &mut Socket| {
        let _ = socket.frame(0xf1, b"{}");
    };
    let vast = |socket: &mut Socket| {
        let _ = socket.stream.write_all(&[
            TEXT, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
        ]);
    };
    let ill: [&dyn Fn(&mut Socket); 6] = [
        &too_large, &fragments, &unmasked, &no_text, &reserved, &vast,
    ];
    for (n, ill) in ill.into_iter().enumerate() {
        let mut socket = Socket::of(&http);
        ill(&mut socket);
        let began = Instant::now();
        socket.is_ended(None);
        assert!(began.elapsed() < Duration::from_secs(10), "{n}");
    }
    assert_eq!(
        other.call("service_list", &json!([]))["result"]["web"],
        "Running"
    );
    assert_eq!(http.world.status("web")["generation"], 1);
    http.world.end();
}

#[test]
fn more_of_them_than_there_are_places_are_refused_and_no_probe_is() {
    let http = served(&[]);
    let mut sockets: Vec<Socket> = (0..16).map(|_| Socket::of(&http)).collect();
    assert_eq!(refused(&http, &[]), (503, -32016));
    for _ in 0..20 {
        assert_eq!(get(http.address, "/livez").0, 200);
    }
    let last = sockets.last_mut().unwrap();
    assert_eq!(
        last.call("service_list", &json!([]))["result"]["web"],
        "Running"
    );
    drop(sockets);
    until("there is room again", || {
        let (_, head) = handshake(&http, &[]);
        head.starts_with("HTTP/1.1 101 ").then_some(())
    });
    http.world.end();
}

/// Each is answered, so that they cost memory where nobody reads the answers.
#[test]
fn a_flood_of_pings_ends_that_socket_alone() {
    let http = served(&[]);
    let mut socket = Socket::of(&http);
    let mut other = Socket::of(&http);
    let sent = (0..100_000).take_while(|_| socket.frame(0x89, &[0; 125]).is_ok());
    assert!(sent.count() < 100_000, "it is not ended");
    assert_eq!(
        other.call("service_list", &json!([]))["result"]["web"],
        "Running"
    );
    http.world.end();
}

#[test]
fn who_reads_no_lines_is_dropped_and_slows_nobody() {
    let mut http = served(&[]);
    let script = "exec: sh -c 'while :; do seq 100000; done'\nlog: ring\n";
    http.world.service("flood", script);
    let mut socket = Socket::of(&http);
    socket.call("nought_subscribeLogs", &json!({"lines": 0}));
    http.call("service_monitor", &json!(["flood"])).unwrap();
    // It reads nothing: first the kernel's buffers are filled, then it has ten seconds.
    let began = Instant::now();
    while is_established(&socket.stream) {
        assert!(began.elapsed() < Duration::from_secs(90), "it is dropped");
        assert_eq!(get(http.address, "/livez").0, 200);
        let (_, head) = handshake(&http, &[]);
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        std::thread::sleep(Duration::from_millis(100));
    }
    http.world.stop_verified("flood");
    http.world.end();
}

/// Whether our end of it is not told otherwise: `01` in /proc/net/tcp.
fn is_established(stream: &TcpStream) -> bool {
    let local = format!(":{:04X}", stream.local_addr().unwrap().port());
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words.get(1).is_some_and(|own| own.ends_with(&local)) && words.get(3) == Some(&"01")
    })
}

#[test]
fn a_server_that_ends_says_so_after_its_last_answer() {
    let http = served(&[]);
    let told = http
        .call("system_start_http_server", &json!(["0"]))
        .unwrap();
    let address = told.as_str().unwrap().rsplit(' ').next().unwrap();
    let second = Served {
        address: address.parse().unwrap(),
        token: http.token.clone(),
        world: http.world,
    };
    let mut idle = Socket::of(&second);
    let mut follower = Socket::of(&second);
    follower.call("nought_subscribeLogs", &json!({"lines": 0}));
    let mut socket = Socket::of(&second);
    let answer = socket.call("system_stop_http_server", &json!([]));
    assert_eq!(answer["result"], Value::Null, "{answer}");
    assert_eq!(answer["error"], Value::Null, "{answer}");
    for socket in [&mut socket, &mut idle, &mut follower] {
        socket.is_ended(Some(1001));
    }
    second.world.end();
}
