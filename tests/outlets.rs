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

const BOUND: Duration = Duration::from_secs(20);

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
