//! Where a process's ancestors lead, and in whose cgroup it is.

use std::collections::BTreeMap;

use super::ScanTarget;
use super::attribute::is_recorded;
use super::look::{CHAIN_BOUND, Whole};
use crate::sys::SysError;
use crate::sys::procfs::{ProcStat, is_at_or_below};

/// Where a process's ancestors lead.
#[derive(Clone)]
pub(super) enum Lead {
    Ours,
    /// To the reaper of a killed supervisor's orphans.
    Reaper,
    Elsewhere(String),
    /// It vanished, or its ancestry changed faster than it could be read.
    Unknown,
}

/// Where the ancestors of processes that were asked about lead.
pub(super) type Leads = BTreeMap<u32, Lead>;

/// Whose cgroup a process is in.
pub(super) enum Side {
    Target,
    /// Another generation's: the cgroup that it is in, and that generation's mark.
    Another {
        path: String,
        mark: Option<u64>,
    },
    Neutral,
}

impl Whole<'_> {
    /// Follows the parents of `process` up to us, or to where that becomes impossible.
    pub(super) fn lead(
        &self,
        process: &ProcStat,
        target: &ScanTarget,
        known: &mut Leads,
    ) -> Result<Lead, SysError> {
        let mut chain = Vec::new();
        let mut at = process.clone();
        let lead = loop {
            if let Some(lead) = known.get(&at.pid) {
                break lead.clone();
            }
            chain.push(at.pid);
            if chain.len() > CHAIN_BOUND {
                break Lead::Unknown;
            }
            match self.step_up(&at, target)? {
                Ok(parent) => at = parent,
                Err(lead) => break lead,
            }
        };
        for pid in chain {
            known.insert(pid, lead.clone());
        }
        Ok(lead)
    }

    /// The parent, if the question goes on to it, or the answer.
    fn step_up(
        &self,
        at: &ProcStat,
        target: &ScanTarget,
    ) -> Result<Result<ProcStat, Lead>, SysError> {
        if is_recorded(target, at.id()) {
            return Ok(Err(Lead::Ours));
        }
        let Some(parent) = self.parent(at)? else {
            return Ok(Err(Lead::Unknown));
        };
        let (ppid, parent) = parent;
        if ppid == self.context.own_pid {
            return Ok(Err(match self.context.known_children.contains(&at.pid) {
                true => Lead::Elsewhere(format!("to process {}, which is known", at.pid)),
                false => Lead::Ours,
            }));
        }
        let Some(parent) = parent else {
            return Ok(Err(Lead::Elsewhere("out of our pid namespace".to_owned())));
        };
        if is_recorded(target, parent.id()) {
            return Ok(Err(Lead::Ours));
        }
        if self.context.orphan_reaper == Some(ppid) {
            return Ok(Err(Lead::Reaper));
        }
        if ppid == 1 {
            let why = format!("to process 1 ({}), not to us", parent.comm);
            return Ok(Err(Lead::Elsewhere(why)));
        }
        if target.mark.is_none() || self.marks.get(&ppid).copied() != target.mark {
            match self.side(ppid, target)? {
                Side::Target => return Ok(Err(Lead::Ours)),
                Side::Another { path, .. } => {
                    let why = format!("through process {ppid} ({}) in {path}", parent.comm);
                    return Ok(Err(Lead::Elsewhere(why)));
                }
                Side::Neutral => {}
            }
        }
        Ok(Ok(parent))
    }

    /// The parent's pid and stat, consistent with each other; a stat of `None` for pid 0. The
    /// whole `None`: the process is gone, or its parents change faster than we read.
    fn parent(&self, of: &ProcStat) -> Result<Option<(u32, Option<ProcStat>)>, SysError> {
        let mut of = of.clone();
        for _ in 0..8 {
            if of.ppid == 0 || of.ppid == self.context.own_pid {
                return Ok(Some((of.ppid, None)));
            }
            match self.proc.stat(of.ppid)? {
                // Nobody is older than his parent, nor than the reaper that inherited him: a
                // younger one has the number of a parent that is gone.
                Some(parent) if parent.start_time <= of.start_time => {
                    return Ok(Some((of.ppid, Some(parent))));
                }
                _ => match self.proc.stat_of(of.id())? {
                    Some(now) => of = now,
                    None => return Ok(None),
                },
            }
        }
        Ok(None)
    }

    pub(super) fn side(&self, pid: u32, target: &ScanTarget) -> Result<Side, SysError> {
        let Some(name) = self.proc.cgroup(pid)? else {
            return Ok(Side::Neutral);
        };
        let below = |prefix: &Option<String>| {
            prefix
                .as_deref()
                .is_some_and(|prefix| is_at_or_below(&name.path, prefix))
        };
        Ok(if below(&target.cgroup_path) {
            Side::Target
        } else if below(&target.kept_path) {
            Side::Neutral
        } else if let Some(mark) = self.generation_at(&name.path) {
            Side::Another {
                path: name.path,
                mark,
            }
        } else {
            Side::Neutral
        })
    }

    /// The mark of the generation whose cgroup this is, or is below of. Any other directory is
    /// nobody's, wherever it is: a service may make some that look like a generation's.
    fn generation_at(&self, path: &str) -> Option<Option<u64>> {
        let ends = path.match_indices('/').map(|(at, _)| at);
        let prefixes = ends.chain([path.len()]).filter_map(|end| path.get(..end));
        let mut found = prefixes.filter_map(|prefix| self.context.generations.get(prefix));
        found.next().copied()
    }
}
