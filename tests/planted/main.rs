//! The simulation bites: each bug that is planted into the core is found by its seeds.
//!
//! The core is compiled here from its own source, with the hooks that only tests have: see
//! docs/decisions/0003-planted-bugs.md.

#![expect(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "the core and the world are compiled in whole and used in part; a test may be blunt"
)]

#[path = "../../src/core/mod.rs"]
pub mod core;

#[path = "../sim/carry.rs"]
mod carry;
#[path = "../sim/changes.rs"]
mod changes;
#[path = "../sim/demand.rs"]
mod demand;
#[path = "../sim/dice.rs"]
mod dice;
#[path = "../sim/faults.rs"]
mod faults;
#[path = "../sim/invariants.rs"]
mod invariants;
#[path = "../sim/kernel.rs"]
mod kernel;
#[path = "../sim/observer.rs"]
mod observer;
#[path = "../sim/orders.rs"]
mod orders;
#[path = "../sim/run.rs"]
mod run;
#[path = "../sim/scenario.rs"]
mod scenario;
#[path = "../sim/situations.rs"]
mod situations;
#[path = "../sim/trace.rs"]
mod trace;
#[path = "../sim/world.rs"]
mod world;

use crate::core::sabotage::{Bug, plant};
use crate::run::from_seed;
use crate::scenario::Size;

/// More than the ordinary simulation runs: the rarest bug (passes that count across a kill) shows
/// once in some tens of thousands.
const SEEDS: u64 = 100_000;

/// Runs seeds with this bug planted until one fails; the seed, and what it said.
fn found(bug: Option<Bug>, seeds: u64) -> Option<(u64, String)> {
    plant(bug);
    let found = (0..seeds).find_map(|seed| {
        let (result, _) = from_seed(seed, Size::ORDINARY, false);
        result.err().map(|broken| (seed, broken))
    });
    plant(None);
    found
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        match found(Some(bug), SEEDS) {
            Some((seed, broken)) => println!("{bug:?}: seed {seed}: {broken}"),
            None => missed.push(bug),
        }
    }
    assert!(missed.is_empty(), "not found in {SEEDS} seeds: {missed:?}");
}

#[test]
fn without_a_planted_bug_nothing_is_found() {
    assert_eq!(found(None, 500), None);
}
