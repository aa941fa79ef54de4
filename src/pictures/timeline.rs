//! What a timeline shows, from what services and receipts say.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::api::{
    Course, Rung, ServiceState, ServiceStatus, Verdict, last_shutdown, shutdown_began,
};

/// What a stretch of time was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Waiting for others.
    Waits,
    /// Started and not ready.
    Starts,
    /// Ready.
    Up,
    /// Asked to end.
    Asked,
    /// Killed.
    Killed,
    /// Its end is being proven.
    Proven,
}

impl Kind {
    pub(crate) const ALL: [Kind; 6] = [
        Kind::Waits,
        Kind::Starts,
        Kind::Up,
        Kind::Asked,
        Kind::Killed,
        Kind::Proven,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Waits => "waits",
            Kind::Starts => "starts",
            Kind::Up => "ready",
            Kind::Asked => "asked",
            Kind::Killed => "killed",
            Kind::Proven => "proof",
        }
    }
}

/// One service.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    pub(crate) name: String,
    /// From, to and what, in milliseconds; one after another.
    pub(crate) spans: Vec<(f64, f64, Kind)>,
    pub(crate) waited_for: Option<String>,
    /// How long it waited, and how long what followed took.
    pub(crate) waited_ms: f64,
    pub(crate) took_ms: Option<f64>,
    /// It is one of those that everything waited for.
    pub(crate) critical: bool,
    /// What is to be said of its end, if it is no good one.
    pub(crate) remark: Option<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Timeline {
    /// `boot` or `shutdown`.
    pub(crate) of: &'static str,
    pub(crate) lanes: Vec<Lane>,
    /// When the last was ready, or gone.
    pub(crate) total_ms: f64,
    pub(crate) deadline_ms: Option<f64>,
    /// When a shutdown's last verdict fell, wall clock, RFC 3339.
    pub(crate) ended_at: Option<String>,
}

/// The starts of all that run, from the first one that was wanted.
pub(crate) fn boot(services: &[ServiceStatus]) -> Timeline {
    let started = services
        .iter()
        .filter_map(|s| Some((s, s.last_start.as_ref()?)));
    let origin = started
        .clone()
        .map(|(_, start)| start.asked_mono_ms)
        .fold(f64::INFINITY, f64::min);
    let ends = started.clone().filter_map(|(_, start)| start.ready_mono_ms);
    let total = ends.fold(origin, f64::max) - origin;
    let total_ms = if total.is_finite() { total } else { 0.0 };
    let mut lanes: Vec<Lane> = started
        .map(|(status, start)| {
            let (asked, began) = (start.asked_mono_ms - origin, start.began_mono_ms - origin);
            let mut spans = vec![(asked, began, Kind::Waits)];
            let ready = start.ready_mono_ms.map(|at| at - origin);
            spans.push((began, ready.unwrap_or(total_ms).max(began), Kind::Starts));
            spans.extend(ready.map(|ready| (ready, total_ms.max(ready), Kind::Up)));
            let good = matches!(
                status.state,
                ServiceState::Up | ServiceState::Done | ServiceState::Listening
            );
            Lane {
                name: status.name.clone(),
                spans,
                waited_for: start.waited_for.clone(),
                waited_ms: began - asked,
                took_ms: ready.map(|ready| ready - began),
                critical: false,
                remark: (!good).then(|| status.state.as_str().to_owned()),
            }
        })
        .collect();
    let end = |lane: &Lane| lane.took_ms.map(|took| lane.spans[0].1 + took);
    mark_critical(&mut lanes, end);
    lanes.sort_by(|a, b| {
        a.spans[0]
            .1
            .total_cmp(&b.spans[0].1)
            .then(a.name.cmp(&b.name))
    });
    Timeline {
        of: "boot",
        lanes,
        total_ms,
        deadline_ms: None,
        ended_at: None,
    }
}

