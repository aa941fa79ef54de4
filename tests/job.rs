//! The decisions of `nought run`, told as stories: what it asks for, in which order, and when.

#![expect(clippy::panic, reason = "tests may be blunt, in what they share too")]

use std::time::Duration;

use nought::core::job::GENERATION;
use nought::core::{
    Ask, Containment, Effect, Event, Exit, Fence, Guarantee, Job, JobSettings, KillReport, OpId,
    Proc, ScanQuality, ScanReport, Signal, Time, To, Verdict, Why,
};

const MS: Duration = Duration::from_millis(1);

fn at(ms: u64) -> Time {
    Time::from_nanos(ms * 1_000_000)
}

fn settings() -> JobSettings {
    JobSettings {
        grace: 5000 * MS,
        leak_grace: Duration::ZERO,
        settle: 100 * MS,
        kill_timeout: 1500 * MS,
        timeout: None,
        timeout_command: false,
    }
}

const GUARANTEE: Guarantee = Guarantee {
    containment: Containment::CgroupKill,
    scan: ScanQuality::Marked,
};

/// Everything it asks for now, in words.
fn asks(job: &mut Job) -> Vec<String> {
    std::iter::from_fn(|| job.poll())
        .map(|ask| word(&ask))
        .collect()
}

fn word(ask: &Ask) -> String {
    match ask {
        Ask::List => "list".into(),
        Ask::Evidence => "evidence".into(),
        Ask::Ended(receipt) => receipt.verdict.as_str().into(),
        Ask::Effect(Effect::Signal { signal, to, .. }) => match to {
            To::Reach(_) => format!("{signal} to all"),
            To::Rest(_) => format!("{signal} to the rest"),
        },
        Ask::Effect(Effect::Kill { op, .. }) => format!("kill {}", op.0),
        Ask::Effect(Effect::Scan { op, .. }) => format!("scan {}", op.0),
        Ask::Effect(Effect::Fence { op, .. }) => format!("fence {}", op.0),
        Ask::Effect(Effect::Inspect { op, .. }) => format!("inspect {}", op.0),
        Ask::Effect(Effect::RunAux { aux, .. }) => format!("run aux {}", aux.0),
        Ask::Effect(Effect::EndAux { aux, .. }) => format!("end aux {}", aux.0),
        Ask::Effect(other) => panic!("{other:?}"),
    }
}

fn cgroup(populated: bool) -> Event {
    Event::Cgroup {
        r#gen: GENERATION,
        main: populated,
        whole: populated,
    }
}

fn exited(code: i32) -> Event {
    Event::MainExited {
        r#gen: GENERATION,
        exit: Exit::Code(code),
    }
}

fn killed(op: u64) -> Event {
    let process = Proc {
        pid: 7,
        ppid: 1,
        comm: "stray".into(),
    };
    Event::Killed {
        r#gen: GENERATION,
        op: OpId(op),
        report: KillReport {
            populated: Some(false),
            killed: vec![process],
            error: None,
        },
    }
}

fn scanned(op: u64) -> Event {
    Event::Scanned {
        r#gen: GENERATION,
        op: OpId(op),
        report: ScanReport {
            populated: Some(false),
            conclusive: true,
            guarantee: GUARANTEE,
            ..ScanReport::default()
        },
    }
}

fn fenced(op: u64) -> Event {
    Event::Fenced {
        r#gen: GENERATION,
        op: OpId(op),
        result: Fence::Removed,
    }
}

/// From the pass on, all goes well.
fn proves(job: &mut Job, ms: u64, scan: u64) {
    job.handle(at(ms), scanned(scan));
    assert_eq!(asks(job), [format!("fence {}", scan + 1)]);
    job.handle(at(ms), fenced(scan + 1));
    assert_eq!(asks(job), ["verified"]);
    assert_eq!(job.poll_timeout(), None, "no timer runs after the verdict");
}

#[test]
fn a_command_that_leaves_nothing_is_proven_at_once() {
    let mut job = Job::new(settings(), GUARANTEE, at(0), 42);
    assert_eq!((asks(&mut job), job.poll_timeout()), (vec![], None));
    job.handle(at(10), cgroup(false));
    job.handle(at(10), exited(0));
    assert_eq!(asks(&mut job), ["scan 1"]);
    proves(&mut job, 11, 1);
    assert_eq!(job.why(), Why::Itself);
}

