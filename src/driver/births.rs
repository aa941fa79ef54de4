//! From effects to system calls: what makes processes, main ones and auxiliary ones, and ends the
//! latter. What may block runs off the loop, and its answer comes back as a message.

use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::first::First;
use super::generation::{Aux, Generation};
use super::ladder::KILL_SETTLE;
use super::message::{AuxBorn, Message};
use super::place::Place;
use super::resolve::{self, Resolved};
use super::run::{Driver, now};
use super::store::chain;
use super::translate::failed;
use crate::core::{
    AuxKind, Event, Failed, GenId, LogFormat, LogTarget, LogTo, OpId, Reach, Resources,
    ScanQuality, ServiceId, Spec,
};
use crate::logs::{Capture, Command, Format, Mode, Outlet, Output, Rotated, Target, WriteEnds};
use crate::state::Completion;
use crate::sys::rlimit::OpenFiles;
use crate::sys::spawn::{self, Attributes, Born, Forward, Prepared, SpawnError, World};
use crate::sys::{SysError, cgroup, clock, heap, rlimit, signal};

/// The variable by which a process's environment names its generation.
pub(super) const MARKER: &str = "NOUGHT_GENERATION";
/// Starts under way at a time: those that the lane's threads do, and what they do next.
const STARTS_AHEAD: usize = 4;
/// So many starts leave something behind that is worth giving back.
pub(super) const STARTS_TO_TIDY: usize = 16;
/// And so long after the first that made it so many: as long as a thread without work stays.
const TIDY_AFTER: Duration = Duration::from_secs(2);

