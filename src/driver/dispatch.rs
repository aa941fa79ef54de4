//! From effects to system calls. What may block runs off the loop, and its answer comes back as
//! a message.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::generation::{Aux, Generation};
use super::keep::Keeping;
use super::message::{AuxBorn, Message};
use super::place::Place;
use super::report;
use super::resolve::{self, Resolved};
use super::run::{Driver, Owner, now};
use super::scans::Wanted;
use super::store::chain;
use super::translate::{self, failed};
use crate::core::{
    AuxKind, Check, Effect, Event, Failed, Fence, GenId, Notice, OpId, Reach, Receipt, ScanQuality,
    ServiceId, Signal, Spec, To, Verdict,
};
use crate::logs::{Command, Mode, WriteEnds};
use crate::state::Completion;
use crate::sys::procfs::ProcStat;
use crate::sys::rlimit::OpenFiles;
use crate::sys::scan::MovedIn;
use crate::sys::spawn::{self, Born, Prepared, SpawnError};
use crate::sys::{SysError, cgroup, clock, heap, inspect, last_resort, rlimit, signal};

/// The variable by which a process's environment names its generation.
pub(super) const MARKER: &str = "NOUGHT_GENERATION";
/// Starts under way at a time: those that the lane's threads do, and what they do next.
const STARTS_AHEAD: usize = 4;
/// So many starts leave something behind that is worth giving back.
const STARTS_TO_TIDY: usize = 16;
/// How long one kill watches its cgroup empty before it reports.
const KILL_SETTLE: std::time::Duration = std::time::Duration::from_millis(20);

