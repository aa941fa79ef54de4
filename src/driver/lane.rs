//! Work that blocks, on few threads: what is queued while a thread is busy is done by it next.
//!
//! A thread for each of two hundred starts would cost more than the starts, which the kernel
//! serialises anyway. With one thread it is done in order.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use super::threads::{Threads, run};

type Job = Box<dyn FnOnce() + Send>;

/// A queue of blocking jobs.
#[derive(Clone)]
pub(super) struct Lane {
    shared: Arc<Mutex<Shared>>,
    threads: Threads,
}

struct Shared {
    queue: VecDeque<Job>,
    /// Threads that are at it.
    busy: usize,
    most: usize,
}

impl Lane {
    /// A lane of at most `most` threads.
    pub(super) fn new(most: usize, threads: Threads) -> Self {
        let shared = Shared {
            queue: VecDeque::new(),
            busy: 0,
            most,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            threads,
        }
    }

    /// Queues a job.
    pub(super) fn push(&self, job: impl FnOnce() + Send + 'static) {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.queue.push_back(Box::new(job));
        if shared.busy < shared.most {
            shared.busy += 1;
            drop(shared);
            let lane = self.clone();
            self.threads.run(move || lane.work());
        }
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            run(job);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let job = shared.queue.pop_front();
        if job.is_none() {
            // With the queue's lock held: whoever queues the next sees that nobody is at it.
            shared.busy -= 1;
        }
        job
    }
}
