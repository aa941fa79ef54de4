//! HTTP of the supervisor: the servers that run, what they are connected to, and the probes and
//! metrics that everybody may read. Without an address nothing of it exists.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::oneshot;

use super::methods::Context;
use super::metrics::{self, Tally};
use super::places::Places;
use super::{Ask, Clocks, Look, Seen, Use, session};
use crate::api::{self, ErrorCode, Info, RpcError, ServiceStatus};
use crate::core::Time;
use crate::sys::clock;
use crate::web::{self, Later, OpenPage, Server, Settings, Site, Token, TokenError};

/// A loop that does not answer within this is not alive: it never waits for anything.
const ANSWER_BOUND: Duration = Duration::from_secs(3);
const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OK: u16 = 200;
const UNAVAILABLE: u16 = 503;
/// What everybody may read.
const PAGES: &[&str] = &["/livez", "/readyz", "/startupz", "/metrics"];

/// Where HTTP is served; clones are the same.
#[derive(Clone)]
pub struct Http(Arc<Inner>);

struct Inner {
    token_file: PathBuf,
    read_only: bool,
    tally: Tally,
    /// Made for the first server, gone with the last.
    token: Mutex<Option<Token>>,
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    /// The one that the supervisor was started with.
    own: Option<Server>,
    /// The one that was asked for since.
    asked_for: Option<Server>,
}

/// Its servers' addresses are in `nought_info`.
impl fmt::Debug for Http {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Http").finish_non_exhaustive()
    }
}

impl Http {
    /// Nothing that listens yet. The token for what will is written into `token_file`, whose
    /// directory is ours alone.
    pub fn new(token_file: PathBuf, read_only: bool, tally: Tally) -> Self {
        Http(Arc::new(Inner {
            token_file,
            read_only,
            tally,
            token: Mutex::default(),
            servers: Mutex::default(),
        }))
    }

    /// Serves at `listener` for as long as the supervisor runs.
    ///
    /// # Errors
    /// When there can be no token, or the listener cannot be watched.
    pub fn serve(&self, listener: TcpListener, context: &Context) -> Result<(), HttpError> {
        let server = self.server(listener, context)?;
        self.lock().own = Some(server);
        Ok(())
    }

    /// Where it is served.
    pub(super) fn addresses(&self) -> Vec<String> {
        let servers = self.lock();
        let servers = servers.own.iter().chain(&servers.asked_for);
        servers.map(|server| server.address().to_string()).collect()
    }

    /// The file that says the token, while there is one.
    pub(super) fn token_file(&self) -> Option<PathBuf> {
        self.lock_token().as_ref().map(|token| token.file().into())
    }

    /// Serves at one more address.
    ///
    /// # Errors
    /// When it cannot, or does so already at an address that was asked for.
    pub(super) fn start(&self, address: &str, context: &Context) -> Result<String, RpcError> {
        let doing = "start the HTTP server";
        let parsed = web::address(address).map_err(|hint| {
            let message = format!("{address:?} is no address with a port");
            RpcError::new(ErrorCode::InvalidParams, message)
                .doing(doing)
                .hint(hint)
        })?;
        if let Some(server) = &self.lock().asked_for {
            let message = format!("HTTP is served at {} already", server.address());
            let error = RpcError::new(ErrorCode::InternalError, message).doing(doing);
            return Err(error.hint("end that with system_stop_http_server first"));
        }
        let failed = |why: String| {
            let message = format!("failed to serve HTTP on {parsed}");
            let error = RpcError::new(ErrorCode::InternalError, message).doing(doing);
            error
                .because(why)
                .hint("is the port taken, or the address another machine's?")
        };
        let listener = TcpListener::bind(parsed).map_err(|error| failed(error.to_string()))?;
        let server = self.server(listener, context);
        let server = server.map_err(|error| failed(error.to_string()))?;
        let bound = server.address();
        self.lock().asked_for = Some(server);
        Ok(format!("HTTP/RPC server started at {bound}"))
    }

    /// Ends what [`Http::start`] began: nobody can connect to it any more.
    ///
    /// # Errors
    /// When there is no such server.
    pub(super) async fn stop(&self) -> Result<(), RpcError> {
        let server = self.lock().asked_for.take();
        let Some(server) = server else {
            let message = "no HTTP/RPC server that was asked for is running";
            let error = RpcError::new(ErrorCode::InternalError, message);
            let error = error.doing("stop the HTTP server");
            return Err(error.hint("the one of --http ends with the supervisor alone"));
        };
        tracing::info!("HTTP is served on {} no more", server.address());
        server.close().await;
        if self.addresses().is_empty() {
            self.withdraw_token();
        }
        Ok(())
    }

    /// Ends all of it, when the answers on their way are out.
    pub async fn end(&self) {
        let Servers { own, asked_for } = std::mem::take(&mut *self.lock());
        for server in own.into_iter().chain(asked_for) {
            server.end().await;
        }
        self.withdraw_token();
    }

