//! One budget for all stops: what each service may take, so that no chain of stops takes longer
//! than there is.
//!
//! Services form a graph in which whoever stops first points to those that wait for it. Each has
//! a wish (its grace; with a stop command twice that) and a reserve (kill and proof). Where the
//! wishes of every chain fit, all are granted. Where not, the wishes are cut to a level, raised
//! as far as the longest chain allows (max-min fairness): a short wish stays whole, a long one
//! never takes from another what that needs. Services beside the longest chain get more, in
//! further rounds.

use std::time::Duration;

/// A service's reserve for kill and proof, where there is enough time.
const RESERVE: Duration = Duration::from_secs(1);
/// The level is found to this.
const GRAIN: u64 = 1_000_000;
/// After this many rounds whoever could have more does without.
const ROUNDS: usize = 8;

/// What one service needs of the common time.
#[derive(Clone, Debug, Default)]
pub(super) struct Need {
    /// How long its polite part may take by its own file; `None`: nothing of it runs, and it
    /// only stands between others.
    pub(super) wish: Option<Duration>,
    /// How long its proof may take by its own file.
    pub(super) proof: Duration,
    /// Those that are asked only when this one has its verdict, by index.
    pub(super) below: Vec<usize>,
}

/// What one service gets of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// What it wished for, as far as there is time at all.
    pub(super) wish: Duration,
    /// For its polite part.
    pub(super) polite: Duration,
    /// For kill and proof.
    pub(super) reserve: Duration,
    /// What the longest chain of those below takes by their shares.
    pub(super) below: Duration,
    /// And what it would take by their wishes.
    pub(super) below_wishes: Duration,
    /// When its turn comes if those before it take all that is planned.
    pub(super) turn: Duration,
    /// How many stops are before its own in the longest chain above.
    pub(super) wave: u32,
}

/// What a service may take when it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    /// For its polite part.
    pub(super) polite: Duration,
    /// For kill and proof.
    pub(super) proof: Duration,
    /// For everything: no verdict later than this.
    pub(super) all: Duration,
}

impl Share {
    /// What the service may take when it is asked now and `left` is left for all stops. `polite`
    /// and `proof` are its wishes. What those before it left over is shared between it and the
    /// longest chain below, in the proportion of what each lacks.
    pub(super) fn grant(&self, left: Duration, polite: Duration, proof: Duration) -> Grant {
        let (planned, below) = (self.polite + self.reserve, self.below);
        if polite.saturating_add(self.reserve + self.below_wishes) <= left {
            let all = left - self.below_wishes;
            return Grant {
                polite,
                proof: proof.min(all - polite),
                all,
            };
        }
        let Some(spare) = left.checked_sub(planned + below) else {
            // Somebody above was late: everybody gives way alike.
            let all = part(left, planned, planned + below);
            let proof = proof.min(self.reserve).min(all / 2);
            return Grant {
                polite: polite.min(all - proof),
                proof,
                all,
            };
        };
        let lack = polite.min(left).saturating_sub(self.polite);
        let lack_below = self.below_wishes.saturating_sub(below);
        let more = part(spare, lack, lack + lack_below);
        let all = planned + more;
        let granted = polite.min(self.polite + more);
        Grant {
            polite: granted,
            proof: proof.min(all - granted),
            all,
        }
    }
}

/// `whole * share / of`, without loss.
fn part(whole: Duration, share: Duration, of: Duration) -> Duration {
    let nanos = whole
        .as_nanos()
        .saturating_mul(share.as_nanos())
        .checked_div(of.as_nanos());
    nanos.map_or(Duration::ZERO, |nanos| from_nanos(u64_of(nanos)))
}

