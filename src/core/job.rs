//! One command, from its start to its verdict: what `nought run` decides. The end of it is the
//! stop ladder's (`stop.rs`), as a service's is.
//!
//! ```text
//!             ended by itself           somebody lives on: a moment to go by itself
//!   running ──────────────────► settling ─────────────► listing ─► ladder (kill) ─► ended
//!     │ │                          └ empty ────────────────────────► (proof) ───────►
//!     │ └ time is over ─► evidence ─► ladder (command, signal, grace, kill, proof) ─►
//!     └ a signal asks us to end ────► ladder (that signal, grace, kill, proof) ─────►
//! ```
//!
//! Drive it as the supervisor: hand in what happens, take what is asked until there is none, then
//! ask for the next timeout.

use std::collections::BTreeSet;
use std::time::Duration;

use super::effect::{Effect, To};
use super::ending::on_ladder_event;
use super::event::Event;
use super::machine::Out;
use super::receipt::{Cause, Guarantee, Receipt, Verdict};
use super::service::{Main, Run};
use super::signal::Signal;
use super::spec::{Reach, Spec};
use super::stop::{Budget, Ladder};
use super::time::{Time, Timer};
use super::{GenId, ServiceId};

/// The one there is.
const JOB: ServiceId = ServiceId(0);
/// Its one start.
pub const GENERATION: GenId = GenId(1);

/// How long what may take.
#[derive(Clone, Debug)]
pub struct JobSettings {
    /// From the signal that asks the command to end to the kill; what runs before the signal when
    /// the time is over has as long.
    pub grace: Duration,
    /// How long what outlives the command has between a SIGTERM and the kill.
    pub leak_grace: Duration,
    /// How long what outlives the command may take to end by itself before it counts as left.
    pub settle: Duration,
    /// From the kill, or the empty cgroup, to the verdict.
    pub kill_timeout: Duration,
    /// How long the command may take.
    pub timeout: Option<Duration>,
    /// Whether something is to be run when the time is over, before the signal.
    pub timeout_command: bool,
}

/// Why the command came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It ended by itself.
    Itself,
    /// Its time was over.
    Timeout,
    /// We were asked to end.
    Signal(Signal),
    /// It could not be started.
    NotStarted,
    /// Who ran it was killed.
    Orphaned,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// As for a service, but for requests and shutdowns.
    Effect(Effect),
    /// Find out who outlived the command; answer: [`Job::on_listed`].
    List,
    /// Say what is running, for its time is over; answer: [`Job::on_evidence`].
    Evidence,
    /// The verdict. Nothing is asked after it.
    Ended(Box<Receipt>),
}

#[derive(Debug)]
enum Phase {
    Running,
    /// The command has ended; whoever is left has until then.
    Settling {
        until: Time,
    },
    Listing,
    Evidence,
    Ending(Box<Ladder>),
    Ended,
}

/// The job.
#[derive(Debug)]
pub struct Job {
    settings: JobSettings,
    spec: Spec,
    guarantee: Guarantee,
    out: Out,
    run: Run,
    phase: Phase,
    why: Why,
    deadline: Option<Time>,
    list: bool,
    evidence: bool,
    /// Signals that asked us to end.
    asked: BTreeSet<Signal>,
}

impl Job {
    /// A command that runs as process `pid` under this guarantee.
    pub fn new(settings: JobSettings, guarantee: Guarantee, now: Time, pid: u32) -> Self {
        let mut job = Self::with(settings, guarantee, now, Main::Alive(pid), Some(now));
        job.deadline = job.settings.timeout.map(|timeout| now + timeout);
        job
    }

    /// What is left of a command that could not be started.
    pub fn not_started(settings: JobSettings, guarantee: Guarantee, now: Time) -> Self {
        let mut job = Self::with(settings, guarantee, now, Main::None, Some(now));
        job.why = Why::NotStarted;
        job.end(Cause::StartFailed, Duration::ZERO, false);
        job
    }

    /// A command whose `run` was killed: it is ended at once.
    pub fn orphaned(settings: JobSettings, guarantee: Guarantee, now: Time) -> Self {
        let mut job = Self::with(settings, guarantee, now, Main::Unknown, None);
        job.why = Why::Orphaned;
        job.end(Cause::Leftover, Duration::ZERO, false);
        job
    }

    fn with(
        settings: JobSettings,
        guarantee: Guarantee,
        now: Time,
        main: Main,
        started: Option<Time>,
    ) -> Self {
        let mut spec = Spec::new("run", Vec::new());
        spec.signal_to = Reach::All;
        let mut out = Out::default();
        out.now = now;
        Self {
            settings,
            spec,
            guarantee,
            out,
            run: Run::new(GENERATION, main, started),
            phase: Phase::Running,
            why: Why::Itself,
            deadline: None,
            list: false,
            evidence: false,
            asked: BTreeSet::new(),
        }
    }

    /// Why it came, or comes, to its end.
    pub fn why(&self) -> Why {
        self.why
    }

    /// Whether the command is over or asked to end.
    pub fn is_ending(&self) -> bool {
        !matches!(self.phase, Phase::Running | Phase::Evidence)
    }

