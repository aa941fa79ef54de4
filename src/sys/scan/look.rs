//! Looking at every process there is.
//!
//! A look has rounds. Each lists all pids and reads those that are new since the round before,
//! the youngest first: a chain of processes that fork and exit ("relay") is only ever alive as
//! one of the newest pids, for the tenth of a millisecond that a fork takes. Whoever is found
//! to be a target's is stopped on the spot (SIGSTOP) and killed when the look is over: killed at
//! once, it would orphan its children before they could be attributed through it.
//!
//! A round in which the last pid did not move, and nobody vanished between being listed and
//! being read, makes the look complete, because:
//!
//! - whoever lives at its end was listed in it, and
//! - was read in it or in an earlier round. A pid read before is read again if it was given out
//!   since; another process cannot have it otherwise.
//!
//! Who vanished may have ended a fork whose pid was given out before the round and which the
//! listing did not show yet: the child lives on unread. So one that is dead when it is read
//! costs another round; one that was dead then already (a zombie) does not.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use nix::errno::Errno;

use super::ancestry::Side;
use super::attribute::Judgement;
use super::bounded::Environments;
#[cfg(test)]
use super::tests::{Bug, planted};
use super::{Escapee, Evidence, ScanContext, ScanTarget};
use crate::sys::SysError;
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::{self, Marked, Proc, ProcStat};

/// How many ancestors of one process are followed.
pub(super) const CHAIN_BOUND: usize = 65_536;

/// How often a look begins again because something was forked meanwhile.
const ROUNDS: usize = 16;

/// How often one pid may be listed and not be there.
const ABSENT_BOUND: usize = 8;

/// How often, between two rounds, the newest pids are asked for, and how many of them.
const HUNTS: usize = 32;
const HUNTED: usize = 64;

/// How many processes are held (stopped, with a handle) during a look.
const HELD_BOUND: usize = 512;

/// A target, and which one it is among those of the pass.
pub(super) type Numbered<'t> = (usize, &'t ScanTarget);

/// A process found to be a target's, stopped until the look is over.
pub(super) struct Held {
    /// Whose it is.
    pub(super) target: usize,
    pub(super) escapee: Escapee,
    /// On exactly that process.
    pub(super) handle: PidFd,
}

/// Every process of the machine as one look saw it.
pub(super) struct Whole<'a> {
    pub(super) proc: Proc,
    pub(super) context: &'a ScanContext,
    /// Marks other than our own; ours would fill it with every process there is.
    pub(super) marks: BTreeMap<u32, u64>,
    pub(super) environments: RefCell<Environments>,
    /// The marks of the targets.
    pub(super) wanted: BTreeSet<u64>,
    /// Processes whose mark we may not see.
    pub(super) unreadable: BTreeSet<u32>,
    /// Processes that have lost their mark on their way out.
    pub(super) exiting: BTreeSet<u32>,
    /// Everyone, where some target has no mark.
    pub(super) table: BTreeMap<u32, ProcStat>,
    pub(super) held: BTreeMap<u32, Held>,
    /// Our living children that are nobody's known, read once.
    pub(super) unknown_children: Option<Vec<ProcStat>>,
    /// When it began, in clock ticks after boot.
    pub(super) began: u64,
    /// Whether there are threads of the kernel among them.
    kernel_threads: bool,
}

impl<'a> Whole<'a> {
    pub(super) fn new(proc: Proc, context: &'a ScanContext) -> Self {
        Self {
            proc,
            context,
            marks: BTreeMap::new(),
            environments: RefCell::default(),
            wanted: BTreeSet::new(),
            unreadable: BTreeSet::new(),
            exiting: BTreeSet::new(),
            table: BTreeMap::new(),
            held: BTreeMap::new(),
            unknown_children: None,
            began: procfs::ticks_now(),
            kernel_threads: procfs::sees_kernel_threads(),
        }
    }

