//! The stop ladder: from the polite request to the verdict, for one generation.
//!
//! ```text
//! await-spawn ─► stop command ─► signal ─(empty)──────────────► scan ─► fence ─► verified
//!                                  │ grace over        populated │ ▲      │ EBUSY
//!                                  └────────► kill ◄─────────────┘ └──────┘
//!                                              └─ proof time over ─► inspect ─► lingering
//!                                                                             or unverified
//! ```
//!
//! Readings of cgroup.events that arrive as events are hints: they move the ladder on. What the
//! verdict rests on is read again inside the scan and the fence, after the last kill was done.
//!
//! After a verdict of lingering the ladder sleeps without a timer; a hint leads to a late proof,
//! which takes a bounded time and ends in a better verdict or in sleep. Only when its passes
//! failed or settled nothing does it look again by itself, after a long pause.

mod asking;
mod proof;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::effect::Effect;
use super::event::Failed;
use super::machine::Out;
use super::receipt::{Allotment, Cause, Guarantee, Proc, Receipt, Rung, Step, Verdict};
#[cfg(test)]
use super::sabotage::{Bug, planted};
use super::service::{Main, Run};
use super::signal::Signal;
use super::spec::{Reach, Spec};
use super::time::{Time, Timer};
use super::{GenId, OpId, ServiceId};

/// A ladder that retries for seconds must not grow a receipt without end.
const MOST_REPEATED_STEPS: usize = 256;

/// How much time a ladder has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// From the polite signal to the kill; a stop command may take as long before that.
    pub(super) grace: Duration,
    /// From the first kill (or the empty cgroup) to the verdict.
    pub(super) proof: Duration,
    /// No verdict later than this, whatever the above say.
    pub(super) limit: Option<Time>,
}

/// Where on the ladder a generation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    AwaitSpawn,
    Command {
        aux: OpId,
    },
    Signal,
    /// `None`: the kill is done and the cgroup is not empty yet.
    Kill {
        op: Option<OpId>,
    },
    /// `None`: the last pass settled nothing; something else has to happen first.
    Scan {
        op: Option<OpId>,
    },
    Fence {
        op: OpId,
    },
    Inspect {
        op: OpId,
    },
    /// The verdict was lingering; a hint leads back to the scan.
    Lingering,
    /// The last verdict has fallen.
    Ended,
}

/// One generation on its way to a verdict.
#[derive(Clone, Debug)]
pub(super) struct Ladder {
    pub(super) r#gen: GenId,
    pub(super) cause: Cause,
    on: On,
    budget: Budget,
    signal: Signal,
    reach: Reach,
    main: Main,
    /// What its main process left running is the service.
    remains: bool,
    main_populated: Option<bool>,
    populated: Option<bool>,
    auxes: BTreeMap<OpId, AuxState>,
    asked: bool,
    rest_signalled: bool,
    grace_ends: Option<Time>,
    /// A kill was issued: from here on nothing is asked any more.
    killing: bool,
    /// What is in the cgroup now, if anything, was not killed yet: it was seen empty since the
    /// last kill, or that failed.
    kill_due: bool,
    kills_open: BTreeSet<OpId>,
    /// Passes up to this operation began before the last kill was done and prove nothing.
    stale_passes: OpId,
    retry: Duration,
    empty_passes: u8,
    scan_failures: u8,
    kill_failures: u32,
    /// A verdict of lingering has fallen: what follows is a late proof.
    late: bool,
    /// A hint came while something else was under way: look once more after it.
    hinted: bool,
    /// How often a late proof looked again without a new hint.
    late_looks: u8,
    /// Operations that were not waited for any longer: their completion is a hint.
    abandoned: BTreeSet<OpId>,
    /// What could be promised when the ladder began.
    promised: Guarantee,
    /// Escapees that outlived the last pass that worked.
    outside: Vec<Proc>,
    /// How many survivors were heard to have ended since.
    outside_gone: usize,
    killed_pids: BTreeSet<u32>,
    escaped_pids: BTreeSet<u32>,
    /// Why the next verdict cannot be verified.
    doubt: Option<String>,
    receipt: Receipt,
}

/// What became of an auxiliary command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuxState {
    /// Asked for; it has not ended.
    Running,
    /// Asked to be cleared away.
    Ending,
}

