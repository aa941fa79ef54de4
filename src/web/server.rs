//! Connections: who comes in, how many, and for how long. Each asks one thing, within limits, and
//! concerns nobody but itself.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::Instant;

use super::patient::Patient;
use super::rate::Rate;
use super::{Site, Token, serve as paths};
use crate::api::method;

/// Connections at a time. When there are as many, the oldest that has asked nothing gives way to
/// a new one, so that clients who say nothing keep no probe out.
const CONNECTIONS: u32 = 64;
/// Requests for the supervisor at a time: some places are always left for its open pages.
const CALLS: usize = 32;
/// WebSockets at a time.
const SOCKETS: usize = 16;
/// How long a client may say nothing while others wait.
const SILENCE: Duration = Duration::from_millis(50);
/// How long a connection may take from its first byte to its last, unless it waits for work.
const CONNECTION_BOUND: Duration = Duration::from_secs(10);
/// How long a client may take to send its request's head.
const HEAD_BOUND: Duration = Duration::from_secs(5);
/// How large that may be (bytes).
const HEAD_BYTES: usize = 16 * 1024;
/// How long to leave the listen queue alone when there are no descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long what is under way may take when the server ends.
pub(super) const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How it is served.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What whoever may change something shows.
    pub token: Token,
    /// Nobody may change anything.
    pub read_only: bool,
}

/// A server under way. It ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    /// The listener is closed.
    closed: watch::Receiver<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts nobody any more, and returns when nobody can connect. What is under way has a
    /// second.
    pub async fn close(mut self) {
        self.stop.send_replace(true);
        // An error: the task has ended, which closes it just as well.
        let _ = self.closed.wait_for(|closed| *closed).await;
    }

    /// The same, and returns when all has ended.
    pub async fn end(self) {
        self.stop.send_replace(true);
        // An error: it broke, and has ended all the same.
        let _ = self.task.await;
    }
}

/// Places for what is bounded. Those without the token have half of them, so that they keep
/// nobody out who has it.
pub(super) struct Places {
    all: Arc<Semaphore>,
    without: Arc<Semaphore>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _of_all: OwnedSemaphorePermit,
    _without: Option<OwnedSemaphorePermit>,
}

impl Places {
    fn new(count: usize) -> Self {
        Places {
            all: Arc::new(Semaphore::new(count)),
            without: Arc::new(Semaphore::new(count / 2)),
        }
    }

    /// One, for somebody who showed the token or not; `None`: they are taken.
    pub(super) fn take(&self, token: bool) -> Option<Place> {
        let without = match token {
            true => None,
            false => Some(Arc::clone(&self.without).try_acquire_owned().ok()?),
        };
        Some(Place {
            _of_all: Arc::clone(&self.all).try_acquire_owned().ok()?,
            _without: without,
        })
    }
}

/// What the connections of a server share.
pub(super) struct Shared {
    pub(super) site: Arc<dyn Site>,
    pub(super) settings: Settings,
    /// It can be reached from other machines.
    pub(super) beyond: bool,
    pub(super) calls: Places,
    pub(super) sockets: Places,
    /// Whether the server ends.
    pub(super) stopped: watch::Receiver<bool>,
    /// Whoever has the token is not kept out by those who have not.
    rates: [Rate; 2],
}

impl Shared {
    pub(super) fn rate(&self, token: bool) -> &Rate {
        let [without, with] = &self.rates;
        if token { with } else { without }
    }

    /// A connection to the supervisor, for somebody who showed the token or not.
    pub(super) fn connect(&self, token: bool) -> std::io::Result<UnixStream> {
        let mut stream = self.site.connect()?;
        if !token {
            writeln!(
                stream,
                "{{\"jsonrpc\":\"2.0\",\"method\":\"{}\"}}",
                method::DISCREET
            )?;
        }
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream)
    }
}

/// One client's.
pub(super) struct Connection {
    pub(super) shared: Arc<Shared>,
    /// The address that the client has reached.
    pub(super) local: SocketAddr,
    /// It has sent a request that is not refused.
    asked: AtomicBool,
    /// It waits for work.
    long: AtomicBool,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    /// It has nothing more to say: when places are short its place is another's.
    pub(super) fn gives_way(&self) {
        self.asked.store(false, Ordering::Relaxed);
    }

