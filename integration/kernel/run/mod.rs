//! `nought run`: one command, and nothing of it left.

mod basics;
mod killed;
mod leaks;
mod limits;
mod pidns;
mod places;
mod signals;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::look::until;
use crate::world::World;

/// Runs to the end, with everything it says.
fn output(world: &World, words: &[&str]) -> Output {
    let output = world.job(words).output().unwrap();
    world.census();
    output
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Starts it and goes on.
fn spawn(world: &World, words: &[&str]) -> Child {
    let (stdout, stderr) = (Stdio::piped(), Stdio::piped());
    world
        .job(words)
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .unwrap()
}

/// The report that a run was asked to write; a guardian writes it after everybody is gone.
fn report(path: &Path) -> Value {
    until(&format!("{} holds a report", path.display()), || {
        serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
    })
}

/// For a script: waits until its last `&` has become a program of this name. Before, it is one more
/// shell with the script's own arguments.
fn is_executed(name: &str) -> String {
    format!("until grep -qx {name} /proc/$!/comm; do sleep 0.01; done")
}

/// The cgroups of runs that stand in this world.
fn trees(world: &World) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(&world.cgroup).unwrap().flatten();
    let named = entries.filter(|e| e.file_name().to_string_lossy().starts_with("nought-run-"));
    named.map(|entry| entry.path()).collect()
}

/// What a script wrote to a file, once it is a number with a line's end.
fn number_in(path: &Path) -> u32 {
    until(&format!("{} holds a number", path.display()), || {
        let text = std::fs::read_to_string(path).ok()?;
        text.strip_suffix('\n')?.trim().parse().ok()
    })
}

/// How long it took, and what came of it.
fn timed<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let began = Instant::now();
    let done = work();
    (began.elapsed(), done)
}
