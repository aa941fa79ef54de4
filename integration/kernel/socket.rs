//! The control socket: what clients send, rightly and wrongly, and what they get.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::look::until;
use crate::wire::{Client, result};
use crate::world::World;

fn with_one_service() -> World {
    let mut world = World::new();
    world.fixture("web", "stay", "").init();
    world.reach("web", "up");
    world
}

#[test]
fn the_socket_is_its_owners_alone() {
    let world = with_one_service();
    let mode = std::fs::metadata(world.socket())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let state = std::fs::metadata(world.dir.join("state"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(state & 0o777, 0o700);
    world.end();
}

#[test]
fn garbage_is_answered_with_an_error_and_ends_that_connection_alone() {
    let world = with_one_service();
    let mut other = world.client();
    for (sent, code) in [
        (&b"garbage"[..], -32700),
        (b"\x00\xff\xfe", -32700),
        (b"GET / HTTP/1.1\r\n\r\n", -32700),
        (b"{\"jsonrpc\": \"2.0\",,}", -32700),
        (b"\"a string\"", -32600),
        (b"42", -32600),
    ] {
        let mut client = world.client();
        client.write(sent);
        let answer = client.read().unwrap();
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert!(answer["error"]["data"]["hint"].is_string(), "{answer}");
        assert_eq!(answer["id"], Value::Null);
        assert!(client.read().is_none(), "closed");
    }
    assert!(other.is_answered("nought_info"), "nobody else is closed");
    world.end();
}

#[test]
fn half_a_request_and_then_nothing_is_no_request() {
    let world = with_one_service();
    let mut client = world.client();
    client.write(b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"service_sto");
    client.finish();
    assert_eq!(client.read().unwrap()["error"]["code"], -32700);
    // And one that is simply gone.
    let mut client = world.client();
    client.write(
        b"{\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": \"service_stop\", \"params\": [\"web\"]",
    );
    drop(client);
    assert!(world.client().is_answered("nought_info"));
    assert_eq!(world.status("web")["state"], "up");
    world.end();
}

#[test]
fn objects_may_come_split_and_run_together() {
    let world = with_one_service();
    let mut client = world.client();
    let request =
        |id: u32| json!({"jsonrpc": "2.0", "id": id, "method": "service_list"}).to_string();
    for byte in request(1).bytes() {
        client.write(&[byte]);
    }
    assert_eq!(client.read().unwrap()["id"], 1);
    let joined: String = (2..12).map(request).collect();
    client.write(joined.as_bytes());
    let mut ids: Vec<_> = (2..12)
        .map(|_| client.read().unwrap()["id"].as_u64().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (2..12).collect::<Vec<_>>());
    client.write(format!("{}\n\n  \r\n{}", request(12), request(13)).as_bytes());
    assert!(client.read().is_some() && client.read().is_some());
    world.end();
}

#[test]
fn batches_and_notifications_are_as_the_standard_has_them() {
    let world = with_one_service();
    let mut client = world.client();
    let batch = json!([
        {"jsonrpc": "2.0", "id": "a", "method": "service_status", "params": ["web"]},
        {"jsonrpc": "2.0", "method": "service_list"},
        {"jsonrpc": "2.0", "id": "b", "method": "no_such_method"},
        {"id": "c"},
        7,
    ]);
    client.write(batch.to_string().as_bytes());
    let answers = client.read().unwrap();
    let answers = answers.as_array().unwrap();
    assert_eq!(
        answers.len(),
        4,
        "a notification is not answered: {answers:?}"
    );
    let by_id = |id: Value| answers.iter().find(|answer| answer["id"] == id).unwrap();
    assert_eq!(by_id(json!("a"))["result"]["name"], "web");
    assert_eq!(by_id(json!("b"))["error"]["code"], -32601);
    assert_eq!(by_id(Value::Null)["error"]["code"], -32600);
    client.write(b"[]");
    assert_eq!(
        client.read().unwrap()["error"]["code"],
        -32600,
        "an empty batch is an error"
    );

    // A notification is carried out, and nothing comes back before the next answer.
    let stop = json!({"jsonrpc": "2.0", "method": "service_stop", "params": {"name": "web"}});
    client.write(stop.to_string().as_bytes());
    until("it was carried out", || {
        (world.status("web")["state"] == "down").then_some(())
    });
    client.send(99, "service_list", &Value::Null);
    assert_eq!(client.read().unwrap()["id"], 99);
    world.end();
}

#[test]
fn an_object_of_more_than_a_mebibyte_is_refused() {
    let world = with_one_service();
    let mut client = world.client();
    let _ = client.try_write(format!("{{\"a\": \"{}\"}}", "x".repeat(2 << 20)).as_bytes());
    // The refusal may be overtaken by the reset of a connection with unread bytes.
    if let Some(answer) = client.read() {
        assert_eq!(answer["error"]["code"], -32600, "{answer}");
    }
    let mut endless = world.client();
    let chunk = vec![b'['; 1 << 16];
    let refused = (0..1000).any(|_| endless.try_write(&chunk).is_err());
    assert!(refused, "it is not read for ever");
    assert!(world.client().is_answered("nought_info"));
    world.end();
}

#[test]
fn two_hundred_connections_at_once_are_all_answered() {
    let world = with_one_service();
    let mut clients: Vec<Client> = (0..200).map(|_| world.client()).collect();
    for (n, client) in clients.iter_mut().enumerate() {
        client.send(i64::try_from(n).unwrap(), "service_status", &json!(["web"]));
    }
    for (n, client) in clients.iter_mut().enumerate() {
        let answer = client.read().unwrap();
        assert_eq!(answer["id"], n);
        assert_eq!(answer["result"]["state"], "Running");
    }
    drop(clients);
    until("they are forgotten", || {
        (crate::look::descriptors(world.supervisor()).0 < 100).then_some(())
    });
    world.end();
}

#[test]
fn a_stop_is_carried_out_although_its_client_goes_away() {
    let mut world = World::new();
    world.fixture("web", "polite 50", "").init();
    world.number("web", "up");
    let mut client = world.client();
    client.send(1, "service_stop", &json!(["web"]));
    drop(client);
    world.number("web", "gone");
    until("it is down", || {
        (world.status("web")["state"] == "down").then_some(())
    });
    crate::receipt::assert_verified(&world.receipt("web"));
    world.end();
}

#[test]
fn a_client_that_never_reads_holds_nobody_up() {
    let world = with_one_service();
    let mut deaf = world.client();
    for id in 0..2000 {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": "nought_list"}).to_string();
        if deaf.try_write(request.as_bytes()).is_err() {
            break;
        }
        if id % 100 == 0 {
            assert!(world.client().is_answered("nought_info"));
        }
        // Once nothing more is read from us there is no use in writing.
        if id == 300 {
            break;
        }
    }
    world.stop_verified("web");
    drop(deaf);
    world.end();
}

#[test]
fn zinits_methods_answer_as_zinits() {
    let world = with_one_service();
    let call = |method: &str, params: Value| world.call(method, params);
    assert_eq!(
        call("service_list", json!([])).unwrap(),
        json!({"web": "Running"})
    );
    let pid = world.pid("web", "pid");
    let status =
        json!({"name": "web", "pid": pid, "state": "Running", "target": "Up", "after": {}});
    assert_eq!(call("service_status", json!(["web"])).unwrap(), status);
    assert_eq!(
        call("service_status", json!({"name": "web"})).unwrap(),
        status
    );
    assert_eq!(call("service_stop", json!(["web"])).unwrap(), Value::Null);
    let status = call("service_status", json!(["web"])).unwrap();
    assert_eq!(
        (&status["pid"], &status["target"]),
        (&json!(0), &json!("Down")),
        "{status}"
    );
    assert_eq!(
        status["state"],
        "Error(Signaled(Pid(".to_owned() + &pid.to_string() + "), SIGTERM, false))"
    );
    assert_eq!(
        call("service_stop", json!(["web"])).unwrap(),
        Value::Null,
        "what is down is down"
    );
    assert_eq!(
        call("service_start", json!({"name": "web"})).unwrap(),
        Value::Null
    );
    world.reach("web", "up");
    assert_eq!(call("service_start", json!(["web"])).unwrap(), Value::Null);

    let missing = call("service_status", json!(["nobody"])).unwrap_err();
    assert_eq!(missing["code"], -32000, "{missing}");
    assert_eq!(missing["data"]["code_name"], "ServiceNotFound", "{missing}");
    assert_eq!(missing["data"]["retryable"], false);
    assert_eq!(missing["data"]["service"], "nobody");
    for (method, params) in [
        ("service_status", json!([])),
        ("service_status", json!({"nmae": "web"})),
        ("service_status", json!(["web", "more"])),
        ("service_status", json!([7])),
    ] {
        let error = call(method, params.clone()).unwrap_err();
        assert_eq!(error["code"], -32602, "{method} {params}: {error}");
    }
    assert_eq!(
        call("no_such_method", json!([])).unwrap_err()["code"],
        -32601
    );
    world.end();
}

#[test]
fn a_result_of_null_is_there_and_is_null() {
    let world = with_one_service();
    let mut client = world.client();
    client.send(5, "service_stop", &json!(["web"]));
    let answer = client.read().unwrap();
    assert_eq!(
        answer.as_object().unwrap().get("result"),
        Some(&Value::Null),
        "{answer}"
    );
    assert_eq!(result(&answer), Ok(Value::Null));
    world.end();
}

#[test]
fn the_command_line_shows_what_there_is() {
    let world = with_one_service();
    let list = world.cli(&["list"]);
    let text = String::from_utf8(list.stdout).unwrap();
    assert!(
        list.status.success() && text.contains("web") && text.contains("up"),
        "{text}"
    );
    let list = world.cli(&["--json", "list"]);
    let text = String::from_utf8(list.stdout).unwrap();
    assert!(
        text.lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "{text}"
    );
    let stop = world.cli(&["stop", "web"]);
    let text = String::from_utf8(stop.stdout).unwrap();
    assert_eq!(stop.status.code(), Some(0));
    assert!(text.contains("verified"), "{text}");
    assert_eq!(
        world.cli(&["stop", "web"]).status.code(),
        Some(0),
        "down already"
    );
    assert_eq!(world.cli(&["stop", "nobody"]).status.code(), Some(1));
    assert_eq!(world.cli(&["start", "web"]).status.code(), Some(0));
    assert_eq!(world.cli(&["restart", "web"]).status.code(), Some(0));
    let receipt = world.cli(&["--json", "receipt", "web"]);
    let receipt: Value = serde_json::from_slice(&receipt.stdout).unwrap();
    assert!(receipt.to_string().contains("verified"), "{receipt}");
    assert_eq!(world.cli(&["no-such-command"]).status.code(), Some(2));
    world.end();
}
