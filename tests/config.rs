//! Service files: what they mean, every problem they can have, and that nothing in them panics.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may be blunt, in what they share too"
)]

use std::fmt::Write as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::Duration;

use nought::config::{self, Dialect, load_dir, load_dir_as, parse, parse_as};
use nought::core::{
    Check, Containment, EndAction, EnvFile, Guarantee, HttpGet, Limit, LogMode, Reach, Resource,
    RestartPolicy, RestartWhen, Role, ScanQuality, Signal, Spec, Test,
};

const FULL: &str = r#"
exec: sh -c 'exec "$0" --serve' /bin/web
test: {exec: [curl, -f, "http://localhost/"], interval: 100ms, timeout: 3, retries: 5}
oneshot: false
after: [net, "log-dir"]
requires:
  - db
stop: [webctl, quit]
signal: {stop: sigint, to: all}
shutdown_timeout: 30
exit_grace: 500ms
kill_timeout: 1.5s
start_timeout: 2m
restart: {policy: on-failure, delay: 1s, max_delay: 1m, stable_after: 5s, burst: 3, window: 10m}
log: stdout
env: {PORT: 8080, EMPTY: , NAME: "a b", "x-y": ~}
env_file: [/etc/default/web, -/etc/default/local]
dir: /srv
remain: true
survivors: {keep: [web-worker, 'shell*']}
min_guarantee: cgroup-signal marked
on_end: ignore
on_failure: stop_all
essential: false
user: web
group: 33
umask: 027
limits: {nofile: 1024:65536, core: 0, as: 2G, cpu: 10m, rttime: 1ms, memlock: unlimited, nproc: {soft: 5, hard: 9}}
nice: -5
oom_score_adj: 500
x-owner: {anything: [goes, here]}
"#;

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_string()).collect()
}

fn good(text: &str) -> Spec {
    parse("web", text, Path::new("web.yaml")).unwrap_or_else(|problems| {
        panic!("{text}\n{}", rendered(&problems));
    })
}

fn rendered(problems: &[config::Problem]) -> String {
    problems.iter().fold(String::new(), |mut out, problem| {
        writeln!(out, "{problem}").unwrap();
        out
    })
}

fn bad(text: &str) -> String {
    match parse("web", text, Path::new("web.yaml")) {
        Ok(spec) => panic!("{text}\nis {spec:?}"),
        Err(problems) => rendered(&problems),
    }
}

#[test]
fn every_key_reaches_the_spec() {
    let mut spec = Spec::new(
        "web",
        words(&["sh", "-c", "exec \"$0\" --serve", "/bin/web"]),
    );
    spec.test = Some(Test {
        check: Check::Exec(words(&["curl", "-f", "http://localhost/"])),
        interval: Some(Duration::from_millis(100)),
        timeout: Duration::from_secs(3),
        retries: Some(5),
        start_period: Duration::ZERO,
    });
    spec.after = words(&["net", "log-dir"]);
    spec.requires = words(&["db"]);
    spec.stop_command = Some(words(&["webctl", "quit"]));
    spec.stop_signal = Signal::INT;
    spec.signal_to = Reach::All;
    spec.grace = Duration::from_secs(30);
    spec.exit_grace = Duration::from_millis(500);
    spec.kill_timeout = Duration::from_millis(1500);
    spec.start_timeout = Some(Duration::from_secs(120));
    spec.restart = RestartPolicy {
        when: RestartWhen::OnFailure,
        delay: Duration::from_secs(1),
        max_delay: Duration::from_secs(60),
        stable_after: Duration::from_secs(5),
        burst: Some(3),
        window: Duration::from_secs(600),
    };
    spec.log = LogMode::Stdout;
    for (key, value) in [
        ("PORT", "8080"),
        ("EMPTY", ""),
        ("NAME", "a b"),
        ("x-y", "~"),
    ] {
        spec.env.insert(key.into(), value.into());
    }
    spec.dir = "/srv".into();
    spec.env_files = [("/etc/default/web", false), ("/etc/default/local", true)]
        .map(|(path, optional)| EnvFile {
            path: path.into(),
            optional,
        })
        .into();
    spec.remain = true;
    spec.keep = words(&["web-worker", "shell*"]);
    spec.min_guarantee = Some(Guarantee {
        containment: Containment::CgroupSignal,
        scan: ScanQuality::Marked,
    });
    spec.on_failure = EndAction::StopAll;
    spec.user = Some("web".into());
    spec.group = Some("33".into());
    spec.umask = Some(0o27);
    for (resource, soft, hard) in [
        (Resource::OpenFiles, Some(1024), Some(65536)),
        (Resource::Core, Some(0), Some(0)),
        (Resource::AddressSpace, Some(2 << 30), Some(2 << 30)),
        (Resource::Cpu, Some(600), Some(600)),
        (Resource::RealtimeCpu, Some(1000), Some(1000)),
        (Resource::LockedMemory, None, None),
        (Resource::Processes, Some(5), Some(9)),
    ] {
        spec.limits.insert(resource, Limit { soft, hard });
    }
    spec.nice = Some(-5);
    spec.oom_score_adj = Some(500);
    assert_eq!(good(FULL), spec);
}

