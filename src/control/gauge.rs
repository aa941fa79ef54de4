//! How many things are on their way, answers as a rule: at the end of a shutdown they are waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts calls from their arrival until their answer is written, or their client is gone; or other
/// work that is not to be cut off.
#[derive(Clone, Debug, Default)]
pub struct Gauge(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    calls: AtomicUsize,
    idle: Notify,
}

/// One call that is counted until this is dropped.
#[derive(Debug)]
pub struct Counted(Arc<Shared>);

impl Gauge {
    /// Counts one more, until what this returns is dropped.
    pub fn count(&self) -> Counted {
        self.0.calls.fetch_add(1, Ordering::AcqRel);
        Counted(Arc::clone(&self.0))
    }

    /// Waits until nothing is on its way. The caller bounds it.
    pub async fn idle(&self) {
        loop {
            // Made before the look, so that the last one's end is not missed between the two.
            let idle = self.0.idle.notified();
            if self.0.calls.load(Ordering::Acquire) == 0 {
                return;
            }
            idle.await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;

    use super::*;
    use crate::control::places::Places;
    use crate::control::{Ask, Context, Http, Tally, session};
    use crate::core::{Reply, Request};
    use crate::logs::{Limits, Logs, Sink};

    const BOUND: Duration = Duration::from_secs(30);

    /// A loop that grants every end.
    fn context() -> Context {
        let (asks, mut asked) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(ask) = asked.recv().await {
                if let Ask::Do(Request::Shutdown { .. }, answer) = ask {
                    let (lingering, unverified) = (Vec::new(), Vec::new());
                    let _ = answer.send(Reply::ShutDown {
                        lingering,
                        unverified,
                    });
                }
            }
        });
        let logs = Logs::new(Limits::default(), Sink::stdio());
        let http = Http::new("nowhere".into(), false, Tally::default());
        Context::new(asks, logs, Gauge::default(), http, Path::new("nowhere"))
    }

    /// A client that has read the answer to what it asked, and stays.
    async fn asks(context: &Context, params: &str) -> (UnixStream, String) {
        let (mut client, ours) = UnixStream::pair().unwrap();
        let seat = Places::default().take();
        tokio::spawn(session::run(ours, context.clone(), seat));
        let call = format!(
            "{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"nought_shutdown\",\"params\":{params}}}\n"
        );
        client.write_all(call.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let mut lines = BufReader::new(&mut client);
        let read = lines.read_line(&mut answer);
        tokio::time::timeout(BOUND, read).await.unwrap().unwrap();
        (client, answer)
    }

    #[tokio::test]
    async fn who_ended_everything_is_waited_for_until_it_goes_and_who_was_refused_is_not() {
        let context = context();
        let (refused, answer) = asks(&context, r#"{"kind":"never"}"#).await;
        assert!(answer.contains("InvalidParams"), "{answer}");
        // At once: what is idle is found so at the first look.
        let farewell = tokio::time::timeout(Duration::ZERO, context.farewell());
        assert_eq!(farewell.await, Ok(()));
        let (granted, answer) = asks(&context, "{}").await;
        assert!(answer.contains("elapsed_ms"), "{answer}");
        let farewell = tokio::time::timeout(Duration::ZERO, context.farewell());
        assert!(farewell.await.is_err());
        drop(granted);
        let farewell = tokio::time::timeout(BOUND, context.farewell());
        assert_eq!(farewell.await, Ok(()));
        drop(refused);
    }
}
