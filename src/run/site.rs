//! Where a run takes place: its cgroups, if there are any to be had, and what follows from that.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::{Containment, Guarantee, ScanQuality};
use crate::sys::cgroup::Removal;
use crate::sys::kill::{KillHow, KillResult, kill_tree};
use crate::sys::limits::{self, Limits, Unmet};
use crate::sys::mount::{self, CgroupBase};
use crate::sys::procfs::{self, Proc, ProcId};
use crate::sys::{SysError, cgroup, reap};

/// What every run's directory is called, with who made it.
pub(super) const PREFIX: &str = "nought-run-";
/// The cgroup of the command and all it starts.
pub(super) const JOB: &str = "job";
const AUX: &str = "aux";
/// Whoever guards us lives in our directory itself, and here while that gives controllers to the
/// command's: a cgroup that does has no processes (cgroups(7)).
const GUARDIAN: &str = "guardian";
/// Where we live ourselves while the cgroup we came from gives controllers.
const RUN: &str = "run";
/// Where those who are to be kept live meanwhile.
const KEPT: &str = "kept";

/// A run's place.
#[derive(Clone, Debug)]
pub(super) struct Site {
    /// Names this run: in its directory and in the environment of its processes.
    pub(super) id: String,
    pub(super) base: Option<CgroupBase>,
    /// Our directory; `None`: no cgroups.
    pub(super) tree: Option<PathBuf>,
    pub(super) guarantee: Guarantee,
    pub(super) notes: Vec<String>,
    pub(super) own_mark: Option<u64>,
    /// The command gets a pid namespace of its own.
    pub(super) pidns: bool,
    /// Limits that were asked for and are not in force, in words.
    pub(super) unmet: Vec<String>,
    /// Controllers were enabled for our directory, to be taken back at the end.
    limited: bool,
    /// We left `base` for a cgroup of our own, so that it may give controllers.
    moved: bool,
}

/// Who made a run's directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) process: ProcId,
    pub(super) pid_namespace: u64,
}

impl Owner {
    /// Ourselves.
    pub(super) fn us() -> Result<Self, SysError> {
        let pid = std::process::id();
        let stat = Proc::open()?.stat(pid)?;
        let gone = || SysError::because("read", "/proc/self/stat", "it is another's /proc");
        Ok(Self {
            process: stat.ok_or_else(gone)?.id(),
            pid_namespace: procfs::pid_namespace()?,
        })
    }

    fn id(self) -> String {
        let ProcId { pid, start_time } = self.process;
        format!("{pid}-{start_time}-{}", self.pid_namespace)
    }

    /// Reads the name of a run's directory.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let mut numbers = name.strip_prefix(PREFIX)?.split('-');
        let owner = Self {
            process: ProcId {
                pid: numbers.next()?.parse().ok()?,
                start_time: numbers.next()?.parse().ok()?,
            },
            pid_namespace: numbers.next()?.parse().ok()?,
        };
        numbers.next().is_none().then_some(owner)
    }
}

impl Site {
    /// Makes our cgroups below the one we are in. Where that cannot be, the notes say why.
    pub(super) fn make() -> Self {
        let mut notes = Vec::new();
        let id = match Owner::us() {
            Ok(owner) => owner.id(),
            Err(error) => {
                notes.push(format!("failed to {error}"));
                format!("{}-0-0", std::process::id())
            }
        };
        let mut site = Self {
            id,
            base: None,
            tree: None,
            guarantee: Guarantee::default(),
            notes,
            own_mark: procfs::own_mark().ok(),
            pidns: false,
            unmet: Vec::new(),
            limited: false,
            moved: false,
        };
        match mount::find_base() {
            Ok(base) => {
                let tree = base.dir.join(format!("{PREFIX}{}", site.id));
                match make_tree(&tree) {
                    Ok(()) => site.tree = Some(tree),
                    Err(error) => site.note(format!("no cgroup of its own: failed to {error}")),
                }
                site.base = Some(base);
            }
            Err(error) => site.note(format!("no cgroup of its own: {error}")),
        }
        site
    }

    /// No place at all.
    pub(super) fn none() -> Self {
        Self {
            id: String::new(),
            base: None,
            tree: None,
            guarantee: Guarantee::default(),
            notes: Vec::new(),
            own_mark: None,
            pidns: false,
            unmet: Vec::new(),
            limited: false,
            moved: false,
        }
    }

