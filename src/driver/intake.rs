//! From readiness to events: starts that came back, and children that ended.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use super::generation::{Generation, Process};
use super::message::{AuxBorn, Message};
use super::report;
use super::run::{Driver, ExecPipe, Owner, now};
use super::translate::spawn_failed;
use crate::core::{Event, Exit, Failed, GenId, OpId};
use crate::sys::reap::{self, Ended};
use crate::sys::spawn::{Born, ExecOutcome, SpawnError, Stage, read_exec_outcome};
use crate::sys::{procfs, readiness, usage};

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
                    generation.rare.moved_in.extend(moved_in);
                }
                self.on_event(Event::Killed { r#gen, op, report });
            }
            Message::Said { r#gen, said } => self.on_said(r#gen, said),
            Message::Opened {
                service,
                op,
                result,
            } => self.on_opened(service, op, result),
            Message::NamedMainEnded { r#gen, pid } => self.on_named_main_ended(r#gen, pid),
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
            generation.rare.auxes.remove(aux);
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
        self.tidy_later();
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.born = true;
        }
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
                self.hear_notices(r#gen);
                self.deliver_early(pid);
            }
            Err(error) => {
                self.forget_early(&error);
                let error = spawn_failed(&error);
                self.trouble(r#gen, &format!("failed to {error}"));
                self.core.handle(now(), Event::SpawnFailed { r#gen, error });
            }
        }
        self.send_waiting_signals(r#gen);
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
                    .and_then(|g| g.rare.auxes.get_mut(&aux))
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
                    .and_then(|g| g.rare.auxes.get_mut(&aux))
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
        (Owner, OwnedFd),
    ) {
        self.pids.insert(born.id.pid, owner);
        let process = Arc::new(Process {
            id: born.id,
            pidfd: born.pidfd,
        });
        ((process, born.mark), (owner, born.exec_pipe))
    }

    fn watch_exec(&mut self, pid: u32, (owner, pipe): (Owner, OwnedFd)) {
        let pipe = match readiness::readable(pipe) {
            Ok(pipe) => pipe,
            Err(error) => {
                // Without it an exec is taken as done: the exit will tell if it was not.
                tracing::warn!("failed to watch the start of process {pid}: {error}");
                return self.on_exec_outcome(owner, &ExecOutcome::Executed);
            }
        };
        let (pipe, task) = self.await_words(pipe, move || Message::ExecReady { pid });
        let exec = ExecPipe {
            owner,
            pipe,
            said: Vec::new(),
            task,
        };
        self.execs.insert(pid, exec);
        self.on_exec_ready(pid);
    }

    /// Sends `message` to the loop whenever there is something to read in a pipe, until its other
    /// end is closed.
    pub(super) fn await_words(
        &self,
        pipe: AsyncFd<OwnedFd>,
        message: impl Fn() -> Message + Send + 'static,
    ) -> (Arc<AsyncFd<OwnedFd>>, AbortHandle) {
        let pipe = Arc::new(pipe);
        let (inbox, readable) = (self.inbox.clone(), Arc::clone(&pipe));
        let task = tokio::spawn(async move {
            loop {
                let Ok(mut ready) = readable.readable().await else {
                    return;
                };
                // Stays ready once the other end is closed; what there is to read then is all.
                let last = ready.ready().is_read_closed();
                ready.clear_ready();
                if inbox.send(message()).is_err() || last {
                    return;
                }
            }
        });
        (pipe, task.abort_handle())
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
                .and_then(|g| g.rare.auxes.get(&aux))
                .map(|run| run.kind),
        };
        let argv = match aux {
            None => Some(spec.exec.as_slice()),
            Some(kind) => spec.aux_command(kind),
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
            // Before it is, so that whoever was born earlier was born while it had its number.
            self.reaping = procfs::ticks_now();
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
        // Its number is free for others from now on.
        for kept in self.kept.values_mut() {
            kept.rare.kept.retain(|id| id.pid != pid);
        }
        if self.scanning {
            self.known_reaped.push(pid);
        }
        if self.pids.contains_key(&pid) {
            self.on_exit(pid, exit);
        } else if self.inherited.remove(&pid) {
            tracing::debug!("reaped process {pid}, which was our child from the beginning: {exit}");
        } else if self.starting > 0 {
            // It may be a start whose message has not come yet.
            self.early.insert(pid, exit);
            self.orphan_reaped = true;
            self.look_at_remains();
        } else {
            tracing::debug!("reaped an orphan, process {pid}: {exit}");
            self.orphan_reaped = true;
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
                if let Some(generation) = self.gens.get_mut(&r#gen) {
                    generation.main_reaped = Some(self.reaping);
                }
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
                    .and_then(|g| g.rare.auxes.get_mut(&aux))
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
        self.read_oom_kills(r#gen);
        self.core.handle(now(), Event::MainExited { r#gen, exit });
        self.note_remains(r#gen);
    }

    /// Tells the core whom the kernel has killed for want of memory, before it hears of ends that
    /// come of it.
    pub(super) fn read_oom_kills(&mut self, r#gen: GenId) {
        let generation = self.gens.get(&r#gen);
        let counts = generation.filter(|generation| generation.memory_limited);
        let dir = counts.and_then(|generation| generation.dir.as_deref());
        let kills = dir.and_then(usage::oom_kills).unwrap_or_default();
        if kills > 0 {
            self.core.handle(now(), Event::OutOfMemory { r#gen, kills });
        }
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
        let unwatched = |generation: &Generation| generation.remains && !generation.is_watched();
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

    pub(super) fn trouble(&self, r#gen: GenId, what: &str) {
        let name = self
            .gens
            .get(&r#gen)
            .map_or("?", |generation| &generation.name);
        tracing::warn!("{name}: {what}");
    }
}

pub(super) fn exit(ended: Ended) -> Exit {
    match ended {
        Ended::Code(code) => Exit::Code(code),
        Ended::Signal { signal, core } => Exit::Signal { signal, core },
    }
}
