//! The kernel layer on the real kernel. Needs root and a writable cgroup2, and fails without.
//!
//! The test binary is its own fixture: called as `nought-fixture NAME …` it runs one of
//! [`fixtures`] instead of the tests, before any thread exists.
#![expect(
    unsafe_code,
    reason = "fixtures fork, end their main thread and join namespaces"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by failing"
)]

mod fixtures;
mod kill;
mod notify;
mod place;
mod scan;
mod scene;
mod selftest;
mod signal;
mod socket;
mod spawn;
mod timer;
