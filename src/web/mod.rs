//! HTTP over TCP: JSON-RPC by POST and over WebSockets, pictures and the status page, within
//! limits and behind a guard.
//!
//! It carries calls to the supervisor's own JSON-RPC and back, and knows nothing of what they do
//! but who may make them. The supervisor serves it in its own loop, `nought proxy` in front of a
//! supervisor's socket: what connects them is a [`Site`].

mod answer;
mod guard;
mod page;
mod patient;
mod picture;
mod rate;
mod rights;
mod rpc;
mod serve;
mod server;
mod socket;
mod token;

pub use server::{Server, Settings, serve};
pub use token::{Token, TokenError};

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::pin::Pin;

/// What comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The supervisor behind it.
pub trait Site: Send + Sync {
    /// A connection that speaks the control socket's JSON-RPC, for one client. It may do anything.
    ///
    /// # Errors
    /// When there is none to be had; the client is told.
    fn connect(&self) -> io::Result<UnixStream>;

    /// A page that everybody may read, by its path; `None`: there is none.
    fn open_page<'a>(&'a self, path: &'a str) -> Later<'a, Option<OpenPage>>;

    /// The paths of these pages.
    fn open_paths(&self) -> &'static [&'static str];
}

/// A page that everybody may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPage {
    /// 200, or why not.
    pub status: u16,
    /// Its content type.
    pub kind: &'static str,
    /// The page.
    pub body: String,
}

/// Where to serve: `ADDRESS:PORT`, or `localhost:PORT`, `:PORT` or `PORT` for 127.0.0.1.
///
/// # Errors
/// What to write instead.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let port = text.strip_prefix("localhost").unwrap_or(text);
    let port = port.strip_prefix(':').unwrap_or(port);
    if let Ok(port) = port.parse::<u16>() {
        return Ok((Ipv4Addr::LOCALHOST, port).into());
    }
    let hint = "write an address with its port: `127.0.0.1:8080`";
    text.parse().map_err(|_| hint.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_alone_is_this_machines() {
        for here in ["8080", ":8080", "localhost:8080", "127.0.0.1:8080"] {
            assert_eq!(address(here), Ok(([127, 0, 0, 1], 8080).into()), "{here}");
        }
        assert_eq!(address("[::1]:80"), Ok("[::1]:80".parse().unwrap()));
        assert_eq!(address("0.0.0.0:80"), Ok(([0, 0, 0, 0], 80).into()));
        for wrong in [
            "",
            "localhost",
            "80800",
            "web:80",
            "127.0.0.1",
            "localhost:",
        ] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
