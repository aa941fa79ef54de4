//! A log file that is rotated: between lines, and without one being lost.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::{Batch, Destination, Lost, Rotated};
use crate::sys::clock;

/// Logs may hold secrets.
const MODE: u32 = 0o640;
/// After so long a rotation that could not be done is tried again; sooner when as much was written
/// as a file is to have.
const TRY_AGAIN: Duration = Duration::from_secs(60);

pub(super) struct RotatedFile {
    of: Rotated,
    open: Option<Open>,
    /// What was written last has no line end: a rotation would split that line.
    within_line: bool,
    /// The file ends with half a line, which is to be ended before the next line.
    torn: bool,
    /// The last rotated file is being compressed.
    compressing: Option<JoinHandle<()>>,
    /// Why the last rotation could not be done, as it was said.
    unrotated: Option<String>,
}

struct Open {
    file: File,
    size: u64,
    /// Which file it is: somebody may move it away and expect a new one.
    id: (u64, u64),
    /// Neither a device nor a FIFO: only such a file can be rotated and cut.
    regular: bool,
    /// It could not be rotated.
    kept: Option<Kept>,
}

/// A file that is written on because it could not be rotated.
struct Kept {
    /// It is tried again before it has more bytes than this,
    max_size: u64,
    /// or so long after this moment, in nanoseconds since boot.
    since: u64,
}

impl Open {
    /// It is rotated before it has more bytes than this.
    fn max_size(&self, max: u64) -> u64 {
        match &self.kept {
            _ if max == 0 || !self.regular => u64::MAX,
            Some(kept) if clock::since(kept.since) < TRY_AGAIN => kept.max_size,
            _ => max,
        }
    }

    /// Writes the bytes, as many as can be: how many that were.
    fn write(&mut self, bytes: &[u8]) -> (usize, io::Result<()>) {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => {
                    written += n;
                    self.size += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Err(error)),
            }
        }
        (written, Ok(()))
    }

    /// Takes back the last bytes that were written: half a line is none. Whether that could be
    /// done: not in a device, a FIFO, or a file that can only be appended to.
    fn take_back(&mut self, bytes: usize) -> bool {
        let wanted = self.size.saturating_sub(bytes as u64);
        if bytes > 0 && (!self.regular || self.file.set_len(wanted).is_err()) {
            return false;
        }
        self.size = wanted;
        true
    }
}

impl RotatedFile {
    pub(super) fn new(of: Rotated) -> Self {
        Self {
            of,
            open: None,
            within_line: false,
            torn: false,
            compressing: None,
            unrotated: None,
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
            self.within_line = false;
            if known.is_file() {
                self.torn = known.len() > 0 && ends_within_line(&self.of.path);
            }
            self.open = Some(Open {
                size: known.len(),
                id: (known.dev(), known.ino()),
                regular: known.is_file(),
                kept: None,
                file,
            });
        }
        self.opened()
    }

    fn opened(&mut self) -> io::Result<&mut Open> {
        let open = self.open.as_mut();
        open.ok_or_else(|| io::Error::other("it was closed"))
    }

    /// Writes these lines to the file that was found to have room for them; how many were written
    /// whole, and what became of the rest.
    fn write_lines(&mut self, bytes: &[u8], lengths: &[u32]) -> (usize, io::Result<()>) {
        let open = match self.opened() {
            Ok(open) => open,
            Err(error) => return (0, Err(error)),
        };
        let (taken, result) = open.write(bytes);
        let (count, whole) = whole_lines(lengths, taken);
        let taken_back = open.take_back(taken - whole);
        if let Some(last) = whole.checked_sub(1) {
            self.within_line = bytes.get(last) != Some(&b'\n');
        }
        // What is written next, of our loss, is no part of a line that goes on.
        self.torn = result.is_err() && (self.within_line || !taken_back);
        (count, result)
    }

