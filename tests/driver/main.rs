//! The supervisor as a process against services that work against it. Needs root and a writable
//! cgroup2, and fails without.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test that cannot go on says so by failing, and starts processes as anybody does"
)]

mod escape;
mod leftover;
mod moved;
mod stage;