/// Has an auxiliary command, or a look, ended if it has not been before.
pub(super) fn end_aux(
    out: &mut Out,
    r#gen: GenId,
    auxes: &mut BTreeMap<OpId, AuxState>,
    aux: OpId,
) {
    if let Some(state @ AuxState::Running) = auxes.get_mut(&aux) {
        *state = AuxState::Ending;
        out.push(Effect::EndAux { r#gen, aux });
    }
}

impl Ladder {
    /// Puts `run` on the ladder. Call [`Ladder::climb`] next.
    pub(super) fn new(
        out: &Out,
        spec: &Spec,
        guarantee: Guarantee,
        run: Run,
        cause: Cause,
        budget: Budget,
    ) -> Self {
        let reach = match run.main {
            // Not our child: its pid may be anybody's by now, its cgroup's members may not.
            Main::Unknown => Reach::All,
            _ => spec.signal_to,
        };
        Self {
            r#gen: run.r#gen,
            cause,
            on: On::AwaitSpawn,
            budget,
            signal: spec.stop_signal,
            reach,
            main: run.main,
            remains: run.remains,
            main_populated: run.main_populated,
            populated: run.populated,
            auxes: run.auxes,
            asked: false,
            rest_signalled: false,
            grace_ends: None,
            killing: false,
            kill_due: true,
            kills_open: BTreeSet::new(),
            stale_passes: OpId(0),
            retry: proof::RETRY_FIRST,
            empty_passes: 0,
            scan_failures: 0,
            kill_failures: 0,
            late: false,
            hinted: false,
            late_looks: 0,
            abandoned: BTreeSet::new(),
            promised: guarantee,
            doubt: None,
            outside: Vec::new(),
            outside_gone: 0,
            killed_pids: BTreeSet::new(),
            escaped_pids: BTreeSet::new(),
            receipt: Receipt {
                service: spec.name.clone(),
                r#gen: run.r#gen,
                pid: run.pid,
                cause,
                verdict: Verdict::Unverified,
                reason: None,
                guarantee,
                started: run.started,
                began: out.now,
                ended: out.now,
                exit: run.main.exit(),
                oom_kills: run.oom_kills,
                allotment: None,
                waited_for: None,
                steps: Vec::new(),
                killed: Vec::new(),
                escaped: Vec::new(),
                foreign: Vec::new(),
                kept: Vec::new(),
                survivors: Vec::new(),
                late: false,
            },
        }
    }

    /// The rung's word, for status.
    pub(super) fn rung(&self) -> &'static str {
        match self.on {
            On::AwaitSpawn => "await-spawn",
            On::Command { .. } => "stop-command",
            On::Signal => "signal",
            On::Kill { .. } => "kill",
            On::Scan { .. } => "scan",
            On::Fence { .. } => "fence",
            On::Inspect { .. } => "inspect",
            On::Lingering => "lingering",
            On::Ended => "ended",
        }
    }

    /// The main process's pid while it is not reaped.
    pub(super) fn pid(&self) -> Option<u32> {
        self.main.pid()
    }

    /// The receipt of the last verdict.
    pub(super) fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// How long the polite part and the proof may take, as things stand.
    pub(super) fn wishes(&self) -> (Duration, Duration) {
        (self.budget.grace, self.budget.proof)
    }

    /// So many of its processes were killed for want of memory; the number only grows.
    pub(super) fn on_out_of_memory(&mut self, kills: u64) {
        self.receipt.oom_kills = self.receipt.oom_kills.max(kills);
    }

    /// What of a shutdown's deadline this is given, for the receipt.
    pub(super) fn note_waited(&mut self, waited: Option<String>) {
        self.receipt.waited_for = waited;
    }

    pub(super) fn note_allotment(&mut self, allotment: Allotment) {
        self.receipt.allotment = Some(allotment);
    }

    /// Less time than before: a shutdown began while this was under way.
    pub(super) fn tighten(&mut self, out: &mut Out, id: ServiceId, budget: Budget) {
        self.budget.grace = self.budget.grace.min(budget.grace);
        self.budget.proof = self.budget.proof.min(budget.proof);
        self.budget.limit = match (self.budget.limit, budget.limit) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match self.on {
            On::AwaitSpawn | On::Command { .. } | On::Signal => {
                self.cut_rung(out, id, out.now + self.rung_share(out.now));
            }
            On::Kill { .. } | On::Scan { .. } | On::Fence { .. } => {
                // Should something come back, it finds less time, too.
                let ends = out.now + self.budget.grace;
                self.grace_ends = self.grace_ends.map(|old| old.min(ends));
                self.set_proof(out, id);
            }
            On::Inspect { .. } => {
                if let (Some(ends), Some(limit)) =
                    (out.timers.when(Timer::Rung(id)), self.budget.limit)
                {
                    out.timers.set(Timer::Rung(id), ends.min(limit));
                }
            }
            On::Lingering | On::Ended => {}
        }
    }

    /// Every grace is over now. A start that has not come back is still waited for: there is
    /// nobody yet who could be killed.
    pub(super) fn hurry(&mut self, out: &mut Out, id: ServiceId) {
        self.budget.grace = Duration::ZERO;
        match self.on {
            On::Command { .. } | On::Signal => self.cut_rung(out, id, out.now),
            _ => self.grace_ends = self.grace_ends.map(|ends| ends.min(out.now)),
        }
    }

    // ---- small parts --------------------------------------------------------------------

    /// How long the current rung may take when it begins now.
    fn rung_share(&self, now: Time) -> Duration {
        let left = self.budget.limit.map(|limit| {
            let left = limit.since(now);
            // A start that was awaited takes from the proof's part, not from the grace.
            left.saturating_sub(self.budget.proof).max(left / 2)
        });
        #[cfg(test)]
        if planted(Bug::GraceCut) {
            return self.budget.grace / 2;
        }
        let (wish, before_signal) = match self.on {
            On::AwaitSpawn => (self.budget.proof, true),
            On::Command { .. } => (self.budget.grace, true),
            _ => (self.budget.grace, false),
        };
        match left {
            // Whoever is asked after this rung needs some of it.
            Some(left) if before_signal => wish.min(left / 2),
            Some(left) => wish.min(left),
            None => wish,
        }
    }

    fn begin_rung(&mut self, out: &mut Out, id: ServiceId) -> Duration {
        let share = self.rung_share(out.now);
        self.grace_ends = Some(out.now + share);
        out.timers.set(Timer::Rung(id), out.now + share);
        share
    }

    fn cut_rung(&mut self, out: &mut Out, id: ServiceId, to: Time) {
        let ends = self.grace_ends.unwrap_or(to).min(to);
        self.grace_ends = Some(ends);
        out.timers.set(Timer::Rung(id), ends);
    }

    fn step(&mut self, out: &Out, rung: Rung) {
        let repeats = match rung {
            Rung::Kill
            | Rung::Scan { .. }
            | Rung::Empty
            | Rung::FenceBusy
            | Rung::Inspect
            | Rung::Trouble(_) => true,
            Rung::AwaitSpawn
            | Rung::StopCommand
            | Rung::StopCommandEnded { .. }
            | Rung::Signal { .. }
            | Rung::MainExited { .. }
            | Rung::Fence => false,
        };
        if !repeats || self.receipt.steps.len() < MOST_REPEATED_STEPS {
            self.receipt.steps.push(Step { at: out.now, rung });
        }
    }

    fn blame(&mut self, reason: String) {
        self.doubt.get_or_insert(reason);
    }

    pub(super) fn on_trouble(&mut self, out: &Out, error: Failed) {
        self.step(out, Rung::Trouble(error));
    }

    fn end_aux(&mut self, out: &mut Out, aux: OpId) {
        end_aux(out, self.r#gen, &mut self.auxes, aux);
    }

    /// Whether something of ours may still put a process into the generation, or kill there.
    fn unsettled(&self) -> Option<&'static str> {
        #[cfg(test)]
        if planted(Bug::StartForgotten) {
            return None;
        }
        if self.main == Main::Spawning {
            Some("its start has not come back")
        } else if !self.auxes.is_empty() {
            Some("an auxiliary command has not come back")
        } else if !self.kills_open.is_empty() {
            Some("a kill has not come back")
        } else {
            None
        }
    }
}
