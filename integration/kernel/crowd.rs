//! Clients that together would have the supervisor keep too much: requests that never become
//! whole, answers that are never read.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::look::{self, until};
use crate::wire::Client;
use crate::world::World;

fn with_web() -> World {
    let mut world = World::alone();
    world.fixture("web", "stay", "").init();
    world.reach("web", "up");
    world
}

fn mib_since(world: &World, before_kib: u64) -> u64 {
    look::rss_kib(world.supervisor()).saturating_sub(before_kib) / 1024
}

#[test]
fn half_requests_of_many_cost_little_and_keep_nobody_out() {
    let world = with_web();
    let before = look::rss_kib(world.supervisor());
    let mut follower = world.client();
    follower
        .call("stream_subscribeLogs", &json!(["web"]))
        .unwrap();
    let half = format!(
        "{{\"jsonrpc\": \"2.0\", \"id\": 7, \"method\": \"service_get\", \"params\": [\"{}",
        "x".repeat(600 << 10)
    );
    // 36 MiB, of which 16 MiB and a little for each may be kept.
    let mut halves: Vec<Client> = (0..60)
        .map(|_| {
            let mut client = world.client();
            client.write(half.as_bytes());
            client
        })
        .collect();
    let told = halves[0].read().expect("the longest idle one is told");
    assert_eq!(told["error"]["data"]["code_name"], "Crowded", "{told}");
    assert_eq!(told["error"]["data"]["retryable"], true, "{told}");
    let said = told["error"]["message"].as_str().unwrap();
    assert!(said.contains("16777216 bytes"), "{said}");
    assert_eq!(halves[0].read(), None, "and sent away");
    let grown = mib_since(&world, before);
    assert!(grown < 40, "{grown} MiB for half requests");
    // A request that becomes whole in its time is served, however large; so is who was there.
    let content = json!({"exec": "x", "env": {"A": "y".repeat(300 << 10)}});
    let said = world.call("service_create", json!(["large", content]));
    assert_eq!(said.unwrap(), "Service 'large' created successfully");
    follower.send(9, "service_list", &Value::Null);
    assert_eq!(follower.read().unwrap()["id"], 9);
    let last = halves.last_mut().unwrap();
    last.write(b"\"]}");
    let answer = last.read().expect("what was kept of it became whole");
    assert_eq!(
        (&answer["id"], &answer["error"]["code"]),
        (&json!(7), &json!(-32602)),
        "{answer}"
    );
    drop(halves);
    until("it is given back", || {
        (mib_since(&world, before) < 30).then_some(())
    });
    world.end();
}

#[test]
fn half_a_request_is_waited_for_in_a_bound() {
    let world = with_web();
    let mut silent = world.client();
    silent.write(b"{\"jsonrpc\": \"2.0\", \"id\": 1, ");
    let mut slow = world.client();
    slow.write(b"{");
    // One that works and has a half request beside it: what it asked for is done.
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(60) && slow.try_write(b" ").is_ok() {
        assert!(world.client().is_answered("nought_info"));
        std::thread::sleep(Duration::from_millis(500));
    }
    let took = began.elapsed();
    assert!(
        (Duration::from_secs(25)..Duration::from_secs(50)).contains(&took),
        "{took:?}"
    );
    for client in [&mut silent, &mut slow] {
        let told = client.read().expect("it is told");
        assert_eq!(told["error"]["code"], -32600, "{told}");
        assert_eq!(
            told["error"]["message"], "what came is no whole request after 30 s",
            "{told}"
        );
        assert_eq!(client.read(), None, "and closed");
    }
    world.end();
}

