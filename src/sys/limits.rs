//! What a cgroup may use: limits set through the controllers of `cgroups-rs`, on a directory that
//! the caller made and in which nobody lives yet.
//!
//! Which controllers a cgroup has is decided by the ones above it: [`enable`] gives them downwards
//! from our own cgroup, [`undo`] takes back what was given there. Membership, kill, events and
//! removal are not the crate's (docs/decisions/0004).

mod controllers;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::Path;

use cgroups_rs::blkio::BlkIoController;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuset::CpuSetController;
use cgroups_rs::memory::{MemController, SetMemory};
use cgroups_rs::pid::PidController;
use cgroups_rs::{MaxValue, error::Error};

pub use controllers::{enable, is_root, undo, withdraw};

use super::{SysError, cgroup};

/// A kind of resource that the kernel distributes among cgroups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// memory.*
    Memory,
    /// cpu.*
    Cpu,
    /// pids.*
    Pids,
    /// io.*
    Io,
    /// cpuset.*
    Cpuset,
}

impl Controller {
    /// Every one there is here.
    pub const ALL: [Self; 5] = [Self::Memory, Self::Cpu, Self::Pids, Self::Io, Self::Cpuset];

    /// As cgroup.controllers names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Io => "io",
            Self::Cpuset => "cpuset",
        }
    }
}

/// So much processor time in each period, of all processors together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuMax {
    /// Microseconds of processor time; twice the period is two whole processors.
    pub quota_us: u64,
    /// Microseconds from one ration to the next, 1,000 to 1,000,000.
    pub period_us: u64,
}

/// How fast a block device may be used; `None`: as fast as it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IoMax {
    /// The device's number, major and minor.
    pub device: (u64, u64),
    /// Bytes read in a second.
    pub read_bytes: Option<u64>,
    /// Bytes written in a second.
    pub write_bytes: Option<u64>,
    /// Reads in a second.
    pub reads: Option<u64>,
    /// Writes in a second.
    pub writes: Option<u64>,
}

/// What a cgroup and everything below it may use; `None`: as much as there is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory; beyond, the kernel kills in it.
    pub memory_max: Option<u64>,
    /// Bytes of memory beyond which its processes are slowed down and made to give back.
    pub memory_high: Option<u64>,
    /// Bytes of swap.
    pub memory_swap_max: Option<u64>,
    /// Whether a kill for memory is everybody's in it.
    pub oom_group: bool,
    /// Processor time.
    pub cpu_max: Option<CpuMax>,
    /// Its share when processors are short, 1 to 10,000; 100 is what everybody has.
    pub cpu_weight: Option<u64>,
    /// Processes and threads.
    pub pids_max: Option<u64>,
    /// Its share when a disk is short, 1 to 10,000 (1,000 with BFQ); 100 is what everybody has.
    pub io_weight: Option<u64>,
    /// Disk by disk.
    pub io_max: Vec<IoMax>,
    /// The processors it may run on, as in `0-3,8`.
    pub cpuset: Option<String>,
}

impl Limits {
    /// The controllers that these take; none when nothing is limited.
    pub fn controllers(&self) -> Vec<Controller> {
        let wanted = |controller: &Controller| match controller {
            Controller::Memory => {
                self.memory_max.is_some()
                    || self.memory_high.is_some()
                    || self.memory_swap_max.is_some()
                    || self.oom_group
            }
            Controller::Cpu => self.cpu_max.is_some() || self.cpu_weight.is_some(),
            Controller::Pids => self.pids_max.is_some(),
            Controller::Io => self.io_weight.is_some() || !self.io_max.is_empty(),
            Controller::Cpuset => self.cpuset.is_some(),
        };
        Controller::ALL.into_iter().filter(wanted).collect()
    }

    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A limit that is not in force, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unmet {
    /// The limit, as service files name it: `memory_max`.
    pub limit: &'static str,
    /// Why not, and what would change that.
    pub why: String,
}

impl std::fmt::Display for Unmet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} cannot be enforced: {}", self.limit, self.why)
    }
}

