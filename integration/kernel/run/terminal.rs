//! On a terminal: an interactive bash on a pty runs it as any other job.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::look::{state, until};
use crate::world::World;

const NOUGHT: &str = env!("CARGO_BIN_EXE_nought");

/// An interactive shell on a terminal of its own, and someone who types.
struct Typist {
    shell: Child,
    terminal: File,
    shown: Arc<Mutex<String>>,
    seen: usize,
}

impl Typist {
    fn new(world: &World) -> Self {
        let (mut master, mut slave) = (-1, -1);
        let none = std::ptr::null_mut();
        // SAFETY: openpty(3) fills two descriptors; a name, modes and a size are not wanted.
        let done = unsafe {
            libc::openpty(
                &raw mut master,
                &raw mut slave,
                none,
                none.cast(),
                none.cast(),
            )
        };
        assert_eq!(done, 0);
        // SAFETY: both were made for us just now.
        let (terminal, slave) = unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let mut shell = Command::new("bash");
        shell
            .args(["--norc", "--noprofile", "-i"])
            .env("PS1", "$ ")
            .env("TERM", "dumb")
            .env("NOUGHT", NOUGHT)
            .current_dir(&world.dir)
            .stdin(Stdio::from(slave.try_clone().unwrap()))
            .stdout(Stdio::from(slave.try_clone().unwrap()))
            .stderr(Stdio::from(slave.try_clone().unwrap()));
        let held = terminal.as_raw_fd();
        // SAFETY: raw system calls between fork and exec.
        unsafe {
            shell.pre_exec(move || {
                libc::setsid();
                libc::ioctl(0, libc::TIOCSCTTY, 0);
                libc::close(held);
                Ok(())
            });
        }
        let shell = shell.spawn().unwrap();
        drop(slave);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut reader, writes) = (terminal.try_clone().unwrap(), Arc::clone(&shown));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = reader.read(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
                writes.lock().unwrap().push_str(&text);
            }
        });
        let mut typist = Self {
            shell,
            terminal,
            shown,
            seen: 0,
        };
        typist.sees("$ ");
        typist
    }

    fn types(&mut self, text: &str) -> &mut Self {
        self.terminal.write_all(text.as_bytes()).unwrap();
        self
    }

    /// Waits until this is shown after what was waited for before.
    fn sees(&mut self, text: &str) -> &mut Self {
        let shown = Arc::clone(&self.shown);
        let from = self.seen;
        let mut at = None;
        let began = std::time::Instant::now();
        while at.is_none() {
            let shown = shown.lock().unwrap().clone();
            at = shown[from..].find(text).map(|at| from + at + text.len());
            assert!(
                began.elapsed() < crate::look::BOUND,
                "never saw {text:?} in {:?}",
                &shown[from..]
            );
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        self.seen = at.unwrap();
        self
    }

    /// Interrupts a shell at its prompt, which asks anew. One that is between its prompt and its
    /// waiting for keys notices with the next key only.
    fn interrupts(&mut self, prompt: &str) -> &mut Self {
        until("it asks anew", || {
            self.terminal.write_all(b"\x03").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(200));
            let shown = self.shown.lock().unwrap();
            shown[self.seen..].contains(prompt).then_some(())
        });
        self.sees(prompt)
    }

    /// How often this was shown in all.
    fn count(&self, text: &str) -> usize {
        self.shown.lock().unwrap().matches(text).count()
    }

    /// The last exit code, as the shell has it.
    fn code(&mut self, code: i32) -> &mut Self {
        // The command as it is typed is shown, too: it must not look like its answer.
        self.types("echo co''de $?\n")
            .sees(&format!("code {code}\r\n"))
            .sees("$ ")
    }

    fn leaves(mut self) {
        self.types("exit 0\n");
        until("the shell ends", || self.shell.try_wait().unwrap());
    }
}

