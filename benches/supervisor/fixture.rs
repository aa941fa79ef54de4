//! What the services of the benches do.

use std::io::Write;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

/// Runs the fixture `name` to its end.
pub(crate) fn run(name: &str, rest: &[String]) {
    match (name, rest) {
        // Takes exactly so long to stop.
        ("stops-in", [ms]) => {
            wait_for_term();
            std::thread::sleep(Duration::from_millis(ms.parse().expect("milliseconds")));
        }
        // Says when it began to run.
        ("stamp", [fifo]) => {
            let now = nought::sys::clock::boot_now();
            let opened = std::fs::OpenOptions::new().write(true).open(fifo);
            let mut fifo = opened.expect("open the FIFO");
            writeln!(fifo, "{now}").expect("write the moment");
            wait_for_term();
        }
        other => panic!("unknown fixture {other:?}"),
    }
}

fn wait_for_term() {
    let mut term = SigSet::empty();
    term.add(Signal::SIGTERM);
    term.thread_block().expect("block TERM");
    term.wait().expect("wait for TERM");
}

/// The command line of a fixture.
pub(crate) fn command(words: &str) -> String {
    let program = std::env::current_exe().expect("our own path");
    format!("{} --fixture {words}", program.display())
}

/// A command line of so many processes: a shell and those it waits for.
pub(crate) fn crowd(processes: usize) -> String {
    match processes {
        1 => "sleep 100000".into(),
        n => format!(
            "sh -c 'for i in $(seq {}); do sleep 100000 & done; wait'",
            n - 1
        ),
    }
}

/// The same, deaf to SIGTERM.
pub(crate) fn deaf_crowd(processes: usize) -> String {
    match processes {
        1 => "sh -c 'trap \"\" TERM; exec sleep 100000'".into(),
        n => format!(
            "sh -c 'trap \"\" TERM; for i in $(seq {}); do sleep 100000 & done; wait'",
            n - 1
        ),
    }
}
