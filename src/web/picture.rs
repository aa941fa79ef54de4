//! The pictures of the command line, drawn of what the supervisor says now and what it keeps.

use std::io;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::answer::{self, Answer};
use super::guard::Refused;
use super::rpc;
use super::server::Connection;
use crate::api::{LastShutdown, List, Response, method};
use crate::pictures::graph::Graph;
use crate::pictures::{svg, timeline};

const SVG: &str = "image/svg+xml";
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
/// How large what is drawn may be (bytes), and how long it may take.
const ANSWER_BYTES: u64 = 16 << 20;
const BOUND: Duration = Duration::from_secs(5);

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Picture {
    /// What depends on what.
    Graph,
    /// Who waited for whom at the start.
    Timeline,
    /// The same, in the last shutdown on record.
    Shutdown,
}

impl Picture {
    /// The picture of this path.
    pub(super) fn at(path: &str) -> Option<Self> {
        match path {
            "/graph.svg" => Some(Picture::Graph),
            "/timeline.svg" => Some(Picture::Timeline),
            "/shutdown.svg" => Some(Picture::Shutdown),
            _ => None,
        }
    }
}

/// What there is instead while there has been none.
const NO_SHUTDOWN: &str = "no receipt of a shutdown is kept here yet: the next one's are shown once \
    the supervisor runs again, unless its state directory is gone by then, as /run is after a boot\n";

/// Answers with a picture.
pub(super) async fn draw(
    connection: &Connection,
    request: &Request<Incoming>,
    what: Picture,
) -> Answer {
    match drawn(connection, request, what).await {
        Ok(None) => answer::text(StatusCode::NOT_FOUND, NO_SHUTDOWN),
        Ok(Some(picture)) => {
            let mut answer = answer::with(StatusCode::OK, SVG, picture);
            // For who looks at it by itself: its colours stand in it.
            let policy = HeaderValue::from_static(POLICY);
            answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
            answer
        }
        Err(refused) => answer::refusal(refused),
    }
}

async fn drawn(
    connection: &Connection,
    request: &Request<Incoming>,
    what: Picture,
) -> Result<Option<String>, Refused> {
    let caller = rpc::caller(connection, request.uri(), request.headers(), "a picture")?;
    let _place = rpc::place(connection, caller)?;
    let drawn = tokio::time::timeout(BOUND, picture(connection, caller.token, what)).await;
    let drawn = drawn.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    drawn.map_err(|error| rpc::unreachable_supervisor(&error))
}

/// `None`: there is nothing of which it would be.
async fn picture(
    connection: &Connection,
    token: bool,
    what: Picture,
) -> io::Result<Option<String>> {
    let list = || ask::<List>(connection, token, method::LIST);
    Ok(match what {
        Picture::Graph => Some(Graph::of(&list().await?.services).svg()),
        Picture::Timeline => Some(svg::timeline(&timeline::boot(&list().await?.services))),
        Picture::Shutdown => {
            let last: LastShutdown = ask(connection, token, method::LAST_SHUTDOWN).await?;
            let shutdown = timeline::shutdown(last.receipts);
            shutdown.map(|shutdown| svg::timeline(&shutdown))
        }
    })
}

async fn ask<T: DeserializeOwned>(
    connection: &Connection,
    token: bool,
    method: &str,
) -> io::Result<T> {
    let mut stream = connection.shared.connect(token)?;
    let request = crate::api::Request::new(1, method, serde_json::Value::Null);
    stream.write_all(&serde_json::to_vec(&request)?).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES).read_to_end(&mut answer).await?;
    let answer: Response = serde_json::from_slice(&answer)?;
    let error = answer.error.map(io::Error::other);
    let result = answer.result.unwrap_or_default();
    error.map_or_else(|| Ok(serde_json::from_value(result)?), Err)
}
