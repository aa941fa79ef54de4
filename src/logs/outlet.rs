//! Where a service's lines go besides memory: a file of its own, the journal, syslog.
//!
//! Each destination has a bounded queue and a thread that writes, so that a disk that does not
//! answer holds up nobody else. What happens when the queue is full the service's file says:
//! lines are dropped, counted and said, or the service's own pipe is not read for as long.

mod file;
mod format;
mod socket;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::sys::eventfd::EventFd;

pub use format::Format;
use format::Head;
pub(super) use format::Written;

use crate::sys::{clock, signal};

/// Bytes that wait for a slow destination.
pub const OUTLET_BYTES: usize = 256 * 1024;
/// A buffer larger than this is given back when it is empty.
const KEPT_BUFFER: usize = 8 * 1024;
/// The threads write, rename and compress.
const STACK_BYTES: usize = 256 * 1024;

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

/// The writer of each path that somebody writes to.
#[derive(Debug, Default)]
pub(super) struct Writers(BTreeMap<PathBuf, Weak<Writer>>);

/// The writers of one moment.
pub(super) struct Open(Vec<Arc<Writer>>);

impl Open {
    /// Waits until everything queued is written, at most for `bound`. Blocks.
    pub(super) fn flush(self, bound: Duration) {
        let began = clock::boot_now();
        for writer in self.0 {
            let spent = clock::since(began);
            writer.flush(bound.saturating_sub(spent));
        }
    }
}

/// The queue of one destination. Its thread ends when this is dropped and everything is written.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) block: bool,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    drained: Condvar,
    /// Written to when there is room again for whoever waits for it.
    room: Arc<EventFd>,
    path: PathBuf,
    format: Format,
}

#[derive(Debug, Default)]
struct Queue {
    pending: Batch,
    head: Head,
    /// What the thread has taken and not finished, in bytes.
    in_flight: usize,
    /// Lines dropped that no note tells of yet.
    untold: u64,
    /// Full: nothing is taken until half of the room is free, so that one note tells of many.
    overflowing: bool,
    /// Somebody does not read a pipe until there is room.
    awaited: bool,
    running: bool,
    /// The thread waits to be woken: only then is there anything to call the kernel for.
    sleeping: bool,
    closed: bool,
}

/// Lines, one after another.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lengths: Vec<u32>,
    /// Its first line is a note of so many lines that were lost; 0: it is not. None other can be:
    /// after a loss nothing is taken before the thread has taken what there was.
    first_tells: u64,
}

/// What a thread writes to.
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

impl Writers {
    /// The writer to the outlet's destination: the one there is, or a new one.
    pub(super) fn get(&mut self, outlet: &Outlet, room: &Arc<EventFd>) -> Arc<Writer> {
        self.0.retain(|_, writer| writer.strong_count() > 0);
        let path = outlet.target.path();
        if let Some(writer) = self.0.get(path).and_then(Weak::upgrade) {
            return writer;
        }
        let writer = Arc::new(Writer::new(outlet, Arc::clone(room)));
        self.0.insert(path.clone(), Arc::downgrade(&writer));
        writer
    }

    /// Those that somebody writes to.
    pub(super) fn all(&self) -> Open {
        Open(self.0.values().filter_map(Weak::upgrade).collect())
    }
}

impl Target {
    fn path(&self) -> &PathBuf {
        match self {
            Target::File(file) => &file.path,
            Target::Journal(path) | Target::Syslog(path) => path,
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

impl Writer {
    fn new(outlet: &Outlet, room: Arc<EventFd>) -> Self {
        let format = match outlet.target {
            Target::File(_) => outlet.format,
            Target::Journal(_) => Format::Journal,
            Target::Syslog(_) => Format::Syslog,
        };
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            room,
            path: outlet.target.path().clone(),
            format,
        });
        let (target, own) = (outlet.target.clone(), Arc::clone(&shared));
        // When none can be had everything is lost and counted.
        let running = std::thread::Builder::new()
            .name("nought-log".into())
            .stack_size(STACK_BYTES)
            .spawn(move || own.write_out(target.open().as_mut()))
            .is_ok();
        shared.lock().running = running;
        Self {
            block: outlet.block,
            shared,
        }
    }

    /// To queue lines that came together: the thread is woken once for all of them.
    pub(super) fn open(&self) -> Lines<'_> {
        Lines {
            queue: Some(self.shared.lock()),
            writer: self,
        }
    }

    /// Whether there is no room. Then the descriptor that the writers were made with becomes
    /// readable when there is.
    pub(super) fn is_full(&self) -> bool {
        let mut queue = self.shared.lock();
        let full = queue.running && queue.used() > OUTLET_BYTES;
        queue.awaited |= full;
        full
    }

    fn flush(&self, bound: Duration) {
        let queue = self.shared.lock();
        let busy = |queue: &mut Queue| queue.running && queue.used() > 0;
        // That it took longer is no matter: nobody waits for more.
        let _ = self.shared.drained.wait_timeout_while(queue, bound, busy);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.filled.notify_one();
    }
}

