//! What the job asks, done at once.

use std::fs::File;
use std::os::fd::OwnedFd;

use nix::sys::resource::{UsageWho, getrusage};

use super::first::First;
use super::start;
use super::watch::{Runner, now};
use crate::core::{
    Ask, AuxKind, Effect, Event, Exit, Fence, KillReport, OpId, Receipt, Signal, To,
    job::GENERATION,
};
use crate::driver::KILL_SETTLE;
use crate::driver::translate::{self, failed};
use crate::sys::cgroup::{self, Removal};
use crate::sys::procfs::{self, ProcStat};
use crate::sys::terminal::Terminal;
use crate::sys::{SysError, inspect, signal, usage};

impl Runner<'_> {
    /// Does one thing; the receipt when that was the last.
    pub(super) fn carry_out(&mut self, ask: Ask) -> Option<Box<Receipt>> {
        match ask {
            Ask::Ended(receipt) => return Some(receipt),
            Ask::List => {
                self.list_leaks();
                self.job.on_listed(now());
            }
            Ask::Evidence => {
                self.show_evidence();
                self.job.on_evidence(now());
            }
            Ask::Effect(effect) => self.effect(effect),
        }
        None
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Signal { signal, to, .. } => self.signal(signal, to),
            Effect::Kill { op, .. } => self.kill(op),
            Effect::Scan { op, .. } => self.scan(op),
            Effect::Fence { op, .. } => self.fence(op),
            Effect::Inspect { op, .. } => self.inspect(op),
            Effect::RunAux { aux, kind, .. } => self.run_aux(aux, kind),
            Effect::EndAux { aux, .. } => self.end_aux(aux),
            // What a service's end means to others means nothing here.
            Effect::Spawn { .. }
            | Effect::Listen { .. }
            | Effect::Close { .. }
            | Effect::Reload { .. }
            | Effect::Receipt(_)
            | Effect::Release { .. }
            | Effect::Reply { .. }
            | Effect::Notice(_)
            | Effect::Flush
            | Effect::Sweep
            | Effect::Finish(_) => {}
        }
    }

    /// Whether anything of the job lives; `None`: cannot be told now.
    pub(super) fn populated(&mut self) -> Option<bool> {
        match (self.site.job(), &self.first) {
            (Some(dir), _) => cgroup::is_populated(&dir).ok(),
            (None, Some(first)) => Some(first.lives()),
            (None, None) => Some(!self.members_by_scan()?.is_empty()),
        }
    }

    /// To everybody there is: a signal that came to us, or the polite one to what is left.
    ///
    /// Whom the terminal has sent a hang-up already does not get it twice.
    fn signal(&mut self, signal: Signal, to: To) {
        self.spare_kept();
        self.take_census(Some(std::process::id()));
        self.find_program();
        let number = signal.number();
        let group = self.program();
        // It would pass the signal on once more.
        let first = self.first.as_ref().map(|first| first.pid);
        let hung_up = self.terminal.as_ref().is_some_and(Terminal::is_gone);
        let told = signal == Signal::HUP && self.in_front && hung_up;
        let but_group = group.filter(|_| told);
        let but = match to {
            To::Reach(_) => None,
            To::Rest(_) => group,
        };
        let sent = match self.site.job() {
            Some(dir) => {
                let sent = signal::send_members(&dir, number, &|stat| {
                    Some(stat.pid) != but
                        && Some(stat.pid) != first
                        && (but_group.is_none() || Some(stat.pgrp) != but_group)
                });
                sent.error
                    .filter(|error| !cgroup::is_gone(error))
                    .map_or(Ok(()), Err)
            }
            None => {
                let members = self.members_by_scan().unwrap_or_default();
                let members = members
                    .into_iter()
                    .filter(|stat| Some(stat.pid) != but && Some(stat.pid) != first);
                signal::send_each(&members.map(|stat| stat.id()).collect::<Vec<_>>(), number)
            }
        };
        if let Err(error) = sent {
            let error = failed(&error);
            self.job.handle(
                now(),
                Event::SignalFailed {
                    r#gen: GENERATION,
                    error,
                },
            );
        }
        self.look_closely();
    }

    fn kill(&mut self, op: OpId) {
        self.spare_kept();
        let report = match self.site.job() {
            Some(dir) => {
                self.take_census(Some(std::process::id()));
                translate::killed(self.site.kill(&dir, KILL_SETTLE))
            }
            None => self.kill_by_scan(),
        };
        let again = report.populated != Some(false);
        self.job.handle(
            now(),
            Event::Killed {
                r#gen: GENERATION,
                op,
                report,
            },
        );
        // The command's end may have come with it.
        self.reap();
        if again {
            self.look_closely();
        }
    }

    fn kill_by_scan(&mut self) -> KillReport {
        // The kernel ends them all with the first, and the dead cannot be listed any more.
        let first = self.first.as_ref().filter(|first| first.lives());
        let first = first.map(|first| first.pid);
        let members = first.and_then(|_| self.members_by_scan());
        self.end_namespace();
        let result = self.pass(false);
        self.alive = result.alive.iter().map(ProcStat::id).collect();
        let mut report = translate::killed_by_pass(&result);
        let members = members.unwrap_or_default();
        let members = members.iter().map(translate::process);
        translate::add_members(&mut report.killed, members, first);
        report.populated = self.first.as_ref().map(First::lives).or(report.populated);
        report
    }

    fn fence(&mut self, op: OpId) {
        self.unwatch();
        // Nobody lives who would have to be ended for us; it goes while we remove the cgroup.
        self.guard_pid = None;
        self.guard.end();
        let result = match self.site.job() {
            None => Fence::Removed,
            Some(dir) => {
                self.read_usage();
                match translate::fenced(cgroup::remove_tree(&dir)) {
                    // Gone with its file system is not gone.
                    Fence::Removed if !self.stands() => Fence::Failed(failed(&SysError::because(
                        "find the cgroups below",
                        dir.display().to_string(),
                        "the cgroup file system is no longer there",
                    ))),
                    fence => fence,
                }
            }
        };
        self.job.handle(
            now(),
            Event::Fenced {
                r#gen: GENERATION,
                op,
                result,
            },
        );
    }

    fn stands(&self) -> bool {
        let base = self.site.base.as_ref();
        base.is_some_and(|base| base.dir.join("cgroup.procs").exists())
    }

    fn inspect(&mut self, op: OpId) {
        let alive = self.alive.iter().filter(|id| procfs::lives(**id));
        let mut pids: Vec<u32> = alive.map(|id| id.pid).collect();
        if let Some(dir) = self.site.job() {
            pids.extend(cgroup::procs_recursive(&dir).unwrap_or_default());
        }
        pids.sort_unstable();
        pids.dedup();
        let found = inspect::with_argv(inspect::inspect(&pids));
        let survivors = found.into_iter().map(translate::survivor).collect();
        self.job.handle(
            now(),
            Event::Inspected {
                r#gen: GENERATION,
                op,
                survivors,
            },
        );
    }

    // ---- what runs when the time is over ------------------------------------------------

    fn run_aux(&mut self, aux: OpId, _kind: AuxKind) {
        let main = self.program().unwrap_or(0);
        let command = self.options.on_timeout.clone().unwrap_or_default();
        let born = stdio_for_aux()
            .and_then(|stdio| start::start_aux(&command, self.options, &self.site, stdio, main));
        match born {
            Ok(born) => {
                self.aux = Some((aux, born));
                self.aux_reaped = None;
            }
            Err(error) => {
                self.note(&format!("failed to {error}"));
                let error = failed(&error);
                self.job.handle(
                    now(),
                    Event::AuxFailed {
                        r#gen: GENERATION,
                        aux,
                        error,
                    },
                );
            }
        }
    }

    pub(super) fn on_aux_exited(&mut self, exit: Exit) {
        if let Some((aux, _)) = &self.aux {
            let aux = *aux;
            self.job.handle(
                now(),
                Event::AuxExited {
                    r#gen: GENERATION,
                    aux,
                    exit,
                },
            );
        }
    }

    fn end_aux(&mut self, aux: OpId) {
        let error = match (self.site.aux().filter(|dir| dir.is_dir()), &self.aux) {
            (Some(dir), _) => {
                let killed = self.site.kill(&dir, KILL_SETTLE);
                match cgroup::remove_tree(&dir) {
                    Removal::Removed => None,
                    Removal::Failed(error) => Some(error),
                    Removal::Busy { path } => killed.error.or_else(|| {
                        let path = path.display().to_string();
                        Some(SysError::because(
                            "end everything in",
                            path,
                            "somebody survives",
                        ))
                    }),
                }
            }
            (None, Some((_, born))) => match self.aux_reaped {
                // Its number is its own until it is reaped, which we do ourselves.
                None => signal::send_group(born.id.pid, libc::SIGKILL).err(),
                Some(reaped) => signal::end_left_group(born.id, reaped).err(),
            },
            (None, None) => None,
        };
        // Whoever is not reaped yet is an orphan like any other from here on.
        self.aux = None;
        let error = error.as_ref().map(failed);
        self.job.handle(
            now(),
            Event::AuxEnded {
                r#gen: GENERATION,
                aux,
                error,
            },
        );
    }

    // ---- what was used ------------------------------------------------------------------

    fn read_usage(&mut self) {
        if let Some(dir) = self.site.job() {
            self.usage.cgroup = usage::of_cgroup(&dir);
        }
    }
}

/// The largest of all processes that were reaped, in bytes.
pub(super) fn largest_process() -> Option<u64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    u64::try_from(usage.max_rss())
        .ok()
        .filter(|kib| *kib > 0)
        .map(|kib| kib * 1024)
}

/// Nothing to read, and our standard error to write to.
fn stdio_for_aux() -> Result<[OwnedFd; 3], SysError> {
    let failed = |error| SysError::io("open", std::path::Path::new("/dev/null"), &error);
    let null = File::open("/dev/null").map_err(failed)?;
    let error = || {
        let stderr = std::os::fd::AsFd::as_fd(&std::io::stderr()).try_clone_to_owned();
        stderr.map_err(|error| SysError::io("copy", std::path::Path::new("standard error"), &error))
    };
    Ok([null.into(), error()?, error()?])
}
