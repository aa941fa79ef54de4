//! What a cgroup and a process have used: one reading each, nothing is measured over time.

use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{SysconfVar, sysconf};

use super::{SysError, procfs};

/// Processor time by where it was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTime {
    /// In user space.
    pub user: Duration,
    /// In the kernel.
    pub system: Duration,
}

impl CpuTime {
    /// Both together.
    pub fn total(self) -> Duration {
        self.user.saturating_add(self.system)
    }

    /// The sum of several.
    pub fn sum(times: impl Iterator<Item = CpuTime>) -> CpuTime {
        times.fold(CpuTime::default(), |sum, time| CpuTime {
            user: sum.user.saturating_add(time.user),
            system: sum.system.saturating_add(time.system),
        })
    }
}

/// What a cgroup accounts for itself and everything below it; `None` where the controller is not
/// enabled for it, or the kernel is too old.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupUsage {
    /// memory.current in bytes.
    pub memory_bytes: Option<u64>,
    /// memory.peak in bytes: the most there was at a time (Linux 5.19).
    pub memory_peak_bytes: Option<u64>,
    /// `oom_kill` of memory.events: processes that the kernel killed for want of memory.
    pub oom_kills: Option<u64>,
    /// user_usec and system_usec of cpu.stat, which every cgroup but the root has, whatever its
    /// controllers (cgroup-v2.rst, 'cpu.stat').
    pub cpu: Option<CpuTime>,
    /// `throttled_usec` of cpu.stat: ready to run, and not let because of cpu.max.
    pub throttled: Option<Duration>,
    /// `nr_throttled` of cpu.stat: periods in which that happened.
    pub throttled_periods: Option<u64>,
    /// pids.current: processes and threads.
    pub pids: Option<u64>,
    /// pids.peak: the most there were at a time (Linux 6.1).
    pub pids_peak: Option<u64>,
    /// `max` of pids.events: forks and clones that pids.max refused.
    pub pids_refused: Option<u64>,
}

/// Reads what the cgroup has used. What cannot be read is `None`.
pub fn of_cgroup(dir: &Path) -> CgroupUsage {
    let text = |file: &str| procfs::read_text(&dir.join(file));
    let number = |file: &str| text(file)?.trim().parse().ok();
    let mut usage = CgroupUsage::default();
    if let Some(stat) = text("cpu.stat") {
        let micros = |key| field(&stat, key).map(Duration::from_micros);
        usage.cpu = cpu_stat(&stat);
        usage.throttled = micros("throttled_usec");
        usage.throttled_periods = field(&stat, "nr_throttled");
    }
    usage.memory_bytes = number("memory.current");
    if usage.memory_bytes.is_some() {
        usage.memory_peak_bytes = number("memory.peak");
        usage.oom_kills = text("memory.events").and_then(|text| field(&text, "oom_kill"));
    }
    usage.pids = number("pids.current");
    if usage.pids.is_some() {
        usage.pids_peak = number("pids.peak");
        usage.pids_refused = text("pids.events").and_then(|text| field(&text, "max"));
    }
    usage
}

/// How many processes in the cgroup and below it the kernel has killed for want of memory.
pub fn oom_kills(dir: &Path) -> Option<u64> {
    field(&procfs::read_text(&dir.join("memory.events"))?, "oom_kill")
}

/// The number after `key` in a file of lines of a key and a number.
fn field(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines();
    let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
    value.trim().parse().ok()
}

fn cpu_stat(text: &str) -> Option<CpuTime> {
    let micros = |key| field(text, key).map(Duration::from_micros);
    Some(CpuTime {
        user: micros("user_usec")?,
        system: micros("system_usec")?,
    })
}

/// What a process has used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessUsage {
    /// Its pid.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Its command name.
    pub comm: String,
    /// Resident memory in bytes, shared pages included (statm, proc_pid_statm(5)): may lag behind
    /// by some pages per thread.
    pub memory_bytes: u64,
    /// Processor time, of ended threads too, in whole clock ticks (stat, proc_pid_stat(5)).
    pub cpu: CpuTime,
    /// When it started, on CLOCK_BOOTTIME.
    pub started: Duration,
}

/// Reads what a process has used; `None` when it is gone.
pub fn of_process(pid: u32) -> Result<Option<ProcessUsage>, SysError> {
    let file = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        match procfs::read_file(Path::new(&path)) {
            Ok(text) => Ok(Some(text)),
            Err(e) if e.is(Errno::ENOENT) || e.is(Errno::ESRCH) => Ok(None),
            Err(e) => Err(e),
        }
    };
    let (Some(stat), Some(statm)) = (file("stat")?, file("statm")?) else {
        return Ok(None);
    };
    let Some(known) = procfs::parse_stat(&stat) else {
        return Ok(None);
    };
    let ticks = ticks_per_second();
    let (user, system) = cpu_ticks(&stat).unwrap_or_default();
    let resident = std::str::from_utf8(&statm).ok();
    let resident = resident.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    Ok(Some(ProcessUsage {
        pid,
        ppid: known.ppid,
        comm: known.comm,
        memory_bytes: resident.unwrap_or_default().saturating_mul(page_bytes()),
        cpu: CpuTime {
            user: of_ticks(user, ticks),
            system: of_ticks(system, ticks),
        },
        started: of_ticks(known.start_time, ticks),
    }))
}

/// utime and stime: fields 14 and 15.
fn cpu_ticks(stat: &[u8]) -> Option<(u64, u64)> {
    let after = stat.iter().rposition(|&b| b == b')')? + 1;
    let text = std::str::from_utf8(stat.get(after..)?).ok()?;
    // Field 3 is the first after the name.
    let mut fields = text.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user, system))
}

fn of_ticks(ticks: u64, per_second: u64) -> Duration {
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(per_second.max(1));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Clock ticks in a second: 100 wherever Linux runs today (sysconf(3), _SC_CLK_TCK).
pub(super) fn ticks_per_second() -> u64 {
    config(SysconfVar::CLK_TCK, 100)
}

fn page_bytes() -> u64 {
    config(SysconfVar::PAGE_SIZE, 4096)
}

fn config(name: SysconfVar, usual: u64) -> u64 {
    let value = sysconf(name).ok().flatten();
    value
        .and_then(|value| u64::try_from(value).ok())
        .unwrap_or(usual)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let rest = "S 1 2 3 0 -1 4194560 10 0 0 0 120 34 0 0 20 0 1 0 5555 0";
        for name in ["sh", "a) b (c", ") S 9 9"] {
            assert_eq!(
                cpu_ticks(format!("77 ({name}) {rest}").as_bytes()),
                Some((120, 34))
            );
        }
        assert_eq!(cpu_ticks(b"77 (sh) S 1"), None);
        assert_eq!(of_ticks(154, 100), Duration::from_millis(1540));
    }

    #[test]
    fn a_cgroup_s_time_is_split() {
        let text = "usage_usec 3500000\nuser_usec 2000000\nsystem_usec 1500000\nnr_periods 0\n";
        let cpu = cpu_stat(text).unwrap();
        assert_eq!(cpu.user, Duration::from_secs(2));
        assert_eq!(cpu.total(), Duration::from_millis(3500));
        assert_eq!(cpu_stat("usage_usec 1\n"), None);
    }

    #[test]
    fn what_we_use_ourselves_is_read() {
        let own = of_process(std::process::id()).unwrap().unwrap();
        assert!(own.memory_bytes > 100_000, "{own:?}");
        assert!(own.started > Duration::ZERO && !own.comm.is_empty());
        assert_eq!(of_process(u32::MAX / 2), Ok(None));
    }
}
