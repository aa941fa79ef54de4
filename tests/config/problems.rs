//! Every problem of a file, each with its place and a hint.

use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nought::config::{self, load_dir, parse};

use crate::bad;

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_known_one() {
    assert_eq!(
        bad("exec: a\nshutdown-timeout: 3\nsignal:\n  stpo: TERM\ndepends_on: [b]\nzzz: 1\n"),
        "\
web.yaml:2:1: error: unknown key `shutdown-timeout`
    shutdown-timeout: 3
    ^^^^^^^^^^^^^^^^
    hint: did you mean `shutdown_timeout`?
web.yaml:4:3: error: unknown key `stpo` in `signal`
      stpo: TERM
      ^^^^
    hint: did you mean `stop`?
web.yaml:5:1: error: unknown key `depends_on`
    depends_on: [b]
    ^^^^^^^^^^
    hint: here it is called `requires`
web.yaml:6:1: error: unknown key `zzz`
    zzz: 1
    ^^^
    hint: the keys are exec, test, ready, health, watchdog, fd_store, sockets, start, reload, oneshot, after, requires, stop_after, role, stop, signal, shutdown_timeout, \
exit_grace, kill_timeout, start_timeout, restart, remain, on_end, on_failure, essential, survivors, pid_namespace, min_guarantee, log, env, env_file, dir, user, group, umask, limits, nice, oom_score_adj, resources; one of your own may begin with `x-`
"
    );
}

#[test]
fn every_problem_of_a_file_is_listed_at_once() {
    let text = "\
exec: sh -c 'oops
oneshot: \"yes\"
after: db
requires: [a/b, ok]
signal: {stop: SIGFOO, to: everyone}
shutdown_timeout: 1.5
kill_timeout: 0
log: rign
env:
  A: 1
  A: 2
  B: [x]
  '': y
test: {interval: 1s}
oneshot: true
? [a]
: b
";
    assert_eq!(
        bad(text),
        "\
web.yaml:1:7: error: `exec` cannot be split into words: the quote ' is never closed
    exec: sh -c 'oops
          ^^^^^^^^^^^
    hint: close it, or write a list with one word per element
web.yaml:2:10: error: `oneshot` must be true or false, this is `yes`
    oneshot: \"yes\"
             ^^^^^
    hint: write `true` or `false`, without quotes
web.yaml:3:8: error: `after` must be a list of names, this is `db`
    after: db
           ^^
    hint: write `after: [db]`
web.yaml:4:12: error: a service's name cannot contain '/'
    requires: [a/b, ok]
               ^^^
    hint: the name of another service's file, without `.yaml`
web.yaml:5:16: error: `SIGFOO` is no signal
    signal: {stop: SIGFOO, to: everyone}
                   ^^^^^^
    hint: a name in any case (`SIGTERM`, `term`), `RTMIN+3`, or a number from 1 to 64
web.yaml:5:28: error: `signal.to` must be one of main, group, all, this is `everyone`
    signal: {stop: SIGFOO, to: everyone}
                               ^^^^^^^^
    hint: write one of these words
web.yaml:6:19: error: `shutdown_timeout` must be a duration, this is `1.5`
    shutdown_timeout: 1.5
                      ^^^
    hint: write whole seconds (`10`) or a number with its unit: `250ms`, `1.5s`, `2m`, `1h30m` \
(us, ms, s, m, h, d)
web.yaml:7:15: error: `kill_timeout` cannot be zero
    kill_timeout: 0
                  ^
    hint: every stop that has to kill would end lingering
web.yaml:8:6: error: `log` must be one of ring, stdout, none, null, file, journald, syslog, this is `rign`
    log: rign
         ^^^^
    hint: did you mean `ring`?
web.yaml:11:3: error: `A` occurs twice, first on line 10
      A: 2
      ^
    hint: keep one of the two
web.yaml:12:6: error: `env.B` must be a string, this is a list
      B: [x]
         ^
    hint: write one value, in quotes if it has braces or brackets
web.yaml:13:3: error: in `env`, the variable has no name
      '': y
      ^^
    hint: write `NAME: value`, the name of letters, digits and `_`
web.yaml:14:7: error: `test` has no `exec`
    test: {interval: 1s}
          ^
    hint: add `exec: COMMAND`, the command that tests
web.yaml:15:1: error: `oneshot` occurs twice, first on line 2
    oneshot: true
    ^^^^^^^
    hint: keep one of the two
web.yaml:16:3: error: a key must be a word, this is a list
    ? [a]
      ^
    hint: write `key: value`, one of the keys on each line
"
    );
}

