//! Whole pictures.

use std::time::Duration;

use ratatui_core::backend::{Backend as _, TestBackend};
use ratatui_core::layout::Rect;
use ratatui_core::style::{Color, Modifier};

use super::*;
use crate::api::{
    Info, LogLines, LogRecord, Pressure, Pressures, ProcessUsage, Receipt, ServiceStatus, Usage,
    Verdict,
};
use crate::cli::top::keys::Key;
use crate::cli::top::model::{Event, Told};

fn usage(name: &str, state: ServiceState, pid: u32) -> Usage {
    let process = |pid, ppid, comm: &str| ProcessUsage {
        pid,
        ppid,
        comm: comm.into(),
        memory_bytes: 3 << 19,
        ..ProcessUsage::default()
    };
    let processes = match pid {
        0 => Vec::new(),
        pid => vec![
            process(pid, 1, name),
            process(pid + 2, pid, "worker"),
            process(9, 1, "stray"),
        ],
    };
    let cpu = Pressure {
        some_percent: 12.34,
        ..Pressure::default()
    };
    Usage {
        status: ServiceStatus {
            name: name.into(),
            state,
            pid,
            generation: 1,
            since_ms: 125_300,
            restarts: u64::from(pid == 0),
            processes: processes.len() as u64,
            guarantee: "cgroup-kill marked".into(),
            target: "up".into(),
            ..ServiceStatus::default()
        },
        memory_bytes: if pid == 0 { 0 } else { 13_107_200 },
        memory_peak_bytes: Some(26_214_400),
        pids: Some(7),
        pressure: (pid != 0).then(|| Pressures {
            cpu,
            ..Pressures::default()
        }),
        read_mono_ms: 1000.0,
        processes,
        ..Usage::default()
    }
}

fn model(look: Look, columns: u16, rows: u16) -> Model {
    let second = Duration::from_secs(1);
    let mut model = Model::new(look, second, second);
    model.handle(second, Event::Size(columns, rows));
    let info = Info {
        version: "0.1.0".into(),
        pid: 41,
        guarantee: "cgroup-kill marked".into(),
        http: vec!["127.0.0.1:8080".into()],
        uptime_ms: 90_000,
        ..Info::default()
    };
    model.handle(second, Event::Info(Box::new(info)));
    let mut broken = usage("broken", ServiceState::Backoff, 0);
    broken.status.next_start_ms = Some(900);
    let first = vec![
        broken.clone(),
        usage("web", ServiceState::Up, 77),
        usage("数据库\u{1b}[2J", ServiceState::Stopping, 88),
    ];
    model.handle(second, Event::Reading(first.clone()));
    let mut next = first;
    for usage in &mut next {
        usage.read_mono_ms = 2000.0;
        usage.cpu_ms = 125.0;
    }
    model.handle(second, Event::Reading(next));
    model.follow(Some("broken".into()), 1);
    let record = |stream: &str, service: &str, text: &str| LogRecord {
        time: "2026-11-23T05:12:33.123456Z".into(),
        service: service.into(),
        stream: stream.into(),
        cut: None,
        text: text.into(),
    };
    let records = vec![
        record("stdout", "broken", "first"),
        record("stderr", "broken", "\u{1b}[31moops\u{7}"),
        record("stdout", "broken/test", "no"),
    ];
    let lines = LogLines {
        records,
        ..LogLines::default()
    };
    let (ticket, first) = (1, true);
    model.handle(
        second,
        Event::Lines {
            ticket,
            lines,
            first,
        },
    );
    model
}

const PLAIN: Look = Look {
    color: false,
    unicode: true,
};
const ASCII: Look = Look {
    color: false,
    unicode: false,
};

/// What a terminal of that size shows.
fn shown(model: &Model) -> String {
    let (columns, rows) = model.size;
    let mut next = Buffer::empty(Rect::new(0, 0, columns, rows));
    draw(model, &mut next);
    let mut backend = TestBackend::new(columns, rows);
    let empty = Buffer::empty(next.area);
    backend.draw(empty.diff(&next).into_iter()).unwrap();
    crate::cli::top::once::lines(backend.buffer())
}

fn types(model: &mut Model, text: &str) {
    for c in text.chars() {
        if c == 'y' {
            reads(model);
        }
        model.handle(model.now, Event::Key(Key::Char(c)));
    }
}

/// The question is seen, for as long as it takes to be read.
fn reads(model: &mut Model) {
    model.drawn(model.now);
    model.tick(model.now + Duration::from_secs(1));
    model.drawn(model.now);
}

