//! Sockets of services: opened off the loop, kept open from one start to the next, watched while a
//! service waits to be started on demand, handed over as sd_listen_fds(3) has it.

use std::io::Error;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use tokio::task::AbortHandle;

use super::fd_store::Stored;
use super::message::Message;
use super::resolve::{Readings, account, paths};
use super::run::{Driver, now};
use super::told::Voice;
use super::translate::failed;
use crate::core::{Event, Failed, GenId, OpId, ServiceId, Signal, Socket, SocketAt, Spec};
use crate::sys::listen::{Address, Open, Wanted};
use crate::sys::{SysError, readiness};

/// The first descriptor that is handed over (SD_LISTEN_FDS_START).
const FIRST: u32 = 3;

/// Open sockets, each with what its service's file said of it.
pub(super) type Sockets = Vec<(Socket, Arc<Open>)>;

/// What is kept open for one service.
#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) sockets: Sockets,
    /// Descriptors that it handed over itself.
    pub(super) stored: Vec<Stored>,
    /// Which listening the sockets are being opened for.
    opening: Option<OpId>,
    /// Tasks that wait for a connection.
    waiting: Vec<AbortHandle>,
}

impl Kept {
    fn await_no_demand(&mut self) {
        self.opening = None;
        for waiting in self.waiting.drain(..) {
            waiting.abort();
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.await_no_demand();
    }
}

impl Driver {
    /// Whether every socket that a service's file names is open already.
    pub(super) fn has_open(&self, service: ServiceId, spec: &Spec) -> bool {
        let open = self
            .open
            .get(&service)
            .map_or(&[][..], |kept| &kept.sockets);
        open.iter().map(|(socket, _)| socket).eq(&spec.sockets)
    }

    pub(super) fn open_sockets(&self, service: ServiceId) -> Sockets {
        let kept = self.open.get(&service);
        kept.map(|kept| kept.sockets.clone()).unwrap_or_default()
    }

    /// What was opened for a start or to listen takes the place of what was open before. Were the
    /// service to be down for good by now, nobody would close it again.
    pub(super) fn keep_open(&mut self, service: ServiceId, sockets: Sockets) {
        if sockets.is_empty() && !self.open.contains_key(&service) {
            return;
        }
        let gone = match self.core.holds(service) {
            true => {
                let kept = self.open.entry(service).or_default();
                std::mem::replace(&mut kept.sockets, sockets)
            }
            false => sockets,
        };
        self.unlink(gone);
    }

    /// Closes sockets that are in nobody's use. The files of those that have one are removed, too; off
    /// the loop, since a file system may not answer: all others are closed when this returns.
    pub(super) fn unlink(&self, sockets: Sockets) {
        let used = |open: &Arc<Open>| {
            let mut kept = self.open.values().flat_map(|kept| &kept.sockets);
            kept.any(|(_, used)| Arc::ptr_eq(used, open))
        };
        let unused: Sockets = sockets
            .into_iter()
            .filter(|(_, open)| !used(open) && open.has_file())
            .collect();
        if unused.is_empty() {
            return;
        }
        let counted = self.unlinking.count();
        self.threads.run(move || {
            for (_, open) in unused {
                if let Err(error) = open.unlink() {
                    tracing::warn!("failed to {error}");
                }
            }
            drop(counted);
        });
    }

    /// The service is down for good: what is open for it is closed.
    pub(super) fn close(&mut self, service: ServiceId) {
        if let Some(mut kept) = self.open.remove(&service) {
            self.unlink(std::mem::take(&mut kept.sockets));
            self.drop_stored(std::mem::take(&mut kept.stored));
        }
    }

    // ---- on demand ----------------------------------------------------------------------

    /// Opens what is not open and waits for somebody to connect.
    pub(super) fn listen(&mut self, service: ServiceId, op: OpId) {
        let Some(spec) = self.core.spec(service).cloned() else {
            return;
        };
        let (has_open, open) = (self.has_open(service, &spec), self.open_sockets(service));
        let kept = self.open.entry(service).or_default();
        kept.await_no_demand();
        if has_open {
            return self.await_demand(service, op);
        }
        kept.opening = Some(op);
        let (paths, readings) = (paths(&spec), Arc::clone(&self.readings));
        let work = move || self::open(&spec, &open, &readings);
        let doing = ["start a thread to open", "open the sockets at"];
        self.within_bound(doing, paths, work, move |result| Message::Opened {
            service,
            op,
            result,
        });
    }

    /// They are open, or could not be opened in time; what comes second means nothing.
    pub(super) fn on_opened(
        &mut self,
        service: ServiceId,
        op: OpId,
        result: Result<Sockets, SysError>,
    ) {
        let kept = self.open.get_mut(&service);
        let Some(kept) = kept.filter(|kept| kept.opening == Some(op)) else {
            if let Ok(late) = result {
                self.unlink(late);
            }
            return;
        };
        kept.opening = None;
        match result {
            Ok(sockets) => {
                self.keep_open(service, sockets);
                self.await_demand(service, op);
            }
            Err(error) => {
                if let Some(spec) = self.core.spec(service) {
                    tracing::warn!("{}: failed to {error}", spec.name);
                }
                let error = failed(&error);
                let event = Event::ListenFailed { service, op, error };
                self.core.handle(now(), event);
            }
        }
    }

