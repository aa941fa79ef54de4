//! What was read of the services: rows, what they used between two readings, and their order.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::api::{ServiceState, Usage};

/// One service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Row {
    pub(super) usage: Usage,
    /// Percent of one processor since the reading before; `None`: there was none of this start.
    pub(super) cpu_percent: Option<f64>,
    /// The same of each process, by its pid.
    pub(super) processes: BTreeMap<u32, f64>,
}

impl Row {
    pub(super) fn name(&self) -> &str {
        &self.usage.status.name
    }

    /// What it waits for most: percent of the last ten seconds, and for what. `None`: the kernel
    /// does not count that here.
    pub(super) fn pressure(&self) -> Option<(f64, &'static str)> {
        let of = self.usage.pressure.as_ref()?;
        let all = [
            (of.cpu.some_percent, "cpu"),
            (of.memory.some_percent, "mem"),
            (of.io.some_percent, "io"),
        ];
        all.into_iter().max_by(|a, b| a.0.total_cmp(&b.0))
    }
}

/// A new reading beside the one before.
pub(super) fn rows(before: &[Row], usages: Vec<Usage>) -> Vec<Row> {
    let before: BTreeMap<&str, &Row> = before.iter().map(|row| (row.name(), row)).collect();
    let with_before = |usage: Usage| {
        let old = before.get(usage.status.name.as_str()).map(|row| &row.usage);
        let old = old.filter(|old| old.status.generation == usage.status.generation);
        row(usage, old)
    };
    usages.into_iter().map(with_before).collect()
}

fn row(usage: Usage, before: Option<&Usage>) -> Row {
    let elapsed = before.map_or(0.0, |old| usage.read_mono_ms - old.read_mono_ms);
    let Some(old) = before.filter(|old| old.read_mono_ms > 0.0 && elapsed > 0.0) else {
        return Row {
            usage,
            ..Row::default()
        };
    };
    // The sum over the processes that live is less once one of them has ended.
    let percent = |now: f64, then: f64| (now - then).max(0.0) / elapsed * 100.0;
    let then: BTreeMap<u32, f64> = old.processes.iter().map(|p| (p.pid, p.cpu_ms)).collect();
    let processes = usage.processes.iter().filter_map(|process| {
        let then = then.get(&process.pid)?;
        Some((process.pid, percent(process.cpu_ms, *then)))
    });
    Row {
        cpu_percent: (!usage.processes.is_empty()).then(|| percent(usage.cpu_ms, old.cpu_ms)),
        processes: processes.collect(),
        usage,
    }
}

/// By what the rows are sorted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    #[default]
    Name,
    /// What is wrong first.
    State,
    Cpu,
    Memory,
    Processes,
    Restarts,
    Pressure,
}

impl Sort {
    const ALL: [Sort; 7] = [
        Sort::Name,
        Sort::State,
        Sort::Cpu,
        Sort::Memory,
        Sort::Processes,
        Sort::Restarts,
        Sort::Pressure,
    ];

    pub(super) fn next(self) -> Self {
        let at = Self::ALL.iter().position(|sort| *sort == self);
        let next = at.map_or(0, |at| (at + 1) % Self::ALL.len());
        Self::ALL.get(next).copied().unwrap_or_default()
    }

    pub(super) fn word(self) -> &'static str {
        match self {
            Sort::Name => "name",
            Sort::State => "state, what is wrong first",
            Sort::Cpu => "processor time",
            Sort::Memory => "memory",
            Sort::Processes => "processes",
            Sort::Restarts => "restarts",
            Sort::Pressure => "pressure",
        }
    }

    /// The most first; by name and state as people read them.
    pub(super) fn compare(self, a: &Row, b: &Row) -> Ordering {
        let (x, y) = (&a.usage, &b.usage);
        let first = match self {
            Sort::Name => Ordering::Equal,
            Sort::State => urgency(x.status.state).cmp(&urgency(y.status.state)),
            Sort::Cpu => {
                let of = |row: &Row| row.cpu_percent.unwrap_or(-1.0);
                of(b).total_cmp(&of(a))
            }
            Sort::Memory => y.memory_bytes.cmp(&x.memory_bytes),
            Sort::Processes => y.processes.len().cmp(&x.processes.len()),
            Sort::Restarts => y.status.restarts.cmp(&x.status.restarts),
            Sort::Pressure => {
                let of = |row: &Row| row.pressure().map_or(-1.0, |(percent, _)| percent);
                of(b).total_cmp(&of(a))
            }
        };
        first.then_with(|| a.name().cmp(b.name()))
    }
}

