//! What earlier runs below the same cgroup left behind because they and their guardians were
//! killed: found by its directories, which say who made them, and ended with proof.

use std::ffi::OsStr;
use std::path::Path;

use super::JobOptions;
use super::orphan::{Orphan, end_orphan};
use super::result::JobEnd;
use super::site::{GUARDIAN, JOB, Owner, PREFIX, Site};
use crate::core::Verdict;
use crate::sys::cgroup;
use crate::sys::limits;
use crate::sys::mount::{self, CgroupBase};
use crate::sys::note::{self, Note};
use crate::sys::procfs::Proc;

/// Ends what killed runs left below the cgroup we are in; a line for each.
///
/// # Errors
/// Where there is no cgroup of ours.
pub fn clean(options: &JobOptions) -> Result<Vec<String>, mount::NoBase> {
    Ok(end_all(&mount::find_base()?, options))
}

/// The same below `base`.
pub(super) fn end_all(base: &CgroupBase, options: &JobOptions) -> Vec<String> {
    let entries = std::fs::read_dir(&base.dir).into_iter().flatten().flatten();
    let mut said = Vec::new();
    for entry in entries {
        let name = entry.file_name();
        if let Some(id) = name.to_str().and_then(|name| name.strip_prefix(PREFIX))
            && is_left(&entry.path(), &name)
        {
            said.extend(end_one(base, &entry.path(), id, options));
            limits::undo(&base.dir);
        }
    }
    said
}

/// Whether its run and its guardian have both ended. One of another pid namespace is not ours to
/// judge: its numbers mean nothing here.
fn is_left(dir: &Path, name: &OsStr) -> bool {
    let Some(owner) = name.to_str().and_then(Owner::parse) else {
        return false;
    };
    let same = Owner::us().is_ok_and(|us| us.pid_namespace == owner.pid_namespace);
    let lives = || {
        let stat = Proc::open().and_then(|proc| proc.stat_of(owner.process));
        // Whoever cannot be asked after is taken to live.
        stat.map_or(true, |stat| stat.is_some_and(|stat| !stat.is_dead()))
    };
    same && !lives() && !cgroup::is_populated(&dir.join(GUARDIAN)).unwrap_or(true)
}

fn end_one(base: &CgroupBase, dir: &Path, id: &str, options: &JobOptions) -> Option<String> {
    let job = dir.join(JOB);
    let populated = cgroup::is_populated(&job).unwrap_or(false);
    let orphan =
        note::read(&job, Note::Birth).and_then(|text| Orphan::parse(text.as_bytes(), None));
    if !populated && orphan.is_none() {
        // Killed before it had started anything.
        cgroup::remove_tree(dir);
        return None;
    }
    let site = Site::of(base.clone(), dir.to_path_buf(), id.to_owned());
    let end = end_orphan(site, orphan, options, Some(1));
    let removed = matches!(cgroup::remove_tree(dir), cgroup::Removal::Removed);
    Some(in_words(&end, dir, removed))
}

fn in_words(end: &JobEnd, dir: &Path, removed: bool) -> String {
    let dir = dir.display();
    let Some(receipt) = &end.receipt else {
        return format!("an earlier run was killed and left {dir}, which could not be looked at");
    };
    let ended = receipt.killed.len() + receipt.escaped.len();
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
