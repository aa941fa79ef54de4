//! Each was wrong once, or is easily got wrong: one short story per situation.

use crate::core::{
    Check, Effect, Event, Exit, Fence, Reply, RequestError, ScanReport, Test, Verdict,
};
use crate::hand::{Hand, failed, ms, oneshot, requires, shutdown, web_on_setup_on_db};
use crate::scenario::spec;

// ---- readiness and starts -------------------------------------------------------------------

#[test]
fn a_oneshot_is_ready_by_its_exit_and_not_by_a_test() {
    let mut setup = oneshot("setup", &[]);
    setup.test = Some(Box::new(Test::new(Check::Exec(vec!["test".into()]))));
    let mut hand = Hand::new(vec![setup, requires("web", &["setup"])]);
    hand.run("setup");
    assert!(!hand.has(|effect| matches!(effect, Effect::RunAux { .. })));
    assert_eq!(hand.state("web"), "blocked");
    hand.ends("setup", 0);
    assert_eq!(hand.state("web"), "starting");
}

#[test]
fn a_start_waits_for_what_a_done_oneshot_requires() {
    let mut hand = web_on_setup_on_db();
    let stop = hand.stop("db");
    hand.ends("web", 0);
    assert_eq!(hand.state("web"), "blocked");
    hand.ends("db", 0);
    assert!(matches!(hand.reply(stop), Some(Reply::Stopped(_))));
    assert_eq!(hand.state("web"), "blocked");
    let wait = hand.start("web");
    assert!(matches!(
        hand.reply(wait),
        Some(Reply::Error(RequestError::Blocked { .. }))
    ));
    hand.start("db");
    hand.run("db");
    assert_eq!(hand.state("web"), "starting");
}

#[test]
fn a_start_timeout_that_met_a_pending_stop_comes_again_when_that_is_taken_back() {
    let mut db = spec("db");
    db.test = Some(Box::new(Test::new(Check::Exec(vec!["test".into()]))));
    let mut setup = oneshot("setup", &[]);
    setup.start_timeout = Some(ms(1_000));
    let mut hand = Hand::new(vec![setup, requires("web", &["setup"])]);
    hand.run("setup");
    hand.ends("setup", 0);
    hand.run("web");
    // A second run of the oneshot, while web stays up; its stop waits for web.
    hand.start("setup");
    hand.run("setup");
    hand.stop("setup");
    assert_eq!(hand.state("web"), "stopping");
    hand.pass_ms(2_000);
    assert_eq!(hand.state("setup"), "starting");
    hand.start("setup");
    let r#gen = hand.r#gen("web");
    hand.exits("web", 0);
    hand.proven(r#gen);
    hand.pass_ms(2_000);
    assert_eq!(hand.state("setup"), "stopping", "its start took too long");
}

#[test]
fn a_oneshot_that_got_done_while_its_dependency_went_down_is_done() {
    let mut hand = Hand::new(vec![
        spec("db"),
        oneshot("setup", &["db"]),
        requires("web", &["setup"]),
    ]);
    hand.run("db");
    hand.run("setup");
    hand.ends("setup", 0);
    hand.run("web");
    hand.start("setup");
    hand.run("setup");
    hand.stop("db");
    // setup waits for web, and gets done meanwhile.
    assert_eq!(hand.state("setup"), "starting");
    hand.ends("setup", 0);
    assert_eq!(hand.state("setup"), "done");
}

#[test]
fn a_second_run_of_a_oneshot_that_fails_takes_its_requirers_along() {
    let mut hand = Hand::new(vec![oneshot("setup", &[]), requires("web", &["setup"])]);
    hand.run("setup");
    hand.ends("setup", 0);
    hand.run("web");
    hand.start("setup");
    hand.run("setup");
    hand.ends("setup", 1);
    assert_eq!(hand.state("setup"), "failed");
    assert_eq!(hand.state("web"), "stopping");
}

#[test]
fn time_spent_lingering_is_not_uptime() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let first = hand.r#gen("a");
    hand.ends("a", 1);
    assert_eq!(hand.state("a"), "starting", "the first restart is at once");
    hand.run("a");
    let second = hand.r#gen("a");
    assert!(second > first);
    hand.tell(Event::MainExited {
        r#gen: second,
        exit: Exit::Code(1),
    });
    hand.lingers("a");
    hand.kill_done(second, false);
    hand.proven(second);
    assert_eq!(hand.state("a"), "backoff", "it was not up for long");
}