#[test]
fn a_role_says_what_the_file_leaves_open() {
    let init = good("exec: fetch\nrole: init\n");
    assert!(init.oneshot && init.on_failure == EndAction::StopAll);
    let lenient = good("exec: fetch\nrole: init\non_failure: ignore\n");
    assert_eq!(lenient.on_failure, EndAction::Ignore);
    let main = good("exec: report\nrole: main\n");
    assert_eq!(
        (main.role, main.restart.when),
        (Some(Role::Main), RestartWhen::Never)
    );
    let main = good("exec: web\nrole: main\nrestart: on-failure\nstop_after: [php]\n");
    assert_eq!(main.restart.when, RestartWhen::OnFailure);
    assert_eq!(main.stop_after, ["php"]);
    assert!(main.after.is_empty());
    let sidecar = good("exec: proxy\nrole: sidecar\n");
    assert_eq!(sidecar.restart.when, RestartWhen::Always);
    for text in [
        "exec: x\nrole: sidecar\noneshot: true\n",
        "exec: x\nrole: init\noneshot: false\n",
        "exec: x\nrole: helper\n",
    ] {
        let path = std::path::Path::new("x.yaml");
        assert!(config::parse("x", text, path).is_err(), "{text}");
    }
}

#[test]
fn what_zinit_leaves_out_has_its_defaults() {
    let plain = Spec::new("web", words(&["/bin/web"]));
    for text in [
        "exec: /bin/web",
        "exec: [/bin/web]",
        "{exec: /bin/web}",
        "---\nexec: /bin/web\n...\n",
        "\u{feff}exec: /bin/web\r\nafter:\r\n",
        "exec: /bin/web\ntest: ''\nenv:\nsignal: {}\nrestart: {}\ndir: ''",
        "exec: &a /bin/web\nx-b: *a",
        "exec: !!str /bin/web",
        "exec: >\n  /bin/web\n",
    ] {
        assert_eq!(good(text), plain, "{text}");
    }
}

#[test]
fn ready_looks_at_one_thing_of_many() {
    let local = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let http = |addresses: Vec<SocketAddr>, host: &str, path: &str| {
        Check::Http(HttpGet {
            addresses,
            host: host.into(),
            path: path.into(),
        })
    };
    let six = |port: u16| SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    for (value, check) in [
        ("exec: [true, a b]", Check::Exec(words(&["true", "a b"]))),
        ("tcp: 80", Check::Tcp(vec![local(80)])),
        ("tcp: '127.0.0.1:80'", Check::Tcp(vec![local(80)])),
        ("tcp: 'localhost:80'", Check::Tcp(vec![local(80), six(80)])),
        ("tcp: '[::1]:80'", Check::Tcp(vec![six(80)])),
        ("unix: /run/x", Check::Unix("/run/x".into())),
        ("file: /run/x", Check::File("/run/x".into())),
        (
            "http: 'http://127.0.0.1:8080/up?a=b#c'",
            http(vec![local(8080)], "127.0.0.1:8080", "/up?a=b"),
        ),
        (
            "http: http://localhost",
            http(vec![local(80), six(80)], "localhost", "/"),
        ),
        (
            "http: 'http://[::1]:81?x'",
            http(vec![six(81)], "[::1]:81", "/?x"),
        ),
    ] {
        let spec = good(&format!("exec: a\nready: {{{value}, start_period: 2m}}\n"));
        let test = spec.test.unwrap();
        assert_eq!(test.check, check, "{value}");
        assert_eq!(test.start_period, Duration::from_secs(120));
    }
}

