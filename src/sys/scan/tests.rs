//! Passes over a /proc that changes under every read: seeds decide what happens between any two of
//! them. Processes fork, end, are reaped; their numbers are given out again, to strangers most of
//! all. The world knows whose each is, and every signal is held against that.
//!
//! A number is never given out twice in one tick, since a process's name is its number and the
//! tick it started in (docs/guarantees.md says what follows where somebody sets numbers himself).

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use nix::errno::Errno;

use super::*;

/// A mistake that somebody could make here; the seeds have to find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sys) enum Bug {
    /// A number is a process: nobody looks whose it is by now.
    NumberIsProcess,
    /// A process is looked at before the handle is opened.
    LookedBeforeHandle,
    /// Whoever names the parent's number is its child, whosever the number is.
    ChildrenOfNumber,
    /// A pass proves something whoever was born meanwhile.
    BirthsIgnored,
    /// Whoever is in a session with the main process's number is in its session.
    SessionOfNumber,
}

const OURS: u32 = 2;
const MARK: u64 = 7;
const OTHER_MARK: u64 = 8;
const OWN_MARK: u64 = 1;
const MARKER: &str = "NOUGHT_TEST=target";
/// As few as the kernel goes (RESERVED_PIDS): those of a pass are not all given out in it.
const NUMBERS: u32 = 300;
const SEEDS: u64 = 2_000;