/// Sets the limits on the cgroup `dir`, but for those whose controller was `refused`. Says which
/// of them are not in force; the others are.
pub fn apply(dir: &Path, limits: &Limits, refused: &BTreeMap<Controller, String>) -> Vec<Unmet> {
    let mut setting = Setting {
        dir,
        refused,
        unmet: Vec::new(),
    };
    setting.memory(limits);
    setting.cpu(limits);
    setting.pids(limits);
    setting.io(limits);
    setting.cpuset(limits);
    setting.unmet
}

/// Every one of the limits as not in force, for the reason `why`.
pub fn nowhere(limits: &Limits, why: &str) -> Vec<Unmet> {
    let refused = limits.controllers().into_iter();
    let refused = refused.map(|one| (one, why.to_owned())).collect();
    apply(Path::new(""), limits, &refused)
}

struct Setting<'a> {
    dir: &'a Path,
    refused: &'a BTreeMap<Controller, String>,
    unmet: Vec<Unmet>,
}

impl Setting<'_> {
    /// Sets one limit, in `file`, by `set`.
    fn one(
        &mut self,
        controller: Controller,
        limit: &'static str,
        file: &str,
        set: impl FnOnce() -> Result<(), SysError>,
    ) {
        let why = match self.refused.get(&controller) {
            Some(why) => why.clone(),
            // The crate would try to make a file that is not there.
            None if !self.dir.join(file).exists() => {
                let path = self.dir.join(file);
                format!(
                    "{} is not there: this kernel has no such limit",
                    path.display()
                )
            }
            None => match set() {
                Ok(()) => return,
                Err(error) => format!("failed to {error}"),
            },
        };
        self.unmet.push(Unmet { limit, why });
    }

    fn memory(&mut self, limits: &Limits) {
        let controller = MemController::new(self.dir.to_path_buf(), true);
        let dir = self.dir;
        let memory = |max, high| SetMemory {
            max,
            high,
            low: None,
            min: None,
        };
        if let Some(bytes) = limits.memory_max {
            self.one(Controller::Memory, "memory_max", "memory.max", || {
                failed(
                    dir,
                    "memory.max",
                    controller.set_mem(memory(some(bytes), None)),
                )
            });
        }
        if let Some(bytes) = limits.memory_high {
            self.one(Controller::Memory, "memory_high", "memory.high", || {
                failed(
                    dir,
                    "memory.high",
                    controller.set_mem(memory(None, some(bytes))),
                )
            });
        }
        if let Some(bytes) = limits.memory_swap_max {
            let file = "memory.swap.max";
            self.one(Controller::Memory, "memory_swap_max", file, || {
                failed(dir, file, controller.set_memswap_limit(signed(bytes)))
            });
        }
        if limits.oom_group {
            let file = "memory.oom.group";
            self.one(Controller::Memory, "oom_group", file, || {
                cgroup::set(&dir.join(file), "1")
            });
        }
    }

    fn cpu(&mut self, limits: &Limits) {
        let controller = CpuController::new(self.dir.to_path_buf(), true);
        let dir = self.dir;
        if let Some(CpuMax {
            quota_us,
            period_us,
        }) = limits.cpu_max
        {
            self.one(Controller::Cpu, "cpu_max", "cpu.max", || {
                let quota = Some(signed(quota_us));
                let done = controller.set_cfs_quota_and_period(quota, Some(period_us));
                failed(dir, "cpu.max", done)
            });
        }
        if let Some(weight) = limits.cpu_weight {
            self.one(Controller::Cpu, "cpu_weight", "cpu.weight", || {
                failed(dir, "cpu.weight", controller.set_shares(weight))
            });
        }
    }

    fn pids(&mut self, limits: &Limits) {
        let Some(max) = limits.pids_max else { return };
        let controller = PidController::new(self.dir.to_path_buf(), true);
        let dir = self.dir;
        self.one(Controller::Pids, "pids_max", "pids.max", || {
            let max = MaxValue::Value(signed(max));
            failed(dir, "pids.max", controller.set_pid_max(max))
        });
    }

    fn io(&mut self, limits: &Limits) {
        let controller = BlkIoController::new(self.dir.to_path_buf(), true);
        let dir = self.dir;
        if let Some(weight) = limits.io_weight {
            // Of the cost model, or else of the scheduler BFQ, which the crate knows.
            let cost = dir.join("io.weight");
            if cost.exists() {
                self.one(Controller::Io, "io_weight", "io.weight", || {
                    cgroup::set(&cost, &format!("default {weight}"))
                });
            } else {
                let file = "io.bfq.weight";
                self.one(Controller::Io, "io_weight", file, || {
                    failed(dir, file, controller.set_weight(weight))
                });
            }
        }
        for disk in &limits.io_max {
            self.one(Controller::Io, "io_max", "io.max", || {
                failed(dir, "io.max", throttle(&controller, disk))
            });
        }
    }

    fn cpuset(&mut self, limits: &Limits) {
        let Some(cpus) = &limits.cpuset else { return };
        let controller = CpuSetController::new(self.dir.to_path_buf(), true);
        let dir = self.dir;
        self.one(Controller::Cpuset, "cpuset", "cpuset.cpus", || {
            failed(dir, "cpuset.cpus", controller.set_cpus(cpus))
        });
    }
}

