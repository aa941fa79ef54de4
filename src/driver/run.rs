//! The loop: one thread, woken only by events. Intake turns what the kernel and clients say into
//! events, the core decides, dispatch carries out what it wants.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};

use super::asked::{Came, Ends, Means};
use super::births::STARTS_TO_TIDY;
use super::generation::Generation;
use super::lane::Lane;
use super::message::Message;
use super::place::Place;
use super::resolve::Readings;
use super::scans::Wanted;
use super::service_files::ServiceFiles;
use super::sockets::Kept;
use super::store::Store;
use super::threads::Threads;
use crate::control::{Ask, Gauge, Tally};
use crate::core::{
    Containment, Event, Exit, GenId, OpId, Outcome, Reply, Request, RequestId, ServiceId,
    Supervisor, Time,
};
use crate::logs::Logs;
use crate::state::Instance;
use crate::sys::clock::{self, BootTimer};
use crate::sys::notify::{CgroupEvents, Watch};
use crate::sys::rlimit::OpenFiles;
use crate::sys::{SysError, readiness, reap};

/// How many messages are taken before descriptors get their turn again.
const MESSAGES_A_TURN: usize = 64;

/// Whose process a pid is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The main process of a generation.
    Main(GenId),
    /// A generation's auxiliary command.
    Aux(GenId, OpId),
}

/// An exec pipe that has not said its last word.
pub(super) struct ExecPipe {
    pub(super) owner: Owner,
    pub(super) pipe: Arc<AsyncFd<std::os::fd::OwnedFd>>,
    pub(super) said: Vec<u8>,
    /// Waits for it to be readable.
    pub(super) task: tokio::task::AbortHandle,
}

