//! One client: bytes to calls, answers to bytes, within limits.
//!
//! Calls that wait for work are carried out side by side. Questions, which are answered at once
//! and may have long answers, take turns, and no more answers are made than [`ANSWER_BYTES`]
//! until the client has read some: a client that asks and never reads costs no more than that.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::gauge::Counted;
use super::hangup::hung_up;
use super::methods::{self, Context, Outcome};
use super::places::{Busy, Crowd, Flow, Kept, Seat};
use super::reader::{self, CALLS, Lane};
use super::unknown;
use crate::api::{Call, ErrorCode, Id, Incoming, Response, RpcError};

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

/// What the calls of one connection share.
#[derive(Debug)]
pub(super) struct Session {
    outbox: mpsc::Sender<Answer>,
    budget: Arc<Semaphore>,
    /// Questions take turns.
    turn: tokio::sync::Mutex<()>,
    subscriptions: Mutex<BTreeMap<u64, AbortHandle>>,
    pub(super) seat: Arc<Seat>,
    /// It is told nothing of what stands in files.
    discreet: AtomicBool,
    gone: Arc<watch::Sender<bool>>,
    /// It asked for the end, which lets it read the answer.
    attended: Arc<OnceLock<Counted>>,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// It has to make room.
    Dismissed(Crowd),
    /// The client has closed its socket.
    Closed,
    /// The client does not read its answers.
    Slow,
    /// The client says nothing more and has all its answers.
    Answered,
}

/// An answer on its way, and what is held until it is written.
#[derive(Debug)]
struct Answer {
    bytes: Vec<u8>,
    /// For the end of a shutdown, which waits for answers.
    _counted: Option<Counted>,
    _shares: Vec<Share>,
}

/// An answer's share of what may wait to be read: of this connection, and of all.
#[derive(Debug)]
struct Share {
    _permit: OwnedSemaphorePermit,
    _kept: Kept,
}

/// Serves one client until it goes, stops reading, or has to make room.
pub(super) async fn run(stream: UnixStream, context: Context, seat: Seat) {
    let (mut reads, writes) = stream.into_split();
    let (outbox, answers) = mpsc::channel(CALLS);
    let farewell = outbox.downgrade();
    let gone = Arc::new(watch::Sender::new(false));
    let attended = Arc::new(OnceLock::new());
    let seat = Arc::new(seat);
    let session = Arc::new(Session {
        outbox,
        budget: Arc::new(Semaphore::new(ANSWER_BYTES / PERMIT_BYTES)),
        turn: tokio::sync::Mutex::new(()),
        subscriptions: Mutex::default(),
        seat: Arc::clone(&seat),
        discreet: AtomicBool::new(false),
        gone: Arc::clone(&gone),
        attended: Arc::clone(&attended),
    });
    let mut writer = tokio::spawn(write(writes, answers, Arc::clone(&seat)));
    let mut end = {
        let mut reading = std::pin::pin!(reader::read(&mut reads, &context, &session));
        let end = tokio::select! {
            biased;
            why = seat.dismissed() => End::Dismissed(why),
            written = &mut writer => written.unwrap_or(End::Closed),
            () = &mut reading => End::Answered,
        };
        session.end_subscriptions();
        if end == End::Closed {
            // What it had sent before is done all the same.
            session.abandon();
            tokio::select! {
                biased;
                _ = seat.dismissed() => {}
                () = reading => {}
            }
        }
        end
    };
    // As long as it lives the writer waits for more.
    let kept = matches!(end, End::Dismissed(_)).then_some(session);
    if end == End::Answered {
        // Whoever closed its writing end alone still gets the answers it waits for.
        end = tokio::select! {
            biased;
            why = seat.dismissed() => End::Dismissed(why),
            written = &mut writer => written.unwrap_or(End::Closed),
            () = hung_up(reads.as_ref()) => End::Closed,
        };
    }
    if let End::Dismissed(why) = end {
        let error = sent_away(why);
        tracing::debug!("sent a client away: {error}");
        if let Some(outbox) = farewell.upgrade() {
            let _ = outbox.try_send(Answer::of(&respond(Id::Null, Err(error))));
        }
        drop(kept);
        let _ = tokio::time::timeout(FAREWELL, &mut writer).await;
    }
    writer.abort();
    gone.send_replace(true);
    seat.leave();
}

