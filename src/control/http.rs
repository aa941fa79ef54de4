//! Probes and metrics over HTTP, off unless an address is given. It shows and changes nothing:
//! each connection asks one thing, within limits, and concerns nobody but itself.

use std::convert::Infallible;
use std::net::TcpListener as StdListener;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::metrics::{self, Tally};
use super::{Ask, Clocks, Look, Seen, Use};
use crate::api::{self, Info, ServiceStatus};
use crate::core::Time;
use crate::sys::clock;

/// Connections at a time; more wait in the listen queue.
const CONNECTIONS: usize = 64;
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
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return Ok(());
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(connection(stream, context.clone(), place));
            }
            // EMFILE and the like: it stays in the queue and would be reported again at once.
            Err(error) => {
                tracing::warn!("failed to accept an HTTP connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, context: Context, _place: OwnedSemaphorePermit) {
    let service = service_fn(move |request| {
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
