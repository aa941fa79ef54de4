//! Which path is what.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::answer::{self, Answer};
use super::rpc;
use super::server::Connection;

/// Answers one request.
pub(super) async fn answer(connection: Arc<Connection>, request: Request<Incoming>) -> Answer {
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let site = &connection.shared.site;
    let path = request.uri().path();
    if let Some(known) = site.open_paths().iter().find(|known| **known == path) {
        if !looks {
            return rpc::wrong_method(request.method(), "GET, HEAD");
        }
        let Some(page) = site.open_page(known).await else {
            return not_found(&connection);
        };
        let status = StatusCode::from_u16(page.status).unwrap_or_default();
        return answer::with(status, page.kind, page.body);
    }
    match (path, request.method()) {
        ("/", &Method::POST) => rpc::post(&connection, request).await,
        ("/", _) => rpc::wrong_method(request.method(), "POST"),
        _ => not_found(&connection),
    }
}

fn not_found(connection: &Connection) -> Answer {
    let open = connection.shared.site.open_paths();
    let mut known: Vec<&str> = vec!["/"];
    known.extend(open);
    let text = format!("there are {}\n", known.join(", "));
    answer::text(StatusCode::NOT_FOUND, text)
}
