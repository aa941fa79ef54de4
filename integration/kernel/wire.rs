//! JSON-RPC as a client writes it, byte by byte where a test wants that.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::{Value, json};

use crate::look::BOUND;

pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> std::io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(4 * BOUND))?;
        stream.set_write_timeout(Some(BOUND))?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Like [`Client::write`], to a supervisor that may close meanwhile.
    pub(crate) fn try_write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The same without waiting for room.
    pub(crate) fn try_write_now(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.get_ref().set_nonblocking(true)?;
        let written = self.stream.get_mut().write_all(bytes);
        self.stream.get_ref().set_nonblocking(false)?;
        written
    }

    /// Nothing more is said.
    pub(crate) fn finish(&self) {
        self.stream
            .get_ref()
            .shutdown(std::net::Shutdown::Write)
            .unwrap();
    }

    /// The next answer; `None` when the other side has closed.
    pub(crate) fn read(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.stream.read_line(&mut line) {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"))),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no answer: {error}"),
        }
    }

    pub(crate) fn send(&mut self, id: i64, method: &str, params: &Value) {
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        self.write(request.to_string().as_bytes());
    }

    /// Whether this call is answered, with a result.
    pub(crate) fn is_answered(&mut self, method: &str) -> bool {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method});
        self.try_write(request.to_string().as_bytes()).is_ok()
            && self.read().is_some_and(|answer| result(&answer).is_ok())
    }

    /// The result, or the error object.
    pub(crate) fn call(&mut self, method: &str, params: &Value) -> Result<Value, Value> {
        self.send(1, method, params);
        let answer = self
            .read()
            .unwrap_or_else(|| panic!("{method} was not answered"));
        result(&answer)
    }
}

/// An answer's result, or its error.
pub(crate) fn result(answer: &Value) -> Result<Value, Value> {
    assert_eq!(answer["jsonrpc"], "2.0", "{answer}");
    let object = answer.as_object().unwrap();
    match (object.get("result"), object.get("error")) {
        (Some(result), None) => Ok(result.clone()),
        (None, Some(error)) => Err(error.clone()),
        _ => panic!("an answer has a result or an error: {answer}"),
    }
}
