//! What a request must be before anything is done for it: for this server by its own name, from
//! its own page or from no page at all, and with the right token or none.
//!
//! A page of another site makes a browser send requests, too. By a name of its own that it lets
//! point here (DNS rebinding) they would count as that site's own: the Host says that name.
//! Otherwise the Origin says whose they are.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderName};
use hyper::http::uri::Authority;
use hyper::http::{HeaderMap, HeaderValue, StatusCode, Uri};

use super::rights::TOKEN_HINT;
use super::token::Token;
use crate::api::{ErrorCode, Id, RpcError};

/// The protocol of our WebSockets.
pub(super) const PROTOCOL: &str = "nought";
/// A browser's script can set no header on a WebSocket: the token comes as a protocol.
const TOKEN_PROTOCOL: &str = "nought.token.";

/// Why a request is not carried out.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refused {
    pub(super) status: StatusCode,
    /// Which call it answers.
    pub(super) id: Id,
    pub(super) error: RpcError,
}

impl Refused {
    pub(super) fn new(status: StatusCode, error: RpcError) -> Self {
        let id = Id::Null;
        Refused { status, id, error }
    }
}

/// Whether the request is for this server, by a name that only this machine has.
///
/// # Errors
/// When it names another one, or none, or several.
pub(super) fn host(uri: &Uri, headers: &HeaderMap, local: SocketAddr) -> Result<(), Refused> {
    let refused = |message: String| {
        let error = RpcError::new(ErrorCode::Forbidden, message);
        let hint = format!(
            "use http://{local}/ or http://localhost:{}/; a proxy in front has to say so, too",
            local.port()
        );
        Err(Refused::new(
            StatusCode::MISDIRECTED_REQUEST,
            error.hint(hint),
        ))
    };
    if uri.authority().is_some() {
        return refused("the request names its server in its first line".into());
    }
    let Some(host) = only(headers, &header::HOST) else {
        return refused("the request has no Host, or several".into());
    };
    match host.parse::<Authority>() {
        Ok(named) if is_ours(named.host(), local.ip()) && !host.contains('@') => Ok(()),
        _ => refused(format!("this server is not {host:?}")),
    }
}

fn is_ours(name: &str, local: IpAddr) -> bool {
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']'));
    match bare.unwrap_or(name).parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || address == local.to_canonical(),
        Err(_) => name.eq_ignore_ascii_case("localhost"),
    }
}

/// Whether the request comes from our own page, or from no page at all.
///
/// # Errors
/// When it comes from another site's.
pub(super) fn origin(headers: &HeaderMap) -> Result<(), Refused> {
    let foreign = || {
        let error = RpcError::new(ErrorCode::Forbidden, "the request comes from another site");
        let error =
            error.hint("only this server's own page may ask it; other programs send no Origin");
        Err(Refused::new(StatusCode::FORBIDDEN, error))
    };
    let site = HeaderName::from_static("sec-fetch-site");
    let sites = headers.get_all(site).iter();
    if sites
        .into_iter()
        .any(|site| site != "same-origin" && site != "none")
    {
        return foreign();
    }
    if !headers.contains_key(header::ORIGIN) {
        return Ok(());
    }
    let host = only(headers, &header::HOST).unwrap_or_default();
    match only(headers, &header::ORIGIN).and_then(|origin| origin.strip_prefix("http://")) {
        Some(origin) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => foreign(),
    }
}

/// Whether the token was shown; `false`: none was.
///
/// # Errors
/// When it is another one.
pub(super) fn token(headers: &HeaderMap, token: &Token) -> Result<bool, Refused> {
    let mut shown = headers.contains_key(header::AUTHORIZATION);
    let bearer = only(headers, &header::AUTHORIZATION).and_then(|value| value.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let mut right = bearer.is_some_and(|(_, secret)| token.is(secret.trim().as_bytes()));
    for protocol in protocols(headers) {
        if let Some(secret) = protocol.strip_prefix(TOKEN_PROTOCOL) {
            right = token.is(secret.as_bytes()) && (right || !shown);
            shown = true;
        }
    }
    if shown && !right {
        let error = RpcError::new(ErrorCode::Unauthorized, "the token is not the right one");
        let hint = format!("it is made anew at every start: {TOKEN_HINT}");
        return Err(Refused::new(StatusCode::UNAUTHORIZED, error.hint(hint)));
    }
    Ok(right)
}

/// The WebSocket protocols that the client speaks.
pub(super) fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let lists = lists.filter_map(|list| list.to_str().ok());
    lists.flat_map(|list| list.split(',').map(str::trim))
}

