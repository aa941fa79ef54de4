//! The driver's side of generations: where each lives, and what is held for it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::first::First;
use super::resolve::Resolved;
use crate::control::KillError;
use crate::core::{AuxKind, Containment, Foreigner, OpId, ServiceId, Signal, Time};
use crate::logs::Output;
use crate::sys::notify::Watch;
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::{ProcId, ProcStat};
use crate::sys::sd_notify::NotifySocket;
use crate::sys::spawn::Mark;

/// Begins the name of a cgroup beside a generation's, for what is kept of it.
const KEPT: &str = "kept-";

/// Who waits to hear what became of a signal.
pub(super) type Answer = oneshot::Sender<Result<(), KillError>>;

/// What is held for one start of one service, from its spawn to its last verdict.
#[derive(Debug)]
pub(super) struct Generation {
    pub(super) service: ServiceId,
    pub(super) name: String,
    /// Its cgroup; `None` where there are no cgroups.
    pub(super) dir: Option<PathBuf>,
    /// The main process until it is reaped.
    pub(super) main: Option<Arc<Process>>,
    /// The main process's pid, also after its end: it led the session and the process group.
    pub(super) leader: Option<u32>,
    /// The same with its start time, also for a leftover's.
    pub(super) main_id: Option<ProcId>,
    /// When it was reaped, or a moment before, in clock ticks after boot.
    pub(super) main_reaped: Option<u64>,
    /// The mark's number, and what keeps it from being reused (not for a leftover).
    pub(super) mark: Option<u64>,
    /// The mark's own number, which outlives us.
    pub(super) mark_id: Option<u64>,
    pub(super) mark_held: Option<Mark>,
    /// What the environment of its processes says of it: `NOUGHT_GENERATION`'s value.
    pub(super) marker: String,
    /// Processes seen in it, or descended from one that was.
    pub(super) known: Option<Arc<Mutex<BTreeSet<ProcId>>>>,
    /// Of its cgroups, where there are any.
    pub(super) watches: [Option<Watch>; 2],
    pub(super) output: Option<Output>,
    /// How often its cgroup was read again since something happened; an index into the pauses.
    pub(super) rereads: Option<usize>,
    /// When the next of these is due.
    pub(super) reread_due: Option<Time>,
    /// Its last verdict is unverified: something of it may live.
    pub(super) unverified: bool,
    /// On its way down: only then is it looked at again and again where nothing notifies us.
    pub(super) stopping: bool,
    /// Its main process is gone, and what that left running is the service.
    pub(super) remains: bool,
    /// What its start needed from files; `None`: nothing.
    pub(super) resolved: Option<Arc<Resolved>>,
    /// Its start has come back, with a process or without.
    pub(super) born: bool,
    /// A supervisor that was killed left it behind.
    pub(super) leftover: bool,
    /// It has a pid namespace of its own, or is to get one.
    pub(super) own_pids: bool,
    /// Its cgroup may count kills for want of memory.
    pub(super) memory_limited: bool,
    pub(super) rare: Rare,
}

/// What few starts come to have while they run: nothing is allocated for it until then.
#[derive(Debug, Default)]
pub(super) struct Rare(Option<Box<Unusual>>);

/// See [`Rare`].
#[derive(Debug, Default)]
pub(super) struct Unusual {
    /// Who was moved into its cgroup by others and killed with it.
    pub(super) moved_in: Vec<Foreigner>,
    pub(super) auxes: BTreeMap<OpId, Aux>,
    /// Set while a thread looks for a path that its readiness test waits for.
    pub(super) looking: Option<Arc<AtomicBool>>,
    /// Processes outside its cgroup that the last scan could not end.
    pub(super) alive: BTreeSet<ProcId>,
    /// Tasks that wait for the end of survivors outside its cgroup.
    pub(super) survivors: Vec<AbortHandle>,
    /// What its start needs is being read from files, and this ends the wait for it.
    pub(super) resolving: Option<AbortHandle>,
    /// Signals that clients sent to a main process that is not there yet.
    pub(super) signals: Vec<(Signal, Answer)>,
    /// Where it sends notices, until its main process is known and they are taken.
    pub(super) notices: Option<AsyncFd<NotifySocket>>,
    /// Tasks that listen to what it says of itself.
    pub(super) hearing: Vec<AbortHandle>,
    /// What is known of its own pid namespace.
    pub(super) first: Option<First>,
    /// Who lived in it when its first process was killed, and so was killed by the kernel.
    pub(super) went_with_first: Vec<ProcStat>,
    /// Its processes that are kept because its service's file says so, as the receipt has them.
    pub(super) kept: BTreeSet<ProcId>,
}

/// What a start has of all that when it has nothing.
static NOTHING: Unusual = Unusual {
    moved_in: Vec::new(),
    auxes: BTreeMap::new(),
    looking: None,
    alive: BTreeSet::new(),
    survivors: Vec::new(),
    resolving: None,
    signals: Vec::new(),
    notices: None,
    hearing: Vec::new(),
    first: None,
    went_with_first: Vec::new(),
    kept: BTreeSet::new(),
};

