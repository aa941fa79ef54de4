//! The errors that requests are answered with: codes, and what else is known.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Receipt;

/// The codes an error can have. Those up to [`ErrorCode::ServiceFileError`] and the standard's
/// are zinit's; the rest are ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// -32700: not JSON.
    ParseError,
    /// -32600: JSON, and no request.
    InvalidRequest,
    /// -32601: no such method.
    MethodNotFound,
    /// -32602: parameters missing, of the wrong type, unknown, or a name that cannot be one.
    InvalidParams,
    /// -32603: we failed.
    InternalError,
    /// -32000: no such service.
    ServiceNotFound,
    /// -32001: the service is looked after already.
    ServiceAlreadyMonitored,
    /// -32002: the service is up, and must not be for this.
    ServiceIsUp,
    /// -32003: the service is down, and must not be for this.
    ServiceIsDown,
    /// -32004: no such signal.
    InvalidSignal,
    /// -32005: the service's file is wrong.
    ConfigError,
    /// -32006: a shutdown is under way.
    ShuttingDown,
    /// -32007: there is a service of that name.
    ServiceAlreadyExists,
    /// -32008: the service's file could not be read or written.
    ServiceFileError,
    /// -32010: the service lingers; the receipt is in `data`.
    Lingering,
    /// -32011: a dependent lingers, so the service was left running; the dependent's receipt is
    /// in `data`.
    DependentLingers,
    /// -32012: the service cannot be started as it is.
    Refused,
    /// -32013: the service waits for something that will not come by itself.
    Blocked,
    /// -32014: the service failed.
    Failed,
    /// -32015: a later request asked for the opposite.
    Superseded,
    /// -32016: more at a time than there is room for: connections, subscriptions, bytes of
    /// answers.
    Crowded,
    /// -32017: over HTTP, without the token that this needs, or with a wrong one.
    Unauthorized,
    /// -32018: over HTTP, what nobody may do there: from another site's page, by another server's
    /// name, or a change where nothing may be changed.
    Forbidden,
}

const CODES: [(ErrorCode, i64, &str); 23] = [
    (ErrorCode::ParseError, -32700, "ParseError"),
    (ErrorCode::InvalidRequest, -32600, "InvalidRequest"),
    (ErrorCode::MethodNotFound, -32601, "MethodNotFound"),
    (ErrorCode::InvalidParams, -32602, "InvalidParams"),
    (ErrorCode::InternalError, -32603, "InternalError"),
    (ErrorCode::ServiceNotFound, -32000, "ServiceNotFound"),
    (
        ErrorCode::ServiceAlreadyMonitored,
        -32001,
        "ServiceAlreadyMonitored",
    ),
    (ErrorCode::ServiceIsUp, -32002, "ServiceIsUp"),
    (ErrorCode::ServiceIsDown, -32003, "ServiceIsDown"),
    (ErrorCode::InvalidSignal, -32004, "InvalidSignal"),
    (ErrorCode::ConfigError, -32005, "ConfigError"),
    (ErrorCode::ShuttingDown, -32006, "ShuttingDown"),
    (
        ErrorCode::ServiceAlreadyExists,
        -32007,
        "ServiceAlreadyExists",
    ),
    (ErrorCode::ServiceFileError, -32008, "ServiceFileError"),
    (ErrorCode::Lingering, -32010, "Lingering"),
    (ErrorCode::DependentLingers, -32011, "DependentLingers"),
    (ErrorCode::Refused, -32012, "Refused"),
    (ErrorCode::Blocked, -32013, "Blocked"),
    (ErrorCode::Failed, -32014, "Failed"),
    (ErrorCode::Superseded, -32015, "Superseded"),
    (ErrorCode::Crowded, -32016, "Crowded"),
    (ErrorCode::Unauthorized, -32017, "Unauthorized"),
    (ErrorCode::Forbidden, -32018, "Forbidden"),
];

impl ErrorCode {
    fn row(self) -> (i64, &'static str) {
        let row = CODES.iter().find(|(code, ..)| *code == self);
        row.map_or((-32603, "InternalError"), |(_, number, name)| {
            (*number, name)
        })
    }

    /// Every code.
    pub fn all() -> impl Iterator<Item = ErrorCode> {
        CODES.iter().map(|(code, ..)| *code)
    }

    /// The code's number.
    pub fn number(self) -> i64 {
        self.row().0
    }

    /// The code's name, `code_name` in an error's data.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The code with this number, if it is one of these.
    pub fn from_number(number: i64) -> Option<ErrorCode> {
        let row = CODES.iter().find(|(_, known, _)| *known == number);
        row.map(|(code, ..)| *code)
    }

    /// Whether the same request may succeed later without anybody mending anything.
    pub fn retryable(self) -> bool {
        matches!(
            self,
            ErrorCode::Lingering
                | ErrorCode::DependentLingers
                | ErrorCode::Blocked
                | ErrorCode::Crowded
        )
    }
}

/// An error as JSON-RPC has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RpcError {
    /// One of [`ErrorCode`]'s numbers.
    pub code: i64,
    /// What went wrong, in a sentence.
    pub message: String,
    /// What else is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Box<ErrorData>>,
}

/// What an error's `data` holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ErrorData {
    /// The code's name: `ServiceNotFound`.
    pub code_name: String,
    /// The service it is about.
    pub service: Option<String>,
    /// What was being done: `stop`.
    pub action: Option<String>,
    /// Whether the same request may succeed later without anybody mending anything.
    pub retryable: bool,
    /// Why, each the cause of the one before it; the message is not repeated.
    pub cause_chain: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// The receipt of what lingers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Receipt>,
}

impl RpcError {
    /// An error with its name and whether it can be retried filled in.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        RpcError {
            code: code.number(),
            message: message.into(),
            data: Some(Box::new(ErrorData {
                code_name: code.name().into(),
                retryable: code.retryable(),
                ..ErrorData::default()
            })),
        }
    }

    /// Says which service it is about and what was being done to it.
    #[must_use]
    pub fn about(mut self, service: impl Into<String>, action: impl Into<String>) -> Self {
        let data = self.data.get_or_insert_default();
        data.service = Some(service.into());
        data.action = Some(action.into());
        self
    }

    /// Says what was being done.
    #[must_use]
    pub fn doing(mut self, action: impl Into<String>) -> Self {
        self.data.get_or_insert_default().action = Some(action.into());
        self
    }

    /// Adds a cause, below those it has.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        let data = self.data.get_or_insert_default();
        data.cause_chain.push(cause.into());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.data.get_or_insert_default().hint = Some(hint.into());
        self
    }

    /// Says that the same request may succeed later, whatever the code alone says.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.data.get_or_insert_default().retryable = true;
        self
    }

    /// Adds the receipt of what lingers.
    #[must_use]
    pub fn receipt(mut self, receipt: Receipt) -> Self {
        self.data.get_or_insert_default().receipt = Some(receipt);
        self
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RpcError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_number() {
        for (code, number, name) in CODES {
            assert_eq!(ErrorCode::from_number(number), Some(code));
            assert_eq!((code.number(), code.name()), (number, name));
        }
        assert_eq!(ErrorCode::from_number(-1), None);
    }
}
