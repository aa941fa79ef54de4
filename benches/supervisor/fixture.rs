//! What the services of the benches do.

use std::io::Write;
use std::os::fd::AsFd;
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
        ("lines", [mib, gate]) => {
            let mib: usize = mib.parse().expect("mebibytes");
            // Until somebody opened and closed it.
            let _ = std::fs::read(gate).expect("open the FIFO");
            write_lines(mib << 20);
        }
        other => panic!("unknown fixture {other:?}"),
    }
}

/// What the last line of [`write_lines`] says.
pub(crate) const LAST_LINE: &str = "that was the last line";

/// Writes so many bytes to stdout, in lines of 100 bytes, and a last one; 40 lines at a time, about
/// what C's stdio writes to a pipe.
fn write_lines(bytes: usize) {
    let stdout = std::io::stdout().as_fd().try_clone_to_owned();
    let mut stdout = std::fs::File::from(stdout.expect("duplicate stdout"));
    let text = "the quick brown fox jumps over the lazy dog";
    let lines: String = (0..40)
        .map(|n| format!("{n:02} {text} {text:.42} 12 ms 200\n"))
        .collect();
    assert_eq!(lines.len(), 4000);
    for _ in 0..bytes / lines.len() {
        stdout.write_all(lines.as_bytes()).expect("write lines");
    }
    writeln!(stdout, "{LAST_LINE}").expect("write the last line");
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
