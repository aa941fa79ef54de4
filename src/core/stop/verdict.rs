//! The verdict: what is said in the end, and how a lingering generation gets a better one.

use std::time::Duration;

use super::super::effect::Effect;
use super::super::machine::Out;
use super::super::receipt::{Rung, Survivor, Verdict};
#[cfg(test)]
use super::super::sabotage::{Bug, planted};
use super::super::service::Main;
use super::super::time::Timer;
use super::super::{OpId, ServiceId};
use super::{Ladder, On, proof};

/// How long finding out about survivors may take.
pub(super) const INSPECT_BOUND: Duration = Duration::from_millis(500);
/// How long one look of a late proof may take.
pub(super) const LATE_BOUND: Duration = Duration::from_secs(5);
/// How long a late proof waits when its passes settled nothing and no hint is to be expected.
const LATE_PAUSE: Duration = Duration::from_secs(30);
/// A late proof looks this often again before it waits for the next hint.
const LATE_LOOKS: u8 = 16;

impl Ladder {
    /// Time is up: who survives?
    pub(super) fn inspect(&mut self, out: &mut Out, id: ServiceId) {
        self.abandon();
        out.timers.cancel(Timer::Retry(id));
        out.timers.cancel(Timer::Proof(id));
        self.step(out, Rung::Inspect);
        let bound = match self.budget.limit {
            Some(limit) => INSPECT_BOUND.min(limit.since(out.now)),
            None => INSPECT_BOUND,
        };
        out.timers.set(Timer::Rung(id), out.now + bound);
        let op = out.op();
        self.on = On::Inspect { op };
        out.push(Effect::Inspect {
            r#gen: self.r#gen,
            op,
        });
    }

    pub(in super::super) fn on_inspected(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        op: OpId,
        survivors: Vec<Survivor>,
    ) -> Option<Verdict> {
        if self.on != (On::Inspect { op }) {
            self.on_abandoned(out, id, op);
            return None;
        }
        let met = |s: &Survivor| {
            s.pid == 0 || self.killed_pids.contains(&s.pid) || self.escaped_pids.contains(&s.pid)
        };
        if !survivors.iter().all(met) {
            // Nobody killed these yet: the verdict does not wait for it, the next look will.
            self.kill_due = true;
            self.hinted = true;
        }
        Some(self.give_up(out, id, survivors))
    }

    /// The proof's time is over.
    pub(in super::super) fn on_proof_timeout(
        &mut self,
        out: &mut Out,
        id: ServiceId,
    ) -> Option<Verdict> {
        match self.on {
            On::Kill { .. } | On::Scan { .. } | On::Fence { .. } if self.late => {
                self.abandon();
                self.sleep(out, id)
            }
            On::Scan { .. } | On::Fence { .. } if !self.killing && self.populated == Some(true) => {
                // The proof began on an early reading and never came to say so.
                self.abandon();
                self.on_came_back(out, id)
            }
            On::Kill { .. } | On::Scan { .. } | On::Fence { .. } => {
                self.inspect(out, id);
                None
            }
            On::AwaitSpawn
            | On::Command { .. }
            | On::Signal
            | On::Inspect { .. }
            | On::Lingering
            | On::Ended => None,
        }
    }

    /// No more time for anything: the verdict with what is known.
    pub(in super::super) fn force_verdict(&mut self, out: &mut Out, id: ServiceId) -> Verdict {
        self.blame("the shutdown's deadline came before the proof".into());
        let may_live = match self.main {
            Main::Spawning => false,
            Main::None => self.populated == Some(true),
            Main::Alive(_) | Main::Gone(_) | Main::Unknown => self.populated != Some(false),
        };
        if may_live && !self.killing {
            self.kill_aside(out);
        }
        self.give_up(out, id, Vec::new())
    }

    pub(super) fn give_up(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        mut survivors: Vec<Survivor>,
    ) -> Verdict {
        if survivors.is_empty() {
            survivors = self.known_outside();
        }
        let unsettled = self.unsettled();
        let unreaped = matches!(self.main, Main::Alive(_));
        if !survivors.is_empty() {
            self.blame(format!("{} process(es) survive", survivors.len()));
        } else if let Some(unsettled) = unsettled {
            self.blame(unsettled.into());
        } else if self.populated == Some(true) {
            self.blame("its cgroup is populated by processes that cannot be seen from here".into());
        } else if unreaped {
            self.blame("its main process was not reaped".into());
        } else {
            self.blame("the proof did not come in time".into());
        }
        // Unless there is something to look into at once, which may prove it.
        let never_was = self.main == Main::None && self.populated.is_none() && !self.hinted;
        let gone = self.populated == Some(false) || never_was;
        let lives = !survivors.is_empty() || !gone || unsettled.is_some() || unreaped;
        let verdict = if lives {
            Verdict::Lingering
        } else {
            Verdict::Unverified
        };
        self.end(out, id, verdict, survivors)
    }

