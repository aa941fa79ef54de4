//! The world outside the core: what was asked of it happens later, or never, and what happened
//! is heard of later still.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::{Effect, Event, Exit, Failed, GenId, OpId, RequestId, ServiceId, Spec};
use crate::dice::Dice;
use crate::faults::Faults;
use crate::kernel::{Cgroup, Gen, KILLED, Kernel, MS, Mortality, Place, Process};
use crate::scenario::{Outside, Scenario};
use crate::trace::Trace;

/// Something that waits for its moment.
#[derive(Clone, Debug)]
pub enum What {
    /// The core hears of something.
    Deliver(Event),
    /// An effect reaches the kernel.
    Carry(Effect),
    /// A process does something.
    Process { pid: u32, deed: Deed },
    /// The program starts to run.
    Exec(GenId),
    /// It says that it is alive.
    SayAlive(GenId),
    /// Somebody connects to what listens by this operation.
    Connect { service: ServiceId, op: OpId },
    /// cgroup.events is read and the core is told.
    Hint(GenId),
    /// An old reading comes late.
    StaleHint {
        r#gen: GenId,
        main: bool,
        whole: bool,
    },
    /// A request or a signal arrives.
    Outside(Outside),
    /// All faults end.
    Heal,
    /// The run's own shutdown is asked for.
    Shutdown,
    /// Whatever can be up has to be up.
    CheckProgress,
}

#[derive(Clone, Copy, Debug)]
pub enum Deed {
    Exit(Exit),
    Fork {
        more: u8,
    },
    Escape,
    /// Is killed for want of memory.
    Starve,
}

/// Events of one channel arrive in the order in which they happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Channel {
    Main(GenId),
    Signals(GenId),
    Sockets(ServiceId),
}

pub struct World {
    pub dice: Dice,
    pub now: u64,
    pub faults: Faults,
    pub healed: bool,
    pub kernel: Kernel,
    pub trace: Trace,
    queue: BTreeMap<(u64, u32, u64), (What, Option<Channel>)>,
    sequence: u64,
    channels: BTreeMap<Channel, u64>,
    /// What hangs until the faults heal.
    held: Vec<(What, Option<Channel>)>,
    requests: u64,
    /// Auxiliary commands that were ended: they do not begin any more.
    pub ended_auxes: BTreeSet<OpId>,
    /// Who waits for somebody to connect, and by which operation.
    pub listening: BTreeMap<ServiceId, OpId>,
    /// Whether the clock ever jumped.
    pub jumped: bool,
}

