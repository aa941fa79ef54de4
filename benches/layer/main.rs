//! The kernel layer by itself: `cargo bench --bench layer`. Needs root and a writable cgroup2.
#![expect(
    unsafe_code,
    reason = "the fixtures fork, end their main thread and join namespaces"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a measurement that cannot go on says so by failing"
)]
#![expect(
    dead_code,
    reason = "fixtures and scene are those of the tests, which use all of them"
)]

#[path = "../../tests/sys/fixtures.rs"]
mod fixtures;
mod measure;
#[path = "../../tests/sys/scene.rs"]
mod scene;

fn main() {
    measure::spawning();
    measure::killing();
    measure::scanning();
    measure::starting_up();
}
