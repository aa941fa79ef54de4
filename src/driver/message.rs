//! What comes back to the loop from work that was done off it.

use std::path::PathBuf;

use super::resolve::Resolved;
use super::scans::Wanted;
use super::sockets::Sockets;
use crate::core::{Event, Foreigner, GenId, KillReport, OpId, ServiceId};
use crate::sys::SysError;
use crate::sys::scan::PassResult;
use crate::sys::sd_notify::Said;
use crate::sys::spawn::{Born, SpawnError};

/// A message to the loop.
pub(super) enum Message {
    /// Something the core waits for.
    Event(Event),
    /// What a start needs from files is there, or cannot be had.
    Resolved {
        r#gen: GenId,
        result: Result<Resolved, SysError>,
    },
    /// The sockets of a service that is started on demand are open, or cannot be.
    Opened {
        service: ServiceId,
        op: OpId,
        result: Result<Sockets, SysError>,
    },
    /// The main process of a generation exists, or does not.
    Started {
        r#gen: GenId,
        result: Result<Born, SpawnError>,
    },
    /// An auxiliary command's process exists, or does not.
    AuxStarted {
        r#gen: GenId,
        aux: OpId,
        result: Result<AuxBorn, SpawnError>,
    },
    /// Somebody says something in the name of a generation.
    Said { r#gen: GenId, said: Said },
    /// The main process that a generation named itself has ended.
    NamedMainEnded { r#gen: GenId, pid: u32 },
    /// A process's exec pipe has something to say.
    ExecReady { pid: u32 },
    /// The first process of a generation's pid namespace has something to say.
    Reported { r#gen: GenId },
    /// What passes over /proc found for each generation that waited for one.
    Scans(Vec<((GenId, Wanted), PassResult)>),
    /// A kill is done; `moved_in` died of it and were nobody's.
    Killed {
        r#gen: GenId,
        op: OpId,
        report: KillReport,
        moved_in: Vec<Foreigner>,
    },
    /// Done, and nothing to say of it.
    Nothing,
}

/// An auxiliary command that was started.
pub(super) struct AuxBorn {
    pub(super) born: Born,
    /// Its own cgroup, where there are cgroups.
    pub(super) dir: Option<PathBuf>,
}
