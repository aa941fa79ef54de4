//! The supervisor in a world driven from seeds: see ARCHITECTURE.md, 'Invariants'.
//!
//! `NOUGHT_SIM_SEEDS=1000000 NOUGHT_SIM_FROM=20000 cargo test --test sim seeds` runs more;
//! a failure names the command that replays it.

#![expect(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests/planted compiles these files, too; a test may be blunt"
)]

pub use nought::core;

mod carry;
mod changes;
mod demand;
mod dice;
mod doubts;
mod ends;
mod exhaustive;
mod faults;
mod hand;
mod health;
mod invariants;
mod kernel;
mod members;
mod observer;
mod orders;
mod plans;
mod races;
mod regressions;
mod reload;
mod roles;
mod run;
mod scale;
mod scenario;
mod seeds;
mod situations;
mod sockets;
mod trace;
mod world;
