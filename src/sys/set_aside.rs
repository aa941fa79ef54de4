//! Moving members of one cgroup to another without moving anybody else.
//!
//! The kernel takes a number, and a number may be another process's from one moment to the
//! next: a stranger in the cgroup of what is kept would end with it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::pidfd::PidFd;
use super::procfs::{Proc, ProcId};
use super::{SysError, cgroup};

/// How many handles are held at a time.
const HANDLES: usize = 128;

/// Moves those of `chosen` that are in the cgroup `from` or below it into `to`; who was moved.
/// One that has ended needs no moving. **Blocks** for a listing of `from`.
///
/// # Errors
/// When the members cannot be listed, or one of them cannot be moved.
pub fn move_members(
    from: &Path,
    to: &Path,
    chosen: &BTreeSet<ProcId>,
) -> Result<BTreeSet<ProcId>, SysError> {
    let proc = Proc::open()?;
    let chosen: Vec<ProcId> = chosen.iter().copied().collect();
    let mut moved = BTreeSet::new();
    for some in chosen.chunks(HANDLES) {
        let mut handles = Vec::new();
        for &id in some {
            handles.extend(PidFd::open(id.pid)?.map(|handle| (id, handle)));
        }
        let members: BTreeSet<u32> = cgroup::procs_recursive(from)?.into_iter().collect();
        for (id, handle) in handles {
            // The handle came first, and whose it is has not ended: it had the number in the
            // listing and in the stat file.
            let is_member = members.contains(&id.pid) && proc.stat_of(id)?.is_some();
            if !is_member || handle.is_gone() {
                continue;
            }
            match cgroup::move_process(to, id.pid) {
                Err(error) if error.is(Errno::ESRCH) => continue,
                other => other?,
            }
            if handle.is_gone() {
                move_back(&proc, to, id)?;
            } else {
                moved.insert(id);
            }
        }
    }
    Ok(moved)
}

/// It ended as it was moved: whoever has its number since was born where its parent is.
fn move_back(proc: &Proc, to: &Path, id: ProcId) -> Result<(), SysError> {
    let Some(stranger) = proc.stat(id.pid)?.filter(|now| !now.is_dead()) else {
        return Ok(());
    };
    if !cgroup::procs(to)?.contains(&stranger.pid) {
        return Ok(());
    }
    let names = proc.cgroup(stranger.pid)?.zip(proc.cgroup(stranger.ppid)?);
    let home = names.and_then(|(here, home)| beside(to, &here.path, &home.path));
    let Some(home) = home else {
        let what = format!("process {} ({})", stranger.pid, stranger.comm);
        let why = "it got the number of one that was to be kept, and nothing says where it was: \
                   move it out of there by hand";
        return Err(SysError::because("move back", what, why));
    };
    match cgroup::move_process(&home, stranger.pid) {
        Err(error) if error.is(Errno::ESRCH) => Ok(()),
        other => other,
    }
}

/// The directory of the cgroup that /proc names `name`, where that of `known` is named
/// `known_name`; `None`: not below the same mount.
fn beside(known: &Path, known_name: &str, name: &str) -> Option<PathBuf> {
    let (mut root, mut prefix) = (known, Path::new(known_name));
    while let (Some(last), Some(also)) = (root.file_name(), prefix.file_name())
        && last == also
    {
        (root, prefix) = (root.parent()?, prefix.parent()?);
    }
    Some(root.join(Path::new(name).strip_prefix(prefix).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_found_beside_a_known_one() {
        let known = Path::new("/sys/fs/cgroup/unified/box/web/kept-1");
        let at = |name| beside(known, "/box/web/kept-1", name);
        let expected = Path::new("/sys/fs/cgroup/unified/other");
        assert_eq!(at("/other").as_deref(), Some(expected));
        // In a container the mount begins at its own cgroup.
        let known = Path::new("/sys/fs/cgroup/web/kept-1");
        let at = |name| beside(known, "/pod/web/kept-1", name);
        assert_eq!(at("/pod/x").as_deref(), Some(Path::new("/sys/fs/cgroup/x")));
        assert_eq!(at("/another"), None);
    }
}
