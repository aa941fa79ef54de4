//! One client: bytes to calls, answers to bytes, within limits.
//!
//! Calls that wait for work are carried out side by side. Questions, which are answered at once
//! and may have long answers, take turns, and no more answers are made than [`ANSWER_BYTES`]
//! until the client has read some: a client that asks and never reads costs no more than that.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;

use super::gauge::Counted;
use super::methods::{self, Context, Outcome};
use super::places::{Busy, Seat};
use crate::api::{Call, ErrorCode, FrameError, Frames, Id, Incoming, Response, RpcError, incoming};

/// Calls of one connection under way at a time; more wait unread.
const CALLS: usize = 64;
/// Subscriptions of one connection at a time.
const SUBSCRIPTIONS: usize = 16;
/// Bytes of answers that wait for one client to read them; one that is larger waits alone.
const ANSWER_BYTES: usize = 8 << 20;
/// What a permit of the budget stands for.
const PERMIT_BYTES: usize = 1024;
/// How long a client may take to read an answer before it is dropped.
const WRITE_BOUND: Duration = Duration::from_secs(30);
/// How long a client that is sent away has for the line that says so.
const FAREWELL: Duration = Duration::from_millis(100);
const READ_BYTES: usize = 8 * 1024;

/// What the calls of one connection share.
#[derive(Debug)]
pub(super) struct Session {
    outbox: mpsc::Sender<Answer>,
    budget: Arc<Semaphore>,
    /// Questions take turns.
    turn: tokio::sync::Mutex<()>,
    subscriptions: Mutex<BTreeMap<u64, AbortHandle>>,
    seat: Arc<Seat>,
}

/// An answer on its way, and what is held until it is written.
#[derive(Debug)]
struct Answer {
    bytes: Vec<u8>,
    /// For the end of a shutdown, which waits for answers.
    _counted: Option<Counted>,
    /// Its share of the budget.
    _permit: Option<OwnedSemaphorePermit>,
}

/// Serves one client until it goes, stops reading, or has to make room.
pub(super) async fn run(stream: UnixStream, context: Context, seat: Seat) {
    let (reads, writes) = stream.into_split();
    let (outbox, answers) = mpsc::channel(CALLS);
    let seat = Arc::new(seat);
    let session = Arc::new(Session {
        outbox,
        budget: Arc::new(Semaphore::new(ANSWER_BYTES / PERMIT_BYTES)),
        turn: tokio::sync::Mutex::new(()),
        subscriptions: Mutex::default(),
        seat: Arc::clone(&seat),
    });
    let mut writer = tokio::spawn(write(writes, answers, Arc::clone(&seat)));
    let mut dismissed = false;
    tokio::select! {
        () = read(reads, &context, &session) => {}
        _ = &mut writer => {
            session.end_subscriptions();
            return;
        }
        () = seat.dismissed() => dismissed = true,
    }
    session.end_subscriptions();
    if dismissed {
        let error = RpcError::new(
            ErrorCode::Crowded,
            "there are too many connections, and this one was idle the longest",
        );
        let error = error.hint("connect again");
        session.offer(&respond(Id::Null, Err(error)));
        tracing::debug!("sent the longest idle client away: there are too many");
    }
    drop(session);
    if dismissed {
        let _ = tokio::time::timeout(FAREWELL, &mut writer).await;
        writer.abort();
    } else {
        // Whoever closed its writing end still gets the answers it waits for.
        let _ = writer.await;
    }
}

