//! What `--json` prints is what docs/json.md says, field by field, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;

use serde_json::Value;

use crate::world::World;

const DOCS: &str = include_str!("../../docs/json.md");

/// The fields of one section, and whether each may be absent.
fn documented(section: &str) -> BTreeMap<String, bool> {
    let heading = format!("\n## {section}\n");
    let from = DOCS.find(&heading).unwrap_or_else(|| panic!("{section}"));
    let text = &DOCS[from + heading.len()..];
    let text = &text[..text.find("\n## ").unwrap_or(text.len())];
    let mut fields = BTreeMap::new();
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.trim_matches('|').splitn(2, " | ");
        let (names, meaning) = (cells.next().unwrap(), cells.next().unwrap_or_default());
        let names = names.split('`').skip(1).step_by(2);
        fields.extend(names.map(|name| (name.to_owned(), meaning.contains("absent"))));
    }
    assert!(!fields.is_empty(), "{section}");
    fields
}

/// The path of every value in it.
fn paths(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                let dot = if path.is_empty() { "" } else { "." };
                paths(value, &format!("{path}{dot}{name}"), out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                paths(item, &format!("{path}[]"), out);
            }
        }
        _ => drop(out.insert(path.to_owned())),
    }
}

/// Everything that these documents hold is documented there, and the other way round.
fn agree(section: &str, outputs: &[Output]) {
    let mut printed = BTreeSet::new();
    let mut documents = 0;
    for output in outputs {
        for line in String::from_utf8(output.stdout.clone()).unwrap().lines() {
            let document: Value =
                serde_json::from_str(line).unwrap_or_else(|e| panic!("{section}: {e}: {line}"));
            assert!(document.is_object(), "{section}: {line}");
            paths(&document, "", &mut printed);
            documents += 1;
        }
    }
    assert!(documents > 0, "{section}: {outputs:?}");
    let documented = documented(section);
    let is_at = |path: &str, field: &str| {
        let below = path.strip_prefix(field);
        below.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    for path in &printed {
        // An empty list stands for all that would be in it.
        let known = documented
            .keys()
            .any(|field| is_at(path, field) || is_at(field, path));
        assert!(known, "{section}: `{path}` is printed and not documented");
    }
    for (field, absent) in &documented {
        let seen = printed.iter().any(|path| is_at(path, field));
        assert!(
            seen || *absent,
            "{section}: `{field}` is documented and not printed: {printed:?}"
        );
    }
}

fn world() -> World {
    let mut world = World::new();
    // A signal that ends nobody who does not mind it.
    world.fixture("db", "stay", "reload: {signal: URG}");
    world.fixture("web", "stay", "requires: [db]");
    world.service("broken", "exec: sh -c 'exit 3'\nrestart: {delay: 60s}\n");
    world.service("job", "exec: 'true'\nrestart: never\n");
    world.init();
    for (name, state) in [
        ("db", "up"),
        ("web", "up"),
        ("broken", "backoff"),
        ("job", "done"),
    ] {
        world.reach(name, state);
    }
    world
}

fn json(world: &World, words: &str) -> Output {
    let mut args = vec!["--json"];
    args.extend(words.split(' '));
    world.cli(&args)
}

#[test]
fn questions_are_answered_as_documented() {
    let world = world();
    let ask = |words: &str| json(&world, words);
    let status = [
        ask("list"),
        ask("status db web broken job"),
        ask("why web"),
        ask("why broken"),
    ];
    agree("Status", &status);
    agree("Supervisor", &[ask("status")]);
    agree("Usage", &[ask("tree"), ask("stats web")]);
    agree("Top", &[ask("top --once -n 100ms")]);
    agree(
        "Plan",
        &[ask("plan shutdown"), ask("plan stop db --with-dependents")],
    );
    agree("Timeline", &[ask("timeline"), ask("blame")]);
    agree("Graph", &[ask("graph")]);
    let svg = world.dir.join("graph.svg");
    agree("File", &[ask(&format!("graph --svg {}", svg.display()))]);
    agree("Log", &[ask("log -n 3"), ask("log -s")]);
    agree("Health", &[ask("health")]);
    agree("Doctor", &[ask("doctor")]);
    agree("Error", &[ask("status nobody"), ask("stop nobody")]);
    let unheard = world.dir.join("nobody.sock");
    agree(
        "Error",
        &[
            ask("why nobody"),
            ask(&format!("-s {} list", unheard.display())),
        ],
    );
    let version = String::from_utf8(ask("status").stdout).unwrap();
    let version: Value = serde_json::from_str(&version).unwrap();
    assert_eq!(version["json_version"], 1);
    assert!(DOCS.contains("**Version 1.**"));
    world.end();
}

#[test]
fn changes_are_answered_as_documented() {
    let mut world = world();
    let done = [
        json(&world, "stop web"),
        json(&world, "stop web"),
        json(&world, "start web"),
        json(&world, "restart web --no-wait"),
        json(&world, "kill db URG"),
        json(&world, "reload db"),
        json(&world, "stop job"),
        json(&world, "forget job"),
        json(&world, "monitor job"),
    ];
    agree("Done", &done);
    let sent = String::from_utf8(json(&world, "kill db usr2").stdout).unwrap();
    let sent: Value = serde_json::from_str(&sent).unwrap();
    assert_eq!(sent["signal"], "SIGUSR2");
    // Wanted again and waiting: no word of the start before.
    json(&world, "stop db --with-dependents");
    json(&world, "start web --no-wait");
    let status = world.reach("web", "blocked");
    assert_eq!(status["last_start"], Value::Null, "{status:#}");
    json(&world, "start db");
    let status = world.reach("web", "up");
    let start = |word: &str| status["last_start"][word].as_f64().unwrap();
    let (asked, began) = (start("asked_mono_ms"), start("began_mono_ms"));
    assert!(
        asked <= began && began <= start("ready_mono_ms"),
        "{status:#}"
    );
    world.service("new", "exec: sleep 1000\n");
    let reloads = [json(&world, "reload --dry-run"), json(&world, "reload")];
    agree("Reload", &reloads);
    let receipts = String::from_utf8(json(&world, "receipt web").stdout).unwrap();
    let receipt: Value = serde_json::from_str(&receipts).unwrap();
    assert_eq!(receipt["service"], "web");
    world.service("bad", "exce: true\n");
    let services = world.dir.join("services");
    agree(
        "Problem",
        &[json(&world, &format!("check -c {}", services.display()))],
    );
    agree("Shutdown", &[json(&world, "shutdown")]);
    world.wait();
    let state = world.dir.join("state");
    let last = format!("timeline shutdown --state-dir {}", state.display());
    agree("Timeline", &[json(&world, &last)]);
    let cleaned = format!("doctor --clean --state-dir {}", state.display());
    agree("Cleaned", &[json(&world, &cleaned)]);
    world.end();
}
