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
//! verdict rests on is read again inside the scan and the fence, after the last kill.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::effect::{AuxKind, Effect, To};
use super::event::{Exit, Failed, Fence, KillReport, ScanReport};
use super::machine::Out;
use super::receipt::{Cause, Foreigner, Guarantee, Proc, Receipt, Rung, Step, Survivor, Verdict};
use super::service::{Main, Run};
use super::signal::Signal;
use super::spec::{Reach, Spec};
use super::time::{Time, Timer};
use super::{GenId, OpId, ServiceId};

/// Three empty passes in a row stand for a conclusive one where something always forks.
const EMPTY_PASSES: u8 = 3;
/// A scan that fails is tried this often before the verdict does without it.
const SCAN_TRIES: u8 = 3;
/// How long finding out about survivors may take.
const INSPECT_BOUND: Duration = Duration::from_millis(500);
/// A late proof looks this often again before it waits for the next hint.
const LATE_LOOKS: u8 = 16;
const RETRY_FIRST: Duration = Duration::from_millis(2);
const RETRY_LAST: Duration = Duration::from_millis(250);

/// How much time a ladder has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    /// From the polite request to the kill.
    pub(super) grace: Duration,
    /// From the first kill (or the empty cgroup) to the verdict.
    pub(super) proof: Duration,
    /// No verdict later than this, whatever the above say.
    pub(super) limit: Option<Time>,
}

