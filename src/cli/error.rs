//! What goes wrong on the client's side, how it is told, and which exit code it has.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::api::{ErrorCode, RpcError};
use crate::sys::socket::SocketError;

use super::output::{self, Style};
use super::render;
use super::{EXIT_FAILED, EXIT_LINGERING};

/// Why a command got no answer, or a bad one.
#[derive(Debug)]
pub(super) enum Error {
    /// No connection could be made.
    Connect { socket: PathBuf, source: io::Error },
    /// What is there is not to be connected to.
    Unfit { socket: PathBuf, why: Unfit },
    /// Connected, and then nothing within this time.
    NoAnswer { socket: PathBuf, waited: Duration },
    /// The connection ended before the answer.
    Gone {
        socket: PathBuf,
        /// Whether a supervisor is there all the same.
        lives: bool,
    },
    /// What came is no answer.
    Protocol { socket: PathBuf, why: String },
    /// The answer is larger than this (bytes).
    TooMuch { limit_bytes: usize },
    /// It takes longer than `--timeout` allows.
    TimedOut { what: String, waited: Duration },
    /// Kexec, and no kernel to start.
    NoKernel,
    /// Nothing can be drawn, and why.
    NoTerminal { why: String },
    /// There is no HTTP in front of the socket.
    Proxy {
        /// What failed, after "failed to".
        what: String,
        why: String,
        hint: &'static str,
    },
    /// The supervisor says no.
    Refused(RpcError),
}

/// Why a socket's path is not connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// A symbolic link that anybody may have made.
    Link,
    /// This user listens, and anybody may have made the socket.
    Stranger(u32),
    /// A file or a directory.
    NoSocket,
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unfit::Link => {
                f.write_str("it is a symbolic link in a directory that everybody may write to")
            }
            Unfit::Stranger(uid) => write!(
                f,
                "user {uid} listens there, in a directory that everybody may write to"
            ),
            Unfit::NoSocket => f.write_str("it is no socket"),
        }
    }
}

