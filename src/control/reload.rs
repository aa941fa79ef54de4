//! The service files are read again, and what changed is brought about.
//!
//! All files are sound, or nothing changes. Then in this order, so that at no moment anything
//! runs in an order that neither the old nor the new files give: what is taken out or has to
//! start anew goes down, with proof; what is gone is taken out; what stays takes over its new
//! definition, in one step; what is new is taken in; what went down for it comes up. A service
//! of which somebody lives on keeps its old definition, and is named.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use super::methods::Context;
use super::{Definition, refusal};
use crate::api::{Change, Changed, ErrorCode, Reload, Reloaded, RpcError};
use crate::core::{Reply, Request, RequestError, Spec, Verdict};

/// One service that changes.
struct Step {
    service: String,
    change: Change,
    keys: Vec<&'static str>,
    /// What it is from now on; none: taken out.
    new: Option<Spec>,
    /// Somebody wants it up.
    wanted: bool,
    failed: Option<String>,
}

/// Carries it out although the client may go away.
///
/// # Errors
/// ConfigError: not all files are sound, or there are none any more; nothing was changed then.
/// Refused: another reload is under way. ShuttingDown.
pub(super) async fn reload(context: &Context, asked: Reload) -> Result<Reloaded, RpcError> {
    let Ok(turn) = context.reloading.clone().try_lock_owned() else {
        let error = RpcError::new(
            ErrorCode::Refused,
            "failed to reload: another reload is under way",
        );
        return Err(error.retryable().hint("try again when it is done"));
    };
    let own = context.clone();
    let task = tokio::spawn(async move {
        let done = carry_out(&own, asked).await;
        drop(turn);
        done
    });
    let broken = |error| {
        let message = format!("failed to reload: {error}");
        let error = RpcError::new(ErrorCode::InternalError, message);
        Err(error.hint("its own log says where: report that as a bug, and reload again"))
    };
    task.await.unwrap_or_else(broken)
}

/// The same, as the supervisor itself asks for it.
///
/// # Errors
/// As those of the method.
pub async fn from_within(context: &Context) -> Result<Reloaded, RpcError> {
    reload(context, Reload { dry_run: false }).await
}

async fn carry_out(context: &Context, asked: Reload) -> Result<Reloaded, RpcError> {
    let files = context.ask(super::Ask::ReadSpecs).await?;
    let files = files.map_err(refusal::files)?;
    let loaded = context.ask(super::Ask::Definitions).await?;
    if files.specs.is_empty() && !loaded.is_empty() {
        let message = "failed to reload: there is no service file any more";
        return Err(RpcError::new(ErrorCode::ConfigError, message)
            .hint("is the directory mounted? To stop everything: `nought shutdown`"));
    }
    let total = files.specs.len();
    let mut steps = plan(loaded, files.specs);
    let stays = |step: &&Step| step.new.is_some();
    let untouched = total - steps.iter().filter(stays).count();
    if !asked.dry_run && !steps.is_empty() {
        announce(&steps, untouched);
        stop(context, &mut steps).await?;
        forget(context, &mut steps).await?;
        amend(context, &mut steps).await?;
        take_in(context, &mut steps).await?;
        start(context, &mut steps).await?;
    }
    let changes = steps.into_iter().map(|step| Changed {
        service: step.service,
        change: step.change,
        keys: step.keys.into_iter().map(str::to_owned).collect(),
        failed: step.failed,
    });
    Ok(Reloaded {
        dry_run: asked.dry_run,
        changes: changes.collect(),
        untouched,
        warnings: files.warnings,
    })
}

/// What changes, by name.
fn plan(loaded: Vec<Definition>, files: Vec<Spec>) -> Vec<Step> {
    let mut new: BTreeMap<String, Spec> = files
        .into_iter()
        .map(|spec| (spec.name.clone(), spec))
        .collect();
    let mut steps = Vec::new();
    for old in loaded {
        let service = old.spec.name.clone();
        let Some(spec) = new.remove(&service) else {
            steps.push(Step {
                service,
                change: Change::Remove,
                keys: Vec::new(),
                new: None,
                wanted: false,
                failed: None,
            });
            continue;
        };
        let differences = old.spec.differences(&spec);
        if differences.is_empty() {
            continue;
        }
        let at_start = differences.iter().any(|difference| difference.at_start);
        let change = match old.state {
            _ if old.active && at_start => Change::Restart,
            "failed" | "backoff" if old.wanted => Change::Start,
            _ => Change::Amend,
        };
        steps.push(Step {
            service,
            change,
            keys: differences
                .iter()
                .map(|difference| difference.key)
                .collect(),
            new: Some(spec),
            wanted: old.wanted,
            failed: None,
        });
    }
    steps.extend(new.into_iter().map(|(service, spec)| Step {
        service,
        change: Change::Add,
        keys: Vec::new(),
        new: Some(spec),
        wanted: true,
        failed: None,
    }));
    steps.sort_by(|a, b| a.service.cmp(&b.service));
    steps
}

