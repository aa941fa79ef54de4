//! Finding our own cgroup in the file system: /proc/self/mountinfo and /proc/self/cgroup.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::{SysError, procfs};

/// One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)), as far as we need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountEntry {
    /// The mount's id.
    pub id: u32,
    /// The file system's device, major and minor: the same for every mount of it.
    pub device: (u32, u32),
    /// Which directory of the mounted file system is visible; for cgroup2 relative to the
    /// reader's cgroup namespace, so that it may begin with `/..`.
    pub root: PathBuf,
    /// Where it is mounted.
    pub mount_point: PathBuf,
    /// Whether this mount is read-only (the per-mount option, not the super block's).
    pub read_only: bool,
    /// The file system's type.
    pub fstype: String,
    /// What is mounted.
    pub source: String,
    /// The super block's options.
    pub super_options: String,
}

/// Parses a mountinfo file. Lines that do not have the documented shape are left out.
pub fn parse_mountinfo(text: &[u8]) -> Vec<MountEntry> {
    text.split(|&b| b == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|&b| b == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = std::str::from_utf8(fields.nth(1)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let device = (major.parse().ok()?, minor.parse().ok()?);
    let root = unescape(fields.next()?);
    let mount_point = unescape(fields.next()?);
    let read_only = fields
        .next()?
        .split(|&b| b == b',')
        .any(|option| option == b"ro");
    // Optional fields (propagation) end with a lone dash.
    fields.find(|&field| field == b"-")?;
    let mut text = || Some(unescape(fields.next()?).to_string_lossy().into_owned());
    let (fstype, source) = (text()?, text()?);
    let super_options = text().unwrap_or_default();
    Some(MountEntry {
        id,
        device,
        root: root.into(),
        mount_point: mount_point.into(),
        read_only,
        fstype,
        source,
        super_options,
    })
}

/// The kernel writes space, tab, newline, backslash and `#` as three octal digits
/// (`mangle_path`, fs/seq_file.c).
fn unescape(field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        match tail {
            [
                a @ b'0'..=b'3',
                b @ b'0'..=b'7',
                c @ b'0'..=b'7',
                after @ ..,
            ] if first == b'\\' => {
                bytes.push((a - b'0') * 64 + (b - b'0') * 8 + (c - b'0'));
                rest = after;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes)
}

/// The path after `0::` in a /proc/PID/cgroup file: the cgroup in the v2 hierarchy, relative to
/// the reader's cgroup namespace. `None` where only v1 hierarchies are listed.
pub fn parse_own_path(text: &[u8]) -> Option<PathBuf> {
    let line = text
        .split(|&b| b == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))?;
    Some(PathBuf::from(OsString::from_vec(line.to_vec())))
}

/// Our own cgroup, as a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupBase {
    /// The directory of the cgroup we are in.
    pub dir: PathBuf,
    /// Where its file system is mounted.
    pub mount_point: PathBuf,
    /// The same cgroup as /proc/self/cgroup names it.
    pub own_path: PathBuf,
    /// Whether the mount is read-only: then nothing can be made below `dir`.
    pub read_only: bool,
}

impl CgroupBase {
    /// The same for `dir` above it; `None` if that is not above it.
    pub fn above(&self, dir: &Path) -> Option<Self> {
        let levels = self.dir.strip_prefix(dir).ok()?.components().count();
        Some(Self {
            dir: dir.to_path_buf(),
            own_path: self.own_path.ancestors().nth(levels)?.to_path_buf(),
            ..self.clone()
        })
    }
}

/// Why there is no cgroup of ours to work in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoBase {
    /// /proc/self/cgroup has no `0::` line: cgroup v1 only, or no cgroups at all.
    NoV2,
    /// No cgroup2 file system is mounted.
    NotMounted,
    /// cgroup2 is mounted, but only parts of it that do not hold our cgroup.
    NotBelow {
        /// Our cgroup, as /proc/self/cgroup names it.
        own_path: PathBuf,
        /// What the mounts show.
        roots: Vec<PathBuf>,
    },
    /// A file could not be read.
    Unreadable(SysError),
}