    /// Escapees that are known to live, as far as a pass tells.
    pub(super) fn known_outside(&self) -> Vec<Survivor> {
        let known = self.outside.iter().map(|process| Survivor {
            pid: process.pid,
            ppid: process.ppid,
            argv: vec![format!("[{}]", process.comm)],
            state: '?',
            ..Survivor::default()
        });
        known.collect()
    }

    pub(super) fn end(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        verdict: Verdict,
        survivors: Vec<Survivor>,
    ) -> Verdict {
        self.abandon();
        out.timers.cancel_service(id);
        // A late proof is judged by what it sees itself, so the doubt ends with the verdict.
        self.receipt.reason = self.doubt.take();
        if verdict == Verdict::Unverified && self.receipt.reason.is_none() {
            let guarantee = self.receipt.guarantee;
            let reason = format!("this place's guarantee ({guarantee}) cannot prove it");
            self.receipt.reason = Some(reason);
        }
        self.receipt.verdict = verdict;
        self.receipt.survivors = survivors;
        self.receipt.ended = out.now;
        self.receipt.late = self.late;
        out.push(Effect::Receipt(Box::new(self.receipt.clone())));
        if verdict == Verdict::Lingering {
            self.late = true;
            let grace_left = self.grace_ends.is_some_and(|ends| ends > out.now);
            let may_kill = self.killing || (!grace_left && self.main != Main::Spawning);
            if may_kill && self.kill_due && self.populated == Some(true) {
                // The last kill failed, or somebody came after it: time was up, not the means.
                self.kill_aside(out);
            }
            self.sleep(out, id);
        } else {
            self.on = On::Ended;
            out.push(Effect::Release { r#gen: self.r#gen });
            #[cfg(test)]
            if planted(Bug::ReleasedTwice) {
                out.push(Effect::Release { r#gen: self.r#gen });
            }
        }
        verdict
    }

    // ---- after lingering ----------------------------------------------------------------

    /// Somebody asked again for a lingering generation to end.
    pub(in super::super) fn kill_again(&mut self, out: &mut Out) {
        if self.kills_open.is_empty() {
            self.kill_aside(out);
        }
    }

    /// A survivor outside the cgroup is gone.
    pub(in super::super) fn on_survivor_gone(&mut self, out: &mut Out, id: ServiceId) {
        self.outside_gone += 1;
        if self.outside_gone >= self.outside.len() {
            self.outside.clear();
        }
        // It may have left somebody behind.
        self.kill_due = true;
        self.on_hint(out, id);
    }

    /// Something changed for the better. Before the verdict timers look again anyway; after it,
    /// hints are all there is, so one that comes while a look is under way is kept.
    pub(in super::super) fn on_hint(&mut self, out: &mut Out, id: ServiceId) {
        #[cfg(test)]
        if self.late && planted(Bug::HintLost) {
            return;
        }
        match self.on {
            On::Lingering => self.look_again(out, id),
            On::Scan { op: None } => self.scan(out, id),
            _ => self.hinted = true,
        }
    }

    /// The operation that was given up has come back after all.
    pub(super) fn on_abandoned(&mut self, out: &mut Out, id: ServiceId, op: OpId) {
        if self.abandoned.remove(&op) {
            self.on_hint(out, id);
        }
    }

    fn abandon(&mut self) {
        if let On::Scan { op: Some(op) } | On::Fence { op } | On::Inspect { op } = self.on {
            self.abandoned.insert(op);
        }
    }

    /// Nothing more can be done before the next hint.
    pub(super) fn sleep(&mut self, out: &mut Out, id: ServiceId) -> Option<Verdict> {
        self.on = On::Lingering;
        out.timers.cancel_service(id);
        if std::mem::take(&mut self.hinted) {
            self.look_again(out, id);
        }
        None
    }

    /// The passes settled nothing and nobody is known to live whose end would be a hint: this
    /// alone keeps a lingering generation from sleeping without a timer.
    pub(super) fn doze(&mut self, out: &mut Out, id: ServiceId) -> Option<Verdict> {
        self.sleep(out, id);
        if self.on == On::Lingering {
            out.timers.set(Timer::Retry(id), out.now + LATE_PAUSE);
        }
        None
    }

    /// A lingering generation may be gone by now.
    pub(super) fn look_again(&mut self, out: &mut Out, id: ServiceId) {
        self.hinted = false;
        self.empty_passes = 0;
        self.scan_failures = 0;
        self.receipt.guarantee = self.promised;
        self.late_looks = 0;
        self.retry = proof::RETRY_FIRST;
        self.scan(out, id);
    }

    pub(super) fn late_looks_spent(&mut self) -> bool {
        self.late_looks = self.late_looks.saturating_add(u8::from(self.late));
        self.late_looks > LATE_LOOKS
    }
}
