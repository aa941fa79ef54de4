//! What keys and answers do.

use super::*;
use crate::api::{ServiceStatus, Verdict};
use crate::cli::top::keys::Key;

const LOOK: Look = Look {
    color: false,
    unicode: true,
};

fn usage(name: &str, state: ServiceState, requires: &[&str]) -> Usage {
    Usage {
        status: ServiceStatus {
            name: name.into(),
            state,
            generation: 1,
            requires: requires
                .iter()
                .map(|name| ((*name).into(), "up".into()))
                .collect(),
            ..ServiceStatus::default()
        },
        ..Usage::default()
    }
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// app requires db, shop requires app; all are up.
fn model() -> Model {
    let mut model = Model::new(LOOK, seconds(1), seconds(100));
    let up = ServiceState::Up;
    let all = vec![
        usage("app", up, &["db"]),
        usage("db", up, &[]),
        usage("other", ServiceState::Down, &["db"]),
        usage("shop", up, &["app"]),
    ];
    assert_eq!(model.handle(seconds(100), Event::Reading(all)), []);
    model
}

fn types(model: &mut Model, text: &str) -> Vec<Effect> {
    let keys = text.chars().map(|c| match c {
        '\n' => Key::Enter,
        '\x1b' => Key::Escape,
        '\t' => Key::Tab,
        '\x08' => Key::Backspace,
        c => Key::Char(c),
    });
    let mut effects = Vec::new();
    for key in keys {
        if key == Key::Char('y') {
            reads(model);
        }
        effects.extend(model.handle(model.now, Event::Key(key)));
    }
    effects
}

/// The question is seen, for as long as it takes to be read.
fn reads(model: &mut Model) {
    model.drawn(model.now);
    model.tick(model.now + READ);
    model.drawn(model.now);
}

fn pastes(model: &mut Model, text: &str) {
    for c in text.chars() {
        let effects = model.handle(model.now, Event::Key(Key::Pasted(c)));
        assert_eq!(effects, [], "{text}");
    }
}

#[test]
fn text_that_is_pasted_does_nothing_to_services() {
    let mut model = model();
    pastes(&mut model, "xyrysyq");
    assert_eq!((&model.mode, model.doing.len()), (&Mode::Browse, 0));
    types(&mut model, "x");
    reads(&mut model);
    pastes(&mut model, "yes");
    assert!(matches!(model.mode, Mode::Question(..)));
    assert_eq!(types(&mut model, "n/").len(), 0);
    pastes(&mut model, "sho");
    assert_eq!((&*model.filter, selected(&model)), ("sho", "shop"));
}

#[test]
fn a_question_is_answered_by_who_has_read_it() {
    let mut model = model();
    let y = Event::Key(Key::Char('y'));
    let stop = [Effect::Do(Verb::Stop, "app".into())];
    types(&mut model, "x");
    let asked = model.now;
    assert_eq!(model.handle(asked, y.clone()), [], "not even drawn");
    model.drawn(asked);
    assert_eq!((model.is_offered(), model.due()), (false, Some(READ)));
    assert_eq!(
        model.handle(asked + READ, y.clone()),
        [],
        "not drawn as one"
    );
    model.tick(asked + READ);
    assert!(model.is_offered());
    let offered = asked + 2 * READ;
    model.tick(offered);
    model.drawn(offered);
    assert_eq!(model.due(), None);
    let before = offered - Duration::from_millis(1);
    assert_eq!(model.handle(before, y.clone()), [], "read before that");
    assert_eq!(model.handle(offered, y.clone()), stop);
    model.drawn(offered);
    types(&mut model, "x");
    assert_eq!(model.handle(offered + READ, y), [], "of another question");
}

#[test]
fn where_nothing_is_seen_keys_only_quit() {
    let mut model = model();
    types(&mut model, "x");
    reads(&mut model);
    model.handle(model.now, Event::Size(17, 24));
    assert_eq!(model.mode, Mode::Browse, "nobody sees it");
    assert_eq!(types(&mut model, "yxyjsy/w\n?"), []);
    assert_eq!((&model.mode, selected(&model)), (&Mode::Browse, "app"));
    assert_eq!(types(&mut model, "q"), [Effect::Quit]);
    let suspend = model.handle(model.now, Event::Key(Key::Ctrl('z')));
    assert_eq!(suspend, [Effect::Suspend]);
}

#[test]
fn a_filter_that_nobody_fits_takes_the_selection_from_nobody() {
    let mut model = model();
    types(&mut model, "jj/zzz");
    assert_eq!(model.selected, None);
    let up = ServiceState::Up;
    let all = ["app", "db", "other", "shop"].map(|name| usage(name, up, &[]));
    model.handle(seconds(101), Event::Reading(all.to_vec()));
    types(&mut model, "\x1b");
    assert_eq!(selected(&model), "other");
    types(&mut model, "/sh\n/\x08\x08zz\x08\x08");
    assert_eq!(selected(&model), "shop");
}

fn selected(model: &Model) -> &str {
    model.selected.as_deref().unwrap_or_default()
}

#[test]
fn a_stop_asks_first_and_says_who_goes_along() {
    let mut model = model();
    types(&mut model, "j");
    assert_eq!(selected(&model), "db");
    assert_eq!(types(&mut model, "x"), []);
    let along = vec!["app".to_owned(), "shop".to_owned()];
    assert_eq!(model.mode, Mode::Question(Verb::Stop, "db".into(), along));
    assert_eq!(types(&mut model, "n"), []);
    assert_eq!(model.message.as_ref().unwrap().text, "db is left as it is");
    assert_eq!(types(&mut model, "S\n"), [], "Enter is no y");
    assert_eq!(
        types(&mut model, "Sy"),
        [Effect::Do(Verb::Stop, "db".into())]
    );
    assert_eq!(
        types(&mut model, "ry"),
        [Effect::Do(Verb::Restart, "db".into())]
    );
    assert_eq!(
        types(&mut model, "sy"),
        [Effect::Do(Verb::Start, "db".into())]
    );
    assert_eq!(model.doing.len(), 3);
    let done = Event::Done {
        verb: Verb::Stop,
        name: "db".into(),
        text: "db: verified".into(),
        tone: Tone::Good,
    };
    model.handle(seconds(101), done);
    assert_eq!(model.doing.len(), 2);
    assert_eq!(model.message.as_ref().unwrap().text, "db: verified");
    model.tick(seconds(122));
    assert!(model.message.is_none(), "it goes by itself");
}

#[test]
fn the_question_is_about_whom_it_was_asked() {
    let mut model = model();
    types(&mut model, "jx");
    let without = vec![usage("app", ServiceState::Up, &[])];
    model.handle(seconds(101), Event::Reading(without));
    assert_eq!(selected(&model), "app");
    assert_eq!(
        types(&mut model, "y"),
        [Effect::Do(Verb::Stop, "db".into())]
    );
}

#[test]
fn so_many_at_once_and_no_more() {
    let mut model = model();
    assert_eq!(types(&mut model, &"sy".repeat(40)).len(), AT_ONCE);
    assert!(model.message.as_ref().unwrap().text.contains("under way"));
}

#[test]
fn what_is_selected_stays_selected() {
    let mut model = model();
    types(&mut model, "jjj");
    assert_eq!(selected(&model), "shop");
    types(&mut model, "A");
    assert_eq!(selected(&model), "shop", "in another order");
    types(&mut model, "NG");
    let up = ServiceState::Up;
    let less = vec![usage("db", up, &[]), usage("other", up, &[])];
    model.handle(seconds(101), Event::Reading(less));
    assert_eq!(selected(&model), "other", "what stands there now");
    model.handle(seconds(102), Event::Reading(Vec::new()));
    assert_eq!(model.selected, None);
    assert_eq!(types(&mut model, "xsrw\nj"), [], "nobody to do that to");
}

#[test]
fn a_filter_is_written_kept_and_taken_away() {
    let mut model = model();
    types(&mut model, "/O\x08Oo");
    assert_eq!(model.order.len(), 0);
    types(&mut model, "\x08");
    let names = |model: &Model| model.shown().map(Row::name).collect::<Vec<_>>().join(" ");
    assert_eq!(names(&model), "other shop");
    types(&mut model, "\nq");
    assert_eq!(model.filter, "O");
    types(&mut model, "\x1b");
    assert_eq!(names(&model), "app db other shop");
    types(&mut model, "/zzz\x1b");
    assert_eq!(names(&model), "app db other shop");
    assert_eq!(types(&mut model, "/q\x1b"), [], "q is a letter there");
    assert_eq!(types(&mut model, "?q"), [], "and goes back from the help");
    assert_eq!(types(&mut model, "q"), [Effect::Quit]);
    let ctrl_c = model.handle(seconds(1), Event::Key(Key::Ctrl('c')));
    assert_eq!(ctrl_c, [Effect::Quit]);
}

#[test]
fn why_is_asked_for_when_it_is_shown_and_when_it_changes() {
    let mut model = model();
    let tell = |name: &str| vec![Effect::Tell(name.into())];
    assert_eq!(types(&mut model, "w"), tell("app"));
    assert_eq!(types(&mut model, "j"), tell("db"));
    let told = |name: &str| {
        let receipt = Receipt {
            verdict: Verdict::Verified,
            ..Receipt::default()
        };
        Event::Told(Box::new(Told {
            name: name.into(),
            receipt: Some(receipt),
            ..Told::default()
        }))
    };
    model.handle(seconds(101), told("app"));
    assert!(model.told.is_none(), "it came too late");
    model.handle(seconds(101), told("db"));
    assert!(model.told.is_some());
    let reading = |state| Event::Reading(vec![usage("db", state, &[])]);
    assert_eq!(model.handle(seconds(102), reading(ServiceState::Up)), []);
    let changed = model.handle(seconds(103), reading(ServiceState::Stopping));
    assert_eq!(changed, tell("db"));
}

fn lines(ticket: u64, texts: &[&str], lost: u64, first: bool) -> Event {
    let record = |text: &&str| LogRecord {
        text: (*text).into(),
        ..LogRecord::default()
    };
    let lines = LogLines {
        records: texts.iter().map(record).collect(),
        lost,
        ..LogLines::default()
    };
    Event::Lines {
        ticket,
        lines,
        first,
    }
}

#[test]
fn the_log_is_of_whom_it_was_asked_for_last() {
    let mut model = model();
    assert_eq!(model.log_wanted(), Some("app"));
    model.follow(Some("app".into()), 1);
    model.handle(seconds(1), lines(1, &["old"], 7, true));
    model.handle(seconds(1), lines(1, &["new"], 3, false));
    assert_eq!(
        (model.log.lines.len(), model.log.lost),
        (2, 3),
        "7 were lost before we came"
    );
    model.follow(Some("db".into()), 2);
    model.handle(seconds(1), lines(1, &["late"], 0, false));
    assert!(model.log.lines.is_empty(), "of another service");
    model.handle(seconds(1), lines(2, &["a", "b"], 0, true));
    model.handle(seconds(1), lines(2, &["c"], 0, true));
    assert_eq!(model.log.lines.len(), 1, "followed anew, it begins anew");
    let many = vec!["x"; 3 * KEPT_LINES];
    model.handle(seconds(1), lines(2, &many, 0, false));
    assert_eq!(model.log.lines.len(), KEPT_LINES);
    types(&mut model, "l");
    assert_eq!(model.log_wanted(), None, "not seen, not asked for");
}

#[test]
fn whoever_reads_further_up_stays_there() {
    let mut model = model();
    model.follow(Some("app".into()), 1);
    model.handle(seconds(1), lines(1, &["x"; 50], 0, true));
    types(&mut model, "zkk");
    assert_eq!(model.scroll.0, 2);
    model.handle(seconds(1), lines(1, &["y"; 5], 0, false));
    assert_eq!(model.scroll.0, 7);
    types(&mut model, "G");
    assert_eq!(model.scroll.0, 0);
    types(&mut model, "g");
    assert_eq!(
        model.scroll.0,
        55 - 19,
        "the first line is the first that is seen"
    );
    model.handle(
        seconds(1),
        lines(1, &["z"; 3 * KEPT_LINES], u64::MAX, false),
    );
    model.handle(seconds(1), lines(1, &["z"], u64::MAX, false));
    assert_eq!(
        (model.scroll.0, model.log.lost),
        (KEPT_LINES - 19, u64::MAX)
    );
    types(&mut model, "zz");
    assert_eq!(model.scroll.0, 0, "beside the table it is at its end");
    types(&mut model, "\x1bj");
    assert_eq!((model.zoomed, selected(&model)), (false, "db"));
}

#[test]
fn a_supervisor_that_is_silent_is_said_to_be() {
    let mut model = model();
    model.tick(seconds(102));
    assert_eq!(model.silence(), None);
    model.tick(seconds(104));
    assert_eq!(model.silence(), Some(seconds(4)));
    model.handle(seconds(105), Event::Trouble("refused".into()));
    assert_eq!(model.silence(), Some(seconds(5)));
    model.handle(seconds(106), Event::Reading(Vec::new()));
    assert_eq!((model.silence(), &model.trouble), (None, &None));
}

#[test]
fn on_a_small_screen_a_pane_has_all_of_it_or_is_not_there() {
    let mut model = model();
    model.handle(seconds(1), Event::Size(30, 8));
    assert_eq!(model.log_wanted(), None);
    types(&mut model, "l");
    assert!(model.zoomed);
    assert_eq!(model.log_wanted(), Some("app"));
    types(&mut model, "l");
    assert_eq!((model.zoomed, model.pane), (false, Pane::None));
    types(&mut model, "\t");
    assert_eq!((model.zoomed, model.pane), (true, Pane::Log));
}
