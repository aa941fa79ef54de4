//! One budget for all stops, on the real kernel.

use crate::world::World;

/// Three in a row, each of which would take its whole grace.
fn stubborn_chain(graces: [&str; 3]) -> World {
    let mut world = World::new();
    for (name, (grace, after)) in
        ["db", "app", "web"]
            .iter()
            .zip(graces.iter().zip(["", "after: [db]", "after: [app]"]))
    {
        world.fixture(
            name,
            "stubborn",
            &format!("shutdown_timeout: {grace}\n{after}"),
        );
    }
    world
}

#[test]
fn a_long_grace_gives_way_so_that_all_are_asked_and_the_receipts_say_so() {
    let mut world = stubborn_chain(["500ms", "10m", "10m"]);
    // As a pod's environment sets it.
    world.launch = vec!["env=NOUGHT_DEADLINE=4s".into()];
    world.init();
    for name in ["db", "app", "web"] {
        world.number(name, "up");
        world.reach(name, "up");
    }
    let began = std::time::Instant::now();
    world.census();
    world.signal(libc::SIGTERM);
    assert_eq!(world.wait().code(), Some(0), "{}", world.log());
    let took = began.elapsed();
    assert!(took.as_secs_f64() < 4.2, "{took:?}");
    let receipts = std::fs::read_dir(world.dir.join("state/receipts")).unwrap();
    let mut budgets = std::collections::BTreeMap::new();
    for file in receipts.flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap();
        let last = text.lines().last().unwrap();
        let receipt: serde_json::Value = serde_json::from_str(last).unwrap();
        assert_eq!(receipt["verdict"], "verified", "{receipt:#}");
        let name = receipt["service"].as_str().unwrap().to_owned();
        budgets.insert(name, receipt["budget"].clone());
    }
    let ms = |name: &str, field: &str| budgets[name][field].as_f64().unwrap();
    // 4 s less a tenth for the end, 0.6 s each for kill and proof, and what db wishes: 1.3 s over.
    for name in ["web", "app"] {
        assert_eq!(ms(name, "wish_ms"), 600_000.0);
        assert!(
            (600.0..660.0).contains(&ms(name, "planned_ms")),
            "{budgets:#?}"
        );
    }
    assert_eq!(ms("db", "planned_ms"), 500.0, "{budgets:#?}");
    // What web left of its reserve went to app and db.
    assert!(
        ms("app", "granted_ms") > ms("app", "planned_ms") + 100.0,
        "{budgets:#?}"
    );
    assert_eq!(ms("db", "granted_ms"), 500.0);
    assert!(ms("web", "asked_ms") < ms("app", "asked_ms"));
    assert!(ms("app", "asked_ms") < ms("app", "turn_ms"), "{budgets:#?}");
    world.end();
}