#[test]
fn ready_that_cannot_be_looked_at_is_refused_with_a_hint() {
    for (ready, message) in [
        ("{}", "`ready` says nothing to look at"),
        ("{tcp: 1, file: /x}", "`ready` has tcp and file"),
        ("pg_isready", "`ready` must be a mapping"),
        ("{tcp: db:5432}", "`ready.tcp` is no address with a port"),
        ("{tcp: 0}", "`ready.tcp` is no address with a port"),
        ("{tcp: 127.0.0.1}", "`ready.tcp` is no address with a port"),
        ("{http: 'https://x/'}", "`ready.http` is no URL"),
        ("{http: 'http://a.b/'}", "`ready.http` is no URL"),
        (
            "{http: \"http://127.0.0.1/\\r\\nX: y\"}",
            "`ready.http` is no URL",
        ),
        ("{http: 'http://127.0.0.1/ä'}", "`ready.http` is no URL"),
        ("{file: ready}", "`ready.file` is no absolute path"),
        ("{unix: ''}", "`ready.unix` is no absolute path"),
        ("{tcpp: 1}", "did you mean `tcp`?"),
    ] {
        let told = bad(&format!("exec: a\nready: {ready}\n"));
        assert!(told.contains(message) && told.contains("hint:"), "{told}");
    }
    let told = bad("exec: a\ntest: b\nready: {tcp: 1}\n");
    assert!(told.contains("`ready` and `test` both"), "{told}");
}

#[test]
fn the_log_can_be_null_in_every_spelling() {
    for (word, mode) in [
        ("ring", LogMode::Ring),
        ("stdout", LogMode::Stdout),
        ("none", LogMode::None),
        ("null", LogMode::None),
        ("'null'", LogMode::None),
        ("~", LogMode::None),
        ("", LogMode::None),
    ] {
        assert_eq!(good(&format!("exec: a\nlog: {word}\n")).log, mode, "{word}");
    }
    assert_eq!(good("exec: a").log, LogMode::Ring);
}

#[test]
fn a_restart_policy_can_be_one_word() {
    assert_eq!(
        good("exec: a\nrestart: never").restart.when,
        RestartWhen::Never
    );
    let long = good("exec: a\nrestart: {delay: 2m}").restart;
    assert_eq!(long.max_delay, Duration::from_secs(120));
}

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
    hint: the keys are exec, test, ready, oneshot, after, requires, stop_after, role, stop, signal, shutdown_timeout, \
exit_grace, kill_timeout, start_timeout, restart, remain, on_end, on_failure, essential, survivors, pid_namespace, min_guarantee, log, env, env_file, dir, user, group, umask, limits, nice, oom_score_adj; one of your own may begin with `x-`
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
web.yaml:6:19: error: `shutdown_timeout` must be a duration, this is `1.5`
    shutdown_timeout: 1.5
                      ^^^
    hint: write whole seconds (`10`) or a number with its unit: `250ms`, `1.5s`, `2m`, `1h30m` \
(us, ms, s, m, h, d)
web.yaml:7:15: error: `kill_timeout` cannot be zero
    kill_timeout: 0
                  ^
    hint: every stop that has to kill would end lingering