impl std::fmt::Display for NoBase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoBase::NoV2 => write!(f, "this kernel put us into no cgroup v2 (v1 only)"),
            NoBase::NotMounted => write!(f, "no cgroup2 file system is mounted here"),
            NoBase::NotBelow { own_path, roots } => write!(
                f,
                "our cgroup {} is below none of the mounted cgroup2 trees ({})",
                own_path.display(),
                roots
                    .iter()
                    .map(|r| r.display().to_string())
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            NoBase::Unreadable(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for NoBase {}

/// Where our cgroup is, as far as the two files can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// At this directory.
    At(PathBuf),
    /// The mount shows a tree from `levels` above our cgroup namespace's root: our cgroup is
    /// `levels` directories below the mount point, by names that we cannot see, and then
    /// `rest`.
    Hidden { levels: usize, rest: PathBuf },
}

/// Every place at which our cgroup may be, the best first: writable before read-only, known
/// before hidden, later mounts (which cover earlier ones) before earlier.
fn candidates(mounts: &[MountEntry], own_path: &Path) -> Vec<(MountEntry, Place)> {
    let own = parts(own_path);
    let mut found: Vec<_> = mounts
        .iter()
        .rev()
        .filter(|mount| mount.fstype == "cgroup2")
        .filter_map(|mount| Some((mount.clone(), place_below(mount, &own)?)))
        .collect();
    found.sort_by_key(|(mount, place)| (mount.read_only, matches!(place, Place::Hidden { .. })));
    found
}

fn place_below(mount: &MountEntry, own: &[OsString]) -> Option<Place> {
    let root = parts(&mount.root);
    if let Some(below) = own.strip_prefix(root.as_slice()) {
        return Some(Place::At(join(
            &mount.mount_point,
            &below.iter().collect::<PathBuf>(),
        )));
    }
    // Roots above the namespace's are `/..` repeated. What of them our own path (itself outside
    // of the namespace, then) does not share has names the namespace hides.
    let shared = root.iter().zip(own).take_while(|(a, b)| a == b).count();
    let hidden = &root[shared..];
    if hidden.iter().any(|part| part != "..") || own[shared..].iter().any(|p| p == "..") {
        return None;
    }
    let rest = own[shared..].iter().collect();
    Some(Place::Hidden {
        levels: hidden.len(),
        rest,
    })
}

/// `dir` and what is below it; joining nothing would add a slash.
fn join(dir: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() {
        dir.to_path_buf()
    } else {
        dir.join(below)
    }
}

fn parts(path: &Path) -> Vec<OsString> {
    path.components()
        .filter(|part| !matches!(part, Component::RootDir | Component::CurDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

/// Finds our cgroup. Says nothing about whether we may make cgroups there: that is found by
/// doing it.
pub fn find_base() -> Result<CgroupBase, NoBase> {
    let read = |path: &str| procfs::read_file(Path::new(path)).map_err(NoBase::Unreadable);
    let mounts = read("/proc/self/mountinfo")?;
    // The others are many on some machines, and nothing to us.
    let named = |line: &&[u8]| line.windows(9).any(|word| word == b" cgroup2 ");
    let lines = mounts.split(|&b| b == b'\n').filter(named);
    let mut mounts: Vec<MountEntry> = lines.filter_map(parse_line).collect();
    mounts.retain(|mount| mount.fstype == "cgroup2");
    let own_path = parse_own_path(&read("/proc/self/cgroup")?).ok_or(NoBase::NoV2)?;
    if mounts.is_empty() {
        return Err(NoBase::NotMounted);
    }
    for (mount, place) in candidates(&mounts, &own_path) {
        let dir = match place {
            Place::At(dir) => dir,
            Place::Hidden { levels, rest } => match unhide(&mount.mount_point, levels, &rest) {
                Some(dir) => dir,
                None => continue,
            },
        };
        // Another mount may cover this one.
        if statfs(&dir).is_ok_and(|fs| fs.filesystem_type() == CGROUP2_SUPER_MAGIC) {
            let (mount_point, read_only) = (mount.mount_point, mount.read_only);
            return Ok(CgroupBase {
                dir,
                mount_point,
                own_path,
                read_only,
            });
        }
    }
    Err(NoBase::NotBelow {
        own_path,
        roots: mounts.into_iter().map(|mount| mount.root).collect(),
    })
}

/// How many directories a search for a hidden cgroup may look at; a node with more of them is
/// treated as one without a usable cgroup.
const SEARCH_BOUND: usize = 4096;

/// The directory `levels` below `mount_point`, then `rest`, whose cgroup.procs lists us.
fn unhide(mount_point: &Path, levels: usize, rest: &Path) -> Option<PathBuf> {
    let pid = nix::unistd::getpid().as_raw().to_string();
    let mut level = vec![mount_point.to_path_buf()];
    for _ in 0..levels {
        let below = level
            .iter()
            .filter_map(|dir| std::fs::read_dir(dir).ok())
            .flatten()
            .flatten();
        level = below
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .take(SEARCH_BOUND)
            .collect();
    }
    level.into_iter().map(|dir| join(&dir, rest)).find(|dir| {
        procfs::read_file(&dir.join("cgroup.procs")).is_ok_and(|procs| {
            procs
                .split(|&b| b == b'\n')
                .any(|line| line == pid.as_bytes())
        })
    })
}

/// The path of `dir` (at or below the base) as /proc/PID/cgroup names it. `None`: not below.
pub fn path_in_proc(base: &CgroupBase, dir: &Path) -> Option<String> {
    let below = dir.strip_prefix(&base.dir).ok()?;
    let path = join(&base.own_path, below);
    Some(path.to_string_lossy().into_owned())
}

/// The mounts a process has in its namespace and we have not, as "mount point (type)", at most
/// `bound` of them: what a survivor may keep busy. Empty when both share a mount namespace.
pub fn mounts_held(pid: u32, bound: usize) -> Result<Vec<String>, SysError> {
    let namespace = |pid: &str| {
        let path = format!("/proc/{pid}/ns/mnt");
        std::fs::read_link(&path).map_err(|e| SysError::io("read", Path::new(&path), &e))
    };
    if namespace("self")? == namespace(&pid.to_string())? {
        return Ok(Vec::new());
    }
    let read = |path: String| procfs::read_file(Path::new(&path)).map(|t| parse_mountinfo(&t));
    let ours = read("/proc/self/mountinfo".to_owned())?;
    let theirs = read(format!("/proc/{pid}/mountinfo"))?;
    Ok(theirs
        .iter()
        .filter(|mount| {
            !ours.iter().any(|o| {
                (&o.mount_point, &o.fstype, &o.source)
                    == (&mount.mount_point, &mount.fstype, &mount.source)
            })
        })
        .take(bound)
        .map(|mount| format!("{} ({})", mount.mount_point.display(), mount.fstype))
        .collect())
}

/// capabilities(7).
const CAP_SYS_PTRACE: u32 = 19;

/// Whether /proc is ours to read in full: it shows our pid namespace (its `self` is us), and
/// hides no processes from us. The reason, if not.
pub fn proc_is_complete() -> Result<(), String> {
    let own = nix::unistd::getpid().as_raw().to_string();
    match std::fs::read_link("/proc/self") {
        Ok(link) if link.as_os_str().as_bytes() == own.as_bytes() => {}
        Ok(link) => {
            return Err(format!(
                "/proc shows another pid namespace: we are {own} here and {} there",
                link.display()
            ));
        }
        Err(e) => return Err(SysError::io("read", Path::new("/proc/self"), &e).to_string()),
    }
    // Being root is not enough: who may be looked at is a matter of ptrace(2) (hidepid, proc(5)).
    if procfs::has_capability(CAP_SYS_PTRACE) {
        return Ok(());
    }
    let mounts = procfs::read_file(Path::new("/proc/self/mountinfo")).unwrap_or_default();
    let hides = |options: &str| {
        options.split(',').any(|o| {
            o.strip_prefix("hidepid=")
                .is_some_and(|v| v != "0" && v != "off")
        })
    };
    let hidden = parse_mountinfo(&mounts)
        .iter()
        .rfind(|mount| mount.mount_point == Path::new("/proc"))
        .is_some_and(|mount| hides(&mount.super_options));
    if hidden {
        return Err("/proc is mounted with hidepid: processes of other users are hidden".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
