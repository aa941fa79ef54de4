//! The end: what is out before it, and the last look at everything of ours.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::generation::Generation;
use super::message::Message;
use super::place::{Place, SUPERVISOR};
use super::run::Driver;
use super::translate::{self, failed};
use crate::core::{Event, Foreigner, SweepReport};
use crate::sys::inspect;
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::{Proc, ProcStat};
use crate::sys::scan::{self, Orphans, ScanContext, ScanTarget};
use crate::sys::{SysError, cgroup, clock, reap};

/// How long the last kill of what lingers is watched.
const LAST_KILL: Duration = Duration::from_millis(100);
/// How long orphans that nobody attributed are ended, one after the other.
const LAST_ORPHANS: Duration = Duration::from_secs(2);

/// How long the death of whoever the last pass kills is waited for.
const LAST_DEATHS: Duration = Duration::from_millis(300);
/// How many generations that were not proven gone are looked for once more.
const DOUBTED: usize = 64;

impl Driver {
    /// Takes in a generation whose last verdict is unverified: what may live of it is looked for
    /// once more in the end. Its mark stays its own until then.
    pub(super) fn doubt(&mut self, mut generation: Box<Generation>) {
        // Where nothing can be proven the end says so anyway.
        if !self.place.guarantee().can_verify() {
            return;
        }
        if let Some(rare) = generation.rare.if_any() {
            rare.auxes.clear();
        }
        self.doubted.push_back(generation);
        if self.doubted.len() > DOUBTED {
            self.doubted.pop_front();
            self.doubts_lost = true;
        }
    }

    /// Tells the core when every answer is written and the queue of the state directory is
    /// through. The core bounds how long it waits for that.
    pub(super) fn flush(&self) {
        let (gauge, store, inbox) = (self.gauge.clone(), self.store.clone(), self.inbox.clone());
        let unlinking = self.unlinking.clone();
        tokio::spawn(async move {
            gauge.idle().await;
            unlinking.idle().await;
            store.push(move |_| {
                let _ = inbox.send(Message::Event(Event::Flushed));
            });
        });
    }

