//! Looks at readiness and health that are no commands: a connection, an HTTP answer, a file.
//!
//! Sockets are looked at on the loop, without blocking. A path may be on a file system that never
//! answers: that look has a thread, at most one for each generation.

use std::io::{Error, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

use super::generation::Aux;
use super::message::Message;
use super::run::Driver;
use crate::core::{AuxKind, Check, Event, Exit, Failed, GenId, HttpGet, OpId};

/// The status line of an answer is not longer than this.
const STATUS_LINE_MOST: u64 = 1024;

impl Driver {
    /// Looks at what a readiness test looks at; the core bounds it with an `EndAux`.
    pub(super) fn run_check(&mut self, r#gen: GenId, aux: OpId, kind: AuxKind, check: Check) {
        let mut look = None;
        match check {
            Check::File(path) => self.look_for(r#gen, aux, path),
            check => {
                let inbox = self.inbox.clone();
                let task = tokio::spawn(async move {
                    let seen = match &check {
                        Check::Tcp(addresses) => connect(addresses).await.map(|_| ()),
                        Check::Http(get) => ask(get).await,
                        Check::Unix(path) => connect_unix(path).await,
                        // Looked at elsewhere; were it not, it has not passed.
                        _ => Err(failed("look at", "its test", "it is no connection")),
                    };
                    // Fails only when the loop has ended.
                    let _ = inbox.send(Message::Event(outcome(r#gen, aux, seen)));
                });
                look = Some(task.abort_handle());
            }
        }
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.rare.auxes.insert(aux, Aux::look(kind, look));
        }
    }

    fn look_for(&mut self, r#gen: GenId, aux: OpId, path: String) {
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        let looking = Arc::clone(generation.rare.looking.get_or_insert_default());
        if looking.swap(true, Ordering::Relaxed) {
            let why = "the last look at it has not come back: its file system does not answer";
            let event = outcome(r#gen, aux, Err(failed("look for", &path, why)));
            // Not at once: the core is in the midst of asking for this.
            return drop(self.inbox.send(Message::Event(event)));
        }
        self.off_loop(move || {
            let found = std::fs::metadata(&path).map(|_| ());
            looking.store(false, Ordering::Relaxed);
            let seen = found.map_err(|error| Failed {
                errno: error.raw_os_error().unwrap_or(0),
                ..failed("look for", &path, describe(&error))
            });
            Message::Event(outcome(r#gen, aux, seen))
        });
    }
}

fn outcome(r#gen: GenId, aux: OpId, seen: Result<(), Failed>) -> Event {
    match seen {
        Ok(()) => Event::AuxExited {
            r#gen,
            aux,
            exit: Exit::Code(0),
        },
        Err(error) => Event::AuxFailed { r#gen, aux, error },
    }
}

fn failed(doing: &str, what: impl ToString, why: impl ToString) -> Failed {
    Failed {
        doing: doing.into(),
        what: what.to_string(),
        errno: 0,
        why: why.to_string(),
    }
}

/// What the kernel says of it, without the number that `io::Error` adds.
fn describe(error: &Error) -> String {
    match error.raw_os_error() {
        Some(errno) => nix::errno::Errno::from_raw(errno).desc().into(),
        None => error.to_string(),
    }
}

/// A connection to the first of `addresses` that takes one; why the last one did not.
async fn connect(addresses: &[SocketAddr]) -> Result<TcpStream, Failed> {
    let mut last = failed("connect to", "nothing", "there is no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = failed("connect to", address, describe(&error)),
        }
    }
    Err(last)
}

async fn connect_unix(path: &str) -> Result<(), Failed> {
    let connected = UnixStream::connect(path).await.map(|_| ());
    connected.map_err(|error| failed("connect to", path, describe(&error)))
}

async fn ask(get: &HttpGet) -> Result<(), Failed> {
    let mut stream = connect(&get.addresses).await?;
    let HttpGet { host, path, .. } = get;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: nought\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let answered = async {
        stream.write_all(request.as_bytes()).await?;
        let mut line = Vec::new();
        let mut start = (&mut stream).take(STATUS_LINE_MOST);
        while !line.contains(&b'\n') {
            if start.read_buf(&mut line).await? == 0 {
                break;
            }
        }
        Ok(line)
    };
    let line = answered
        .await
        .map_err(|error: Error| failed("get", get, describe(&error)))?;
    match status(&line) {
        Ok(200..400) => Ok(()),
        Ok(status) => Err(failed("get", get, format!("it answered {status}"))),
        Err(error) => Err(failed("get", get, error)),
    }
}

/// The status of the answer that begins with `start`.
fn status(start: &[u8]) -> Result<u16, Error> {
    let none = || Error::new(ErrorKind::InvalidData, "what answers does not speak HTTP");
    let start = start.strip_prefix(b"HTTP/1.").ok_or_else(none)?;
    let digits = start.get(2..5).filter(|_| start.get(1) == Some(&b' '));
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    let ends = start.get(5).is_none_or(u8::is_ascii_whitespace);
    let status = digits.filter(|_| ends).and_then(|text| text.parse().ok());
    status.ok_or_else(none)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_read_and_nothing_else_is_one() {
        assert_eq!(status(b"HTTP/1.1 200 OK\r\n").unwrap(), 200);
        assert_eq!(status(b"HTTP/1.0 503\r\n").unwrap(), 503);
        for other in [
            &b"SSH-2.0-OpenSSH_9.2\r\n"[..],
            b"HTTP/1.1",
            b"HTTP/1.1 20",
            b"HTTP/1.1 2000 x",
            b"HTTP/1.1 abc x",
            b"",
        ] {
            assert!(status(other).is_err(), "{other:?}");
        }
    }
}
