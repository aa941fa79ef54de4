//! What a client is told, word for word.

use std::fmt::Write as _;

use super::*;
use crate::core::{Cause, GenId, Guarantee, Receipt, Survivor, Time, Verdict};

#[test]
fn a_hint_names_the_directory_as_one_word() {
    let error = locate(not_found("web", "status"), &word("/srv/it's here"));
    let hint = error.data.unwrap().hint.unwrap();
    assert!(
        hint.contains(r"`nought check -c '/srv/it'\''s here'`"),
        "{hint}"
    );
    assert_eq!(
        (word("/etc/nought"), word("")),
        ("/etc/nought".into(), "''".into())
    );
}

const CLOCKS: Clocks = Clocks {
    boot: Time::from_nanos(0),
    wall_ms: 0,
};

fn lingering() -> Box<Receipt> {
    let survivor = |pid| Survivor {
        pid,
        ..Survivor::default()
    };
    Box::new(Receipt {
        service: "web".into(),
        r#gen: GenId(1),
        pid: None,
        cause: Cause::Stop,
        verdict: Verdict::Lingering,
        reason: Some("2 processes survive".into()),
        guarantee: Guarantee::default(),
        started: None,
        began: Time::from_nanos(0),
        ended: Time::from_nanos(0),
        exit: None,
        oom_kills: 0,
        allotment: None,
        waited_for: None,
        steps: Vec::new(),
        killed: Vec::new(),
        escaped: Vec::new(),
        foreign: Vec::new(),
        kept: Vec::new(),
        survivors: vec![survivor(7), survivor(8)],
        late: false,
    })
}

/// Code, message, causes and hint, each in a line of its own.
fn told(errors: impl IntoIterator<Item = RpcError>) -> String {
    let mut out = String::new();
    for error in errors {
        let data = error.data.unwrap();
        let _ = writeln!(out, "{} {}: {}", error.code, data.code_name, error.message);
        for cause in data.cause_chain {
            let _ = writeln!(out, "  because {cause}");
        }
        let _ = writeln!(
            out,
            "  {}",
            data.hint.expect("every error says what to do next")
        );
    }
    out
}

#[test]
fn what_the_core_refuses_says_what_to_do_next() {
    let service = || "web".to_owned();
    let why = || "why".to_owned();
    let errors = [
        RequestError::NotFound { service: service() },
        RequestError::AlreadyLoaded { service: service() },
        RequestError::IsUp {
            service: service(),
            state: "up",
        },
        RequestError::Cycle {
            service: service(),
            cycle: "web → db → web".into(),
        },
        RequestError::ShuttingDown,
        RequestError::Lingering(lingering()),
        RequestError::DependentLingers(lingering()),
        RequestError::Refused {
            service: service(),
            why: why(),
        },
        RequestError::Blocked {
            service: service(),
            why: why(),
        },
        RequestError::Failed {
            service: service(),
            why: why(),
        },
        RequestError::Superseded { service: service() },
    ];
    let said = told(errors.map(|refused| error(refused, "start", CLOCKS)));
    assert_eq!(said, CORE, "{said}");
}

const CORE: &str = "\
-32000 ServiceNotFound: there is no service \"web\"
  `nought list` shows those there are; `nought monitor` takes one in whose file is new, `nought check` says what is wrong with it
-32001 ServiceAlreadyMonitored: web is monitored already
  to take in its changed file: `nought stop web`, `nought forget web`, `nought monitor web`
-32002 ServiceIsUp: failed to start web: it is up
  stop it first: `nought stop web`
-32005 ConfigError: failed to start web: it would close a dependency cycle
  because web → db → web
  take one of these names out of an `after` or `requires`
-32006 ShuttingDown: failed to start: a shutdown is under way
  nothing is started any more; start the supervisor again when it has ended
-32010 Lingering: web lingers: 2 process(es) survive
  because 2 processes survive
  see `nought receipt web` for what holds 7, 8; it turns verified by itself when they end; `nought start --force web` starts beside them
-32011 DependentLingers: web, which requires it, lingers, so it was left running
  `--force` stops it all the same
