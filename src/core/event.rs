//! What can happen to the core: everything it learns about the world comes as one of these.

use std::time::Duration;

use super::receipt::{Foreigner, Guarantee, Proc, Survivor};
use super::request::{Request, RequestId};
use super::{GenId, OpId, ServiceId};

/// Something that happened. Completions name the operation they complete; the core ignores
/// those it no longer waits for, so a late or a repeated one is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A client asks for something; exactly one [`super::Effect::Reply`] answers.
    Request {
        /// The reply carries it back; never used twice.
        id: RequestId,
        /// What is asked.
        request: Request,
    },
    /// TERM, INT, HUP or QUIT arrived: the first shuts down, a second cuts every grace short.
    Terminate,
    /// After [`super::Effect::Listen`]: its sockets are open.
    Listening {
        /// The service.
        service: ServiceId,
        /// The operation this answers.
        op: OpId,
    },
    /// After [`super::Effect::Listen`]: they could not be opened.
    ListenFailed {
        /// The service.
        service: ServiceId,
        /// The operation this answers.
        op: OpId,
        /// What failed.
        error: Failed,
    },
    /// After `Listening`: somebody connects, or has sent something.
    Demanded {
        /// The service.
        service: ServiceId,
        /// The operation this answers.
        op: OpId,
    },
    /// [`super::Effect::Reload`] is done.
    Reloaded {
        /// The generation signalled.
        r#gen: GenId,
        /// The operation this completes.
        op: OpId,
        /// Why the signal could not be sent.
        error: Option<Failed>,
    },
    /// The main process exists inside its cgroup; exec has not happened yet.
    Spawned {
        /// The generation it is the main process of.
        r#gen: GenId,
        /// Its pid.
        pid: u32,
    },
    /// No main process came to be, and none will.
    SpawnFailed {
        /// The generation that has none.
        r#gen: GenId,
        /// What failed.
        error: Failed,
    },
    /// The main process executed its program.
    Execed {
        /// The generation it belongs to.
        r#gen: GenId,
    },
    /// The main process could not execute its program; its exit follows.
    ExecFailed {
        /// The generation it belongs to.
        r#gen: GenId,
        /// What failed.
        error: Failed,
    },
    /// The main process was reaped.
    MainExited {
        /// The generation it belonged to.
        r#gen: GenId,
        /// How it ended.
        exit: Exit,
    },
    /// The main process has ended, and how was for its parent to see alone: it was made the main
    /// process by what the service said of itself.
    MainLost {
        /// The generation it belonged to.
        r#gen: GenId,
    },
    /// The kernel has killed processes of the generation for want of memory.
    OutOfMemory {
        /// The generation they were of.
        r#gen: GenId,
        /// How many so far.
        kills: u64,
    },
    /// A fresh reading of the generation's cgroup.events. A hint: it moves the ladder on, and
    /// is never proof by itself.
    Cgroup {
        /// The generation read.
        r#gen: GenId,
        /// Whether a process lives in `main` or below.
        main: bool,
        /// Whether a process lives anywhere in the generation.
        whole: bool,
    },
    /// An auxiliary command (test, stop command) ended.
    AuxExited {
        /// The generation it belongs to.
        r#gen: GenId,
        /// Which one.
        aux: OpId,
        /// How it ended.
        exit: Exit,
    },
    /// An auxiliary command could not be run.
    AuxFailed {
        /// The generation it belongs to.
        r#gen: GenId,
        /// Which one.
        aux: OpId,
        /// What failed.
        error: Failed,
    },
    /// After [`super::Effect::EndAux`]: nothing of the auxiliary command is left, or `error`.
    AuxEnded {
        /// The generation it belongs to.
        r#gen: GenId,
        /// Which one.
        aux: OpId,
        /// Why that could not be made sure of.
        error: Option<Failed>,
    },
    /// The polite signal could not be sent to some or all.
    SignalFailed {
        /// The generation signalled.
        r#gen: GenId,
        /// What failed.
        error: Failed,
    },
    /// The service said something about itself, and it was one of its own processes that did.
    Told {
        /// The generation it belongs to.
        r#gen: GenId,
        /// What it said.
        told: Told,
    },
    /// [`super::Effect::Kill`] is done.
    Killed {
        /// The generation killed.
        r#gen: GenId,
        /// The operation this completes.
        op: OpId,
        /// What was killed and what is left.
        report: KillReport,
    },
    /// [`super::Effect::Scan`] is done: one pass.
    Scanned {
        /// The generation scanned for.
        r#gen: GenId,
        /// The operation this completes.
        op: OpId,
        /// What the pass saw and did.
        report: ScanReport,
    },
    /// [`super::Effect::Fence`] is done.
    Fenced {
        /// The generation fenced.
        r#gen: GenId,
        /// The operation this completes.
        op: OpId,
        /// Whether its cgroup is gone.
        result: Fence,
    },
    /// [`super::Effect::Inspect`] is done.
    Inspected {
        /// The generation inspected.
        r#gen: GenId,
        /// The operation this completes.
        op: OpId,
        /// Everything of it that lives, in its cgroup or escaped.
        survivors: Vec<Survivor>,
    },
    /// A survivor outside the cgroup ended (its pidfd says so): look again.
    SurvivorGone {
        /// The generation it belonged to.
        r#gen: GenId,
    },
    /// After [`super::Effect::Flush`]: replies and receipts are out.
    Flushed,
    /// After [`super::Effect::Sweep`]: what the final sweep found.
    Swept {
        /// Its result.
        report: SweepReport,
    },
}

