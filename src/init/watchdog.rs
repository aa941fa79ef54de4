//! The hardware watchdog is petted while the supervisor's loop turns, and through the end of the
//! machine: a loop that stands still, or an end that never comes, resets the machine.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sys::watchdog::Watchdog;
use crate::sys::{clock, signal};

const DEVICE: &str = "/dev/watchdog";
const STACK_BYTES: usize = 64 * 1024;
/// Petted so often within its time.
const TIMES: u32 = 4;

/// How often one that is not there is looked for: its driver is loaded by a service.
const LOOK: Duration = Duration::from_secs(1);

/// A watchdog that is petted.
#[derive(Clone)]
pub(super) struct Petting(Arc<Shared>);

struct Shared {
    timeout: Duration,
    /// When the loop last turned, and whether it has to.
    beat: Arc<AtomicU64>,
    by_loop: AtomicBool,
    /// Without a loop: petted until then.
    stops_at: AtomicU64,
    device: Mutex<State>,
}

enum State {
    Sought { said: bool },
    Armed(Watchdog),
    Disarmed,
}

/// Begins to pet the watchdog, from the moment that there is one.
pub(super) fn begin(timeout: Duration) -> Option<Petting> {
    let petting = Petting(Arc::new(Shared {
        timeout,
        beat: Arc::new(AtomicU64::new(clock::boot_now())),
        by_loop: AtomicBool::new(false),
        stops_at: AtomicU64::new(u64::MAX),
        device: Mutex::new(State::Sought { said: false }),
    }));
    let shared = Arc::clone(&petting.0);
    let made = std::thread::Builder::new()
        .name("nought-pet".into())
        .stack_size(STACK_BYTES)
        .spawn(move || shared.pet());
    match made {
        Ok(_) => Some(petting),
        Err(error) => {
            tracing::error!("no watchdog: failed to make its thread: {error}");
            None
        }
    }
}

impl Petting {
    /// The beat that a loop keeps, and how often: from now on it has to.
    pub(super) fn by_loop(&self) -> (Arc<AtomicU64>, Duration) {
        let shared = &self.0;
        shared.beat.store(clock::boot_now(), Ordering::Relaxed);
        shared.by_loop.store(true, Ordering::Relaxed);
        (Arc::clone(&shared.beat), shared.timeout / TIMES)
    }

    /// No loop turns any more: petted until `at_nanos` since boot, whatever happens.
    pub(super) fn until(&self, at_nanos: u64) {
        self.0.stops_at.store(at_nanos, Ordering::Relaxed);
        self.0.by_loop.store(false, Ordering::Relaxed);
    }

    /// Stops it: a machine that halts stays halted.
    pub(super) fn disarm(&self) {
        let before = std::mem::replace(&mut *self.0.device(), State::Disarmed);
        if let State::Armed(device) = before {
            device.disarm();
        }
    }
}

impl Shared {
    fn device(&self) -> MutexGuard<'_, State> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pet(&self) {
        // Signals are the loop's.
        let _ = signal::block_all();
        let mut still = false;
        loop {
            let pause = match &mut *self.device() {
                State::Disarmed => return,
                State::Armed(device) if self.turns(device.timeout()) => {
                    still = false;
                    if let Err(error) = device.pet() {
                        tracing::error!("failed to {error}");
                    }
                    device.timeout() / TIMES
                }
                State::Armed(device) => {
                    if !std::mem::replace(&mut still, true) {
                        tracing::error!("watchdog: not petted any more: process 1 stands still");
                    }
                    device.timeout() / TIMES
                }
                sought => {
                    self.seek(sought);
                    LOOK
                }
            };
            std::thread::park_timeout(pause);
        }
    }

    fn turns(&self, timeout: Duration) -> bool {
        let now = clock::boot_now();
        let since = Duration::from_nanos(now.saturating_sub(self.beat.load(Ordering::Relaxed)));
        if self.by_loop.load(Ordering::Relaxed) {
            since < timeout
        } else {
            now < self.stops_at.load(Ordering::Relaxed)
        }
    }

    fn seek(&self, state: &mut State) {
        let said = matches!(state, State::Sought { said: true });
        match Watchdog::open(Path::new(DEVICE), self.timeout) {
            Ok(device) => {
                let secs = device.timeout().as_secs();
                if device.timeout() < self.timeout {
                    let wanted = self.timeout.as_secs();
                    tracing::warn!("watchdog: it cannot wait {wanted} s, {secs} s is its longest");
                }
                tracing::info!("watchdog: resets the machine after {secs} s without us");
                *state = State::Armed(device);
            }
            Err(error) => {
                if !said {
                    tracing::warn!("no watchdog yet: failed to {error}");
                }
                *state = State::Sought { said: true };
            }
        }
    }
}
