//! Who may make which call over HTTP.

use crate::api::{Call, ErrorCode, Incoming, Response, RpcError};

/// What says how services are: open to everybody on this machine, who can see their processes
/// anyway.
const OPEN: &[&str] = &[
    "rpc.discover",
    "rpc_discover",
    "service_list",
    "service_status",
    "service_stats",
    "nought_info",
    "nought_list",
    "nought_status",
    "nought_receipt",
    "nought_lastShutdown",
    "nought_usage",
    "nought_plan",
];

/// What changes nothing, and may show what is nobody else's: lines of the log, and the
/// environment that service files set.
const PRIVATE: &[&str] = &[
    "service_get",
    "stream_currentLogs",
    "nought_log",
    "stream_subscribeLogs",
    "stream_unsubscribeLogs",
    "nought_subscribeLogs",
    "nought_unsubscribeLogs",
];

/// What needs a connection that stays.
const SUBSCRIPTIONS: &[&str] = &["stream_subscribeLogs", "nought_subscribeLogs"];

/// Who asks, and over what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The token was shown.
    pub(super) token: bool,
    /// The server can be reached from other machines.
    pub(super) beyond: bool,
    /// The server changes nothing for anybody.
    pub(super) read_only: bool,
    /// The connection stays, and can bring what comes.
    pub(super) stays: bool,
}

impl Caller {
    /// Why this may not be asked, if so: the first refusal. What is no request is the
    /// supervisor's to refuse. A batch is asked as a whole, or not at all.
    pub(super) fn refusal(self, asked: &Incoming) -> Option<(Option<crate::api::Id>, RpcError)> {
        let refused = |call: &Result<Call, Response>| {
            let call = call.as_ref().ok()?;
            let error = self.refuses(&call.method)?;
            Some((call.id.clone(), error))
        };
        match asked {
            Incoming::Single(call) => refused(call),
            Incoming::Batch(calls) => calls.iter().find_map(refused),
        }
    }

    /// What is not known to be harmless is not.
    fn refuses(self, method: &str) -> Option<RpcError> {
        let open = OPEN.contains(&method);
        let changes = !open && !PRIVATE.contains(&method);
        if changes && self.read_only {
            let message = format!("{method} changes something, and this HTTP server is read-only");
            let error = RpcError::new(ErrorCode::Forbidden, message);
            return Some(error.hint("use the Unix socket, or leave out --http-read-only"));
        }
        if !self.token && (self.beyond || !open) {
            return Some(no_token(method));
        }
        if !self.stays && SUBSCRIPTIONS.contains(&method) {
            let message = format!("{method} needs a connection that stays");
            let error = RpcError::new(ErrorCode::InvalidRequest, message);
            return Some(error.hint("subscribe over a WebSocket, or over the Unix socket"));
        }
        None
    }
}

/// The token was not shown.
pub(super) fn no_token(what: &str) -> RpcError {
    let error = RpcError::new(ErrorCode::Unauthorized, format!("{what} needs the token"));
    error.hint(TOKEN_HINT)
}

/// How it is shown.
pub(super) const TOKEN_HINT: &str =
    "send `Authorization: Bearer TOKEN`; `nought status` names the file that holds it";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{METHODS, incoming};

    fn caller(token: bool, beyond: bool, read_only: bool) -> Caller {
        Caller {
            token,
            beyond,
            read_only,
            stays: true,
        }
    }

    #[test]
    fn every_method_is_where_it_belongs() {
        let changing = [
            "service_start",
            "service_stop",
            "service_monitor",
            "service_forget",
            "service_kill",
            "service_create",
            "service_delete",
            "system_shutdown",
            "system_reboot",
            "system_start_http_server",
            "system_stop_http_server",
            "nought_start",
            "nought_stop",
            "nought_restart",
            "nought_shutdown",
            "nought_reload",
            "nought_reloadService",
        ];
        for method in METHODS.iter().map(|method| method.name) {
            let lists = [OPEN, PRIVATE, &changing[..]];
            let known = lists.iter().filter(|list| list.contains(&method)).count();
            assert_eq!(known, 1, "{method}: say here who may call it over HTTP");
        }
        let listed = OPEN.len() + PRIVATE.len() + changing.len();
        assert_eq!(listed, METHODS.len());
    }

    #[test]
    fn without_the_token_only_what_is_open_is_answered_and_only_on_this_machine() {
        let code = |caller: Caller, method| caller.refuses(method).map(|error| error.code);
        let (unauthorized, forbidden) = (Some(-32017), Some(-32018));
        for (token, beyond, read_only, [open, private, change, unknown]) in [
            (
                false,
                false,
                false,
                [None, unauthorized, unauthorized, unauthorized],
            ),
            (false, true, false, [unauthorized; 4]),
            (true, false, false, [None; 4]),
            (true, true, false, [None; 4]),
            (true, true, true, [None, None, forbidden, forbidden]),
            (
                false,
                false,
                true,
                [None, unauthorized, forbidden, forbidden],
            ),
        ] {
            let caller = caller(token, beyond, read_only);
            assert_eq!(code(caller, "service_list"), open, "{caller:?}");
            assert_eq!(code(caller, "nought_log"), private, "{caller:?}");
            assert_eq!(code(caller, "service_create"), change, "{caller:?}");
            assert_eq!(code(caller, "no_such"), unknown, "{caller:?}");
        }
        let stays = caller(true, false, false);
        let once = Caller {
            stays: false,
            ..stays
        };
        assert_eq!(code(stays, "stream_subscribeLogs"), None);
        assert_eq!(code(once, "stream_subscribeLogs"), Some(-32600));
    }

    #[test]
    fn one_call_that_may_not_be_made_refuses_its_batch() {
        let call = |id: i64, method: &str| json!({"jsonrpc": "2.0", "id": id, "method": method});
        let nobody = caller(false, false, false);
        let batch = incoming(json!([call(1, "service_list"), call(2, "service_stop"), 3]));
        let (id, error) = nobody.refusal(&batch).unwrap();
        assert_eq!(
            (id, error.code),
            (Some(crate::api::Id::Number(2.into())), -32017)
        );
        let batch = incoming(json!([call(1, "service_list"), 3]));
        assert_eq!(nobody.refusal(&batch), None);
        assert_eq!(nobody.refusal(&incoming(json!(1))), None);
    }
}
