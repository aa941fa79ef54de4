//! Sockets that are opened for a service, its start on demand, what it may have kept from one start
//! to the next, and how it is asked to reload.

use std::net::SocketAddr;

use super::keys::{self, Fields};
use super::problem::Severity;
use super::read::Reader;
use super::yaml::{Kind, Node};
use crate::core::{Check, Reload, ReloadBy, Signal, Socket, SocketAt, Spec};

/// What a socket can be.
const KINDS: [&str; 4] = ["tcp", "udp", "unix", "unix_datagram"];
/// So many sockets a service may have, and descriptors kept; together with one for `ready` they
/// are what a process can be given.
const SOCKETS_MOST: usize = 32;
const STORE_MOST: u32 = 63;
/// The first descriptor that is handed over (sd_listen_fds(3)).
const FIRST: u32 = 3;
/// A Unix socket's path has no more bytes (unix(7)).
const PATH_BYTES: usize = 107;
/// A name is not longer than this.
const NAME_BYTES: usize = 255;
/// Whoever may reach the path may connect, as with systemd's sockets.
const MODE: u32 = 0o666;

impl Reader<'_> {
    /// Last of all keys: what these need of the others has been read.
    pub(super) fn socket_keys(&mut self, fields: &Fields<'_>, spec: &mut Spec) {
        let store = self.key("fd_store", fields, |reader, node| {
            reader.fd_store(node, spec)
        });
        spec.fd_store = store.unwrap_or(spec.fd_store);
        let read: &Spec = spec;
        let sockets = self.key("sockets", fields, |reader, node| {
            let sockets = reader.sockets(&read.name, node);
            reader.free_descriptor(node, read, sockets.len());
            Some(sockets)
        });
        spec.sockets = sockets.unwrap_or_default();
        let read: &Spec = spec;
        let on_demand = self.key("start", fields, |reader, node| {
            let starts = [("boot", false), ("on_demand", true)];
            let on_demand = reader.choice("start", node, &starts)?;
            (!on_demand || reader.can_wait(node, read)).then_some(on_demand)
        });
        spec.on_demand = on_demand.unwrap_or_default();
        let oneshot = spec.oneshot;
        spec.reload = self.key("reload", fields, |reader, node| {
            let reload = reader.reload(node)?;
            if oneshot {
                let message = "`reload` has no effect on a oneshot".into();
                let hint = Some("a oneshot is never up: take it out".into());
                reader.problem(Severity::Warning, node.mark, message, hint);
            }
            Some(Box::new(reload))
        });
    }

    fn fd_store(&mut self, node: &Node, spec: &Spec) -> Option<u32> {
        let number = self.text("fd_store", node)?.parse().ok();
        let number = number.filter(|number| *number <= STORE_MOST);
        if number.is_none() {
            let message = format!(
                "`fd_store` is no number of descriptors: {}",
                node.describe()
            );
            let hint = format!("write 0 to {STORE_MOST}; 16 when not given");
            self.error(node.mark, message, Some(hint));
        } else if !spec.listens() {
            let message = "`fd_store` has no effect: nothing that it says is listened to".into();
            let hint = Some("add `ready: {notify: true}`, or `watchdog`".into());
            self.problem(Severity::Warning, node.mark, message, hint);
        }
        number
    }

    fn sockets(&mut self, service: &str, node: &Node) -> Vec<Socket> {
        let Kind::List(items) = &node.kind else {
            let message = format!("`sockets` must be a list, this is {}", node.describe());
            let hint = "write `sockets: [{tcp: '127.0.0.1:8080'}]`";
            self.error(node.mark, message, Some(hint.into()));
            return Vec::new();
        };
        let mut sockets: Vec<Socket> = Vec::new();
        for item in items {
            let Some(socket) = self.socket(service, item) else {
                continue;
            };
            if sockets.iter().any(|known| known.at == socket.at) {
                let message = format!("`{}` is in `sockets` twice", socket.at);
                self.error(item.mark, message, Some("keep one of the two".into()));
            } else {
                sockets.push(socket);
            }
        }
        if sockets.len() > SOCKETS_MOST {
            let message = format!("`sockets` has {} sockets", sockets.len());
            let hint = format!("{SOCKETS_MOST} are the most");
            self.error(node.mark, message, Some(hint));
        }
        sockets
    }

    fn socket(&mut self, service: &str, node: &Node) -> Option<Socket> {
        let Kind::Map(pairs) = &node.kind else {
            let message = format!("a socket must be a mapping, this is {}", node.describe());
            let hint = "write `tcp: 127.0.0.1:8080`, or `unix: /run/app.sock`";
            self.error(node.mark, message, Some(hint.into()));
            return None;
        };
        let fields = Fields::new(self, pairs, keys::SOCKET, Some("sockets"));
        let given: Vec<&str> = KINDS
            .into_iter()
            .filter(|kind| fields.get(kind).is_some())
            .collect();
        let &[kind] = given.as_slice() else {
            let message = match given.as_slice() {
                [] => "a socket says nowhere to listen".into(),
                kinds => format!("a socket has {}", kinds.join(" and ")),
            };
            let hint = format!("give one of {}", KINDS.join(", "));
            self.error(node.mark, message, Some(hint));
            return None;
        };
        let what = format!("sockets.{kind}");
        let at = fields.get(kind)?;
        let at = match kind {
            "tcp" => self.listen_address(&what, at).map(SocketAt::Tcp),
            "udp" => self.listen_address(&what, at).map(SocketAt::Udp),
            "unix" => self.socket_path(&what, at).map(SocketAt::Stream),
            _ => self.socket_path(&what, at).map(SocketAt::Datagram),
        };
        let unix = kind.starts_with("unix");
        for key in ["mode", "user", "group"] {
            if let (false, Some(node)) = (unix, fields.get(key)) {
                let message = format!("`sockets.{key}` is for Unix sockets only");
                let hint = Some("a port has no owner: whoever reaches the address connects".into());
                self.error(node.mark, message, hint);
            }
        }
        let backlog = fields.get("backlog").and_then(|node| {
            if matches!(kind, "udp" | "unix_datagram") {
                let message = "`sockets.backlog` has no effect on datagrams".into();
                let hint = Some("it is how many connections may wait: take it out".into());
                self.problem(Severity::Warning, node.mark, message, hint);
            }
            self.count("sockets.backlog", node, "nobody could connect")
        });
        let mode = fields.get("mode");
        let mode = mode.map(|node| self.octal("sockets.mode", node, "as chmod(1) has it: `0660`"));
        let mut account = |key: &str| {
            let node = fields.get(key)?;
            self.account(&format!("sockets.{key}"), node)
        };
        let (user, group) = (account("user"), account("group"));
        let name = fields.get("name").and_then(|node| self.socket_name(node));
        Some(Socket {
            name: name.unwrap_or_else(|| default_name(service)),
            at: at?,
            backlog,
            mode: mode.flatten().unwrap_or(MODE),
            user,
            group,
        })
    }

    fn listen_address(&mut self, what: &str, node: &Node) -> Option<SocketAddr> {
        let text = self.text(what, node)?;
        let address = text.parse::<SocketAddr>().ok();
        let address = address.filter(|address| address.port() > 0);
        if address.is_none() {
            let port = text.parse::<u16>().ok().filter(|port| *port > 0);
            let hint = match port {
                Some(port) => format!(
                    "write `127.0.0.1:{port}` for this machine alone, `0.0.0.0:{port}` or \
                     `'[::]:{port}'` for everybody"
                ),
                None => "write `127.0.0.1:8080`, `0.0.0.0:8080` or `'[::]:8080'`: numbers, no name"
                    .into(),
            };
            let message = format!("`{what}` is no address with a port: {}", node.describe());
            self.error(node.mark, message, Some(hint));
        }
        address
    }

    fn socket_path(&mut self, what: &str, node: &Node) -> Option<String> {
        let text = self.text(what, node)?;
        let hint = if !text.starts_with('/') {
            "give the whole path, from `/`".into()
        } else if text.len() > PATH_BYTES {
            format!("a socket's path has at most {PATH_BYTES} bytes (unix(7))")
        } else {
            return Some(text.to_owned());
        };
        let message = format!("`{what}` is no path of a socket: {}", node.describe());
        self.error(node.mark, message, Some(hint));
        None
    }

    fn socket_name(&mut self, node: &Node) -> Option<String> {
        let text = self.text("sockets.name", node)?;
        if is_name(text) {
            return Some(text.to_owned());
        }
        let message = format!("`sockets.name` is no name: {}", node.describe());
        let hint = "printable ASCII without `:`, which stands between names in LISTEN_FDNAMES";
        self.error(node.mark, message, Some(hint.into()));
        None
    }

    /// The numbers of what is handed over follow one another: `ready` has to use one behind them.
    fn free_descriptor(&mut self, node: &Node, spec: &Spec, sockets: usize) {
        let Some(Check::Fd(fd)) = spec.test.as_ref().map(|test| &test.check) else {
            return;
        };
        let stored = if spec.stores_descriptors() {
            spec.fd_store
        } else {
            0
        };
        let taken = u32::try_from(sockets)
            .unwrap_or(u32::MAX)
            .saturating_add(stored);
        let free = FIRST.saturating_add(taken);
        if *fd < free {
            let message = format!("descriptor {fd} of `ready` is one of the sockets'");
            let hint = format!("sockets begin with {FIRST}: write `fd: {free}` or above");
            self.error(node.mark, message, Some(hint));
        }
    }

    /// Whether a service can wait for somebody to connect.
    fn can_wait(&mut self, node: &Node, spec: &Spec) -> bool {
        let why = if spec.sockets.is_empty() {
            "there are no `sockets` for anybody to connect to"
        } else if spec.oneshot {
            "a oneshot runs once, and others wait for its end"
        } else if spec.remain {
            "what `remain` starts does not take the sockets over: they are for the main process"
        } else if spec.role.is_some() {
            "a `role` says when it starts"
        } else {
            return true;
        };
        let message = format!("it cannot be started on demand: {why}");
        let hint = Some("write `start: boot`, or leave the key out".into());
        self.error(node.mark, message, hint);
        false
    }

    fn reload(&mut self, node: &Node) -> Option<Reload> {
        let Kind::Map(pairs) = &node.kind else {
            let by = match &node.kind {
                Kind::Scalar { text, .. } if is_signal(text) => self.reload_signal("reload", node),
                _ => self.command("reload", node).map(ReloadBy::Command),
            };
            return by.map(Reload::new);
        };
        let fields = Fields::new(self, pairs, keys::RELOAD, Some("reload"));
        let by = match (fields.get("signal"), fields.get("exec")) {
            (Some(signal), None) => self.reload_signal("reload.signal", signal),
            (None, Some(exec)) => self.command("reload.exec", exec).map(ReloadBy::Command),
            (both, _) => {
                let message = match both {
                    Some(_) => "`reload` has a signal and a command",
                    None => "`reload` says nothing",
                };
                let hint = Some("give `signal: SIGHUP`, or `exec: COMMAND`".into());
                self.error(node.mark, message.into(), hint);
                None
            }
        };
        let notify = fields
            .get("notify")
            .and_then(|node| self.bool("reload.notify", node));
        let timeout = fields.get("timeout").and_then(|node| {
            let hint = "no reload could be done in time: `30s` is usual";
            self.positive("reload.timeout", node, hint)
        });
        let mut reload = Reload::new(by?);
        reload.notify = notify.unwrap_or_default();
        reload.timeout = timeout.unwrap_or(reload.timeout);
        Some(reload)
    }

    fn reload_signal(&mut self, what: &str, node: &Node) -> Option<ReloadBy> {
        let signal = self.text(what, node).and_then(Signal::parse);
        let ends = |signal: &Signal| matches!(signal.number(), libc::SIGKILL | libc::SIGSTOP);
        match signal {
            Some(signal) if !ends(&signal) => Some(ReloadBy::Signal(signal)),
            found => {
                let (message, hint) = match found {
                    Some(signal) => (
                        format!("no program can take {signal} for a wish to reload"),
                        "SIGHUP is usual",
                    ),
                    None => (
                        format!("`{what}` is no signal: {}", node.describe()),
                        "a name in any case (`SIGHUP`, `hup`), or a number from 1 to 64",
                    ),
                };
                self.error(node.mark, message, Some(hint.into()));
                None
            }
        }
    }
}

/// A word alone that is meant as a signal, and no command.
fn is_signal(text: &str) -> bool {
    let prefix = text.get(..3).unwrap_or_default();
    prefix.eq_ignore_ascii_case("SIG") && !text.contains(char::is_whitespace)
}

fn is_name(text: &str) -> bool {
    let plain = |b: u8| (b == b' ' || b.is_ascii_graphic()) && b != b':';
    !text.is_empty() && text.len() <= NAME_BYTES && text.bytes().all(plain)
}

/// The service's own name, where that can be one.
fn default_name(service: &str) -> String {
    if is_name(service) {
        service.into()
    } else {
        "unknown".into()
    }
}