    /// Takes in something that happened.
    pub fn handle(&mut self, now: Time, event: Event) {
        self.out.now = self.out.now.max(now);
        if let Phase::Ending(ladder) = &mut self.phase {
            let verdict = on_ladder_event(ladder, &mut self.out, JOB, event);
            self.settle(verdict);
            return;
        }
        match event {
            Event::MainExited { exit, .. } => {
                self.run.main = Main::Gone(exit);
                if matches!(self.phase, Phase::Running) {
                    let until = self.out.now + self.settings.settle;
                    self.phase = Phase::Settling { until };
                    self.when_empty();
                }
            }
            Event::Cgroup { main, whole, .. } => {
                self.run.main_populated = Some(main);
                self.run.populated = Some(whole);
                self.when_empty();
            }
            _ => {}
        }
    }

    fn when_empty(&mut self) {
        if matches!(self.phase, Phase::Settling { .. }) && self.run.populated == Some(false) {
            self.end(Cause::Ended, self.settings.leak_grace, false);
        }
    }

    /// TERM, INT, HUP or QUIT came. The second INT ends every grace.
    pub fn on_signal(&mut self, now: Time, signal: Signal) {
        self.out.now = self.out.now.max(now);
        let again = !self.asked.insert(signal);
        match &mut self.phase {
            Phase::Running | Phase::Evidence => {
                if self.why == Why::Itself {
                    self.why = Why::Signal(signal);
                }
                self.spec.stop_signal = signal;
                self.end(Cause::Stop, self.settings.grace, false);
            }
            Phase::Settling { .. } => self.list(),
            Phase::Ending(ladder) if again && signal == Signal::INT => {
                ladder.hurry(&mut self.out, JOB);
            }
            Phase::Ending(ladder) if !again => {
                let (grace, proof) = (self.settings.grace, self.settings.kill_timeout);
                let budget = Budget {
                    grace,
                    proof,
                    // What runs before the signal takes from the one grace there is.
                    limit: Some(self.out.now + grace + proof),
                };
                ladder.tighten(&mut self.out, JOB, budget);
                self.out.push(Effect::Signal {
                    r#gen: GENERATION,
                    signal,
                    to: To::Reach(Reach::All),
                });
            }
            Phase::Listing | Phase::Ending(_) | Phase::Ended => {}
        }
    }

    /// Whoever outlived the command is known.
    pub fn on_listed(&mut self, now: Time) {
        self.out.now = self.out.now.max(now);
        if matches!(self.phase, Phase::Listing) {
            self.end(Cause::Ended, self.settings.leak_grace, false);
        }
    }

    /// What was running when the time was over has been said.
    pub fn on_evidence(&mut self, now: Time) {
        self.out.now = self.out.now.max(now);
        if matches!(self.phase, Phase::Evidence) {
            let command = self.settings.timeout_command;
            self.end(Cause::Stop, self.settings.grace, command);
        }
    }

    /// Fires what is due. A spurious call does nothing.
    pub fn handle_timeout(&mut self, now: Time) {
        self.out.now = self.out.now.max(now);
        while let Some(timer) = self.out.timers.pop_due(self.out.now) {
            self.on_timer(timer);
        }
        match self.phase {
            Phase::Running if self.deadline.is_some_and(|at| at <= self.out.now) => {
                self.why = Why::Timeout;
                self.phase = Phase::Evidence;
                self.evidence = true;
            }
            Phase::Settling { until } if until <= self.out.now => self.list(),
            _ => {}
        }
    }

    fn on_timer(&mut self, timer: Timer) {
        let Phase::Ending(ladder) = &mut self.phase else {
            return;
        };
        let out = &mut self.out;
        let verdict = match timer {
            Timer::Rung(_) => ladder.on_rung_timeout(out, JOB),
            Timer::Proof(_) => ladder.on_proof_timeout(out, JOB),
            Timer::Retry(_) => {
                ladder.on_retry(out, JOB);
                None
            }
            _ => None,
        };
        self.settle(verdict);
    }

    /// The next thing to do; call until there is none.
    pub fn poll(&mut self) -> Option<Ask> {
        if std::mem::take(&mut self.evidence) {
            return Some(Ask::Evidence);
        }
        if std::mem::take(&mut self.list) {
            return Some(Ask::List);
        }
        if matches!(self.phase, Phase::Ended) {
            return None;
        }
        match self.out.poll()? {
            Effect::Receipt(receipt) => {
                self.phase = Phase::Ended;
                Some(Ask::Ended(receipt))
            }
            effect => Some(Ask::Effect(effect)),
        }
    }

    /// When to call [`Job::handle_timeout`]; `None`: not before the next event.
    pub fn poll_timeout(&self) -> Option<Time> {
        match self.phase {
            Phase::Running => self.deadline,
            Phase::Settling { until } => Some(until),
            Phase::Ending(_) => self.out.timers.next(),
            Phase::Listing | Phase::Evidence | Phase::Ended => None,
        }
    }

    // ---- small parts --------------------------------------------------------------------

    fn list(&mut self) {
        self.phase = Phase::Listing;
        self.list = true;
    }

    fn end(&mut self, cause: Cause, grace: Duration, command: bool) {
        let budget = Budget {
            grace,
            proof: self.settings.kill_timeout,
            limit: None,
        };
        let (run, out) = (self.run.clone(), &mut self.out);
        let mut ladder = Ladder::new(out, &self.spec, self.guarantee, run, cause, budget);
        ladder.climb(out, JOB, command);
        self.phase = Phase::Ending(Box::new(ladder));
        self.evidence = false;
    }

    /// The receipt on its way out is the verdict's: nothing else has to be kept of it.
    fn settle(&mut self, verdict: Option<Verdict>) {
        if verdict.is_some() {
            self.out.timers.cancel_service(JOB);
        }
    }
}