impl Drop for Typist {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

#[test]
fn ctrl_c_reaches_the_command_once_and_not_us() {
    let world = World::new();
    let mut typist = Typist::new(&world);
    let script = "trap \"echo got-int; exit 3\" INT; echo rea''dy; while :; do sleep 0.02; done";
    typist
        .types(&format!(
            "$NOUGHT run -- sh -c '{}'\n",
            script.replace("''", "'\"\"'")
        ))
        .sees("ready")
        .types("\x03")
        .sees("got-int\r\n")
        .sees("$ ")
        .code(3);
    assert_eq!(typist.count("got-int\r\n"), 1);
    typist.leaves();
    world.end();
}

/// Runs a command that says when it is there: what is typed before that may be lost, as bash
/// changes the terminal's modes.
fn ready(command: &str) -> String {
    format!("$NOUGHT run -- sh -c 'echo rea\"\"dy; exec {command}'")
}

#[test]
fn ctrl_c_ends_the_loop_and_the_script_around_it() {
    let world = World::new();
    let around = format!("for i in 1 2 3; do {}; done", ready("sleep 1000"));
    std::fs::write(
        world.dir.join("script"),
        format!("{around}\necho went on\n"),
    )
    .unwrap();
    let mut typist = Typist::new(&world);
    for command in [around.as_str(), "bash script"] {
        let before = typist.count("ready\r\n");
        typist
            .types(&format!("{command}\n"))
            .sees("ready\r\n")
            .types("\x03")
            .sees("$ ")
            .code(130);
        assert_eq!(typist.count("ready\r\n"), before + 1, "{command}");
    }
    assert_eq!(typist.count("went on"), 0);
    typist.leaves();
    world.end();
}

#[test]
fn ctrl_z_stops_it_as_a_job_and_fg_goes_on() {
    let world = World::new();
    let mut typist = Typist::new(&world);
    typist
        .types(&format!("{}\n", ready("cat")))
        .sees("ready\r\n");
    typist.types("one\n").sees("one\r\none\r\n");
    for _ in 0..2 {
        typist.types("\x1a").sees("Stopped").sees("$ ");
        typist.types("jobs\n").sees("Stopped").sees("$ ");
        typist.types("fg\n").sees("exec cat'\r\n");
        typist.types("two\n").sees("two\r\ntwo\r\n");
    }
    typist.types("\x04").sees("$ ").code(0);
    // In the background it is stopped by reading, and not before.
    typist
        .types(&format!("{} &\n", ready("cat")))
        .sees("ready\r\n");
    until("bash sees it stopped", || {
        typist.types("jobs\n").sees("exec cat'");
        (typist.count("Stopped") > 4).then_some(())
    });
    typist.types("fg\n").sees("fg\r\n").sees("exec cat'\r\n");
    typist.types("three\n").sees("three\r\nthree\r\n");
    typist.types("\x04").sees("$ ").code(0);
    typist.leaves();
    world.end();
}

#[test]
fn in_a_pid_namespace_it_is_a_job_like_any_other() {
    let world = World::new();
    let mut typist = Typist::new(&world);
    let cat = "$NOUGHT run --pidns -- sh -c 'echo rea\"\"dy; exec cat'";
    typist.types(&format!("{cat}\n")).sees("ready\r\n");
    typist.types("\x1a").sees("Stopped").sees("$ ");
    typist.types("fg\n").sees("exec cat'\r\n");
    typist.types("two\n").sees("two\r\ntwo\r\n");
    typist.types("\x03").sees("$ ").code(130);
    typist.leaves();
    world.end();
}

#[test]
fn a_pipeline_stops_and_goes_on_as_one() {
    let world = World::new();
    let mut typist = Typist::new(&world);
    let command = "$NOUGHT run -- sh -c 'echo rea\"\"dy >&2; exec cat' | tr a-z A-Z";
    typist.types(&format!("{command}\n")).sees("ready\r\n");
    typist.types("\x1a").sees("Stopped").sees("$ ");
    typist.types("fg\n").sees("tr a-z A-Z\r\n");
    typist.types("low\n\x04").sees("LOW\r\n").sees("$ ").code(0);
    typist.leaves();
    world.end();
}

/// `| less` reads keys while the command runs, and the keys that send signals reach both.
#[test]
fn a_pager_after_it_has_the_terminal() {
    let world = World::new();
    let mut typist = Typist::new(&world);
    typist
        .types("$NOUGHT run -- sh -c 'echo $$ >main; seq 500; exec sleep 1000' | TERM=xterm less\n")
        .sees("20");
    let main = super::number_in(&world.dir.join("main"));
    world.note(main);
    typist.types("\x1a").sees("Stopped").sees("$ ");
    assert_eq!(state(main).as_deref(), Some("T"));
    typist.types("fg\n").sees("TERM=xterm less\r\n").sees("20");
    typist.types(" ").sees("40").types(" ").sees("60");
    until("it goes on", || (state(main)? == "S").then_some(()));
    typist.types("\x03");
    until("it ends", || state(main).is_none().then_some(()));
    typist.types("q").sees("$ ").code(0);
    typist.leaves();
    world.end();
}

#[test]
fn ctrl_c_ends_a_pipeline_and_the_loop_around_it() {
    let world = World::new();
    let mut typist = Typist::new(&world);
    let command = "-- sh -c 'echo rea\"\"dy >&2; exec sleep 1000'";
    for pipeline in [
        format!("$NOUGHT run {command} | cat"),
        format!("cat | $NOUGHT run {command}"),
        format!("$NOUGHT run --pidns {command} | cat"),
    ] {
        let before = typist.count("ready\r\n");
        typist
            .types(&format!("for i in 1 2 3; do {pipeline}; done\n"))
            .sees("ready\r\n")
            .types("\x03")
            .sees("$ ")
            .code(130);
        assert_eq!(typist.count("ready\r\n"), before + 1, "{pipeline}");
    }
    // One that handles it ends when and as it likes.
    let script =
        "trap \"echo got-int >&2; exit 3\" INT; echo rea\"\"dy >&2; while :; do sleep 0.02; done";
    typist
        .types(&format!("$NOUGHT run -- sh -c '{script}' | cat\n"))
        .sees("ready\r\n")
        .types("\x03")
        .sees("got-int\r\n")
        .sees("$ ")
        .types("echo stat''us ${PIPESTATUS[0]}\n")
        .sees("status 3\r\n")
        .sees("$ ");
    assert_eq!(typist.count("got-int\r\n"), 1);
    typist.leaves();
    world.end();
}

#[test]
fn an_interactive_shell_within_keeps_its_jobs_and_its_ctrl_c() {
    let world = World::new();
    let mut typist = Typist::new(&world);
    let sleep = "sh -c 'echo rea\"\"dy; exec sleep 1000'\n";
    typist
        .types("PS1='i''n> ' $NOUGHT run -- bash --norc --noprofile -i\n")
        .sees("in> ")
        .interrupts("in> ")
        .types(sleep)
        .sees("ready\r\n")
        .types("\x1a")
        .sees("Stopped")
        .sees("in> ")
        .types(sleep)
        .sees("ready\r\n")
        .types("\x03")
        .sees("in> ")
        .types("exit 5\n")
        .sees("There are stopped jobs")
        .sees("in> ")
        .types("exit 5\n")
        .sees("$ ")
        .code(5);
    typist.leaves();
    world.end();
}

#[test]
fn an_editor_has_the_terminal_to_itself() {
    let world = World::new();
    let mut typist = Typist::new(&world);
    typist
        .types("TERM=xterm $NOUGHT run -- vi -u NONE -N text\n")
        .sees("~")
        .types("ione\x1b")
        .types("\x1a")
        .sees("Stopped")
        .sees("$ ")
        .types("fg\n")
        .sees("one")
        .types("otwo\x1b:wq\r")
        .sees("written")
        .sees("$ ")
        .code(0);
    assert_eq!(
        std::fs::read_to_string(world.dir.join("text")).unwrap(),
        "one\ntwo\n"
    );
    typist.leaves();
    world.end();
}

#[test]
fn what_is_left_does_not_keep_the_terminal() {
    let world = World::new();
    let mut typist = Typist::new(&world);
    typist
        .types("$NOUGHT run -- sh -c 'sleep 1000 & exit 2'\n")
        .sees("1 process still ran")
        .sees("$ ")
        .code(2)
        .types("echo st''ill here\n")
        .sees("still here\r\n");
    typist.leaves();
    world.end();
}

#[test]
fn a_terminal_that_hangs_up_ends_it() {
    let world = World::new();
    let mut typist = Typist::new(&world);
    typist.types("$NOUGHT run -- sh -c 'trap \"\" HUP; echo $$ >main; sleep 1000; sleep 1001'\n");
    let main = super::number_in(&world.dir.join("main"));
    world.note(main);
    // bash passes the hang-up on to its jobs; the kernel sends one when the session's leader ends.
    crate::look::signal(typist.shell.id(), libc::SIGHUP);
    until("it is gone", || {
        crate::look::alive(main).is_none().then_some(())
    });
    drop(typist);
    until("everything is gone", || {
        world.everyone().is_empty().then_some(())
    });
    world.end();
}