    /// Looks once more for everything that was ever ours: the generations that have no final
    /// verdict, the cgroups that stand, our children.
    pub(super) fn sweep(&mut self) {
        let all = self.gens.values().chain(self.kept.values());
        let all = all.chain(&self.doubted);
        let targets: Vec<ScanTarget> = all.map(|g| self.final_target(g)).collect();
        // Nobody is kept any more, and whatever is in whichever cgroup is looked for now.
        for (r#gen, kept) in &mut self.kept {
            kept.rare.kept.clear();
            self.store.remove(*r#gen);
        }
        let context = ScanContext {
            generations: BTreeMap::new(),
            death_wait: LAST_DEATHS,
            ..self.scan_context(self.gens.keys().copied().collect())
        };
        let place = Arc::clone(&self.place);
        let lost = self.doubts_lost;
        self.off_loop(move || {
            let mut report = sweep(&place, &targets, &context);
            if lost {
                let what = "every service that was not proven gone when it was stopped";
                let error = SysError::because("look once more for", what, "there were too many");
                report.error.get_or_insert(failed(&error));
            }
            Message::Event(Event::Swept { report })
        });
    }
}

fn sweep(place: &Place, targets: &[ScanTarget], context: &ScanContext) -> SweepReport {
    let mut report = SweepReport::default();
    let mut left: BTreeSet<u32> = BTreeSet::new();
    if let Some(tree) = place.tree() {
        if let Err(error) = end_services(place, tree, &mut left) {
            report.error = Some(failed(&error));
        }
        if left.is_empty() {
            report.cgroups_left = place.leave(tree);
        }
    }
    // First: what nobody attributed would leave a doubt in the passes that follow.
    if let Err(error) = settle_orphans(&mut left, context, &mut report) {
        report.error.get_or_insert(failed(&error));
    }
    for result in scan::scan_passes(targets, context) {
        left.extend(result.alive.iter().map(|stat| stat.pid));
        if let Some(error) = result.error {
            report.error.get_or_insert(failed(&error));
        }
    }
    let pids: Vec<u32> = left.iter().copied().collect();
    report.survivors = inspect::inspect(&pids)
        .into_iter()
        .map(translate::survivor)
        .collect();
    report
}

/// Kills and removes every cgroup of a service that still stands.
fn end_services(
    place: &Place,
    tree: &std::path::Path,
    left: &mut BTreeSet<u32>,
) -> Result<(), SysError> {
    let entries = std::fs::read_dir(tree).map_err(|error| SysError::io("list", tree, &error))?;
    for entry in entries.flatten() {
        let dir = entry.path();
        if entry.file_name() == SUPERVISOR || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        // Most are empty by now; whatever is not says so.
        if std::fs::remove_dir(&dir).is_ok() {
            continue;
        }
        if cgroup::is_populated(&dir).unwrap_or(true) {
            place.kill(&dir, LAST_KILL);
        }
        if let cgroup::Removal::Busy { .. } = cgroup::remove_tree(&dir) {
            left.extend(cgroup::procs_recursive(&dir).unwrap_or_default());
        }
    }
    Ok(())
}

/// Our children that are nobody's service: orphans that we inherited.
fn orphans(left: &BTreeSet<u32>, context: &ScanContext) -> Result<Vec<ProcStat>, SysError> {
    let proc = Proc::open()?;
    let mut orphans = Vec::new();
    for pid in reap::children()? {
        let living = proc.stat(pid)?.filter(|stat| !stat.is_dead());
        if !left.contains(&pid) && !context.known_children.contains(&pid) {
            orphans.extend(living);
        }
    }
    Ok(orphans)
}

/// Where an orphan can only come from a service of ours, which of them no longer matters: all
/// of them were to end (docs/decisions/0007). Whoever is ended leaves us its own children. Who
/// was ended, and who would not.
fn end_orphans(
    left: &BTreeSet<u32>,
    context: &ScanContext,
) -> Result<(Vec<ProcStat>, Vec<ProcStat>), SysError> {
    let proc = Proc::open()?;
    let begun = clock::boot_now();
    let bound = clock::as_nanos(LAST_ORPHANS);
    let mut ended: Vec<ProcStat> = Vec::new();
    loop {
        let before = proc.last_pid()?;
        let found = orphans(left, context)?;
        // Nobody was forked meanwhile, so that nobody came after the list was made.
        if found.is_empty() && proc.last_pid()? == before {
            return Ok((ended, found));
        }
        if clock::boot_now().saturating_sub(begun) > bound {
            return Ok((ended, found));
        }
        for orphan in found {
            // The handle first, and then whether it is on the one that was found: a child of
            // ours that nobody has reaped keeps its number.
            let Some(handle) = PidFd::open(orphan.pid)? else {
                continue;
            };
            if proc
                .stat_of(orphan.id())?
                .is_some_and(|now| now.ppid == context.own_pid)
            {
                handle.send(libc::SIGKILL)?;
                handle.ends_within(LAST_KILL);
                if !ended.iter().any(|known| known.id() == orphan.id()) {
                    ended.push(orphan);
                }
            }
        }
    }
}

/// What becomes of orphans that nobody attributed: where they can only be ours they are ended,
/// elsewhere they are reported, and why they may be of a service all the same.
fn settle_orphans(
    left: &mut BTreeSet<u32>,
    context: &ScanContext,
    report: &mut SweepReport,
) -> Result<(), SysError> {
    let foreigner = |stat: &ProcStat, why: &str| Foreigner {
        process: translate::process(stat),
        why: why.to_owned(),
    };
    if context.orphans == Orphans::Ours {
        let (ended, remain) = end_orphans(left, context)?;
        let why = "an orphan that could only come from one of our services, and was ended";
        report
            .foreign
            .extend(ended.iter().map(|stat| foreigner(stat, why)));
        left.extend(remain.iter().map(|stat| stat.pid));
        return Ok(());
    }
    let proc = Proc::open()?;
    let mut doubtful = Vec::new();
    for stat in orphans(left, context)? {
        let mark = proc.mark(stat.pid).ok().and_then(|mark| mark.inode());
        if context.orphans == Orphans::Unmarked
            && mark.is_some_and(|mark| Some(mark) != context.own_mark)
        {
            doubtful.push(format!("{} ({})", stat.pid, stat.comm));
        }
        let why = "an orphan that we inherited, of no service that we know";
        report.foreign.push(foreigner(&stat, why));
    }
    if !doubtful.is_empty() {
        let what = format!("the orphans {}", doubtful.join(", "));
        let why = "they can only come from our services";
        return Err(SysError::because("attribute", what, why));
    }
    Ok(())
}
