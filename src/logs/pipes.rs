//! The pipes that services write into: made, read and closed here and nowhere else.
//!
//! All of them hang on one epoll instance of our own, which is the only descriptor tokio knows
//! of, and one task reads them all. A registration and a task of its own for each pipe would
//! cost an idle supervisor of 200 services more memory than everything else it has; and with one
//! task, however many services flood, the rest of the loop gets its turn after every 64 KiB.

mod pipe;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeReader};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::split::Splitter;
use crate::sys::{heap, readiness};

use super::outlet::{Outlet, Writer, Writers};
use super::{Capture, Command, Cut, Mode, Origin, START, Store, Stream};
use pipe::{Pipe, Speaker, Took, wall_us};

/// Bytes read from one pipe at a time, and from all pipes in one turn of the loop.
const TURN_BYTES: usize = 64 * 1024;
/// What a read costs of a turn at least: small ones take time too.
const READ_COST: usize = 4 * 1024;
/// Pipes looked at after one epoll_wait(2).
const EVENTS: usize = 16;
/// Bytes that closing still takes from one pipe: the largest pipe an ordinary user can make
/// (`/proc/sys/fs/pipe-max-size`, pipe(7)). Only a process that goes on writing has more.
const CLOSE_BYTES: usize = 1024 * 1024;

/// The ends that a service's process gets. Blocking, close-on-exec: dup2(2) them to 1 and 2.
#[derive(Debug)]
pub struct WriteEnds {
    /// For standard output.
    pub stdout: OwnedFd,
    /// For standard error.
    pub stderr: OwnedFd,
}

/// The capture of one run of one command. Dropping it is the same as [`Output::close`].
#[derive(Debug)]
pub struct Output {
    pipes: Arc<Pipes>,
    /// Those of its pipes.
    keys: Range<u64>,
    pid: Arc<AtomicU32>,
}

/// What closing an [`Output`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Somebody still had a write end open: a process that escaped, or is kept. After the
    /// generation was seen empty that is a witness that something of it, or given a descriptor
    /// by it, still lives.
    pub held: bool,
}

impl Output {
    /// Ends the capture: takes what the pipes hold (at most 1 MiB each, without waiting), logs
    /// a last line without line end too, and closes our ends. Lines that their destination has no
    /// room for by then are dropped and counted.
    ///
    /// Nothing waits for whoever still holds the other end: from now on its writes fail with
    /// EPIPE and raise SIGPIPE, which by default ends it. Close only when that is right: after
    /// the verdict on the generation.
    pub fn close(mut self) -> Closed {
        self.end()
    }

    /// Whoever writes is to end: from now on its pipes are read even while its log is full, so that
    /// it does not wait for a disk. Lines that there is no room for are dropped and counted.
    pub fn let_go(&self) {
        let mut state = lock(&self.pipes.state);
        for key in self.keys.clone() {
            state.let_go(key);
        }
    }

    /// Where to say which process it is that writes, before it writes anything.
    pub fn pid(&self) -> Arc<AtomicU32> {
        Arc::clone(&self.pid)
    }

    fn end(&mut self) -> Closed {
        let mut state = lock(&self.pipes.state);
        let mut held = false;
        for key in std::mem::take(&mut self.keys) {
            held |= state.close(key);
        }
        Closed { held }
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.end();
    }
}

/// What could not be done.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) doing: &'static str,
    pub(super) source: io::Error,
}

fn failed<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> Failed {
    move |source| Failed {
        doing,
        source: source.into(),
    }
}

/// Every open pipe, and the task that reads them, which ends with this.
#[derive(Debug)]
pub(super) struct Pipes {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    store: Store,
    /// By a number that is never used twice: an event for a pipe that has been closed since
    /// finds nothing.
    open: BTreeMap<u64, Pipe>,
    next_key: u64,
    /// One for all pipes, from the first read on.
    buffer: Vec<u8>,
    reader: Option<Reader>,
    writers: Writers,
    /// Readable when a destination has room again that somebody waits for.
    room: Option<Arc<EventFd>>,
    /// Pipes that are not read until their destination has room.
    paused: Vec<u64>,
}

#[derive(Debug)]
struct Reader {
    watch: Watch,
    task: AbortHandle,
}

#[derive(Clone, Debug)]
struct Watch(Arc<Epoll>);

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.0.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// What is told of a pipe that is not read: nothing but, once, that nobody writes any more, which
/// epoll always tells.
const PAUSED: EpollFlags = EpollFlags::EPOLLONESHOT;

/// Of no pipe: the descriptor that says that there is room again.
const ROOM: u64 = u64::MAX;