/// The last shutdown that the newest receipts of a shutdown of each service tell of.
pub(crate) fn shutdown(newest: Vec<Course>) -> Option<Timeline> {
    let of_it = last_shutdown(newest);
    let origin = shutdown_began(&of_it)?;
    let deadline = of_it.iter().map(|course| course.budget.deadline_ms);
    let deadline = deadline.fold(0.0, f64::max);
    let mut lanes: Vec<Lane> = of_it
        .iter()
        .map(|course| stop_lane(course, origin))
        .collect();
    let total_ms = lanes.iter().filter_map(end_of).fold(0.0, f64::max);
    mark_critical(&mut lanes, end_of);
    lanes.sort_by(|a, b| {
        a.spans[0]
            .1
            .total_cmp(&b.spans[0].1)
            .then(a.name.cmp(&b.name))
    });
    let last = of_it.iter().max_by(|a, b| {
        let (a, b) = (a.ended_mono_ms, b.ended_mono_ms);
        a.total_cmp(&b)
    });
    Some(Timeline {
        of: "shutdown",
        lanes,
        total_ms,
        deadline_ms: (deadline > 0.0).then_some(deadline),
        ended_at: last.and_then(|course| course.ended_at.clone()),
    })
}

fn end_of(lane: &Lane) -> Option<f64> {
    lane.spans.last().map(|(_, to, _)| *to)
}

fn stop_lane(receipt: &Course, origin: f64) -> Lane {
    let began = (receipt.began_mono_ms - origin).max(0.0);
    let ended = (receipt.ended_mono_ms - origin).max(began);
    let mut spans = vec![(0.0, began, Kind::Waits)];
    let mut at = began;
    for (n, rung) in receipt.rungs.iter().enumerate() {
        let Some(kind) = kind_of(rung) else { continue };
        let next = receipt.rungs.get(n + 1..).unwrap_or_default();
        let next = next
            .iter()
            .find(|next| kind_of(next).is_some_and(|k| k != kind));
        let to = next
            .map_or(ended, |next| began + next.at_ms)
            .clamp(at, ended);
        if to > at || spans.len() == 1 {
            spans.push((at, to, kind));
        }
        at = to;
    }
    if spans.len() == 1 {
        spans.push((began, ended, Kind::Proven));
    }
    let remark = (receipt.verdict != Verdict::Verified).then(|| receipt.verdict.as_str().into());
    Lane {
        name: receipt.service.clone(),
        spans,
        waited_for: receipt.waited_for.clone(),
        waited_ms: began,
        took_ms: Some(ended - began),
        critical: false,
        remark,
    }
}

fn kind_of(rung: &Rung) -> Option<Kind> {
    match rung.rung.as_str() {
        "stop-command" | "signal" | "await-spawn" => Some(Kind::Asked),
        "kill" => Some(Kind::Killed),
        "scan" | "fence" | "inspect" => Some(Kind::Proven),
        _ => None,
    }
}

/// From the one that was last back through those that each waited for.
fn mark_critical(lanes: &mut [Lane], end: impl Fn(&Lane) -> Option<f64>) {
    let names: BTreeMap<String, usize> = lanes
        .iter()
        .enumerate()
        .map(|(n, lane)| (lane.name.clone(), n))
        .collect();
    let ends = lanes
        .iter()
        .enumerate()
        .filter_map(|(n, lane)| Some((n, end(lane)?)));
    let last = ends.max_by(|a, b| a.1.total_cmp(&b.1)).map(|(n, _)| n);
    let mut next = last;
    while let Some(lane) = next.and_then(|n| lanes.get_mut(n)) {
        if std::mem::replace(&mut lane.critical, true) {
            return;
        }
        let waited = lane.waited_for.as_ref();
        next = waited.and_then(|name| names.get(name).copied());
    }
}

