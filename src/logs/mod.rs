//! What services say: captured per service, kept in memory, written to the supervisor's stdout.
//!
//! ```text
//!   service ──pipe──► pipes (one reader task, one buffer) ──► split ──► store ─┬─► ring (per source)
//!                                                                              ├─► follow ──► readers
//!                                                                              ├─► sink ──► stdout
//!                                                                              └─► outlet ──► file, journal, syslog
//!   tracing events ──► trace ───────────────────────────────────────────────────► sink ──► stderr
//! ```
//!
//! Memory and wake-ups follow the lines: nothing is allocated for a source before its first
//! line, every pipe shares one read buffer, and nothing here has a timer. The pipes are owned in
//! one place, `pipes`, so that an upgrade can hand them to its successor.

mod follow;
mod kernel;
mod outlet;
mod pipes;
mod ring;
mod sink;
mod split;
mod trace;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

pub use follow::{Batch, FOLLOW_BYTES, Follow};
pub use kernel::copy_to_kernel;
pub use outlet::{Format, OUTLET_BYTES, Outlet, Rotated, Target};
pub use pipes::{Closed, Output, WriteEnds};
pub use ring::HEADER;
pub use sink::{QUEUE_BYTES, Sink};
pub use split::LINE_MAX;
pub use trace::{Trace, UnknownLevel, install, level};

use follow::Follower;
use outlet::{Lines, Written};
use pipes::Pipes;
use ring::{Head, Ring};

/// How much is kept in memory, per source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one source's lines, [`HEADER`] bytes for each line included.
    pub ring_bytes: usize,
    /// Lines of one source.
    pub ring_lines: usize,
}

impl Default for Limits {
    /// 64 KiB and 2,000 lines (zinit's number, there for all services together).
    fn default() -> Self {
        Self {
            ring_bytes: 64 * 1024,
            ring_lines: 2000,
        }
    }
}

/// Which of its two outputs a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output: `[+]`.
    Stdout,
    /// Standard error: `[-]`.
    Stderr,
}

impl Stream {
    fn sign(self) -> &'static str {
        match self {
            Stream::Stdout => "[+] ",
            Stream::Stderr => "[-] ",
        }
    }

    /// `stdout` or `stderr`.
    pub fn as_str(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }
}

/// Where a generation's output goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Kept in memory.
    Ring,
    /// Kept in memory, and written to the supervisor's stdout.
    Stdout,
    /// To /dev/null.
    None,
}

/// Which command of a service speaks; each is a source of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// The service's main command: source `NAME`.
    Main,
    /// Its readiness test: source `NAME/test`.
    Test,
    /// Its health check: source `NAME/health`.
    Health,
    /// Its stop command: source `NAME/stop`.
    Stop,
    /// The command that has it reload: source `NAME/reload`.
    Reload,
}

/// How one run of one command is captured.
#[derive(Clone, Copy, Debug)]
pub struct Capture<'a> {
    /// Whose command it is.
    pub service: &'a str,
    /// Which of its commands.
    pub command: Command,
    /// Where its output goes.
    pub mode: Mode,
    /// Where else.
    pub outlet: Option<&'a Outlet>,
    /// The number of the start; 0: none.
    pub generation: u64,
}

/// On which sides a piece of a line longer than [`LINE_MAX`] was cut; neither for a whole line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// The line began in an earlier piece.
    pub before: bool,
    /// The line goes on in a later piece, or is not kept beyond here.
    pub after: bool,
}

impl Cut {
    /// `before`, `after` or `both`; `None` for a whole line.
    pub fn word(self) -> Option<&'static str> {
        match (self.before, self.after) {
            (false, false) => None,
            (true, false) => Some("before"),
            (false, true) => Some("after"),
            (true, true) => Some("both"),
        }
    }
}

/// What a cut looks like, before or after the piece.
const CUT_BEFORE: &str = "[...] ";
const CUT_AFTER: &str = " [...]";
const START: &str = "------------ [start] ------------";

/// A line, as it was kept. Displays as zinit's `[+] NAME: text`, invalid UTF-8 replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Who said it: a service's name, or `NAME/test`, `NAME/health`, `NAME/stop`,
    /// `NAME/reload`.
    pub source: Arc<str>,
    /// Where it said it.
    pub stream: Stream,
    /// When it was read: microseconds since the epoch, by the wall clock.
    pub wall_us: u64,
    /// Counts all lines of all sources, in the order they were read.
    pub seq: u64,
    /// Whether it is a piece of a longer line.
    pub cut: Cut,
    /// The bytes as they came, without the line end.
    pub text: Vec<u8>,
}

/// A moment in microseconds since the epoch, as RFC 3339 has it, in UTC.
fn rfc3339(wall_us: u64) -> String {
    let at = UNIX_EPOCH.checked_add(Duration::from_micros(wall_us));
    humantime::format_rfc3339_micros(at.unwrap_or(UNIX_EPOCH)).to_string()
}

