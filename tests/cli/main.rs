//! The command line against a supervisor that only recites: whole outputs and exit codes.

#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests run the program as its users do, and may be blunt"
)]

mod check;
mod commands;
mod ends;
mod fake;
mod looks;
mod top;
mod trouble;
