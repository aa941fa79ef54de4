//! The control socket: connections, framing, limits, peer credentials, and JSON-RPC to and from
//! the core's requests.
//!
//! Each connection is a task of its own, and so is each call on it. A call goes to the loop as
//! an [`Ask`] and waits for the answer, so a client that is slow, hostile or gone concerns nobody
//! but itself, and what it asked for is carried out whether or not it is still there to hear of
//! it.

mod connection;
mod describe;
mod follow;
mod gauge;
mod hangup;
mod http;
mod methods;
mod metrics;
mod places;
mod reader;
mod refusal;
mod reload;
mod session;
mod termination;
mod unknown;
mod usage;
mod zinit;

pub use connection::{Admission, serve};
pub use describe::{Clocks, Seen, course, exit, info, receipt, see};
pub use gauge::Gauge;
pub use http::{Http, HttpError};
pub use methods::Context;
pub use metrics::Tally;
pub use reload::from_within as reload;
pub use termination::termination;
pub use usage::Use;

use tokio::sync::oneshot;

use serde_json::{Map, Value};

use crate::api;
use crate::core::{Goal, Plan, Reply, Request, Signal, Spec};

/// How services went down.
pub type Courses = Vec<api::Course>;

/// What a connection asks of the loop. Each is answered through its sender, or never when the
/// supervisor ends first.
#[derive(Debug)]
pub enum Ask {
    /// Something to be done.
    Do(Request, oneshot::Sender<Reply>),
    /// What there is to know of the supervisor.
    Info(oneshot::Sender<api::Info>),
    /// What there is to see of one service (nothing when there is none), or of all.
    Look(Look, oneshot::Sender<Vec<Seen>>),
    /// What one service (nothing when there is none), or each, uses.
    Use(Option<String>, oneshot::Sender<Vec<(Seen, Use)>>),
    /// The stored receipts of a service, newest last, at most so many; `None`: no such service.
    Receipts(String, usize, oneshot::Sender<Option<Vec<String>>>),
    /// How each service went down in the last shutdown that it was in.
    Courses(oneshot::Sender<Courses>),
    /// What would be done; `None`: no such service.
    Plan(Goal, oneshot::Sender<Option<Plan>>),
    /// A signal for the process group of a service's main process.
    Kill(String, Signal, oneshot::Sender<Result<(), KillError>>),
    /// What every service's file says, if all of them are sound.
    ReadSpecs(oneshot::Sender<Result<Files, Vec<String>>>),
    /// What every service is by now.
    Definitions(oneshot::Sender<Vec<Definition>>),
    /// What a service's file says.
    ReadSpec(String, oneshot::Sender<Result<Spec, FileError>>),
    /// Writes a service's file, which must not be there.
    CreateFile(
        String,
        Map<String, Value>,
        oneshot::Sender<Result<(), FileError>>,
    ),
    /// Removes a service's file.
    DeleteFile(String, oneshot::Sender<Result<(), FileError>>),
    /// What a service's file holds, as JSON.
    ReadFile(String, oneshot::Sender<Result<Value, FileError>>),
}

/// What the directory of service files holds.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// The services, by name.
    pub specs: Vec<Spec>,
    /// What is odd and keeps nothing from running, a text for each.
    pub warnings: Vec<String>,
}

/// A service that the supervisor knows.
#[derive(Clone, Debug)]
pub struct Definition {
    /// What it is.
    pub spec: Spec,
    /// The name of its state.
    pub state: &'static str,
    /// Whether a generation of it has no verdict yet.
    pub active: bool,
    /// Whether it is wanted up.
    pub wanted: bool,
}

/// What is looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// One service; none: all.
    pub name: Option<String>,
    /// Whether to find out how much memory each has, too.
    pub memory: bool,
}

/// Why no signal was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KillError {
    /// There is no such service.
    NotFound,
    /// It has no main process; this is its state.
    Down(&'static str),
    /// The kernel refused.
    Failed(String),
}

/// Why nothing came of a service file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileError {
    /// The name cannot be a service's.
    BadName(String),
    /// There is no such file.
    Missing(String),
    /// It is there already.
    Exists(String),
    /// It says what no service file can say: a text for each problem.
    Problems(Vec<String>),
    /// It could not be read, written or removed.
    Failed {
        /// What was being done: `write`.
        doing: &'static str,
        /// To which path.
        path: String,
        /// The system's answer.
        why: String,
    },
}