impl Line {
    /// When it was read: RFC 3339 with microseconds, in UTC.
    pub fn time(&self) -> String {
        rfc3339(self.wall_us)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}: ", self.stream.sign(), self.source)?;
        if self.cut.before {
            f.write_str(CUT_BEFORE)?;
        }
        f.write_str(&String::from_utf8_lossy(&self.text))?;
        if self.cut.after {
            f.write_str(CUT_AFTER)?;
        }
        Ok(())
    }
}

/// Capturing a service's output could not be set up.
#[derive(Debug)]
pub struct CaptureError {
    doing: &'static str,
    service: String,
    source: io::Error,
}

impl fmt::Display for CaptureError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "failed to {} for the output of service '{}'",
            self.doing, self.service
        )?;
        match self.source.raw_os_error().map(nix::errno::Errno::from_raw) {
            Some(nix::errno::Errno::EMFILE) => {
                f.write_str(" (raise the supervisor's limit of open files, or set log: none)")
            }
            _ => Ok(()),
        }
    }
}

impl std::error::Error for CaptureError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

impl CaptureError {
    /// The kernel's answer.
    pub fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

/// Every service's output: where it comes from, and what is kept of it.
///
/// Clones are the same logs. Uses the tokio runtime it is called on; when the last clone and the
/// last [`Output`] are gone, so are its task and its descriptors.
#[derive(Clone, Debug)]
pub struct Logs {
    pipes: Arc<Pipes>,
}

impl Logs {
    /// Logs that keep lines within `limits` and write to `sink`.
    pub fn new(limits: Limits, sink: Sink) -> Self {
        Self {
            pipes: Arc::new(Pipes::new(Store::new(limits, sink))),
        }
    }

    /// Sets up the capture of one run of one command of `service`: hands out the ends to give
    /// the process and what closes the capture. With [`Command::Main`] the start line is logged.
    ///
    /// Call it on a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// When the pipes cannot be made (EMFILE, ENFILE) or watched (ENOSPC, ENOMEM), or there is no
    /// runtime.
    pub fn output(
        &self,
        service: &str,
        command: Command,
        mode: Mode,
    ) -> Result<(WriteEnds, Output), CaptureError> {
        self.capture(Capture {
            service,
            command,
            mode,
            outlet: None,
            generation: 0,
        })
    }

    /// The same, with all there is to say of it.
    ///
    /// # Errors
    /// As those of [`Logs::output`]. A destination that cannot be written to is none: that is
    /// logged, and what is lost is counted.
    pub fn capture(&self, capture: Capture<'_>) -> Result<(WriteEnds, Output), CaptureError> {
        pipes::open(&self.pipes, &capture).map_err(|failed| CaptureError {
            doing: failed.doing,
            service: capture.service.into(),
            source: failed.source,
        })
    }

    /// Gives back memory that was left over when many captures began.
    pub fn tidy_up(&self) {
        self.pipes.tidy_up();
    }

    /// Waits until files, journal and syslog have what was written so far, at most for `bound`.
    /// Blocks.
    pub fn flush(&self, bound: Duration) {
        self.pipes.flush(bound);
    }

    /// The last `last` lines of one source (exactly this name), or of all together, in the order
    /// they were read.
    pub fn snapshot(&self, source: Option<&str>, last: usize) -> Vec<Line> {
        let chosen = |name: &str| source.is_none_or(|wanted| wanted == name);
        self.pipes
            .with_store(|store| store.snapshot(&chosen, last).lines)
    }

    /// The last `last` lines of these sources together (of all, when none is named).
    pub fn kept(&self, sources: &[String], last: usize) -> Kept {
        let chosen = chooser(sources);
        self.pipes.with_store(|store| store.snapshot(&chosen, last))
    }

    /// The same, and a subscription to every line that comes after them: none is missed between
    /// the two, and none comes twice.
    pub fn follow(&self, sources: &[String], last: usize) -> (Kept, Follow) {
        let chosen = chooser(sources);
        let named = (!sources.is_empty()).then(|| sources.iter().cloned().collect());
        let (follower, follow) = Follower::new(named);
        let kept = self.pipes.with_store(|store| {
            store.followers.retain(Follower::is_read);
            store.followers.push(follower);
            store.snapshot(&chosen, last)
        });
        (kept, follow)
    }

    /// How many lines of `source` are no longer kept.
    pub fn lost(&self, source: &str) -> u64 {
        self.pipes
            .with_store(|store| store.rings.get(source).map_or(0, Ring::evicted))
    }

    /// Drops everything kept of `service` and its commands.
    pub fn forget(&self, service: &str) {
        self.pipes.with_store(|store| {
            for command in [
                Command::Main,
                Command::Test,
                Command::Health,
                Command::Stop,
                Command::Reload,
            ] {
                store.rings.remove(&*source_name(service, command));
            }
        });
    }
}

/// What is kept of some sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The newest lines, in the order they were read.
    pub lines: Vec<Line>,
    /// How many lines of these sources are no longer kept: they came before all that are.
    pub lost: u64,
}

