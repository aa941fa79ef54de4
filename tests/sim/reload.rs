//! Definitions that change while the supervisor runs.

use crate::core::{
    Check, Effect, Event, Exit, Health, Reply, Request, RequestError, RequestId, RestartWhen, Spec,
    SweepReport,
};
use crate::hand::{Hand, failed, ms, requires};
use crate::scenario::spec;

fn amend(hand: &mut Hand, specs: Vec<Spec>) -> RequestId {
    hand.ask(Request::Amend { specs })
}

fn accepted(hand: &mut Hand, specs: Vec<Spec>) {
    let asked = amend(hand, specs);
    assert_eq!(hand.reply(asked), Some(&Reply::Accepted));
}

#[test]
fn every_difference_is_named_and_says_when_it_takes_effect() {
    let old = spec("web");
    assert_eq!(old.differences(&old), []);
    let mut new = spec("web");
    new.exec = vec!["other".into()];
    new.grace = ms(1);
    new.after = vec!["db".into()];
    let differences = new.differences(&old);
    let named: Vec<(&str, bool)> = differences.iter().map(|d| (d.key, d.at_start)).collect();
    let wanted = [
        ("exec", true),
        ("after", false),
        ("shutdown_timeout", false),
    ];
    assert_eq!(named, wanted);
    let mut told = spec("web");
    told.test = Some(Box::new(crate::core::Test::new(Check::Notify)));
    let differences = told.differences(&old);
    let named: Vec<(&str, bool)> = differences.iter().map(|d| (d.key, d.at_start)).collect();
    assert_eq!(named, [("ready", true), ("watchdog", true)]);
}