impl Pipes {
    pub(super) fn new(store: Store) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                store,
                open: BTreeMap::new(),
                next_key: 0,
                buffer: Vec::new(),
                reader: None,
                writers: Writers::default(),
                room: None,
                paused: Vec::new(),
            })),
        }
    }

    pub(super) fn with_store<T>(&self, act: impl FnOnce(&mut Store) -> T) -> T {
        act(&mut lock(&self.state).store)
    }

    pub(super) fn tidy_up(&self) {
        let mut state = lock(&self.state);
        heap::pack(&mut state.open);
        heap::pack(&mut state.store.rings);
    }

    pub(super) fn flush(&self, bound: Duration) {
        // Not under the lock: those who write meanwhile would wait for a disk.
        let writers = lock(&self.state).writers.all();
        writers.flush(bound);
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        if let Some(reader) = lock(&self.state).reader.take() {
            reader.task.abort();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens the capture of one run of a command.
pub(super) fn open(
    pipes: &Arc<Pipes>,
    capture: &Capture<'_>,
) -> Result<(WriteEnds, Output), Failed> {
    let Capture {
        command,
        mode,
        generation,
        ..
    } = *capture;
    let source = &super::source_name(capture.service, command);
    let pid = Arc::new(AtomicU32::new(0));
    let mut output = Output {
        pipes: Arc::clone(pipes),
        keys: 0..0,
        pid: Arc::clone(&pid),
    };
    if mode == Mode::None {
        let stdout = File::from(null().map_err(failed("open /dev/null"))?);
        let stderr = stdout
            .try_clone()
            .map_err(failed("duplicate /dev/null's descriptor"))?;
        let ends = WriteEnds {
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        return Ok((ends, output));
    }
    let (from_stdout, stdout) = pipe()?;
    let (from_stderr, stderr) = pipe()?;
    // Declared after `output`, which takes the lock when it is dropped.
    let mut state = lock(&pipes.state);
    let watch = state.watch(&pipes.state)?;
    let to = match capture.outlet {
        Some(outlet) => Some(state.writer(&watch, outlet)?),
        None => None,
    };
    // A test or a stop command that waits for a disk would fail for its sake.
    let waits = command == Command::Main && to.as_ref().is_some_and(|to| to.block);
    let from = Arc::new(Speaker {
        source: Arc::clone(source),
        mode,
        generation,
        pid,
        to,
    });
    output.keys = state.next_key..state.next_key;
    for (end, stream) in [(from_stdout, Stream::Stdout), (from_stderr, Stream::Stderr)] {
        let pipe = Pipe {
            end,
            from: Arc::clone(&from),
            stream,
            splitter: Splitter::default(),
            waits,
            paused: false,
            rest: Vec::new(),
        };
        state.add(&watch, pipe)?;
        output.keys.end = state.next_key;
    }
    if command == Command::Main {
        let origin = Origin {
            source,
            stream: Stream::Stderr,
            mode,
            wall_us: wall_us(),
            generation,
            pid: 0,
        };
        // What is only ours goes nowhere else: there each line says its generation.
        state
            .store
            .add(origin, START.as_bytes(), Cut::default(), None);
    }
    drop(state);
    Ok((WriteEnds { stdout, stderr }, output))
}

fn null() -> io::Result<OwnedFd> {
    Ok(OpenOptions::new().write(true).open("/dev/null")?.into())
}

fn pipe() -> Result<(PipeReader, OwnedFd), Failed> {
    let (ours, theirs) = io::pipe().map_err(failed("make a pipe"))?;
    fcntl(&ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
        .map_err(failed("make our end of a pipe non-blocking"))?;
    Ok((ours, theirs.into()))
}

impl State {
    /// The epoll instance, made with its task when the first pipe comes.
    fn watch(&mut self, shared: &Arc<Mutex<State>>) -> Result<Watch, Failed> {
        if let Some(reader) = &self.reader {
            return Ok(reader.watch.clone());
        }
        let runtime = Handle::try_current().map_err(|error| Failed {
            doing: "find the tokio runtime",
            source: io::Error::other(error),
        })?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)
            .map_err(failed("make an epoll instance"))?;
        let watch = Watch(Arc::new(epoll));
        let ready =
            readiness::readable(watch.clone()).map_err(failed("watch the epoll instance"))?;
        let task = runtime.spawn(read_all(ready, Arc::downgrade(shared)));
        self.reader = Some(Reader {
            watch: watch.clone(),
            task: task.abort_handle(),
        });
        Ok(watch)
    }

    fn writer(&mut self, watch: &Watch, outlet: &Outlet) -> Result<Arc<Writer>, Failed> {
        let room = match &self.room {
            Some(room) => Arc::clone(room),
            None => {
                let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
                let room = EventFd::from_value_and_flags(0, flags)
                    .map_err(failed("make an event descriptor"))?;
                let event = EpollEvent::new(EpollFlags::EPOLLIN, ROOM);
                watch
                    .0
                    .add(&room, event)
                    .map_err(failed("watch an event descriptor"))?;
                Arc::clone(self.room.insert(Arc::new(room)))
            }
        };
        Ok(self.writers.get(outlet, &room))
    }

    fn add(&mut self, watch: &Watch, pipe: Pipe) -> Result<(), Failed> {
        let key = self.next_key;
        watch
            .0
            .add(&pipe.end, EpollEvent::new(EpollFlags::EPOLLIN, key))
            .map_err(failed("watch a pipe"))?;
        self.next_key += 1;
        self.open.insert(key, pipe);
        Ok(())
    }

    /// What an event asks for; how many bytes came.
    fn on_event(&mut self, key: u64) -> usize {
        match self.open.get(&key) {
            _ if key == ROOM => {
                self.resume();
                0
            }
            // Its writers have gone: that is told of once, and is seen when it is read again.
            Some(pipe) if pipe.paused => 0,
            _ => self.read(key),
        }
    }

    /// One read of one pipe; how many bytes came.
    fn read(&mut self, key: u64) -> usize {
        let Some(pipe) = self.open.get_mut(&key) else {
            return 0;
        };
        if self.buffer.is_empty() {
            self.buffer = vec![0; TURN_BYTES];
        }
        match pipe.read(&mut self.buffer, &mut self.store) {
            Took::Bytes(bytes) => {
                if pipe.is_held() {
                    self.pause(key);
                }
                bytes
            }
            Took::Nothing => 0,
            Took::End => {
                self.drop_pipe(key);
                0
            }
        }
    }

    /// The pipe fills up, and whoever writes into it waits, until its destination has room.
    fn pause(&mut self, key: u64) {
        if let (Some(pipe), Some(reader)) = (self.open.get_mut(&key), &self.reader) {
            pipe.paused = reader.watch.set(pipe, key, PAUSED);
            self.paused.push(key);
        }
    }

    fn resume(&mut self) {
        if let Some(room) = &self.room {
            // That nobody had written is as good.
            let _ = room.read();
        }
        for key in std::mem::take(&mut self.paused) {
            self.go_on(key);
        }
    }

    /// The pipe is read again, if there is room for what was read of it.
    fn go_on(&mut self, key: u64) {
        let (Some(pipe), Some(reader)) = (self.open.get_mut(&key), &self.reader) else {
            return;
        };
        pipe.catch_up(&mut self.store);
        if pipe.is_held() {
            self.paused.push(key);
        } else {
            pipe.paused = !reader.watch.set(pipe, key, EpollFlags::EPOLLIN);
        }
    }

    fn let_go(&mut self, key: u64) {
        if let Some(pipe) = self.open.get_mut(&key) {
            pipe.waits = false;
        }
        if let Some(at) = self.paused.iter().position(|paused| *paused == key) {
            self.paused.remove(at);
            self.go_on(key);
        }
    }

    /// Takes what is there and closes our end; whether somebody still had the other one open.
    fn close(&mut self, key: u64) -> bool {
        let mut taken = 0;
        self.let_go(key);
        while taken < CLOSE_BYTES && self.open.contains_key(&key) {
            match self.read(key) {
                0 => break,
                bytes => taken += bytes,
            }
        }
        let held = self.open.contains_key(&key);
        self.drop_pipe(key);
        held
    }

    fn drop_pipe(&mut self, key: u64) {
        let Some(mut pipe) = self.open.remove(&key) else {
            return;
        };
        pipe.finish(&mut self.store);
        if let Some(reader) = &self.reader {
            // Closing alone would not do while a child between fork and exec has a copy. It
            // fails only for a descriptor that is not watched.
            let _ = reader.watch.0.delete(&pipe.end);
        }
    }
}

/// The task. Every event of a batch gets its read before the next epoll_wait(2), so that no
/// flooding pipe comes twice before a quiet one came once.
///
/// It does not keep the state alive: an abort takes effect only when the runtime runs again.
async fn read_all(ready: AsyncFd<Watch>, state: Weak<Mutex<State>>) {
    let mut left = TURN_BYTES;
    loop {
        let Ok(mut guard) = ready.readable().await else {
            // The runtime is going down.
            return;
        };
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = match ready.get_ref().0.wait(&mut events, EpollTimeout::ZERO) {
            Ok(0) => {
                guard.clear_ready();
                left = TURN_BYTES;
                continue;
            }
            Ok(count) => count,
            Err(Errno::EINTR) => continue,
            // EBADF, EFAULT, EINVAL: none can come from a descriptor that we own.
            Err(_) => return,
        };
        guard.retain_ready();
        for event in events.iter().take(count) {
            let Some(state) = state.upgrade() else {
                return;
            };
            let bytes = lock(&state).on_event(event.data());
            drop(state);
            left = left.saturating_sub(bytes.max(READ_COST));
            if left == 0 {
                tokio::task::yield_now().await;
                left = TURN_BYTES;
            }
        }
    }
}
