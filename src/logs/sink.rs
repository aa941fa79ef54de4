//! The supervisor's own stdout and stderr, which may never hold up its loop.
//!
//! A full pipe or a stopped terminal blocks write(2) for as long as its reader likes, and
//! `O_NONBLOCK` is no way out: it belongs to the open file description, which we share with
//! whoever started us. So lines go into a bounded queue, and one thread, started with the first
//! line, writes them. Where both streams are one file they share the queue: what was said first
//! comes out first. Where they are two, each has its own: a stdout that nobody reads must not
//! keep back what stderr has to say.
//!
//! While the queue is full lines are dropped, counted, and the loss is said once it flows again.
//! An output that is gone (EPIPE, EIO) costs its lines and nothing else. A write to it must not
//! raise SIGPIPE: Rust's runtime ignores that signal from the start.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;

use super::Stream;
use crate::sys::{clock, signal};

/// Bytes that wait for a slow reader, before lines are dropped.
pub const QUEUE_BYTES: usize = 256 * 1024;

/// What a line costs in the queue besides its bytes.
const LINE_COST: usize = size_of::<(Stream, u32)>();
/// A buffer larger than this is given back when it is empty.
const KEPT_BUFFER: usize = 8 * 1024;
/// The thread calls write(2) and poll(2) and little else.
const STACK_BYTES: usize = 64 * 1024;

/// Writes whole lines to the supervisor's stdout and stderr without ever blocking the caller.
///
/// Clones share the queues. When the last one is dropped the threads write what is left and end.
#[derive(Clone, Debug)]
pub struct Sink(Arc<Owner>);

#[derive(Debug)]
struct Owner {
    stdout: Arc<Shared>,
    /// The same one where both are one file.
    stderr: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
    drained: Condvar,
    to: Arc<Destination>,
}

#[derive(Debug)]
enum Destination {
    Stdio,
    Descriptors { stdout: OwnedFd, stderr: OwnedFd },
}

#[derive(Debug, Default)]
struct Queue {
    pending: Batch,
    /// What the thread has taken and not finished, in the queue's measure.
    in_flight: usize,
    /// Lines dropped that no note tells of yet.
    untold: Losses,
    /// Lines dropped in all.
    lost: u64,
    /// Full: nothing is taken until half of the room is free, so that one note tells of many.
    overflowing: bool,
    running: bool,
    sleeping: bool,
    closed: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Losses {
    stdout: u64,
    stderr: u64,
}

#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: Vec<(Stream, u32)>,
}

impl Sink {
    /// A sink on the process's own stdout and stderr.
    pub fn stdio() -> Self {
        Self::to(Destination::Stdio)
    }

    /// A sink on two other descriptors.
    pub fn new(stdout: OwnedFd, stderr: OwnedFd) -> Self {
        Self::to(Destination::Descriptors { stdout, stderr })
    }

    fn to(to: Destination) -> Self {
        let one = to.is_one_file();
        let to = Arc::new(to);
        let shared = || {
            Arc::new(Shared {
                queue: Mutex::default(),
                filled: Condvar::new(),
                drained: Condvar::new(),
                to: Arc::clone(&to),
            })
        };
        let stdout = shared();
        let stderr = if one { Arc::clone(&stdout) } else { shared() };
        Self(Arc::new(Owner { stdout, stderr }))
    }

    /// Queues one line for `stream`, made of `parts`; the line feed is added. Never blocks: when
    /// there is no room, or no thread can be had, the line is dropped and counted.
    pub fn line(&self, stream: Stream, parts: &[&[u8]]) {
        let shared = match stream {
            Stream::Stdout => &self.0.stdout,
            Stream::Stderr => &self.0.stderr,
        };
        let mut queue = shared.lock();
        if queue.push(stream, parts) {
            shared.rouse(&mut queue);
        }
    }

    /// How many lines were dropped since the start.
    pub fn lost(&self) -> u64 {
        let Owner { stdout, stderr } = &*self.0;
        let more = if Arc::ptr_eq(stdout, stderr) {
            0
        } else {
            stderr.lock().lost
        };
        stdout.lock().lost + more
    }

    /// Waits until everything queued is written, at most for `bound`, and says whether it is.
    /// Blocks: call it off the loop, or at the very end. Written means handed to the kernel.
    pub fn flush(&self, bound: Duration) -> bool {
        let began = clock::boot_now();
        // What we say of ourselves first: it is what a reader needs most.
        let stderr = self.0.stderr.flush(bound);
        let spent = clock::since(began);
        self.0.stdout.flush(bound.saturating_sub(spent)) && stderr
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        for shared in [&self.stdout, &self.stderr] {
            shared.lock().closed = true;
            shared.filled.notify_one();
        }
    }
}

impl Queue {
    fn push(&mut self, stream: Stream, parts: &[&[u8]]) -> bool {
        let length = parts.iter().map(|part| part.len()).sum::<usize>() + 1;
        let room = if self.overflowing {
            QUEUE_BYTES / 2
        } else {
            QUEUE_BYTES
        };
        let used = self.pending.cost() + self.in_flight;
        if used + length + LINE_COST > room {
            self.overflowing = true;
            self.lose(stream, 1);
            return false;
        }
        self.overflowing = false;
        self.tell_losses();
        self.pending.push(stream, parts);
        true
    }

    fn lose(&mut self, stream: Stream, lines: u64) {
        self.lost += lines;
        match stream {
            Stream::Stdout => self.untold.stdout += lines,
            Stream::Stderr => self.untold.stderr += lines,
        }
    }

