//! The state directory, written in order by one thread off the loop: a slow or full disk delays
//! records and receipts, never a stop.

use std::error::Error as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::lane::Lane;
use super::threads::Threads;
use crate::control::{self, Clocks, Courses};
use crate::core::{GenId, Receipt};
use crate::state::{StateDir, StateError};

/// The queue of what is to be written and read.
#[derive(Clone)]
pub(super) struct Store {
    dir: Arc<StateDir>,
    jobs: Lane,
    /// Who waits for a look at all receipts that has not begun.
    waiting: Arc<Mutex<Vec<oneshot::Sender<Courses>>>>,
}

impl Store {
    /// An empty queue.
    pub(super) fn new(dir: StateDir, threads: Threads) -> Self {
        Self {
            dir: Arc::new(dir),
            jobs: Lane::new(1, threads),
            waiting: Arc::default(),
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

    /// Answers how each service went down in the last shutdown that it was in. Every service's file
    /// is read for it: whoever asks before that has begun is answered by the same look, so that
    /// those who ask again and again hold up no receipt.
    pub(super) fn courses(&self, answer: oneshot::Sender<Courses>) {
        let mut waiting = lock(&self.waiting);
        waiting.push(answer);
        if waiting.len() > 1 {
            return;
        }
        drop(waiting);
        let waiting = Arc::clone(&self.waiting);
        self.push(move |dir| {
            let answers = std::mem::take(&mut *lock(&waiting));
            if answers.iter().all(oneshot::Sender::is_closed) {
                return;
            }
            let courses = dir
                .newest_receipts(control::course)
                .unwrap_or_else(|error| {
                    tracing::warn!("the receipts of the last shutdown: {}", chain(&error));
                    Vec::new()
                });
            for answer in answers {
                // A client that has gone needs no answer.
                let _ = answer.send(courses.clone());
            }
        });
    }

    /// A generation has its last verdict: its record goes.
    pub(super) fn remove(&self, r#gen: GenId) {
        self.push(move |dir| complain("a generation's record", dir.remove(r#gen)));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
