//! Servers that are asked for and ended again, and the proxy before a socket.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::client::{Served, call, served, token};
use crate::look::{self, until};
use crate::world::World;

fn with_web() -> World {
    let mut world = World::new();
    world.fixture("web", "polite 1", "").init();
    world.reach("web", "up");
    world
}

fn descriptors(world: &World) -> usize {
    look::descriptors(world.supervisor()).0
}

#[test]
fn a_server_is_asked_for_and_ended_over_the_socket_and_leaves_nothing() {
    let world = with_web();
    let info = world.call("nought_info", json!([])).unwrap();
    assert_eq!(info["http"], json!([]), "off, it listens nowhere");
    assert!(!world.dir.join("state/http-token").exists());
    let error = world
        .call("system_stop_http_server", json!([]))
        .unwrap_err();
    assert_eq!(error["code"], -32603, "{error}");
    // Connections of the calls before are gone.
    let before = until("it is at rest", || {
        let count = descriptors(&world);
        std::thread::sleep(std::time::Duration::from_millis(20));
        (count == descriptors(&world)).then_some(count)
    });
    for address in ["", "127.0.0.1", "evil:80", "127.0.0.1:80800"] {
        let refused = world.call("system_start_http_server", json!([address]));
        assert_eq!(refused.unwrap_err()["code"], -32602, "{address}");
    }
    let told = world.call("system_start_http_server", json!(["127.0.0.1:0"]));
    let told = told.unwrap();
    let address = told
        .as_str()
        .unwrap()
        .strip_prefix("HTTP/RPC server started at ");
    let address: SocketAddr = address.unwrap().parse().unwrap();
    let info = world.call("nought_info", json!([])).unwrap();
    assert_eq!(info["http"], json!([address.to_string()]));
    let error = world
        .call("system_start_http_server", json!(["8080"]))
        .unwrap_err();
    assert_eq!(error["code"], -32603, "{error}");
    let token = token(&world);
    let http = Served {
        world,
        address,
        token,
    };
    assert_eq!(
        http.call("service_list", &json!([])),
        Ok(json!({"web": "Running"}))
    );
    // By its own last answer, too.
    assert_eq!(
        http.call("system_stop_http_server", &json!([])),
        Ok(Value::Null)
    );
    assert!(
        TcpStream::connect(address).is_err(),
        "nobody listens any more"
    );
    // Whoever listens there next is shown no token that is worth something.
    until("its token is withdrawn", || {
        let info = http.world.call("nought_info", json!([])).unwrap();
        let file = http.world.dir.join("state/http-token");
        (info["http_token"] == "" && !file.exists()).then_some(())
    });
    assert_eq!(http.world.status("web")["generation"], 1);
    until("all of it is closed", || {
        (descriptors(&http.world) <= before).then_some(())
    });
    http.world.end();
}

#[test]
fn the_server_it_was_started_with_stays() {
    let http = served(&[]);
    let error = http
        .call("system_stop_http_server", &json!([]))
        .unwrap_err();
    assert_eq!(error["code"], -32603, "{error}");
    let told = http.call("system_start_http_server", &json!(["127.0.0.1:0"]));
    let told = told.unwrap();
    let second = told.as_str().unwrap().rsplit(' ').next().unwrap();
    let second: SocketAddr = second.parse().unwrap();
    let taken = http.address.to_string();
    let stopped = http.call("system_stop_http_server", &json!([]));
    assert_eq!(stopped, Ok(Value::Null));
    assert!(TcpStream::connect(second).is_err());
    let error = http
        .call("system_start_http_server", &json!([taken]))
        .unwrap_err();
    assert_eq!(error["code"], -32603, "{error}");
    assert!(
        error["data"]["cause_chain"][0]
            .as_str()
            .unwrap()
            .contains("in use"),
        "{error}"
    );
    assert!(http.call("service_list", &json!([])).is_ok());
    http.world.end();
}

#[test]
fn the_last_answer_of_a_shutdown_is_given_over_http() {
    let mut http = served(&[]);
    let done = http.call("nought_shutdown", &json!({})).unwrap();
    assert_eq!(done["lingering"], json!([]), "{done}");
    assert_eq!(http.world.wait().code(), Some(0));
    http.world.end();
}

/// `proxy` with these words, what it said of itself, and itself.
fn proxy(world: &World, words: &[&str]) -> (Child, Value) {
    let mut proxy = Command::new(&world.program)
        .arg("-s")
        .arg(world.socket())
        .args(["--json", "proxy", "-a", "127.0.0.1:0", "--token-file"])
        .arg(world.dir.join("proxy-token"))
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut stdout = BufReader::new(proxy.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    (proxy, serde_json::from_str(&line).unwrap())
}

fn through(world: World, told: &Value) -> Served {
    let file = told["token_file"].as_str().unwrap();
    let token = std::fs::read_to_string(file).unwrap().trim_end().to_owned();
    let address = told["address"].as_str().unwrap().parse().unwrap();
    Served {
        world,
        address,
        token,
    }
}

fn ends(mut proxy: Child, signal: i32) -> i32 {
    look::signal(proxy.id(), signal);
    let status = until("the proxy ends", || proxy.try_wait().unwrap());
    status.code().unwrap()
}

#[test]
fn a_proxy_is_as_safe_as_the_supervisors_own_server() {
    let mut world = with_web();
    let zinit = world.dir.join("zinit");
    std::fs::copy(env!("CARGO_BIN_EXE_nought"), &zinit).unwrap();
    world.program = zinit;
    let (child, told) = proxy(&world, &[]);
    assert_eq!(told["socket"], world.socket().display().to_string());
    let http = through(world, &told);
    assert_eq!(
        http.call("service_list", &json!([])),
        Ok(json!({"web": "Running"}))
    );
    let stop = call("service_stop", &json!(["web"]));
    assert_eq!(http.post(&stop, &[]).refused(), (401, -32017));
    let foreign = http.post(&stop, &[("Origin", "http://evil.example")]);
    assert_eq!(foreign.refused(), (403, -32018));
    assert_eq!(http.call("service_stop", &json!(["web"])), Ok(Value::Null));
    assert_eq!(http.world.receipt("web")["verdict"], "verified");
    assert_eq!(ends(child, 15), 0);
    assert!(!http.world.dir.join("proxy-token").exists());
    assert!(TcpStream::connect(http.address).is_err());

    let (child, told) = proxy(&http.world, &["--read-only"]);
    let mut http = through(http.world, &told);
    let start = http.may(&call("service_start", &json!(["web"])));
    assert_eq!(start.refused(), (403, -32018));
    // A supervisor that is gone is said.
    http.world.call("nought_shutdown", json!({})).unwrap();
    http.world.wait();
    let gone = http.post(&call("service_list", &json!([])), &[]);
    assert_eq!(gone.refused(), (503, -32603));
    assert_eq!(ends(child, 2), 0);
    http.world.end();
}
