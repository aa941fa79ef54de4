//! The methods: parameters in, a result or an error out.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::describe::{self, Clocks, Seen};
use super::{Ask, Gauge, refusal};
use crate::api::{
    self, Call, Done, ErrorCode, LogLines, LogQuery, Named, Parameters, Params, ReceiptQuery,
    Receipts, Restart, RpcError, Shutdown, ShutdownDone, Start, Stop, method,
};
use crate::core::{Reply, Request, ShutdownKind, Time};
use crate::logs::Logs;
use crate::sys::clock;

/// What every call needs.
#[derive(Clone, Debug)]
pub(super) struct Context {
    pub(super) asks: mpsc::UnboundedSender<Ask>,
    pub(super) logs: Logs,
    pub(super) gauge: Gauge,
}

type Answer = Result<Value, RpcError>;

/// Carries out one call.
pub(super) async fn call(context: &Context, call: Call) -> Answer {
    let params = call.params;
    match call.method.as_str() {
        "service_list" => service_list(context).await,
        "service_status" => service_status(context, params.read()?).await,
        "service_start" => {
            let Named { name } = params.read()?;
            start(
                context,
                Start {
                    name,
                    wait: false,
                    force: false,
                },
            )
            .await
            .map(|_| Value::Null)
        }
        "service_stop" => {
            let Named { name } = params.read()?;
            stop(context, Stop { name, force: false })
                .await
                .map(|_| Value::Null)
        }
        "system_shutdown" => zinit_shutdown(context, params, ShutdownKind::PowerOff).await,
        "system_reboot" => zinit_shutdown(context, params, ShutdownKind::Reboot).await,
        method::INFO => {
            let Nothing {} = params.read()?;
            to_value(&context.ask(Ask::Info).await?)
        }
        method::LIST => {
            let Nothing {} = params.read()?;
            let seen = context.ask(|answer| Ask::Look(None, answer)).await?;
            let services = seen.into_iter().map(|seen| seen.status).collect();
            to_value(&api::List { services })
        }
        method::STATUS => {
            let Named { name } = params.read()?;
            to_value(&look(context, &name, "show").await?.status)
        }
        method::START => to_value(&start(context, params.read()?).await?),
        method::STOP => to_value(&stop(context, params.read()?).await?),
        method::RESTART => to_value(&restart(context, params.read()?).await?),
        method::RECEIPT => receipts(context, params.read()?).await,
        method::SHUTDOWN => shutdown(context, params.read()?).await,
        method::LOG => log(context, params.read()?).await,
        unknown => Err(RpcError::new(
            ErrorCode::MethodNotFound,
            format!("there is no method {unknown:?}"),
        )),
    }
}

#[derive(serde::Deserialize)]
struct Nothing {}

impl Parameters for Nothing {
    const NAMES: &'static [&'static str] = &[];
}

impl Context {
    async fn ask<T>(&self, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, RpcError> {
        let (sender, answer) = oneshot::channel();
        // The loop drops the sender unanswered only when it ends.
        let gone = |_| RpcError::new(ErrorCode::ShuttingDown, "the supervisor has ended");
        self.asks.send(ask(sender)).map_err(|_| gone(()))?;
        answer.await.map_err(|_| gone(()))
    }

    async fn request(&self, request: Request) -> Result<Reply, RpcError> {
        self.ask(|answer| Ask::Do(request, answer)).await
    }
}

fn to_value<T: serde::Serialize>(result: &T) -> Answer {
    serde_json::to_value(result).map_err(|error| {
        RpcError::new(
            ErrorCode::InternalError,
            format!("failed to write the answer: {error}"),
        )
    })
}

fn clocks() -> Clocks {
    Clocks {
        boot: Time::from_nanos(clock::boot_now()),
        wall_ms: clock::wall_now_ms(),
    }
}

async fn look(context: &Context, name: &str, action: &str) -> Result<Seen, RpcError> {
    let named = name.to_owned();
    let seen = context.ask(|answer| Ask::Look(Some(named), answer)).await?;
    seen.into_iter()
        .find(|seen| !seen.ghost)
        .ok_or_else(|| refusal::not_found(name, action))
}

async fn service_list(context: &Context) -> Answer {
    let seen = context.ask(|answer| Ask::Look(None, answer)).await?;
    let states = seen.into_iter().filter(|seen| !seen.ghost);
    let states: api::ZinitStates = states.map(|s| (s.zinit.name, s.zinit.state)).collect();
    to_value(&states)
}

async fn service_status(context: &Context, named: Named) -> Answer {
    to_value(&look(context, &named.name, "show").await?.zinit)
}

async fn start(context: &Context, start: Start) -> Result<Done, RpcError> {
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

async fn stop(context: &Context, stop: Stop) -> Result<Done, RpcError> {
    let Stop { name, force } = stop;
    let request = Request::Stop {
        service: name.clone(),
        force,
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
        Reply::Accepted | Reply::ShutDown { .. } => {
            done.state = look(context, &done.service, action).await?.status.state;
        }
        Reply::Error(error) => return Err(refusal::error(error, action, clocks())),
    }
    Ok(done)
}

async fn receipts(context: &Context, query: ReceiptQuery) -> Answer {
    let last = usize::try_from(query.last).unwrap_or(usize::MAX);
    let lines = context
        .ask(|answer| Ask::Receipts(query.name.clone(), last, answer))
        .await?;
    let lines = lines.ok_or_else(|| refusal::not_found(&query.name, "show the receipts of"))?;
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

async fn zinit_shutdown(context: &Context, params: Params, kind: ShutdownKind) -> Answer {
    let Nothing {} = params.read()?;
    match context.request(Request::Shutdown { kind }).await? {
        Reply::Error(error) => Err(refusal::error(error, "shut down", clocks())),
        _ => Ok(Value::Null),
    }
}

async fn log(context: &Context, query: LogQuery) -> Answer {
    if let Some(name) = &query.name {
        // `NAME/test` and `NAME/stop` are sources of their own.
        let service = name.split('/').next().unwrap_or(name);
        look(context, service, "show the log of").await?;
    }
    let last = query
        .lines
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX);
    let lines = context.logs.snapshot(query.name.as_deref(), last);
    let lines = lines.iter().map(ToString::to_string).collect();
    let lost = query
        .name
        .as_deref()
        .map_or(0, |name| context.logs.lost(name));
    to_value(&LogLines { lines, lost })
}
