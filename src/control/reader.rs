//! One client's bytes to calls, within limits: what is read and not carried out yet counts, of
//! this connection and of all together, and a request has to become whole within a bound.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::hangup::hung_up;
use super::methods::Context;
use super::places::{Flow, Kept, Seat};
use super::session::{Session, size};
use crate::api::{ErrorCode, Frame, FrameError, Frames, RpcError, incoming, method};
use crate::sys::clock;

/// Calls of one connection under way at a time, those of batches counted singly; more wait unread.
pub(super) const CALLS: usize = 64;
/// How long a request may take from its first byte to its last.
const REQUEST_BOUND: Duration = Duration::from_secs(30);
const READ_BYTES: usize = 8 * 1024;

/// What has come of a request that is not whole.
#[derive(Debug, Default)]
struct Unfinished {
    /// When it began, on the boot clock.
    since: Option<Duration>,
    /// What it costs.
    kept: Option<Kept>,
}

/// The places for the calls of one request.
#[derive(Debug)]
pub(super) struct Lane {
    calls: Arc<Semaphore>,
    first: Option<OwnedSemaphorePermit>,
    /// Dropped when every call has begun: only then the next request is read.
    _begun: oneshot::Sender<()>,
}

impl Lane {
    /// The place of one more call, when there is one.
    pub(super) async fn next(&mut self) -> Option<OwnedSemaphorePermit> {
        match self.first.take() {
            Some(first) => Some(first),
            None => Arc::clone(&self.calls).acquire_owned().await.ok(),
        }
    }
}

/// Reads calls until the client has no more, each carried out in a task of its own.
pub(super) async fn read(stream: &mut OwnedReadHalf, context: &Context, session: &Arc<Session>) {
    let mut frames = Frames::new();
    let mut buffer = vec![0; READ_BYTES];
    let calls = Arc::new(Semaphore::new(CALLS));
    let mut unfinished = Unfinished::default();
    loop {
        let count = tokio::select! {
            // What has come in time counts, however late we come to look at it.
            biased;
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) if frames.is_partial() => {
                    return session.refuse(cannot_go_on(FrameError::NotJson)).await;
                }
                Ok(0) | Err(_) => return,
                Ok(count) => count,
            },
            () = unfinished.overdue() => return session.refuse(too_slow()).await,
        };
        session.seat.moved(Flow::Requests);
        frames.push(buffer.get(..count).unwrap_or_default());
        while let Some(frame) = frames.next_frame() {
            unfinished = Unfinished::default();
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return session.refuse(cannot_go_on(error)).await,
            };
            if is_discretion(&frame) {
                session.be_discreet();
                continue;
            }
            let Some(kept) = session.seat.keep(Flow::Requests, size(&frame.value)) else {
                // Whoever waits for our dismissal ends this.
                return std::future::pending().await;
            };
            let place = Arc::clone(&calls).acquire_owned();
            let Ok(first) = while_there(stream, session, place).await else {
                return;
            };
            let (begun, all_begun) = oneshot::channel();
            let lane = Lane {
                calls: Arc::clone(&calls),
                first: Some(first),
                _begun: begun,
            };
            let several = frame.value.is_array();
            carry_out(context, session, frame, kept, lane);
            if several {
                // Told by its end, never by a word.
                let _ = while_there(stream, session, all_begun).await;
            }
        }
        // More may wait in the socket of what was sent in time.
        if count < READ_BYTES && unfinished.left().is_some_and(|left| left.is_zero()) {
            return session.refuse(too_slow()).await;
        }
        if !unfinished.goes_on(&frames, &session.seat) {
            return std::future::pending().await;
        }
    }
}

/// Whether from here on somebody is asking who may not know what stands in files. Taken in order,
/// before anything that comes after it.
fn is_discretion(frame: &Frame) -> bool {
    let value = &frame.value;
    value.get("method").and_then(Value::as_str) == Some(method::DISCREET)
        && value.get("id").is_none()
}

/// In a task of its own.
fn carry_out(context: &Context, session: &Arc<Session>, frame: Frame, kept: Kept, lane: Lane) {
    let (context, session) = (context.clone(), Arc::clone(session));
    let counted = context.gauge.count();
    let busy = session.seat.busy();
    tokio::spawn(async move {
        let what = incoming(frame);
        session.carry_out(&context, what, counted, kept, lane).await;
        drop(busy);
    });
}

/// Waits for `what`. When the client closes its socket meanwhile nobody waits for its calls any
/// more, which makes room for those that it sent before and that are not read yet.
async fn while_there<T>(
    stream: &OwnedReadHalf,
    session: &Session,
    what: impl Future<Output = T>,
) -> T {
    let mut what = std::pin::pin!(what);
    tokio::select! {
        biased;
        got = &mut what => return got,
        () = hung_up(stream.as_ref()) => session.abandon(),
    }
    what.await
}

impl Unfinished {
    /// Books what is there of it; `false`: there is no room for it.
    fn goes_on(&mut self, frames: &Frames, seat: &Arc<Seat>) -> bool {
        if !frames.is_partial() {
            *self = Unfinished::default();
            return true;
        }
        self.since.get_or_insert_with(now);
        // The old share goes first: it is the same bytes.
        self.kept = None;
        self.kept = seat.keep(Flow::Requests, frames.held_bytes());
        self.kept.is_some()
    }

    /// How much longer it may take; `None`: there is none.
    fn left(&self) -> Option<Duration> {
        let since = self.since?;
        Some(REQUEST_BOUND.saturating_sub(now().saturating_sub(since)))
    }

    async fn overdue(&self) {
        match self.left() {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    }
}

fn now() -> Duration {
    Duration::from_nanos(clock::boot_now())
}

fn cannot_go_on(error: FrameError) -> RpcError {
    let code = match error {
        FrameError::NotJson => ErrorCode::ParseError,
        FrameError::NotARequest | FrameError::TooLarge(_) => ErrorCode::InvalidRequest,
    };
    let hint = match error {
        FrameError::NotJson => "send JSON-RPC 2.0 objects in UTF-8, and nothing around them",
        FrameError::NotARequest => "send an object, or an array of them",
        FrameError::TooLarge(_) => "send less at a time",
    };
    RpcError::new(code, error.to_string()).hint(hint)
}

fn too_slow() -> RpcError {
    let seconds = REQUEST_BOUND.as_secs();
    RpcError::new(
        ErrorCode::InvalidRequest,
        format!("what came is no whole request after {seconds} s"),
    )
    .hint("connect again, and send the request at once")
}
