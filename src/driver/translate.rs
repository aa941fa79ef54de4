//! The kernel layer's words in the core's.

use crate::core::{
    Containment, Failed, Fence, Foreigner, Guarantee, KillReport, Proc, ScanQuality, ScanReport,
    ShutdownKind, Survivor,
};
use crate::sys::SysError;
use crate::sys::cgroup::Removal;
use crate::sys::inspect::SurvivorInfo;
use crate::sys::kill::KillResult;
use crate::sys::power::Power;
use crate::sys::procfs::ProcStat;
use crate::sys::scan::{PassResult, Quality, Stranger};
use crate::sys::spawn::SpawnError;

/// What a shutdown of this kind makes of a machine.
pub(super) fn power(kind: ShutdownKind) -> Power {
    match kind {
        ShutdownKind::PowerOff => Power::Off,
        ShutdownKind::Reboot => Power::Reboot,
        ShutdownKind::Halt => Power::Halt,
        ShutdownKind::Kexec => Power::Kexec,
    }
}

/// A failure.
pub fn failed(error: &SysError) -> Failed {
    Failed {
        doing: error.doing.into(),
        what: error.what.clone(),
        errno: error.errno,
        why: error.why.clone(),
    }
}

/// A start that failed.
pub fn spawn_failed(error: &SpawnError) -> Failed {
    match error {
        SpawnError::NotBorn(error) | SpawnError::Stillborn { error, .. } => failed(error),
    }
}

/// A process.
pub fn process(stat: &ProcStat) -> Proc {
    Proc {
        pid: stat.pid,
        ppid: stat.ppid,
        comm: stat.comm.clone(),
    }
}

/// A process that is not proven ours.
pub fn foreigner(stranger: Stranger) -> Foreigner {
    Foreigner {
        process: process(&stranger.process),
        why: stranger.why,
    }
}

/// What a kill did.
pub fn killed(result: KillResult) -> KillReport {
    let killed = result.killed.into_iter().map(|listed| match listed.stat {
        Some(stat) => process(&stat),
        None => Proc {
            pid: listed.pid,
            ppid: 0,
            comm: String::new(),
        },
    });
    KillReport {
        populated: result.populated,
        killed: killed.collect(),
        error: result.error.as_ref().map(failed),
    }
}

/// What a pass saw, under this containment.
pub fn scanned(result: PassResult, containment: Containment) -> ScanReport {
    let quality = match result.quality {
        Quality::Marked => ScanQuality::Marked,
        Quality::Descent => ScanQuality::Descent,
        Quality::None => ScanQuality::None,
    };
    // A pass that looked no further than a populated cgroup says nothing of its quality.
    let scan = if result.populated == Some(true) {
        ScanQuality::Marked
    } else {
        quality
    };
    ScanReport {
        populated: result.populated,
        escaped: result
            .escaped
            .iter()
            .map(|escapee| process(&escapee.process))
            .collect(),
        alive: result.alive.iter().map(process).collect(),
        foreign: result.foreign.into_iter().map(foreigner).collect(),
        kept: result.kept.iter().map(process).collect(),
        conclusive: result.conclusive,
        met: result.met,
        guarantee: Guarantee { containment, scan },
        doubtful: result.doubtful,
        error: result.error.as_ref().map(failed),
    }
}

/// What became of a cgroup.
pub fn fenced(removal: Removal) -> Fence {
    match removal {
        Removal::Removed => Fence::Removed,
        Removal::Busy { .. } => Fence::Busy,
        Removal::Failed(error) => Fence::Failed(failed(&error)),
    }
}

/// What a pass over /proc killed, where there is no cgroup to kill.
pub fn killed_by_pass(result: &PassResult) -> KillReport {
    let looked = result.error.is_none() || result.doubtful;
    KillReport {
        populated: looked.then_some(!result.alive.is_empty()),
        killed: result
            .escaped
            .iter()
            .map(|escapee| process(&escapee.process))
            .collect(),
        // A doubt is the scan's to say, which follows.
        error: result
            .error
            .as_ref()
            .filter(|_| !result.doubtful)
            .map(failed),
    }
}

/// A survivor.
pub fn survivor(info: SurvivorInfo) -> Survivor {
    let SurvivorInfo {
        pid,
        ppid,
        argv,
        state,
        wchan,
        stack,
        tracer,
        threads,
        cgroup,
        mounts,
        sockets,
    } = info;
    Survivor {
        pid,
        ppid,
        argv,
        state,
        wchan,
        stack,
        tracer,
        threads,
        cgroup,
        mounts,
        sockets,
    }
}

/// Adds who was there before the kill to those whom a look after it still found on their way out:
/// each once. The first of the namespace is nothing of the program's.
pub fn add_members(
    killed: &mut Vec<Proc>,
    members: impl Iterator<Item = Proc>,
    first: Option<u32>,
) {
    for member in members {
        if !killed.iter().any(|known| known.pid == member.pid) {
            killed.push(member);
        }
    }
    killed.retain(|process| Some(process.pid) != first);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_slow_to_die_is_named_once_and_the_first_of_the_namespace_never() {
        let process = |pid: u32| Proc {
            pid,
            ppid: 1,
            comm: format!("p{pid}"),
        };
        let mut killed = vec![process(7), process(9)];
        let members = [process(7), process(8), process(9)];
        add_members(&mut killed, members.into_iter(), Some(7));
        let pids: Vec<u32> = killed.iter().map(|process| process.pid).collect();
        assert_eq!(pids, [9, 8]);
    }
}