#[test]
fn what_needs_no_new_start_takes_effect_at_once() {
    let mut hand = Hand::new(vec![spec("web")]);
    hand.run("web");
    let r#gen = hand.r#gen("web");
    let mut new = spec("web");
    new.grace = ms(3_000);
    accepted(&mut hand, vec![new]);
    assert_eq!((hand.state("web"), hand.r#gen("web")), ("up", r#gen));
    hand.stop("web");
    hand.pass_ms(2_900);
    assert!(!hand.killed(r#gen));
    hand.pass_ms(200);
    assert!(hand.killed(r#gen));
}

#[test]
fn a_running_service_does_not_take_over_what_needs_a_new_start() {
    let mut hand = Hand::new(vec![spec("web"), spec("db")]);
    hand.run("web");
    hand.run("db");
    let mut new = spec("web");
    new.exec = vec!["other".into()];
    let mut db = spec("db");
    db.grace = ms(1);
    let asked = amend(&mut hand, vec![db, new.clone()]);
    let Some(Reply::Error(RequestError::Refused { service, why })) = hand.reply(asked) else {
        panic!("{:?}", hand.reply(asked));
    };
    assert_eq!(
        (service.as_str(), why.as_str()),
        ("web", "it is up, and exec needs a new start")
    );
    let unchanged = hand.core.view("db").unwrap().spec.grace;
    assert_eq!(unchanged, ms(10_000), "all of them or none");
    hand.stop("web");
    hand.ends("web", 0);
    accepted(&mut hand, vec![new]);
    assert_eq!(hand.state("web"), "down", "nobody wants it up");
    hand.start("web");
    assert_eq!(hand.core.view("web").unwrap().spec.exec, ["other"]);
}

#[test]
fn an_order_that_turns_round_changes_in_one_step() {
    let mut hand = Hand::new(vec![spec("a"), requires("b", &["a"])]);
    hand.run("a");
    hand.run("b");
    accepted(&mut hand, vec![requires("a", &["b"]), spec("b")]);
    hand.stop("b");
    assert_eq!(hand.state("a"), "stopping", "it requires b now");
    let (a, b) = (hand.r#gen("a"), hand.r#gen("b"));
    assert!(!hand.signalled(b));
    hand.exits("a", 0);
    hand.proven(a);
    assert!(hand.signalled(b));
    hand.exits("b", 0);
    hand.proven(b);
    hand.start("b");
    assert_eq!(hand.state("a"), "blocked");
    hand.run("b");
    assert_eq!(hand.state("a"), "starting");
}

#[test]
fn a_cycle_is_refused_and_the_order_stays() {
    let mut hand = Hand::new(vec![spec("a"), requires("b", &["a"])]);
    hand.run("a");
    hand.run("b");
    let asked = amend(&mut hand, vec![requires("a", &["b"])]);
    let Some(Reply::Error(RequestError::Cycle { cycle, .. })) = hand.reply(asked) else {
        panic!("{:?}", hand.reply(asked));
    };
    assert_eq!(cycle, "a → b → a");
    hand.stop("a");
    assert_eq!(hand.state("b"), "stopping");
    assert!(!hand.signalled(hand.r#gen("a")));
}

#[test]
fn who_waits_for_a_name_no_more_starts_and_who_begins_to_waits() {
    let mut hand = Hand::new(vec![requires("web", &["nobody"]), spec("db")]);
    assert_eq!(hand.state("web"), "blocked");
    let wait = hand.start("web");
    accepted(&mut hand, vec![requires("web", &["db"])]);
    assert_eq!(hand.state("web"), "blocked", "db is not up yet");
    hand.run("db");
    hand.run("web");
    assert_eq!(hand.state("web"), "up");
    assert!(matches!(
        hand.reply(wait),
        Some(Reply::Error(_) | Reply::Reached { .. })
    ));
}

#[test]
fn a_health_check_is_exchanged_while_one_runs() {
    let mut web = spec("web");
    let mut health = Health::new(Check::Exec(vec!["health".into()]));
    health.test.interval = Some(ms(1_000));
    health.failures = 1;
    web.health = Some(Box::new(health.clone()));
    let mut hand = Hand::new(vec![web.clone()]);
    hand.run("web");
    hand.pass_ms(1_000);
    let (r#gen, aux) = (hand.r#gen("web"), hand.aux(hand.r#gen("web")));
    health.test.interval = Some(ms(5_000));
    web.health = Some(Box::new(health));
    accepted(&mut hand, vec![web]);
    assert!(hand.has(|effect| *effect == crate::core::Effect::EndAux { r#gen, aux }));
    let error = failed();
    hand.tell(crate::core::Event::AuxFailed { r#gen, aux, error });
    let error = None;
    hand.tell(crate::core::Event::AuxEnded { r#gen, aux, error });
    assert_eq!(hand.state("web"), "up", "the old one does not count");
    hand.pass_ms(4_900);
    assert_eq!(hand.aux(r#gen), aux);
    hand.pass_ms(200);
    assert_ne!(hand.aux(r#gen), aux);
    accepted(&mut hand, vec![spec("web")]);
    assert_eq!(hand.core.timers().count(), 0);
}

#[test]
fn nothing_changes_once_a_shutdown_has_begun() {
    let mut hand = Hand::new(vec![spec("web")]);
    hand.run("web");
    crate::hand::shutdown(&mut hand);
    let asked = amend(&mut hand, vec![spec("web")]);
    assert!(matches!(
        hand.reply(asked),
        Some(Reply::Error(RequestError::ShuttingDown))
    ));
}

/// What it came to counts, though it was not known yet when it was called lingering.
#[test]
fn one_that_lingered_and_is_not_started_again_ends_everything_with_its_own_code() {
    let mut web = spec("web");
    web.essential = true;
    web.start_timeout = Some(ms(100));
    web.test = Some(Box::new(crate::core::Test::new(Check::Notify)));
    let mut hand = Hand::new(vec![web.clone()]);
    hand.run("web");
    let r#gen = hand.r#gen("web");
    hand.pass_ms(100);
    hand.lingers("web");
    web.restart.when = RestartWhen::Never;
    accepted(&mut hand, vec![web]);
    let exit = Exit::Signal {
        signal: 9,
        core: false,
    };
    hand.tell(Event::MainExited { r#gen, exit });
    hand.kill_done(r#gen, false);
    hand.reads("web", false, false);
    hand.proven(r#gen);
    hand.tell(Event::Flushed);
    let report = SweepReport::default();
    hand.tell(Event::Swept { report });
    let code = hand.effects.iter().find_map(|effect| match effect {
        Effect::Finish(outcome) => Some(outcome.exit_code()),
        _ => None,
    });
    assert_eq!(code, Some(137));
}
