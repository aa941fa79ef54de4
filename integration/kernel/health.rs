//! `health`: what is looked at while a service is up.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use crate::look::until;
use crate::receipt::assert_verified;
use crate::world::World;

#[test]
fn who_fails_its_check_goes_down_with_proof_and_starts_again_after_those_that_require_it() {
    let mut world = World::new();
    let sick = world.open_dir().join("sick");
    let health = format!(
        "health: {{exec: [sh, -c, 'test ! -e {}'], interval: 20ms, failures: 2}}",
        sick.display()
    );
    world.fixture("db", "stay", &health);
    world.fixture("web", "stay", "requires: [db]").init();
    world.reach("web", "up");
    let first = world.number("db", "pid");
    std::fs::write(&sick, "").unwrap();
    until("db goes down", || {
        let receipt = world.receipt("db");
        (receipt["cause"] == "unhealthy").then_some(())
    });
    std::fs::remove_file(&sick).unwrap();
    world.log_with("its health check failed 2 times in a row, at last: exit code 1");
    assert_verified(&world.receipt("db"));
    let web = world.receipt("web");
    assert_eq!(web["cause"], "dependency");
    assert_verified(&web);
    world.reach("web", "up");
    assert_ne!(world.status("db")["pid"], first);
    world.stop_verified("web");
    world.stop_verified("db");
    world.end();
}

#[test]
fn an_answer_that_says_no_or_never_comes_is_a_failure() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut world = World::new();
    let health = format!(
        "health: {{http: 'http://127.0.0.1:{port}/', interval: 10ms, timeout: 5s, failures: 3}}\n\
         restart: never"
    );
    world.fixture("web", "stay", &health).init();
    let answer = |text: &str| {
        let mut stream = listener.accept().unwrap().0;
        let mut bytes = [0; 1024];
        let _ = stream.read(&mut bytes).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
    };
    answer("HTTP/1.1 503 No\r\n\r\n");
    answer("HTTP/1.1 503 No\r\n\r\n");
    // One pass forgets them.
    answer("HTTP/1.1 200 OK\r\n\r\n");
    answer("HTTP/1.1 500 No\r\n\r\n");
    until("it shows", || {
        let status = world.status("web");
        let detail = status["detail"].as_str().unwrap_or_default();
        detail
            .contains("its health check failed 1 of 3 times: failed to get http://127.0.0.1")
            .then_some(())
    });
    // And now nobody answers.
    let failed = world.reach("web", "failed");
    let detail = failed["detail"].as_str().unwrap();
    assert!(detail.contains("no answer within 5s"), "{detail}");
    assert_verified(&world.receipt("web"));
    world.end();
}

#[test]
fn a_check_that_hangs_is_ended_with_all_it_started_and_never_piles_up() {
    let mut world = World::new();
    let check = world.command("check", "leave-child 0");
    let hang = format!("[sh, -c, '{check}; exec sleep 1000']");
    let health = format!("health: {{exec: {hang}, interval: 10ms, timeout: 200ms, failures: 3}}");
    world.fixture("web", "stay", &health).init();
    let children = world.numbers("check", "child", 3);
    until("the first of its looks is gone", || {
        let pid = u32::try_from(children[0]).unwrap();
        crate::look::alive(pid).is_none().then_some(())
    });
    until("it is not healthy", || {
        (world.receipt("web")["cause"] == "unhealthy").then_some(())
    });
    assert_verified(&world.receipt("web"));
    world.stop_verified("web");
    world.end();
}