impl Rare {
    /// What there is of it, to be changed or taken: unlike a plain access it makes room for nothing.
    pub(super) fn if_any(&mut self) -> Option<&mut Unusual> {
        self.0.as_deref_mut()
    }
}

impl Deref for Rare {
    type Target = Unusual;

    fn deref(&self) -> &Unusual {
        self.0.as_deref().unwrap_or(&NOTHING)
    }
}

impl DerefMut for Rare {
    fn deref_mut(&mut self) -> &mut Unusual {
        self.0.get_or_insert_default()
    }
}

/// A process of ours that is not reaped yet.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) id: ProcId,
    pub(super) pidfd: Option<PidFd>,
}

/// A run of an auxiliary command.
#[derive(Debug)]
pub(super) struct Aux {
    pub(super) kind: AuxKind,
    /// Its own cgroup below `control`.
    pub(super) dir: Option<PathBuf>,
    pub(super) process: Option<Arc<Process>>,
    pub(super) output: Option<Output>,
    /// To be ended as soon as its start has come back.
    pub(super) ending: bool,
    /// Its start has not come back yet.
    pub(super) starting: bool,
    /// It is no command: the task that looks.
    pub(super) look: Option<AbortHandle>,
}

impl Aux {
    /// One that is no command, and so has nothing to end but the task that looks.
    pub(super) fn look(kind: AuxKind, look: Option<AbortHandle>) -> Self {
        Self {
            kind,
            dir: None,
            process: None,
            output: None,
            ending: false,
            starting: false,
            look,
        }
    }
}

impl Drop for Aux {
    fn drop(&mut self) {
        if let Some(look) = &self.look {
            look.abort();
        }
    }
}

impl Generation {
    pub(super) fn new(
        service: ServiceId,
        name: String,
        dir: Option<PathBuf>,
        marker: String,
    ) -> Self {
        Self {
            service,
            name,
            dir,
            main: None,
            leader: None,
            main_id: None,
            main_reaped: None,
            mark: None,
            mark_id: None,
            mark_held: None,
            marker,
            known: None,
            watches: [None; 2],
            output: None,
            rereads: None,
            reread_due: None,
            unverified: false,
            stopping: false,
            remains: false,
            resolved: None,
            born: false,
            leftover: false,
            own_pids: false,
            memory_limited: false,
            rare: Rare::default(),
        }
    }
}

impl Generation {
    /// What holds it where the place offers `here`: without a cgroup the orphans of what a killed
    /// supervisor left went to others, and nothing tells of those that replaced their mark.
    pub(super) fn containment(&self, here: Containment) -> Containment {
        match (&self.dir, self.leftover, self.own_pids) {
            (None, true, _) => here.max(Containment::ProcessGroup),
            (None, false, true) => here.min(Containment::PidNamespace),
            _ => here,
        }
    }

    /// Its stop has begun: it does not wait for a disk that its log is written to, so that it can
    /// end when it is asked to.
    pub(super) fn let_output_go(&self) {
        if let Some(output) = &self.output {
            output.let_go();
        }
    }

    /// Whether the kernel tells of changes in its cgroups.
    pub(super) fn is_watched(&self) -> bool {
        self.watches.iter().any(Option::is_some)
    }

    /// Whether its main process is on its way.
    pub(super) fn is_being_born(&self) -> bool {
        !self.born && self.main_id.is_none()
    }

    /// Where those of its processes go that its service's file wants kept.
    pub(super) fn kept_dir(&self) -> Option<PathBuf> {
        let dir = self.dir.as_ref()?;
        let number = dir.file_name()?.to_str()?;
        Some(dir.with_file_name(format!("{KEPT}{number}")))
    }

    /// The mark, for another process of this start to bear.
    pub(super) fn mark_to_join(&self) -> Option<OwnedFd> {
        self.mark_held.as_ref()?.fd.try_clone().ok()
    }
}

impl Drop for Unusual {
    fn drop(&mut self) {
        for (_, answer) in self.signals.drain(..) {
            let _ = answer.send(Err(KillError::Down("down")));
        }
        let tasks = self.survivors.iter().chain(&self.resolving);
        for task in tasks.chain(&self.hearing) {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_start_does_not_have_costs_nothing() {
        // The bounds are what they were measured with (docs/benchmarks.md): each byte here is one
        // for every service that runs.
        assert!(
            size_of::<Generation>() <= 320,
            "{}",
            size_of::<Generation>()
        );
        let (id, name) = (ServiceId(1), "a".to_owned());
        let mut generation = Generation::new(id, name, None, String::new());
        assert!(generation.rare.signals.is_empty() && generation.rare.first.is_none());
        assert!(generation.rare.0.is_none() && generation.known.is_none());
        let process = ProcId {
            pid: 7,
            start_time: 1,
        };
        generation.rare.kept.insert(process);
        assert!(generation.rare.kept.contains(&process));
        let other = Generation::new(ServiceId(2), "b".to_owned(), None, String::new());
        assert!(other.rare.kept.is_empty(), "what one has is its own");
    }
}
