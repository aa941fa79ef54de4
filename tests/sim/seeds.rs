//! Random runs, many of them; a failing one is made smaller and shown.

use crate::run::from_seed as run;
use crate::scenario::Size;

const ORDINARY: u64 = 20_000;

/// The smallest size at which this seed still fails.
fn shrunk(seed: u64) -> Size {
    let mut best = Size::ORDINARY;
    for services in 1..=Size::ORDINARY.services {
        for requests in 0..=Size::ORDINARY.requests {
            let size = Size { services, requests };
            if run(seed, size, false).0.is_err() {
                return size;
            }
        }
        best = Size::ORDINARY;
    }
    best
}

/// What is shown of a failing seed.
pub fn report(seed: u64, broken: &str) -> String {
    format!(
        "seed {seed}: {broken}\n\
         replay: NOUGHT_SIM_SEED={seed} cargo test --test sim replay -- --nocapture"
    )
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn seeds() {
    let from = number("NOUGHT_SIM_FROM").unwrap_or(0);
    let count = number("NOUGHT_SIM_SEEDS").unwrap_or(ORDINARY);
    let halves = [0, 1].map(|half| {
        std::thread::spawn(move || {
            let mut steps = 0u64;
            let (mut starts, mut verdicts) = (0u64, 0u64);
            for seed in (from + half..from + count).step_by(2) {
                match run(seed, Size::ORDINARY, false).0 {
                    Ok(stats) => {
                        steps += u64::from(stats.steps);
                        starts += u64::from(stats.starts);
                        verdicts += u64::from(stats.verdicts);
                    }
                    Err(broken) => return Err((seed, broken)),
                }
            }
            Ok((steps, starts, verdicts))
        })
    });
    let mut totals = (0, 0, 0);
    for half in halves {
        match half.join().unwrap() {
            Ok((steps, starts, verdicts)) => {
                totals = (totals.0 + steps, totals.1 + starts, totals.2 + verdicts);
            }
            Err((seed, broken)) => {
                let size = shrunk(seed);
                let (again, run) = run(seed, size, true);
                let smaller = again.err().unwrap_or_default();
                panic!(
                    "{}\nwith {} services at most, {} requests: {smaller}\n{}",
                    report(seed, &broken),
                    size.services,
                    size.requests,
                    run.world.trace.tail(120)
                );
            }
        }
    }
    println!("{count} seeds: {} steps, {} starts, {} verdicts", totals.0, totals.1, totals.2);
}

/// Shows one run: `NOUGHT_SIM_SEED=7 cargo test --test sim replay -- --nocapture`.
#[test]
fn replay() {
    let Some(seed) = number("NOUGHT_SIM_SEED") else {
        return;
    };
    let (result, run) = run(seed, Size::ORDINARY, true);
    println!("{}", run.world.trace.tail(usize::MAX));
    if let Err(broken) = result {
        panic!("{}", report(seed, &broken));
    }
}

/// Every kind of failure among many seeds, with how often and the first seed of each.
#[test]
#[ignore = "for looking around: NOUGHT_SIM_SEEDS=5000 cargo test --test sim survey -- --ignored --nocapture"]
fn survey() {
    let from = number("NOUGHT_SIM_FROM").unwrap_or(0);
    let count = number("NOUGHT_SIM_SEEDS").unwrap_or(2_000);
    let mut kinds: std::collections::BTreeMap<String, (u64, u64)> = std::collections::BTreeMap::new();
    for seed in from..from + count {
        if let Err(broken) = run(seed, Size::ORDINARY, false).0 {
            let kind = broken.split(|c: char| c.is_ascii_digit()).collect();
            kinds.entry(kind).or_insert((0, seed)).0 += 1;
        }
    }
    for (kind, (times, seed)) in kinds {
        println!("{times:>6} times, first seed {seed}: {kind}");
    }
}