    /// It waits for work: only its ends bound it.
    pub(super) fn takes_long(&self) {
        self.long.store(true, Ordering::Relaxed);
    }
}

/// A connection under way.
struct Open {
    since: Instant,
    connection: std::sync::Weak<Connection>,
    served: AbortHandle,
}

impl Open {
    /// Its client has sent nothing yet.
    fn is_silent(&self) -> bool {
        let connection = self.connection.upgrade();
        connection.is_some_and(|connection| !connection.asked.load(Ordering::Relaxed))
    }
}

/// Serves whoever comes to `listener`, on the runtime that this is called in.
///
/// # Errors
/// When the listener cannot be watched.
pub fn serve(
    listener: StdListener,
    site: Arc<dyn Site>,
    settings: Settings,
) -> std::io::Result<Server> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let (stop, mut stopped) = watch::channel(false);
    let shared = Arc::new(Shared {
        site,
        settings,
        beyond: !address.ip().to_canonical().is_loopback(),
        calls: Places::new(CALLS),
        sockets: Places::new(SOCKETS),
        stopped: stopped.clone(),
        rates: Default::default(),
    });
    let (closing, closed) = watch::channel(false);
    let task = tokio::spawn(async move {
        let places = Arc::new(Semaphore::new(CONNECTIONS as usize));
        let mut open = VecDeque::new();
        tokio::select! {
            // An error: the server was dropped.
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = accept(&listener, &shared, &places, &mut open) => {}
        }
        drop(listener);
        closing.send_replace(true);
        let all = places.acquire_many(CONNECTIONS);
        let _ = tokio::time::timeout(LAST_ANSWERS, all).await;
        for connection in open {
            connection.served.abort();
        }
    });
    Ok(Server {
        address,
        stop,
        closed,
        task,
    })
}

async fn accept(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    places: &Arc<Semaphore>,
    open: &mut VecDeque<Open>,
) {
    loop {
        // Whoever has just been let in is heard before the next.
        tokio::task::yield_now().await;
        let accepted = listener.accept().await;
        let Some(place) = place(places, open).await else {
            return;
        };
        let accepted = accepted.and_then(|(stream, _)| Ok((stream.local_addr()?, stream)));
        match accepted {
            Ok((local, stream)) => {
                let connection = Arc::new(Connection {
                    shared: Arc::clone(shared),
                    local: SocketAddr::new(local.ip().to_canonical(), local.port()),
                    asked: AtomicBool::new(false),
                    long: AtomicBool::new(false),
                    _place: place,
                });
                open.push_back(Open {
                    since: Instant::now(),
                    connection: Arc::downgrade(&connection),
                    served: tokio::spawn(served(stream, connection)).abort_handle(),
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
        let silent = open.iter().position(Open::is_silent);
        let Some((at, since)) = silent.and_then(|at| Some((at, open.get(at)?.since))) else {
            return free.await.ok();
        };
        if let Ok(free) = tokio::time::timeout_at(since + SILENCE, free).await {
            return free.ok();
        }
        if let Some(connection) = open.get(at)
            && connection.is_silent()
        {
            connection.served.abort();
            open.remove(at);
        }
    }
}

async fn served(stream: TcpStream, connection: Arc<Connection>) {
    let of_it = Arc::clone(&connection);
    let service = service_fn(move |request| {
        of_it.asked.store(true, Ordering::Relaxed);
        let connection = Arc::clone(&of_it);
        async move { Ok::<_, Infallible>(paths::answer(connection, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_BOUND)
        .keep_alive(false)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(Patient::new(stream)), service)
        .with_upgrades();
    let mut served = std::pin::pin!(served);
    // A client that is slow, gone or hostile needs no answer.
    let first = tokio::time::timeout(CONNECTION_BOUND, &mut served).await;
    if first.is_err() && connection.long.load(Ordering::Relaxed) {
        let _ = served.await;
    }
}
