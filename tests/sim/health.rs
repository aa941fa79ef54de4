//! Ready and healthy: what is looked at while a service is up, and what it says of itself.

use crate::core::{
    AuxKind, Check, Effect, Event, Exit, Health, OpId, RestartWhen, Spec, Test, Told,
};
use crate::hand::{Hand, failed, ms, oneshot, requires};
use crate::scenario::spec;

/// `db`, looked at every second, failed after three in a row.
fn db() -> Spec {
    let mut db = spec("db");
    let mut health = Health::new(Check::Exec(vec!["health".into()]));
    health.test.interval = Some(ms(1_000));
    health.test.timeout = ms(500);
    db.health = Some(Box::new(health));
    db
}

fn waits_for_notice(name: &str) -> Spec {
    let mut spec = spec(name);
    spec.test = Some(Box::new(Test::new(Check::Notify)));
    spec
}

fn looks(hand: &Hand) -> Vec<OpId> {
    let looks = hand.effects.iter().filter_map(|effect| match effect {
        Effect::RunAux {
            aux,
            kind: AuxKind::Health,
            ..
        } => Some(*aux),
        _ => None,
    });
    looks.collect()
}

/// The next look is due, comes back with `code`, and is cleared away.
fn look(hand: &mut Hand, code: i32) {
    let before = looks(hand).len();
    hand.pass_ms(1_000);
    let all = looks(hand);
    assert_eq!(all.len(), before + 1, "one look a second");
    let aux = all[before];
    let r#gen = hand.r#gen("db");
    let exit = Exit::Code(code);
    hand.tell(Event::AuxExited { r#gen, aux, exit });
    let error = None;
    hand.tell(Event::AuxEnded { r#gen, aux, error });
}

fn say(hand: &mut Hand, name: &str, told: Told) {
    let r#gen = hand.r#gen(name);
    hand.tell(Event::Told { r#gen, told });
}

fn detail(hand: &Hand, name: &str) -> String {
    hand.core.view(name).unwrap().detail
}

#[test]
fn failures_in_a_row_are_a_failure_and_one_pass_forgets_them() {
    let mut hand = Hand::new(vec![db(), requires("web", &["db"])]);
    hand.run("db");
    hand.run("web");
    for code in [1, 1, 0, 1, 1] {
        look(&mut hand, code);
        assert_eq!(hand.state("db"), "up");
    }
    assert_eq!(
        detail(&hand, "db"),
        "its health check failed 2 of 3 times: exit code 1"
    );
    let (db, web) = (hand.r#gen("db"), hand.r#gen("web"));
    look(&mut hand, 1);
    assert_eq!(hand.state("web"), "stopping", "who requires it goes first");
    assert_eq!(hand.state("db"), "up");
    assert!(!hand.signalled(db));
    hand.exits("web", 0);
    hand.proven(web);
    assert!(hand.signalled(db));
    hand.exits("db", 0);
    hand.proven(db);
    assert_eq!(hand.receipts(db)[0].cause.as_str(), "unhealthy");
    assert_eq!(hand.state("db"), "starting", "it is started again");
    hand.run("db");
    assert_eq!(hand.state("web"), "starting", "and they with it");
}

#[test]
fn who_is_never_started_again_has_failed_and_says_why() {
    let mut db = db();
    db.restart.when = RestartWhen::Never;
    let mut hand = Hand::new(vec![db]);
    hand.run("db");
    for _ in 0..3 {
        look(&mut hand, 7);
    }
    hand.ends("db", 0);
    assert_eq!(hand.state("db"), "failed");
    assert_eq!(
        detail(&hand, "db"),
        "its health check failed 3 times in a row, at last: exit code 7"
    );
}

#[test]
fn a_look_that_does_not_come_back_is_ended_and_counts() {
    let mut hand = Hand::new(vec![db()]);
    hand.run("db");
    let r#gen = hand.r#gen("db");
    for n in 0..3 {
        hand.pass_ms(1_000);
        let all = looks(&hand);
        assert_eq!(all.len(), n + 1);
        let (aux, error) = (all[n], None);
        hand.pass_ms(500);
        assert!(hand.has(|effect| *effect == Effect::EndAux { r#gen, aux }));
        hand.tell(Event::AuxEnded { r#gen, aux, error });
    }
    assert_eq!(hand.state("db"), "stopping");
}

#[test]
fn looks_never_pile_up_and_one_that_cannot_be_ended_is_a_failure() {
    let mut db = db();
    db.kill_timeout = ms(2_000);
    let mut hand = Hand::new(vec![db]);
    hand.run("db");
    hand.pass_ms(1_000);
    assert_eq!(looks(&hand).len(), 1);
    hand.pass_ms(2_900);
    assert_eq!(
        looks(&hand).len(),
        1,
        "the last is still being cleared away"
    );
    assert_eq!(hand.state("db"), "up");
    hand.pass_ms(1_000);
    assert_eq!(hand.state("db"), "stopping");
}

#[test]
fn failures_within_the_start_period_do_not_count() {
    let mut db = db();
    if let Some(health) = &mut db.health {
        health.test.start_period = ms(5_500);
    }
    let mut hand = Hand::new(vec![db]);
    hand.run("db");
    for _ in 0..7 {
        look(&mut hand, 1);
        assert_eq!(hand.state("db"), "up");
    }
    look(&mut hand, 1);
    assert_eq!(hand.state("db"), "stopping");
}

#[test]
fn nothing_is_looked_at_while_it_stops_or_before_it_is_ready() {
    let mut db = db();
    db.test = Some(Box::new(Test::new(Check::Notify)));
    let mut hand = Hand::new(vec![db]);
    hand.run("db");
    hand.pass_ms(60_000);
    assert_eq!(looks(&hand), []);
    say(&mut hand, "db", Told::Ready);
    look(&mut hand, 0);
    hand.stop("db");
    hand.pass_ms(9_000);
    assert_eq!(looks(&hand).len(), 1);
    assert_eq!(hand.core.timers().count(), 1, "the grace alone");
}

#[test]
fn dependents_wait_until_it_says_that_it_is_ready() {
    let mut hand = Hand::new(vec![waits_for_notice("db"), requires("web", &["db"])]);
    hand.run("db");
    assert_eq!(hand.state("web"), "blocked");
    assert_eq!(detail(&hand, "db"), "waits for it to send READY=1");
    say(&mut hand, "db", Told::Status("replaying".into()));
    assert_eq!(
        detail(&hand, "db"),
        "waits for it to send READY=1: replaying"
    );
    say(&mut hand, "db", Told::Ready);
    assert_eq!((hand.state("db"), hand.state("web")), ("up", "starting"));
    say(&mut hand, "db", Told::Status("3 clients".into()));
    assert_eq!(detail(&hand, "db"), "3 clients");
    say(&mut hand, "db", Told::Reloading);
    assert_eq!(detail(&hand, "db"), "reloads: 3 clients");
    say(&mut hand, "db", Told::Ready);
    say(&mut hand, "db", Told::Stopping);
    assert_eq!(detail(&hand, "db"), "ends by itself: 3 clients");
}

#[test]
fn what_is_said_before_the_exec_is_heard_counts() {
    let mut hand = Hand::new(vec![waits_for_notice("db")]);
    say(&mut hand, "db", Told::Ready);
    assert_eq!(hand.state("db"), "starting");
    hand.run("db");
    assert_eq!(hand.state("db"), "up");
}

#[test]
fn what_a_daemon_says_counts_when_its_main_process_has_gone() {
    let mut db = waits_for_notice("db");
    db.remain = true;
    let mut hand = Hand::new(vec![db]);
    hand.run("db");
    say(&mut hand, "db", Told::Ready);
    assert_eq!(hand.state("db"), "starting");
    hand.exits("db", 0);
    assert_eq!(hand.state("db"), "up");
}

#[test]
fn a_start_that_says_it_needs_longer_gets_it() {
    let mut db = waits_for_notice("db");
    db.start_timeout = Some(ms(5_000));
    let mut hand = Hand::new(vec![db]);
    hand.run("db");
    hand.pass_ms(4_000);
    say(&mut hand, "db", Told::Extend(ms(10_000)));
    hand.pass_ms(9_900);
    assert_eq!(hand.state("db"), "starting");
    // Never less than the file says.
    say(&mut hand, "db", Told::Extend(ms(0)));
    hand.pass_ms(200);
    assert_eq!(hand.state("db"), "stopping");
}

#[test]
fn who_does_not_say_that_it_is_alive_is_not_healthy() {
    let mut db = spec("db");
    db.watchdog = Some(ms(3_000));
    let mut hand = Hand::new(vec![db]);
    hand.run("db");
    for _ in 0..5 {
        hand.pass_ms(2_900);
        say(&mut hand, "db", Told::Alive);
    }
    hand.pass_ms(2_900);
    assert_eq!(hand.state("db"), "up");
    let r#gen = hand.r#gen("db");
    hand.pass_ms(200);
    assert_eq!(hand.state("db"), "stopping");
    hand.ends("db", 0);
    assert_eq!(hand.receipts(r#gen)[0].cause.as_str(), "unhealthy");
    assert_eq!(hand.state("db"), "starting");
    hand.run("db");
    say(&mut hand, "db", Told::GivesUp);
    assert_eq!(hand.state("db"), "stopping");
}

#[test]
fn a_stop_that_is_taken_back_leaves_it_watched() {
    let mut hand = Hand::new(vec![db(), requires("web", &["db"])]);
    hand.run("db");
    hand.run("web");
    hand.stop("db");
    for _ in 0..4 {
        look(&mut hand, 1);
    }
    assert_eq!(hand.state("db"), "up", "web is not through yet");
    hand.start("db");
    look(&mut hand, 1);
    let web = hand.r#gen("web");
    hand.exits("web", 0);
    hand.proven(web);
    assert_eq!(hand.state("db"), "stopping");
}

#[test]
fn a_oneshot_is_never_looked_at() {
    let mut setup = oneshot("setup", &[]);
    setup.health = db().health;
    setup.watchdog = Some(ms(1_000));
    setup.remain = true;
    let mut hand = Hand::new(vec![setup]);
    hand.run("setup");
    hand.exits("setup", 0);
    hand.pass_ms(60_000);
    assert_eq!(looks(&hand), []);
    assert_eq!(hand.state("setup"), "up");
}

#[test]
fn a_check_that_cannot_be_run_counts() {
    let mut hand = Hand::new(vec![db()]);
    hand.run("db");
    let r#gen = hand.r#gen("db");
    for n in 0..3 {
        hand.pass_ms(1_000);
        let aux = looks(&hand)[n];
        let error = failed();
        hand.tell(Event::AuxFailed { r#gen, aux, error });
        let error = None;
        hand.tell(Event::AuxEnded { r#gen, aux, error });
    }
    assert_eq!(hand.state("db"), "stopping");
}