fn throttle(controller: &BlkIoController, disk: &IoMax) -> Result<(), Error> {
    let (major, minor) = disk.device;
    let set =
        |value: Option<u64>, set: &dyn Fn(u64) -> Result<(), Error>| value.map_or(Ok(()), set);
    set(disk.read_bytes, &|bytes| {
        controller.throttle_read_bps_for_device(major, minor, bytes)
    })?;
    set(disk.write_bytes, &|bytes| {
        controller.throttle_write_bps_for_device(major, minor, bytes)
    })?;
    set(disk.reads, &|reads| {
        controller.throttle_read_iops_for_device(major, minor, reads)
    })?;
    set(disk.writes, &|writes| {
        controller.throttle_write_iops_for_device(major, minor, writes)
    })
}

fn some(value: u64) -> Option<MaxValue> {
    Some(MaxValue::Value(signed(value)))
}

/// The crate's numbers have a sign; the kernel takes what is as large as that for no limit.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The crate's error in our words: its own names the errno only in its cause.
fn failed(dir: &Path, file: &str, done: Result<(), Error>) -> Result<(), SysError> {
    done.map_err(|error| {
        let path = dir.join(file);
        match error.source().and_then(|cause| cause.downcast_ref()) {
            Some(cause) => SysError::io("set the limit", &path, cause),
            None => SysError::because(
                "set the limit",
                path.display().to_string(),
                error.to_string(),
            ),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_limited_takes_a_controller() {
        assert!(Limits::default().controllers().is_empty());
        assert!(Limits::default().is_empty());
        let limits = Limits {
            memory_high: Some(1),
            cpuset: Some("0".to_owned()),
            ..Limits::default()
        };
        assert_eq!(
            limits.controllers(),
            [Controller::Memory, Controller::Cpuset]
        );
    }

    #[test]
    fn what_was_refused_is_said_limit_by_limit() {
        let limits = Limits {
            memory_max: Some(1),
            oom_group: true,
            pids_max: Some(1),
            ..Limits::default()
        };
        let refused = BTreeMap::from([(Controller::Memory, "not here".to_owned())]);
        let unmet = apply(Path::new("/proc/no/such"), &limits, &refused);
        let said: Vec<String> = unmet.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "memory_max cannot be enforced: not here",
                "oom_group cannot be enforced: not here",
                "pids_max cannot be enforced: /proc/no/such/pids.max is not there: this kernel \
                 has no such limit",
            ]
        );
    }
}
