//! So many at once, and so many a second.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::sys::clock;

/// At once, when nothing came for a while.
const BURST: u32 = 200;
/// A second, for as long as they come.
const PER_SECOND: u32 = 100;

/// A bucket that fills with time.
#[derive(Debug)]
pub(super) struct Rate(Mutex<Bucket>);

#[derive(Debug)]
struct Bucket {
    /// When the bucket would be full if nothing more were taken, on the boot clock.
    full_at: Duration,
}

impl Default for Rate {
    fn default() -> Self {
        let full_at = Duration::ZERO;
        Rate(Mutex::new(Bucket { full_at }))
    }
}

impl Rate {
    /// Takes one; how long to wait when there is none.
    pub(super) fn take(&self) -> Result<(), Duration> {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(Duration::from_nanos(clock::boot_now()))
    }
}

impl Bucket {
    fn take(&mut self, now: Duration) -> Result<(), Duration> {
        let each = Duration::from_secs(1) / PER_SECOND;
        let full_at = self.full_at.max(now) + each;
        let wait = full_at.saturating_sub(now + each * BURST);
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
        let mut bucket = Bucket {
            full_at: Duration::ZERO,
        };
        let mut now = Duration::from_secs(1000);
        for _ in 0..BURST {
            assert_eq!(bucket.take(now), Ok(()));
        }
        let each = Duration::from_secs(1) / PER_SECOND;
        assert_eq!(bucket.take(now), Err(each));
        assert_eq!(bucket.take(now), Err(each), "to ask costs nothing");
        now += each;
        assert_eq!(bucket.take(now), Ok(()));
        assert!(bucket.take(now).is_err());
        now += Duration::from_secs(1);
        let taken = (0..2 * PER_SECOND).filter(|_| bucket.take(now).is_ok());
        assert_eq!(taken.count(), PER_SECOND as usize);
    }
}
