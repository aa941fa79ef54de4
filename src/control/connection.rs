//! One client: bytes to calls, answers to bytes, within limits.

use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::Ask;
use super::gauge::{Counted, Gauge};
use super::methods::{self, Context};
use crate::api::{Call, ErrorCode, FrameError, Frames, Id, Incoming, Response, RpcError, incoming};
use crate::logs::Logs;
use crate::sys::socket;

/// Connections at a time; more wait in the listen queue.
const CONNECTIONS: usize = 1024;
/// Calls of one connection under way at a time; more wait unread.
const CALLS: usize = 64;
/// How long a client may take to read an answer before it is dropped.
const WRITE_BOUND: Duration = Duration::from_secs(30);
/// How long to leave the listen queue alone when there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 8 * 1024;

/// Accepts connections until the listener fails for good or the task is dropped.
///
/// # Errors
/// When the listener cannot be watched.
pub async fn serve(
    listener: StdListener,
    asks: mpsc::UnboundedSender<Ask>,
    logs: Logs,
    gauge: Gauge,
) -> std::io::Result<()> {
    let listener = UnixListener::from_std(listener)?;
    let context = Context { asks, logs, gauge };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return Ok(());
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, context.clone(), place));
            }
            // EMFILE, ENFILE, ENOMEM: the connection stays in the queue and would be reported
            // again at once. ECONNABORTED and the like concern that client only.
            Err(error) => {
                tracing::warn!("failed to accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: UnixStream, context: Context, _place: OwnedSemaphorePermit) {
    match socket::peer(&stream) {
        Ok(peer) if peer.uid == 0 || peer.uid == nix::unistd::geteuid().as_raw() => {}
        Ok(peer) => {
            tracing::warn!(
                "refused a connection of user {}, process {}",
                peer.uid,
                peer.pid
            );
            return;
        }
        Err(error) => {
            tracing::warn!("refused a connection: failed to {error}");
            return;
        }
    }
    let (reads, writes) = stream.into_split();
    let (answers, outbox) = mpsc::channel(CALLS);
    let writer = tokio::spawn(write(writes, outbox));
    read(reads, &context, answers).await;
    // Whoever closed its writing end still gets the answers it waits for.
    let _ = writer.await;
}

/// Reads calls until the client has no more, each carried out in a task of its own.
async fn read(mut stream: OwnedReadHalf, context: &Context, answers: mpsc::Sender<Answer>) {
    let mut frames = Frames::new();
    let mut buffer = vec![0; READ_BYTES];
    let calls = Arc::new(Semaphore::new(CALLS));
    loop {
        let count = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => {
                if frames.is_partial() {
                    send(&answers, &refuse(FrameError::NotJson), None).await;
                }
                return;
            }
            Ok(count) => count,
        };
        frames.push(buffer.get(..count).unwrap_or_default());
        while let Some(value) = frames.next_value() {
            let value = match value {
                Ok(value) => value,
                Err(error) => return send(&answers, &refuse(error), None).await,
            };
            let Ok(place) = Arc::clone(&calls).acquire_owned().await else {
                return;
            };
            let (context, answers) = (context.clone(), answers.clone());
            let counted = context.gauge.count();
            tokio::spawn(async move {
                if let Some(answer) = carry_out(&context, incoming(value)).await {
                    send(&answers, &answer, Some(counted)).await;
                }
                drop(place);
            });
        }
    }
}

fn refuse(error: FrameError) -> Value {
    let code = match error {
        FrameError::NotJson => ErrorCode::ParseError,
        FrameError::NotARequest | FrameError::TooLarge(_) => ErrorCode::InvalidRequest,
    };
    respond(Id::Null, Err(RpcError::new(code, error.to_string())))
}

/// Carries out what came; `None` where there is nothing to answer.
async fn carry_out(context: &Context, incoming: Incoming) -> Option<Value> {
    match incoming {
        Incoming::Single(call) => one(context, call).await,
        Incoming::Batch(calls) => {
            // Together, as if each had come by itself: a stop in a batch must not keep the
            // status beside it waiting.
            let tasks: Vec<_> = calls
                .into_iter()
                .map(|call| {
                    let context = context.clone();
                    tokio::spawn(async move { one(&context, call).await })
                })
                .collect();
            let mut answers = Vec::new();
            for task in tasks {
                answers.extend(task.await.ok().flatten());
            }
            (!answers.is_empty()).then_some(Value::Array(answers))
        }
    }
}

async fn one(context: &Context, call: Result<Call, Response>) -> Option<Value> {
    let call = match call {
        Ok(call) => call,
        Err(refused) => return serde_json::to_value(refused).ok(),
    };
    let id = call.id.clone();
    // A task of its own, so that a panic in it ends this call and nothing else.
    let task = tokio::spawn({
        let context = context.clone();
        async move { methods::call(&context, call).await }
    });
    let outcome = task.await.unwrap_or_else(|error| {
        tracing::error!("a call ended in a panic: {error}");
        Err(RpcError::new(
            ErrorCode::InternalError,
            "the call failed inside the supervisor",
        ))
    });
    id.map(|id| respond(id, outcome))
}

fn respond(id: Id, outcome: Result<Value, RpcError>) -> Value {
    serde_json::to_value(Response::new(id, outcome)).unwrap_or_default()
}

/// An answer's bytes, and what counts it until they are written.
type Answer = (Vec<u8>, Option<Counted>);

async fn send(answers: &mpsc::Sender<Answer>, answer: &Value, counted: Option<Counted>) {
    let mut bytes = answer.to_string().into_bytes();
    bytes.push(b'\n');
    // Fails when the client stopped reading and was dropped.
    let _ = answers.send((bytes, counted)).await;
}

async fn write(mut stream: OwnedWriteHalf, mut outbox: mpsc::Receiver<Answer>) {
    while let Some((bytes, _counted)) = outbox.recv().await {
        match tokio::time::timeout(WRITE_BOUND, stream.write_all(&bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::warn!("dropped a client that does not read its answers");
                return;
            }
        }
    }
}
