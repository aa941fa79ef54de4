//! Whose process is it? (The rules, with their reasons.)
//!
//! - **Being our child proves nothing**: we inherit orphans of others.
//! - *The mark, with ancestors that lead to us* (or to somebody recorded): ours. A process can
//!   join a mark (nsenter), so one whose ancestors lead elsewhere is reported, not killed; the
//!   same for one that lives in another generation's cgroup, unless a second witness speaks.
//! - *Seen in the cgroup before, or descended from what is ours*: ours, whatever mark it bears
//!   now: a user namespace can replace it.
//! - *An orphan of ours without all that* is nobody's business, unless its environment or its
//!   session hints at the target: then it is reported. One that can only come from a start of
//!   ours ([`super::Orphans`]), and was not there before the target, leaves a doubt.
//! - Without marks: the record, ancestry, the session, and the environment marker together with
//!   descent from us.
//! - Never: process 1, ourselves, kernel threads.

use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::ancestry::{Lead, Leads, Side};
use super::look::Whole;
use super::{Escapee, Evidence, ScanTarget, Stranger};
use crate::sys::SysError;
use crate::sys::procfs::{self, Marked, ProcId, ProcStat, is_at_or_below};

/// How often a bearer whose ancestors changed under us is looked at again.
const JUDGED_AGAIN: usize = 4;

/// What the look found of one target.
#[derive(Default)]
pub(super) struct Found {
    pub(super) ours: Vec<Escapee>,
    pub(super) foreign: Vec<Stranger>,
    /// Somebody who may be the target's lives and cannot be told: no pass proves anything while
    /// that is so.
    pub(super) doubt: Option<SysError>,
    /// Somebody with the target's mark ended before it could be stopped: it may have left a child
    /// that was born after the look.
    pub(super) missed: bool,
    /// The same, and it was certainly one of the target.
    pub(super) met: bool,
    pub(super) error: Option<SysError>,
}

