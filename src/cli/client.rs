//! The connection to the supervisor: bounded in every step, with requests that may be
//! answered in any order.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::api::{FrameError, Frames, Id, Info, Request, Response, RpcError, method};

use super::error::{Error, Unfit};
use super::output::to_stderr;

/// Connecting and sending take no longer than this.
const REACH: Duration = Duration::from_secs(2);
/// A question that needs no waiting is answered within this, unless `--timeout` says otherwise.
pub(super) const ANSWER: Duration = Duration::from_secs(5);

/// An answer has at most this many bytes: a list of ten thousand services has about 4 MiB.
const LARGEST_ANSWER: usize = 64 << 20;

/// How long to wait for an answer, and what to do meanwhile.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wait {
    /// The supervisor answers at once, or something is wrong with it.
    Answer(Duration),
    /// It takes as long as it takes, at most this long.
    Work(Option<Duration>),
}

/// Time on CLOCK_BOOTTIME, which Linux always has (clock_gettime(2)).
fn now() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// A connection.
#[derive(Debug)]
pub(super) struct Client<'a> {
    socket: &'a Path,
    stream: UnixStream,
    frames: Frames,
    answers: BTreeMap<i64, Response>,
    /// The parameters of notifications that were not taken yet.
    items: VecDeque<Value>,
    /// Why nothing more can come.
    broken: Option<Error>,
    last_id: i64,
    debug: bool,
}

impl<'a> Client<'a> {
    /// Connects to `socket`; `debug` shows on stderr what goes over it.
    pub(super) fn connect(socket: &'a Path, debug: bool) -> Result<Self, Error> {
        let stream = stream(socket)?;
        Ok(Client {
            socket,
            stream,
            frames: Frames::with_limit(LARGEST_ANSWER),
            answers: BTreeMap::new(),
            items: VecDeque::new(),
            broken: None,
            last_id: 0,
            debug,
        })
    }

    /// Asks and waits for the answer.
    pub(super) fn call(
        &mut self,
        method: &str,
        params: &impl Serialize,
        within: Duration,
    ) -> Result<Value, Error> {
        let id = self.send(method, params)?;
        self.answer(id, Wait::Answer(within), method, &mut |_| Ok(()))
    }

    /// Sends a request; its id is for [`Client::answer`].
    pub(super) fn send(&mut self, method: &str, params: &impl Serialize) -> Result<i64, Error> {
        self.last_id += 1;
        let params = serde_json::to_value(params).unwrap_or_default();
        let request = Request::new(self.last_id, method, params);
        let mut line = serde_json::to_string(&request).unwrap_or_default();
        if self.debug {
            to_stderr(&format!("> {line}\n"));
        }
        line.push('\n');
        match self.stream.write_all(line.as_bytes()) {
            Ok(()) => Ok(self.last_id),
            Err(error) if timed_out(&error) => Err(self.no_answer(REACH)),
            Err(_) => Err(self.gone()),
        }
    }

    /// Waits for the answer to `id`. While work goes on, `meanwhile` is called about once a
    /// second with the time waited; what it returns as an error ends the wait. `what` names the
    /// work for a timeout.
    pub(super) fn answer(
        &mut self,
        id: i64,
        wait: Wait,
        what: &str,
        meanwhile: &mut dyn FnMut(Duration) -> Result<(), Error>,
    ) -> Result<Value, Error> {
        const TICK: Duration = Duration::from_secs(1);
        let began = now();
        let mut next_tick = TICK;
        loop {
            if let Some(response) = self.answers.remove(&id) {
                return match (response.error, response.result) {
                    (Some(error), _) => Err(Error::Refused(error)),
                    (None, result) => Ok(result.unwrap_or_default()),
                };
            }
            let waited = now().saturating_sub(began);
            let limit = match wait {
                Wait::Answer(limit) => Some(limit),
                Wait::Work(limit) => limit,
            };
            if let Some(limit) = limit
                && waited >= limit
            {
                return Err(match wait {
                    Wait::Answer(_) => self.no_answer(limit),
                    Wait::Work(_) => Error::TimedOut {
                        what: what.to_string(),
                        waited: limit,
                    },
                });
            }
            if matches!(wait, Wait::Work(_)) && waited >= next_tick {
                meanwhile(waited)?;
                next_tick = now().saturating_sub(began) + TICK;
            }
            let left = limit.map_or(TICK, |limit| limit.saturating_sub(waited));
            self.read(left.min(TICK))?;
        }
    }

    /// The next item of a subscription, or `None` when none has come within `within`.
    pub(super) fn item(&mut self, within: Duration) -> Result<Option<Value>, Error> {
        if self.items.is_empty() {
            self.read(within)?;
        }
        Ok(self.items.pop_front())
    }

