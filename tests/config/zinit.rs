//! zinit's files: whatever zinit takes loads, and means the same.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use nought::config::{self, Dialect, load_dir, load_dir_as, parse_as};
use nought::core::{Check, LogMode, Signal, Spec, Test};

use crate::{Random, rendered, words};

fn as_zinit(text: &str) -> Result<Spec, String> {
    parse_as(Dialect::Zinit, "web", text, Path::new("web.yaml")).map_err(|all| rendered(&all))
}

#[test]
fn zinits_directory_loads_with_warnings_where_ours_would_not() {
    let dir = std::env::temp_dir().join(format!("nought-zinit-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let text = "exec: a\ncommant: x\nsignal: {stop: sigint, too: main, to: everyone}\n\
                kill_timeout: 0\nrestart: 5\nuser: a:b\nrequires: nobody\nafter: [b.c]\n\
                env: {A: 1, A: 2}\noneshot: true\ntest: b\n";
    std::fs::write(dir.join("web.yaml"), text).unwrap();
    let loaded = load_dir_as(Dialect::Zinit, &dir);
    let said = rendered(&loaded.problems);
    assert!(!loaded.has_errors(), "{said}");
    let mut spec = Spec::new("web", words(&["a"]));
    spec.stop_signal = Signal::INT;
    spec.after = words(&["b.c"]);
    spec.env.insert("A".into(), "2".into());
    spec.oneshot = true;
    spec.test = Some(Box::new(Test::new(Check::Exec(words(&["b"])))));
    assert_eq!(loaded.services[0].0, spec);
    for words in [
        "warning: unknown key `commant`",
        "warning: unknown key `too` in `signal`",
        "warning: `signal.to` must be one of main, group, all, this is `everyone`",
        "warning: `kill_timeout` cannot be zero",
        "hint: the key has no effect, as in zinit; every stop that has to kill would end lingering",
        "warning: `user` must be a name or a number",
        "warning: `requires` must be a list of names",
        "warning: `A` occurs twice",
        "hint: the last one counts, as in zinit",
        "warning: `test` has no effect on a oneshot",
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    let ours = load_dir(&dir);
    assert!(ours.has_errors() && ours.services.is_empty());
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn our_keys_work_in_zinits_files_too() {
    let spec = as_zinit("exec: a\nrequires: [b]\nkill_timeout: 1s\nuser: web\n").unwrap();
    assert_eq!(
        (spec.requires, spec.user),
        (words(&["b"]), Some("web".into()))
    );
    assert_eq!(spec.kill_timeout, Duration::from_secs(1));
}

/// What zinit itself reads a file into (its keys, types and defaults; unknown ones are ignored).
#[derive(serde::Deserialize)]
struct Theirs {
    #[serde(default)]
    exec: String,
    #[serde(default)]
    test: String,
    #[serde(default)]
    oneshot: bool,
    #[serde(default)]
    shutdown_timeout: Option<u64>,
    #[serde(default)]
    after: Vec<String>,
    #[serde(default)]
    signal: TheirSignal,
    #[serde(default)]
    log: TheirLog,
    #[serde(default)]
    env: std::collections::BTreeMap<String, String>,
    #[serde(default)]
    dir: String,
}

#[derive(Default, serde::Deserialize)]
struct TheirSignal {
    stop: Option<String>,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
enum TheirLog {
    None,
    #[default]
    Ring,
    Stdout,
}

/// A file as somebody may have written it for zinit: its keys with values of all kinds, and
/// others that it passes over.
fn for_zinit(random: &mut Random) -> String {
    const KEYS: [&str; 31] = [
        "exec",
        "exec",
        "exec",
        "test",
        "oneshot",
        "shutdown_timeout",
        "after",
        "signal",
        "log",
        "env",
        "dir",
        "user",
        "restart",
        "requires",
        "stop",
        "limits",
        "kill_timeout",
        "remain",
        "survivors",
        "pid_namespace",
        "min_guarantee",
        "umask",
        "nice",
        "env_file",
        "comment",
        "essential",
        "start_timeout",
        "health",
        "7",
        "<<",
        "x-own",
    ];
    const VALUES: [&str; 43] = [
        "/bin/true",
        "sh -c 'a b'",
        "true",
        "false",
        "5",
        "0",
        "-3",
        "1.5",
        "[]",
        "[a]",
        "[a, b.c]",
        "{}",
        "{stop: sigint}",
        "{stop: SIGTERM, other: 1}",
        "{A: b}",
        "{A: b, C: 'd'}",
        "ring",
        "stdout",
        "none",
        "'x y'",
        "[1, {a: b}]",
        "{keep: '*'}",
        "99999999999999999999",
        "''",
        "2m",
        "{policy: sometimes}",
        "a:b",
        "{nofile: -1}",
        "[[a], b]",
        "{stop: 9}",
        "{foo: 1, foo: 2}",
        "{stop: sigint, foo: 1, foo: 2, to: main, to: all}",
        "0x10",
        "0o17",
        "0b11",
        "+5",
        "18446744073709551615",
        "!custom {a: b}",
        "!custom x",
        "!custom [a]",
        "{A=B: c}",
        "{'': c, A: 1, A: ~}",
        "{1: 2, true: false}",
    ];
    let mut used: Vec<&str> = Vec::new();
    let mut text = String::new();
    for _ in 0..=random.below(7) {
        let key = KEYS[random.below(KEYS.len())];
        // zinit minds no key twice that it does not know.
        if !used.contains(&key) || random.below(4) == 0 {
            used.push(key);
            writeln!(text, "{key}: {}", VALUES[random.below(VALUES.len())]).unwrap();
        }
    }
    text
}

#[test]
fn whatever_zinit_takes_loads_and_means_the_same() {
    let mut random = Random(0x7a69_6e69_7400);
    let mut taken = 0;
    for _ in 0..40_000 {
        let text = for_zinit(&mut random);
        let Ok(theirs) = serde_yaml::from_str::<Theirs>(&text) else {
            continue;
        };
        let signal = theirs.signal.stop.as_deref().map(Signal::parse);
        // zinit refuses these itself.
        let bad_signal = signal == Some(None) || theirs.signal.stop.as_deref() == Some("9");
        if theirs.exec.trim().is_empty() || bad_signal {
            continue;
        }
        taken += 1;
        let ours = as_zinit(&text).unwrap_or_else(|said| panic!("{text}\n{said}"));
        assert_eq!(
            ours.exec,
            config::split_words(&theirs.exec).unwrap(),
            "{text}"
        );
        let test = ours
            .test
            .as_ref()
            .and_then(|test| test.check.command())
            .map(<[String]>::to_vec);
        let wanted = config::split_words(&theirs.test).unwrap();
        assert_eq!(test.unwrap_or_default(), wanted, "{text}");
        assert_eq!(
            (ours.oneshot, &ours.after),
            (theirs.oneshot, &theirs.after),
            "{text}"
        );
        let grace = theirs.shutdown_timeout.unwrap_or(10);
        let longest = Duration::from_nanos(u64::MAX);
        assert_eq!(
            ours.grace,
            Duration::from_secs(grace).min(longest),
            "{text}"
        );
        assert_eq!(
            ours.stop_signal,
            signal.flatten().unwrap_or(Signal::TERM),
            "{text}"
        );
        let log = match theirs.log {
            TheirLog::None => LogMode::None,
            TheirLog::Ring => LogMode::Ring,
            TheirLog::Stdout => LogMode::Stdout,
        };
        assert_eq!((ours.log, &ours.env), (log, &theirs.env), "{text}");
        assert!(ours.dir == theirs.dir || theirs.dir.is_empty(), "{text}");
    }
    assert!(taken > 2_000, "only {taken}");
}

#[test]
fn what_zinit_passes_over_is_a_warning_however_often_it_comes() {
    let dir = std::env::temp_dir().join(format!("nought-zinit-twice-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let text = "exec: a\nfoo: 1\nfoo: 2\nuser: a\nuser: b\nsignal: {bar: 1, bar: 2}\n\
                shutdown_timeout: 0x10\nnotes: !custom {a: b}\nenv: {A=B: c, '': d}\n";
    std::fs::write(dir.join("web.yaml"), text).unwrap();
    let loaded = load_dir_as(Dialect::Zinit, &dir);
    std::fs::remove_dir_all(&dir).unwrap();
    let said = rendered(&loaded.problems);
    assert!(!loaded.has_errors(), "{said}");
    assert_eq!(loaded.services[0].0.grace, Duration::from_secs(16));
    for words in [
        "warning: `foo` occurs twice",
        "warning: `user` occurs twice",
        "warning: `bar` occurs twice",
        "hint: it has no effect, as in zinit",
        "hint: it is handed on as it is, as zinit does",
    ] {
        assert!(said.contains(words), "{words:?} is not in\n{said}");
    }
    for problem in &loaded.problems {
        assert!(problem.hint.is_some(), "{problem}");
    }
    let twice = as_zinit("exec: a\nexec: b\n").unwrap_err();
    assert!(twice.contains("error: `exec` occurs twice"), "{twice}");
}
