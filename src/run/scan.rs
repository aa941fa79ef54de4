//! Who of the job is outside its cgroup, or, where there are no cgroups, anywhere.

use std::collections::BTreeSet;

use super::first::First;
use super::watch::{Runner, now};
use crate::core::{Event, OpId, job::GENERATION};
use crate::driver::translate;
use crate::sys::cgroup;
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::{self, ProcId, ProcStat};
use crate::sys::scan::{self, Orphans, PassResult, ScanContext, ScanTarget};
use crate::sys::set_aside;

impl Runner<'_> {
    /// The ladder's pass. Whoever it finds is looked at first: once they are killed nothing tells
    /// any more who they were.
    pub(super) fn scan(&mut self, op: OpId) {
        let mut seen = self.pass(true);
        let lives = seen.populated == Some(true);
        let found = std::mem::take(&mut seen.spared);
        let result = if lives || found.is_empty() {
            seen
        } else {
            self.list_escapees(&found);
            self.pass(false)
        };
        self.list_kept(&result.kept);
        if !lives {
            self.alive = result.alive.iter().map(ProcStat::id).collect();
        }
        let mut report = translate::scanned(result, self.site.guarantee.containment);
        if self.site.tree.is_none() {
            // Once it is empty it stays so: read after the pass is as good as before.
            report.populated = self.first.as_ref().map(First::lives).or(report.populated);
        }
        self.job.handle(
            now(),
            Event::Scanned {
                r#gen: GENERATION,
                op,
                report,
            },
        );
    }

    /// One pass over /proc. Whoever is not to be kept is killed, unless all are to be spared.
    pub(super) fn pass(&self, spare: bool) -> PassResult {
        let kept = self.kept_ids.clone();
        let keep = (!kept.is_empty())
            .then(|| -> scan::Keep { Box::new(move |stat| kept.contains(&stat.id())) });
        let job = self.site.job();
        let target = ScanTarget {
            cgroup_path: job.as_deref().and_then(|dir| self.site.path_in_proc(dir)),
            cgroup: job,
            mark: self.mark,
            mark_id: self.mark_id,
            mark_held: self.mark_held.is_some(),
            recorded: self.known.clone(),
            main: self.main_id,
            main_reaped: self.main_reaped,
            env_marker: Some(self.site.marker()),
            kept_path: None,
            keep,
            closed: false,
            orphaned: self.orphan_reaper.is_some(),
            spare,
        };
        let context = ScanContext {
            orphans: if std::process::id() == 1 || self.inherited_any {
                Orphans::Unmarked
            } else {
                // Nobody was our child before the command, and we started nothing else.
                Orphans::Targets
            },
            known_children: self.others.clone(),
            orphan_reaper: self.orphan_reaper,
            ..ScanContext::with_own_mark(self.site.own_mark)
        };
        scan::scan_pass(&target, &context)
    }

    /// Everybody of the job who lives, where no cgroup tells; `None`: cannot be told.
    pub(super) fn members_by_scan(&self) -> Option<Vec<ProcStat>> {
        let result = self.pass(true);
        (result.error.is_none() || result.doubtful).then_some(result.spared)
    }

    /// Records who is in the cgroup and below its members, so that whoever leaves it and replaces
    /// the mark can still be told.
    pub(super) fn take_census(&mut self, root: Option<u32>) {
        if let Some(dir) = self.site.job()
            && let Ok(census) = cgroup::census(&dir, root)
        {
            self.known.extend(census);
        }
    }

    /// Moves whoever is to be kept out of the cgroup, with all that is below them.
    pub(super) fn spare_kept(&mut self) {
        if self.options.keep.is_empty() {
            return;
        }
        let Some(dir) = self.site.job() else { return };
        let members = cgroup::procs_recursive(&dir).unwrap_or_default();
        let kept = self.to_keep(&members);
        if kept.is_empty() {
            return;
        }
        let Some(refuge) = self.site.refuge() else {
            return;
        };
        // The command itself is what runs, whatever it is called.
        let kept = kept.into_iter().filter(|id| Some(*id) != self.main_id);
        match set_aside::move_members(&dir, &refuge, &kept.collect()) {
            Ok(moved) => self.kept_ids.extend(moved),
            Err(error) => self.note(&format!("failed to keep what is to be kept: {error}")),
        }
    }

    /// Stops everyone of these, so that they stay what they are while they are looked at.
    pub(super) fn stop_each(processes: &[ProcStat]) {
        let ids: BTreeSet<ProcId> = processes.iter().map(ProcStat::id).collect();
        for id in ids {
            // The handle first: whoever is that process then is who the handle is on.
            if let Ok(Some(handle)) = PidFd::open(id.pid)
                && procfs::lives(id)
            {
                let _ = handle.send(libc::SIGSTOP);
            }
        }
    }
}
