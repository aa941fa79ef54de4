//! What earlier runs below the same cgroup left behind because they and their guardians were
//! killed: found by its directories, which say who made them, and ended with proof.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::JobOptions;
use super::orphan::{Orphan, end_orphan};
use super::result::JobEnd;
use super::site::{JOB, Owner, PREFIX, Site, is_guarded};
use crate::core::{JobSettings, Receipt, Verdict};
use crate::sys::cgroup;
use crate::sys::limits::{self, Limits};
use crate::sys::mount::{self, CgroupBase};
use crate::sys::note::{self, Note};
use crate::sys::procfs::Proc;

/// What a killed run left, and what became of it.
#[derive(Clone, Debug)]
pub struct Left {
    /// Its cgroup.
    pub cgroup: PathBuf,
    /// How many processes were ended.
    pub processes: usize,
    /// What is proven; `None`: it could not be looked at.
    pub verdict: Option<Verdict>,
}

/// Ends, with proof, what killed runs left below the cgroup we are in; `kill_timeout`: how long
/// the proof may take for each. Where there is no cgroup nothing can be found.
pub fn clean(kill_timeout: Duration) -> Vec<Left> {
    let Ok(base) = mount::find_base() else {
        return Vec::new();
    };
    let options = JobOptions {
        argv: Vec::new(),
        env: Vec::new(),
        dir: None,
        user: None,
        settings: JobSettings {
            grace: Duration::ZERO,
            leak_grace: Duration::ZERO,
            settle: Duration::ZERO,
            kill_timeout,
            timeout: None,
            timeout_command: false,
        },
        on_timeout: None,
        keep: Vec::new(),
        forward: Vec::new(),
        limits: Limits::default(),
        limits_optional: true,
        pidns: false,
        min_guarantee: None,
        fail_on_leaks: false,
    };
    end_each(&base, &options, "")
        .into_iter()
        .map(|(end, dir, _)| Left {
            cgroup: dir,
            processes: end.receipt.as_deref().map_or(0, ended),
            verdict: end.receipt.as_deref().map(|receipt| receipt.verdict),
        })
        .collect()
}

/// The same below `base` with a run's own options, whose own id is `own`; a line for each.
pub(super) fn end_all(base: &CgroupBase, options: &JobOptions, own: &str) -> Vec<String> {
    end_each(base, options, own)
        .into_iter()
        .map(|(end, dir, removed)| in_words(&end, &dir, removed))
        .collect()
}

/// How each ended, its cgroup, and whether that could be removed.
fn end_each(base: &CgroupBase, options: &JobOptions, own: &str) -> Vec<(JobEnd, PathBuf, bool)> {
    let mut runs = Vec::new();
    // Where nothing can be listed nothing is found.
    let _ = cgroup::each_below(&base.dir, |name| {
        let id = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        runs.extend(id.filter(|id| *id != own).map(str::to_owned));
    });
    let mut ended = Vec::new();
    for id in runs {
        let name = format!("{PREFIX}{id}");
        let dir = base.dir.join(&name);
        if is_left(&dir, &name)
            && let Some(_claim) = claim(&dir)
            && is_left(&dir, &name)
        {
            // Whom this run is to keep is no word on another's.
            let options = JobOptions {
                keep: Vec::new(),
                ..options.clone()
            };
            ended.extend(end_one(base, dir, &id, &options));
            limits::undo(&base.dir);
        }
    }
    ended
}

/// How many processes of a killed run were ended.
fn ended(receipt: &Receipt) -> usize {
    receipt.killed.len() + receipt.escaped.len()
}

/// Whether its run and its guardian have both ended. One of another pid namespace is not ours to
/// judge: its numbers mean nothing here.
fn is_left(dir: &Path, name: &str) -> bool {
    let Some(owner) = Owner::parse(name) else {
        return false;
    };
    let same = Owner::us().is_ok_and(|us| us.pid_namespace == owner.pid_namespace);
    let lives = || {
        let stat = Proc::open().and_then(|proc| proc.stat_of(owner.process));
        // Whoever cannot be asked after is taken to live.
        stat.map_or(true, |stat| stat.is_some_and(|stat| !stat.is_dead()))
    };
    same && !lives() && !is_guarded(dir)
}

/// Whoever holds this ends what is left there, and nobody else of those that look at the same
/// time; `None`: somebody does, or has done so already.
fn claim(dir: &Path) -> Option<Flock<File>> {
    let dir = File::open(dir).ok()?;
    Flock::lock(dir, FlockArg::LockExclusiveNonblock).ok()
}

fn end_one(
    base: &CgroupBase,
    dir: PathBuf,
    id: &str,
    options: &JobOptions,
) -> Option<(JobEnd, PathBuf, bool)> {
    let job = dir.join(JOB);
    let populated = cgroup::is_populated(&job).unwrap_or(false);
    let orphan =
        note::read(&job, Note::Birth).and_then(|text| Orphan::parse(text.as_bytes(), None));
    if !populated && orphan.is_none() {
        // Killed before it had started anything.
        cgroup::remove_tree(&dir);
        return None;
    }
    let site = Site::of(base.clone(), dir.clone(), id.to_owned());
    let end = end_orphan(site, orphan, options, Some(1));
    let removed = matches!(cgroup::remove_tree(&dir), cgroup::Removal::Removed);
    Some((end, dir, removed))
}

fn in_words(end: &JobEnd, dir: &Path, removed: bool) -> String {
    let dir = dir.display();
    let Some(receipt) = &end.receipt else {
        return format!("an earlier run was killed and left {dir}, which could not be looked at");
    };
    let ended = ended(receipt);
    let verdict = receipt.verdict.as_str();
    let stays = if removed || receipt.verdict == Verdict::Lingering {
        ""
    } else {
        ", and its cgroup stays"
    };
    format!(
        "an earlier run was killed and left {dir}: ended {ended} process(es) of it, {verdict}{stays}"
    )
}