fn announce(steps: &[Step], untouched: usize) {
    for step in steps {
        let service = &step.service;
        let keys = step.keys.join(", ");
        match step.change {
            Change::Add => tracing::info!("{service}: its file is new"),
            Change::Remove => tracing::info!("{service}: its file is gone, it is taken out"),
            Change::Restart => tracing::info!("{service}: restarts because of {keys}"),
            Change::Start => tracing::info!("{service}: starts, changed: {keys}"),
            Change::Amend => tracing::info!("{service}: takes over {keys}"),
        }
    }
    let changed = steps.len();
    tracing::info!("reload: {changed} service(s) change, {untouched} stay as they are");
}

/// What has to go down goes down, all at once: the graph orders it.
async fn stop(context: &Context, steps: &mut [Step]) -> Result<(), RpcError> {
    let mut stops = JoinSet::new();
    for (n, step) in steps.iter().enumerate() {
        if matches!(step.change, Change::Remove | Change::Restart) {
            let (context, service) = (context.clone(), step.service.clone());
            let comes_back = step.change == Change::Restart && step.wanted;
            // Whoever connects to it meanwhile is not refused.
            let stop = match comes_back {
                true => Request::StopToAmend { service },
                false => Request::Stop {
                    service,
                    force: false,
                },
            };
            stops.spawn(async move { (n, context.request(stop).await) });
        }
    }
    while let Some(done) = stops.join_next().await {
        let Ok((n, reply)) = done else { continue };
        let Some(step) = steps.get_mut(n) else {
            continue;
        };
        match reply? {
            Reply::Error(error) => step.failed = Some(why(error)),
            Reply::Stopped(receipt) if receipt.verdict == Verdict::Lingering => {
                step.failed = Some("it lingers".into());
            }
            _ => {}
        }
    }
    Ok(())
}

async fn forget(context: &Context, steps: &mut [Step]) -> Result<(), RpcError> {
    for step in steps.iter_mut().filter(|step| step.failed.is_none()) {
        if step.change == Change::Remove {
            let service = step.service.clone();
            match context.request(Request::Forget { service }).await? {
                Reply::Error(error) => step.failed = Some(why(error)),
                _ => context.logs.forget(&step.service),
            }
        }
    }
    Ok(())
}

/// Those that stay take over their definitions, in one step.
async fn amend(context: &Context, steps: &mut [Step]) -> Result<(), RpcError> {
    let stays = |step: &&mut Step| {
        let stays = matches!(step.change, Change::Restart | Change::Start | Change::Amend);
        stays && step.failed.is_none()
    };
    let mut staying: Vec<&mut Step> = steps.iter_mut().filter(stays).collect();
    let specs: Vec<Spec> = staying.iter().filter_map(|step| step.new.clone()).collect();
    if specs.is_empty() {
        return Ok(());
    }
    if let Reply::Error(error) = context.request(Request::Amend { specs }).await? {
        let why = why(error);
        for step in &mut staying {
            step.failed = Some(why.clone());
        }
    }
    Ok(())
}

async fn take_in(context: &Context, steps: &mut [Step]) -> Result<(), RpcError> {
    for step in steps.iter_mut().filter(|step| step.change == Change::Add) {
        if let Some(spec) = step.new.take() {
            let spec = Box::new(spec);
            if let Reply::Error(error) = context.request(Request::Load { spec }).await? {
                step.failed = Some(why(error));
            }
        }
    }
    Ok(())
}

/// What went down for its new definition comes up, also by its old one if that did not come
/// about.
async fn start(context: &Context, steps: &mut [Step]) -> Result<(), RpcError> {
    for step in steps.iter_mut() {
        if step.wanted && matches!(step.change, Change::Restart | Change::Start) {
            let service = step.service.clone();
            let (wait, force) = (false, false);
            let start = Request::Start {
                service,
                wait,
                force,
            };
            if let Reply::Error(error) = context.request(start).await? {
                step.failed.get_or_insert_with(|| why(error));
            }
        }
    }
    Ok(())
}

fn why(error: RequestError) -> String {
    match error {
        RequestError::Lingering(_) => "somebody of it lives on: see its receipt".into(),
        RequestError::DependentLingers(receipt) => {
            format!("{}, which requires it, lingers", receipt.service)
        }
        RequestError::Cycle { cycle, .. } => format!("a dependency cycle: {cycle}"),
        RequestError::Refused { why, .. }
        | RequestError::NotReloaded { why, .. }
        | RequestError::Blocked { why, .. }
        | RequestError::Failed { why, .. } => why,
        RequestError::Superseded { .. } => "somebody asked for the opposite meanwhile".into(),
        RequestError::ShuttingDown => "a shutdown is under way".into(),
        RequestError::NotFound { .. } => "it was taken out meanwhile".into(),
        RequestError::AlreadyLoaded { .. } => "it was taken in meanwhile".into(),
        RequestError::IsUp { state, .. } => format!("it is {state}: it was started meanwhile"),
    }
}
