//! Services that start on demand, and reloads: a story about each situation.

use crate::changes::socket;
use crate::core::{
    AuxKind, Cause, Effect, Event, Exit, OpId, Reload, ReloadBy, Reply, Request, RequestError,
    RequestId, RestartWhen, ServiceId, Signal, Spec, Told,
};
use crate::hand::{Hand, failed, requires, shutdown};
use crate::scenario::spec;

fn on_demand(name: &str) -> Spec {
    let mut spec = spec(name);
    spec.sockets = vec![socket("/run/it")];
    spec.on_demand = true;
    spec
}

fn listening(hand: &Hand, name: &str) -> (ServiceId, OpId) {
    let id = hand.core.view(name).unwrap().id;
    let op = hand.op(|effect| match effect {
        Effect::Listen { service, op } if *service == id => Some(*op),
        _ => None,
    });
    (id, op)
}

fn opens(hand: &mut Hand, name: &str) {
    let (service, op) = listening(hand, name);
    hand.tell(Event::Listening { service, op });
}

fn connects(hand: &mut Hand, name: &str) {
    let (service, op) = listening(hand, name);
    hand.tell(Event::Demanded { service, op });
}

fn closed(hand: &Hand) -> usize {
    let closes = |effect: &&Effect| matches!(effect, Effect::Close { .. });
    hand.effects.iter().filter(closes).count()
}

fn reload(hand: &mut Hand, name: &str) -> RequestId {
    let service = name.into();
    hand.ask(Request::Reload { service })
}

/// It listens and is started by the first who connects.
fn started(spec: Spec) -> Hand {
    let name = spec.name.clone();
    let mut hand = Hand::new(vec![spec]);
    assert_eq!(hand.state(&name), "listening");
    opens(&mut hand, &name);
    connects(&mut hand, &name);
    hand.run(&name);
    assert_eq!(hand.state(&name), "up");
    hand
}

#[test]
fn it_starts_when_somebody_connects_and_listens_again_when_it_has_nothing_to_do() {
    let mut hand = started(on_demand("web"));
    hand.ends("web", 0);
    assert_eq!((hand.state("web"), closed(&hand)), ("listening", 0));
    connects(&mut hand, "web");
    assert_eq!(hand.state("web"), "starting");
    hand.run("web");
    // Soon after the first: not at once again, whoever is waiting.
    hand.ends("web", 0);
    assert_eq!((hand.state("web"), closed(&hand)), ("backoff", 0));
    hand.pass_ms(1_000);
    assert_eq!(hand.state("web"), "listening");
}

#[test]
fn it_goes_when_it_likes_also_where_it_is_not_restarted_and_fails_only_by_failing() {
    let mut web = on_demand("web");
    web.restart.when = RestartWhen::Never;
    let mut hand = started(web);
    hand.ends("web", 0);
    assert_eq!((hand.state("web"), closed(&hand)), ("listening", 0));
    connects(&mut hand, "web");
    hand.run("web");
    hand.ends("web", 1);
    assert_eq!((hand.state("web"), closed(&hand)), ("failed", 1));
}

#[test]
fn listening_is_enough_for_those_that_come_after_it() {
    let specs = vec![on_demand("db"), requires("web", &["db"])];
    let mut hand = Hand::new(specs);
    assert_eq!(hand.state("web"), "blocked", "nothing is open yet");
    opens(&mut hand, "db");
    hand.run("web");
    connects(&mut hand, "db");
    hand.run("db");
    hand.ends("db", 0);
    assert_eq!((hand.state("db"), hand.state("web")), ("listening", "up"));
    connects(&mut hand, "db");
    hand.run("db");
    // A failure is one of what is required, as always.
    hand.exits("db", 1);
    assert_eq!(hand.state("web"), "stopping");
}

