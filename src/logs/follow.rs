//! Following the log: each reader has a queue of its own, bounded in bytes. One that is too slow
//! loses lines, and hears how many.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{HEADER, Line};

/// Bytes that wait for one reader, [`HEADER`] bytes for each line included.
pub const FOLLOW_BYTES: usize = 256 * 1024;

/// One reader's end. Dropping it ends the subscription.
#[derive(Debug)]
pub struct Follow(Arc<Follower>);

/// What has come since the last time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The lines, in the order they were read.
    pub lines: Vec<Arc<Line>>,
    /// How many lines after these were lost because this reader was too slow.
    pub lost: u64,
}

/// The store's end.
#[derive(Debug)]
pub(super) struct Follower {
    /// None: every source.
    sources: Option<BTreeSet<String>>,
    queue: Mutex<Queue>,
    wake: Notify,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    lost: u64,
}

impl Follow {
    /// Waits until there is something, and takes all of it.
    pub async fn next(&mut self) -> Batch {
        loop {
            let woken = self.0.wake.notified();
            let batch = self.0.take();
            if !batch.lines.is_empty() || batch.lost > 0 {
                return batch;
            }
            woken.await;
        }
    }
}

impl Follower {
    pub(super) fn new(sources: Option<BTreeSet<String>>) -> (Arc<Self>, Follow) {
        let follower = Arc::new(Follower {
            sources,
            queue: Mutex::default(),
            wake: Notify::new(),
        });
        (Arc::clone(&follower), Follow(follower))
    }

    pub(super) fn wants(&self, source: &str) -> bool {
        let sources = self.sources.as_ref();
        sources.is_none_or(|sources| sources.contains(source))
    }

    /// Whether anybody reads any more.
    pub(super) fn is_read(self: &Arc<Self>) -> bool {
        // The store's and the reader's.
        Arc::strong_count(self) > 1
    }

    /// From the first line that finds no room, all are lost until the reader has taken what is
    /// there: so the gap has one place.
    pub(super) fn push(&self, line: &Arc<Line>) {
        let mut queue = self.lock();
        let bytes = HEADER + line.source.len() + line.text.len();
        if queue.lost > 0 || queue.bytes + bytes > FOLLOW_BYTES {
            queue.lost += 1;
            return;
        }
        queue.bytes += bytes;
        queue.lines.push_back(Arc::clone(line));
        drop(queue);
        self.wake.notify_one();
    }

    fn take(&self) -> Batch {
        let mut queue = self.lock();
        queue.bytes = 0;
        Batch {
            lines: std::mem::take(&mut queue.lines).into(),
            lost: std::mem::take(&mut queue.lost),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
