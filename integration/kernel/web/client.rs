//! A client of HTTP that says what a test wants it to say.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::pods::http::{exchange, serving};
use crate::world::World;

/// A world with a service, HTTP, and the token for it.
pub(super) struct Served {
    pub(super) world: World,
    pub(super) address: SocketAddr,
    pub(super) token: String,
}

/// What came back.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    /// The code of a JSON-RPC error, with the status and a hint.
    pub(super) fn refused(&self) -> (u16, i64) {
        let error = self.json()["error"].take();
        assert!(error["data"]["hint"].is_string(), "{self:?}");
        (self.status, error["code"].as_i64().unwrap())
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// `web` runs, and HTTP is served with these flags more.
pub(super) fn served(flags: &[&str]) -> Served {
    let (world, address) = serving();
    served_at(world, address, flags)
}

pub(super) fn served_at(mut world: World, address: SocketAddr, flags: &[&str]) -> Served {
    world
        .flags
        .extend(flags.iter().map(|flag| (*flag).to_owned()));
    world.fixture("web", "polite 1", "").init();
    world.reach("web", "up");
    let token = token(&world);
    Served {
        world,
        address,
        token,
    }
}

/// What the file says that `nought_info` names.
pub(super) fn token(world: &World) -> String {
    let info = world.call("nought_info", json!([])).unwrap();
    let file = info["http_token"].as_str().unwrap();
    std::fs::read_to_string(file).unwrap().trim_end().to_owned()
}

/// One request with these headers, and a Host if there is none among them.
pub(super) fn ask(address: SocketAddr, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut request = format!("{line} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        request += &format!("Content-Length: {}\r\n", body.len());
    }
    request += "\r\n";
    request += body;
    answer(&exchange(address, request.as_bytes()).unwrap())
}

/// An answer, read: its body whole, or in chunks.
pub(super) fn answer(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    Answer {
        status: status.unwrap_or_else(|| panic!("{text:?}")),
        head: head.to_owned(),
        body: if chunked {
            whole(body)
        } else {
            body.to_owned()
        },
    }
}

fn whole(mut chunks: &str) -> String {
    let mut body = String::new();
    loop {
        let (size, rest) = chunks.split_once("\r\n").expect("a chunk has a size");
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return body;
        }
        body += &rest[..size];
        chunks = &rest[size + 2..];
    }
}

pub(super) fn call(method: &str, params: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()
}

impl Served {
    pub(super) fn post(&self, body: &str, headers: &[(&str, &str)]) -> Answer {
        let mut all = vec![("Content-Type", "application/json")];
        all.extend(headers);
        ask(self.address, "POST /", &all, body)
    }

    /// With the token.
    pub(super) fn may(&self, body: &str) -> Answer {
        let bearer = format!("Bearer {}", self.token);
        self.post(body, &[("Authorization", &bearer)])
    }

    /// The result, or the error, of one call with the token.
    pub(super) fn call(&self, method: &str, params: &Value) -> Result<Value, Value> {
        let answer = self.may(&call(method, params));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        crate::wire::result(&answer.json())
    }
}
