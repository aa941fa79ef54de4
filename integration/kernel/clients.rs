//! Clients that are not ours, the name `zinit`, and a group that may use the socket.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::contract::with_web;
use crate::look;
use crate::world::World;

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
    world.log_with("warning: unknown key `description`");
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
