//! The verdict on the whole, left where the container engine reads it.

use std::io::Write as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use crate::control;
use crate::core::Outcome;

/// The file is a mount of the node's: it must not keep us from ending.
const BOUND: Duration = Duration::from_secs(1);

/// Writes the verdict into `path`, if there is such a file; waits for it for a moment.
pub(super) fn write(path: &Path, outcome: &Outcome, guarantee: &str) {
    let text = control::termination(outcome, guarantee).to_json();
    let path = path.to_owned();
    let (done, wait) = mpsc::channel();
    let job = move || {
        let file = std::fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path);
        match file.and_then(|mut file| file.write_all(text.as_bytes())) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!("failed to write {}: {error}", path.display());
            }
            _ => {}
        }
        // Fails only when we did not wait.
        let _ = done.send(());
    };
    let thread = std::thread::Builder::new().spawn(job);
    if thread.is_ok() && wait.recv_timeout(BOUND).is_err() {
        tracing::warn!("the termination log takes too long to be written: going on without it");
    }
}
