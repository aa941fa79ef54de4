//! `nought top` where something goes wrong around it: its terminal, what is pasted, who answers.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::termios::{FlowArg, tcflow};

use super::Terminal;
use crate::look::{self, until};
use crate::world::World;

#[test]
fn a_signal_ends_it_while_its_terminal_takes_no_output() {
    let mut world = World::new();
    world.service(
        "loud",
        "exec: [sh, -c, 'while :; do echo x; sleep 0.05; done']",
    );
    world.init();
    let terminal = Terminal::open(&world, 80, 24);
    terminal.top().sees("+ x");
    let pid = terminal.pid();
    let id = look::alive(pid).unwrap();
    let path = fs::read_link(format!("/proc/{pid}/fd/1")).unwrap();
    let tty = fs::File::open(path).unwrap();
    tcflow(&tty, FlowArg::TCOOFF).unwrap();
    for _ in 0..200 {
        look::signal(pid, libc::SIGWINCH);
    }
    look::signal(pid, libc::SIGTERM);
    until("it ends", || (!look::is_alive(id)).then_some(()));
    tcflow(&tty, FlowArg::TCOON).unwrap();
    drop(tty);
    terminal.close();
    world.end();
}

#[test]
fn what_is_pasted_stops_nobody() {
    let mut world = World::new();
    world.service("a", "exec: sleep 100000").init();
    let terminal = Terminal::open(&world, 80, 24);
    terminal.top().row(&["a", "up"]);
    terminal.tmux(&["set-buffer", "xyryq"]);
    terminal.tmux(&["paste-buffer", "-p", "-d", "-t", "top"]);
    // What comes after it is a key again.
    terminal
        .key("?")
        .sees("any key goes back")
        .key("q")
        .sees("a: up");
    // A terminal that does not mark it: nobody has read the question when it is answered.
    terminal.tmux(&["send-keys", "-t", "top", "-l", "xyyyy"]);
    terminal
        .sees("stop a? y/n")
        .key("n")
        .sees("a is left as it is");
    assert_eq!(world.status("a")["state"], "up");
    terminal.key("q").sees("shell>");
    terminal.close();
    world.end();
}

#[test]
fn nobody_waits_longer_than_was_said() {
    let mut world = World::new();
    world.service("a", "exec: sleep 100000").init();
    world.signal(libc::SIGSTOP);
    for more in [&["--once"][..], &["--once", "--json"]] {
        let began = Instant::now();
        let output = world.cli(&[&["--timeout", "300ms", "top", "-n", "100ms"], more].concat());
        assert!(!output.status.success(), "{output:?}");
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "{:?}",
            began.elapsed()
        );
    }
    world.signal(libc::SIGCONT);
    world.end();
}

#[test]
fn a_suspended_one_is_ended_from_the_shell_as_any_other_job() {
    let mut world = World::new();
    world.service("a", "exec: sleep 100000").init();
    let terminal = Terminal::open(&world, 80, 24);
    terminal.top();
    let pid = terminal.pid();
    let id = look::alive(pid).unwrap();
    terminal.key("C-z").sees("Stopped");
    terminal.line("kill %1");
    // The shell refuses to wait for a job that it still takes for a stopped one.
    until("the suspended one is gone", || {
        (!look::is_alive(id)).then_some(())
    });
    terminal.line("wait %1; echo ended:$?").sees("\nended:143");
    terminal.close();
    world.end();
}

#[test]
fn a_supervisor_that_is_stopped_killed_and_back() {
    let mut world = World::new();
    world.fixture("web", "stay", "").init();
    world.reach("web", "up");
    let terminal = Terminal::open(&world, 80, 24);
    // As patient as this it goes on saying that nobody answers, however late somebody looks.
    terminal.line("$NOUGHT --timeout 60s top -n 200ms");
    terminal.sees("q quit").row(&["web", "up"]);
    let usual = terminal.help_and_back();
    world.signal(libc::SIGSTOP);
    terminal.sees("the supervisor does not answer since ");
    // The keyboard waits for nobody.
    let took = terminal.help_and_back();
    let bound = usual + Duration::from_secs(2);
    assert!(took < bound, "{took:?}, and {usual:?} before");
    world.signal(libc::SIGCONT);
    terminal.is("it answers", |shown| !shown.contains("does not answer"));
    world.kill();
    terminal.sees("no answer for ").sees("trying again");
    terminal
        .key("x")
        .sees("? y/n")
        .key("y")
        .sees("cannot reach a supervisor");
    world.init();
    terminal
        .is("it answers", |shown| !shown.contains("trying again"))
        .row(&["web", "up"]);
    terminal.sees("[start]").key("q").sees("shell>");
    terminal.close();
    world.end();
}