web.yaml:8:6: error: `log` must be one of ring, stdout, none, null, this is `rign`
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
web.yaml:13:3: error: in `env`, the variable has no name
      '': y
      ^^
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
"
    );
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
    for name in ["", "a.b", "a/b", "a\\b", "..", "a\nb"] {
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

/// A directory that goes away with the test.
struct Dir(std::path::PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path =
            std::env::temp_dir().join(format!("nought-config-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    fn file(&self, name: &str, text: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), text).unwrap();
    }

    /// What loading it gives: names, and problems without the directory's path.
    fn load(&self) -> (Vec<String>, String) {
        let loaded = load_dir(&self.0);
        let names = loaded.services.iter().map(|(spec, _)| spec.name.clone());
        let problems = rendered(&loaded.problems);
        let dir = format!("{}/", self.0.display());
        (names.collect(), problems.replace(&dir, ""))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn one_bad_file_never_stops_the_others() {
    let dir = Dir::new("bad");
    dir.file("a.yaml", "exec: /bin/a\nafter: [broken, gone, zeds]\n");
    dir.file("broken.yaml", "exce: /bin/b\n");
    dir.file("latin.yaml", b"exec: a\ndir: /caf\xe9\n");
    dir.file("old.yml", "exec: /bin/old\n");
    dir.file(".hidden.yaml", "not: read");
    dir.file("README", "not a service");
    dir.file("shell.yaml", "exec: a | b\ndir: here\nafter: [zed]\n");
    dir.file("two.dots.yaml", "exec: a\n");
    dir.file("zed.yaml", "exec: z\noneshot: true\nrestart: always\n");
    std::fs::create_dir(dir.0.join("folder.yaml")).unwrap();
    let (names, problems) = dir.load();
    assert_eq!(names, ["a", "shell", "zed"]);
    assert_eq!(
        problems,
        "\
a.yaml:2:9: warning: the file of `broken` has errors: `a` will wait until they are mended
    after: [broken, gone, zeds]
            ^^^^^^
    hint: see what is said of broken.yaml
a.yaml:2:17: warning: there is no service `gone`: `a` will wait for it
    after: [broken, gone, zeds]
                    ^^^^
    hint: add gone.yaml, or take the name out
a.yaml:2:23: warning: there is no service `zeds`: `a` will wait for it
    after: [broken, gone, zeds]
                          ^^^^
    hint: did you mean `zed`?
broken.yaml:1:1: error: unknown key `exce`
    exce: /bin/b
    ^^^^
    hint: did you mean `exec`?
broken.yaml:1:1: error: `exec` is missing
    exce: /bin/b
    ^
    hint: add `exec: COMMAND`, the command to run
folder.yaml: error: this is not a file
    hint: move it away, or rename it
latin.yaml:2:10: error: this is not UTF-8
    dir: /caf\u{fffd}
             ^
    hint: save the file as UTF-8
old.yml: warning: this file is ignored: service files end in `.yaml`
    hint: rename it to old.yaml, or move it away
shell.yaml:1:7: warning: no shell runs `exec`: the command gets `|` as an argument
    exec: a | b
          ^^^^^
    hint: for a shell write a list: [sh, -c, '…']
shell.yaml:2:6: warning: `dir` is relative to wherever the supervisor was started
    dir: here
         ^^^^
    hint: give the whole path, from `/`
two.dots.yaml: error: a service's name cannot contain '.'
    hint: a service is called what its file is called, without `.yaml`: rename the file
zed.yaml:3:10: warning: `restart` has no effect on a oneshot
    restart: always
             ^^^^^^
"
    );
}

#[test]
fn a_cycle_is_named_on_each_of_its_members() {
    let dir = Dir::new("cycle");
    dir.file("a.yaml", "exec: a\nafter: [out, b]\n");
    dir.file("b.yaml", "exec: b\nrequires: [c]\n");
    dir.file("c.yaml", "exec: c\nafter: [a, b]\n");
    dir.file("out.yaml", "exec: o\n");
    dir.file("self.yaml", "exec: s\nafter: [self]\n");
    dir.file("into.yaml", "exec: i\nafter: [a]\n");
    let (names, problems) = dir.load();
    assert_eq!(names, ["a", "b", "c", "into", "out", "self"]);
    let heads: Vec<&str> = problems
        .lines()
        .filter(|line| line.contains("error"))
        .collect();
    assert_eq!(
        heads,
        [
            "a.yaml:2:14: error: a dependency cycle: a → b → c → a",
            "b.yaml:2:12: error: a dependency cycle: b → c → b",
            "c.yaml:2:9: error: a dependency cycle: c → a → b → c",
            "self.yaml:2:9: error: a dependency cycle: self → self",
        ]
    );
}

#[test]
fn a_long_chain_and_a_large_cycle_load() {
    let dir = Dir::new("chain");
    for n in 0..600 {
        let after = if n == 0 { 599 } else { n - 1 };
        dir.file(
            &format!("s{n}.yaml"),
            format!("exec: a\nafter: [s{after}]\n"),
        );
    }
    let loaded = load_dir(&dir.0);
    assert_eq!(loaded.services.len(), 600);
    assert_eq!(loaded.problems.len(), 600);
}

#[test]
fn a_directory_that_is_not_there_is_a_problem() {
    let loaded = load_dir(Path::new("/nonexistent/nought"));
    assert!(loaded.has_errors());
    let said = rendered(&loaded.problems);
    assert!(
        said.starts_with("/nonexistent/nought: error: cannot read the directory"),
        "{said}"
    );
}

#[test]
fn a_service_that_stops_everything_is_not_started_again_unless_its_file_says_so() {
    for (text, when) in [
        ("exec: a", RestartWhen::Always),
        ("exec: a\nessential: true", RestartWhen::Never),
        ("exec: a\non_end: stop_all", RestartWhen::Never),
        ("exec: a\non_failure: stop_all", RestartWhen::Never),
        (
            "exec: a\nessential: true\nrestart: on-failure",
            RestartWhen::OnFailure,
        ),
        (
            "exec: a\nessential: true\nrestart: {burst: 3}",
            RestartWhen::Always,
        ),
    ] {
        assert_eq!(good(text).restart.when, when, "{text}");
    }
}

// ---- zinit's files -----------------------------------------------------------------------------

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
    spec.test = Some(Test::new(Check::Exec(words(&["b"]))));
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
    const KEYS: [&str; 27] = [
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
    ];
    const VALUES: [&str; 30] = [
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
    ];
    let mut used: Vec<&str> = Vec::new();
    let mut text = String::new();
    for _ in 0..=random.below(7) {
        let key = KEYS[random.below(KEYS.len())];
        if !used.contains(&key) {
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
        assert_eq!(ours.grace, Duration::from_secs(grace), "{text}");
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

/// xorshift64*: enough to mutate text with.
struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(value).unwrap() % n.max(1)
    }
}

fn mutated(random: &mut Random) -> String {
    const SAMPLES: [&str; 5] = [
        FULL,
        "exec: a\nafter: [b, c]\n",
        "exec: |\n  sh -c \"x\"\nenv:\n  A: &a 1\n  B: *a\n",
        "{exec: [a, 'b', \"c\\n\"], ? x-k : [v], log: ~}\n",
        "%YAML 1.2\n---\nexec: >-\n  a\n  b\n...\n# end\n",
    ];
    const PIECES: [&str; 28] = [
        "{", "}", "[", "]", ":", ": ", "- ", "\n", "\t", "\"", "'", "#", "&a ", "*a", "!!str ",
        "!x ", "---", "...", "? ", "|", ">", "%", "\\", "\0", "\u{feff}", "é", "\r", "  ",
    ];
    let mut text: Vec<char> = SAMPLES[random.below(SAMPLES.len())].chars().collect();
    for _ in 0..=random.below(6) {
        let at = random.below(text.len() + 1);
        match random.below(4) {
            0 => text.truncate(at),
            1 => drop(text.drain(at..(at + random.below(8)).min(text.len()))),
            2 => {
                let copy: Vec<char> = text[at..(at + random.below(40)).min(text.len())].to_vec();
                let to = random.below(text.len() + 1);
                text.splice(to..to, copy);
            }
            _ => drop(text.splice(at..at, PIECES[random.below(PIECES.len())].chars())),
        }
    }
    text.into_iter().collect()
}

fn fuzz(seed: u64, rounds: usize) -> usize {
    let mut random = Random(seed);
    let mut sound = 0;
    for _ in 0..rounds {
        let text = mutated(&mut random);
        let zinit = parse_as(Dialect::Zinit, "web", &text, Path::new("web.yaml"));
        match parse("web", &text, Path::new("web.yaml")) {
            Ok(spec) => {
                sound += 1;
                assert_eq!(zinit.as_ref().ok(), Some(&spec), "{text:?}");
                assert!(
                    !spec.exec.is_empty() && !spec.exec[0].is_empty(),
                    "{text:?}"
                );
            }
            Err(problems) => {
                assert!(problems.iter().any(config::Problem::is_error), "{text:?}");
                for problem in &problems {
                    let counts = problem.message.starts_with("and ");
                    assert!(problem.position.is_some() || counts, "{text:?}\n{problem}");
                    let lines = text.split(['\n', '\r']).count();
                    let line = problem.position.as_ref().map_or(1, |at| at.line);
                    assert!(line <= lines + 1, "{text:?}\n{problem}");
                }
            }
        }
        let _ = config::parse_environment(&text);
        let _ = config::split_words(&text);
    }
    sound
}

/// `NOUGHT_FUZZ_ROUNDS=1000000 cargo test --release --test config` looks further.
#[test]
fn no_input_panics() {
    let rounds = std::env::var("NOUGHT_FUZZ_ROUNDS").ok();
    let rounds = rounds.and_then(|n| n.parse().ok()).unwrap_or(10_000);
    let seed = 0x006e_6f75_6768_7400 ^ rounds as u64;
    let sound = fuzz(seed, rounds);
    assert!(
        sound > rounds / 50,
        "only {sound} of {rounds} were service files at all"
    );
}

/// libyaml, which zinit reads with, is the other opinion: where both take a text, the values
/// they see are the same.
#[test]
fn libyaml_sees_the_same_values() {
    let mut random = Random(0x5eed);
    let (mut both, mut compared) = (0, 0);
    for _ in 0..5_000 {
        let text = mutated(&mut random);
        let Ok(spec) = parse("web", &text, Path::new("web.yaml")) else {
            continue;
        };
        let Ok(value) = serde_yaml::from_str::<serde_yaml::Value>(&text) else {
            continue;
        };
        both += 1;
        if let Some(list) = value.get("exec").and_then(serde_yaml::Value::as_sequence) {
            let words: Option<Vec<&str>> = list.iter().map(serde_yaml::Value::as_str).collect();
            if let Some(words) = words {
                assert_eq!(spec.exec, words, "{text:?}");
                compared += 1;
            }
        } else if let Some(line) = value.get("exec").and_then(serde_yaml::Value::as_str) {
            assert_eq!(spec.exec, config::split_words(line).unwrap(), "{text:?}");
            compared += 1;
        }
        if let Some(dir) = value.get("dir").and_then(serde_yaml::Value::as_str) {
            assert_eq!(spec.dir, if dir.is_empty() { "/" } else { dir }, "{text:?}");
        }
        if let Some(env) = value.get("env").and_then(serde_yaml::Value::as_mapping) {
            for (key, value) in env {
                if let (Some(key), Some(value)) = (key.as_str(), value.as_str()) {
                    assert_eq!(
                        spec.env.get(key).map(String::as_str),
                        Some(value),
                        "{text:?}"
                    );
                }
            }
        }
    }
    assert!(both > 200 && compared > 200, "{both} {compared}");
}

#[test]
fn a_pid_namespace_is_asked_for_and_nobody_survives_it() {
    let own = good("exec: a\npid_namespace: true\nmin_guarantee: pid-namespace\n");
    assert!(own.pid_namespace && !good("exec: a\n").pid_namespace);
    let least = own.min_guarantee.unwrap();
    assert_eq!(least.containment, Containment::PidNamespace);
    let here = Guarantee {
        containment: Containment::Subreaper,
        scan: ScanQuality::Descent,
    };
    assert!(own.guarantee(here).meets(least));
    assert_eq!(own.guarantee(Guarantee::default()), Guarantee::default());
    assert_eq!(
        bad("exec: a\npid_namespace: true\nsurvivors: {keep: [a]}\n"),
        "web.yaml:3:12: error: nobody survives the end of a pid namespace
    survivors: {keep: [a]}
               ^
    hint: take `survivors` out, or `pid_namespace`
"
    );
}
