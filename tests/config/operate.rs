//! Service files: what a service says of itself, what is looked at while it is up, where its
//! output goes.

use std::time::Duration;

use nought::core::{Check, Health, LogFormat, LogMode, LogTarget, LogTo};

use crate::{bad, good};

#[test]
fn a_service_can_say_itself_that_it_is_ready() {
    for (ready, check) in [
        ("notify: true", Check::Notify),
        ("fd: 3", Check::Fd(3)),
        (
            "log_regex: 'ready in \\d+ ms'",
            Check::LogRegex("ready in \\d+ ms".into()),
        ),
    ] {
        let spec = good(&format!("exec: a\nready: {{{ready}}}\n"));
        assert_eq!(spec.listens(), check == Check::Notify);
        assert_eq!(spec.test.unwrap().check, check);
    }
    for (ready, message) in [
        ("{notify: false}", "`ready.notify` is not `true`"),
        ("{fd: 2}", "`ready.fd` is no descriptor"),
        ("{fd: 256}", "`ready.fd` is no descriptor"),
        ("{fd: stdout}", "`ready.fd` is no descriptor"),
        (
            "{log_regex: '('}",
            "`ready.log_regex` is no regular expression",
        ),
        ("{notify: true, tcp: 1}", "`ready` has tcp and notify"),
    ] {
        let told = bad(&format!("exec: a\nready: {ready}\n"));
        assert!(told.contains(message) && told.contains("hint:"), "{told}");
    }
}

#[test]
fn health_and_watchdog() {
    let spec = good("exec: a\nhealth: {tcp: 80}\nwatchdog: 30s\n");
    let health = spec.health.unwrap();
    assert!(matches!(health.test.check, Check::Tcp(_)));
    let pace = (
        health.test.interval.unwrap(),
        health.test.timeout,
        health.failures,
    );
    assert_eq!(pace, (Duration::from_secs(10), Duration::from_secs(10), 3));
    assert_eq!(spec.watchdog, Some(Duration::from_secs(30)));
    let spec = good(
        "exec: a\nhealth: {exec: [a, b], interval: 1s, timeout: 2s, failures: 5, start_period: 1m}\n",
    );
    let mut wanted = Health::new(Check::Exec(vec!["a".into(), "b".into()]));
    wanted.test.interval = Some(Duration::from_secs(1));
    wanted.test.timeout = Duration::from_secs(2);
    wanted.test.start_period = Duration::from_secs(60);
    wanted.failures = 5;
    assert_eq!(spec.health, Some(Box::new(wanted)));
    for (text, message) in [
        ("health: curl", "`health` must be a mapping"),
        ("health: {}", "`health` says nothing to look at"),
        ("health: {notify: true}", "notify"),
        (
            "health: {tcp: 1, failures: 0}",
            "`health.failures` cannot be zero",
        ),
        ("health: {tcp: 1, retries: 3}", "retries"),
        ("watchdog: 0", "`watchdog`"),
    ] {
        let told = bad(&format!("exec: a\n{text}\n"));
        assert!(told.contains(message) && told.contains("hint:"), "{told}");
    }
}

fn to(text: &str) -> LogTo {
    let spec = good(&format!("exec: a\nlog: {text}\n"));
    assert_eq!(spec.log, LogMode::Ring);
    *spec.log_to.unwrap()
}

#[test]
fn output_goes_to_files_the_journal_and_syslog() {
    let file = |max_size, keep, compress| LogTarget::File {
        path: "/l".into(),
        max_size,
        keep,
        compress,
    };
    let plain = |target| LogTo {
        target,
        format: LogFormat::Prefix,
        block: false,
    };
    assert_eq!(to("{path: /l}"), plain(file(10 << 20, 5, false)));
    let all = "{to: file, path: /l, max_size: 64K, keep: 0, compress: true, format: json, \
               backpressure: block}";
    let wanted = LogTo {
        target: file(64 << 10, 0, true),
        format: LogFormat::Json,
        block: true,
    };
    assert_eq!(to(all), wanted);
    let journal = "/run/systemd/journal/socket".into();
    assert_eq!(to("journald"), plain(LogTarget::Journal(journal)));
    assert_eq!(
        to("{to: syslog}"),
        plain(LogTarget::Syslog("/dev/log".into()))
    );
    assert_eq!(
        to("{to: syslog, path: /x}"),
        plain(LogTarget::Syslog("/x".into()))
    );
    assert_eq!(good("exec: a\nlog: {to: none}\n").log, LogMode::None);
    for (log, message) in [
        ("file", "`log: file` says no path"),
        ("{to: file}", "`log` to a file has no `path`"),
        ("{}", "`log` has no `to`"),
        ("{path: web.log}", "`log.path` is no absolute path"),
        ("{path: /l, max_size: 1}", "`log.max_size` is no size"),
        ("{path: /l, keep: many}", "`log.keep` is no number"),
        ("{pathh: /l}", "did you mean `path`?"),
    ] {
        let told = bad(&format!("exec: a\nlog: {log}\n"));
        assert!(told.contains(message) && told.contains("hint:"), "{told}");
    }
}
