//! Who writes to a destination: everybody has a handle of his own, and a path has one queue and
//! one thread, however many starts of a service write to it one after the other.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use nix::sys::eventfd::EventFd;

use super::queue::{Queue, Shared};
use super::{Format, OUTLET_BYTES, Outlet, Written};
use crate::sys::clock;

/// What waits at most where the pipe is not read while the queue is full: with each stop comes
/// what the pipes still held, and a service may be started again and again.
const HELD_BYTES: usize = 4 * OUTLET_BYTES;

/// The queue of each path: of those that somebody writes to, whose thread has not ended, and that
/// have lost lines that no note tells of.
#[derive(Debug, Default)]
pub(in crate::logs) struct Writers(BTreeMap<PathBuf, Arc<Shared>>);

/// The queues of one moment.
pub(in crate::logs) struct Open(Vec<Arc<Shared>>);

/// A handle to a destination's queue. When the last one is dropped and everything is written its
/// thread ends.
#[derive(Debug)]
pub(in crate::logs) struct Writer {
    pub(in crate::logs) block: bool,
    format: Format,
    shared: Arc<Shared>,
}

impl Writers {
    /// A new handle to the outlet's destination. Its queue and its thread are those of whoever
    /// wrote there before, as long as that thread has not ended: a write that hangs is waited for
    /// by one thread only, and nobody overtakes it.
    ///
    /// `format` and `block` hold for the lines of this handle. How the file is rotated holds for
    /// the path: for all that is written from now on, lines that wait already included, and who
    /// asked last decides.
    pub(in crate::logs) fn get(&mut self, outlet: &Outlet, room: &Arc<EventFd>) -> Arc<Writer> {
        self.0.retain(|_, shared| shared.lock().is_needed());
        let make = || Arc::new(Shared::new(outlet.target.clone(), Arc::clone(room)));
        let path = outlet.target.path().clone();
        let shared = Arc::clone(self.0.entry(path).or_insert_with(make));
        shared.lock().take_up(&outlet.target);
        if !shared.start() {
            shared.start_later();
        }
        Arc::new(Writer::of(outlet, shared))
    }

    /// Whether there is none any more.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        !self.0.values().any(|shared| shared.lock().is_needed())
    }

    /// All that may have something to write or to say.
    pub(in crate::logs) fn all(&self) -> Open {
        Open(self.0.values().map(Arc::clone).collect())
    }
}

impl Open {
    /// Waits until everything queued is written or lost and everything lost is told of, at most
    /// for `bound` together. What is not, our own log says. Blocks.
    pub(in crate::logs) fn flush(self, bound: Duration) {
        let began = clock::boot_now();
        for shared in &self.0 {
            shared.start();
            let left = bound.saturating_sub(clock::since(began));
            shared.flush(left, bound);
        }
    }
}

impl Writer {
    /// A handle to a queue that was taken up for it.
    pub(super) fn of(outlet: &Outlet, shared: Arc<Shared>) -> Self {
        Self {
            block: outlet.block,
            format: outlet.target.format(outlet.format),
            shared,
        }
    }

    /// To queue lines that came together: the thread is woken once for all of them.
    pub(in crate::logs) fn open(&self) -> Lines<'_> {
        Lines {
            queue: Some(self.shared.lock()),
            dropped: false,
            writer: self,
        }
    }

    /// Whether there is no room. Then the descriptor that the writers were made with becomes
    /// readable when there is.
    pub(in crate::logs) fn is_full(&self) -> bool {
        self.shared.lock().is_full()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().users -= 1;
        self.shared.filled.notify_one();
    }
}

/// The queue of a writer, for lines that come together.
pub(in crate::logs) struct Lines<'a> {
    /// Until this is dropped.
    queue: Option<MutexGuard<'a, Queue>>,
    dropped: bool,
    writer: &'a Writer,
}

impl Lines<'_> {
    /// The same as [`Writer::is_full`], between lines.
    pub(in crate::logs) fn is_full(&mut self) -> bool {
        self.queue.as_mut().is_some_and(|queue| queue.is_full())
    }

    /// Queues one line. Never blocks: without room it is dropped and counted. There is more of it
    /// where the line's pipe is not to be read then ([`Writer::is_full`]).
    pub(in crate::logs) fn add(&mut self, line: &Written<'_>) {
        let Some(queue) = &mut self.queue else { return };
        let (format, block) = (self.writer.format, self.writer.block);
        let room = match block {
            true => HELD_BYTES,
            false if queue.overflowing => OUTLET_BYTES / 2,
            false => OUTLET_BYTES,
        };
        if queue.used() + line.text.len() > room {
            self.dropped = true;
            queue.overflowing = true;
            queue.lose(format, line);
        } else {
            queue.overflowing &= block;
            queue.push(format, line);
        }
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        let Some(mut queue) = self.queue.take() else {
            return;
        };
        let lost = self
            .dropped
            .then(|| queue.loss_due(clock::boot_now()))
            .flatten();
        let wake = queue.has_lines() && std::mem::take(&mut queue.sleeping);
        drop(queue);
        // Not before: it would only wait for the queue.
        if wake {
            self.writer.shared.filled.notify_one();
        }
        if let Some(lost) = lost {
            self.writer.shared.say_so_far(lost);
        }
    }
}
