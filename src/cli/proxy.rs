//! `proxy`: HTTP in front of a supervisor's socket, by a process of its own. It can do what its
//! user can do on the socket, for whoever shows its token.

use std::fs::DirBuilder;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::unistd::geteuid;
use serde_json::json;

use super::args::Proxy;
use super::client;
use super::command::Session;
use super::error::Error;
use super::render::clean;
use crate::state;
use crate::sys::readiness;
use crate::sys::signalfd::Signals;
use crate::web::{self, Later, OpenPage, Settings, Site, Token};

/// A supervisor's socket.
struct Socket(PathBuf);

impl Site for Socket {
    fn connect(&self) -> io::Result<UnixStream> {
        client::stream(&self.0).map_err(|error| io::Error::other(error.to_string()))
    }

    /// Probes are the supervisor's own: a proxy that fails is not the supervisor's failure.
    fn open_page<'a>(&'a self, _path: &'a str) -> Later<'a, Option<OpenPage>> {
        Box::pin(async { None })
    }

    fn open_paths(&self) -> &'static [&'static str] {
        &[]
    }
}

impl Session<'_> {
    /// Serves until SIGINT or SIGTERM.
    pub(super) fn proxy(&mut self, proxy: &Proxy) -> Result<u8, Error> {
        let socket = self.options.socket.clone();
        // Told at once, and not to the first who asks.
        client::alive(&socket)?;
        let listener = TcpListener::bind(proxy.address).map_err(|error| Error::Proxy {
            what: format!("serve HTTP on {}", proxy.address),
            why: error.to_string(),
            hint: "is the port taken, or the address another machine's? Give another one: \
                   -a ADDRESS:PORT",
        })?;
        let token = token(&socket, proxy, &listener)?;
        let settings = Settings {
            token: token.clone(),
            read_only: proxy.read_only,
        };
        let served = self.serve(listener, socket, settings);
        token.withdraw();
        served.map(|()| 0).map_err(|error| Error::Proxy {
            what: format!("serve HTTP on {}", proxy.address),
            why: error.to_string(),
            hint: "see the limits on open files, and on processes (ulimit -a)",
        })
    }

    fn serve(
        &mut self,
        listener: TcpListener,
        socket: PathBuf,
        settings: Settings,
    ) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            // Before any thread is made, which would have to block them, too.
            let ends = Signals::take_over(&[libc::SIGINT, libc::SIGTERM]);
            let ends = readiness::readable(ends.map_err(io::Error::other)?)?;
            let document = json!({
                "address": listener.local_addr()?.to_string(),
                "socket": socket.to_string_lossy(),
                "token_file": settings.token.file().to_string_lossy(),
            });
            let text = format!(
                "http://{}/ is served for {}; the token is in {}\n",
                listener.local_addr()?,
                clean(&socket.to_string_lossy()),
                clean(&settings.token.file().to_string_lossy()),
            );
            let server = web::serve(listener, Arc::new(Socket(socket)), settings)?;
            self.print(&document, |_| text);
            let _ = ends.readable().await?;
            server.end().await;
            Ok(())
        })
    }
}

fn token(socket: &Path, proxy: &Proxy, listener: &TcpListener) -> Result<Token, Error> {
    let failed = |why: String| Error::Proxy {
        what: "make the token".into(),
        why,
        hint: "name a file in a directory that only you can write to: --token-file FILE",
    };
    if let Some(file) = &proxy.token_file {
        let file = std::path::absolute(file).map_err(|error| failed(error.to_string()))?;
        return Token::make(&file).map_err(|error| failed(error.to_string()));
    }
    let runtime = std::env::var_os("XDG_RUNTIME_DIR");
    let state = state::default_path(socket, geteuid().as_raw(), runtime.as_deref());
    let state = state.map_err(|error| failed(error.to_string()))?;
    let dir = state.parent().unwrap_or(Path::new("/"));
    let mut make = DirBuilder::new();
    let made = make.recursive(true).mode(0o700).create(dir);
    made.map_err(|error| failed(format!("{}: {error}", dir.display())))?;
    let port = listener.local_addr().map_or(0, |address| address.port());
    let file = dir.join(format!("proxy-{port}.token"));
    Token::make(&file).map_err(|error| failed(error.to_string()))
}
