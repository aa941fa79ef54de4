//! One cgroup v2 directory: making it, reading who is in it, freezing it, removing it.
//!
//! Every function takes the directory's path; nothing here knows what it is for. Writes to
//! `cgroup.procs` and the rmdir can sleep in the kernel for milliseconds: not on the loop.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, stat};
use nix::unistd::write;

use super::procfs::{Proc, ProcId, ProcStat};
use super::{SysError, listing, procfs};

/// cgroup.events, as far as we need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// Whether a live process is in the cgroup or below it (zombies do not count).
    pub populated: bool,
    /// Whether every process in it is frozen.
    pub frozen: bool,
}

/// Parses a cgroup.events file. `None` without a `populated` line.
pub fn parse_events(text: &[u8]) -> Option<Events> {
    let text = std::str::from_utf8(text).ok()?;
    let flag = |key: &str| {
        text.lines()
            .find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(' ')? == "1"))
    };
    // `frozen` came with Linux 5.2, `populated` with the file itself.
    Some(Events {
        populated: flag("populated")?,
        frozen: flag("frozen").unwrap_or(false),
    })
}

/// Makes the cgroup. EEXIST is an error: a generation's directory is fresh or it is not made.
pub fn make_dir(cgroup: &Path) -> Result<(), SysError> {
    nix::unistd::mkdir(cgroup, Mode::from_bits_truncate(0o755))
        .map_err(|e| SysError::at("make the cgroup", cgroup, e).limited_by(Errno::EAGAIN, DEPTHS))
}

/// What a mkdir that is answered with EAGAIN has met.
const DEPTHS: &str = "cgroup.max.descendants or cgroup.max.depth of a cgroup above it";

/// Reads cgroup.events. ENOENT, or ENODEV when it vanished under the read: the cgroup is gone.
pub fn read_events(cgroup: &Path) -> Result<Events, SysError> {
    let file = cgroup.join("cgroup.events");
    let mut text = [0_u8; 256];
    let length = procfs::read_short(&file, &mut text)?;
    parse_events(text.get(..length).unwrap_or_default()).ok_or_else(|| {
        SysError::because(
            "read",
            file.display().to_string(),
            "it has no line `populated`",
        )
    })
}

