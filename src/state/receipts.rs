//! Receipts by service: a bounded history that outlives the supervisor.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::file::{self, Expect};
use super::{StateDir, StateError, check_name};

/// Receipts kept of each service, unless set otherwise. Up to twice as many are on disk.
pub const RECEIPTS_KEPT: usize = 16;

/// Bytes kept of each service's receipts (the newest is kept whatever its size). Up to twice as
/// many are on disk: a receipt that names thousands of killed processes is not small.
pub const RECEIPTS_BYTES: usize = 1024 * 1024;

/// No receipt is longer than this, in bytes; the longest ones name every process of a fork bomb.
pub const RECEIPT_MAX: usize = 4 * 1024 * 1024;

/// How much of a service's file is there, so that most stores need not read it.
#[derive(Clone, Copy, Debug)]
pub(super) struct History {
    lines: usize,
    bytes: usize,
}

impl StateDir {
    /// Adds a receipt, one line of JSON, to those of `service`.
    ///
    /// # Errors
    /// When the name cannot be a file's, `json_line` is not one line or longer than
    /// [`RECEIPT_MAX`], or it cannot be written; those stored before stay.
    pub fn store_receipt(&self, service: &str, json_line: &str) -> Result<(), StateError> {
        check_name(service)?;
        if json_line.is_empty() || json_line.len() > RECEIPT_MAX || json_line.contains('\n') {
            return Err(StateError::BadReceipt {
                service: service.into(),
            });
        }
        let path = self.receipts_path(service);
        // One at a time: the files are rewritten by way of one spare file.
        let mut histories = self
            .histories
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let known = histories.remove(service);
        let before = match known {
            Some(history) => history,
            None => self.take_over(service)?,
        };
        file::append(&path, json_line, Expect::Either)?;
        let mut history = History {
            lines: before.lines + 1,
            bytes: before.bytes + json_line.len() + 1,
        };
        if history.lines > 2 * self.receipts_kept || history.bytes > 2 * RECEIPTS_BYTES {
            history = self.rewrite(service, &self.receipts(service, usize::MAX)?)?;
        }
        histories.insert(service.into(), history);
        Ok(())
    }

    /// The last `last` receipts of `service`, the newest last; none when it has none.
    ///
    /// # Errors
    /// When the name cannot be a file's, or the file cannot be read.
    pub fn receipts(&self, service: &str, last: usize) -> Result<Vec<String>, StateError> {
        check_name(service)?;
        let Some(bytes) = file::read(&self.receipts_path(service))? else {
            return Ok(Vec::new());
        };
        let mut room = RECEIPTS_BYTES;
        let mut lines = Vec::new();
        for line in whole_lines(&bytes).rev().take(last.min(self.receipts_kept)) {
            let fits = room.checked_sub(line.len());
            if fits.is_none() && !lines.is_empty() {
                break;
            }
            room = fits.unwrap_or(0);
            lines.push(String::from_utf8_lossy(line).into_owned());
        }
        lines.reverse();
        Ok(lines)
    }

    /// As [`newest_receipts`], of this directory.
    ///
    /// # Errors
    /// Its own.
    pub fn newest_receipts<T>(
        &self,
        pick: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, StateError> {
        newest_receipts(&self.path, pick)
    }

    /// What an earlier supervisor left, without a last line that is torn: the next one would
    /// become part of it.
    fn take_over(&self, service: &str) -> Result<History, StateError> {
        let Some(bytes) = file::read(&self.receipts_path(service))? else {
            return Ok(History { lines: 0, bytes: 0 });
        };
        if bytes.last().is_some_and(|byte| *byte != b'\n') {
            return self.rewrite(service, &self.receipts(service, usize::MAX)?);
        }
        Ok(History {
            lines: whole_lines(&bytes).count(),
            bytes: bytes.len(),
        })
    }

    fn rewrite(&self, service: &str, lines: &[String]) -> Result<History, StateError> {
        let mut text = lines.join("\n");
        if !lines.is_empty() {
            text.push('\n');
        }
        let spare = self.path.join("receipts.new");
        file::replace(&self.receipts_path(service), &spare, text.as_bytes())?;
        Ok(History {
            lines: lines.len(),
            bytes: text.len(),
        })
    }

    fn receipts_path(&self, service: &str) -> PathBuf {
        self.path.join("receipts").join(service)
    }
}

/// What `pick` makes of the newest receipt of each service that it makes something of, in the
/// state directory `dir`, whether or not a supervisor uses it; nothing when there is no such
/// directory. A file that cannot be read is left out: one that is broken hides no other.
///
/// # Errors
/// When the directory cannot be read.
pub fn newest_receipts<T>(
    dir: &Path,
    pick: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, StateError> {
    let dir = dir.join("receipts");
    let entries = match std::fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StateError::io("read", &dir)(error)),
    };
    let mut picked = Vec::new();
    for entry in entries {
        let path = entry.map_err(StateError::io("read", &dir))?.path();
        let Ok(Some(bytes)) = file::read(&path) else {
            continue;
        };
        let mut lines = whole_lines(&bytes).rev();
        picked.extend(lines.find_map(|line| pick(&String::from_utf8_lossy(line))));
    }
    Ok(picked)
}

fn whole_lines(bytes: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let end = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap_or_default();
    bytes[..end]
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
}
