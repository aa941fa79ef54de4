//! What /proc says of the machine and of one process.

use std::fs;
use std::time::Duration;

/// The machine in words.
pub(crate) fn describe() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!(
        "Linux {}, {cpus} CPUs ({model}), load {load}, {} processes",
        release.trim(),
        processes()
    )
}

/// How many processes /proc shows, kernel threads included.
pub(crate) fn processes() -> usize {
    let entries = fs::read_dir("/proc").expect("list /proc");
    let is_pid = |name: &str| name.bytes().all(|b| b.is_ascii_digit());
    entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(is_pid))
        .count()
}

/// One process's memory, in KiB.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Its proportional share.
    pub(crate) pss: f64,
    /// Of that, what no file backs.
    pub(crate) anonymous: f64,
}

/// From /proc/PID/smaps_rollup.
pub(crate) fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("smaps_rollup");
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        let number = value.and_then(|v| v.split_ascii_whitespace().next()?.parse().ok());
        number.unwrap_or(f64::NAN)
    };
    Memory {
        pss: field("Pss:"),
        anonymous: field("Pss_Anon:"),
    }
}

/// A process's children, those of its main thread.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let numbers = text.split_ascii_whitespace();
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// A process's command name.
pub(crate) fn comm(pid: u32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    text.trim().to_owned()
}

/// Processor seconds of a process with all its threads, those that ended too; in steps of 10 ms.
pub(crate) fn cpu_seconds(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    // proc(5): utime and stime are the 14th and 15th; the name, the 2nd, may hold anything.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks = rest.split_ascii_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.filter_map(|number| number.parse::<u64>().ok()).sum();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    ticks as f64 / per_second.ok().flatten().unwrap_or(100) as f64
}

/// How often all threads of a process were switched to, by their status files.
pub(crate) fn switches(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("list threads");
    let mut sum = 0.0;
    for task in tasks.flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        for line in status.lines().filter(|line| line.contains("ctxt_switches")) {
            let number = line.rsplit(['\t', ' ']).next();
            sum += number.and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0);
        }
    }
    sum
}

/// Looks every millisecond until `done`.
pub(crate) fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..60_000 {
        if done() {
            return;
        }
        pause(Duration::from_millis(1));
    }
    panic!("waited a minute for {what}");
}

/// Lets time pass between measurements.
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// Milliseconds on CLOCK_BOOTTIME.
pub(crate) fn now_ms() -> f64 {
    nought::sys::clock::boot_now() as f64 / 1e6
}