    /// Reads once, for at most `within`, and files every answer that is whole.
    fn read(&mut self, within: Duration) -> Result<(), Error> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let timeout = Some(within.max(Duration::from_millis(1)));
        let mut chunk = [0; 16 * 1024];
        let read = self
            .stream
            .set_read_timeout(timeout)
            .and_then(|()| self.stream.read(&mut chunk));
        match read {
            Ok(0) => return Err(self.gone()),
            Ok(n) => self.frames.push(chunk.get(..n).unwrap_or_default()),
            Err(error) if timed_out(&error) => return Ok(()),
            Err(_) => return Err(self.gone()),
        }
        let mut filed = false;
        while let Some(value) = self.frames.next_value() {
            match self.file(value) {
                Ok(()) => filed = true,
                // What came whole before the end is taken before the end is told.
                Err(error) if filed => {
                    self.broken = Some(error);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn file(&mut self, value: Result<Value, FrameError>) -> Result<(), Error> {
        let value = value.map_err(|error| match error {
            FrameError::TooLarge(limit_bytes) => Error::TooMuch { limit_bytes },
            _ => self.protocol(error.to_string()),
        })?;
        if self.debug {
            to_stderr(&format!("< {value}\n"));
        }
        if value.get("method").is_some() {
            let params = value.get("params");
            self.items
                .extend(params.and_then(|params| params.get("result")).cloned());
            return Ok(());
        }
        let response = serde_json::from_value::<Response>(value)
            .map_err(|error| self.protocol(error.to_string()))?;
        match (&response.id, &response.error) {
            (Id::Number(id), _) => match id.as_i64() {
                Some(id) => {
                    self.answers.insert(id, response);
                    Ok(())
                }
                None => Err(self.protocol("it answers what was not asked".into())),
            },
            // An error that names no request is about the connection.
            (Id::Null, Some(error)) => Err(Error::Refused(RpcError::clone(error))),
            (Id::Null | Id::String(_), _) => {
                Err(self.protocol("it answers what was not asked".into()))
            }
        }
    }

    /// Reads an answer's type. From a copy: reading borrowed values is code of its own for every
    /// type, tens of kilobytes of it.
    pub(super) fn typed<T: DeserializeOwned>(&self, value: &Value) -> Result<T, Error> {
        serde_json::from_value(value.clone()).map_err(|error| self.protocol(error.to_string()))
    }

    fn no_answer(&self, waited: Duration) -> Error {
        Error::NoAnswer {
            socket: self.socket.to_path_buf(),
            waited,
        }
    }

    fn gone(&self) -> Error {
        Error::Gone {
            socket: self.socket.to_path_buf(),
            lives: open(self.socket).is_ok(),
        }
    }

    fn protocol(&self, why: String) -> Error {
        Error::Protocol {
            socket: self.socket.to_path_buf(),
            why,
        }
    }
}

/// Whether the supervisor still answers, on a connection of its own: the first one may be
/// waiting for work.
pub(super) fn alive(socket: &Path) -> Result<Info, Error> {
    let mut client = Client::connect(socket, false)?;
    let info = client.call(method::INFO, &Value::Null, ANSWER)?;
    client.typed(&info)
}

/// A connection for whatever is to go over it.
pub(super) fn stream(socket: &Path) -> Result<UnixStream, Error> {
    open(socket).map_err(|trouble| trouble.at(socket))
}

fn timed_out(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// Why there is no connection.
enum Trouble {
    System(io::Error),
    Unfit(Unfit),
}

impl Trouble {
    fn at(self, socket: &Path) -> Error {
        let socket = socket.to_path_buf();
        match self {
            Trouble::System(source) => Error::Connect { socket, source },
            Trouble::Unfit(why) => Error::Unfit { socket, why },
        }
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Trouble::System(error)
    }
}

impl From<nix::errno::Errno> for Trouble {
    fn from(errno: nix::errno::Errno) -> Self {
        Trouble::System(errno.into())
    }
}

fn open(path: &Path) -> Result<UnixStream, Trouble> {
    let shared = is_in_shared_directory(path);
    if shared && std::fs::symlink_metadata(path)?.is_symlink() {
        return Err(Trouble::Unfit(Unfit::Link));
    }
    let found = std::fs::metadata(path).map(|found| found.file_type());
    if found.is_ok_and(|found| !found.is_socket()) {
        return Err(Trouble::Unfit(Unfit::NoSocket));
    }
    let address = UnixAddr::new(path)?;
    let fd = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // Bounds connect too, which waits while the listener's backlog is full (unix(7)).
    let reach = i64::try_from(REACH.as_millis()).unwrap_or(i64::MAX);
    setsockopt(&fd, sockopt::SendTimeout, &TimeVal::milliseconds(reach))?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&fd), &address)?;
    if shared {
        // Whoever listens, not whoever made the file.
        let uid = getsockopt(&fd, sockopt::PeerCredentials)?.uid();
        if uid != 0 && uid != nix::unistd::geteuid().as_raw() {
            return Err(Trouble::Unfit(Unfit::Stranger(uid)));
        }
    }
    Ok(UnixStream::from(fd))
}

/// Whether anybody may have put the socket there: it is in /tmp or the like.
fn is_in_shared_directory(path: &Path) -> bool {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let dir = dir.unwrap_or(Path::new("."));
    std::fs::metadata(dir).is_ok_and(|found| found.permissions().mode() & 0o002 != 0)
}