#[test]
fn a_question_says_whom_and_how_many_at_every_width() {
    let mut model = model(PLAIN, 60, 12);
    let (eu, us) = (
        "postgres-of-the-customers-eu",
        "postgres-of-the-customers-us",
    );
    let lines = |model: &Model, others: &[&str]| {
        let others: Vec<String> = others.iter().map(|name| (*name).to_owned()).collect();
        question(model, Verb::Restart, eu, &others)
    };
    assert_eq!(
        lines(&model, &[]),
        ["restart postgres-of-the-customers-eu?"],
        "not to be answered yet"
    );
    model.mode = Mode::Question(Verb::Restart, eu.into(), Vec::new());
    reads(&mut model);
    assert_eq!(
        lines(&model, &[us]),
        [
            "restart postgres-of-the-customers-eu,",
            "and postgres-of-the-customers-us which requires it? y/n"
        ]
    );
    model.size.0 = 40;
    assert_eq!(
        lines(&model, &[us]),
        [
            "restart postgres-of-the-customers-eu,",
            "and postgr…ers-us which requires it? y/n"
        ]
    );
    assert_eq!(
        lines(&model, &["a", "b"])[1],
        "and 2 services that require it? y/n"
    );
    model.size.0 = LEAST.0;
    assert_eq!(lines(&model, &[]), ["restart post…s-eu", "? y/n"]);
    assert_eq!(lines(&model, &[us])[1], "and 1 more? y/n");
    let many = vec!["a"; 300];
    assert_eq!(lines(&model, &many)[1], "and 300 more? y/n");
    for columns in LEAST.0..200 {
        model.size.0 = columns;
        for others in [&[][..], &[us], &["a", "b"], &many] {
            let lines = lines(&model, others);
            let fits = |line: &String| line.width() <= usize::from(columns);
            assert!(lines.len() <= 2 && lines.iter().all(fits), "{lines:?}");
            assert!(lines.last().is_some_and(|line| line.ends_with("? y/n")));
        }
    }
}

#[test]
fn numbers_of_whoever_answers_are_bounded() {
    let mut model = model(PLAIN, 80, 24);
    for row in &mut model.rows {
        row.usage.memory_bytes = u64::MAX;
        row.usage.status.since_ms = u64::MAX;
    }
    shown_lines(&model, 24);
}

#[track_caller]
fn check(model: &Model, expected: &str) {
    let shown = shown(model);
    assert_eq!(shown, expected, "\n{shown}");
}

