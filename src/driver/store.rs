//! The state directory, written in order by one thread off the loop: a slow or full disk delays
//! records and receipts, never a stop.

use std::error::Error as _;
use std::sync::Arc;

use super::lane::Lane;
use super::threads::Threads;
use crate::control::{self, Clocks};
use crate::core::{GenId, Receipt};
use crate::state::{StateDir, StateError};

/// The queue of what is to be written and read.
#[derive(Clone)]
pub(super) struct Store {
    dir: Arc<StateDir>,
    jobs: Lane,
}

impl Store {
    /// An empty queue.
    pub(super) fn new(dir: StateDir, threads: Threads) -> Self {
        Self {
            dir: Arc::new(dir),
            jobs: Lane::new(1, threads),
        }
    }

    /// The directory itself, for what has to be written in the midst of a start.
    pub(super) fn dir(&self) -> Arc<StateDir> {
        Arc::clone(&self.dir)
    }

    /// Queues work on the directory.
    pub(super) fn push(&self, job: impl FnOnce(&StateDir) + Send + 'static) {
        let dir = Arc::clone(&self.dir);
        self.jobs.push(move || job(&dir));
    }

    /// Stores a receipt, whose moments are told by `clocks`.
    pub(super) fn receipt(&self, receipt: Box<Receipt>, clocks: Clocks) {
        self.push(move |dir| {
            let service = &receipt.service;
            match serde_json::to_string(&control::receipt(&receipt, clocks)) {
                Ok(line) => complain(service, dir.store_receipt(service, &line)),
                Err(error) => tracing::error!("{service}: failed to write its receipt: {error}"),
            }
        });
    }

    /// A generation has its last verdict: its record goes.
    pub(super) fn remove(&self, r#gen: GenId) {
        self.push(move |dir| complain("a generation's record", dir.remove(r#gen)));
    }
}

fn complain(what: &str, result: Result<(), StateError>) {
    if let Err(error) = result {
        tracing::warn!("{what}: {}", chain(&error));
    }
}

/// An error with all its causes: the log has one line for it.
pub(super) fn chain(error: &StateError) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}
