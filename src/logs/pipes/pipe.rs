//! One pipe: its bytes become lines, as far as there is room for them.

use std::io::{self, PipeReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::time::{ClockId, clock_gettime};

use super::Watch;
use crate::logs::outlet::{Lines, Writer};
use crate::logs::split::Splitter;
use crate::logs::{Mode, Origin, Store, Stream};

/// Our end of a pipe, and what becomes of what is written into it.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) end: PipeReader,
    /// Shared with the pipe of its other stream.
    pub(super) from: Arc<Speaker>,
    pub(super) stream: Stream,
    pub(super) splitter: Splitter,
    /// It is not read while its destination is full.
    pub(super) waits: bool,
    /// It is not read now.
    pub(super) paused: bool,
    /// What was read when its destination became full, and is not taken yet: at most one read.
    pub(super) rest: Vec<u8>,
}

/// Who writes into it.
#[derive(Debug)]
pub(super) struct Speaker {
    pub(super) source: Arc<str>,
    pub(super) mode: Mode,
    pub(super) generation: u64,
    pub(super) pid: Arc<AtomicU32>,
    /// Where else it goes.
    pub(super) to: Option<Arc<Writer>>,
}

impl Speaker {
    /// Of what is read now of one of its streams.
    fn origin(&self, stream: Stream) -> Origin<'_> {
        Origin {
            source: &self.source,
            stream,
            mode: self.mode,
            wall_us: wall_us(),
            generation: self.generation,
            pid: self.pid.load(Ordering::Relaxed),
        }
    }
}

/// What a read found.
pub(super) enum Took {
    Bytes(usize),
    Nothing,
    End,
}

impl Pipe {
    pub(super) fn read(&mut self, buffer: &mut [u8], store: &mut Store) -> Took {
        self.catch_up(store);
        if !self.rest.is_empty() {
            return Took::Nothing;
        }
        match self.end.read(buffer) {
            Ok(0) => Took::End,
            Ok(bytes) => {
                let chunk = buffer.get(..bytes).unwrap_or_default();
                let taken = self.feed(chunk, store);
                self.rest = chunk.get(taken..).unwrap_or_default().to_vec();
                Took::Bytes(bytes)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Took::Nothing
            }
            // A pipe has no other errors; whatever it is, it would come again for ever.
            Err(_) => Took::End,
        }
    }

    /// Whether it is not to be read before its destination has room.
    pub(super) fn is_held(&self) -> bool {
        let full = |to: &Arc<Writer>| to.is_full();
        self.waits && (!self.rest.is_empty() || self.from.to.as_ref().is_some_and(full))
    }

    /// What was read before and not taken.
    pub(super) fn catch_up(&mut self, store: &mut Store) {
        if self.rest.is_empty() {
            return;
        }
        let mut rest = std::mem::take(&mut self.rest);
        let taken = self.feed(&rest, store);
        if taken < rest.len() {
            rest.drain(..taken);
            self.rest = rest;
        }
    }

    /// Hands on the lines, as long as there is room for them where that is waited for; how many
    /// bytes that were.
    fn feed(&mut self, chunk: &[u8], store: &mut Store) -> usize {
        let origin = self.from.origin(self.stream);
        let (waits, mut to) = (self.waits, self.from.to.as_deref().map(Writer::open));
        self.splitter.feed(chunk, |text, cut| {
            store.add(origin, text, cut, to.as_mut());
            !(waits && to.as_mut().is_some_and(Lines::is_full))
        })
    }

    pub(super) fn finish(&mut self, store: &mut Store) {
        let origin = self.from.origin(self.stream);
        let mut to = self.from.to.as_deref().map(Writer::open);
        self.splitter
            .finish(|text, cut| store.add(origin, text, cut, to.as_mut()));
    }
}

impl Watch {
    /// Sets what is told of a pipe that is watched; whether that could be done. It allocates
    /// nothing, so that it cannot fail for want of memory or watches, as adding it again could.
    pub(super) fn set(&self, pipe: &Pipe, key: u64, flags: EpollFlags) -> bool {
        let mut event = EpollEvent::new(flags, key);
        self.0.modify(&pipe.end, &mut event).is_ok()
    }
}

/// The wall clock, in microseconds since the epoch; 0 when it stands before that.
pub(super) fn wall_us() -> u64 {
    clock_gettime(ClockId::CLOCK_REALTIME)
        .ok()
        .and_then(|now| u64::try_from(Duration::from(now).as_micros()).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nothing_is_read_from_is_small() {
        // Two for every service that runs.
        assert!(size_of::<Pipe>() <= 80, "{}", size_of::<Pipe>());
    }
}
