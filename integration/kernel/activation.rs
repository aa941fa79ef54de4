//! Sockets that are opened for services: handed over, kept over restarts, waited on until somebody
//! connects; and descriptors that a service has kept for its next start.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::stat::Mode;
use serde_json::json;

use crate::look::{self, BOUND, free_port, until};
use crate::world::World;

/// What answers there: a pid.
fn ask(port: u16) -> std::io::Result<u32> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(BOUND))?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    answer.trim().parse().map_err(std::io::Error::other)
}

/// Clients that connect again and again. A start that ends takes the connection with it that it has
/// in its hands; nobody may be refused, and nobody else lose an answer.
struct Load {
    on: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    lost: Arc<AtomicU64>,
    clients: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Load {
    fn new(port: u16) -> Self {
        let on = Arc::new(AtomicBool::new(true));
        let (answers, lost) = (Arc::default(), Arc::default());
        let client = |_| {
            let (on, answers, lost) = (Arc::clone(&on), Arc::clone(&answers), Arc::clone(&lost));
            std::thread::spawn(move || {
                while on.load(Ordering::Relaxed) {
                    let outcome: &AtomicU64 = match ask(port) {
                        Ok(_) => &answers,
                        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                            return Err(error);
                        }
                        Err(_) => &lost,
                    };
                    outcome.fetch_add(1, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let clients = (0..4).map(client).collect();
        Self {
            on,
            answers,
            lost,
            clients,
        }
    }

    fn goes_on(&self) {
        let before = self.answers.load(Ordering::Relaxed);
        until("the clients get more answers", || {
            (self.answers.load(Ordering::Relaxed) > before + 4).then_some(())
        });
    }

    /// How many answers there were, and how many were lost.
    fn end(self) -> (u64, u64) {
        self.on.store(false, Ordering::Relaxed);
        for client in self.clients {
            client.join().unwrap().unwrap();
        }
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        (count(&self.answers), count(&self.lost))
    }
}

/// The line that says what the newest start was handed.
fn handed(world: &World, name: &str, start: usize) -> Vec<String> {
    let line = until(
        &format!("start {start} of {name} says what it was handed"),
        || {
            let said = world.said(name);
            let lines = said.into_iter().filter(|line| line.starts_with("listen "));
            lines.collect::<Vec<_>>().get(start - 1).cloned()
        },
    );
    line.split(' ').skip(1).map(str::to_owned).collect()
}

#[test]
fn sockets_are_handed_over_and_refuse_nobody_over_twenty_restarts() {
    let mut world = World::new();
    let port = free_port();
    let dir = world.dir.join("made/for/it");
    let (stream, datagram) = (dir.join("stream"), dir.join("datagram"));
    let sockets = format!(
        "sockets:\n- {{tcp: '127.0.0.1:{port}', name: http, backlog: 512}}\n\
         - {{udp: '127.0.0.1:{port}'}}\n\
         - {{unix: {}, mode: '0640', user: nobody, group: '65534'}}\n\
         - {{unix_datagram: {}, name: last}}\nhealth: {{tcp: {port}, interval: 50ms}}",
        stream.display(),
        datagram.display()
    );
    world.fixture("web", "serve 0", &sockets).init();
    let status = world.reach("web", "up");
    let pid = world.pid("web", "pid").to_string();
    assert_eq!(
        handed(&world, "web", 1),
        [pid.as_str(), "4", "http:web:web:last"]
    );
    assert_eq!(status["pid"].to_string(), pid);
    let file = std::fs::metadata(&stream).unwrap();
    assert!(file.file_type().is_socket());
    assert_eq!(file.permissions().mode() & 0o777, 0o640);
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&file), 65534);
    assert_eq!(ask(port).unwrap().to_string(), pid);
    let mut answer = String::new();
    UnixStream::connect(&stream)
        .unwrap()
        .read_to_string(&mut answer)
        .unwrap();
    assert_eq!(answer.trim(), pid);
    let udp = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
    udp.send_to(b"by udp", ("127.0.0.1", port)).unwrap();
    UnixDatagram::unbound()
        .unwrap()
        .send_to(b"by path", &datagram)
        .unwrap();
    until("both datagrams are there", || {
        let said = world.said("web");
        let has = |line: &str| said.iter().any(|said| said == line);
        (has("datagram by udp") && has("datagram by path")).then_some(())
    });
    let load = Load::new(port);
    for n in 0..20 {
        load.goes_on();
        match n % 2 {
            0 => drop(
                world
                    .call("nought_restart", json!({"name": "web"}))
                    .unwrap(),
            ),
            _ => look::signal(
                u32::try_from(world.reach("web", "up")["pid"].as_u64().unwrap()).unwrap(),
                libc::SIGKILL,
            ),
        }
    }
    load.goes_on();
    let (answers, lost) = load.end();
    assert!(
        answers > 80 && lost <= 20,
        "{answers} answered, {lost} lost"
    );
    assert_eq!(
        std::fs::metadata(&stream).unwrap().permissions().mode() & 0o777,
        0o640
    );
    world.reach("web", "up");
    world.stop_verified("web");
    assert_eq!(
        ask(port).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    until("the sockets' files are gone", || {
        (!stream.exists() && !datagram.exists()).then_some(())
    });
    world.start("web").unwrap();
    assert!(ask(port).is_ok() && stream.exists());
    world.end();
}

#[test]
fn a_socket_that_cannot_be_had_fails_its_own_service_alone() {
    let mut world = World::new();
    let port = free_port();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let in_the_way = world.dir.join("file");
    File::create(&in_the_way).unwrap();
    let more = format!("sockets: [{{tcp: '127.0.0.1:{port}'}}]\nrestart: never");
    world.fixture("web", "serve 0", &more);
    let more = format!(
        "sockets: [{{unix: {}}}]\nstart: on_demand\nrestart: never",
        in_the_way.display()
    );
    world.fixture("app", "serve 0", &more);
    world.fixture("other", "stay", "").init();
    world.reach("other", "up");
    let detail = |name: &str| {
        world.reach(name, "failed")["detail"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let why = detail("web");
    assert!(
        why.contains(&format!("tcp 127.0.0.1:{port}"))
            && why.contains("`ss -lntup` says who has it"),
        "{why}"
    );
    let why = detail("app");
    assert!(
        why.contains("a file is in its place: move it away"),
        "{why}"
    );
    drop(taken);
    world.start("web").unwrap();
    ask(port).unwrap();
    std::fs::remove_file(in_the_way).unwrap();
    world.start("app").unwrap();
    world.end();
}

#[test]
fn in_a_pid_namespace_the_pid_that_it_is_told_is_its_own_there() {
    let mut world = World::new();
    let port = free_port();
    let more = format!("sockets: [{{tcp: '127.0.0.1:{port}'}}]\npid_namespace: true");
    world.fixture("web", "serve 0", &more).init();
    world.reach("web", "up");
    let own = world.number("web", "pid").to_string();
    assert_eq!(handed(&world, "web", 1), [own.as_str(), "1", "web"]);
    assert_ne!(world.status("web")["pid"].to_string(), own);
    ask(port).unwrap();
    world.end();
}

#[test]
fn what_a_killed_supervisor_left_listening_is_taken_over() {
    let mut world = World::new();
    let (port, path) = (free_port(), world.dir.join("socket"));
    let sockets = format!(
        "sockets: [{{tcp: '127.0.0.1:{port}'}}, {{unix: {}}}]",
        path.display()
    );
    world.fixture("web", "serve 0", &sockets).init();
    world.reach("web", "up");
    world.kill();
    assert!(path.exists());
    world.init();
    world.reach("web", "up");
    UnixStream::connect(&path).unwrap();
    ask(port).unwrap();
    world.end();
    assert!(!path.exists());
}

/// Waits until the service listens: it is on its way there before its sockets are open.
fn listens(world: &World, name: &str) -> serde_json::Value {
    until(&format!("{name} listens"), || {
        let status = world.reach(name, "listening");
        let detail = status["detail"].as_str()?;
        detail.starts_with("starts when somebody").then_some(status)
    })
}

#[test]
fn on_demand_it_starts_for_the_first_who_connects_and_goes_when_nobody_does() {
    let mut world = World::new();
    let port = free_port();
    let more = format!("sockets: [{{tcp: '127.0.0.1:{port}'}}]\nstart: on_demand");
    world.fixture("db", "serve 300", &more);
    world.fixture("web", "stay", "requires: [db]").init();
    let status = listens(&world, "db");
    world.reach("web", "up");
    assert_eq!(
        status["detail"],
        format!("starts when somebody connects to tcp 127.0.0.1:{port}")
    );
    assert_eq!(status["pid"], 0);
    assert!(world.generations("db").is_empty(), "nothing of it is there");
    assert!(world.cli(&["health"]).status.success());
    let web = world.status("web")["pid"].clone();
    for start in 1..=2 {
        let pid = ask(port).unwrap();
        assert_eq!(handed(&world, "db", start)[0], pid.to_string());
        world.reach("db", "listening");
        let receipt = world.receipt("db");
        assert_eq!(
            (&receipt["cause"], &receipt["verdict"]),
            (&json!("ended"), &json!("verified"))
        );
    }
    assert_eq!(
        world.status("web")["pid"],
        web,
        "what requires it never noticed"
    );
    // A stop ends the listening, too; a start is one without anybody.
    world
        .call("nought_stop", json!({"name": "db", "force": true}))
        .unwrap();
    assert_eq!(
        ask(port).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    assert_eq!(world.start("db").unwrap()["state"], "up");
    ask(port).unwrap();
    world.end();
}

#[test]
fn on_demand_one_that_fails_pauses_longer_and_longer_whoever_waits() {
    let mut world = World::new();
    let port = free_port();
    let more = format!("sockets: [{{tcp: '127.0.0.1:{port}'}}]\nstart: on_demand");
    world.fixture("db", "exit 1", &more).init();
    listens(&world, "db");
    let began = std::time::Instant::now();
    let _waits = TcpStream::connect(("127.0.0.1", port)).unwrap();
    world.reach("db", "backoff");
    until("it was tried again and again", || {
        (world.status("db")["restarts"].as_u64()? >= 4).then_some(())
    });
    // 0, 250, 500, 1000 ms, each a quarter less at the least.
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(1_300), "{took:?}");
    world.end();
}

#[test]
fn a_change_of_its_file_restarts_it_and_refuses_nobody() {
    let mut world = World::new();
    let (port, other) = (free_port(), free_port());
    let sockets = format!("sockets: [{{tcp: '127.0.0.1:{port}'}}]");
    world.fixture("web", "serve 0", &sockets).init();
    world.reach("web", "up");
    let load = Load::new(port);
    load.goes_on();
    world.fixture("web", "serve 0", &format!("{sockets}\nenv: {{A: b}}"));
    let reloaded = world.call("nought_reload", json!({})).unwrap();
    assert_eq!(reloaded["changes"][0]["keys"], json!(["env"]), "{reloaded}");
    world.reach("web", "up");
    load.goes_on();
    let (_, lost) = load.end();
    assert!(lost <= 1, "{lost} lost");
    let both = format!("sockets: [{{tcp: '127.0.0.1:{other}'}}]");
    world.fixture("web", "serve 0", &both);
    let reloaded = world.call("nought_reload", json!({})).unwrap();
    assert_eq!(
        reloaded["changes"][0]["keys"],
        json!(["sockets", "env"]),
        "{reloaded}"
    );
    world.reach("web", "up");
    ask(other).unwrap();
    assert_eq!(
        ask(port).unwrap_err().kind(),
        std::io::ErrorKind::ConnectionRefused
    );
    world.end();
}

/// `db` does what is written to the fifo.
pub(crate) fn speaker(world: &mut World, more: &str) -> File {
    let fifo = world.open_dir().join("fifo");
    nix::unistd::mkfifo(Path::new(&fifo), Mode::from_bits_truncate(0o600)).unwrap();
    world.fixture("db", &format!("speak {}", fifo.display()), more);
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fifo)
        .unwrap()
}

pub(crate) fn does(world: &World, fifo: &mut File, line: &str) {
    let done = format!("done {line}");
    let times = |world: &World| {
        world
            .said("db")
            .iter()
            .filter(|said| **said == done)
            .count()
    };
    let before = times(world);
    writeln!(fifo, "{line}").unwrap();
    until(&done, || (times(world) > before).then_some(()));
}

#[test]
fn what_it_stores_is_there_after_a_restart_and_gone_after_a_stop() {
    let mut world = World::new();
    let mut db = speaker(
        &mut world,
        "ready: {notify: true}\nfd_store: 2\nshutdown_timeout: 0",
    );
    world.init();
    assert_eq!(handed(&world, "db", 1), ["", "", ""]);
    for line in ["store one", "store two", "store three", "say READY=1"] {
        does(&world, &mut db, line);
    }
    world.reach("db", "up");
    world.log_with("1 of the descriptors it stores were closed: its `fd_store` is 2");
    world
        .call("nought_restart", json!({"name": "db", "wait": false}))
        .unwrap();
    let pid = world.numbers("db", "pid", 2)[1].to_string();
    assert_eq!(handed(&world, "db", 2), [pid.as_str(), "2", "one:two"]);
    let said = world.said("db");
    assert!(
        said.contains(&"got one one".into()) && said.contains(&"got two two".into()),
        "{said:?}"
    );
    does(&world, &mut db, "say FDSTOREREMOVE=1|FDNAME=one|READY=1");
    world.reach("db", "up");
    let pid: u32 = pid.parse().unwrap();
    look::signal(pid, libc::SIGKILL);
    assert_eq!(handed(&world, "db", 3)[1..], ["1", "two"]);
    world.stop_verified("db");
    world
        .call("nought_start", json!({"name": "db", "wait": false}))
        .unwrap();
    assert_eq!(handed(&world, "db", 4), ["", "", ""]);
    world.end();
}

/// A service whose main process is not our child, and never becomes it: the one that we started
/// stays, is its parent, takes orphans in, and reaps it, so that we never see how it ended.
const REAPS_ITS_OWN: &str = r#"
import ctypes, os, signal, socket, sys
assert ctypes.CDLL(None).prctl(36, 1) == 0  # PR_SET_CHILD_SUBREAPER
child = os.fork()
if child == 0:
    # An orphan, whom the subreaper inherits, is the main one.
    grandchild = os.fork()
    if grandchild == 0:
        os.setsid()
        signal.pause()
    os._exit(0)
os.waitpid(child, 0)
main = int(open(f"/proc/self/task/{os.getpid()}/children").read())
# Asked to end as soon as the main one is seen to have: only once it has been reaped.
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.sendto(f"READY=1\nMAINPID={main}".encode(), "\0" + os.environ["NOTIFY_SOCKET"][1:])
pid, status = os.waitpid(main, 0)
with open(sys.argv[1], "a") as said:
    print(f"reaped {pid}", file=said)
signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
signal.pause()
"#;

#[test]
fn the_end_of_a_main_process_that_another_reaps_is_seen_and_counts() {
    let mut world = World::new();
    let script = world.dir.join("reaps.py");
    std::fs::write(&script, REAPS_ITS_OWN).unwrap();
    let said = world.dir.join("db.said");
    let exec = format!("/usr/bin/python3 {} {}", script.display(), said.display());
    world.service(
        "db",
        &format!(
            "exec: {exec}\nready: {{notify: true}}\nexit_grace: 60s\nrestart: {{delay: 10ms}}\n"
        ),
    );
    world.init();
    let named = |before: u64| {
        until("another process is the main one", || {
            let status = world.status("db");
            let pid = status["pid"].as_u64()?;
            let pid = u32::try_from(pid).ok()?;
            let parent = look::parent(pid)?;
            let ours = status["state"] == "up" && parent != world.supervisor();
            (ours && u64::from(pid) != before).then_some((pid, parent))
        })
    };
    let (main, parent) = named(0);
    look::signal(main, libc::SIGKILL);
    let (second, _) = named(u64::from(main));
    assert_eq!(world.numbers("db", "reaped", 1), [u64::from(main)]);
    assert_ne!(main, second);
    let receipt = world.receipt("db");
    crate::receipt::assert_verified(&receipt);
    assert_eq!(receipt["pid"], main, "{receipt:#}");
    assert_eq!(receipt["cause"], "ended", "{receipt:#}");
    // How it ended was for its parent to see alone, and that one ended with the service.
    assert!(receipt["exit"].is_null(), "{receipt:#}");
    assert!(look::alive(parent).is_none());
    world.stop_verified("db");
    world.end();
}

#[test]
fn another_process_of_its_own_becomes_the_main_one_and_no_strangers() {
    let mut world = World::new();
    let mut db = speaker(&mut world, "ready: {notify: true}\nrestart: never");
    world.init();
    let own = std::process::id();
    does(&world, &mut db, &format!("say READY=1|MAINPID={own}"));
    world.log_with(&format!(
        "it says MAINPID={own}: ignored, that is no process of this start"
    ));
    let first = world.reach("db", "up")["pid"].as_u64().unwrap();
    does(&world, &mut db, "become it");
    let child = world.pid("db", "child");
    world.log_with(&format!("db: its main process is {child} now"));
    assert_eq!(world.status("db")["pid"], child);
    // The first one is not what counts any more.
    writeln!(db, "exit 3").unwrap();
    until("the first one has ended", || {
        look::alive(u32::try_from(first).unwrap())
            .is_none()
            .then_some(())
    });
    assert_eq!(world.status("db")["state"], "up");
    look::signal(child, libc::SIGKILL);
    let status = world.reach("db", "failed");
    assert_eq!(status["last_exit"]["number"], 9, "{status}");
    assert_eq!(world.receipt("db")["pid"], child);
    world.end();
}