    /// The same place, its cgroups left to somebody else.
    pub(super) fn without_cgroups(&self) -> Self {
        Self {
            tree: None,
            ..self.clone()
        }
    }

    /// A run's place that somebody else made.
    pub(super) fn of(base: CgroupBase, tree: PathBuf, id: String) -> Self {
        let mut site = Self {
            id,
            base: Some(base),
            tree: Some(tree),
            guarantee: Guarantee::default(),
            notes: Vec::new(),
            own_mark: procfs::own_mark().ok(),
            pidns: false,
            unmet: Vec::new(),
            limited: false,
            moved: false,
        };
        site.settle_containment();
        site
    }

    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    /// Says what holds the processes together, as things are.
    pub(super) fn settle_containment(&mut self) {
        self.guarantee.containment = match self.job() {
            Some(job) if job.join("cgroup.kill").exists() => Containment::CgroupKill,
            Some(_) => Containment::CgroupSignal,
            None if self.pidns => Containment::PidNamespace,
            None if inherits_orphans() => Containment::Subreaper,
            None => Containment::ProcessGroup,
        };
    }

    /// Says how escapees are recognised, now that the command bears a mark or does not.
    pub(super) fn settle_scan(&mut self, marked: Result<(), String>) {
        self.guarantee.scan = match (mount::proc_is_complete(), marked) {
            (Err(why), _) => {
                self.note(format!("{why}: escapees cannot be looked for"));
                ScanQuality::None
            }
            (Ok(()), Ok(())) => ScanQuality::Marked,
            (Ok(()), Err(why)) => {
                self.note(format!(
                    "no mark by a time namespace ({why}): escapees are recognised by descent and \
                     environment only"
                ));
                ScanQuality::Descent
            }
        };
    }

    /// The variable that the processes of this run have in their environment.
    pub(super) fn marker(&self) -> (String, String) {
        // A name of its own: a run within this one then hides nothing.
        let name = format!("NOUGHT_RUN_{}", self.id.replace('-', "_"));
        (name, "1".to_owned())
    }

    /// The command's cgroup.
    pub(super) fn job(&self) -> Option<PathBuf> {
        Some(self.tree.as_ref()?.join(JOB))
    }

    pub(super) fn aux(&self) -> Option<PathBuf> {
        Some(self.tree.as_ref()?.join(AUX))
    }

    /// The guardian's cgroup.
    pub(super) fn guardian(&self) -> Option<PathBuf> {
        let tree = self.tree.clone()?;
        Some(if self.limited {
            tree.join(GUARDIAN)
        } else {
            tree
        })
    }

    /// A directory of ours as /proc/PID/cgroup names it.
    pub(super) fn path_in_proc(&self, dir: &Path) -> Option<String> {
        mount::path_in_proc(self.base.as_ref()?, dir)
    }

    /// Kills everything in a cgroup of ours. If somebody has moved us there, we leave first.
    pub(super) fn kill(&self, dir: &Path, settle: Duration) -> KillResult {
        let how = match self.guarantee.containment {
            Containment::CgroupKill => KillHow::CgroupKill,
            _ => KillHow::FreezeAndSignal,
        };
        let killed = kill_tree(dir, how, settle);
        let Some(base) = self.base.as_ref().filter(|_| killed.holds_us) else {
            return killed;
        };
        let home = self.home(base);
        match cgroup::move_self_to(&home) {
            Ok(()) => kill_tree(dir, how, settle),
            Err(error) => KillResult {
                error: Some(error),
                ..killed
            },
        }
    }