    /// Each of its sockets tells once that there is something; all are left alone as soon as it is
    /// started, so that nothing wakes us while it runs.
    fn await_demand(&mut self, service: ServiceId, op: OpId) {
        let Some(kept) = self.open.get_mut(&service) else {
            return;
        };
        let mut trouble = None;
        for (_, open) in &kept.sockets {
            let own = open.as_fd().try_clone_to_owned();
            let watched = match own.and_then(readiness::readable) {
                Ok(watched) => watched,
                Err(error) => {
                    trouble = Some(not_done("wait for a connection to", "a socket", &error));
                    continue;
                }
            };
            let inbox = self.inbox.clone();
            let task = tokio::spawn(async move {
                if watched.readable().await.is_ok() {
                    let event = Event::Demanded { service, op };
                    let _ = inbox.send(Message::Event(event));
                }
            });
            kept.waiting.push(task.abort_handle());
        }
        // Not at once, here too.
        let event = match trouble {
            None => Event::Listening { service, op },
            Some(error) => Event::ListenFailed { service, op, error },
        };
        let _ = self.inbox.send(Message::Event(event));
    }

    /// It is started: whoever connects now is the service's to see.
    pub(super) fn await_no_demand(&mut self, service: ServiceId) {
        if let Some(kept) = self.open.get_mut(&service) {
            kept.await_no_demand();
        }
    }

    // ---- the start ----------------------------------------------------------------------

    /// Gives a start the sockets, and behind them what an earlier one had stored.
    pub(super) fn hand_over(
        &mut self,
        r#gen: GenId,
        spec: &Spec,
        voice: &mut Voice,
    ) -> Result<(), Failed> {
        let service = self.gens.get(&r#gen).map(|generation| generation.service);
        let Some(kept) = service.and_then(|service| self.open.get(&service)) else {
            return Ok(());
        };
        let sockets = kept.sockets.iter();
        let sockets = sockets.map(|(socket, open)| (socket.name.as_str(), open.as_fd()));
        let stored = kept.stored.iter().map(Stored::named);
        let mut names = Vec::new();
        for ((name, descriptor), number) in sockets.chain(stored).zip(FIRST..) {
            let copy = descriptor.try_clone_to_owned();
            let copy: OwnedFd =
                copy.map_err(|error| not_done("give a socket to", &spec.name, &error))?;
            voice.descriptors.push((copy, number));
            names.push(name);
        }
        if !names.is_empty() {
            let (count, names) = (names.len().to_string(), names.join(":"));
            voice.vars.push(("LISTEN_FDS".into(), count.into()));
            voice.vars.push(("LISTEN_FDNAMES".into(), names.into()));
            voice.listen_pid = true;
        }
        Ok(())
    }

    /// Signals the main process, and nobody else, to read its configuration again.
    pub(super) fn signal_reload(&mut self, r#gen: GenId, op: OpId, signal: Signal) {
        let generation = self.gens.get(&r#gen);
        let main = generation.and_then(|generation| generation.main.as_ref());
        let sent = match main.map(|main| (main, &main.pidfd)) {
            Some((_, Some(pidfd))) => pidfd.send(signal.number()),
            Some((main, None)) => crate::sys::signal::send_bare(main.id.pid, signal.number()),
            None => Ok(false),
        };
        let error = match sent {
            Ok(true) => None,
            Ok(false) => Some(Failed {
                doing: "signal".into(),
                what: "the main process".into(),
                errno: 0,
                why: "it has just ended".into(),
            }),
            Err(error) => Some(failed(&error)),
        };
        let event = Event::Reloaded { r#gen, op, error };
        self.core.handle(now(), event);
    }
}

fn not_done(doing: &str, what: &str, error: &Error) -> Failed {
    Failed {
        doing: doing.into(),
        what: what.into(),
        errno: error.raw_os_error().unwrap_or(0),
        why: error.to_string(),
    }
}

/// Opens what a service's file names, those of `open` apart that listen at the same place: these
/// are adjusted, and refuse nobody meanwhile. All, or none. **May hang** as a file system does.
pub(super) fn open(spec: &Spec, open: &Sockets, readings: &Readings) -> Result<Sockets, SysError> {
    let mut sockets = Sockets::new();
    let mut made: Vec<Arc<Open>> = Vec::new();
    for socket in &spec.sockets {
        let known = open.iter().find(|(known, _)| known.at == socket.at);
        let opened = wanted(socket, readings).and_then(|wanted| match known {
            Some((known, open)) if known == socket => Ok(Arc::clone(open)),
            Some((_, open)) => open.adjust(&wanted).map(|()| Arc::clone(open)),
            None => {
                let new = Arc::new(Open::new(&wanted)?);
                made.push(Arc::clone(&new));
                Ok(new)
            }
        });
        match opened {
            Ok(opened) => sockets.push((socket.clone(), opened)),
            Err(error) => {
                for made in made {
                    // What it failed for is what is to be said.
                    let _ = made.unlink();
                }
                return Err(error);
            }
        }
    }
    Ok(sockets)
}

fn wanted(socket: &Socket, readings: &Readings) -> Result<Wanted, SysError> {
    let whose = account(socket.user.as_deref(), socket.group.as_deref(), readings)?;
    let run_as = whose.map(|account| account.run_as).unwrap_or_default();
    Ok(Wanted {
        address: match &socket.at {
            SocketAt::Tcp(address) => Address::Tcp(*address),
            SocketAt::Udp(address) => Address::Udp(*address),
            SocketAt::Stream(path) => Address::Stream(path.into()),
            SocketAt::Datagram(path) => Address::Datagram(path.into()),
        },
        backlog: socket.backlog,
        mode: socket.mode,
        uid: run_as.uid,
        gid: run_as.gid,
    })
}
