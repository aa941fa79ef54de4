//! A log on storage that does not answer: a FIFO that nobody reads, whose opening hangs, and then
//! every write to it. It costs what its service's file says, and nobody else anything.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::sys::stat::Mode;

use crate::look::{self, until};
use crate::world::World;

/// So many lines have 1.9 MiB: more than a pipe, a queue and another pipe hold.
const LINES: usize = 300_000;

/// A stop that waits for the storage kills after so long; one that does not is over long before, on
/// a slow machine, too.
const GRACE: &str = "shutdown_timeout: 60s";
const BEFORE_THAT: Duration = Duration::from_secs(30);

/// `loud` writes its lines into a log that hangs; `quiet` says what it is told to into a file.
struct Scene {
    world: World,
    fifo: PathBuf,
}

impl Scene {
    fn new(backpressure: &str) -> Self {
        let mut world = World::new();
        let dir = world.open_dir();
        let fifo = dir.join("hung.log");
        nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
        let log = format!(
            "log: {{path: {}, format: plain, max_size: 0, backpressure: {backpressure}}}",
            fifo.display()
        );
        world.service(
            "loud",
            &format!("exec: seq 1 {LINES}\noneshot: true\n{GRACE}\n{log}\n"),
        );
        let quiet = dir.join("quiet.log");
        let script = "trap 'echo bye; exit 0' TERM; echo here; while :; do sleep 0.02; done";
        world.service(
            "quiet",
            &format!(
                "exec: [sh, -c, \"{script}\"]\n{GRACE}\nlog: {{path: {}, format: plain}}\n",
                quiet.display()
            ),
        );
        world.init();
        Self { world, fifo }
    }

    /// Others start, stop and have their lines written, and nobody waits for an answer.
    fn others_go_on(&self) {
        let path = self.fifo.with_file_name("quiet.log");
        let says = |line: &str| {
            until("its last line is in its file", || {
                let text = fs::read_to_string(&path).unwrap_or_default();
                text.ends_with(line).then_some(())
            });
        };
        for _ in 0..3 {
            let began = Instant::now();
            says("here\n");
            self.world.stop_verified("quiet");
            says("bye\n");
            self.world.start("quiet").unwrap();
            assert!(self.world.client().is_answered("nought_list"));
            let took = began.elapsed();
            assert!(took < BEFORE_THAT, "{took:?}");
        }
    }

    /// Whoever reads the log at last, from now on.
    fn reader(&self) -> BufReader<File> {
        // Not to wait for the writer, which may be anywhere; its reads wait for it then.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&self.fifo);
        let file = opened.unwrap();
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::empty());
        until("it is opened for writing, too", || {
            let mut polled = [nix::poll::PollFd::new(
                std::os::fd::AsFd::as_fd(&file),
                nix::poll::PollFlags::POLLIN,
            )];
            nix::poll::poll(&mut polled, 100_u16)
                .ok()
                .filter(|n| *n > 0)
        });
        nix::fcntl::fcntl(&file, flags).unwrap();
        BufReader::new(file)
    }

    /// Reads the log until the last line came or was said to be lost: how many came, how many not.
    fn read_all(&self) -> (usize, usize) {
        let (mut came, mut lost) = (0, 0);
        for line in self.reader().lines() {
            let line = line.unwrap();
            match line.strip_prefix("nought: ") {
                Some(note) => lost += note.split(' ').next().unwrap().parse::<usize>().unwrap(),
                None => {
                    came += 1;
                    assert_eq!(line, (came + lost).to_string(), "{lost} lost before");
                }
            }
            if came + lost == LINES {
                break;
            }
        }
        (came, lost)
    }

    /// Waits until the service waits for its pipe.
    fn held_up(&self) -> u32 {
        until("it waits for its pipe", || {
            let pid = u32::try_from(self.world.status("loud")["pid"].as_u64()?).ok()?;
            let wchan = fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
            wchan.contains("pipe_write").then_some(pid)
        })
    }
}

#[test]
fn with_drop_a_log_that_hangs_holds_up_nobody_and_what_is_lost_is_said() {
    let scene = Scene::new("drop");
    scene.world.reach("loud", "done");
    scene.others_go_on();
    let (came, lost) = scene.read_all();
    assert_eq!(came + lost, LINES);
    assert!(came > 0 && lost > LINES / 2, "{came} came, {lost} are lost");
    scene.world.end();
}

#[test]
fn with_block_its_own_service_alone_waits_and_nothing_is_lost() {
    let scene = Scene::new("block");
    scene.held_up();
    scene.others_go_on();
    assert_eq!(scene.world.status("loud")["state"], "starting");
    assert_eq!(scene.read_all(), (LINES, 0));
    scene.world.reach("loud", "done");
    scene.world.end();
}

#[test]
fn a_service_that_waits_for_its_log_is_stopped_as_fast_as_any_other() {
    let scene = Scene::new("block");
    let pid = scene.held_up();
    let began = Instant::now();
    let receipt = scene.world.stop_verified("loud");
    let took = began.elapsed();
    assert!(took < BEFORE_THAT, "{took:?}");
    assert_eq!(receipt["killed"], serde_json::json!([]), "{receipt:#}");
    assert!(look::alive(pid).is_none());
    scene.others_go_on();
    // Nor does the end wait for it.
    let began = Instant::now();
    scene.world.end();
    let took = began.elapsed();
    assert!(took < BEFORE_THAT, "{took:?}");
}

