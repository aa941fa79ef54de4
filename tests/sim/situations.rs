//! Situations that the simulation must have been in: a world that grew tame would prove nothing.

use std::collections::BTreeSet;

use crate::core::{
    Cause, Effect, Event, Fence, Notice, Receipt, Reply, RequestError, Rung, Verdict,
};
use crate::observer::Observer;

pub type Situations = BTreeSet<&'static str>;

/// All that has to come up in the ordinary number of seeds.
pub const EXPECTED: &[&str] = &[
    "a definition changes",
    "a dependent lingers: the stop below halts",
    "a generation is lingering",
    "a generation is unverified",
    "a generation is verified",
    "a kill fails",
    "a leftover is ended",
    "a lingering generation turns unverified",
    "a lingering generation turns verified",
    "a oneshot is done",
    "a pass fails",
    "a pass that fails knows of somebody",
    "a pass is inconclusive",
    "a reload fails",
    "a reload is answered",
    "a request comes after a shutdown began",
    "a request waits in vain",
    "a service is not healthy",
    "a service comes when it is wanted and goes again",
    "a service is started again",
    "a service is taken in",
    "a service is taken out",
    "a start asks for more than there is",
    "a start comes back too late",
    "a start fails",
    "a start is forced beside what lingers",
    "a stop command is run",
    "a socket cannot be opened",
    "a stop is taken back",
    "a test fails and is run again",
    "an end stops everything",
    "an escapee is killed",
    "nothing tells whose an escapee is",
    "an escapee lives on after the pass",
    "an operation comes back after the verdict",
    "every grace is cut short",
    "health is looked at",
    "everything is verified at Finish",
    "somebody is kept",
    "somebody is killed for want of memory",
    "something comes back before the fence",
    "something is unverified at Finish",
    "something lingers at Finish",
    "the deadline comes first",
    "the rest is signalled",
    "the sweep fails",
    "three inconclusive passes stand for one",
    "what remained ends by itself",
    "what remains is stopped",
];

impl Observer {
    pub fn witness_event(&mut self, event: &Event) {
        let situation = match event {
            Event::Scanned { report, .. }
                if report
                    .error
                    .as_ref()
                    .is_some_and(|error| error.doing == "attribute") =>
            {
                "nothing tells whose an escapee is"
            }
            Event::Scanned { report, .. } if report.error.is_some() => {
                if !report.alive.is_empty() {
                    self.situations
                        .insert("a pass that fails knows of somebody");
                }
                "a pass fails"
            }
            Event::Scanned { report, .. } if !report.alive.is_empty() => {
                "an escapee lives on after the pass"
            }
            Event::Scanned { report, .. } if !report.escaped.is_empty() => "an escapee is killed",
            Event::Scanned { report, .. } if !report.conclusive => "a pass is inconclusive",
            Event::Killed { report, .. } if report.error.is_some() => "a kill fails",
            Event::Fenced { result, .. } if *result == Fence::Busy => {
                "something comes back before the fence"
            }
            Event::ListenFailed { .. } => "a socket cannot be opened",
            Event::Request { .. } if self.shutdown_began.is_some() => {
                "a request comes after a shutdown began"
            }
            _ => return,
        };
        self.situations.insert(situation);
    }

    pub fn witness_effect(&mut self, effect: &Effect) {
        let situation = match effect {
            Effect::Receipt(receipt) => return self.witness_receipt(receipt),
            Effect::Notice(Notice::State { state, detail, .. }) if *state == "failed" => {
                if !detail.contains("min_guarantee") {
                    return;
                }
                "a start asks for more than there is"
            }
            Effect::Reply { reply, .. } => match reply {
                Reply::Error(RequestError::DependentLingers(_)) => {
                    "a dependent lingers: the stop below halts"
                }
                Reply::Error(RequestError::Superseded { .. }) => "a stop is taken back",
                Reply::Error(RequestError::Blocked { .. }) => "a request waits in vain",
                Reply::Error(RequestError::NotReloaded { .. }) => "a reload fails",
                Reply::Reloaded { .. } => "a reload is answered",
                _ => return,
            },
            Effect::Finish(outcome) => {
                if outcome.deadline_hit {
                    self.situations.insert("the deadline comes first");
                } else if outcome.sweep_error.is_some() {
                    self.situations.insert("the sweep fails");
                }
                match outcome.exit_code() {
                    0 => "everything is verified at Finish",
                    70 => "something lingers at Finish",
                    _ => "something is unverified at Finish",
                }
            }
            _ => return,
        };
        self.situations.insert(situation);
    }

    fn witness_receipt(&mut self, receipt: &Receipt) {
        self.situations
            .insert(match (receipt.verdict, receipt.late) {
                (Verdict::Verified, false) => "a generation is verified",
                (Verdict::Verified, true) => "a lingering generation turns verified",
                (Verdict::Unverified, false) => "a generation is unverified",
                (Verdict::Unverified, true) => "a lingering generation turns unverified",
                (Verdict::Lingering, _) => "a generation is lingering",
            });
        if !receipt.kept.is_empty() {
            self.situations.insert("somebody is kept");
        }
        if receipt.oom_kills > 0 {
            self.situations
                .insert("somebody is killed for want of memory");
        }
        match receipt.cause {
            Cause::Leftover => drop(self.situations.insert("a leftover is ended")),
            Cause::StartFailed => drop(self.situations.insert("a start fails")),
            Cause::Unhealthy => drop(self.situations.insert("a service is not healthy")),
            _ => {}
        }
        for step in &receipt.steps {
            if let Rung::Signal { to: "rest", .. } = step.rung {
                self.situations.insert("the rest is signalled");
            }
        }
    }
}
