//! One run: the core in its world, step by step, watched.

use crate::changes::{draw_changes, draw_demand};
use crate::core::{Event, GenId, Request, Supervisor, Time};
use crate::dice::Dice;
use crate::kernel::MS;
use crate::observer::Observer;
use crate::scenario::{End, Outside, Scenario, Size, draw_membership, draw_pod};
use crate::situations::Situations;
use crate::trace::{self, Trace};
use crate::world::{What, World};

/// A run that takes more steps than this goes nowhere.
const MOST_STEPS: u32 = 60_000;
/// How long after the faults healed everything has to be up (virtual time).
const PROGRESS: u64 = 600_000 * MS;

/// What a run was like.
#[derive(Debug, Default)]
pub struct Stats {
    pub steps: u32,
    pub starts: u32,
    pub verdicts: u32,
    pub situations: Situations,
}

pub struct Run {
    pub world: World,
    pub core: Supervisor,
    pub observer: Observer,
    end: End,
    kind: crate::core::ShutdownKind,
    shutdown_at: Option<u64>,
    steps: u32,
}

/// One run from a seed.
pub fn from_seed(seed: u64, size: Size, traced: bool) -> (Result<Stats, String>, Run) {
    let mut dice = Dice::seed(seed);
    let mut scenario = Scenario::draw(&mut dice, size);
    draw_membership(&mut scenario, &mut Dice::seed(!seed));
    draw_pod(&mut scenario, &mut Dice::seed(!seed ^ 1));
    draw_demand(&mut scenario, &mut Dice::seed(!seed ^ 2));
    draw_changes(&mut scenario, &mut Dice::seed(!seed ^ 3));
    let mut run = Run::new(&scenario, dice, traced);
    (run.finish(), run)
}

impl Run {
    pub fn new(scenario: &Scenario, dice: Dice, traced: bool) -> Self {
        let mut world = World::new(dice, scenario, Trace::new(traced));
        let observer = Observer::new(scenario);
        let now = Time::from_nanos(world.now);
        let mut core = Supervisor::new(scenario.settings.clone(), now);
        core.load(now, scenario.specs.clone(), scenario.leftovers.clone());
        for (at_ms, outside) in &scenario.outside {
            world.after(at_ms * MS, What::Outside(outside.clone()), None);
        }
        let end_at = scenario.end_at_ms * MS;
        match scenario.end {
            End::HealThenShutdown => {
                world.after(end_at, What::Heal, None);
                let delay = world.dice.between(0, 300) * MS;
                world.after(end_at + delay, What::Shutdown, None);
            }
            End::HealThenProgress => {
                let last = scenario.outside.iter().map(|(at, _)| *at).max();
                let heal = end_at.max(last.unwrap_or(0) * MS);
                world.after(heal, What::Heal, None);
            }
            End::Shutdown => {
                world.after(end_at, What::Shutdown, None);
            }
        }
        Self {
            world,
            core,
            observer,
            end: scenario.end,
            kind: scenario.kind,
            shutdown_at: None,
            steps: 0,
        }
    }

    /// Runs to Finish, or until something is wrong.
    pub fn finish(&mut self) -> Result<Stats, String> {
        self.observer.learn_ids(&self.core);
        self.take_effects()?;
        let faults = &self.world.faults;
        self.observer.slack =
            50 * MS * u64::from(faults.stale_now > 0) + MS * u64::from(faults.spurious_timeout > 0);
        self.observer.punctual =
            faults.late_timer == 0 && faults.clock_jump == 0 && faults.stale_now == 0;
        while !self.observer.finished {
            self.steps += 1;
            if self.steps > MOST_STEPS {
                return Err(format!("{MOST_STEPS} steps and no end"));
            }
            self.step()?;
        }
        Ok(Stats {
            steps: self.steps,
            starts: self.observer.starts,
            verdicts: self.observer.verdicts,
            situations: std::mem::take(&mut self.observer.situations),
        })
    }

    /// Runs until this moment of the world (ms).
    pub fn until(&mut self, at_ms: u64) -> Result<(), String> {
        self.observer.learn_ids(&self.core);
        self.take_effects()?;
        loop {
            let timeout = self.core.poll_timeout().map(Time::as_nanos);
            let next = timeout.into_iter().chain(self.world.next_at()).min();
            if next.is_none_or(|next| next > at_ms * MS) {
                return Ok(());
            }
            self.step()?;
        }
    }

    fn step(&mut self) -> Result<(), String> {
        self.disturb_clock()?;
        if self.observer.finished {
            return Ok(());
        }
        let timeout = self.core.poll_timeout().map(Time::as_nanos);
        let event = self.world.next_at();
        match (timeout, event) {
            (None, None) => return Err("nothing will ever happen again, without Finish".into()),
            (Some(timeout), None) => self.fire(timeout)?,
            (Some(timeout), Some(event)) if self.timer_first(timeout, event) => {
                self.fire(timeout)?;
            }
            (_, Some(_)) => {
                if let Some(what) = self.world.take() {
                    self.happen(what)?;
                }
            }
        }
        self.observer
            .check_rest(&self.core, &self.world.kernel, self.world.now)
    }

