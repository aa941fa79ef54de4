//! Passes that cannot tell somebody, or fail: what they say of who survives.

use crate::core::{Event, Fence, ScanReport, Verdict};
use crate::hand::{Hand, failed};
use crate::scenario::spec;

fn doubtful(alive: &[u32]) -> ScanReport {
    let process = |pid: &u32| crate::core::Proc {
        pid: *pid,
        ppid: 1,
        comm: "left".into(),
    };
    ScanReport {
        populated: Some(false),
        alive: alive.iter().map(process).collect(),
        error: Some(failed()),
        doubtful: true,
        ..ScanReport::default()
    }
}

/// A doubt is no survivor: nobody of it is known to live, and that cannot be proven.
#[test]
fn what_lingers_turns_unverified_when_only_a_doubt_is_left() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.lingers("a");
    hand.exits("a", 0);
    hand.kill_done(r#gen, false);
    for _ in 0..3 {
        let op = hand.scan_op(r#gen);
        let report = doubtful(&[]);
        hand.tell(Event::Scanned { r#gen, op, report });
        hand.pass_ms(250);
    }
    hand.fenced(r#gen, Fence::Removed);
    let late = hand.receipts(r#gen)[1];
    assert_eq!((late.verdict, late.late), (Verdict::Unverified, true));
    assert!(late.reason.is_some() && late.survivors.is_empty());
    assert_eq!(hand.state("a"), "down", "and a start is not refused for it");
}

#[test]
fn what_lingers_goes_on_lingering_while_a_doubtful_pass_knows_a_survivor() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.stop("a");
    hand.lingers("a");
    hand.exits("a", 0);
    hand.kill_done(r#gen, false);
    for _ in 0..6 {
        let op = hand.scan_op(r#gen);
        let report = doubtful(&[77]);
        hand.tell(Event::Scanned { r#gen, op, report });
        hand.pass_ms(250);
    }
    assert_eq!(hand.state("a"), "lingering");
    assert_eq!(hand.receipts(r#gen).len(), 1);
}

/// Passes that fail prove nothing; whom they met lives all the same.
#[test]
fn three_passes_that_fail_and_name_somebody_end_lingering() {
    let mut hand = Hand::new(vec![spec("a")]);
    hand.run("a");
    let r#gen = hand.r#gen("a");
    hand.exits("a", 0);
    for alive in [&[77][..], &[], &[]] {
        let op = hand.scan_op(r#gen);
        let report = ScanReport {
            doubtful: false,
            ..doubtful(alive)
        };
        hand.tell(Event::Scanned { r#gen, op, report });
        hand.pass_ms(300);
    }
    hand.fenced(r#gen, Fence::Removed);
    let receipt = hand.receipts(r#gen)[0];
    assert_eq!(receipt.verdict, Verdict::Lingering);
    assert_eq!(receipt.survivors[0].pid, 77);
}
