//! JSON-RPC by POST: one request or batch a connection, carried to the supervisor and back.

use std::io;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Bytes, Incoming as Body};
use hyper::header::CONTENT_TYPE;
use hyper::http::request::Parts;
use hyper::http::{HeaderMap, Uri};
use hyper::{Method, Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::answer::{self, Answer, JSON, Reply};
use super::guard::{self, Refused};
use super::rights::{self, Caller};
use super::server::{Connection, Place};
use crate::api::{
    Call, ErrorCode, FrameError, Frames, Id, Incoming, MAX_FRAME_BYTES, Response, RpcError,
    incoming,
};

/// How long a client may take to send its request.
const BODY_BOUND: Duration = Duration::from_secs(8);
/// So much of a request that is refused is read all the same, within so long: a client that hears
/// of it only by a reset connection does not know why.
const DRAINED: usize = 8 << 20;
const DRAIN_BOUND: Duration = Duration::from_millis(500);
const CHUNK: usize = 16 * 1024;

/// Answers a POST.
pub(super) async fn post(connection: &Connection, request: Request<Body>) -> Answer {
    let (head, mut body) = request.into_parts();
    match carried_out(connection, &head, &mut body).await {
        Ok(answer) => answer,
        Err(refused) => {
            // It has had its answer, and holds no place that others want.
            connection.gives_way();
            let _ = tokio::time::timeout(DRAIN_BOUND, drain(&mut body)).await;
            answer::refusal(refused)
        }
    }
}

async fn carried_out(
    connection: &Connection,
    head: &Parts,
    body: &mut Body,
) -> Result<Answer, Refused> {
    let caller = caller(connection, &head.uri, &head.headers, "a request")?;
    if !is_json(head) {
        let error = invalid("the request is no application/json");
        let error = error.hint("send `Content-Type: application/json`");
        return Err(Refused::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, error));
    }
    let place = place(connection, caller)?;
    let body = tokio::time::timeout(BODY_BOUND, read(body)).await;
    let body = body.map_err(|_| {
        let seconds = BODY_BOUND.as_secs();
        let error = invalid(format!("the request did not come within {seconds} s"));
        let error = error.hint("send it at once");
        Refused::new(StatusCode::REQUEST_TIMEOUT, error)
    })??;
    let asked = one_value(&body)?;
    // One was taken with its place, before anything was read.
    let more = calls(&asked).saturating_sub(1);
    if more > 0 {
        let rate = connection.shared.rate(caller.token);
        rate.take(more).map_err(|wait| {
            rate.give_back();
            too_many(wait)
        })?;
    }
    if let Some((id, error)) = caller.refusal(&asked) {
        return Err(refused_call(id, error));
    }
    // From here on it takes as long as it takes.
    connection.takes_long();
    let carried = carry(connection, caller.token, &body).await;
    let (first, from) = carried.map_err(|error| unreachable_supervisor(&error))?;
    if first.is_empty() {
        return match is_answered(&asked) {
            false => Ok(answer::with(StatusCode::NO_CONTENT, JSON, Bytes::new())),
            true => Err(unreachable_supervisor(&io::ErrorKind::UnexpectedEof.into())),
        };
    }
    let reply = Reply::stream(first, from, place);
    Ok(answer::of(StatusCode::OK, JSON, reply))
}

/// Who asks for `what`, when it may be asked at all: beyond this machine nothing is open, and
/// nothing is read, without the token.
pub(super) fn caller(
    connection: &Connection,
    uri: &Uri,
    headers: &HeaderMap,
    what: &str,
) -> Result<Caller, Refused> {
    let settings = &connection.shared.settings;
    guard::host(uri, headers, connection.local)?;
    guard::origin(headers)?;
    let token = guard::token(headers, &settings.token)?;
    let beyond = connection.shared.beyond;
    if beyond && !token {
        let error = rights::no_token(what);
        return Err(Refused::new(StatusCode::UNAUTHORIZED, error));
    }
    Ok(Caller {
        token,
        beyond,
        read_only: settings.read_only,
        stays: false,
    })
}

/// A place for a request, when it comes no sooner than it may.
pub(super) fn place(connection: &Connection, caller: Caller) -> Result<Place, Refused> {
    let shared = &connection.shared;
    shared.rate(caller.token).take(1).map_err(too_many)?;
    let place = shared.calls.take(caller.token);
    place.ok_or_else(|| crowded("too many requests are under way"))
}

/// With the status that says of which kind it is.
fn refused_call(id: Option<Id>, error: RpcError) -> Refused {
    let status = match ErrorCode::from_number(error.code) {
        Some(ErrorCode::Unauthorized) => StatusCode::UNAUTHORIZED,
        Some(ErrorCode::Forbidden) => StatusCode::FORBIDDEN,
        _ => StatusCode::BAD_REQUEST,
    };
    let id = id.unwrap_or(Id::Null);
    Refused { status, id, error }
}

