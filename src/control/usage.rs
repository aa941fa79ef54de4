//! What services use, in the words of the wire.

use std::time::Duration;

use super::Seen;
use super::describe::millis_f64;
use crate::api::{self, Account};
use crate::sys::pressure::{Moved, Pressure, Pressures};
use crate::sys::usage::{CgroupUsage, CpuTime, ProcessUsage};

/// One service's readings.
#[derive(Clone, Debug, Default)]
pub struct Use {
    /// The main process while it is not reaped.
    pub main: Option<u32>,
    /// Everybody.
    pub processes: Vec<ProcessUsage>,
    /// What its cgroup accounts.
    pub cgroup: CgroupUsage,
    /// What it has read and written.
    pub moved: Option<Moved>,
    /// What it waits for.
    pub pressure: Option<Pressures>,
    /// When that was read, on CLOCK_BOOTTIME.
    pub now: Duration,
}

impl Use {
    /// Bytes of memory: the cgroup's account, or the sum over the processes.
    pub(super) fn memory_bytes(&self) -> u64 {
        let resident = || self.processes.iter().map(|p| p.memory_bytes).sum();
        self.cgroup.memory_bytes.unwrap_or_else(resident)
    }

    /// Processor time: the cgroup's account, or the sum over the processes that live.
    pub(super) fn cpu(&self) -> CpuTime {
        let alive = || CpuTime::sum(self.processes.iter().map(|p| p.cpu));
        self.cgroup.cpu.unwrap_or_else(alive)
    }
}

/// Percent of one processor: `cpu` within `elapsed`.
fn percent(cpu: Duration, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        return 0.0;
    }
    // To a hundredth: more is noise.
    (cpu.as_secs_f64() / elapsed.as_secs_f64() * 10_000.0).round() / 100.0
}

/// A service's usage.
pub(super) fn usage(seen: Seen, used: &Use) -> api::Usage {
    let main = used.processes.iter().find(|p| Some(p.pid) == used.main);
    let cpu = used.cpu().total();
    let elapsed = main.map_or(Duration::ZERO, |main| used.now.saturating_sub(main.started));
    let from = |account: bool| match account {
        true => Account::Cgroup,
        false => Account::Processes,
    };
    let mut processes: Vec<&ProcessUsage> = used.processes.iter().collect();
    processes.sort_by_key(|process| (Some(process.pid) != used.main, process.pid));
    let memory_bytes = used.memory_bytes();
    let mut status = seen.status;
    status.memory_bytes = Some(memory_bytes);
    api::Usage {
        status,
        memory_bytes,
        memory_from: from(used.cgroup.memory_bytes.is_some()),
        memory_peak_bytes: used.cgroup.memory_peak_bytes,
        oom_kills: used.cgroup.oom_kills,
        pids: used.cgroup.pids,
        pids_refused: used.cgroup.pids_refused,
        throttled_ms: used.cgroup.throttled.map(millis_f64),
        io_read_bytes: used.moved.map(|moved| moved.read_bytes),
        io_written_bytes: used.moved.map(|moved| moved.written_bytes),
        pressure: used.pressure.as_ref().map(pressures),
        cpu_ms: millis_f64(cpu),
        cpu_from: from(used.cgroup.cpu.is_some()),
        cpu_percent: percent(cpu, elapsed),
        read_mono_ms: millis_f64(used.now),
        processes: processes
            .into_iter()
            .map(|process| self::process(process, used.now))
            .collect(),
    }
}

fn pressures(of: &Pressures) -> api::Pressures {
    let pressure = |of: &Pressure| api::Pressure {
        some_percent: of.some_avg10,
        some_ms: millis_f64(of.some),
        full_percent: of.full_avg10,
        full_ms: millis_f64(of.full),
    };
    api::Pressures {
        cpu: pressure(&of.cpu),
        memory: pressure(&of.memory),
        io: pressure(&of.io),
    }
}

fn process(process: &ProcessUsage, now: Duration) -> api::ProcessUsage {
    api::ProcessUsage {
        pid: process.pid,
        ppid: process.ppid,
        comm: process.comm.clone(),
        memory_bytes: process.memory_bytes,
        cpu_ms: millis_f64(process.cpu.total()),
        cpu_percent: percent(process.cpu.total(), now.saturating_sub(process.started)),
    }
}

/// The same as zinit answers it.
pub(super) fn zinit(usage: &api::Usage) -> api::ZinitStats {
    let main = usage.status.pid;
    let children = usage.processes.iter().filter(|process| process.pid != main);
    api::ZinitStats {
        name: usage.status.name.clone(),
        pid: main,
        memory_usage: usage.memory_bytes,
        cpu_usage: usage.cpu_percent,
        children: children
            .map(|process| api::ZinitChild {
                pid: process.pid,
                memory_usage: process.memory_bytes,
                cpu_usage: process.cpu_percent,
            })
            .collect(),
    }
}
