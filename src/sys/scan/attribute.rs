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

use super::look::{CHAIN_BOUND, Whole};
use super::{Escapee, Evidence, Orphans, ScanTarget, Stranger};
use crate::sys::SysError;
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::{Marked, ProcId, ProcStat, is_at_or_below};

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
    pub(super) error: Option<SysError>,
}

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
    Another(String),
    Neutral,
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
                found.missed = true;
                continue;
            };
            let mut judgement = self.judge_bearer(&process, target, &mut leads)?;
            let mut again = JUDGED_AGAIN;
            let process = loop {
                let Some(process) = self.living(pid)? else {
                    break None;
                };
                if !matches!(judgement, Judgement::Unsure) || again == 0 {
                    break Some(process);
                }
                again -= 1;
                judgement = self.judge_bearer(&process, target, &mut BTreeMap::new())?;
            };
            let Some(process) = process else {
                found.missed = true;
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
        self.find_unreadable(target, found)?;
        self.find_exiting(target, found)?;
        self.add_descendants(target, found)?;
        self.report_orphans(target, found)
    }

    /// Whose somebody with the target's mark is.
    pub(super) fn judge_bearer(
        &self,
        process: &ProcStat,
        target: &ScanTarget,
        leads: &mut Leads,
    ) -> Result<Judgement, SysError> {
        match self.lead(process, target, leads)? {
            Lead::Elsewhere(where_to) => Ok(Judgement::Stranger(format!(
                "marked, but its ancestors lead outside: {where_to}"
            ))),
            Lead::Reaper => self.judge_orphan(process, target),
            Lead::Unknown => Ok(Judgement::Unsure),
            Lead::Ours => match self.side(process.pid, target)? {
                Side::Another(path) if !self.has_witness(process, target)? => {
                    Ok(Judgement::Doubtful(format!(
                        "marked, but in the cgroup of somebody else ({path}), and nothing else \
                         says that it is of this start"
                    )))
                }
                _ => Ok(Judgement::Ours),
            },
        }
    }

    /// Whose a bearer of the mark is that a killed supervisor's reaper inherited: the number of
    /// the mark may have been another namespace's since.
    fn judge_orphan(&self, process: &ProcStat, target: &ScanTarget) -> Result<Judgement, SysError> {
        let own = target.mark_id.zip(self.proc.mark_id(process.pid));
        Ok(match own {
            Some((wanted, has)) if wanted == has => Judgement::Ours,
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

    /// Follows the parents of `process` up to us, or to where that becomes impossible.
    fn lead(
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
                Side::Another(path) => {
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
        } else if below(&self.context.tree) && !below(&self.context.leaf) {
            Side::Another(name.path)
        } else {
            Side::Neutral
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
                    _ => Evidence::Recorded,
                };
                found.ours.push(Escapee { process, evidence });
            }
        }
        Ok(())
    }

    /// Those whose mark we may not see: reported if they are below us and hint at the target.
    fn find_unreadable(&self, target: &ScanTarget, found: &mut Found) -> Result<(), SysError> {
        let mut leads = BTreeMap::new();
        for &pid in &self.unreadable {
            let Some(process) = self.living(pid)? else {
                continue;
            };
            let lead = self.lead(&process, target, &mut leads)?;
            if matches!(lead, Lead::Ours) && !matches!(self.side(pid, target)?, Side::Another(_)) {
                found.doubt(process, "below us, and its mark may not be read".to_owned());
            }
        }
        Ok(())
    }

    /// Those on their way out have lost their mark, and are gone in a moment, as a rule. One that
    /// is not, below us and nobody's known, may be an escapee that hangs on a file it closes.
    fn find_exiting(&self, target: &ScanTarget, found: &mut Found) -> Result<(), SysError> {
        let mut leads = BTreeMap::new();
        for &pid in &self.exiting {
            let Some(process) = self.living(pid)? else {
                continue;
            };
            if !self.context.known_children.contains(&pid)
                && matches!(self.lead(&process, target, &mut leads)?, Lead::Ours)
                && !matches!(self.side(pid, target)?, Side::Another(_))
                && !self.ends_soon(&process)?
            {
                let why = "below us and exiting, so that it has lost its mark".to_owned();
                found.doubt(process, why);
            }
        }
        Ok(())
    }

    fn ends_soon(&self, process: &ProcStat) -> Result<bool, SysError> {
        let Some(handle) = PidFd::open(process.pid)? else {
            return Ok(true);
        };
        // If the number is another's by now the handle is on that one, and the look tells.
        Ok(handle.ends_within(self.context.death_wait)
            || self.living(process.pid)?.map(|now| now.id()) != Some(process.id()))
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
        let mut queue: Vec<u32> = found.ours.iter().map(|e| e.process.pid).collect();
        let mut seen: BTreeSet<u32> = queue.iter().copied().collect();
        while let Some(children) = queue
            .pop()
            .map(|pid| below.remove(&pid).unwrap_or_default())
        {
            for process in children {
                if !seen.insert(process.pid) {
                    continue;
                }
                queue.push(process.pid);
                match self.side(process.pid, target)? {
                    Side::Another(path) => {
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

    /// Our own children that are nobody's known: reported if something hints at the target or
    /// leaves a doubt.
    fn report_orphans(&mut self, target: &ScanTarget, found: &mut Found) -> Result<(), SysError> {
        for process in self.unknown_children()? {
            let pid = process.pid;
            if found.ours.iter().any(|escapee| escapee.process.pid == pid)
                || matches!(self.side(pid, target)?, Side::Another(_))
            {
                continue;
            }
            // It may have been born after the look.
            let mark = match self.proc.mark(pid) {
                Ok(Marked::With(mark)) => Some(mark),
                Ok(Marked::Exiting | Marked::Gone) => {
                    found.missed = true;
                    continue;
                }
                Err(e) if e.is(Errno::EACCES) => None,
                Err(e) => return Err(e),
            };
            if mark.is_some() && mark == target.mark {
                let evidence = Evidence::Marked;
                found.ours.push(Escapee { process, evidence });
                continue;
            }
            if mark.is_some_and(|mark| self.is_known(mark)) {
                continue;
            }
            let older = target
                .main
                .is_some_and(|main| process.start_time < main.start_time);
            let suspect = match self.context.orphans {
                Orphans::Anybodys => false,
                Orphans::Unmarked => mark.is_some() && mark != self.context.own_mark,
                Orphans::Ours => true,
            };
            match self.hint(&process, target)? {
                Some(hint) if suspect && !older => {
                    let why = format!("an orphan that we inherited; it {hint}, but lacks the mark");
                    found.doubt(process, why);
                }
                Some(hint) => {
                    let why = format!("an orphan that we inherited; it {hint}, but lacks the mark");
                    found.foreign.push(Stranger { process, why });
                }
                None if suspect && !older => {
                    let why = "an orphan that we inherited, without a mark that we know: it can \
                               only come from a start of ours, and nothing says from which";
                    found.doubt(process, why.to_owned());
                }
                None => {}
            }
        }
        Ok(())
    }

    /// Our children that are no main process of ours and bear no mark we know; read once.
    fn unknown_children(&mut self) -> Result<Vec<ProcStat>, SysError> {
        if self.unknown_children.is_none() {
            let mut unknown = Vec::new();
            for pid in self.proc.children(self.context.own_pid)? {
                let mark = self.marks.get(&pid);
                let known = self.context.known_children.contains(&pid)
                    || mark.is_some_and(|&mark| self.is_known(mark));
                if !known {
                    unknown.extend(self.living(pid)?);
                }
            }
            self.unknown_children = Some(unknown);
        }
        Ok(self.unknown_children.clone().unwrap_or_default())
    }

    /// Whether a mark is a generation's of ours.
    fn is_known(&self, mark: u64) -> bool {
        self.context.known_marks.contains(&mark) || self.wanted.contains(&mark)
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

    fn hint(
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
    fn doubt(&mut self, process: ProcStat, why: String) {
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
