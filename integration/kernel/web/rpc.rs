//! JSON-RPC by POST, as on the socket.

use serde_json::{Value, json};

use super::client::{call, served};

#[test]
fn a_call_by_post_is_answered_as_on_the_socket() {
    let http = served(&[]);
    let listed = json!({"web": "Running"});
    assert_eq!(http.call("service_list", &json!([])), Ok(listed));
    let error = http.call("service_status", &json!(["nobody"])).unwrap_err();
    assert_eq!(error["code"], -32000, "{error}");
    assert_eq!(error["data"]["service"], "nobody");
    let error = http.call("service_status", &json!([])).unwrap_err();
    assert_eq!(error["code"], -32602, "{error}");
    let error = http.call("nope", &json!([])).unwrap_err();
    assert_eq!(error["code"], -32601, "{error}");
    // It waits for the verdict, which is null and is recorded.
    assert_eq!(http.call("service_stop", &json!(["web"])), Ok(Value::Null));
    assert_eq!(http.world.receipt("web")["verdict"], "verified");
    let done = http.call("nought_start", &json!({"name": "web"})).unwrap();
    assert_eq!(done["state"], "up", "{done}");
    // Service files stay where they belong.
    for name in ["../../etc/cron.d/x", "/etc/passwd", "a/b", ".x", ""] {
        let content = json!({"exec": "sleep 1"});
        let error = http
            .call("service_create", &json!([name, content]))
            .unwrap_err();
        assert_eq!(error["code"], -32602, "{name}: {error}");
    }
    http.world.end();
}

#[test]
fn batches_and_notifications_are_as_json_rpc_has_them() {
    let http = served(&[]);
    let of = |id: Value, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method});
    let batch = json!([of(json!(1), "service_list"), of(json!("two"), "nope"), 3]);
    let answers = http.may(&batch.to_string()).json();
    let mut codes: Vec<(String, i64)> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|answer| {
            (
                answer["id"].to_string(),
                answer["error"]["code"].as_i64().unwrap_or(0),
            )
        })
        .collect();
    codes.sort();
    let expected = [("\"two\"", -32601), ("1", 0), ("null", -32600)];
    assert_eq!(codes, expected.map(|(id, code)| (id.to_owned(), code)));
    let told = json!({"jsonrpc": "2.0", "method": "service_stop", "params": ["web"]});
    let answer = http.may(&told.to_string());
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    http.world.reach("web", "down");
    for (body, status, code) in [
        ("{", 400, -32700),
        ("x", 400, -32700),
        ("", 400, -32700),
        ("1", 400, -32600),
        ("{}{}", 400, -32600),
        ("[]", 200, -32600),
        ("{}", 200, -32600),
    ] {
        let answer = http.may(body);
        assert_eq!(answer.refused(), (status, code), "{body}");
    }
    let subscribed = http.may(&call("stream_subscribeLogs", &json!([])));
    assert_eq!(subscribed.refused(), (400, -32600));
    http.world.end();
}

#[test]
fn a_large_answer_comes_whole_and_a_large_request_is_taken() {
    let http = served(&[]);
    let env = json!({"A": "y".repeat(500 << 10)});
    let content = json!({"exec": "x", "env": env});
    let made = http.call("service_create", &json!(["large", content]));
    assert_eq!(made.unwrap(), "Service 'large' created successfully");
    let got = http.call("service_get", &json!(["large"])).unwrap();
    assert_eq!(got["env"], env);
    http.world.end();
}