/// What is wrong comes first.
pub(super) fn urgency(state: ServiceState) -> u8 {
    match state {
        ServiceState::Lingering => 0,
        ServiceState::Failed => 1,
        ServiceState::Backoff => 2,
        ServiceState::Blocked => 3,
        ServiceState::Stopping => 4,
        ServiceState::Starting => 5,
        ServiceState::Unknown => 6,
        ServiceState::Up => 7,
        ServiceState::Listening => 8,
        ServiceState::Done => 9,
        ServiceState::Down => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Pressure, Pressures, ProcessUsage, ServiceStatus};

    fn usage(name: &str, generation: u64, at_ms: f64, cpu_ms: f64, pids: &[(u32, f64)]) -> Usage {
        let process = |(pid, cpu_ms): &(u32, f64)| ProcessUsage {
            pid: *pid,
            cpu_ms: *cpu_ms,
            ..ProcessUsage::default()
        };
        Usage {
            status: ServiceStatus {
                name: name.into(),
                generation,
                ..ServiceStatus::default()
            },
            cpu_ms,
            read_mono_ms: at_ms,
            processes: pids.iter().map(process).collect(),
            ..Usage::default()
        }
    }

    #[test]
    fn processor_time_is_what_was_used_between_two_readings() {
        let first = rows(&[], vec![usage("a", 1, 1000.0, 500.0, &[(7, 500.0)])]);
        assert_eq!(
            first[0].cpu_percent, None,
            "there is nothing to compare it with"
        );
        let next = usage("a", 1, 3000.0, 1500.0, &[(7, 900.0), (8, 100.0)]);
        let second = rows(&first, vec![next]);
        assert_eq!(second[0].cpu_percent, Some(50.0));
        assert_eq!(second[0].processes, [(7, 20.0)].into());
        let less = rows(&second, vec![usage("a", 1, 4000.0, 900.0, &[(7, 900.0)])]);
        assert_eq!(
            less[0].cpu_percent,
            Some(0.0),
            "who ended takes its time along"
        );
        let again = rows(&less, vec![usage("a", 2, 5000.0, 10.0, &[(9, 10.0)])]);
        assert_eq!(again[0].cpu_percent, None, "another start");
        let down = rows(&again, vec![usage("a", 2, 6000.0, 0.0, &[])]);
        assert_eq!(down[0].cpu_percent, None);
        let untold = rows(&again, vec![usage("a", 2, 0.0, 0.0, &[(9, 10.0)])]);
        assert_eq!(untold[0].cpu_percent, None);
    }

    #[test]
    fn rows_are_sorted_by_what_was_chosen_and_then_by_name() {
        let mut all = rows(
            &[],
            vec![
                usage("c", 1, 1.0, 0.0, &[(1, 0.0)]),
                usage("a", 1, 1.0, 0.0, &[(2, 0.0), (3, 0.0)]),
                usage("b", 1, 1.0, 0.0, &[]),
            ],
        );
        all[0].usage.memory_bytes = 9;
        all[0].cpu_percent = Some(2.0);
        all[1].cpu_percent = Some(0.0);
        all[2].usage.status.state = ServiceState::Failed;
        all[1].usage.status.state = ServiceState::Up;
        all[0].usage.status.state = ServiceState::Up;
        all[1].usage.status.restarts = 4;
        let some_percent = 3.0;
        let io = Pressure {
            some_percent,
            ..Pressure::default()
        };
        all[2].usage.pressure = Some(Pressures {
            io,
            ..Pressures::default()
        });
        assert_eq!(all[2].pressure(), Some((3.0, "io")));
        let mut sort = Sort::Name;
        for expected in ["abc", "bac", "cab", "cab", "acb", "abc", "bac"] {
            all.sort_by(|a, b| sort.compare(a, b));
            let names: String = all.iter().map(Row::name).collect();
            assert_eq!(names, expected, "{sort:?}");
            sort = sort.next();
        }
        assert_eq!(sort, Sort::Name);
    }
}
