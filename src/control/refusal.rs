//! Why the core refused, as the error a client gets: what was wanted, why not, what to do next.

use super::FileError;
use super::describe::{self, Clocks};
use crate::api::{ErrorCode, RpcError};
use crate::core::RequestError;

/// The error that answers `action` on a service.
pub(super) fn error(error: RequestError, action: &str, clocks: Clocks) -> RpcError {
    match error {
        RequestError::NotFound { service } => not_found(&service, action),
        RequestError::AlreadyLoaded { service } => RpcError::new(
            ErrorCode::ServiceAlreadyMonitored,
            format!("{service} is monitored already"),
        )
        .about(&service, action)
        .hint(format!(
            "to take in its changed file: `nought stop {service}`, `nought forget {service}`, \
             `nought monitor {service}`"
        )),
        RequestError::IsUp { service, state } => RpcError::new(
            ErrorCode::ServiceIsUp,
            format!("failed to {action} {service}: it is {state}"),
        )
        .about(&service, action)
        .hint(format!("stop it first: `nought stop {service}`")),
        RequestError::Cycle { service, cycle } => RpcError::new(
            ErrorCode::ConfigError,
            format!("failed to {action} {service}: it would close a dependency cycle"),
        )
        .about(service, action)
        .because(cycle)
        .hint("take one of these names out of an `after` or `requires`"),
        RequestError::ShuttingDown => RpcError::new(
            ErrorCode::ShuttingDown,
            format!("failed to {action}: a shutdown is under way"),
        )
        .doing(action)
        .hint("nothing is started any more; start the supervisor again when it has ended"),
        RequestError::Lingering(receipt) => {
            let receipt = describe::receipt(&receipt, clocks);
            let pids: Vec<String> = receipt
                .survivors
                .iter()
                .map(|s| s.pid.to_string())
                .collect();
            let service = receipt.service.clone();
            let message = format!("{service} lingers: {} process(es) survive", pids.len());
            RpcError::new(ErrorCode::Lingering, message)
                .about(&service, action)
                .because(receipt.reason.clone().unwrap_or_default())
                .hint(format!(
                    "see `nought receipt {service}` for what holds {}; it turns verified by itself \
                     when they end; `nought start --force {service}` starts beside them",
                    pids.join(", ")
                ))
                .receipt(receipt)
        }
        RequestError::DependentLingers(receipt) => {
            let receipt = describe::receipt(&receipt, clocks);
            let dependent = receipt.service.clone();
            let message =
                format!("{dependent}, which requires it, lingers, so it was left running");
            RpcError::new(ErrorCode::DependentLingers, message)
                .about(&dependent, action)
                .hint("`--force` stops it all the same")
                .receipt(receipt)
        }
        RequestError::Refused { service, why } => RpcError::new(
            ErrorCode::Refused,
            format!("failed to {action} {service}: {why}"),
        )
        .about(service, action)
        .hint("mend the files' `after` and `requires`; then stop, forget and monitor them"),
        RequestError::NotReloaded { service, why, hint } => RpcError::new(
            ErrorCode::Refused,
            format!("failed to {action} {service}: {why}"),
        )
        .about(service, action)
        .hint(hint),
        RequestError::Blocked { service, why } => {
            RpcError::new(ErrorCode::Blocked, format!("{service} is blocked: {why}"))
                .about(&service, action)
                .hint(format!(
                    "it starts by itself when that is there; see `nought status {service}`"
                ))
        }
        RequestError::Failed { service, why } => {
            RpcError::new(ErrorCode::Failed, format!("{service} failed: {why}"))
                .about(&service, action)
                .hint(format!("see `nought log {service}`"))
        }
        RequestError::Superseded { service } => {
            let message =
                format!("failed to {action} {service}: a later request asked for the opposite");
            RpcError::new(ErrorCode::Superseded, message)
                .about(&service, action)
                .hint(format!(
                    "`nought status {service}` shows what it is now; ask again if you still want it"
                ))
        }
    }
}

/// There is no such service.
pub(super) fn not_found(service: &str, action: &str) -> RpcError {
    RpcError::new(
        ErrorCode::ServiceNotFound,
        format!("there is no service {service:?}"),
    )
    .about(service, action)
    .hint(
        "`nought list` shows those there are; `nought monitor` takes one in whose file is new, \
         `nought check` says what is wrong with it",
    )
}

