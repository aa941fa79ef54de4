//! One service: its states, and what each event means in each of them.

use std::collections::BTreeMap;

use super::event::Exit;
use super::few::Few;
use super::graph::NameId;
use super::readiness::Probe;
use super::receipt::{Cause, Receipt};
use super::reload::Reloading;
use super::request::RequestId;
use super::restart::Backoff;
use super::share::Share;
use super::spec::Spec;
use super::stop::{AuxState, Ladder};
use super::time::Time;
use super::{GenId, OpId};

/// What the user wants of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Running, or for a oneshot: to have run.
    Up,
    /// Not running.
    Down,
}

/// The main process, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Main {
    /// Asked for; whether it will come to be is open.
    Spawning,
    /// It lives, or is not reaped yet.
    Alive(u32),
    /// It was reaped.
    Gone(Exit),
    /// It never came to be.
    None,
    /// Another supervisor started it: its end will not be seen.
    Unknown,
}

impl Main {
    pub(super) fn pid(self) -> Option<u32> {
        if let Main::Alive(pid) = self {
            Some(pid)
        } else {
            None
        }
    }

    pub(super) fn exit(self) -> Option<Exit> {
        if let Main::Gone(exit) = self {
            Some(exit)
        } else {
            None
        }
    }
}

/// A generation that is not on the ladder.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) r#gen: GenId,
    pub(super) main: Main,
    /// The main process's pid, also when it was reaped.
    pub(super) pid: Option<u32>,
    /// `None`: another supervisor started it.
    pub(super) started: Option<Time>,
    pub(super) execed: bool,
    /// The main process has exited 0, and what it left running is the service now.
    pub(super) remains: bool,
    pub(super) main_populated: Option<bool>,
    pub(super) populated: Option<bool>,
    /// Processes of it that the kernel killed for want of memory.
    pub(super) oom_kills: u64,
    pub(super) auxes: BTreeMap<OpId, AuxState>,
    pub(super) reload: Option<Reloading>,
    /// The command of a reload, until nothing of it is left.
    pub(super) reload_aux: Option<OpId>,
    pub(super) probe: Option<Box<Probe>>,
    pub(super) said: Said,
}

/// What a service said of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) ready: bool,
    /// It reads its configuration again.
    pub(super) reloading: bool,
    /// It has begun to end by itself.
    pub(super) ending: bool,
    /// What it does, in words.
    pub(super) status: String,
}

impl Run {
    pub(super) fn new(r#gen: GenId, main: Main, started: Option<Time>) -> Self {
        Self {
            r#gen,
            main,
            pid: main.pid(),
            started,
            execed: false,
            remains: false,
            main_populated: None,
            populated: None,
            oom_kills: 0,
            auxes: BTreeMap::new(),
            reload: None,
            reload_aux: None,
            probe: None,
            said: Said::default(),
        }
    }
}

/// Where a service is.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// Not running, and not wanted.
    Down,
    /// Wanted, and waiting for something.
    Blocked { why: String },
    /// Started on demand: its sockets are open, or are being opened by this operation.
    Listening { op: OpId },
    /// Its generation exists and is not ready; a running oneshot stays here.
    Starting(Box<Run>),
    /// Ready.
    Up(Box<Run>),
    /// On the stop ladder.
    Stopping(Box<Ladder>),
    /// The ladder ended with survivors; it goes on when they go.
    Lingering(Box<Ladder>),
    /// Waiting to be started again.
    Backoff { until: Time },
    /// Not started again by itself.
    Failed { why: String },
    /// A oneshot that succeeded, or a service whose end was not a failure and is not restarted.
    Done,
}

impl State {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            State::Down => "down",
            State::Blocked { .. } => "blocked",
            State::Listening { .. } => "listening",
            State::Starting(_) => "starting",
            State::Up(_) => "up",
            State::Stopping(_) => "stopping",
            State::Lingering(_) => "lingering",
            State::Backoff { .. } => "backoff",
            State::Failed { .. } => "failed",
            State::Done => "done",
        }
    }

    /// Whether a generation exists that has no verdict yet.
    pub(super) fn active(&self) -> bool {
        match self {
            State::Starting(_) | State::Up(_) | State::Stopping(_) => true,
            State::Down
            | State::Blocked { .. }
            | State::Listening { .. }
            | State::Lingering(_)
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Done => false,
        }
    }

    /// The generation the state holds.
    pub(super) fn r#gen(&self) -> Option<GenId> {
        match self {
            State::Starting(run) | State::Up(run) => Some(run.r#gen),
            State::Stopping(ladder) | State::Lingering(ladder) => Some(ladder.r#gen),
            State::Down
            | State::Blocked { .. }
            | State::Listening { .. }
            | State::Backoff { .. }
            | State::Failed { .. }
            | State::Done => None,
        }
    }
}

