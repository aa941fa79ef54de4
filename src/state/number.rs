//! The last generation's number, so that none is given twice although no record is left: a
//! receipt names its generation.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use super::{Remark, StateError, file};

/// Always as long, so that one write(2) replaces the one before.
const DIGITS: usize = 20;

/// The file, held open: a start must not pay for more than one write.
#[derive(Debug)]
pub(super) struct Number {
    /// What it said when it was opened; 0 when it said nothing.
    pub(super) last: u64,
    file: Option<File>,
}

impl Number {
    /// Opens it; without it numbers begin anew, which is worth a remark and no more.
    pub(super) fn open(path: &Path, remarks: &mut Vec<Remark>) -> Self {
        let mut remark = |why: String| {
            remarks.push(Remark::File {
                path: path.into(),
                why,
            });
        };
        let last = match file::read(path) {
            Ok(None) => 0,
            Ok(Some(bytes)) => {
                let text = String::from_utf8_lossy(&bytes).into_owned();
                match text.trim().parse() {
                    Ok(last) => last,
                    // What a full disk left.
                    Err(_) if text.trim().is_empty() => 0,
                    Err(_) => {
                        remark("it holds no number".into());
                        0
                    }
                }
            }
            Err(error) => {
                remark(error.reason());
                0
            }
        };
        let opened = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path);
        let file = match opened {
            Ok(file) => Some(file),
            Err(error) => {
                remark(StateError::io("open", path)(error).reason());
                None
            }
        };
        Self { last, file }
    }

    /// Writes it down. What a full disk keeps from being written is no reason not to start.
    pub(super) fn keep(&self, number: u64) {
        let text = format!("{number:0DIGITS$}\n");
        if let Some(file) = &self.file {
            let _ = file.write_all_at(text.as_bytes(), 0);
        }
    }
}
