//! Probes and metrics over HTTP, off unless an address is given. It shows and changes nothing:
//! each connection asks one thing, within limits, and concerns nobody but itself.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::metrics::{self, Tally};
use super::{Ask, Clocks, Look, Seen, Use};
use crate::api::{self, Info, ServiceStatus};
use crate::core::Time;
use crate::sys::clock;

/// Connections at a time. When there are as many, the oldest that has asked nothing gives way to
/// a new one, so that clients who say nothing keep no probe out.
const CONNECTIONS: usize = 64;
/// How long a client may say nothing while others wait.
const SILENCE: Duration = Duration::from_millis(50);
/// How long a connection may take from its first byte to its last.
const CONNECTION_BOUND: Duration = Duration::from_secs(10);
/// How long a client may take to send its request's head.
const HEAD_BOUND: Duration = Duration::from_secs(5);
/// A loop that does not answer within this is not alive: it never waits for anything.
const ANSWER_BOUND: Duration = Duration::from_secs(3);
/// How long to leave the listen queue alone when there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What every request needs.
#[derive(Clone, Debug)]
struct Context {
    asks: mpsc::UnboundedSender<Ask>,
    tally: Tally,
}

/// A connection under way.
struct Open {
    since: Instant,
    /// Its client has sent a request.
    asked: Arc<AtomicBool>,
    served: AbortHandle,
}

type Page = Response<Full<Bytes>>;

/// Accepts connections until the task is dropped.
///
/// # Errors
/// When the listener cannot be watched.
pub async fn serve(
    listener: StdListener,
    asks: mpsc::UnboundedSender<Ask>,
    tally: Tally,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let context = Context { asks, tally };
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut open = VecDeque::new();
    loop {
        // Whoever has just been let in is heard before the next.
        tokio::task::yield_now().await;
        let accepted = listener.accept().await;
        let Some(place) = place(&places, &mut open).await else {
            return Ok(());
        };
        match accepted {
            Ok((stream, _)) => {
                let asked = Arc::new(AtomicBool::new(false));
                let served = connection(stream, context.clone(), Arc::clone(&asked), place);
                open.push_back(Open {
                    since: Instant::now(),
                    asked,
                    served: tokio::spawn(served).abort_handle(),
                });
            }
            // EMFILE and the like: it stays in the queue and would be reported again at once.
            Err(error) => {
                tracing::warn!("failed to accept an HTTP connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// A place for one more connection, if need be that of the oldest silent one.
async fn place(places: &Arc<Semaphore>, open: &mut VecDeque<Open>) -> Option<OwnedSemaphorePermit> {
    loop {
        open.retain(|connection| !connection.served.is_finished());
        let free = Arc::clone(places).acquire_owned();
        // In the order in which they came: the first is the oldest.
        let silent = open
            .iter()
            .position(|connection| !connection.asked.load(Ordering::Relaxed));
        let Some((at, since)) = silent.and_then(|at| Some((at, open.get(at)?.since))) else {
            return free.await.ok();
        };
        if let Ok(free) = tokio::time::timeout_at(since + SILENCE, free).await {
            return free.ok();
        }
        if let Some(connection) = open.get(at)
            && !connection.asked.load(Ordering::Relaxed)
        {
            connection.served.abort();
            open.remove(at);
        }
    }
}

async fn connection(
    stream: TcpStream,
    context: Context,
    asked: Arc<AtomicBool>,
    _place: OwnedSemaphorePermit,
) {
    let service = service_fn(move |request| {
        asked.store(true, Ordering::Relaxed);
        let context = context.clone();
        async move { Ok::<_, Infallible>(answer(&context, &request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_BOUND)
        .keep_alive(false)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // A client that is slow, gone or hostile needs no answer.
    let _ = tokio::time::timeout(CONNECTION_BOUND, served).await;
}

async fn answer(context: &Context, request: &Request<Incoming>) -> Page {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".into());
    }
    let path = request.uri().path();
    if !matches!(path, "/livez" | "/readyz" | "/startupz" | "/metrics") {
        let known = "there are /livez, /readyz, /startupz and /metrics\n";
        return text(StatusCode::NOT_FOUND, known.into());
    }
    let Some(info) = ask(context, Ask::Info).await else {
        let stuck = "[-]supervisor: its loop does not answer\n";
        return text(StatusCode::SERVICE_UNAVAILABLE, stuck.into());
    };
    if path == "/livez" {
        return text(StatusCode::OK, "ok\n".into());
    }
    if path == "/metrics" {
        let used = ask(context, |answer| Ask::Use(None, answer)).await;
        let used = used.into_iter().flatten().filter(|(seen, _)| !seen.ghost);
        return metrics_page(context, &info, used.collect());
    }
    let seen = ask(context, |answer| Ask::Look(Look::default(), answer)).await;
    let statuses = seen.into_iter().flatten();
    let services: Vec<ServiceStatus> = statuses
        .filter(|seen| !seen.ghost)
        .map(|seen| seen.status)
        .collect();
    if path == "/readyz" {
        ready_page(&info, &services)
    } else {
        startup_page(&context.tally, &services)
    }
}

/// Asks the loop; `None`: it did not answer in time, or has ended.
async fn ask<T>(context: &Context, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    context.asks.send(ask(sender)).ok()?;
    tokio::time::timeout(ANSWER_BOUND, answer).await.ok()?.ok()
}

fn ready_page(info: &Info, services: &[ServiceStatus]) -> Page {
    if info.shutting_down {
        let why = "[-]supervisor: shutting down\n";
        return text(StatusCode::SERVICE_UNAVAILABLE, why.into());
    }
    let lines = api::unready(services)
        .into_iter()
        .map(|unready| format!("[-]{}: {}\n", unready.service, unready.why));
    verdict(lines.collect())
}

fn startup_page(tally: &Tally, services: &[ServiceStatus]) -> Page {
    let never = tally.starting_up(services).into_iter();
    verdict(
        never
            .map(|name| format!("[-]{name}: never was ready\n"))
            .collect(),
    )
}

fn metrics_page(context: &Context, info: &Info, services: Vec<(Seen, Use)>) -> Page {
    let clocks = Clocks {
        boot: Time::from_nanos(clock::boot_now()),
        wall_ms: clock::wall_now_ms(),
    };
    let body = metrics::page(info, &services, &context.tally, clocks);
    page(StatusCode::OK, METRICS, body)
}

/// Well, or what is not.
fn verdict(wrong: String) -> Page {
    if wrong.is_empty() {
        text(StatusCode::OK, "ok\n".into())
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, wrong)
    }
}

fn text(status: StatusCode, body: String) -> Page {
    page(status, TEXT, body)
}

fn page(status: StatusCode, kind: &'static str, body: String) -> Page {
    let mut page = Response::new(Full::new(Bytes::from(body)));
    *page.status_mut() = status;
    let headers = page.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    page
}
