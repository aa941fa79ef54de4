//! The state directory, on real files, locks, kills and full disks.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test may be blunt and spawn a process"
)]

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nought::core::{GenId, Reach};
use nought::state::{
    Completion, Instance, Leftover, Member, RECEIPT_MAX, RECEIPTS_BYTES, RECEIPTS_KEPT, Record,
    Remark, StateDir, StateError, default_path, newest_receipts,
};

/// A directory of the test's own, removed at its end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nought-state-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn state(&self) -> PathBuf {
        self.0.join("state")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn record(number: u64, service: &str) -> Record {
    Record {
        r#gen: GenId(number),
        service: service.into(),
        cgroup: Some(format!("/sys/fs/cgroup/nought-1/{service}/{number}").into()),
        base: Some("/sys/fs/cgroup".into()),
        supervisor_pid: 4711,
        stop_signal: 15,
        reach: Reach::All,
        grace_ms: 10_000,
        exit_grace_ms: 2_000,
        kill_timeout_ms: 5_000,
        after: vec!["net".into()],
        requires: vec!["db".into(), "cache \"quoted\"\n".into()],
        spec_hash: u64::MAX,
        guarantee: "cgroup-kill marked".into(),
        env_marker: Some("NOUGHT_GENERATION=x".into()),
    }
}

fn completion(pid: u32) -> Completion {
    Completion {
        pid,
        start_time: u64::MAX - 1,
        cgroup_id: Some(123_456_789_012),
        mark_inode: Some(4_026_533_000),
        mark_id: Some(4),
        session: pid,
        spawned_at_wall_ms: 1_700_000_000_000,
    }
}

fn instance(state: &StateDir) -> Instance {
    Instance {
        pid: 4711,
        start_time: 42,
        cgroup_root: Some("/sys/fs/cgroup/nought-1".into()),
        base: Some("/sys/fs/cgroup".into()),
        boot_id: state.boot_id().into(),
        pid_namespace: Some(4_026_531_836),
        started_wall_ms: 1_700_000_000_000,
    }
}

fn leftovers(state: &StateDir) -> Vec<Leftover> {
    let (leftovers, remarks) = state.leftovers().unwrap();
    assert_eq!(remarks, []);
    leftovers
}

/// Set for the process of its own (see `Holder`) that holds a directory, and is killed.
const HOLD: &str = "NOUGHT_TEST_HOLD";

