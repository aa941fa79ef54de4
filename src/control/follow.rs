//! Subscriptions to the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use serde_json::Value;
use tokio::sync::oneshot;

use super::methods::Outcome;
use super::session::Session;
use crate::api::{ErrorCode, Item, LogLines, LogRecord, RpcError};
use crate::logs::{Batch, Follow, Kept, Line, Logs};

/// Subscriptions of all connections together: each may hold [`crate::logs::FOLLOW_BYTES`].
const SUBSCRIPTIONS: usize = 256;

/// How many subscriptions there are, and the next one's number; clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Subscribers(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    next: AtomicU64,
    here: AtomicUsize,
}

/// Counted until dropped.
#[derive(Debug)]
struct Subscriber(Arc<Counts>);

impl Subscribers {
    fn enter(&self) -> Result<(u64, Subscriber), RpcError> {
        let subscriber = Subscriber(Arc::clone(&self.0));
        if self.0.here.fetch_add(1, Ordering::AcqRel) >= SUBSCRIPTIONS {
            let error = RpcError::new(
                ErrorCode::Crowded,
                format!("there are {SUBSCRIPTIONS} subscriptions already"),
            );
            return Err(error.hint("end one of them, or try again later"));
        }
        let id = self.0.next.fetch_add(1, Ordering::AcqRel) + 1;
        Ok((id, subscriber))
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.0.here.fetch_sub(1, Ordering::AcqRel);
    }
}

/// How a subscription's items look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// zinit's: every line an item of its own.
    Line,
    /// Ours: what has come since the last item, and what was lost.
    Lines,
    /// The same as records.
    Records,
}

/// Lines as they are answered with.
pub(super) fn lines<'a>(
    lines: impl Iterator<Item = &'a Line>,
    lost: u64,
    records: bool,
) -> LogLines {
    if records {
        let (lines, records) = (Vec::new(), lines.map(record).collect());
        return LogLines {
            lines,
            lost,
            records,
        };
    }
    LogLines {
        lines: lines.map(ToString::to_string).collect(),
        lost,
        records: Vec::new(),
    }
}

fn record(line: &Line) -> LogRecord {
    LogRecord {
        time: line.time(),
        service: line.source.to_string(),
        stream: line.stream.as_str().into(),
        cut: line.cut.word().map(str::to_owned),
        text: String::from_utf8_lossy(&line.text).into_owned(),
    }
}

/// What is subscribed to.
#[derive(Debug)]
pub(super) struct Wanted {
    /// The notifications' name.
    pub(super) method: &'static str,
    pub(super) shape: Shape,
    /// None: all of them.
    pub(super) sources: Vec<String>,
    /// So many lines of those that are kept come first.
    pub(super) last: usize,
}

/// Subscribes a connection; the items begin when the answer is on its way.
pub(super) fn subscribe(
    session: &Arc<Session>,
    subscribers: &Subscribers,
    logs: &Logs,
    wanted: Wanted,
) -> Outcome {
    let (id, subscriber) = match subscribers.enter() {
        Ok(entered) => entered,
        Err(error) => return Outcome::from(Err(error)),
    };
    let (begin, begun) = oneshot::channel();
    let (kept, follow) = logs.follow(&wanted.sources, wanted.last);
    // Not the session itself: it would never end.
    let weak = Arc::downgrade(session);
    let busy = session.busy();
    let task = tokio::spawn(async move {
        if begun.await.is_ok() {
            forward(&weak, &wanted, id, kept, follow).await;
        }
        drop((subscriber, busy));
    });
    match session.subscribe(id, task.abort_handle()) {
        Ok(()) => Outcome {
            result: Ok(Value::from(id)),
            begin: Some(begin),
        },
        Err(error) => Outcome::from(Err(error)),
    }
}

async fn forward(
    session: &std::sync::Weak<Session>,
    wanted: &Wanted,
    id: u64,
    kept: Kept,
    mut follow: Follow,
) {
    let records = wanted.shape == Shape::Records;
    // zinit's subscribers ask for what comes, not for what was.
    let lost = if wanted.shape == Shape::Line {
        0
    } else {
        kept.lost
    };
    let first = lines(kept.lines.iter(), lost, records);
    drop(kept);
    if !send(session, wanted, id, first).await {
        return;
    }
    loop {
        let batch: Batch = follow.next().await;
        let next = lines(batch.lines.iter().map(|line| &**line), batch.lost, records);
        drop(batch);
        if !send(session, wanted, id, next).await {
            return;
        }
    }
}

/// `false`: nobody listens any more.
async fn send(
    session: &std::sync::Weak<Session>,
    wanted: &Wanted,
    id: u64,
    lines: LogLines,
) -> bool {
    let items: Vec<Value> = match wanted.shape {
        Shape::Lines | Shape::Records => vec![serde_json::to_value(&lines).unwrap_or_default()],
        Shape::Line => {
            let gap = (lines.lost > 0).then(|| lost_line(lines.lost));
            lines
                .lines
                .into_iter()
                .chain(gap)
                .map(Value::from)
                .collect()
        }
    };
    for result in items {
        let Some(session) = session.upgrade() else {
            return false;
        };
        let item = Item {
            subscription: id,
            result,
        };
        let params = serde_json::to_value(item).unwrap_or_default();
        if !session.notify(wanted.method, params).await {
            return false;
        }
    }
    true
}

/// A gap, where every item is a line.
fn lost_line(lost: u64) -> String {
    format!("[!] nought: {lost} lines lost: this reader was too slow")
}
