//! What each key means, and what a file leaves open.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use nought::config;
use nought::core::{
    Check, Containment, EndAction, EnvFile, Guarantee, HttpGet, IoMax, Limit, LogMode, Reach,
    Resource, Resources, RestartPolicy, RestartWhen, Role, ScanQuality, Signal, Spec, Test,
};

use crate::{FULL, bad, good, words};

#[test]
fn every_key_reaches_the_spec() {
    let mut spec = Spec::new(
        "web",
        words(&["sh", "-c", "exec \"$0\" --serve", "/bin/web"]),
    );
    spec.test = Some(Box::new(Test {
        check: Check::Exec(words(&["curl", "-f", "http://localhost/"])),
        interval: Some(Duration::from_millis(100)),
        timeout: Duration::from_secs(3),
        retries: Some(5),
        start_period: Duration::ZERO,
    }));
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
    spec.resources = Some(Box::new(Resources {
        memory_max: Some(512 << 20),
        memory_high: Some(3 << 29),
        memory_swap_max: Some(0),
        oom_group: true,
        cpu_max: Some(1_500_000),
        cpu_weight: Some(200),
        pids_max: Some(500),
        io_weight: Some(50),
        io_max: vec![
            IoMax {
                device: "8:0".into(),
                read_bytes: Some(10 << 20),
                writes: Some(100),
                ..IoMax::default()
            },
            IoMax {
                device: "/dev/sdb".into(),
                write_bytes: Some(1024),
                reads: Some(5),
                ..IoMax::default()
            },
        ],
        cpuset: Some("0-3,8".into()),
        delegate: true,
        optional: true,
    }));
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
