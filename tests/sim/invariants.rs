//! The invariants, checked at every step against what the onlooker knows and against the truth.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::{
    AuxKind, Effect, EndAction, Exit, GenId, Notice, Outcome, Receipt, Reply, RequestId, Role,
    ServiceId, Spec, Supervisor, Timer, Verdict,
};
use crate::kernel::Kernel;
use crate::observer::{GenSeen, Main, Observer, SECOND, ServiceSeen, nanos};

pub type Check = Result<(), String>;

pub(crate) fn hold(condition: bool, broken: impl FnOnce() -> String) -> Check {
    if condition { Ok(()) } else { Err(broken()) }
}

impl Observer {
    /// An effect is about to be carried out: is it right?
    pub fn check(
        &mut self,
        now: u64,
        core: &Supervisor,
        kernel: &Kernel,
        effect: &Effect,
    ) -> Check {
        hold(!self.finished, || {
            format!("nothing after Finish: {effect:?}")
        })?;
        if let Some(id) = acts_on(effect) {
            let seen = self.gens.get(&id);
            hold(seen.is_some_and(|seen| !seen.released), || {
                format!("nothing is done to a generation after its release: {effect:?}")
            })?;
        }
        match effect {
            Effect::Spawn { r#gen, service } => self.check_spawn(core, *r#gen, *service)?,
            Effect::Listen { service, .. } => self.check_listen(core, *service)?,
            Effect::Close { service } => self.check_close(core, *service)?,
            Effect::Reload { r#gen, .. } => {
                let seen = self.gens.get(r#gen);
                hold(seen.is_some_and(|seen| seen.stopping.is_none()), || {
                    format!("g{} is asked to reload while it stops", r#gen.0)
                })?;
            }
            Effect::Signal { r#gen, .. } => self.check_stopping(*r#gen)?,
            Effect::RunAux {
                r#gen,
                kind: AuxKind::Stop,
                ..
            } => self.check_stopping(*r#gen)?,
            Effect::RunAux { r#gen, .. } => {
                let stopping = self
                    .gens
                    .get(r#gen)
                    .is_some_and(|seen| seen.stopping.is_some());
                hold(!stopping, || {
                    format!("g{} is looked at while it stops", r#gen.0)
                })?;
            }
            Effect::Kill { r#gen, .. } => {
                self.check_stopping(*r#gen)?;
                self.check_kill(now, *r#gen)?;
            }
            Effect::Receipt(receipt) => self.check_receipt(now, kernel, receipt)?,
            Effect::Release { r#gen } => {
                let verdict = self.gens.get(r#gen).and_then(GenSeen::verdict);
                hold(verdict.is_some_and(|v| v != Verdict::Lingering), || {
                    format!("released without its last verdict: g{}", r#gen.0)
                })?;
            }
            Effect::Reply { id, reply } => self.check_reply(kernel, *id, reply)?,
            Effect::Notice(Notice::State { service, state, .. }) if *state == "stopping" => {
                self.check_going_down(*service)?;
            }
            Effect::Notice(Notice::StopsAll { key, .. }) => {
                hold(self.shutdown_began.is_none(), || {
                    format!("everything stops ({key}) while everything stops")
                })?;
            }
            Effect::Finish(outcome) => {
                self.check_finish(kernel, outcome)?;
                self.check_code(outcome)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn check_spawn(&mut self, core: &Supervisor, r#gen: GenId, id: ServiceId) -> Check {
        let spec = core.spec(id).ok_or("a spawn of nothing")?.clone();
        let name = &spec.name;
        let needed = || {
            let above = self.above.get(name).into_iter().flatten();
            spec.role == Some(Role::Sidecar)
                && !self.hurried
                && above.flat_map(|above| self.active(above)).next().is_some()
        };
        let in_shutdown = self.shutdown_began.is_some();
        hold(!in_shutdown || needed(), || {
            format!("{name} was started in a shutdown")
        })?;
        hold(!self.gens.contains_key(&r#gen), || {
            format!("generation {} was used twice", r#gen.0)
        })?;
        for dependency in spec.dependencies() {
            // A sidecar comes back beside what goes down with it.
            let there = |d: &str| self.active(d).any(|(_, seen)| seen.stopping.is_none());
            let ready = self.ready(dependency) || in_shutdown && there(dependency);
            hold(ready, || {
                format!("{name} was started before its dependency {dependency} is ready")
            })?;
        }
        let mut through = vec![&spec];
        while let Some(spec) = through.pop() {
            for required in &spec.requires {
                hold(self.ready(required) || in_shutdown, || {
                    let of = &spec.name;
                    format!("{name} was started while {required}, required by {of}, is not ready")
                })?;
                // What remains is there itself, as what is up is, until it has ended.
                let done = |s: &&ServiceSeen| s.spec.oneshot && (!s.spec.remain || s.done);
                let service = self.services.get(required).filter(done);
                through.extend(service.map(|service| &service.spec));
            }
        }
        if let Some(least) = spec.min_guarantee {
            let here = core.guarantee();
            let met = here.containment <= least.containment && here.scan <= least.scan;
            hold(met, || {
                format!("{name} was started below its min_guarantee")
            })?;
        }
        let left = self.gens.values().find(|g| g.leftover && g.last.is_none());
        hold(left.is_none(), || {
            format!("{name} was started before a leftover has its verdict")
        })?;
        for other in self.gens.values().filter(|other| other.name == *name) {
            let gone = match other.verdict() {
                Some(Verdict::Verified | Verdict::Unverified) => true,
                Some(Verdict::Lingering) => other.accepted,
                None => false,
            };
            hold(gone, || format!("two generations of {name} at once"))?;
        }
        self.gens.insert(r#gen, GenSeen::new(&spec, false));
        Ok(())
    }

    fn check_stopping(&self, id: GenId) -> Check {
        let seen = &self.gens[&id];
        hold(seen.stopping.is_some() || seen.leftover, || {
            format!("{} was asked to stop and nobody was told", seen.name)
        })
    }

    /// Its ladder begins: are the dependents through?
    fn check_going_down(&self, service: ServiceId) -> Check {
        let Some(seen) = self.ids.get(&service).and_then(|id| self.gens.get(id)) else {
            return Err(format!("{service:?} stops, and never started"));
        };
        let name = &seen.name;
        if seen.leftover {
            let mut above = self.leftovers_above[name].iter();
            let waits = |id: &&GenId| self.gens[id].last.is_none();
            let before = above.find(waits).filter(|_| self.leftovers_ordered);
            return hold(before.is_none(), || {
                format!("leftover {name} was asked to stop before leftover {before:?} is through")
            });
        }
        let above = &self.above;
        if !seen.lives() || above[name].contains(name) {
            return Ok(());
        }
        let ran = seen.execed && (!seen.spec.remain || seen.remains());
        let was_up = ran && !seen.spec.oneshot && (seen.spec.test.is_none() || seen.passed);
        for above in &above[name] {
            for (_, other) in self.active(above) {
                let requires = self.requirers.get(name).is_some_and(|r| r.contains(above));
                let stops = self
                    .services
                    .get(above)
                    .is_some_and(|s| !s.stops.is_empty());
                let both = other.stopping.is_some()
                    || stops
                    || self.shutdown_began.is_some()
                    || (requires && was_up);
                hold(!both, || {
                    format!("{name} was asked to stop before its dependent {above} has a verdict")
                })?;
            }
        }
        Ok(())
    }

    fn check_kill(&self, now: u64, id: GenId) -> Check {
        let seen = &self.gens[&id];
        let name = &seen.name;
        if seen.spawned_late || seen.kills > 0 || seen.last.is_some() || seen.fence_busy {
            return Ok(());
        }
        let lived = matches!(seen.main, Main::Spawned | Main::Unknown) || seen.remained;
        if lived && seen.last_main_reading != Some(false) {
            hold(
                seen.signalled.is_some() || seen.stop_command.is_some(),
                || format!("{name} was killed without having been asked"),
            )?;
        }
        if seen.last_main_reading == Some(false) || seen.main == Main::Never || self.hurried {
            return Ok(());
        }
        let politely = seen.signalled_alive || seen.remained || seen.stop_command.is_some();
        let grace = if politely {
            seen.spec.grace
        } else {
            seen.spec.exit_grace
        };
        let asked = seen.signalled.or(seen.stop_command).unwrap_or(now);
        if let Some(began) = self.shutdown_began {
            let most = self.fair();
            if self.punctual && asked >= began {
                hold(now + self.slack >= asked + nanos(grace.min(most)), || {
                    let waited = (now - asked) / 1_000_000;
                    format!("{name} was starved: killed after {waited} ms, fair are {most:?}")
                })?;
            }
            let times = 1 + u64::from(seen.spec.stop_command.is_some());
            let own = nanos(grace) * times + nanos(seen.spec.kill_timeout);
            let end = nanos(self.deadline) - nanos(self.deadline).div_ceil(10).max(SECOND / 10);
            let fits = |below: u64| asked + own + below <= began + end;
            if !self.wishes_below(name).is_some_and(fits) {
                return Ok(());
            }
        }
        hold(now + self.slack >= asked + nanos(grace), || {
            let waited = (now - asked) / 1_000_000;
            format!("{name} was killed {waited} ms after it was asked, its grace is {grace:?}")
        })
    }

    /// What every service has at least in a shutdown, if it wishes as much: half of an equal part
    /// of the time is for proofs, half of that may go to a stop command or to a start that is
    /// awaited, and half of the rest to what is late.
    fn fair(&self) -> Duration {
        let count = u32::try_from(self.services.len() + self.gens.len()).unwrap();
        let stops = self.deadline - (self.deadline / 10).max(Duration::from_millis(100));
        (stops / (8 * count)).saturating_sub(Duration::from_millis(2))
    }

    /// The longest chain of wishes among all that the service may wait for; none: it is on a
    /// cycle.
    fn wishes_below(&self, name: &str) -> Option<u64> {
        let wish = |spec: &crate::core::Spec| {
            let times = 1 + u64::from(spec.stop_command.is_some());
            nanos(spec.grace.max(spec.exit_grace)) * times + nanos(spec.kill_timeout)
        };
        let left = self.gens.values().filter(|seen| seen.leftover);
        let leftovers = left.map(|seen| wish(&seen.spec)).sum::<u64>();
        let mut chains = vec![(name, 0, 0)];
        let mut longest = 0;
        while let Some((at, sum, depth)) = chains.pop() {
            longest = longest.max(sum);
            let Some(service) = self.services.get(at) else {
                continue;
            };
            if depth > self.services.len() {
                return None;
            }
            let later = self.services.values().map(|other| &other.spec);
            let later = later.filter(|other| other.stop_after.iter().any(|name| name == at));
            let later = later.map(|other| other.name.as_str());
            for below in service.spec.dependencies().chain(later) {
                let more = self.services.get(below).map_or(0, |s| wish(&s.spec));
                chains.push((below, sum + more, depth + 1));
            }
        }
        Some(longest + leftovers)
    }

    fn check_receipt(&self, now: u64, kernel: &Kernel, receipt: &Receipt) -> Check {
        let seen = self
            .gens
            .get(&receipt.r#gen)
            .ok_or("a receipt of nothing")?;
        let name = &seen.name;
        hold(
            seen.verdict().is_none_or(|v| v == Verdict::Lingering),
            || format!("{name} got a verdict after its last"),
        )?;
        hold(receipt.late == (seen.receipts > 0), || {
            format!(
                "{name}'s receipt {} says late {}",
                seen.receipts + 1,
                receipt.late
            )
        })?;
        hold(
            receipt.allotment.is_some() || receipt.late || self.shutdown_began.is_none(),
            || format!("{name} went down in a shutdown without a share of its deadline"),
        )?;
        if let Some(allotment) = receipt.allotment.filter(|_| self.punctual) {
            let least = allotment.planned.min(allotment.wish);
            hold(allotment.granted >= least.min(seen.spec.exit_grace), || {
                format!("{name} got less than was planned: {allotment:?}")
            })?;
        }
        hold(receipt.pid == seen.pid, || {
            format!(
                "{name} was {:?}, its receipt says {:?}",
                seen.pid, receipt.pid
            )
        })?;
        let verified = receipt.verdict == Verdict::Verified;
        hold(verified == receipt.reason.is_none(), || {
            format!(
                "{name}'s reason: {:?} {:?}",
                receipt.verdict, receipt.reason
            )
        })?;
        hold(
            receipt.survivors.is_empty() || receipt.verdict == Verdict::Lingering,
            || format!("{name} has survivors and is {:?}", receipt.verdict),
        )?;
        hold(
            !seen.alive_outside || receipt.verdict == Verdict::Lingering,
            || {
                format!(
                    "{name} is {:?}, and an escapee is known to live",
                    receipt.verdict
                )
            },
        )?;
        let killed: BTreeSet<u32> = receipt.killed.iter().map(|p| p.pid).collect();
        hold(killed == seen.killed, || {
            format!(
                "{name}'s receipt has {killed:?} as killed, reported {:?}",
                seen.killed
            )
        })?;
        let escaped: BTreeSet<u32> = receipt.escaped.iter().map(|p| p.pid).collect();
        hold(escaped == seen.escaped, || {
            format!(
                "{name}'s receipt has {escaped:?} as escaped, reported {:?}",
                seen.escaped
            )
        })?;
        hold(receipt.oom_kills == seen.oom_kills, || {
            format!(
                "{name}'s receipt has {} killed for want of memory, reported {}",
                receipt.oom_kills, seen.oom_kills
            )
        })?;
        let kept: BTreeSet<u32> = receipt.kept.iter().map(|p| p.pid).collect();
        hold(kept == seen.kept, || {
            format!(
                "{name}'s receipt has {kept:?} as kept, reported {:?}",
                seen.kept
            )
        })?;
        let mut at = receipt.began;
        for step in &receipt.steps {
            hold(step.at >= at && step.at <= receipt.ended, || {
                format!("{name}'s steps run backwards: {:?}", receipt.steps)
            })?;
            at = step.at;
        }
        hold(receipt.ended.as_nanos() <= now, || "from the future".into())?;
        if verified {
            self.check_verified(kernel, receipt, seen)?;
        }
        Ok(())
    }

    fn check_verified(&self, kernel: &Kernel, receipt: &Receipt, seen: &GenSeen) -> Check {
        let name = &seen.name;
        hold(seen.kills_open.is_empty(), || {
            format!("{name} is verified while a kill is under way")
        })?;
        hold(seen.proven, || {
            format!("{name} is verified without a conclusive scan after the last kill")
        })?;
        hold(seen.fence_removed, || {
            format!("{name} is verified before the fence")
        })?;
        hold(receipt.guarantee.can_verify(), || {
            format!("{name} is verified where nothing can be")
        })?;
        let alive = kernel.ours(receipt.r#gen);
        hold(alive.is_empty(), || {
            format!("{name} is verified while {alive:?} live")
        })
    }

    fn check_reply(&self, kernel: &Kernel, id: RequestId, reply: &Reply) -> Check {
        hold(!self.answered.contains(&id), || {
            format!("request {} was answered twice", id.0)
        })?;
        let request = self.open.get(&id);
        let request = request.ok_or_else(|| format!("request {} was never made", id.0))?;
        use crate::core::Request;
        match (request, reply) {
            (
                Request::Stop { service, .. }
                | Request::StopToAmend { service }
                | Request::StopWithDependents { service, .. }
                | Request::Forget { service },
                Reply::AlreadyDown | Reply::Accepted,
            ) => {
                for (r#gen, seen) in &self.gens {
                    let open = matches!(seen.verdict(), None | Some(Verdict::Lingering));
                    let alive = kernel.ours(*r#gen);
                    hold(seen.name != *service || !open, || {
                        format!("{service} is called down or forgotten, and {alive:?} live")
                    })?;
                }
                Ok(())
            }
            (
                Request::Stop { service, .. }
                | Request::StopToAmend { service }
                | Request::StopWithDependents { service, .. },
                Reply::Stopped(receipt),
            ) => {
                let told = self.gens.get(&receipt.r#gen).and_then(|g| g.last.as_ref());
                hold(
                    receipt.service == *service
                        && receipt.verdict != Verdict::Lingering
                        && told == Some(receipt),
                    || format!("{service} is called stopped by another receipt than told"),
                )
            }
            (
                Request::Start { service, .. } | Request::Restart { service, .. },
                Reply::Reached { state },
            ) => {
                let done = *state == "done";
                hold(self.ready(service) || done, || {
                    format!("{service} is called {state} and is not")
                })
            }
            _ => Ok(()),
        }
    }

    fn check_finish(&self, kernel: &Kernel, outcome: &Outcome) -> Check {
        hold(self.shutdown_began.is_some(), || "finished unasked".into())?;
        hold(self.open.is_empty(), || {
            format!("finished without a reply to {:?}", self.open)
        })?;
        for (id, seen) in &self.gens {
            let verdict = seen.verdict();
            hold(verdict.is_some(), || {
                format!("finished without a verdict on {} (g{})", seen.name, id.0)
            })?;
            hold(
                seen.released == (verdict != Some(Verdict::Lingering)),
                || {
                    format!(
                        "{} (g{}) is {verdict:?}, released {}",
                        seen.name, id.0, seen.released
                    )
                },
            )?;
            let asked = seen.signalled.is_some()
                || seen.stop_command.is_some()
                || !(matches!(seen.main, Main::Spawned | Main::Unknown) || seen.remained)
                || seen.spawned_late
                || seen.last_main_reading == Some(false);
            hold(asked || !self.running_at_shutdown.contains(id), || {
                format!("{} was not asked politely", seen.name)
            })?;
        }
        for (pid, process) in kernel.processes.iter().filter(|(_, p)| !p.foreign) {
            let name = &self.gens[&process.r#gen].name;
            let named = outcome.survivors.iter().any(|s| s.pid == *pid)
                || outcome.lingering.contains(name)
                || outcome.unverified.contains(name)
                || outcome.sweep_error.is_some();
            hold(named, || {
                format!("pid {pid} of {name} lives and is not named")
            })?;
            hold(outcome.exit_code() != 0, || {
                format!("exit code 0, and pid {pid} of {name} lives")
            })?;
        }
        for name in &outcome.lingering {
            let lingers = self
                .gens
                .values()
                .any(|seen| seen.name == *name && seen.verdict() == Some(Verdict::Lingering));
            hold(lingers, || format!("{name} is said to linger and does not"))?;
        }
        Ok(())
    }

    /// Whose end stopped everything, and what that says for the exit code.
    fn check_code(&self, outcome: &Outcome) -> Check {
        let Some(because) = &outcome.because else {
            return Ok(());
        };
        let name = &because.service;
        let service = &self.services[name];
        let seen = service.gens.last().map(|id| &self.gens[id]);
        let exit = self.stopper_exit;
        let spec = &service.spec;
        let refused = seen.is_none() && (spec.min_guarantee.is_some() || spec.on_demand);
        hold(
            refused || seen.is_some_and(|seen| seen.stopping.is_some()),
            || format!("{name} stopped everything, and has not ended"),
        )?;
        let own = service.spec.essential || service.spec.on_failure == EndAction::StopAll;
        if service.spec.role == Some(Role::Main) && !own {
            // It may have ended long before the last one did.
            return hold(
                because.code == 0 || outcome.exit_code() == because.code,
                || format!("the exit code is not that of the main {name}"),
            );
        }
        let failed = seen.is_none_or(|seen| exit != Some(Exit::Code(0)) || seen.was_remaining);
        let fits = match exit {
            _ if !own => because.code == 0,
            // Its sockets could not be opened again.
            _ if service.spec.on_demand && because.code == 125 => true,
            Some(Exit::Code(0)) => matches!(because.code, 0 | 125),
            Some(Exit::Code(code)) => i32::from(because.code) == code,
            Some(Exit::Signal { signal, .. }) => i32::from(because.code) == 128 + signal,
            None => !failed || because.code == 125,
        };
        hold(fits, || {
            format!(
                "{name} ended with {exit:?}, and the code is {}",
                because.code
            )
        })?;
        hold(
            because.code == 0 || outcome.exit_code() == because.code,
            || format!("the exit code is not {name}'s"),
        )
    }

    /// The end of the last main has stopped everything.
    fn check_mains(&self, core: &Supervisor) -> Check {
        let mains = core
            .views()
            .into_iter()
            .filter(|view| view.spec.role == Some(Role::Main) && !view.ghost);
        let states: Vec<(&str, bool)> = mains
            .map(|view| (view.state, view.detail.starts_with("dependency cycle")))
            .collect();
        let ended = |(state, cyclic): &(&str, bool)| matches!(*state, "done" | "failed") && !cyclic;
        let over = !states.is_empty() && states.iter().all(ended);
        let taken_out = self.situations.contains("a service is taken out");
        hold(!over || taken_out, || {
            "every main has ended and everything goes on".into()
        })
    }

    /// The end of whoever says so has stopped everything.
    fn check_ends(&self, core: &Supervisor) -> Check {
        self.check_mains(core)?;
        let stops = |spec: &&Spec| {
            spec.essential
                || spec.on_end == EndAction::StopAll
                || spec.on_failure == EndAction::StopAll
        };
        let stops = self
            .services
            .values()
            .map(|service| &service.spec)
            .filter(stops);
        for spec in stops {
            let Some(view) = core.view(&spec.name) else {
                continue;
            };
            let on_success = spec.essential || spec.on_end == EndAction::StopAll;
            let ended = match view.state {
                "done" => on_success,
                "failed" => !view.detail.starts_with("dependency cycle"),
                _ => false,
            };
            hold(!ended, || {
                format!("{} is {} and everything goes on", spec.name, view.state)
            })?;
        }
        Ok(())
    }

    /// After the effects of a step were taken.
    pub fn check_rest(&self, core: &Supervisor, kernel: &Kernel, now: u64) -> Check {
        for (timer, _) in core.timers() {
            let Some(id) = timer.service() else {
                continue;
            };
            let state = core.state(id);
            let fits = match timer {
                Timer::StartTimeout(_) => state == Some("starting"),
                Timer::TestTimeout(_) | Timer::TestPause(_) | Timer::TestClear(_) => {
                    let looked_at = core.spec(id).is_some_and(|spec| spec.health.is_some());
                    state == Some("starting") || (state == Some("up") && looked_at)
                }
                Timer::Watchdog(_) | Timer::Reload(_) => state == Some("up"),
                Timer::Backoff(_) => state == Some("backoff"),
                Timer::Rung(_) | Timer::Retry(_) | Timer::Proof(_) => {
                    matches!(state, Some("stopping" | "lingering"))
                }
                Timer::StopsEnd | Timer::Flush | Timer::Deadline => true,
            };
            hold(fits || self.finished, || {
                format!("{timer:?} runs while the service is {state:?}")
            })?;
        }
        self.check_accounts(core)?;
        self.check_open(core)?;
        if self.shutdown_began.is_none() {
            self.check_ends(core)?;
        }
        if let Some(began) = self.shutdown_began {
            let ends = began + nanos(self.deadline);
            let due = core.poll_timeout().is_some_and(|at| at.as_nanos() <= now);
            hold(self.finished || now < ends || due, || {
                "the deadline has passed and nothing is finished".into()
            })?;
        }
        for (id, seen) in self.gens.iter().filter(|(_, seen)| seen.released) {
            if seen.verdict() == Some(Verdict::Verified) {
                let alive = kernel.ours(*id);
                hold(alive.is_empty(), || {
                    format!("{} was verified and {alive:?} appeared", seen.name)
                })?;
            }
        }
        Ok(())
    }

    /// What a service's starts lost for want of memory is the sum of what their receipts say.
    fn check_accounts(&self, core: &Supervisor) -> Check {
        let forced = "a start is forced beside what lingers";
        let taken_out = "a service is taken out";
        if self.situations.contains(forced) || self.situations.contains(taken_out) {
            return Ok(());
        }
        for view in core.views().into_iter().filter(|view| !view.ghost) {
            let name = &view.spec.name;
            let of_it = self.gens.values().filter(|seen| seen.name == *name);
            let receipts = of_it.filter_map(|seen| seen.last.as_ref());
            let sum: u64 = receipts.map(|receipt| receipt.oom_kills).sum();
            hold(view.oom_kills == sum, || {
                format!("{name} lost {}, by its receipts {sum}", view.oom_kills)
            })?;
        }
        Ok(())
    }

    /// Faults have healed long ago and nobody asks for anything: everything that can be is up.
    pub fn check_progress(&self, core: &Supervisor) -> Check {
        let views = core.views();
        let ready = |name: &str| {
            views.iter().any(|v| {
                v.spec.name == name
                    && !v.ghost
                    && match v.state {
                        "up" => !v.spec.oneshot || v.spec.remain,
                        "done" => v.spec.oneshot,
                        "listening" => true,
                        _ => false,
                    }
            })
        };
        for view in &views {
            let name = &view.spec.name;
            let fine = match view.state {
                "up" | "done" | "failed" | "down" | "listening" => !view.ghost,
                "blocked" => {
                    let mut through = vec![view.spec];
                    let mut required = Vec::new();
                    while let Some(spec) = through.pop() {
                        required.extend(spec.requires.iter().map(String::as_str));
                        through.extend(
                            views
                                .iter()
                                .filter(|v| {
                                    v.state == "done" && spec.requires.contains(&v.spec.name)
                                })
                                .map(|v| v.spec),
                        );
                    }
                    !view.spec.dependencies().chain(required).all(ready)
                }
                _ => false,
            };
            hold(fine, || {
                format!("{name} made no progress: {} ({})", view.state, view.detail)
            })?;
            hold(
                view.state != "down" || view.target == crate::core::Target::Down,
                || format!("{name} is wanted and down"),
            )?;
        }
        hold(self.open.is_empty(), || {
            format!("still without a reply: {:?}", self.open)
        })?;
        let watched = |timer: &Timer| {
            let spec = timer.service().and_then(|id| core.spec(id));
            spec.is_some_and(|spec| spec.health.is_some() || spec.watchdog.is_some())
        };
        hold(core.timers().all(|(timer, _)| watched(&timer)), || {
            let timers: Vec<_> = core.timers().collect();
            format!("an idle supervisor wakes: {timers:?}")
        })
    }
}

fn acts_on(effect: &Effect) -> Option<GenId> {
    match effect {
        Effect::RunAux { r#gen, .. }
        | Effect::EndAux { r#gen, .. }
        | Effect::Reload { r#gen, .. }
        | Effect::Signal { r#gen, .. }
        | Effect::Kill { r#gen, .. }
        | Effect::Scan { r#gen, .. }
        | Effect::Fence { r#gen, .. }
        | Effect::Inspect { r#gen, .. }
        | Effect::Release { r#gen } => Some(*r#gen),
        _ => None,
    }
}