fn is_json(head: &Parts) -> bool {
    let kind = guard::only(&head.headers, &CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case(JSON)
}

async fn read(body: &mut Body) -> Result<Vec<u8>, Refused> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            let error = invalid("the request was cut short");
            let error = error.hint("send as much as its Content-Length says");
            return Err(Refused::new(StatusCode::BAD_REQUEST, error));
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > MAX_FRAME_BYTES {
            let error = invalid(format!("the request has more than {MAX_FRAME_BYTES} bytes"));
            let error = error.hint("send less at a time");
            return Err(Refused::new(StatusCode::PAYLOAD_TOO_LARGE, error));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// What is not wanted any more.
async fn drain(body: &mut Body) {
    let mut count = 0_usize;
    while let Some(Ok(frame)) = body.frame().await {
        count = count.saturating_add(frame.data_ref().map_or(0, Bytes::len));
        if count > DRAINED {
            return;
        }
    }
}

/// The calls of one object or array, read as the supervisor will read the same bytes.
pub(super) fn one_value(bytes: &[u8]) -> Result<Incoming, Refused> {
    let refused = |code, why: &str| {
        let error = RpcError::new(code, why);
        let error = error.hint("send one JSON-RPC 2.0 object in UTF-8, or an array of them");
        Err(Refused::new(StatusCode::BAD_REQUEST, error))
    };
    let mut frames = Frames::new();
    frames.push(bytes);
    let frame = match frames.next_frame() {
        Some(Ok(frame)) => frame,
        Some(Err(FrameError::NotJson)) | None => {
            return refused(ErrorCode::ParseError, "what came is not JSON");
        }
        Some(Err(error)) => return refused(ErrorCode::InvalidRequest, &error.to_string()),
    };
    if frames.next_value().is_some() || frames.is_partial() {
        return refused(
            ErrorCode::InvalidRequest,
            "what came is more than one value",
        );
    }
    Ok(incoming(frame))
}

/// How many calls a request is.
pub(super) fn calls(asked: &Incoming) -> usize {
    match asked {
        Incoming::Single(_) => 1,
        Incoming::Batch(calls) => calls.len().max(1),
    }
}

fn is_answered(asked: &Incoming) -> bool {
    let answered = |call: &Result<Call, Response>| match call {
        Ok(call) => call.id.is_some(),
        Err(_) => true,
    };
    match asked {
        Incoming::Single(call) => answered(call),
        Incoming::Batch(calls) => calls.iter().any(answered),
    }
}

/// The beginning of the answer, and where the rest comes from.
async fn carry(
    connection: &Connection,
    token: bool,
    body: &[u8],
) -> io::Result<(Bytes, UnixStream)> {
    let mut stream = connection.shared.connect(token)?;
    stream.write_all(body).await?;
    // Nothing more is asked, so that the end of the answer is the end of the stream.
    stream.shutdown().await?;
    let mut first = vec![0; CHUNK];
    let count = stream.read(&mut first).await?;
    first.truncate(count);
    Ok((first.into(), stream))
}

fn invalid(message: impl Into<String>) -> RpcError {
    RpcError::new(ErrorCode::InvalidRequest, message)
}

pub(super) fn crowded(message: &str) -> Refused {
    let error = RpcError::new(ErrorCode::Crowded, message).hint("try again in a second");
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, error)
}

pub(super) fn too_many(_wait: Duration) -> Refused {
    let error = RpcError::new(ErrorCode::Crowded, "there are too many requests a second");
    let error = error.hint("try again in a second; each call of a batch counts");
    Refused::new(StatusCode::TOO_MANY_REQUESTS, error)
}

pub(super) fn unreachable_supervisor(why: &io::Error) -> Refused {
    let error = RpcError::new(ErrorCode::InternalError, "the supervisor does not answer");
    let error = error.because(why.to_string());
    let error = error.hint("is it ending, or stopped? What was asked may have been done");
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, error)
}

/// What a path answers to, where others are used.
pub(super) fn wrong_method(method: &Method, allowed: &'static str) -> Answer {
    let text = format!("there is no {method} here: use {allowed}\n");
    let mut answer = answer::text(StatusCode::METHOD_NOT_ALLOWED, text);
    let allowed = hyper::header::HeaderValue::from_static(allowed);
    answer.headers_mut().insert(hyper::header::ALLOW, allowed);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_value_and_nothing_beside_it() {
        let call = r#"{"jsonrpc":"2.0","id":1,"method":"service_list"}"#;
        for fine in [call.into(), format!(" {call}\n"), format!("[{call}]")] {
            assert!(one_value(fine.as_bytes()).is_ok(), "{fine}");
        }
        for (wrong, code) in [
            (String::new(), -32700),
            ("x".into(), -32700),
            (format!("{call}x"), -32600),
            (format!("{call}{call}"), -32600),
            (format!("{call}["), -32600),
            (call[..20].into(), -32700),
            ("1".into(), -32600),
        ] {
            let refused = one_value(wrong.as_bytes()).unwrap_err();
            assert_eq!(refused.error.code, code, "{wrong}");
        }
    }

    #[test]
    fn notifications_alone_are_not_answered() {
        let told = r#"{"jsonrpc":"2.0","method":"service_list"}"#;
        let asked = r#"{"jsonrpc":"2.0","id":null,"method":"service_list"}"#;
        let answered = |text: &str| is_answered(&one_value(text.as_bytes()).unwrap());
        assert!(!answered(told) && !answered(&format!("[{told},{told}]")));
        assert!(answered(asked) && answered(&format!("[{told},{asked}]")));
        assert!(answered("[]") && answered("[1]"));
    }
}