/// Whether a live process is in the cgroup or below. A cgroup that is gone holds nobody.
pub fn is_populated(cgroup: &Path) -> Result<bool, SysError> {
    match read_events(cgroup) {
        Ok(events) => Ok(events.populated),
        Err(e) if is_gone(&e) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether the error says that the cgroup does not exist (any more).
pub fn is_gone(error: &SysError) -> bool {
    error.is(Errno::ENOENT) || error.is(Errno::ENODEV)
}

/// The cgroup's id: its directory's inode number, which PIDFD_GET_INFO and the tracepoints
/// give too.
pub fn id(cgroup: &Path) -> Result<u64, SysError> {
    stat(cgroup)
        .map(|s| s.st_ino)
        .map_err(|e| SysError::at("look at the cgroup", cgroup, e))
}

/// Writes "1" to cgroup.kill (Linux 5.14): SIGKILL for everything in the cgroup and below, as
/// one step that forks cannot outrun. **May block** for as long as it takes to signal them all.
/// A cgroup killed once kills what clone3 puts into it later on some kernels: never kill one
/// that is to live on. EOPNOTSUPP: threaded. ENOENT: no such file (old kernel), or gone.
pub fn write_kill(cgroup: &Path) -> Result<(), SysError> {
    write_file(&cgroup.join("cgroup.kill"), "kill through", b"1")
}

/// Freezes or thaws the cgroup (Linux 5.2). Takes effect by and by: `frozen` in cgroup.events.
pub fn set_freeze(cgroup: &Path, frozen: bool) -> Result<(), SysError> {
    let value: &[u8] = if frozen { b"1" } else { b"0" };
    write_file(
        &cgroup.join("cgroup.freeze"),
        "freeze or thaw through",
        value,
    )
}

const UNLIMITED: [(&str, &[u8]); 3] = [
    ("cgroup.freeze", b"0"),
    ("cgroup.max.descendants", b"max"),
    ("cgroup.max.depth", b"max"),
];

/// Whether nobody has frozen the cgroup or limited what is made below it.
pub fn is_unlimited(cgroup: &Path) -> bool {
    UNLIMITED.iter().all(|(file, value)| {
        procfs::read_file(&cgroup.join(file)).is_ok_and(|text| text.trim_ascii() == *value)
    })
}

/// Thaws the cgroup and lifts the limits on what is made below it, as far as that can be done.
pub fn unlimit(cgroup: &Path) {
    for (file, value) in UNLIMITED {
        // What cannot be set right shows when something is made there.
        let _ = write_file(&cgroup.join(file), "lift the limit of", value);
    }
}

/// Moves our whole process into the cgroup. EBUSY: it has controllers enabled for children.
pub fn move_self_to(cgroup: &Path) -> Result<(), SysError> {
    write_file(&cgroup.join("cgroup.procs"), "move ourselves into", b"0")
}

/// Moves a process with all its threads into the cgroup. ESRCH: it has ended. **Blocks** for
/// every CPU when rare (15 ms).
pub fn move_process(cgroup: &Path, pid: u32) -> Result<(), SysError> {
    let doing = "move a process into";
    write_file(
        &cgroup.join("cgroup.procs"),
        doing,
        pid.to_string().as_bytes(),
    )
}

/// Writes a value into one of a cgroup's files.
pub fn set(file: &Path, value: &str) -> Result<(), SysError> {
    write_file(file, "write into", value.as_bytes())
}

/// Hands the cgroup over to somebody (cgroup-v2.rst, 'Model of Delegation'): who is in it, what
/// it gives to cgroups below, and the making of such; its own limits stay whose they are.
pub fn hand_over(cgroup: &Path, uid: Option<u32>, gid: Option<u32>) -> Result<(), SysError> {
    let (uid, gid) = (
        uid.map(nix::unistd::Uid::from_raw),
        gid.map(nix::unistd::Gid::from_raw),
    );
    for file in [
        "",
        "cgroup.procs",
        "cgroup.threads",
        "cgroup.subtree_control",
    ] {
        let path = match file {
            "" => cgroup.to_path_buf(),
            file => cgroup.join(file),
        };
        nix::unistd::chown(&path, uid, gid).map_err(|e| SysError::at("hand over", &path, e))?;
    }
    Ok(())
}

fn write_file(file: &Path, doing: &'static str, value: &[u8]) -> Result<(), SysError> {
    let failed = |e| SysError::at(doing, file, e);
    let open_file =
        open(file, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
    // The kernel takes such a value whole or not at all.
    write(&open_file, value).map(drop).map_err(failed)
}

/// The pids of the processes directly in the cgroup. Processes of pid namespaces that are not
/// below ours have no pid here (the kernel writes 0): left out. In a threaded cgroup, the
/// processes that its threads belong to. A cgroup that is gone has none.
pub fn procs(cgroup: &Path) -> Result<Vec<u32>, SysError> {
    match numbers(&cgroup.join("cgroup.procs")) {
        Err(e) if is_gone(&e) => Ok(Vec::new()),
        Err(e) if e.is(Errno::EOPNOTSUPP) => {
            let proc = Proc::open()?;
            let mut pids = BTreeSet::new();
            for tid in numbers(&cgroup.join("cgroup.threads"))? {
                pids.extend(proc.process_of_thread(tid)?);
            }
            Ok(pids.into_iter().collect())
        }
        other => other,
    }
}

fn numbers(file: &Path) -> Result<Vec<u32>, SysError> {
    let text = procfs::read_file(file)?;
    let lines = text
        .split(|&b| b == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok());
    Ok(lines
        .filter_map(|line| line.parse().ok())
        .filter(|&pid| pid != 0)
        .collect())
}

/// The pids in the cgroup and everything below it, ascending, each once.
pub fn procs_recursive(cgroup: &Path) -> Result<Vec<u32>, SysError> {
    let mut pids = Vec::new();
    for dir in tree(cgroup)? {
        pids.extend(procs(&dir)?);
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

/// The members of the cgroup and all their descendants, those outside it included: taken
/// before a kill, it attributes what the kill orphans. The dead are left out.
///
/// Only members that descend from process `root` count, where one is given: whoever is root may
/// move anybody into a cgroup, and below a foreign process everything is foreign. In any case
/// left out: process 1, ourselves, whoever we descend from, and what is reached through us alone.
pub fn census(cgroup: &Path, root: Option<u32>) -> Result<BTreeSet<ProcId>, SysError> {
    census_of(&procs_recursive(cgroup)?, root, CENSUS_BOUND)
}

/// The same if it is soon done (some 50 µs for one process): `None` where there are more than
/// a few members or descendants, cgroups beside the one named `inside`, or we ourselves.
pub fn census_of_few(
    cgroup: &Path,
    inside: &str,
    root: Option<u32>,
) -> Result<Option<BTreeSet<ProcId>>, SysError> {
    let inside = cgroup.join(inside);
    if children_counted_by_links(cgroup) != Some(1) || children_counted_by_links(&inside) != Some(0)
    {
        return Ok(None);
    }
    let mut members = Vec::new();
    for dir in [cgroup, &inside] {
        members.extend(procs(dir)?);
        if members.len() > FEW {
            return Ok(None);
        }
    }
    if members.contains(&std::process::id()) {
        // Not the few that it should hold.
        return Ok(None);
    }
    let census = census_of(&members, root, FEW + 1)?;
    Ok((census.len() <= FEW).then_some(census))
}

/// How many are few.
const FEW: usize = 8;

fn census_of(pids: &[u32], root: Option<u32>, bound: usize) -> Result<BTreeSet<ProcId>, SysError> {
    let proc = Proc::open()?;
    let own = std::process::id();
    // Nobody who is below us is above us.
    let above_us = match root {
        Some(root) if root == own => Vec::new(),
        _ => proc.ancestors(own)?,
    };
    let mut below: BTreeSet<u32> = root.into_iter().collect();
    let (mut open, mut census) = (Vec::new(), BTreeSet::new());
    for &pid in pids {
        let Some(stat) = proc.stat(pid)?.filter(|stat| !stat.is_dead()) else {
            continue;
        };
        let counts = pid != 1 && pid != own && !above_us.contains(&pid);
        if counts && (root.is_none() || is_below(&proc, &stat, &mut below)?) {
            census.insert(stat.id());
            open.push(stat);
        }
    }
    let mut seen: BTreeSet<u32> = open.iter().map(|stat| stat.pid).collect();
    while let Some(process) = open.pop() {
        for child in proc.children_of(&process)? {
            if census.len() >= bound {
                return Ok(census);
            }
            if child != own
                && seen.insert(child)
                && let Some(stat) = proc.stat(child)?.filter(|stat| !stat.is_dead())
            {
                census.insert(stat.id());
                open.push(stat);
            }
        }
    }
    Ok(census)
}

/// Whether an ancestor of the process is in `below`; then all up to that one are put there, so
/// that a crowd's common ancestors are read once.
fn is_below(proc: &Proc, process: &ProcStat, below: &mut BTreeSet<u32>) -> Result<bool, SysError> {
    let (mut chain, mut parent) = (vec![process.pid], process.ppid);
    while !below.contains(&parent) {
        chain.push(parent);
        match proc.stat(parent)? {
            Some(stat) if stat.ppid != 0 && chain.len() < CHAIN_BOUND => parent = stat.ppid,
            _ => return Ok(false),
        }
    }
    below.extend(chain);
    Ok(true)
}

/// How many ancestors of one process are followed.
const CHAIN_BOUND: usize = 65_536;

/// How many descendants outside of its cgroups a census records.
const CENSUS_BOUND: usize = 65_536;

/// How many directories below one cgroup are looked at: a service that owns its subtree can
/// make more faster than they can be listed.
const TREE_BOUND: usize = 65_536;

/// The cgroup and all below it, parents first. Empty when it is gone.
pub fn tree(cgroup: &Path) -> Result<Vec<PathBuf>, SysError> {
    let mut dirs = vec![cgroup.to_path_buf()];
    let mut next = 0;
    while let Some(dir) = dirs.get(next).cloned() {
        next += 1;
        if dirs.len() >= TREE_BOUND {
            break;
        }
        if children_counted_by_links(&dir) == Some(0) {
            continue;
        }
        each_below(&dir, |name| dirs.push(dir.join(name)))?;
    }
    Ok(dirs)
}

/// Calls `each` with the name of every cgroup directly below this one; none when it is gone.
pub fn each_below(cgroup: &Path, mut each: impl FnMut(&OsStr)) -> Result<(), SysError> {
    let failed = |e| SysError::at("list the cgroup", cgroup, e);
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let listed = match open(cgroup, flags, Mode::empty()) {
        Ok(listed) => listed,
        Err(Errno::ENOENT) => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    listing::for_each(&listed, |name, kind| {
        if kind == libc::DT_DIR && name != b"." && name != b".." {
            each(OsStr::from_bytes(name));
        }
    })
    .map_err(failed)
}

/// How many directories a cgroup holds: kernfs keeps a directory's link count at 2 and one for
/// each directory in it, which saves listing the forty files of a cgroup without any.
fn children_counted_by_links(cgroup: &Path) -> Option<u64> {
    stat(cgroup).ok()?.st_nlink.checked_sub(2)
}

/// What became of the cgroups to be removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// The cgroup and all below it are gone, now or before.
    Removed,
    /// EBUSY: a process lives in `path`, or somebody keeps making cgroups below it.
    Busy {
        /// The deepest cgroup that would not go.
        path: PathBuf,
    },
    /// Anything else.
    Failed(SysError),
}

/// Removes the cgroup and all below it, the deepest first. **May sleep** in the kernel.
///
/// Cgroups that appear meanwhile are taken up to twice more; then it is [`Removal::Busy`].
pub fn remove_tree(cgroup: &Path) -> Removal {
    let mut busy = cgroup.to_path_buf();
    for _ in 0..3 {
        let dirs = match tree(cgroup) {
            Ok(dirs) => dirs,
            Err(e) => return Removal::Failed(e),
        };
        match remove_deepest_first(&dirs) {
            Removal::Busy { path } => {
                if is_populated(&path).unwrap_or(true) {
                    return Removal::Busy { path };
                }
                busy = path;
            }
            done => return done,
        }
    }
    Removal::Busy { path: busy }
}

/// The same where the cgroup most likely holds the one named `inside` and nothing else: not
/// listed unless that proves wrong. The kernel removes nothing that has anything in it.
pub fn remove_with(cgroup: &Path, inside: &str) -> Removal {
    let removed = |dir: &Path| match std::fs::remove_dir(dir) {
        Err(e) => e.kind() == std::io::ErrorKind::NotFound,
        Ok(()) => true,
    };
    if removed(&cgroup.join(inside)) && removed(cgroup) {
        Removal::Removed
    } else {
        remove_tree(cgroup)
    }
}

fn remove_deepest_first(dirs: &[PathBuf]) -> Removal {
    for dir in dirs.iter().rev() {
        // nix has no rmdir; std's is exactly rmdir(2).
        match std::fs::remove_dir(dir).map_err(|e| SysError::io("remove the cgroup", dir, &e)) {
            Ok(()) => {}
            Err(e) if is_gone(&e) => {}
            Err(e) if e.is(Errno::EBUSY) || e.is(Errno::ENOTEMPTY) => {
                return Removal::Busy { path: dir.clone() };
            }
            Err(e) => return Removal::Failed(e),
        }
    }
    Removal::Removed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_file_is_read() {
        let events = |text: &str| parse_events(text.as_bytes());
        assert_eq!(
            events("populated 1\nfrozen 0\n"),
            Some(Events {
                populated: true,
                frozen: false
            })
        );
        assert_eq!(
            events("populated 0\nfrozen 1\n"),
            Some(Events {
                populated: false,
                frozen: true
            })
        );
        assert_eq!(
            events("populated 0\n"),
            Some(Events {
                populated: false,
                frozen: false
            })
        );
        assert_eq!(events("frozen 0\n"), None);
        assert_eq!(events(""), None);
    }
}