#[test]
fn what_goes_by_itself_within_the_moment_is_not_listed() {
    let mut job = Job::new(settings(), GUARANTEE, at(0), 42);
    job.handle(at(10), cgroup(true));
    job.handle(at(10), exited(0));
    assert_eq!(
        (asks(&mut job), job.poll_timeout()),
        (vec![], Some(at(110)))
    );
    job.handle(at(60), cgroup(false));
    assert_eq!(asks(&mut job), ["scan 1"]);
    proves(&mut job, 61, 1);
}

#[test]
fn what_stays_is_listed_before_anybody_is_touched_and_then_killed() {
    let mut job = Job::new(settings(), GUARANTEE, at(0), 42);
    job.handle(at(10), cgroup(true));
    job.handle(at(10), exited(0));
    job.handle_timeout(at(110));
    assert_eq!(asks(&mut job), ["list"]);
    assert_eq!(asks(&mut job), [""; 0], "nothing before it is answered");
    job.on_listed(at(112));
    assert_eq!(asks(&mut job), ["SIGTERM to the rest"]);
    job.handle_timeout(at(112));
    assert_eq!(asks(&mut job), ["kill 1"]);
    job.handle(at(113), killed(1));
    assert_eq!(asks(&mut job), ["scan 2"]);
    proves(&mut job, 114, 2);
}

#[test]
fn what_stays_has_its_leak_grace() {
    let settings = JobSettings {
        leak_grace: 2000 * MS,
        ..settings()
    };
    let mut job = Job::new(settings, GUARANTEE, at(0), 42);
    job.handle(at(0), cgroup(true));
    job.handle(at(0), exited(0));
    job.handle_timeout(at(100));
    job.on_listed(at(100));
    assert_eq!(asks(&mut job), ["list", "SIGTERM to the rest"]);
    assert_eq!(job.poll_timeout(), Some(at(2100)));
    job.handle(at(500), cgroup(false));
    assert_eq!(asks(&mut job), ["scan 1"], "no longer than they need");
    proves(&mut job, 501, 1);
}

#[test]
fn a_signal_goes_to_all_and_the_kill_comes_when_the_grace_is_over() {
    let mut job = Job::new(settings(), GUARANTEE, at(0), 42);
    job.on_signal(at(1000), Signal::INT);
    assert_eq!(asks(&mut job), ["SIGINT to all"]);
    assert_eq!(job.why(), Why::Signal(Signal::INT));
    assert_eq!(job.poll_timeout(), Some(at(6000)));
    job.on_signal(at(2000), Signal::TERM);
    assert_eq!(
        asks(&mut job),
        ["SIGTERM to all"],
        "another kind is passed on, too"
    );
    assert_eq!(job.poll_timeout(), Some(at(6000)), "and wins no time");
    job.handle_timeout(at(6000));
    assert_eq!(asks(&mut job), ["kill 1"]);
    job.handle(at(6001), killed(1));
    job.handle(
        at(6001),
        Event::MainExited {
            r#gen: GENERATION,
            exit: Exit::Signal {
                signal: 9,
                core: false,
            },
        },
    );
    assert_eq!(asks(&mut job), ["scan 2"]);
    proves(&mut job, 6002, 2);
}

#[test]
fn the_second_int_ends_the_grace_and_no_other_does() {
    let mut job = Job::new(settings(), GUARANTEE, at(0), 42);
    for signal in [Signal::TERM, Signal::TERM, Signal::INT] {
        job.on_signal(at(10), signal);
        job.handle_timeout(at(10));
    }
    assert_eq!(asks(&mut job), ["SIGTERM to all", "SIGINT to all"]);
    job.on_signal(at(20), Signal::INT);
    job.handle_timeout(at(20));
    assert_eq!(asks(&mut job), ["kill 1"]);
}

