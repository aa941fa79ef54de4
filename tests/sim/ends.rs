//! What remains of a service, what its end means to the others, and what the end of everything
//! says: one short story per situation.

use crate::core::{
    Check, Containment, Effect, EndAction, Event, Exit, Fence, Guarantee, Notice, Outcome, Reply,
    Request, RequestError, RestartWhen, ScanQuality, ScanReport, ShutdownKind, Spec, SweepReport,
    Test, Verdict,
};
use crate::hand::{Hand, failed, ms, requires, shutdown};
use crate::kernel::described;
use crate::scenario::{settings, spec};

fn remaining(name: &str) -> Spec {
    let mut spec = spec(name);
    spec.remain = true;
    spec
}

fn essential(name: &str) -> Spec {
    let mut spec = spec(name);
    spec.essential = true;
    spec.restart.when = RestartWhen::Never;
    spec
}

/// Everything that was asked to go has gone; the sweep says this.
fn outcome(hand: &mut Hand, report: SweepReport) -> Outcome {
    hand.tell(Event::Flushed);
    hand.tell(Event::Swept { report });
    let outcome = hand.effects.iter().find_map(|effect| match effect {
        Effect::Finish(outcome) => Some(outcome.clone()),
        _ => None,
    });
    outcome.unwrap()
}

// ---- what remains ---------------------------------------------------------------------------