#[test]
fn answers_that_nobody_reads_cost_little_however_many_ask() {
    let mut world = World::alone();
    let line = "x".repeat(20);
    let script =
        format!("i=0; while [ $i -lt 2000 ]; do echo {line}; i=$((i+1)); done; sleep 1000");
    world
        .service("web", &format!("exec: sh -c '{script}'\n"))
        .init();
    until("it has said all", || {
        let log = world.call("nought_log", json!(["web"])).unwrap();
        (log["lines"].as_array()?.len() > 1500).then_some(())
    });
    let before = look::rss_kib(world.supervisor());
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "stream_currentLogs"}).to_string();
    let mut deaf: Vec<Client> = (0..24).map(|_| world.client()).collect();
    let mut most = 0;
    for _ in 0..150 {
        for client in &mut deaf {
            let _ = client.try_write_now(call.as_bytes());
        }
        most = most.max(mib_since(&world, before));
        assert!(world.client().is_answered("nought_info"));
    }
    // 8 MiB for each would be 192 MiB, and as much again while they are made.
    assert!(most < 160, "{most} MiB for clients that do not read");
    until("some were sent away", || {
        (look::descriptors(world.supervisor()).0 < 40).then_some(())
    });
    drop(deaf);
    world.stop_verified("web");
    world.end();
}

/// A service that never becomes ready, beside one that is.
fn with_never() -> World {
    let mut world = World::alone();
    world.service("never", "exec: sleep 1000\ntest: \"false\"\n");
    world.fixture("web", "stay", "").init();
    world.reach("web", "up");
    world
}

fn few_descriptors(world: &World) {
    until("its descriptors are given back", || {
        (look::descriptors(world.supervisor()).0 < 100).then_some(())
    });
}

#[test]
fn clients_that_close_while_they_wait_keep_nobody_out() {
    let world = with_never();
    for _ in 0..1_100 {
        world.client().send(1, "nought_start", &json!(["never"]));
    }
    few_descriptors(&world);
    let mut idle: Vec<Client> = (0..20).map(|_| world.client()).collect();
    for client in &mut idle {
        assert!(client.is_answered("nought_list"));
    }
    // Whoever closed its writing end alone still waits.
    let mut half = world.client();
    half.send(5, "nought_start", &json!(["never"]));
    half.finish();
    assert!(world.client().is_answered("nought_list"));
    world.stop_verified("never");
    let told = half.read().expect("it is answered");
    assert_eq!(told["error"]["data"]["code_name"], "Superseded", "{told}");
    assert_eq!(half.read(), None);
    world.end();
}

#[test]
fn what_was_sent_before_a_close_is_done() {
    let world = with_never();
    let mut client = world.client();
    for id in 0..200 {
        client.send(id, "nought_start", &json!(["never"]));
    }
    client.send(200, "nought_stop", &json!(["web"]));
    drop(client);
    world.reach("web", "down");
    few_descriptors(&world);
    world.end();
}

#[test]
fn calls_that_wait_in_batches_count_singly() {
    let world = with_never();
    let before = look::rss_kib(world.supervisor());
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "nought_start", "params": ["never"]});
    let batch = Value::Array(vec![call; 256]).to_string();
    let mut waiting: Vec<Client> = (0..4).map(|_| world.client()).collect();
    for client in &mut waiting {
        for _ in 0..64 {
            // It is not read any further when as many calls wait as may.
            if client.try_write_now(batch.as_bytes()).is_err() {
                break;
            }
        }
    }
    for _ in 0..20 {
        let began = Instant::now();
        assert!(world.client().is_answered("nought_list"));
        assert!(began.elapsed() < Duration::from_secs(20));
    }
    let grown = mib_since(&world, before);
    assert!(grown < 32, "{grown} MiB for calls that wait");
    drop(waiting);
    few_descriptors(&world);
    // One batch of more calls than may be under way is answered, all of it.
    let mut client = world.client();
    let call = json!({"jsonrpc": "2.0", "id": 1, "method": "nought_start", "params": ["web"]});
    client.write(Value::Array(vec![call; 256]).to_string().as_bytes());
    let answers = client.read().expect("it is answered");
    assert_eq!(answers.as_array().map(Vec::len), Some(256));
    world.end();
}
