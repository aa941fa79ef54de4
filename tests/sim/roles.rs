//! Roles, and stop orders of their own: one short story per situation.

use crate::core::{Effect, Outcome, Reply, Request, RestartWhen, Role, Spec, SweepReport};
use crate::hand::{Hand, shutdown};
use crate::scenario::spec;

fn role(name: &str, role: Role) -> Spec {
    let mut spec = spec(name);
    spec.role = Some(role);
    match role {
        Role::Main => spec.restart.when = RestartWhen::Never,
        Role::Init => spec.oneshot = true,
        Role::Sidecar => {}
    }
    spec
}

fn starts(hand: &Hand, name: &str) -> u64 {
    hand.core.view(name).unwrap().starts
}

fn outcome(hand: &mut Hand) -> Outcome {
    use crate::core::Event;
    hand.tell(Event::Flushed);
    hand.tell(Event::Swept {
        report: SweepReport::default(),
    });
    let found = hand.effects.iter().find_map(|effect| match effect {
        Effect::Finish(outcome) => Some(outcome.clone()),
        _ => None,
    });
    found.unwrap()
}

/// It ends by itself, and nothing is left of it.
fn ends(hand: &mut Hand, name: &str, code: i32) {
    let r#gen = hand.r#gen(name);
    hand.exits(name, code);
    hand.proven(r#gen);
}

#[test]
fn the_last_main_decides_and_the_first_that_failed_gives_the_code() {
    let mut hand = Hand::new(vec![
        role("fetch", Role::Init),
        role("proxy", Role::Sidecar),
        role("one", Role::Main),
        role("two", Role::Main),
    ]);
    assert_eq!(
        (hand.state("proxy"), hand.state("one")),
        ("blocked", "blocked")
    );
    hand.run("fetch");
    ends(&mut hand, "fetch", 0);
    assert_eq!(
        (hand.state("fetch"), hand.state("proxy")),
        ("done", "starting")
    );
    hand.run("proxy");
    hand.run("one");
    hand.run("two");
    ends(&mut hand, "one", 3);
    assert_eq!((hand.state("one"), hand.state("proxy")), ("failed", "up"));
    // Its exit code means nothing, and it comes back.
    ends(&mut hand, "proxy", 9);
    assert_eq!(hand.state("proxy"), "starting");
    hand.run("proxy");
    ends(&mut hand, "two", 0);
    assert_eq!(hand.state("proxy"), "stopping");
    ends(&mut hand, "proxy", 143);
    let outcome = outcome(&mut hand);
    assert_eq!(outcome.exit_code(), 3);
    assert_eq!(outcome.because.unwrap().service, "one");
}

#[test]
fn a_main_that_was_stopped_by_request_decides_nothing() {
    let mut hand = Hand::new(vec![role("proxy", Role::Sidecar), role("job", Role::Main)]);
    hand.run("proxy");
    hand.run("job");
    let job = hand.r#gen("job");
    hand.stop("job");
    hand.exits("job", 1);
    hand.proven(job);
    assert_eq!((hand.state("job"), hand.state("proxy")), ("down", "up"));
}

#[test]
fn a_sidecar_comes_back_until_the_mains_have_gone_and_is_asked_last() {
    let mut hand = Hand::new(vec![
        role("a-proxy", Role::Sidecar),
        role("b-logs", Role::Sidecar),
        role("web", Role::Main),
    ]);
    for name in ["a-proxy", "b-logs", "web"] {
        hand.run(name);
    }
    shutdown(&mut hand);
    assert_eq!(hand.state("web"), "stopping");
    assert_eq!((hand.state("a-proxy"), hand.state("b-logs")), ("up", "up"));
    ends(&mut hand, "b-logs", 1);
    assert_eq!(
        (hand.state("b-logs"), starts(&hand, "b-logs")),
        ("starting", 2)
    );
    hand.run("b-logs");
    // The second time after a pause, as always.
    ends(&mut hand, "b-logs", 1);
    assert_eq!(hand.state("b-logs"), "backoff");
    hand.pass_ms(400);
    assert_eq!(
        (hand.state("b-logs"), starts(&hand, "b-logs")),
        ("starting", 3)
    );
    hand.run("b-logs");
    ends(&mut hand, "web", 0);
    assert_eq!(
        (hand.state("b-logs"), hand.state("a-proxy")),
        ("stopping", "up")
    );
    ends(&mut hand, "b-logs", 0);
    assert_eq!(
        (hand.state("b-logs"), hand.state("a-proxy")),
        ("down", "stopping")
    );
    ends(&mut hand, "a-proxy", 0);
    assert_eq!(outcome(&mut hand).exit_code(), 0);
}

#[test]
fn a_sidecar_that_pauses_when_the_last_main_goes_is_not_waited_for() {
    let mut hand = Hand::new(vec![role("proxy", Role::Sidecar), role("web", Role::Main)]);
    hand.run("proxy");
    hand.run("web");
    ends(&mut hand, "proxy", 1);
    hand.run("proxy");
    ends(&mut hand, "proxy", 1);
    assert_eq!(hand.state("proxy"), "backoff");
    shutdown(&mut hand);
    assert_eq!(hand.state("proxy"), "backoff");
    ends(&mut hand, "web", 0);
    assert_eq!(hand.state("proxy"), "down");
    assert_eq!(outcome(&mut hand).exit_code(), 0);
}

#[test]
fn stop_after_turns_the_order_of_stops_and_not_that_of_starts() {
    let mut web = spec("web");
    web.after = vec!["php".into()];
    web.stop_after = vec!["php".into()];
    let mut hand = Hand::new(vec![spec("php"), web]);
    assert_eq!(hand.state("web"), "blocked");
    hand.run("php");
    hand.run("web");
    shutdown(&mut hand);
    assert_eq!((hand.state("php"), hand.state("web")), ("stopping", "up"));
    ends(&mut hand, "php", 0);
    assert_eq!(hand.state("web"), "stopping");
}

#[test]
fn stop_after_that_closes_a_cycle_has_no_effect_and_is_said() {
    let mut web = spec("web");
    web.requires = vec!["db".into()];
    web.stop_after = vec!["db".into()];
    let mut hand = Hand::new(vec![spec("db"), web]);
    let said = format!("{:?}", hand.effects);
    assert!(said.contains("closes a cycle"), "{said}");
    hand.run("db");
    hand.run("web");
    shutdown(&mut hand);
    assert_eq!((hand.state("db"), hand.state("web")), ("up", "stopping"));
}

fn load(hand: &mut Hand, spec: Spec) {
    let spec = Box::new(spec);
    let request = hand.ask(Request::Load { spec });
    assert_eq!(hand.reply(request), Some(&Reply::Accepted));
}

#[test]
fn a_main_that_is_taken_in_comes_after_the_sequence_and_decides_with_the_others() {
    let mut hand = Hand::new(vec![
        role("fetch", Role::Init),
        role("proxy", Role::Sidecar),
        role("one", Role::Main),
    ]);
    hand.run("fetch");
    load(&mut hand, role("two", Role::Main));
    assert_eq!(hand.state("two"), "blocked");
    ends(&mut hand, "fetch", 0);
    assert_eq!(hand.state("two"), "blocked");
    hand.run("proxy");
    hand.run("one");
    hand.run("two");
    ends(&mut hand, "one", 0);
    assert_eq!(hand.state("proxy"), "up", "two is a main as well");
    ends(&mut hand, "two", 7);
    assert_eq!(hand.state("proxy"), "stopping");
    ends(&mut hand, "proxy", 0);
    assert_eq!(outcome(&mut hand).exit_code(), 7);
}

#[test]
fn a_sidecar_that_is_taken_in_is_the_new_end_and_goes_down_after_the_mains() {
    let mut hand = Hand::new(vec![role("proxy", Role::Sidecar), role("web", Role::Main)]);
    hand.run("proxy");
    hand.run("web");
    // By name it would come first; the sequence is past that.
    load(&mut hand, role("a-logs", Role::Sidecar));
    assert_eq!(hand.state("web"), "up", "it runs on");
    hand.run("a-logs");
    load(&mut hand, role("migrate", Role::Init));
    load(&mut hand, role("late", Role::Main));
    assert_eq!(hand.state("late"), "blocked", "migrate is before it");
    hand.run("migrate");
    ends(&mut hand, "migrate", 0);
    hand.run("late");
    shutdown(&mut hand);
    for (name, then) in [
        (
            "web",
            [("late", "stopping"), ("a-logs", "up"), ("proxy", "up")],
        ),
        (
            "late",
            [("web", "down"), ("a-logs", "stopping"), ("proxy", "up")],
        ),
        (
            "a-logs",
            [("late", "down"), ("a-logs", "down"), ("proxy", "stopping")],
        ),
    ] {
        assert_eq!(hand.state(name), "stopping", "{name}");
        ends(&mut hand, name, 0);
        for (other, state) in then {
            assert_eq!(hand.state(other), state, "{other} after {name}");
        }
    }
    ends(&mut hand, "proxy", 0);
    assert_eq!(outcome(&mut hand).exit_code(), 0);
}

#[test]
fn a_sidecar_that_is_taken_in_where_others_wait_for_it_closes_no_cycle() {
    let mut first = role("logs", Role::Sidecar);
    first.after = vec!["proxy".into()];
    let mut hand = Hand::new(vec![first, role("web", Role::Main)]);
    assert_eq!(hand.state("logs"), "blocked");
    // They wait for its name; it waits for nobody.
    load(&mut hand, role("proxy", Role::Sidecar));
    for name in ["proxy", "logs", "web"] {
        hand.run(name);
    }
    // Out and in again, as after a change of its file.
    let proxy = hand.r#gen("proxy");
    hand.stop("proxy");
    hand.exits("proxy", 0);
    hand.proven(proxy);
    let service = "proxy".into();
    let request = hand.ask(Request::Forget { service });
    assert_eq!(hand.reply(request), Some(&Reply::Accepted));
    load(&mut hand, role("proxy", Role::Sidecar));
    hand.run("proxy");
    shutdown(&mut hand);
    assert_eq!(
        (hand.state("web"), hand.state("logs"), hand.state("proxy")),
        ("stopping", "up", "up")
    );
}
