//! The receipt: what a stop did, what it saw, and what it can prove.

use std::time::Duration;

use super::GenId;
use super::event::{Exit, Failed};
use super::signal::Signal;
use super::time::Time;

/// What a stop proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// After the last kill: an empty reading, a conclusive scan, and the cgroup removed.
    Verified,
    /// Something of it lives; `survivors` names it.
    Lingering,
    /// Nothing is known to live, but this place, or an error, keeps us from proving it.
    Unverified,
}

impl Verdict {
    /// The verdict's word, as receipts have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Verdict::Verified => "verified",
            Verdict::Lingering => "lingering",
            Verdict::Unverified => "unverified",
        }
    }
}

/// What holds a service's processes together, strongest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Containment {
    /// A cgroup with cgroup.kill.
    #[default]
    CgroupKill,
    /// A cgroup without cgroup.kill (before Linux 5.14, or threaded): frozen, then signalled.
    CgroupSignal,
    /// A pid namespace of its own.
    PidNamespace,
    /// No cgroup: we inherit its orphans (PR_SET_CHILD_SUBREAPER).
    Subreaper,
    /// No cgroup and no subreaper: the process group.
    ProcessGroup,
}

impl Containment {
    /// The containment's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Containment::CgroupKill => "cgroup-kill",
            Containment::CgroupSignal => "cgroup-signal",
            Containment::PidNamespace => "pid-namespace",
            Containment::Subreaper => "subreaper",
            Containment::ProcessGroup => "process-group",
        }
    }
}

/// How escapees are recognised, strongest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ScanQuality {
    /// By a time namespace of their start's own, inherited through everything.
    #[default]
    Marked,
    /// By recorded membership, ancestry, session and environment.
    Descent,
    /// Not at all: /proc cannot be read.
    None,
}

impl ScanQuality {
    /// The quality's word.
    pub fn as_str(self) -> &'static str {
        match self {
            ScanQuality::Marked => "marked",
            ScanQuality::Descent => "descent",
            ScanQuality::None => "none",
        }
    }
}

/// What this place allows us to promise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Guarantee {
    /// What holds processes together.
    pub containment: Containment,
    /// How escapees are recognised.
    pub scan: ScanQuality,
}

impl Guarantee {
    /// Whether a stop can end verified under this guarantee. A subreaper's can only while no
    /// orphan is unattributed, which the scan says with its `error`.
    pub fn can_verify(self) -> bool {
        self.containment != Containment::ProcessGroup && self.scan != ScanQuality::None
    }
}

impl Guarantee {
    /// Nothing at all: what every place offers.
    pub const LEAST: Self = Self {
        containment: Containment::ProcessGroup,
        scan: ScanQuality::None,
    };

    /// Whether this is at least as much as `least`, in both words.
    pub fn meets(self, least: Self) -> bool {
        self.containment <= least.containment && self.scan <= least.scan
    }

    /// What somebody asks for at least: a containment, a scan, or both, apart by spaces or commas.
    ///
    /// # Errors
    /// The words that there are, when one is none of them or says the same thing twice.
    pub fn asked_for(text: &str) -> Result<Self, String> {
        const CONTAINMENTS: [Containment; 5] = [
            Containment::CgroupKill,
            Containment::CgroupSignal,
            Containment::PidNamespace,
            Containment::Subreaper,
            Containment::ProcessGroup,
        ];
        const SCANS: [ScanQuality; 3] =
            [ScanQuality::Marked, ScanQuality::Descent, ScanQuality::None];
        let (mut containment, mut scan) = (None, None);
        for word in text.split([',', ' ']).filter(|word| !word.is_empty()) {
            let held = CONTAINMENTS
                .into_iter()
                .find(|known| known.as_str() == word);
            let told = SCANS.into_iter().find(|known| known.as_str() == word);
            let twice = match (held, told) {
                (Some(held), _) => containment.replace(held).is_some(),
                (None, Some(told)) => scan.replace(told).is_some(),
                (None, None) => {
                    return Err(format!(
                        "`{word}` is no guarantee: say one of {}, one of {}, or one of each",
                        CONTAINMENTS.map(Containment::as_str).join(", "),
                        SCANS.map(ScanQuality::as_str).join(", "),
                    ));
                }
            };
            if twice {
                return Err(format!(
                    "`{word}`: one word for what holds processes together, one for the scan"
                ));
            }
        }
        if containment.is_none() && scan.is_none() {
            return Err("it asks for nothing: say `cgroup-kill marked`, for the most".into());
        }
        Ok(Self {
            containment: containment.unwrap_or(Self::LEAST.containment),
            scan: scan.unwrap_or(Self::LEAST.scan),
        })
    }