-32012 Refused: failed to start web: why
  mend the files' `after` and `requires`; then stop, forget and monitor them
-32013 Blocked: web is blocked: why
  it starts by itself when that is there; see `nought status web`
-32014 Failed: web failed: why
  see `nought log web`
-32015 Superseded: failed to start web: a later request asked for the opposite
  `nought status web` shows what it is now; ask again if you still want it
";

#[test]
fn what_a_name_or_a_signal_is_refused_for_says_what_to_do_next() {
    let said = told([
        no_source("web/tset"),
        down("web", "signal", "failed"),
        down("web", "signal", "starting"),
        no_stats("web", "blocked"),
        bad_signal("web", "SIGX"),
    ]);
    assert_eq!(said, NAMES, "{said}");
}

const NAMES: &str = "\
-32000 ServiceNotFound: there is no log of \"web/tset\"
  a log is a service's, NAME, or its NAME/test, NAME/health, NAME/stop or NAME/reload; `nought list` shows the services
-32003 ServiceIsDown: failed to signal web: it has no main process, it is failed
  start it first: `nought start web`
-32003 ServiceIsDown: failed to signal web: it has no main process, it is starting
  it is about to have one: try again
-32003 ServiceIsDown: web has no stats: no process of it runs, it is blocked
  `nought why web` says what it waits for
-32004 InvalidSignal: failed to signal web: there is no signal \"SIGX\"
  give a name such as SIGHUP, hup or RTMIN+1, or a number from 1 to 64
";

#[test]
fn what_a_file_is_refused_for_says_what_to_do_next() {
    let path = || "/etc/nought/my web.yaml".to_owned();
    let failed = |doing| FileError::Failed {
        doing,
        path: path(),
        why: "Permission denied".into(),
    };
    let problems = || FileError::Problems(vec!["web.yaml:1:1: error: no".into()]);
    let of = |action: &'static str| move |refused| file(refused, "web", action);
    let said = told(
        [
            FileError::BadName("no name".into()),
            FileError::Missing(path()),
            problems(),
        ]
        .map(of("monitor"))
        .into_iter()
        .chain([FileError::Missing(path()), failed("read")].map(of("get")))
        .chain([FileError::Exists(path()), problems(), failed("write")].map(of("create")))
        .chain([failed("remove")].map(of("delete")))
        .chain([files(vec!["web.yaml:1:1: error: no".into()])]),
    );
    assert_eq!(said, FILES, "{said}");
}

const FILES: &str = "\
-32602 InvalidParams: failed to monitor web: no name
  a service is called what its file is called, without `.yaml`
-32000 ServiceNotFound: failed to monitor web: there is no file /etc/nought/my web.yaml
  write the file there first
-32005 ConfigError: failed to monitor web: that is no sound service file
  because web.yaml:1:1: error: no
  mend the file; `nought check` shows every problem of every file
-32000 ServiceNotFound: failed to get web: there is no file /etc/nought/my web.yaml
  see the directory for the files there are; service_create writes one
-32008 ServiceFileError: failed to get web: cannot read /etc/nought/my web.yaml
  because Permission denied
  see what it is: `ls -lL '/etc/nought/my web.yaml'`; it must be a file that the supervisor may read
-32007 ServiceAlreadyExists: failed to create web: /etc/nought/my web.yaml is there already
  delete it first, or change the file itself
-32005 ConfigError: failed to create web: that is no sound service file
  because web.yaml:1:1: error: no
  mend the content and create it again: nothing was written
-32008 ServiceFileError: failed to create web: cannot write /etc/nought/my web.yaml
  because Permission denied
  see who may write there, and whether there is room: `df`, `ls -ld`
-32008 ServiceFileError: failed to delete web: cannot remove /etc/nought/my web.yaml
  because Permission denied
  see what it is: `ls -ld '/etc/nought/my web.yaml'`; a file is removed, where the supervisor may write
-32005 ConfigError: failed to reload: not all service files are sound, so nothing changes
  because web.yaml:1:1: error: no
  mend the files; `nought check` shows every problem of every file
";
