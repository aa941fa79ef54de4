//! The hardware watchdog is petted while the supervisor's loop turns, and through the end of the
//! machine: a loop that stands still, or an end that never comes, resets the machine.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::sys::watchdog::Watchdog;
use crate::sys::{clock, signal};

const DEVICE: &str = "/dev/watchdog";
/// Petted so often within its time.
const TIMES: u32 = 4;

/// A watchdog that is petted.
pub(super) struct Petting {
    beat: Arc<AtomicU64>,
    every: Duration,
    /// No loop turns (none yet, or no more): petted all the same, until `stops_at`.
    without_loop: Arc<AtomicBool>,
    stops_at: Arc<AtomicU64>,
    device: Arc<Mutex<Option<Watchdog>>>,
}

/// Opens the watchdog and begins to pet it; a machine without one is told so in the log.
pub(super) fn begin(timeout: Duration) -> Option<Petting> {
    let device = match Watchdog::open(Path::new(DEVICE), timeout) {
        Ok(device) => device,
        Err(error) => {
            tracing::error!("no watchdog: failed to {error}");
            return None;
        }
    };
    let timeout = device.timeout();
    tracing::info!(
        "watchdog: resets the machine after {} s without us",
        timeout.as_secs()
    );
    let petting = Petting {
        beat: Arc::new(AtomicU64::new(clock::boot_now())),
        every: timeout / TIMES,
        without_loop: Arc::new(AtomicBool::new(true)),
        stops_at: Arc::new(AtomicU64::new(u64::MAX)),
        device: Arc::new(Mutex::new(Some(device))),
    };
    petting.start(timeout);
    Some(petting)
}

impl Petting {
    fn start(&self, timeout: Duration) {
        let (beat, every) = (Arc::clone(&self.beat), self.every);
        let (without_loop, stops_at) = (Arc::clone(&self.without_loop), Arc::clone(&self.stops_at));
        let device = Arc::clone(&self.device);
        let made = std::thread::Builder::new()
            .name("nought-pet".into())
            .stack_size(64 * 1024)
            .spawn(move || {
                let _ = signal::block_all();
                let mut said = false;
                loop {
                    let now = clock::boot_now();
                    let still =
                        Duration::from_nanos(now.saturating_sub(beat.load(Ordering::Relaxed)));
                    let turns = without_loop.load(Ordering::Relaxed) || still < timeout;
                    if turns && now < stops_at.load(Ordering::Relaxed) {
                        said = false;
                        let device = device.lock().unwrap_or_else(PoisonError::into_inner);
                        let Some(device) = &*device else { return };
                        if let Err(error) = device.pet() {
                            tracing::error!("failed to {error}");
                        }
                    } else if !std::mem::replace(&mut said, true) {
                        tracing::error!("watchdog: not petted any more: process 1 stands still");
                    }
                    std::thread::park_timeout(every);
                }
            });
        if let Err(error) = made {
            tracing::error!("watchdog: failed to make its thread: {error}");
        }
    }

    /// The beat that a loop keeps, and how often: from now on it has to.
    pub(super) fn by_loop(&self) -> (Arc<AtomicU64>, Duration) {
        self.beat.store(clock::boot_now(), Ordering::Relaxed);
        self.without_loop.store(false, Ordering::Relaxed);
        (Arc::clone(&self.beat), self.every)
    }

    /// No loop turns any more: petted until `at_nanos` since boot, whatever happens.
    pub(super) fn until(&self, at_nanos: u64) {
        self.stops_at.store(at_nanos, Ordering::Relaxed);
        self.without_loop.store(true, Ordering::Relaxed);
    }

    /// Stops it: a machine that halts stays halted.
    pub(super) fn disarm(&self) {
        let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = device.take() {
            device.disarm();
        }
    }
}
