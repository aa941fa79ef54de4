//! Random runs, many of them; a failing one is made smaller and shown.

use crate::run::from_seed as run;
use crate::scenario::Size;
use crate::situations::{EXPECTED, Situations};

const ORDINARY: u64 = 50_000;

/// The smallest size at which this seed still fails.
fn shrunk(seed: u64) -> Size {
    for services in 1..=Size::ORDINARY.services {
        for requests in 0..=Size::ORDINARY.requests {
            let size = Size { services, requests };
            if run(seed, size, false).0.is_err() {
                return size;
            }
        }
    }
    Size::ORDINARY
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
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

/// What a number of runs were like together.
#[derive(Default)]
struct Totals {
    steps: u64,
    starts: u64,
    verdicts: u64,
    situations: Situations,
}

/// Every second seed of a range; the first that fails, and why.
fn every_second(seeds: std::ops::Range<u64>) -> Result<Totals, (u64, String)> {
    let mut totals = Totals::default();
    for seed in seeds.step_by(2) {
        let stats = run(seed, Size::ORDINARY, false).0;
        let stats = stats.map_err(|broken| (seed, broken))?;
        totals.steps += u64::from(stats.steps);
        totals.starts += u64::from(stats.starts);
        totals.verdicts += u64::from(stats.verdicts);
        totals.situations.extend(stats.situations);
    }
    Ok(totals)
}

#[test]
fn seeds() {
    let from = number("NOUGHT_SIM_FROM").unwrap_or(0);
    let count = number("NOUGHT_SIM_SEEDS").unwrap_or(ORDINARY);
    let until = from + count;
    let halves = [from, from + 1].map(|from| std::thread::spawn(move || every_second(from..until)));
    let mut all = Totals::default();
    for half in halves {
        let totals = half.join().unwrap().unwrap_or_else(|(seed, broken)| {
            panic!("{}", shrunk_story(seed, &broken));
        });
        all.steps += totals.steps;
        all.starts += totals.starts;
        all.verdicts += totals.verdicts;
        all.situations.extend(totals.situations);
    }
    let (steps, starts, verdicts) = (all.steps, all.starts, all.verdicts);
    println!("{count} seeds: {steps} steps, {starts} starts, {verdicts} verdicts");
    if count >= 20_000 {
        let missing: Vec<_> = EXPECTED
            .iter()
            .filter(|s| !all.situations.contains(**s))
            .collect();
        assert!(missing.is_empty(), "never happened: {missing:?}");
    }
}

fn shrunk_story(seed: u64, broken: &str) -> String {
    let size = shrunk(seed);
    let (again, run) = run(seed, size, true);
    format!(
        "{}\nwith at most {} services and {} requests: {}\n{}",
        report(seed, broken),
        size.services,
        size.requests,
        again.err().unwrap_or_default(),
        run.world.trace.tail(120)
    )
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

/// Every kind of failure among many seeds, with how often and the first seed of each, for
/// looking around: `NOUGHT_SIM_SURVEY=1 cargo test --test sim survey -- --nocapture`.
#[test]
fn survey() {
    if number("NOUGHT_SIM_SURVEY").is_none() {
        return;
    }
    let from = number("NOUGHT_SIM_FROM").unwrap_or(0);
    let count = number("NOUGHT_SIM_SEEDS").unwrap_or(2_000);
    let mut kinds: std::collections::BTreeMap<String, (u64, u64)> =
        std::collections::BTreeMap::new();
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