    /// The best verdict that a stop can have under it, in words.
    pub fn best_verdict(self) -> &'static str {
        if !self.can_verify() {
            "unverified"
        } else if self.containment == Containment::Subreaper {
            "verified, if no orphan is unattributed"
        } else {
            "verified"
        }
    }
}

impl std::fmt::Display for Guarantee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.containment.as_str(), self.scan.as_str())
    }
}

/// A process, as the kernel named it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proc {
    /// Its pid.
    pub pid: u32,
    /// Its parent's pid.
    pub ppid: u32,
    /// Its command name (at most 15 bytes, proc_pid_comm(5)).
    pub comm: String,
}

/// A process that looks like ours and is not proven so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreigner {
    /// The process.
    pub process: Proc,
    /// Why it is mentioned.
    pub why: String,
}

/// A process that survived everything, with all that could be told about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survivor {
    /// Its pid; 0 when it is visible only as `populated 1`.
    pub pid: u32,
    /// Its parent's pid.
    pub ppid: u32,
    /// Its command line; the command name in brackets when that cannot be read.
    pub argv: Vec<String>,
    /// Its state letter (proc_pid_stat(5)).
    pub state: char,
    /// Where in the kernel it waits, where readable.
    pub wchan: String,
    /// Its kernel stack, where readable.
    pub stack: Vec<String>,
    /// Who traces it; 0: nobody.
    pub tracer: u32,
    /// How many threads of it live; 0 when that is not known.
    pub threads: u32,
    /// Its cgroup.
    pub cgroup: String,
    /// Mounts it holds that are not ours.
    pub mounts: Vec<String>,
    /// Sockets it listens on or has bound.
    pub sockets: Vec<String>,
}

/// Why a generation came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A request to stop it.
    Stop,
    /// A request to restart it.
    Restart,
    /// A service it requires went down.
    Dependency,
    /// The shutdown.
    Shutdown,
    /// Its main process ended by itself.
    Ended,
    /// It could not be started, or was not ready in time.
    StartFailed,
    /// It was up, and its health check or its watchdog said that it does not do its work.
    Unhealthy,
    /// A supervisor that was killed left it behind.
    Leftover,
}

impl Cause {
    /// Whether nobody asked for it: its restart policy and what its end means to others apply.
    pub(super) fn of_itself(self) -> bool {
        matches!(self, Cause::Ended | Cause::StartFailed | Cause::Unhealthy)
    }

    /// The cause's word, as receipts have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Stop => "stop",
            Cause::Restart => "restart",
            Cause::Dependency => "dependency",
            Cause::Shutdown => "shutdown",
            Cause::Ended => "ended",
            Cause::StartFailed => "start-failed",
            Cause::Unhealthy => "unhealthy",
            Cause::Leftover => "leftover",
        }
    }
}

/// One thing the ladder did or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// When.
    pub at: Time,
    /// What.
    pub rung: Rung,
}

/// The rungs of the ladder, as a receipt shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rung {
    /// Waited for the main process to come to be.
    AwaitSpawn,
    /// Ran the stop command.
    StopCommand,
    /// The stop command ended.
    StopCommandEnded {
        /// How; `None`: cut short.
        exit: Option<Exit>,
    },
    /// Sent the polite signal.
    Signal {
        /// Which.
        signal: Signal,
        /// Whom: `main`, `group`, `all`, `rest`.
        to: &'static str,
        /// How long it has.
        grace: Duration,
    },
    /// The main process was reaped.
    MainExited {
        /// How it ended.
        exit: Exit,
    },
    /// The cgroup was seen empty.
    Empty,
    /// Wrote cgroup.kill and killed what was still listed.
    Kill,
    /// Scanned /proc.
    Scan {
        /// How many escapees it killed.
        escaped: usize,
        /// Whether nothing was forked meanwhile.
        conclusive: bool,
    },
    /// rmdir said EBUSY: something came back.
    FenceBusy,
    /// The cgroup was removed.
    Fence,
    /// Time was up: looked at what survives.
    Inspect,
    /// Something failed on the way.
    Trouble(Failed),
}

