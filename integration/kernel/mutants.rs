//! Bad input by the thousand, against a supervisor that runs: requests and service files, mutated
//! from a seed. After each the services, the loaded configuration and the files are as before.

use std::collections::BTreeMap;
use std::path::Path;

use nought::api::METHODS;
use nought::config;
use nought::core::{EndAction, Spec};
use serde_json::{Map, Value, json};

use crate::wire::Client;
use crate::world::World;

/// The seed, for whoever repeats a failure.
fn seed() -> u64 {
    let given = std::env::var("NOUGHT_SEED").ok();
    given.and_then(|seed| seed.parse().ok()).unwrap_or(1)
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

/// What must not change through bad input.
#[derive(Debug, PartialEq)]
struct Standing {
    /// All that is said of each, times apart.
    services: Vec<Value>,
    /// How each would be stopped: signals, graces, orders.
    plan: Value,
    files: BTreeMap<String, Vec<u8>>,
    supervisor: u32,
}

fn standing(world: &World, client: &mut Client) -> Standing {
    let list = client.call("nought_list", &json!([])).unwrap();
    let services = list["services"].as_array().unwrap().iter().map(|service| {
        let mut service = service.as_object().unwrap().clone();
        service.remove("since_ms");
        Value::Object(service)
    });
    let entries = std::fs::read_dir(world.dir.join("services")).unwrap();
    let files = entries.map(|entry| {
        let path = entry.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        (path.display().to_string(), bytes)
    });
    Standing {
        services: services.collect(),
        plan: client.call("nought_plan", &json!([])).unwrap(),
        files: files.collect(),
        supervisor: world.supervisor(),
    }
}

fn with_services() -> World {
    let mut world = World::new();
    world.fixture("web", "stay", "requires: [db]\nshutdown_timeout: 7s");
    world.fixture("db", "stay", "signal: {stop: sigint, to: all}");
    world.service(
        "off",
        "exec: sleep 1\noneshot: true\nafter: [nobody-there]\n",
    );
    world.init();
    world.reach("web", "up");
    world.reach("db", "up");
    world
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
    let world = with_services();
    let mut onlooker = world.client();
    let before = standing(&world, &mut onlooker);
    let seed = seed();
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
            // What it may have asked before it broke is answered, or it is closed.
            client.finish();
            while client.read().is_some() {}
            client = world.client();
            assert_eq!(
                standing(&world, &mut onlooker),
                before,
                "seed {seed}, round {round}: {}",
                String::from_utf8_lossy(&bytes)
            );
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
        assert_eq!(
            standing(&world, &mut onlooker),
            before,
            "seed {seed}, round {round}: {}",
            String::from_utf8_lossy(&bytes)
        );
    }
    assert!(refused > 1000, "{refused} were refused");
    assert!(!world.log().contains("panic"), "{}", world.log());
    world.end();
}

/// Sound files, each with what the others do not have. Whatever becomes of them by mutation, it
/// is blocked or sleeps.
const FILES: [&str; 6] = [
    "exec: sleep 1000\nafter: [nobody-there]\ntest: sleep 1\nshutdown_timeout: 3\nlog: ring\n",
    "exec: [sleep, '1000']\nafter: [nobody-there]\nrequires: [off]\nsignal: {stop: SIGINT, to: all}\n",
    "exec: sleep 1000\noneshot: true\nafter:\n  - nobody-there\nenv: {A: 1, B: \"two words\", C: }\ndir: /tmp\n",
    "exec: sleep 1000\nafter: [nobody-there]\nrestart: {policy: on-failure, delay: 1s, burst: 3, window: 10m}\nexit_grace: 500ms\n",
    "exec: &x [sleep, '10']\ntest: {exec: *x, interval: 100ms, timeout: 3, retries: 5}\nafter: [nobody-there]\nx-note: {any: [thing]}\n",
    "# a comment\nexec: 'sleep 1000'\nafter: [ nobody-there ]\nlimits: {nofile: 10:20, core: unlimited}\numask: '027'\nnice: 3\nready: {tcp: 9}\n",
];

const PIECES: [&str; 14] = [
    ": ",
    "\n",
    "- ",
    "[",
    "}",
    "'",
    "\"",
    "\t",
    "~",
    "exec: ",
    "after: [off, web]\n",
    "&a ",
    "*a",
    "\u{202e}",
];

