//! What goes over the socket: JSON-RPC 2.0, zinit's methods, and nought's own.
//!
//! Types only: they know nothing of the core, and both ends use them. A reader ignores fields
//! it does not know and every field may be absent where it says so, so that fields can be added.
//! Parameters are the exception: an unknown one is refused, because a caller who asked for
//! `force` must not be answered as if it had not.
//!
//! [`METHODS`] lists every method with its parameters and result; `openrpc` makes the OpenRPC
//! document of the same list.

mod catalog;
mod error;
mod frames;
mod health;
mod last_shutdown;
mod methods;
mod openrpc;
mod receipt;
mod reload;
mod rpc;
mod run;
mod termination;
mod twice;
mod usage;
mod zinit;

pub use catalog::{METHODS, Method, Param};
pub use error::{ErrorCode, ErrorData, RpcError};
pub use frames::{FrameError, Frames, MAX_FRAME_BYTES};
pub use health::{Unready, unready};
pub use last_shutdown::{Course, LastShutdown, last_shutdown, shutdown_began};
pub use methods::{
    Done, Info, Item, JSON_VERSION, List, ListQuery, LogLines, LogQuery, LogRecord, Named,
    ReceiptQuery, Receipts, Restart, ServiceReloaded, ServiceState, ServiceStatus, Shutdown,
    ShutdownDone, ShutdownKind, Start, StartTimes, Stop, Subscribed, method,
};
pub use openrpc::openrpc;
pub use receipt::{
    Budget, Exit, Failure, ForeignProcess, GuaranteeWords, Process, Receipt, Rung, Survivor,
    Verdict, millis_from_nanos,
};
pub use reload::{Change, Changed, Reload, Reloaded};
pub use rpc::{
    Call, Id, Incoming, MAX_BATCH_CALLS, Parameters, Params, Request, Response, incoming,
};
pub use run::{RunAncestor, RunProcess, RunReport};
pub use termination::{TERMINATION_BYTES, Termination, TerminationSurvivor};
pub use twice::Frame;
pub use usage::{
    Account, Plan, PlanQuery, Planned, Pressure, Pressures, ProcessUsage, Usage, UsageQuery, Usages,
};
pub use zinit::{
    Create, Filter, Kill, StartHttp, ZinitChild, ZinitStates, ZinitStats, ZinitStatus,
};