    /// `PATH` becomes `PATH.1`, that `PATH.2`, and so on; the oldest goes. Or nothing changes.
    fn rotate(&mut self) -> Result<(), String> {
        self.await_compression();
        let path = self.of.path.clone();
        if self.of.keep == 0 {
            fs::remove_file(&path).map_err(|error| format!("remove it: {error}"))?;
            self.open = None;
            return Ok(());
        }
        // First what may be refused: a file that is mounted alone, a directory that is not to be
        // written to. The older ones are not touched before it is known that they are to go on.
        let aside = self.aside();
        if fs::symlink_metadata(&aside).is_ok_and(|file| file.is_file()) {
            // Of a supervisor that was killed at it: older than what is at the path.
            self.shift(&aside)?;
        }
        move_file(&path, &aside)?;
        if let Err(why) = self.shift(&aside) {
            // That this fails, too, is no loss: the next rotation begins with it.
            let _ = fs::rename(&aside, &path);
            return Err(why);
        }
        self.open = None;
        if self.of.compress {
            self.compress();
        }
        Ok(())
    }

    /// The file that was moved aside becomes `PATH.1`. The older ones go on only as far as there
    /// is no gap, which a try that failed may have left; without one the oldest goes.
    fn shift(&self, aside: &Path) -> Result<(), String> {
        let keep = self.of.keep;
        let is_there = |n: u32, ending| fs::symlink_metadata(self.older(n, ending)).is_ok();
        let gap = (1..keep).find(|n| !is_there(*n, "") && !is_there(*n, ".gz"));
        if gap.is_none() {
            for ending in ["", ".gz"] {
                remove(&self.older(keep, ending))?;
            }
        }
        for n in (1..gap.unwrap_or(keep)).rev() {
            for ending in ["", ".gz"] {
                if is_there(n, ending) {
                    move_file(&self.older(n, ending), &self.older(n + 1, ending))?;
                }
            }
        }
        move_file(aside, &self.older(1, ""))
    }