impl Unfit {
    fn hint(self) -> &'static str {
        match self {
            Unfit::Link => {
                "somebody may have put it there: see where it leads (readlink), and name that with \
                 -s if it is your supervisor's socket"
            }
            Unfit::Stranger(_) => {
                "neither you nor root: name your own supervisor's socket with -s; that one may \
                 pose as it"
            }
            Unfit::NoSocket => {
                "-s names the socket that `nought init` made, not the directory of service files \
                 (-c) or any other"
            }
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Error::Connect { socket, .. } | Error::Unfit { socket, .. } => {
                write!(f, "cannot reach a supervisor at {}", socket.display())
            }
            Error::NoAnswer { socket, waited } => write!(
                f,
                "the supervisor at {} did not answer within {}",
                socket.display(),
                render::duration(*waited)
            ),
            Error::Gone { socket, .. } => write!(
                f,
                "the supervisor at {} closed the connection before it answered",
                socket.display()
            ),
            Error::Protocol { socket, .. } => {
                write!(f, "what answers at {} is no supervisor", socket.display())
            }
            Error::TooMuch { limit_bytes } => {
                write!(f, "the answer is larger than {limit_bytes} bytes")
            }
            Error::TimedOut { what, waited } => {
                write!(f, "{what} took longer than {}", render::duration(*waited))
            }
            Error::NoKernel => write!(f, "there is no kernel to start"),
            Error::NoTerminal { .. } => write!(f, "cannot draw on a terminal"),
            Error::Proxy { what, .. } => write!(f, "failed to {what}"),
            Error::Refused(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Connect { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl Error {
    /// One word for its kind.
    fn kind(&self) -> String {
        match self {
            Error::Connect { .. } | Error::Unfit { .. } => "NotReachable".into(),
            Error::NoAnswer { .. } => "NoAnswer".into(),
            Error::Gone { .. } => "Gone".into(),
            Error::Protocol { .. } => "Protocol".into(),
            Error::TooMuch { .. } => "TooMuch".into(),
            Error::TimedOut { .. } => "TimedOut".into(),
            Error::NoKernel => "NoKernel".into(),
            Error::NoTerminal { .. } => "NoTerminal".into(),
            Error::Proxy { .. } => "NoProxy".into(),
            Error::Refused(error) => {
                let told = error.data.as_ref().map(|data| data.code_name.clone());
                told.filter(|name| !name.is_empty()).unwrap_or_else(|| {
                    let code = ErrorCode::from_number(error.code);
                    code.map_or_else(|| error.code.to_string(), |code| code.name().into())
                })
            }
        }
    }

    fn causes(&self) -> Vec<String> {
        match self {
            Error::Connect { source, .. } => vec![source.to_string()],
            Error::Unfit { why, .. } => vec![why.to_string()],
            Error::Protocol { why, .. } | Error::Proxy { why, .. } | Error::NoTerminal { why } => {
                vec![why.clone()]
            }
            Error::Refused(error) => {
                let data = error.data.as_ref();
                data.map(|data| data.cause_chain.clone())
                    .unwrap_or_default()
            }
            Error::NoAnswer { .. }
            | Error::Gone { .. }
            | Error::TooMuch { .. }
            | Error::TimedOut { .. }
            | Error::NoKernel => Vec::new(),
        }
    }

    fn hint(&self) -> Option<String> {
        let hint = match self {
            Error::Connect { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => {
                    "is `nought init` running? With another socket, name it: -s PATH, or NOUGHT_SOCKET"
                }
                io::ErrorKind::ConnectionRefused => {
                    "the supervisor that made this socket has ended: start it again, it finds what is left"
                }
                io::ErrorKind::PermissionDenied => {
                    "the socket is its owner's alone: run this as the user the supervisor runs as, \
                     or start it with --socket-group GROUP for the members of one"
                }
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    "it takes no connections: is it stopped, or very busy? See its state in /proc"
                }
                _ => "name the socket with -s PATH, or NOUGHT_SOCKET",
            },
            Error::Unfit { why, .. } => why.hint(),
            Error::NoAnswer { .. } => {
                "is it stopped (SIGSTOP) or very busy? See its state in /proc; --timeout D waits longer"
            }
            Error::Gone { lives: true, .. } => {
                "it lives, and sent this client away: what was asked may have been done, see \
                 `nought list`; its log says more"
            }
            Error::Gone { lives: false, .. } => {
                "it ended, or was killed; what was asked may have been done: start it again and see `nought list`"
            }
            Error::Protocol { .. } => "is another program's socket named with -s or NOUGHT_SOCKET?",
            Error::TooMuch { .. } => "ask for less: name services, or the newest lines with -n N",
            Error::NoKernel => "load one: kexec -l KERNEL --initrd=INITRD --reuse-cmdline",
            Error::NoTerminal { .. } => {
                "`nought top --once` prints one picture, `nought status` the states, `nought stats` \
                 what a service uses"
            }
            Error::Proxy { hint, .. } => hint,
            Error::TimedOut { .. } => "it goes on all the same: see `nought status`",
            Error::Refused(error) => return error.data.as_ref()?.hint.clone(),
        };
        Some(hint.into())
    }

    /// The exit code it has.
    pub(super) fn exit_code(&self) -> u8 {
        let Error::Refused(error) = self else {
            return EXIT_FAILED;
        };
        match ErrorCode::from_number(error.code) {
            Some(ErrorCode::Lingering | ErrorCode::DependentLingers) => EXIT_LINGERING,
            _ => EXIT_FAILED,
        }
    }

    /// For stderr: kind, message, causes once, what survives, what to do next.
    pub(super) fn render(&self, style: Style) -> String {
        let mut out = block(&self.kind(), &self.to_string(), &self.causes(), style);
        if let Error::Refused(error) = self
            && let Some(receipt) = error.data.as_ref().and_then(|data| data.receipt.as_ref())
        {
            out.push_str(&render::survivors(receipt));
        }
        if let Some(hint) = self.hint() {
            out.push_str(&format!("  hint: {}\n", render::clean(&hint)));
        }
        out
    }

    /// For stdout with `--json`.
    pub(super) fn to_json(&self, service: Option<&str>) -> serde_json::Value {
        let error = match self {
            Error::Refused(error) => serde_json::json!(error),
            other => serde_json::json!({
                "message": other.to_string(),
                "data": {
                    "code_name": other.kind(),
                    "cause_chain": other.causes(),
                    "hint": other.hint(),
                },
            }),
        };
        let told = match self {
            Error::Refused(error) => error.data.as_ref().and_then(|data| data.service.as_deref()),
            _ => None,
        };
        serde_json::json!({"service": service.or(told), "error": error})
    }
}

fn block(kind: &str, message: &str, causes: &[String], style: Style) -> String {
    let kind = if kind.is_empty() {
        "error".to_string()
    } else {
        format!("error[{}]", render::clean(kind))
    };
    let mut out = format!("{}: {}\n", style.bad(&kind), render::clean(message));
    let mut said = message.to_string();
    for cause in causes {
        if *cause != said {
            // A problem of a service file shows its line, and where in it.
            for (number, line) in cause.lines().enumerate() {
                let label = if number == 0 { "because: " } else { "" };
                out.push_str(&format!("  {label}{}\n", render::clean(line)));
            }
        }
        said.clone_from(cause);
    }
    out
}

/// Prints an error and each of its causes once on stderr, and what to do about it where that is
/// known.
pub fn report_chain(error: &anyhow::Error) {
    let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
    let mut text = block("", &error.to_string(), &causes, Style::of_stderr());
    let socket = error.chain().find_map(|cause| cause.downcast_ref());
    if let Some(hint) = socket.and_then(SocketError::hint) {
        text.push_str(&format!("  hint: {hint}\n"));
    }
    output::to_stderr(&text);
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::sys::SysError;
    use nix::errno::Errno;

    #[test]
    fn what_a_client_meets_says_what_to_do_next() {
        let socket = || PathBuf::from("/run/s");
        let waited = Duration::from_secs(5);
        let connect = |kind: io::ErrorKind| Error::Connect {
            socket: socket(),
            source: kind.into(),
        };
        let unfit = |why| Error::Unfit {
            socket: socket(),
            why,
        };
        let gone = |lives| Error::Gone {
            socket: socket(),
            lives,
        };
        let errors = [
            connect(io::ErrorKind::NotFound),
            connect(io::ErrorKind::ConnectionRefused),
            connect(io::ErrorKind::PermissionDenied),
            connect(io::ErrorKind::WouldBlock),
            connect(io::ErrorKind::Other),
            unfit(Unfit::Link),
            unfit(Unfit::Stranger(7)),
            unfit(Unfit::NoSocket),
            Error::NoAnswer {
                socket: socket(),
                waited,
            },
            gone(true),
            gone(false),
            Error::Protocol {
                socket: socket(),
                why: "why".into(),
            },
            Error::TooMuch { limit_bytes: 9 },
            Error::TimedOut {
                what: "stop web".into(),
                waited,
            },
            Error::NoKernel,
            Error::NoTerminal { why: "why".into() },
            Error::Proxy {
                what: "bind".into(),
                why: "why".into(),
                hint: "another",
            },
        ];
        let mut said = String::new();
        for error in errors {
            let _ = writeln!(said, "{}: {}", error.kind(), error.hint().unwrap());
        }
        assert_eq!(said, HINTS, "{said}");
    }

    const HINTS: &str = "\
NotReachable: is `nought init` running? With another socket, name it: -s PATH, or NOUGHT_SOCKET
NotReachable: the supervisor that made this socket has ended: start it again, it finds what is left
NotReachable: the socket is its owner's alone: run this as the user the supervisor runs as, or start it with --socket-group GROUP for the members of one
NotReachable: it takes no connections: is it stopped, or very busy? See its state in /proc
NotReachable: name the socket with -s PATH, or NOUGHT_SOCKET
NotReachable: somebody may have put it there: see where it leads (readlink), and name that with -s if it is your supervisor's socket
NotReachable: neither you nor root: name your own supervisor's socket with -s; that one may pose as it
NotReachable: -s names the socket that `nought init` made, not the directory of service files (-c) or any other
NoAnswer: is it stopped (SIGSTOP) or very busy? See its state in /proc; --timeout D waits longer
Gone: it lives, and sent this client away: what was asked may have been done, see `nought list`; its log says more
Gone: it ended, or was killed; what was asked may have been done: start it again and see `nought list`
Protocol: is another program's socket named with -s or NOUGHT_SOCKET?
TooMuch: ask for less: name services, or the newest lines with -n N
TimedOut: it goes on all the same: see `nought status`
NoKernel: load one: kexec -l KERNEL --initrd=INITRD --reuse-cmdline
NoTerminal: `nought top --once` prints one picture, `nought status` the states, `nought stats` what a service uses
NoProxy: another
";

    #[test]
    fn a_socket_that_cannot_be_had_says_what_to_do_next() {
        let mut said = String::new();
        for errno in [
            Errno::ENOENT,
            Errno::EACCES,
            Errno::EROFS,
            Errno::ENAMETOOLONG,
            Errno::ENOSPC,
            Errno::EMFILE,
            Errno::EINVAL,
        ] {
            let path = std::path::Path::new("/run/s");
            let error = SocketError::Failed(SysError::at("bind the socket", path, errno));
            let _ = writeln!(said, "{errno:?}: {}", error.hint().unwrap());
        }
        assert_eq!(said, SOCKETS, "{said}");
        // These say it in their own words.
        assert_eq!(SocketError::Live("/run/s".into()).hint(), None);
    }

    const SOCKETS: &str = "\
ENOENT: make the directory that the socket is to be in, or choose another socket with -s
EACCES: see who may write in that directory (ls -ld), or choose another socket with -s
EROFS: see who may write in that directory (ls -ld), or choose another socket with -s
ENAMETOOLONG: choose a shorter path with -s
ENOSPC: make room on that file system (df), or choose another socket with -s
EMFILE: allow more open files (ulimit -n)
EINVAL: choose another socket with -s
";
}
