//! What the last end of this machine left behind, said by the next boot as soon as its receipt can
//! be read: that is on the root file system, or on one that a service mounts later.

use std::fs::{self, File};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::receipt::{DIR, NAME};
use crate::sys::signal;

const STACK_BYTES: usize = 128 * 1024;

/// The search for the receipt.
pub(super) struct LastTime(Arc<AtomicBool>);

impl LastTime {
    /// Says it now, or when a file system that holds it is mounted.
    pub(super) fn look() -> Self {
        let over = Arc::new(AtomicBool::new(false));
        // Opened before the first look: no mount is missed.
        let mounts = File::open("/proc/self/mountinfo");
        if said() {
            return Self(over);
        }
        if let Ok(mounts) = mounts {
            let until = Arc::clone(&over);
            let made = std::thread::Builder::new()
                .name("nought-past".into())
                .stack_size(STACK_BYTES)
                .spawn(move || {
                    // Signals are the loop's.
                    let _ = signal::block_all();
                    wait(&mounts, &until);
                });
            if let Err(error) = made {
                tracing::warn!("failed to look for the last shutdown's receipt: {error}");
            }
        }
        Self(over)
    }

    /// This machine ends: what is written from now on is about this time.
    pub(super) fn over(&self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Looks again after each change of the mounts (proc_pid_mounts(5)), asleep in between.
fn wait(mounts: &File, over: &AtomicBool) {
    loop {
        let mut changed = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)];
        if poll(&mut changed, PollTimeout::NONE).is_err() || over.load(Ordering::SeqCst) || said() {
            return;
        }
    }
}

/// Whether there is a receipt; says what it says.
fn said() -> bool {
    let Ok(text) = fs::read_to_string(Path::new(DIR).join(NAME)) else {
        return false;
    };
    if let Some(left) = left_behind(&text) {
        tracing::warn!("{left}");
    }
    true
}

/// What a receipt says was left behind, in a sentence; `None`: nothing worth saying.
fn left_behind(text: &str) -> Option<String> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let count = |key: &str| {
        value
            .get(key)
            .and_then(|v| v.as_array())
            .map_or(0, Vec::len)
    };
    let (survivors, hung, lazily) = (count("survivors"), count("hung"), count("lazily"));
    let broken = value.get("without_supervisor").and_then(|v| v.as_bool()) == Some(true);
    if survivors + hung + lazily + count("lingering") == 0 && !broken {
        return None;
    }
    Some(format!(
        "the last shutdown left {survivors} process(es) alive, {hung} file system(s) hung, \
         {lazily} in use{}: see {}",
        if broken {
            ", without its supervisor"
        } else {
            ""
        },
        Path::new(DIR).join(NAME).display()
    ))
}

#[cfg(test)]
mod tests {
    use super::left_behind;

    #[test]
    fn a_clean_end_is_not_worth_a_line_and_what_was_left_is_counted() {
        assert_eq!(
            left_behind(r#"{"survivors":[],"hung":[],"lazily":[]}"#),
            None
        );
        assert_eq!(left_behind("half a line"), None);
        let said = left_behind(r#"{"survivors":[{"pid":7}],"hung":["/a","/b"]}"#).unwrap();
        assert!(
            said.starts_with("the last shutdown left 1 process(es) alive, 2 file system(s) hung"),
            "{said}"
        );
    }
}
