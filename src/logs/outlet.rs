//! Where a service's lines go besides memory: a file of its own, the journal, syslog.
//!
//! Each destination has a bounded queue and a thread that writes, so that a disk that does not
//! answer holds up nobody else. What happens when the queue is full the service's file says:
//! lines are dropped, counted and said, or the service's own pipe is not read for as long.

mod file;
mod format;
mod queue;
mod socket;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;

pub use format::Format;
use format::Head;
pub(super) use format::Written;
pub(super) use writer::{Lines, Writer, Writers};

/// Bytes that wait for a slow destination.
pub const OUTLET_BYTES: usize = 256 * 1024;
/// A buffer larger than this is given back when it is empty.
const KEPT_BUFFER: usize = 8 * 1024;

/// A destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file that is rotated.
    File(Rotated),
    /// systemd's journal, by its native protocol, at this socket.
    Journal(PathBuf),
    /// A syslog daemon, as syslog(3) speaks to it, at this socket.
    Syslog(PathBuf),
}

/// A file, and when it is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// Its path; older ones are `PATH.1` (the newest of them), `PATH.2`, …
    pub path: PathBuf,
    /// It is rotated before it has more bytes than this; 0: never.
    pub max_size: u64,
    /// So many older ones are kept.
    pub keep: u32,
    /// Whether older ones are compressed (`PATH.1.gz`).
    pub compress: bool,
}

/// A destination, and how lines go there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outlet {
    /// Where to.
    pub target: Target,
    /// How a line looks.
    pub format: Format,
    /// When the queue is full: the service's output is not read, instead of being dropped.
    pub block: bool,
}

/// Lines, one after another.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lengths: Vec<u32>,
    /// Its first line is a note of so many lines that were lost; 0: it is not. None other is:
    /// one is only added where nothing else waits.
    first_tells: u64,
}

/// What a thread writes to. Dropping it may block.
trait Destination: Send {
    /// Writes the lines, as many as can be; how many could not be, and why.
    fn write(&mut self, batch: &Batch) -> Result<(), Lost>;
}

/// Lines that could not be written.
#[derive(Debug)]
struct Lost {
    lines: u64,
    /// The first of the batch is among them.
    first: bool,
    /// `write /var/log/web.log: No space left on device`
    why: String,
}

impl Target {
    fn path(&self) -> &PathBuf {
        match self {
            Target::File(file) => &file.path,
            Target::Journal(path) | Target::Syslog(path) => path,
        }
    }

    /// The format of lines that are to have this one in a file.
    fn format(&self, in_file: Format) -> Format {
        match self {
            Target::File(_) => in_file,
            Target::Journal(_) => Format::Journal,
            Target::Syslog(_) => Format::Syslog,
        }
    }

    fn open(&self) -> Box<dyn Destination> {
        match self {
            Target::File(file) => Box::new(file::RotatedFile::new(file.clone())),
            Target::Journal(path) | Target::Syslog(path) => {
                Box::new(socket::LogSocket::new(path.clone()))
            }
        }
    }
}

impl Batch {
    fn push(&mut self, format: Format, head: &mut Head, line: &Written<'_>) {
        let before = self.bytes.len();
        format.write(head, line, &mut self.bytes);
        self.close_line(before);
    }

    /// Says, where the lost lines would have been, how many there were.
    fn note_losses(&mut self, format: Format, head: &mut Head, lines: u64) {
        let text =
            format!("nought: {lines} lines lost: this log was too slow or could not be written");
        let mut own = head.for_note();
        if let Some(note) = head.beside(&text) {
            self.first_tells = lines;
            self.push(format, &mut own, &note);
        }
    }

    fn close_line(&mut self, before: usize) {
        let length = u32::try_from(self.bytes.len() - before).unwrap_or(u32::MAX);
        self.lengths.push(length);
    }

    /// How many of them are lines of services.
    fn of_services(&self) -> u64 {
        self.lengths.len() as u64 - u64::from(self.first_tells > 0)
    }

    /// The lines.
    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let mut rest = self.bytes.as_slice();
        self.lengths.iter().map(move |length| {
            let (line, later) = rest.split_at((*length as usize).min(rest.len()));
            rest = later;
            line
        })
    }

    fn clear(&mut self) {
        if self.bytes.len() > KEPT_BUFFER {
            *self = Self::default();
        } else {
            self.bytes.clear();
            self.lengths.clear();
            self.first_tells = 0;
        }
    }
}

impl Lost {
    /// How many lines of services that is: a note that was lost is none, and nobody has heard of
    /// those that it tells of.
    fn untold(&self, batch: &Batch) -> u64 {
        match batch.first_tells {
            told if told > 0 && self.first => self.lines - 1 + told,
            _ => self.lines,
        }
    }
}
