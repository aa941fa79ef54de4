//! How many things are on their way, answers as a rule: at the end of a shutdown they are waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts calls from their arrival until their answer is written, or their client is gone; or other
/// work that is not to be cut off.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicUsize,
    idle: Notify,
}

/// One call that is counted until this is dropped.
#[derive(Debug)]
pub struct Counted(Arc<Shared>);

impl Gauge {
    /// Counts one more, until what this returns is dropped.
    pub fn count(&self) -> Counted {
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(&self.0))
    }

    /// Waits until nothing is on its way. The caller bounds it.
    pub async fn idle(&self) {
        loop {
            // Made before the look, so that the last one's end is not missed between the two.
            let idle = self.0.idle.notified();
            if self.0.calls.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