fn chooser(sources: &[String]) -> impl Fn(&str) -> bool {
    move |name| sources.is_empty() || sources.iter().any(|wanted| wanted == name)
}

fn source_name(service: &str, command: Command) -> Arc<str> {
    match command {
        Command::Main => service.into(),
        Command::Test => format!("{service}/test").into(),
        Command::Health => format!("{service}/health").into(),
        Command::Stop => format!("{service}/stop").into(),
        Command::Reload => format!("{service}/reload").into(),
    }
}

/// The lines that are kept. Every line of every service comes through [`Store::add`].
#[derive(Debug)]
struct Store {
    limits: Limits,
    sink: Sink,
    rings: BTreeMap<Arc<str>, Ring>,
    followers: Vec<Arc<Follower>>,
    next_seq: u64,
}

/// What a line is about, besides its text.
#[derive(Clone, Copy)]
struct Origin<'a> {
    source: &'a Arc<str>,
    stream: Stream,
    mode: Mode,
    wall_us: u64,
    /// The start it comes from, and its main process; 0: not known.
    generation: u64,
    pid: u32,
}

impl<'a> Origin<'a> {
    fn written(self, text: &'a [u8], cut: Cut) -> Written<'a> {
        Written {
            source: self.source,
            generation: self.generation,
            pid: self.pid,
            stream: self.stream,
            wall_us: self.wall_us,
            cut,
            text,
        }
    }
}

impl Store {
    fn new(limits: Limits, sink: Sink) -> Self {
        Self {
            limits,
            sink,
            rings: BTreeMap::new(),
            followers: Vec::new(),
            next_seq: 0,
        }
    }

    /// Keeps a line, and passes it on: `to` is where else it goes.
    fn add(&mut self, origin: Origin<'_>, text: &[u8], cut: Cut, to: Option<&mut Lines<'_>>) {
        if origin.mode == Mode::None {
            return;
        }
        if let Some(to) = to {
            to.add(&origin.written(text, cut));
        }
        let head = Head {
            stream: origin.stream,
            cut,
            seq: self.next_seq,
            wall_us: origin.wall_us,
        };
        self.next_seq += 1;
        if !self.rings.contains_key(origin.source) {
            self.rings
                .insert(Arc::clone(origin.source), Ring::default());
        }
        if let Some(ring) = self.rings.get_mut(origin.source) {
            ring.push(self.limits, head, text);
        }
        if !self.followers.is_empty() {
            self.tell_followers(origin, head, text);
        }
        if origin.mode == Mode::Stdout {
            let before = if cut.before { CUT_BEFORE } else { "" };
            let after = if cut.after { CUT_AFTER } else { "" };
            self.sink.line(
                Stream::Stdout,
                &[
                    origin.stream.sign().as_bytes(),
                    origin.source.as_bytes(),
                    b": ",
                    before.as_bytes(),
                    text,
                    after.as_bytes(),
                ],
            );
        }
    }

    fn tell_followers(&mut self, origin: Origin<'_>, head: Head, text: &[u8]) {
        self.followers.retain(Follower::is_read);
        let mut made = None;
        for follower in &self.followers {
            if follower.wants(origin.source) {
                let line = made.get_or_insert_with(|| {
                    Arc::new(Line {
                        source: Arc::clone(origin.source),
                        stream: head.stream,
                        wall_us: head.wall_us,
                        seq: head.seq,
                        cut: head.cut,
                        text: text.to_vec(),
                    })
                });
                follower.push(line);
            }
        }
    }

    fn snapshot(&self, chosen: &dyn Fn(&str) -> bool, last: usize) -> Kept {
        let rings = || self.rings.iter().filter(|(name, _)| chosen(name));
        // The numbers first: copying every line of every ring to throw most away would leave the
        // supervisor large for ever.
        let mut numbers: Vec<u64> = rings()
            .flat_map(|(_, ring)| {
                let skipped = ring.len().saturating_sub(last);
                ring.entries().skip(skipped).map(|(head, _)| head.seq)
            })
            .collect();
        numbers.sort_unstable();
        let lost = rings().map(|(_, ring)| ring.evicted()).sum();
        let Some(first) = numbers.get(numbers.len().saturating_sub(last)).copied() else {
            let lines = Vec::new();
            return Kept { lines, lost };
        };
        let mut lines: Vec<Line> = rings()
            .flat_map(|(name, ring)| {
                ring.entries()
                    .filter(move |(head, _)| head.seq >= first)
                    .map(move |(head, text)| Line {
                        source: Arc::clone(name),
                        stream: head.stream,
                        wall_us: head.wall_us,
                        seq: head.seq,
                        cut: head.cut,
                        text: ring.text(text),
                    })
            })
            .collect();
        lines.sort_unstable_by_key(|line| line.seq);
        Kept { lines, lost }
    }
}