/// Milliseconds without what differences of others add behind the microsecond.
fn to_us(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

impl Timeline {
    pub(crate) fn document(&self) -> Value {
        let lanes = self.lanes.iter().map(|lane| {
            let spans = lane
                .spans
                .iter()
                .map(|(from, to, kind)| {
                    json!({"from_ms": to_us(*from), "to_ms": to_us(*to), "what": kind.word()})
                });
            json!({
                "service": lane.name,
                "waited_for": lane.waited_for,
                "waited_ms": to_us(lane.waited_ms),
                "took_ms": lane.took_ms.map(to_us),
                "critical": lane.critical,
                "remark": lane.remark,
                "spans": spans.collect::<Vec<_>>(),
            })
        });
        json!({
            "of": self.of,
            "total_ms": to_us(self.total_ms),
            "deadline_ms": self.deadline_ms,
            "ended_at": self.ended_at,
            "services": lanes.collect::<Vec<_>>(),
        })
    }

    /// The kinds that occur, for a legend.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = Kind> + '_ {
        let occurs = |kind: &Kind| {
            let mut spans = self.lanes.iter().flat_map(|lane| &lane.spans);
            spans.any(|(from, to, k)| k == kind && to > from)
        };
        Kind::ALL.into_iter().filter(occurs)
    }

    /// Where the picture ends: at the last of it, or at the deadline where that is not far.
    pub(crate) fn extent_ms(&self) -> f64 {
        let near = self
            .deadline_ms
            .filter(|deadline| *deadline <= 3.0 * self.total_ms);
        near.unwrap_or(self.total_ms).max(self.total_ms).max(0.001)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::api::{Budget, StartTimes};

    /// Ready at once, after 400 ms for db, and not yet.
    pub(crate) fn three() -> Vec<ServiceStatus> {
        let service =
            |name: &str, times: [f64; 2], ready, waited_for: Option<&str>, state| ServiceStatus {
                name: name.into(),
                state,
                last_start: Some(StartTimes {
                    asked_mono_ms: 1000.0,
                    began_mono_ms: times[0],
                    ready_mono_ms: ready,
                    waited_for: waited_for.map(str::to_owned),
                }),
                ..ServiceStatus::default()
            };
        let (up, starting) = (ServiceState::Up, ServiceState::Starting);
        vec![
            service("cache", [1000.0, 0.0], None, None, starting),
            service("db", [1000.0, 0.0], Some(1400.0), None, up),
            service("web", [1400.0, 0.0], Some(2000.0), Some("db"), up),
        ]
    }

    pub(crate) fn stopped() -> Vec<Course> {
        let receipt = |name: &str, began, ended, asked_ms, rungs: &[(&str, f64)], waited| Course {
            service: name.into(),
            began_mono_ms: began,
            ended_mono_ms: ended,
            waited_for: Option::<&str>::map(waited, str::to_owned),
            budget: Budget {
                asked_ms,
                deadline_ms: 2500.0,
                ..Budget::default()
            },
            rungs: rungs
                .iter()
                .map(|(rung, at_ms)| Rung {
                    rung: (*rung).into(),
                    at_ms: *at_ms,
                    ..Rung::default()
                })
                .collect(),
            ..Course::default()
        };
        let stubborn = [
            ("signal", 0.0),
            ("kill", 500.0),
            ("scan", 510.0),
            ("fence", 520.0),
        ];
        vec![
            receipt(
                "db",
                6000.0,
                6200.0,
                1000.0,
                &[("signal", 0.0), ("scan", 190.0)],
                Some("web"),
            ),
            receipt("web", 5000.0, 6000.0, 0.0, &stubborn, None),
            // Of an earlier time.
            receipt("old", 100.0, 200.0, 0.0, &[], None),
        ]
    }

    #[test]
    fn a_boot_begins_with_the_first_wish_and_ends_when_the_last_is_ready() {
        let timeline = boot(&three());
        assert_eq!(timeline.total_ms, 1000.0);
        let names: Vec<(&str, bool)> = timeline
            .lanes
            .iter()
            .map(|lane| (lane.name.as_str(), lane.critical))
            .collect();
        assert_eq!(names, [("cache", false), ("db", true), ("web", true)]);
        let web = &timeline.lanes[2];
        assert_eq!(
            web.spans,
            [
                (0.0, 400.0, Kind::Waits),
                (400.0, 1000.0, Kind::Starts),
                (1000.0, 1000.0, Kind::Up)
            ]
        );
        assert_eq!((web.waited_ms, web.took_ms), (400.0, Some(600.0)));
        assert_eq!(timeline.lanes[0].remark.as_deref(), Some("starting"));
        assert_eq!(boot(&[]).lanes.len(), 0);
    }

    #[test]
    fn a_shutdown_is_told_from_earlier_ones() {
        let timeline = shutdown(stopped()).unwrap();
        assert_eq!(
            (timeline.total_ms, timeline.deadline_ms),
            (1200.0, Some(2500.0))
        );
        let names: Vec<&str> = timeline
            .lanes
            .iter()
            .map(|lane| lane.name.as_str())
            .collect();
        assert_eq!(names, ["web", "db"]);
        assert_eq!(
            timeline.lanes[0].spans,
            [
                (0.0, 0.0, Kind::Waits),
                (0.0, 500.0, Kind::Asked),
                (500.0, 510.0, Kind::Killed),
                (510.0, 1000.0, Kind::Proven)
            ]
        );
        assert!(timeline.lanes.iter().all(|lane| lane.critical));
        assert!(shutdown(Vec::new()).is_none());
    }
}
