//! The command line as it is written, and what is made of it.

use std::ffi::OsStr;

use super::super::called::default_socket;
use super::*;

fn parsed(words: &[&str]) -> Task {
    let argv = std::iter::once("nought").chain(words.iter().copied());
    Cli::try_parse_from(argv).unwrap().split(Called::Nought)
}

fn client(words: &[&str]) -> (Options, ClientCommand) {
    match parsed(words) {
        Task::Client(options, command) => (options, command),
        Task::Init(_) | Task::Run(_) => panic!("{words:?}"),
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_docs_name_every_command() {
    let docs = include_str!("../../../docs/commands.md");
    for command in Cli::command().get_subcommands() {
        let name = command.get_name();
        let named = docs.contains(&format!("`{name} ")) || docs.contains(&format!("`{name}`"));
        assert!(named, "{name}");
    }
}

#[test]
fn the_socket_goes_before_and_after_the_command() {
    for words in [
        &["-s", "/x"][..],
        &["-s", "/x", "list"],
        &["list", "-s", "/x"],
        &["status", "web", "--socket", "/x"],
        &["--socket", "/x", "stop", "a", "b"],
        &["-s", "/x", "log", "-s", "web"],
        &["log", "web", "-s", "--socket", "/x"],
    ] {
        assert_eq!(client(words).0.socket, PathBuf::from("/x"), "{words:?}");
    }
}

#[test]
fn after_log_it_is_snapshot() {
    let (options, command) = client(&["log", "-s", "web"]);
    assert_eq!(options.socket, default_socket());
    let ClientCommand::Log(log) = command else {
        panic!("{command:?}");
    };
    assert_eq!((log.services, log.snapshot), (vec!["web".to_owned()], true));
}

#[test]
fn called_as_zinit_it_has_zinits_defaults() {
    for (program, called) in [
        ("zinit", Called::Zinit),
        ("/usr/local/bin/zinit", Called::Zinit),
        ("nought", Called::Nought),
        ("zinit-old", Called::Nought),
    ] {
        assert_eq!(Called::of(Some(OsStr::new(program))), called, "{program}");
    }
    let init = |words: &[&str]| {
        let argv = ["zinit"].into_iter().chain(words.iter().copied());
        match Cli::try_parse_from(argv).unwrap().split(Called::Zinit) {
            Task::Init(args) => args,
            Task::Client(_, command) => panic!("{command:?}"),
            Task::Run(args) => panic!("{args:?}"),
        }
    };
    let args = init(&["init"]);
    assert_eq!(args.config_dir, PathBuf::from("/etc/zinit"));
    assert_eq!(args.socket, PathBuf::from("/tmp/zinit.sock"));
    assert_eq!(args.dialect, config::Dialect::Zinit);
    assert!(args.ring_lines.is_none());
    let args = init(&["-s", "/x", "init", "-c", "/y"]);
    assert_eq!((args.config_dir, args.socket), ("/y".into(), "/x".into()));
}

#[test]
fn init_has_zinits_options_and_ours() {
    let words = "init -c /c -s /s --container --deadline 1m --state-dir /d --watchdog 30s -b 100 \
                 --socket-group root -d --http 127.0.0.1:9100 --http-read-only --termination-log /t \
                 --memory 2G --cpus 150% --pids 500 --limits optional";
    let words: Vec<&str> = words.split(' ').collect();
    let Task::Init(args) = parsed(&words) else {
        panic!("no init");
    };
    assert_eq!(
        args,
        InitArgs {
            config_dir: "/c".into(),
            socket: "/s".into(),
            container: true,
            deadline: Some(Duration::from_secs(60)),
            state_dir: Some("/d".into()),
            watchdog: Some(Duration::from_secs(30)),
            ring_lines: Some(100),
            socket_group: Some(0),
            watch: false,
            dialect: config::Dialect::Nought,
            http: Some(([127, 0, 0, 1], 9100).into()),
            http_read_only: true,
            termination_log: Some("/t".into()),
            debug: true,
            min_guarantee: None,
            together: Resources {
                memory_max: Some(2 << 30),
                cpu_max: Some(1_500_000),
                pids_max: Some(500),
                optional: true,
                ..Resources::default()
            },
        }
    );
}
