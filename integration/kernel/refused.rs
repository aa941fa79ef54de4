//! Services that are not there although their files are: whoever names one is told why.

use serde_json::{Value, json};

use crate::contract::code;
use crate::world::World;

/// Every method that names a service, with what it is called in an error.
const METHODS: &[(&str, &str)] = &[
    ("nought_status", "status"),
    ("nought_start", "start"),
    ("nought_stop", "stop"),
    ("nought_restart", "restart"),
    ("nought_receipt", "receipt"),
    ("nought_log", "log"),
    ("nought_subscribeLogs", "log"),
    ("nought_usage", "stats"),
    ("nought_plan", "plan"),
    ("service_status", "status"),
    ("service_start", "start"),
    ("service_stop", "stop"),
    ("service_forget", "forget"),
    ("service_stats", "stats"),
];

/// Every command that names one.
const COMMANDS: &[&[&str]] = &[
    &["status", "bad"],
    &["start", "bad"],
    &["stop", "bad"],
    &["restart", "bad"],
    &["receipt", "bad"],
    &["log", "bad"],
    &["log", "-f", "bad/test"],
    &["stats", "bad"],
    &["plan", "stop", "bad"],
    &["why", "bad"],
    &["tree", "bad"],
    &["forget", "bad"],
    &["kill", "bad", "TERM"],
];

fn world() -> World {
    let mut world = World::new();
    world.fixture("web", "stay", "after: [bad]");
    world.service("bad", "exce: x\nexec: x\n");
    world.init();
    world
}

#[test]
fn a_service_whose_file_was_refused_says_so_wherever_it_is_named() {
    let world = world();
    let file = world.dir.join("services/bad.yaml");
    let place = format!("{}:1:1: error: ", file.display());
    let check = format!("`nought check -c {}`", world.dir.join("services").display());
    let told = |error: &Value, action: &str| {
        assert_eq!(code(error, "bad", action), -32000, "zinit's number stays");
        let message = "there is no service \"bad\": its file is refused";
        assert_eq!(error["message"], message);
        let data = &error["data"];
        let cause = data["cause_chain"][0].as_str().unwrap();
        assert!(
            cause.starts_with(&place) && cause.contains("exce"),
            "{cause}"
        );
        assert!(data["hint"].as_str().unwrap().contains(&check), "{data}");
    };
    for (method, action) in METHODS {
        told(
            &world.call(method, json!({"name": "bad"})).unwrap_err(),
            action,
        );
    }
    let kill = world.call("service_kill", json!(["bad", "TERM"]));
    told(&kill.unwrap_err(), "signal");
    for command in COMMANDS {
        let output = world.cli(command);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {said}");
        assert!(
            said.contains("there is no service \"bad\": its file is refused\n")
                && said.contains(&format!("because: {place}"))
                && said.contains(&check),
            "{command:?}: {said}"
        );
    }
    // Whoever waits for it is told, too.
    let why = String::from_utf8(world.cli(&["why", "web"]).stdout).unwrap();
    assert!(
        why.contains("  bad is unknown: there is no service \"bad\": its file is refused\n")
            && why.contains(&place),
        "{why}"
    );
    world.end();
}

#[test]
fn what_is_said_of_a_refused_file_is_true_now() {
    let mut world = world();
    let error = |world: &World| world.call("nought_status", json!(["bad"])).unwrap_err();
    // Mended, and not taken in.
    world.service("bad", "exec: sleep 1\n");
    let said = error(&world);
    assert_eq!(
        said["message"],
        "there is no service \"bad\": its file is sound, and was not taken in"
    );
    assert_eq!(said["data"]["hint"], "take it in: `nought monitor bad`");
    // Gone.
    std::fs::remove_file(world.dir.join("services/bad.yaml")).unwrap();
    let said = error(&world);
    assert_eq!(said["message"], "there is no service \"bad\"");
    assert_eq!(said["data"]["cause_chain"], json!([]));
    // A link that leads nowhere.
    std::os::unix::fs::symlink("/no/such/file", world.dir.join("services/bad.yaml")).unwrap();
    let said = error(&world);
    let cause = said["data"]["cause_chain"][0].as_str().unwrap();
    assert!(cause.contains("cannot read the file"), "{said}");
    world.end();
}

#[test]
fn a_request_that_says_something_twice_does_nothing() {
    let mut world = World::new();
    world.fixture("web", "stay", "").init();
    world.reach("web", "up");
    let mut client = world.client();
    for (request, id) in [
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"nought_status","method":"nought_stop","params":["web"]}"#,
            json!(1),
        ),
        (
            r#"{"jsonrpc":"2.0","id":2,"method":"nought_stop","params":["nix"],"params":["web"]}"#,
            json!(2),
        ),
        (
            r#"{"jsonrpc":"2.0","id":3,"id":4,"method":"nought_stop","params":["web"]}"#,
            Value::Null,
        ),
        (
            r#"{"jsonrpc":"2.0","id":5,"method":"nought_stop","params":{"name":"nix","name":"web"}}"#,
            json!(5),
        ),
    ] {
        client.write(request.as_bytes());
        let answer = client.read().unwrap();
        assert_eq!(
            (&answer["id"], &answer["error"]["code"]),
            (&id, &json!(-32600)),
            "{answer}"
        );
        assert!(answer["error"]["data"]["hint"].is_string(), "{answer}");
    }
    let status = client.call("nought_status", &json!(["web"])).unwrap();
    assert_eq!(status["state"], "up", "and the connection goes on");
    world.end();
}
