//! How many answers are on their way: at the end of a shutdown they are waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts calls from their arrival until their answer is written, or their client is gone.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicUsize,
    idle: Notify,
}

/// One call that is counted until this is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<Shared>);

impl Gauge {
    pub(super) fn count(&self) -> Counted {
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(&self.0))
    }

    /// Waits until no answer is on its way. The caller bounds it.
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