/// Reads calls until the client has no more, each carried out in a task of its own.
async fn read(mut stream: OwnedReadHalf, context: &Context, session: &Arc<Session>) {
    let mut frames = Frames::new();
    let mut buffer = vec![0; READ_BYTES];
    let calls = Arc::new(Semaphore::new(CALLS));
    loop {
        let count = match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => {
                if frames.is_partial() {
                    session.send(&refuse(FrameError::NotJson), None, None).await;
                }
                return;
            }
            Ok(count) => count,
        };
        session.seat.touch();
        frames.push(buffer.get(..count).unwrap_or_default());
        while let Some(value) = frames.next_value() {
            let value = match value {
                Ok(value) => value,
                Err(error) => return session.send(&refuse(error), None, None).await,
            };
            let Ok(place) = Arc::clone(&calls).acquire_owned().await else {
                return;
            };
            let (context, session) = (context.clone(), Arc::clone(session));
            let counted = context.gauge.count();
            let busy = session.seat.busy();
            tokio::spawn(async move {
                session.carry_out(&context, incoming(value), counted).await;
                drop((place, busy));
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

fn respond(id: Id, outcome: Result<Value, RpcError>) -> Value {
    serde_json::to_value(Response::new(id, outcome)).unwrap_or_default()
}

/// What one call of a batch gave.
struct Part {
    answer: Option<Value>,
    permit: Option<OwnedSemaphorePermit>,
    begin: Option<oneshot::Sender<()>>,
}

impl Session {
    async fn carry_out(self: &Arc<Self>, context: &Context, what: Incoming, counted: Counted) {
        match what {
            Incoming::Single(call) => {
                let turn = match &call {
                    Ok(call) if methods::is_question(&call.method) => Some(self.turn.lock().await),
                    _ => None,
                };
                let (answer, begin) = self.one(context, call).await;
                if let Some(answer) = answer {
                    let permit = self.afford(&answer).await;
                    self.send(&answer, Some(counted), permit).await;
                }
                drop(turn);
                begin_following(begin);
            }
            Incoming::Batch(calls) => self.batch(context, calls, counted).await,
        }
    }

    /// Together, as if each had come by itself: a stop in a batch must not keep the status beside
    /// it waiting.
    async fn batch(
        self: &Arc<Self>,
        context: &Context,
        calls: Vec<Result<Call, Response>>,
        counted: Counted,
    ) {
        let tasks: Vec<_> = calls
            .into_iter()
            .map(|call| {
                let (context, session) = (context.clone(), Arc::clone(self));
                tokio::spawn(async move { session.part(&context, call).await })
            })
            .collect();
        let (mut answers, mut permits, mut begins) = (Vec::new(), None, Vec::new());
        for task in tasks {
            let Ok(part) = task.await else { continue };
            answers.extend(part.answer);
            match (&mut permits, part.permit) {
                (None, permit) => permits = permit,
                (Some(all), Some(permit)) => OwnedSemaphorePermit::merge(all, permit),
                (Some(_), None) => {}
            }
            begins.push(part.begin);
        }
        if !answers.is_empty() {
            let answers = Value::Array(answers);
            self.send(&answers, Some(counted), permits).await;
        }
        begins.into_iter().for_each(begin_following);
    }

    async fn part(self: &Arc<Self>, context: &Context, call: Result<Call, Response>) -> Part {
        let turn = match &call {
            Ok(call) if methods::is_question(&call.method) => Some(self.turn.lock().await),
            _ => None,
        };
        let (mut answer, begin) = self.one(context, call).await;
        let mut permit = None;
        if let Some(whole) = &mut answer {
            permit = Arc::clone(&self.budget)
                .try_acquire_many_owned(cost(whole))
                .ok();
            if permit.is_none() {
                // Waiting would wait for the client, who waits for this batch.
                let id = serde_json::from_value(whole["id"].take()).unwrap_or(Id::Null);
                let error = RpcError::new(
                    ErrorCode::Crowded,
                    format!("the answers that wait for this client exceed {ANSWER_BYTES} bytes"),
                );
                let error = error.hint("read the answers, and ask for less in one batch");
                *whole = respond(id, Err(error));
            }
        }
        drop(turn);
        Part {
            answer,
            permit,
            begin,
        }
    }

    /// One call; what answers it, and what begins its subscription once the answer is out.
    async fn one(
        self: &Arc<Self>,
        context: &Context,
        call: Result<Call, Response>,
    ) -> (Option<Value>, Option<oneshot::Sender<()>>) {
        let call = match call {
            Ok(call) => call,
            Err(refused) => return (serde_json::to_value(refused).ok(), None),
        };
        let id = call.id.clone();
        // A task of its own, so that a panic in it ends this call and nothing else.
        let task = tokio::spawn({
            let (context, session) = (context.clone(), Arc::clone(self));
            async move { methods::call(&context, &session, call).await }
        });
        let Outcome { result, begin } = task.await.unwrap_or_else(|error| {
            tracing::error!("a call ended in a panic: {error}");
            Outcome::from(Err(RpcError::new(
                ErrorCode::InternalError,
                "the call failed inside the supervisor",
            )))
        });
        (id.map(|id| respond(id, result)), begin)
    }

    /// Waits until the client has read enough for one more answer.
    async fn afford(&self, answer: &Value) -> Option<OwnedSemaphorePermit> {
        let budget = Arc::clone(&self.budget);
        budget.acquire_many_owned(cost(answer)).await.ok()
    }

    async fn send(
        &self,
        answer: &Value,
        counted: Option<Counted>,
        permit: Option<OwnedSemaphorePermit>,
    ) {
        let answer = Answer {
            bytes: line(answer),
            _counted: counted,
            _permit: permit,
        };
        // Fails when the client stopped reading and was dropped.
        let _ = self.outbox.send(answer).await;
    }

    /// Sends it if there is room.
    fn offer(&self, answer: &Value) {
        let _ = self.outbox.try_send(Answer {
            bytes: line(answer),
            _counted: None,
            _permit: None,
        });
    }

    /// A notification; `false`: the client is gone.
    pub(super) async fn notify(&self, method: &str, params: Value) -> bool {
        let notification =
            serde_json::json!({"jsonrpc": "2.0", "method": method, "params": params});
        let permit = self.afford(&notification).await;
        let answer = Answer {
            bytes: line(&notification),
            _counted: None,
            _permit: permit,
        };
        self.outbox.send(answer).await.is_ok()
    }

    /// Busy until what this returns is dropped.
    pub(super) fn busy(&self) -> Busy {
        self.seat.busy()
    }

    /// Books a subscription.
    ///
    /// # Errors
    /// When this connection has as many as it may.
    pub(super) fn subscribe(&self, id: u64, task: AbortHandle) -> Result<(), RpcError> {
        let mut subscriptions = self.lock();
        subscriptions.retain(|_, task| !task.is_finished());
        if subscriptions.len() >= SUBSCRIPTIONS {
            task.abort();
            let error = RpcError::new(
                ErrorCode::Crowded,
                format!("this connection has {SUBSCRIPTIONS} subscriptions already"),
            );
            return Err(error.hint("end one of them first"));
        }
        subscriptions.insert(id, task);
        Ok(())
    }

    /// Ends a subscription; `false`: there was none.
    pub(super) fn unsubscribe(&self, id: u64) -> bool {
        let task = self.lock().remove(&id);
        task.inspect(AbortHandle::abort).is_some()
    }

    fn end_subscriptions(&self) {
        for (_, task) in std::mem::take(&mut *self.lock()) {
            task.abort();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, AbortHandle>> {
        self.subscriptions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn begin_following(begin: Option<oneshot::Sender<()>>) {
    if let Some(begin) = begin {
        // Fails when the connection has ended meanwhile.
        let _ = begin.send(());
    }
}

/// Permits for an answer, never more than there are.
fn cost(answer: &Value) -> u32 {
    let most = ANSWER_BYTES / PERMIT_BYTES;
    let permits = (size(answer) / PERMIT_BYTES + 1).min(most);
    u32::try_from(permits).unwrap_or(u32::MAX)
}

/// About as many bytes as it has in memory and on the wire.
fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 16,
        Value::String(text) => 16 + text.len(),
        Value::Array(items) => 16 + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => {
            let members = map.iter();
            16 + members
                .map(|(key, value)| 16 + key.len() + size(value))
                .sum::<usize>()
        }
    }
}

fn line(answer: &Value) -> Vec<u8> {
    let mut bytes = answer.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

async fn write(mut stream: OwnedWriteHalf, mut outbox: mpsc::Receiver<Answer>, seat: Arc<Seat>) {
    while let Some(answer) = outbox.recv().await {
        match tokio::time::timeout(WRITE_BOUND, stream.write_all(&answer.bytes)).await {
            Ok(Ok(())) => seat.touch(),
            Ok(Err(_)) => return,
            Err(_) => {
                tracing::warn!("dropped a client that does not read its answers");
                return;
            }
        }
    }
}
