//! Our own methods, and what all of them share: parameters in, a result or an error out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::{Mutex, mpsc, oneshot};

use super::describe::{self, Clocks, Seen};
use super::follow::{self, Shape, Subscribers, Wanted};
use super::http::Http;
use super::session::Session;
use super::{Ask, Gauge, Look, refusal, reload, usage, zinit};
use crate::api::{
    self, Call, Done, ErrorCode, Filter, ListQuery, LogQuery, Named, Parameters, Params, PlanQuery,
    ReceiptQuery, Receipts, Restart, RpcError, ServiceReloaded, Shutdown, ShutdownDone, Start,
    Stop, Subscribed, UsageQuery, method,
};
use crate::core::{Goal, Reply, Request, ShutdownKind, Time};
use crate::logs::Logs;
use crate::sys::clock;

/// What every call needs.
#[derive(Clone, Debug)]
pub struct Context {
    pub(super) asks: mpsc::UnboundedSender<Ask>,
    pub(super) logs: Logs,
    pub(super) gauge: Gauge,
    /// The clients that asked for the end and are still connected.
    attended: Gauge,
    pub(super) http: Http,
    subscribers: Subscribers,
    /// The directory of service files, as a shell's word.
    config_dir: Arc<str>,
    /// When this supervisor began to serve, in nanoseconds on CLOCK_BOOTTIME.
    began: u64,
    /// Held while the service files are brought about.
    pub(super) reloading: Arc<Mutex<()>>,
}

pub(super) type Answer = Result<Value, RpcError>;

/// What a call gives.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) result: Answer,
    /// Begins a subscription once its answer is on its way.
    pub(super) begin: Option<oneshot::Sender<()>>,
}

impl From<Answer> for Outcome {
    fn from(result: Answer) -> Self {
        Outcome {
            result,
            begin: None,
        }
    }
}

/// Whether this is answered at once, perhaps at length. Everything else waits for work, and its
/// answer is short.
pub(super) fn is_question(name: &str) -> bool {
    !matches!(
        name,
        "service_start"
            | "service_stop"
            | "system_shutdown"
            | "system_reboot"
            | "stream_subscribeLogs"
            | method::START
            | method::STOP
            | method::RESTART
            | method::SHUTDOWN
            | method::RELOAD
            | method::RELOAD_SERVICE
            | method::FOLLOW
    )
}

/// Whether this ends the supervisor.
fn ends_everything(name: &str) -> bool {
    matches!(name, "system_shutdown" | "system_reboot" | method::SHUTDOWN)
}

/// Carries out one call.
pub(super) async fn call(context: &Context, session: &Arc<Session>, call: Call) -> Outcome {
    let ends = call.id.is_some() && ends_everything(&call.method);
    let outcome = carry_out(context, session, call).await;
    // Whoever was refused ended nothing: it may stay for as long as it likes.
    if ends && outcome.result.is_ok() {
        session.attend(context.attended.count());
    }
    outcome
}

async fn carry_out(context: &Context, session: &Arc<Session>, call: Call) -> Outcome {
    let wants_answer = call.id.is_some();
    match call.method.as_str() {
        "stream_subscribeLogs" | method::FOLLOW if !wants_answer => {
            // Nobody would know the subscription's number.
            Outcome::from(Ok(Value::Null))
        }
        "stream_subscribeLogs" => match call.params.read() {
            Ok(Filter { name }) => {
                let wanted = Wanted {
                    method: "stream_subscribeLogs",
                    shape: Shape::Line,
                    sources: name.into_iter().collect(),
                    last: 0,
                };
                follow::subscribe(session, &context.subscribers, &context.logs, wanted)
            }
            Err(error) => Outcome::from(Err(error)),
        },
        method::FOLLOW => match follow_query(context, call.params).await {
            Ok(wanted) => follow::subscribe(session, &context.subscribers, &context.logs, wanted),
            Err(error) => Outcome::from(Err(error)),
        },
        "stream_unsubscribeLogs" | method::UNFOLLOW => {
            let ended = call.params.read::<Subscribed>();
            Outcome::from(ended.map(|s| Value::from(session.unsubscribe(s.subscription))))
        }
        name if name.starts_with("nought_") => Outcome::from(own(context, name, call.params).await),
        name => Outcome::from(zinit::call(context, name, call.params).await),
    }
}

