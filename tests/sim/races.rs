//! Requests that race, leftovers, shutdowns: one short story per situation.

use crate::core::{
    Cause, Check, Effect, Event, Exit, GenId, Leftover, OpId, Reply, Request, RequestError, Spec,
    Test, Verdict,
};
use crate::hand::{Hand, failed, ms, oneshot, requires, shutdown, web_on_setup_on_db};
use crate::scenario::{settings, spec};

/// db, web requires db; both up.
fn web_on_db() -> Hand {
    let mut hand = Hand::new(vec![spec("db"), requires("web", &["db"])]);
    hand.run("db");
    hand.run("web");
    hand.forget();
    hand
}

fn is_lingering(reply: Option<&Reply>) -> bool {
    matches!(reply, Some(Reply::Error(RequestError::Lingering(_))))
}

fn is_halted(reply: Option<&Reply>) -> bool {
    matches!(reply, Some(Reply::Error(RequestError::DependentLingers(_))))
}

// ---- requests that race ---------------------------------------------------------------------

#[test]
fn a_stop_halts_above_a_dependency_whose_dependent_lingers_whatever_stopped_that() {
    let mut hand = web_on_db();
    hand.stop("web");
    let stop = hand.stop("db");
    hand.lingers("web");
    assert!(is_halted(hand.reply(stop)));
    assert_eq!(hand.state("db"), "up");
}

#[test]
fn a_stop_halts_through_a_done_oneshot() {
    let mut hand = web_on_setup_on_db();
    let stop = hand.stop("db");
    hand.lingers("web");
    assert!(is_halted(hand.reply(stop)));
    assert_eq!(hand.state("db"), "up");
}

#[test]
fn a_stop_below_what_lingers_already_needs_force() {
    let mut hand = web_on_db();
    hand.stop("web");
    hand.lingers("web");
    let stop = hand.stop("db");
    assert!(is_halted(hand.reply(stop)));
    let restart = hand.restart("db");
    assert!(is_halted(hand.reply(restart)));
    assert_eq!(hand.state("db"), "up");
    hand.ask(Request::Stop {
        service: "db".into(),
        force: true,
    });
    assert_eq!(hand.state("db"), "stopping");
}