/// Where on the ladder a generation is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum On {
    AwaitSpawn,
    Command {
        aux: OpId,
    },
    Signal,
    Kill {
        op: Option<OpId>,
    },
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
    main_populated: Option<bool>,
    populated: Option<bool>,
    auxes: BTreeMap<OpId, AuxState>,
    rest_signalled: bool,
    grace_ends: Option<Time>,
    retry: Duration,
    empty_passes: u8,
    scan_failures: u8,
    /// A hint came while an operation of a late proof was under way: look once more.
    hinted: bool,
    /// How often a late proof looked again without a new hint.
    late_looks: u8,
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
            main_populated: run.main_populated,
            populated: run.populated,
            auxes: run.auxes,
            rest_signalled: false,
            grace_ends: None,
            retry: RETRY_FIRST,
            empty_passes: 0,
            scan_failures: 0,
            hinted: false,
            late_looks: 0,
            doubt: None,
            killed_pids: BTreeSet::new(),
            escaped_pids: BTreeSet::new(),
            receipt: Receipt {
                service: spec.name.clone(),
                r#gen: run.r#gen,
                pid: run.main.pid(),
                cause,
                verdict: Verdict::Unverified,
                reason: None,
                guarantee,
                started: run.started,
                began: out.now,
                ended: out.now,
                exit: run.main.exit(),
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

    /// Takes the first step: asks politely, or goes straight to the proof when nothing is left.
    pub(super) fn climb(&mut self, out: &mut Out, id: ServiceId, stop_command: bool) {
        for (aux, state) in &mut self.auxes {
            if *state == AuxState::Running {
                *state = AuxState::Ending;
                out.push(Effect::EndAux {
                    r#gen: self.r#gen,
                    aux: *aux,
                });
            }
        }
        match self.main {
            Main::Spawning => {
                self.step(out, Rung::AwaitSpawn);
                self.set_grace(out, id);
            }
            Main::None => self.prove(out, id),
            Main::Gone(_) if self.main_populated == Some(false) => self.prove(out, id),
            Main::Gone(_) => self.ask(out, id),
            Main::Alive(_) | Main::Unknown if stop_command => {
                let aux = out.op();
                self.auxes.insert(aux, AuxState::Running);
                self.on = On::Command { aux };
                self.step(out, Rung::StopCommand);
                out.push(Effect::RunAux {
                    r#gen: self.r#gen,
                    aux,
                    kind: AuxKind::Stop,
                });
                self.set_grace(out, id);
            }
            Main::Alive(_) | Main::Unknown => self.ask(out, id),
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

    /// Less time than before: a shutdown began while this was under way.
    pub(super) fn tighten(&mut self, out: &mut Out, id: ServiceId, budget: Budget) {
        self.budget.proof = self.budget.proof.min(budget.proof);
        self.budget.limit = match (self.budget.limit, budget.limit) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        match self.on {
            On::AwaitSpawn | On::Command { .. } | On::Signal => {
                let ends = self
                    .grace_ends
                    .unwrap_or(out.now)
                    .min(out.now + budget.grace);
                self.grace_ends = Some(ends);
                out.timers.set(Timer::Rung(id), ends);
            }
            On::Kill { .. } | On::Scan { .. } | On::Fence { .. } => self.set_proof(out, id),
            On::Inspect { .. } | On::Lingering | On::Ended => {}
        }
    }

    // ---- what happens -------------------------------------------------------------------

    pub(super) fn on_spawned(&mut self, out: &mut Out, id: ServiceId, pid: u32) {
        if self.main != Main::Spawning {
            return;
        }
        self.main = Main::Alive(pid);
        self.receipt.pid = Some(pid);
        match self.on {
            On::AwaitSpawn => self.ask(out, id),
            // Too late to be asked: the time for that has passed.
            On::Lingering => {
                self.kill_now(out);
            }
            _ => self.kill(out, id),
        }
    }

    pub(super) fn on_spawn_failed(&mut self, out: &mut Out, id: ServiceId, error: Failed) {
        if self.main != Main::Spawning {
            return;
        }
        self.main = Main::None;
        self.step(out, Rung::Trouble(error));
        match self.on {
            On::AwaitSpawn => self.prove(out, id),
            _ => self.on_hint(out, id),
        }
    }

    pub(super) fn on_trouble(&mut self, out: &Out, error: Failed) {
        self.step(out, Rung::Trouble(error));
    }

    pub(super) fn on_main_exited(&mut self, out: &mut Out, id: ServiceId, exit: Exit) {
        if matches!(self.main, Main::Gone(_) | Main::None) {
            return;
        }
        let was_spawning = self.main == Main::Spawning;
        self.main = Main::Gone(exit);
        self.receipt.exit = Some(exit);
        self.step(out, Rung::MainExited { exit });
        if was_spawning && self.on == On::AwaitSpawn {
            self.ask(out, id);
        } else if matches!(self.on, On::Command { .. } | On::Signal) {
            if self.main_populated == Some(false) {
                self.step(out, Rung::Empty);
                self.prove(out, id);
            } else if self.on == On::Signal {
                self.signal_rest(out);
            }
        }
    }

    pub(super) fn on_cgroup(&mut self, out: &mut Out, id: ServiceId, main: bool, whole: bool) {
        self.main_populated = Some(main);
        self.populated = Some(whole);
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

    pub(super) fn on_survivor_gone(&mut self, out: &mut Out, id: ServiceId) {
        self.on_hint(out, id);
    }

    /// Something changed for the better. Before the verdict timers look again anyway; after it,
    /// hints are all there is, so one that comes while a look is under way is kept.
    fn on_hint(&mut self, out: &mut Out, id: ServiceId) {
        match self.on {
            On::Lingering => self.hint(out, id),
            On::Scan { op: None } => self.scan(out, id),
            _ => self.hinted = true,
        }
    }

    pub(super) fn on_aux_exited(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        aux: OpId,
        exit: Option<Exit>,
    ) {
        let Some(state) = self.auxes.get_mut(&aux) else {
            return;
        };
        if *state == AuxState::Running {
            *state = AuxState::Ending;
            out.push(Effect::EndAux {
                r#gen: self.r#gen,
                aux,
            });
        }
        if self.on == (On::Command { aux }) {
            self.step(out, Rung::StopCommandEnded { exit });
            self.ask(out, id);
        }
    }

    pub(super) fn on_aux_ended(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        aux: OpId,
        error: Option<Failed>,
    ) {
        if self.auxes.remove(&aux).is_none() {
            return;
        }
        if let Some(error) = error {
            self.step(out, Rung::Trouble(error));
        }
        if self.auxes.is_empty() {
            self.on_hint(out, id);
        }
    }

    pub(super) fn on_killed(&mut self, out: &mut Out, id: ServiceId, op: OpId, report: KillReport) {
        // A kill counts on the receipt whenever its report comes.
        self.add_killed(report.killed);
        if let Some(populated) = report.populated {
            self.populated = Some(populated);
        }
        if let Some(error) = report.error {
            self.step(out, Rung::Trouble(error));
        }
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

    pub(super) fn on_scanned(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        op: OpId,
        report: ScanReport,
    ) -> Option<Verdict> {
        let escaped = report.escaped.len();
        self.receipt.guarantee.containment = self
            .receipt
            .guarantee
            .containment
            .max(report.guarantee.containment);
        self.receipt.guarantee.scan = self.receipt.guarantee.scan.max(report.guarantee.scan);
        self.add_found(&report);
        if self.on != (On::Scan { op: Some(op) }) {
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
        self.step(
            out,
            Rung::Scan {
                escaped,
                conclusive: report.conclusive,
            },
        );
        if let Some(error) = report.error {
            return self.on_scan_failed(out, id, error);
        }
        if escaped > 0 {
            self.empty_passes = 0;
            if !report.alive.is_empty() {
                return self.wait_or_linger(out, id);
            }
            return self.scan_on(out, id);
        }
        self.empty_passes += 1;
        if !(report.conclusive || self.empty_passes >= EMPTY_PASSES) {
            return self.scan_on(out, id);
        }
        if self.main == Main::Spawning || !self.auxes.is_empty() {
            // Somebody of ours may still put a process here: no proof before that is settled.
            return if self.receipt.late {
                self.linger_again(out, id)
            } else {
                None
            };
        }
        self.fence(out);
        None
    }

    pub(super) fn on_fenced(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        op: OpId,
        result: Fence,
    ) -> Option<Verdict> {
        if self.on != (On::Fence { op }) {
            return None;
        }
        match result {
            Fence::Removed => {
                self.step(out, Rung::Fence);
                self.populated = Some(false);
                let verdict = if self.doubt.is_none() && self.receipt.guarantee.can_verify() {
                    Verdict::Verified
                } else {
                    Verdict::Unverified
                };
                Some(self.end(out, id, verdict, Vec::new()))
            }
            Fence::Busy => {
                self.step(out, Rung::FenceBusy);
                self.empty_passes = 0;
                self.wait_or_linger(out, id)
            }
            Fence::Failed(error) => {
                self.blame(error.to_string());
                self.step(out, Rung::Trouble(error));
                Some(self.end(out, id, Verdict::Unverified, Vec::new()))
            }
        }
    }

    pub(super) fn on_inspected(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        op: OpId,
        survivors: Vec<Survivor>,
    ) -> Option<Verdict> {
        if self.on != (On::Inspect { op }) {
            return None;
        }
        Some(self.give_up(out, id, survivors))
    }

    /// The rung's own time is over.
    pub(super) fn on_rung_timeout(&mut self, out: &mut Out, id: ServiceId) -> Option<Verdict> {
        match self.on.clone() {
            On::AwaitSpawn => {
                self.inspect(out, id);
                None
            }
            On::Command { aux } => {
                if let Some(state) = self.auxes.get_mut(&aux)
                    && *state == AuxState::Running
                {
                    *state = AuxState::Ending;
                    out.push(Effect::EndAux {
                        r#gen: self.r#gen,
                        aux,
                    });
                }
                self.step(out, Rung::StopCommandEnded { exit: None });
                self.ask(out, id);
                None
            }
            On::Signal => {
                self.kill(out, id);
                None
            }
            On::Inspect { .. } => Some(self.give_up(out, id, Vec::new())),
            On::Kill { .. } | On::Scan { .. } | On::Fence { .. } | On::Lingering | On::Ended => {
                None
            }
        }
    }

    /// Time to look again.
    pub(super) fn on_retry(&mut self, out: &mut Out, id: ServiceId) {
        match self.on {
            On::Kill { op: None } => self.kill(out, id),
            On::Scan { op: None } => self.scan(out, id),
            _ => {}
        }
    }

    /// The proof's time is over.
    pub(super) fn on_proof_timeout(&mut self, out: &mut Out, id: ServiceId) {
        match self.on {
            On::AwaitSpawn
            | On::Command { .. }
            | On::Signal
            | On::Kill { .. }
            | On::Scan { .. }
            | On::Fence { .. } => self.inspect(out, id),
            On::Inspect { .. } | On::Lingering | On::Ended => {}
        }
    }

    /// Somebody asked again for a lingering generation to end.
    pub(super) fn kill_again(&mut self, out: &mut Out) {
        if self.on == On::Lingering {
            self.kill_now(out);
        }
    }

    /// Every grace is over now.
    pub(super) fn hurry(&mut self, out: &mut Out, id: ServiceId) {
        if matches!(self.on, On::AwaitSpawn | On::Command { .. } | On::Signal) {
            self.budget.grace = Duration::ZERO;
            self.grace_ends = Some(out.now);
            out.timers.set(Timer::Rung(id), out.now);
        }
    }

    /// No more time for anything: the verdict with what is known.
    pub(super) fn force_verdict(&mut self, out: &mut Out, id: ServiceId) -> Verdict {
        self.blame("the shutdown's deadline came before the proof".into());
        self.give_up(out, id, Vec::new())
    }

    // ---- what is done -------------------------------------------------------------------

    /// The polite signal: to the service's reach, or to the rest when the main process is gone.
    fn ask(&mut self, out: &mut Out, id: ServiceId) {
        self.on = On::Signal;
        if matches!(self.main, Main::Gone(_)) {
            self.signal_rest(out);
        } else {
            let to = match self.reach {
                Reach::Main => "main",
                Reach::Group => "group",
                Reach::All => "all",
            };
            self.step(
                out,
                Rung::Signal {
                    signal: self.signal,
                    to,
                    grace: self.budget.grace,
                },
            );
            out.push(Effect::Signal {
                r#gen: self.r#gen,
                signal: self.signal,
                to: To::Reach(self.reach),
            });
        }
        self.set_grace(out, id);
    }

    fn signal_rest(&mut self, out: &mut Out) {
        if std::mem::replace(&mut self.rest_signalled, true) {
            return;
        }
        // Whom the first signal reached is not signalled again; had there been none, all are.
        let asked = self
            .receipt
            .steps
            .iter()
            .any(|s| matches!(s.rung, Rung::Signal { .. }));
        if asked && self.reach == Reach::All {
            return;
        }
        let reached = if asked { self.reach } else { Reach::Main };
        self.step(
            out,
            Rung::Signal {
                signal: self.signal,
                to: "rest",
                grace: self.budget.grace,
            },
        );
        out.push(Effect::Signal {
            r#gen: self.r#gen,
            signal: self.signal,
            to: To::Rest(reached),
        });
    }

    /// Nothing is left in `main`, as it seems: on to the proof.
    fn prove(&mut self, out: &mut Out, id: ServiceId) {
        if self.populated == Some(true) {
            self.kill(out, id);
        } else {
            self.scan(out, id);
        }
    }

    fn kill(&mut self, out: &mut Out, id: ServiceId) {
        out.timers.cancel(Timer::Rung(id));
        self.grace_ends = None;
        self.set_proof(out, id);
        let op = self.kill_now(out);
        self.on = On::Kill { op: Some(op) };
    }

    fn kill_now(&mut self, out: &mut Out) -> OpId {
        let op = out.op();
        self.step(out, Rung::Kill);
        out.push(Effect::Kill {
            r#gen: self.r#gen,
            op,
        });
        op
    }

    fn scan(&mut self, out: &mut Out, id: ServiceId) {
        out.timers.cancel(Timer::Retry(id));
        if !self.receipt.late {
            self.set_proof(out, id);
        }
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

    fn inspect(&mut self, out: &mut Out, id: ServiceId) {
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

    // ---- what follows -------------------------------------------------------------------

    /// The scan saw a populated cgroup: the empty reading was early, or something came back.
    fn on_came_back(&mut self, out: &mut Out, id: ServiceId) -> Option<Verdict> {
        if self.receipt.late {
            return self.linger_again(out, id);
        }
        match self.grace_ends {
            Some(ends) if ends > out.now => self.on = On::Signal,
            _ => self.kill(out, id),
        }
        None
    }

    fn on_scan_failed(&mut self, out: &mut Out, id: ServiceId, error: Failed) -> Option<Verdict> {
        self.empty_passes = 0;
        self.scan_failures = self.scan_failures.saturating_add(1);
        let text = error.to_string();
        self.step(out, Rung::Trouble(error));
        if self.receipt.late {
            return self.linger_again(out, id);
        }
        if self.scan_failures < SCAN_TRIES {
            self.set_retry(out, id);
            return None;
        }
        self.blame(text);
        if self.main == Main::Spawning || !self.auxes.is_empty() {
            return None;
        }
        self.fence(out);
        None
    }

    /// Another pass at once; a late proof gives up after some and waits for the next hint.
    fn scan_on(&mut self, out: &mut Out, id: ServiceId) -> Option<Verdict> {
        if self.late_looks_spent() {
            return self.linger_again(out, id);
        }
        self.scan(out, id);
        None
    }

    fn late_looks_spent(&mut self) -> bool {
        self.late_looks = self.late_looks.saturating_add(u8::from(self.receipt.late));
        self.late_looks > LATE_LOOKS
    }

    /// Something is still there: look again in a moment; a late proof does so a few times and
    /// then waits for the next hint.
    fn wait_or_linger(&mut self, out: &mut Out, id: ServiceId) -> Option<Verdict> {
        if self.late_looks_spent() {
            return self.linger_again(out, id);
        }
        if matches!(self.on, On::Fence { .. }) {
            self.on = if self.receipt.late {
                On::Scan { op: None }
            } else {
                On::Kill { op: None }
            };
        }
        self.set_retry(out, id);
        None
    }

    fn linger_again(&mut self, out: &mut Out, id: ServiceId) -> Option<Verdict> {
        self.on = On::Lingering;
        out.timers.cancel_service(id);
        if std::mem::take(&mut self.hinted) {
            self.hint(out, id);
        }
        None
    }

    /// A lingering generation may be gone by now.
    fn hint(&mut self, out: &mut Out, id: ServiceId) {
        self.receipt.late = true;
        self.hinted = false;
        self.empty_passes = 0;
        self.late_looks = 0;
        self.retry = RETRY_FIRST;
        self.scan(out, id);
    }

    fn give_up(&mut self, out: &mut Out, id: ServiceId, survivors: Vec<Survivor>) -> Verdict {
        let pending = if self.main == Main::Spawning {
            Some("its start has not come back")
        } else if !self.auxes.is_empty() {
            Some("an auxiliary command has not come back")
        } else {
            None
        };
        if let Some(pending) = pending {
            self.blame(pending.into());
        } else if self.populated == Some(true) && survivors.is_empty() {
            self.blame("its cgroup is populated by processes that cannot be seen from here".into());
        } else if survivors.is_empty() {
            self.blame("the proof did not come in time".into());
        } else {
            self.blame(format!("{} process(es) survive", survivors.len()));
        }
        let lives = !survivors.is_empty() || self.populated != Some(false) || pending.is_some();
        let verdict = if lives {
            Verdict::Lingering
        } else {
            Verdict::Unverified
        };
        self.end(out, id, verdict, survivors)
    }

    fn end(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        verdict: Verdict,
        survivors: Vec<Survivor>,
    ) -> Verdict {
        out.timers.cancel_service(id);
        // A late proof is judged by what it sees itself, so the doubt ends with the verdict.
        self.receipt.reason = self.doubt.take();
        if verdict == Verdict::Unverified && self.receipt.reason.is_none() {
            let guarantee = self.receipt.guarantee;
            let reason = format!("this place's guarantee ({guarantee}) cannot prove it");
            self.receipt.reason = Some(reason);
        }
        self.on = if verdict == Verdict::Lingering {
            On::Lingering
        } else {
            On::Ended
        };
        self.receipt.verdict = verdict;
        self.receipt.survivors = survivors;
        self.receipt.ended = out.now;
        out.push(Effect::Receipt(Box::new(self.receipt.clone())));
        if verdict == Verdict::Lingering {
            if std::mem::take(&mut self.hinted) && self.populated == Some(false) {
                self.hint(out, id);
            }
        } else {
            out.push(Effect::Release { r#gen: self.r#gen });
        }
        verdict
    }

    // ---- small parts --------------------------------------------------------------------

    fn set_grace(&mut self, out: &mut Out, id: ServiceId) {
        let ends = *self.grace_ends.get_or_insert(out.now + self.budget.grace);
        out.timers.set(Timer::Rung(id), ends);
    }

    /// The proof's time begins once, with the first kill or the first scan.
    fn set_proof(&mut self, out: &mut Out, id: ServiceId) {
        let mut ends = out
            .timers
            .when(Timer::Proof(id))
            .unwrap_or(out.now + self.budget.proof);
        ends = ends.min(out.now + self.budget.proof);
        if let Some(limit) = self.budget.limit {
            let left = limit.since(out.now);
            ends = ends.min(out.now + left.saturating_sub(INSPECT_BOUND.min(left / 4)));
        }
        if out.timers.when(Timer::Proof(id)) != Some(ends) {
            out.timers.set(Timer::Proof(id), ends);
        }
    }

    fn set_retry(&mut self, out: &mut Out, id: ServiceId) {
        out.timers.set(Timer::Retry(id), out.now + self.retry);
        self.retry = (self.retry * 2).min(RETRY_LAST);
    }

    fn step(&mut self, out: &Out, rung: Rung) {
        // A ladder that retries for seconds must not grow a receipt without end.
        if self.receipt.steps.len() < 256 {
            self.receipt.steps.push(Step { at: out.now, rung });
        }
    }

    fn blame(&mut self, reason: String) {
        self.doubt.get_or_insert(reason);
    }

    fn add_killed(&mut self, killed: Vec<Proc>) {
        for process in killed {
            if self.killed_pids.insert(process.pid) {
                self.receipt.killed.push(process);
            }
        }
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
