//! Scans, many at once: one pass over /proc answers for every generation that waits for one.
//!
//! Two hundred services that stop together would otherwise have /proc read two hundred times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::PoisonError;

use super::births::MARKER;
use super::generation::Generation;
use super::message::Message;
use super::run::{Driver, Owner, now};
use super::translate::{self, failed};
use crate::core::{Event, GenId, OpId};
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::{self, Proc, ProcId, ProcStat};
use crate::sys::scan::{self, Orphans, PassResult, ScanContext, ScanTarget};
use crate::sys::{readiness, signal};

/// So often in a row a pass is made again because of who was born of us during it.
const AGAIN: u8 = 8;

/// What a scan is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The ladder's proof.
    Scan(OpId),
    /// A kill where there are no cgroups: whoever is found is killed.
    Kill(OpId),
    /// Who is there before a kill by which the kernel ends all of a pid namespace.
    List(OpId),
    /// Who is there, where there are no cgroups: nobody is killed.
    Count,
    /// The polite signal, likewise: it goes to whoever is there but for one process and one
    /// process group.
    Signal {
        number: i32,
        but: Option<u32>,
        but_group: Option<u32>,
    },
}

impl Wanted {
    /// Whether nobody is to be killed.
    fn spares(self) -> bool {
        matches!(
            self,
            Wanted::List(_) | Wanted::Count | Wanted::Signal { .. }
        )
    }
}

