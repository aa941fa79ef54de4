//! The layer's one error: what was being done, to what, and the kernel's answer.

use std::path::Path;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};

/// A system call (or the reading of its answer) that failed.
///
/// Displays as `doing what: why`, made to follow "failed to".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysError {
    /// What was being done, as a fragment that follows "failed to": `open the cgroup`.
    pub doing: &'static str,
    /// To which path, pid or descriptor.
    pub what: String,
    /// The kernel's errno; 0 where the kernel gave none (an answer that made no sense).
    pub errno: i32,
    /// Why, in words: the errno's text, or what was wrong with the answer.
    pub why: String,
}

impl SysError {
    /// The kernel said `errno` while `doing` something to `what`.
    pub fn new(doing: &'static str, what: impl Into<String>, errno: Errno) -> Self {
        let mut why = errno.desc().to_owned();
        if errno == Errno::EMFILE
            && let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE)
        {
            why.push_str(&format!(" (RLIMIT_NOFILE is {soft})"));
        }
        Self {
            doing,
            what: what.into(),
            errno: errno as i32,
            why,
        }
    }

    /// Adds what may have set the limit that `errno` speaks of, if that is what it was.
    #[must_use]
    pub fn limited_by(mut self, errno: Errno, limits: &str) -> Self {
        if self.is(errno) {
            self.why = format!("{} ({limits})", errno.desc());
        }
        self
    }

    /// The kernel said `errno` while `doing` something to the file at `path`.
    pub fn at(doing: &'static str, path: &Path, errno: Errno) -> Self {
        Self::new(doing, path.display().to_string(), errno)
    }

    /// The same from std's error; one without an errno keeps its own words.
    pub fn io(doing: &'static str, path: &Path, error: &std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self::at(doing, path, Errno::from_raw(errno)),
            None => Self::because(doing, path.display().to_string(), error.to_string()),
        }
    }

    /// No errno: the answer itself was wrong, for the reason `why`.
    pub fn because(doing: &'static str, what: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            doing,
            what: what.into(),
            errno: 0,
            why: why.into(),
        }
    }

    /// Whether the kernel's answer was `errno`.
    pub fn is(&self, errno: Errno) -> bool {
        self.errno == errno as i32
    }
}

impl std::fmt::Display for SysError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.doing, self.what, self.why)
    }
}

impl std::error::Error for SysError {}