// ---- asking ---------------------------------------------------------------------------------

#[test]
fn an_early_empty_reading_does_not_cost_the_grace_of_what_was_left_behind() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.reads("a", false, false);
    hand.exits("a", 0);
    hand.scanned(r#gen, true);
    assert!(hand.signalled(r#gen));
    hand.pass_ms(1_900);
    assert!(!hand.killed(r#gen));
    hand.pass_ms(200);
    assert!(hand.killed(r#gen));
}

#[test]
fn the_proof_does_not_run_out_while_the_grace_goes_on() {
    let mut a = spec("a");
    a.grace = ms(30_000);
    let mut hand = Hand::new(vec![a]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.exits("a", 0);
    hand.scanned(r#gen, true);
    hand.pass_ms(20_000);
    assert_eq!(hand.state("a"), "stopping");
    assert!(!hand.killed(r#gen));
    hand.pass_ms(10_000);
    assert!(hand.killed(r#gen));
}

#[test]
fn a_proof_that_hangs_on_an_early_reading_still_ends_in_a_kill() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.exits("a", 0);
    hand.reads("a", true, true);
    hand.pass_ms(5_000);
    assert!(hand.signalled(r#gen));
    hand.pass_ms(2_000);
    assert!(hand.killed(r#gen));
}

#[test]
fn a_start_under_way_is_awaited_although_the_grace_is_zero() {
    let mut a = spec("a");
    a.grace = ms(0);
    let mut hand = Hand::new(vec![a]);
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.pass_ms(100);
    hand.tell(Event::Spawned { r#gen, pid: 7 });
    assert!(hand.signalled(r#gen));
}

#[test]
fn the_grace_begins_when_the_signal_is_sent_and_not_while_the_start_is_awaited() {
    let mut a = spec("a");
    a.grace = ms(4_000);
    let mut hand = Hand::new(vec![a]);
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.pass_ms(3_900);
    hand.tell(Event::Spawned { r#gen, pid: 7 });
    hand.pass_ms(3_900);
    assert!(!hand.killed(r#gen));
    hand.pass_ms(200);
    assert!(hand.killed(r#gen));
}

#[test]
fn a_stop_command_that_hangs_leaves_the_signal_its_grace() {
    let mut a = spec("a");
    a.stop_command = Some(vec!["stop".into()]);
    let mut hand = Hand::new(vec![a]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.pass_ms(10_000);
    assert!(hand.signalled(r#gen));
    hand.pass_ms(9_000);
    assert!(!hand.killed(r#gen));
    hand.pass_ms(1_100);
    assert!(hand.killed(r#gen));
}

#[test]
fn hurry_waits_for_a_start_and_then_kills_at_once() {
    let mut hand = Hand::new(vec![spec("a")]);
    let r#gen = hand.r#gen("a");
    hand.tell(Event::Terminate);
    hand.tell(Event::Terminate);
    hand.pass_ms(10);
    assert_eq!(hand.state("a"), "stopping");
    hand.tell(Event::Spawned { r#gen, pid: 7 });
    assert!(hand.signalled(r#gen));
    hand.pass_ms(0);
    assert!(hand.killed(r#gen));
}

#[test]
fn hurry_reaches_a_proof_that_goes_back_to_waiting() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    shutdown(&mut hand);
    hand.exits("a", 0);
    hand.tell(Event::Terminate);
    hand.scanned(r#gen, true);
    hand.pass_ms(0);
    assert!(hand.killed(r#gen));
}

#[test]
fn a_shutdown_leaves_what_was_left_behind_its_own_grace() {
    let mut a = spec("a");
    a.grace = ms(0);
    let mut hand = Hand::new(vec![a]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.tell(Event::MainExited {
        r#gen,
        exit: Exit::Code(0),
    });
    shutdown(&mut hand);
    hand.pass_ms(1_900);
    assert!(!hand.killed(r#gen));
}

// ---- the proof ------------------------------------------------------------------------------

/// Inconclusive empty passes before a kill say nothing about what was after it.
#[test]
fn empty_passes_before_a_kill_do_not_count() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    let pass = |hand: &mut Hand, populated: bool| {
        let op = hand.scan_op(r#gen);
        let report = ScanReport {
            populated: Some(populated),
            ..ScanReport::default()
        };
        hand.tell(Event::Scanned { r#gen, op, report });
    };
    let fenced = |hand: &Hand| hand.has(|effect| matches!(effect, Effect::Fence { .. }));
    hand.exits("a", 0);
    pass(&mut hand, false);
    pass(&mut hand, false);
    pass(&mut hand, true);
    hand.pass_ms(2_000);
    hand.kill_done(r#gen, false);
    pass(&mut hand, false);
    pass(&mut hand, false);
    assert!(!fenced(&hand));
    pass(&mut hand, false);
    assert!(fenced(&hand));
}

#[test]
fn a_failed_start_during_the_inspection_is_looked_into() {
    let mut hand = Hand::new(vec![spec("a")]);
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.pass_ms(5_100);
    hand.tell(Event::SpawnFailed {
        r#gen,
        error: failed(),
    });
    hand.pass_ms(1_000);
    assert_eq!(hand.state("a"), "lingering");
    hand.proven(r#gen);
    assert_eq!(hand.state("a"), "down");
    let verdicts = hand
        .receipts(r#gen)
        .into_iter()
        .map(|r| (r.verdict, r.late));
    let verdicts: Vec<(Verdict, bool)> = verdicts.collect();
    assert_eq!(
        verdicts,
        [(Verdict::Lingering, false), (Verdict::Verified, true)]
    );
}

#[test]
fn nothing_is_verified_while_a_kill_is_under_way() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.lingers("a");
    let first = hand.kill_op(r#gen);
    hand.exits("a", 0);
    hand.scanned(r#gen, false);
    assert_eq!(hand.state("a"), "lingering");
    hand.tell(Event::Killed {
        r#gen,
        op: first,
        report: crate::core::KillReport {
            populated: Some(false),
            ..Default::default()
        },
    });
    hand.proven(r#gen);
    assert_eq!(hand.state("a"), "down");
}

#[test]
fn a_late_pass_that_hangs_gives_way_to_the_next_hint() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.lingers("a");
    hand.kill_done(r#gen, true);
    let hung = hand.scan_op(r#gen);
    hand.pass_ms(5_100);
    assert_eq!(
        hand.core.poll_timeout(),
        None,
        "lingering, it does not wake"
    );
    hand.exits("a", 0);
    assert!(hand.scan_op(r#gen) > hung);
    hand.proven(r#gen);
    assert_eq!(hand.state("a"), "down");
}

#[test]
fn a_late_pass_that_fails_is_made_again() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.lingers("a");
    hand.kill_done(r#gen, false);
    let op = hand.scan_op(r#gen);
    hand.pass_ms(4_999);
    let report = ScanReport {
        populated: Some(false),
        error: Some(failed()),
        ..ScanReport::default()
    };
    hand.tell(Event::Scanned { r#gen, op, report });
    hand.pass_ms(100);
    assert!(hand.scan_op(r#gen) > op);
}

#[test]
fn late_passes_that_all_fail_are_made_again_after_a_pause() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.lingers("a");
    hand.exits("a", 0);
    hand.kill_done(r#gen, false);
    for _ in 0..40 {
        let op = hand.scan_op(r#gen);
        let report = ScanReport {
            populated: Some(false),
            error: Some(failed()),
            ..ScanReport::default()
        };
        hand.tell(Event::Scanned { r#gen, op, report });
        hand.pass_ms(250);
    }
    let last = hand.scan_op(r#gen);
    hand.pass_ms(30_000);
    assert!(hand.scan_op(r#gen) > last);
    hand.proven(r#gen);
    assert_eq!(hand.state("a"), "down");
}

#[test]
fn a_survivor_that_nobody_killed_is_looked_after_at_once() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.exits("a", 0);
    let hung = hand.scan_op(r#gen);
    hand.pass_ms(5_000);
    let op = hand.op(|effect| match effect {
        Effect::Inspect { op, .. } => Some(*op),
        _ => None,
    });
    let survivors = vec![crate::core::Survivor {
        pid: 77,
        ..Default::default()
    }];
    hand.tell(Event::Inspected {
        r#gen,
        op,
        survivors,
    });
    assert_eq!(hand.state("a"), "lingering");
    assert!(hand.scan_op(r#gen) > hung);
}

#[test]
fn a_main_process_that_was_not_reaped_is_never_called_gone() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.reads("a", false, false);
    hand.stop("a");
    hand.pass_ms(60_000);
    assert_eq!(hand.receipts(r#gen)[0].verdict, Verdict::Lingering);
}

#[test]
fn what_comes_back_into_a_lingering_generation_is_killed_once() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.lingers("a");
    hand.kill_done(r#gen, false);
    hand.scanned(r#gen, false);
    hand.fenced(r#gen, Fence::Busy);
    hand.forget();
    hand.pass_ms(10);
    hand.scanned(r#gen, true);
    assert!(hand.killed(r#gen));
    hand.kill_done(r#gen, true);
    hand.forget();
    hand.pass_ms(20_000);
    assert!(!hand.killed(r#gen), "what is unkillable is not hammered");
}

#[test]
fn a_pass_that_could_not_read_the_cgroup_proves_nothing() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.exits("a", 0);
    for _ in 0..3 {
        let op = hand.scan_op(r#gen);
        let report = ScanReport {
            conclusive: true,
            ..ScanReport::default()
        };
        hand.tell(Event::Scanned { r#gen, op, report });
        hand.pass_ms(300);
    }
    hand.fenced(r#gen, Fence::Removed);
    assert_eq!(hand.receipts(r#gen)[0].verdict, Verdict::Unverified);
}

#[test]
fn a_long_story_still_has_its_fence_on_the_receipt() {
    let mut a = spec("a");
    a.kill_timeout = ms(600_000);
    let mut hand = Hand::new(vec![a]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.pass_ms(10_000);
    for _ in 0..400 {
        hand.kill_done(r#gen, true);
        hand.pass_ms(250);
    }
    hand.exits("a", 0);
    hand.kill_done(r#gen, false);
    hand.proven(r#gen);
    let receipt = hand.receipts(r#gen)[0];
    assert_eq!(receipt.verdict, Verdict::Verified);
    assert!(receipt.steps.len() < 300);
    assert_eq!(receipt.steps.last().unwrap().rung.as_str(), "fence");
}

#[test]
fn who_has_gone_is_forgotten_and_what_was_asked_for_goes_on() {
    let mut db = spec("db");
    db.test = Some(Box::new(Test::new(Check::Exec(vec!["test".into()]))));
    let mut hand = Hand::new(vec![db]);
    let r#gen = hand.r#gen("db");
    hand.tell(Event::Spawned { r#gen, pid: 7 });
    let gone = [hand.start("db"), hand.start("db")];
    let stays = hand.start("db");
    hand.core.forsake(&gone.into());
    let stop = hand.stop("db");
    hand.core.forsake(&[stop].into());
    assert_eq!(hand.state("db"), "stopping");
    assert!(matches!(
        hand.reply(stays),
        Some(Reply::Error(RequestError::Superseded { .. }))
    ));
    hand.ends("db", 0);
    assert_eq!(hand.state("db"), "down");
    let answered = gone.into_iter().chain([stop]);
    assert!(
        answered
            .into_iter()
            .all(|request| hand.reply(request).is_none())
    );
}
