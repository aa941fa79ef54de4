//! The receipt of a machine's end, kept where the next boot finds it.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::driver::End;
use crate::sys::inspect::SurvivorInfo;
use crate::sys::power::Power;
use crate::sys::{SysError, clock};

/// Where it is kept: on the root file system, or one that stays mounted until the receipt is
/// written.
pub(super) const DIR: &str = "/var/lib/nought";
pub(super) const NAME: &str = "last-shutdown.json";

/// What the end of a machine did, saw and could not do.
#[derive(Debug, Default, Serialize)]
pub(super) struct Receipt {
    /// `power off`, `reboot`, `halt`, `kexec`.
    pub(super) kind: &'static str,
    /// When the services were down and the machine's own end began.
    pub(super) at: String,
    /// The supervisor broke, or could not begin: no service was stopped in order.
    pub(super) without_supervisor: bool,
    /// Services whose last verdict is lingering.
    pub(super) lingering: Vec<String>,
    /// Services whose last verdict is unverified.
    pub(super) unverified: Vec<String>,
    /// Processes that ended when they were asked, and when they were killed.
    pub(super) asked: usize,
    /// See `asked`.
    pub(super) killed: usize,
    /// Whether the last look missed nobody.
    pub(super) conclusive: bool,
    /// Whom not even SIGKILL ended.
    pub(super) survivors: Vec<Survivor>,
    /// File systems that were unmounted.
    pub(super) unmounted: Vec<String>,
    /// Unmounted lazily: still in use by somebody.
    pub(super) lazily: Vec<String>,
    /// File systems that did not answer in time.
    pub(super) hung: Vec<String>,
    /// Everything that failed, in words.
    pub(super) trouble: Vec<String>,
    /// How long the end took until this was written, in milliseconds.
    pub(super) elapsed_ms: u64,
}

/// A process that survived everything.
#[derive(Debug, Default, Serialize)]
pub(super) struct Survivor {
    pub(super) pid: u32,
    pub(super) ppid: u32,
    pub(super) argv: Vec<String>,
    pub(super) state: char,
    pub(super) wchan: String,
    pub(super) stack: Vec<String>,
    pub(super) tracer: u32,
    pub(super) cgroup: String,
    pub(super) mounts: Vec<String>,
}

impl From<SurvivorInfo> for Survivor {
    fn from(seen: SurvivorInfo) -> Self {
        Self {
            pid: seen.pid,
            ppid: seen.ppid,
            argv: seen.argv,
            state: seen.state,
            wchan: seen.wchan,
            stack: seen.stack,
            tracer: seen.tracer,
            cgroup: seen.cgroup,
            mounts: seen.mounts,
        }
    }
}

impl Receipt {
    pub(super) fn new(power: Power, ended: Option<&End>) -> Self {
        let wall = Duration::from_millis(clock::wall_now_ms());
        let at = std::time::SystemTime::UNIX_EPOCH + wall;
        Self {
            kind: power.as_str(),
            at: humantime::format_rfc3339_millis(at).to_string(),
            without_supervisor: ended.is_none(),
            lingering: ended.map(|end| end.lingering.clone()).unwrap_or_default(),
            unverified: ended.map(|end| end.unverified.clone()).unwrap_or_default(),
            ..Self::default()
        }
    }

    /// As it is written.
    pub(super) fn to_line(&self) -> String {
        // Strings, numbers and lists: nothing that JSON cannot say.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Writes it in one piece, and to the disk. **May hang** on that disk.
    pub(super) fn write(text: &str) -> Result<(), SysError> {
        let dir = Path::new(DIR);
        let path = dir.join(NAME);
        let part = dir.join(format!("{NAME}.new"));
        (|| {
            fs::create_dir_all(dir)?;
            let mut file = fs::File::create(&part)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::rename(&part, &path)?;
            fs::File::open(dir)?.sync_all()
        })()
        .map_err(|error| SysError::io("write", &path, &error))
    }
}
