//! How often an idle supervisor wakes.

use std::time::Duration;

use crate::machine::{pause, switches};
use crate::many::idle_services;
use crate::report::{Report, Samples};
use crate::supervisor::Nought;
use crate::{Options, peer};

pub(crate) fn run(options: &Options, report: &mut Report) {
    let nought = Nought::start("idle", &idle_services(50));
    let mut client = nought.connect();
    client.start("all");
    drop(client);
    // Threads that worked for the start end after a while.
    pause(Duration::from_secs(4));
    let woke = count(&[nought.pid()]);
    report.title("wake-ups of all threads in 10 s, 50 idle services");
    report.row("nought", "", &woke, None);
    nought.shut_down();
    if options.peers {
        peer::idle(report);
    }
}

/// The context switches of processes within 10 s.
pub(crate) fn count(pids: &[u32]) -> Samples {
    let sum = || pids.iter().copied().map(switches).sum::<f64>();
    let before = sum();
    pause(Duration::from_secs(10));
    Samples::from_iter([sum() - before])
}
