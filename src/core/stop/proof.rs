//! The proof: kill what is left, scan for what escaped, remove the cgroup.

use std::time::Duration;

use super::super::effect::Effect;
use super::super::event::{Failed, Fence, KillReport, ScanReport};
use super::super::machine::Out;
use super::super::receipt::{Containment, Foreigner, Guarantee, Proc, Rung, Verdict};
#[cfg(test)]
use super::super::sabotage::{Bug, planted};
use super::super::service::Main;
use super::super::time::Timer;
use super::super::{OpId, ServiceId};
use super::verdict::INSPECT_BOUND;
use super::{Ladder, On};

/// Three empty passes in a row stand for a conclusive one where something always forks.
const EMPTY_PASSES: u8 = 3;
/// A scan that fails is tried this often before the verdict does without it.
const SCAN_TRIES: u8 = 3;
/// A late kill that fails is tried this often, counted with those before the verdict.
const LATE_KILL_TRIES: u32 = 8;
pub(super) const RETRY_FIRST: Duration = Duration::from_millis(2);
const RETRY_LAST: Duration = Duration::from_millis(250);

impl Ladder {
    // ---- what is done -------------------------------------------------------------------

    /// Nothing is left in `main`, as it seems: on to the proof.
    pub(super) fn prove(&mut self, out: &mut Out, id: ServiceId) {
        if self.populated == Some(true) {
            return self.kill(out, id);
        }
        #[cfg(test)]
        if planted(Bug::HintIsProof) && self.populated == Some(false) {
            return self.fence(out);
        }
        self.scan(out, id);
    }

    pub(super) fn kill(&mut self, out: &mut Out, id: ServiceId) {
        out.timers.cancel(Timer::Rung(id));
        self.set_proof(out, id);
        let op = self.kill_aside(out);
        self.on = On::Kill { op: Some(op) };
    }

    /// A kill that the ladder does not stand and wait for: its completion is a hint.
    pub(super) fn kill_aside(&mut self, out: &mut Out) -> OpId {
        let op = out.op();
        self.killing = true;
        self.kill_due = false;
        #[cfg(test)]
        let before = self.empty_passes;
        self.empty_passes = 0;
        #[cfg(test)]
        if planted(Bug::PassesAcrossKill) {
            self.empty_passes = before;
        }
        self.kills_open.insert(op);
        self.stale_passes = op;
        self.step(out, Rung::Kill);
        out.push(Effect::Kill {
            r#gen: self.r#gen,
            op,
        });
        op
    }

    pub(super) fn scan(&mut self, out: &mut Out, id: ServiceId) {
        out.timers.cancel(Timer::Retry(id));
        self.set_proof(out, id);
        let op = out.op();
        self.on = On::Scan { op: Some(op) };
        out.push(Effect::Scan {
            r#gen: self.r#gen,
            op,
        });
    }

    fn fence(&mut self, out: &mut Out) {
        let op = out.op();
        self.on = On::Fence { op };
        out.push(Effect::Fence {
            r#gen: self.r#gen,
            op,
        });
    }

    // ---- what happens -------------------------------------------------------------------

    pub(in super::super) fn on_cgroup(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        main: bool,
        whole: bool,
    ) {
        self.main_populated = Some(main);
        self.populated = Some(whole);
        self.kill_due |= !whole;
        match self.on {
            // A main process that lives on outside its cgroup has its grace like any other.
            On::Command { .. } | On::Signal
                if !main && !matches!(self.main, Main::Spawning | Main::Alive(_)) =>
            {
                self.step(out, Rung::Empty);
                self.prove(out, id);
            }
            On::Kill { op: None } if !whole => {
                self.step(out, Rung::Empty);
                self.scan(out, id);
            }
            _ if !whole => self.on_hint(out, id),
            _ => {}
        }
    }

