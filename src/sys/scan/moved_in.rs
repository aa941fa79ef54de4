//! Who is in the cgroup of a start without being of it: somebody moved them there.
//!
//! The opposite of an escapee. It is not asked to go with the others, and when the cgroup is
//! killed nothing can spare it: then it is at least named.

use std::collections::BTreeSet;
use std::path::Path;

use super::Stranger;
use super::look::CHAIN_BOUND;
use crate::sys::kill::STAT_BOUND;
use crate::sys::procfs::{Marked, Proc, ProcStat};
use crate::sys::{SysError, cgroup};

/// Tells who was moved into the cgroup of a start that bears a mark.
#[derive(Debug)]
pub struct MovedIn {
    proc: Proc,
    mark: u64,
    /// The marks of our other starts.
    others: BTreeSet<u64>,
    own_pid: u32,
}

impl MovedIn {
    /// For the start whose time namespace has this inode number, beside `others` of ours. Hold
    /// the namespaces meanwhile.
    ///
    /// # Errors
    /// When /proc cannot be opened.
    pub fn new(mark: u64, others: BTreeSet<u64>) -> Result<Self, SysError> {
        Ok(Self {
            proc: Proc::open()?,
            mark,
            others,
            own_pid: nix::unistd::getpid().as_raw().unsigned_abs(),
        })
    }

    /// Whether a member was moved in: it bears the mark of another start of ours; or it lacks
    /// this one's, and no ancestor of it bears that or is us (a user namespace can replace a
    /// mark). Who cannot be told is not.
    pub fn is(&self, member: &ProcStat) -> bool {
        if let Ok(Marked::With(mark)) = self.proc.mark(member.pid)
            && self.others.contains(&mark)
        {
            return true;
        }
        let mut at = member.clone();
        for _ in 0..CHAIN_BOUND {
            match self.proc.mark(at.pid) {
                Ok(Marked::With(mark)) if mark != self.mark => {}
                _ => return false,
            }
            match at.ppid {
                0 | 1 => return true,
                ppid if ppid == self.own_pid => return false,
                ppid => match self.proc.stat(ppid) {
                    Ok(Some(parent)) if parent.start_time <= at.start_time => at = parent,
                    _ => return false,
                },
            }
        }
        false
    }

    /// Those in the cgroup and below, among the first [`STAT_BOUND`] members.
    ///
    /// # Errors
    /// When the members cannot be listed.
    pub fn among(&self, path: &Path) -> Result<Vec<Stranger>, SysError> {
        let members = cgroup::procs_recursive(path)?;
        // Most bear the mark, which is told by one call.
        let unlike = |pid: &u32| {
            let mark = self.proc.mark(*pid);
            matches!(mark, Ok(Marked::With(mark)) if mark != self.mark)
        };
        let stats = members
            .into_iter()
            .take(STAT_BOUND)
            .filter(unlike)
            .filter_map(|pid| self.proc.stat(pid).ok().flatten());
        let moved_in = stats.filter(|member| self.is(member));
        Ok(moved_in
            .map(|process| Stranger {
                process,
                why: "somebody moved it into the cgroup, and it was killed with it".to_owned(),
            })
            .collect())
    }
}
