//! Which path is what.

use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::HOST;
use hyper::{Method, Request, StatusCode};

use super::answer::{self, Answer};
use super::picture::{self, Picture};
use super::server::Connection;
use super::{guard, page, rpc, socket};

/// Our own paths.
const PATHS: [&str; 4] = ["/", "/graph.svg", "/timeline.svg", "/shutdown.svg"];

/// Answers one request.
pub(super) async fn answer(connection: Arc<Connection>, request: Request<Incoming>) -> Answer {
    let looks = matches!(*request.method(), Method::GET | Method::HEAD);
    let site = &connection.shared.site;
    let path = request.uri().path();
    if let Some(known) = site.open_paths().iter().find(|known| **known == path) {
        if !looks {
            return rpc::wrong_method(request.method(), "GET, HEAD");
        }
        // A kubelet names the pod as it knows it; here a name that is not ours is a page's that
        // somebody's browser took for its own server. HTTP/1.0 has no names.
        let named = request.headers().contains_key(HOST);
        if named && !connection.shared.beyond {
            let local = connection.local;
            if let Err(refused) = guard::host(request.uri(), request.headers(), local) {
                return answer::refusal(refused);
            }
        }
        let Some(page) = site.open_page(known).await else {
            return not_found(&connection);
        };
        let status = StatusCode::from_u16(page.status).unwrap_or_default();
        return answer::with(status, page.kind, page.body);
    }
    match path {
        "/" if *request.method() == Method::POST => rpc::post(&connection, request).await,
        "/" if *request.method() == Method::GET && socket::is_asked_for(request.headers()) => {
            socket::begin(connection, request)
        }
        "/" if looks => page::page(&connection, &request),
        "/" => rpc::wrong_method(request.method(), "GET, HEAD, POST"),
        path => match Picture::at(path) {
            Some(picture) if looks => picture::draw(&connection, &request, picture).await,
            Some(_) => rpc::wrong_method(request.method(), "GET, HEAD"),
            None => not_found(&connection),
        },
    }
}

fn not_found(connection: &Connection) -> Answer {
    let open = connection.shared.site.open_paths();
    let known: Vec<&str> = PATHS.iter().chain(open).copied().collect();
    let text = format!("there are {}\n", known.join(", "));
    answer::text(StatusCode::NOT_FOUND, text)
}