    /// Looks at everyone for `targets`; whether a round was complete.
    pub(super) fn look(&mut self, targets: &[Numbered<'_>]) -> Result<bool, SysError> {
        let by_mark: BTreeMap<u64, Numbered<'_>> = targets
            .iter()
            .filter_map(|&(n, target)| Some((target.mark?, (n, target))))
            .collect();
        self.wanted = by_mark.keys().copied().collect();
        let unmarked = targets.iter().any(|(_, target)| target.mark.is_none());
        let mut read = BTreeSet::new();
        let mut last_before = None;
        let mut absent = BTreeMap::new();
        for _ in 0..ROUNDS {
            if let Some(from) = last_before {
                self.hunt(from, &by_mark, unmarked)?;
            }
            let last = self.proc.last_pid()?;
            let mut stood = true;
            for pid in self.proc.pids()?.into_iter().rev() {
                let given_out_since = last_before.is_some_and(|from| is_between(from, pid, last));
                if read.insert(pid) || given_out_since || absent.contains_key(&pid) {
                    let there = self.read(pid, &by_mark, unmarked)?;
                    stood &= there;
                    if there {
                        absent.remove(&pid);
                    } else {
                        self.note_absent(pid, &mut absent)?;
                    }
                }
            }
            #[cfg(test)]
            if planted(Bug::BirthsIgnored) {
                return Ok(true);
            }
            if stood && self.proc.last_pid()? == last {
                return Ok(true);
            }
            last_before = Some(last);
        }
        Ok(false)
    }

    /// Counts how often one was listed and not there to be read. Who ends is not listed again;
    /// who is may be hidden, and then nothing is proven.
    fn note_absent(&self, pid: u32, absent: &mut BTreeMap<u32, usize>) -> Result<(), SysError> {
        if self.proc.stat(pid)?.is_some() {
            absent.remove(&pid);
            return Ok(());
        }
        let times = absent.entry(pid).or_default();
        *times += 1;
        if *times < ABSENT_BOUND {
            return Ok(());
        }
        let why = "it is listed again and again and cannot be read: something may be mounted \
                   over it (see /proc/self/mountinfo)";
        Err(SysError::because("look at", format!("/proc/{pid}"), why))
    }

    /// Reads the pids given out since `from` without listing anybody, the youngest first, for
    /// as long as more are given out: who is alive for the moment of a fork only is caught by
    /// being asked for at once. Proves nothing; the next round lists them all.
    fn hunt(
        &mut self,
        mut from: u32,
        by_mark: &BTreeMap<u64, Numbered<'_>>,
        unmarked: bool,
    ) -> Result<(), SysError> {
        for _ in 0..HUNTS {
            let last = self.proc.last_pid()?;
            if last == from {
                return Ok(());
            }
            let youngest = (1..=last).rev().take(HUNTED).take_while(|&pid| pid != from);
            for pid in youngest {
                self.read(pid, by_mark, unmarked)?;
            }
            from = last;
        }
        Ok(())
    }

    /// Reads one process; whether it was there to be read.
    fn read(
        &mut self,
        pid: u32,
        by_mark: &BTreeMap<u64, Numbered<'_>>,
        unmarked: bool,
    ) -> Result<bool, SysError> {
        if pid == 1 || pid == self.context.own_pid {
            return Ok(true);
        }
        let mut there = true;
        self.unreadable.remove(&pid);
        self.exiting.remove(&pid);
        self.marks.remove(&pid);
        // Most of a host's processes are, and none of them is anybody's.
        if self.kernel_threads && !unmarked && procfs::has_no_group(pid) {
            return Ok(true);
        }
        if !by_mark.is_empty() {
            match self.proc.mark(pid) {
                Ok(Marked::Gone) => there = false,
                Ok(Marked::Exiting) => {
                    there = false;
                    self.exiting.insert(pid);
                }
                Ok(Marked::With(mark)) if Some(mark) == self.context.own_mark => {}
                Ok(Marked::With(mark)) => {
                    self.marks.insert(pid, mark);
                    if let Some(&(n, target)) = by_mark.get(&mark) {
                        self.hold(pid, n, target)?;
                        there = self.held.contains_key(&pid) || self.living(pid)?.is_some();
                    }
                }
                Err(e) if e.is(Errno::EACCES) => {
                    self.unreadable.insert(pid);
                }
                Err(e) => return Err(e),
            }
        }
        if unmarked {
            match self.proc.stat(pid)? {
                Some(stat) => {
                    there &= !stat.is_dead();
                    self.table.insert(pid, stat);
                }
                None => {
                    there = false;
                    self.table.remove(&pid);
                }
            }
        }
        Ok(there)
    }

    /// Stops a bearer of the target's mark, if it is certain that it is to be killed.
    ///
    /// The handle comes first and what proves it ours after that: if the number was another's
    /// by then, the handle is on somebody who has ended, and the signal reaches nobody.
    fn hold(&mut self, pid: u32, n: usize, target: &ScanTarget) -> Result<(), SysError> {
        // One that was killed by others meanwhile has left its number.
        let gone = |held: &Held| held.handle.is_gone();
        if self.held.get(&pid).is_some_and(gone) {
            self.held.remove(&pid);
        }
        if self.held.contains_key(&pid)
            || self.held.len() >= HELD_BOUND
            || self.context.own_mark == target.mark
            // Whom it keeps shows when all of its processes are known.
            || target.keep.is_some()
            || target.spare
        {
            return Ok(());
        }
        // A thread's number has no handle.
        let Some(handle) = PidFd::open(pid)? else {
            return Ok(());
        };
        if self.proc.mark(pid)?.inode() != target.mark || !self.is_to_end(pid, &handle, target)? {
            return Ok(());
        }
        if !handle.send(libc::SIGSTOP)? {
            return Ok(());
        }
        // It stands still now: what is read is what it is.
        match self.living(pid) {
            // It has ended all the same, and the number may be another's.
            Ok(Some(_)) if handle.is_gone() => Ok(()),
            Ok(Some(process)) => {
                let escapee = Escapee {
                    process,
                    evidence: Evidence::Marked,
                };
                self.held.insert(
                    pid,
                    Held {
                        target: n,
                        escapee,
                        handle,
                    },
                );
                Ok(())
            }
            Ok(None) => Ok(()),
            Err(e) => {
                // Nobody would find it again to let it go on, and it is to be killed anyway.
                handle.send(libc::SIGKILL)?;
                Err(e)
            }
        }
    }

    fn is_to_end(&self, pid: u32, handle: &PidFd, target: &ScanTarget) -> Result<bool, SysError> {
        // The orphan that a relay always is costs one call more to tell, where the kernel has
        // it (6.13), instead of five.
        let orphan = handle
            .info()
            .is_some_and(|info| info.ppid == self.context.own_pid);
        if orphan
            && !self.context.known_children.contains(&pid)
            && !matches!(self.side(pid, target)?, Side::Another { .. })
        {
            return Ok(true);
        }
        let Some(process) = self.living(pid)? else {
            return Ok(false);
        };
        let judgement = self.judge_bearer(&process, target, &mut BTreeMap::new())?;
        Ok(matches!(judgement, Judgement::Ours))
    }

    /// A handle on exactly the process that was found; `None` if it has ended since.
    ///
    /// The handle is opened first and the process looked at after that: what has the number
    /// *then* and started when the found one did is the one the handle is on, for the number
    /// was its own all the time between.
    pub(super) fn recognise(
        &self,
        target: &ScanTarget,
        escapee: &Escapee,
    ) -> Result<Option<PidFd>, SysError> {
        let pid = escapee.process.pid;
        #[cfg(test)]
        if planted(Bug::LookedBeforeHandle) {
            let now = self.proc.stat_of(escapee.process.id())?;
            return Ok(now.and_then(|_| PidFd::open(pid).ok()?));
        }
        let Some(handle) = PidFd::open(pid)? else {
            return Ok(None);
        };
        #[cfg(test)]
        if planted(Bug::NumberIsProcess) {
            return Ok(Some(handle));
        }
        let now = self.proc.stat_of(escapee.process.id())?;
        if now.is_none_or(|now| now.is_dead()) {
            return Ok(None);
        }
        if escapee.evidence == Evidence::Marked && self.proc.mark(pid)?.inode() != target.mark {
            return Ok(None);
        }
        Ok(Some(handle))
    }

    /// Whom the look holds for one target.
    pub(super) fn held_for(&self, n: usize) -> Vec<Escapee> {
        let held = self.held.values().filter(|held| held.target == n);
        held.map(|held| held.escapee.clone()).collect()
    }
}

/// Whether `pid` was given out after `from`, up to `last`: pids go up and begin anew.
fn is_between(from: u32, pid: u32, last: u32) -> bool {
    if from <= last {
        from < pid && pid <= last
    } else {
        from < pid || pid <= last
    }
}

#[cfg(test)]
mod tests {
    use super::is_between;

    #[test]
    fn pids_begin_anew() {
        assert!(is_between(10, 11, 12) && is_between(10, 12, 12));
        assert!(!is_between(10, 10, 12) && !is_between(10, 13, 12));
        assert!(is_between(4_000_000, 4_000_001, 300) && is_between(4_000_000, 300, 300));
        assert!(!is_between(4_000_000, 301, 300) && !is_between(4_000_000, 4_000_000, 300));
        assert!(!is_between(10, 10, 10));
    }
}