#[test]
fn a_stop_ends_the_listening_and_a_start_starts_it() {
    let mut hand = Hand::new(vec![on_demand("web")]);
    opens(&mut hand, "web");
    let (service, op) = listening(&hand, "web");
    let stop = hand.stop("web");
    assert_eq!(hand.reply(stop), Some(&Reply::AlreadyDown));
    assert_eq!((hand.state("web"), closed(&hand)), ("down", 1));
    hand.tell(Event::Demanded { service, op });
    assert_eq!(hand.state("web"), "down", "whoever came too late");
    hand.start("web");
    assert_eq!(hand.state("web"), "starting");
    hand.run("web");
    let r#gen = hand.r#gen("web");
    hand.stop("web");
    assert_eq!((hand.state("web"), closed(&hand)), ("stopping", 2));
    hand.exits("web", 0);
    hand.proven(r#gen);
    assert_eq!((hand.state("web"), closed(&hand)), ("down", 2));
}

#[test]
fn a_restart_and_a_change_of_definition_refuse_nobody() {
    let mut web = spec("web");
    web.sockets = vec![socket("/run/it")];
    let mut hand = Hand::new(vec![web.clone()]);
    hand.run("web");
    let r#gen = hand.r#gen("web");
    hand.restart("web");
    hand.exits("web", 0);
    hand.proven(r#gen);
    hand.run("web");
    let r#gen = hand.r#gen("web");
    let service = "web".into();
    hand.ask(Request::StopToAmend { service });
    hand.exits("web", 0);
    hand.proven(r#gen);
    assert_eq!((hand.state("web"), closed(&hand)), ("down", 0));
    web.exec.push("anew".into());
    let asked = hand.ask(Request::Amend { specs: vec![web] });
    assert_eq!(hand.reply(asked), Some(&Reply::Accepted));
    hand.start("web");
    assert_eq!((hand.state("web"), closed(&hand)), ("starting", 0));
    hand.run("web");
    shutdown(&mut hand);
    assert_eq!(closed(&hand), 1);
}

#[test]
fn what_cannot_be_opened_is_a_start_that_failed() {
    let mut hand = Hand::new(vec![on_demand("web"), requires("app", &["web"])]);
    let (service, op) = listening(&hand, "web");
    let error = failed();
    hand.tell(Event::ListenFailed { service, op, error });
    // The first is repeated at once, as with every start.
    assert_eq!(hand.state("web"), "listening");
    let (service, op) = listening(&hand, "web");
    let error = failed();
    hand.tell(Event::ListenFailed { service, op, error });
    assert_eq!(
        (hand.state("web"), hand.state("app")),
        ("backoff", "blocked")
    );
    hand.pass_ms(1_000);
    opens(&mut hand, "web");
    assert_eq!(hand.state("app"), "starting");
}

#[test]
fn a_change_of_where_it_listens_takes_effect_while_nothing_of_it_runs() {
    let mut web = on_demand("web");
    let mut hand = Hand::new(vec![web.clone()]);
    opens(&mut hand, "web");
    let before = listening(&hand, "web");
    web.sockets = vec![socket("/run/other")];
    hand.ask(Request::Amend {
        specs: vec![web.clone()],
    });
    assert_ne!(listening(&hand, "web"), before);
    web.on_demand = false;
    hand.ask(Request::Amend { specs: vec![web] });
    assert_eq!((hand.state("web"), closed(&hand)), ("starting", 0));
}

#[test]
fn on_demand_it_comes_back_for_whoever_restarts_it_and_not_with_what_it_requires() {
    let mut web = on_demand("web");
    web.requires = vec!["db".into()];
    let mut hand = Hand::new(vec![spec("db"), web]);
    assert_eq!(hand.state("web"), "listening", "its own need not be there");
    opens(&mut hand, "web");
    connects(&mut hand, "web");
    assert_eq!(hand.state("web"), "blocked");
    hand.run("db");
    hand.run("web");
    let r#gen = hand.r#gen("web");
    hand.restart("web");
    hand.exits("web", 0);
    hand.proven(r#gen);
    assert_eq!(hand.state("web"), "starting");
    hand.run("web");
    let (web, db) = (hand.r#gen("web"), hand.r#gen("db"));
    hand.restart("db");
    hand.exits("web", 0);
    hand.proven(web);
    assert_eq!(hand.receipts(web)[0].cause, Cause::Dependency);
    assert_eq!((hand.state("web"), closed(&hand)), ("listening", 0));
    hand.exits("db", 0);
    hand.proven(db);
}

// ---- reload -----------------------------------------------------------------------------

fn reloads(by: ReloadBy, notify: bool) -> Hand {
    let mut web = spec("web");
    let mut reload = Reload::new(by);
    reload.notify = notify;
    web.reload = Some(Box::new(reload));
    let mut hand = Hand::new(vec![web]);
    hand.run("web");
    hand.forget();
    hand
}

fn signalled(hand: &mut Hand) {
    let op = hand.op(|effect| match effect {
        Effect::Reload { op, .. } => Some(*op),
        _ => None,
    });
    let (r#gen, error) = (hand.r#gen("web"), None);
    hand.tell(Event::Reloaded { r#gen, op, error });
}

fn says(hand: &mut Hand, told: Told) {
    let r#gen = hand.r#gen("web");
    hand.tell(Event::Told { r#gen, told });
}

fn refused(hand: &Hand, asked: RequestId) -> &str {
    match hand.reply(asked) {
        Some(Reply::Error(RequestError::NotReloaded { why, .. })) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_signal_is_sent_and_what_comes_of_it_is_not_waited_for() {
    let mut hand = reloads(ReloadBy::Signal(Signal::HUP), false);
    let asked = reload(&mut hand, "web");
    assert_eq!(hand.reply(asked), None);
    signalled(&mut hand);
    assert_eq!(hand.reply(asked), Some(&Reply::Reloaded { done: false }));
    assert_eq!(hand.core.timers().count(), 0);
}

#[test]
fn one_that_says_when_it_is_done_is_waited_for() {
    let mut hand = reloads(ReloadBy::Signal(Signal::HUP), true);
    let asked = reload(&mut hand, "web");
    signalled(&mut hand);
    says(&mut hand, Told::Ready);
    assert_eq!(hand.reply(asked), None, "that was of before");
    says(&mut hand, Told::Reloading);
    assert_eq!(hand.reply(asked), None);
    says(&mut hand, Told::Ready);
    assert_eq!(hand.reply(asked), Some(&Reply::Reloaded { done: true }));
    let late = reload(&mut hand, "web");
    signalled(&mut hand);
    hand.pass_ms(29_999);
    assert_eq!(hand.reply(late), None);
    hand.pass_ms(1);
    assert_eq!(refused(&hand, late), "it is not done within 30s");
    assert_eq!(hand.state("web"), "up");
}

#[test]
fn a_command_says_by_its_end_and_never_piles_up() {
    let mut hand = reloads(ReloadBy::Command(vec!["reload".into()]), false);
    let r#gen = hand.r#gen("web");
    let run = |hand: &Hand| {
        hand.op(|effect| match effect {
            Effect::RunAux {
                aux,
                kind: AuxKind::Reload,
                ..
            } => Some(*aux),
            _ => None,
        })
    };
    let asked = reload(&mut hand, "web");
    let second = reload(&mut hand, "web");
    assert_eq!(refused(&hand, second), "another reload of it is under way");
    let aux = run(&hand);
    let exit = Exit::Code(0);
    hand.tell(Event::AuxExited { r#gen, aux, exit });
    assert_eq!(hand.reply(asked), Some(&Reply::Reloaded { done: true }));
    let early = reload(&mut hand, "web");
    assert_eq!(
        refused(&hand, early),
        "another reload of it is under way",
        "not cleared away"
    );
    let error = None;
    hand.tell(Event::AuxEnded { r#gen, aux, error });
    let hangs = reload(&mut hand, "web");
    let aux = run(&hand);
    hand.pass_ms(30_000);
    assert_eq!(refused(&hand, hangs), "it is not done within 30s");
    assert!(hand.has(|effect| matches!(effect, Effect::EndAux { aux: of, .. } if *of == aux)));
}

#[test]
fn what_is_not_up_or_goes_down_is_not_reloaded() {
    let mut hand = reloads(ReloadBy::Signal(Signal::HUP), true);
    let asked = reload(&mut hand, "web");
    signalled(&mut hand);
    hand.stop("web");
    assert_eq!(refused(&hand, asked), "it went down meanwhile");
    let late = reload(&mut hand, "web");
    assert_eq!(refused(&hand, late), "it is stopping");
    let mut hand = Hand::new(vec![spec("db")]);
    hand.run("db");
    let asked = reload(&mut hand, "db");
    assert_eq!(refused(&hand, asked), "its file has no `reload`");
}

#[test]
fn another_main_process_is_the_one_whose_end_counts() {
    let mut hand = reloads(ReloadBy::Signal(Signal::HUP), false);
    says(&mut hand, Told::MainPid(77));
    assert_eq!(hand.core.view("web").unwrap().pid, Some(77));
    let r#gen = hand.r#gen("web");
    hand.tell(Event::MainLost { r#gen });
    assert_eq!(hand.state("web"), "stopping");
    hand.reads("web", false, false);
    hand.proven(r#gen);
    let receipt = hand.receipts(r#gen)[0];
    assert_eq!((receipt.pid, receipt.exit), (Some(77), None));
    let last = hand.core.view("web").unwrap().last.cloned().unwrap();
    assert!(last.failure.unwrap().contains("its parent"));
}