    fn server(&self, listener: TcpListener, context: &Context) -> Result<Server, HttpError> {
        let token = self.token().map_err(HttpError::Token)?;
        let site = Arc::new(Supervisor {
            context: context.clone(),
            tally: self.0.tally.clone(),
            places: Places::default(),
        });
        let settings = Settings {
            token: token.clone(),
            read_only: self.0.read_only,
        };
        let server = web::serve(listener, site, settings).map_err(HttpError::Listener)?;
        let (address, file) = (server.address(), token.file().display());
        tracing::info!("HTTP is served on http://{address}/, its token is in {file}");
        Ok(server)
    }

    fn token(&self) -> Result<Token, TokenError> {
        let mut known = self.lock_token();
        if let Some(token) = &*known {
            return Ok(token.clone());
        }
        let token = Token::make(&self.0.token_file)?;
        Ok(known.insert(token).clone())
    }

    /// With the last server nobody takes it any more.
    fn withdraw_token(&self) {
        if let Some(token) = self.lock_token().take() {
            token.withdraw();
        }
    }

    fn lock_token(&self) -> MutexGuard<'_, Option<Token>> {
        self.0.token.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Servers> {
        self.0
            .servers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why HTTP is not served.
#[derive(Debug)]
pub enum HttpError {
    /// There is no token.
    Token(TokenError),
    /// The listener cannot be watched.
    Listener(io::Error),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpError::Token(error) => write!(f, "failed to {error}"),
            HttpError::Listener(error) => write!(f, "failed to watch the listener: {error}"),
        }
    }
}

impl std::error::Error for HttpError {}

/// The supervisor, as its own HTTP servers see it.
struct Supervisor {
    context: Context,
    tally: Tally,
    places: Places,
}

impl Site for Supervisor {
    fn connect(&self) -> io::Result<StdStream> {
        let (client, ours) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let ours = UnixStream::from_std(ours)?;
        tokio::spawn(session::run(ours, self.context.clone(), self.places.take()));
        Ok(client)
    }

    fn open_page<'a>(&'a self, path: &'a str) -> Later<'a, Option<OpenPage>> {
        Box::pin(async move { Some(open_page(self, path).await) })
    }

    fn open_paths(&self) -> &'static [&'static str] {
        PAGES
    }
}

async fn open_page(site: &Supervisor, path: &str) -> OpenPage {
    let Some(info) = ask(site, Ask::Info).await else {
        let stuck = "[-]supervisor: its loop does not answer\n";
        return text(UNAVAILABLE, stuck.into());
    };
    if path == "/livez" {
        return text(OK, "ok\n".into());
    }
    if path == "/metrics" {
        let used = ask(site, |answer| Ask::Use(None, answer)).await;
        let used = used.into_iter().flatten().filter(|(seen, _)| !seen.ghost);
        return metrics_page(site, &info, used.collect());
    }
    let seen = ask(site, |answer| Ask::Look(Look::default(), answer)).await;
    let statuses = seen.into_iter().flatten();
    let services: Vec<ServiceStatus> = statuses
        .filter(|seen| !seen.ghost)
        .map(|seen| seen.status)
        .collect();
    if path == "/readyz" {
        ready_page(&info, &services)
    } else {
        startup_page(&site.tally, &services)
    }
}

/// Asks the loop; `None`: it did not answer in time, or has ended.
async fn ask<T>(site: &Supervisor, ask: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Option<T> {
    let (sender, answer) = oneshot::channel();
    site.context.asks.send(ask(sender)).ok()?;
    tokio::time::timeout(ANSWER_BOUND, answer).await.ok()?.ok()
}

fn ready_page(info: &Info, services: &[ServiceStatus]) -> OpenPage {
    if info.shutting_down {
        let why = "[-]supervisor: shutting down\n";
        return text(UNAVAILABLE, why.into());
    }
    let lines = api::unready(services)
        .into_iter()
        .map(|unready| format!("[-]{}: {}\n", unready.service, unready.why));
    verdict(lines.collect())
}

fn startup_page(tally: &Tally, services: &[ServiceStatus]) -> OpenPage {
    let never = tally.starting_up(services).into_iter();
    verdict(
        never
            .map(|name| format!("[-]{name}: never was ready\n"))
            .collect(),
    )
}

fn metrics_page(site: &Supervisor, info: &Info, services: Vec<(Seen, Use)>) -> OpenPage {
    let clocks = Clocks {
        boot: Time::from_nanos(clock::boot_now()),
        wall_ms: clock::wall_now_ms(),
    };
    let body = metrics::page(info, &services, &site.tally, clocks);
    page(OK, METRICS, body)
}

/// Well, or what is not.
fn verdict(wrong: String) -> OpenPage {
    if wrong.is_empty() {
        text(OK, "ok\n".into())
    } else {
        text(UNAVAILABLE, wrong)
    }
}

fn text(status: u16, body: String) -> OpenPage {
    page(status, TEXT, body)
}

fn page(status: u16, kind: &'static str, body: String) -> OpenPage {
    OpenPage { status, kind, body }
}
