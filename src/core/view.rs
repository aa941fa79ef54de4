//! What can be seen of the supervisor without asking it to do anything.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::Check;
use super::machine::Supervisor;
use super::readiness::Probe;
use super::receipt::{Guarantee, Receipt};
use super::service::{Ended, Run, Service, State, Target};
use super::spec::Spec;
use super::time::{Time, Timer};
use super::{GenId, ServiceId};

/// A service as it is at one moment.
#[derive(Clone, Debug)]
pub struct ServiceView<'a> {
    /// Which service.
    pub id: ServiceId,
    /// Its definition.
    pub spec: &'a Spec,
    /// What is wanted of it.
    pub target: Target,
    /// Whether a generation of it has no verdict yet.
    pub active: bool,
    /// The state's name.
    pub state: &'static str,
    /// Why it is in this state, where there is a why.
    pub detail: String,
    /// How long it has been in this state.
    pub since: Duration,
    /// The main process while it is not reaped.
    pub pid: Option<u32>,
    /// The current generation.
    pub r#gen: Option<GenId>,
    /// Starts so far.
    pub starts: u64,
    /// Processes of all ended generations that the kernel killed for want of memory.
    pub oom_kills: u64,
    /// When that start was wanted, began, and led to its being ready.
    pub asked: Time,
    /// See `asked`; `None`: not yet.
    pub begun: Option<Time>,
    /// See `asked`; `None`: not yet.
    pub ready: Option<Time>,
    /// The service that this start waited for last.
    pub start_waited: Option<&'a str>,
    /// How its last generation ended.
    pub last: Option<&'a Ended>,
    /// Time until the next start, in Backoff.
    pub next_start: Option<Duration>,
    /// How long what it does now may still take: a start until its timeout, a stop until its
    /// next rung; `None` where nothing limits it.
    pub left: Option<Duration>,
    /// The rung of the stop ladder it is on.
    pub rung: Option<&'static str>,
    /// Whether its readiness test failed at least once since it was started.
    pub test_failing: bool,
    /// The receipt of its last end.
    pub receipt: Option<&'a Receipt>,
    /// Whether it is a leftover or a lingering generation beside a forced start.
    pub ghost: bool,
}

impl Supervisor {
    /// The definition of a service, for carrying out an effect that names it.
    pub fn spec(&self, id: ServiceId) -> Option<&Spec> {
        self.services.get(&id).map(|service| &*service.spec)
    }