impl World {
    pub fn new(dice: Dice, scenario: &Scenario, trace: Trace) -> Self {
        let mut world = Self {
            dice,
            now: 1_000_000 * MS,
            faults: scenario.faults.clone(),
            healed: false,
            kernel: Kernel::default(),
            trace,
            queue: BTreeMap::new(),
            sequence: 0,
            channels: BTreeMap::new(),
            held: Vec::new(),
            requests: 0,
            ended_auxes: BTreeSet::new(),
            listening: BTreeMap::new(),
            jumped: false,
        };
        for leftover in &scenario.leftovers {
            world.leave(leftover.r#gen, &leftover.spec);
        }
        world
    }

    fn leave(&mut self, r#gen: GenId, spec: &Spec) {
        let mut made = Gen::new(spec.clone(), true);
        made.cgroup = Cgroup::Exists;
        self.kernel.gens.insert(r#gen, made);
        for _ in 0..self.dice.between(0, 3) {
            let process = self.process(r#gen, Place::Main);
            self.kernel.add(process);
        }
        let rate = self.faults.escapes;
        if self.dice.chance(rate) {
            let process = self.process(r#gen, Place::Outside);
            self.kernel.add(process);
        }
        self.changed(r#gen);
    }

    // ---- what waits ---------------------------------------------------------------------

    /// Something happens after `delay`; returns when.
    pub fn after(&mut self, delay: u64, what: What, channel: Option<Channel>) -> u64 {
        let mut at = self.now.saturating_add(delay);
        if let Some(channel) = channel {
            let last = self.channels.entry(channel).or_insert(0);
            if !self.dice.scripted() {
                at = at.max(*last + 1);
            }
            *last = at;
        }
        let tie = self.dice.tie();
        self.sequence += 1;
        self.queue.insert((at, tie, self.sequence), (what, channel));
        at
    }

    /// When the next thing happens.
    pub fn next_at(&self) -> Option<u64> {
        self.queue.first_key_value().map(|((at, _, _), _)| *at)
    }

    /// Takes what happens next: the first, or in a script any of the same moment.
    pub fn take(&mut self) -> Option<What> {
        if !self.dice.scripted() {
            let ((at, _, _), (what, _)) = self.queue.pop_first()?;
            self.now = self.now.max(at);
            return Some(what);
        }
        let options = self.options();
        let choice = self.dice.order(u32::try_from(options.len()).unwrap());
        let key = *options.get(choice as usize)?;
        self.now = self.now.max(key.0);
        self.queue.remove(&key).map(|(what, _)| what)
    }

    /// What may happen next in a script.
    fn options(&self) -> Vec<(u64, u32, u64)> {
        let Some(first) = self.next_at() else {
            return Vec::new();
        };
        let until = first.max(self.now);
        let mut seen: Vec<Channel> = Vec::new();
        let mut options = Vec::new();
        for (key, (_, channel)) in &self.queue {
            if key.0 > until {
                break;
            }
            if let Some(channel) = channel {
                if seen.contains(channel) {
                    continue;
                }
                seen.push(*channel);
            }
            options.push(*key);
        }
        options
    }

    /// How long an effect takes to reach the kernel, or an event the core.
    pub fn latency(&mut self) -> u64 {
        let slow = self.faults.slow_event;
        if self.dice.scripted() {
            0
        } else if self.dice.chance(slow) {
            self.dice.between(5, 3_000) * MS
        } else {
            self.dice.between(0, 2_000) * 1_000
        }
    }

    /// The core will hear of it; now and then twice.
    pub fn tell(&mut self, event: Event, channel: Option<Channel>) {
        let delay = self.latency();
        let twice = self.faults.duplicated;
        let again = self.dice.chance(twice).then(|| event.clone());
        let at = self.after(delay, What::Deliver(event), channel);
        if let Some(event) = again {
            let later = at - self.now + self.latency() + MS;
            self.after(later, What::Deliver(event), None);
        }
    }

    /// The completion of an operation, which may take its time or hang.
    pub fn complete(&mut self, event: Event) {
        let (hangs, slow) = (self.faults.op_hangs, self.faults.op_slow);
        if self.dice.chance(hangs) {
            self.hold(What::Deliver(event), None);
        } else if self.dice.chance(slow) {
            let delay = self.dice.between(20, 8_000) * MS;
            self.after(delay, What::Deliver(event), None);
        } else {
            self.tell(event, None);
        }
    }

    pub fn hold(&mut self, what: What, channel: Option<Channel>) {
        let now = self.now;
        self.trace.say(now, || format!("  hangs: {what:?}"));
        if self.healed {
            self.after(0, what, channel);
        } else {
            self.held.push((what, channel));
        }
    }

    pub fn next_request(&mut self) -> RequestId {
        self.requests += 1;
        RequestId(self.requests)
    }

    // ---- processes ----------------------------------------------------------------------

    /// A process with everything that may be wrong with it.
    pub fn process(&mut self, r#gen: GenId, place: Place) -> Process {
        let faults = self.faults.clone();
        let keeps = |found: &Gen| !found.leftover && !found.spec.keep.is_empty();
        let keeps = self.kernel.gens.get(&r#gen).is_some_and(keeps);
        let dice = &mut self.dice;
        Process {
            kept: keeps && place == Place::Main && dice.chance(400),
            r#gen,
            place,
            main: false,
            aux: None,
            obeys: if dice.chance(faults.ignores_signal) {
                None
            } else if dice.chance(faults.slow_to_obey) {
                Some(dice.between(5, 3_000) * MS)
            } else {
                Some(dice.between(0, 5) * MS)
            },
            mortality: if dice.chance(faults.unkillable) {
                Mortality::Never
            } else if dice.chance(faults.slow_to_die) {
                Mortality::After(dice.between(1, 800) * MS)
            } else {
                Mortality::AtOnce
            },
            killed: false,
            in_group: !dice.chance(300),
            follows: !dice.chance(faults.leaves_children),
            relays: match dice.chance(faults.relays) {
                true if !dice.scripted() && dice.chance(300) => 6,
                true => 2,
                false => 0,
            },
            returns: dice.chance(faults.returns),
            watched: false,
            foreign: false,
            disguised: false,
        }
    }

    /// The generation's readings may have changed: the core will hear, once for several changes.
    pub fn changed(&mut self, r#gen: GenId) {
        let stale = self.faults.stale_hint;
        if self.dice.chance(stale) {
            let (main, whole) = self.kernel.reading(r#gen);
            let delay = self.latency() * 2;
            self.after(delay, What::StaleHint { r#gen, main, whole }, None);
        }
        let Some(found) = self.kernel.gens.get_mut(&r#gen) else {
            return;
        };
        if found.hint_pending || found.cgroup != Cgroup::Exists || found.released {
            return;
        }
        found.hint_pending = true;
        let slow = self.faults.slow_hint;
        let delay = if self.dice.scripted() {
            0
        } else if self.dice.chance(slow) {
            self.dice.between(10, 2_000) * MS
        } else {
            self.latency()
        };
        self.after(delay, What::Hint(r#gen), None);
    }

    pub fn kill(&mut self, pid: u32) {
        let Some(process) = self.kernel.processes.get_mut(&pid) else {
            return;
        };
        let first = !std::mem::replace(&mut process.killed, true);
        match process.mortality {
            Mortality::AtOnce => self.die(pid, KILLED),
            Mortality::After(delay) if first => {
                let deed = Deed::Exit(KILLED);
                self.after(delay, What::Process { pid, deed }, None);
            }
            Mortality::After(_) | Mortality::Never => {}
        }
    }

    pub fn die(&mut self, pid: u32, exit: Exit) {
        let Some(death) = self.kernel.end(pid) else {
            return;
        };
        let now = self.now;
        self.trace
            .say(now, || format!("  process {pid} ends: {exit}"));
        let process = death.process;
        let r#gen = process.r#gen;
        let leftover = self.kernel.gens.get(&r#gen).is_some_and(|g| g.leftover);
        if process.main && !leftover {
            self.tell_account(r#gen);
            let event = Event::MainExited { r#gen, exit };
            self.tell(event, Some(Channel::Main(r#gen)));
        }
        if let Some((aux, true)) = process.aux {
            self.tell(Event::AuxExited { r#gen, aux, exit }, None);
        }
        if process.watched {
            self.tell(Event::SurvivorGone { r#gen }, None);
        }
        for follower in death.followers {
            let delay = self.dice.between(0, 20) * MS;
            let deed = Deed::Exit(Exit::Code(0));
            let pid = follower;
            self.after(delay, What::Process { pid, deed }, None);
        }
        if process.place != Place::Outside {
            self.changed(r#gen);
        }
    }

    /// Whoever hears of an end heard of those killed for want of memory before.
    pub fn tell_account(&mut self, r#gen: GenId) {
        let found = self.kernel.gens.get(&r#gen);
        let kills = found.map_or(0, |found| found.oom_kills);
        if kills > 0 {
            let event = Event::OutOfMemory { r#gen, kills };
            self.tell(event, Some(Channel::Main(r#gen)));
        }
    }

    /// A process does something, if it still lives.
    pub fn act(&mut self, pid: u32, deed: Deed) {
        let Some(process) = self.kernel.processes.get(&pid) else {
            return;
        };
        let (r#gen, place, kept) = (process.r#gen, process.place, process.kept);
        let stuck = process.mortality == Mortality::Never && process.killed;
        match deed {
            // What SIGKILL is pending for does nothing any more.
            _ if stuck => {}
            Deed::Fork { .. } | Deed::Escape | Deed::Starve if process.killed => {}
            // Its memory is another cgroup's, or none that counts.
            Deed::Starve if place == Place::Outside => {}
            Deed::Exit(exit) => self.die(pid, exit),
            Deed::Fork { more } => {
                let mut child = self.process(r#gen, place);
                child.kept |= kept;
                let child = self.kernel.add(child);
                self.trace
                    .say(self.now, || format!("  process {pid} forks {child}"));
                if more > 0 {
                    let delay = self.dice.between(1, 500) * MS;
                    let deed = Deed::Fork { more: more - 1 };
                    self.after(delay, What::Process { pid: child, deed }, None);
                }
            }
            Deed::Starve => {
                self.trace.say(self.now, || {
                    format!("  process {pid} takes too much memory")
                });
                if let Some(found) = self.kernel.gens.get_mut(&r#gen) {
                    found.oom_kills += 1;
                }
                self.kill(pid);
            }
            Deed::Escape => {
                let disguises = self.faults.disguises;
                let disguised = disguises > 0 && self.dice.chance(disguises);
                self.trace
                    .say(self.now, || format!("  process {pid} escapes"));
                if let Some(process) = self.kernel.processes.get_mut(&pid) {
                    process.place = Place::Outside;
                    process.disguised = disguised && !process.main;
                }
                self.changed(r#gen);
            }
        }
    }

    /// What kept the processes of these generations alive ends.
    pub fn let_go(&mut self, gens: &[GenId]) {
        let pids: Vec<u32> = gens
            .iter()
            .flat_map(|r#gen| self.kernel.of(*r#gen).map(|(pid, _)| pid))
            .collect();
        for pid in pids {
            let delay = self.dice.between(1, 20) * MS;
            let deed = Deed::Exit(KILLED);
            self.after(delay, What::Process { pid, deed }, None);
        }
    }

    /// Nothing goes wrong any more, and what hung goes on.
    pub fn heal(&mut self) {
        self.trace.say(self.now, || "  faults heal".into());
        self.healed = true;
        self.faults = Faults::none();
        let mut ends = Vec::new();
        for (pid, process) in &mut self.kernel.processes {
            process.mortality = Mortality::AtOnce;
            process.relays = 0;
            process.returns = false;
            process.disguised = false;
            if process.killed {
                ends.push(*pid);
            }
        }
        for pid in ends {
            let deed = Deed::Exit(KILLED);
            self.after(MS, What::Process { pid, deed }, None);
        }
        for (what, channel) in std::mem::take(&mut self.held) {
            let delay = self.dice.between(0, 50) * MS;
            self.after(delay, what, channel);
        }
    }
}

pub fn failed(doing: &str) -> Failed {
    Failed {
        doing: doing.into(),
        what: "the simulated thing".into(),
        errno: 5,
        why: "Input/output error".into(),
    }
}
