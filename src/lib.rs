//! nought: a cgroup-v2 service supervisor that proves nothing is left running.

pub mod api;
pub mod cli;
pub mod config;
pub mod core;
