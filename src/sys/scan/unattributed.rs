//! Those that cannot be told: their mark may not be read, or is lost, or is nobody's that we know.
//! None of them is signalled; what they leave in doubt is said.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::ancestry::{Lead, Side};
use super::attribute::Found;
use super::look::Whole;
use super::{Escapee, Evidence, Orphans, ScanTarget, Stranger};
use crate::sys::SysError;
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::{Marked, ProcStat};

impl Whole<'_> {
    /// Those whose mark we may not see: reported if they are below us and hint at the target.
    pub(super) fn find_unreadable(
        &self,
        target: &ScanTarget,
        found: &mut Found,
    ) -> Result<(), SysError> {
        let mut leads = BTreeMap::new();
        for &pid in &self.unreadable {
            let Some(process) = self.living(pid)? else {
                continue;
            };
            let lead = self.lead(&process, target, &mut leads)?;
            if matches!(lead, Lead::Ours)
                && !matches!(self.side(pid, target)?, Side::Another { .. })
            {
                found.doubt(process, "below us, and its mark may not be read".to_owned());
            }
        }
        Ok(())
    }

    /// Those on their way out have lost their mark, and are gone in a moment, as a rule. One that
    /// is not, below us and nobody's known, may be an escapee that hangs on a file it closes.
    pub(super) fn find_exiting(
        &self,
        target: &ScanTarget,
        found: &mut Found,
    ) -> Result<(), SysError> {
        let mut leads = BTreeMap::new();
        for &pid in &self.exiting {
            let Some(process) = self.living(pid)? else {
                continue;
            };
            if !self.context.known_children.contains(&pid)
                && matches!(self.lead(&process, target, &mut leads)?, Lead::Ours)
                && !matches!(self.side(pid, target)?, Side::Another { .. })
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

    /// Our own children that are nobody's known: reported if something hints at the target or
    /// leaves a doubt.
    pub(super) fn report_orphans(
        &mut self,
        target: &ScanTarget,
        found: &mut Found,
    ) -> Result<(), SysError> {
        for process in self.unknown_children()? {
            let pid = process.pid;
            if found.ours.iter().any(|escapee| escapee.process.pid == pid) {
                continue;
            }
            // Anybody may have gone into another generation's cgroup: who is of it has its mark.
            if let Side::Another { mark: None, .. } = self.side(pid, target)? {
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
                Orphans::Ours | Orphans::Targets => true,
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
                // Only with CAP_SYS_ADMIN could it have joined our own time namespace; sessions of
                // others leave such orphans every day.
                None if mark == self.context.own_mark
                    && !older
                    && self.context.orphans == Orphans::Unmarked =>
                {
                    let why = "an orphan that we inherited, of nobody that we know: of a session \
                               of others, or of a start that gave its mark up for ours";
                    let why = why.to_owned();
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
    pub(super) fn unknown_children(&mut self) -> Result<Vec<ProcStat>, SysError> {
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
    pub(super) fn is_known(&self, mark: u64) -> bool {
        self.context.known_marks.contains(&mark) || self.wanted.contains(&mark)
    }
}
