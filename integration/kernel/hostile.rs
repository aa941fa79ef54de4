//! Clients that mean harm, or are broken: each costs nobody but itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::look::{self, until};
use crate::wire::Client;
use crate::world::World;

fn with_web() -> World {
    let mut world = World::new();
    world.fixture("web", "stay", "").init();
    world.reach("web", "up");
    world
}

#[test]
fn a_thousand_idle_connections_lock_nobody_out() {
    let world = with_web();
    let mut follower = world.client();
    follower
        .call("stream_subscribeLogs", &json!(["web"]))
        .unwrap();
    let mut idle: Vec<Client> = (0..1100).map(|_| world.client()).collect();
    let mut late = world.client();
    assert!(late.is_answered("nought_info"), "whoever comes is served");
    let told = idle[0].read().expect("the longest idle one is told");
    assert_eq!(told["error"]["data"]["code_name"], "Crowded", "{told}");
    assert_eq!(idle[0].read(), None, "and sent away");
    assert!(idle.last_mut().unwrap().is_answered("nought_info"));
    // Whoever follows the log is not idle.
    follower.send(9, "service_list", &Value::Null);
    assert_eq!(follower.read().unwrap()["id"], 9);
    let (open, _) = look::descriptors(world.supervisor());
    assert!(open < 1200, "{open} descriptors");
    drop(idle);
    world.end();
}

#[test]
fn nobody_waits_for_another_request() {
    let mut world = World::new();
    world.fixture("slow", "stubborn", "shutdown_timeout: 10m");
    world.fixture("web", "stay", "").init();
    world.reach("slow", "up");
    world.reach("web", "up");
    let slow = world.pid("slow", "pid");
    let mut client = world.client();
    client.send(1, "service_stop", &json!(["slow"]));
    client.send(2, "service_list", &Value::Null);
    client.send(3, "nought_stop", &json!(["web"]));
    assert_eq!(client.read().unwrap()["id"], 2);
    assert_eq!(client.read().unwrap()["id"], 3);
    look::signal(slow, libc::SIGKILL);
    assert_eq!(client.read().unwrap()["id"], 1);
    world.end();
}

#[test]
fn questions_that_nobody_reads_the_answers_of_cost_little() {
    let mut world = World::alone();
    let script = "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); done; sleep 1000";
    world
        .service("web", &format!("exec: sh -c '{script}'\n"))
        .init();
    world.reach("web", "up");
    until("it has said all", || {
        let log = world.call("nought_log", json!(["web", 1])).unwrap();
        log["lines"].to_string().contains("3999").then_some(())
    });
    let before = look::rss_kib(world.supervisor());
    let mut deaf: Vec<Client> = (0..4).map(|_| world.client()).collect();
    let call = |id: usize| json!({"jsonrpc": "2.0", "id": id, "method": "stream_currentLogs"});
    let batch: Vec<Value> = (0..256).map(call).collect();
    let batch = Value::Array(batch).to_string();
    for client in &mut deaf {
        for _ in 0..32 {
            if client.try_write(batch.as_bytes()).is_err() {
                break;
            }
        }
        for id in 0..64 {
            if client.try_write(call(id).to_string().as_bytes()).is_err() {
                break;
            }
        }
        assert!(world.client().is_answered("nought_info"));
    }
    // Not for so long that they are sent away.
    let began = Instant::now();
    let mut most = 0;
    while began.elapsed() < Duration::from_secs(1) {
        most = most.max(look::rss_kib(world.supervisor()));
        assert!(world.client().is_answered("nought_info"));
        std::thread::sleep(Duration::from_millis(10));
    }
    // 32 batches of 256 answers of some 60 KiB each would be 2 GiB, four times over.
    let grown = (most - before) / 1024;
    assert!(grown < 200, "{grown} MiB for four clients that do not read");
    drop(deaf);
    // One that reads late gets its answers, or is told which it does not get.
    let mut late = world.client();
    (0..2).for_each(|_| late.write(batch.as_bytes()));
    assert!(world.client().is_answered("nought_info"));
    let batch = late.read().unwrap();
    let first = batch.as_array().unwrap();
    assert_eq!(first.len(), 256);
    let refused = first
        .iter()
        .filter(|a| a["error"]["data"]["code_name"] == "Crowded");
    let given = first.iter().filter(|a| a["result"].is_array());
    assert!(given.count() > 0 && refused.count() > 0);
    drop(late);
    world.stop_verified("web");
    world.end();
}

#[test]
fn a_client_that_never_reads_is_sent_away() {
    let world = with_web();
    let before = look::descriptors(world.supervisor()).0;
    let mut deaf = world.client();
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": "rpc.discover"}).to_string();
    // Until the socket's buffers are full both ways.
    for _ in 0..500 {
        if deaf.try_write_now(request.as_bytes()).is_err() {
            break;
        }
    }
    let began = Instant::now();
    let limit = Duration::from_secs(60);
    while !world
        .log()
        .contains("dropped a client that does not read its answers")
    {
        assert!(began.elapsed() < limit, "it is still there");
        std::thread::sleep(Duration::from_millis(100));
    }
    until("its descriptors are closed", || {
        (look::descriptors(world.supervisor()).0 <= before).then_some(())
    });
    assert!(world.client().is_answered("nought_info"));
    drop(deaf);
    world.end();
}

#[test]
fn commands_end_although_the_supervisor_is_stopped() {
    let world = with_web();
    let pid = world.supervisor();
    look::signal(pid, libc::SIGSTOP);
    until("it is stopped", || {
        (look::state(pid).as_deref() == Some("T")).then_some(())
    });
    let began = Instant::now();
    let commands = [
        "list",
        "log -f",
        "stop web",
        "why web",
        "plan shutdown",
        "monitor x",
    ];
    let children = commands.map(|words| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nought"));
        command.arg("-s").arg(world.socket()).args(words.split(' '));
        command.stdin(std::process::Stdio::null());
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        (words, command.spawn().unwrap())
    });
    for (words, child) in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{words}: {said}");
        assert!(said.contains("did not answer within"), "{words}: {said}");
        assert!(said.contains("hint: is it stopped"), "{words}: {said}");
    }
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "{:?}",
        began.elapsed()
    );
    look::signal(pid, libc::SIGCONT);
    until("it goes on", || {
        world.client().is_answered("nought_info").then_some(())
    });
    // What was asked of it meanwhile is done: nothing is lost.
    until("web was stopped", || {
        (world.status("web")["state"] == "down").then_some(())
    });
    world.end();
}
