//! The queue of one destination, and the thread that writes it out.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::EventFd;
use tokio::runtime::Handle;

use super::{Batch, Destination, Format, Head, OUTLET_BYTES, Target, Written};
use crate::sys::{clock, signal};

/// The threads write, rename and compress.
const STACK_BYTES: usize = 256 * 1024;
/// How often a loss that goes on is said in our own log.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// After so long a thread that could not be had is asked for again.
const START_AGAIN: Duration = Duration::from_secs(1);

/// What a queue's thread and those who fill it have in common.
#[derive(Debug)]
pub(super) struct Shared {
    queue: Mutex<Queue>,
    pub(super) filled: Condvar,
    drained: Condvar,
    /// Written to when there is room again for whoever waits for it.
    room: Arc<EventFd>,
    path: PathBuf,
}

#[derive(Debug)]
pub(super) struct Queue {
    pending: Batch,
    /// Of the line that was queued or lost last, and that line's format.
    head: Head,
    format: Format,
    target: Target,
    /// The thread writes to another target than this.
    retargeted: bool,
    /// What the thread has taken and not finished, in bytes.
    in_flight: usize,
    /// The lines of services in it, and (`telling`) those that its note tells of.
    at_risk: u64,
    telling: u64,
    /// Lines lost that no note tells of yet.
    untold: u64,
    /// So many of the lost ones our own log has told of, and more not before this moment.
    said: u64,
    say_at: Option<u64>,
    /// Full: nothing is taken until half of the room is free, so that one note tells of many.
    pub(super) overflowing: bool,
    /// Somebody does not read a pipe until there is room.
    awaited: bool,
    /// There is a thread.
    running: bool,
    /// None could be had.
    refused: bool,
    /// The thread waits to be woken: only then is there anything to call the kernel for.
    pub(super) sleeping: bool,
    /// What was written last could not be.
    failing: bool,
    /// Nobody writes any more, and what was lost has been told as far as that goes.
    farewell: bool,
    /// How many write.
    pub(super) users: usize,
}

impl Queue {
    fn new(target: Target) -> Self {
        Self {
            pending: Batch::default(),
            head: Head::default(),
            format: Format::default(),
            target,
            retargeted: false,
            in_flight: 0,
            at_risk: 0,
            telling: 0,
            untold: 0,
            said: 0,
            say_at: None,
            overflowing: false,
            awaited: false,
            running: false,
            refused: false,
            sleeping: false,
            failing: false,
            farewell: false,
            users: 0,
        }
    }

    /// One more writes, and wants it written like this.
    pub(super) fn take_up(&mut self, target: &Target) {
        self.users += 1;
        self.farewell = false;
        if self.target != *target {
            self.target = target.clone();
            self.retargeted = true;
        }
    }

    /// Whether this queue is to be kept.
    pub(super) fn is_needed(&self) -> bool {
        self.users > 0 || self.running || self.has_lines() || self.lost() > 0
    }

    pub(super) fn has_lines(&self) -> bool {
        !self.pending.lengths.is_empty()
    }

    /// The bytes that wait.
    pub(super) fn used(&self) -> usize {
        self.pending.bytes.len() + self.in_flight
    }

    /// Whether there is no room; then somebody waits for it.
    pub(super) fn is_full(&mut self) -> bool {
        let full = self.used() > OUTLET_BYTES;
        self.awaited |= full;
        full
    }

    /// Whether there is anything left that its thread will do.
    fn is_busy(&self) -> bool {
        self.running && (self.used() > 0 || self.is_to_tell())
    }

    /// Whether what was lost is to be told now. Nobody may ever write the line before which it
    /// would be said. What could not be written before will not be now: then it is tried once,
    /// at the end.
    fn is_to_tell(&self) -> bool {
        self.untold > 0 && (!self.failing || (self.users == 0 && !self.farewell))
    }

    /// The head's line was in this format, from now on.
    fn set_format(&mut self, format: Format) {
        if self.format != format {
            self.format = format;
            self.head = self.head.for_note();
        }
    }

