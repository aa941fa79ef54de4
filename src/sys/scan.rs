//! The scan: what of one start lives outside its cgroup.
//!
//! **The pass is over all of /proc.** Walking only the processes below us through the
//! `children` files would be cheaper and is not sound: those files may leave out a child while
//! its siblings come and go (proc(5)), a thread that ends hands its children to another in the
//! midst of the walk, and a process that joined a foreign pid namespace is inherited there and
//! not by us. Listing /proc goes upwards by pid and shows every process that lives through it.
//! The walk serves where missing somebody costs no proof: for orphans with hints but without a
//! mark, who are reported.
//!
//! **A pass is conclusive** if the last pid given out did not move from the beginning to the
//! end of one round of it (`look.rs`): then whoever lives now lived when that round came by. One
//! window is left: a fork that took its pid before the round began and shows only after the
//! round went by that number. Its parent lives in that fork meanwhile, and a parent is mostly
//! below its child: it is seen, and the pass is not empty. So a pass that found somebody is
//! never conclusive by itself. (A process that picks its pid itself, clone3's set_tid with
//! CAP_CHECKPOINT_RESTORE, moves nothing: out of reach of this.)
//!
//! An *empty* pass that is not conclusive proves little: a fork relay was seen to slip through
//! three in a row.
//!
//! Whose process it is: `attribute.rs`.

mod ancestry;
mod attribute;
mod bounded;
mod descent;
mod end;
mod lineage;
mod look;
mod moved_in;
#[cfg(test)]
pub(in crate::sys) mod tests;
mod unattributed;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use super::procfs::{Proc, ProcId, ProcStat};
use super::{SysError, cgroup, procfs};

pub use moved_in::MovedIn;

use attribute::Found;
use look::Whole;

/// Says of a process whether its service's file wants it kept.
pub type Keep = Box<dyn Fn(&ProcStat) -> bool + Send + Sync>;

/// One start of a service, as far as telling its processes needs it.
#[derive(Default)]
pub struct ScanTarget {
    /// Its cgroup's directory; a pass looks no further while that is populated.
    pub cgroup: Option<PathBuf>,
    /// The same cgroup as /proc/PID/cgroup names it.
    pub cgroup_path: Option<String>,
    /// The inode number of its time namespace.
    pub mark: Option<u64>,
    /// That namespace's own number, if the kernel gives it one: proof where the inode's may
    /// have been given out again.
    pub mark_id: Option<u64>,
    /// Whether a descriptor on that namespace was held from the start on, so that the inode's
    /// number cannot have been given out again.
    pub mark_held: bool,
    /// Who was seen in the cgroup or below a member of it ([`cgroup::census`]).
    pub recorded: BTreeSet<ProcId>,
    /// Its main process, leader of a session of its own.
    pub main: Option<ProcId>,
    /// When that was reaped, or a moment before ([`procfs::ticks_now`]); none: it is not yet, so
    /// that its number, and its session's, are its own. 0 where nobody knows.
    pub main_reaped: Option<u64>,
    /// A variable, name and value, that was in its environment alone. Can be erased: a hint.
    pub env_marker: Option<(String, String)>,
    /// Escapees to leave alone, and what descends from them.
    pub keep: Option<Keep>,
    /// A cgroup, as /proc/PID/cgroup names it, where those of its processes are that are to be
    /// left alone whatever they are called.
    pub kept_path: Option<String>,
    /// The supervisor that started it was killed: its orphans went to `orphan_reaper` and not to
    /// us.
    pub orphaned: bool,
    /// It has a pid namespace of its own, which nobody can leave: whoever is in ours is not of it.
    pub closed: bool,
    /// Nobody is to be killed: whoever would be goes to `spared`.
    pub spare: bool,
}

