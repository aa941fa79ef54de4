//! What is counted over the supervisor's life, and all of it in Prometheus's text format
//! (exposition format 0.0.4), in the shapes of systemd_exporter.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Clocks, Seen, Use};
use crate::api::{Info, ServiceState, ServiceStatus};
use crate::core::{Receipt, Rung, Verdict};

/// Upper bounds of the histogram of stops, in seconds, as the format writes them.
const BOUNDS: [(&str, f64); 12] = [
    ("0.005", 0.005),
    ("0.01", 0.01),
    ("0.025", 0.025),
    ("0.1", 0.1),
    ("0.25", 0.25),
    ("0.5", 0.5),
    ("1", 1.0),
    ("2.5", 2.5),
    ("5", 5.0),
    ("10", 10.0),
    ("30", 30.0),
    ("60", 60.0),
];
const STATES: [&str; 5] = ["activating", "active", "deactivating", "failed", "inactive"];

/// Counts what happens to services; clones share what they count.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    services: BTreeMap<String, Count>,
    /// Services that were ready at least once.
    been_ready: BTreeSet<String>,
    /// Whether all were, once.
    started_up: bool,
}

/// What is counted of one service.
#[derive(Clone, Debug, Default)]
struct Count {
    verified: u64,
    lingering: u64,
    unverified: u64,
    forced_kills: u64,
    killed: u64,
    escaped: u64,
    /// Stops by duration, each in the first bound it fits; the last is for longer ones.
    stops: [u64; BOUNDS.len() + 1],
    stop_seconds: f64,
}

impl Tally {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // What a panic left half counted is still counted.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A verdict fell, or a better one on the same generation.
    pub fn receipt(&self, receipt: &Receipt) {
        let mut counts = self.counts();
        let count = counts.services.entry(receipt.service.clone()).or_default();
        match receipt.verdict {
            Verdict::Verified => count.verified += 1,
            Verdict::Lingering => count.lingering += 1,
            Verdict::Unverified => count.unverified += 1,
        }
        if receipt.late {
            // What it did was counted with the first.
            return;
        }
        let kills = receipt.steps.iter().any(|step| step.rung == Rung::Kill);
        count.forced_kills += u64::from(kills);
        let len = |len: usize| u64::try_from(len).unwrap_or(u64::MAX);
        count.killed += len(receipt.killed.len());
        count.escaped += len(receipt.escaped.len());
        let took = receipt.ended.since(receipt.began).as_secs_f64();
        let bucket = BOUNDS.iter().position(|(_, bound)| took <= *bound);
        if let Some(stops) = count.stops.get_mut(bucket.unwrap_or(BOUNDS.len())) {
            *stops += 1;
        }
        count.stop_seconds += took;
    }

    /// A service came into this state.
    pub fn state(&self, service: &str, state: &str) {
        if matches!(state, "up" | "done") {
            let mut counts = self.counts();
            if !counts.started_up && !counts.been_ready.contains(service) {
                counts.been_ready.insert(service.to_owned());
            }
        }
    }

    /// The wanted services that were never ready; none once all were, whatever comes later.
    pub(super) fn starting_up(&self, services: &[ServiceStatus]) -> Vec<String> {
        let mut counts = self.counts();
        if counts.started_up {
            return Vec::new();
        }
        let never = |s: &&ServiceStatus| s.target == "up" && !counts.been_ready.contains(&s.name);
        let missing: Vec<String> = services
            .iter()
            .filter(never)
            .map(|s| s.name.clone())
            .collect();
        if missing.is_empty() {
            counts.started_up = true;
            counts.been_ready = BTreeSet::new();
        }
        missing
    }
}

/// The state in systemd's words.
fn unit_state(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Blocked | ServiceState::Starting | ServiceState::Backoff => "activating",
        ServiceState::Up | ServiceState::Listening => "active",
        ServiceState::Stopping => "deactivating",
        ServiceState::Lingering | ServiceState::Failed => "failed",
        ServiceState::Down | ServiceState::Done | ServiceState::Unknown => "inactive",
    }
}

/// A page of metrics in the making.
struct Page(String);

impl Page {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(
            self.0,
            "# HELP nought_{name} {help}\n# TYPE nought_{name} {kind}"
        );
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let _ = write!(self.0, "nought_{name}");
        for (n, (key, value)) in labels.iter().enumerate() {
            let open = if n == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{key}=\"");
            for c in value.chars() {
                match c {
                    '\\' | '"' => {
                        self.0.push('\\');
                        self.0.push(c);
                    }
                    '\n' => self.0.push_str("\\n"),
                    _ => self.0.push(c),
                }
            }
            self.0.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    fn each<T, V: std::fmt::Display>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        all: &[(&str, T)],
        value: impl Fn(&T) -> Option<V>,
    ) {
        self.family(name, kind, help);
        for (service, of) in all {
            if let Some(value) = value(of) {
                self.sample(name, &[("name", service)], value);
            }
        }
    }
}

/// Everything, as one page.
pub(super) fn page(info: &Info, services: &[(Seen, Use)], tally: &Tally, clocks: Clocks) -> String {
    let mut page = Page(String::new());
    supervisor(&mut page, info);
    let statuses: Vec<(&str, &ServiceStatus)> = services
        .iter()
        .map(|(seen, _)| (seen.status.name.as_str(), &seen.status))
        .collect();
    states(&mut page, &statuses, clocks);
    let used: Vec<(&str, &Use)> = services
        .iter()
        .map(|(seen, used)| (seen.status.name.as_str(), used))
        .collect();
    usage(&mut page, &used);
    let counts = tally.counts();
    let of = |name: &str| counts.services.get(name).cloned().unwrap_or_default();
    let counted: Vec<(&str, Count)> = statuses.iter().map(|(name, _)| (*name, of(name))).collect();
    drop(counts);
    verdicts(&mut page, &counted);
    page.0
}