    /// Counts a line that is not taken.
    pub(super) fn lose(&mut self, format: Format, line: &Written<'_>) {
        self.set_format(format);
        self.untold += 1;
        self.head.of(format, line);
    }

    /// Takes a line, after a note of those that were lost before it.
    pub(super) fn push(&mut self, format: Format, line: &Written<'_>) {
        self.set_format(format);
        // Beside this line: who wrote the lost ones is not kept.
        if self.untold > 0 && !self.has_lines() {
            self.head.of(format, line);
            self.tell_losses();
        }
        let Self { pending, head, .. } = self;
        pending.push(format, head, line);
    }

    /// Says what was lost, beside the line that the head was made for.
    fn tell_losses(&mut self) {
        self.overflowing = false;
        let lines = std::mem::take(&mut self.untold);
        self.pending.note_losses(self.format, &mut self.head, lines);
    }

    /// Lines lost that no note tells of that is written.
    fn lost(&self) -> u64 {
        self.untold + self.telling + self.pending.first_tells
    }

    /// How many lines are lost, if our own log is to say that now.
    pub(super) fn loss_due(&mut self, now: u64) -> Option<u64> {
        if self.lost() <= self.said {
            return None;
        }
        let later = now.saturating_add(clock::as_nanos(SAY_EVERY));
        if *self.say_at.get_or_insert(later) > now {
            return None;
        }
        self.say_at = Some(later);
        self.loss()
    }

    /// The same, whenever it was said last.
    fn loss(&mut self) -> Option<u64> {
        let lost = self.lost();
        (lost > std::mem::replace(&mut self.said, lost)).then_some(lost)
    }

    /// The batch is the thread's.
    fn hand_over(&mut self, batch: &mut Batch) {
        std::mem::swap(batch, &mut self.pending);
        self.in_flight = batch.bytes.len();
        self.telling = batch.first_tells;
        self.at_risk = batch.of_services();
    }

    /// It is written, but for so many lines; whether our note is.
    fn take_back(&mut self, lost: u64, note_written: bool) {
        (self.in_flight, self.telling, self.at_risk) = (0, 0, 0);
        self.untold += lost;
        if note_written {
            (self.said, self.say_at) = (0, None);
        }
    }
}

