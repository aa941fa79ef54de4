//! Where there are no marks: the record, ancestry, the session, and the environment together with
//! descent from us.

use std::collections::{BTreeMap, BTreeSet};

use super::ancestry::Side;
use super::attribute::{Environment, Found, is_recorded};
use super::lineage::Line;
use super::look::Whole;
use super::{Escapee, Evidence, Orphans, ScanTarget, Stranger};
use crate::sys::procfs::ProcStat;
use crate::sys::{SysError, session};

impl Whole<'_> {
    pub(super) fn find_by_descent(
        &mut self,
        target: &ScanTarget,
        found: &mut Found,
    ) -> Result<(), SysError> {
        self.refresh(found)?;
        self.find_recorded(target, found)?;
        let members = self.session_members(target)?;
        let mut lines = BTreeMap::new();
        let mut unattributed = Vec::new();
        for process in self.table.values() {
            if process.is_dead()
                || process.kernel_thread
                || !matches!(self.line(process, &mut lines), Line::BelowUs(_))
            {
                continue;
            }
            let known = self.context.known_children.contains(&process.pid)
                || is_recorded(target, process.id());
            if known || matches!(self.side(process.pid, target)?, Side::Another { .. }) {
                continue;
            }
            if members.contains(&process.pid) {
                found.ours.push(Escapee {
                    process: process.clone(),
                    evidence: Evidence::Session,
                });
                continue;
            }
            match self.environment(process, target)? {
                Environment::Target => {
                    let evidence = Evidence::Environment;
                    found.ours.push(Escapee {
                        process: process.clone(),
                        evidence,
                    });
                }
                Environment::Another => {}
                Environment::Silent if process.ppid == self.context.own_pid => {
                    unattributed.push(process.clone());
                }
                Environment::Silent => {}
            }
        }
        if target.orphaned && target.cgroup.is_none() {
            self.find_orphaned(target, found)?;
        }
        if self.context.orphans == Orphans::Targets {
            Self::take_inherited(target, &mut unattributed, found);
        }
        self.add_descendants(target, found)?;
        unattributed.retain(|orphan| !found.ours.iter().any(|e| e.process.pid == orphan.pid));
        if !target.closed {
            self.weigh_unattributed(target, unattributed, found);
        }
        Ok(())
    }

    /// What a killed supervisor's start left to the reaper of its orphans, where there is neither
    /// a cgroup nor a mark: below us is nobody of it. One witness alone is a hint: anybody may
    /// carry the marker, and a session's number may have been another's since.
    fn find_orphaned(&self, target: &ScanTarget, found: &mut Found) -> Result<(), SysError> {
        let session = self.main_session(target);
        for process in self.table.values() {
            let passed_over = process.is_dead()
                || process.kernel_thread
                || process.pid == 1
                || process.pid == self.context.own_pid
                || found.ours.iter().any(|e| e.process.pid == process.pid)
                || self.context.known_children.contains(&process.pid);
            if passed_over || !matches!(self.environment(process, target)?, Environment::Target) {
                continue;
            }
            let process = process.clone();
            // A job leads its process group, a service its session as well.
            if [process.session, process.pgrp].map(Some).contains(&session) {
                let evidence = Evidence::Orphaned;
                found.ours.push(Escapee { process, evidence });
            } else {
                let why = "carries the environment marker of a start whose supervisor was killed, \
                           and nothing else says that it is of it";
                found.doubt(process, why.to_owned());
            }
        }
        Ok(())
    }

    /// Where there is one start and orphans come from nowhere else, whoever we inherited is its.
    fn take_inherited(target: &ScanTarget, orphans: &mut Vec<ProcStat>, found: &mut Found) {
        let born_since = |process: &mut ProcStat| {
            let main = target.main;
            main.is_some_and(|main| process.start_time >= main.start_time)
        };
        let theirs = orphans.extract_if(.., born_since).map(|process| Escapee {
            process,
            evidence: Evidence::Inherited,
        });
        found.ours.extend(theirs);
    }

    /// Orphans of ours that nothing attributes to anybody.
    fn weigh_unattributed(&self, target: &ScanTarget, orphans: Vec<ProcStat>, found: &mut Found) {
        // Without a cgroup such a one may be anybody's.
        if target.cgroup.is_none() && !orphans.is_empty() {
            for process in orphans {
                let why = "an orphan that we inherited: nothing says whose it is, and there is \
                           no cgroup to tell";
                found.doubt(process, why.to_owned());
            }
            return;
        }
        for process in orphans {
            let older = target
                .main
                .is_some_and(|main| process.start_time < main.start_time);
            match self.context.orphans {
                _ if older => {}
                Orphans::Anybodys => {}
                Orphans::Unmarked => {
                    let why = "an orphan that we inherited, of nobody that we know: of a session \
                               of others, or of a start that it left with nothing to tell"
                        .to_owned();
                    found.foreign.push(Stranger { process, why });
                }
                Orphans::Ours | Orphans::Targets => {
                    let why = "an orphan that we inherited: it can only come from a start of \
                               ours, and nothing says from which";
                    found.doubt(process, why.to_owned());
                }
            }
        }
    }

    /// Who is proven to be in the main process's session or group.
    fn session_members(&self, target: &ScanTarget) -> Result<BTreeSet<u32>, SysError> {
        let Some(main) = target.main else {
            return Ok(BTreeSet::new());
        };
        let until = target.main_reaped.unwrap_or(self.began);
        let members = session::members(&self.proc, main, until, self.table.values())?;
        Ok(members.into_iter().map(|member| member.pid).collect())
    }

    /// The main process's session, unless its number is another's by now.
    fn main_session(&self, target: &ScanTarget) -> Option<u32> {
        let main = target.main?;
        match self.table.get(&main.pid) {
            Some(now) if now.start_time != main.start_time => None,
            _ => Some(main.pid),
        }
    }
}
