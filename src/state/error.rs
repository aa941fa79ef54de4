//! What the state directory can refuse, and what it passed over.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Something about the state directory that did not work. The caller goes on without: a record
/// that could not be written costs a leftover its witness, never a service its start.
#[derive(Debug)]
pub enum StateError {
    /// The kernel refused (disk full, read-only, no permission, …).
    Io {
        /// What was being done, as a fragment that follows 'failed to'.
        doing: &'static str,
        /// To which path.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
    /// Somebody else could write there, so nothing in it could be believed.
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another supervisor holds the directory, so it serves this socket.
    Busy {
        /// The lock file.
        path: PathBuf,
        /// The pid written in it, where there is one.
        pid: Option<u32>,
        /// That supervisor is gone; a process that it was starting when it was killed has a
        /// copy of its lock.
        gone: bool,
    },
    /// There is no default place for an ordinary user without `$XDG_RUNTIME_DIR`.
    NoDefault,
    /// Not a name that a service can have, so not one of ours to make a file of.
    BadName {
        /// The name.
        service: String,
    },
    /// A receipt is one line of at most [`RECEIPT_MAX`](super::RECEIPT_MAX) bytes.
    BadReceipt {
        /// Whose receipt.
        service: String,
    },
    /// A record cannot be put into words (a path that is not UTF-8).
    BadRecord {
        /// The generation's number.
        generation: u64,
        /// Why.
        source: serde_json::Error,
    },
}

impl StateError {
    pub(super) fn io(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| StateError::Io {
            doing,
            path,
            source,
        }
    }
}

impl StateError {
    /// Why, without what was being done to which path.
    pub(super) fn reason(&self) -> String {
        std::error::Error::source(self).map_or_else(|| self.to_string(), ToString::to_string)
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateError::Io {
                doing,
                path,
                source,
            } => {
                write!(f, "failed to {doing} {}", path.display())?;
                match source.kind() {
                    io::ErrorKind::StorageFull => f.write_str(" (make room there)"),
                    io::ErrorKind::NotFound => f.write_str(" (make it, or give another path)"),
                    io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                        f.write_str(" (give a writable directory with --state-dir)")
                    }
                    _ => Ok(()),
                }
            }
            StateError::Unsafe { path, why } => write!(
                f,
                "refused the state directory {}: {why}; remove it, or give another with --state-dir",
                path.display()
            ),
            StateError::Busy {
                path,
                pid: Some(pid),
                gone: true,
            } => write!(
                f,
                "the supervisor (pid {pid}) that served this socket is gone, but something it \
                 started still holds {0}: end that (lslocks, or fuser {0}), or use another socket",
                path.display()
            ),
            StateError::Busy { path, pid, .. } => {
                f.write_str("another supervisor ")?;
                if let Some(pid) = pid {
                    write!(f, "(pid {pid}) ")?;
                }
                write!(
                    f,
                    "serves this socket: it holds {}; stop it first, or use another socket",
                    path.display()
                )
            }
            StateError::NoDefault => f.write_str(
                "no place for the state directory: set XDG_RUNTIME_DIR or give --state-dir",
            ),
            StateError::BadName { service } => write!(
                f,
                "refused to make a file for service '{}': {}",
                service.escape_debug(),
                crate::core::bad_name(service).unwrap_or_default()
            ),
            StateError::BadReceipt { service } => write!(
                f,
                "refused a receipt of service '{service}': it is not one non-empty line of at most 4 MiB"
            ),
            StateError::BadRecord { generation, .. } => {
                write!(f, "failed to write down generation {generation}")
            }
        }
    }
}

impl std::error::Error for StateError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StateError::Io { source, .. } => Some(source),
            StateError::BadRecord { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Something about the state directory that a reader of the log wants to know: what was found
/// and not used, or could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remark {
    /// These were written in another boot: their processes are gone with it.
    OtherBoot {
        /// How many generation records were dropped.
        records: usize,
        /// The boot id they were written in; `None` when that was not written down.
        boot_id: Option<String>,
    },
    /// The boot id could not be written down: a successor will take what this supervisor
    /// records for another boot's.
    BootNotWritten {
        /// Why.
        why: String,
    },
    /// A line that is not whole, or not one of ours.
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// Why.
        why: String,
    },
    /// A whole file.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Remark::OtherBoot { records, boot_id } => write!(
                f,
                "dropped {records} generation records of another boot ({})",
                boot_id.as_deref().unwrap_or("which is not written down")
            ),
            Remark::BootNotWritten { why } => write!(
                f,
                "could not write down the boot id ({why}): a successor will ignore our records"
            ),
            Remark::Line { path, line, why } => {
                write!(f, "ignored line {line} of {}: {why}", path.display())
            }
            Remark::File { path, why } => write!(f, "ignored {}: {why}", path.display()),
        }
    }
}