/// The queue of a writer, for lines that come together.
pub(super) struct Lines<'a> {
    /// Until this is dropped.
    queue: Option<MutexGuard<'a, Queue>>,
    writer: &'a Writer,
}

impl Lines<'_> {
    /// Queues one line. Never blocks: without room it is dropped and counted, unless its pipe
    /// is not to be read then ([`Writer::is_full`]).
    pub(super) fn add(&mut self, line: &Written<'_>) {
        let format = self.writer.shared.format;
        let Some(queue) = &mut self.queue else { return };
        let room = if queue.overflowing {
            OUTLET_BYTES / 2
        } else {
            OUTLET_BYTES
        };
        let full = queue.used() + line.text.len() > room;
        if !queue.running || (full && !self.writer.block) {
            queue.overflowing = true;
            queue.untold += 1;
            queue.head.of(format, line);
            return;
        }
        queue.overflowing = false;
        // Beside this line: who wrote the lost ones is not kept.
        if queue.untold > 0 {
            queue.head.of(format, line);
            queue.tell_losses(format);
        }
        let Queue { pending, head, .. } = &mut **queue;
        pending.push(format, head, line);
    }
}

impl Drop for Lines<'_> {
    fn drop(&mut self) {
        let Some(mut queue) = self.queue.take() else {
            return;
        };
        let filled = !queue.pending.lengths.is_empty();
        let wake = filled && std::mem::take(&mut queue.sleeping);
        drop(queue);
        // Not before: it would only wait for the queue.
        if wake {
            self.writer.shared.filled.notify_one();
        }
    }
}

impl Queue {
    fn used(&self) -> usize {
        self.pending.bytes.len() + self.in_flight
    }

    /// Says what was lost, beside the line that the head was made for.
    fn tell_losses(&mut self, format: Format) {
        self.overflowing = false;
        let lines = std::mem::take(&mut self.untold);
        self.pending.note_losses(format, &self.head, lines);
    }
}

impl Batch {
    fn push(&mut self, format: Format, head: &mut Head, line: &Written<'_>) {
        let before = self.bytes.len();
        format.write(head, line, &mut self.bytes);
        self.close_line(before);
    }

    /// Says, where the lost lines would have been, how many there were.
    fn note_losses(&mut self, format: Format, head: &Head, lines: u64) {
        let text =
            format!("nought: {lines} lines lost: this log was too slow or could not be written");
        if let Some(note) = head.beside(&text) {
            self.first_tells = lines;
            self.push(format, &mut Head::default(), &note);
        }
    }

    fn close_line(&mut self, before: usize) {
        let length = u32::try_from(self.bytes.len() - before).unwrap_or(u32::MAX);
        self.lengths.push(length);
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

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread: ends when the writer is gone and everything is written.
    fn write_out(&self, to: &mut dyn Destination) {
        // Signals are the loop's. Where that fails, this thread is woken for nothing now and then.
        let _ = signal::block_all();
        let mut batch = Batch::default();
        let (mut failing, mut farewell) = (false, false);
        let mut queue = self.lock();
        loop {
            if queue.pending.lengths.is_empty() {
                // Nobody may ever write the line before which it would be said. What could not
                // be written before will not be now: then it is tried once, at the end.
                let last_try = queue.closed && !std::mem::replace(&mut farewell, queue.closed);
                if queue.untold > 0 && (!failing || last_try) {
                    queue.tell_losses(self.format);
                    continue;
                }
                self.drained.notify_all();
                if queue.closed {
                    return;
                }
                queue.sleeping = true;
                let empty = |queue: &mut Queue| queue.pending.lengths.is_empty() && !queue.closed;
                let filled = self.filled.wait_while(queue, empty);
                queue = filled.unwrap_or_else(PoisonError::into_inner);
                queue.sleeping = false;
                continue;
            }
            std::mem::swap(&mut batch, &mut queue.pending);
            queue.in_flight = batch.bytes.len();
            drop(queue);
            let lost = match to.write(&batch) {
                Ok(()) => 0,
                Err(lost) => {
                    if !std::mem::replace(&mut failing, true) {
                        let (lines, why) = (lost.lines, &lost.why);
                        tracing::warn!(
                            "failed to {why}: {lines} lines are lost, and more while it lasts"
                        );
                    }
                    lost.untold(&batch)
                }
            };
            if lost == 0 && std::mem::take(&mut failing) {
                tracing::info!("{} is written again", self.path.display());
            }
            batch.clear();
            queue = self.lock();
            queue.in_flight = 0;
            queue.untold += lost;
            if queue.awaited && queue.used() <= OUTLET_BYTES / 2 {
                queue.awaited = false;
                // It can fail only when the counter is full: then it is readable.
                let _ = self.room.write(1);
            }
        }
    }
}