    /// The name of a service's state; `None`: it is no more.
    pub fn state(&self, id: ServiceId) -> Option<&'static str> {
        self.services.get(&id).map(|service| service.state.as_str())
    }

    /// Whether anything may be kept open for it from one start to the next; once it may not,
    /// [`super::Effect::Close`] has said so.
    pub fn holds(&self, id: ServiceId) -> bool {
        self.services.get(&id).is_some_and(|service| service.holds)
    }

    /// The service a generation belongs to.
    pub fn service_of(&self, r#gen: GenId) -> Option<ServiceId> {
        self.gens.get(&r#gen).copied()
    }

    /// What can be promised here.
    pub fn guarantee(&self) -> Guarantee {
        self.settings.guarantee
    }

    /// Whether a shutdown is under way.
    pub fn shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// When the shutdown under way is to be over; `None`: there is none.
    pub fn ends_by(&self) -> Option<super::Time> {
        self.shutdown.as_ref().map(|shutdown| shutdown.deadline)
    }

    /// Every timer that is set, for invariants and diagnostics.
    pub fn timers(&self) -> impl Iterator<Item = (super::Timer, super::Time)> + '_ {
        self.out.timers.iter()
    }

    /// Every service, in the order of their names; leftovers and set-aside generations follow
    /// the service whose name they bear.
    pub fn views(&self) -> Vec<ServiceView<'_>> {
        let mut views: Vec<ServiceView<'_>> = self
            .services
            .iter()
            .map(|(id, service)| self.view_of(*id, service))
            .collect();
        views.sort_by(|a, b| (&a.spec.name, a.ghost, a.id).cmp(&(&b.spec.name, b.ghost, b.id)));
        views
    }

    /// One configured service.
    pub fn view(&self, name: &str) -> Option<ServiceView<'_>> {
        let id = self.graph.find(name)?;
        self.services
            .get(&id)
            .map(|service| self.view_of(id, service))
    }

    /// The state's name of every service it waits for; `unknown` where there is none.
    pub fn dependency_states(&self, name: &str) -> BTreeMap<String, &'static str> {
        let edges = self.graph.find(name).and_then(|id| self.graph.edges(id));
        let names = edges.into_iter().flat_map(|edges| edges.dependencies());
        names
            .map(|dep| {
                let service = self
                    .graph
                    .primary(dep)
                    .and_then(|id| self.services.get(&id));
                let state = service.map_or("unknown", |service| service.state.as_str());
                (self.graph.name(dep).to_owned(), state)
            })
            .collect()
    }

    fn view_of<'a>(&'a self, id: ServiceId, service: &'a Service) -> ServiceView<'a> {
        let now = self.out.now;
        let (mut pid, mut rung, mut test_failing, mut next_start) = (None, None, false, None);
        let mut detail = String::new();
        let until = match &service.state {
            State::Starting(_) => self.out.timers.when(Timer::StartTimeout(id)),
            State::Stopping(_) => {
                let rung = self.out.timers.when(Timer::Rung(id));
                rung.or(self.out.timers.when(Timer::Proof(id)))
            }
            _ => None,
        };
        match &service.state {
            State::Starting(run) | State::Up(run) => {
                pid = run.main.pid();
                test_failing = run.probe.as_ref().is_some_and(|probe| probe.failures() > 0);
                if let Some(wanted) = service.stop_wanted {
                    let blocker = service.waits_for.and_then(|id| self.services.get(&id));
                    let blocker = blocker.map_or("its dependents", |service| &service.spec.name);
                    detail = format!("{}: waits for {blocker} to stop", wanted.cause.as_str());
                } else if matches!(service.state, State::Starting(_)) {
                    let failure = run.probe.as_deref().map_or("", Probe::last_failure);
                    detail = starting_detail(service, run, failure);
                } else {
                    detail = up_detail(service, run);
                }
            }
            State::Stopping(ladder) | State::Lingering(ladder) => {
                pid = ladder.pid();
                rung = Some(ladder.rung());
                detail = ladder.cause.as_str().into();
            }
            State::Blocked { why } | State::Failed { why } => detail.clone_from(why),
            State::Backoff { until } => next_start = Some(until.since(now)),
            State::Listening { .. } => detail = listening_detail(service),
            State::Down | State::Done => {}
        }
        ServiceView {
            id,
            spec: &service.spec,
            target: service.target,
            active: service.state.active(),
            state: service.state.as_str(),
            detail,
            since: now.since(service.since),
            pid,
            r#gen: service.state.r#gen(),
            starts: service.starts,
            oom_kills: service.oom_kills,
            asked: service.asked,
            begun: service.begun,
            ready: service.up_since,
            start_waited: service.start_waited.map(|name| self.graph.name(name)),
            last: service.last.as_deref(),
            next_start,
            left: until.map(|until| until.since(now)),
            rung,
            test_failing,
            receipt: service.receipt.as_deref(),
            ghost: service.ghost,
        }
    }
}

fn listening_detail(service: &Service) -> String {
    if !service.open {
        return "its sockets are being opened".into();
    }
    let sockets = service.spec.sockets.iter();
    let at: Vec<String> = sockets.map(|socket| socket.at.to_string()).collect();
    format!("starts when somebody connects to {}", at.join(", "))
}

/// What it has to do to be ready, where nothing is looked at.
fn awaited(service: &Service) -> Option<String> {
    match &service.spec.test.as_ref()?.check {
        Check::Notify => Some("send READY=1".into()),
        Check::Fd(fd) => Some(format!("write a newline to descriptor {fd}")),
        Check::LogRegex(regex) => Some(format!("write a line that matches {regex}")),
        _ => None,
    }
}

fn up_detail(service: &Service, run: &Run) -> String {
    let detail = if run.said.ending {
        "ends by itself".into()
    } else if let Some(probe) = run.probe.as_ref().filter(|probe| probe.failures() > 0) {
        let (failures, last) = (probe.failures(), probe.last_failure());
        let most = service
            .spec
            .health
            .as_ref()
            .map_or(0, |health| health.failures);
        format!("its health check failed {failures} of {most} times: {last}")
    } else if run.said.reloading {
        "reloads".into()
    } else if run.remains {
        "what its main process left running".into()
    } else {
        String::new()
    };
    with_status(run, detail)
}

/// And what it says that it does.
fn with_status(run: &Run, detail: String) -> String {
    match (detail.as_str(), run.said.status.as_str()) {
        (_, "") => detail,
        ("", status) => status.into(),
        (detail, status) => format!("{detail}: {status}"),
    }
}

fn starting_detail(service: &Service, run: &Run, last_failure: &str) -> String {
    let by_exit = service.spec.oneshot || (service.spec.remain && !run.remains);
    if !run.execed {
        "about to execute".into()
    } else if by_exit {
        "running".into()
    } else if let Some(awaited) = awaited(service) {
        with_status(run, format!("waits for it to {awaited}"))
    } else if last_failure.is_empty() {
        "its test runs".into()
    } else {
        format!("its test has not passed yet: {last_failure}")
    }
}
