//! From readiness to events: children that ended, cgroups that changed, starts that came back.

use std::sync::Arc;
use std::time::Duration;

use super::generation::{Generation, Process};
use super::message::{AuxBorn, Message};
use super::report;
use super::run::{Driver, ExecPipe, Owner, now};
use super::translate::spawn_failed;
use crate::core::{AuxKind, Event, Exit, Failed, GenId, OpId};
use crate::sys::notify::Drained;
use crate::sys::reap::{self, Ended};
use crate::sys::spawn::{Born, ExecOutcome, SpawnError, Stage, read_exec_outcome};
use crate::sys::{SysError, cgroup, readiness};

/// When a cgroup is read again after something happened that may have emptied it. The kernel
/// notifies at most once in 10 ms, and a reading shows the change within 0.1 ms.
const REREADS_MS: [u64; 4] = [1, 2, 4, 8];
/// And after those, where nothing notifies us.
const POLL_MS: [u64; 4] = [16, 32, 64, 128];

impl Driver {
    pub(super) fn on_message(&mut self, message: Message) {
        match message {
            Message::Event(event) => self.on_event(event),
            Message::Resolved { r#gen, result } => self.on_resolved(r#gen, result),
            Message::Started { r#gen, result } => self.on_started(r#gen, result),
            Message::AuxStarted { r#gen, aux, result } => self.on_aux_started(r#gen, aux, result),
            Message::ExecReady { pid } => self.on_exec_ready(pid),
            Message::Reported { r#gen } => self.on_reported(r#gen),
            Message::Scans(results) => self.on_scans(results),
            Message::Killed {
                r#gen,
                op,
                report,
                moved_in,
            } => {
                if let Some(generation) = self.gens.get_mut(&r#gen) {
                    generation.moved_in.extend(moved_in);
                }
                self.on_event(Event::Killed { r#gen, op, report });
            }
            Message::Nothing => {}
        }
        self.carry_out();
    }

    fn on_event(&mut self, event: Event) {
        let killed = match &event {
            Event::Killed { r#gen, report, .. } if report.populated != Some(false) => Some(*r#gen),
            _ => None,
        };
        if let Event::AuxEnded { r#gen, aux, .. } = &event
            && let Some(generation) = self.gens.get_mut(r#gen)
        {
            generation.auxes.remove(aux);
        }
        if let Event::Swept { report } = &event {
            report::swept(report);
        }
        self.core.handle(now(), event);
        if let Some(r#gen) = killed {
            self.look_closely(r#gen);
        }
    }

    // ---- starts -------------------------------------------------------------------------

    fn on_started(&mut self, r#gen: GenId, result: Result<Born, SpawnError>) {
        self.starting = self.starting.saturating_sub(1);
        self.mains_starting = self.mains_starting.saturating_sub(1);
        self.start_waiting();
        self.tidy_up();
        match result {
            Ok(mut born) => {
                let pid = born.id.pid;
                let first = born.first.take();
                if let Some(unmarked) = &born.unmarked {
                    self.trouble(r#gen, &format!("it has no mark: failed to {unmarked}"));
                }
                let (process, pipe) = self.take_in(Owner::Main(r#gen), born);
                if let Some(first) = first {
                    self.take_first(r#gen, &process.0, first);
                }
                if let Some(generation) = self.gens.get_mut(&r#gen) {
                    generation.leader = Some(pid);
                    generation.main_id = Some(process.0.id);
                    generation.main = Some(process.0);
                    generation.mark = process.1.as_ref().map(|mark| mark.inode);
                    generation.mark_id = process.1.as_ref().and_then(|mark| mark.id);
                    generation.mark_held = process.1;
                }
                self.watch(r#gen);
                self.core.handle(now(), Event::Spawned { r#gen, pid });
                self.watch_exec(pid, pipe);
                self.deliver_early(pid);
            }
            Err(error) => {
                self.forget_early(&error);
                let error = spawn_failed(&error);
                self.trouble(r#gen, &format!("failed to {error}"));
                self.core.handle(now(), Event::SpawnFailed { r#gen, error });
            }
        }
        self.drop_strangers();
    }

    fn on_aux_started(&mut self, r#gen: GenId, aux: OpId, result: Result<AuxBorn, SpawnError>) {
        self.starting = self.starting.saturating_sub(1);
        match result {
            Ok(AuxBorn { born, dir }) => {
                let pid = born.id.pid;
                let ((process, _), pipe) = self.take_in(Owner::Aux(r#gen, aux), born);
                let mut ending = false;
                if let Some(run) = self
                    .gens
                    .get_mut(&r#gen)
                    .and_then(|g| g.auxes.get_mut(&aux))
                {
                    run.process = Some(process);
                    run.dir = dir;
                    run.starting = false;
                    ending = run.ending;
                }
                self.watch_exec(pid, pipe);
                self.deliver_early(pid);
                if ending {
                    self.end_aux(r#gen, aux);
                }
            }
            Err(error) => {
                self.forget_early(&error);
                let mut ending = false;
                if let Some(run) = self
                    .gens
                    .get_mut(&r#gen)
                    .and_then(|g| g.auxes.get_mut(&aux))
                {
                    run.starting = false;
                    ending = run.ending;
                }
                let error = spawn_failed(&error);
                self.core
                    .handle(now(), Event::AuxFailed { r#gen, aux, error });
                if ending {
                    self.end_aux(r#gen, aux);
                }
            }
        }
        self.drop_strangers();
    }

    fn take_in(
        &mut self,
        owner: Owner,
        born: Born,
    ) -> (
        (Arc<Process>, Option<crate::sys::spawn::Mark>),
        (Owner, std::os::fd::OwnedFd),
    ) {
        self.pids.insert(born.id.pid, owner);
        let process = Arc::new(Process {
            id: born.id,
            pidfd: born.pidfd,
        });
        ((process, born.mark), (owner, born.exec_pipe))
    }

    fn watch_exec(&mut self, pid: u32, (owner, pipe): (Owner, std::os::fd::OwnedFd)) {
        let pipe = match readiness::readable(pipe) {
            Ok(pipe) => Arc::new(pipe),
            Err(error) => {
                // Without it an exec is taken as done: the exit will tell if it was not.
                tracing::warn!("failed to watch the start of process {pid}: {error}");
                return self.on_exec_outcome(owner, &ExecOutcome::Executed);
            }
        };
        let inbox = self.inbox.clone();
        let readable = Arc::clone(&pipe);
        let task = tokio::spawn(async move {
            loop {
                let Ok(mut ready) = readable.readable().await else {
                    return;
                };
                // Stays ready once the other end is closed; what there is to read then is all.
                let last = ready.ready().is_read_closed();
                ready.clear_ready();
                if inbox.send(Message::ExecReady { pid }).is_err() || last {
                    return;
                }
            }
        });
        let exec = ExecPipe {
            owner,
            pipe,
            said: Vec::new(),
            task: task.abort_handle(),
        };
        self.execs.insert(pid, exec);
        self.on_exec_ready(pid);
    }

    pub(super) fn on_exec_ready(&mut self, pid: u32) {
        let Some(exec) = self.execs.get_mut(&pid) else {
            return;
        };
        let mut buffer = [0; 64];
        let ended = loop {
            match nix::unistd::read(exec.pipe.get_ref(), &mut buffer) {
                Ok(0) => break true,
                Ok(count) => exec
                    .said
                    .extend_from_slice(buffer.get(..count).unwrap_or_default()),
                Err(nix::errno::Errno::EINTR) => {}
                Err(nix::errno::Errno::EAGAIN) => break false,
                Err(_) => break true,
            }
        };
        if ended && let Some(exec) = self.execs.remove(&pid) {
            self.on_exec_outcome(exec.owner, &read_exec_outcome(&exec.said));
        }
    }

    fn on_exec_outcome(&mut self, owner: Owner, outcome: &ExecOutcome) {
        let error = match outcome {
            ExecOutcome::Executed => None,
            ExecOutcome::Failed { stage, errno } => Some(self.exec_failed(owner, *stage, *errno)),
            ExecOutcome::KilledBefore => Some(Failed {
                doing: "start".into(),
                what: self.program_of(owner).1,
                errno: 0,
                why: "it was killed before it came to execute anything".into(),
            }),
        };
        if let (Owner::Main(r#gen), Some(error)) = (owner, &error) {
            self.trouble(r#gen, &format!("failed to {error}"));
        }
        let event = match (owner, error) {
            (Owner::Main(r#gen), None) => Event::Execed { r#gen },
            (Owner::Main(r#gen), Some(error)) => Event::ExecFailed { r#gen, error },
            (Owner::Aux(..), None) => return,
            (Owner::Aux(r#gen, aux), Some(error)) => Event::AuxFailed { r#gen, aux, error },
        };
        self.core.handle(now(), event);
    }

    fn exec_failed(&self, owner: Owner, stage: Stage, errno: nix::errno::Errno) -> Failed {
        let (dir, program) = self.program_of(owner);
        let what = match stage {
            Stage::Directory => dir,
            Stage::Credentials => self.account_of(owner),
            _ => program,
        };
        let (doing, why) = (stage.doing().into(), errno.desc().into());
        Failed {
            doing,
            what,
            errno: errno as i32,
            why,
        }
    }

    /// Whom a process was to run as.
    fn account_of(&self, owner: Owner) -> String {
        let (Owner::Main(r#gen) | Owner::Aux(r#gen, _)) = owner;
        let service = self.core.service_of(r#gen);
        let spec = service.and_then(|service| self.core.spec(service));
        let user = spec.and_then(|spec| Some(format!("user {}", spec.user.as_ref()?)));
        let group = spec.and_then(|spec| Some(format!("group {}", spec.group.as_ref()?)));
        let words: Vec<String> = user.into_iter().chain(group).collect();
        words.join(" and ")
    }

    /// The working directory and the program that a process was to have.
    fn program_of(&self, owner: Owner) -> (String, String) {
        let (Owner::Main(r#gen) | Owner::Aux(r#gen, _)) = owner;
        let service = self.core.service_of(r#gen);
        let Some(spec) = service.and_then(|service| self.core.spec(service)) else {
            return Default::default();
        };
        let aux = match owner {
            Owner::Main(_) => None,
            Owner::Aux(_, aux) => self
                .gens
                .get(&r#gen)
                .and_then(|g| g.auxes.get(&aux))
                .map(|run| run.kind),
        };
        let argv = match aux {
            None => Some(spec.exec.as_slice()),
            Some(AuxKind::Test) => spec.test.as_ref().and_then(|test| test.check.command()),
            Some(AuxKind::Stop) => spec.stop_command.as_deref(),
        };
        (
            spec.dir.clone(),
            argv.and_then(|argv| argv.first())
                .cloned()
                .unwrap_or_default(),
        )
    }

    // ---- children that ended ------------------------------------------------------------

    /// Reaps everything that has ended, ours and inherited.
    pub(super) fn reap(&mut self) {
        loop {
            match reap::reap_next() {
                Ok(Some(reaped)) => self.on_reaped(reaped.pid, exit(reaped.ended)),
                Ok(None) => return,
                Err(error) => {
                    tracing::error!("failed to {error}");
                    return;
                }
            }
        }
    }

    fn on_reaped(&mut self, pid: u32, exit: Exit) {
        if self.pids.contains_key(&pid) {
            self.on_exit(pid, exit);
        } else if self.inherited.remove(&pid) {
            tracing::debug!("reaped process {pid}, which was our child from the beginning: {exit}");
        } else if self.starting > 0 {
            // It may be a start whose message has not come yet.
            self.early.insert(pid, exit);
            self.look_at_remains();
        } else {
            tracing::debug!("reaped an orphan, process {pid}: {exit}");
            self.look_at_remains();
        }
    }

    fn on_exit(&mut self, pid: u32, exit: Exit) {
        // What it said of its exec comes before its end.
        self.on_exec_ready(pid);
        self.execs.remove(&pid);
        let Some(owner) = self.pids.remove(&pid) else {
            return;
        };
        match owner {
            Owner::Main(r#gen) => {
                if self.first_ended(r#gen) {
                    self.look_closely(r#gen);
                } else {
                    self.main_ended(r#gen, exit);
                }
            }
            Owner::Aux(r#gen, aux) => {
                if let Some(run) = self
                    .gens
                    .get_mut(&r#gen)
                    .and_then(|g| g.auxes.get_mut(&aux))
                {
                    run.process = None;
                }
                self.core
                    .handle(now(), Event::AuxExited { r#gen, aux, exit });
                if self
                    .gens
                    .get(&r#gen)
                    .is_some_and(|generation| generation.stopping)
                {
                    self.look_closely(r#gen);
                }
            }
        }
        self.carry_out();
    }

    pub(super) fn main_ended(&mut self, r#gen: GenId, exit: Exit) {
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.main = None;
            generation.stopping = true;
        }
        self.look_closely(r#gen);
        self.core.handle(now(), Event::MainExited { r#gen, exit });
        self.note_remains(r#gen);
    }

    /// A generation that its main process's end did not set going down is what that left running:
    /// it may stay so for long, and is not looked at again and again.
    fn note_remains(&mut self, r#gen: GenId) {
        let service = self.core.service_of(r#gen);
        let state = service.and_then(|service| self.core.state(service));
        let remains = matches!(state, Some("starting" | "up"));
        if let Some(generation) = self.gens.get_mut(&r#gen).filter(|_| remains) {
            generation.remains = true;
            generation.stopping = false;
        }
    }

    /// Somebody whom we inherited has ended: where no watch tells of it, it may have been the
    /// last of what remained of a service.
    fn look_at_remains(&mut self) {
        let unwatched =
            |generation: &Generation| generation.remains && generation.watches.is_empty();
        let gens = self
            .gens
            .iter()
            .filter(|(_, generation)| unwatched(generation));
        let gens: Vec<GenId> = gens.map(|(r#gen, _)| *r#gen).collect();
        for r#gen in gens {
            self.look_closely(r#gen);
        }
    }

    fn deliver_early(&mut self, pid: u32) {
        if let Some(exit) = self.early.remove(&pid) {
            self.on_exit(pid, exit);
        }
    }

    fn forget_early(&mut self, error: &SpawnError) {
        if let SpawnError::Stillborn { pid, .. } = error {
            self.early.remove(pid);
        }
    }

    /// With no start under way, a status that nobody claimed was an orphan's.
    fn drop_strangers(&mut self) {
        if self.starting == 0 {
            self.early.clear();
        }
    }

    // ---- cgroups ------------------------------------------------------------------------

    /// Watches a generation's cgroups, where there are any.
    pub(super) fn watch(&mut self, r#gen: GenId) {
        let Some(notify) = &mut self.notify else {
            return;
        };
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        let Some(dir) = generation.dir.clone() else {
            return;
        };
        if !generation.watches.is_empty() {
            return;
        }
        for path in [dir.join("main"), dir] {
            match notify.get_mut().add(&path) {
                Ok(watch) => {
                    generation.watches.push(watch);
                    self.watches.insert(watch, r#gen);
                }
                Err(error) => {
                    tracing::warn!(
                        "{}: failed to {error}: it is read again and again while it stops",
                        generation.name
                    );
                }
            }
        }
    }

    /// Takes the watches away: before the rmdir, or they leak.
    pub(super) fn unwatch(&mut self, r#gen: GenId) {
        let watches = self
            .gens
            .get_mut(&r#gen)
            .map(|g| std::mem::take(&mut g.watches));
        for watch in watches.unwrap_or_default() {
            self.watches.remove(&watch);
            if let Some(notify) = &mut self.notify {
                notify.get_mut().remove(watch);
            }
        }
    }

    pub(super) fn on_changed(&mut self, drained: Result<Drained, SysError>) {
        match drained {
            Ok(drained) => {
                let mut gens: Vec<GenId> = if drained.overflow {
                    self.gens.keys().copied().collect()
                } else {
                    drained
                        .changed
                        .iter()
                        .filter_map(|w| self.watches.get(w))
                        .copied()
                        .collect()
                };
                gens.sort_unstable();
                gens.dedup();
                for r#gen in gens {
                    self.read(r#gen);
                }
            }
            Err(error) => {
                tracing::error!(
                    "failed to {error}: cgroups are read again and again while they stop"
                );
                self.notify = None;
                self.watches.clear();
                for generation in self.gens.values_mut() {
                    generation.watches.clear();
                }
            }
        }
    }

    /// Something happened that may empty the cgroup: read it now and again in a moment.
    pub(super) fn look_closely(&mut self, r#gen: GenId) {
        self.forget_rereads(r#gen);
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.rereads = Some(0);
        }
        self.read_again(r#gen);
    }

    /// No reading of the cgroup is due any more.
    pub(super) fn forget_rereads(&mut self, r#gen: GenId) {
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.rereads = None;
            if let Some(due) = generation.reread_due.take() {
                self.rereads.remove(&(due, r#gen));
            }
        }
    }

    /// A reading, and the time of the next one if this one does not settle it.
    pub(super) fn read_again(&mut self, r#gen: GenId) {
        let populated = self.read(r#gen);
        let notified = self.notify.is_some();
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        let notified = notified && !generation.watches.is_empty();
        let step = generation.rereads.unwrap_or(0);
        let pause = match REREADS_MS.get(step) {
            Some(ms) => Some(*ms),
            None if notified || !generation.stopping => None,
            None => POLL_MS
                .get(step - REREADS_MS.len())
                .or(POLL_MS.last())
                .copied(),
        };
        if let Some(due) = generation.reread_due.take() {
            self.rereads.remove(&(due, r#gen));
        }
        if populated == Some(false) {
            generation.rereads = None;
        } else if let Some(ms) = pause {
            let due = now() + Duration::from_millis(ms);
            generation.rereads = Some(step + 1);
            generation.reread_due = Some(due);
            self.rereads.insert((due, r#gen));
        }
    }

    /// Reads whether anything lives in the generation and tells the core; `None` while that is
    /// being found out, or cannot be.
    fn read(&mut self, r#gen: GenId) -> Option<bool> {
        let generation = self.gens.get(&r#gen)?;
        let Some(dir) = &generation.dir else {
            if generation.own_pids {
                return self.read_first(r#gen);
            }
            self.count_members(r#gen);
            return None;
        };
        let whole = populated(dir);
        // With nobody in the whole there is nobody in it.
        let main = match whole {
            Ok(false) => Ok(false),
            _ => populated(&dir.join("main")),
        };
        let (main, whole) = match (main, whole) {
            (Ok(main), Ok(whole)) => (main, whole),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!("{}: failed to {error}", generation.name);
                return None;
            }
        };
        self.core
            .handle(now(), Event::Cgroup { r#gen, main, whole });
        Some(whole)
    }

    pub(super) fn on_members(&mut self, r#gen: GenId, count: usize, error: Option<SysError>) {
        match error {
            None => {
                let alive = count > 0;
                self.core.handle(
                    now(),
                    Event::Cgroup {
                        r#gen,
                        main: alive,
                        whole: alive,
                    },
                );
                if !alive {
                    self.forget_rereads(r#gen);
                }
            }
            Some(error) => self.trouble(r#gen, &format!("failed to {error}")),
        }
    }

    pub(super) fn trouble(&self, r#gen: GenId, what: &str) {
        let name = self
            .gens
            .get(&r#gen)
            .map_or("?", |generation| &generation.name);
        tracing::warn!("{name}: {what}");
    }
}

/// Whether somebody lives in a cgroup. One that is gone holds nobody.
fn populated(dir: &std::path::Path) -> Result<bool, SysError> {
    match cgroup::read_events(dir) {
        Ok(events) => Ok(events.populated),
        Err(error) if cgroup::is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn exit(ended: Ended) -> Exit {
    match ended {
        Ended::Code(code) => Exit::Code(code),
        Ended::Signal { signal, core } => Exit::Signal { signal, core },
    }
}
