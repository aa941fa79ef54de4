//! The supervisor, pure: no I/O, no clock, no async, nothing but `std` collections.
//!
//! ```text
//!   handle(now, event)  ─┐                    ┌─► poll_effect()  until None
//!   handle_timeout(now) ─┴─► Supervisor ──────┴─► poll_timeout()
//! ```
//!
//! After every `handle` or `handle_timeout`, take effects until there are none, then ask for the
//! next timeout. Spurious calls do nothing.

mod amend;
mod answers;
mod asked;
pub mod check;
mod checks;
mod differences;
pub mod effect;
mod ending;
pub mod event;
mod few;
mod for_good;
mod graph;
mod halt;
pub mod job;
mod lifecycle;
pub mod machine;
mod members;
mod name;
mod order;
pub mod plan;
mod readiness;
pub mod receipt;
mod reload;
pub mod request;
mod resources;
mod restart;
mod roles;
#[cfg(test)]
pub mod sabotage;
pub mod service;
mod settle;
mod share;
mod shutdown;
pub mod signal;
mod sockets;
pub mod spec;
mod stop;
pub mod time;
pub mod view;

pub use check::{Check, HttpGet};
pub use differences::Difference;
pub use effect::{AuxKind, Effect, EndedAll, Notice, Outcome, ShutdownKind, To};
pub use event::{Event, Exit, Failed, Fence, KillReport, ScanReport, SweepReport, Told};
pub use job::{Ask, Job, JobSettings, Why};
pub use machine::{Leftover, Settings, Supervisor};
pub use name::{MAX_NAME_BYTES, bad_name, is_hidden};
pub use plan::{Goal, Plan, Planned};
pub use receipt::{
    Allotment, Cause, Containment, Foreigner, Guarantee, Proc, Receipt, Rung, ScanQuality, Step,
    Survivor, Verdict,
};
pub use request::{Reply, Request, RequestError, RequestId};
pub use resources::{IoMax, Resources};
pub use roles::imply_order;
pub use service::{Ended, Target};
pub use signal::Signal;
pub use sockets::{Socket, SocketAt};
pub use spec::{
    EndAction, EnvFile, FD_STORE, Health, Limit, LogFormat, LogMode, LogTarget, LogTo, Reach,
    Reload, ReloadBy, Resource, RestartPolicy, RestartWhen, Role, Spec, Test,
};
pub use time::{Time, Timer, Timers};
pub use view::ServiceView;

/// A service, by its place in the supervisor's table; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId(pub u32);

/// One start of one service; counts up over the supervisor's life, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GenId(pub u64);

/// Names one operation handed to the driver, so that its completion can be told from a late or
/// repeated one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);
