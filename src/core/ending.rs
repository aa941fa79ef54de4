//! What a verdict means to its service: who is answered, and whether it starts again.

use super::ServiceId;
use super::effect::Effect;
use super::event::Event;
use super::lifecycle::starting_again;
use super::machine::{Out, Supervisor};
use super::receipt::{Cause, Verdict};
use super::request::{Reply, RequestError};
use super::service::{Ended, Service, State, Target};
use super::stop::Ladder;
use super::time::Timer;

impl Supervisor {
    /// Hands the service's ladder to `event`, and acts on the verdict if one fell.
    pub(super) fn on_ladder(
        &mut self,
        id: ServiceId,
        event: impl FnOnce(&mut Ladder, &mut Out) -> Option<Verdict>,
    ) {
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let (State::Stopping(ladder) | State::Lingering(ladder)) = &mut service.state else {
            return;
        };
        if let Some(verdict) = event(ladder, &mut self.out) {
            self.on_verdict(id, verdict);
        }
    }

    fn on_verdict(&mut self, id: ServiceId, verdict: Verdict) {
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        let state = std::mem::replace(&mut service.state, State::Down);
        let (ladder, first) = match state {
            State::Stopping(ladder) => (ladder, true),
            State::Lingering(ladder) => (ladder, false),
            other => {
                service.state = other;
                return;
            }
        };
        let receipt = Box::new(ladder.receipt().clone());
        let waits = std::mem::take(&mut service.stop_waits);
        // A later verdict counts what came since the one before.
        let before = service.receipt.replace(receipt.clone());
        let before = before.filter(|before| before.r#gen == receipt.r#gen);
        let counted = before.map_or(0, |before| before.oom_kills);
        let since = receipt.oom_kills.saturating_sub(counted);
        service.oom_kills = service.oom_kills.saturating_add(since);
        if first {
            service.last = Some(Box::new(Ended {
                pid: receipt.pid,
                exit: receipt.exit,
                failure: service.failure.clone(),
                at: now,
            }));
            if ladder.cause == Cause::Leftover {
                self.leftovers = self.leftovers.saturating_sub(1);
                if self.leftovers == 0 {
                    self.dirty.extend(self.services.keys().copied());
                    self.hope_lost = true;
                }
            }
        } else if let Some(last) = &mut service.last {
            // It was not known when it was given up for the time being.
            last.exit = receipt.exit;
        }
        for id in waits {
            let reply = match verdict {
                Verdict::Lingering => Reply::Error(RequestError::Lingering(receipt.clone())),
                Verdict::Verified | Verdict::Unverified => Reply::Stopped(receipt.clone()),
            };
            self.out.push(Effect::Reply { id, reply });
        }
        if verdict == Verdict::Lingering {
            let cause = ladder.cause;
            self.set_state(id, State::Lingering(ladder));
            if first {
                self.on_lingers(id, cause);
            }
            if first && self.shutdown.is_none() {
                self.cascade(id, true);
                self.halt_stops_below(id, &receipt);
            }
        } else {
            self.gens.remove(&ladder.r#gen);
            self.on_gone(id, ladder.cause);
        }
    }

    /// The generation has its last verdict: what becomes of the service.
    fn on_gone(&mut self, id: ServiceId, cause: Cause) {
        let Some(service) = self.services.get(&id) else {
            return;
        };
        if service.ghost {
            self.mark_concerned(id);
            let primary = self
                .graph
                .edges(id)
                .and_then(|edges| self.graph.primary(edges.name));
            let ghost = self.services.remove(&id);
            self.graph.remove(id);
            self.dirty.remove(&id);
            if let Some(primary) = primary {
                self.dirty.insert(primary);
                self.hand_receipt_on(primary, ghost);
            }
            return;
        }
        let by_itself = cause.of_itself() || matches!(cause, Cause::Shutdown | Cause::Restart);
        if by_itself && self.sidecar_goes_on(id) {
            return;
        }
        let Some(service) = self.services.get_mut(&id) else {
            return;
        };
        // Whoever connected has been served, or will be by the next start.
        service.demanded &= service.again;
        let down = service.target == Target::Down || self.shutdown.is_some();
        let again = service.again;
        let next = match cause {
            _ if down => State::Down,
            _ if again => starting_again(),
            Cause::Stop
            | Cause::Restart
            | Cause::Dependency
            | Cause::Shutdown
            | Cause::Leftover => starting_again(),
            Cause::Ended | Cause::StartFailed | Cause::Unhealthy => self.after_end(id, cause),
        };
        self.come_to(id, next, cause.of_itself() && !down);
    }

    /// It has ended, or could not be started, and this is what it comes to; `ended`: by itself.
    pub(super) fn come_to(&mut self, id: ServiceId, next: State, ended: bool) {
        if let State::Backoff { until } = next {
            self.out.timers.set(Timer::Backoff(id), until);
        }
        let failed = matches!(next, State::Failed { .. });
        let for_good = ended && (failed || matches!(next, State::Done));
        self.set_state(id, next);
        if for_good {
            self.on_ended_for_good(id, !failed);
        }
        if failed {
            // Those that require it may run although it was not ready: a oneshot's second run.
            self.cascade(id, true);
        }
    }

    /// What became of a ghost is shown at the service whose name it bears, unless that has a
    /// later story of its own.
    fn hand_receipt_on(&mut self, primary: ServiceId, ghost: Option<Service>) {
        let (Some(service), Some(receipt)) = (
            self.services.get_mut(&primary),
            ghost.and_then(|ghost| ghost.receipt),
        ) else {
            return;
        };
        let own = service.receipt.as_ref();
        if own.is_none_or(|own| own.r#gen == receipt.r#gen) {
            service.receipt = Some(receipt);
        }
    }

    /// It ended by itself, or could not be started: by its restart policy.
    pub(super) fn after_end(&mut self, id: ServiceId, cause: Cause) -> State {
        let now = self.out.now;
        let Some(service) = self.services.get_mut(&id) else {
            return State::Down;
        };
        let exit = service.last.as_ref().and_then(|last| last.exit);
        let success = service.succeeded(cause);
        let why = match (&service.failure, exit) {
            (Some(failure), _) => failure.clone(),
            (None, Some(exit)) => exit.to_string(),
            (None, None) => "ended".into(),
        };
        let policy = &service.spec.restart;
        if !service.restarts_after(success) {
            return if success {
                State::Done
            } else {
                State::Failed { why }
            };
        }
        let began = service
            .receipt
            .as_ref()
            .map_or(now, |receipt| receipt.began);
        let uptime = service
            .up_since
            .map_or(std::time::Duration::ZERO, |since| began.since(since));
        match service.backoff.next(policy, now, uptime, &mut self.rng) {
            Some(delay) if delay.is_zero() => starting_again(),
            Some(delay) => State::Backoff { until: now + delay },
            None => State::Failed {
                why: format!(
                    "{why}; given up after {} restarts within {:?}",
                    policy.burst.unwrap_or_default(),
                    policy.window
                ),
            },
        }
    }
}

/// An event about a generation on the ladder.
pub(super) fn on_ladder_event(
    ladder: &mut Ladder,
    out: &mut Out,
    id: ServiceId,
    event: Event,
) -> Option<Verdict> {
    match event {
        Event::Spawned { pid, .. } => ladder.on_spawned(out, id, pid),
        Event::SpawnFailed { error, .. } => ladder.on_spawn_failed(out, id, error),
        Event::Execed { .. } => {}
        // It cannot talk itself into a longer grace: that is its file's to say.
        Event::Told { .. } => {}
        Event::ExecFailed { error, .. } | Event::SignalFailed { error, .. } => {
            ladder.on_trouble(out, error);
        }
        Event::MainExited { exit, .. } => ladder.on_main_exited(out, id, Some(exit)),
        Event::MainLost { .. } => ladder.on_main_exited(out, id, None),
        Event::OutOfMemory { kills, .. } => ladder.on_out_of_memory(kills),
        Event::Cgroup { main, whole, .. } => ladder.on_cgroup(out, id, main, whole),
        Event::AuxExited { aux, exit, .. } => ladder.on_aux_exited(out, id, aux, Some(exit)),
        Event::AuxFailed { aux, error, .. } => {
            ladder.on_trouble(out, error);
            ladder.on_aux_exited(out, id, aux, None);
        }
        Event::AuxEnded { aux, error, .. } => ladder.on_aux_ended(out, id, aux, error),
        Event::Killed { op, report, .. } => ladder.on_killed(out, id, op, report),
        Event::Scanned { op, report, .. } => return ladder.on_scanned(out, id, op, report),
        Event::Fenced { op, result, .. } => return ladder.on_fenced(out, id, op, result),
        Event::Inspected { op, survivors, .. } => {
            return ladder.on_inspected(out, id, op, survivors);
        }
        Event::SurvivorGone { .. } => ladder.on_survivor_gone(out, id),
        // Its reload was given up when the ladder began.
        Event::Reloaded { .. } => {}
        Event::Request { .. }
        | Event::Listening { .. }
        | Event::ListenFailed { .. }
        | Event::Demanded { .. }
        | Event::Terminate
        | Event::Flushed
        | Event::Swept { .. } => {}
    }
    None
}