#[test]
fn limits_that_are_none_are_named_one_by_one() {
    let text = "\
exec: a
resources:
  memory_max: much
  cpu_max: 0
  pids_max: 0
  cpuset: 3-1
  io_max: {sda: {rbps: 1}, '8:0': {rps: 1}}
  memory: 1G
";
    let said = bad(text);
    for line in [
        "web.yaml:3:15: error: `resources.memory_max` must be an amount, this is `much`",
        "web.yaml:4:12: error: `resources.cpu_max` must be an amount",
        "web.yaml:5:13: error: `resources.pids_max` must be an amount",
        "web.yaml:6:11: error: `resources.cpuset` must be numbers of processors",
        "web.yaml:7:12: error: `sda` is no device",
        "unknown key `rps` in `resources.io_max.8:0`",
        "unknown key `memory` in `resources`",
    ] {
        assert!(said.contains(line), "no {line:?}:\n{said}");
    }
}

#[test]
fn what_is_no_service_file_says_so() {
    for (text, message) in [
        ("", "web.yaml:1:1: error: `exec` is missing\n"),
        (
            "- a\n- b\n",
            "web.yaml:1:1: error: a service file is a mapping of keys, this is a list\n",
        ),
        ("exec:\n", "web.yaml:1:5: error: `exec` names no command\n"),
        (
            "exec: ['', a]\n",
            "web.yaml:1:7: error: `exec` names no command\n",
        ),
        (
            "exec: []\n",
            "web.yaml:1:7: error: `exec` names no command\n",
        ),
        (
            "exec: a: b\n",
            "web.yaml:1:8: error: this is not YAML: mapping values",
        ),
        (
            "exec: a\n\tdir: /\n",
            "web.yaml:1:7: error: this is not YAML: while scanning",
        ),
        (
            "exec: a\n---\nexec: b\n",
            "web.yaml:2:1: error: a second document begins here\n",
        ),
        (
            "exec: \"a\\0b\"\n",
            "web.yaml:1:7: error: `exec` contains a NUL\n",
        ),
        (
            "exec: !secret a\n",
            "web.yaml:1:7: error: the tag `!secret` has no meaning here\n",
        ),
        ("exec: *nothing\n", "web.yaml:1:7: error: this is not YAML"),
        (
            "exec: a\nrestart: {delay: 2s, max_delay: 1s}\n",
            "web.yaml:2:33: error: `restart.max_delay` is shorter than `restart.delay`\n",
        ),
        (
            "exec: a\ntest: {exec: b, retries: 0}\n",
            "web.yaml:2:26: error: `test.retries` cannot be zero\n",
        ),
    ] {
        let said = bad(text);
        assert!(said.starts_with(message), "{text:?}\n{said}");
    }
}

#[test]
fn a_name_that_cannot_be_one_is_refused() {
    for name in [
        "",
        "a.b",
        "a/b",
        "a\\b",
        "..",
        "a\nb",
        "a\u{202e}b",
        &"x".repeat(251),
    ] {
        let problems = parse(name, "exec: a", Path::new("x.yaml")).unwrap_err();
        assert_eq!(problems.len(), 1, "{name:?}");
    }
}

#[test]
fn a_file_whose_name_is_no_utf_8_is_refused_and_no_other_takes_its_place() {
    let dir = std::env::temp_dir().join(format!("nought-config-names-{}", std::process::id()));
    std::fs::create_dir(&dir).unwrap();
    for name in [&b"e\xff.yaml"[..], b"e\xfe.yaml", b"web.yaml"] {
        let name = std::ffi::OsStr::from_bytes(name);
        std::fs::write(dir.join(name), "exec: a").unwrap();
    }
    let loaded = load_dir(&dir);
    std::fs::remove_dir_all(&dir).unwrap();
    let names: Vec<&str> = loaded
        .services
        .iter()
        .map(|(spec, _)| spec.name.as_str())
        .collect();
    assert_eq!(names, ["web"]);
    assert_eq!(loaded.problems.len(), 2);
    for problem in &loaded.problems {
        assert!(problem.is_error() && problem.message.contains("no UTF-8"));
    }
}

#[test]
fn large_deep_and_multiplying_files_are_bounded() {
    let large = format!("exec: a\nx-a: {}", "b".repeat(config::MAX_FILE_BYTES));
    assert!(bad(&large).contains("bytes, the most is"));
    let deep = format!("x-a: {}", "[".repeat(100_000));
    assert!(bad(&deep).contains("nested deeper") || bad(&deep).contains("recursion"));
    let mut bomb = String::from("exec: a\nx-0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 9].join(", ");
        writeln!(bomb, "x-{level}: &a{level} [{aliases}]").unwrap();
    }
    assert!(
        bad(&bomb).contains("aliases counted each time"),
        "{}",
        bad(&bomb)
    );
    let mut many = String::from("exec: a\n");
    for key in 0..40_000 {
        writeln!(many, "k{key}: 1").unwrap();
    }
    assert!(bad(&many).contains("more problems like these") || bad(&many).contains("values"));
}
