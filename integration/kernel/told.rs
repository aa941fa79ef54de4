//! What a service says of itself: sd_notify, a newline on a descriptor, a line of its output.

use std::fs::{File, OpenOptions};
use std::io::Write as _;

use nix::sys::stat::Mode;
use serde_json::Value;

use crate::fixtures::notify;
use crate::look::until;
use crate::receipt::assert_verified;
use crate::world::World;

/// `db` says what it is told to through the fifo; `web` waits for it.
struct Speaker {
    world: World,
    fifo: File,
}

fn speaker(more: &str) -> Speaker {
    let mut world = World::new();
    let fifo = world.open_dir().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    world.fixture("db", &format!("speak {}", fifo.display()), more);
    world.fixture("web", "stay", "after: [db]").init();
    let both = OpenOptions::new().read(true).write(true).open(&fifo);
    let fifo = both.unwrap();
    Speaker { world, fifo }
}

impl Speaker {
    fn does(&mut self, line: &str) {
        writeln!(self.fifo, "{line}").unwrap();
    }

    fn detail(&self, words: &str) -> Value {
        until(&format!("db's detail has {words:?}"), || {
            let status = self.world.status("db");
            let detail = status["detail"].as_str().unwrap_or_default();
            detail.contains(words).then_some(status)
        })
    }

    /// What it said after `word`.
    fn said(&self, word: &str) -> String {
        until(&format!("db says {word}"), || {
            let lines = self.world.said("db");
            let rest = lines.iter().find_map(|line| line.strip_prefix(word));
            rest.map(|rest| rest.trim().to_owned())
        })
    }

    fn end(self) {
        self.world.stop_verified("db");
        self.world.end();
    }
}

#[test]
fn dependents_wait_for_ready_and_status_shows_what_it_says() {
    let mut db = speaker("ready: {notify: true}");
    db.does("say STATUS=replaying the log|X_OTHER=1");
    let status = db.detail("waits for it to send READY=1: replaying the log");
    assert_eq!(status["state"], "starting");
    assert_eq!(db.world.status("web")["state"], "blocked");
    db.does("say READY=1|STATUS=3 clients");
    db.world.reach("web", "up");
    assert_eq!(db.world.reach("db", "up")["detail"], "3 clients");
    db.does("say RELOADING=1");
    db.detail("reloads: 3 clients");
    db.end();
}

#[test]
fn a_sender_that_is_gone_before_it_was_looked_at_counts() {
    let mut db = speaker("ready: {notify: true}");
    db.does("child READY=1");
    db.world.reach("web", "up");
    db.end();
}

#[test]
fn what_others_say_in_its_name_means_nothing_and_is_named() {
    let mut db = speaker("ready: {notify: true}");
    let address = db.said("socket");
    notify(&address, "READY=1");
    let own = std::process::id();
    let words = format!("process {own} (user 0), which is none of it, says \"READY=1\"");
    db.world.log_with(&words);
    assert_eq!(db.world.status("db")["state"], "starting");
    // Nor what nobody could mean.
    for junk in [
        "",
        "READY",
        "READY=2",
        "\0\0",
        &"x".repeat(10_000),
        "MAINPID=1",
    ] {
        notify(&address, junk);
    }
    db.does("say READY=1");
    db.world.reach("web", "up");
    db.end();
}

/// Whoever is born may speak before the supervisor has heard that it was.
#[test]
fn what_is_said_first_of_all_counts() {
    let mut world = World::new();
    let names: Vec<String> = (0..40).map(|n| format!("db{n}")).collect();
    for name in &names {
        world.fixture(name, "heir", "ready: {notify: true}");
    }
    world.init();
    for name in &names {
        let status = world.reach(name, "up");
        let child = world.pid(name, "child");
        assert_eq!(status["pid"], child, "{status}\n{}", world.log());
    }
    world.end();
}

#[test]
fn who_stops_saying_that_it_is_alive_is_started_again() {
    let mut db = speaker("watchdog: 5s\nrestart: {policy: always}");
    assert_eq!(db.said("watchdog"), "5000000");
    // As often as it says so, it stays.
    let pid = db.world.number("db", "pid");
    let began = std::time::Instant::now();
    for n in 1.. {
        db.does("say WATCHDOG=1");
        until("it is said", || {
            let done = db.world.said("db");
            (done.iter().filter(|line| line.starts_with("done")).count() == n).then_some(())
        });
        if began.elapsed().as_secs() >= 6 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(db.world.status("db")["pid"], pid);
    let again = db.world.numbers("db", "pid", 2);
    assert_ne!(again[0], again[1]);
    let receipt = db.world.receipt("db");
    assert_eq!(receipt["cause"], "unhealthy");
    assert_verified(&receipt);
    db.world.log_with("it has not said for 5s that it is alive");
    db.world.stop("db");
    db.world.end();
}

#[test]
fn a_newline_on_its_descriptor_is_ready_and_it_has_no_other() {
    let mut db = speaker("ready: {fd: 7}");
    // What it says after its descriptors.
    db.said("listen");
    db.detail("waits for it to write a newline to descriptor 7");
    let lines = db.world.said("db");
    let mut fds: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("fd "))
        .collect();
    fds.sort_unstable();
    // And the one that reads the directory.
    assert_eq!(fds, ["0", "1", "2", "3", "7"]);
    db.does("newline 7");
    db.world.reach("web", "up");
    db.end();
}

#[test]
fn a_line_of_its_output_that_matches_is_ready() {
    let mut db = speaker("ready: {log_regex: 'ready to accept [a-z]+$'}");
    db.does("print not ready to accept anything yet");
    db.said("done print");
    assert_eq!(db.world.status("web")["state"], "blocked");
    db.does("print LOG: ready to accept connections");
    db.world.reach("web", "up");
    db.end();
}

#[test]
fn what_our_own_manager_tells_us_is_not_for_services() {
    let mut world = World::new();
    world.service("env", "exec: env\noneshot: true");
    let script = "NOTIFY_SOCKET=/run/nowhere LISTEN_FDS=1 \"$@\"; exit $?";
    let ours = ["sh", "-c", script, "sh"];
    world.wrapper = ours.map(str::to_owned).to_vec();
    world.init();
    world.reach("env", "done");
    let log = world.cli(&["log", "env"]);
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(log.contains("NOUGHT_GENERATION="), "{log}");
    assert!(
        !log.contains("NOTIFY_SOCKET") && !log.contains("LISTEN_FDS"),
        "{log}"
    );
    world.end();
}
