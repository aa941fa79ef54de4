//! So many at once, and so many a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::sys::clock;

/// Requests at once, when none came for a while.
const BURST: u32 = 200;
/// Requests a second, for as long as they come.
const PER_SECOND: u32 = 100;

/// How often requests may come.
#[derive(Debug)]
pub(super) struct Rate(Mutex<Bucket>);

/// A bucket that fills with time.
#[derive(Debug)]
pub(super) struct Bucket {
    burst: u32,
    /// How long it takes to fill by one.
    each: Duration,
    /// When the bucket would be full if nothing more were taken, on the boot clock.
    full_at: Duration,
}

impl Default for Rate {
    fn default() -> Self {
        Rate(Mutex::new(Bucket::new(BURST, PER_SECOND)))
    }
}

impl Rate {
    /// Takes one; how long to wait when there is none.
    pub(super) fn take(&self) -> Result<(), Duration> {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take()
    }
}

impl Bucket {
    /// A full one: so many at once, and so many a second.
    pub(super) fn new(burst: u32, per_second: u32) -> Self {
        Bucket {
            burst,
            each: Duration::from_secs(1) / per_second,
            full_at: Duration::ZERO,
        }
    }

    /// Takes one; how long to wait when there is none.
    pub(super) fn take(&mut self) -> Result<(), Duration> {
        self.take_at(Duration::from_nanos(clock::boot_now()))
    }

    fn take_at(&mut self, now: Duration) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + self.each;
        let wait = full_at.saturating_sub(now + self.each * self.burst);
        if wait.is_zero() {
            self.full_at = full_at;
            Ok(())
        } else {
            Err(wait)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_so_many_a_second() {
        let mut bucket = Bucket::new(BURST, PER_SECOND);
        let mut now = Duration::from_secs(1000);
        for _ in 0..BURST {
            assert_eq!(bucket.take_at(now), Ok(()));
        }
        let each = Duration::from_secs(1) / PER_SECOND;
        assert_eq!(bucket.take_at(now), Err(each));
        assert_eq!(bucket.take_at(now), Err(each), "to ask costs nothing");
        now += each;
        assert_eq!(bucket.take_at(now), Ok(()));
        assert!(bucket.take_at(now).is_err());
        now += Duration::from_secs(1);
        let taken = (0..2 * PER_SECOND).filter(|_| bucket.take_at(now).is_ok());
        assert_eq!(taken.count(), PER_SECOND as usize);
    }
}