/// What a client is told that has to make room.
fn sent_away(why: Crowd) -> RpcError {
    let (message, hint) = match why {
        Crowd::Connections => (
            "there are too many connections, and this one was idle the longest".into(),
            "connect again",
        ),
        Crowd::Bytes(flow @ Flow::Requests) => (
            format!(
                "requests that are not whole or wait for their turn exceed {} bytes, and of this \
                 connection's nothing more came for the longest",
                flow.together()
            ),
            "connect again, send requests at once, and read the answers",
        ),
        Crowd::Bytes(flow @ Flow::Answers) => (
            format!(
                "answers that are not read exceed {} bytes, and this connection has read none for \
                 the longest",
                flow.together()
            ),
            "connect again, and read the answers as they come",
        ),
    };
    RpcError::new(ErrorCode::Crowded, message).hint(hint)
}

fn respond(id: Id, outcome: Result<Value, RpcError>) -> Value {
    serde_json::to_value(Response::new(id, outcome)).unwrap_or_default()
}

/// What one call of a batch gave.
struct Part {
    answer: Option<Value>,
    share: Option<Share>,
    begin: Option<oneshot::Sender<()>>,
}

impl Answer {
    /// One that is part of no budget.
    fn of(answer: &Value) -> Self {
        Answer {
            bytes: line(answer),
            _counted: None,
            _shares: Vec::new(),
        }
    }
}

impl Session {
    /// Answers what came; `kept` is what the request itself costs, until its parameters are used.
    pub(super) async fn carry_out(
        self: &Arc<Self>,
        context: &Context,
        what: Incoming,
        counted: Counted,
        kept: Kept,
        mut lane: Lane,
    ) {
        match what {
            Incoming::Single(call) => {
                let place = lane.next().await;
                let (turn, kept) = self.turn_for(&call, Some(Arc::new(kept))).await;
                let (answer, begin) = self.one(context, call).await;
                drop(kept);
                if let Some(answer) = answer {
                    let share = self.afford(&answer).await;
                    self.send(&answer, Some(counted), share).await;
                }
                drop((turn, place));
                begin_following(begin);
            }
            Incoming::Batch(calls) => self.batch(context, calls, counted, kept, lane).await,
        }
    }

    /// Questions wait for their turn. What waits for work has used its parameters at once.
    async fn turn_for(
        &self,
        call: &Result<Call, Response>,
        kept: Option<Arc<Kept>>,
    ) -> (Option<tokio::sync::MutexGuard<'_, ()>>, Option<Arc<Kept>>) {
        match call {
            Ok(call) if methods::is_question(&call.method) => (Some(self.turn.lock().await), kept),
            _ => (None, None),
        }
    }

    /// Together, as if each had come by itself: a stop in a batch must not keep the status beside
    /// it waiting.
    async fn batch(
        self: &Arc<Self>,
        context: &Context,
        calls: Vec<Result<Call, Response>>,
        counted: Counted,
        kept: Kept,
        mut lane: Lane,
    ) {
        let kept = Arc::new(kept);
        let mut tasks = Vec::with_capacity(calls.len());
        for call in calls {
            let place = lane.next().await;
            let (context, session) = (context.clone(), Arc::clone(self));
            let kept = Arc::clone(&kept);
            tasks.push(tokio::spawn(async move {
                let part = session.part(&context, call, kept).await;
                drop(place);
                part
            }));
        }
        drop((kept, lane));
        let (mut answers, mut shares, mut begins) = (Vec::new(), Vec::new(), Vec::new());
        for task in tasks {
            let Ok(part) = task.await else { continue };
            answers.extend(part.answer);
            shares.extend(part.share);
            begins.push(part.begin);
        }
        if !answers.is_empty() {
            self.send(&Value::Array(answers), Some(counted), shares)
                .await;
        }
        begins.into_iter().for_each(begin_following);
    }