    pub(in super::super) fn on_killed(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        op: OpId,
        report: KillReport,
    ) {
        // A kill counts on the receipt whenever its report comes.
        self.add_killed(report.killed);
        let failed = report.error.is_some();
        if let Some(error) = report.error {
            self.step(out, Rung::Trouble(error));
        }
        if !self.kills_open.remove(&op) {
            return;
        }
        self.kill_failures = if failed { self.kill_failures + 1 } else { 0 };
        self.kill_due |= failed && self.kill_failures < LATE_KILL_TRIES;
        self.kill_due |= report.populated == Some(false);
        if let Some(populated) = report.populated {
            self.populated = Some(populated);
        }
        self.stale_passes = out.last_op();
        match self.on {
            On::Kill { op: Some(mine) } if mine == op => {
                self.on = On::Kill { op: None };
                if report.populated == Some(false) {
                    self.step(out, Rung::Empty);
                    self.scan(out, id);
                } else {
                    self.set_retry(out, id);
                }
            }
            _ => self.on_hint(out, id),
        }
    }

    pub(in super::super) fn on_scanned(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        op: OpId,
        report: ScanReport,
    ) -> Option<Verdict> {
        self.add_found(&report);
        if self.on != (On::Scan { op: Some(op) }) {
            if !report.escaped.is_empty() {
                // An old pass met somebody: what was seen before we heard of it does not count.
                self.stale_passes = out.last_op();
                self.empty_passes = 0;
                self.hinted = true;
            }
            // Late as it is, it may know of somebody who lives.
            match report.populated {
                Some(true) => self.populated = Some(true),
                Some(false) if report.error.is_none() && self.abandoned.contains(&op) => {
                    self.note_outside(&report.alive);
                }
                Some(false) | None => {}
            }
            self.on_abandoned(out, id, op);
            return None;
        }
        self.on = On::Scan { op: None };
        if report.populated.is_some() {
            self.populated = report.populated;
        }
        if report.populated == Some(true) {
            self.empty_passes = 0;
            return self.on_came_back(out, id);
        }
        self.kill_due |= report.populated == Some(false);
        let escaped = report.escaped.len();
        let conclusive = report.conclusive;
        self.step(
            out,
            Rung::Scan {
                escaped,
                conclusive,
            },
        );
        if let Some(error) = report.error.or_else(|| self.unread(report.populated)) {
            if report.doubtful || !report.alive.is_empty() {
                // It proves nothing, and knows of somebody all the same, or that nobody is known.
                self.note_outside(&report.alive);
            }
            let nobody = report.doubtful && report.alive.is_empty();
            return self.on_scan_failed(out, id, error, report.guarantee, nobody);
        }
        self.promise_no_more_than(report.guarantee);
        let met = report.met;
        self.note_outside(&report.alive);
        if escaped > 0 {
            self.empty_passes = 0;
            if !report.alive.is_empty() {
                return self.wait_or_sleep(out, id);
            }
            #[cfg(test)]
            if planted(Bug::ScannedOnce) {
                return self.fence_when_settled(out, id, true);
            }
            return self.scan_on(out, id);
        }
        #[cfg(test)]
        let met = met && !planted(Bug::MetIsNobody);
        if met || op <= self.stale_passes {
            // Whoever lived when it came by may have left a child to the next.
            self.empty_passes = 0;
            return self.fence_when_settled(out, id, false);
        }
        self.empty_passes = self.empty_passes.saturating_add(1);
        self.fence_when_settled(out, id, conclusive || self.empty_passes >= EMPTY_PASSES)
    }

    /// Where there is a cgroup, a pass that could not read it proves nothing.
    fn unread(&self, populated: Option<bool>) -> Option<Failed> {
        let cgroup = self.receipt.guarantee.containment < Containment::Subreaper;
        (cgroup && populated.is_none()).then(|| Failed {
            doing: "read cgroup.events of".into(),
            what: self.receipt.service.clone(),
            errno: 0,
            why: "the pass could not read it".into(),
        })
    }

