//! Clients that mean harm, or are broken: each costs nobody but itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nought::api::METHODS;
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
    world.fixture("slow", "stubborn", "shutdown_timeout: 3s");
    world.fixture("web", "stay", "").init();
    world.reach("slow", "up");
    world.reach("web", "up");
    world.pid("slow", "pid");
    let mut client = world.client();
    let began = Instant::now();
    client.send(1, "service_stop", &json!(["slow"]));
    client.send(2, "service_list", &Value::Null);
    client.send(3, "nought_stop", &json!(["web"]));
    assert_eq!(client.read().unwrap()["id"], 2);
    assert_eq!(client.read().unwrap()["id"], 3);
    assert!(
        began.elapsed() < Duration::from_millis(2500),
        "{:?}",
        began.elapsed()
    );
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
    let mut most = 0;
    for _ in 0..100 {
        most = most.max(look::rss_kib(world.supervisor()));
        assert!(world.client().is_answered("nought_info"));
        std::thread::sleep(Duration::from_millis(10));
    }
    // 32 batches of 256 answers of some 60 KiB each would be 2 GiB, four times over.
    let grown = (most - before) / 1024;
    assert!(grown < 200, "{grown} MiB for four clients that do not read");
    // One that reads late gets its answers, or is told which it does not get.
    let answers = std::iter::repeat_with(|| deaf[0].read().unwrap());
    let mut answers = answers.take(100).filter(Value::is_array);
    let batch = answers.next().unwrap();
    let first = batch.as_array().unwrap();
    assert_eq!(first.len(), 256);
    let refused = first
        .iter()
        .filter(|a| a["error"]["data"]["code_name"] == "Crowded");
    let given = first.iter().filter(|a| a["result"].is_array());
    assert!(given.count() > 0 && refused.count() > 0);
    drop(answers);
    drop(deaf);
    world.stop_verified("web");
    world.end();
}

/// splitmix64.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n.max(1)
    }
}

/// What must not change through a bad request.
#[derive(Debug, PartialEq)]
struct Standing {
    services: Value,
    files: BTreeMap<String, String>,
    supervisor: u32,
}

fn standing(world: &World) -> Standing {
    let list = world.call("nought_list", json!([])).unwrap();
    let services = list["services"].as_array().unwrap().iter();
    let services = services.map(|s| {
        json!([
            s["name"],
            s["state"],
            s["target"],
            s["pid"],
            s["generation"]
        ])
    });
    let entries = std::fs::read_dir(world.dir.join("services")).unwrap();
    let files = entries.map(|entry| {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        (path.display().to_string(), text)
    });
    Standing {
        services: services.collect(),
        files: files.collect(),
        supervisor: world.supervisor(),
    }
}

fn value(rng: &mut Rng, depth: u32) -> Value {
    match rng.below(if depth > 2 { 9 } else { 11 }) {
        0 => Value::Null,
        1 => json!(rng.below(2) == 0),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(1.5e300),
        5 => json!("nobody"),
        6 => json!("../../etc/passwd"),
        7 => json!("x".repeat(usize::try_from(rng.below(5000)).unwrap())),
        8 => json!("\u{0}\u{202e}\n"),
        9 => (0..rng.below(4)).map(|_| value(rng, depth + 1)).collect(),
        _ => {
            let keys = ["name", "signal", "content", "exec", "wait", "x"];
            let pairs = (0..rng.below(4)).map(|_| {
                let key = keys[usize::try_from(rng.below(6)).unwrap()].to_owned();
                (key, value(rng, depth + 1))
            });
            Value::Object(pairs.collect())
        }
    }
}

/// One that must come to nothing: none of its values names a service that is there, or is what
/// the method wants.
fn bad_request(rng: &mut Rng) -> Value {
    let harmless = |name: &&str| !name.ends_with("shutdown") && !name.ends_with("reboot");
    let names: Vec<&str> = METHODS
        .iter()
        .map(|m| m.name)
        .filter(|n| harmless(n))
        .collect();
    let method = match rng.below(10) {
        0 => json!("no_such_method"),
        1 => value(rng, 0),
        _ => json!(names[usize::try_from(rng.below(u64::try_from(names.len()).unwrap())).unwrap()]),
    };
    let mut request = json!({"jsonrpc": "2.0", "id": rng.below(100), "method": method});
    match rng.below(6) {
        0 => request["params"] = value(rng, 0),
        1 => request["jsonrpc"] = value(rng, 0),
        2 => request["id"] = value(rng, 0),
        _ => {
            request["params"] = (0..rng.below(5)).map(|_| value(rng, 0)).collect();
        }
    }
    request
}

#[test]
fn bad_requests_change_nothing() {
    const ROUNDS: u64 = 3000;
    let mut world = World::new();
    world.fixture("web", "stay", "");
    world.fixture("db", "stay", "");
    world.service(
        "off",
        "exec: sleep 1\noneshot: true\nafter: [nobody-there]\n",
    );
    world.init();
    world.reach("web", "up");
    world.reach("db", "up");
    let before = standing(&world);
    let given = std::env::var("NOUGHT_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = given.unwrap_or(1);
    let mut rng = Rng(seed);
    let mut client = world.client();
    let mut refused = 0;
    for round in 0..ROUNDS {
        let mut bytes = bad_request(&mut rng).to_string().into_bytes();
        // Some are no JSON at all, or end in the middle: those end their connection.
        let broken = rng.below(20) == 0;
        if broken {
            let at = usize::try_from(rng.below(u64::try_from(bytes.len()).unwrap())).unwrap();
            match rng.below(3) {
                0 => bytes.truncate(at),
                1 => bytes[at] = u8::try_from(rng.below(256)).unwrap(),
                _ => bytes.insert(at, b'}'),
            }
        }
        let _ = client.try_write(&bytes);
        if broken {
            client = world.client();
            continue;
        }
        // Requests without an id, or with one that is none, may get no answer.
        client.write(
            &json!({"jsonrpc": "2.0", "id": "end", "method": "rpc_discover"})
                .to_string()
                .into_bytes(),
        );
        loop {
            let Some(answer) = client.read() else {
                panic!(
                    "seed {seed}, round {round}: closed by {}",
                    String::from_utf8_lossy(&bytes)
                );
            };
            if answer["id"] == "end" {
                break;
            }
            refused += u32::from(answer.get("error").is_some());
        }
        if round % 300 == 0 {
            assert_eq!(standing(&world), before, "seed {seed}, round {round}");
        }
    }
    assert_eq!(standing(&world), before, "seed {seed}");
    assert!(refused > 1000, "{refused} were refused");
    assert!(!world.log().contains("panic"), "{}", world.log());
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