/// A stop that waits for dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StopWanted {
    pub(super) cause: Cause,
    /// Go on although a dependent lingers.
    pub(super) force: bool,
}

/// How a service's last generation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The main process's pid, if there was one.
    pub pid: Option<u32>,
    /// How it ended, if that was seen.
    pub exit: Option<Exit>,
    /// Why it could not be started, if that was it.
    pub failure: Option<String>,
    /// When.
    pub at: Time,
}

/// A service in the supervisor's table.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) spec: Box<Spec>,
    /// A leftover, or a lingering generation beside a forced start: it only ever ends.
    pub(super) ghost: bool,
    pub(super) target: Target,
    pub(super) state: State,
    /// When the state last changed.
    pub(super) since: Time,
    /// Set only in Starting and Up.
    pub(super) stop_wanted: Option<StopWanted>,
    /// The dependent that a wanted stop waits for: looked at first.
    pub(super) waits_for: Option<super::ServiceId>,
    /// The dependency that was not ready: looked at first.
    pub(super) blocked_on: Option<super::ServiceId>,
    /// Nothing above it was going down when this many services had begun to: see order.rs.
    pub(super) clear_since: Option<u64>,
    /// What is open for it may be kept by the driver: sockets, descriptors that it stored.
    pub(super) holds: bool,
    /// Its sockets are open.
    pub(super) open: bool,
    /// Somebody connected, or asked for a start: on demand it is to run, not to listen.
    pub(super) demanded: bool,
    /// It goes down to take over a new definition: what is open for it stays.
    pub(super) held: bool,
    /// Start again although the state's own rules would not: a request said so.
    pub(super) again: bool,
    pub(super) backoff: Backoff,
    /// Starts so far.
    pub(super) starts: u64,
    /// Processes of all ended generations that the kernel killed for want of memory.
    pub(super) oom_kills: u64,
    /// Why the current generation could not be started.
    pub(super) failure: Option<String>,
    pub(super) last: Option<Box<Ended>>,
    pub(super) receipt: Option<Box<Receipt>>,
    /// Requests that wait for this service's verdict.
    pub(super) stop_waits: Few<RequestId>,
    /// A ghost beside which its service may start: a request said so.
    pub(super) accepted: bool,
    /// When the current or last generation became ready.
    pub(super) up_since: Option<Time>,
    /// When that start was wanted, and began.
    pub(super) asked: Time,
    pub(super) begun: Option<Time>,
    /// The service that this start, and its stop, waited for last.
    pub(super) start_waited: Option<NameId>,
    pub(super) stop_waited: Option<NameId>,
    /// When a main ended for good, and with which code.
    pub(super) main_end: Option<(Time, u8)>,
    /// Its share of a shutdown's deadline; set when that begins.
    pub(super) share: Option<Box<Share>>,
}

impl Service {
    pub(super) fn new(spec: Spec, ghost: bool, now: Time) -> Self {
        Self {
            spec: Box::new(spec),
            ghost,
            target: if ghost { Target::Down } else { Target::Up },
            state: State::Down,
            since: now,
            stop_wanted: None,
            waits_for: None,
            blocked_on: None,
            clear_since: None,
            holds: false,
            open: false,
            demanded: false,
            held: false,
            again: false,
            backoff: Backoff::default(),
            starts: 0,
            oom_kills: 0,
            failure: None,
            last: None,
            receipt: None,
            stop_waits: Few::default(),
            accepted: false,
            up_since: None,
            asked: now,
            begun: None,
            start_waited: None,
            stop_waited: None,
            main_end: None,
            share: None,
        }
    }

    /// Whether dependents may run: it is up and not about to go, its work is done, or it is started
    /// on demand and they may connect to it.
    pub(super) fn ready(&self) -> bool {
        match self.state {
            State::Up(_) => self.stop_wanted.is_none(),
            State::Done => self.spec.oneshot,
            _ => self.answers() && self.stop_wanted.is_none(),
        }
    }

    /// Whether it is on its way down, or about to be.
    pub(super) fn going_down(&self) -> bool {
        self.stop_wanted.is_some() || matches!(self.state, State::Stopping(_))
    }
}
