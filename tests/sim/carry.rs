//! Effects, carried out: what the driver and the kernel make of each.

use crate::core::{
    AuxKind, Containment, Effect, Event, Exit, Fence, Foreigner, GenId, KillReport, OpId, Reach,
    ScanQuality, ScanReport, Signal, Survivor, SweepReport, Test, To, Told,
};
use crate::kernel::{Cgroup, Gen, KILLED, MS, Mortality, Place, described};
use crate::world::{Channel, Deed, What, World, failed};

impl World {
    /// An effect was taken from the core: it reaches the kernel in a while.
    pub fn accept(&mut self, effect: Effect, spec: impl FnOnce() -> crate::core::Spec) {
        match &effect {
            Effect::Receipt(_) | Effect::Reply { .. } | Effect::Notice(_) | Effect::Finish(_) => {}
            Effect::Release { r#gen } => {
                if let Some(found) = self.kernel.gens.get_mut(r#gen) {
                    found.released = true;
                }
            }
            Effect::Close { service } => drop(self.listening.remove(service)),
            Effect::Listen { service, .. } => {
                let channel = Some(Channel::Sockets(*service));
                self.reach_kernel(effect, channel);
            }
            Effect::Signal { r#gen, .. } | Effect::Kill { r#gen, .. } => {
                let channel = Some(Channel::Signals(*r#gen));
                self.reach_kernel(effect, channel);
            }
            Effect::Spawn { r#gen, .. } => {
                let mut made = Gen::new(spec(), false);
                let never = self.faults.test_fails / 2;
                made.test_never_passes = self.dice.chance(never);
                self.kernel.gens.insert(*r#gen, made);
                self.reach_kernel(effect, None);
            }
            _ => self.reach_kernel(effect, None),
        }
    }

    fn reach_kernel(&mut self, effect: Effect, channel: Option<Channel>) {
        let hangs = match effect {
            Effect::Signal { .. } | Effect::Reload { .. } | Effect::Listen { .. } => 0,
            Effect::Spawn { .. } => self.faults.spawn_hangs,
            _ => self.faults.op_hangs,
        };
        if self.dice.chance(hangs) {
            self.hold(What::Carry(effect), channel);
        } else {
            let delay = if self.dice.scripted() {
                0
            } else {
                self.dice.between(0, 1_000) * 1_000
            };
            self.after(delay, What::Carry(effect), channel);
        }
    }

    /// The effect reaches the kernel.
    pub fn carry(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { r#gen, .. } => self.spawn(r#gen),
            Effect::Listen { service, op } => self.listen(service, op),
            Effect::Reload { r#gen, op, .. } => self.reload(r#gen, op),
            Effect::RunAux { r#gen, aux, kind } => self.run_aux(r#gen, aux, kind),
            Effect::EndAux { r#gen, aux } => self.end_aux(r#gen, aux),
            Effect::Signal { r#gen, signal, to } => self.signal(r#gen, signal, to),
            Effect::Kill { r#gen, op } => self.kill_all(r#gen, op),
            Effect::Scan { r#gen, op } => self.scan(r#gen, op),
            Effect::Fence { r#gen, op } => self.fence(r#gen, op),
            Effect::Inspect { r#gen, op } => self.inspect(r#gen, op),
            Effect::Flush => self.complete(Event::Flushed),
            Effect::Sweep => self.sweep(),
            Effect::Receipt(_)
            | Effect::Release { .. }
            | Effect::Close { .. }
            | Effect::Reply { .. }
            | Effect::Notice(_)
            | Effect::Finish(_) => {}
        }
    }

    fn spawn(&mut self, r#gen: GenId) {
        let faults = self.faults.clone();
        let Some(found) = self.kernel.gens.get_mut(&r#gen) else {
            return;
        };
        if self.dice.chance(faults.spawn_fails) {
            if self.dice.chance(500) {
                found.cgroup = Cgroup::Exists;
            }
            let error = failed("make the cgroup of");
            self.tell(
                Event::SpawnFailed { r#gen, error },
                Some(Channel::Main(r#gen)),
            );
            return;
        }
        found.cgroup = Cgroup::Exists;
        let mut main = self.process(r#gen, Place::Main);
        main.main = true;
        main.in_group = true;
        main.follows = false;
        main.kept = false;
        let pid = self.kernel.add(main);
        if let Some(found) = self.kernel.gens.get_mut(&r#gen) {
            found.main = Some(pid);
        }
        let channel = Some(Channel::Main(r#gen));
        self.tell(Event::Spawned { r#gen, pid }, channel);
        self.changed(r#gen);
        if self.dice.chance(faults.exec_fails) {
            let error = failed("execute the program of");
            self.tell(Event::ExecFailed { r#gen, error }, channel);
            self.die(pid, Exit::Code(127));
        } else if self.dice.chance(faults.exec_hangs) {
            self.hold(What::Exec(r#gen), channel);
        } else {
            let delay = self.latency();
            self.after(delay, What::Exec(r#gen), channel);
        }
    }

    /// The program starts: what it will do is decided here.
    pub fn exec(&mut self, r#gen: GenId) {
        let faults = self.faults.clone();
        let Some(found) = self.kernel.gens.get(&r#gen) else {
            return;
        };
        let (oneshot, remain) = (found.spec.oneshot, found.spec.remain);
        let Some(main) = found.main.filter(|p| self.kernel.processes.contains_key(p)) else {
            return;
        };
        self.tell(Event::Execed { r#gen }, Some(Channel::Main(r#gen)));
        let dice = &mut self.dice;
        let early = dice.chance(faults.early_exit);
        if early || oneshot || remain {
            let most = match (early, remain) {
                (true, _) => 4_000,
                // Within the shortest start_timeout.
                (false, true) => 60,
                (false, false) => 300,
            };
            let delay = dice.between(0, most) * MS;
            let exit = if early {
                dice.pick(&[Exit::Code(1), Exit::Code(0), KILLED])
            } else {
                Exit::Code(0)
            };
            let deed = Deed::Exit(exit);
            self.after(delay, What::Process { pid: main, deed }, None);
        }
        if remain && !self.dice.chance(faults.early_exit) {
            for _ in 0..1 + self.dice.between(0, 1) {
                let mut daemon = self.process(r#gen, Place::Main);
                daemon.follows = false;
                daemon.kept = false;
                let daemon = self.kernel.add(daemon);
                if self.dice.chance(faults.early_exit) {
                    self.later(daemon, Deed::Exit(Exit::Code(0)));
                }
                self.deeds(daemon);
            }
        }
        self.speak(r#gen);
        self.idle(r#gen, main);
        if self.dice.chance(faults.main_escapes) {
            self.later(main, Deed::Escape);
        }
        if self.dice.chance(faults.children) {
            for _ in 0..1 + self.dice.between(0, 2) {
                let child = self.process(r#gen, Place::Main);
                let child = self.kernel.add(child);
                self.deeds(child);
            }
        }
        self.deeds(main);
        self.changed(r#gen);
    }

    /// What it will say of itself.
    fn speak(&mut self, r#gen: GenId) {
        let Some(found) = self.kernel.gens.get(&r#gen) else {
            return;
        };
        let never = found.test_never_passes && !self.healed;
        let told = |test: &Test| test.check.is_told();
        let told = found.spec.test.as_deref().is_some_and(told);
        let watchdog = found.spec.watchdog;
        if told {
            let ready = What::Deliver(Event::Told {
                r#gen,
                told: Told::Ready,
            });
            if never {
                self.hold(ready, None);
            } else {
                let delay = self.dice.between(0, 60) * MS;
                self.after(delay, ready, None);
            }
        }
        if watchdog.is_some() {
            self.after(0, What::SayAlive(r#gen), None);
        }
    }

    /// It says that it is alive, and will again, unless it is mute.
    pub fn say_alive(&mut self, r#gen: GenId) {
        let Some(found) = self.kernel.gens.get(&r#gen) else {
            return;
        };
        let Some(watchdog) = found.spec.watchdog.filter(|_| !found.released) else {
            return;
        };
        if self.kernel.of(r#gen).next().is_none() {
            return;
        }
        let mute = self.faults.mute;
        if !self.dice.chance(mute) {
            let told = Told::Alive;
            self.tell(Event::Told { r#gen, told }, None);
        }
        let every = u64::try_from(watchdog.as_nanos()).unwrap() / 3;
        self.after(every, What::SayAlive(r#gen), None);
    }

    fn deeds(&mut self, pid: u32) {
        let (escapes, forks) = (self.faults.escapes, self.faults.forks_later);
        let starves = self.faults.out_of_memory;
        if self.dice.chance(starves) {
            self.later(pid, Deed::Starve);
        }
        let main = self.kernel.processes.get(&pid).is_some_and(|p| p.main);
        if !main && self.dice.chance(escapes) {
            self.later(pid, Deed::Escape);
        }
        if self.dice.chance(forks) {
            let more = u8::try_from(self.dice.between(0, 3)).unwrap();
            self.later(pid, Deed::Fork { more });
        }
    }

    fn later(&mut self, pid: u32, deed: Deed) {
        let delay = self.dice.between(0, 2_000) * MS;
        self.after(delay, What::Process { pid, deed }, None);
    }

    fn run_aux(&mut self, r#gen: GenId, aux: OpId, kind: AuxKind) {
        let faults = self.faults.clone();
        let Some(found) = self.kernel.gens.get(&r#gen) else {
            return;
        };
        let never = found.test_never_passes && !self.healed;
        let main = found.main;
        let ended = self.ended_auxes.contains(&aux);
        if ended || found.cgroup != Cgroup::Exists || self.dice.chance(faults.test_cannot_run) {
            let error = failed("run the command of");
            self.tell(Event::AuxFailed { r#gen, aux, error }, None);
            return;
        }
        let mut process = self.process(r#gen, Place::Control);
        process.aux = Some((aux, true));
        process.in_group = false;
        process.follows = false;
        let pid = self.kernel.add(process);
        self.changed(r#gen);
        if self.dice.chance(faults.leaves_children) {
            let mut child = self.process(r#gen, Place::Control);
            child.aux = Some((aux, false));
            child.in_group = false;
            child.follows = false;
            let child = self.kernel.add(child);
            self.deeds(child);
        }
        let (hangs, fails) = match kind {
            AuxKind::Test | AuxKind::Health => (faults.test_hangs, faults.test_fails),
            AuxKind::Stop | AuxKind::Reload => {
                (faults.stop_command_hangs, faults.stop_command_fails)
            }
        };
        if self.dice.chance(hangs) {
            return;
        }
        let fails = (kind == AuxKind::Test && never) || self.dice.chance(fails);
        let delay = self.dice.between(0, 200) * MS;
        let deed = Deed::Exit(Exit::Code(i32::from(fails)));
        self.after(delay, What::Process { pid, deed }, None);
        if kind == AuxKind::Stop
            && !fails
            && let Some(main) = main
            && self.dice.chance(700)
        {
            let delay = self.dice.between(0, 400) * MS;
            let deed = Deed::Exit(Exit::Code(0));
            self.after(delay, What::Process { pid: main, deed }, None);
        }
    }

    fn end_aux(&mut self, r#gen: GenId, aux: OpId) {
        let of_it = |world: &World| -> Vec<(u32, Mortality)> {
            let of = world.kernel.of(r#gen);
            of.filter(|(_, p)| p.aux.is_some_and(|(of, _)| of == aux) && p.place == Place::Control)
                .map(|(pid, p)| (pid, p.mortality))
                .collect()
        };
        self.ended_auxes.insert(aux);
        for (pid, _) in of_it(self) {
            self.kill(pid);
        }
        let left = of_it(self);
        let stuck = left.iter().any(|(_, m)| *m == Mortality::Never);
        let slow = left.iter().map(|(_, m)| match m {
            Mortality::After(delay) => *delay,
            Mortality::AtOnce | Mortality::Never => 0,
        });
        let slow = slow.max().unwrap_or(0);
        let error = stuck.then(|| failed("end the command of"));
        let event = Event::AuxEnded { r#gen, aux, error };
        if slow > 0 {
            self.after(slow + MS, What::Deliver(event), None);
        } else {
            self.complete(event);
        }
    }

    fn signal(&mut self, r#gen: GenId, signal: Signal, to: To) {
        if !matches!(to, To::Reach(Reach::Main | Reach::Group)) {
            self.kernel.set_aside(r#gen);
            self.changed(r#gen);
        }
        let fails = self.faults.signal_fails;
        if self.dice.chance(fails) {
            let error = failed("signal a process of");
            self.tell(Event::SignalFailed { r#gen, error }, None);
            return;
        }
        for pid in self.kernel.reached(r#gen, to) {
            let Some(process) = self.kernel.processes.get(&pid) else {
                continue;
            };
            if let Some(delay) = process.obeys {
                let exit = if self.dice.chance(500) {
                    Exit::Code(0)
                } else {
                    Exit::Signal {
                        signal: signal.number(),
                        core: false,
                    }
                };
                let deed = Deed::Exit(exit);
                self.after(delay, What::Process { pid, deed }, None);
            }
        }
    }

    fn kill_all(&mut self, r#gen: GenId, op: OpId) {
        self.kernel.set_aside(r#gen);
        let fails = self.faults.op_fails;
        let mut report = KillReport::default();
        if self.dice.chance(fails) {
            report.error = Some(failed("write cgroup.kill of"));
            report.populated = self.dice.chance(500).then(|| self.kernel.reading(r#gen).1);
            return self.complete(Event::Killed { r#gen, op, report });
        }
        let inside: Vec<u32> = self
            .kernel
            .of(r#gen)
            .filter(|(_, p)| p.place != Place::Outside)
            .map(|(pid, _)| pid)
            .collect();
        for pid in inside {
            report.killed.push(described(pid));
            self.kill(pid);
        }
        report.populated = Some(self.kernel.reading(r#gen).1);
        self.complete(Event::Killed { r#gen, op, report });
    }

    fn scan(&mut self, r#gen: GenId, op: OpId) {
        let faults = self.faults.clone();
        let mut report = ScanReport {
            populated: Some(self.kernel.reading(r#gen).1),
            conclusive: !self.dice.chance(faults.busy_machine),
            ..ScanReport::default()
        };
        if self.dice.chance(faults.weak_scan) {
            report.guarantee.scan = self.dice.pick(&[ScanQuality::Descent, ScanQuality::None]);
            if self
                .kernel
                .gens
                .get(&r#gen)
                .is_some_and(|found| found.leftover)
            {
                // Without a cgroup its orphans went to others.
                report.guarantee.containment = Containment::ProcessGroup;
            }
        }
        if self.dice.chance(faults.op_fails) {
            report.error = Some(failed("read /proc for"));
            if report.populated == Some(false) && self.dice.chance(400) {
                // It came some way before it failed.
                self.pass(r#gen, &mut report);
            } else if self.dice.chance(300) {
                report.populated = None;
            }
        } else if report.populated == Some(false) {
            self.pass(r#gen, &mut report);
        }
        if self.dice.chance(faults.foreigners) {
            report.foreign.push(Foreigner {
                process: described(1),
                why: "its ancestors lead elsewhere".into(),
            });
        }
        self.complete(Event::Scanned { r#gen, op, report });
    }

    fn pass(&mut self, r#gen: GenId, report: &mut ScanReport) {
        let exists = |found: &Gen| found.cgroup == Cgroup::Exists;
        let exists = self.kernel.gens.get(&r#gen).is_some_and(exists);
        let kept = self.kernel.of(r#gen);
        let kept = kept.filter(|(_, p)| p.kept && p.place == Place::Outside);
        report.kept.extend(kept.map(|(pid, _)| described(pid)));
        for pid in self.kernel.ours(r#gen) {
            let Some(process) = self.kernel.processes.get_mut(&pid) else {
                continue;
            };
            if process.place != Place::Outside {
                continue;
            }
            if process.disguised {
                report.doubtful = report.error.is_none();
                report.error = Some(failed("attribute"));
                report.foreign.push(Foreigner {
                    process: described(pid),
                    why: "it can only come from a start of ours".into(),
                });
                continue;
            }
            if process.relays > 0 {
                // It slips through unseen twice at the most (docs/decisions/0009).
                report.met |= process.relays > 2;
                process.relays -= 1;
                report.conclusive = false;
                self.trace
                    .say(self.now, || format!("  {pid} forks away from the pass"));
                self.kernel.relay(pid);
                continue;
            }
            if process.returns && exists {
                process.returns = false;
                process.place = Place::Main;
                self.trace
                    .say(self.now, || format!("  process {pid} comes back"));
                self.changed(r#gen);
                continue;
            }
            report.escaped.push(described(pid));
            process.watched = true;
            self.kill(pid);
            if self.kernel.processes.contains_key(&pid) {
                report.alive.push(described(pid));
            }
        }
        let foreigners = self.faults.foreigners;
        if exists && self.dice.chance(foreigners) {
            let mut process = self.process(r#gen, Place::Main);
            process.foreign = true;
            let pid = self.kernel.add(process);
            self.trace
                .say(self.now, || format!("  {pid}, not ours, is moved in"));
            self.changed(r#gen);
        }
    }

    fn fence(&mut self, r#gen: GenId, op: OpId) {
        self.tell_account(r#gen);
        let fails = self.faults.op_fails / 4;
        let populated = self.kernel.reading(r#gen).1;
        let result = if populated {
            Fence::Busy
        } else if self.dice.chance(fails) {
            Fence::Failed(failed("remove the cgroup of"))
        } else {
            if let Some(found) = self.kernel.gens.get_mut(&r#gen) {
                found.cgroup = Cgroup::Removed;
            }
            Fence::Removed
        };
        self.complete(Event::Fenced { r#gen, op, result });
    }

    fn inspect(&mut self, r#gen: GenId, op: OpId) {
        let blind = self.faults.op_fails;
        let mut survivors = Vec::new();
        if self.dice.chance(blind) {
            if self.kernel.reading(r#gen).1 {
                survivors.push(Survivor::default());
            }
        } else {
            for pid in self.kernel.ours(r#gen) {
                if let Some(process) = self.kernel.processes.get_mut(&pid) {
                    process.watched = true;
                }
                survivors.push(survivor(pid));
            }
        }
        self.complete(Event::Inspected {
            r#gen,
            op,
            survivors,
        });
    }

    fn sweep(&mut self) {
        let fails = self.faults.op_fails;
        let pids: Vec<u32> = self.kernel.processes.keys().copied().collect();
        for pid in pids {
            self.kill(pid);
        }
        let mut report = SweepReport::default();
        if self.dice.chance(fails) {
            report.error = Some(failed("sweep"));
        } else {
            let left = self.kernel.processes.keys();
            report.survivors = left.map(|pid| survivor(*pid)).collect();
        }
        self.complete(Event::Swept { report });
    }
}

fn survivor(pid: u32) -> Survivor {
    Survivor {
        pid,
        ppid: 1,
        argv: vec!["sim".into()],
        state: 'D',
        ..Survivor::default()
    }
}
