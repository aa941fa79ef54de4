//! The log as it is followed: subscriptions, their ends, and readers that are too slow.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::look::{self, until};
use crate::wire::Client;
use crate::world::World;

fn notification(client: &mut Client) -> Value {
    let said = client.read().expect("a notification");
    assert_eq!(said.get("id"), None, "{said}");
    said
}

/// A service that says a line whenever a line is written into its fifo.
fn parrot(world: &mut World, name: &str) {
    let fifo = world.dir.join(format!("{name}.fifo"));
    let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    // Open for writing too: between one reader and the next a line would be lost.
    let script = format!("echo ready; exec cat <>{}", fifo.display());
    world.service(name, &format!("exec: sh -c '{script}'\n"));
}

fn say(world: &World, name: &str, line: &str) {
    let fifo = world.dir.join(format!("{name}.fifo"));
    std::fs::write(fifo, format!("{line}\n")).unwrap();
}

fn ready(world: &World, name: &str) {
    until("it is ready", || {
        let log = world.call("stream_currentLogs", json!([name])).unwrap();
        log.to_string().contains("ready").then_some(())
    });
}

#[test]
fn a_subscriber_gets_the_lines_of_its_service_from_then_on() {
    let mut world = World::new();
    parrot(&mut world, "a");
    parrot(&mut world, "ab");
    world.init();
    ready(&world, "a");
    ready(&world, "ab");
    let mut client = world.client();
    let one = client.call("stream_subscribeLogs", &json!(["a"])).unwrap();
    let mut other = world.client();
    let all = other.call("stream_subscribeLogs", &json!({})).unwrap();
    say(&world, "ab", "not for everybody");
    let item = notification(&mut other);
    assert_eq!(item["method"], "stream_subscribeLogs");
    assert_eq!(
        item["params"],
        json!({"subscription": all, "result": "[+] ab: not for everybody"})
    );
    say(&world, "a", "first");
    let item = notification(&mut client);
    assert_eq!(
        item["params"],
        json!({"subscription": one, "result": "[+] a: first"})
    );
    // Calls go on beside it.
    client.send(7, "service_list", &Value::Null);
    assert_eq!(client.read().unwrap()["id"], 7);
    let ended = client
        .call("stream_unsubscribeLogs", &json!([one]))
        .unwrap();
    assert_eq!(ended, true);
    assert_eq!(
        client.call("stream_unsubscribeLogs", &json!([one])),
        Ok(json!(false))
    );
    say(&world, "a", "second");
    let item = notification(&mut other);
    assert_eq!(item["params"]["result"], "[+] a: first");
    let item = notification(&mut other);
    assert_eq!(item["params"]["result"], "[+] a: second");
    client.send(8, "service_list", &Value::Null);
    assert_eq!(
        client.read().unwrap()["id"],
        8,
        "nothing of the log comes any more"
    );
    world.end();
}

#[test]
fn what_is_kept_and_what_comes_has_no_gap_and_nothing_twice() {
    let mut world = World::new();
    let script = "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; sleep 1000";
    world.service("count", &format!("exec: sh -c '{script}'\nlog: ring\n"));
    world.flags = vec!["-b".into(), "10000".into()];
    world.init();
    let mut seen = Vec::new();
    let mut client = world.client();
    client
        .call("nought_subscribeLogs", &json!({"names": ["count"]}))
        .unwrap();
    while seen.len() < 3001 {
        let item = notification(&mut client)["params"]["result"].clone();
        assert_eq!(item["lost"], 0, "{item}");
        let lines = item["lines"].as_array().unwrap().iter();
        seen.extend(lines.map(|line| line.as_str().unwrap().to_owned()));
    }
    for (n, line) in seen.iter().skip(1).enumerate() {
        assert_eq!(*line, format!("[+] count: line {n}"));
    }
    let error = client
        .call("nought_subscribeLogs", &json!(["nobody"]))
        .unwrap_err();
    assert_eq!(error["code"], -32000);
    world.end();
}

#[test]
fn subscriptions_are_bounded_and_end_with_their_connection() {
    let mut world = World::new();
    world.fixture("web", "stay", "").init();
    let mut client = world.client();
    for _ in 0..16 {
        client.call("stream_subscribeLogs", &json!([])).unwrap();
    }
    let error = client.call("stream_subscribeLogs", &json!([])).unwrap_err();
    assert_eq!(error["data"]["code_name"], "Crowded", "{error}");
    assert_eq!(error["data"]["retryable"], true);
    let more: Vec<Client> = (0..15)
        .map(|_| {
            let mut client = world.client();
            for _ in 0..16 {
                client.call("stream_subscribeLogs", &json!([])).unwrap();
            }
            client
        })
        .collect();
    let mut last = world.client();
    let error = last.call("stream_subscribeLogs", &json!([])).unwrap_err();
    assert_eq!(error["data"]["code_name"], "Crowded", "{error}");
    drop((client, more));
    until("there is room again", || {
        last.call("stream_subscribeLogs", &json!([])).ok()
    });
    world.end();
}

#[test]
fn a_subscriber_that_does_not_read_loses_lines_hears_of_it_and_costs_little() {
    let mut world = World::alone();
    world
        .fixture("loud", "flood", "shutdown_timeout: 50ms")
        .init();
    let mut deaf = world.client();
    deaf.call("nought_subscribeLogs", &json!({"lines": 0}))
        .unwrap();
    world.numbers("loud", "flooded", 8);
    let rss = look::rss_kib(world.supervisor());
    assert!(rss < 60 * 1024, "{rss} KiB");
    world.stop_verified("loud");
    let mut lost = 0;
    let mut lines = 0;
    while lost == 0 || lines == 0 {
        let item = notification(&mut deaf)["params"]["result"].clone();
        lost += item["lost"].as_u64().unwrap();
        lines += item["lines"].as_array().unwrap().len();
    }
    world.end();
}

fn follow(world: &World, args: &[&str]) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nought"));
    command.arg("-s").arg(world.socket()).args(args);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

#[test]
fn log_f_shows_what_is_kept_and_goes_on_until_the_supervisor_ends() {
    let mut world = World::new();
    parrot(&mut world, "a");
    parrot(&mut world, "b");
    world.init();
    ready(&world, "a");
    ready(&world, "b");
    let (mut child, mut stdout) = follow(&world, &["log", "-f", "-n", "1", "a"]);
    let mut line = || {
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        line
    };
    assert_eq!(line(), "[+] a: ready\n");
    say(&world, "b", "not this");
    say(&world, "a", "more");
    assert_eq!(line(), "[+] a: more\n");
    world.end();
    assert_eq!(line(), "");
    assert_eq!(
        child.wait().unwrap().code(),
        Some(1),
        "it says that the supervisor is gone"
    );
}