thread_local! {
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether this bug is planted.
pub(in crate::sys) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Asks the world of this thread, if there is one, after something may have happened in it.
fn ask<T>(question: impl FnOnce(&mut World) -> T) -> Option<T> {
    WORLD.with_borrow_mut(|world| {
        let world = world.as_mut()?;
        world.live();
        Some(question(world))
    })
}

/// A file or link below /proc.
pub(in crate::sys) fn read(path: &str) -> Option<Result<Vec<u8>, Errno>> {
    ask(|world| {
        let text = world.read(path);
        let _ = writeln!(world.trace, "  {path}");
        text.ok_or(Errno::ENOENT)
    })
}

/// The numbers in a directory below /proc.
pub(in crate::sys) fn list(path: &str) -> Option<Result<Vec<u32>, Errno>> {
    ask(|world| match path.split_once('/') {
        None => Ok(world.tasks.keys().copied().collect()),
        Some((pid, _)) => world.task(pid).map(|pid| vec![pid]).ok_or(Errno::ENOENT),
    })
}

/// A handle on whoever has the number: what is never given out again.
pub(in crate::sys) fn open(pid: u32) -> Option<Option<u64>> {
    ask(|world| {
        world.asked = pid;
        world.tasks.get(&pid).map(|task| task.key)
    })
}

/// A signal through a handle; `false`: it has ended and is reaped.
pub(in crate::sys) fn send(key: u64, signal: i32) -> Option<bool> {
    ask(|world| world.signal(key, signal))
}

/// Whether what the handle is on has ended.
pub(in crate::sys) fn is_gone(key: u64) -> Option<bool> {
    ask(|world| {
        world
            .number_of(key)
            .is_none_or(|pid| world.tasks[&pid].dead)
    })
}

/// The time in ticks.
pub(in crate::sys) fn now() -> Option<u64> {
    ask(|world| world.tick)
}

/// Whether there are threads of the kernel among the strangers.
pub(in crate::sys) fn sees_kernel_threads() -> Option<bool> {
    ask(|_| true)
}

/// The process group of whoever has the number: the kernel's threads have none.
pub(in crate::sys) fn group(pid: u32) -> Option<Option<u32>> {
    ask(|world| {
        let task = world.tasks.get(&pid)?;
        Some(if task.of_kernel { 0 } else { task.session })
    })
}

/// What is in the environment of whoever has the number.
pub(in crate::sys) fn environment(pid: u32, key: &str) -> Option<Option<String>> {
    ask(|world| {
        let task = world.tasks.get(&pid).filter(|task| !task.dead)?;
        let (name, value) = task.environment.split_once('=')?;
        (name == key).then(|| value.to_owned())
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Target,
    Other,
    Stranger,
}

#[derive(Clone, Debug)]
struct Task {
    key: u64,
    owner: Owner,
    start: u64,
    parent: u32,
    session: u32,
    mark: u64,
    environment: &'static str,
    cgroup: &'static str,
    stopped: bool,
    dead: bool,
    /// In no process group, and its children in none.
    of_kernel: bool,
}

#[derive(Debug)]
struct World {
    seed: u64,
    tick: u64,
    last: u32,
    keys: u64,
    /// How likely something happens before a read, per mille.
    busy: u64,
    tasks: BTreeMap<u32, Task>,
    /// When a number's last owner had started.
    started: BTreeMap<u32, u64>,
    /// When the service's and the other's main processes were reaped, by their keys.
    reaped: BTreeMap<u64, u64>,
    /// The number that was free last.
    freed: u32,
    /// Whom something was asked about last.
    asked: u32,
    /// How many numbers others may still use up in this pass: never all that there are.
    spare: u32,
    /// What must not have happened.
    broken: Vec<String>,
    trace: String,
}

impl World {
    fn new(seed: u64, marked: bool) -> Self {
        let mut world = Self {
            seed: seed.wrapping_mul(0x2545_F491_4F6C_DD1D) ^ 0x1234_5678_9ABC,
            tick: 100,
            last: 2,
            keys: 0,
            busy: 0,
            tasks: BTreeMap::new(),
            started: BTreeMap::new(),
            reaped: BTreeMap::new(),
            freed: 0,
            asked: 0,
            spare: 0,
            broken: Vec::new(),
            trace: String::new(),
        };
        for pid in [1, OURS] {
            world.add(pid, 0, Owner::Stranger, OWN_MARK);
        }
        let of = |mark| if marked { mark } else { OWN_MARK };
        let target = world.born(OURS, Owner::Target, of(MARK));
        let other = world.born(OURS, Owner::Other, of(OTHER_MARK));
        for (pid, environment, cgroup) in [
            (target, MARKER, "/nought/web/1"),
            (other, "NOUGHT_TEST=other", "/nought/db/2"),
        ] {
            let task = world.tasks.get_mut(&pid).unwrap();
            (task.environment, task.cgroup) = (environment, cgroup);
            task.session = pid;
        }
        world
    }

    /// From 0 up to, and without, `bound` (SplitMix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn pick(&mut self, which: impl Fn(u32, &Task) -> bool) -> Option<u32> {
        let all: Vec<u32> = self
            .tasks
            .iter()
            .filter(|(p, t)| which(**p, t))
            .map(|(p, _)| *p)
            .collect();
        let n = self.below(u64::try_from(all.len().max(1)).unwrap());
        all.get(usize::try_from(n).unwrap()).copied()
    }

    fn add(&mut self, pid: u32, parent: u32, owner: Owner, mark: u64) {
        self.keys += 1;
        self.tick += self.below(2);
        if self
            .started
            .get(&pid)
            .is_some_and(|before| *before >= self.tick)
        {
            self.tick += 1;
        }
        self.started.insert(pid, self.tick);
        let task = Task {
            key: self.keys,
            owner,
            start: self.tick,
            parent,
            session: pid,
            mark,
            environment: "",
            cgroup: "/",
            stopped: false,
            dead: false,
            of_kernel: false,
        };
        let _ = writeln!(
            self.trace,
            "{pid} is born of {parent}: {owner:?}, tick {}",
            self.tick
        );
        self.tasks.insert(pid, task);
    }

    /// A child with the next number that is free. Nobody gets a living session's number.
    fn born(&mut self, parent: u32, owner: Owner, mark: u64) -> u32 {
        loop {
            self.last = if self.last >= NUMBERS {
                3
            } else {
                self.last + 1
            };
            let pid = self.last;
            let used = |(other, task): (&u32, &Task)| *other == pid || task.session == pid;
            if !self.tasks.iter().any(used) {
                self.add(pid, parent, owner, mark);
                return pid;
            }
        }
    }

    /// Perhaps something happens.
    fn live(&mut self) {
        while self.below(1000) < self.busy {
            match self.below(11) {
                8..=9 => self.usurp(),
                10 => self.relay(),
                0..=2 => self.fork(),
                3..=4 => {
                    if let Some(pid) = self.pick(|pid, task| pid > OURS && !task.dead) {
                        self.end(pid, "ends");
                    }
                }
                5 => self.reap(),
                6 => self.stranger(),
                _ => self.tick += 1,
            }
        }
    }

    /// Somebody of the target forks and ends at once.
    fn relay(&mut self) {
        let can = |_: u32, task: &Task| task.owner == Owner::Target && !task.dead && !task.stopped;
        if let Some(pid) = self.pick(can) {
            self.fork_of(pid);
            self.end(pid, "ends");
        }
    }

    /// Whoever was asked about last ends, and a stranger has the number at once, and a child.
    fn usurp(&mut self) {
        let pid = self.asked;
        if pid > OURS && self.tasks.contains_key(&pid) {
            self.end(pid, "ends under our eyes");
            self.remove(pid);
            self.stranger();
            if self
                .tasks
                .get(&pid)
                .is_some_and(|task| task.owner == Owner::Stranger)
            {
                self.fork_of(pid);
            }
        }
    }

    fn fork(&mut self) {
        let can = |pid: u32, task: &Task| pid > OURS && !task.dead && !task.stopped;
        if self.tasks.len() > 14 {
            return self.reap();
        }
        if let Some(pid) = self.pick(can) {
            self.fork_of(pid);
        }
    }

    fn fork_of(&mut self, pid: u32) {
        let parent = self.tasks[&pid].clone();
        let child = self.born(pid, parent.owner, parent.mark);
        let alone = self.below(3) == 0;
        let away = self.below(3) == 0;
        let task = self.tasks.get_mut(&child).unwrap();
        task.session = if alone { child } else { parent.session };
        task.environment = parent.environment;
        task.cgroup = if away { "/" } else { parent.cgroup };
        task.of_kernel = parent.of_kernel;
    }

    /// Somebody of nobody's that we know comes: of process 1, or of another stranger.
    fn stranger(&mut self) {
        if self.tasks.len() > 14 {
            return self.reap();
        }
        let is =
            |pid: u32, t: &Task| pid == 1 || (pid > OURS && t.owner == Owner::Stranger && !t.dead);
        let parent = self.pick(is).unwrap_or(1);
        // Others use up the numbers up to the one that is free since a moment.
        let away = (self.freed + NUMBERS - self.last) % NUMBERS;
        if self.freed > OURS && (2..self.spare).contains(&away) && self.below(2) == 0 {
            self.spare -= away;
            self.last = self.freed - 1;
        }
        let child = self.born(parent, Owner::Stranger, OWN_MARK);
        let kind = self.below(3);
        match (kind, self.tasks.get_mut(&child).unwrap()) {
            // One that looks like the target, and is not below us.
            (0, task) => task.environment = MARKER,
            (1, task) => task.of_kernel = true,
            _ => {}
        }
    }

    fn is_below_us(&self, pid: u32) -> bool {
        let mut at = pid;
        while at > OURS {
            at = self.tasks.get(&at).map_or(0, |task| task.parent);
        }
        at == OURS
    }

    fn end(&mut self, pid: u32, how: &str) {
        let heir = if self.is_below_us(pid) { OURS } else { 1 };
        let _ = writeln!(self.trace, "{pid} {how}");
        if let Some(task) = self.tasks.get_mut(&pid) {
            task.dead = true;
        }
        for task in self.tasks.values_mut().filter(|task| task.parent == pid) {
            task.parent = heir;
        }
        if self.below(3) > 0 {
            self.remove(pid);
        }
    }

    fn reap(&mut self) {
        if let Some(pid) = self.pick(|_, task| task.dead) {
            self.remove(pid);
        }
    }

    fn remove(&mut self, pid: u32) {
        if let Some(task) = self.tasks.remove(&pid) {
            self.reaped.insert(task.key, self.tick);
            self.freed = pid;
        }
    }

    fn number_of(&self, key: u64) -> Option<u32> {
        let found = self.tasks.iter().find(|(_, task)| task.key == key);
        found.map(|(pid, _)| *pid)
    }

    fn signal(&mut self, key: u64, signal: i32) -> bool {
        let Some(pid) = self.number_of(key) else {
            return false;
        };
        let task = self.tasks.get_mut(&pid).unwrap();
        if task.dead {
            return true;
        }
        task.stopped |= signal == libc::SIGSTOP;
        if task.owner != Owner::Target {
            let what = format!("signal {signal} reaches {pid}: {task:?}");
            self.broken.push(what);
        }
        if signal == libc::SIGKILL {
            self.end(pid, "is killed");
        }
        true
    }

    fn task(&self, pid: &str) -> Option<u32> {
        pid.parse().ok().filter(|pid| self.tasks.contains_key(pid))
    }

    fn read(&mut self, path: &str) -> Option<Vec<u8>> {
        if path == "loadavg" {
            return Some(format!("0 0 0 1/1 {}\n", self.last).into());
        }
        let (pid, file) = path.split_once('/')?;
        let pid = self.task(pid)?;
        self.asked = pid;
        let task = &self.tasks[&pid];
        let text = match file {
            "stat" => {
                let state = if task.dead { 'Z' } else { 'S' };
                let (parent, session, start) = (task.parent, task.session, task.start);
                let zeros = "0 ".repeat(10);
                format!("{pid} (x) {state} {parent} {session} {session} 0 0 0 {zeros}1 0 {start}\n")
            }
            // Nobody has namespaces once he is dead.
            "ns/time" if !task.dead => format!("time:[{}]", task.mark),
            "ns/pid" if !task.dead => {
                format!("pid:[{}]", crate::sys::procfs::pid_namespace().ok()?)
            }
            "cgroup" => format!("0::{}\n", task.cgroup),
            _ if file.ends_with("/children") => {
                let children = self.tasks.iter().filter(|(_, task)| task.parent == pid);
                children.fold(String::new(), |text, (child, _)| format!("{text}{child} "))
            }
            _ => return None,
        };
        Some(text.into())
    }

    /// Whether somebody of the target lives.
    fn lives(&self) -> bool {
        let mut tasks = self.tasks.values();
        tasks.any(|task| task.owner == Owner::Target && !task.dead)
    }
}

fn with_world<T>(with: impl FnOnce(&mut World) -> T) -> T {
    WORLD.with_borrow_mut(|world| with(world.as_mut().unwrap()))
}

/// A child of ours and its key, whatever became of it.
#[derive(Clone, Copy)]
struct Child {
    id: ProcId,
    key: u64,
}

impl Child {
    /// When it was reaped, if it was.
    fn reaped(self) -> Option<u64> {
        with_world(|world| world.reaped.get(&self.key).copied())
    }
}

/// What the driver knows of the target.
fn target(marked: bool, main: Child, recorded: &BTreeSet<ProcId>) -> ScanTarget {
    ScanTarget {
        cgroup_path: Some("/nought/web/1".into()),
        mark: marked.then_some(MARK),
        mark_held: true,
        recorded: recorded.clone(),
        main: Some(main.id),
        main_reaped: main.reaped(),
        env_marker: Some(("NOUGHT_TEST".into(), "target".into())),
        ..ScanTarget::default()
    }
}

/// What it knows of everybody else; `other` is on its list of children until it reaps that.
fn context(marked: bool, other: Child) -> ScanContext {
    let known = other.reaped().is_none().then_some(other.id.pid);
    ScanContext {
        own_pid: OURS,
        own_mark: Some(OWN_MARK),
        generations: [
            ("/nought/web/1".to_owned(), marked.then_some(MARK)),
            ("/nought/db/2".to_owned(), marked.then_some(OTHER_MARK)),
        ]
        .into(),
        known_marks: marked.then_some(OTHER_MARK).into_iter().collect(),
        known_children: known.into_iter().collect(),
        orphans: Orphans::Ours,
        orphan_reaper: None,
        death_wait: Duration::ZERO,
    }
}

/// A world in which the service has run for a while, its and the other's main process, and who of
/// it was seen.
fn grown(seed: u64, marked: bool) -> (World, Child, Child, BTreeSet<ProcId>) {
    let mut world = World::new(seed, marked);
    let id = |pid: u32, task: &Task| ProcId {
        pid,
        start_time: task.start,
    };
    let main_of = |world: &World, owner| {
        let (&pid, task) = world.tasks.iter().find(|(_, t)| t.owner == owner).unwrap();
        Child {
            id: id(pid, task),
            key: task.key,
        }
    };
    let main = main_of(&world, Owner::Target);
    let other = main_of(&world, Owner::Other);
    world.busy = 900;
    let mut recorded = BTreeSet::new();
    for _ in 0..world.below(12) {
        // Others fork as much in between as brings the numbers here again.
        let near = u32::try_from(world.below(12)).unwrap();
        if world.below(3) == 0 {
            world.last = 2 + near;
        }
        world.live();
        let members = world.tasks.iter().filter(|(_, t)| t.owner == Owner::Target);
        recorded.extend(members.map(|(&pid, task)| id(pid, task)));
    }
    (world, main, other, recorded)
}

/// One seed: a service runs for a while, is looked for while everything goes on, and at last in
/// peace. `Err`: what was wrong.
fn run(seed: u64) -> Result<Seen, String> {
    let marked = seed.is_multiple_of(2);
    let (mut world, main, other, recorded) = grown(seed, marked);
    world.busy = [10, 100, 300, 500][usize::try_from(seed / 2 % 4).unwrap()];
    WORLD.set(Some(world));
    let mut seen = Seen::default();
    for pass in 0..12 {
        if pass == 6 {
            with_world(|world| world.busy = 0);
        }
        with_world(|world| world.spare = NUMBERS / 2);
        let known = other.reaped().is_none();
        let mut result = scan_pass(&target(marked, main, &recorded), &context(marked, other));
        // As the driver does: somebody may have the number of whom the pass passed over.
        if known && other.reaped().is_some() {
            result.conclusive &= with_world(|world| !world.tasks.contains_key(&other.id.pid));
        }
        seen.add(&result);
        let (broken, lives) = with_world(|world| (world.broken.clone(), world.lives()));
        let what = if !broken.is_empty() {
            "a stranger is signalled"
        } else if result.conclusive && lives {
            "proven, and somebody lives"
        } else if pass == 11 && lives {
            "somebody lives on"
        } else {
            continue;
        };
        let trace = with_world(|world| world.trace.clone());
        return Err(format!(
            "seed {seed}: {what}\n{broken:#?}\n{result:#?}\n{trace}"
        ));
    }
    Ok(seen)
}

/// What came to pass in a run.
#[derive(Debug, Default)]
struct Seen {
    conclusive: usize,
    escaped: usize,
    foreign: usize,
    doubtful: usize,
}

impl Seen {
    fn add(&mut self, result: &PassResult) {
        self.conclusive += usize::from(result.conclusive);
        self.escaped += result.escaped.len();
        self.foreign += result.foreign.len();
        self.doubtful += usize::from(result.doubtful);
    }
}

fn found(bug: Option<Bug>, seeds: u64) -> Result<Seen, String> {
    PLANTED.set(bug);
    let mut all = Seen::default();
    let result = (0..seeds).try_for_each(|seed| {
        let seen = run(seed)?;
        all.conclusive += seen.conclusive;
        all.escaped += seen.escaped;
        all.foreign += seen.foreign;
        all.doubtful += seen.doubtful;
        Ok(())
    });
    WORLD.set(None);
    PLANTED.set(None);
    result.map(|()| all)
}

#[test]
fn no_number_that_is_given_out_again_brings_a_signal_to_a_stranger() {
    let seen = found(None, SEEDS).unwrap();
    // What the world is built for does occur.
    let counts = [seen.conclusive, seen.escaped, seen.foreign, seen.doubtful];
    assert!(counts.iter().all(|count| *count > 100), "{seen:?}");
}

#[test]
fn every_mistake_with_numbers_is_found() {
    for bug in [
        Bug::NumberIsProcess,
        Bug::LookedBeforeHandle,
        Bug::ChildrenOfNumber,
        Bug::BirthsIgnored,
        Bug::SessionOfNumber,
    ] {
        let said = found(Some(bug), 10 * SEEDS).expect_err(&format!("{bug:?} is not found"));
        println!("{bug:?}: {}", said.lines().next().unwrap_or_default());
    }
}
