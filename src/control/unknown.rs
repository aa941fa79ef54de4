//! Why a service is not there although its file is: the file is not sound, or nobody took it in.
//!
//! The file is read when somebody asks, so that what is said of it is true now.

use std::time::Duration;

use super::methods::Context;
use super::{Ask, FileError};
use crate::api::{ErrorCode, RpcError};

/// How long an answer waits for the file: a directory that hangs keeps no client waiting longer.
const READ_BOUND: Duration = Duration::from_secs(2);

/// The same error, with what is the matter with the file of the unknown service where there is
/// one; `whole`: with the lines of it, which may hold secrets.
pub(super) async fn explain(context: &Context, error: RpcError, whole: bool) -> RpcError {
    let service = error.data.as_ref().and_then(|data| data.service.clone());
    let unknown = error.code == ErrorCode::ServiceNotFound.number();
    let Some(service) = service.filter(|_| unknown) else {
        return error;
    };
    let read = context.ask(|answer| Ask::ReadSpec(service.clone(), answer));
    match tokio::time::timeout(READ_BOUND, read).await {
        Ok(Ok(read)) => {
            let mut refused = read.err();
            if let Some(FileError::Problems(problems)) = &mut refused
                && !whole
            {
                problems.clear();
            }
            with_file(error, &service, refused)
        }
        // It takes too long, or the supervisor has ended meanwhile: nothing more is known.
        Ok(Err(_)) | Err(_) => error,
    }
}

/// `refused`: why the file is no service's; `None`: it is sound.
fn with_file(mut error: RpcError, service: &str, refused: Option<FileError>) -> RpcError {
    let (what, causes, hint) = match refused {
        None => (
            "its file is sound, and was not taken in",
            Vec::new(),
            format!("take it in: `nought monitor {service}`"),
        ),
        Some(FileError::Problems(problems)) => (
            "its file is refused",
            problems,
            format!(
                "mend the file, then `nought monitor {service}`; `nought check` shows every \
                 problem of every file"
            ),
        ),
        Some(FileError::Failed { doing, path, why }) => (
            "its file is refused",
            vec![format!("cannot {doing} {path}: {why}")],
            format!("let the supervisor read the file, then `nought monitor {service}`"),
        ),
        Some(FileError::BadName(_) | FileError::Missing(_) | FileError::Exists(_)) => return error,
    };
    error.message = format!("{}: {what}", error.message);
    causes.into_iter().fold(error, RpcError::because).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::super::refusal::not_found;
    use super::*;

    fn told(refused: Option<FileError>) -> RpcError {
        with_file(not_found("web", "status"), "web", refused)
    }

    #[test]
    fn an_unknown_service_with_a_file_says_what_is_the_matter_with_it() {
        let problem = "/etc/nought/web.yaml:2:1: error: `exce` is no key";
        let failed = FileError::Failed {
            doing: "read",
            path: "/etc/nought/web.yaml".into(),
            why: "Permission denied".into(),
        };
        let refused = "there is no service \"web\": its file is refused";
        for (file, message, causes, hint) in [
            (
                Some(FileError::Problems(vec![problem.into()])),
                refused,
                vec![problem],
                "mend the file, then `nought monitor web`; `nought check` shows every problem of \
                 every file",
            ),
            (
                Some(failed),
                refused,
                vec!["cannot read /etc/nought/web.yaml: Permission denied"],
                "let the supervisor read the file, then `nought monitor web`",
            ),
            (
                None,
                "there is no service \"web\": its file is sound, and was not taken in",
                vec![],
                "take it in: `nought monitor web`",
            ),
        ] {
            let error = told(file);
            assert_eq!((error.code, error.message.as_str()), (-32000, message));
            let data = error.data.unwrap();
            assert_eq!(data.cause_chain, causes);
            assert_eq!(data.hint.as_deref(), Some(hint));
        }
    }

    #[test]
    fn an_unknown_service_without_a_file_stays_as_it_was() {
        let plain = not_found("web", "status");
        let missing = FileError::Missing("/etc/nought/web.yaml".into());
        assert_eq!(told(Some(missing)), plain);
        assert_eq!(told(Some(FileError::BadName("no".into()))), plain);
    }
}
