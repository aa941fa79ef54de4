//! Service files: sockets, the start on demand, what is kept for the next start, reloads.

use std::time::Duration;

use nought::core::{Reload, ReloadBy, Signal, Socket, SocketAt};

use crate::{bad, good, words};

fn socket(at: SocketAt) -> Socket {
    Socket {
        name: "web".into(),
        at,
        backlog: None,
        mode: 0o666,
        user: None,
        group: None,
    }
}

#[test]
fn sockets_of_every_kind() {
    let spec = good(
        "exec: a\nstart: on_demand\nsockets:\n- tcp: 127.0.0.1:80\n- {udp: '[::1]:53', name: dns}\n\
         - {unix: /run/a, mode: '0640', user: www, group: 33, backlog: 16}\n\
         - unix_datagram: /run/b\n",
    );
    assert!(spec.on_demand);
    let mut dns = socket(SocketAt::Udp("[::1]:53".parse().unwrap()));
    dns.name = "dns".into();
    let mut stream = socket(SocketAt::Stream("/run/a".into()));
    (stream.mode, stream.backlog) = (0o640, Some(16));
    (stream.user, stream.group) = (Some("www".into()), Some("33".into()));
    let wanted = [
        socket(SocketAt::Tcp("127.0.0.1:80".parse().unwrap())),
        dns,
        stream,
        socket(SocketAt::Datagram("/run/b".into())),
    ];
    assert_eq!(spec.sockets, wanted);
    assert!(!good("exec: a\nsockets: [{tcp: '0.0.0.0:1'}]\nstart: boot\n").on_demand);
}

#[test]
fn what_no_socket_can_be_is_said_with_a_hint() {
    for (sockets, message) in [
        ("{tcp: 80}", "write `127.0.0.1:80` for this machine alone"),
        ("{tcp: 'localhost:80'}", "numbers, no name"),
        ("{tcp: '127.0.0.1:0'}", "no address with a port"),
        ("{unix: run/a}", "give the whole path"),
        (
            "{tcp: '127.0.0.1:80', mode: '0600'}",
            "for Unix sockets only",
        ),
        (
            "{tcp: '127.0.0.1:80', unix: /a}",
            "a socket has tcp and unix",
        ),
        ("{name: a}", "a socket says nowhere to listen"),
        ("{unix: /a, name: 'a:b'}", "`sockets.name` is no name"),
        ("{unix: /a, mode: 999}", "must be an octal number"),
        ("{unix: /a}, {unix: /a}", "is in `sockets` twice"),
        ("/run/a", "a socket must be a mapping"),
        ("{unx: /a}", "did you mean `unix`?"),
    ] {
        let told = bad(&format!("exec: a\nsockets: [{sockets}]\n"));
        assert!(told.contains(message) && told.contains("hint:"), "{told}");
    }
    let many: Vec<String> = (0..33).map(|n| format!("{{unix: /{n}}}")).collect();
    let told = bad(&format!("exec: a\nsockets: [{}]\n", many.join(", ")));
    assert!(told.contains("32 are the most"), "{told}");
    let told = bad("exec: a\nlisten: [{tcp: '127.0.0.1:80'}]\n");
    assert!(told.contains("here it is called `sockets`"), "{told}");
}

#[test]
fn what_cannot_be_started_on_demand() {
    let one = "sockets: [{unix: /a}]\nstart: on_demand";
    for (keys, message) in [
        ("start: on_demand", "there are no `sockets`"),
        (&format!("{one}\noneshot: true"), "a oneshot runs once"),
        (
            &format!("{one}\nremain: true"),
            "does not take the sockets over",
        ),
        (&format!("{one}\nrole: sidecar"), "a `role` says when"),
        ("start: never", "`start` must be one of boot, on_demand"),
    ] {
        let told = bad(&format!("exec: a\n{keys}\n"));
        assert!(told.contains(message), "{told}");
    }
}

#[test]
fn descriptors_that_are_handed_over_follow_one_another() {
    let two = "sockets: [{unix: /a}, {unix: /b}]";
    let told = bad(&format!("exec: a\nready: {{fd: 4}}\n{two}\n"));
    assert!(told.contains("write `fd: 5` or above"), "{told}");
    assert_eq!(
        good(&format!("exec: a\nready: {{fd: 5}}\n{two}\n"))
            .sockets
            .len(),
        2
    );
    let told = bad(&format!("exec: a\nready: {{fd: 5}}\nwatchdog: 1s\n{two}\n"));
    assert!(told.contains("write `fd: 21` or above"), "{told}");
    assert_eq!(good("exec: a\nwatchdog: 1s\nfd_store: 0\n").fd_store, 0);
    assert!(bad("exec: a\nwatchdog: 1s\nfd_store: 64\n").contains("write 0 to 63"));
}

#[test]
fn a_reload_is_a_signal_or_a_command() {
    let signal = |signal| Some(Reload::new(ReloadBy::Signal(signal)));
    let command = |line: &[&str]| Some(Reload::new(ReloadBy::Command(words(line))));
    for (text, wanted) in [
        ("SIGHUP", signal(Signal::HUP)),
        ("sigint", signal(Signal::INT)),
        ("hup", command(&["hup"])),
        ("nginx -s reload", command(&["nginx", "-s", "reload"])),
        ("[a, b]", command(&["a", "b"])),
        ("{signal: hup}", signal(Signal::HUP)),
        ("{exec: a b}", command(&["a", "b"])),
    ] {
        assert_eq!(
            good(&format!("exec: a\nreload: {text}\n"))
                .reload
                .map(|reload| *reload),
            wanted,
            "{text}"
        );
    }
    let spec = good("exec: a\nreload: {signal: HUP, notify: true, timeout: 5s}\n");
    assert!(spec.listens(), "what it says of its reload is heard");
    let reload = spec.reload.unwrap();
    assert_eq!(
        (reload.notify, reload.timeout),
        (true, Duration::from_secs(5))
    );
    for (text, message) in [
        ("SIGFOO", "`reload` is no signal"),
        (
            "SIGKILL",
            "no program can take SIGKILL for a wish to reload",
        ),
        ("{notify: true}", "`reload` says nothing"),
        (
            "{signal: HUP, exec: a}",
            "`reload` has a signal and a command",
        ),
        (
            "{signal: HUP, timeout: 0}",
            "`reload.timeout` cannot be zero",
        ),
    ] {
        let told = bad(&format!("exec: a\nreload: {text}\n"));
        assert!(told.contains(message) && told.contains("hint:"), "{told}");
    }
}
