//! Reading environments without being held up.
//!
//! /proc/PID/environ is the process's memory: who maps a file of a dead file system (or of a
//! FUSE server of his own) there keeps every reader waiting in the kernel, for ever, and one
//! look answers for every service that stops. So a thread of its own reads, and who is too slow
//! once is not asked again until that reader came back.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::sys::procfs::{Proc, ProcId};
use crate::sys::{SysError, signal};

/// How long one environment may take. Usually it is 10 µs.
const BOUND: Duration = Duration::from_millis(100);
/// So many readers may hang at a time; while they do, nobody's environment is read.
const READERS: usize = 16;
const STACK: usize = 128 * 1024;

/// Whose reader has not come back.
static STUCK: Mutex<BTreeSet<ProcId>> = Mutex::new(BTreeSet::new());

type Answer = Result<Option<String>, SysError>;

/// A reader for one look.
pub(super) struct Environments {
    read: fn(ProcId, &str) -> Answer,
    reader: Option<Reader>,
}

impl Default for Environments {
    fn default() -> Self {
        Self {
            read: |of, key| Proc::open()?.environ_value(of.pid, key),
            reader: None,
        }
    }
}

struct Reader {
    questions: Sender<(ProcId, String)>,
    answers: Receiver<Answer>,
}

impl Environments {
    /// [`Proc::environ_value`], or `None` when that cannot be had in time.
    pub(super) fn value(&mut self, of: ProcId, key: &str) -> Answer {
        #[cfg(test)]
        if let Some(value) = super::tests::environment(of.pid, key) {
            return Ok(value);
        }
        {
            let stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner);
            if stuck.len() >= READERS || stuck.contains(&of) {
                return Ok(None);
            }
        }
        let reader = match self.reader.take() {
            Some(reader) => reader,
            None => Reader::start(self.read)?,
        };
        // Fails only with the reader gone, and then there is no answer either.
        let _ = reader.questions.send((of, key.to_owned()));
        match reader.answers.recv_timeout(BOUND) {
            Ok(answer) => {
                self.reader = Some(reader);
                answer
            }
            Err(_) => {
                let mut stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner);
                // It may have come back at this very moment.
                if let Ok(answer) = reader.answers.try_recv() {
                    self.reader = Some(reader);
                    return answer;
                }
                stuck.insert(of);
                Ok(None)
            }
        }
    }
}

impl Reader {
    fn start(read: fn(ProcId, &str) -> Answer) -> Result<Self, SysError> {
        let (questions, asked) = channel::<(ProcId, String)>();
        let (sender, answers) = channel();
        let work = move || {
            // It may hang for good, and a signal for the process is not for it.
            let _ = signal::block_all();
            for (of, key) in asked {
                let answer = read(of, &key);
                let mut stuck = STUCK.lock().unwrap_or_else(PoisonError::into_inner);
                if stuck.remove(&of) || sender.send(answer).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new()
            .name("environ".to_owned())
            .stack_size(STACK)
            .spawn(work)
            .map_err(|error| {
                SysError::io(
                    "start a thread for",
                    std::path::Path::new("environ"),
                    &error,
                )
            })?;
        Ok(Self { questions, answers })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static HELD: Mutex<()> = Mutex::new(());

    const fn process(pid: u32) -> ProcId {
        ProcId { pid, start_time: 1 }
    }

    #[test]
    fn one_that_hangs_holds_nobody_up_and_is_asked_again_when_it_came_back() {
        let mut environments = Environments {
            read: |of, _| {
                let _held = (of == process(7)).then(|| HELD.lock());
                Ok(Some(of.pid.to_string()))
            },
            reader: None,
        };
        let mut ask = |pid| environments.value(process(pid), "KEY").unwrap();
        let held = HELD.lock().unwrap();
        assert_eq!(ask(6).as_deref(), Some("6"));
        assert_eq!(ask(7), None);
        assert_eq!(STUCK.lock().unwrap().len(), 1);
        assert_eq!(ask(7), None);
        assert_eq!(ask(8).as_deref(), Some("8"));
        drop(held);
        while !STUCK.lock().unwrap().is_empty() {
            std::thread::yield_now();
        }
        assert_eq!(ask(7).as_deref(), Some("7"));
    }
}
