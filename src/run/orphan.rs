//! A command whose `run` was killed: what is known of it, and its end.

use std::os::fd::OwnedFd;

use super::JobOptions;
use super::result::JobEnd;
use super::site::Site;
use super::watch::{Runner, now};
use crate::core::{Containment, Job};
use crate::driver::KILL_SETTLE;
use crate::sys::procfs::ProcId;
use crate::sys::spawn::Born;

/// What is known of a command whose `run` was killed.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) main: ProcId,
    pub(super) mark: Option<u64>,
    pub(super) mark_id: Option<u64>,
    /// Keeps the mark's number its own.
    pub(super) mark_held: Option<OwnedFd>,
    pub(super) in_cgroup: bool,
}

impl Orphan {
    /// A newborn in words that [`Orphan::parse`] reads.
    pub(super) fn words(born: &Born, in_cgroup: bool) -> String {
        let mark = born.mark.as_ref();
        format!(
            "{} {} {} {} {}",
            born.id.pid,
            born.id.start_time,
            mark.map_or(0, |mark| mark.inode),
            mark.and_then(|mark| mark.id).unwrap_or(0),
            u8::from(in_cgroup),
        )
    }

    pub(super) fn parse(text: &[u8], mark_held: Option<OwnedFd>) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut numbers = text.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        let main = ProcId {
            pid: u32::try_from(next()?).ok()?,
            start_time: next()?,
        };
        Some(Self {
            main,
            mark: next().filter(|mark| *mark != 0),
            mark_id: next().filter(|id| *id != 0),
            in_cgroup: next()? != 0,
            mark_held,
        })
    }
}

/// Ends, with proof, what a run that was killed left behind.
pub(super) fn end_orphan(
    mut site: Site,
    orphan: Option<Orphan>,
    options: &JobOptions,
    reaper: Option<u32>,
) -> JobEnd {
    if site.tree.is_some() {
        site.settle_containment();
    } else {
        // Its orphans went to others: nothing tells of those that replaced their mark.
        site.guarantee.containment = Containment::ProcessGroup;
    }
    let mark = orphan.as_ref().and_then(|orphan| orphan.mark);
    site.settle_scan(
        mark.map(drop)
            .ok_or_else(|| "none is known of it".to_owned()),
    );
    if let Some(aux) = site.aux().filter(|aux| aux.is_dir()) {
        site.kill(&aux, KILL_SETTLE);
        crate::sys::cgroup::remove_tree(&aux);
    }
    let job = Job::orphaned(options.settings.clone(), site.guarantee, now());
    let mut runner = Runner::new(options, site, job);
    runner.orphan_reaper = reaper.filter(|pid| *pid != 0);
    runner.inherited_any = true;
    if let Some(orphan) = orphan {
        runner.main_id = Some(orphan.main);
        // Another reaps it, and does not tell us when.
        runner.main_reaped = Some(0);
        runner.mark = orphan.mark;
        runner.mark_id = orphan.mark_id;
        runner.mark_held = orphan.mark_held;
    }
    runner.take_census(None);
    let receipt = runner.work(None);
    runner.finish_as(receipt, false)
}