#[test]
fn when_the_time_is_over_the_evidence_comes_before_anybody_is_asked() {
    let settings = JobSettings {
        timeout: Some(300 * MS),
        timeout_command: true,
        ..settings()
    };
    let mut job = Job::new(settings, GUARANTEE, at(0), 42);
    assert_eq!(job.poll_timeout(), Some(at(300)));
    job.handle_timeout(at(299));
    assert_eq!(asks(&mut job), [""; 0]);
    job.handle_timeout(at(300));
    assert_eq!(asks(&mut job), ["evidence"]);
    job.on_evidence(at(305));
    assert_eq!(asks(&mut job), ["run aux 1"]);
    assert_eq!(job.poll_timeout(), Some(at(5305)), "it has the grace");
    let (r#gen, aux) = (GENERATION, OpId(1));
    job.handle(
        at(400),
        Event::AuxExited {
            r#gen,
            aux,
            exit: Exit::Code(0),
        },
    );
    assert_eq!(asks(&mut job), ["end aux 1", "SIGTERM to all"]);
    job.handle(
        at(401),
        Event::AuxEnded {
            r#gen,
            aux,
            error: None,
        },
    );
    job.handle(at(402), exited(0));
    job.handle(at(402), cgroup(false));
    assert_eq!(asks(&mut job), ["scan 2"]);
    proves(&mut job, 403, 2);
    assert_eq!(job.why(), Why::Timeout);
}

#[test]
fn a_signal_while_the_timeouts_command_runs_leaves_one_grace_for_both() {
    let settings = JobSettings {
        timeout: Some(300 * MS),
        timeout_command: true,
        ..settings()
    };
    let mut job = Job::new(settings, GUARANTEE, at(0), 42);
    job.handle_timeout(at(300));
    assert_eq!(asks(&mut job), ["evidence"]);
    job.on_evidence(at(300));
    assert_eq!(asks(&mut job), ["run aux 1"]);
    job.on_signal(at(1000), Signal::TERM);
    assert_eq!(asks(&mut job), ["SIGTERM to all"]);
    assert_eq!(job.poll_timeout(), Some(at(3500)));
    job.handle_timeout(at(3500));
    assert_eq!(asks(&mut job), ["end aux 1", "SIGTERM to all"]);
    assert_eq!(job.poll_timeout(), Some(at(6000)), "the grace of that TERM");
    job.handle_timeout(at(6000));
    assert_eq!(asks(&mut job), ["kill 2"]);
}

#[test]
fn a_timeout_that_a_signal_overtakes_stays_a_timeout() {
    let settings = JobSettings {
        timeout: Some(300 * MS),
        ..settings()
    };
    let mut job = Job::new(settings, GUARANTEE, at(0), 42);
    job.handle_timeout(at(300));
    job.on_signal(at(301), Signal::TERM);
    assert_eq!(asks(&mut job), ["SIGTERM to all"]);
    assert_eq!(job.why(), Why::Timeout);
    job.on_evidence(at(302));
    assert_eq!(asks(&mut job), [""; 0]);
}

#[test]
fn what_cannot_be_killed_is_said_within_seven_seconds_of_the_signal() {
    let mut job = Job::new(settings(), GUARANTEE, at(0), 42);
    job.on_signal(at(0), Signal::TERM);
    let mut now = at(0);
    let mut verdict = None;
    for _ in 0..10_000 {
        while let Some(ask) = job.poll() {
            match ask {
                Ask::Effect(Effect::Kill { op, .. }) => job.handle(
                    now,
                    Event::Killed {
                        r#gen: GENERATION,
                        op,
                        report: KillReport {
                            populated: Some(true),
                            ..KillReport::default()
                        },
                    },
                ),
                Ask::Ended(receipt) => verdict = Some(receipt.verdict),
                // An inspection that hangs.
                Ask::Effect(_) => {}
                Ask::List | Ask::Evidence => panic!("{ask:?}"),
            }
        }
        let Some(next) = job.poll_timeout() else {
            break;
        };
        now = next;
        job.handle_timeout(now);
    }
    assert_eq!(verdict, Some(Verdict::Lingering));
    assert!(now <= at(7000), "{now:?}");
}

#[test]
fn an_orphaned_job_is_killed_at_once() {
    let mut job = Job::orphaned(settings(), GUARANTEE, at(0));
    assert_eq!(asks(&mut job), ["SIGTERM to all"]);
    job.handle_timeout(at(0));
    assert_eq!(asks(&mut job), ["kill 1"]);
    job.handle(at(1), killed(1));
    assert_eq!(asks(&mut job), ["scan 2"]);
    proves(&mut job, 2, 2);
    assert_eq!(job.why(), Why::Orphaned);
}

#[test]
fn what_was_never_started_is_proven_all_the_same() {
    let mut job = Job::not_started(settings(), GUARANTEE, at(0));
    assert_eq!(asks(&mut job), ["scan 1"]);
    proves(&mut job, 1, 1);
    assert_eq!(job.why(), Why::NotStarted);
}