/// What a pass has to know about us.
#[derive(Clone, Debug)]
pub struct ScanContext {
    /// Our pid.
    pub own_pid: u32,
    /// The inode number of our own time namespace; a target with that mark is refused.
    pub own_mark: Option<u64>,
    /// The cgroups of our generations, as /proc/PID/cgroup names them, with their marks: what is
    /// there and not the target's belongs to somebody else of ours.
    pub generations: BTreeMap<String, Option<u64>>,
    /// Marks of the other generations: their processes are not looked at closer.
    pub known_marks: BTreeSet<u64>,
    /// Our children that belong to somebody: main processes and commands of other generations,
    /// and who was our child before we started anything.
    pub known_children: BTreeSet<u32>,
    /// Which orphans of ours must be somebody's.
    pub orphans: Orphans,
    /// Who inherited the orphans of a supervisor that was killed, or ours where we do not: a marked
    /// process below it is ours with one more witness (environment, session, record).
    pub orphan_reaper: Option<u32>,
    /// How long to wait for the death of what was killed.
    pub death_wait: Duration,
}

/// What follows from an orphan that we inherited and that nothing attributes to anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphans {
    /// Nothing.
    Anybodys,
    /// One in a time namespace that is neither ours nor a generation's comes from a start of
    /// ours that it was marked by before, and may be the target's: the pass proves nothing. All
    /// others may be of any session in our pid namespace: so it is for process 1.
    Unmarked,
    /// None of them can come from anywhere else, since orphans of others pass us by: so it is
    /// for a subreaper that is not process 1.
    Ours,
    /// As `Ours`, and there is one start only: all of them are of it.
    Targets,
}

impl ScanContext {
    /// A context that knows of no other generations, with a wait of 20 ms.
    pub fn new() -> Self {
        Self::with_own_mark(procfs::own_mark().ok())
    }

    /// The same with our own mark, which stays the same as long as we do not leave it.
    pub fn with_own_mark(own_mark: Option<u64>) -> Self {
        Self {
            own_pid: nix::unistd::getpid().as_raw().unsigned_abs(),
            own_mark,
            generations: BTreeMap::new(),
            orphans: Orphans::Anybodys,
            known_marks: BTreeSet::new(),
            known_children: BTreeSet::new(),
            orphan_reaper: None,
            death_wait: Duration::from_millis(20),
        }
    }
}

impl Default for ScanContext {
    fn default() -> Self {
        Self::new()
    }
}

/// How well a pass could tell whose a process is, strongest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// By the mark, and by descent from what bears it.
    Marked,
    /// By recorded membership, ancestry, session and environment.
    Descent,
    /// Not at all: /proc could not be read.
    #[default]
    None,
}

/// What made a process ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// It bears the mark, and its ancestors lead to us.
    Marked,
    /// It was seen in the cgroup, or below a member of it.
    Recorded,
    /// An ancestor of it is ours.
    Descends,
    /// It is in the main process's session or process group.
    Session,
    /// It carries the environment marker and descends from us.
    Environment,
    /// It carries the environment marker and is in the main process's session or process group,
    /// whose supervisor was killed.
    Orphaned,
    /// We inherited it, have started nothing else, and inherit from nowhere else.
    Inherited,
}

impl Evidence {
    /// The evidence in words.
    pub fn as_str(self) -> &'static str {
        match self {
            Evidence::Marked => "bears the mark",
            Evidence::Recorded => "was seen in the cgroup or below a member of it",
            Evidence::Descends => "descends from a process of this start",
            Evidence::Session => "is in the main process's session or process group",
            Evidence::Inherited => "is an orphan that can only be of this start",
            Evidence::Environment => "carries the environment marker and descends from us",
            Evidence::Orphaned => {
                "carries the environment marker and is in the main process's session or process \
                 group"
            }
        }
    }
}

/// A process of the target found outside its cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escapee {
    /// The process, as it was when found.
    pub process: ProcStat,
    /// What made it ours.
    pub evidence: Evidence,
}

/// A process that looks like the target's and is not proven so: never signalled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// The process.
    pub process: ProcStat,
    /// Why it is mentioned.
    pub why: String,
}

