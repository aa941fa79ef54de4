//! The kernel's part of the world: processes, cgroups, and what happens to them.

use std::collections::BTreeMap;

use crate::core::{Exit, GenId, OpId, Proc, Reach, Spec, To};

pub const MS: u64 = 1_000_000;

/// Where a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Main,
    Control,
    Outside,
}

/// What SIGKILL does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mortality {
    AtOnce,
    After(u64),
    /// Not before the faults heal.
    Never,
}

#[derive(Clone, Debug)]
pub struct Process {
    pub r#gen: GenId,
    pub place: Place,
    pub main: bool,
    /// Belongs to an auxiliary command; `true`: is its first process.
    pub aux: Option<(OpId, bool)>,
    /// How long after the polite signal it exits; `None`: it ignores it.
    pub obeys: Option<u64>,
    pub mortality: Mortality,
    pub killed: bool,
    pub in_group: bool,
    /// Exits when the main process does.
    pub follows: bool,
    /// So many passes it still slips through, by forking; the last two do not even meet it.
    pub relays: u8,
    /// Moves back into the cgroup while a pass runs.
    pub returns: bool,
    /// A pidfd of it is watched: its end is an event.
    pub watched: bool,
    /// Somebody else's, moved into the cgroup.
    pub foreign: bool,
    /// Outside with nothing to be known by: passes see somebody of whom they cannot tell.
    pub disguised: bool,
    /// Its service's file says that it is to be kept.
    pub kept: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cgroup {
    NotYet,
    Exists,
    Removed,
}

/// One generation's truth.
#[derive(Clone, Debug)]
pub struct Gen {
    pub spec: Spec,
    pub leftover: bool,
    pub cgroup: Cgroup,
    pub main: Option<u32>,
    pub hint_pending: bool,
    pub released: bool,
    pub test_never_passes: bool,
    /// How many of it were killed for want of memory: the kernel's own count.
    pub oom_kills: u64,
}

impl Gen {
    pub fn new(spec: Spec, leftover: bool) -> Self {
        Self {
            spec,
            leftover,
            cgroup: Cgroup::NotYet,
            main: None,
            hint_pending: false,
            released: false,
            test_never_passes: false,
            oom_kills: 0,
        }
    }
}

/// What followed from a process's end.
#[derive(Clone, Debug)]
pub struct Death {
    pub process: Process,
    pub followers: Vec<u32>,
}

#[derive(Clone, Debug, Default)]
pub struct Kernel {
    pub gens: BTreeMap<GenId, Gen>,
    /// Those that live.
    pub processes: BTreeMap<u32, Process>,
    pids: u32,
}

pub const KILLED: Exit = Exit::Signal {
    signal: 9,
    core: false,
};

impl Kernel {
    pub fn add(&mut self, process: Process) -> u32 {
        self.pids += 1;
        self.processes.insert(self.pids, process);
        self.pids
    }

    /// The readings of cgroup.events: `main`, and the whole generation.
    pub fn reading(&self, r#gen: GenId) -> (bool, bool) {
        let (mut main, mut whole) = (false, false);
        for process in self.of(r#gen).map(|(_, process)| process) {
            main |= process.place == Place::Main;
            whole |= process.place != Place::Outside;
        }
        (main, whole)
    }

    /// Who of a generation lives.
    pub fn of(&self, r#gen: GenId) -> impl Iterator<Item = (u32, &Process)> {
        self.processes
            .iter()
            .filter(move |(_, process)| process.r#gen == r#gen)
            .map(|(pid, process)| (*pid, process))
    }

    /// Who of a generation lives, is ours, and is not kept on purpose.
    pub fn ours(&self, r#gen: GenId) -> Vec<u32> {
        self.of(r#gen)
            .filter(|(_, process)| !process.foreign)
            .filter(|(_, process)| !process.kept || process.place != Place::Outside)
            .map(|(pid, _)| pid)
            .collect()
    }

    /// Whom a polite signal reaches.
    pub fn reached(&self, r#gen: GenId, to: To) -> Vec<u32> {
        let within = |process: &Process, reach: Reach| match reach {
            Reach::Main => process.main,
            Reach::Group => process.main || process.in_group,
            Reach::All => process.place == Place::Main,
        };
        self.of(r#gen)
            .filter(|(_, process)| match to {
                To::Reach(reach) => within(process, reach),
                To::Rest(reach) => process.place == Place::Main && !within(process, reach),
            })
            .map(|(pid, _)| pid)
            .collect()
    }

    /// Whoever is to be kept leaves the generation's cgroup, before it is signalled or killed.
    pub fn set_aside(&mut self, r#gen: GenId) {
        let of = self.processes.values_mut().filter(|p| p.r#gen == r#gen);
        for process in of.filter(|p| p.kept && p.place == Place::Main) {
            process.place = Place::Outside;
        }
    }

    /// A process ends.
    pub fn end(&mut self, pid: u32) -> Option<Death> {
        let process = self.processes.remove(&pid)?;
        let followers = if process.main {
            self.of(process.r#gen)
                .filter(|(_, process)| process.follows)
                .map(|(pid, _)| pid)
                .collect()
        } else {
            Vec::new()
        };
        Some(Death { process, followers })
    }

    /// A process forks itself away under a new pid.
    pub fn relay(&mut self, pid: u32) {
        if let Some(process) = self.processes.remove(&pid) {
            self.add(process);
        }
    }
}

pub fn described(pid: u32) -> Proc {
    Proc {
        pid,
        ppid: 1,
        comm: "sim".into(),
    }
}
