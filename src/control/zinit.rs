//! zinit's methods.

use serde_json::Value;

use super::methods::{self, Answer, Context, Nothing, clocks, look, no_method, to_value, usages};
use super::{Ask, KillError, Look, refusal, usage};
use crate::api::{
    self, Create, ErrorCode, Filter, Kill, Named, Params, RpcError, Start, StartHttp, Stop,
};
use crate::core::{Reply, Request, RequestError, ShutdownKind, Signal};

/// Carries out one of zinit's methods.
pub(super) async fn call(context: &Context, name: &str, params: Params) -> Answer {
    match name {
        "rpc.discover" | "rpc_discover" => {
            let Nothing {} = params.read()?;
            Ok(Value::from(api::openrpc().to_string()))
        }
        "service_list" => {
            let Nothing {} = params.read()?;
            service_list(context).await
        }
        "service_status" => {
            let Named { name } = params.read()?;
            to_value(&look(context, &name, "status").await?.zinit)
        }
        "service_start" => {
            let Named { name } = params.read()?;
            let (wait, force) = (false, false);
            let start = Start { name, wait, force };
            methods::start(context, start).await.map(|_| Value::Null)
        }
        "service_stop" => {
            let Named { name } = params.read()?;
            let (force, with_dependents) = (false, false);
            let stop = Stop {
                name,
                force,
                with_dependents,
            };
            methods::stop(context, stop).await.map(|_| Value::Null)
        }
        "service_monitor" => monitor(context, params.read()?).await,
        "service_forget" => {
            let Named { name: service } = params.read()?;
            let forget = Request::Forget {
                service: service.clone(),
            };
            let done = accepted(context, "forget", forget).await?;
            context.logs.forget(&service);
            Ok(done)
        }
        "service_kill" => kill(context, params.read()?).await,
        "service_create" => create(context, params.read()?).await,
        "service_delete" => {
            let Named { name } = params.read()?;
            let deleted = context
                .ask(|answer| Ask::DeleteFile(name.clone(), answer))
                .await?;
            deleted.map_err(|error| refusal::file(error, &name, "delete"))?;
            Ok(format!("Service '{name}' deleted successfully").into())
        }
        "service_get" => {
            let Named { name } = params.read()?;
            let held = context
                .ask(|answer| Ask::ReadFile(name.clone(), answer))
                .await?;
            held.map_err(|error| refusal::file(error, &name, "get"))
        }
        "service_stats" => {
            let Named { name } = params.read()?;
            match &usages(context, Some(&name)).await?[..] {
                [usage, ..] if !usage.processes.is_empty() => to_value(&usage::zinit(usage)),
                [usage, ..] => Err(refusal::no_stats(&name, usage.status.state.as_str())),
                [] => Err(refusal::not_found(&name, "stats")),
            }
        }
        "system_shutdown" => zinit_shutdown(context, params, ShutdownKind::PowerOff).await,
        "system_reboot" => zinit_shutdown(context, params, ShutdownKind::Reboot).await,
        "system_start_http_server" => {
            let StartHttp { address } = params.read()?;
            context.http.start(&address, context).map(Value::from)
        }
        "system_stop_http_server" => {
            let Nothing {} = params.read()?;
            context.http.stop().await.map(|()| Value::Null)
        }
        "stream_currentLogs" => {
            let Filter { name } = params.read()?;
            let sources: Vec<String> = name.into_iter().collect();
            let kept = context.logs.kept(&sources, usize::MAX);
            Ok(kept
                .lines
                .iter()
                .map(|line| Value::from(line.to_string()))
                .collect())
        }
        unknown => Err(no_method(unknown)),
    }
}

async fn service_list(context: &Context) -> Answer {
    let look = Look::default();
    let seen = context.ask(|answer| Ask::Look(look, answer)).await?;
    let states = seen.into_iter().filter(|seen| !seen.ghost);
    let states: api::ZinitStates = states.map(|s| (s.zinit.name, s.zinit.state)).collect();
    to_value(&states)
}

async fn zinit_shutdown(context: &Context, params: Params, kind: ShutdownKind) -> Answer {
    let Nothing {} = params.read()?;
    match context.request(Request::Shutdown { kind }).await? {
        Reply::Error(error) => Err(refusal::error(error, "shut down", clocks())),
        _ => Ok(Value::Null),
    }
}

/// A request that is done as soon as it is accepted.
async fn accepted(context: &Context, action: &str, request: Request) -> Answer {
    match context.request(request).await? {
        Reply::Error(error) => Err(refusal::error(error, action, clocks())),
        _ => Ok(Value::Null),
    }
}

async fn monitor(context: &Context, named: Named) -> Answer {
    let Named { name } = named;
    let look = Look {
        name: Some(name.clone()),
        memory: false,
    };
    // What is there already need not have a sound file.
    if context
        .ask(|answer| Ask::Look(look, answer))
        .await?
        .iter()
        .any(|seen| !seen.ghost)
    {
        let error = RequestError::AlreadyLoaded { service: name };
        return Err(refusal::error(error, "monitor", clocks()));
    }
    let spec = context
        .ask(|answer| Ask::ReadSpec(name.clone(), answer))
        .await?;
    let spec = spec.map_err(|error| refusal::file(error, &name, "monitor"))?;
    let spec = Box::new(spec);
    accepted(context, "monitor", Request::Load { spec }).await
}

async fn kill(context: &Context, kill: Kill) -> Answer {
    let Kill { name, signal } = kill;
    let Some(parsed) = Signal::parse(&signal) else {
        return Err(refusal::bad_signal(&name, &signal));
    };
    let sent = context
        .ask(|answer| Ask::Kill(name.clone(), parsed, answer))
        .await?;
    match sent {
        Ok(()) => Ok(Value::Null),
        Err(KillError::NotFound) => Err(refusal::not_found(&name, "signal")),
        Err(KillError::Down(state)) => Err(refusal::down(&name, "signal", state)),
        Err(KillError::Failed(why)) => {
            let message = format!("failed to signal {name}");
            let error = RpcError::new(ErrorCode::InternalError, message);
            let hint =
                format!("see who runs it: `nought status {name}`; may the supervisor signal it?");
            Err(error.about(&name, "signal").because(why).hint(hint))
        }
    }
}

async fn create(context: &Context, create: Create) -> Answer {
    let Create { name, content } = create;
    let written = context
        .ask(|answer| Ask::CreateFile(name.clone(), content, answer))
        .await?;
    written.map_err(|error| refusal::file(error, &name, "create"))?;
    Ok(format!("Service '{name}' created successfully").into())
}
