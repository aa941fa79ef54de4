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
use crate::sys::scan::{self, ScanContext, ScanTarget};
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
        let targets: Vec<ScanTarget> = self.gens.values().map(|g| self.final_target(g)).collect();
        let context = ScanContext {
            tree: None,
            orphan_reaper: self.orphan_reaper,
            ..ScanContext::new()
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
    match strangers(&left) {
        Ok(strangers) => report.foreign = strangers,
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
        if cgroup::is_populated(&dir).unwrap_or(true) {
            place.kill(&dir, LAST_KILL);
        }
        if let cgroup::Removal::Busy { .. } = cgroup::remove_tree(&dir) {
            left.extend(cgroup::procs_recursive(&dir).unwrap_or_default());
        }
    }
    Ok(())
}

/// Our children that are nobody's service: orphans that we inherited. Reported, not signalled.
fn strangers(left: &BTreeSet<u32>) -> Result<Vec<Foreigner>, SysError> {
    let proc = Proc::open()?;
    let mut strangers = Vec::new();
    for pid in reap::children()? {
        if let Some(stat) = proc.stat(pid)?
            && !stat.is_dead()
            && !left.contains(&pid)
        {
            let why = "an orphan that we inherited, and no service's".to_owned();
            strangers.push(Foreigner {
                process: translate::process(&stat),
                why,
            });
        }
    }
    Ok(strangers)
}
