//! The end of everything in the words of a container's last message.

use crate::api::{Termination, TerminationSurvivor};
use crate::core::{Outcome, Survivor};

/// More of a command line says no more.
const COMMAND: usize = 200;

/// How everything ended.
pub fn termination(outcome: &Outcome, guarantee: &str) -> Termination {
    let verdict = outcome.verdict();
    let reason = match (&outcome.sweep_error, outcome.deadline_hit) {
        (Some(error), _) => Some(format!("the final sweep failed to {error}")),
        (None, true) => Some("the shutdown's deadline came first".into()),
        (None, false) => None,
    };
    Termination {
        verdict: verdict.as_str().into(),
        exit_code: outcome.exit_code(),
        reason,
        guarantee: guarantee.into(),
        deadline_hit: outcome.deadline_hit,
        lingering: outcome.lingering.clone(),
        unverified: outcome.unverified.clone(),
        survivors: outcome.survivors.iter().map(survivor).collect(),
        omitted: 0,
    }
}

fn survivor(survivor: &Survivor) -> TerminationSurvivor {
    TerminationSurvivor {
        pid: survivor.pid,
        command: survivor.argv.join(" ").chars().take(COMMAND).collect(),
        state: survivor.state.to_string(),
        cgroup: survivor.cgroup.clone(),
    }
}