    /// Compresses the newest of the older ones aside, so that lines are written meanwhile. That no
    /// thread can be had, or that it fails, leaves the file as it is.
    fn compress(&mut self) {
        let (from, to) = (self.older(1, ""), self.older(1, ".gz"));
        let thread = std::thread::Builder::new().name("nought-gzip".into());
        let started = thread.spawn(move || {
            if let Err(error) = compress(&from, &to) {
                tracing::warn!("failed to compress {}: {error}", from.display());
            }
        });
        self.compressing = started.ok();
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

    /// Where the file is while the older ones are shifted.
    fn aside(&self) -> PathBuf {
        let mut path = self.of.path.clone().into_os_string();
        path.push(".rotating");
        path.into()
    }

    /// Rotates the file if that can be done; else it is written on as it is, and `next` more bytes
    /// at least.
    fn rotate_or_keep(&mut self, next: u32) -> io::Result<()> {
        let (path, max) = (self.of.path.clone(), self.of.max_size);
        match self.rotate() {
            Ok(()) => {
                if self.unrotated.take().is_some() {
                    tracing::info!("{} is rotated again", path.display());
                }
            }
            Err(why) => {
                let open = self.open()?;
                open.kept = Some(Kept {
                    max_size: open.size.saturating_add(max.max(next.into())),
                    since: clock::boot_now(),
                });
                if self.unrotated.as_ref() != Some(&why) {
                    tracing::warn!(
                        "failed to rotate {}: {why}: it is written on and grows beyond max_size \
                         (let its directory be writable, and mount that instead of the file; or \
                         set max_size: 0)",
                        path.display()
                    );
                    self.unrotated = Some(why);
                }
            }
        }
        Ok(())
    }

    /// How many of the lines still fit before a rotation, and their bytes.
    fn fitting(&mut self, lines: &[u8], lengths: &[u32]) -> io::Result<(usize, usize)> {
        let of_max = self.of.max_size;
        let open = self.open()?;
        let (max, mut size) = (open.max_size(of_max), open.size);
        let mut within_line = self.within_line;
        let (mut count, mut bytes) = (0, 0);
        for length in lengths {
            let next = size.saturating_add(u64::from(*length));
            // One that alone is too long has a file of its own.
            if next > max && size > 0 && !within_line {
                break;
            }
            size = next;
            count += 1;
            bytes += *length as usize;
            within_line = lines.get(bytes.saturating_sub(1)) != Some(&b'\n');
        }
        Ok((count, bytes))
    }

    fn write_all(&mut self, batch: &Batch, written: &mut usize) -> io::Result<()> {
        let mut rest = batch.bytes.as_slice();
        while let [next, ..] = batch.lengths[*written..] {
            self.end_torn_line()?;
            let (count, bytes) = self.fitting(rest, &batch.lengths[*written..])?;
            if count == 0 {
                self.rotate_or_keep(next)?;
                continue;
            }
            let (now, later) = rest.split_at(bytes.min(rest.len()));
            let (whole, result) = self.write_lines(now, &batch.lengths[*written..][..count]);
            *written += whole;
            result?;
            rest = later;
        }
        Ok(())
    }

    fn end_torn_line(&mut self) -> io::Result<()> {
        self.open()?;
        if self.torn {
            self.opened()?.write(b"\n").1?;
            self.torn = false;
            self.within_line = false;
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

/// How many lines of these lengths are whole in so many bytes, and their bytes.
fn whole_lines(lengths: &[u32], bytes: usize) -> (usize, usize) {
    let (mut count, mut whole) = (0, 0);
    for length in lengths {
        let next = whole + *length as usize;
        if next > bytes {
            break;
        }
        (count, whole) = (count + 1, next);
    }
    (count, whole)
}

/// Whether a file does not end with a line end. One that cannot be read is taken to.
fn ends_within_line(path: &Path) -> bool {
    let last = || -> io::Result<u8> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        let mut last = [0];
        let end = file.metadata()?.len().saturating_sub(1);
        file.read_exact_at(&mut last, end)?;
        Ok(last[0])
    };
    last().is_ok_and(|last| last != b'\n')
}

fn move_file(from: &Path, to: &Path) -> Result<(), String> {
    fs::rename(from, to)
        .map_err(|error| format!("rename {} to {}: {error}", from.display(), to.display()))
}

fn remove(path: &Path) -> Result<(), String> {
    missing_is_fine(fs::remove_file(path))
        .map_err(|error| format!("remove {}: {error}", path.display()))
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::os::fd::AsFd as _;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use nix::sys::stat::Mode;

    use super::*;

    fn batch(lines: impl Iterator<Item = String>) -> Batch {
        let mut batch = Batch::default();
        for line in lines {
            batch.bytes.extend_from_slice(line.as_bytes());
            batch.lengths.push(u32::try_from(line.len()).unwrap());
        }
        batch
    }

    /// A FIFO that does not wait: it takes 64 KiB and then half a line that cannot be taken back.
    #[test]
    fn half_a_line_is_ended_and_whole_ones_are_not_lost() {
        const LINES: usize = 1000;
        let path = std::env::temp_dir().join(format!("nought-file-{}", std::process::id()));
        nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
        let both_ends = OpenOptions::new().read(true).write(true).open(&path);
        let mut reader = BufReader::new(both_ends.unwrap());
        let mut file = RotatedFile::new(Rotated {
            path: path.clone(),
            max_size: 4096,
            keep: 1,
            compress: false,
        });
        let taken = file.open().unwrap().file.try_clone().unwrap();
        fcntl(taken.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let line = |n: usize| format!("line {n} {}\n", "x".repeat(100));
        let lost = file.write(&batch((0..LINES).map(line))).unwrap_err();
        let lost = usize::try_from(lost.lines).unwrap();
        assert!((1..LINES).contains(&lost), "{lost}");
        let mut next = || {
            let mut text = String::new();
            reader.read_line(&mut text).unwrap();
            text
        };
        for n in 0..LINES - lost {
            assert_eq!(next(), line(n));
        }
        file.write(&batch(["next\n".to_owned()].into_iter()))
            .unwrap();
        let half = next();
        let cut = line(LINES - lost);
        assert!(half.len() < cut.len() && cut.starts_with(half.trim_end()));
        assert_eq!(next(), "next\n");
        assert!(!file.older(1, "").exists(), "a FIFO is not rotated");
        fs::remove_file(&path).unwrap();
    }
}
