//! When an ended service is started again: at once, then exponentially later, with jitter.

use std::collections::VecDeque;
use std::time::Duration;

use super::spec::RestartPolicy;
use super::time::Time;

/// A pure random source (SplitMix64), seeded by the driver; the simulation seeds it too.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `most`, which is not 0: for tests.
    #[cfg(test)]
    pub(super) fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    /// Between three quarters and five quarters of `delay`, so that services that fell together
    /// do not come back together.
    fn jitter(&mut self, delay: Duration) -> Duration {
        let thousandths = 750 + u32::try_from(self.next() % 501).unwrap_or(250);
        (delay / 1000).saturating_mul(thousandths)
    }
}

/// Where a service is on its way from 'at once' to the longest delay.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    doublings: u32,
    restarts: VecDeque<Time>,
}

impl Backoff {
    /// The delay before the next start of a service that was up for `uptime`; `None` when the
    /// policy's burst is used up.
    pub(super) fn next(
        &mut self,
        policy: &RestartPolicy,
        now: Time,
        uptime: Duration,
        rng: &mut Rng,
    ) -> Option<Duration> {
        if uptime >= policy.stable_after {
            self.doublings = 0;
        }
        if let Some(burst) = policy.burst {
            while self
                .restarts
                .front()
                .is_some_and(|at| now.since(*at) > policy.window)
            {
                self.restarts.pop_front();
            }
            if self.restarts.len() >= usize::try_from(burst).unwrap_or(usize::MAX) {
                return None;
            }
            self.restarts.push_back(now);
        }
        let delay = match self.doublings {
            0 => Duration::ZERO,
            n => {
                let factor = 1u32.checked_shl(n - 1).unwrap_or(u32::MAX);
                let delay = policy.delay.saturating_mul(factor).min(policy.max_delay);
                rng.jitter(delay).min(policy.max_delay)
            }
        };
        self.doublings = self.doublings.saturating_add(1).min(32);
        Some(delay)
    }

    /// A request to start forgives everything.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delays(policy: &RestartPolicy, uptimes_ms: &[u64]) -> Vec<Option<Duration>> {
        let mut backoff = Backoff::default();
        let mut rng = Rng::new(7);
        let mut now = Time::default();
        let mut delays = Vec::new();
        for uptime in uptimes_ms {
            let uptime = Duration::from_millis(*uptime);
            now = now + uptime;
            delays.push(backoff.next(policy, now, uptime, &mut rng));
        }
        delays
    }

    #[test]
    fn first_restart_is_at_once_then_delays_double_to_the_limit() {
        let policy = RestartPolicy::default();
        let delays = delays(&policy, &[0; 16]);
        assert_eq!(delays[0], Some(Duration::ZERO));
        for (n, delay) in delays.iter().enumerate().skip(1) {
            let nominal = Duration::from_millis(250 << (n - 1)).min(policy.max_delay);
            let delay = delay.unwrap();
            assert!(delay >= nominal * 3 / 4 && delay <= (nominal * 5 / 4).min(policy.max_delay));
        }
    }

    #[test]
    fn being_up_long_enough_resets_the_delay() {
        let delays = delays(&RestartPolicy::default(), &[0, 0, 0, 10_000, 0]);
        assert_eq!(delays[3], Some(Duration::ZERO));
        assert!(delays[4] > Some(Duration::ZERO));
    }

    #[test]
    fn burst_gives_up_within_its_window_only() {
        let policy = RestartPolicy {
            burst: Some(2),
            window: Duration::from_secs(5),
            ..RestartPolicy::default()
        };
        let delays = delays(&policy, &[0, 0, 0, 6_000]);
        assert_eq!(delays[2], None);
        assert!(delays[3].is_some());
    }
}
