//! Queues whose threads hang, end and come back: before a FIFO that nobody reads opening hangs,
//! and then every write.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::eventfd::EventFd;
use nix::sys::stat::Mode;

use super::queue::Shared;
use super::{Format, OUTLET_BYTES, Outlet, Rotated, Target, Writer, Writers, Written};
use crate::logs::{Cut, Stream};
use crate::sys::clock;

const BOUND: Duration = Duration::from_secs(60);

struct Scene {
    dir: PathBuf,
    room: Arc<EventFd>,
    writers: Writers,
}

impl Scene {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("nought-queues-{}-{n}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self {
            dir,
            room: Arc::new(EventFd::new().unwrap()),
            writers: Writers::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join("web.log")
    }

    fn outlet(&self) -> Outlet {
        Outlet {
            target: Target::File(Rotated {
                path: self.path(),
                max_size: 0,
                keep: 1,
                compress: false,
            }),
            format: Format::Plain,
            block: false,
        }
    }

    fn hung(&self) -> Outlet {
        nix::unistd::mkfifo(&self.path(), Mode::from_bits_truncate(0o600)).unwrap();
        self.outlet()
    }

    fn get(&mut self, outlet: &Outlet) -> Arc<Writer> {
        self.writers.get(outlet, &self.room)
    }

    fn text(&self) -> String {
        fs::read_to_string(self.path()).unwrap_or_default()
    }

    fn flush(&self) {
        self.writers.all().flush(BOUND);
    }

    /// Reads the FIFO to its end: how many lines came, and how many are said to be lost. Each
    /// begins with its number.
    fn read_all(&self) -> (usize, usize) {
        let (mut came, mut lost) = (0, 0);
        for line in BufReader::new(File::open(self.path()).unwrap()).lines() {
            let line = line.unwrap();
            match line.strip_prefix("nought: ") {
                Some(note) => lost += note.split(' ').next().unwrap().parse::<usize>().unwrap(),
                None => {
                    assert!(line.starts_with(&format!("{} ", came + lost)), "{line}");
                    came += 1;
                }
            }
        }
        (came, lost)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn say(writer: &Writer, text: &str) {
    writer.open().add(&Written {
        source: "web",
        generation: 7,
        pid: 1234,
        stream: Stream::Stdout,
        wall_us: 1,
        cut: Cut::default(),
        text: text.as_bytes(),
    });
}

/// One generation after the other writes before storage that hangs.
fn say_in_generations(scene: &mut Scene, outlet: &Outlet, generations: usize, lines: usize) {
    for generation in 0..generations {
        let writer = scene.get(outlet);
        for n in 0..lines {
            let n = generation * lines + n;
            say(&writer, &format!("{n} {}", "x".repeat(90)));
        }
    }
}

#[test]
fn generations_before_storage_that_hangs_have_one_queue_and_keep_their_order() {
    let mut scene = Scene::new();
    let outlet = scene.hung();
    say_in_generations(&mut scene, &outlet, 20, 50);
    assert_eq!(scene.read_all(), (1000, 0));
    // Nothing is kept for those who are gone.
    scene.flush();
    let began = clock::boot_now();
    while !scene.writers.is_empty() {
        assert!(clock::since(began) < BOUND, "its thread never ends");
        std::thread::yield_now();
    }
}

#[test]
fn the_bound_of_a_queue_holds_over_all_generations() {
    for (block, most) in [(false, OUTLET_BYTES), (true, 4 * OUTLET_BYTES)] {
        let mut scene = Scene::new();
        let outlet = Outlet {
            block,
            ..scene.hung()
        };
        say_in_generations(&mut scene, &outlet, 40, 1000);
        let (came, lost) = scene.read_all();
        assert_eq!(came + lost, 40_000);
        assert!(came * 93 > most / 2, "{came} came");
        assert!(came * 93 < most + 1000, "{came} came");
    }
}

#[test]
fn a_new_generation_writes_as_it_was_told_to_into_the_same_file() {
    let mut scene = Scene::new();
    let outlet = scene.outlet();
    let old = scene.get(&outlet);
    say(&old, "old");
    scene.flush();
    let Target::File(file) = &outlet.target else {
        unreachable!()
    };
    let small = Outlet {
        format: Format::Json,
        target: Target::File(Rotated {
            max_size: 10,
            ..file.clone()
        }),
        ..outlet.clone()
    };
    let new = scene.get(&small);
    say(&new, "new");
    scene.flush();
    let said = scene.text();
    assert!(said.ends_with("\"text\":\"new\"}\n"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let older = scene.dir.join("web.log.1");
    assert_eq!(fs::read_to_string(&older).unwrap(), "old\n");
    // Whoever was there before still writes as it was told to.
    say(&old, "last");
    scene.flush();
    assert_eq!(scene.text(), "last\n");
}

#[test]
fn lines_wait_for_a_thread_that_cannot_be_had() {
    let scene = Scene::new();
    let outlet = scene.outlet();
    let shared = Arc::new(Shared::new(outlet.target.clone(), Arc::clone(&scene.room)));
    shared.lock().take_up(&outlet.target);
    let writer = Writer::of(&outlet, Arc::clone(&shared));
    let long = "x".repeat(1000);
    for _ in 0..OUTLET_BYTES / 1000 {
        say(&writer, &long);
    }
    assert!(!writer.is_full());
    for _ in 0..3 {
        say(&writer, &long);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let began = clock::boot_now();
    runtime.block_on(async {
        shared.start_later();
        while scene.text().lines().count() < 1 || shared.lock().used() > 0 {
            assert!(clock::since(began) < BOUND, "no thread is started");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    shared.flush(BOUND, BOUND);
    let said = scene.text();
    let (mut came, mut lost) = (0, 0);
    for line in said.lines() {
        match line.strip_prefix("nought: ") {
            Some(note) => lost += note.split(' ').next().unwrap().parse::<usize>().unwrap(),
            None => came += 1,
        }
    }
    assert_eq!(came + lost, OUTLET_BYTES / 1000 + 3, "{lost} lost");
}

#[test]
fn what_is_lost_while_it_lasts_is_said_once_a_minute() {
    let scene = Scene::new();
    let minute = clock::as_nanos(Duration::from_secs(60));
    let target = scene.outlet().target;
    let shared = Shared::new(target.clone(), Arc::clone(&scene.room));
    let mut queue = shared.lock();
    queue.take_up(&target);
    let line = Written {
        source: "web",
        generation: 7,
        pid: 0,
        stream: Stream::Stdout,
        wall_us: 1,
        cut: Cut::default(),
        text: b"lost",
    };
    assert_eq!(queue.loss_due(5), None);
    queue.lose(Format::Plain, &line);
    assert_eq!(queue.loss_due(10), None);
    queue.lose(Format::Plain, &line);
    assert_eq!(queue.loss_due(9 + minute), None);
    assert_eq!(queue.loss_due(10 + minute), Some(2));
    queue.lose(Format::Plain, &line);
    assert_eq!(queue.loss_due(11 + minute), None);
    assert_eq!(queue.loss_due(10 + 2 * minute), Some(3));
    assert_eq!(queue.loss_due(10 + 3 * minute), None, "nothing new");
}