/// No log has this name.
pub(super) fn no_source(source: &str) -> RpcError {
    RpcError::new(
        ErrorCode::ServiceNotFound,
        format!("there is no log of {source:?}"),
    )
    .about(source, "log")
    .hint(
        "a log is a service's, NAME, or its NAME/test, NAME/health, NAME/stop or NAME/reload; \
         `nought list` shows the services",
    )
}

/// What hints call the check of the service files.
const CHECK: &str = "`nought check`";

/// Says in its hint which directory is checked.
pub(super) fn locate(mut error: RpcError, dir: &str) -> RpcError {
    if let Some(data) = &mut error.data
        && let Some(hint) = &mut data.hint
    {
        *hint = hint.replace(CHECK, &format!("`nought check -c {dir}`"));
    }
    error
}

/// As a shell reads it as one word.
pub(super) fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "/._-+:@%,=".contains(c);
    match text {
        "" => "''".into(),
        text if text.chars().all(plain) => text.into(),
        text => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// It has no main process, or none that is known yet.
pub(super) fn down(service: &str, action: &str, state: &str) -> RpcError {
    let error = RpcError::new(
        ErrorCode::ServiceIsDown,
        format!("failed to {action} {service}: it has no main process, it is {state}"),
    )
    .about(service, action);
    if state == "starting" {
        return error.retryable().hint("it is about to have one: try again");
    }
    error.hint(format!("start it first: `nought start {service}`"))
}

/// Nothing of it runs that could use anything.
pub(super) fn no_stats(service: &str, state: &str) -> RpcError {
    RpcError::new(
        ErrorCode::ServiceIsDown,
        format!("{service} has no stats: no process of it runs, it is {state}"),
    )
    .about(service, "stats")
    .hint(format!("`nought why {service}` says what it waits for"))
}

/// There is no such signal.
pub(super) fn bad_signal(service: &str, signal: &str) -> RpcError {
    RpcError::new(
        ErrorCode::InvalidSignal,
        format!("failed to signal {service}: there is no signal {signal:?}"),
    )
    .about(service, "signal")
    .hint("give a name such as SIGHUP, hup or RTMIN+1, or a number from 1 to 64")
}

/// The files are not all sound.
pub(super) fn files(problems: Vec<String>) -> RpcError {
    let message = "failed to reload: not all service files are sound, so nothing changes";
    let error = RpcError::new(ErrorCode::ConfigError, message);
    let error = problems.into_iter().fold(error, RpcError::because);
    error.hint("mend the files; `nought check` shows every problem of every file")
}

/// Why nothing came of a service file.
pub(super) fn file(error: FileError, service: &str, action: &str) -> RpcError {
    let failed = |code, why: String| {
        RpcError::new(code, format!("failed to {action} {service}: {why}")).about(service, action)
    };
    match error {
        FileError::BadName(why) => failed(ErrorCode::InvalidParams, why)
            .hint("a service is called what its file is called, without `.yaml`"),
        FileError::Missing(path) => failed(
            ErrorCode::ServiceNotFound,
            format!("there is no file {path}"),
        )
        .hint(match action {
            "monitor" => "write the file there first",
            _ => "see the directory for the files there are; service_create writes one",
        }),
        FileError::Exists(path) => failed(
            ErrorCode::ServiceAlreadyExists,
            format!("{path} is there already"),
        )
        .hint("delete it first, or change the file itself"),
        FileError::Problems(problems) => {
            let error = failed(
                ErrorCode::ConfigError,
                "that is no sound service file".into(),
            );
            let error = problems.into_iter().fold(error, RpcError::because);
            error.hint(match action {
                "create" => "mend the content and create it again: nothing was written",
                _ => "mend the file; `nought check` shows every problem of every file",
            })
        }
        FileError::Failed { doing, path, why } => {
            let word = word(&path);
            let error = failed(
                ErrorCode::ServiceFileError,
                format!("cannot {doing} {path}"),
            )
            .because(why);
            error.hint(match doing {
                "write" => "see who may write there, and whether there is room: `df`, `ls -ld`".into(),
                "remove" => format!(
                    "see what it is: `ls -ld {word}`; a file is removed, where the supervisor may write"
                ),
                _ => format!(
                    "see what it is: `ls -lL {word}`; it must be a file that the supervisor may read"
                ),
            })
        }
    }
}

#[cfg(test)]
mod tests;
