//! Work that may hang in the kernel, with a bound: past it the work is left to its thread and
//! the machine's end goes on.

use std::sync::mpsc;
use std::time::Duration;

use crate::sys::signal;

/// System calls and little else.
const STACK_BYTES: usize = 256 * 1024;

/// What `work` returned, or `None` when it did not within `limit`, or no thread could be had.
pub(super) fn bounded<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, answer) = mpsc::sync_channel(1);
    let begun = begin(move || {
        // Nobody waits for it any more past the limit.
        let _ = done.send(work());
    });
    begun.then(|| answer.recv_timeout(limit).ok())?
}

/// Begins `work` on a thread of its own; whether one could be had.
pub(super) fn begin(work: impl FnOnce() + Send + 'static) -> bool {
    let made = std::thread::Builder::new()
        .name("nought-end".into())
        .stack_size(STACK_BYTES)
        .spawn(move || {
            // Woken by a signal it would only be interrupted.
            let _ = signal::block_all();
            work();
        });
    made.inspect_err(|error| tracing::error!("failed to make a thread: {error}"))
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_left_behind() {
        let (_keep, never) = mpsc::channel::<()>();
        let hung = bounded(Duration::from_millis(20), move || never.recv());
        assert!(hung.is_none());
        assert_eq!(bounded(Duration::from_secs(20), || 7), Some(7));
    }
}
