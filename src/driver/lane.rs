//! Work that blocks, on few threads: what is queued while a thread is busy is done by it next.
//!
//! A thread for each of two hundred starts would cost more than the starts, which the kernel
//! serialises anyway.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc::UnboundedSender;

use super::message::Message;

type Job = Box<dyn FnOnce() -> Message + Send>;

/// A queue of blocking jobs, each of which ends with a message to the loop.
#[derive(Clone)]
pub(super) struct Lane {
    shared: Arc<Mutex<Shared>>,
    inbox: UnboundedSender<Message>,
}

struct Shared {
    queue: VecDeque<Job>,
    /// Threads that are at it.
    busy: usize,
    most: usize,
}

impl Lane {
    /// A lane of at most `most` threads.
    pub(super) fn new(most: usize, inbox: UnboundedSender<Message>) -> Self {
        let shared = Shared {
            queue: VecDeque::new(),
            busy: 0,
            most,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            inbox,
        }
    }

    /// Queues a job.
    pub(super) fn push(&self, job: impl FnOnce() -> Message + Send + 'static) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.queue.push_back(Box::new(job));
        if shared.busy < shared.most {
            shared.busy += 1;
            let lane = self.clone();
            tokio::task::spawn_blocking(move || lane.work());
        }
    }

    fn work(&self) {
        let _busy = Busy(&self.shared);
        loop {
            let job = self
                .shared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .queue
                .pop_front();
            let Some(job) = job else { return };
            // Fails only when the loop has ended.
            let _ = self.inbox.send(job());
        }
    }
}

/// Counts a thread out again, also when a job panicked.
struct Busy<'a>(&'a Mutex<Shared>);

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).busy -= 1;
    }
}
