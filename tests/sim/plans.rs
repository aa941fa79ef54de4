//! What is planned is what is done.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::core::{Goal, Plan, Request, RestartWhen, ShutdownKind, Spec};
use crate::dice::Dice;
use crate::faults::Faults;
use crate::hand::{Hand, ms, oneshot, requires};
use crate::run::Run;
use crate::scenario::{Scenario, Size, settings, spec};

/// Within the supervisor's own deadline.
const SHUTDOWN: Goal = Goal::Shutdown { deadline: None };

fn stop(service: &str, with_dependents: bool) -> Goal {
    let service = service.to_owned();
    Goal::Stop {
        service,
        with_dependents,
    }
}

fn waves(plan: &Plan) -> Vec<(u32, &str)> {
    let services = plan.services.iter();
    services
        .map(|planned| (planned.wave, planned.service.as_str()))
        .collect()
}

fn after(name: &str, of: &[&str]) -> Spec {
    let mut spec = spec(name);
    spec.after = of.iter().map(|&name| name.into()).collect();
    spec
}

#[test]
fn a_stop_takes_those_that_require_it_and_others_only_when_told_to() {
    let mut hand = Hand::new(vec![
        spec("db"),
        oneshot("setup", &["db"]),
        requires("web", &["setup"]),
        after("metrics", &["db"]),
    ]);
    hand.run("db");
    hand.run("setup");
    hand.ends("setup", 0);
    hand.run("web");
    hand.run("metrics");
    let plan = hand.core.plan(&stop("db", false)).unwrap();
    assert_eq!(waves(&plan), [(0, "web"), (1, "db")]);
    assert_eq!(plan.services[1].waits_for, ["web"]);
    assert_eq!((plan.deadline, plan.worst), (None, 2 * ms(15_000)));
    let plan = hand.core.plan(&stop("db", true)).unwrap();
    assert_eq!(waves(&plan), [(0, "metrics"), (0, "web"), (1, "db")]);
    assert_eq!(hand.core.plan(&stop("nobody", true)), None);
    hand.forget();
    let _ = hand.core.plan(&SHUTDOWN);
    assert!(hand.core.poll_effect().is_none(), "nothing is done");
}

#[test]
fn a_deadline_too_near_cuts_the_grace_and_the_plan_says_so() {
    let mut slow = spec("slow");
    slow.grace = ms(600_000);
    let mut hand = Hand::with(settings(ms(25_000)), vec![slow, spec("quick")], Vec::new());
    hand.run("slow");
    hand.run("quick");
    let plan = hand.core.plan(&SHUTDOWN).unwrap();
    assert_eq!(plan.deadline, Some(ms(25_000)));
    let slow = plan.services.iter().find(|p| p.service == "slow").unwrap();
    assert!(
        slow.grace < slow.wish && slow.grace >= ms(1_000),
        "{slow:?}"
    );
    assert!(plan.worst <= ms(25_000));
}

/// What another deadline would mean is planned in a supervisor that has it, or in one that has not.
#[test]
fn another_deadline_is_planned_as_if_it_were_its_own() {
    let slow = |name: &str, of: &[&str]| {
        let mut slow = after(name, of);
        slow.grace = ms(600_000);
        slow
    };
    let plan_with = |own: Duration, asked: Option<Duration>| {
        let specs = vec![slow("db", &[]), slow("web", &["db"]), spec("quick")];
        let mut hand = Hand::with(settings(own), specs, Vec::new());
        for name in ["db", "web", "quick"] {
            hand.run(name);
        }
        hand.core.plan(&Goal::Shutdown { deadline: asked }).unwrap()
    };
    for deadline in [ms(500), ms(8_000), ms(25_000), ms(3_600_000)] {
        let asked = plan_with(ms(90_000), Some(deadline));
        assert_eq!(asked, plan_with(deadline, None));
        assert_eq!(asked.deadline, Some(deadline));
        let polite: Duration = asked.services.iter().map(|p| p.grace.min(p.wish)).sum();
        assert!(polite > Duration::ZERO && asked.worst <= deadline);
    }
}

/// In a world without faults, everything is asked in the order and within the time planned.
#[test]
fn shutdowns_go_as_planned() {
    let mut planned_services = 0;
    for seed in 0..300 {
        let mut dice = Dice::seed(seed);
        let drawn = Scenario::draw(&mut dice, Size::ORDINARY);
        let mut specs = drawn.specs;
        for spec in &mut specs {
            spec.restart.when = RestartWhen::Never;
            spec.start_timeout = None;
        }
        let mut scenario = Scenario::plain(specs);
        scenario.settings.deadline = drawn.settings.deadline;
        scenario.faults = Faults::none();
        let mut run = Run::new(&scenario, dice, false);
        run.until(2_000).unwrap();
        let plan = run.core.plan(&SHUTDOWN).unwrap();
        let same = Some(scenario.settings.deadline);
        let asked = run.core.plan(&Goal::Shutdown { deadline: same }).unwrap();
        assert_eq!(asked, plan, "seed {seed}: its own deadline, said aloud");
        let began = run.world.now;
        let kind = ShutdownKind::PowerOff;
        run.request(Request::Shutdown { kind }).unwrap();
        run.finish().unwrap();
        check(seed, &run, &plan, began);
        planned_services += plan.services.len();
    }
    assert!(planned_services > 300, "{planned_services}");
}

fn check(seed: u64, run: &Run, plan: &Plan, began: u64) {
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    let gens = run.observer.gens.values();
    let seen: BTreeMap<&str, _> = gens.map(|seen| (seen.name.as_str(), seen)).collect();
    for planned in &plan.services {
        let name = planned.service.as_str();
        let gone = seen[name];
        let ended = gone.last.as_ref().unwrap().ended.as_nanos();
        let asked = gone.stopping.unwrap();
        for above in &planned.waits_for {
            let through = ends[above.as_str()];
            assert!(
                through <= asked,
                "seed {seed}: {name} before {above}: {plan:#?}"
            );
        }
        // What its receipt tells of the budget is what was planned, and no less was granted.
        let (wanted, got) = (planned.allotment, gone.last.as_ref().unwrap().allotment);
        let (wanted, got) = (wanted.unwrap(), got.unwrap());
        assert_eq!(
            (wanted.wish, wanted.planned, wanted.reserve, wanted.turn),
            (got.wish, got.planned, got.reserve, got.turn),
            "seed {seed}: {name}: {plan:#?}"
        );
        assert!(
            got.granted >= wanted.granted,
            "seed {seed}: {name} got {got:?}: {plan:#?}"
        );
        let least = began + u64::try_from(planned.ends_at.as_nanos()).unwrap();
        let slack = u64::try_from(Duration::from_millis(200).as_nanos()).unwrap();
        assert!(
            ended <= least + slack,
            "seed {seed}: {name} took longer: {plan:#?}"
        );
        ends.insert(name, ended);
    }
    // Nobody else had anything to stop.
    let stopped = seen
        .values()
        .filter(|seen| seen.stopping.is_some_and(|at| at >= began));
    assert_eq!(stopped.count(), plan.services.len(), "seed {seed}");
}