/// Our own methods.
async fn own(context: &Context, name: &str, params: Params) -> Answer {
    match name {
        method::INFO => {
            let Nothing {} = params.read()?;
            let mut info = context.ask(Ask::Info).await?;
            info.http = context.http.addresses();
            let uptime = clock::since(context.began).as_millis();
            info.uptime_ms = u64::try_from(uptime).unwrap_or(u64::MAX);
            let token = context.http.token_file();
            info.http_token = token.map_or_else(String::new, |path| path.display().to_string());
            to_value(&info)
        }
        method::LIST => {
            let ListQuery { memory } = params.read()?;
            let look = Look { name: None, memory };
            let seen = context.ask(|answer| Ask::Look(look, answer)).await?;
            let services = seen.into_iter().map(|seen| seen.status).collect();
            to_value(&api::List { services })
        }
        method::STATUS => {
            let Named { name } = params.read()?;
            to_value(&look(context, &name, "status").await?.status)
        }
        method::START => to_value(&start(context, params.read()?).await?),
        method::STOP => to_value(&stop(context, params.read()?).await?),
        method::RESTART => to_value(&restart(context, params.read()?).await?),
        method::RECEIPT => receipts(context, params.read()?).await,
        method::LAST_SHUTDOWN => {
            let Nothing {} = params.read()?;
            let receipts = api::last_shutdown(context.ask(Ask::Courses).await?);
            to_value(&api::LastShutdown { receipts })
        }
        method::SHUTDOWN => shutdown(context, params.read()?).await,
        method::LOG => {
            let query: LogQuery = params.read()?;
            let records = query.records;
            let (sources, last) = sources(context, query).await?;
            let kept = context.logs.kept(&sources, last);
            to_value(&follow::lines(kept.lines.iter(), kept.lost, records))
        }
        method::USAGE => {
            let UsageQuery { name } = params.read()?;
            let services = usages(context, name.as_deref()).await?;
            to_value(&api::Usages { services })
        }
        method::PLAN => plan(context, params.read()?).await,
        method::RELOAD_SERVICE => reload_service(context, params.read()?).await,
        method::RELOAD => to_value(&reload::reload(context, params.read()?).await?),
        unknown => Err(no_method(unknown)),
    }
}

pub(super) fn no_method(name: &str) -> RpcError {
    RpcError::new(
        ErrorCode::MethodNotFound,
        format!("there is no method {name:?}"),
    )
    .hint("`rpc.discover` lists those there are")
}

#[derive(serde::Deserialize)]
pub(super) struct Nothing {}

impl Parameters for Nothing {
    const NAMES: &'static [&'static str] = &[];
}

impl Context {
    /// What calls need: the way to the loop, the logs, what counts answers on their way, where
    /// HTTP is served, and where the service files are.
    pub fn new(
        asks: mpsc::UnboundedSender<Ask>,
        logs: Logs,
        gauge: Gauge,
        http: Http,
        config_dir: &Path,
    ) -> Self {
        Context {
            config_dir: refusal::word(&config_dir.display().to_string()).into(),
            asks,
            logs,
            gauge,
            attended: Gauge::default(),
            http,
            subscribers: Subscribers::default(),
            reloading: Arc::default(),
            began: clock::boot_now(),
        }
    }

    /// Waits until whoever asked for the end has closed its connection: it has read the answer
    /// then, and said what it has to say. The caller bounds it.
    pub async fn farewell(&self) {
        self.attended.idle().await;
    }

