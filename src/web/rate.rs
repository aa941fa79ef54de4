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
    /// Takes so many, as one request asks for them; how long to wait when there is no room.
    pub(super) fn take(&self, calls: usize) -> Result<(), Duration> {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.take(u32::try_from(calls).unwrap_or(u32::MAX))
    }

    /// Gives one back that was taken for a request which then was refused: to ask costs nothing.
    pub(super) fn give_back(&self) {
        let mut bucket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.full_at = bucket.full_at.saturating_sub(bucket.each);
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

    /// Takes so many; how long to wait when there is no room.
    pub(super) fn take(&mut self, count: u32) -> Result<(), Duration> {
        self.take_at(Duration::from_nanos(clock::boot_now()), count)
    }

    /// Many at once come when half of the bucket is full, and those after them wait for as long as
    /// all of them take: a large batch is possible at any time, and no faster than others.
    fn take_at(&mut self, now: Duration, count: u32) -> Result<(), Duration> {
        let from = self.full_at.max(now);
        let room = count.min((self.burst / 2).max(1));
        let wait = (from + self.each * room).saturating_sub(now + self.each * self.burst);
        if wait.is_zero() {
            self.full_at = from + self.each * count;
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
            assert_eq!(bucket.take_at(now, 1), Ok(()));
        }
        let each = Duration::from_secs(1) / PER_SECOND;
        assert_eq!(bucket.take_at(now, 1), Err(each));
        assert_eq!(bucket.take_at(now, 1), Err(each), "to ask costs nothing");
        now += each;
        assert_eq!(bucket.take_at(now, 1), Ok(()));
        assert!(bucket.take_at(now, 1).is_err());
        now += Duration::from_secs(1);
        let taken = (0..2 * PER_SECOND).filter(|_| bucket.take_at(now, 1).is_ok());
        assert_eq!(taken.count(), PER_SECOND as usize);
    }

    #[test]
    fn what_comes_together_counts_singly_and_a_large_batch_is_possible() {
        let mut bucket = Bucket::new(BURST, PER_SECOND);
        let mut now = Duration::from_secs(1000);
        assert_eq!(bucket.take_at(now, 1), Ok(()));
        // More than ever fit: taken, and paid for by those after it.
        assert_eq!(bucket.take_at(now, 255), Ok(()));
        let each = Duration::from_secs(1) / PER_SECOND;
        assert_eq!(bucket.take_at(now, 1), Err(each * 57));
        assert_eq!(bucket.take_at(now, 256), Err(each * 156));
        now += each * 156;
        assert_eq!(bucket.take_at(now, 256), Ok(()));
        let mut taken = 0;
        for _ in 0..1000 {
            now += each;
            taken += u32::from(bucket.take_at(now, 256).is_ok()) * 256;
        }
        // No more than 100 a second, and a batch more.
        assert!((700..=1000).contains(&taken), "{taken} in 10 s");
    }
}
