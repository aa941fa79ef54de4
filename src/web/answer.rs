//! What goes back to a client.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    RETRY_AFTER, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use tokio::io::{AsyncRead as _, ReadBuf};
use tokio::net::UnixStream;
use tokio::time::{Sleep, sleep};

use super::guard::Refused;
use super::server::Place;
use crate::api;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";
/// How long an answer may take to go out, from its first byte to its last.
const ANSWER_BOUND: Duration = Duration::from_secs(60);
const CHUNK: usize = 16 * 1024;

pub(super) type Answer = Response<Reply>;

/// A body: whole, or as the supervisor sends it.
pub(super) enum Reply {
    Whole(Full<Bytes>),
    Stream(Box<Stream>),
}

/// An answer on its way from the supervisor.
pub(super) struct Stream {
    /// What has been read of it.
    first: Option<Bytes>,
    from: UnixStream,
    until: Pin<Box<Sleep>>,
    _place: Place,
}

impl Reply {
    /// `first`, and whatever comes `from` there after it. The place is given back at its end.
    pub(super) fn stream(first: Bytes, from: UnixStream, place: Place) -> Self {
        Reply::Stream(Box::new(Stream {
            first: Some(first),
            from,
            until: Box::pin(sleep(ANSWER_BOUND)),
            _place: place,
        }))
    }
}

impl Stream {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        if self.until.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        }
        let mut chunk = [0; CHUNK];
        let mut buffer = ReadBuf::new(&mut chunk);
        match Pin::new(&mut self.from).poll_read(context, &mut buffer) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
            Poll::Ready(Ok(())) => {
                let read = buffer.filled();
                let chunk = (!read.is_empty()).then(|| Ok(Bytes::copy_from_slice(read)));
                Poll::Ready(chunk)
            }
        }
    }
}

impl Body for Reply {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Reply::Whole(body) => match Pin::new(body).poll_frame(context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(frame) => Poll::Ready(frame.and_then(Result::ok).map(Ok)),
            },
            Reply::Stream(stream) => {
                let chunk = stream.poll_chunk(context);
                chunk.map(|chunk| chunk.map(|bytes| bytes.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Reply::Whole(body) => body.is_end_stream(),
            Reply::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Reply::Whole(body) => body.size_hint(),
            Reply::Stream(_) => SizeHint::default(),
        }
    }
}

pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    with(status, TEXT, body.into())
}

pub(super) fn with(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    of(status, kind, Reply::Whole(Full::new(body.into())))
}

/// Nothing of it is kept, guessed at, told to others or shown within another page.
pub(super) fn of(status: StatusCode, kind: &'static str, body: Reply) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    for (name, value) in [
        (CONTENT_TYPE, kind),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (
            CONTENT_SECURITY_POLICY,
            "default-src 'none'; frame-ancestors 'none'",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        let value = HeaderValue::from_static(value);
        answer.headers_mut().insert(name, value);
    }
    answer
}

/// Why nothing was done, as JSON-RPC has it.
pub(super) fn refusal(refused: Refused) -> Answer {
    let Refused { status, id, error } = refused;
    let body = serde_json::to_string(&api::Response::new(id, Err(error))).unwrap_or_default();
    let mut answer = with(status, JSON, body + "\n");
    let headers = answer.headers_mut();
    match status {
        StatusCode::UNAUTHORIZED => {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        _ => {}
    }
    answer
}
