use super::super::restart::Rng;
use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn need(wish_s: u32, below: &[usize]) -> Need {
    Need {
        wish: Some(wish_s * SECOND),
        proof: 5 * SECOND,
        below: below.to_vec(),
    }
}

fn polite(needs: &[Need], total: Duration) -> Vec<Duration> {
    let shares = share_out(needs, total);
    shares.iter().map(|share| share.polite).collect()
}

#[test]
fn wishes_that_fit_are_granted() {
    let needs = [need(10, &[1]), need(10, &[2]), need(2, &[])];
    let [a, b, c] = polite(&needs, 25 * SECOND)[..] else {
        panic!("three");
    };
    assert_eq!((a, b, c), (10 * SECOND, 10 * SECOND, 2 * SECOND));
}

#[test]
fn a_long_grace_early_gives_way_and_a_short_one_stays_whole() {
    let needs = [need(600, &[1]), need(600, &[2]), need(2, &[])];
    let shares = polite(&needs, 25 * SECOND);
    // 25 s less three reserves of 1 s are 22 s, of which 2 s go to the last.
    assert!(
        shares[0] > 9_990 * MS && shares[0] <= 10 * SECOND,
        "{shares:?}"
    );
    assert_eq!(shares[0], shares[1]);
    assert_eq!(shares[2], 2 * SECOND);
}

#[test]
fn who_is_not_on_the_longest_chain_gets_more() {
    // 0 → 1 → 2 is the longest; 3 → 2 is beside it.
    let needs = [
        need(60, &[1]),
        need(60, &[2]),
        need(60, &[]),
        need(60, &[2]),
    ];
    let shares = polite(&needs, 33 * SECOND);
    for chain in &shares[..3] {
        assert!((9_990 * MS..=10 * SECOND).contains(chain), "{shares:?}");
    }
    assert!(
        shares[3] > 20_900 * MS && shares[3] <= 21_010 * MS,
        "{shares:?}"
    );
}

#[test]
fn what_is_inactive_passes_the_order_on_and_takes_nothing() {
    let between = Need {
        below: vec![2],
        ..Need::default()
    };
    let needs = [need(60, &[1]), between, need(60, &[])];
    let shares = share_out(&needs, 22 * SECOND);
    assert!(shares[0].polite <= 10 * SECOND && shares[2].polite <= 10 * SECOND);
    assert_eq!((shares[0].wave, shares[2].wave), (0, 1));
    assert_eq!(shares[1].polite + shares[1].reserve, Duration::ZERO);
}

#[test]
fn a_cycle_is_shared_out_too() {
    let needs = [need(60, &[1]), need(60, &[2]), need(60, &[0])];
    assert!(
        polite(&needs, 12 * SECOND)
            .iter()
            .all(|share| *share > SECOND)
    );
}

#[test]
fn a_cycle_does_not_spoil_the_order_of_the_others() {
    let mut looped = need(0, &[0, 2, 3]);
    looped.wish = None;
    // 2 → 1, and 3, which is on a cycle of its own, before both.
    let needs = [looped.clone(), need(60, &[]), need(60, &[1]), looped];
    let shares = share_out(&needs, 22 * SECOND);
    assert_eq!((shares[2].wave, shares[1].wave), (0, 1));
    assert!(shares[1].polite <= 10 * SECOND && shares[2].polite <= 10 * SECOND);
}

/// A graph of services whose edges run forwards, some of them inactive, and a total.
fn draw(rng: &mut Rng) -> (Vec<Need>, Duration) {
    let count = usize::try_from(1 + rng.below(9)).unwrap();
    let needs = (0..count).map(|at| {
        let wishes = [0, 1, 20, 500, 2_000, 10_000, 90_000, 600_000_000];
        let wish = wishes[usize::try_from(rng.below(8)).unwrap()];
        Need {
            wish: (rng.below(8) > 0).then_some(wish * MS),
            proof: [50 * MS, 5 * SECOND][usize::try_from(rng.below(2)).unwrap()],
            below: (at + 1..count).filter(|_| rng.below(10) < 4).collect(),
        }
    });
    let needs = needs.collect();
    let totals = [1, 100, 500, 5_000, 22_500, 88_000];
    (needs, totals[usize::try_from(rng.below(6)).unwrap()] * MS)
}

