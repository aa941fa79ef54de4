//! The hostile catalogue: every way that we know to survive a stop or to lie to the supervisor,
//! each a test with a fixture of its own and a row in docs/catalogue.md ([`table`]).

pub(crate) mod table;

mod attack;
mod engine;
mod lie;
mod notify;
mod number;
mod outside;
pub(crate) mod place;
mod program;
mod survive;

use std::path::PathBuf;

use serde_json::Value;

use crate::look::{self, until};
use crate::receipt::pids;
use crate::world::World;

/// A number that the nightly rounds raise.
pub(crate) fn from_environment(name: &str, otherwise: usize) -> usize {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// A world of one service that runs a fixture, once the fixture is up; `OUTSIDE` among its
/// words is a cgroup outside the supervisor's tree.
fn with_service(words: &str, more: &str) -> (World, PathBuf) {
    start_service(World::new(), words, more)
}

fn start_service(mut world: World, words: &str, more: &str) -> (World, PathBuf) {
    let outside = world.foreign_cgroup();
    let words = words.replace("OUTSIDE", &outside.display().to_string());
    world.fixture("web", &words, more).init();
    world.number("web", "up");
    (world, outside)
}

/// Stops the service, which has to end verified, and checks that this pid ended with it.
fn ends_with(world: &World, pid: u32) -> Value {
    assert!(look::alive(pid).is_some(), "{pid} is not there");
    let receipt = world.stop_verified("web");
    assert!(look::alive(pid).is_none(), "{pid} lives: {receipt:#}");
    receipt
}

/// The same for one that left the cgroup and that nobody but the supervisor is above.
fn escapee_ends(world: &World, pid: u32) -> Value {
    until("it is an orphan", || {
        (look::parent(pid)? == world.supervisor()).then_some(())
    });
    let receipt = ends_with(world, pid);
    assert!(pids(&receipt, "escaped").contains(&pid), "{receipt:#}");
    receipt
}