    /// Puts the note of what was lost where the lost lines would have been.
    fn tell_losses(&mut self) {
        let untold = std::mem::take(&mut self.untold);
        for (stream, lines) in [
            (Stream::Stdout, untold.stdout),
            (Stream::Stderr, untold.stderr),
        ] {
            if lines > 0 {
                let note = format!("[-] nought: {lines} lines lost: the output is not read");
                self.pending.push(stream, &[note.as_bytes()]);
            }
        }
    }

    fn is_idle(&self) -> bool {
        self.pending.lines.is_empty() && self.in_flight == 0 && !self.overflowing
    }
}

impl Batch {
    fn cost(&self) -> usize {
        self.bytes.len() + self.lines.len() * LINE_COST
    }

    fn push(&mut self, stream: Stream, parts: &[&[u8]]) {
        let before = self.bytes.len();
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(b'\n');
        let length = u32::try_from(self.bytes.len() - before).unwrap_or(u32::MAX);
        self.lines.push((stream, length));
    }

    /// Writes everything, each run of lines of one stream in as few calls as possible; returns
    /// the lines that could not be written.
    fn write(&self, to: &Destination) -> Losses {
        let mut losses = Losses::default();
        let mut rest = self.bytes.as_slice();
        for run in self.lines.chunk_by(|one, next| one.0 == next.0) {
            let length = run.iter().map(|line| line.1 as usize).sum::<usize>();
            let (bytes, later) = rest.split_at(length.min(rest.len()));
            rest = later;
            let Some((stream, _)) = run.first() else {
                continue;
            };
            if to.write(*stream, bytes).is_err() {
                match stream {
                    Stream::Stdout => losses.stdout += run.len() as u64,
                    Stream::Stderr => losses.stderr += run.len() as u64,
                }
            }
        }
        losses
    }

    fn clear(&mut self) {
        if self.cost() > KEPT_BUFFER {
            *self = Self::default();
        } else {
            self.bytes.clear();
            self.lines.clear();
        }
    }
}

impl Destination {
    /// Whether both streams end in the same file, as far as can be told.
    fn is_one_file(&self) -> bool {
        let file = |fd: BorrowedFd<'_>| fstat(fd).ok().map(|file| (file.st_dev, file.st_ino));
        let (stdout, stderr) = match self {
            Destination::Stdio => (file(io::stdout().as_fd()), file(io::stderr().as_fd())),
            Destination::Descriptors { stdout, stderr } => {
                (file(stdout.as_fd()), file(stderr.as_fd()))
            }
        };
        stdout == stderr
    }

    fn write(&self, stream: Stream, bytes: &[u8]) -> Result<(), Errno> {
        match (self, stream) {
            // Not through `Write`: its lock and its buffer could block or hold back what a
            // panic hook wants to say.
            (Destination::Stdio, Stream::Stdout) => write_all(io::stdout().as_fd(), bytes),
            (Destination::Stdio, Stream::Stderr) => write_all(io::stderr().as_fd(), bytes),
            (Destination::Descriptors { stdout, .. }, Stream::Stdout) => {
                write_all(stdout.as_fd(), bytes)
            }
            (Destination::Descriptors { stderr, .. }, Stream::Stderr) => {
                write_all(stderr.as_fd(), bytes)
            }
        }
    }
}

fn write_all(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<(), Errno> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match nix::unistd::write(fd, rest) {
            Ok(0) => return Err(Errno::EIO),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
            Err(Errno::EINTR) => {}
            // Whoever started us made it non-blocking.
            Err(Errno::EAGAIN) => {
                let mut polled = [PollFd::new(fd, PollFlags::POLLOUT)];
                match poll(&mut polled, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

impl Shared {
    fn flush(self: &Arc<Self>, bound: Duration) -> bool {
        let mut queue = self.lock();
        if !queue.is_idle() {
            self.rouse(&mut queue);
        }
        let (queue, _) = self
            .drained
            .wait_timeout_while(queue, bound, |queue| !queue.is_idle())
            .unwrap_or_else(PoisonError::into_inner);
        queue.is_idle()
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the thread, starting it if it does not run yet. When none can be had the lines wait
    /// in the queue and the next line tries again.
    fn rouse(self: &Arc<Self>, queue: &mut Queue) {
        if queue.running {
            if std::mem::take(&mut queue.sleeping) {
                self.filled.notify_one();
            }
            return;
        }
        let shared = Arc::clone(self);
        queue.running = std::thread::Builder::new()
            .name("nought-out".into())
            .stack_size(STACK_BYTES)
            .spawn(move || shared.write_out())
            .is_ok();
    }

    /// The thread: ends when the last sink is gone and everything is written.
    fn write_out(&self) {
        // Signals are the loop's. Where that fails, this thread is woken for nothing now and then.
        let _ = signal::block_all();
        let mut batch = Batch::default();
        let mut queue = self.lock();
        loop {
            if queue.overflowing && queue.in_flight == 0 && queue.pending.lines.is_empty() {
                queue.overflowing = false;
                queue.tell_losses();
            }
            if queue.pending.lines.is_empty() {
                self.drained.notify_all();
                if queue.closed {
                    return;
                }
                queue.sleeping = true;
                queue = self
                    .filled
                    .wait(queue)
                    .unwrap_or_else(PoisonError::into_inner);
                queue.sleeping = false;
                continue;
            }
            std::mem::swap(&mut batch, &mut queue.pending);
            queue.in_flight = batch.cost();
            drop(queue);
            let losses = batch.write(&self.to);
            batch.clear();
            queue = self.lock();
            queue.in_flight = 0;
            queue.lose(Stream::Stdout, losses.stdout);
            queue.lose(Stream::Stderr, losses.stderr);
        }
    }
}