    /// After a pass that found nothing: on to the fence, unless somebody of ours may still put a
    /// process there; what settles that leads back here.
    fn fence_when_settled(&mut self, out: &mut Out, id: ServiceId, sure: bool) -> Option<Verdict> {
        if self.unsettled().is_some() {
            return if self.late { self.sleep(out, id) } else { None };
        }
        if !sure {
            return self.scan_on(out, id);
        }
        #[cfg(test)]
        if planted(Bug::VerifiedBeforeFence) {
            return Some(self.end(out, id, Verdict::Verified, Vec::new()));
        }
        self.fence(out);
        None
    }

    pub(in super::super) fn on_fenced(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        op: OpId,
        result: Fence,
    ) -> Option<Verdict> {
        if self.on != (On::Fence { op }) {
            self.on_abandoned(out, id, op);
            return None;
        }
        match result {
            // Something came between: the proof is made again, when that is over.
            Fence::Removed if op <= self.stale_passes || self.unsettled().is_some() => {
                self.empty_passes = 0;
                if self.late {
                    return self.sleep(out, id);
                }
                self.scan(out, id);
                None
            }
            Fence::Removed => {
                self.step(out, Rung::Fence);
                self.populated = Some(false);
                let survivors = self.known_outside();
                let verdict = if !survivors.is_empty() {
                    self.blame(format!("{} process(es) survive", survivors.len()));
                    Verdict::Lingering
                } else if self.doubt.is_none() && self.receipt.guarantee.can_verify() {
                    Verdict::Verified
                } else {
                    Verdict::Unverified
                };
                Some(self.end(out, id, verdict, survivors))
            }
            Fence::Busy => {
                self.step(out, Rung::FenceBusy);
                self.empty_passes = 0;
                if self.doubt.is_some() && !self.late {
                    // No pass said that it was empty: it may never have been.
                    return self.on_came_back(out, id);
                }
                self.on = if self.late {
                    On::Scan { op: None }
                } else {
                    On::Kill { op: None }
                };
                self.wait_or_sleep(out, id)
            }
            Fence::Failed(error) => {
                self.blame(error.to_string());
                self.step(out, Rung::Trouble(error));
                let survivors = self.known_outside();
                let verdict = if survivors.is_empty() {
                    Verdict::Unverified
                } else {
                    Verdict::Lingering
                };
                Some(self.end(out, id, verdict, survivors))
            }
        }
    }

    /// Time to look again.
    pub(in super::super) fn on_retry(&mut self, out: &mut Out, id: ServiceId) {
        match self.on {
            On::Kill { op: None } => self.kill(out, id),
            On::Scan { op: None } => self.scan(out, id),
            On::Lingering => self.look_again(out, id),
            _ => {}
        }
    }

    // ---- what follows -------------------------------------------------------------------

    /// The scan saw a populated cgroup: the empty reading was early, or something came back.
    pub(super) fn on_came_back(&mut self, out: &mut Out, id: ServiceId) -> Option<Verdict> {
        if self.late {
            // Once for each time that something came back: what is unkillable is not hammered.
            if self.kill_due {
                self.kill_aside(out);
            }
            return self.sleep(out, id);
        }
        let signalled = self.asked || self.rest_signalled;
        let grace_left = self.grace_ends.is_some_and(|ends| ends > out.now);
        if self.killing || self.main == Main::None || (signalled && !grace_left) {
            self.kill(out, id);
            return None;
        }
        // The proof's time begins when its turn comes.
        out.timers.cancel(Timer::Proof(id));
        if signalled {
            self.wait_on(out, id);
        } else {
            self.ask(out, id);
        }
        None
    }