/// A service before a FIFO that nobody reads: what it runs, and where it logs.
fn before_a_hung_log(exec: &str, more: &str) -> (World, PathBuf) {
    let mut world = World::new();
    let fifo = world.open_dir().join("hung.log");
    nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    let log = format!("log: {{path: {}}}", fifo.display());
    world.service("loud", &format!("exec: {exec}\n{more}{log}\n"));
    world.init();
    (world, fifo)
}

fn log_threads(world: &World) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", world.supervisor())).unwrap();
    tasks
        .filter_map(|task| fs::read_to_string(task.ok()?.path().join("comm")).ok())
        .filter(|name| name == "nought-log\n")
        .count()
}

#[test]
fn restarts_before_a_log_that_hangs_cost_one_thread_and_keep_their_order() {
    const STARTS: usize = 8;
    const EACH: usize = 50;
    let exec = format!("[sh, -c, 'seq 1 {EACH}; echo end; exec sleep 1000']");
    let (world, fifo) = before_a_hung_log(&exec, "");
    for n in 1..=STARTS {
        until("it has said all", || {
            let said = world.cli(&["log", "loud"]).stdout;
            let said = String::from_utf8(said).unwrap();
            (said.matches(": end\n").count() == n).then_some(())
        });
        assert_eq!(log_threads(&world), 1);
        world.stop_verified("loud");
        if n < STARTS {
            world.start("loud").unwrap();
        }
    }
    assert_eq!(log_threads(&world), 1);
    let wanted = (1..=STARTS).flat_map(|start| {
        let numbers = (1..=EACH).map(|n| n.to_string());
        numbers.chain(["end".into()]).map(move |text| (start, text))
    });
    let mut came = BufReader::new(File::open(&fifo).unwrap()).lines();
    for (start, text) in wanted {
        let line = came.next().unwrap().unwrap();
        assert!(line.contains(&format!(" loud/{start}[")), "{line}");
        assert!(line.ends_with(&format!(" out: {text}")), "{line}");
    }
    assert!(came.next().is_none());
    until("its thread ends", || {
        (log_threads(&world) == 0).then_some(())
    });
    world.end();
}

/// Says 1,000 lines when it is told to end.
const LAST_WORDS: &str = "[sh, -c, \"exec 2>/dev/null; trap 'seq 1 1000; exit 0' TERM; echo here; while :; do sleep 0.02; done\"]";

/// Whoever does that, ready for it.
fn with_last_words() -> (World, PathBuf) {
    let (world, fifo) = before_a_hung_log(LAST_WORDS, "");
    until("it traps its signal", || {
        let said = world.cli(&["log", "loud"]).stdout;
        String::from_utf8(said)
            .unwrap()
            .contains("here")
            .then_some(())
    });
    (world, fifo)
}

#[test]
fn the_end_waits_for_what_services_said_last() {
    let (mut world, fifo) = with_last_words();
    world.census();
    world.signal(libc::SIGTERM);
    // As soon as the socket is gone nothing but its log is left to do.
    let mut before = Instant::now();
    until("everything else is done", || {
        let asked = Instant::now();
        let gone = !world.socket().exists();
        before = if gone { before } else { asked };
        gone.then_some(())
    });
    std::thread::sleep(Duration::from_millis(300));
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&fifo);
    let file = opened.unwrap();
    let status = world.wait();
    // It has waited for 1 s by then where the machine is that slow, and says what it cost.
    let too_late = before.elapsed() >= Duration::from_secs(1) && world.log().contains("lost");
    assert_eq!(status.code(), Some(0), "{}", world.log());
    let said = BufReader::new(file).lines().map_while(Result::ok);
    let said: Vec<String> = said.collect();
    if !too_late {
        assert_eq!(said.len(), 1001, "{}", world.log());
        assert!(said[1000].ends_with(" out: 1000"), "{}", said[1000]);
        assert!(!world.log().contains("lost"), "{}", world.log());
    }
    world.end();
}

#[test]
fn the_end_says_what_storage_that_hangs_did_not_take() {
    let (mut world, fifo) = with_last_words();
    world.census();
    world.signal(libc::SIGTERM);
    let began = Instant::now();
    let status = world.wait();
    assert_eq!(status.code(), Some(0), "{}", world.log());
    let took = began.elapsed();
    assert!(took < BEFORE_THAT, "{took:?}");
    let words = format!(
        "failed to write {} within 1s: up to 1001 lines are lost",
        fifo.display()
    );
    assert!(world.log().contains(&words), "{}", world.log());
    world.assert_last_words("verified: every service is gone, nothing is left");
    world.end();
}

#[test]
fn a_service_that_says_its_last_before_a_log_that_hangs_ends_by_itself() {
    let mut world = World::new();
    let fifo = world.open_dir().join("hung.log");
    nix::unistd::mkfifo(&fifo, Mode::from_bits_truncate(0o600)).unwrap();
    let script = "trap 'seq 1 50000; exit 0' TERM; while :; do echo again; done";
    world.service(
        "loud",
        &format!(
            "exec: [sh, -c, \"{script}\"]\n{GRACE}\nlog: {{path: {}, backpressure: block}}\n",
            fifo.display()
        ),
    );
    world.init();
    until("it waits for its pipe", || {
        let pid = world.status("loud")["pid"].as_u64()?;
        let wchan = fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
        wchan.contains("pipe_write").then_some(())
    });
    let began = Instant::now();
    let receipt = world.stop_verified("loud");
    let took = began.elapsed();
    assert!(took < BEFORE_THAT, "{took:?}");
    assert_eq!(receipt["killed"], serde_json::json!([]), "{receipt:#}");
    world.end();
}