fn u64_of(nanos: u128) -> u64 {
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

fn from_nanos(nanos: u64) -> Duration {
    Duration::from_nanos(nanos)
}

/// Shares `total` out among `needs`. Edges that close a cycle do not count.
pub(super) fn share_out(needs: &[Need], total: Duration) -> Vec<Share> {
    let order = Order::new(needs);
    let total = u64_of(total.as_nanos());
    let running = |need: &Need| u64::from(need.wish.is_some());
    let (above, below) = order.longest(|at| needs.get(at).map_or(0, running));
    let longest = (0..needs.len()).map(|at| order.through(&above, &below, at, |_| 1));
    let chain = longest.max().unwrap_or(1).max(1);
    let most = total / (2 * chain);
    let reserve = |need: &Need| match need.wish {
        Some(_) => u64_of(need.proof.min(RESERVE).as_nanos()).min(most),
        None => 0,
    };
    let reserves: Vec<u64> = needs.iter().map(reserve).collect();
    let wish = |need: &Need| u64_of(need.wish.unwrap_or_default().as_nanos()).min(total);
    let wishes: Vec<u64> = needs.iter().map(wish).collect();
    let polite = Filling::new(&order, &wishes, &reserves, total).fill();
    let waves = above;
    let sum = |shares: &[u64], at: usize| of(shares, at).saturating_add(of(&reserves, at));
    let (turn, below) = order.longest(|at| sum(&polite, at));
    let (_, below_wishes) = order.longest(|at| sum(&wishes, at));
    (0..needs.len())
        .map(|at| Share {
            wish: needs.get(at).and_then(|need| need.wish).unwrap_or_default(),
            polite: from_nanos(of(&polite, at)),
            reserve: from_nanos(of(&reserves, at)),
            below: from_nanos(of(&below, at)),
            below_wishes: from_nanos(of(&below_wishes, at)),
            turn: from_nanos(of(&turn, at)),
            wave: u32::try_from(of(&waves, at)).unwrap_or(u32::MAX),
        })
        .collect()
}

fn of(values: &[u64], at: usize) -> u64 {
    values.get(at).copied().unwrap_or(0)
}

/// The graph in an order in which nobody comes before those that it waits for.
struct Order {
    order: Vec<usize>,
    /// Edges that run forwards in `order`.
    below: Vec<Vec<usize>>,
}

impl Order {
    fn new(needs: &[Need]) -> Self {
        // Depth first, each behind all that is below it: only edges that close a cycle run
        // backwards then.
        let mut place = vec![usize::MAX; needs.len()];
        let mut order = Vec::with_capacity(needs.len());
        let mut seen = vec![false; needs.len()];
        let mut stack = Vec::new();
        for root in 0..needs.len() {
            stack.push((root, false));
            while let Some((at, leaving)) = stack.pop() {
                if leaving {
                    order.push(at);
                } else if let Some(seen) = seen.get_mut(at).filter(|seen| !**seen) {
                    *seen = true;
                    stack.push((at, true));
                    let below = needs.get(at).into_iter().flat_map(|need| &need.below);
                    stack.extend(below.map(|below| (*below, false)));
                }
            }
        }
        order.reverse();
        for (n, at) in order.iter().enumerate() {
            if let Some(slot) = place.get_mut(*at) {
                *slot = n;
            }
        }
        let forward = |(at, need): (usize, &Need)| {
            let after =
                |below: &&usize| place.get(**below) > place.get(at) && **below < needs.len();
            need.below.iter().filter(after).copied().collect()
        };
        let below = needs.iter().enumerate().map(forward).collect();
        Self { order, below }
    }

    fn below(&self, at: usize) -> impl Iterator<Item = usize> + '_ {
        self.below.get(at).into_iter().flatten().copied()
    }

    /// The weight of the heaviest chain strictly above each, and strictly below.
    fn longest(&self, weight: impl Fn(usize) -> u64) -> (Vec<u64>, Vec<u64>) {
        let mut above = vec![0_u64; self.order.len()];
        for at in &self.order {
            let sum = of(&above, *at).saturating_add(weight(*at));
            for below in self.below(*at) {
                if let Some(slot) = above.get_mut(below) {
                    *slot = (*slot).max(sum);
                }
            }
        }
        let mut beneath = vec![0_u64; self.order.len()];
        for at in self.order.iter().rev() {
            let sums = self
                .below(*at)
                .map(|below| of(&beneath, below).saturating_add(weight(below)));
            let most = sums.max().unwrap_or(0);
            if let Some(slot) = beneath.get_mut(*at) {
                *slot = most;
            }
        }
        (above, beneath)
    }

    fn through(
        &self,
        above: &[u64],
        below: &[u64],
        at: usize,
        weight: impl Fn(usize) -> u64,
    ) -> u64 {
        of(above, at)
            .saturating_add(of(below, at))
            .saturating_add(weight(at))
    }
}

/// Raises everybody's share together, and stops for those whose chain is full.
struct Filling<'a> {
    order: &'a Order,
    wishes: &'a [u64],
    reserves: &'a [u64],
    total: u64,
    /// Shares that are settled.
    settled: Vec<Option<u64>>,
}

impl<'a> Filling<'a> {
    fn new(order: &'a Order, wishes: &'a [u64], reserves: &'a [u64], total: u64) -> Self {
        Self {
            order,
            wishes,
            reserves,
            total,
            settled: vec![None; wishes.len()],
        }
    }

    fn share(&self, at: usize, level: u64) -> u64 {
        let settled = self.settled.get(at).copied().flatten();
        settled.unwrap_or_else(|| of(self.wishes, at).min(level))
    }

    fn weight(&self, at: usize, level: u64) -> u64 {
        self.share(at, level).saturating_add(of(self.reserves, at))
    }

    /// Whether every chain fits at this level.
    fn fits(&self, level: u64) -> bool {
        let (above, _) = self.order.longest(|at| self.weight(at, level));
        let ends = |(at, above): (usize, &u64)| above.saturating_add(self.weight(at, level));
        let last = above.iter().enumerate().map(ends).max();
        last.unwrap_or(0) <= self.total
    }

    fn fill(mut self) -> Vec<u64> {
        let most = self.wishes.iter().max().copied().unwrap_or(0);
        let mut level = 0;
        for _ in 0..ROUNDS {
            if self.fits(most) {
                level = most;
                break;
            }
            level = self.level(level, most);
            if !self.settle(level) {
                break;
            }
        }
        (0..self.wishes.len())
            .map(|at| self.share(at, level))
            .collect()
    }

    /// The highest level that fits, between one that does and one that does not.
    fn level(&self, mut fits: u64, mut not: u64) -> u64 {
        while not - fits > GRAIN {
            let middle = fits + (not - fits) / 2;
            if self.fits(middle) {
                fits = middle;
            } else {
                not = middle;
            }
        }
        fits
    }

    /// Settles whoever's chain would not fit a grain higher; whether anybody is left.
    fn settle(&mut self, level: u64) -> bool {
        let higher = level.saturating_add(GRAIN);
        let weight = |at: usize| self.weight(at, higher);
        let (above, below) = self.order.longest(weight);
        let mut left = false;
        let mut full = Vec::new();
        for at in 0..self.wishes.len() {
            let open = self.settled.get(at) == Some(&None) && of(self.wishes, at) > level;
            let through = self.order.through(&above, &below, at, weight);
            if open && through > self.total {
                full.push(at);
            }
            left |= open && through <= self.total;
        }
        let none_full = full.is_empty();
        for at in full {
            if let Some(slot) = self.settled.get_mut(at) {
                *slot = Some(level);
            }
        }
        left && !none_full
    }
}

#[cfg(test)]
mod tests;
