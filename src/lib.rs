//! nought: a cgroup-v2 service supervisor that proves nothing is left running.

pub mod api;
pub mod cli;
pub mod config;
pub mod control;
pub mod core;
pub mod driver;
pub mod init;
pub mod logs;
mod pictures;
pub mod run;
pub mod state;
pub mod sys;
pub mod web;