    /// Sets limits on the command's cgroup; those that are not in force.
    pub(super) fn limit(&mut self, wanted: &Limits) -> Vec<Unmet> {
        let controllers = wanted.controllers();
        if controllers.is_empty() {
            return Vec::new();
        }
        let (Some(base), Some(tree), Some(job)) = (&self.base, &self.tree, self.job()) else {
            let why = format!(
                "there is no cgroup to set it on ({})",
                self.notes.join("; ")
            );
            return limits::nowhere(wanted, &why);
        };
        // Without it, the guardian would be in a cgroup that could give no controllers.
        if let Err(error) = cgroup::make_dir(&tree.join(GUARDIAN)) {
            return limits::nowhere(wanted, &format!("failed to {error}"));
        }
        self.limited = true;
        // Who is alone in a cgroup may leave it, and it can give controllers then.
        let alone = cgroup::procs(&base.dir).is_ok_and(|pids| pids == [std::process::id()]);
        if alone && !limits::is_root(&base.dir) {
            let run = tree.join(RUN);
            let moved = cgroup::make_dir(&run).and_then(|()| cgroup::move_self_to(&run));
            match moved {
                Ok(()) => self.moved = true,
                Err(error) => self.notes.push(format!("failed to {error}")),
            }
        }
        let refused = limits::enable(&base.dir, std::slice::from_ref(tree), &controllers);
        limits::apply(&job, wanted, &refused)
    }

    /// Whether the command's cgroup has limits that count.
    pub(super) fn is_limited(&self) -> bool {
        self.limited
    }

    /// Where we live while the command runs.
    fn home(&self, base: &CgroupBase) -> PathBuf {
        match &self.tree {
            Some(tree) if self.moved => tree.join(RUN),
            _ => base.dir.clone(),
        }
    }

    /// Where those who are to be kept go: the cgroup that we came from, at once or at the end.
    pub(super) fn refuge(&self) -> Option<PathBuf> {
        let base = self.base.as_ref()?;
        let Some(tree) = self.tree.as_ref().filter(|_| self.moved) else {
            return Some(base.dir.clone());
        };
        let kept = tree.join(KEPT);
        if !kept.is_dir() {
            cgroup::make_dir(&kept).ok()?;
        }
        Some(kept)
    }

    /// Takes back the controllers that were enabled for us, and goes back to where we came from,
    /// with those who are kept.
    pub(super) fn take_limits_back(&mut self) {
        let (Some(base), Some(tree)) = (&self.base, &self.tree) else {
            return;
        };
        if !std::mem::take(&mut self.limited) {
            return;
        }
        limits::withdraw(std::slice::from_ref(tree));
        limits::undo(&base.dir);
        if !std::mem::take(&mut self.moved) {
            return;
        }
        // Another run may need the controllers still: then our directory is left to it.
        let _ = cgroup::move_self_to(&base.dir);
        for pid in cgroup::procs(&tree.join(KEPT)).unwrap_or_default() {
            let _ = cgroup::move_process(&base.dir, pid);
        }
    }

    /// Removes our directory with all that is empty in it; why it stays, if it does.
    pub(super) fn remove(&mut self) -> Option<String> {
        self.take_limits_back();
        let tree = self.tree.as_ref()?;
        match cgroup::remove_with(tree, GUARDIAN) {
            Removal::Removed => {
                self.tree = None;
                None
            }
            Removal::Busy { path } => Some(format!("{} is not empty", path.display())),
            Removal::Failed(error) => Some(format!("failed to {error}")),
        }
    }

    /// Goes on without cgroups.
    pub(super) fn give_up_cgroups(&mut self) {
        if let Some(why) = self.remove() {
            self.note(why);
            self.tree = None;
        }
    }
}

fn make_tree(tree: &Path) -> Result<(), SysError> {
    cgroup::make_dir(tree)?;
    let made = cgroup::make_dir(&tree.join(JOB));
    if made.is_err() {
        cgroup::remove_tree(tree);
    }
    made
}

/// Whether somebody guards the run whose directory this is. One that cannot be looked at is.
pub(super) fn is_guarded(tree: &Path) -> bool {
    cgroup::is_populated(&tree.join(GUARDIAN)).unwrap_or(true)
        || cgroup::procs(tree).map_or(true, |pids| !pids.is_empty())
}

fn inherits_orphans() -> bool {
    std::process::id() == 1 || reap::set_child_subreaper().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_tells_who_made_it() {
        let us = Owner::us().unwrap();
        assert_eq!(Owner::parse(&format!("{PREFIX}{}", us.id())), Some(us));
        for name in [
            "nought-run-1-2",
            "nought-1-2",
            "nought-run-1-2-3-4",
            "nought-run-x-2-3",
        ] {
            assert_eq!(Owner::parse(name), None, "{name}");
        }
    }
}