impl Rung {
    /// The rung's word, as receipts have it.
    pub fn as_str(&self) -> &'static str {
        match self {
            Rung::AwaitSpawn => "await-spawn",
            Rung::StopCommand => "stop-command",
            Rung::StopCommandEnded { .. } => "stop-command-ended",
            Rung::Signal { .. } => "signal",
            Rung::MainExited { .. } => "main-exited",
            Rung::Empty => "empty",
            Rung::Kill => "kill",
            Rung::Scan { .. } => "scan",
            Rung::FenceBusy => "fence-busy",
            Rung::Fence => "fence",
            Rung::Inspect => "inspect",
            Rung::Trouble(_) => "trouble",
        }
    }
}

/// A service's part of a shutdown's deadline: what was planned when the shutdown began, and what
/// it got when it was asked. What it took is from the receipt's own times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allotment {
    /// How long its polite part (stop command and grace) may take by its own file.
    pub wish: Duration,
    /// What was planned for that: the wish where it fits, else a fair share.
    pub planned: Duration,
    /// What it got for that: more than planned where those before it left time over.
    pub granted: Duration,
    /// What was kept for kill and proof.
    pub reserve: Duration,
    /// When its turn was to come if those before it took all that was planned, after the
    /// shutdown began.
    pub turn: Duration,
    /// When it was asked; zero for a stop that was under way already.
    pub asked_after: Duration,
    /// How long the whole shutdown could take.
    pub deadline: Duration,
}

/// What the end of one generation did, saw and proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The service's name.
    pub service: String,
    /// Which start of it.
    pub r#gen: GenId,
    /// The main process's pid, if there was one.
    pub pid: Option<u32>,
    /// Why it ended.
    pub cause: Cause,
    /// What is proven.
    pub verdict: Verdict,
    /// Why the verdict is not verified.
    pub reason: Option<String>,
    /// What could be promised.
    pub guarantee: Guarantee,
    /// When the generation was started; `None` for a leftover.
    pub started: Option<Time>,
    /// When its end began.
    pub began: Time,
    /// When the verdict fell.
    pub ended: Time,
    /// How the main process ended, if that was seen.
    pub exit: Option<Exit>,
    /// How many of its processes the kernel killed for want of memory, as far as that was seen.
    pub oom_kills: u64,
    /// What it was given of a shutdown's deadline; `None`: it went down outside of one.
    pub allotment: Option<Allotment>,
    /// The service whose verdict it waited for last before it was asked.
    pub waited_for: Option<String>,
    /// Everything the ladder did and saw, in order.
    pub steps: Vec<Step>,
    /// Processes killed inside the cgroup.
    pub killed: Vec<Proc>,
    /// Processes found and killed outside it.
    pub escaped: Vec<Proc>,
    /// Processes that look like ours and are not proven so.
    pub foreign: Vec<Foreigner>,
    /// Escapees kept because the service's file says so.
    pub kept: Vec<Proc>,
    /// What lives.
    pub survivors: Vec<Survivor>,
    /// Whether this replaces an earlier, worse verdict on the same generation.
    pub late: bool,
}

#[cfg(test)]
mod tests {
    use super::{Containment, Guarantee, ScanQuality};

    #[test]
    fn a_guarantee_is_asked_for_in_one_word_or_two() {
        let both = Guarantee::asked_for("marked, cgroup-signal").unwrap();
        assert_eq!(
            (both.containment, both.scan),
            (Containment::CgroupSignal, ScanQuality::Marked)
        );
        let one = Guarantee::asked_for("descent").unwrap();
        assert_eq!(
            (one.containment, one.scan),
            (Containment::ProcessGroup, ScanQuality::Descent)
        );
        assert!(Guarantee::default().meets(both) && both.meets(one) && !one.meets(both));
        for bad in ["", " ,", "cgroup", "marked marked", "cgroup-kill subreaper"] {
            assert!(Guarantee::asked_for(bad).is_err(), "{bad}");
        }
    }
}