    /// Hints that name the service files say which.
    pub(super) fn locate(&self, error: RpcError) -> RpcError {
        refusal::locate(error, &self.config_dir)
    }

    pub(super) async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<T>) -> Ask,
    ) -> Result<T, RpcError> {
        let (sender, answer) = oneshot::channel();
        // The loop drops the sender unanswered only when it ends.
        let gone = |_| {
            RpcError::new(ErrorCode::ShuttingDown, "the supervisor has ended")
                .hint("start it again: it finds what is left, and what was asked for may be done")
        };
        self.asks.send(ask(sender)).map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))
    }

    pub(super) async fn request(&self, request: Request) -> Result<Reply, RpcError> {
        self.ask(|answer| Ask::Do(request, answer)).await
    }
}

pub(super) fn to_value<T: serde::Serialize>(result: &T) -> Answer {
    serde_json::to_value(result).map_err(|error| {
        RpcError::new(
            ErrorCode::InternalError,
            format!("failed to write the answer: {error}"),
        )
        .hint("report that as a bug; what was asked for is done")
    })
}

pub(super) fn clocks() -> Clocks {
    Clocks {
        boot: Time::from_nanos(clock::boot_now()),
        wall_ms: clock::wall_now_ms(),
    }
}

pub(super) async fn look(context: &Context, name: &str, action: &str) -> Result<Seen, RpcError> {
    let look = Look {
        name: Some(name.to_owned()),
        memory: true,
    };
    let seen = context.ask(|answer| Ask::Look(look, answer)).await?;
    seen.into_iter()
        .find(|seen| !seen.ghost)
        .ok_or_else(|| refusal::not_found(name, action))
}

pub(super) async fn start(context: &Context, start: Start) -> Result<Done, RpcError> {
    let Start { name, wait, force } = start;
    let request = Request::Start {
        service: name.clone(),
        wait,
        force,
    };
    done(context, name, "start", request).await
}

async fn restart(context: &Context, restart: Restart) -> Result<Done, RpcError> {
    let Restart { name, wait } = restart;
    let request = Request::Restart {
        service: name.clone(),
        wait,
    };
    done(context, name, "restart", request).await
}

pub(super) async fn stop(context: &Context, stop: Stop) -> Result<Done, RpcError> {
    let Stop {
        name,
        force,
        with_dependents,
    } = stop;
    let service = name.clone();
    let request = if with_dependents {
        Request::StopWithDependents { service, force }
    } else {
        Request::Stop { service, force }
    };
    done(context, name, "stop", request).await
}

async fn done(
    context: &Context,
    service: String,
    action: &str,
    request: Request,
) -> Result<Done, RpcError> {
    let mut done = Done {
        service,
        ..Done::default()
    };
    match context.request(request).await? {
        Reply::Reached { state } => done.state = describe::state(state),
        Reply::AlreadyDown => {
            done.state = api::ServiceState::Down;
            done.already_down = true;
        }
        Reply::Stopped(receipt) => {
            done.state = api::ServiceState::Down;
            done.receipt = Some(describe::receipt(&receipt, clocks()));
        }
        Reply::Accepted | Reply::ShutDown { .. } | Reply::Reloaded { .. } => {
            done.state = look(context, &done.service, action).await?.status.state;
        }
        Reply::Error(error) => return Err(refusal::error(error, action, clocks())),
    }
    Ok(done)
}

/// Has a service read its own configuration again.
async fn reload_service(context: &Context, Named { name }: Named) -> Answer {
    let service = name.clone();
    match context.request(Request::Reload { service }).await? {
        Reply::Error(error) => Err(refusal::error(error, "reload", clocks())),
        reply => to_value(&ServiceReloaded {
            service: name,
            done: matches!(reply, Reply::Reloaded { done: true }),
        }),
    }
}

