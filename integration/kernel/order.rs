//! Who starts and stops when, told by the clocks of the services themselves.

use std::fmt::Write as _;

use serde_json::json;

use crate::look::{self, until};
use crate::world::World;

/// Waits until these services are up and had their say.
fn all_up(world: &World, names: &[String]) {
    for name in names {
        world.number(name, "up");
        world.reach(name, "up");
    }
}

#[test]
fn a_chain_of_five_starts_in_order_and_stops_in_reverse() {
    let mut world = World::new();
    let names: Vec<String> = (1..=5).map(|n| format!("s{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let after = n
            .checked_sub(1)
            .map_or(String::new(), |n| format!("after: [{}]", names[n]));
        world.fixture(name, "polite 30", &after);
    }
    world.init();
    all_up(&world, &names);
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    let at = |name: &str, word: &str| world.number(name, word);
    for pair in names.windows(2) {
        let [dependency, dependent] = pair else {
            unreachable!()
        };
        assert!(
            at(dependent, "gone") <= at(dependency, "asked"),
            "{dependency} was asked before {dependent} had gone"
        );
        // A service is up when it executes, so its own word may come a little later than its
        // dependent's: the start is told by the log.
        let log = world.log();
        let up = log.find(&format!("{dependency}: up")).unwrap();
        let starting = log.find(&format!("{dependent}: starting")).unwrap();
        assert!(up < starting, "{log}");
    }
    world.assert_last_words("verified: every service is gone");
    world.end();
}

#[test]
fn a_hub_of_twenty_stops_its_dependents_together_and_itself_last() {
    let mut world = World::new();
    let spokes: Vec<String> = (1..=20).map(|n| format!("spoke{n}")).collect();
    world.fixture("hub", "polite 1", "");
    // None of them goes before all have been asked: one after the other they would be killed.
    let asked = world.dir.join("asked").display().to_string();
    for spoke in &spokes {
        let words = format!("polite-together 20 {asked}");
        world.fixture(spoke, &words, "after: [hub]\nshutdown_timeout: 30s");
    }
    world.init();
    all_up(&world, &spokes);
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    let all = |word: &str| {
        spokes
            .iter()
            .map(|spoke| world.number(spoke, word))
            .collect::<Vec<_>>()
    };
    let (asked, gone) = (all("asked"), all("gone"));
    assert!(
        asked.iter().max() < gone.iter().min(),
        "all are asked before the first has gone: {asked:?} {gone:?}"
    );
    assert!(
        gone.iter().max() <= Some(&world.number("hub", "asked")),
        "the hub is asked when all have gone"
    );
    world.end();
}

#[test]
fn two_hundred_services_go_up_and_down() {
    let mut world = World::alone();
    let names: Vec<String> = (0..200).map(|n| format!("s{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        let after = if n % 10 == 0 {
            String::new()
        } else {
            format!("after: [s{}]", n - 1)
        };
        world.fixture(name, "stay", &after);
    }
    world.init();
    until("all are up", || {
        let list = world.call("nought_list", json!({})).unwrap();
        let services = list["services"].as_array().unwrap();
        services
            .iter()
            .all(|service| service["state"] == "up")
            .then_some(())
    });
    for name in &names {
        world.number(name, "up");
    }
    assert_eq!(look::members(&world.nought_tree()).len(), 201);
    let (_, watches) = look::descriptors(world.supervisor());
    assert!(watches >= 200, "{watches}");
    world.end();
}

#[test]
fn two_hundred_services_leave_no_descriptor_and_no_watch() {
    let mut world = World::alone();
    for n in 0..200 {
        world.fixture(&format!("s{n}"), "stay", "");
    }
    world.init();
    let all = |method: &str| {
        let mut batch = String::from("[");
        for n in 0..200 {
            let comma = if n == 0 { "" } else { "," };
            let request =
                json!({"jsonrpc": "2.0", "id": n, "method": method, "params": [format!("s{n}")]});
            write!(batch, "{comma}{request}").unwrap();
        }
        let mut client = world.client();
        client.write((batch + "]").as_bytes());
        let answers = client.read().unwrap();
        let answers = answers.as_array().unwrap();
        assert_eq!(answers.len(), 200);
        answers
            .iter()
            .for_each(|answer| assert!(answer.get("error").is_none(), "{answer}"));
    };
    all("nought_stop");
    let before = until("nothing is watched", || {
        Some(look::descriptors(world.supervisor())).filter(|(_, watches)| *watches == 0)
    });
    all("nought_start");
    all("nought_stop");
    until("no descriptor more than before", || {
        (look::descriptors(world.supervisor()) <= before).then_some(())
    });
    world.end();
}

#[test]
fn a_stop_takes_what_requires_it_along_and_a_start_brings_it_back() {
    let mut world = World::new();
    world.fixture("db", "polite 1", "");
    world.fixture("app", "polite 20", "requires: [db]");
    world.fixture("web", "polite 20", "requires: [app]");
    world.fixture("log", "polite 1", "after: [db]").init();
    all_up(&world, &["db", "app", "web", "log"].map(str::to_owned));
    world.stop_verified("db");
    let at = |name: &str, word: &str| world.number(name, word);
    assert!(at("web", "gone") <= at("app", "asked") && at("app", "gone") <= at("db", "asked"));
    for (name, cause) in [("db", "stop"), ("app", "dependency"), ("web", "dependency")] {
        assert_eq!(world.receipt(name)["cause"], cause, "{name}");
    }
    assert_eq!(world.status("log")["state"], "up", "after is order only");
    for name in ["app", "web"] {
        let status = world.reach(name, "blocked");
        assert_eq!(status["target"], "up", "{status}");
    }
    world.start("db").unwrap();
    for name in ["db", "app", "web"] {
        world.reach(name, "up");
        world.numbers(name, "up", 2);
    }
    world.end();
}

#[test]
fn a_service_that_dies_takes_what_requires_it_along_until_it_is_back() {
    let mut world = World::new();
    world.fixture("db", "stay", "restart: {delay: 10ms}");
    world.fixture("web", "polite 10", "requires: [db]").init();
    all_up(&world, &["db", "web"].map(str::to_owned));
    look::signal(world.pid("db", "pid"), libc::SIGKILL);
    world.numbers("web", "up", 2);
    world.reach("web", "up");
    assert_eq!(world.receipt("web")["cause"], "dependency");
    let receipt = world.receipt("db");
    assert_eq!(
        (&receipt["cause"], &receipt["exit"]["signal"]),
        (&json!("ended"), &json!("SIGKILL"))
    );
    let ups = world.numbers("web", "up", 2);
    assert!(world.numbers("db", "up", 2)[1] <= ups[1] || world.status("db")["state"] == "up");
    world.end();
}

#[test]
fn a_cycle_is_refused_with_its_name_and_harms_no_other() {
    let mut world = World::new();
    world
        .fixture("a", "stay", "after: [b]")
        .fixture("b", "stay", "after: [a]")
        .fixture("c", "stay", "")
        .init();
    world.reach("c", "up");
    let log = world.log_with("c: up").to_lowercase();
    assert!(log.contains("cycle"), "{log}");
    assert!(world.said("a").is_empty() && world.said("b").is_empty());
    world.end();
}