#[test]
fn eighty_columns_and_twentyfour_rows() {
    check(
        &model(PLAIN, 80, 24),
        "\
nought 0.1.0, pid 41, up 1m 30s, cgroup-kill marked, http 127.0.0.1:8080
1 up, 1 backoff, 1 stopping; 2 not as wanted; CPU 25.0 %, 25.0 MiB, 6 processes
NAME            STATE        SINCE     PID  CPU %     MEMORY PROCS RST PRESSURE
broken          backoff      2m 5s       -      -          -     -   1        -
web             up           2m 5s      77   12.5   12.5 MiB     3   - 12.3 cpu
数据库\\u{1b}[2J stopping     2m 5s      88   12.5   12.5 MiB     3   - 12.3 cpu
─ log of broken ────────────────────────────────────────────────────────────────
05:12:33 + first
05:12:33 - \\u{1b}[31moops\\u{7}
05:12:33 + test: no












broken: backoff; next start in 900 ms; 1 restart so far
q quit  ? help  s start  x stop  r restart  w why  l log  t tree  / find  o sort
",
    );
}

#[test]
fn without_characters_beyond_ascii() {
    let mut model = model(ASCII, 80, 14);
    types(&mut model, "jt");
    check(
        &model,
        "\
nought 0.1.0, pid 41, up 1m 30s, cgroup-kill marked, http 127.0.0.1:8080
1 up, 1 backoff, 1 stopping; 2 not as wanted; CPU 25.0 %, 25.0 MiB, 6 processes
NAME            STATE        SINCE     PID  CPU %     MEMORY PROCS RST PRESSURE
broken          backoff      2m 5s       -      -          -     -   1        -
web             up           2m 5s      77   12.5   12.5 MiB     3   - 12.3 cpu
???\\u{1b}[2J    stopping     2m 5s      88   12.5   12.5 MiB     3   - 12.3 cpu
- processes of web -------------------------------------------------------------
memory 12.5 MiB, peak 25.0 MiB, 7 processes and threads, pressure cpu 12.3 mem ~
     PID  CPU %     MEMORY  COMMAND
      77    0.0    1.5 MiB  web
      79    0.0    1.5 MiB    worker
       9    0.0    1.5 MiB  stray
web: up
q quit  ? help  s start  x stop  r restart  w why  l log  t tree  / find  o sort
",
    );
}

#[test]
fn wide_screens_say_why() {
    let shown = shown(&model(PLAIN, 150, 24));
    let lines: Vec<&str> = shown.lines().collect();
    assert!(
        lines[2].ends_with("PRESSURE GUARANTEE          WHY"),
        "{shown}"
    );
    assert!(
        lines[3].ends_with("- cgroup-kill marked next start in 900 ms; 1 restart so far"),
        "{shown}"
    );
}

#[test]
fn small_screens_show_names_and_states() {
    check(
        &model(PLAIN, 20, 5),
        "\
1 up, 1 backoff, 1 …
NAME       STATE
broken     backoff
web        up
q quit  ? help  s s…
",
    );
    check(
        &model(PLAIN, 18, 3),
        "\
1 up, 1 backoff, …
broken   backoff
web      up
",
    );
    check(&model(PLAIN, 17, 3), "18x3 at least\n\n\n");
    for (columns, rows) in (0..40).flat_map(|c| (0..30).map(move |r| (c, r))) {
        for keys in ["", "x", "z", "w", "t", "?", "/w"] {
            let mut model = model(PLAIN, columns, rows);
            types(&mut model, keys);
            shown_lines(&model, rows);
        }
    }
}

fn shown_lines(model: &Model, rows: u16) {
    assert_eq!(shown(model).lines().count(), usize::from(rows));
}

#[test]
fn questions_and_results_are_said_at_the_bottom() {
    let mut model = model(PLAIN, 60, 12);
    types(&mut model, "jx");
    reads(&mut model);
    let last = |model: &Model| shown(model).lines().last().unwrap().to_owned();
    assert_eq!(last(&model), "stop web? y/n");
    types(&mut model, "y");
    let done = Event::Done {
        verb: Verb::Stop,
        name: "web".into(),
        text: "web: lingering: 1 process still lives after 10 s\n  pid 7 `x\u{1b}`, state D\n"
            .into(),
        tone: Tone::Bad,
    };
    model.handle(model.now, done);
    let text = shown(&model);
    assert!(
        text.contains(
            "\nweb: lingering: 1 process still lives after 10 s\n  pid 7 `x\\u{1b}`, state D\n"
        ),
        "{text}"
    );
    types(&mut model, "/we");
    assert_eq!(last(&model), "/we_");
}

#[test]
fn why_and_the_last_receipt() {
    let mut model = model(PLAIN, 80, 24);
    model.handle(model.now, Event::Key(Key::Enter));
    let receipt = Receipt {
        service: "broken".into(),
        generation: 3,
        verdict: Verdict::Verified,
        cause: "ended".into(),
        ..Receipt::default()
    };
    let told = Told {
        name: "broken".into(),
        words: [("broken".into(), vec!["[-] broken: oops".into()])].into(),
        receipt: Some(receipt),
        trouble: None,
    };
    model.handle(model.now, Event::Told(Box::new(told)));
    let text = shown(&model);
    let expected = "\
─ why broken is so, and its last stop ──────────────────────────────────────────
broken is backoff for 2m 5s, wanted up: next start in 900 ms; 1 restart so far
  said: [-] broken: oops
  next: it is tried again by itself; `nought start broken` tries at once

broken, generation 3: verified
  cause  ended
";
    assert!(text.contains(expected), "{text}");
}

#[test]
fn a_supervisor_that_does_not_answer_is_said_and_what_it_said_is_dimmed() {
    let look = Look {
        color: true,
        unicode: true,
    };
    let mut model = model(look, 80, 24);
    let mut buffer = Buffer::empty(Rect::new(0, 0, 80, 24));
    draw(&model, &mut buffer);
    assert_eq!(buffer[(17, 3)].fg, Color::Yellow);
    assert_eq!(buffer[(17, 4)].fg, Color::Green);
    model.tick(Duration::from_secs(11));
    let line = |model: &Model| shown(model).lines().nth(1).unwrap().to_owned();
    assert_eq!(
        line(&model),
        "the supervisor does not answer since 10 s; waiting for it"
    );
    let why = "cannot reach a supervisor at /run/s".into();
    model.handle(Duration::from_secs(12), Event::Trouble(why));
    assert_eq!(
        line(&model),
        "no answer for 11 s, trying again: cannot reach a supervisor at /run/s"
    );
    draw(&model, &mut buffer);
    assert!(buffer[(0, 4)].modifier.contains(Modifier::DIM));
    model.look = PLAIN;
    draw(&model, &mut buffer);
    assert!(buffer[(0, 4)].modifier.contains(Modifier::UNDERLINED));
    let first = shown(&model);
    assert!(
        first.contains(", up 1m 30s, "),
        "nobody knows for how long: {first}"
    );
}