    async fn part(
        self: &Arc<Self>,
        context: &Context,
        call: Result<Call, Response>,
        kept: Arc<Kept>,
    ) -> Part {
        let (turn, kept) = self.turn_for(&call, Some(kept)).await;
        let (mut answer, begin) = self.one(context, call).await;
        drop(kept);
        let mut share = None;
        if let Some(whole) = &mut answer {
            share = Arc::clone(&self.budget)
                .try_acquire_many_owned(cost(whole))
                .ok()
                .and_then(|permit| self.share(whole, permit));
            if share.is_none() {
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
            share,
            begin,
        }
    }

    /// Counts it until the client has closed its connection.
    pub(super) fn attend(&self, counted: Counted) {
        let _ = self.attended.set(counted);
    }

    /// From here on it is told nothing of what stands in files.
    pub(super) fn be_discreet(&self) {
        self.discreet.store(true, Ordering::Relaxed);
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
            async move {
                if methods::is_question(&call.method) {
                    return methods::call(&context, &session, call).await;
                }
                let mut gone = session.gone.subscribe();
                tokio::select! {
                    // It is asked for in its first turn, whoever waits for what comes of it.
                    biased;
                    outcome = methods::call(&context, &session, call) => outcome,
                    _ = gone.wait_for(|gone| *gone) => Outcome::from(Ok(Value::Null)),
                }
            }
        });
        let Outcome { result, begin } = task.await.unwrap_or_else(|error| {
            tracing::error!("a call ended in a panic: {error}");
            let error = RpcError::new(
                ErrorCode::InternalError,
                "the call failed inside the supervisor",
            );
            Outcome::from(Err(error.hint(
                "its own log says where: report that as a bug; everything else goes on",
            )))
        });
        let result = match result {
            Err(error) => {
                let whole = !self.discreet.load(Ordering::Relaxed);
                Err(context.locate(unknown::explain(context, error, whole).await))
            }
            done => done,
        };
        (id.map(|id| respond(id, result)), begin)
    }

    /// Waits until the client has read enough for one more answer; `None`: it has to go.
    async fn afford(&self, answer: &Value) -> Option<Share> {
        let budget = Arc::clone(&self.budget);
        let permit = budget.acquire_many_owned(cost(answer)).await.ok()?;
        self.share(answer, permit)
    }

    fn share(&self, answer: &Value, permit: OwnedSemaphorePermit) -> Option<Share> {
        // One that is larger waits alone, and is no reason to send its reader away.
        let bytes = size(answer).min(ANSWER_BYTES);
        Some(Share {
            _kept: self.seat.keep(Flow::Answers, bytes)?,
            _permit: permit,
        })
    }

    async fn send(
        &self,
        answer: &Value,
        counted: Option<Counted>,
        shares: impl IntoIterator<Item = Share>,
    ) {
        let answer = Answer {
            bytes: line(answer),
            _counted: counted,
            _shares: shares.into_iter().collect(),
        };
        // Fails when the client stopped reading and was dropped.
        let _ = self.outbox.send(answer).await;
    }

    /// Answers what is no request.
    pub(super) async fn refuse(&self, error: RpcError) {
        self.send(&respond(Id::Null, Err(error)), None, None).await;
    }

    /// The client has closed its socket: nobody waits for anything any more.
    pub(super) fn abandon(&self) {
        self.gone.send_replace(true);
    }

    /// A notification; `false`: the client is gone.
    pub(super) async fn notify(&self, method: &str, params: Value) -> bool {
        let notification =
            serde_json::json!({"jsonrpc": "2.0", "method": method, "params": params});
        let Some(share) = self.afford(&notification).await else {
            return false;
        };
        let answer = Answer {
            bytes: line(&notification),
            _counted: None,
            _shares: vec![share],
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
pub(super) fn size(value: &Value) -> usize {
    const OWN: usize = size_of::<Value>();
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => OWN,
        Value::String(text) => OWN + text.len(),
        Value::Array(items) => OWN + items.iter().map(size).sum::<usize>(),
        Value::Object(map) => {
            let members = map.iter();
            OWN + members
                .map(|(key, value)| OWN + key.len() + size(value))
                .sum::<usize>()
        }
    }
}

fn line(answer: &Value) -> Vec<u8> {
    let mut bytes = answer.to_string().into_bytes();
    bytes.push(b'\n');
    bytes
}

/// Writes until there is nothing more to come, or nobody reads it.
async fn write(
    mut stream: OwnedWriteHalf,
    mut outbox: mpsc::Receiver<Answer>,
    seat: Arc<Seat>,
) -> End {
    while let Some(answer) = outbox.recv().await {
        match tokio::time::timeout(WRITE_BOUND, stream.write_all(&answer.bytes)).await {
            Ok(Ok(())) => seat.moved(Flow::Answers),
            Ok(Err(_)) => return End::Closed,
            Err(_) => {
                tracing::warn!("dropped a client that does not read its answers");
                return End::Slow;
            }
        }
    }
    End::Answered
}
