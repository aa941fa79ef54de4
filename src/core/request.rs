//! Requests and their replies. Each request gets exactly one reply.

use super::effect::ShutdownKind;
use super::receipt::Receipt;
use super::spec::Spec;

/// Names a request; the driver makes them, none is used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What a client can ask the core to do. What it can ask to see is read from
/// [`super::Supervisor`] without a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Wants the service up.
    Start {
        /// Its name.
        service: String,
        /// Reply when it is ready, done, failed or cannot go on by itself; else at once.
        wait: bool,
        /// Start although an earlier generation lingers.
        force: bool,
    },
    /// Wants the service down; replies with the verdict.
    Stop {
        /// Its name.
        service: String,
        /// Go on to the service although a dependent lingers.
        force: bool,
    },
    /// As `Stop`, so that a new definition of it can be taken over: what is kept open for it stays
    /// open until it is started again.
    StopToAmend {
        /// Its name.
        service: String,
    },
    /// Has the service read its own configuration again; replies when it was asked, or has said
    /// that it is done.
    Reload {
        /// Its name.
        service: String,
    },
    /// Wants the service and everything that waits for it down, dependents first; replies with
    /// the service's verdict.
    StopWithDependents {
        /// Its name.
        service: String,
        /// Go on to the service although a dependent lingers.
        force: bool,
    },
    /// Takes in a service that was not there, wanted up.
    Load {
        /// What it is.
        spec: Box<Spec>,
    },
    /// Takes over new definitions of services that are there, all of them or none. One that runs
    /// has to be able to without a new start.
    Amend {
        /// What they are from now on.
        specs: Vec<Spec>,
    },
    /// Takes out a service that is down and not wanted; whoever waits for its name waits on.
    Forget {
        /// Its name.
        service: String,
    },
    /// Wants the service stopped and up again; replies as `Start` does.
    Restart {
        /// Its name.
        service: String,
        /// Reply when it is ready, done, failed or cannot go on by itself; else at once.
        wait: bool,
    },
    /// Wants everything down, and then the end.
    Shutdown {
        /// Which end.
        kind: ShutdownKind,
    },
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Accepted; nothing was to be waited for.
    Accepted,
    /// The service reached this state (its name as [`super::State::as_str`] has it).
    Reached {
        /// The state.
        state: &'static str,
    },
    /// There was nothing to stop.
    AlreadyDown,
    /// Stopped; the receipt says what is proven.
    Stopped(Box<Receipt>),
    /// Everything has its verdict.
    ShutDown {
        /// Services whose last verdict is lingering.
        lingering: Vec<String>,
        /// Services whose last verdict is unverified.
        unverified: Vec<String>,
    },
    /// The service was asked to read its configuration again.
    Reloaded {
        /// Whether that is done: a command has said so, or the service itself.
        done: bool,
    },
    /// Refused or failed.
    Error(RequestError),
}

/// Why a request was refused or could not be fulfilled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// There is no such service.
    NotFound {
        /// The name asked for.
        service: String,
    },
    /// There is a service of this name.
    AlreadyLoaded {
        /// The name.
        service: String,
    },
    /// It runs, or is wanted up.
    IsUp {
        /// Its name.
        service: String,
        /// The state it is in.
        state: &'static str,
    },
    /// Taken in, it would close a dependency cycle.
    Cycle {
        /// Its name.
        service: String,
        /// The cycle: `a → b → a`.
        cycle: String,
    },
    /// A shutdown is under way.
    ShuttingDown,
    /// An earlier generation of the service lives on.
    Lingering(Box<Receipt>),
    /// A dependent lingers, so the service was left running.
    DependentLingers(Box<Receipt>),
    /// The service cannot be started as it is (a dependency cycle, …).
    Refused {
        /// Its name.
        service: String,
        /// Why.
        why: String,
    },
    /// It was not reloaded.
    NotReloaded {
        /// Its name.
        service: String,
        /// Why.
        why: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// It waits for something that will not come by itself.
    Blocked {
        /// Its name.
        service: String,
        /// What it waits for.
        why: String,
    },
    /// It failed.
    Failed {
        /// Its name.
        service: String,
        /// Why.
        why: String,
    },
    /// A later request asked for the opposite.
    Superseded {
        /// The service's name.
        service: String,
    },
}
