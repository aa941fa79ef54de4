//! What goes over the socket: JSON-RPC 2.0, zinit's methods, and nought's own.
//!
//! Types only: they know nothing of the core, and both ends use them. A reader ignores fields
//! it does not know and every field may be absent where it says so, so that fields can be added.
//! Parameters are the exception: an unknown one is refused, because a caller who asked for
//! `force` must not be answered as if it had not.
//!
//! | method | parameters | result |
//! |---|---|---|
//! | `nought_info` | | [`Info`] |
//! | `nought_list` | | [`List`] |
//! | `nought_status` | [`Named`] | [`ServiceStatus`] |
//! | `nought_start` | [`Start`] | [`Done`] |
//! | `nought_stop` | [`Stop`] | [`Done`] |
//! | `nought_restart` | [`Restart`] | [`Done`] |
//! | `nought_receipt` | [`ReceiptQuery`] | [`Receipts`] |
//! | `nought_shutdown` | [`Shutdown`] | [`ShutdownDone`] |
//! | `nought_log` | [`LogQuery`] | [`LogLines`] |

mod frames;
mod health;
mod methods;
mod receipt;
mod rpc;
mod termination;
mod zinit;

pub use frames::{FrameError, Frames, MAX_FRAME_BYTES};
pub use health::{Unready, unready};
pub use methods::{
    Done, Info, List, LogLines, LogQuery, Named, ReceiptQuery, Receipts, Restart, ServiceState,
    ServiceStatus, Shutdown, ShutdownDone, ShutdownKind, Start, Stop, method,
};
pub use receipt::{
    Budget, Exit, Failure, ForeignProcess, GuaranteeWords, Process, Receipt, Rung, Survivor,
    Verdict, millis_from_nanos,
};
pub use rpc::{
    Call, ErrorCode, ErrorData, Id, Incoming, MAX_BATCH_CALLS, Parameters, Params, Request,
    Response, RpcError, incoming,
};
pub use termination::{TERMINATION_BYTES, Termination, TerminationSurvivor};
pub use zinit::{ZinitStates, ZinitStatus};