impl Shared {
    pub(super) fn new(target: Target, room: Arc<EventFd>) -> Self {
        Self {
            path: target.path().clone(),
            queue: Mutex::new(Queue::new(target)),
            filled: Condvar::new(),
            drained: Condvar::new(),
            room,
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that there is a thread where there is something for it to do; whether there is.
    pub(super) fn start(self: &Arc<Self>) -> bool {
        let mut queue = self.lock();
        if queue.running || (queue.users == 0 && !queue.has_lines()) {
            return true;
        }
        let own = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("nought-log".into())
            .stack_size(STACK_BYTES);
        let started = thread.spawn(move || own.write_out());
        queue.running = started.is_ok();
        let path = self.path.display();
        match started {
            Ok(_) if std::mem::take(&mut queue.refused) => {
                tracing::info!("there is a thread to write {path} again");
            }
            Err(error) if !std::mem::replace(&mut queue.refused, true) => tracing::warn!(
                "failed to start a thread to write {path}: {error}: trying again every second; \
                 lines wait as for a disk that hangs (raise the limit of processes or of memory)"
            ),
            _ => {}
        }
        queue.running
    }

    /// Tries again until there is one.
    pub(super) fn start_later(self: &Arc<Self>) {
        let shared = Arc::downgrade(self);
        let again = async move {
            loop {
                tokio::time::sleep(START_AGAIN).await;
                if shared.upgrade().is_none_or(|shared| shared.start()) {
                    return;
                }
            }
        };
        // Without a runtime there are no pipes, either.
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(again);
        }
    }

    /// Waits for `left`, of `bound` in all, until nothing is to be written any more.
    pub(super) fn flush(&self, left: Duration, bound: Duration) {
        let queue = self.lock();
        let waited = self
            .drained
            .wait_timeout_while(queue, left, |queue| queue.is_busy());
        let (mut queue, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let path = self.path.display();
        if queue.used() == 0 {
            let lost = queue.loss();
            drop(queue);
            return self.say_in_all(lost);
        }
        let lines = queue.lost() + queue.at_risk + queue.pending.of_services();
        // Its thread may yet go on: this is not to be said twice.
        queue.said = lines;
        drop(queue);
        tracing::warn!(
            "failed to write {path} within {bound:?}: up to {lines} lines are lost: its storage \
             does not answer, or is too slow"
        );
    }

    /// A loss that goes on.
    pub(super) fn say_so_far(&self, lines: u64) {
        tracing::warn!(
            "{lines} lines for {} are lost so far: it is too slow or cannot be written",
            self.path.display()
        );
    }

    /// A loss, when nobody writes any more.
    fn say_in_all(&self, lines: Option<u64>) {
        if let Some(lines) = lines {
            tracing::warn!(
                "{lines} lines for {} are lost: it was too slow or could not be written",
                self.path.display()
            );
        }
    }

    /// The thread: ends when nobody writes any more and everything is written.
    fn write_out(&self) {
        // Signals are the loop's. Where that fails, this thread is woken for nothing now and then.
        let _ = signal::block_all();
        let mut batch = Batch::default();
        let mut queue = self.lock();
        loop {
            queue.retargeted = false;
            let target = queue.target.clone();
            drop(queue);
            let mut to = target.open();
            self.write_to(to.as_mut(), &mut batch);
            // A file may still be compressed: nobody else writes there before that is done.
            drop(to);
            queue = self.lock();
            if queue.users == 0 && !queue.has_lines() && !queue.is_to_tell() {
                queue.running = false;
                let lost = queue.loss();
                self.drained.notify_all();
                drop(queue);
                return self.say_in_all(lost);
            }
        }
    }

    /// Writes there until nobody writes any more and everything is written, or there is another
    /// target.
    fn write_to(&self, to: &mut dyn Destination, batch: &mut Batch) {
        let mut queue = self.lock();
        loop {
            if queue.retargeted {
                return;
            }
            if queue.has_lines() {
                queue.hand_over(batch);
                drop(queue);
                self.write(to, batch);
                queue = self.lock();
                if queue.awaited && queue.used() <= OUTLET_BYTES / 2 {
                    queue.awaited = false;
                    // It can fail only when the counter is full: then it is readable.
                    let _ = self.room.write(1);
                }
                continue;
            }
            if queue.is_to_tell() {
                queue.farewell = queue.users == 0;
                queue.tell_losses();
                continue;
            }
            self.drained.notify_all();
            if queue.users == 0 {
                return;
            }
            queue.sleeping = true;
            let empty =
                |queue: &mut Queue| !queue.has_lines() && !queue.retargeted && queue.users > 0;
            let filled = self.filled.wait_while(queue, empty);
            queue = filled.unwrap_or_else(PoisonError::into_inner);
            queue.sleeping = false;
        }
    }

    /// Writes a batch, and says what becomes of it.
    fn write(&self, to: &mut dyn Destination, batch: &mut Batch) {
        let written = to.write(batch);
        let (lost, first) = match &written {
            Ok(()) => (0, false),
            Err(lost) => (lost.untold(batch), lost.first),
        };
        let mut queue = self.lock();
        queue.take_back(lost, batch.first_tells > 0 && !first);
        let failed_before = std::mem::replace(&mut queue.failing, written.is_err());
        let now = clock::boot_now();
        // What is said at the first failure is not said again at once.
        let due = written.is_err().then(|| queue.loss_due(now)).flatten();
        drop(queue);
        batch.clear();
        match written {
            Err(lost_now) if !failed_before => tracing::warn!(
                "failed to {}: {lost} lines are lost, and more while it lasts",
                lost_now.why
            ),
            Ok(()) if failed_before => {
                tracing::info!("{} is written again", self.path.display());
            }
            _ => {}
        }
        if let Some(lost) = due {
            self.say_so_far(lost);
        }
    }
}
