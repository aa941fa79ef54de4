//! From effects to what carries them out: `births` starts, `ladder` ends and proves, `scans` looks.
//! What may block runs off the loop, and its answer comes back as a message.

use std::collections::BTreeSet;

use super::report;
use super::run::{Driver, Owner};
use super::scans::Wanted;
use super::translate;
use crate::core::{Effect, GenId, Notice, Receipt, Verdict};
use crate::sys::power::Power;
use crate::sys::procfs::{Proc, ProcId};
use crate::sys::{clock, last_resort};

impl Driver {
    /// Carries out everything the core wants.
    pub(super) fn carry_out(&mut self) {
        while let Some(effect) = self.core.poll_effect() {
            self.carry_out_one(effect);
        }
    }

    fn carry_out_one(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn { r#gen, service } => self.spawn(r#gen, service),
            Effect::Listen { service, op } => self.listen(service, op),
            Effect::Close { service } => self.close(service),
            Effect::Reload { r#gen, op, signal } => self.signal_reload(r#gen, op, signal),
            Effect::RunAux { r#gen, aux, kind } => self.run_aux(r#gen, aux, kind),
            Effect::EndAux { r#gen, aux } => self.end_aux(r#gen, aux),
            Effect::Signal { r#gen, signal, to } => self.signal(r#gen, signal, to),
            Effect::Kill { r#gen, op } => self.kill(r#gen, op),
            Effect::Scan { r#gen, op } => self.want_scan(r#gen, Wanted::Scan(op)),
            Effect::Fence { r#gen, op } => self.fence(r#gen, op),
            Effect::Inspect { r#gen, op } => self.inspect(r#gen, op),
            Effect::Receipt(receipt) => self.on_receipt(receipt),
            Effect::Release { r#gen } => self.release(r#gen),
            Effect::Reply { id, reply } => {
                if let Some(answer) = self.replies.remove(&id) {
                    // A client that has gone needs no answer.
                    let _ = answer.send(reply);
                }
            }
            Effect::Notice(notice) => self.on_notice(&notice),
            Effect::Flush => self.flush(),
            Effect::Sweep => self.sweep(),
            Effect::Finish(outcome) => self.outcome = Some(outcome),
        }
    }

    /// As process 1 of a machine, a shutdown that began ends, whatever becomes of us.
    fn arm_last_resort(&self, notice: &Notice) {
        let Some(after) = self.last_resort else {
            return;
        };
        match notice {
            Notice::ShutdownBegan { kind, asked, .. } => {
                let after = clock::as_nanos(after);
                let at = clock::boot_now().saturating_add(after);
                // A machine that nobody asked to end boots again.
                let power = if *asked {
                    translate::power(*kind)
                } else {
                    Power::Reboot
                };
                last_resort::arm(at, power);
            }
            // It keeps its moment.
            Notice::ShutdownTurned { kind } => last_resort::arm(u64::MAX, translate::power(*kind)),
            _ => {}
        }
    }

    fn on_notice(&self, notice: &Notice) {
        if let Notice::State { service, state, .. } = notice
            && let Some(spec) = self.core.spec(*service)
        {
            self.tally.state(&spec.name, state);
        }
        report::notice(&self.core, notice);
        self.arm_last_resort(notice);
    }

    fn on_receipt(&mut self, receipt: Box<Receipt>) {
        report::receipt(&receipt);
        self.tally.receipt(&receipt);
        if receipt.verdict == Verdict::Lingering {
            self.watch(receipt.r#gen);
            let pids = receipt
                .survivors
                .iter()
                .map(|survivor| survivor.pid)
                .collect();
            self.await_survivors(receipt.r#gen, pids);
            // It may have emptied between the last look and the watch.
            self.read_again(receipt.r#gen);
        }
        let r#gen = receipt.r#gen;
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.rare.kept = named(receipt.kept.iter().map(|kept| kept.pid));
            generation.unverified = receipt.verdict == Verdict::Unverified;
        }
        self.store.receipt(receipt, report::clocks());
        if self.leftovers.remove(&r#gen) {
            self.succeed_previous();
        }
    }

    fn release(&mut self, r#gen: GenId) {
        self.unwatch(r#gen);
        self.forget_rereads(r#gen);
        let Some(mut generation) = self.gens.remove(&r#gen) else {
            return self.store.remove(r#gen);
        };
        if generation.rare.kept.is_empty() {
            self.store.remove(r#gen);
        }
        if let Some(pid) = generation.main.as_ref().map(|main| main.id.pid)
            && self.pids.get(&pid) == Some(&Owner::Main(r#gen))
        {
            self.pids.remove(&pid);
        }
        // Who is kept goes on writing: a closed pipe would end it (SIGPIPE).
        if generation.rare.kept.is_empty()
            && let Some(output) = generation.output.take()
            && output.close().held
        {
            tracing::debug!("{}: somebody still holds its output", generation.name);
        }
        if generation.unverified && generation.rare.kept.is_empty() {
            self.doubt(generation);
        } else {
            self.keep(r#gen, generation);
        }
    }
}

/// These processes by names that are never used twice. One that has ended gets the name of none.
fn named(pids: impl Iterator<Item = u32>) -> BTreeSet<ProcId> {
    let proc = Proc::open();
    let name = |pid| {
        let stat = proc.as_ref().ok()?.stat(pid).ok()??;
        Some(stat.id())
    };
    let none = |pid| ProcId { pid, start_time: 0 };
    pids.map(|pid| name(pid).unwrap_or(none(pid))).collect()
}