async fn receipts(context: &Context, query: ReceiptQuery) -> Answer {
    let last = usize::try_from(query.last).unwrap_or(usize::MAX);
    let lines = context
        .ask(|answer| Ask::Receipts(query.name.clone(), last, answer))
        .await?;
    let lines = lines.ok_or_else(|| refusal::not_found(&query.name, "receipt"))?;
    // What an earlier version or a torn write left unreadable is not a receipt.
    let receipts = lines
        .iter()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    to_value(&Receipts { receipts })
}

async fn shutdown(context: &Context, shutdown: Shutdown) -> Answer {
    let kind = match shutdown.kind {
        api::ShutdownKind::PowerOff => ShutdownKind::PowerOff,
        api::ShutdownKind::Reboot => ShutdownKind::Reboot,
        api::ShutdownKind::Halt => ShutdownKind::Halt,
        api::ShutdownKind::Kexec => ShutdownKind::Kexec,
    };
    let began = clocks().boot;
    match context.request(Request::Shutdown { kind }).await? {
        Reply::ShutDown {
            lingering,
            unverified,
        } => {
            let elapsed = clocks().boot.since(began);
            let elapsed_ms = describe::millis_f64(elapsed);
            to_value(&ShutdownDone {
                lingering,
                unverified,
                elapsed_ms,
            })
        }
        Reply::Error(error) => Err(refusal::error(error, "shut down", clocks())),
        _ => Ok(Value::Null),
    }
}

/// Which sources are asked for, and how many lines. A service that is not there is an error, a
/// source of one that is may have said nothing yet.
async fn sources(context: &Context, query: LogQuery) -> Result<(Vec<String>, usize), RpcError> {
    let LogQuery {
        name, lines, names, ..
    } = query;
    let sources: Vec<String> = name.into_iter().chain(names).collect();
    for source in &sources {
        // Sources of their own; whatever else has a slash is no name.
        let parts = source.split_once('/');
        let service = match parts {
            Some((service, "test" | "health" | "stop" | "reload")) if !service.is_empty() => {
                service
            }
            Some(_) => return Err(refusal::no_source(source)),
            None => source,
        };
        look(context, service, "log").await?;
    }
    let last = lines.and_then(|n| usize::try_from(n).ok());
    Ok((sources, last.unwrap_or(usize::MAX)))
}

async fn follow_query(context: &Context, params: Params) -> Result<Wanted, RpcError> {
    let query: LogQuery = params.read()?;
    let shape = match query.records {
        true => Shape::Records,
        false => Shape::Lines,
    };
    let (sources, last) = sources(context, query).await?;
    Ok(Wanted {
        method: method::FOLLOW,
        shape,
        sources,
        last,
    })
}

pub(super) async fn usages(
    context: &Context,
    name: Option<&str>,
) -> Result<Vec<api::Usage>, RpcError> {
    let named = name.map(str::to_owned);
    let used = context.ask(|answer| Ask::Use(named, answer)).await?;
    match name {
        Some(name) if used.is_empty() => Err(refusal::not_found(name, "stats")),
        _ => Ok(used
            .into_iter()
            .map(|(seen, used)| usage::usage(seen, &used))
            .collect()),
    }
}

async fn plan(context: &Context, query: PlanQuery) -> Answer {
    let PlanQuery {
        name,
        with_dependents,
        deadline_ms,
    } = query;
    if name.is_some() && deadline_ms.is_some() {
        return Err(RpcError::new(
            ErrorCode::InvalidParams,
            "failed to plan the stop of one service within a deadline: only a shutdown has one",
        )
        .hint("leave out either `name` or `deadline_ms`"));
    }
    let goal = match name.clone() {
        None => Goal::Shutdown {
            deadline: deadline_ms.map(Duration::from_millis),
        },
        Some(service) => Goal::Stop {
            service,
            with_dependents,
        },
    };
    let plan = context.ask(|answer| Ask::Plan(goal, answer)).await?;
    let name = name.unwrap_or_default();
    let plan = plan.ok_or_else(|| refusal::not_found(&name, "plan"))?;
    to_value(&describe::plan(&plan))
}