    /// A pass that could tell by less than was promised lowers what the receipt promises. One
    /// that failed lowers nothing: the next may do better, and if none does that is the doubt.
    fn promise_no_more_than(&mut self, told: Guarantee) {
        let promised = &mut self.receipt.guarantee;
        promised.containment = promised.containment.max(told.containment);
        promised.scan = promised.scan.max(told.scan);
    }

    /// `nobody`: it looked at everyone, and nobody who is known to be ours lives.
    fn on_scan_failed(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        error: Failed,
        told: Guarantee,
        nobody: bool,
    ) -> Option<Verdict> {
        self.empty_passes = 0;
        self.scan_failures = self.scan_failures.saturating_add(1);
        let text = error.to_string();
        self.step(out, Rung::Trouble(error));
        // Whom it lingered for is gone, and a doubt is what is left: that is another verdict.
        let settled = nobody && self.scan_failures >= SCAN_TRIES;
        if self.late && !settled {
            if self.late_looks_spent() {
                return self.doze(out, id);
            }
            self.set_retry(out, id);
            return None;
        }
        if self.scan_failures < SCAN_TRIES {
            self.set_retry(out, id);
            return None;
        }
        self.blame(text);
        self.promise_no_more_than(told);
        self.fence_when_settled(out, id, true)
    }

    /// Another pass at once; a late proof gives up after some.
    fn scan_on(&mut self, out: &mut Out, id: ServiceId) -> Option<Verdict> {
        if self.late_looks_spent() {
            return self.doze(out, id);
        }
        self.scan(out, id);
        None
    }

    /// Something is still there: look again in a moment; a late proof does so a few times and
    /// then waits for the next hint.
    fn wait_or_sleep(&mut self, out: &mut Out, id: ServiceId) -> Option<Verdict> {
        if self.late_looks_spent() {
            return self.sleep(out, id);
        }
        self.set_retry(out, id);
        None
    }

    // ---- small parts --------------------------------------------------------------------

    /// The proof's time begins once, with the first kill or the first scan; a late proof's with
    /// each pass.
    pub(super) fn set_proof(&mut self, out: &mut Out, id: ServiceId) {
        if self.late {
            out.timers
                .set(Timer::Proof(id), out.now + super::verdict::LATE_BOUND);
            return;
        }
        let before = out.timers.when(Timer::Proof(id));
        let mut ends = out.now + self.budget.proof;
        ends = before.map_or(ends, |before| before.min(ends));
        if let Some(limit) = self.budget.limit {
            let left = limit.since(out.now);
            ends = ends.min(out.now + left.saturating_sub(INSPECT_BOUND.min(left / 4)));
        }
        if before != Some(ends) {
            out.timers.set(Timer::Proof(id), ends);
        }
    }

    fn set_retry(&mut self, out: &mut Out, id: ServiceId) {
        if self.late {
            // Its bound is on each pass; between them there is only the number of looks.
            out.timers.cancel(Timer::Proof(id));
        }
        out.timers.set(Timer::Retry(id), out.now + self.retry);
        self.retry = (self.retry * 2).min(RETRY_LAST);
    }

    fn add_killed(&mut self, killed: Vec<Proc>) {
        for process in killed {
            if self.killed_pids.insert(process.pid) {
                self.receipt.killed.push(process);
            }
        }
    }

    fn note_outside(&mut self, alive: &[Proc]) {
        self.outside = alive.to_vec();
        self.outside_gone = 0;
    }

    fn add_found(&mut self, report: &ScanReport) {
        for process in &report.escaped {
            if self.escaped_pids.insert(process.pid) {
                self.receipt.escaped.push(process.clone());
            }
        }
        for foreigner in &report.foreign {
            let known = |f: &Foreigner| f.process.pid == foreigner.process.pid;
            if !self.receipt.foreign.iter().any(known) {
                self.receipt.foreign.push(foreigner.clone());
            }
        }
        for process in &report.kept {
            if !self.receipt.kept.contains(process) {
                self.receipt.kept.push(process.clone());
            }
        }
    }
}
