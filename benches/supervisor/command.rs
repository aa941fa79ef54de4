//! A command as a whole process, from its spawn to its end.

use std::process::{Command, Stdio};

use crate::Options;
use crate::machine::now_ms;
use crate::report::{Report, Samples};
use crate::supervisor::{NOUGHT, Nought};

pub(crate) fn run(options: &Options, report: &mut Report) {
    let file = "exec: sleep 100000\n".to_owned();
    let services: Vec<(String, String)> =
        (0..10).map(|n| (format!("s{n}"), file.clone())).collect();
    let nought = Nought::start("command", &services);
    let mut client = nought.connect();
    for (name, _) in &services {
        client.start(name);
    }
    client.stop("s0");
    let socket = nought.socket();
    let socket = socket.to_str().expect("a plain path");
    let (mut bare, mut list, mut stop, mut status) = Default::default();
    for _ in 0..options.rounds(100, 20) {
        time(&mut bare, &["/bin/true"]);
        time(&mut list, &[NOUGHT, "-s", socket, "list"]);
        time(&mut status, &[NOUGHT, "-s", socket, "status", "s1"]);
        time(&mut stop, &[NOUGHT, "-s", socket, "stop", "s0"]);
    }
    report.title("commands as whole processes, ms");
    report.row("/bin/true", "", &bare, None);
    report.row("nought list (10 services)", "", &list, Some(&bare));
    report.row("nought status", "", &status, Some(&bare));
    report.row("nought stop (already down)", "", &stop, Some(&bare));
    drop(client);
    nought.shut_down();
}

fn time(samples: &mut Samples, words: &[&str]) {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let began = now_ms();
    let status = command.status().expect("run a command");
    samples.push(now_ms() - began);
    assert!(status.success(), "{words:?} ended with {status}");
}