#[test]
fn a_directory_that_is_held_is_let_go_with_its_holder() {
    let Some(path) = std::env::var_os(HOLD) else {
        let scratch = Scratch::new();
        drop(Holder::start(&scratch.0));
        StateDir::open(&scratch.0).unwrap();
        return;
    };
    let state = StateDir::open(Path::new(&path)).unwrap();
    state.record_instance(&instance(&state)).unwrap();
    state.begin(&record(7, "web")).unwrap();
    state.complete(GenId(7), completion(700)).unwrap();
    state.begin(&record(8, "db")).unwrap();
    state
        .store_receipt("web", r#"{"verdict":"verified"}"#)
        .unwrap();
    println!("\nheld");
    // Until it is killed, or the test that wants it is gone.
    let _ = std::io::stdin().read_line(&mut String::new());
}

struct Holder(Child);

impl Holder {
    fn start(path: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_directory_that_is_held_is_let_go_with_its_holder",
                "--nocapture",
            ])
            .env(HOLD, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let holder = Self(child);
        let held = output.lines().any(|line| line.unwrap() == "held");
        assert!(held, "the other process could not open the directory");
        holder
    }

    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_second_supervisor_is_refused_by_pid_until_the_first_is_killed() {
    let scratch = Scratch::new();
    let holder = Holder::start(&scratch.state());
    let pid = holder.0.id();
    let error = StateDir::open(&scratch.state()).unwrap_err();
    assert!(matches!(error, StateError::Busy { pid: Some(held), gone: false, .. } if held == pid));
    assert_eq!(
        error.to_string(),
        format!(
            "another supervisor (pid {pid}) serves this socket: it holds {}/lock; \
             stop it first, or use another socket",
            scratch.state().display()
        )
    );
    holder.kill();
    StateDir::open(&scratch.state()).unwrap();
}

#[test]
fn a_lock_that_only_a_dead_supervisors_child_holds_is_waited_for() {
    let scratch = Scratch::new();
    drop(StateDir::open(&scratch.state()).unwrap());
    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let path = scratch.state().join("lock");
    fs::write(&path, dead.id().to_string()).unwrap();
    let lock = fs::File::open(&path).unwrap();
    lock.lock().unwrap();
    let mut child = Command::new("sleep")
        .arg("1000")
        .stdin(lock)
        .spawn()
        .unwrap();

    let refused = StateDir::open(&scratch.state());
    assert_eq!(child.try_wait().unwrap(), None, "somebody ended the child");
    let error = refused.unwrap_err();
    let end = std::thread::spawn(move || {
        child.kill().unwrap();
        child.wait().unwrap();
    });
    let opened = StateDir::open(&scratch.state());
    end.join().unwrap();
    assert!(
        matches!(error, StateError::Busy { gone: true, .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("something it started"),
        "{error}"
    );
    opened.unwrap();
}

#[test]
fn everything_a_killed_supervisor_wrote_is_read_back() {
    let scratch = Scratch::new();
    Holder::start(&scratch.state()).kill();
    let state = StateDir::open(&scratch.state()).unwrap();
    assert_eq!(state.remarks(), []);
    assert_eq!(state.previous_instance(), Some(&instance(&state)));
    assert_eq!(
        leftovers(&state),
        [
            Leftover {
                record: record(7, "web"),
                completion: Some(completion(700)),
                members: vec![],
            },
            Leftover {
                record: record(8, "db"),
                completion: None,
                members: vec![],
            },
        ]
    );
    assert_eq!(state.next_generation_hint(), GenId(9));
    assert_eq!(
        state.receipts("web", 5).unwrap(),
        [r#"{"verdict":"verified"}"#]
    );

    state.remove(GenId(7)).unwrap();
    state.remove(GenId(7)).unwrap();
    state.begin(&record(9, "web")).unwrap();
    assert_eq!(state.next_generation_hint(), GenId(10));
    let numbers: Vec<u64> = leftovers(&state).iter().map(|l| l.record.r#gen.0).collect();
    assert_eq!(numbers, [8, 9]);
}

#[test]
fn a_supervisors_cgroup_is_on_record_until_it_was_removed() {
    let scratch = Scratch::new();
    let state = StateDir::open(&scratch.state()).unwrap();
    assert!(state.earlier_trees().is_empty());
    let (one, two) = (
        PathBuf::from("/a/nought-1"),
        PathBuf::from("/a/\"b\nc/nought-2"),
    );
    state.begin_tree(&one).unwrap();
    drop(state);
    let state = StateDir::open(&scratch.state()).unwrap();
    state.begin_tree(&two).unwrap();
    assert_eq!(
        state.earlier_trees(),
        std::slice::from_ref(&one),
        "not our own"
    );
    drop(state);
    let state = StateDir::open(&scratch.state()).unwrap();
    assert_eq!(state.earlier_trees(), [one, two.clone()]);
    state.keep_trees(std::slice::from_ref(&two)).unwrap();
    drop(state);
    let state = StateDir::open(&scratch.state()).unwrap();
    assert_eq!(state.earlier_trees(), [two]);
    drop(state);
    fs::write(scratch.state().join("boot"), "another").unwrap();
    let state = StateDir::open(&scratch.state()).unwrap();
    assert!(
        state.earlier_trees().is_empty(),
        "its cgroups went with its boot"
    );
}

#[test]
fn generations_follow_each_other_by_number_not_by_name() {
    let scratch = Scratch::new();
    let state = StateDir::open(&scratch.state()).unwrap();
    assert_eq!(state.next_generation_hint(), GenId(1));
    for number in [9, 10, 100] {
        state.begin(&record(number, "web")).unwrap();
    }
    drop(state);
    let state = StateDir::open(&scratch.state()).unwrap();
    assert_eq!(state.next_generation_hint(), GenId(101));
    let numbers: Vec<u64> = leftovers(&state).iter().map(|l| l.record.r#gen.0).collect();
    assert_eq!(numbers, [9, 10, 100]);
    let error = state.begin(&record(10, "web")).unwrap_err();
    assert!(
        matches!(&error, StateError::Io { source, .. }
            if source.kind() == std::io::ErrorKind::AlreadyExists),
        "{error:?}"
    );
    assert!(state.complete(GenId(11), completion(1)).is_err());
}

#[test]
fn the_latest_members_count_and_the_file_stays_small() {
    let scratch = Scratch::new();
    let state = StateDir::open(&scratch.state()).unwrap();
    state.begin(&record(1, "web")).unwrap();
    state.complete(GenId(1), completion(100)).unwrap();
    let file = scratch.state().join("generations/1");
    let mut latest = Vec::new();
    for round in 0..2000u64 {
        latest = (0..40)
            .map(|n| Member {
                pid: 100 + n,
                start_time: round,
            })
            .collect();
        state.members(GenId(1), &latest).unwrap();
        assert!(fs::metadata(&file).unwrap().size() < 100 * 1024);
    }
    assert_eq!(
        leftovers(&state),
        [Leftover {
            record: record(1, "web"),
            completion: Some(completion(100)),
            members: latest,
        }]
    );
}

#[test]
fn records_of_another_boot_are_dropped_and_said_receipts_stay() {
    let scratch = Scratch::new();
    Holder::start(&scratch.state()).kill();
    let other = "00000000-0000-0000-0000-000000000000";
    fs::write(scratch.state().join("boot"), other).unwrap();
    let state = StateDir::open(&scratch.state()).unwrap();
    assert_eq!(
        state.remarks(),
        [Remark::OtherBoot {
            records: 2,
            boot_id: Some(other.into()),
        }]
    );
    assert_eq!(
        state.remarks()[0].to_string(),
        format!("dropped 2 generation records of another boot ({other})")
    );
    assert_eq!(leftovers(&state), []);
    assert_eq!(state.previous_instance(), None);
    // The receipts name generations, so that their numbers go on.
    assert_eq!(state.next_generation_hint(), GenId(9));
    assert_eq!(state.receipts("web", 5).unwrap().len(), 1);
    drop(state);
    let state = StateDir::open(&scratch.state()).unwrap();
    assert_eq!(state.remarks(), [], "it is said once");
}

#[test]
fn torn_and_foreign_lines_and_files_are_passed_over_and_said() {
    let scratch = Scratch::new();
    Holder::start(&scratch.state()).kill();
    let generations = scratch.state().join("generations");
    let append = |name: &str, text: &str| {
        let path = generations.join(name);
        let mut all = fs::read(&path).unwrap_or_default();
        all.extend_from_slice(text.as_bytes());
        fs::write(&path, all).unwrap();
        path
    };
    let torn = append("7", r#"{"members":[{"pid":1,"sta"#);
    let unknown = append("8", "{\"from-the-future\":{}}\n");
    let garbage = append("20", "\u{0}\u{1}\n");
    let empty = append("21", "");
    let moved = generations.join("22");
    fs::copy(generations.join("8"), &moved).unwrap();
    let named = append("not-a-number", "x");
    let fifo = generations.join("23");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let link = generations.join("24");
    symlink("7", &link).unwrap();
    fs::write(scratch.state().join("instance"), "{\"pid\":").unwrap();

    let state = StateDir::open(&scratch.state()).unwrap();
    assert_eq!(state.previous_instance(), None);
    assert!(
        matches!(state.remarks(), [Remark::File { path, .. }] if path.ends_with("instance")),
        "{:?}",
        state.remarks()
    );
    let (leftovers, remarks) = state.leftovers().unwrap();
    assert_eq!(
        leftovers,
        [
            Leftover {
                record: record(7, "web"),
                completion: Some(completion(700)),
                members: vec![],
            },
            Leftover {
                record: record(8, "db"),
                completion: None,
                members: vec![],
            },
        ]
    );
    let said = |path: &Path, line: Option<usize>| {
        let found = remarks.iter().any(|remark| match remark {
            Remark::Line {
                path: p, line: l, ..
            } => p == path && Some(*l) == line,
            Remark::File { path: p, .. } => p == path && line.is_none(),
            _ => false,
        });
        assert!(
            found,
            "nothing of {} {line:?} in {remarks:?}",
            path.display()
        );
    };
    said(&torn, Some(3));
    said(&unknown, Some(2));
    said(&garbage, Some(1));
    for whole in [&garbage, &empty, &moved, &named, &fifo, &link] {
        said(whole, None);
    }
    assert_eq!(
        state.next_generation_hint(),
        GenId(25),
        "an unreadable record's number is taken too"
    );
    state.remove_unreadable().unwrap();
    for number in ["20", "21", "22", "23", "24"] {
        assert!(!generations.join(number).exists(), "{number}");
    }
    assert!(generations.join("7").exists(), "not the link's target");
    assert!(generations.join("8").exists(), "what can be read stays");
}

#[test]
fn the_directory_is_ours_alone_or_refused() {
    let scratch = Scratch::new();
    let path = scratch.0.join("deep/er/state");
    let state = StateDir::open(&path).unwrap();
    state.begin(&record(1, "web")).unwrap();
    state.record_instance(&instance(&state)).unwrap();
    state.store_receipt("web", "{}").unwrap();
    drop(state);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o7777;
    for dir in ["", "generations", "receipts"] {
        assert_eq!(mode(path.join(dir)), 0o700, "{dir}");
    }
    for file in ["lock", "boot", "instance", "generations/1", "receipts/web"] {
        assert_eq!(mode(path.join(file)), 0o600, "{file}");
    }

    let refused = |path: &Path, why: &str| {
        let error = StateDir::open(path).unwrap_err();
        assert!(
            matches!(&error, StateError::Unsafe { why: w, .. } if w.contains(why)),
            "{error}"
        );
    };
    let link = scratch.0.join("link");
    symlink(&path, &link).unwrap();
    refused(&link, "symlink");
    let dangling = scratch.0.join("dangling");
    symlink(scratch.0.join("nowhere"), &dangling).unwrap();
    refused(&dangling, "symlink");
    let file = scratch.0.join("file");
    fs::write(&file, "").unwrap();
    refused(&file, "not a directory");
    for bits in [0o770, 0o702] {
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).unwrap();
        refused(&path, "others may write");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    fs::set_permissions(path.join("receipts"), fs::Permissions::from_mode(0o777)).unwrap();
    refused(&path, "others may write");
    fs::set_permissions(path.join("receipts"), fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
    refused(&path, "user 65534 owns it");
    std::os::unix::fs::chown(&path, Some(0), None).unwrap();
    StateDir::open(&path).unwrap();
}

#[test]
fn the_lock_file_and_the_others_are_not_followed_through_symlinks() {
    let scratch = Scratch::new();
    let state = StateDir::open(&scratch.state()).unwrap();
    let victim = scratch.0.join("victim");
    fs::write(&victim, "precious").unwrap();
    symlink(&victim, scratch.state().join("receipts/web")).unwrap();
    symlink(&victim, scratch.state().join("generations/5")).unwrap();
    symlink(&victim, scratch.state().join("instance.new")).unwrap();
    assert!(state.store_receipt("web", "{}").is_err());
    assert!(state.begin(&record(5, "web")).is_err());
    assert!(state.complete(GenId(5), completion(1)).is_err());
    let _ = state.record_instance(&instance(&state));
    drop(state);
    fs::remove_file(scratch.state().join("lock")).unwrap();
    symlink(&victim, scratch.state().join("lock")).unwrap();
    assert!(StateDir::open(&scratch.state()).is_err());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
}

#[test]
fn receipts_are_bounded_per_service_and_outlive_the_supervisor() {
    let scratch = Scratch::new();
    let path = scratch.state().join("receipts/chatty");
    for life in 0..3 {
        let state = StateDir::open(&scratch.state()).unwrap();
        if life == 0 {
            state.store_receipt("quiet", "{\"only\":1}").unwrap();
        }
        for n in 0..50 {
            let line = format!("{{\"n\":{}}}", life * 50 + n);
            state.store_receipt("chatty", &line).unwrap();
            let lines = fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= 2 * RECEIPTS_KEPT);
            assert_eq!(state.receipts("chatty", 1).unwrap(), [line]);
        }
        let kept = state.receipts("chatty", usize::MAX).unwrap();
        assert_eq!(kept.len(), RECEIPTS_KEPT);
        assert_eq!(kept[0], format!("{{\"n\":{}}}", life * 50 + 34));
        assert_eq!(state.receipts("quiet", 10).unwrap(), ["{\"only\":1}"]);
        assert!(state.receipts("unknown", 10).unwrap().is_empty());
        assert!(state.receipts("quiet", 0).unwrap().is_empty());
    }
    let state = StateDir::open(&scratch.state())
        .unwrap()
        .with_receipts_kept(2);
    state.store_receipt("chatty", "{}").unwrap();
    assert_eq!(state.receipts("chatty", 9).unwrap(), ["{\"n\":149}", "{}"]);
}

#[test]
fn the_newest_receipt_that_is_looked_for_is_found_behind_later_ones_and_beside_broken_files() {
    let scratch = Scratch::new();
    let state = StateDir::open(&scratch.state()).unwrap();
    for line in ["down 1", "down 2", "other", "other"] {
        state.store_receipt("web", line).unwrap();
    }
    state.store_receipt("db", "other").unwrap();
    fs::create_dir(scratch.state().join("receipts/broken")).unwrap();
    let down = |line: &str| line.strip_prefix("down ").map(str::to_owned);
    assert_eq!(state.newest_receipts(down).unwrap(), ["2"]);
    let nowhere = newest_receipts(&scratch.state().join("nowhere"), down);
    assert!(nowhere.unwrap().is_empty());
}

#[test]
fn large_receipts_are_bounded_in_bytes() {
    let scratch = Scratch::new();
    let state = StateDir::open(&scratch.state()).unwrap();
    let path = scratch.state().join("receipts/web");
    for size in [300_000, RECEIPT_MAX] {
        let line = "x".repeat(size);
        for _ in 0..12 {
            state.store_receipt("web", &line).unwrap();
            let bound = 2 * RECEIPTS_BYTES.max(size + 1);
            assert!(fs::metadata(&path).unwrap().size() as usize <= bound);
            assert_eq!(state.receipts("web", 1).unwrap(), [line.as_str()]);
        }
    }
    let error = state.store_receipt("web", &"x".repeat(RECEIPT_MAX + 1));
    assert!(matches!(error, Err(StateError::BadReceipt { .. })));
}

#[test]
fn a_torn_receipt_spoils_neither_its_neighbours_nor_its_successor() {
    let scratch = Scratch::new();
    let state = StateDir::open(&scratch.state()).unwrap();
    fs::write(scratch.state().join("receipts/web"), "{\"n\":1}\n{\"n\":").unwrap();
    assert_eq!(state.receipts("web", 5).unwrap(), ["{\"n\":1}"]);
    state.store_receipt("web", "{\"n\":3}").unwrap();
    assert_eq!(
        state.receipts("web", 5).unwrap(),
        ["{\"n\":1}", "{\"n\":3}"]
    );
    fs::write(scratch.state().join("receipts/db"), "{\"to").unwrap();
    state.store_receipt("db", "{}").unwrap();
    assert_eq!(state.receipts("db", 5).unwrap(), ["{}"]);
}

#[test]
fn names_and_receipts_that_fit_no_file_are_refused() {
    let scratch = Scratch::new();
    let state = StateDir::open(&scratch.state()).unwrap();
    for name in ["", ".", "..", "../x", "a/b", "a\\b", "a.b", "a\0b", "a\nb"] {
        for result in [
            state.store_receipt(name, "{}"),
            state.receipts(name, 1).map(drop),
            state.begin(&record(1, name)),
        ] {
            assert!(
                matches!(result, Err(StateError::BadName { .. })),
                "{name:?}"
            );
        }
    }
    for line in ["", "{\n}", "{}\n"] {
        let result = state.store_receipt("web", line);
        assert!(
            matches!(result, Err(StateError::BadReceipt { .. })),
            "{line:?}"
        );
    }
    assert!(state.store_receipt(&"x".repeat(300), "{}").is_err());
    assert_eq!(leftovers(&state), []);
}

/// Runs `test` on a thread that sees a file system of `kib` KiB at the path it is given; the
/// mount goes with the thread.
fn on_small_disk(kib: usize, test: impl FnOnce(&Path) + Send) {
    let scratch = Scratch::new();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none: Option<&str> = None;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let options = format!("size={kib}k");
            let target = scratch.0.as_path();
            mount(
                Some("tmpfs"),
                target,
                Some("tmpfs"),
                MsFlags::empty(),
                Some(options.as_str()),
            )
            .unwrap();
            test(target);
        });
        thread.join().unwrap();
    });
}

fn fill(disk: &Path) {
    let mut size = 1 << 20;
    while size > 0 {
        let name = disk.join(format!("filler{size}"));
        if fs::write(name, vec![0; size]).is_ok() {
            continue;
        }
        size /= 2;
    }
}

#[test]
fn a_full_disk_is_an_error_and_leaves_what_was_there() {
    on_small_disk(64, |disk| {
        let path = disk.join("state");
        let state = StateDir::open(&path).unwrap();
        state.begin(&record(1, "web")).unwrap();
        state.complete(GenId(1), completion(100)).unwrap();
        state.store_receipt("web", "{\"n\":1}").unwrap();
        fs::write(disk.join("filler"), vec![0; 40 * 1024]).unwrap();
        let members: Vec<Member> = (0..2000).map(|pid| Member { pid, start_time: 1 }).collect();
        let full = |result: Result<(), StateError>| {
            let error = result.unwrap_err();
            assert!(
                matches!(&error, StateError::Io { source, .. }
                    if source.kind() == std::io::ErrorKind::StorageFull),
                "{error:?}"
            );
            assert!(error.to_string().ends_with("(make room there)"), "{error}");
        };
        full(state.members(GenId(1), &members));
        full(state.store_receipt("web", &"x".repeat(32 * 1024)));
        fill(disk);
        full(state.begin(&record(2, "db")));
        full(state.record_instance(&instance(&state)));
        drop(state);

        // Not torn: what could not be written whole was taken back.
        let state = StateDir::open(&path).unwrap();
        let (leftovers, remarks) = state.leftovers().unwrap();
        assert_eq!(leftovers.len(), 1);
        assert_eq!(leftovers[0].completion, Some(completion(100)));
        assert_eq!(
            remarks,
            [Remark::File {
                path: path.join("generations/2"),
                why: "it holds no record of its generation".into(),
            }]
        );
        assert_eq!(state.receipts("web", 5).unwrap(), ["{\"n\":1}"]);
    });
}

#[test]
fn a_full_disk_keeps_no_supervisor_from_its_lock() {
    on_small_disk(64, |disk| {
        fill(disk);
        let state = StateDir::open(&disk.join("state")).unwrap();
        assert!(
            matches!(state.remarks(), [Remark::BootNotWritten { .. }]),
            "{:?}",
            state.remarks()
        );
        let again = StateDir::open(&disk.join("state")).unwrap_err();
        assert!(
            matches!(again, StateError::Busy { pid: None, .. }),
            "{again}"
        );
    });
}

#[test]
fn a_read_only_directory_is_an_error_that_says_what_to_do() {
    on_small_disk(64, |disk| {
        let path = disk.join("state");
        let state = StateDir::open(&path).unwrap();
        state.begin(&record(1, "web")).unwrap();
        let none: Option<&str> = None;
        // Over itself: the lock, open for writing, keeps its own mount from turning read-only.
        mount(Some(disk), disk, none, MsFlags::MS_BIND, none).unwrap();
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_BIND;
        mount(none, disk, none, read_only, none).unwrap();
        for error in [
            state.begin(&record(2, "db")).unwrap_err(),
            state.complete(GenId(1), completion(1)).unwrap_err(),
            state.remove(GenId(1)).unwrap_err(),
            state.store_receipt("web", "{}").unwrap_err(),
            state.record_instance(&instance(&state)).unwrap_err(),
        ] {
            assert!(
                error
                    .to_string()
                    .ends_with("(give a writable directory with --state-dir)"),
                "{error}"
            );
        }
        assert_eq!(leftovers(&state).len(), 1, "reading goes on");
        drop(state);
        assert!(StateDir::open(&path).is_err());
    });
}

#[test]
fn every_name_of_a_socket_leads_to_one_directory() {
    let scratch = Scratch::new();
    let real = scratch.0.join("real");
    fs::create_dir(&real).unwrap();
    symlink(&real, scratch.0.join("alias")).unwrap();
    let root = |socket: &Path| default_path(socket, 0, Some(OsStr::new("/ignored"))).unwrap();
    let path = root(&real.join("a.sock"));
    assert_eq!(path.parent(), Some(Path::new("/run/nought")));
    assert_eq!(path.file_name().unwrap().len(), 16);
    assert_eq!(root(&scratch.0.join("alias/a.sock")), path);
    assert_eq!(root(&scratch.0.join("alias/../real/./a.sock")), path);
    assert_ne!(root(&real.join("b.sock")), path);
    assert_eq!(
        root(Path::new("a.sock")),
        root(&std::env::current_dir().unwrap().join("a.sock"))
    );

    let user = |dir: Option<&str>| default_path(&real.join("a.sock"), 1000, dir.map(OsStr::new));
    assert_eq!(
        user(Some("/run/user/1000")).unwrap(),
        Path::new("/run/user/1000/nought").join(path.file_name().unwrap())
    );
    for unusable in [None, Some(""), Some("relative")] {
        assert!(matches!(user(unusable), Err(StateError::NoDefault)));
    }
    let error = default_path(&scratch.0.join("missing/a.sock"), 0, None).unwrap_err();
    assert!(matches!(error, StateError::Io { .. }), "{error}");
}

#[test]
fn a_number_is_given_once_although_no_record_is_left() {
    let scratch = Scratch::new();
    let state = StateDir::open(&scratch.state()).unwrap();
    state.begin(&record(41, "web")).unwrap();
    state.begin(&record(40, "web")).unwrap();
    state.remove(GenId(41)).unwrap();
    state.remove(GenId(40)).unwrap();
    drop(state);
    let state = StateDir::open(&scratch.state()).unwrap();
    assert_eq!(state.next_generation_hint(), GenId(42));
    drop(state);
    // What is no number is said, and harms nothing.
    fs::write(scratch.state().join("number"), "many").unwrap();
    let state = StateDir::open(&scratch.state()).unwrap();
    assert_eq!(state.next_generation_hint(), GenId(1));
    assert!(
        state.remarks()[0]
            .to_string()
            .contains("it holds no number")
    );
}