impl Drop for ExecPipe {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The supervisor's process: the core and everything it needs to be true.
pub(super) struct Driver {
    pub(super) core: Supervisor,
    pub(super) place: Arc<Place>,
    /// Boxed: a tree filled in ascending order is half empty.
    pub(super) gens: BTreeMap<GenId, Box<Generation>>,
    pub(super) pids: BTreeMap<u32, Owner>,
    pub(super) execs: BTreeMap<u32, ExecPipe>,
    /// Who was our child before we started anything: nobody's service.
    pub(super) inherited: BTreeSet<u32>,
    /// Whether there were any, though they may have ended since.
    pub(super) inherited_any: bool,
    /// Whether a child that nobody knew ended since the scan under way began.
    pub(super) orphan_reaped: bool,
    /// Whether a start was under way while the scan was.
    pub(super) born_during_scan: bool,
    /// How often in a row a pass was made again because of that.
    pub(super) scans_again: u8,
    /// When the last child was reaped, or a moment before, in clock ticks after boot.
    pub(super) reaping: u64,
    /// Known children that were reaped during the pass: what has their number is unknown.
    pub(super) known_reaped: Vec<u32>,
    /// Statuses of children that nobody knew yet, kept while a start is under way.
    pub(super) early: BTreeMap<u32, Exit>,
    /// Starts that have not come back, and how many of them are of main processes.
    pub(super) starting: usize,
    pub(super) mains_starting: usize,
    /// Starts since the heap was last tidied up.
    pub(super) starts_since_tidy: usize,
    /// When it is to be tidied up.
    pub(super) tidy_at: Option<Time>,
    /// Generations whose start waits for others to come back.
    pub(super) waiting_starts: VecDeque<GenId>,
    /// Files that are being read for starts.
    pub(super) readings: Readings,
    /// Generations with their last verdict of which somebody lives on purpose.
    pub(super) kept: BTreeMap<GenId, Box<Generation>>,
    /// What is kept open for services from one start to the next.
    pub(super) open: BTreeMap<ServiceId, Kept>,
    /// Sockets' files that are being removed.
    pub(super) unlinking: Gauge,
    /// For the standard input of everything that is started.
    pub(super) null: Option<File>,
    pub(super) inbox: mpsc::UnboundedSender<Message>,
    messages: mpsc::UnboundedReceiver<Message>,
    asks: mpsc::UnboundedReceiver<Ask>,
    pub(super) notify: Option<AsyncFd<CgroupEvents>>,
    pub(super) watches: BTreeMap<Watch, GenId>,
    timer: AsyncFd<BootTimer>,
    timer_set: Option<Time>,
    /// When which generation's cgroup is read again.
    pub(super) rereads: BTreeSet<(Time, GenId)>,
    pub(super) logs: Logs,
    /// Answers on their way to clients.
    pub(super) gauge: Gauge,
    /// What is counted for the metrics.
    pub(super) tally: Tally,
    pub(super) store: Store,
    pub(super) files: Arc<ServiceFiles>,
    /// What is done with service files, one after another.
    pub(super) file_jobs: Lane,
    pub(super) replies: BTreeMap<RequestId, oneshot::Sender<Reply>>,
    /// With so many answers to give it is seen who has gone.
    pub(super) replies_most: usize,
    pub(super) next_request: u64,
    /// The environment every service begins with.
    pub(super) environment: Arc<[(OsString, OsString)]>,
    /// The limit on open files to give to services.
    pub(super) open_files: Option<OpenFiles>,
    /// Threads for what blocks; few of them for starts, and for what removes cgroups.
    pub(super) threads: Threads,
    pub(super) starts: Lane,
    pub(super) fences: Lane,
    /// Scans that wait for the pass under way to end.
    pub(super) wanted_scans: Vec<(GenId, Wanted)>,
    pub(super) scanning: bool,
    /// Leftovers of an earlier supervisor without a verdict, and what it said of itself.
    pub(super) leftovers: BTreeSet<GenId>,
    pub(super) previous: Option<Instance>,
    pub(super) succeeded: bool,
    /// Who inherited the orphans of an earlier supervisor.
    pub(super) orphan_reaper: Option<u32>,
    /// How long after a shutdown's beginning the last resort acts, as process 1 of a machine.
    pub(super) last_resort: Option<Duration>,
    pub(super) outcome: Option<Outcome>,
    /// Generations with a last verdict of unverified: the final sweep looks for them once more.
    pub(super) doubted: VecDeque<Box<Generation>>,
    /// Whether there were more of them than are held.
    pub(super) doubts_lost: bool,
}

/// Answers to give that are few, whoever waits for them.
pub(super) const REPLIES: usize = 1024;

/// What the loop is made of.
pub(super) struct Parts {
    pub(super) core: Supervisor,
    pub(super) place: Arc<Place>,
    pub(super) gens: BTreeMap<GenId, Box<Generation>>,
    pub(super) asks: mpsc::UnboundedReceiver<Ask>,
    pub(super) logs: Logs,
    /// Answers on their way to clients.
    pub(super) gauge: Gauge,
    pub(super) tally: Tally,
    pub(super) store: Store,
    pub(super) files: ServiceFiles,
    pub(super) threads: Threads,
    pub(super) environment: Vec<(OsString, OsString)>,
    pub(super) open_files: Option<OpenFiles>,
    pub(super) previous: Option<Instance>,
    /// See [`Driver::last_resort`].
    pub(super) last_resort: Option<Duration>,
}

/// The boot clock, as the core wants it.
pub(super) fn now() -> Time {
    Time::from_nanos(clock::boot_now())
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Result<Self, SysError> {
        let (inbox, messages) = mpsc::unbounded_channel();
        let asynchronous = |error: std::io::Error| {
            SysError::io("watch", std::path::Path::new("a descriptor"), &error)
        };
        let notify = match CgroupEvents::new() {
            Ok(events) => Some(readiness::readable(events).map_err(asynchronous)?),
            Err(error) => {
                tracing::warn!(
                    "failed to {error}: cgroups are read again and again while they stop"
                );
                None
            }
        };
        let leftovers: BTreeSet<GenId> = parts.gens.keys().copied().collect();
        let inherited: BTreeSet<u32> = reap::children().unwrap_or_default().into_iter().collect();
        // The orphans of a killed supervisor went to process 1, or to us if that is who we are; our
        // own do, too, where we may not become a subreaper.
        let elsewhere = parts.place.guarantee().containment == Containment::ProcessGroup;
        let elsewhere = elsewhere || !leftovers.is_empty();
        let orphan_reaper = (elsewhere && std::process::id() != 1).then_some(1);
        Ok(Self {
            core: parts.core,
            place: parts.place,
            gens: parts.gens,
            pids: BTreeMap::new(),
            execs: BTreeMap::new(),
            inherited_any: !inherited.is_empty(),
            orphan_reaped: false,
            born_during_scan: false,
            scans_again: 0,
            reaping: 0,
            known_reaped: Vec::new(),
            inherited,
            early: BTreeMap::new(),
            starting: 0,
            mains_starting: 0,
            starts_since_tidy: STARTS_TO_TIDY,
            tidy_at: None,
            waiting_starts: VecDeque::new(),
            readings: Readings::default(),
            kept: BTreeMap::new(),
            open: BTreeMap::new(),
            unlinking: Gauge::default(),
            null: File::open("/dev/null").ok(),
            messages,
            asks: parts.asks,
            notify,
            watches: BTreeMap::new(),
            timer: readiness::readable(BootTimer::new()?).map_err(asynchronous)?,
            timer_set: None,
            rereads: BTreeSet::new(),
            logs: parts.logs,
            gauge: parts.gauge,
            tally: parts.tally,
            store: parts.store,
            files: Arc::new(parts.files),
            file_jobs: Lane::new(1, parts.threads.clone()),
            replies: BTreeMap::new(),
            replies_most: REPLIES,
            next_request: 0,
            environment: parts.environment.into(),
            open_files: parts.open_files,
            starts: Lane::new(2, parts.threads.clone()),
            fences: Lane::new(2, parts.threads.clone()),
            threads: parts.threads,
            wanted_scans: Vec::new(),
            scanning: false,
            leftovers,
            previous: parts.previous,
            succeeded: false,
            orphan_reaper,
            inbox,
            last_resort: parts.last_resort,
            outcome: None,
            doubted: VecDeque::new(),
            doubts_lost: false,
        })
    }

    /// Runs until the core says that it is over, and says by when all is to be.
    pub(super) async fn run(mut self, mut ends: Ends) -> (Outcome, Time) {
        self.succeed_previous();
        for r#gen in self.leftovers.clone() {
            self.watch(r#gen);
            self.read_again(r#gen);
        }
        self.carry_out();
        self.tidy_up();
        loop {
            self.carry_out();
            if let Some(outcome) = self.outcome.take() {
                return (outcome, self.core.ends_by().unwrap_or(now()));
            }
            // Here, where the loop sleeps next, the stack is as short as it gets.
            if self.tidy_at.is_some_and(|at| at <= now()) {
                self.tidy_up();
            }
            self.set_timer();
            tokio::select! {
                biased;
                came = ends.next() => match came {
                    Came::Child => self.reap(),
                    Came::Asked(signal, means) => self.on_signal(signal, means),
                },
                Some(message) = self.messages.recv() => {
                    self.on_message(message);
                    for _ in 0..MESSAGES_A_TURN {
                        let Ok(message) = self.messages.try_recv() else { break };
                        self.on_message(message);
                    }
                }
                Some(ask) = self.asks.recv() => self.on_ask(ask),
                changed = changed(self.notify.as_mut()) => self.on_changed(changed),
                fired = self.timer.readable() => {
                    if let Ok(mut fired) = fired {
                        // An error to read it leaves it readable: it is set anew below.
                        let _ = fired.get_inner().clear();
                        fired.clear_ready();
                    }
                    self.timer_set = None;
                }
            }
            self.on_time();
        }
    }

    fn on_signal(&mut self, signal: &str, means: Means) {
        let Means::End(kind) = means else {
            return tracing::warn!("{signal}: ignored, process 1 of a machine stays");
        };
        if self.core.shutting_down() {
            tracing::info!("{signal}: shutting down at once");
            self.core.handle(now(), Event::Terminate);
        } else {
            tracing::info!("{signal}: shutting down");
        }
        // Nobody waits for the answer.
        self.next_request += 1;
        let id = RequestId(self.next_request);
        let request = Request::Shutdown { kind };
        self.core.handle(now(), Event::Request { id, request });
    }

    /// Hands the core its timeouts, and reads again what is due for it.
    fn on_time(&mut self) {
        let now = now();
        while let Some(&(at, r#gen)) = self.rereads.first()
            && at <= now
        {
            self.rereads.pop_first();
            self.read_again(r#gen);
        }
        if self.core.poll_timeout().is_some_and(|at| at <= now) {
            self.core.handle_timeout(now);
        }
    }

    fn set_timer(&mut self) {
        let reread = self.rereads.first().map(|(at, _)| *at);
        let due = [self.core.poll_timeout(), reread, self.tidy_at];
        let next = due.into_iter().flatten().min();
        if next == self.timer_set {
            return;
        }
        match self.timer.get_ref().set(next.map(Time::as_nanos)) {
            Ok(()) => self.timer_set = next,
            Err(error) => tracing::error!("failed to {error}"),
        }
    }

    /// Runs `work` on a thread for what blocks; its message comes back to the loop.
    pub(super) fn off_loop(&self, work: impl FnOnce() -> Message + Send + 'static) {
        self.threads.run(self.reported(work));
    }

    /// `work` as a job whose message comes back to the loop.
    pub(super) fn reported(
        &self,
        work: impl FnOnce() -> Message + Send + 'static,
    ) -> impl FnOnce() + Send + 'static {
        let inbox = self.inbox.clone();
        move || match work() {
            Message::Nothing => {}
            message => {
                // Fails only when the loop has ended.
                let _ = inbox.send(message);
            }
        }
    }
}

/// The cgroups whose events changed; waits for ever where nothing is watched.
async fn changed(
    notify: Option<&mut AsyncFd<CgroupEvents>>,
) -> Result<crate::sys::notify::Drained, SysError> {
    let Some(notify) = notify else {
        return std::future::pending().await;
    };
    match notify.readable_mut().await {
        Ok(mut ready) => {
            let drained = ready.get_inner_mut().drain();
            ready.clear_ready();
            drained
        }
        Err(error) => Err(SysError::io(
            "watch",
            std::path::Path::new("inotify"),
            &error,
        )),
    }
}