impl Driver {
    /// Queues a scan; it begins when the one under way is done.
    pub(super) fn want_scan(&mut self, r#gen: GenId, wanted: Wanted) {
        if !self.wanted_scans.contains(&(r#gen, wanted)) {
            self.wanted_scans.push((r#gen, wanted));
        }
        self.begin_scans();
    }

    /// Counts the members of a generation that has no cgroup.
    pub(super) fn count_members(&mut self, r#gen: GenId) {
        self.want_scan(r#gen, Wanted::Count);
    }

    fn begin_scans(&mut self) {
        if self.scanning || self.wanted_scans.is_empty() {
            return;
        }
        self.scanning = true;
        self.orphan_reaped = false;
        self.born_during_scan = self.starting > 0;
        self.known_reaped.clear();
        let batch = std::mem::take(&mut self.wanted_scans);
        let context = self.scan_context(batch.iter().map(|(r#gen, _)| *r#gen).collect());
        let mut targets = Vec::new();
        for (r#gen, wanted) in &batch {
            targets.push(
                self.gens
                    .get(r#gen)
                    .map(|g| self.scan_target(g, *wanted))
                    .unwrap_or_default(),
            );
        }
        self.off_loop(move || {
            let results = scan::scan_passes(&targets, &context);
            Message::Scans(batch.into_iter().zip(results).collect())
        });
    }

    /// The passes are done: each generation gets its answer, and those that came to wait
    /// meanwhile their turn.
    pub(super) fn on_scans(&mut self, results: Vec<((GenId, Wanted), PassResult)>) {
        // An orphan that ended during the pass may have forked on, with a pid of its own choice,
        // behind the look.
        self.reap();
        self.scanning = false;
        let missed = self.orphan_reaped || self.a_number_is_taken_again();
        let results = self.put_off_those_with_newborns(results);
        let containment = self.place.guarantee().containment;
        for ((r#gen, wanted), mut result) in results {
            result.conclusive &= !missed;
            // Without marks nothing says whose that orphan was, nor whom it left.
            result.met |= self.orphan_reaped && result.quality != scan::Quality::Marked;
            if let Some(generation) = self.gens.get_mut(&r#gen)
                && !wanted.spares()
            {
                generation.rare.alive = result.alive.iter().map(ProcStat::id).collect();
            }
            match wanted {
                Wanted::Scan(op) => {
                    let first = self.first_says(r#gen);
                    let held = self.gens.get(&r#gen).map(|g| g.containment(containment));
                    let held = held.unwrap_or(containment);
                    let mut report = translate::scanned(result, held);
                    // Once it is empty it stays so: read after the pass is as good as before.
                    report.populated = first.or(report.populated);
                    if let Some(generation) = self.gens.get(&r#gen) {
                        report
                            .foreign
                            .extend(generation.rare.moved_in.iter().cloned());
                    }
                    self.core
                        .handle(now(), Event::Scanned { r#gen, op, report });
                }
                Wanted::Kill(op) => {
                    let mut report = translate::killed_by_pass(&result);
                    self.add_who_went_with_first(r#gen, &mut report.killed);
                    report.populated = self.first_says(r#gen).or(report.populated);
                    self.core.handle(now(), Event::Killed { r#gen, op, report });
                }
                // Whoever could not be seen dies all the same.
                Wanted::List(op) => self.kill_with_first(r#gen, op, result.spared),
                Wanted::Count => {
                    let error = result.error.filter(|_| !result.doubtful);
                    self.on_members(r#gen, result.spared.len(), error);
                }
                Wanted::Signal {
                    number,
                    but,
                    but_group,
                } => {
                    let among = result
                        .spared
                        .iter()
                        .filter(|stat| Some(stat.pid) != but && Some(stat.pgrp) != but_group);
                    self.signal_each(r#gen, number, among.map(ProcStat::id).collect());
                }
            }
        }
        self.begin_scans();
    }

    /// A pass knows of no child that was born of us after it began, and would take it for a
    /// stranger: what it says is said by the next one. The other results.
    fn put_off_those_with_newborns(
        &mut self,
        results: Vec<((GenId, Wanted), PassResult)>,
    ) -> Vec<((GenId, Wanted), PassResult)> {
        let own_pid = std::process::id();
        let is_put_off = |result: &PassResult| {
            // Whom it ended stands on its answer only.
            result.escaped.is_empty() && result.foreign.iter().any(|s| s.process.ppid == own_pid)
        };
        if !self.born_during_scan || self.scans_again == AGAIN {
            self.scans_again = 0;
            return results;
        }
        let (again, done): (Vec<_>, Vec<_>) = results
            .into_iter()
            .partition(|(_, result)| is_put_off(result));
        self.scans_again = if again.is_empty() {
            0
        } else {
            self.scans_again + 1
        };
        self.wanted_scans
            .extend(again.into_iter().map(|(wanted, _)| wanted));
        done
    }

    /// Whether somebody has the number of a child of ours that was reaped during the pass, which
    /// passed over that child: then it passed over him, too.
    fn a_number_is_taken_again(&mut self) -> bool {
        let reaped = std::mem::take(&mut self.known_reaped);
        if reaped.is_empty() {
            return false;
        }
        let Ok(proc) = Proc::open() else {
            return true;
        };
        let free = |pid: u32| matches!(proc.stat(pid), Ok(None));
        !reaped.into_iter().all(free)
    }

    fn first_says(&self, r#gen: GenId) -> Option<bool> {
        self.gens.get(&r#gen)?.populated_by_first()
    }

    fn signal_each(&mut self, r#gen: GenId, number: i32, to: Vec<ProcId>) {
        if let Err(error) = signal::send_each(&to, number) {
            let error = failed(&error);
            self.core
                .handle(now(), Event::SignalFailed { r#gen, error });
        }
        self.look_closely(r#gen);
    }

    /// What the final sweep looks for, and ends, of a generation that has no last verdict or of
    /// which somebody was kept.
    pub(super) fn final_target(&self, generation: &Generation) -> ScanTarget {
        ScanTarget {
            cgroup: None,
            cgroup_path: None,
            keep: None,
            spare: false,
            ..self.scan_target(generation, Wanted::Count)
        }
    }

    fn scan_target(&self, generation: &Generation, wanted: Wanted) -> ScanTarget {
        let recorded = generation.known.as_ref().map(|known| {
            let known = known.lock().unwrap_or_else(PoisonError::into_inner);
            known.clone()
        });
        ScanTarget {
            cgroup: generation.dir.clone(),
            cgroup_path: generation
                .dir
                .as_deref()
                .and_then(|dir| self.place.path_in_proc(dir)),
            mark: generation.mark,
            mark_id: generation.mark_id,
            mark_held: generation.mark_held.is_some(),
            recorded: recorded.unwrap_or_default(),
            main: generation.main_id,
            main_reaped: generation.main_reaped,
            env_marker: Some((MARKER.to_owned(), generation.marker.clone())),
            keep: self
                .keeping(generation)
                .map(|keeping| -> scan::Keep { Box::new(move |process| keeping.names(process)) }),
            kept_path: generation
                .kept_dir()
                .and_then(|dir| self.place.path_in_proc(&dir)),
            orphaned: generation.leftover,
            closed: generation.own_pids,
            spare: wanted.spares(),
        }
    }

    pub(super) fn scan_context(&self, targets: BTreeSet<GenId>) -> ScanContext {
        let others = || {
            self.gens
                .iter()
                .filter(|(r#gen, _)| !targets.contains(r#gen))
        };
        ScanContext {
            generations: self.generation_cgroups(),
            orphans: self.orphans(),
            known_marks: others()
                .chain(&self.kept)
                .filter_map(|(_, generation)| generation.mark)
                .chain(self.doubted.iter().filter_map(|doubted| doubted.mark))
                .collect(),
            known_children: self
                .pids
                .iter()
                .filter(|(_, Owner::Main(r#gen) | Owner::Aux(r#gen, _))| !targets.contains(r#gen))
                .map(|(pid, _)| *pid)
                .chain(self.inherited.iter().copied())
                .chain(self.kept_children())
                .collect(),
            orphan_reaper: self.orphan_reaper,
            ..ScanContext::with_own_mark(self.place.own_mark)
        }
    }

    /// The numbers of who is kept and lives: one that ended elsewhere was not reaped by us.
    fn kept_children(&self) -> Vec<u32> {
        let kept = self.kept.values().flat_map(|kept| kept.rare.kept.iter());
        let Ok(proc) = Proc::open() else {
            return Vec::new();
        };
        let lives = |id: &&ProcId| proc.stat_of(**id).is_ok_and(|now| now.is_some());
        kept.filter(lives).map(|id| id.pid).collect()
    }

    /// Where the processes of every generation are that is known, with its mark.
    fn generation_cgroups(&self) -> BTreeMap<String, Option<u64>> {
        let gens = self.gens.values().chain(self.kept.values());
        let mut cgroups = BTreeMap::new();
        for generation in gens.chain(&self.doubted) {
            let dirs = [generation.dir.clone(), generation.kept_dir()];
            let paths = dirs.into_iter().flatten();
            let paths = paths.filter_map(|dir| self.place.path_in_proc(&dir));
            cgroups.extend(paths.map(|path| (path, generation.mark)));
        }
        cgroups
    }

    /// Where orphans that nobody knows come from.
    pub(super) fn orphans(&self) -> Orphans {
        // What we had as children before we began may leave us orphans at any time.
        if std::process::id() == 1 || self.inherited_any {
            Orphans::Unmarked
        } else {
            Orphans::Ours
        }
    }

    /// Waits for the end of survivors, those outside the cgroup first of all: nothing else
    /// would tell of it.
    pub(super) fn await_survivors(&mut self, r#gen: GenId, pids: Vec<u32>) {
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        for task in generation.rare.survivors.drain(..) {
            task.abort();
        }
        for pid in pids {
            let seen = generation
                .rare
                .alive
                .iter()
                .find(|id| id.pid == pid)
                .copied();
            // The handle first: then whose it is.
            let pidfd = PidFd::open(pid).ok().flatten();
            let pidfd = pidfd.filter(|_| seen.is_none_or(procfs::lives));
            let pidfd = match pidfd {
                Some(pidfd) => pidfd,
                None => {
                    // Gone already, or it cannot be watched: look once more in any case.
                    let _ = self
                        .inbox
                        .send(Message::Event(Event::SurvivorGone { r#gen }));
                    continue;
                }
            };
            let inbox = self.inbox.clone();
            let task = tokio::spawn(async move {
                if let Ok(pidfd) = readiness::readable(pidfd)
                    && pidfd.readable().await.is_ok()
                {
                    let _ = inbox.send(Message::Event(Event::SurvivorGone { r#gen }));
                }
            });
            generation.rare.survivors.push(task.abort_handle());
        }
    }
}
