//! Lines that go to files, the journal and syslog.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test may be blunt and read a clock for its bound"
)]

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nought::logs::{
    Capture, Command, Format, Limits, Logs, Mode, OUTLET_BYTES, Outlet, Output, Rotated, Sink,
    Target,
};

const BOUND: Duration = Duration::from_secs(60);

struct Scene {
    dir: PathBuf,
    logs: Logs,
}

impl Scene {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("nought-outlets-{}-{n}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let null = || OwnedFd::from(File::create("/dev/null").unwrap());
        let logs = Logs::new(Limits::default(), Sink::new(null(), null()));
        Self { dir, logs }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn file(&self, max_size: u64, keep: u32) -> Rotated {
        Rotated {
            path: self.path("web.log"),
            max_size,
            keep,
            compress: false,
        }
    }

    fn capture(&self, outlet: &Outlet) -> (File, File, Output) {
        let capture = Capture {
            service: "web",
            command: Command::Main,
            mode: Mode::Ring,
            outlet: Some(outlet),
            generation: 7,
        };
        let (ends, output) = self.logs.capture(capture).unwrap();
        output.pid().store(1234, Ordering::Relaxed);
        (ends.stdout.into(), ends.stderr.into(), output)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn plain(rotated: Rotated) -> Outlet {
    Outlet {
        target: Target::File(rotated),
        format: Format::Plain,
        block: false,
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < BOUND, "gave up waiting until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_file_tells_when_who_and_where() {
    let scene = Scene::new();
    let outlet = Outlet {
        format: Format::Prefix,
        ..plain(scene.file(0, 5))
    };
    let (mut out, mut err, output) = scene.capture(&outlet);
    out.write_all(b"hello\n").unwrap();
    until("it is written", || {
        text(&scene.path("web.log")).contains("hello")
    })
    .await;
    err.write_all(b"bad\n").unwrap();
    until("it is written", || {
        text(&scene.path("web.log")).contains("bad")
    })
    .await;
    let said = text(&scene.path("web.log"));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    let (time, rest) = lines[0].split_once(' ').unwrap();
    assert!(time.len() == 27 && time.ends_with('Z'), "{time}");
    assert_eq!(rest, "web/7[1234] out: hello");
    assert!(lines[1].ends_with(" web/7[1234] err: bad"), "{said}");
    drop((out, err));
    output.close();
}

#[tokio::test]
async fn a_rotation_loses_no_line_and_splits_none() {
    let scene = Scene::new();
    let outlet = Outlet {
        block: true,
        ..plain(scene.file(64 * 1024, 1000))
    };
    let (mut out, err, output) = scene.capture(&outlet);
    const LINES: usize = 40_000;
    let writer = std::thread::spawn(move || {
        for n in 0..LINES {
            out.write_all(format!("line {n} {}\n", "x".repeat(n % 97)).as_bytes())
                .unwrap();
        }
    });
    let last = format!("line {} ", LINES - 1);
    until("all is written", || {
        text(&scene.path("web.log")).contains(&last)
    })
    .await;
    writer.join().unwrap();
    drop(err);
    output.close();
    let mut all = Vec::new();
    let count = fs::read_dir(&scene.dir).unwrap().count();
    assert!(count > 10, "{count} files");
    for n in (1..count).rev() {
        let older = text(&scene.path(&format!("web.log.{n}")));
        assert!(older.len() <= 64 * 1024 && older.ends_with('\n'), "{n}");
        all.extend(older.lines().map(str::to_owned));
    }
    all.extend(text(&scene.path("web.log")).lines().map(str::to_owned));
    assert_eq!(all.len(), LINES);
    for (n, line) in all.iter().enumerate() {
        assert_eq!(*line, format!("line {n} {}", "x".repeat(n % 97)));
    }
}

#[tokio::test]
async fn only_so_many_older_ones_are_kept_and_they_are_compressed() {
    let scene = Scene::new();
    let file = Rotated {
        compress: true,
        ..scene.file(4096, 2)
    };
    let (mut out, err, output) = scene.capture(&plain(file));
    for n in 0..200 {
        out.write_all(format!("line {n:>5} {}\n", "x".repeat(87)).as_bytes())
            .unwrap();
        let line = format!("line {n:>5}");
        until("it is written", || {
            text(&scene.path("web.log")).contains(&line)
        })
        .await;
    }
    drop((out, err));
    output.close();
    until("the last is compressed", || {
        scene.path("web.log.1.gz").exists() && !scene.path("web.log.1").exists()
    })
    .await;
    let mut names: Vec<String> = fs::read_dir(&scene.dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["web.log", "web.log.1.gz", "web.log.2.gz"]);
    let read = |name: &str| {
        let mut text = String::new();
        let file = File::open(scene.path(name)).unwrap();
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut text)
            .unwrap();
        text
    };
    let (older, newer) = (read("web.log.2.gz"), read("web.log.1.gz"));
    assert_eq!((older.lines().count(), newer.lines().count()), (41, 41));
    assert!(older.starts_with("line    82"), "{older}");
    assert!(newer.starts_with("line   123"), "{newer}");
}

/// A rotation that cannot be done, as where the file is mounted alone: where the file would be put
/// first there is something else.
#[tokio::test]
async fn a_file_that_cannot_be_rotated_is_written_on_and_no_older_one_is_touched() {
    let scene = Scene::new();
    let in_the_way = scene.path("web.log.rotating");
    fs::create_dir(&in_the_way).unwrap();
    fs::write(scene.path("web.log.1"), "older\n").unwrap();
    fs::write(scene.path("web.log.2"), "oldest\n").unwrap();
    let (mut out, err, output) = scene.capture(&plain(scene.file(4096, 2)));
    let mut n = 0;
    let mut say = |lines: usize| {
        let mut said = String::new();
        for _ in 0..lines {
            let line = format!("line {n:>5} {}\n", "x".repeat(87));
            out.write_all(line.as_bytes()).unwrap();
            said += &line;
            n += 1;
        }
        said
    };
    let said = say(300);
    until("all is written", || text(&scene.path("web.log")) == said).await;
    assert_eq!(text(&scene.path("web.log.1")), "older\n");
    assert_eq!(text(&scene.path("web.log.2")), "oldest\n");
    fs::remove_dir(&in_the_way).unwrap();
    // It is tried again after as much as a file is to have.
    let more = say(50);
    until("it is rotated", || {
        let rotated = text(&scene.path("web.log.1"));
        rotated.starts_with(&said)
            && rotated + &text(&scene.path("web.log")) == said.clone() + &more
    })
    .await;
    assert_eq!(text(&scene.path("web.log.2")), "older\n");
    drop((out, err));
    output.close();
}

/// A supervisor that was killed in the middle of a rotation.
#[tokio::test]
async fn a_rotation_that_was_cut_short_is_done_with_the_next_one() {
    let scene = Scene::new();
    fs::write(scene.path("web.log.rotating"), "newest of the older\n").unwrap();
    fs::write(scene.path("web.log.2"), "older\n").unwrap();
    fs::write(scene.path("web.log"), "x".repeat(90)).unwrap();
    let (mut out, err, output) = scene.capture(&plain(scene.file(100, 4)));
    out.write_all(b"a line that does not fit\n").unwrap();
    until("it is rotated", || {
        text(&scene.path("web.log")) == "a line that does not fit\n"
    })
    .await;
    // Half a line, which it had: ended.
    assert_eq!(text(&scene.path("web.log.1")), "x".repeat(90) + "\n");
    assert_eq!(text(&scene.path("web.log.2")), "newest of the older\n");
    assert_eq!(text(&scene.path("web.log.3")), "older\n");
    assert!(!scene.path("web.log.rotating").exists());
    drop((out, err));
    output.close();
}

#[tokio::test]
async fn two_never_write_into_one_line() {
    let scene = Scene::new();
    let (mut out, mut err, output) = scene.capture(&plain(scene.file(0, 5)));
    let path = scene.path("web.log");
    let long = "A".repeat(nought::logs::LINE_MAX);
    out.write_all(long.as_bytes()).unwrap();
    out.write_all(b"AA").unwrap();
    until("its first piece is written", || text(&path) == long).await;
    err.write_all(b"error: something\n").unwrap();
    let both = format!("{long}\nerror: something\n");
    until("both are written", || text(&path) == both).await;
    out.write_all(b"A\n").unwrap();
    let all = format!("{both}AAA\n");
    until("its end is written", || text(&path) == all).await;
    drop((out, err));
    output.close();
}

#[tokio::test]
async fn a_file_that_was_moved_away_is_opened_again() {
    let scene = Scene::new();
    let (mut out, err, output) = scene.capture(&plain(scene.file(0, 5)));
    out.write_all(b"one\n").unwrap();
    until("one", || text(&scene.path("web.log")) == "one\n").await;
    fs::rename(scene.path("web.log"), scene.path("aside")).unwrap();
    out.write_all(b"two\n").unwrap();
    until("two", || text(&scene.path("web.log")) == "two\n").await;
    assert_eq!(text(&scene.path("aside")), "one\n");
    drop((out, err));
    output.close();
}

#[tokio::test]
async fn a_link_in_its_place_is_not_followed() {
    let scene = Scene::new();
    fs::write(scene.path("precious"), "").unwrap();
    std::os::unix::fs::symlink(scene.path("precious"), scene.path("web.log")).unwrap();
    let (mut out, err, output) = scene.capture(&plain(scene.file(0, 5)));
    out.write_all(b"one\n").unwrap();
    until("it is in memory", || {
        scene.logs.snapshot(None, 9).len() == 2
    })
    .await;
    scene.logs.flush(BOUND);
    assert_eq!(text(&scene.path("precious")), "");
    drop((out, err));
    output.close();
}

#[tokio::test]
async fn what_cannot_be_written_is_counted_and_said_when_it_can_again() {
    let scene = Scene::new();
    let file = Rotated {
        path: scene.path("not/there/web.log"),
        ..scene.file(0, 5)
    };
    let (mut out, err, output) = scene.capture(&plain(file));
    out.write_all(b"one\ntwo\n").unwrap();
    until("they are in memory", || {
        scene.logs.snapshot(None, 9).len() == 3
    })
    .await;
    scene.logs.flush(BOUND);
    fs::create_dir_all(scene.path("not/there")).unwrap();
    out.write_all(b"three\n").unwrap();
    let path = scene.path("not/there/web.log");
    until("three", || text(&path).ends_with("three\n")).await;
    let said = text(&path);
    assert_eq!(
        said,
        "nought: 2 lines lost: this log was too slow or could not be written\nthree\n"
    );
    drop((out, err));
    output.close();
}

/// The lines that a note told of were counted once, the note with them, when that could not be
/// written either; and what nobody said anything after was never told.
#[tokio::test]
async fn all_that_was_lost_in_many_tries_is_said_at_the_end() {
    let scene = Scene::new();
    let file = Rotated {
        path: scene.path("not/there/web.log"),
        ..scene.file(0, 5)
    };
    let path = file.path.clone();
    let (mut out, err, output) = scene.capture(&plain(file));
    for n in 1..=5 {
        writeln!(out, "line {n}").unwrap();
        until("it is in memory", || {
            scene.logs.snapshot(None, 9).len() == n + 1
        })
        .await;
        scene.logs.flush(BOUND);
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    drop((out, err));
    output.close();
    until("the loss is said", || text(&path).ends_with('\n')).await;
    assert_eq!(
        text(&path),
        "nought: 5 lines lost: this log was too slow or could not be written\n"
    );
}

/// A destination that nobody reads: a datagram socket whose queue is full.
fn silent(scene: &Scene) -> (UnixDatagram, Target) {
    let path = scene.path("silent");
    (UnixDatagram::bind(&path).unwrap(), Target::Syslog(path))
}

#[tokio::test]
async fn a_destination_that_does_not_take_lines_drops_them_and_holds_up_nobody() {
    const LINES: usize = 40_000;
    let scene = Scene::new();
    let (reader, target) = silent(&scene);
    let outlet = Outlet {
        target,
        format: Format::Plain,
        block: false,
    };
    let (mut out, err, output) = scene.capture(&outlet);
    let writer = std::thread::spawn(move || {
        for n in 0..LINES {
            out.write_all(format!("line {n} {}\n", "x".repeat(60)).as_bytes())
                .unwrap();
        }
    });
    until("the service has written all of it", || writer.is_finished()).await;
    writer.join().unwrap();
    // What waited comes, then how much did not, though nothing more is said.
    let reading = std::thread::spawn(move || {
        reader.set_read_timeout(Some(BOUND)).unwrap();
        let mut bytes = [0; 1024];
        let (mut came, mut lost) = (0, 0);
        while came + lost < LINES {
            let length = reader.recv(&mut bytes).unwrap();
            let line = String::from_utf8_lossy(&bytes[..length]).into_owned();
            let text = line.strip_prefix("<30>web[1234]: ").unwrap();
            match text.strip_prefix("nought: ") {
                Some(note) => lost += note.split(' ').next().unwrap().parse::<usize>().unwrap(),
                None => {
                    assert!(
                        text.starts_with(&format!("line {} ", came + lost)),
                        "{line}"
                    );
                    came += 1;
                }
            }
        }
        (came, lost)
    });
    until("all came or is said to be lost", || reading.is_finished()).await;
    let (came, lost) = reading.join().unwrap();
    assert_eq!(came + lost, LINES);
    assert!(came > OUTLET_BYTES / 90 && lost > 0, "{came} {lost}");
    drop(err);
    output.close();
}

#[tokio::test]
async fn where_the_file_says_so_the_service_waits_and_nothing_is_lost() {
    let scene = Scene::new();
    let (reader, target) = silent(&scene);
    let outlet = Outlet {
        target,
        format: Format::Plain,
        block: true,
    };
    let (mut out, err, output) = scene.capture(&outlet);
    const LINES: usize = 20_000;
    let writer = std::thread::spawn(move || {
        for n in 0..LINES {
            out.write_all(format!("line {n} {}\n", "x".repeat(60)).as_bytes())
                .unwrap();
        }
    });
    // Somebody else is read meanwhile.
    let other = scene
        .logs
        .output("other", Command::Main, Mode::Ring)
        .unwrap();
    let mut said: File = other.0.stdout.into();
    said.write_all(b"here\n").unwrap();
    until("the other one is read", || {
        scene.logs.snapshot(Some("other"), 9).len() == 2
    })
    .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!writer.is_finished(), "it waits");
    let reading = std::thread::spawn(move || {
        reader.set_read_timeout(Some(BOUND)).unwrap();
        let mut bytes = [0; 1024];
        for n in 0..LINES {
            let length = reader.recv(&mut bytes).unwrap();
            let line = String::from_utf8_lossy(&bytes[..length]).into_owned();
            assert!(
                line.starts_with(&format!("<30>web[1234]: line {n} ")),
                "{line}"
            );
        }
    });
    until("all of it is read", || reading.is_finished()).await;
    reading.join().unwrap();
    writer.join().unwrap();
    drop(err);
    output.close();
}

/// Storage that hangs: a FIFO that nobody reads yet, whose opening waits for that.
fn hung(scene: &Scene, format: Format) -> (PathBuf, Outlet) {
    let file = scene.file(0, 5);
    let path = file.path.clone();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let outlet = Outlet {
        target: Target::File(file),
        format,
        block: true,
    };
    (path, outlet)
}

/// What became of these lines, each with its number, when the storage answers again: how many came,
/// and how many are said to be lost.
fn read_numbers(path: &Path, lines: usize) -> (usize, usize) {
    use std::io::BufRead as _;
    let (mut came, mut lost) = (0, 0);
    for line in std::io::BufReader::new(File::open(path).unwrap()).lines() {
        let line = line.unwrap();
        match line.strip_prefix("nought: ") {
            Some(note) => lost += note.split(' ').next().unwrap().parse::<usize>().unwrap(),
            None => {
                assert_eq!(line, format!("line {}", came + lost));
                came += 1;
            }
        }
        if came + lost == lines {
            break;
        }
    }
    (came, lost)
}

#[tokio::test]
async fn the_shortest_lines_in_the_longest_format_wait_within_the_bound() {
    const LINES: usize = 200_000;
    let scene = Scene::new();
    let (path, outlet) = hung(&scene, Format::Json);
    let (mut out, err, output) = scene.capture(&outlet);
    let writer = std::thread::spawn(move || out.write_all(&[b'\n'; LINES]));
    let taken = || scene.logs.lost("web") + scene.logs.snapshot(Some("web"), 9999).len() as u64;
    let mut before = 0;
    until("nothing more is taken", || {
        std::thread::sleep(Duration::from_millis(50));
        taken() > 100 && std::mem::replace(&mut before, taken()) == taken()
    })
    .await;
    assert!(!writer.is_finished(), "it waits");
    let bytes = taken() * br#"{"time":"","service":"web","generation":7,"text":""}"#.len() as u64;
    assert!(bytes < OUTLET_BYTES as u64, "{} lines", taken());
    let reading = std::thread::spawn(move || {
        use std::io::BufRead as _;
        let lines = std::io::BufReader::new(File::open(path).unwrap()).lines();
        lines
            .take(LINES)
            .filter(|line| line.as_ref().unwrap().ends_with(r#""text":""}"#))
            .count()
    });
    until("all came", || reading.is_finished()).await;
    assert_eq!(reading.join().unwrap(), LINES);
    writer.join().unwrap().unwrap();
    drop(err);
    output.close();
}

#[tokio::test]
async fn who_is_to_end_waits_no_more_and_what_is_lost_is_said() {
    const LINES: usize = 400_000;
    let scene = Scene::new();
    let (path, outlet) = hung(&scene, Format::Plain);
    let (mut out, err, output) = scene.capture(&outlet);
    let writer = std::thread::spawn(move || {
        let lines: String = (0..LINES).map(|n| format!("line {n}\n")).collect();
        out.write_all(lines.as_bytes())
    });
    until("its log is full", || scene.logs.lost("web") > 10_000).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!writer.is_finished(), "it waits");
    output.let_go();
    until("it waits no more", || writer.is_finished()).await;
    writer.join().unwrap().unwrap();
    drop(err);
    output.close();
    let reading = std::thread::spawn(move || read_numbers(&path, LINES));
    until("all came or is said to be lost", || reading.is_finished()).await;
    let (came, lost) = reading.join().unwrap();
    assert_eq!(came + lost, LINES);
    assert!(came > 10_000 && lost > 0, "{came} came, {lost} are lost");
}

/// Its writers go while it is not read.
#[tokio::test]
async fn what_a_pipe_held_when_its_writers_went_comes() {
    const LINES: usize = 28_000;
    let scene = Scene::new();
    let (path, outlet) = hung(&scene, Format::Plain);
    let (mut out, err, output) = scene.capture(&outlet);
    let writer = std::thread::spawn(move || {
        let lines: String = (0..LINES).map(|n| format!("line {n}\n")).collect();
        out.write_all(lines.as_bytes())
    });
    until("it has written all", || writer.is_finished()).await;
    writer.join().unwrap().unwrap();
    drop(err);
    let reading = std::thread::spawn(move || read_numbers(&path, LINES));
    until("all came", || reading.is_finished()).await;
    assert_eq!(reading.join().unwrap(), (LINES, 0));
    assert!(!output.close().held);
}
