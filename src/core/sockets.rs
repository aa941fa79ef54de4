//! Sockets that are opened for a service, and services that start when somebody connects.
//!
//! ```text
//!  wanted ─► listening ──(a connection)──► blocked or starting ─► up ─► stopping
//!               ▲                                                          │ ended by itself
//!               └──────────────── (backoff) ◄──────────────────────────────┘
//! ```
//!
//! Sockets are opened before the first start and stay open as long as the service is wanted and may
//! come back, so that a restart refuses nobody. Once it is on its way down for good, has failed or is
//! done they are closed: whoever connects then is refused instead of waiting for nobody.

use ::core::net::SocketAddr;

use super::effect::Effect;
use super::event::Failed;
use super::lifecycle::starting_again;
use super::machine::Supervisor;
use super::receipt::Cause;
#[cfg(test)]
use super::sabotage::{Bug, planted};
use super::service::{Ended, Service, State, Target};
use super::spec::Spec;
use super::{OpId, ServiceId};

/// A socket that is opened for a service and handed to it (sd_listen_fds(3)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// What the service knows it by (LISTEN_FDNAMES): printable ASCII without `:`.
    pub name: String,
    /// Where it listens.
    pub at: SocketAt,
    /// Connections that wait to be accepted, at the most; none: as many as the kernel allows.
    pub backlog: Option<u32>,
    /// The file mode of a Unix socket.
    pub mode: u32,
    /// Whose file a Unix socket is, a name or a number; none: the supervisor's.
    pub user: Option<String>,
    /// The file's group, likewise.
    pub group: Option<String>,
}

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketAt {
    /// For TCP connections.
    Tcp(SocketAddr),
    /// For UDP datagrams.
    Udp(SocketAddr),
    /// For connections, at this absolute path (unix(7)).
    Stream(String),
    /// For datagrams, likewise.
    Datagram(String),
}

impl std::fmt::Display for SocketAt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SocketAt::Tcp(address) => write!(f, "tcp {address}"),
            SocketAt::Udp(address) => write!(f, "udp {address}"),
            SocketAt::Stream(path) => write!(f, "unix {path}"),
            SocketAt::Datagram(path) => write!(f, "unix_datagram {path}"),
        }
    }
}

impl Spec {
    /// Whether anything is kept open for it from one start to the next.
    pub fn keeps_descriptors(&self) -> bool {
        !self.sockets.is_empty() || self.stores_descriptors()
    }

    /// Whether it may hand descriptors over to be kept (FDSTORE=1).
    pub fn stores_descriptors(&self) -> bool {
        self.fd_store > 0 && self.listens() && !self.oneshot
    }
}

impl Service {
    /// Whether its sockets stay open, as things stand.
    fn keeps_open(&self) -> bool {
        let wanted = self.target == Target::Up || self.held;
        match self.state {
            State::Blocked { .. }
            | State::Listening { .. }
            | State::Starting(_)
            | State::Up(_)
            | State::Backoff { .. } => true,
            State::Down | State::Stopping(_) | State::Lingering(_) => wanted,
            State::Failed { .. } | State::Done => false,
        }
    }

    /// Whether somebody may connect to it although it does not run yet.
    pub(super) fn answers(&self) -> bool {
        let there = matches!(self.state, State::Listening { .. } | State::Starting(_));
        self.spec.on_demand && self.open && there
    }

    /// Whether it waits to be started on demand, instead of being started.
    pub(super) fn awaits_demand(&self) -> bool {
        self.spec.on_demand && !self.demanded
    }
}

impl Supervisor {
    /// It is to be started on demand: its sockets are opened, or are open, and somebody waits for
    /// a connection.
    pub(super) fn listen(&mut self, id: ServiceId) {
        if let Some(why) = self.below_guarantee(id) {
            return self.refuse_start(id, why);
        }
        let op = self.out.op();
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        service.again = false;
        service.failure = None;
        service.up_since = None;
        service.holds = true;
        self.set_state(id, State::Listening { op });
        self.out.push(Effect::Listen { service: id, op });
    }

    fn listens_by(&mut self, id: ServiceId, op: OpId) -> Option<&mut Service> {
        let service = self.services.get_mut(&id)?;
        let current = matches!(service.state, State::Listening { op: now } if now == op);
        current.then_some(service)
    }

    pub(super) fn on_listening(&mut self, id: ServiceId, op: OpId) {
        if let Some(service) = self.listens_by(id, op) {
            service.open = true;
            self.mark_concerned(id);
        }
    }

    /// Somebody connects, or has sent something: it is started as soon as it can be.
    pub(super) fn on_demanded(&mut self, id: ServiceId, op: OpId) {
        let Some(service) = self.listens_by(id, op) else {
            return;
        };
        #[cfg(test)]
        if planted(Bug::DemandIgnored) {
            return;
        }
        service.demanded = true;
        self.set_state(id, starting_again());
    }

    /// Its sockets could not be opened: as a start that failed.
    pub(super) fn on_listen_failed(&mut self, id: ServiceId, op: OpId, error: &Failed) {
        let now = self.out.now;
        let Some(service) = self.listens_by(id, op) else {
            return;
        };
        let failure = Some(error.to_string());
        service.failure.clone_from(&failure);
        service.last = Some(Box::new(Ended {
            pid: None,
            exit: None,
            failure,
            at: now,
        }));
        self.fail_demand(id);
        let next = self.after_end(id, Cause::StartFailed);
        self.come_to(id, next, true);
    }

    /// After every change of its state: what nobody needs any more is closed.
    pub(super) fn close_unless_kept(&mut self, id: ServiceId) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        if !service.holds || service.keeps_open() {
            return;
        }
        #[cfg(test)]
        if planted(Bug::SocketsStayOpen) {
            return;
        }
        service.holds = false;
        service.open = false;
        service.held = false;
        self.out.push(Effect::Close { service: id });
    }

    /// A definition changed while nothing of it runs: what it listens on changes with it.
    pub(super) fn relisten(&mut self, id: ServiceId) {
        let Some(service) = self.services.get(&id) else {
            return;
        };
        if !matches!(service.state, State::Listening { .. }) {
            return;
        }
        // One that is started at boot now is looked at as if it had been wanted this moment.
        if service.spec.on_demand {
            self.listen(id);
        } else {
            self.set_state(id, starting_again());
        }
    }
}