    fn disturb_clock(&mut self) -> Result<(), String> {
        let jump = self.world.faults.clock_jump;
        if jump > 0 && self.world.dice.chance(jump / 3) {
            let by = self.world.dice.between(1, 4_000) * 1_000 * MS;
            self.world.now += by;
            self.world.jumped = true;
            let now = self.world.now;
            self.world.trace.say(now, || "  the clock jumps".into());
        }
        let spurious = self.world.faults.spurious_timeout;
        if self.world.dice.chance(spurious) {
            let earlier = Time::from_nanos(self.world.now.saturating_sub(MS));
            self.core.handle_timeout(earlier);
            self.take_effects()?;
        }
        Ok(())
    }

    fn timer_first(&mut self, timeout: u64, event: u64) -> bool {
        if self.world.dice.scripted() {
            return timeout.max(self.world.now) < event;
        }
        let late = self.world.faults.late_timer;
        timeout.max(self.world.now) <= event.max(self.world.now)
            && !(late > 0 && self.world.dice.chance(late / 2))
    }

    fn fire(&mut self, timeout: u64) -> Result<(), String> {
        self.world.now = self.world.now.max(timeout);
        let now = self.world.now;
        self.world.trace.say(now, || "◄ timeout".into());
        self.core.handle_timeout(Time::from_nanos(now));
        let before = self.steps;
        self.take_effects()?;
        // Time does not stand still: a timer may not set itself for this very moment for ever.
        if self
            .core
            .poll_timeout()
            .is_some_and(|at| at.as_nanos() <= now)
        {
            return Err(format!("a timer is still due after step {before} fired it"));
        }
        Ok(())
    }

    fn happen(&mut self, what: What) -> Result<(), String> {
        match what {
            What::Deliver(event) => return self.deliver(event),
            What::Carry(effect) => {
                let now = self.world.now;
                self.world
                    .trace
                    .say(now, || format!("  carried out: {effect:?}"));
                self.world.carry(effect);
            }
            What::Process { pid, deed } => self.world.act(pid, deed),
            What::Exec(r#gen) => self.world.exec(r#gen),
            What::SayAlive(r#gen) => self.world.say_alive(r#gen),
            What::Connect { service, op } => self.world.connect(service, op),
            What::Hint(r#gen) => {
                let kernel = &mut self.world.kernel;
                let Some(found) = kernel.gens.get_mut(&r#gen) else {
                    return Ok(());
                };
                found.hint_pending = false;
                if found.released {
                    return Ok(());
                }
                let (main, whole) = kernel.reading(r#gen);
                return self.deliver(Event::Cgroup { r#gen, main, whole });
            }
            What::StaleHint { r#gen, main, whole } => {
                let released = self
                    .world
                    .kernel
                    .gens
                    .get(&r#gen)
                    .is_none_or(|g| g.released);
                if !released {
                    self.deliver(Event::Cgroup { r#gen, main, whole })?;
                    self.world.changed(r#gen);
                }
            }
            What::Outside(Outside::Terminate) => {
                self.world.dice.arm();
                return self.deliver(Event::Terminate);
            }
            What::Outside(Outside::Request(request)) => {
                self.world.dice.arm();
                return self.request(request);
            }
            What::Heal => {
                self.world.heal();
                let lingering: Vec<GenId> = self.observer.lingering().collect();
                self.world.let_go(&lingering);
                if self.end == End::HealThenProgress {
                    self.world.after(PROGRESS, What::CheckProgress, None);
                }
            }
            What::Shutdown => {
                self.world.dice.arm();
                self.shutdown_at = Some(self.world.now);
                return self.request(Request::Shutdown { kind: self.kind });
            }
            What::CheckProgress => {
                self.observer.check_progress(&self.core)?;
                let delay = MS;
                self.world.after(delay, What::Shutdown, None);
            }
        }
        Ok(())
    }

    pub fn request(&mut self, request: Request) -> Result<(), String> {
        let id = self.world.next_request();
        self.deliver(Event::Request { id, request })
    }

    pub fn deliver(&mut self, event: Event) -> Result<(), String> {
        let now = self.world.now;
        self.world.trace.say(now, || trace::event(&event));
        self.observer.on_event(now, &event);
        let stale = self.world.faults.stale_now;
        let told = if self.world.dice.chance(stale) {
            now.saturating_sub(self.world.dice.between(0, 50) * MS)
        } else {
            now
        };
        self.core.handle(Time::from_nanos(told), event);
        self.take_effects()
    }

    fn take_effects(&mut self) -> Result<(), String> {
        let now = self.world.now;
        while let Some(effect) = self.core.poll_effect() {
            self.world.trace.say(now, || trace::effect(&effect));
            self.observer
                .check(now, &self.core, &self.world.kernel, &effect)?;
            self.observer.note(now, &effect);
            let core = &self.core;
            let service = match &effect {
                crate::core::Effect::Spawn { service, .. } => core.spec(*service).cloned(),
                _ => None,
            };
            self.world.accept(effect, || service.unwrap());
        }
        if self.observer.finished {
            self.check_timeliness()?;
        }
        Ok(())
    }

    /// With faults healed, Finish does not wait for the deadline.
    fn check_timeliness(&self) -> Result<(), String> {
        let Some(began) = self.observer.shutdown_began else {
            return Ok(());
        };
        let took = self.world.now - began;
        let deadline = crate::observer::nanos(self.observer.deadline);
        let healed_first = self.shutdown_at == Some(began) && self.end != End::Shutdown;
        let timely =
            !healed_first || self.world.jumped || deadline < 20_000 * MS || took < deadline;
        if timely {
            Ok(())
        } else {
            Err("faults had healed and Finish came only at the deadline".into())
        }
    }
}
