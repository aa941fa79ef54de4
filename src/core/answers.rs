//! Answers that wait: for a service to be up, or for the shutdown to have its verdicts.

use std::collections::BTreeSet;

use super::ServiceId;
use super::effect::{Effect, Notice, ShutdownKind};
use super::graph::NameId;
use super::machine::Supervisor;
use super::receipt::Verdict;
use super::request::{Reply, RequestError, RequestId};
use super::service::{State, Target};
use super::shutdown::Phase;

impl Supervisor {
    /// Answers a request to start when there is an answer; `wait`: not before.
    pub(super) fn wait_for_start(&mut self, request: RequestId, id: ServiceId, wait: bool) {
        if wait {
            self.start_waits.entry(id).or_default().push(request);
            self.recheck.insert(id);
        } else {
            self.reply(request, Reply::Accepted);
        }
    }

    /// Answers whoever waits for a service that is up, or cannot be.
    pub(super) fn resolve_start_waits(&mut self) {
        let recheck = std::mem::take(&mut self.recheck);
        let all = std::mem::take(&mut self.hope_lost) || self.shutdown.is_some();
        if self.start_waits.is_empty() {
            return;
        }
        let candidates: Vec<ServiceId> = if all {
            self.start_waits.keys().copied().collect()
        } else {
            let waited = |id: &ServiceId| self.start_waits.contains_key(id);
            recheck.into_iter().filter(waited).collect()
        };
        for id in candidates {
            if let Some(reply) = self.start_reply(id) {
                for request in self.start_waits.remove(&id).unwrap_or_default() {
                    self.reply(request, reply.clone());
                }
            }
        }
    }

    fn start_reply(&self, id: ServiceId) -> Option<Reply> {
        if self.shutdown.is_some() {
            return Some(Reply::Error(RequestError::ShuttingDown));
        }
        let service = self.services.get(&id)?;
        let name = service.spec.name.clone();
        if service.target == Target::Down {
            return Some(Reply::Error(RequestError::Superseded { service: name }));
        }
        let error = match &service.state {
            State::Up(_) | State::Done if service.stop_wanted.is_none() => {
                return Some(Reply::Reached {
                    state: service.state.as_str(),
                });
            }
            State::Listening { .. } if service.open => {
                return Some(Reply::Reached {
                    state: service.state.as_str(),
                });
            }
            State::Listening { .. }
            | State::Starting(_)
            | State::Up(_)
            | State::Stopping(_)
            | State::Done
            | State::Down => {
                return None;
            }
            State::Lingering(ladder) => RequestError::Lingering(Box::new(ladder.receipt().clone())),
            State::Failed { why } => RequestError::Failed {
                service: name,
                why: why.clone(),
            },
            State::Backoff { .. } => {
                let last = service.last.as_ref();
                let failure = last.and_then(|last| last.failure.clone());
                let exit = last.and_then(|last| last.exit).map(|exit| exit.to_string());
                let why = failure.or(exit).unwrap_or_else(|| "ended".into());
                RequestError::Failed {
                    service: name,
                    why: format!("{why}; it is tried again"),
                }
            }
            State::Blocked { why } => {
                let hopeless = self.hopeless(id);
                return hopeless.then(|| {
                    let why = why.clone();
                    Reply::Error(RequestError::Blocked { service: name, why })
                });
            }
        };
        Some(Reply::Error(error))
    }

    /// Whether a blocked service waits for something that will not come by itself.
    fn hopeless(&self, id: ServiceId) -> bool {
        if self.leftovers > 0 {
            return false;
        }
        let mut seen = BTreeSet::from([id]);
        let mut open = vec![id];
        while let Some(at) = open.pop() {
            let (Some(service), Some(edges)) = (self.services.get(&at), self.graph.edges(at))
            else {
                return true;
            };
            let done = matches!(service.state, State::Done);
            if !done && self.haunted(at) {
                return true;
            }
            let after: &[NameId] = if done { &[] } else { &edges.after };
            for name in after.iter().chain(&edges.requires) {
                let found = self.graph.primary(*name);
                let Some((id, service)) = found.and_then(|id| Some((id, self.services.get(&id)?)))
                else {
                    return true;
                };
                let open_question = match &service.state {
                    State::Down | State::Failed { .. } | State::Lingering(_) => return true,
                    State::Done if !service.spec.oneshot => return true,
                    // It is ready itself; what it requires may have been lost since.
                    State::Done | State::Blocked { .. } => true,
                    _ if service.target == Target::Down => return true,
                    _ => false,
                };
                if open_question && seen.insert(id) {
                    open.push(id);
                }
            }
        }
        false
    }

    pub(super) fn on_shutdown_request(&mut self, request: RequestId, kind: ShutdownKind) {
        if self.shutdown.is_none() {
            self.begin_shutdown(kind, None);
        }
        let Some(shutdown) = &mut self.shutdown else {
            return;
        };
        // Whoever asks later knows what was asked before.
        if shutdown.kind != kind || !shutdown.asked {
            shutdown.kind = kind;
            shutdown.asked = true;
            self.out
                .push(Effect::Notice(Notice::ShutdownTurned { kind }));
        }
        if shutdown.phase == Phase::Stopping {
            shutdown.waits.push(request);
        } else {
            let reply = self.shutdown_reply();
            self.reply(request, reply);
        }
    }

    /// Nobody waits for the answers to these requests any more; what they asked for goes on.
    pub fn forsake(&mut self, gone: &BTreeSet<RequestId>) {
        let stays = |request: &RequestId| !gone.contains(request);
        self.start_waits.retain(|_, waits| {
            waits.retain(stays);
            !waits.is_empty()
        });
        for service in self.services.values_mut() {
            service.stop_waits.retain(stays);
        }
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.waits.retain(stays);
        }
    }

    fn shutdown_reply(&self) -> Reply {
        Reply::ShutDown {
            lingering: self.with_verdict(Verdict::Lingering),
            unverified: self.with_verdict(Verdict::Unverified),
        }
    }

    /// Answers those that wait for the shutdown, and whoever still waits for anything.
    pub(super) fn reply_shutdown(&mut self) {
        let reply = self.shutdown_reply();
        let waits = self
            .shutdown
            .as_mut()
            .map(|shutdown| std::mem::take(&mut shutdown.waits));
        for request in waits.unwrap_or_default() {
            self.reply(request, reply.clone());
        }
        let starts = std::mem::take(&mut self.start_waits);
        let stops = self
            .services
            .values_mut()
            .flat_map(|s| std::mem::take(&mut s.stop_waits));
        let stops: Vec<RequestId> = stops.collect();
        for request in starts.into_values().flatten().chain(stops) {
            self.reply(request, Reply::Error(RequestError::ShuttingDown));
        }
    }
}
