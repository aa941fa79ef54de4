//! The supervisor as a whole: the real binary on the real kernel. Needs root and a writable
//! cgroup2, and fails without.
//!
//! The test binary is its own fixture: called with `nought-fixture` as its first argument it
//! runs one of [`fixtures`] instead of the tests, before any thread exists.
#![expect(
    unsafe_code,
    reason = "fixtures fork, trace, mount and end their main thread"
)]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on says so by failing"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "tests start programs and look at the clock"
)]

mod fixtures;
mod look;
mod receipt;
mod wire;
mod world;

mod activation;
mod catalogue;
mod children;
mod clients;
mod contract;
mod crash;
mod crowd;
mod degraded;
mod doctor;
mod ends;
mod escapes;
mod follow;
mod guarantees;
mod habits;
mod health;
mod hostile;
mod json;
mod logs;
mod machine;
mod mutants;
mod order;
mod output;
mod pictures;
mod pid_namespace;
mod pods;
mod readiness;
mod ready;
mod refused;
mod reload;
mod reload_service;
mod remain;
mod run;
mod run_as;
mod seed;
mod service_files;
mod signals;
mod slow_logs;
mod socket;
mod starts;
mod survivors;
mod together;
mod told;
mod top;
mod web;