impl Whole<'_> {
    pub(super) fn find(&mut self, target: &ScanTarget) -> Result<Found, SysError> {
        let mut found = Found::default();
        match target.mark {
            Some(mark) if Some(mark) == self.context.own_mark => {
                let what = format!("the mark {mark}");
                found.error = Some(SysError::because("scan for", what, "it is our own"));
            }
            Some(mark) => self.find_marked(target, mark, &mut found)?,
            None => self.find_by_descent(target, &mut found)?,
        }
        let mut seen = BTreeSet::new();
        found
            .ours
            .retain(|escapee| seen.insert(escapee.process.pid));
        found
            .foreign
            .retain(|stranger| seen.insert(stranger.process.pid));
        Ok(found)
    }

    fn find_marked(
        &mut self,
        target: &ScanTarget,
        mark: u64,
        found: &mut Found,
    ) -> Result<(), SysError> {
        self.find_recorded(target, found)?;
        let bearers = self
            .marks
            .iter()
            .filter(|&(_, &m)| m == mark)
            .map(|(&pid, _)| pid);
        let bearers: Vec<u32> = bearers.collect();
        let mut leads = BTreeMap::new();
        for pid in bearers {
            if let Some(held) = self.held.get(&pid) {
                found.ours.push(held.escapee.clone());
                continue;
            }
            let Some(process) = self.living(pid)? else {
                found.met = true;
                continue;
            };
            let mut judgement = self.judge_bearer(&process, target, &mut leads)?;
            let mut again = JUDGED_AGAIN;
            let id = process.id();
            let process = loop {
                // Judged was the one that was found: the number may be another's by now.
                let now = self.living(pid)?.filter(|now| now.id() == id);
                let Some(process) = now else {
                    break None;
                };
                if !matches!(judgement, Judgement::Unsure) || again == 0 {
                    break self.bears(id, mark)?.then_some(process);
                }
                again -= 1;
                judgement = self.judge_bearer(&process, target, &mut BTreeMap::new())?;
            };
            let Some(process) = process else {
                found.met = true;
                continue;
            };
            match judgement {
                Judgement::Ours => {
                    let evidence = Evidence::Marked;
                    found.ours.push(Escapee { process, evidence });
                }
                Judgement::Stranger(why) => found.foreign.push(Stranger { process, why }),
                Judgement::Doubtful(why) => found.doubt(process, why),
                // A dead one's mark is not seen, so this is one whose ancestry changes whenever
                // we read it: it may be anybody's.
                Judgement::Unsure => {
                    let why = "marked, and its ancestors change faster than they can be followed";
                    found.doubt(process, why.to_owned());
                }
            }
        }
        if target.closed {
            return self.add_descendants(target, found);
        }
        self.find_unreadable(target, found)?;
        self.find_exiting(target, found)?;
        self.add_descendants(target, found)?;
        self.report_orphans(target, found)
    }

    /// Whether exactly that process has the mark: the look read it from whoever had the number
    /// then.
    fn bears(&self, id: ProcId, mark: u64) -> Result<bool, SysError> {
        let has = self.proc.mark(id.pid).ok().and_then(Marked::inode);
        Ok(has == Some(mark) && self.proc.stat_of(id)?.is_some())
    }

    /// Whose somebody with the target's mark is.
    pub(super) fn judge_bearer(
        &self,
        process: &ProcStat,
        target: &ScanTarget,
        leads: &mut Leads,
    ) -> Result<Judgement, SysError> {
        match self.lead(process, target, leads)? {
            // Its orphans are inherited there and not by us: it may have been born below us.
            Lead::Elsewhere(where_to) if self.is_among_other_pids(process.pid) => {
                Ok(Judgement::Doubtful(format!(
                    "marked, and in a pid namespace of others: its ancestors lead outside, \
                     {where_to}, which they would for an orphan of this start, too"
                )))
            }
            Lead::Elsewhere(where_to) => Ok(Judgement::Stranger(format!(
                "marked, but its ancestors lead outside: {where_to}"
            ))),
            Lead::Reaper => self.judge_orphan(process, target),
            Lead::Unknown => Ok(Judgement::Unsure),
            Lead::Ours => match self.side(process.pid, target)? {
                Side::Another { path, .. } if !self.has_witness(process, target)? => {
                    Ok(Judgement::Doubtful(format!(
                        "marked, but in the cgroup of somebody else ({path}), and nothing else \
                         says that it is of this start"
                    )))
                }
                _ => Ok(Judgement::Ours),
            },
        }
    }

    fn is_among_other_pids(&self, pid: u32) -> bool {
        let theirs = self.proc.pid_namespace(pid);
        theirs.is_some() && theirs != procfs::pid_namespace().ok()
    }

    /// Whose a bearer of the mark is that a killed supervisor's reaper inherited: the number of
    /// the mark may have been another namespace's since.
    fn judge_orphan(&self, process: &ProcStat, target: &ScanTarget) -> Result<Judgement, SysError> {
        let own = target.mark_id.zip(self.proc.mark_id(process.pid));
        Ok(match own {
            Some((wanted, has)) if wanted == has => Judgement::Ours,
            None if target.mark_held => Judgement::Ours,
            Some(_) => Judgement::Stranger(
                "its mark has the number of this start's, and is another".to_owned(),
            ),
            None if self.has_witness(process, target)? => Judgement::Ours,
            None => Judgement::Doubtful(
                "bears the number of the mark of a supervisor that was killed, and nothing \
                 else says that it is of this start"
                    .to_owned(),
            ),
        })
    }

    pub(super) fn find_recorded(
        &self,
        target: &ScanTarget,
        found: &mut Found,
    ) -> Result<(), SysError> {
        let main = target.main.filter(|main| !target.recorded.contains(main));
        for &id in target.recorded.iter().chain(&main) {
            if let Some(process) = self.living(id.pid)?.filter(|stat| stat.id() == id) {
                let evidence = match self.marks.get(&id.pid) {
                    Some(&mark) if Some(mark) == target.mark => Evidence::Marked,
                    // It was in the cgroup because somebody had moved it there.
                    Some(&mark) if self.is_known(mark) => {
                        let why = "was seen in the cgroup, and bears the mark of another service";
                        let why = why.to_owned();
                        found.foreign.push(Stranger { process, why });
                        continue;
                    }
                    _ => Evidence::Recorded,
                };
                found.ours.push(Escapee { process, evidence });
            } else if self
                .table
                .get(&id.pid)
                .is_some_and(|seen| seen.id() == id && !seen.is_dead())
            {
                // It has ended since it was looked at, and may have left a child born after that.
                found.missed = true;
            }
        }
        Ok(())
    }

    /// What descends from ours is ours, unless it lives in another generation's cgroup. From the
    /// parents in the stat files, all read again: once an ancestor is killed, nothing tells any
    /// more what descended from it.
    pub(super) fn add_descendants(
        &mut self,
        target: &ScanTarget,
        found: &mut Found,
    ) -> Result<(), SysError> {
        if found.ours.is_empty() {
            return Ok(());
        }
        let mut below: BTreeMap<u32, Vec<ProcStat>> = BTreeMap::new();
        for pid in self.proc.pids()? {
            if let Some(process) = self.living(pid)? {
                below.entry(process.ppid).or_default().push(process);
            }
        }
        let mut queue: Vec<ProcId> = found.ours.iter().map(|e| e.process.id()).collect();
        let mut seen: BTreeSet<u32> = queue.iter().map(|id| id.pid).collect();
        while let Some(parent) = queue.pop() {
            let Some(children) = below.remove(&parent.pid) else {
                continue;
            };
            // Whoever has the number after its children were read, and had it when it was found,
            // had it all the time between: they are no children of a later owner.
            let held = self.proc.stat_of(parent)?.is_some();
            #[cfg(test)]
            let held = held || super::tests::planted(super::tests::Bug::ChildrenOfNumber);
            if !held {
                found.missed = true;
                continue;
            }
            for process in children {
                if process.start_time < parent.start_time || !seen.insert(process.pid) {
                    continue;
                }
                queue.push(process.id());
                match self.side(process.pid, target)? {
                    Side::Another { path, .. } => {
                        let why = format!("descends from an escapee, but is in the cgroup {path}");
                        found.foreign.push(Stranger { process, why });
                    }
                    _ => found.ours.push(Escapee {
                        process,
                        evidence: Evidence::Descends,
                    }),
                }
            }
        }
        Ok(())
    }

    /// Those of `ours` to be left alone: by name, by their cgroup, or because an ancestor is. One
    /// that cannot be told is not.
    pub(super) fn kept_of(&self, target: &ScanTarget, ours: &[Escapee]) -> BTreeSet<u32> {
        let Some(keep) = &target.keep else {
            return BTreeSet::new();
        };
        let in_kept_cgroup = |pid: u32| {
            let prefix = target.kept_path.as_deref();
            let name = prefix.and_then(|_| self.proc.cgroup(pid).ok().flatten());
            prefix
                .zip(name)
                .is_some_and(|(prefix, name)| is_at_or_below(&name.path, prefix))
        };
        let processes = || ours.iter().map(|escapee| &escapee.process);
        let named = processes().filter(|process| keep(process) || in_kept_cgroup(process.pid));
        let mut kept: BTreeSet<u32> = named.map(|process| process.pid).collect();
        let main = target.main.map(|main| main.pid);
        loop {
            let before = kept.len();
            let below = processes().filter(|process| Some(process.pid) != main);
            let below: Vec<u32> = below
                .filter(|process| kept.contains(&process.ppid))
                .map(|process| process.pid)
                .collect();
            kept.extend(below);
            if kept.len() == before {
                return kept;
            }
        }
    }

    /// A live process, as it is now, that may be signalled at all.
    pub(super) fn living(&self, pid: u32) -> Result<Option<ProcStat>, SysError> {
        if pid == self.context.own_pid || pid == 1 {
            return Ok(None);
        }
        Ok(self
            .proc
            .stat(pid)?
            .filter(|stat| !stat.is_dead() && !stat.kernel_thread))
    }

    fn has_witness(&self, process: &ProcStat, target: &ScanTarget) -> Result<bool, SysError> {
        Ok(is_recorded(target, process.id()) || self.hint(process, target)?.is_some())
    }

    pub(super) fn hint(
        &self,
        process: &ProcStat,
        target: &ScanTarget,
    ) -> Result<Option<&'static str>, SysError> {
        if let Some(main) = target.main {
            let leader = self.proc.stat(main.pid)?;
            let reused = leader.is_some_and(|now| now.start_time != main.start_time);
            if process.session == main.pid && !reused {
                return Ok(Some("is in the main process's session"));
            }
        }
        Ok(match self.environment(process, target)? {
            Environment::Target => Some("carries the environment marker"),
            Environment::Another | Environment::Silent => None,
        })
    }

    pub(super) fn environment(
        &self,
        process: &ProcStat,
        target: &ScanTarget,
    ) -> Result<Environment, SysError> {
        let Some((key, value)) = &target.env_marker else {
            return Ok(Environment::Silent);
        };
        // Reading the memory of one that is stuck in the kernel may hang.
        if process.state == 'D' {
            return Ok(Environment::Silent);
        }
        match self.environments.borrow_mut().value(process.id(), key) {
            Ok(Some(found)) if found == *value => Ok(Environment::Target),
            Ok(Some(_)) => Ok(Environment::Another),
            Ok(None) => Ok(Environment::Silent),
            Err(e) if e.is(Errno::EACCES) || e.is(Errno::EPERM) => Ok(Environment::Silent),
            Err(e) => Err(e),
        }
    }
}

impl Found {
    /// Names somebody whom it cannot tell, so that nothing is proven.
    pub(super) fn doubt(&mut self, process: ProcStat, why: String) {
        self.doubt.get_or_insert_with(|| {
            let what = format!("process {} ({})", process.pid, process.comm);
            SysError::because("attribute", what, why.clone())
        });
        self.foreign.push(Stranger { process, why });
    }
}

pub(super) enum Judgement {
    Ours,
    Stranger(String),
    /// It may be the target's.
    Doubtful(String),
    Unsure,
}

pub(super) enum Environment {
    Target,
    Another,
    Silent,
}

pub(super) fn is_recorded(target: &ScanTarget, id: ProcId) -> bool {
    target.main == Some(id) || target.recorded.contains(&id)
}
