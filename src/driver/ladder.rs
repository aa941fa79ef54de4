//! From effects to system calls: the stop ladder's. What may block runs off the loop, and its
//! answer comes back as a message.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::generation::Generation;
use super::keep::Keeping;
use super::message::Message;
use super::run::{Driver, now};
use super::scans::Wanted;
use super::translate::{self, failed};
use crate::core::{Event, Fence, GenId, OpId, Proc, Reach, Signal, To};
use crate::sys::procfs::{self, ProcStat};
use crate::sys::scan::MovedIn;
use crate::sys::{SysError, cgroup, inspect, signal};

/// How long one kill watches its cgroup empty before it reports.
pub const KILL_SETTLE: std::time::Duration = std::time::Duration::from_millis(20);

impl Driver {
    pub(super) fn signal(&mut self, r#gen: GenId, signal: Signal, to: To) {
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        generation.stopping = true;
        generation.let_output_go();
        let number = signal.number();
        let leader = generation.leader;
        // Not the leader, where the service has named another.
        let last_main = generation.main_id.map_or(leader, |id| Some(id.pid));
        let named = last_main != leader;
        let own_pids = generation.own_pids;
        let main = generation.main.clone();
        let dir = generation.dir.as_ref().map(|dir| dir.join("main"));
        self.take_census(r#gen);
        let keeps = self
            .gens
            .get(&r#gen)
            .is_some_and(|g| self.keeping(g).is_some());
        let sent = match (to, main, dir) {
            // Who is to be kept may be in the main process's group.
            (To::Reach(Reach::Group), Some(main), Some(dir)) if keeps => {
                let whom = Whom {
                    only_group: Some(main.id.pid),
                    ..Whom::default()
                };
                return self.signal_members(r#gen, dir, number, whom);
            }
            // Its group is not the one that the others are in.
            (To::Reach(Reach::Group), Some(_), Some(dir)) if named => {
                return self.signal_members(r#gen, dir, number, Whom::default());
            }
            // The main process is not reaped, so its number, and its group's, are its own.
            (To::Reach(Reach::Main), Some(main), _) => match &main.pidfd {
                Some(pidfd) => signal::send_process(pidfd, number).map(|_| ()),
                None => signal::send_group(main.id.pid, number).map(|_| ()),
            },
            (To::Reach(Reach::Group), Some(main), _) => {
                match signal::send_group(main.id.pid, number) {
                    // It may not have come to lead its group yet.
                    Ok(false) => match &main.pidfd {
                        Some(pidfd) => signal::send_process(pidfd, number).map(|_| ()),
                        None => Ok(()),
                    },
                    other => other.map(|_| ()),
                }
            }
            (To::Reach(_), _, Some(dir)) => {
                // The first of a pid namespace would pass it on once more.
                let but = leader.filter(|_| own_pids);
                let whom = Whom {
                    but,
                    ..Whom::default()
                };
                return self.signal_members(r#gen, dir, number, whom);
            }
            (To::Rest(Reach::Main), _, Some(dir)) => {
                let whom = Whom {
                    but: last_main,
                    ..Whom::default()
                };
                return self.signal_members(r#gen, dir, number, whom);
            }
            (To::Rest(_), _, Some(dir)) => {
                let whom = Whom {
                    but: last_main,
                    but_group: leader.filter(|_| !named),
                    ..Whom::default()
                };
                return self.signal_members(r#gen, dir, number, whom);
            }
            // Without a cgroup a scan tells whom.
            (to, _, None) => {
                let (but, but_group) = match to {
                    To::Reach(_) => (leader.filter(|_| own_pids), None),
                    To::Rest(Reach::Main) => (leader, None),
                    To::Rest(_) => (leader, leader),
                };
                let wanted = Wanted::Signal {
                    number,
                    but,
                    but_group,
                };
                return self.want_scan(r#gen, wanted);
            }
        };
        if let Err(error) = sent {
            self.core.handle(
                now(),
                Event::SignalFailed {
                    r#gen,
                    error: failed(&error),
                },
            );
        }
        if !self.place.has_cgroups() {
            self.look_closely(r#gen);
        }
    }

    /// Signals members of a cgroup.
    fn signal_members(&self, r#gen: GenId, dir: PathBuf, number: i32, whom: Whom) {
        let marks = self.marks_of(r#gen);
        let keeping = self.gens.get(&r#gen).and_then(|g| self.keeping(g));
        self.off_loop(move || {
            set_aside(keeping.as_ref());
            let moved_in = marks.and_then(|(mark, others)| MovedIn::new(mark, others).ok());
            let sent = signal::send_members(&dir, number, &|stat| {
                whom.includes(stat) && !moved_in.as_ref().is_some_and(|moved_in| moved_in.is(stat))
            });
            let gone = |error: &SysError| cgroup::is_gone(error);
            match sent.error.filter(|error| !gone(error)) {
                Some(error) => Message::Event(Event::SignalFailed {
                    r#gen,
                    error: failed(&error),
                }),
                None => Message::Nothing,
            }
        });
    }

    /// Records who is in the generation and descends from it, so that whoever leaves its cgroup
    /// and replaces its mark can still be told.
    fn take_census(&mut self, r#gen: GenId) {
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        let Some(dir) = generation.dir.clone() else {
            return;
        };
        let known = Arc::clone(generation.known.get_or_insert_default());
        // A leftover's processes are no longer below anybody who would say whose they are.
        let root = (!self.leftovers.contains(&r#gen)).then(std::process::id);
        let place = Arc::clone(&self.place);
        let record = move |members| {
            let mut known = known
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            known.extend(members);
        };
        // One that fails leaves the mark to tell by. A small one is over before the signal that
        // may turn somebody into an orphan; a large one would hold up the loop.
        let few = match root {
            Some(_) => cgroup::census_of_few(&dir, "main", root),
            None => Ok(None),
        };
        match few {
            Ok(Some(few)) => record(few),
            Ok(None) => self.off_loop(move || {
                // While we are in a leftover's cgroup, it cannot empty.
                if let Err(error) = place.come_home(&dir) {
                    tracing::warn!("failed to {error}");
                }
                if let Ok(members) = cgroup::census(&dir, root) {
                    record(members);
                }
                Message::Nothing
            }),
            Err(_) => {}
        }
    }

    pub(super) fn kill(&mut self, r#gen: GenId, op: OpId) {
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        generation.stopping = true;
        generation.let_output_go();
        let Some(dir) = generation.dir.clone() else {
            // The kernel ends all that it holds at once, and the dead cannot be listed any more.
            let wanted = match generation.populated_by_first() {
                Some(true) => Wanted::List(op),
                _ => Wanted::Kill(op),
            };
            return self.want_scan(r#gen, wanted);
        };
        let place = Arc::clone(&self.place);
        if !self.place.marks() {
            // Whoever leaves from now on can be told by the record alone.
            self.take_census(r#gen);
        }
        let marks = self.marks_of(r#gen);
        let keeping = self.gens.get(&r#gen).and_then(|g| self.keeping(g));
        self.off_loop(move || {
            set_aside(keeping.as_ref());
            // Looked at before: the dead cannot be told any more. Where that fails they are
            // named among the killed, as they would be without a mark.
            let moved_in =
                marks.and_then(|(mark, others)| MovedIn::new(mark, others).ok()?.among(&dir).ok());
            let moved_in: Vec<_> = moved_in.into_iter().flatten().collect();
            let mut report = translate::killed(place.kill(&dir, KILL_SETTLE));
            report
                .killed
                .retain(|killed| moved_in.iter().all(|s| s.process.pid != killed.pid));
            Message::Killed {
                r#gen,
                op,
                report,
                moved_in: moved_in.into_iter().map(translate::foreigner).collect(),
            }
        });
    }

    /// Kills what a pid namespace alone holds, now that it is known who that is.
    pub(super) fn kill_with_first(&mut self, r#gen: GenId, op: OpId, members: Vec<ProcStat>) {
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        let first = generation.leader;
        let members = members.into_iter().filter(|stat| Some(stat.pid) != first);
        generation.rare.went_with_first = members.collect();
        if let Some(error) = generation.kill_first() {
            tracing::warn!("{}: failed to {error}", generation.name);
        }
        self.want_scan(r#gen, Wanted::Kill(op));
    }

    /// Who died with the first process, whether the pass after that still saw them or not.
    pub(super) fn add_who_went_with_first(&mut self, r#gen: GenId, killed: &mut Vec<Proc>) {
        let Some(generation) = self.gens.get_mut(&r#gen).filter(|g| g.own_pids) else {
            return;
        };
        let went = std::mem::take(&mut generation.rare.went_with_first);
        let went = went.iter().map(translate::process);
        translate::add_members(killed, went, generation.leader);
    }

    /// The mark of a generation that we started ourselves, and those of all others: their
    /// numbers are certain.
    fn marks_of(&self, r#gen: GenId) -> Option<(u64, BTreeSet<u64>)> {
        let held = |generation: &Generation| generation.mark_held.as_ref().map(|mark| mark.inode);
        let mark = held(self.gens.get(&r#gen)?)?;
        let all = self.gens.values().chain(self.kept.values());
        let others = all.filter_map(|generation| held(generation));
        Some((mark, others.filter(|other| *other != mark).collect()))
    }

    pub(super) fn fence(&mut self, r#gen: GenId, op: OpId) {
        let dir = self
            .gens
            .get(&r#gen)
            .and_then(|generation| generation.dir.clone());
        let Some(dir) = dir else {
            let result = Fence::Removed;
            return self.core.handle(now(), Event::Fenced { r#gen, op, result });
        };
        self.unwatch(r#gen);
        // Its account goes with it.
        self.read_oom_kills(r#gen);
        let place = Arc::clone(&self.place);
        self.fences.push(self.reported(move || {
            let result = match translate::fenced(cgroup::remove_with(&dir, "main")) {
                // Gone with its file system (unmounted, covered by another) is not gone.
                Fence::Removed if !place.stands() => Fence::Failed(failed(&SysError::because(
                    "find the cgroups below",
                    place.tree().unwrap_or(&dir).display().to_string(),
                    "the cgroup file system is no longer there",
                ))),
                fence => fence,
            };
            Message::Event(Event::Fenced { r#gen, op, result })
        }));
    }

    pub(super) fn inspect(&mut self, r#gen: GenId, op: OpId) {
        let Some(generation) = self.gens.get(&r#gen) else {
            return;
        };
        let dir = generation.dir.clone();
        let outside = generation.rare.alive.clone();
        self.off_loop(move || {
            // A number that is another's by now names nobody of this start.
            let outside = outside.into_iter().filter(|id| procfs::lives(*id));
            let mut pids: Vec<u32> = outside.map(|id| id.pid).collect();
            if let Some(dir) = &dir {
                pids.extend(cgroup::procs_recursive(dir).unwrap_or_default());
            }
            pids.sort_unstable();
            pids.dedup();
            let found = inspect::with_argv(inspect::inspect(&pids));
            let survivors = found.into_iter().map(translate::survivor).collect();
            Message::Event(Event::Inspected {
                r#gen,
                op,
                survivors,
            })
        });
    }
}

/// Whom of a cgroup a signal goes to.
#[derive(Clone, Copy, Debug, Default)]
struct Whom {
    but: Option<u32>,
    but_group: Option<u32>,
    /// This process group and its leader, which may not have come to lead it yet.
    only_group: Option<u32>,
}

impl Whom {
    fn includes(self, stat: &ProcStat) -> bool {
        let only = self.only_group;
        Some(stat.pid) != self.but
            && Some(stat.pgrp) != self.but_group
            && only.is_none_or(|group| stat.pgrp == group || stat.pid == group)
    }
}

fn set_aside(keeping: Option<&Keeping>) {
    if let Some(Err(error)) = keeping.map(Keeping::set_aside) {
        tracing::warn!("what is to be kept cannot be set aside: failed to {error}");
    }
}
