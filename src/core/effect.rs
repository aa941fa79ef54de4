//! What the core wants done: the driver takes these with `poll_effect` and carries them out.

use super::event::Failed;
use super::receipt::{Receipt, Survivor, Verdict};
use super::request::{Reply, RequestId};
use super::signal::Signal;
use super::spec::Reach;
use super::{GenId, OpId, ServiceId};

/// Something to do. Each says which events may answer it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make the generation's cgroup, write its record, start its main process there.
    /// Answers: `Spawned` then `Execed` or `ExecFailed`; or `SpawnFailed`.
    Spawn {
        /// The new generation.
        r#gen: GenId,
        /// The service it is a start of.
        service: ServiceId,
    },
    /// Open the service's sockets, those that are not open yet, and tell of the first connection or
    /// datagram that comes. A later one of the same service takes its place.
    /// Answers: `Listening` or `ListenFailed`; after `Listening` at some time `Demanded`.
    Listen {
        /// The service.
        service: ServiceId,
        /// Names the operation.
        op: OpId,
    },
    /// Close what is kept open for the service: its sockets, and the descriptors that it stored.
    Close {
        /// The service.
        service: ServiceId,
    },
    /// Send `signal` to the main process, and to nobody else: a reload. Answer: `Reloaded`.
    Reload {
        /// The generation.
        r#gen: GenId,
        /// Names the operation.
        op: OpId,
        /// The signal.
        signal: Signal,
    },
    /// Run an auxiliary command in the generation's `control` cgroup, or look at what a readiness
    /// test that is no command looks at (exit code 0 is a pass).
    /// Answers: `AuxExited` or `AuxFailed`.
    RunAux {
        /// The generation it belongs to.
        r#gen: GenId,
        /// Names this run.
        aux: OpId,
        /// Which command.
        kind: AuxKind,
    },
    /// End whatever is left of an auxiliary command, the command included, or of a look; one that
    /// has not begun yet does not begin any more. Answer: `AuxEnded`.
    EndAux {
        /// The generation it belongs to.
        r#gen: GenId,
        /// Which run.
        aux: OpId,
    },
    /// Send `signal`, then SIGCONT. Answer: none, or `SignalFailed`.
    Signal {
        /// The generation to signal.
        r#gen: GenId,
        /// The signal.
        signal: Signal,
        /// Whom.
        to: To,
    },
    /// cgroup.kill on the generation, then the per-pid loop. Answer: `Killed`.
    Kill {
        /// The generation to kill.
        r#gen: GenId,
        /// Names the operation.
        op: OpId,
    },
    /// One pass over /proc for processes of this generation outside its cgroup.
    /// Answer: `Scanned`.
    Scan {
        /// The generation to scan for.
        r#gen: GenId,
        /// Names the operation.
        op: OpId,
    },
    /// rmdir of the generation. Answer: `Fenced`.
    Fence {
        /// The generation to fence.
        r#gen: GenId,
        /// Names the operation.
        op: OpId,
    },
    /// Find out all that can be told about what survives. Answer: `Inspected`.
    Inspect {
        /// The generation to inspect.
        r#gen: GenId,
        /// Names the operation.
        op: OpId,
    },
    /// A verdict, or a better one on the same generation: store the receipt and log it.
    Receipt(Box<Receipt>),
    /// The generation has its last verdict: drop its handles, watches and record.
    Release {
        /// The generation.
        r#gen: GenId,
    },
    /// Answer a request.
    Reply {
        /// The request.
        id: RequestId,
        /// The answer.
        reply: Reply,
    },
    /// Something a reader of the log wants to know.
    Notice(Notice),
    /// Get every reply and receipt out. Answer: `Flushed`.
    Flush,
    /// The final sweep. Answer: `Swept`.
    Sweep,
    /// The end: nothing comes after this.
    Finish(Outcome),
}

/// What an auxiliary command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuxKind {
    /// The readiness test.
    Test,
    /// A look at its health.
    Health,
    /// The stop command.
    Stop,
    /// The command that has it read its configuration again.
    Reload,
}

/// Whom a signal goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// The service's own reach, while its main process lives.
    Reach(Reach),
    /// The main process has gone: those members of `main` that `Reach` did not include.
    Rest(Reach),
}

/// Why a shutdown is under way, and what follows it where we are PID 1 of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownKind {
    /// Power off (in a container, or not as PID 1: exit).
    PowerOff,
    /// Reboot (likewise).
    Reboot,
    /// Stop the machine and leave its power on (likewise).
    Halt,
    /// Start the kernel that was loaded for it (likewise).
    Kexec,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What was asked for last.
    pub kind: ShutdownKind,
    /// Whether anybody asked; else a service's end stopped everything.
    pub asked: bool,
    /// Everything that is left, from the receipts and the sweep.
    pub survivors: Vec<Survivor>,
    /// Services whose last verdict is lingering.
    pub lingering: Vec<String>,
    /// Services whose last verdict is unverified.
    pub unverified: Vec<String>,
    /// The service whose end stopped everything, whoever asked for another end since.
    pub because: Option<EndedAll>,
    /// Whether the final sweep could tell, and has told, what lives.
    pub sure: bool,
    /// Whether the final sweep was sure.
    pub sweep_error: Option<Failed>,
    /// Whether the deadline came before the final sweep was over.
    pub deadline_hit: bool,
}

impl Outcome {
    /// What is proven of the whole. A sure sweep outweighs what was not proven earlier.
    pub fn verdict(&self) -> Verdict {
        if !self.survivors.is_empty() || !self.lingering.is_empty() {
            Verdict::Lingering
        } else if self.sweep_error.is_some() || (!self.sure && !self.unverified.is_empty()) {
            Verdict::Unverified
        } else {
            Verdict::Verified
        }
    }

    /// The exit code: that of the service whose end stopped everything, if it is not 0; 70 when
    /// anything lingers; 71 when the final sweep was unverified; else 0. A sure sweep outweighs
    /// what was not proven earlier.
    pub fn exit_code(&self) -> u8 {
        let code = self.because.as_ref().map_or(0, |because| because.code);
        match self.verdict() {
            _ if code != 0 => code,
            Verdict::Lingering => 70,
            Verdict::Unverified => 71,
            Verdict::Verified => 0,
        }
    }
}

/// A service whose end stopped everything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedAll {
    /// Its name.
    pub service: String,
    /// The exit code that the supervisor takes from it; 0 for none. 128 and the signal's number
    /// for one that a signal ended, 125 for one that did not come to run or has no code.
    pub code: u8,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A service changed its state; `detail` says why, where there is a why.
    State {
        /// The service.
        service: ServiceId,
        /// The state's name.
        state: &'static str,
        /// Why.
        detail: String,
    },
    /// Something went wrong that did not change a state.
    Trouble {
        /// The service.
        service: ServiceId,
        /// What.
        detail: String,
    },
    /// The shutdown has begun.
    ShutdownBegan {
        /// What was asked for.
        kind: ShutdownKind,
        /// Whether anybody asked; else a service's end stops everything.
        asked: bool,
        /// How many services run.
        running: usize,
    },
    /// While it is under way an end of another kind was asked for: the later one counts.
    ShutdownTurned {
        /// What is asked for now.
        kind: ShutdownKind,
    },
    /// A service has ended, and its file says that everything stops then.
    StopsAll {
        /// The service.
        service: ServiceId,
        /// Which key says so.
        key: &'static str,
        /// How it ended.
        how: String,
    },
    /// Every grace is cut short.
    Hurry,
}
