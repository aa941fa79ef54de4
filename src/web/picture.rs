//! The pictures of the command line, drawn of what the supervisor says now.

use std::io;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};
use hyper::{Request, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::answer::{self, Answer};
use super::guard::Refused;
use super::rpc;
use super::server::Connection;
use crate::api::{List, Response, method};
use crate::pictures::graph::Graph;
use crate::pictures::{svg, timeline};

const SVG: &str = "image/svg+xml";
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";
/// How large the list of services may be (bytes), and how long it may take.
const LIST_BYTES: u64 = 16 << 20;
const LIST_BOUND: Duration = Duration::from_secs(5);

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Picture {
    /// What depends on what.
    Graph,
    /// Who waited for whom at the start.
    Timeline,
}

/// Answers with a picture.
pub(super) async fn draw(
    connection: &Connection,
    request: &Request<Incoming>,
    what: Picture,
) -> Answer {
    match drawn(connection, request, what).await {
        Ok(picture) => {
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
) -> Result<String, Refused> {
    let caller = rpc::caller(connection, request.uri(), request.headers(), "a picture")?;
    let _place = rpc::place(connection, caller)?;
    let list = tokio::time::timeout(LIST_BOUND, list(connection, caller.token)).await;
    let list = list.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let services = list
        .map_err(|error| rpc::unreachable_supervisor(&error))?
        .services;
    Ok(match what {
        Picture::Graph => Graph::of(&services).svg(),
        Picture::Timeline => svg::timeline(&timeline::boot(&services)),
    })
}

async fn list(connection: &Connection, token: bool) -> io::Result<List> {
    let mut stream = connection.shared.connect(token)?;
    let request = crate::api::Request::new(1, method::LIST, serde_json::Value::Null);
    stream.write_all(&serde_json::to_vec(&request)?).await?;
    stream.shutdown().await?;
    let mut answer = Vec::new();
    stream.take(LIST_BYTES).read_to_end(&mut answer).await?;
    let answer: Response = serde_json::from_slice(&answer)?;
    let error = answer.error.map(io::Error::other);
    let result = answer.result.unwrap_or_default();
    error.map_or_else(|| Ok(serde_json::from_value(result)?), Err)
}
