//! Threads for what blocks in the kernel. One stays, asleep, so that a stop after a long rest
//! does not wait for a thread to be made; the others end when there is nothing to do, and the last
//! of them gives back what the work needed.
//!
//! Not tokio's own: those all end, take SIGCHLD meant for the loop (the kernel sends it to the
//! thread that made the child), and are woken under a lock that they need next.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sys::{heap, signal};

/// Threads at the most: as many kills can hang in the kernel at a time.
const MOST: usize = 64;
/// A thread beside the one that stays ends when it was idle for this long.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// What a thread's stack may grow to.
const STACK_BYTES: usize = 512 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// The threads; clones are the same ones.
#[derive(Clone)]
pub(super) struct Threads(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    alive: usize,
    /// Threads that sleep and that no job has claimed.
    idle: usize,
    /// Jobs for which a sleeping thread was claimed that has not woken yet.
    claimed: usize,
}

impl Threads {
    pub(super) fn new() -> Self {
        Self(Arc::new(Shared {
            state: Mutex::default(),
            wake: Condvar::new(),
        }))
    }

    /// Runs `job` on a thread that is idle or, up to a bound, new: it waits for no other job.
    pub(super) fn run(&self, job: impl FnOnce() + Send + 'static) {
        let mut state = self.0.lock();
        state.jobs.push_back(Box::new(job));
        if state.idle > 0 {
            state.idle -= 1;
            state.claimed += 1;
            // Woken under the lock it would only wait for that.
            drop(state);
            self.0.wake.notify_one();
        } else if state.alive < MOST {
            state.alive += 1;
            drop(state);
            self.spawn();
        }
    }

    fn spawn(&self) {
        let shared = Arc::clone(&self.0);
        let made = std::thread::Builder::new()
            .name("nought-work".into())
            .stack_size(STACK_BYTES)
            .spawn(move || shared.work());
        if let Err(error) = made {
            let mut state = self.0.lock();
            state.alive -= 1;
            // Whoever is at it takes the job next; with nobody left it waits for the next one.
            let alive = state.alive;
            drop(state);
            tracing::error!("failed to make a thread ({alive} work): {error}");
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        if let Err(error) = signal::block_all() {
            tracing::warn!("failed to {error}");
        }
        while let Some(job) = self.next_job() {
            run(job);
        }
        // The last of those that end: whatever there was so much to do for is over.
        let last = self.lock().alive == 1;
        if last {
            heap::give_back();
        }
    }

    /// The next job; `None` when this thread is to end.
    fn next_job(&self) -> Option<Job> {
        let mut state = self.lock();
        if let Some(job) = state.jobs.pop_front() {
            return Some(job);
        }
        state.idle += 1;
        loop {
            let stays = state.alive == 1;
            let timed_out;
            (state, timed_out) = if stays {
                let woken = self.wake.wait(state);
                (woken.unwrap_or_else(PoisonError::into_inner), false)
            } else {
                let woken = self.wake.wait_timeout(state, KEEP_ALIVE);
                let (state, timeout) = woken.unwrap_or_else(PoisonError::into_inner);
                (state, timeout.timed_out())
            };
            if state.claimed > 0 {
                state.claimed -= 1;
                if let Some(job) = state.jobs.pop_front() {
                    return Some(job);
                }
                // A thread that was through with its own took the job.
                state.idle += 1;
            } else if timed_out && state.idle > 0 && state.alive > 1 {
                state.idle -= 1;
                state.alive -= 1;
                return None;
            }
        }
    }
}

/// Does one job; its panic costs nobody else anything.
pub(super) fn run(job: impl FnOnce()) {
    // The panic's message is out already; what waits for the job has a bound.
    if catch_unwind(AssertUnwindSafe(job)).is_err() {
        tracing::error!("work off the loop ended in a panic");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    const BOUND: Duration = Duration::from_secs(20);

    #[test]
    fn jobs_that_hang_hold_up_no_other() {
        let threads = Threads::new();
        let (done, finished) = mpsc::channel();
        let mut hanging = Vec::new();
        for n in 0..MOST - 1 {
            let (release, released) = mpsc::channel::<()>();
            hanging.push(release);
            let (slow, quick) = (done.clone(), done.clone());
            threads.run(move || {
                let _ = released.recv();
                slow.send(n).unwrap();
            });
            threads.run(move || quick.send(usize::MAX).unwrap());
            assert_eq!(finished.recv_timeout(BOUND), Ok(usize::MAX));
        }
        drop(hanging);
        for _ in 0..MOST - 1 {
            finished.recv_timeout(BOUND).unwrap();
        }
    }

    #[test]
    fn every_job_runs_and_one_thread_stays() {
        let threads = Threads::new();
        let (done, finished) = mpsc::channel();
        for n in 0..1000 {
            let done = done.clone();
            threads.run(move || {
                assert_ne!(n, 500, "a panic costs its job and nothing else");
                done.send(n).unwrap();
            });
        }
        for _ in 0..999 {
            finished.recv_timeout(BOUND).unwrap();
        }
        let mut state = threads.0.lock();
        for _ in 0..200 {
            if state.alive == 1 && state.idle == 1 {
                assert_eq!((state.claimed, state.jobs.len()), (0, 0));
                return;
            }
            let pause = Duration::from_millis(100);
            // Wakes nobody else: it stands in for a clock.
            let never = Condvar::new();
            drop(state);
            let own = Mutex::new(());
            let _ = never.wait_timeout(own.lock().unwrap(), pause).unwrap();
            state = threads.0.lock();
        }
        panic!("{} threads, {} idle", state.alive, state.idle);
    }
}
