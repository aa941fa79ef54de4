//! `ready`: connections, HTTP answers and files that a service waits for until it is ready.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;

use crate::look::{free_port, until};
use crate::world::World;

/// `db` is ready when `ready` says so; `web` waits for it.
fn waiting(ready: &str) -> World {
    let mut world = World::new();
    world.fixture("db", "stay", &format!("ready: {{{ready}, interval: 5ms}}"));
    world.fixture("web", "stay", "after: [db]").init();
    world
}

/// Waits until `db` says why it is not ready, with these words; `web` is not started meanwhile.
fn is_not_ready(world: &World, why: &str) {
    until(&format!("db says {why:?}"), || {
        let status = world.status("db");
        assert_eq!(status["state"], "starting", "{status}");
        let detail = status["detail"].as_str().unwrap();
        (detail.contains("its test has not passed yet") && detail.contains(why)).then_some(())
    });
    assert_eq!(world.status("web")["state"], "blocked");
}

fn becomes_ready(world: World) {
    world.reach("web", "up");
    assert_eq!(world.status("db")["state"], "up");
    world.stop_verified("db");
    world.end();
}

#[test]
fn a_port_that_takes_a_connection_is_ready() {
    let port = free_port();
    let world = waiting(&format!("tcp: {port}"));
    is_not_ready(
        &world,
        &format!("connect to 127.0.0.1:{port}: Connection refused"),
    );
    let _listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    becomes_ready(world);
}

#[test]
fn a_unix_socket_that_takes_a_connection_is_ready() {
    let path = std::env::temp_dir().join(format!("nought-ready-{}", std::process::id()));
    let world = waiting(&format!("unix: {}", path.display()));
    is_not_ready(&world, "No such file or directory");
    let listener = UnixListener::bind(&path).unwrap();
    becomes_ready(world);
    drop(listener);
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_file_that_is_there_is_ready() {
    let path = std::env::temp_dir().join(format!("nought-ready-file-{}", std::process::id()));
    let world = waiting(&format!("file: {}", path.display()));
    is_not_ready(&world, "look for");
    std::fs::write(&path, "").unwrap();
    becomes_ready(world);
    std::fs::remove_file(path).unwrap();
}

/// Reads one request, answers it, and gives the request.
fn answer(stream: &mut TcpStream, answer: &str) -> String {
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() > 0 {
        request.push(byte[0]);
    }
    stream.write_all(answer.as_bytes()).unwrap();
    String::from_utf8(request).unwrap()
}

#[test]
fn an_http_answer_is_ready_when_its_status_says_so() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let world = waiting(&format!("http: 'http://localhost:{port}/up?deep=1'"));
    let request = answer(
        &mut listener.accept().unwrap().0,
        "HTTP/1.1 503 Not Now\r\n\r\n",
    );
    assert!(
        request.starts_with("GET /up?deep=1 HTTP/1.1\r\n"),
        "{request}"
    );
    let host = format!("\r\nHost: localhost:{port}\r\n");
    assert!(request.contains(&host), "{request}");
    is_not_ready(&world, "it answered 503");
    answer(&mut listener.accept().unwrap().0, "SSH-2.0-x\r\n");
    is_not_ready(&world, "does not speak HTTP");
    // Said in pieces, and never closed.
    let mut slow = listener.accept().unwrap().0;
    answer(&mut slow, "HTTP/1.1 20");
    slow.write_all(b"4 No Content\r\n").unwrap();
    becomes_ready(world);
}

#[test]
fn what_never_answers_counts_as_failed_and_keeps_nobody_waiting() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let ready = format!("http: 'http://127.0.0.1:{port}', timeout: 20ms");
    let world = waiting(&ready);
    is_not_ready(&world, "no answer within 20ms");
    // Stopped in the midst of a test.
    world.stop_verified("db");
    world.end();
}

#[test]
fn a_service_that_never_gets_ready_fails_with_the_reason_of_the_last_test() {
    let port = free_port();
    let mut world = World::new();
    let more = format!(
        "ready: {{tcp: '127.0.0.1:{port}', interval: 1ms, retries: 3, start_period: 2s}}\n\
         restart: never"
    );
    world.fixture("db", "stay", &more).init();
    let status = world.reach("db", "failed");
    let detail = status["detail"].as_str().unwrap();
    let why = format!("at last: failed to connect to 127.0.0.1:{port}: Connection refused");
    assert!(detail.ends_with(&why), "{detail}");
    // Those within the start period came before the four that count.
    let words: Vec<&str> = detail.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "times,").unwrap();
    assert!(words[at - 1].parse::<u32>().unwrap() > 4, "{detail}");
    world.end();
}
