//! A log file that is rotated: between lines, and without one being lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Batch, Destination, Lost, Rotated};

/// Logs may hold secrets.
const MODE: u32 = 0o640;

pub(super) struct RotatedFile {
    of: Rotated,
    open: Option<Open>,
    /// What was written last has no line end: a rotation would split that line.
    within_line: bool,
    /// The last rotated file is being compressed.
    compressing: Option<JoinHandle<()>>,
}

struct Open {
    file: File,
    size: u64,
    /// Which file it is: somebody may move it away and expect a new one.
    id: (u64, u64),
}

impl RotatedFile {
    pub(super) fn new(of: Rotated) -> Self {
        Self {
            of,
            open: None,
            within_line: false,
            compressing: None,
        }
    }

    /// The file at the path, opened again if another is there by now.
    fn open(&mut self) -> io::Result<&mut Open> {
        let there = fs::symlink_metadata(&self.of.path).ok();
        let there = there.map(|file| (file.dev(), file.ino()));
        if self.open.as_ref().is_none_or(|open| Some(open.id) != there) {
            // No link: whoever may write to the directory could have us write anywhere.
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(MODE)
                .custom_flags(libc::O_NOFOLLOW)
                .open(&self.of.path)?;
            let known = file.metadata()?;
            self.open = Some(Open {
                size: known.len(),
                id: (known.dev(), known.ino()),
                file,
            });
        }
        self.opened()
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        let open = self.open.as_mut();
        open.ok_or_else(|| io::Error::other("it was closed"))
    }

    /// Writes whole lines to the file that was found to have room for them.
    fn write_lines(&mut self, lines: &[u8]) -> io::Result<()> {
        let open = self.opened()?;
        let result = open.file.write_all(lines);
        match &result {
            Ok(()) => open.size += lines.len() as u64,
            // A disk that is full took half a line: that is no line.
            Err(_) => {
                let _ = open.file.set_len(open.size);
            }
        }
        result
    }

    /// `PATH` becomes `PATH.1`, that `PATH.2`, and so on; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        self.await_compression();
        let keep = self.of.keep;
        if keep == 0 {
            return fs::remove_file(&self.of.path);
        }
        for ending in ["", ".gz"] {
            missing_is_fine(fs::remove_file(self.older(keep, ending)))?;
        }
        for n in (1..keep).rev() {
            for ending in ["", ".gz"] {
                missing_is_fine(fs::rename(self.older(n, ending), self.older(n + 1, ending)))?;
            }
        }
        let newest = self.older(1, "");
        fs::rename(&self.of.path, &newest)?;
        if self.of.compress {
            let to = self.older(1, ".gz");
            // Aside, so that lines are written meanwhile. That none can be had, or that it fails,
            // leaves the file as it is.
            let thread = std::thread::Builder::new().name("nought-gzip".into());
            let started = thread.spawn(move || {
                if let Err(error) = compress(&newest, &to) {
                    tracing::warn!("failed to compress {}: {error}", newest.display());
                }
            });
            self.compressing = started.ok();
        }
        Ok(())
    }

    fn await_compression(&mut self) {
        if let Some(thread) = self.compressing.take() {
            // It has no way to fail but to panic, and then there is no compressed file.
            let _ = thread.join();
        }
    }

    fn older(&self, n: u32, ending: &str) -> PathBuf {
        let mut path = self.of.path.clone().into_os_string();
        path.push(format!(".{n}{ending}"));
        path.into()
    }

    /// How many of the lines still fit before a rotation, and their bytes.
    fn fitting(&mut self, lines: &[u8], lengths: &[u32]) -> io::Result<(usize, usize)> {
        let max = self.of.max_size;
        let mut size = self.open()?.size;
        let (mut count, mut bytes) = (0, 0);
        for length in lengths {
            let next = size + u64::from(*length);
            // One that alone is too long has a file of its own.
            if max > 0 && next > max && size > 0 && !self.within_line {
                break;
            }
            size = next;
            count += 1;
            bytes += *length as usize;
            self.within_line = lines.get(bytes.saturating_sub(1)) != Some(&b'\n');
        }
        Ok((count, bytes))
    }

    fn write_all(&mut self, batch: &Batch, written: &mut usize) -> io::Result<()> {
        let mut rest = batch.bytes.as_slice();
        while *written < batch.lengths.len() {
            let (count, bytes) = self.fitting(rest, &batch.lengths[*written..])?;
            if count == 0 {
                self.rotate()?;
                continue;
            }
            let (now, later) = rest.split_at(bytes.min(rest.len()));
            self.write_lines(now)?;
            rest = later;
            *written += count;
        }
        Ok(())
    }
}

impl Drop for RotatedFile {
    fn drop(&mut self) {
        self.await_compression();
    }
}

impl Destination for RotatedFile {
    fn write(&mut self, batch: &Batch) -> Result<(), Lost> {
        let mut written = 0;
        self.write_all(batch, &mut written).map_err(|error| {
            self.open = None;
            Lost {
                lines: (batch.lengths.len() - written) as u64,
                first: written == 0,
                why: format!("write {}: {error}", self.of.path.display()),
            }
        })
    }
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// `from` becomes `to`; at every moment one of the two is whole.
fn compress(from: &Path, to: &Path) -> io::Result<()> {
    let mut draft = to.to_path_buf().into_os_string();
    draft.push(".part");
    let draft = PathBuf::from(draft);
    let made = (|| {
        // Of an earlier try that was cut short.
        missing_is_fine(fs::remove_file(&draft))?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&draft)?;
        let mut encoder = GzEncoder::new(file, Compression::default());
        let mut from_file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW)
            .open(from)?;
        io::copy(&mut from_file, &mut encoder)?;
        encoder.finish()?.flush()?;
        fs::rename(&draft, to)?;
        fs::remove_file(from)
    })();
    if made.is_err() {
        // What was not finished is nothing.
        let _ = fs::remove_file(&draft);
    }
    made
}