impl Driver {
    pub(super) fn spawn(&mut self, r#gen: GenId, service: ServiceId) {
        let Some(spec) = self.core.spec(service) else {
            return;
        };
        let dir = self.place.generation_dir(&spec.name, r#gen);
        let marker = self.place.marker(&spec.name, r#gen);
        let mut generation = Generation::new(service, spec.name.clone(), dir, marker);
        generation.own_pids = spec.pid_namespace;
        generation.memory_limited = spec.resources.is_some() || self.place.counts_memory();
        let waits = resolve::is_needed(spec) || !self.has_open(service, spec);
        let spec = waits.then(|| spec.clone());
        self.await_no_demand(service);
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

    /// After many starts, once they have come to rest, and once at the beginning: what they, the
    /// arguments and the service files needed for a moment goes back to the kernel. Every later
    /// start copies the page tables of all that is left.
    pub(super) fn tidy_up(&mut self) {
        self.tidy_at = None;
        if self.mains_starting > 0 {
            return self.tidy_later();
        }
        self.starts_since_tidy = 0;
        self.core.tidy_up();
        self.logs.tidy_up();
        heap::pack(&mut self.gens);
        heap::pack(&mut self.pids);
        heap::pack(&mut self.watches);
        if let Some(notify) = &mut self.notify {
            notify.get_mut().tidy_up();
        }
        self.waiting_starts.shrink_to_fit();
        self.threads.run(heap::give_back);
        heap::give_back_stack();
    }

    /// Plans to, if there is something to tidy up and nothing is planned yet.
    pub(super) fn tidy_later(&mut self) {
        if self.starts_since_tidy >= STARTS_TO_TIDY && self.tidy_at.is_none() {
            self.tidy_at = Some(now() + TIDY_AFTER);
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
        let mut output = None;
        let stdio = rlimit::room_for_a_start()
            .map_err(|error| failed(&error))
            .and_then(|()| self.stdio(r#gen, &spec, Command::Main, &mut output));
        let writer = output.as_ref().map(Output::pid);
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.output = output;
        }
        let given = stdio.and_then(|stdio| {
            let mut voice = self.listen_to(r#gen, &spec)?;
            self.hand_over(r#gen, &spec, &mut voice)?;
            Ok((stdio, voice))
        });
        let (stdio, voice) = match given {
            Ok(given) => given,
            Err(error) => {
                self.trouble(r#gen, &format!("failed to {error}"));
                return self.core.handle(now(), Event::SpawnFailed { r#gen, error });
            }
        };
        self.starting += 1;
        self.born_during_scan = true;
        self.mains_starting += 1;
        self.starts_since_tidy += 1;
        let mut program = self.program(r#gen);
        program.vars = voice.vars;
        program.listen_pid = voice.listen_pid;
        let stdio = spawn::Stdio::Also(stdio, voice.descriptors);
        let (place, state) = (Arc::clone(&self.place), self.store.dir());
        self.starts.push(self.reported(move || {
            let record = place.record(&spec, r#gen, dir.clone(), &marker);
            let main = dir.as_ref().map(|d| d.join("main"));
            let what = spawn::Spec {
                pid_namespace: forward(&spec),
                ..program.spec(&spec, &spec.exec, stdio, &marker, main)
            };
            let result = (|| {
                if let Some(dir) = &dir {
                    place.make_generation(dir).map_err(SpawnError::NotBorn)?;
                }
                let counted = place.counts_memory().then(Resources::default);
                if let Some(resources) = spec.resources.as_deref().or(counted.as_ref()) {
                    let owner = &what.attributes.run_as;
                    place
                        .limit(&spec.name, dir.as_deref(), resources, owner)
                        .map_err(SpawnError::NotBorn)?;
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
                    if let Some(writer) = &writer {
                        writer.store(born.id.pid, Ordering::Relaxed);
                    }
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
        r#gen: GenId,
        spec: &Spec,
        command: Command,
        output_of: &mut Option<Output>,
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
        let outlet = spec.log_to.as_deref().map(outlet);
        let capture = Capture {
            service: &spec.name,
            command,
            mode,
            outlet: outlet.as_ref(),
            generation: r#gen.0,
        };
        let captured = self.logs.capture(capture);
        let (WriteEnds { stdout, stderr }, output) = captured.map_err(|error| Failed {
            doing: "capture the output of".into(),
            what: spec.name.clone(),
            errno: error.errno(),
            why: error.to_string(),
        })?;
        *output_of = Some(output);
        Ok([null, stdout, stderr])
    }

    fn program(&self, r#gen: GenId) -> Program {
        let generation = self.gens.get(&r#gen);
        Program {
            resolved: generation
                .and_then(|g| g.resolved.clone())
                .unwrap_or_default(),
            environment: Arc::clone(&self.environment),
            vars: Vec::new(),
            open_files: self.open_files,
            mark: self.place.marks(),
            listen_pid: false,
        }
    }

    pub(super) fn run_aux(&mut self, r#gen: GenId, aux: OpId, kind: AuxKind) {
        let Some(generation) = self.gens.get(&r#gen) else {
            return;
        };
        let Some(spec) = self.core.spec(generation.service).cloned() else {
            return;
        };
        let argv = spec.aux_command(kind).map(<[String]>::to_vec);
        if let (None, Some(check)) = (&argv, spec.check(kind)) {
            return self.run_check(r#gen, aux, kind, check.clone());
        }
        let command = match kind {
            AuxKind::Test => Command::Test,
            AuxKind::Health => Command::Health,
            AuxKind::Stop => Command::Stop,
            AuxKind::Reload => Command::Reload,
        };
        let marker = generation.marker.clone();
        let join = generation.mark_to_join();
        let control = generation.dir.as_ref().map(|dir| dir.join("control"));
        let dir = control.as_ref().map(|dir| dir.join(aux.0.to_string()));
        let mut output = None;
        let stdio = self.stdio(r#gen, &spec, command, &mut output);
        let (stdio, enter) = match self.world_of(r#gen) {
            Ok(enter) => (stdio, enter),
            Err(error) => (stdio.and(Err(failed(&error))), None),
        };
        let mut run = Aux {
            kind,
            dir: dir.clone(),
            process: None,
            output,
            ending: false,
            starting: stdio.is_ok(),
            look: None,
        };
        if stdio.is_err() {
            run.dir = None;
        }
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.rare.auxes.insert(aux, run);
            if kind == AuxKind::Stop {
                generation.let_output_go();
            }
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
        self.born_during_scan = true;
        let program = self.program(r#gen);
        let place = Arc::clone(&self.place);
        self.starts.push(self.reported(move || {
            let argv = argv.unwrap_or_default();
            let what = spawn::Spec {
                // So that whoever leaves the command's cgroup is told like any other of this
                // start.
                mark: false,
                join,
                enter,
                ..program.spec(
                    &spec,
                    &argv,
                    spawn::Stdio::Only(stdio),
                    &marker,
                    dir.clone(),
                )
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

    /// The namespaces that a command of a generation is to be born in, where they are not ours.
    fn world_of(&self, r#gen: GenId) -> Result<Option<World>, SysError> {
        let first = self.gens.get(&r#gen).and_then(|g| g.rare.first.as_ref());
        first.map(First::world).transpose()
    }

    /// Ends whatever is left of an auxiliary command: at once, or when its start has come back.
    pub(super) fn end_aux(&mut self, r#gen: GenId, aux: OpId) {
        let Some(run) = self
            .gens
            .get_mut(&r#gen)
            .and_then(|g| g.rare.auxes.get_mut(&aux))
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
        let dir = run.dir.clone();
        let mut error = None;
        if dir.is_none()
            && let Some(process) = &run.process
        {
            // Without a cgroup its process group is all there is to go by. Its number is its own
            // here, where nothing is reaped meanwhile.
            error = signal::send_group(process.id.pid, libc::SIGKILL).err();
        }
        let place = Arc::clone(&self.place);
        self.off_loop(move || {
            let error = match dir {
                Some(dir) => end_cgroup(&place, &dir).err(),
                None => error,
            };
            Message::Event(Event::AuxEnded {
                r#gen,
                aux,
                error: error.as_ref().map(failed),
            })
        });
    }
}

/// What every process is started with.
struct Program {
    environment: Arc<[(OsString, OsString)]>,
    resolved: Arc<Resolved>,
    /// What only the main process is told.
    vars: Vec<(OsString, OsString)>,
    open_files: Option<OpenFiles>,
    mark: bool,
    /// Descriptors are handed to it, as LISTEN_PID says.
    listen_pid: bool,
}

impl Program {
    /// One command of a service. Copies the whole environment: off the loop.
    fn spec(
        &self,
        spec: &Spec,
        argv: &[String],
        stdio: spawn::Stdio,
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
        let told = self.vars.iter();
        let told = told.map(|(key, value)| (key.as_os_str(), value.as_os_str()));
        for (key, value) in read.chain(own).chain(told).chain(marker) {
            env.retain(|(known, _)| known != key);
            env.push((key.to_owned(), value.to_owned()));
        }
        spawn::Spec {
            program: OsString::from(argv.first().map_or("", String::as_str)),
            argv: argv.iter().map(OsString::from).collect(),
            env,
            dir: PathBuf::from(&spec.dir),
            stdio,
            open_files: self.open_files,
            cgroup,
            mark: self.mark,
            join: None,
            pid_namespace: None,
            enter: None,
            new_session: true,
            job: None,
            attributes: Attributes {
                listen_pid: self.listen_pid,
                ..resolve::attributes(spec, &self.resolved.run_as)
            },
        }
    }
}

fn outlet(to: &LogTo) -> Outlet {
    let target = match &to.target {
        LogTarget::File {
            path,
            max_size,
            keep,
            compress,
        } => Target::File(Rotated {
            path: path.into(),
            max_size: *max_size,
            keep: *keep,
            compress: *compress,
        }),
        LogTarget::Journal(path) => Target::Journal(path.into()),
        LogTarget::Syslog(path) => Target::Syslog(path.into()),
    };
    let format = match to.format {
        LogFormat::Plain => Format::Plain,
        LogFormat::Prefix => Format::Prefix,
        LogFormat::Json => Format::Json,
    };
    Outlet {
        target,
        format,
        block: to.block,
    }
}

/// Whether it gets a pid namespace of its own, and who gets the signals for its main process.
fn forward(spec: &Spec) -> Option<Forward> {
    let to = match spec.signal_to {
        Reach::Main => Forward::Program,
        // `all` are signalled one by one; what a client sends goes to the group.
        Reach::Group | Reach::All => Forward::Group,
    };
    spec.pid_namespace.then_some(to)
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