#[test]
fn a_stop_taken_back_does_not_hold_the_dependency_up() {
    let mut hand = web_on_db();
    let stop = hand.stop("db");
    let web = hand.stop("web");
    assert_eq!(hand.state("web"), "stopping");
    let again = hand.start("web");
    let r#gen = hand.r#gen("web");
    hand.exits("web", 0);
    hand.proven(r#gen);
    assert!(matches!(hand.reply(web), Some(Reply::Stopped(_))));
    assert_eq!(hand.state("web"), "blocked");
    assert!(matches!(
        hand.reply(again),
        Some(Reply::Error(RequestError::Blocked { .. }))
    ));
    hand.ends("db", 0);
    assert!(matches!(hand.reply(stop), Some(Reply::Stopped(_))));
}

#[test]
fn a_stop_taken_back_in_the_middle_of_a_cascade_goes_on_as_the_cascade() {
    let specs = vec![
        spec("db"),
        requires("web", &["db"]),
        requires("top", &["web"]),
    ];
    let mut hand = Hand::new(specs);
    for name in ["db", "web", "top"] {
        hand.run(name);
    }
    hand.stop("db");
    let web = hand.stop("web");
    hand.start("web");
    assert!(matches!(
        hand.reply(web),
        Some(Reply::Error(RequestError::Superseded { .. }))
    ));
    let (web, db) = (hand.r#gen("web"), hand.r#gen("db"));
    hand.ends("top", 0);
    assert!(hand.signalled(web), "db still wants to stop");
    assert!(!hand.signalled(db));
    hand.ends("web", 0);
    assert!(hand.signalled(db));
}

#[test]
fn a_restart_while_it_ends_by_itself_starts_it_again() {
    let mut a = spec("a");
    a.restart.when = crate::core::RestartWhen::Never;
    let mut hand = Hand::new(vec![a]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.exits("a", 0);
    let restart = hand.restart("a");
    hand.proven(r#gen);
    assert_eq!(hand.state("a"), "starting");
    hand.run("a");
    assert!(matches!(
        hand.reply(restart),
        Some(Reply::Reached { state: "up" })
    ));
}

#[test]
fn a_wait_for_what_needs_a_daemon_that_is_done_is_answered() {
    let mut a = spec("a");
    a.restart.when = crate::core::RestartWhen::Never;
    let mut hand = Hand::new(vec![a, requires("b", &["a"])]);
    let wait = hand.start("b");
    hand.run("a");
    hand.ends("a", 0);
    assert_eq!(hand.state("a"), "done");
    // b was starting when a went.
    let r#gen = hand.r#gen("b");
    hand.tell(Event::SpawnFailed {
        r#gen,
        error: failed(),
    });
    hand.proven(r#gen);
    assert!(matches!(
        hand.reply(wait),
        Some(Reply::Error(RequestError::Blocked { .. }))
    ));
}

#[test]
fn a_wait_below_something_that_cannot_come_back_is_answered() {
    let specs = vec![
        oneshot("a", &[]),
        requires("b", &["a"]),
        requires("c", &["b"]),
    ];
    let mut hand = Hand::new(specs);
    hand.run("a");
    hand.ends("a", 0);
    hand.run("b");
    hand.start("a");
    hand.run("a");
    hand.ends("a", 1);
    let r#gen = hand.r#gen("c");
    hand.tell(Event::SpawnFailed {
        r#gen,
        error: failed(),
    });
    hand.proven(r#gen);
    assert_eq!(hand.state("c"), "blocked");
    assert_eq!(hand.state("b"), "stopping");
    let wait = hand.start("c");
    assert_eq!(hand.reply(wait), None);
    hand.ends("b", 0);
    assert!(matches!(
        hand.reply(wait),
        Some(Reply::Error(RequestError::Blocked { .. }))
    ));
}

#[test]
fn a_wait_above_a_oneshot_that_got_done_too_late_is_answered() {
    let specs = vec![
        oneshot("a", &[]),
        oneshot("b", &["a"]),
        requires("c", &["b"]),
        requires("d", &["c"]),
    ];
    let mut hand = Hand::new(specs);
    hand.run("a");
    hand.ends("a", 0);
    hand.run("b");
    let wait = hand.start("d");
    let b = hand.r#gen("b");
    hand.exits("b", 0);
    hand.stop("a");
    assert_eq!(hand.reply(wait), None);
    hand.proven(b);
    assert_eq!(hand.state("b"), "done");
    assert!(matches!(
        hand.reply(wait),
        Some(Reply::Error(RequestError::Blocked { .. }))
    ));
}

// ---- leftovers, ghosts, shutdown ------------------------------------------------------------

fn leftover(number: u64, spec: Spec) -> Leftover {
    Leftover {
        spec,
        r#gen: GenId(number),
    }
}

#[test]
fn leftovers_whose_records_contradict_each_other_end_all_the_same() {
    let leftovers = vec![
        leftover(1, requires("a", &["b"])),
        leftover(2, requires("b", &["a"])),
    ];
    let mut hand = Hand::with(settings(ms(90_000)), vec![spec("a")], leftovers);
    assert!(hand.signalled(GenId(1)) && hand.signalled(GenId(2)));
    for number in [1, 2] {
        let r#gen = GenId(number);
        hand.tell(Event::Cgroup {
            r#gen,
            main: false,
            whole: false,
        });
        hand.proven(r#gen);
    }
    assert_eq!(hand.state("a"), "starting");
}

#[test]
fn a_stop_of_what_a_leftover_blocks_is_not_called_already_down() {
    let leftovers = vec![leftover(1, spec("a")), leftover(2, spec("gone"))];
    let mut hand = Hand::with(settings(ms(90_000)), vec![spec("a")], leftovers);
    let early = hand.stop("a");
    assert_eq!(hand.reply(early), None);
    hand.pass_ms(60_000);
    assert!(is_lingering(hand.reply(early)));
    let late = hand.stop("a");
    assert!(is_lingering(hand.reply(late)));
    let unconfigured = hand.stop("gone");
    assert!(is_lingering(hand.reply(unconfigured)));
}

#[test]
fn a_leftovers_receipt_is_shown_at_its_service() {
    let leftovers = vec![leftover(1, spec("a"))];
    let mut hand = Hand::with(settings(ms(90_000)), vec![spec("a")], leftovers);
    hand.tell(Event::Cgroup {
        r#gen: GenId(1),
        main: false,
        whole: false,
    });
    hand.proven(GenId(1));
    let view = hand.core.view("a").unwrap();
    assert_eq!(view.receipt.unwrap().cause, Cause::Leftover);
}

#[test]
fn what_was_set_aside_and_went_is_not_said_to_linger() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let old = hand.r#gen("a");
    hand.stop("a");
    hand.lingers("a");
    hand.ask(Request::Start {
        service: "a".into(),
        wait: false,
        force: true,
    });
    assert_eq!(hand.state("a"), "starting");
    hand.tell(Event::MainExited {
        r#gen: old,
        exit: Exit::Code(0),
    });
    hand.kill_done(old, false);
    hand.proven(old);
    let new = hand.r#gen("a");
    shutdown(&mut hand);
    hand.tell(Event::SpawnFailed {
        r#gen: new,
        error: failed(),
    });
    hand.proven(new);
    hand.tell(Event::Flushed);
    hand.tell(Event::Swept {
        report: crate::core::SweepReport::default(),
    });
    assert!(
        hand.has(|effect| matches!(effect, Effect::Finish(outcome) if outcome.exit_code() == 0))
    );
}

#[test]
fn a_service_started_beside_what_lingers_is_restarted_beside_it_too() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    hand.stop("a");
    hand.lingers("a");
    let unforced = hand.start("a");
    assert!(is_lingering(hand.reply(unforced)));
    hand.ask(Request::Start {
        service: "a".into(),
        wait: false,
        force: true,
    });
    hand.run("a");
    hand.ends("a", 1);
    assert_eq!(hand.state("a"), "starting");
}

#[test]
fn at_the_deadline_with_everything_hung_every_service_was_asked_and_is_named() {
    let chain = vec![spec("a"), requires("b", &["a"]), requires("c", &["b"])];
    let mut hand = Hand::with(settings(ms(3_000)), chain, Vec::new());
    for name in ["a", "b", "c"] {
        hand.run(name);
    }
    let gens = ["a", "b", "c"].map(|name| hand.r#gen(name));
    let request = shutdown(&mut hand);
    hand.pass_ms(3_000);
    for r#gen in gens {
        assert!(hand.signalled(r#gen) && hand.killed(r#gen));
    }
    assert!(
        matches!(hand.reply(request), Some(Reply::ShutDown { lingering, .. }) if lingering.len() == 3)
    );
    assert!(hand.has(|effect| matches!(effect, Effect::Finish(outcome)
        if outcome.exit_code() == 70 && outcome.lingering.len() == 3)));
}

#[test]
fn a_clock_that_jumps_past_the_deadline_asks_everybody_before_the_end() {
    let chain = vec![spec("a"), requires("b", &["a"]), requires("c", &["b"])];
    let mut hand = Hand::new(chain);
    for name in ["a", "b", "c"] {
        hand.run(name);
    }
    let gens = ["a", "b", "c"].map(|name| hand.r#gen(name));
    shutdown(&mut hand);
    hand.now_ms += 3_600_000;
    hand.pass_ms(0);
    for r#gen in gens {
        assert!(hand.signalled(r#gen) && hand.killed(r#gen));
    }
    assert!(hand.has(|effect| matches!(effect, Effect::Finish(_))));
}

#[test]
fn the_test_that_never_comes_back_keeps_a_stop_from_being_called_verified() {
    let mut a = spec("a");
    a.test = Some(Box::new(Test::new(Check::Exec(vec!["test".into()]))));
    let mut hand = Hand::new(vec![a]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    let aux: OpId = hand.aux(r#gen);
    hand.stop("a");
    hand.exits("a", 0);
    hand.scanned(r#gen, false);
    hand.pass_ms(6_000);
    assert_eq!(hand.state("a"), "lingering");
    hand.tell(Event::AuxEnded {
        r#gen,
        aux,
        error: None,
    });
    hand.proven(r#gen);
    assert_eq!(hand.receipts(r#gen)[1].verdict, Verdict::Verified);
}
