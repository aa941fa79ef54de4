//! Service files at run time: written, read and removed in their directory alone.

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use crate::contract::{code, with_web};
use crate::world::World;

fn files(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.dir.join("services")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn service_files_are_written_read_and_removed_in_their_directory_alone() {
    let world = with_web();
    let create = |name: &str, content: Value| world.call("service_create", json!([name, content]));
    let content =
        json!({"exec": "sleep 1000", "oneshot": false, "after": ["web"], "env": {"A": "1: x"}});
    let said = create("new", content.clone()).unwrap();
    assert_eq!(said, "Service 'new' created successfully");
    let path = world.dir.join("services/new.yaml");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    assert_eq!(
        world.call("service_get", json!(["new"])),
        Ok(content.clone())
    );
    assert_eq!(
        world.call("service_get", json!({"name": "new"})),
        Ok(content.clone())
    );
    let list = world.call("service_list", json!([])).unwrap();
    assert_eq!(list, json!({"web": "Running"}), "nothing is started");

    let error = create("new", content.clone()).unwrap_err();
    assert_eq!(code(&error, "new", "create"), -32007);
    // A link that leads elsewhere is not followed.
    std::os::unix::fs::symlink(
        world.dir.join("elsewhere"),
        world.dir.join("services/link.yaml"),
    )
    .unwrap();
    let error = create("link", content.clone()).unwrap_err();
    assert_eq!(code(&error, "link", "create"), -32007);
    assert!(!world.dir.join("elsewhere").exists());
    let long = "x".repeat(251);
    for name in [
        "../new",
        "a/b",
        "a\\b",
        ".hidden",
        "a.b",
        "",
        "a\nb",
        "a\u{202e}b",
        "a\u{200b}",
        &long,
    ] {
        let error = create(name, content.clone()).unwrap_err();
        assert_eq!(code(&error, name, "create"), -32602);
    }
    let error = create(&long, content.clone()).unwrap_err();
    let said = error["message"].as_str().unwrap();
    assert!(
        said.contains("at most 250 bytes, this one has 251"),
        "{said}"
    );
    let longest = "x".repeat(250);
    create(&longest, content.clone()).unwrap();
    world.call("service_monitor", json!([longest])).unwrap();
    world.reach(&longest, "up");
    world.stop_verified(&longest);
    world.call("service_forget", json!([longest])).unwrap();
    world.call("service_delete", json!([longest])).unwrap();
    for bad in [
        json!({}),
        json!({"exec": ""}),
        json!({"exec": "x", "exce": "y"}),
        json!({"exec": ["x", 7, null, {"a": 1}]}),
        json!({"exec": "x", "shutdown_timeout": -1}),
        json!({"exec": "x", "after": {"a": 1}}),
    ] {
        let error = create("bad", bad.clone()).unwrap_err();
        assert_eq!(code(&error, "bad", "create"), -32005, "{bad}");
        assert!(
            !error["data"]["cause_chain"].as_array().unwrap().is_empty(),
            "{error}"
        );
    }
    let error = world
        .call("service_create", json!(["bad", "exec: x"]))
        .unwrap_err();
    assert_eq!(error["code"], -32602);
    assert_eq!(
        files(&world),
        ["link.yaml", "new.yaml", "web.yaml"],
        "and no draft is left"
    );

    let said = world.call("service_delete", json!(["new"])).unwrap();
    assert_eq!(said, "Service 'new' deleted successfully");
    for method in ["service_delete", "service_get"] {
        let error = world.call(method, json!(["new"])).unwrap_err();
        let action = method.trim_start_matches("service_");
        assert_eq!(code(&error, "new", action), -32000);
        let error = world.call(method, json!(["../web"])).unwrap_err();
        assert_eq!(code(&error, "../web", action), -32602);
    }
    // The file of what runs: the service goes on.
    world.call("service_delete", json!(["web"])).unwrap();
    assert_eq!(world.status("web")["state"], "up");
    let config = world.dir.join("services");
    std::fs::remove_dir_all(&config).unwrap();
    let error = create("new", content).unwrap_err();
    assert_eq!(code(&error, "new", "create"), -32008);
    world.end();
}
