//! The control socket: connections, framing, limits, peer credentials, and JSON-RPC to and from
//! the core's requests.
//!
//! Each connection is a task of its own, and so is each call on it. A call goes to the loop as
//! an [`Ask`] and waits for the answer, so a client that is slow, hostile or gone concerns nobody
//! but itself, and what it asked for is carried out whether or not it is still there to hear of
//! it.

mod connection;
mod describe;
mod gauge;
pub mod http;
mod methods;
mod metrics;
mod refusal;
mod termination;

pub use connection::serve;
pub use describe::{Clocks, Seen, info, receipt, see};
pub use gauge::Gauge;
pub use metrics::Tally;
pub use termination::termination;

use tokio::sync::oneshot;

use crate::api;
use crate::core::{Reply, Request};

/// What a connection asks of the loop. Each is answered through its sender, or never when the
/// supervisor ends first.
#[derive(Debug)]
pub enum Ask {
    /// Something to be done.
    Do(Request, oneshot::Sender<Reply>),
    /// What there is to know of the supervisor.
    Info(oneshot::Sender<api::Info>),
    /// What there is to see of one service (nothing when there is none), or of all.
    Look(Option<String>, oneshot::Sender<Vec<Seen>>),
    /// The stored receipts of a service, newest last, at most so many; `None`: no such service.
    Receipts(String, usize, oneshot::Sender<Option<Vec<String>>>),
}