fn mutated(rng: &mut Rng) -> Vec<u8> {
    let pick = |rng: &mut Rng, len: usize| usize::try_from(rng.below(len as u64)).unwrap();
    let mut bytes = FILES[pick(rng, FILES.len())].as_bytes().to_vec();
    for _ in 0..=rng.below(3) {
        if bytes.is_empty() {
            break;
        }
        let at = pick(rng, bytes.len());
        match rng.below(8) {
            0 => bytes[at] = u8::try_from(rng.below(256)).unwrap(),
            1 => bytes.truncate(at),
            2 => drop(bytes.remove(at)),
            3 => {
                let end = (at + pick(rng, 20)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let other = FILES[pick(rng, FILES.len())].as_bytes();
                bytes.extend_from_slice(&other[pick(rng, other.len())..]);
            }
            5 => {
                let line = bytes.split(|b| *b == b'\n').next_back().unwrap().to_vec();
                bytes.splice(at..at, line);
            }
            _ => {
                let piece = PIECES[pick(rng, PIECES.len())].bytes();
                bytes.splice(at..at, piece);
            }
        }
    }
    bytes
}

/// What a file of these bytes is, by the loader alone.
fn spec_of(bytes: &[u8]) -> Option<Spec> {
    let text = std::str::from_utf8(bytes).ok()?;
    config::parse("mutant", text, Path::new("mutant.yaml")).ok()
}

/// Blocked for ever, and nothing follows from its end.
fn is_harmless(spec: &Spec) -> bool {
    let quiet = spec.on_end == EndAction::Ignore && spec.on_failure == EndAction::Ignore;
    quiet && !spec.essential && spec.after.iter().any(|name| name == "nobody-there")
}

/// What the file holds, which has to be what the loader sees.
fn check_content(said: &Result<Value, Value>, spec: Option<&Spec>, bytes: &[u8]) {
    let shown = String::from_utf8_lossy(bytes);
    match (said, spec) {
        (Ok(content), Some(spec)) => {
            if let Some(list) = content["exec"].as_array() {
                let words: Vec<String> = list.iter().map(as_word).collect();
                assert_eq!(words, spec.exec, "{shown}");
            }
            let env = content["env"].as_object();
            for (key, value) in env.into_iter().flatten() {
                let given = spec.env.get(key).map(String::as_str);
                assert_eq!(given, Some(as_word(value).as_str()), "{key}: {shown}");
            }
        }
        (Err(error), Some(_)) => panic!("a sound file cannot be read: {error}\n{shown}"),
        (Err(error), None) => assert_eq!(error["code"], -32005, "{error}"),
        // No service, and YAML.
        (Ok(content), None) => assert!(content.is_object(), "{content}"),
    }
}

fn as_word(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[test]
fn bad_service_files_change_nothing() {
    const ROUNDS: u64 = 400;
    let world = with_services();
    let mut onlooker = world.client();
    let before = standing(&world, &mut onlooker);
    let seed = seed();
    let mut rng = Rng(seed);
    let mut client = world.client();
    let path = world.dir.join("services/mutant.yaml");
    let (mut sound, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let bytes = mutated(&mut rng);
        std::fs::write(&path, &bytes).unwrap();
        let spec = spec_of(&bytes);
        let said = client.call("service_get", &json!(["mutant"]));
        check_content(&said, spec.as_ref(), &bytes);
        match &spec {
            None => {
                let error = client
                    .call("service_monitor", &json!(["mutant"]))
                    .unwrap_err();
                assert_eq!(error["code"], -32005, "{error}");
                assert!(error["data"]["cause_chain"][0].is_string(), "{error}");
                refused += 1;
            }
            Some(spec) if is_harmless(spec) => {
                let taken = client.call("service_monitor", &json!(["mutant"]));
                // It may close a cycle, or ask for more than there is.
                if taken == Ok(Value::Null) {
                    client.call("nought_stop", &json!(["mutant"])).unwrap();
                    client.call("service_forget", &json!(["mutant"])).unwrap();
                }
                sound += 1;
            }
            Some(_) => {}
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(
            standing(&world, &mut onlooker),
            before,
            "seed {seed}, round {round}: {}",
            String::from_utf8_lossy(&bytes)
        );
    }
    assert!(
        sound > 20 && refused > 100,
        "{sound} sound, {refused} refused"
    );
    assert!(!world.log().contains("panic"), "{}", world.log());
    world.end();
}

#[test]
fn bad_drafts_of_services_change_nothing_and_good_ones_come_back_as_they_went() {
    const ROUNDS: u64 = 300;
    let world = with_services();
    let mut onlooker = world.client();
    let before = standing(&world, &mut onlooker);
    let seed = seed();
    let mut rng = Rng(seed);
    let mut client = world.client();
    let (mut good, mut bad) = (0, 0);
    for round in 0..ROUNDS {
        let file = FILES[usize::try_from(rng.below(6)).unwrap()];
        let mut content: Map<String, Value> =
            config::content(config::Dialect::Nought, file, Path::new("draft.yaml"))
                .unwrap()
                .as_object()
                .unwrap()
                .clone();
        let env = [
            "027", "1e3", "~", "yes", "a: b", "#", " ", "\u{202e}", "é\n", "1.50",
        ];
        let word = env[usize::try_from(rng.below(10)).unwrap()];
        content.insert("env".into(), json!({"WORD": word}));
        let keys: Vec<String> = content.keys().cloned().collect();
        if rng.below(3) > 0 {
            let key = &keys[usize::try_from(rng.below(keys.len() as u64)).unwrap()];
            let changed = value(&mut rng, 0);
            content.insert(key.clone(), changed);
        }
        let draft = Value::Object(content);
        match client.call("service_create", &json!(["draft", draft])) {
            Ok(_) => {
                good += 1;
                let held = client.call("service_get", &json!(["draft"]));
                // What JSON and YAML write differently comes back as text.
                if !draft.to_string().contains("e+300") {
                    assert_eq!(held, Ok(draft.clone()), "seed {seed}, round {round}");
                }
                client.call("service_delete", &json!(["draft"])).unwrap();
            }
            Err(error) => {
                bad += 1;
                assert_eq!(error["code"], -32005, "{error}: {draft}");
            }
        }
        let now = standing(&world, &mut onlooker);
        assert_eq!(now, before, "seed {seed}, round {round}: {draft}");
    }
    assert!(good > 50 && bad > 50, "{good} good, {bad} bad");
    world.end();
}
