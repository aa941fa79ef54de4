//! The end: what is out before it, and the last look at everything of ours.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::message::Message;
use super::place::{Place, SUPERVISOR};
use super::run::Driver;
use super::translate::{self, failed};
use crate::core::{Event, Foreigner, SweepReport};
use crate::sys::inspect;
use crate::sys::procfs::Proc;
use crate::sys::scan::{self, Orphans, ScanContext, ScanTarget};
use crate::sys::{SysError, cgroup, reap};

/// How long the last kill of what lingers is watched.
const LAST_KILL: Duration = Duration::from_millis(100);

impl Driver {
    /// Tells the core when every answer is written and the queue of the state directory is
    /// through. The core bounds how long it waits for that.
    pub(super) fn flush(&self) {
        let (gauge, store, inbox) = (self.gauge.clone(), self.store.clone(), self.inbox.clone());
        tokio::spawn(async move {
            gauge.idle().await;
            store.push(move |_| {
                let _ = inbox.send(Message::Event(Event::Flushed));
            });
        });
    }

    /// Looks once more for everything that was ever ours: the generations that have no final
    /// verdict, the cgroups that stand, our children.
    pub(super) fn sweep(&mut self) {
        let all = self.gens.values().chain(self.kept.values());
        let targets: Vec<ScanTarget> = all.map(|g| self.final_target(g)).collect();
        // Nobody is kept any more, and whatever is in whichever cgroup is looked for now.
        self.kept.values_mut().for_each(|kept| kept.kept.clear());
        let context = ScanContext {
            tree: None,
            ..self.scan_context(self.gens.keys().copied().collect())
        };
        let place = Arc::clone(&self.place);
        self.off_loop(move || {
            let report = sweep(&place, &targets, &context);
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
    match strangers(&left, context) {
        Ok((strangers, doubt)) => {
            report.foreign = strangers;
            if let Some(error) = doubt {
                report.error.get_or_insert(failed(&error));
            }
        }
        Err(error) => {
            report.error.get_or_insert(failed(&error));
        }
    }
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

/// Our children that are nobody's service: orphans that we inherited. Reported, not signalled;
/// and why they may be of a service all the same, where they may.
fn strangers(
    left: &BTreeSet<u32>,
    context: &ScanContext,
) -> Result<(Vec<Foreigner>, Option<SysError>), SysError> {
    let proc = Proc::open()?;
    let mut strangers = Vec::new();
    let mut doubtful = Vec::new();
    for pid in reap::children()? {
        let Some(stat) = proc.stat(pid)?.filter(|stat| !stat.is_dead()) else {
            continue;
        };
        if left.contains(&pid) || context.known_children.contains(&pid) {
            continue;
        }
        let marked = || {
            let mark = proc.mark(pid).ok().and_then(|mark| mark.inode());
            mark.is_some_and(|mark| Some(mark) != context.own_mark)
        };
        if match context.orphans {
            Orphans::Anybodys => false,
            Orphans::Unmarked => marked(),
            Orphans::Ours => true,
        } {
            doubtful.push(format!("{pid} ({})", stat.comm));
        }
        let why = "an orphan that we inherited, of no service that we know".to_owned();
        strangers.push(Foreigner {
            process: translate::process(&stat),
            why,
        });
    }
    let doubt = (!doubtful.is_empty()).then(|| {
        let what = format!("the orphans {}", doubtful.join(", "));
        SysError::because("attribute", what, "they can only come from our services")
    });
    Ok((strangers, doubt))
}
