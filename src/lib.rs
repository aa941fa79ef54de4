//! nought: a cgroup-v2 service supervisor that proves nothing is left running.

pub mod core;
pub mod logs;
pub mod state;
