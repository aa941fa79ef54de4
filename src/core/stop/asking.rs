//! The polite part of the ladder: waiting for the start, stop command, signal, grace.

use super::super::effect::{AuxKind, Effect, To};
use super::super::event::{Exit, Failed};
use super::super::machine::Out;
use super::super::receipt::{Rung, Verdict};
#[cfg(test)]
use super::super::sabotage::{Bug, planted};
use super::super::service::Main;
use super::super::spec::Reach;
use super::super::{OpId, ServiceId};
use super::{AuxState, Ladder, On};

impl Ladder {
    /// Takes the first step: asks politely, or goes straight to the proof when nothing is left.
    pub(in super::super) fn climb(&mut self, out: &mut Out, id: ServiceId, stop_command: bool) {
        for aux in self.auxes.keys().copied().collect::<Vec<_>>() {
            self.end_aux(out, aux);
        }
        match self.main {
            Main::Spawning => {
                self.step(out, Rung::AwaitSpawn);
                self.begin_rung(out, id);
            }
            // Another's child: that it has ended is known, and nothing else.
            Main::None if self.receipt.pid.is_some() && self.main_populated != Some(false) => {
                self.ask(out, id);
            }
            Main::None => self.prove(out, id),
            Main::Gone(_) if self.main_populated == Some(false) => self.prove(out, id),
            Main::Gone(_) if self.remains && stop_command => self.run_stop_command(out, id),
            Main::Gone(_) => self.ask(out, id),
            Main::Alive(_) | Main::Unknown if stop_command => self.run_stop_command(out, id),
            Main::Alive(_) | Main::Unknown => self.ask(out, id),
        }
    }

    fn run_stop_command(&mut self, out: &mut Out, id: ServiceId) {
        let aux = out.op();
        self.auxes.insert(aux, AuxState::Running);
        self.on = On::Command { aux };
        self.step(out, Rung::StopCommand);
        out.push(Effect::RunAux {
            r#gen: self.r#gen,
            aux,
            kind: AuxKind::Stop,
        });
        self.begin_rung(out, id);
    }

    /// The polite signal: to the service's reach, or to the rest when the main process is gone.
    pub(super) fn ask(&mut self, out: &mut Out, id: ServiceId) {
        self.on = On::Signal;
        #[cfg(test)]
        if planted(Bug::KillUnasked) {
            return self.kill(out, id);
        }
        let grace = self.begin_rung(out, id);
        if matches!(self.main, Main::Gone(_) | Main::None) {
            self.signal_rest(out);
            return;
        }
        self.asked = true;
        let to = match self.reach {
            Reach::Main => "main",
            Reach::Group => "group",
            Reach::All => "all",
        };
        let signal = self.signal;
        self.step(out, Rung::Signal { signal, to, grace });
        out.push(Effect::Signal {
            r#gen: self.r#gen,
            signal,
            to: To::Reach(self.reach),
        });
    }

    /// Whom the first signal reached is not signalled again; had there been none, all are.
    pub(super) fn signal_rest(&mut self, out: &mut Out) {
        if self.rest_signalled || (self.asked && self.reach == Reach::All) {
            return;
        }
        self.rest_signalled = true;
        let reached = if self.asked { self.reach } else { Reach::Main };
        let signal = self.signal;
        let grace = self.grace_ends.unwrap_or(out.now).since(out.now);
        let to = "rest";
        self.step(out, Rung::Signal { signal, to, grace });
        out.push(Effect::Signal {
            r#gen: self.r#gen,
            signal,
            to: To::Rest(reached),
        });
    }

    /// Back to waiting for the grace to end: the empty reading was early.
    pub(super) fn wait_on(&mut self, out: &mut Out, id: ServiceId) {
        self.on = On::Signal;
        self.main_populated = None;
        if let Some(ends) = self.grace_ends {
            self.cut_rung(out, id, ends);
        }
        if matches!(self.main, Main::Gone(_) | Main::None) {
            self.signal_rest(out);
        }
    }

    // ---- what happens -------------------------------------------------------------------

    pub(in super::super) fn on_spawned(&mut self, out: &mut Out, id: ServiceId, pid: u32) {
        if self.main != Main::Spawning {
            return;
        }
        self.main = Main::Alive(pid);
        self.receipt.pid = Some(pid);
        if self.on == On::AwaitSpawn {
            self.ask(out, id);
        } else {
            // Too late to be asked: the time for that has passed.
            self.kill_aside(out);
        }
    }

    pub(in super::super) fn on_spawn_failed(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        error: Failed,
    ) {
        if self.main != Main::Spawning {
            return;
        }
        self.main = Main::None;
        self.step(out, Rung::Trouble(error));
        if self.on == On::AwaitSpawn {
            self.prove(out, id);
        } else {
            self.on_hint(out, id);
        }
    }

    pub(in super::super) fn on_main_exited(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        exit: Option<Exit>,
    ) {
        if matches!(self.main, Main::Gone(_) | Main::None) {
            return;
        }
        self.main = exit.map_or(Main::None, Main::Gone);
        self.receipt.exit = exit;
        if let Some(exit) = exit {
            self.step(out, Rung::MainExited { exit });
        }
        match self.on {
            On::AwaitSpawn => self.ask(out, id),
            On::Command { .. } | On::Signal if self.main_populated == Some(false) => {
                self.step(out, Rung::Empty);
                self.prove(out, id);
            }
            On::Signal => self.signal_rest(out),
            On::Command { .. } | On::Kill { .. } | On::Scan { op: Some(_) } | On::Fence { .. } => {}
            On::Scan { op: None } | On::Inspect { .. } | On::Lingering | On::Ended => {
                self.on_hint(out, id);
            }
        }
    }

    pub(in super::super) fn on_aux_exited(
        &mut self,
        out: &mut Out,
        id: ServiceId,
        aux: OpId,
        exit: Option<Exit>,
    ) {
        self.end_aux(out, aux);
        if self.on == (On::Command { aux }) {
            self.step(out, Rung::StopCommandEnded { exit });
            self.ask(out, id);
        }
    }

    pub(in super::super) fn on_aux_ended(
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

    /// The rung's own time is over.
    pub(in super::super) fn on_rung_timeout(
        &mut self,
        out: &mut Out,
        id: ServiceId,
    ) -> Option<Verdict> {
        match self.on {
            On::AwaitSpawn => self.inspect(out, id),
            On::Command { aux } => {
                self.end_aux(out, aux);
                self.step(out, Rung::StopCommandEnded { exit: None });
                self.ask(out, id);
            }
            On::Signal => self.kill(out, id),
            On::Inspect { .. } => return Some(self.give_up(out, id, Vec::new())),
            On::Kill { .. } | On::Scan { .. } | On::Fence { .. } | On::Lingering | On::Ended => {}
        }
        None
    }
}
