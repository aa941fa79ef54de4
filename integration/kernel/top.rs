//! `nought top` on a terminal of tmux's: what is seen, what keys do, and how it ends.

mod attacked;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::look::{self, BOUND, until};
use crate::world::World;

/// A terminal with a shell in it, and someone who types.
struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// A shell that knows the supervisor's socket, on a terminal of this size.
    fn open(world: &World, columns: u16, rows: u16) -> Self {
        let terminal = Terminal {
            socket: world.dir.join("tmux"),
        };
        let (columns, rows) = (columns.to_string(), rows.to_string());
        let shell = "exec env 'PS1=shell> ' bash --norc --noprofile -i";
        let mut tmux = terminal.command();
        tmux.args(["-u", "-f", "/dev/null", "new-session", "-d", "-s", "top"])
            .args(["-x", &columns, "-y", &rows, shell])
            .env("LC_ALL", "C.UTF-8")
            .env("NOUGHT_SOCKET", world.socket())
            .env("NOUGHT", env!("CARGO_BIN_EXE_nought"))
            .env_remove("NO_COLOR")
            .current_dir(&world.dir);
        let output = tmux.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        terminal.sees("shell>");
        terminal
    }

    fn command(&self) -> Command {
        let mut tmux = Command::new("tmux");
        tmux.arg("-S").arg(&self.socket).env_remove("TMUX");
        tmux
    }

    fn tmux(&self, words: &[&str]) -> Output {
        let output = self.command().args(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {output:?}");
        output
    }

    /// A line for the shell.
    fn line(&self, text: &str) -> &Self {
        self.tmux(&["send-keys", "-t", "top", "-l", text]);
        self.key("Enter")
    }

    /// A key, as tmux calls it.
    fn key(&self, name: &str) -> &Self {
        self.tmux(&["send-keys", "-t", "top", name]);
        self
    }

    fn top(&self) -> &Self {
        self.line("$NOUGHT top -n 200ms").sees("q quit")
    }

    fn shown(&self) -> String {
        let output = self.tmux(&["capture-pane", "-p", "-t", "top"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn resize(&self, columns: u16, rows: u16) -> &Self {
        let (columns, rows) = (columns.to_string(), rows.to_string());
        self.tmux(&["resize-window", "-t", "top", "-x", &columns, "-y", &rows]);
        self
    }

    /// Waits until the screen is so.
    #[track_caller]
    fn is(&self, what: &str, is_so: impl Fn(&str) -> bool) -> &Self {
        let began = Instant::now();
        loop {
            let shown = self.shown();
            if is_so(&shown) {
                return self;
            }
            assert!(began.elapsed() < BOUND, "never saw {what} in\n{shown}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[track_caller]
    fn sees(&self, text: &str) -> &Self {
        self.is(text, |shown| shown.contains(text))
    }

    /// A row of the table: its words.
    #[track_caller]
    fn row(&self, words: &[&str]) -> &Self {
        self.is(&words.join(" "), |shown| row(shown, words).is_some())
    }

    /// How long the keyboard takes to show the help and `web` again.
    fn help_and_back(&self) -> Duration {
        let began = Instant::now();
        self.key("?").sees("any key goes back").key("q");
        self.row(&["web", "up"]);
        began.elapsed()
    }

    /// The pid of `nought top`, a child of the shell.
    fn pid(&self) -> u32 {
        let output = self.tmux(&["display-message", "-p", "-t", "top", "#{pane_pid}"]);
        let shell = String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .unwrap();
        until("top runs", || look::children_of(shell).first().copied())
    }

    /// What the shell's terminal is set to.
    fn settings(&self, mark: &str) -> String {
        self.line(&format!("echo {mark}=$(stty -g)"));
        let begin = format!("\n{mark}=");
        self.sees(&begin);
        let shown = self.shown();
        let at = shown.find(&begin).unwrap() + begin.len();
        shown[at..].lines().next().unwrap().to_owned()
    }

    fn close(self) {
        self.tmux(&["kill-server"]);
        until("tmux ends", || (!is_served(&self.socket)).then_some(()));
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").output();
    }
}

fn is_served(socket: &std::path::Path) -> bool {
    std::os::unix::net::UnixStream::connect(socket).is_ok()
}

/// The line whose first words these are.
fn row<'a>(shown: &'a str, words: &[&str]) -> Option<&'a str> {
    let mut lines = shown.lines();
    lines.find(|line| {
        let line: Vec<&str> = line.split_whitespace().collect();
        line.starts_with(words)
    })
}

#[test]
fn a_service_is_stopped_and_started_and_the_verdict_is_said() {
    let mut world = World::new();
    world.fixture("db", "children 2", "");
    world.fixture("web", "stay", "requires: [db]").init();
    world.reach("web", "up");
    let terminal = Terminal::open(&world, 80, 24);
    terminal.top().row(&["db", "up"]).row(&["web", "up"]);
    let pid = world.status("db")["pid"].to_string();
    let shown = terminal.shown();
    assert!(
        row(&shown, &["db", "up"]).unwrap().contains(&pid),
        "{shown}"
    );
    assert!(shown.contains("2 up; CPU "), "{shown}");
    terminal
        .key("x")
        .sees("stop db, and web which requires it? y/n");
    terminal.key("n").sees("db is left as it is");
    assert_eq!(world.status("db")["state"], "up");
    world.census();
    terminal.key("x").sees("? y/n").key("y");
    terminal
        .sees("db: verified: stopped in ")
        .row(&["db", "down"])
        .row(&["web", "blocked"]);
    assert_eq!(world.status("db")["state"], "down");
    terminal
        .key("Enter")
        .sees("why db is so")
        .sees(" verified\n");
    terminal.key("Escape").row(&["web", "blocked"]);
    terminal
        .key("Down")
        .sees("why web is so")
        .sees("db is down");
    terminal.key("Up").key("s").sees("start db? y/n").key("y");
    terminal.row(&["db", "up"]).row(&["web", "up"]);
    terminal.key("t").sees("processes of db").sees("COMMAND");
    world.reach("web", "up");
    terminal.key("q").sees("shell>");
    terminal.close();
    world.end();
}

#[test]
fn a_stop_that_takes_its_time_is_seen_on_its_way() {
    let mut world = World::new();
    world
        .fixture("stubborn", "stubborn", "shutdown_timeout: 10s")
        .init();
    world.number("stubborn", "up");
    let terminal = Terminal::open(&world, 80, 24);
    terminal.top().row(&["stubborn", "up"]);
    terminal.key("x").sees("? y/n").key("y");
    terminal
        .row(&["stubborn", "stopping"])
        .sees("at most ")
        .sees("1 under way");
    terminal
        .sees("stubborn: verified: stopped in 1")
        .sees("SIGKILL");
    // A refusal says why, too.
    terminal.key("q").sees("shell>");
    terminal.close();
    world.end();
}

#[test]
fn log_lines_are_seen_as_they_are_written_and_drive_nothing() {
    let mut world = World::new();
    let more = world.dir.join("more");
    let hostile = r"\033[2J\033]0;owned\007\033[31mred\302\233";
    let script = format!(
        "printf \"{hostile}\\n\"; while :; do [ -e {0} ] && {{ rm {0}; echo more >&2; }}; sleep 0.05; done",
        more.display()
    );
    world.service(
        "loud",
        &format!("exec: [sh, -c, '{}']", script.replace('\'', "''")),
    );
    world.service("quiet", "exec: sleep 100000").init();
    let terminal = Terminal::open(&world, 80, 24);
    terminal.top().sees("log of loud");
    let said = "+ \\u{1b}[2J\\u{1b}]0;owned\\u{7}\\u{1b}[31mred\\u{9b}";
    terminal.sees(said);
    fs::write(&more, "").unwrap();
    terminal.sees(" - more");
    let title = terminal.tmux(&["display-message", "-p", "-t", "top", "#{pane_title}"]);
    assert!(!String::from_utf8_lossy(&title.stdout).contains("owned"));
    terminal.key("j").sees("log of quiet");
    terminal.is("the other log is gone", |shown| !shown.contains(" - more"));
    terminal.key("k").sees("log of loud").sees(" - more");
    terminal.key("C-c").sees("shell>");
    terminal.close();
    world.end();
}

#[test]
fn it_fits_every_size() {
    let mut world = World::new();
    world.service("a", "exec: sleep 100000");
    world.service("语", "exec: sleep 100000").init();
    let terminal = Terminal::open(&world, 80, 24);
    terminal
        .top()
        .row(&["语", "up"])
        .sees("PRESSURE")
        .sees("log of a");
    terminal.resize(20, 5).is("two rows and no pane", |shown| {
        row(shown, &["a", "up"]).is_some()
            && row(shown, &["语", "up"]).is_some()
            && !shown.contains("log")
    });
    terminal
        .key("w")
        .sees("why a is so")
        .key("Escape")
        .row(&["a", "up"]);
    terminal.resize(10, 2).sees("18x3 at l");
    terminal
        .resize(160, 50)
        .sees("GUARANTEE")
        .sees("WHY")
        .row(&["语", "up"]);
    terminal
        .key("?")
        .sees("any key goes back")
        .key("q")
        .row(&["a", "up"]);
    terminal.key("q").sees("shell>");
    // A terminal without colours and without UTF-8 gets neither.
    terminal
        .line("LC_ALL=C TERM=vt100 $NOUGHT top -n 200ms")
        .sees("- log of a ----");
    let raw = terminal.tmux(&["capture-pane", "-e", "-p", "-t", "top"]);
    let raw = String::from_utf8_lossy(&raw.stdout).into_owned();
    let colored = (0..8).any(|n| raw.contains(&format!("\x1b[3{n}")));
    assert!(!colored, "{raw:?}");
    terminal.row(&["?", "up"]);
    terminal.key("q").sees("shell>");
    terminal
        .line("TERM=dumb $NOUGHT top")
        .sees("TERM=dumb: this terminal cannot move its cursor");
    terminal.close();
    world.end();
}

#[test]
fn the_terminal_is_given_back_whatever_ends_it() {
    let mut world = World::new();
    world.service("a", "exec: sleep 100000").init();
    let terminal = Terminal::open(&world, 120, 60);
    terminal.line("echo be''fore").sees("before");
    let before = terminal.settings("M0");
    let restored = |mark: &str, code: &str| {
        terminal.sees(&format!("\nM0={before}")).sees("before");
        terminal.is("the picture is gone", |shown| !shown.contains("q quit"));
        terminal
            .line(&format!("echo {mark}:$?"))
            .sees(&format!("\n{mark}:{code}"));
        assert_eq!(terminal.settings(mark), before);
        let cursor = terminal.tmux(&["display-message", "-p", "-t", "top", "#{cursor_flag}"]);
        assert_eq!(
            String::from_utf8_lossy(&cursor.stdout).trim(),
            "1",
            "{mark}"
        );
    };
    terminal.top().key("q");
    restored("M1", "0");
    terminal.top().key("C-c");
    restored("M2", "0");
    for (mark, signal, code) in [("M3", libc::SIGTERM, "143"), ("M4", libc::SIGINT, "130")] {
        terminal.top();
        look::signal(terminal.pid(), signal);
        restored(mark, code);
    }
    terminal.top();
    let pid = terminal.pid();
    terminal.key("C-z").sees("Stopped");
    terminal.is("the picture is gone", |shown| !shown.contains("q quit"));
    assert_eq!(look::state(pid).as_deref(), Some("T"));
    assert_eq!(terminal.settings("M5"), before);
    terminal.line("fg").sees("q quit").row(&["a", "up"]);
    look::signal(pid, libc::SIGTSTP);
    terminal.is("the picture is gone", |shown| !shown.contains("q quit"));
    // Until the shell has the terminal, what is typed may be thrown away with what came before.
    terminal.is("the shell asks anew", |shown| {
        shown.matches("Stopped").count() == 2
    });
    terminal.line("fg").sees("q quit").row(&["a", "up"]);
    terminal.key("q");
    restored("M6", "0");
    // Its terminal goes away under it.
    terminal.top();
    let pid = terminal.pid();
    let id = look::alive(pid).unwrap();
    terminal.close();
    until("it ends with its terminal", || {
        (!look::is_alive(id)).then_some(())
    });
    world.end();
}

/// What the kernel says a service has used, in microseconds.
fn cpu_usec(dir: &std::path::Path) -> f64 {
    let stat = fs::read_to_string(dir.join("cpu.stat")).unwrap();
    let line = stat
        .lines()
        .find_map(|line| line.strip_prefix("usage_usec "));
    line.unwrap().trim().parse().unwrap()
}

#[test]
fn what_it_counts_is_what_the_kernel_counts() {
    let mut world = World::alone();
    world.service("busy", "exec: [sh, -c, 'while :; do :; done']");
    world.fixture("idle", "children 3", "").init();
    world.reach("busy", "up");
    world.pid("idle", "pid");
    let dir = world.generations("busy").remove(0);
    let (before, began) = (cpu_usec(&dir), look::boot_ns());
    let output = world.cli(&["--json", "top", "--once", "-n", "2s"]);
    let (after, ended) = (cpu_usec(&dir), look::boot_ns());
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |name: &str| {
        let services = document["services"].as_array().unwrap().iter();
        let mut found = services.filter(|service| service["status"]["name"] == name);
        found.next().unwrap().clone()
    };
    #[expect(clippy::cast_precision_loss, reason = "a few seconds")]
    let elapsed_usec = (ended - began) as f64 / 1000.0;
    // It looked for 2 s at the least somewhere between: all of that may have been used then, or as
    // little as one thread leaves that was on a processor all the rest of the time.
    let (used, looked) = (after - before, 2_000_000.0);
    let most = (used / looked).min(1.0) * 100.0;
    let least = (used - (elapsed_usec - looked)) / looked * 100.0;
    let said = of("busy")["cpu_now_percent"].as_f64().unwrap();
    assert!(
        (least - 15.0..most + 15.0).contains(&said),
        "{said} % and not {least} to {most} %"
    );
    let idle = of("idle");
    assert!(idle["cpu_now_percent"].as_f64().unwrap() < 5.0, "{idle}");
    let members = look::members(&world.generations("idle")[0]);
    let listed = idle["processes"].as_array().unwrap().iter();
    let listed: Vec<u64> = listed
        .map(|process| process["pid"].as_u64().unwrap())
        .collect();
    let mut sorted = listed.clone();
    sorted.sort_unstable();
    assert_eq!(
        sorted,
        members.into_iter().map(u64::from).collect::<Vec<_>>()
    );
    let terminal = Terminal::open(&world, 80, 24);
    terminal.top().key("P").sees("sorted by processor time");
    terminal.is("the busy one stands first", |shown| {
        let lines: Vec<&str> = shown.lines().collect();
        lines.get(3).is_some_and(|line| line.starts_with("busy "))
    });
    terminal.close();
    world.end();
}

#[test]
fn three_hundred_services_and_a_flood_leave_the_keyboard_quick() {
    let mut world = World::alone();
    for n in 0..300 {
        world.service(&format!("s{n:03}"), "exec: sleep 100000");
    }
    world
        .fixture("flood", "flood", "shutdown_timeout: 50ms")
        .init();
    world.pid("flood", "pid");
    let terminal = Terminal::open(&world, 80, 24);
    terminal
        .top()
        .row(&["flood", "up"])
        .sees("log of flood")
        .sees("yyy");
    let before = look::rss_kib(world.supervisor());
    terminal.sees("came too fast to show");
    let began = Instant::now();
    for _ in 0..5 {
        terminal
            .key("?")
            .sees("any key goes back")
            .key("q")
            .sees("log of flood");
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "{:?}",
        began.elapsed()
    );
    terminal.key("G").row(&["s299", "up"]).sees("log of s299");
    terminal
        .key("/")
        .key("1")
        .key("5")
        .key("0")
        .key("Enter")
        .row(&["s150", "up"]);
    terminal.sees("(1 of 301)");
    terminal
        .key("x")
        .sees("? y/n")
        .key("y")
        .sees("s150: verified");
    let grown = look::rss_kib(world.supervisor()).saturating_sub(before) / 1024;
    assert!(grown < 32, "{grown} MiB for somebody who looks");
    let count = |world: &World| world.call("nought_info", json!({})).unwrap()["services"].clone();
    assert_eq!(count(&world), 301);
    terminal.key("q").sees("shell>");
    terminal.close();
    world.stop("flood");
    world.end();
}