impl Driver {
    /// Carries out everything the core wants.
    pub(super) fn carry_out(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            self.carry_out_one(effect);
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { r#gen, service } => self.spawn(r#gen, service),
            Effect::RunAux { r#gen, aux, kind } => self.run_aux(r#gen, aux, kind),
            Effect::EndAux { r#gen, aux } => self.end_aux(r#gen, aux),
            Effect::Signal { r#gen, signal, to } => self.signal(r#gen, signal, to),
            Effect::Kill { r#gen, op } => self.kill(r#gen, op),
            Effect::Scan { r#gen, op } => self.want_scan(r#gen, Wanted::Scan(op)),
            Effect::Fence { r#gen, op } => self.fence(r#gen, op),
            Effect::Inspect { r#gen, op } => self.inspect(r#gen, op),
            Effect::Receipt(receipt) => self.on_receipt(receipt),
            Effect::Release { r#gen } => self.release(r#gen),
            Effect::Reply { id, reply } => {
                if let Some(answer) = self.replies.remove(&id) {
                    // A client that has gone needs no answer.
                    let _ = answer.send(reply);
                }
            }
            Effect::Notice(notice) => self.on_notice(&notice),
            Effect::Flush => self.flush(),
            Effect::Sweep => self.sweep(),
            Effect::Finish(outcome) => self.outcome = Some(outcome),
        }
    }

    /// As process 1 of a machine, a shutdown that began ends, whatever becomes of us.
    fn arm_last_resort(&self, notice: &Notice) {
        if let (Some(after), Notice::ShutdownBegan { kind, .. }) = (self.last_resort, notice) {
            let after = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
            let at = clock::boot_now().saturating_add(after);
            last_resort::arm(at, translate::power(*kind));
        }
    }

    // ---- starting -----------------------------------------------------------------------

    fn spawn(&mut self, r#gen: GenId, service: ServiceId) {
        let Some(spec) = self.core.spec(service) else {
            return;
        };
        let dir = self.place.generation_dir(&spec.name, r#gen);
        let marker = self.place.marker(&spec.name, r#gen);
        let generation = Generation::new(service, spec.name.clone(), dir, marker);
        let spec = resolve::is_needed(spec).then(|| spec.clone());
        self.gens.insert(r#gen, Box::new(generation));
        match spec {
            Some(spec) => self.resolve(r#gen, spec),
            None => {
                self.waiting_starts.push_back(r#gen);
                self.start_waiting();
            }
        }
    }

    /// Begins as many of the starts that wait as are to be under way: every one under way has
    /// descriptors and memory of its own, which each new process copies and closes again.
    pub(super) fn start_waiting(&mut self) {
        while self.mains_starting < STARTS_AHEAD
            && let Some(r#gen) = self.waiting_starts.pop_front()
        {
            self.begin_start(r#gen);
        }
    }

    /// After many starts: what they needed for a moment goes back to the kernel. Every later
    /// start copies the page tables of all that is left.
    pub(super) fn tidy_up(&mut self) {
        if self.mains_starting == 0 && self.starts_since_tidy >= STARTS_TO_TIDY {
            self.starts_since_tidy = 0;
            self.threads.run(heap::give_back);
        }
    }

    fn begin_start(&mut self, r#gen: GenId) {
        let Some(generation) = self.gens.get(&r#gen) else {
            return;
        };
        let Some(spec) = self.core.spec(generation.service).cloned() else {
            return;
        };
        let (dir, marker) = (generation.dir.clone(), generation.marker.clone());
        let mut outputs = Vec::new();
        let stdio = rlimit::room_for_a_start()
            .map_err(|error| failed(&error))
            .and_then(|()| self.stdio(&spec, Command::Main, &mut outputs));
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.outputs = outputs;
        }
        let stdio = match stdio {
            Ok(stdio) => stdio,
            Err(error) => return self.core.handle(now(), Event::SpawnFailed { r#gen, error }),
        };
        self.starting += 1;
        self.mains_starting += 1;
        self.starts_since_tidy += 1;
        let program = self.program(r#gen);
        let (place, state) = (Arc::clone(&self.place), self.store.dir());
        self.starts.push(self.reported(move || {
            let record = place.record(&spec, r#gen, dir.clone(), &marker);
            let main = dir.as_ref().map(|d| d.join("main"));
            let what = program.spec(&spec, &spec.exec, stdio, &marker, main);
            let result = (|| {
                if let Some(dir) = &dir {
                    place.make_generation(dir).map_err(SpawnError::NotBorn)?;
                }
                if let Err(error) = state.begin(&record) {
                    // Started all the same: what is unrecorded is still found through its cgroup.
                    let (service, why) = (&record.service, chain(&error));
                    tracing::warn!("{service}: its start is not recorded: {why}");
                }
                let prepared =
                    Prepared::new(what, place.spawn_method()).map_err(SpawnError::NotBorn)?;
                spawn::spawn(&prepared, |born| {
                    must_be_marked(&spec, born)?;
                    if let Err(error) = state.complete(r#gen, completion(born, dir.as_deref())) {
                        let (service, why) = (&record.service, chain(&error));
                        tracing::warn!("{service}: its start is not recorded: {why}");
                    }
                    Ok(())
                })
            })();
            Message::Started { r#gen, result }
        }));
    }

    fn stdio(
        &self,
        spec: &Spec,
        command: Command,
        outputs: &mut Vec<crate::logs::Output>,
    ) -> Result<[OwnedFd; 3], Failed> {
        let null = match &self.null {
            Some(null) => null.try_clone(),
            // There was none when we began.
            None => std::fs::File::open("/dev/null"),
        };
        let null = null.map(OwnedFd::from).map_err(|error| Failed {
            doing: "open".into(),
            what: "/dev/null".into(),
            errno: error.raw_os_error().unwrap_or(0),
            why: error.to_string(),
        })?;
        let mode = match spec.log {
            crate::core::LogMode::Ring => Mode::Ring,
            crate::core::LogMode::Stdout => Mode::Stdout,
            crate::core::LogMode::None => Mode::None,
        };
        let (WriteEnds { stdout, stderr }, output) = self
            .logs
            .output(&spec.name, command, mode)
            .map_err(|error| Failed {
                doing: "capture the output of".into(),
                what: spec.name.clone(),
                errno: error.errno(),
                why: error.to_string(),
            })?;
        outputs.push(output);
        Ok([null, stdout, stderr])
    }

    fn program(&self, r#gen: GenId) -> Program {
        let generation = self.gens.get(&r#gen);
        Program {
            resolved: generation
                .map(|g| Arc::clone(&g.resolved))
                .unwrap_or_default(),
            environment: Arc::clone(&self.environment),
            open_files: self.open_files,
            mark: self.place.marks(),
        }
    }

    fn run_aux(&mut self, r#gen: GenId, aux: OpId, kind: AuxKind) {
        let Some(generation) = self.gens.get(&r#gen) else {
            return;
        };
        let Some(spec) = self.core.spec(generation.service).cloned() else {
            return;
        };
        let (argv, command) = match kind {
            AuxKind::Test => match spec.test.as_ref().map(|test| test.check.clone()) {
                Some(Check::Exec(argv)) => (Some(argv), Command::Test),
                Some(check) => return self.run_check(r#gen, aux, check),
                None => (None, Command::Test),
            },
            AuxKind::Stop => (spec.stop_command.clone(), Command::Stop),
        };
        let marker = generation.marker.clone();
        let join = generation.mark_to_join();
        let control = generation.dir.as_ref().map(|dir| dir.join("control"));
        let dir = control.as_ref().map(|dir| dir.join(aux.0.to_string()));
        let mut outputs = Vec::new();
        let stdio = self.stdio(&spec, command, &mut outputs);
        let mut run = Aux {
            kind,
            dir: dir.clone(),
            process: None,
            output: outputs.pop(),
            ending: false,
            starting: stdio.is_ok(),
            look: None,
        };
        if stdio.is_err() {
            run.dir = None;
        }
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.auxes.insert(aux, run);
        }
        let stdio = match stdio {
            Ok(stdio) => stdio,
            Err(error) => {
                return self
                    .core
                    .handle(now(), Event::AuxFailed { r#gen, aux, error });
            }
        };
        self.starting += 1;
        let program = self.program(r#gen);
        let place = Arc::clone(&self.place);
        self.starts.push(self.reported(move || {
            let argv = argv.unwrap_or_default();
            let what = spawn::Spec {
                // So that whoever leaves the command's cgroup is told like any other of this
                // start.
                mark: false,
                join,
                ..program.spec(&spec, &argv, stdio, &marker, dir.clone())
            };
            let result = (|| {
                for dir in control.iter().chain(&dir) {
                    place.make_dir(dir).map_err(SpawnError::NotBorn)?;
                }
                let prepared =
                    Prepared::new(what, place.spawn_method()).map_err(SpawnError::NotBorn)?;
                let born = spawn::spawn(&prepared, |_| Ok(()))?;
                Ok(AuxBorn { born, dir })
            })();
            Message::AuxStarted { r#gen, aux, result }
        }));
    }

    /// Ends whatever is left of an auxiliary command: at once, or when its start has come back.
    pub(super) fn end_aux(&mut self, r#gen: GenId, aux: OpId) {
        let Some(run) = self
            .gens
            .get_mut(&r#gen)
            .and_then(|g| g.auxes.get_mut(&aux))
        else {
            return;
        };
        if run.starting {
            run.ending = true;
            return;
        }
        drop(run.output.take());
        if let Some(look) = run.look.take() {
            look.abort();
        }
        let (dir, process) = (run.dir.clone(), run.process.clone());
        let place = Arc::clone(&self.place);
        self.off_loop(move || {
            let error = match (dir, process) {
                (Some(dir), _) => end_cgroup(&place, &dir).err(),
                // Without a cgroup its process group is all there is to go by.
                (None, Some(process)) => signal::send_group(process.id.pid, libc::SIGKILL).err(),
                // Never born, or no command: then there was only the task that looks.
                (None, None) => None,
            };
            Message::Event(Event::AuxEnded {
                r#gen,
                aux,
                error: error.as_ref().map(failed),
            })
        });
    }

    // ---- the ladder ---------------------------------------------------------------------

    fn signal(&mut self, r#gen: GenId, signal: Signal, to: To) {
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        generation.stopping = true;
        let number = signal.number();
        let leader = generation.leader;
        let main = generation.main.clone();
        let dir = generation.dir.as_ref().map(|dir| dir.join("main"));
        self.take_census(r#gen);
        let keeps = self
            .gens
            .get(&r#gen)
            .is_some_and(|g| self.keeping(g).is_some());
        let sent = match (to, main, dir) {
            // Who is to be kept may be in the main process's group.
            (To::Reach(Reach::Group), Some(main), Some(dir)) if keeps => {
                let whom = Whom {
                    only_group: Some(main.id.pid),
                    ..Whom::default()
                };
                return self.signal_members(r#gen, dir, number, whom);
            }
            // The main process is not reaped, so its number, and its group's, are its own.
            (To::Reach(Reach::Main), Some(main), _) => match &main.pidfd {
                Some(pidfd) => signal::send_process(pidfd, number).map(|_| ()),
                None => signal::send_group(main.id.pid, number).map(|_| ()),
            },
            (To::Reach(Reach::Group), Some(main), _) => {
                match signal::send_group(main.id.pid, number) {
                    // It may not have come to lead its group yet.
                    Ok(false) => match &main.pidfd {
                        Some(pidfd) => signal::send_process(pidfd, number).map(|_| ()),
                        None => Ok(()),
                    },
                    other => other.map(|_| ()),
                }
            }
            (To::Reach(_), _, Some(dir)) => {
                return self.signal_members(r#gen, dir, number, Whom::default());
            }
            (To::Rest(Reach::Main), _, Some(dir)) => {
                let whom = Whom {
                    but: leader,
                    ..Whom::default()
                };
                return self.signal_members(r#gen, dir, number, whom);
            }
            (To::Rest(_), _, Some(dir)) => {
                let whom = Whom {
                    but: leader,
                    but_group: leader,
                    ..Whom::default()
                };
                return self.signal_members(r#gen, dir, number, whom);
            }
            // Without a cgroup a scan tells whom.
            (to, _, None) => {
                let (but, but_group) = match to {
                    To::Reach(_) => (None, None),
                    To::Rest(Reach::Main) => (leader, None),
                    To::Rest(_) => (leader, leader),
                };
                let wanted = Wanted::Signal {
                    number,
                    but,
                    but_group,
                };
                return self.want_scan(r#gen, wanted);
            }
        };
        if let Err(error) = sent {
            self.core.handle(
                now(),
                Event::SignalFailed {
                    r#gen,
                    error: failed(&error),
                },
            );
        }
        if !self.place.has_cgroups() {
            self.look_closely(r#gen);
        }
    }

    /// Signals members of a cgroup.
    fn signal_members(&self, r#gen: GenId, dir: PathBuf, number: i32, whom: Whom) {
        let marks = self.marks_of(r#gen);
        let keeping = self.gens.get(&r#gen).and_then(|g| self.keeping(g));
        self.off_loop(move || {
            set_aside(keeping.as_ref());
            let moved_in = marks.and_then(|(mark, others)| MovedIn::new(mark, others).ok());
            let sent = signal::send_members(&dir, number, &|stat| {
                whom.includes(stat) && !moved_in.as_ref().is_some_and(|moved_in| moved_in.is(stat))
            });
            let gone = |error: &SysError| cgroup::is_gone(error);
            match sent.error.filter(|error| !gone(error)) {
                Some(error) => Message::Event(Event::SignalFailed {
                    r#gen,
                    error: failed(&error),
                }),
                None => Message::Nothing,
            }
        });
    }

    /// Records who is in the generation and descends from it, so that whoever leaves its cgroup
    /// and replaces its mark can still be told.
    fn take_census(&self, r#gen: GenId) {
        let Some(generation) = self.gens.get(&r#gen) else {
            return;
        };
        let Some(dir) = generation.dir.clone() else {
            return;
        };
        let known = Arc::clone(&generation.known);
        // A leftover's processes are no longer below anybody who would say whose they are.
        let root = (!self.leftovers.contains(&r#gen)).then(std::process::id);
        let place = Arc::clone(&self.place);
        let record = move |members| {
            let mut known = known
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            known.extend(members);
        };
        // One that fails leaves the mark to tell by. A small one is over before the signal that
        // may turn somebody into an orphan; a large one would hold up the loop.
        let few = match root {
            Some(_) => cgroup::census_of_few(&dir, "main", root),
            None => Ok(None),
        };
        match few {
            Ok(Some(few)) => record(few),
            Ok(None) => self.off_loop(move || {
                // While we are in a leftover's cgroup, it cannot empty.
                if let Err(error) = place.come_home(&dir) {
                    tracing::warn!("failed to {error}");
                }
                if let Ok(members) = cgroup::census(&dir, root) {
                    record(members);
                }
                Message::Nothing
            }),
            Err(_) => {}
        }
    }

    fn kill(&mut self, r#gen: GenId, op: OpId) {
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        generation.stopping = true;
        let Some(dir) = generation.dir.clone() else {
            return self.want_scan(r#gen, Wanted::Kill(op));
        };
        let place = Arc::clone(&self.place);
        if !self.place.marks() {
            // Whoever leaves from now on can be told by the record alone.
            self.take_census(r#gen);
        }
        let marks = self.marks_of(r#gen);
        let keeping = self.gens.get(&r#gen).and_then(|g| self.keeping(g));
        self.off_loop(move || {
            set_aside(keeping.as_ref());
            // Looked at before: the dead cannot be told any more. Where that fails they are
            // named among the killed, as they would be without a mark.
            let moved_in =
                marks.and_then(|(mark, others)| MovedIn::new(mark, others).ok()?.among(&dir).ok());
            let moved_in: Vec<_> = moved_in.into_iter().flatten().collect();
            let mut report = translate::killed(place.kill(&dir, KILL_SETTLE));
            report
                .killed
                .retain(|killed| moved_in.iter().all(|s| s.process.pid != killed.pid));
            Message::Killed {
                r#gen,
                op,
                report,
                moved_in: moved_in.into_iter().map(translate::foreigner).collect(),
            }
        });
    }

    /// The mark of a generation that we started ourselves, and those of all others: their
    /// numbers are certain.
    fn marks_of(&self, r#gen: GenId) -> Option<(u64, BTreeSet<u64>)> {
        let held = |generation: &Generation| generation.mark_held.as_ref().map(|mark| mark.inode);
        let mark = held(self.gens.get(&r#gen)?)?;
        let all = self.gens.values().chain(self.kept.values());
        let others = all.filter_map(|generation| held(generation));
        Some((mark, others.filter(|other| *other != mark).collect()))
    }

    fn fence(&mut self, r#gen: GenId, op: OpId) {
        let dir = self
            .gens
            .get(&r#gen)
            .and_then(|generation| generation.dir.clone());
        let Some(dir) = dir else {
            let result = Fence::Removed;
            return self.core.handle(now(), Event::Fenced { r#gen, op, result });
        };
        self.unwatch(r#gen);
        let place = Arc::clone(&self.place);
        self.fences.push(self.reported(move || {
            let result = match translate::fenced(cgroup::remove_with(&dir, "main")) {
                // Gone with its file system (unmounted, covered by another) is not gone.
                Fence::Removed if !place.stands() => Fence::Failed(failed(&SysError::because(
                    "find the cgroups below",
                    place.tree().unwrap_or(&dir).display().to_string(),
                    "the cgroup file system is no longer there",
                ))),
                fence => fence,
            };
            Message::Event(Event::Fenced { r#gen, op, result })
        }));
    }

    fn inspect(&mut self, r#gen: GenId, op: OpId) {
        let Some(generation) = self.gens.get(&r#gen) else {
            return;
        };
        let dir = generation.dir.clone();
        let outside: Vec<u32> = generation.alive.iter().copied().collect();
        self.off_loop(move || {
            let mut pids = outside;
            if let Some(dir) = &dir {
                pids.extend(cgroup::procs_recursive(dir).unwrap_or_default());
            }
            pids.sort_unstable();
            pids.dedup();
            let found = inspect::with_argv(inspect::inspect(&pids));
            let survivors = found.into_iter().map(translate::survivor).collect();
            Message::Event(Event::Inspected {
                r#gen,
                op,
                survivors,
            })
        });
    }

    fn on_notice(&self, notice: &Notice) {
        if let Notice::State { service, state, .. } = notice
            && let Some(spec) = self.core.spec(*service)
        {
            self.tally.state(&spec.name, state);
        }
        report::notice(&self.core, notice);
        self.arm_last_resort(notice);
    }

    fn on_receipt(&mut self, receipt: Box<Receipt>) {
        report::receipt(&receipt);
        self.tally.receipt(&receipt);
        if receipt.verdict == Verdict::Lingering {
            self.watch(receipt.r#gen);
            let pids = receipt
                .survivors
                .iter()
                .map(|survivor| survivor.pid)
                .collect();
            self.await_survivors(receipt.r#gen, pids);
            // It may have emptied between the last look and the watch.
            self.read_again(receipt.r#gen);
        }
        let r#gen = receipt.r#gen;
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.kept = receipt.kept.iter().map(|kept| kept.pid).collect();
            generation.unverified = receipt.verdict == Verdict::Unverified;
        }
        self.store.receipt(receipt, report::clocks());
        if self.leftovers.remove(&r#gen) {
            self.succeed_previous();
        }
    }

    fn release(&mut self, r#gen: GenId) {
        self.unwatch(r#gen);
        self.forget_rereads(r#gen);
        let Some(mut generation) = self.gens.remove(&r#gen) else {
            return self.store.remove(r#gen);
        };
        if generation.kept.is_empty() {
            self.store.remove(r#gen);
        }
        if let Some(pid) = generation.main.as_ref().map(|main| main.id.pid)
            && self.pids.get(&pid) == Some(&Owner::Main(r#gen))
        {
            self.pids.remove(&pid);
        }
        for output in generation.outputs.drain(..) {
            if output.close().held {
                tracing::debug!("{}: somebody still holds its output", generation.name);
            }
        }
        if generation.unverified && generation.kept.is_empty() {
            self.doubt(generation);
        } else {
            self.keep(r#gen, generation);
        }
    }
}

/// Whom of a cgroup a signal goes to.
#[derive(Clone, Copy, Debug, Default)]
struct Whom {
    but: Option<u32>,
    but_group: Option<u32>,
    /// This process group and its leader, which may not have come to lead it yet.
    only_group: Option<u32>,
}

impl Whom {
    fn includes(self, stat: &ProcStat) -> bool {
        let only = self.only_group;
        Some(stat.pid) != self.but
            && Some(stat.pgrp) != self.but_group
            && only.is_none_or(|group| stat.pgrp == group || stat.pid == group)
    }
}

/// What every process is started with.
struct Program {
    environment: Arc<[(OsString, OsString)]>,
    resolved: Arc<Resolved>,
    open_files: Option<OpenFiles>,
    mark: bool,
}

impl Program {
    /// One command of a service. Copies the whole environment: off the loop.
    fn spec(
        &self,
        spec: &Spec,
        argv: &[String],
        stdio: [OwnedFd; 3],
        marker: &str,
        cgroup: Option<PathBuf>,
    ) -> spawn::Spec {
        let mut env = self.environment.to_vec();
        env.retain(|(key, _)| self.resolved.without.iter().all(|without| key != without));
        let own = spec.env.iter();
        let own = own.map(|(key, value)| (OsStr::new(key), OsStr::new(value)));
        let read = self.resolved.vars.iter();
        let read = read.map(|(key, value)| (key.as_os_str(), value.as_os_str()));
        let marker = [(OsStr::new(MARKER), OsStr::new(marker))];
        for (key, value) in read.chain(own).chain(marker) {
            env.retain(|(known, _)| known != key);
            env.push((key.to_owned(), value.to_owned()));
        }
        spawn::Spec {
            program: OsString::from(argv.first().map_or("", String::as_str)),
            argv: argv.iter().map(OsString::from).collect(),
            env,
            dir: PathBuf::from(&spec.dir),
            stdio: spawn::Stdio::Only(stdio),
            open_files: self.open_files,
            cgroup,
            mark: self.mark,
            join: None,
            new_session: true,
            job: None,
            attributes: resolve::attributes(spec, &self.resolved.run_as),
        }
    }
}

/// A service that asks for a mark does not run without one.
fn must_be_marked(spec: &Spec, born: &Born) -> Result<(), SysError> {
    let asked = spec
        .min_guarantee
        .is_some_and(|least| least.scan == ScanQuality::Marked);
    match &born.unmarked {
        Some(unmarked) if asked => Err(SysError::because(
            "give what its min_guarantee asks for to",
            spec.name.clone(),
            format!("it would run without a mark: failed to {unmarked}"),
        )),
        _ => Ok(()),
    }
}

/// What is written down of a newborn before it executes anything.
fn completion(born: &Born, dir: Option<&Path>) -> Completion {
    Completion {
        pid: born.id.pid,
        start_time: born.id.start_time,
        cgroup_id: dir.and_then(|dir| cgroup::id(dir).ok()),
        mark_inode: born.mark.as_ref().map(|mark| mark.inode),
        mark_id: born.mark.as_ref().and_then(|mark| mark.id),
        session: born.id.pid,
        spawned_at_wall_ms: clock::wall_now_ms(),
    }
}

fn set_aside(keeping: Option<&Keeping>) {
    if let Some(Err(error)) = keeping.map(Keeping::set_aside) {
        tracing::warn!("what is to be kept cannot be set aside: failed to {error}");
    }
}

/// Ends and removes the cgroup of an auxiliary command.
fn end_cgroup(place: &Place, dir: &Path) -> Result<(), SysError> {
    let killed = place.kill(dir, KILL_SETTLE);
    match cgroup::remove_tree(dir) {
        cgroup::Removal::Removed => Ok(()),
        cgroup::Removal::Failed(error) => Err(error),
        cgroup::Removal::Busy { path } => Err(killed.error.unwrap_or_else(|| {
            SysError::because(
                "end everything in",
                path.display().to_string(),
                "somebody survives",
            )
        })),
    }
}
