//! What a supervisor that was killed left behind: found through the state directory, ended
//! through the core like any other generation, with proof, before anything starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::generation::Generation;
use super::place::{Place, SUPERVISOR};
use super::run::Driver;
use super::store::chain;
use crate::core::{self, GenId, ServiceId, Signal, Spec};
use crate::state::{Instance, Leftover, StateDir};
use crate::sys::procfs::{self, Proc, ProcId};
use crate::sys::{cgroup, clock};

/// The generations on record, for the core and for us.
pub(super) fn find(
    dir: &StateDir,
    place: &Place,
) -> (Vec<core::Leftover>, BTreeMap<GenId, Box<Generation>>) {
    let (found, remarks) = dir.leftovers().unwrap_or_else(|error| {
        tracing::error!("{}", chain(&error));
        (Vec::new(), Vec::new())
    });
    for remark in remarks {
        tracing::warn!("{remark}");
    }
    let same_pids = dir.previous_instance().is_none_or(|previous| {
        previous.pid_namespace.is_none() || previous.pid_namespace == procfs::pid_namespace().ok()
    });
    let mut leftovers = Vec::new();
    let mut gens = BTreeMap::new();
    for leftover in found {
        tracing::warn!(
            "{}: an earlier supervisor left generation {} behind: ending it before anything starts",
            leftover.record.service,
            leftover.record.r#gen.0
        );
        gens.insert(
            leftover.record.r#gen,
            Box::new(generation(&leftover, place, same_pids)),
        );
        leftovers.push(core::Leftover {
            r#gen: leftover.record.r#gen,
            spec: spec(&leftover),
        });
    }
    (leftovers, gens)
}

fn spec(leftover: &Leftover) -> Spec {
    let record = &leftover.record;
    let mut spec = Spec::new(record.service.clone(), Vec::new());
    spec.stop_signal = Signal::from_number(record.stop_signal).unwrap_or(Signal::TERM);
    spec.grace = Duration::from_millis(record.grace_ms);
    spec.exit_grace = Duration::from_millis(record.exit_grace_ms);
    spec.kill_timeout = Duration::from_millis(record.kill_timeout_ms);
    spec.after.clone_from(&record.after);
    spec.requires.clone_from(&record.requires);
    spec
}

fn generation(leftover: &Leftover, place: &Place, same_pids: bool) -> Generation {
    let record = &leftover.record;
    let marker = record
        .env_marker
        .as_deref()
        .and_then(|marker| marker.split_once('='));
    let marker = marker.map_or("", |(_, value)| value).to_owned();
    // A path of a tree that we cannot reach any more is as good as none.
    let dir = record.cgroup.clone().filter(|_| place.has_cgroups());
    // The core's own number for it is not known yet, and not needed: nothing spawns in it.
    let mut generation = Generation::new(ServiceId(u32::MAX), record.service.clone(), dir, marker);
    generation.stopping = true;
    generation.leftover = true;
    // Nothing of a foreign pid namespace can be told by numbers.
    if let Some(completion) = leftover.completion.as_ref().filter(|_| same_pids) {
        let main = ProcId {
            pid: completion.pid,
            start_time: completion.start_time,
        };
        generation.main_id = Some(main);
        // By whom it is reaped, and when, is nobody's to tell us.
        generation.main_reaped = Some(0);
        generation.mark = completion.mark_inode;
        generation.mark_id = completion.mark_id;
        let members = leftover.members.iter();
        let mut known: Vec<ProcId> = members
            .map(|m| ProcId {
                pid: m.pid,
                start_time: m.start_time,
            })
            .collect();
        known.push(main);
        generation
            .known
            .get_or_insert_default()
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(known);
    }
    generation
}

impl Driver {
    /// When the last leftover has its verdict: removes what is left of the earlier supervisor's
    /// tree and takes its place on record.
    pub(super) fn succeed_previous(&mut self) {
        if self.succeeded || !self.leftovers.is_empty() {
            return;
        }
        self.succeeded = true;
        let previous = self.previous.take();
        let place = Arc::clone(&self.place);
        let instance = self.instance();
        self.store.push(move |dir| {
            let recorded = previous.and_then(|previous| previous.cgroup_root);
            let mut trees: Vec<PathBuf> = dir.earlier_trees().to_vec();
            trees.extend(recorded.filter(|tree| !dir.earlier_trees().contains(tree)));
            trees.retain(|tree| tree.is_dir() && !remove_tree(&place, tree));
            if trees.is_empty()
                && let Err(error) = dir.remove_unreadable()
            {
                tracing::warn!("{error}");
            }
            trees.extend(instance.cgroup_root.clone());
            if let Err(error) = dir.keep_trees(&trees) {
                tracing::warn!("{error}");
            }
            if let Err(error) = dir.record_instance(&instance) {
                tracing::warn!("{}", chain(&error));
            }
        });
    }

    fn instance(&self) -> Instance {
        let own = std::process::id();
        let stat = Proc::open().and_then(|proc| proc.stat(own)).ok().flatten();
        Instance {
            pid: own,
            start_time: stat.map_or(0, |stat| stat.start_time),
            cgroup_root: self.place.tree().map(Path::to_path_buf),
            base: self.place.base().map(Path::to_path_buf),
            boot_id: self.store.dir().boot_id().to_owned(),
            pid_namespace: procfs::pid_namespace().ok(),
            started_wall_ms: clock::wall_now_ms(),
        }
    }
}

/// Ends whoever lives in a generation of the earlier supervisor that is not on record, and
/// removes its tree: whether it is gone. Who is in its leaf is no service's (a session that
/// somebody opened in the supervisor's cgroup) and stays, and the tree with it.
fn remove_tree(place: &Place, tree: &Path) -> bool {
    let entries = std::fs::read_dir(tree).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name() != SUPERVISOR) {
        let dir = entry.path();
        if !dir.is_dir() {
            continue;
        }
        if cgroup::is_populated(&dir).unwrap_or(false) {
            let killed = place.kill(&dir, Duration::from_millis(200));
            tracing::warn!(
                "ended {} process(es) in {}, of which an earlier supervisor left no record",
                killed.killed.len(),
                dir.display()
            );
        }
        // What stays is found once more, and said, below.
        cgroup::remove_tree(&dir);
    }
    match cgroup::remove_tree(tree) {
        cgroup::Removal::Removed => return true,
        cgroup::Removal::Busy { path } => {
            let pids = cgroup::procs_recursive(&path).unwrap_or_default();
            tracing::warn!(
                "left {} standing: process(es) {pids:?} live there, of no service that we know",
                path.display()
            );
        }
        cgroup::Removal::Failed(error) => tracing::warn!("failed to {error}"),
    }
    false
}