/// A header that is there once.
pub(super) fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let first: &HeaderValue = values.next()?;
    match values.next() {
        None => first.to_str().ok(),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;
    use hyper::http::request;

    use super::*;

    fn parts(uri: &str, headers: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn host(parts: &request::Parts, local: SocketAddr) -> Result<(), Refused> {
        super::host(&parts.uri, &parts.headers, local)
    }

    #[test]
    fn a_name_that_anybody_can_let_point_here_is_not_ours() {
        let local: SocketAddr = "10.1.2.3:8080".parse().unwrap();
        for name in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1:8080",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:8080",
            "10.1.2.3:8080",
            "10.1.2.3",
        ] {
            let found = host(&parts("/", &[("host", name)]), local);
            assert_eq!(found, Ok(()), "{name}");
        }
        for name in [
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example:8080",
            "10.1.2.4:8080",
            "user@localhost",
            "localhost@evil.example",
            "",
            "[::2]",
            "0.0.0.0:8080",
        ] {
            let found = host(&parts("/", &[("host", name)]), local);
            let status = found.unwrap_err().status;
            assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{name}");
        }
        let twice = [("host", "localhost"), ("host", "evil.example")];
        assert!(host(&parts("/", &twice), local).is_err());
        assert!(host(&parts("/", &[]), local).is_err());
        let named = parts("http://evil.example/", &[("host", "localhost")]);
        assert!(host(&named, local).is_err());
    }

    #[test]
    fn a_page_of_another_site_is_refused_and_a_program_is_not() {
        let ours = ("host", "localhost:8080");
        let same = ("origin", "http://localhost:8080");
        for fine in [
            vec![ours],
            vec![ours, same],
            vec![ours, same, ("sec-fetch-site", "same-origin")],
            vec![ours, ("sec-fetch-site", "none")],
        ] {
            assert_eq!(origin(&parts("/", &fine).headers), Ok(()), "{fine:?}");
        }
        for foreign in [
            "http://evil.example",
            "null",
            "https://localhost:8080",
            "http://localhost",
            "http://localhost:80801",
            "http://127.0.0.1:8080",
            "",
        ] {
            let refused = origin(&parts("/", &[ours, ("origin", foreign)]).headers);
            assert_eq!(
                refused.unwrap_err().status,
                StatusCode::FORBIDDEN,
                "{foreign}"
            );
        }
        for site in ["cross-site", "same-site"] {
            let headers = parts("/", &[ours, same, ("sec-fetch-site", site)]).headers;
            assert!(origin(&headers).is_err(), "{site}");
        }
    }

    #[test]
    fn the_token_comes_in_a_header_or_as_a_protocol() {
        let file = std::env::temp_dir().join(format!("nought-guard-{}", std::process::id()));
        let made = Token::make(&file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        let text = text.trim_end();
        let with = |headers: &[(&str, &str)]| {
            let found = token(&parts("/", headers).headers, &made);
            found.map_err(|refused| refused.status.as_u16())
        };
        let bearer = format!("Bearer {text}");
        let protocol = format!("nought, nought.token.{text}");
        let wrong = ("sec-websocket-protocol", "nought.token.0");
        assert_eq!(with(&[]), Ok(false));
        assert_eq!(with(&[("authorization", &bearer)]), Ok(true));
        assert_eq!(with(&[("authorization", &bearer.to_lowercase())]), Ok(true));
        assert_eq!(with(&[("sec-websocket-protocol", &protocol)]), Ok(true));
        assert_eq!(with(&[("sec-websocket-protocol", "nought")]), Ok(false));
        for headers in [
            vec![("authorization", "Bearer 0")],
            vec![("authorization", text)],
            vec![("authorization", "Basic bm91Z2h0Og==")],
            vec![
                ("authorization", bearer.as_str()),
                ("authorization", "Bearer 0"),
            ],
            vec![("authorization", "")],
            vec![wrong],
            vec![wrong, ("authorization", bearer.as_str())],
        ] {
            assert_eq!(with(&headers), Err(401), "{headers:?}");
        }
        made.withdraw();
    }
}