/// What a service may say about itself (sd_notify(3); readiness also otherwise).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is ready.
    Ready,
    /// It has begun to end by itself.
    Stopping,
    /// It reads its configuration again; `Ready` says that it has.
    Reloading,
    /// It is alive, for the watchdog.
    Alive,
    /// It gives itself up, as if it had not been alive.
    GivesUp,
    /// What it does now needs this much longer from now on, whatever was allowed.
    Extend(Duration),
    /// What it does, in words.
    Status(String),
    /// Another of its processes, this one, is its main process from now on; proven to be its own.
    MainPid(u32),
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this code (0 to 255).
    Code(i32),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether it dumped core.
        core: bool,
    },
}

impl Exit {
    /// Whether this is exit code 0.
    pub fn success(self) -> bool {
        self == Exit::Code(0)
    }
}

/// An operation that failed: what was being done, to what, and the kernel's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What was being done, as a fragment that follows 'failed to': `open the working directory`.
    pub doing: String,
    /// To which path, service or process.
    pub what: String,
    /// The errno, where the kernel gave one; 0 otherwise.
    pub errno: i32,
    /// Why, in words (the errno's text, or what was wrong).
    pub why: String,
}

/// What one kill did: cgroup.kill written, then every process still listed killed by pidfd.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KillReport {
    /// Whether cgroup.events said `populated 1` at the end of it; `None`: could not be read.
    pub populated: Option<bool>,
    /// Every process that was listed when the kill began or had to be killed singly.
    pub killed: Vec<Proc>,
    /// What went wrong on the way, if anything.
    pub error: Option<Failed>,
}

/// What one pass of the scan saw and did. Escapees found are killed by pidfd within the pass,
/// which then waits for their death with a short bound.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ScanReport {
    /// Whether cgroup.events said `populated 1` when the pass began (then nothing else was
    /// looked at); `None`: could not be read.
    pub populated: Option<bool>,
    /// Processes of this generation found outside its cgroup, and killed.
    pub escaped: Vec<Proc>,
    /// Those of `escaped` that still lived when the pass ended.
    pub alive: Vec<Proc>,
    /// Processes that look like ours and are not proven so: reported, not signalled.
    pub foreign: Vec<Foreigner>,
    /// Escapees that the service's file says to keep.
    pub kept: Vec<Proc>,
    /// Whether nothing was forked while the pass ran, so that it missed nothing.
    pub conclusive: bool,
    /// Whether it met somebody of this generation who had ended before he could be killed.
    pub met: bool,
    /// What this pass was able to tell; may be less than the start-up guarantee.
    pub guarantee: Guarantee,
    /// What went wrong, if anything: the pass proves nothing then.
    pub error: Option<Failed>,
    /// Whether `error` says no more than that somebody cannot be told: everyone was looked at, and
    /// `alive` is everyone who is known to be ours.
    pub doubtful: bool,
}

/// The fence: rmdir of everything the generation had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fence {
    /// Gone now, or gone already (ENOENT).
    Removed,
    /// EBUSY: something came back.
    Busy,
    /// Anything else.
    Failed(Failed),
}

/// What the final sweep found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// What of ours still lives.
    pub survivors: Vec<Survivor>,
    /// Processes below us that are not ours.
    pub foreign: Vec<Foreigner>,
    /// Cgroups of ours that could not be removed.
    pub cgroups_left: Vec<String>,
    /// What kept the sweep from being sure, if anything.
    pub error: Option<Failed>,
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Exit::Code(code) => write!(f, "exit code {code}"),
            Exit::Signal { signal, core } => {
                match super::Signal::from_number(signal) {
                    Some(signal) => write!(f, "{signal}")?,
                    None => write!(f, "signal {signal}")?,
                }
                if core {
                    write!(f, " (core dumped)")
                } else {
                    Ok(())
                }
            }
        }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}: {}", self.doing, self.what, self.why)
    }
}
