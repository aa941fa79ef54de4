//! Services that are taken in and out while others run.

use crate::core::{Reply, Request, RequestError, RequestId};
use crate::hand::{Hand, oneshot, requires, shutdown, web_on_setup_on_db};
use crate::scenario::spec;

fn load(hand: &mut Hand, spec: crate::core::Spec) -> RequestId {
    let spec = Box::new(spec);
    hand.ask(Request::Load { spec })
}

fn forget(hand: &mut Hand, service: &str) -> RequestId {
    let service = service.into();
    hand.ask(Request::Forget { service })
}

fn error(hand: &Hand, request: RequestId) -> &RequestError {
    match hand.reply(request) {
        Some(Reply::Error(error)) => error,
        other => panic!("{other:?}"),
    }
}

fn after(name: &str, of: &[&str]) -> crate::core::Spec {
    let mut spec = spec(name);
    spec.after = of.iter().map(|&name| name.into()).collect();
    spec
}

fn down(hand: &mut Hand, name: &str) {
    let r#gen = hand.r#gen(name);
    hand.stop(name);
    hand.exits(name, 0);
    hand.proven(r#gen);
    assert_eq!(hand.state(name), "down");
}

#[test]
fn what_is_taken_in_starts_and_lets_those_start_that_waited_for_its_name() {
    let mut hand = Hand::new(vec![after("web", &["db"])]);
    assert_eq!(hand.state("web"), "blocked");
    let request = load(&mut hand, spec("db"));
    assert_eq!(hand.reply(request), Some(&Reply::Accepted));
    hand.run("db");
    hand.run("web");
    assert_eq!((hand.state("db"), hand.state("web")), ("up", "up"));
}

#[test]
fn only_what_is_down_and_not_wanted_is_taken_out() {
    let mut hand = Hand::new(vec![
        spec("web"),
        oneshot("setup", &[]),
        after("late", &["x"]),
    ]);
    hand.run("web");
    hand.run("setup");
    hand.ends("setup", 0);
    for (name, in_state) in [("web", "up"), ("setup", "done"), ("late", "blocked")] {
        let request = forget(&mut hand, name);
        let RequestError::IsUp { service, state } = error(&hand, request) else {
            panic!("{:?}", hand.reply(request));
        };
        assert_eq!((service.as_str(), *state), (name, in_state));
        assert_eq!(hand.state(name), in_state, "and nothing has changed");
    }
    hand.stop("web");
    let request = forget(&mut hand, "web");
    assert!(matches!(
        error(&hand, request),
        RequestError::IsUp {
            state: "stopping",
            ..
        }
    ));
    let r#gen = hand.r#gen("web");
    hand.exits("web", 0);
    hand.proven(r#gen);
    hand.stop("late");
    for name in ["web", "late"] {
        let request = forget(&mut hand, name);
        assert_eq!(hand.reply(request), Some(&Reply::Accepted), "{name}");
        assert!(hand.core.view(name).is_none());
    }
    let request = forget(&mut hand, "web");
    assert!(matches!(
        error(&hand, request),
        RequestError::NotFound { .. }
    ));
}

#[test]
fn what_lingers_is_not_taken_out() {
    let mut hand = Hand::new(vec![spec("web")]);
    hand.run("web");
    hand.stop("web");
    hand.lingers("web");
    let request = forget(&mut hand, "web");
    assert!(matches!(error(&hand, request), RequestError::Lingering(_)));
    // Nor beside what a forced start set aside.
    let service = "web".to_owned();
    hand.ask(Request::Start {
        service,
        wait: false,
        force: true,
    });
    let r#gen = hand.r#gen("web");
    hand.run("web");
    hand.stop("web");
    hand.exits("web", 0);
    hand.proven(r#gen);
    assert_eq!(hand.state("web"), "down");
    let request = forget(&mut hand, "web");
    assert!(matches!(error(&hand, request), RequestError::Lingering(_)));
}

#[test]
fn a_name_that_is_there_is_not_taken_in_twice_and_nothing_changes() {
    let mut hand = Hand::new(vec![spec("web")]);
    hand.run("web");
    hand.forget();
    let request = load(&mut hand, requires("web", &["db"]));
    assert!(matches!(
        error(&hand, request),
        RequestError::AlreadyLoaded { .. }
    ));
    assert_eq!(hand.state("web"), "up");
    assert!(hand.core.view("web").unwrap().spec.requires.is_empty());
    assert_eq!(hand.effects.len(), 1, "{:?}", hand.effects);
}

#[test]
fn of_two_that_bear_one_name_from_the_beginning_the_first_counts() {
    let mut hand = Hand::new(vec![spec("web"), requires("web", &["db"])]);
    hand.run("web");
    assert!(hand.core.view("web").unwrap().spec.requires.is_empty());
    assert_eq!(hand.core.views().len(), 1);
}

#[test]
fn what_would_close_a_cycle_is_not_taken_in_and_whoever_waits_for_it_waits_on() {
    let mut hand = Hand::new(vec![after("a", &["b"]), spec("c")]);
    hand.run("c");
    let request = load(&mut hand, requires("b", &["a"]));
    let RequestError::Cycle { cycle, .. } = error(&hand, request) else {
        panic!("{:?}", hand.reply(request));
    };
    assert_eq!(cycle, "b → a → b");
    assert!(hand.core.view("b").is_none());
    assert_eq!((hand.state("a"), hand.state("c")), ("blocked", "up"));
    load(&mut hand, spec("b"));
    hand.run("b");
    hand.run("a");
}

#[test]
fn what_is_required_through_something_done_and_forgotten_blocks() {
    let mut hand = web_on_setup_on_db();
    let web = hand.r#gen("web");
    let db = hand.r#gen("db");
    hand.stop("db");
    hand.exits("web", 0);
    hand.proven(web);
    hand.exits("db", 0);
    hand.proven(db);
    assert_eq!(
        (hand.state("setup"), hand.state("web")),
        ("done", "blocked")
    );
    forget(&mut hand, "db");
    assert_eq!(hand.state("web"), "blocked");
    assert!(hand.core.view("web").unwrap().detail.contains("db"));
    load(&mut hand, spec("db"));
    hand.run("db");
    hand.run("web");
}

#[test]
fn what_was_taken_in_again_waits_for_a_requirer_of_old_that_is_still_stopping() {
    let mut hand = Hand::new(vec![
        spec("db"),
        requires("mid", &["db"]),
        requires("web", &["mid"]),
    ]);
    for name in ["db", "mid", "web"] {
        hand.run(name);
    }
    // Both end by themselves, web takes its time, and somebody replaces the one between.
    let (mid, db) = (hand.r#gen("mid"), hand.r#gen("db"));
    hand.exits("mid", 1);
    hand.proven(mid);
    hand.exits("db", 1);
    hand.proven(db);
    hand.stop("mid");
    assert_eq!(forget_and_reply(&mut hand, "mid"), Reply::Accepted);
    load(&mut hand, requires("mid", &["db"]));
    assert_eq!(hand.state("web"), "stopping");
    assert_eq!(hand.state("db"), "blocked", "web still goes down above it");
    let web = hand.r#gen("web");
    hand.exits("web", 0);
    hand.proven(web);
    for name in ["db", "mid", "web"] {
        hand.run(name);
    }
}

fn forget_and_reply(hand: &mut Hand, name: &str) -> Reply {
    let request = forget(hand, name);
    hand.reply(request).unwrap().clone()
}

#[test]
fn in_a_shutdown_nobody_is_taken_in_or_out() {
    let mut hand = Hand::new(vec![spec("web"), spec("old")]);
    hand.run("web");
    hand.run("old");
    down(&mut hand, "old");
    shutdown(&mut hand);
    let request = load(&mut hand, spec("new"));
    assert!(matches!(error(&hand, request), RequestError::ShuttingDown));
    let request = forget(&mut hand, "old");
    assert!(matches!(error(&hand, request), RequestError::ShuttingDown));
}

#[test]
fn a_stop_with_dependents_takes_them_first_and_they_stay_down() {
    let mut hand = Hand::new(vec![
        spec("db"),
        after("app", &["db"]),
        after("web", &["app"]),
        after("other", &[]),
    ]);
    for name in ["db", "app", "web", "other"] {
        hand.run(name);
    }
    let (db, app, web) = (hand.r#gen("db"), hand.r#gen("app"), hand.r#gen("web"));
    let (service, force) = ("db".to_owned(), false);
    let request = hand.ask(Request::StopWithDependents { service, force });
    assert!(hand.signalled(web) && !hand.signalled(app) && !hand.signalled(db));
    hand.exits("web", 0);
    hand.proven(web);
    assert!(hand.signalled(app) && !hand.signalled(db));
    hand.exits("app", 0);
    hand.proven(app);
    hand.exits("db", 0);
    hand.proven(db);
    assert!(matches!(hand.reply(request), Some(Reply::Stopped(_))));
    hand.pass_ms(60_000);
    for (name, state) in [
        ("db", "down"),
        ("app", "down"),
        ("web", "down"),
        ("other", "up"),
    ] {
        assert_eq!(hand.state(name), state, "{name}");
    }
}

#[test]
fn a_stop_with_dependents_that_is_refused_leaves_everybody_running() {
    let mut hand = Hand::new(vec![
        spec("db"),
        requires("web", &["db"]),
        after("app", &["db"]),
    ]);
    for name in ["db", "web", "app"] {
        hand.run(name);
    }
    hand.stop("web");
    hand.lingers("web");
    let (service, force) = ("db".to_owned(), false);
    let request = hand.ask(Request::StopWithDependents { service, force });
    assert!(matches!(
        error(&hand, request),
        RequestError::DependentLingers(_)
    ));
    assert_eq!((hand.state("db"), hand.state("app")), ("up", "up"));
}