#[test]
fn what_remains_is_the_service_and_an_exit_heard_twice_is_not_its_end() {
    let mut hand = Hand::new(vec![remaining("daemon"), requires("web", &["daemon"])]);
    hand.run("daemon");
    assert_eq!(hand.state("daemon"), "starting");
    hand.exits("daemon", 0);
    assert_eq!(
        (hand.state("daemon"), hand.state("web")),
        ("up", "starting")
    );
    hand.exits("daemon", 0);
    assert_eq!(hand.state("daemon"), "up");
    hand.run("web");
    let r#gen = hand.r#gen("daemon");
    hand.reads("daemon", false, false);
    assert_eq!(
        (hand.state("daemon"), hand.state("web")),
        ("stopping", "stopping")
    );
    hand.proven(r#gen);
    let why = hand
        .core
        .view("daemon")
        .unwrap()
        .last
        .unwrap()
        .failure
        .clone();
    assert_eq!(why.as_deref(), Some("what it left running has ended"));
}

#[test]
fn a_stop_of_what_remains_waits_for_its_dependents_and_gives_it_its_grace() {
    let mut daemon = remaining("daemon");
    (daemon.grace, daemon.exit_grace) = (ms(5_000), ms(10));
    let mut hand = Hand::new(vec![daemon, requires("web", &["daemon"])]);
    hand.run("daemon");
    hand.exits("daemon", 0);
    hand.run("web");
    let r#gen = hand.r#gen("daemon");
    hand.stop("daemon");
    assert_eq!(
        (hand.state("daemon"), hand.state("web")),
        ("up", "stopping")
    );
    hand.ends("web", 0);
    assert_eq!(hand.state("daemon"), "stopping");
    assert!(hand.signalled(r#gen));
    hand.pass_ms(4_999);
    assert!(!hand.killed(r#gen));
    hand.pass_ms(1);
    assert!(hand.killed(r#gen));
}

#[test]
fn an_exit_with_a_code_leaves_nothing_to_remain() {
    let mut hand = Hand::new(vec![remaining("daemon")]);
    hand.run("daemon");
    let r#gen = hand.r#gen("daemon");
    hand.tell(Event::MainExited {
        r#gen,
        exit: Exit::Code(1),
    });
    assert_eq!(hand.state("daemon"), "stopping");
}

// ---- the end of one is the end of all -------------------------------------------------------

#[test]
fn an_essential_end_stops_the_others_in_their_order_with_its_code() {
    let mut app = essential("app");
    app.requires = vec!["db".into()];
    let mut hand = Hand::new(vec![spec("db"), app]);
    hand.run("db");
    hand.run("app");
    let db = hand.r#gen("db");
    let app = hand.r#gen("app");
    hand.exits("app", 42);
    assert_eq!(
        hand.state("db"),
        "up",
        "not before what was left of it has a verdict"
    );
    hand.proven(app);
    assert_eq!(hand.state("db"), "stopping");
    hand.exits("db", 0);
    hand.proven(db);
    let outcome = outcome(&mut hand, SweepReport::default());
    assert_eq!(outcome.exit_code(), 42);
    assert_eq!(outcome.because.unwrap().service, "app");
}

#[test]
fn what_was_asked_to_stop_or_is_started_again_stops_nothing() {
    let mut again = essential("again");
    again.restart.when = RestartWhen::OnFailure;
    let mut hand = Hand::new(vec![essential("app"), again]);
    hand.run("app");
    hand.run("again");
    hand.stop("app");
    hand.ends("app", 1);
    hand.ends("again", 1);
    assert!(!hand.core.shutting_down());
    hand.run("again");
    hand.ends("again", 0);
    assert!(
        hand.core.shutting_down(),
        "an end that its policy does not mend"
    );
}

#[test]
fn one_that_is_given_up_has_failed_whatever_its_last_exit_was() {
    let mut app = spec("app");
    app.on_failure = EndAction::StopAll;
    app.restart.burst = Some(1);
    let mut hand = Hand::new(vec![app]);
    for _ in 0..2 {
        assert!(!hand.core.shutting_down());
        hand.run("app");
        hand.ends("app", 0);
    }
    assert!(hand.core.shutting_down());
    assert_eq!(outcome(&mut hand, SweepReport::default()).exit_code(), 125);
}

#[test]
fn what_lingers_of_an_essential_service_holds_the_end_up_no_longer() {
    let mut hand = Hand::new(vec![essential("app"), spec("web")]);
    hand.run("app");
    hand.run("web");
    let r#gen = hand.r#gen("app");
    hand.tell(Event::MainExited {
        r#gen,
        exit: Exit::Code(3),
    });
    hand.lingers("app");
    assert!(hand.core.shutting_down());
    assert_ne!(hand.state("web"), "up");
}

#[test]
fn what_this_place_cannot_promise_is_not_started() {
    let mut strict = essential("strict");
    strict.min_guarantee = Some(Guarantee {
        containment: Containment::CgroupKill,
        scan: ScanQuality::Marked,
    });
    let mut here = settings(ms(90_000));
    here.guarantee.scan = ScanQuality::Descent;
    here.shortfall = "time namespaces are not allowed".into();
    let mut plain = strict.clone();
    plain.essential = false;
    let mut hand = Hand::with(here.clone(), vec![plain], Vec::new());
    let detail = hand.core.view("strict").unwrap().detail;
    assert_eq!(
        detail,
        "its min_guarantee asks for marked, and this place has cgroup-kill descent \
         (time namespaces are not allowed)"
    );
    let start = hand.start("strict");
    assert!(matches!(
        hand.reply(start),
        Some(Reply::Error(RequestError::Refused { .. }))
    ));
    assert!(!hand.has(|effect| matches!(effect, Effect::Spawn { .. })));
    // Essential, it ends everything: nobody waits for what will never run.
    let mut hand = Hand::with(here, vec![strict], Vec::new());
    assert_eq!(outcome(&mut hand, SweepReport::default()).exit_code(), 125);
}

// ---- tests that do not end ------------------------------------------------------------------

#[test]
fn a_test_that_cannot_be_ended_fails_the_start_instead_of_holding_it_for_ever() {
    let mut web = spec("web");
    web.test = Some(Box::new(Test::new(Check::Exec(vec!["test".into()]))));
    web.kill_timeout = ms(5_000);
    let mut hand = Hand::new(vec![web]);
    hand.run("web");
    let r#gen = hand.r#gen("web");
    // The first run takes too long, is to be ended, and that never comes back.
    hand.pass_ms(10_000);
    assert!(hand.has(|effect| matches!(effect, Effect::EndAux { .. })));
    hand.pass_ms(5_000);
    assert_eq!(hand.state("web"), "starting");
    hand.pass_ms(100);
    assert_eq!(hand.state("web"), "stopping");
    assert!(hand.signalled(r#gen));
    let tests = |effect: &&Effect| matches!(effect, Effect::RunAux { .. });
    assert_eq!(hand.effects.iter().filter(tests).count(), 1);
}

// ---- what is known in the end ---------------------------------------------------------------

#[test]
fn passes_that_fail_and_know_of_somebody_end_lingering() {
    let mut hand = Hand::new(vec![spec("web")]);
    hand.run("web");
    let r#gen = hand.r#gen("web");
    hand.stop("web");
    hand.exits("web", 0);
    for _ in 0..3 {
        let op = hand.scan_op(r#gen);
        let report = ScanReport {
            populated: Some(false),
            escaped: vec![described(77)],
            alive: vec![described(77)],
            error: Some(failed()),
            ..ScanReport::default()
        };
        hand.tell(Event::Scanned { r#gen, op, report });
        hand.pass_ms(300);
    }
    hand.fenced(r#gen, Fence::Removed);
    let receipt = hand.receipts(r#gen)[0];
    assert_eq!(receipt.verdict, Verdict::Lingering);
    assert_eq!(receipt.survivors[0].pid, 77);
}

#[test]
fn a_sure_sweep_outweighs_what_was_not_proven_earlier() {
    let unproven = |report: SweepReport| {
        let mut hand = Hand::new(vec![spec("web")]);
        hand.run("web");
        let r#gen = hand.r#gen("web");
        hand.stop("web");
        hand.exits("web", 0);
        let op = hand.scan_op(r#gen);
        let report_of_scan = ScanReport {
            populated: Some(false),
            conclusive: true,
            ..ScanReport::default()
        };
        hand.tell(Event::Scanned {
            r#gen,
            op,
            report: report_of_scan,
        });
        hand.fenced(r#gen, Fence::Failed(failed()));
        assert_eq!(hand.receipts(r#gen)[0].verdict, Verdict::Unverified);
        shutdown(&mut hand);
        let outcome = outcome(&mut hand, report);
        assert_eq!(outcome.unverified, ["web"]);
        outcome.exit_code()
    };
    assert_eq!(unproven(SweepReport::default()), 0);
    let doubtful = SweepReport {
        error: Some(failed()),
        ..SweepReport::default()
    };
    assert_eq!(unproven(doubtful), 71);
}

#[test]
fn of_two_ends_the_later_counts_and_takes_no_new_time() {
    let mut hand = Hand::new(vec![spec("web")]);
    hand.run("web");
    shutdown(&mut hand);
    let kind = ShutdownKind::Reboot;
    hand.ask(Request::Shutdown { kind });
    let turned = |effect: &Effect| {
        matches!(
            effect,
            Effect::Notice(Notice::ShutdownTurned {
                kind: ShutdownKind::Reboot
            })
        )
    };
    assert_eq!(
        hand.effects.iter().filter(|effect| turned(effect)).count(),
        1
    );
    let r#gen = hand.r#gen("web");
    hand.exits("web", 0);
    hand.proven(r#gen);
    let outcome = outcome(&mut hand, SweepReport::default());
    assert_eq!((outcome.kind, outcome.asked), (ShutdownKind::Reboot, true));
}
