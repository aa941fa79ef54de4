//! What a readiness test looks at.

use ::core::net::SocketAddr;
use std::fmt;

/// One thing to look at that says whether a service is ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Passes when this command exits 0. One word per element; never empty.
    Exec(Vec<String>),
    /// Passes when one of these takes a connection. Never empty.
    Tcp(Vec<SocketAddr>),
    /// Passes when the answer's status is 200 to 399.
    Http(HttpGet),
    /// Passes when the Unix stream socket at this path takes a connection.
    Unix(String),
    /// Passes when something is at this path.
    File(String),
    /// Passes when one of its processes sends `READY=1` (sd_notify(3)).
    Notify,
    /// Passes when it writes a newline to this descriptor (s6's notification-fd).
    Fd(u32),
    /// Passes when this regular expression matches in a line of its output.
    LogRegex(String),
}

impl Check {
    /// The command, if it is one.
    pub fn command(&self) -> Option<&[String]> {
        match self {
            Check::Exec(argv) => Some(argv),
            _ => None,
        }
    }

    /// Whether the service says so itself, so that nothing is to be looked at.
    pub fn is_told(&self) -> bool {
        matches!(self, Check::Notify | Check::Fd(_) | Check::LogRegex(_))
    }
}

/// A GET over plain HTTP/1.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGet {
    /// Where to connect: the first that takes it. Never empty.
    pub addresses: Vec<SocketAddr>,
    /// The `Host` header: what the URL has between `http://` and its path.
    pub host: String,
    /// The path with its query, from `/`.
    pub path: String,
}

impl fmt::Display for HttpGet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.host, self.path)
    }
}
