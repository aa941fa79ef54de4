//! The state directory, written in order by one task off the loop: a slow or full disk delays
//! records and receipts, never a stop.

use std::error::Error as _;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::core::GenId;
use crate::state::{StateDir, StateError};

type Job = Box<dyn FnOnce(&StateDir) + Send>;

/// The queue of what is to be written and read.
#[derive(Clone)]
pub(super) struct Store {
    dir: Arc<StateDir>,
    jobs: mpsc::UnboundedSender<Job>,
}

impl Store {
    /// Starts the task that works the queue off.
    pub(super) fn start(dir: StateDir) -> Self {
        let (jobs, mut queue) = mpsc::unbounded_channel::<Job>();
        let dir = Arc::new(dir);
        let worker = Arc::clone(&dir);
        tokio::spawn(async move {
            while let Some(first) = queue.recv().await {
                let mut batch = vec![first];
                while let Ok(job) = queue.try_recv() {
                    batch.push(job);
                }
                let dir = Arc::clone(&worker);
                let work = move || batch.into_iter().for_each(|job| job(&dir));
                if let Err(error) = tokio::task::spawn_blocking(work).await {
                    tracing::error!("the state directory: {error}");
                }
            }
        });
        Self { dir, jobs }
    }

    /// The directory itself, for what has to be written in the midst of a start.
    pub(super) fn dir(&self) -> Arc<StateDir> {
        Arc::clone(&self.dir)
    }

    /// Queues work on the directory.
    pub(super) fn push(&self, job: impl FnOnce(&StateDir) + Send + 'static) {
        // Fails only when the runtime is going down.
        let _ = self.jobs.send(Box::new(job));
    }

    /// Stores a receipt.
    pub(super) fn receipt(&self, service: String, line: String) {
        self.push(move |dir| complain(&service, dir.store_receipt(&service, &line)));
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