/// What one pass saw and did.
#[derive(Debug, Default)]
pub struct PassResult {
    /// Whether somebody was in the cgroup when the pass began (then it looked no further);
    /// `None`: unreadable, or the target has no cgroup.
    pub populated: Option<bool>,
    /// Whom it found and killed.
    pub escaped: Vec<Escapee>,
    /// Those of `escaped` that lived when the wait for their death was over.
    pub alive: Vec<ProcStat>,
    /// Whom it found, could not prove ours, and left alone.
    pub foreign: Vec<Stranger>,
    /// Whom it found and left alone because the target's `keep` said so.
    pub kept: Vec<ProcStat>,
    /// Whom it found and left alone because the target said `spare`.
    pub spared: Vec<ProcStat>,
    /// Whether it missed nothing: nothing was forked meanwhile, every process could be told,
    /// and nobody was found.
    pub conclusive: bool,
    /// Whether it met somebody of the target, or without marks an orphan that may be of it, who had
    /// ended before he could be killed: who lived when it came by may have left a child, and that
    /// another, for ever.
    pub met: bool,
    /// What it could tell by.
    pub quality: Quality,
    /// What went wrong, if anything: then it proves nothing.
    pub error: Option<SysError>,
    /// Whether `error` says no more than that somebody cannot be told: everyone was looked at,
    /// and whoever is certainly the target's was found.
    pub doubtful: bool,
}

/// One pass for one target. **Blocks**: about 4 µs for each process of the machine that is no
/// thread of the kernel, and `death_wait` for what will not die.
pub fn scan_pass(target: &ScanTarget, context: &ScanContext) -> PassResult {
    scan_passes(std::slice::from_ref(target), context)
        .pop()
        .unwrap_or_default()
}

/// One pass that looks at every process once for all `targets`; an answer for each, in order.
/// Sound because each target's cgroup is seen empty before the common look begins.
pub fn scan_passes(targets: &[ScanTarget], context: &ScanContext) -> Vec<PassResult> {
    let mut results: Vec<PassResult> = targets.iter().map(begin).collect();
    let wanted: Vec<usize> = results
        .iter()
        .enumerate()
        .filter(|(_, r)| r.populated != Some(true) && r.error.is_none())
        .map(|(n, _)| n)
        .collect();
    if wanted.is_empty() {
        return results;
    }
    let wanted: Vec<_> = wanted
        .into_iter()
        .filter_map(|n| Some((n, targets.get(n)?)))
        .collect();
    let proc = match Proc::open() {
        Ok(proc) => proc,
        Err(e) => {
            for (n, _) in wanted {
                if let Some(result) = results.get_mut(n) {
                    result.error = Some(e.clone());
                }
            }
            return results;
        }
    };
    let mut whole = Whole::new(proc, context);
    let complete = whole.look(&wanted);
    for (n, target) in wanted {
        let found = match &complete {
            Ok(_) => whole.find(target),
            Err(e) => Err(e.clone()),
        };
        // What is held is ours for certain, and ends whatever else went wrong.
        let found = found.unwrap_or_else(|e| Found {
            ours: whole.held_for(n),
            error: Some(e),
            ..Found::default()
        });
        if let Some(result) = results.get_mut(n) {
            conclude(&mut whole, target, found, result);
            result.conclusive &= complete == Ok(true);
        }
    }
    results
}

fn begin(target: &ScanTarget) -> PassResult {
    let mut result = PassResult::default();
    if let Some(path) = &target.cgroup {
        match cgroup::is_populated(path) {
            Ok(populated) => result.populated = Some(populated),
            Err(e) => result.error = Some(e),
        }
    }
    result
}

fn conclude(whole: &mut Whole<'_>, target: &ScanTarget, found: Found, result: &mut PassResult) {
    result.quality = match (&found.error, target.mark) {
        (Some(_), _) => Quality::None,
        (None, Some(_)) => Quality::Marked,
        (None, None) => Quality::Descent,
    };
    result.foreign = found.foreign;
    result.doubtful = found.error.is_none() && found.doubt.is_some();
    result.error = found.error.or(found.doubt);
    let kept = whole.kept_of(target, &found.ours);
    let (kept, others): (Vec<Escapee>, Vec<Escapee>) = found
        .ours
        .into_iter()
        .partition(|escapee| kept.contains(&escapee.process.pid));
    result.kept = kept.into_iter().map(|escapee| escapee.process).collect();
    result.met = found.met;
    if target.spare {
        result.spared = others.into_iter().map(|escapee| escapee.process).collect();
    } else {
        result.met |= !end::end_all(whole, target, others, result);
    }
    result.conclusive = !found.missed
        && !result.met
        && result.error.is_none()
        && result.escaped.is_empty()
        && result.alive.is_empty();
}