/// The longest chain through each, by this weight.
fn chains(needs: &[Need], weight: impl Fn(usize) -> Duration + Copy) -> Vec<Duration> {
    let order = Order::new(needs);
    let nanos = |at: usize| u64_of(weight(at).as_nanos());
    let (above, below) = order.longest(nanos);
    let through = |at| from_nanos(order.through(&above, &below, at, nanos));
    (0..needs.len()).map(through).collect()
}

#[test]
fn no_chain_exceeds_the_total_and_nobody_gets_less_than_is_fair() {
    let mut rng = Rng::new(1);
    for round in 0..20_000 {
        let (needs, total) = draw(&mut rng);
        let shares = share_out(&needs, total);
        let lengths = chains(&needs, |at| shares[at].polite + shares[at].reserve);
        let counts = chains(&needs, |at| MS * u32::from(needs[at].wish.is_some()));
        for (at, share) in shares.iter().enumerate() {
            let context = || format!("round {round}, {at} of {needs:?} in {total:?}: {shares:?}");
            assert!(lengths[at] <= total, "too long: {}", context());
            assert!(share.polite <= share.wish, "too much: {}", context());
            let most = counts.iter().max().unwrap().as_millis().max(1);
            let most = u32::try_from(most).unwrap();
            let fair = share.wish.min(total / (2 * most)).saturating_sub(MS);
            assert!(share.polite >= fair, "starved: {}", context());
            // Whoever gets less than it wished is on a chain that is full, or another's was
            // settled after so many rounds that it does not matter.
            let slack = (total - lengths[at]).as_millis();
            let full = slack <= u128::from(most) + 1;
            assert!(
                share.polite == share.wish.min(total) || full,
                "idle: {}",
                context()
            );
        }
    }
}

/// Every service takes something up to all it may; the last verdict is in time, and everybody
/// is granted at least its share.
#[test]
fn played_to_the_end_everybody_has_its_share_within_the_total() {
    let mut rng = Rng::new(2);
    for round in 0..20_000 {
        let (needs, total) = draw(&mut rng);
        let shares = share_out(&needs, total);
        let order = Order::new(&needs);
        let mut free = vec![Duration::ZERO; needs.len()];
        for at in &order.order {
            let (now, need, share) = (free[*at], &needs[*at], &shares[*at]);
            let mut ends = now;
            if let Some(wish) = need.wish {
                let grant = share.grant(total - now, wish, need.proof);
                assert!(
                    grant.polite >= share.polite.min(wish),
                    "round {round}: {at} of {needs:?}: {grant:?} {share:?}"
                );
                assert!(grant.polite + grant.proof <= grant.all);
                assert!(grant.all >= share.polite + share.reserve);
                ends += match rng.below(3) {
                    0 => Duration::ZERO,
                    1 => grant.all,
                    _ => grant.all / 3,
                };
            }
            assert!(ends <= total, "round {round}: {ends:?} of {total:?}");
            for below in &need.below {
                free[*below] = free[*below].max(ends);
            }
        }
    }
}

#[test]
fn what_one_leaves_over_goes_to_those_after_it() {
    let needs = [need(60, &[1]), need(60, &[2]), need(60, &[])];
    let shares = share_out(&needs, 33 * SECOND);
    let at_once = shares[1].grant(33 * SECOND, 60 * SECOND, 5 * SECOND);
    let as_planned = shares[1].grant(22 * SECOND, 60 * SECOND, 5 * SECOND);
    assert!(as_planned.polite > 9_990 * MS && as_planned.polite <= 10_010 * MS);
    // Half of the eleven seconds is left to the last.
    assert!(
        at_once.polite > 15 * SECOND && at_once.polite < 16 * SECOND,
        "{at_once:?}"
    );
}

#[test]
fn who_is_asked_too_late_still_gets_a_part() {
    let needs = [need(10, &[1]), need(10, &[])];
    let shares = share_out(&needs, 12 * SECOND);
    let late = shares[0].grant(2 * SECOND, 10 * SECOND, 5 * SECOND);
    assert!(late.polite >= 500 * MS && late.all <= SECOND, "{late:?}");
}

#[test]
fn ten_thousand_services_are_shared_out_in_no_time() {
    let needs: Vec<Need> = (0..10_000)
        .map(|at: usize| {
            let below = [at + 1, at + 100, at + 1000];
            let below = below.into_iter().filter(|below| *below < 10_000).collect();
            Need {
                wish: Some(60 * SECOND),
                proof: 5 * SECOND,
                below,
            }
        })
        .collect();
    let shares = share_out(&needs, 90 * SECOND);
    assert!(shares.iter().all(|share| share.polite > MS));
}