fn supervisor(page: &mut Page, info: &Info) {
    page.family("build_info", "gauge", "The supervisor's version.");
    page.sample("build_info", &[("version", &info.version)], 1);
    page.family(
        "guarantee_info",
        "gauge",
        "What a stop can prove here: what holds processes together, and how escapees are recognised.",
    );
    let words = [
        ("containment", info.containment.as_str()),
        ("scan", info.scan.as_str()),
    ];
    page.sample("guarantee_info", &words, 1);
    page.family("shutting_down", "gauge", "Whether a shutdown is under way.");
    page.sample("shutting_down", &[], u8::from(info.shutting_down));
}

fn states(page: &mut Page, statuses: &[(&str, &ServiceStatus)], clocks: Clocks) {
    page.family("unit_state", "gauge", "The service's state, one of them 1.");
    for (name, status) in statuses {
        for state in STATES {
            let is = u8::from(unit_state(status.state) == state);
            page.sample("unit_state", &[("name", name), ("state", state)], is);
        }
    }
    let lingers = |s: &&ServiceStatus| Some(u8::from(s.state == ServiceState::Lingering));
    let help = "Whether something of the service survived its stop.";
    page.each(("unit_lingering", "gauge", help), statuses, lingers);
    let help = "How many processes the service has.";
    page.each(("unit_tasks_current", "gauge", help), statuses, |s| {
        Some(s.processes)
    });
    let help = "When the service became ready, in seconds since the epoch.";
    page.each(("unit_start_time_seconds", "gauge", help), statuses, |s| {
        let up = s.state == ServiceState::Up && clocks.wall_ms > 0;
        let since_ms = clocks.wall_ms.saturating_sub(s.since_ms);
        up.then(|| std::time::Duration::from_millis(since_ms).as_secs_f64())
    });
    let help = "How often the service was started again.";
    page.each(("service_restart_total", "counter", help), statuses, |s| {
        Some(s.restarts)
    });
    let help = "Processes of ended starts that the kernel killed for want of memory.";
    page.each(
        ("service_oom_kills_total", "counter", help),
        statuses,
        |s| Some(s.oom_kills),
    );
}

fn usage(page: &mut Page, used: &[(&str, &Use)]) {
    let help = "Memory in bytes: its cgroup's account, or the sum over its processes.";
    page.each(("unit_memory_bytes", "gauge", help), used, |used| {
        Some(used.memory_bytes())
    });
    page.family(
        "unit_cpu_seconds_total",
        "counter",
        "Processor time of the service since it was last started.",
    );
    for (name, used) in used {
        let cpu = used.cpu();
        for (mode, time) in [("user", cpu.user), ("system", cpu.system)] {
            let labels = [("name", *name), ("mode", mode)];
            page.sample("unit_cpu_seconds_total", &labels, time.as_secs_f64());
        }
    }
}

fn verdicts(page: &mut Page, counted: &[(&str, Count)]) {
    page.family(
        "verdicts_total",
        "counter",
        "Verdicts on ends of the service, asked for or not.",
    );
    for (name, count) in counted {
        for (verdict, value) in [
            ("verified", count.verified),
            ("lingering", count.lingering),
            ("unverified", count.unverified),
        ] {
            page.sample(
                "verdicts_total",
                &[("name", name), ("verdict", verdict)],
                value,
            );
        }
    }
    let help = "Ends of the service in which it had to be killed.";
    let family = ("forced_kills_total", "counter", help);
    page.each(family, counted, |c| Some(c.forced_kills));
    let help = "Processes killed inside the service's cgroup.";
    let family = ("killed_processes_total", "counter", help);
    page.each(family, counted, |c| Some(c.killed));
    let help = "Processes of the service found outside its cgroup, and killed.";
    let family = ("escapees_total", "counter", help);
    page.each(family, counted, |c| Some(c.escaped));
    page.family(
        "stop_duration_seconds",
        "histogram",
        "From the beginning of an end to its verdict.",
    );
    for (name, count) in counted {
        let mut sum = 0;
        for (stops, (bound, _)) in count.stops.iter().zip(BOUNDS) {
            sum += stops;
            let labels = [("name", *name), ("le", bound)];
            page.sample("stop_duration_seconds_bucket", &labels, sum);
        }
        let all: u64 = count.stops.iter().sum();
        let labels = [("name", *name), ("le", "+Inf")];
        page.sample("stop_duration_seconds_bucket", &labels, all);
        let name = [("name", *name)];
        page.sample("stop_duration_seconds_sum", &name, count.stop_seconds);
        page.sample("stop_duration_seconds_count", &name, all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_are_escaped() {
        let mut page = Page(String::new());
        page.sample("x", &[("name", "a\"b\\c\nd"), ("k", "")], 1.5);
        assert_eq!(page.0, "nought_x{name=\"a\\\"b\\\\c\\nd\",k=\"\"} 1.5\n");
    }

    #[test]
    fn start_up_is_over_once_all_were_ready_and_stays_over() {
        let tally = Tally::default();
        let service = |name: &str| ServiceStatus {
            name: name.into(),
            target: "up".into(),
            ..ServiceStatus::default()
        };
        let services = [service("a"), service("b")];
        tally.state("a", "up");
        assert_eq!(tally.starting_up(&services), ["b"]);
        tally.state("b", "done");
        tally.state("a", "failed");
        assert!(tally.starting_up(&services).is_empty());
        assert!(tally.starting_up(&[service("later")]).is_empty());
    }
}
