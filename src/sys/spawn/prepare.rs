//! What to start, checked and converted before the clone.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::{Gid, Uid, fchown, getgroups, getresgid, getresuid};

use super::pid_namespace::{Forward, World};
use crate::sys::rlimit::{Limit, OpenFiles, Resource};
use crate::sys::{SysError, procfs};

/// How a process gets into its cgroup; found once by the start-up test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpawnMethod {
    /// clone3(CLONE_INTO_CGROUP), Linux 5.7: it is born there.
    Clone3Into,
    /// clone3, then the child writes itself into cgroup.procs before anything else.
    Clone3ThenWrite,
    /// fork, then the same: where clone3 is refused (seccomp filters in containers: ENOSYS).
    ForkThenWrite,
}

impl SpawnMethod {
    /// The method's word.
    pub fn as_str(self) -> &'static str {
        match self {
            SpawnMethod::Clone3Into => "clone3-into-cgroup",
            SpawnMethod::Clone3ThenWrite => "clone3-then-write",
            SpawnMethod::ForkThenWrite => "fork-then-write",
        }
    }
}

/// What to start.
#[derive(Debug)]
pub struct Spec {
    /// The program: a path if it holds a `/`, otherwise looked up in the PATH of `env`.
    pub program: OsString,
    /// The arguments, `argv[0]` included.
    pub argv: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory; empty leaves it in ours.
    pub dir: PathBuf,
    /// Standard input, output and error, and whether it gets more.
    pub stdio: Stdio,
    /// The limit on open files to run with; `None` leaves ours.
    pub open_files: Option<OpenFiles>,
    /// The cgroup's directory; `None` leaves it in ours.
    pub cgroup: Option<PathBuf>,
    /// Whether it gets a time namespace of its own as a mark.
    pub mark: bool,
    /// The mark to bear instead: an auxiliary command's is its service's.
    pub join: Option<OwnedFd>,
    /// Whether it gets a pid namespace of its own, with a /proc to it, and whom the first process
    /// there passes signals on to. That process is then the one born.
    pub pid_namespace: Option<Forward>,
    /// The pid and mount namespace to be born in instead, those of its service.
    pub enter: Option<World>,
    /// Whether it leads a session of its own.
    pub new_session: bool,
    /// What makes it a job of our own session instead.
    pub job: Option<Job>,
    /// What else it runs with.
    pub attributes: Attributes,
}

/// The descriptors a process begins with.
#[derive(Debug)]
pub enum Stdio {
    /// These as its standard input, output and error, and nothing else.
    Only([OwnedFd; 3]),
    /// And these at the numbers beside them: from 3, none twice, at most [`ALSO_MOST`].
    Also([OwnedFd; 3], Vec<(OwnedFd, u32)>),
    /// All of ours that are not close-on-exec, as they are.
    Inherited,
}

impl Stdio {
    fn three(&self) -> Option<&[OwnedFd; 3]> {
        match self {
            Stdio::Only(three) | Stdio::Also(three, _) => Some(three),
            Stdio::Inherited => None,
        }
    }

    /// The descriptors that the child arranges: the standard ones, then the others, each with
    /// its number there.
    pub(super) fn arranged(&self) -> Option<Vec<(RawFd, RawFd)>> {
        let three = (0..).zip(self.three()?);
        let mut all: Vec<(RawFd, RawFd)> = three.map(|(to, fd)| (fd.as_raw_fd(), to)).collect();
        if let Stdio::Also(_, also) = self {
            all.extend(
                also.iter()
                    .map(|(fd, to)| (fd.as_raw_fd(), to.cast_signed())),
            );
        }
        Some(all)
    }

    fn check(&self) -> Result<(), SysError> {
        let Stdio::Also(_, also) = self else {
            return Ok(());
        };
        let mut numbers: Vec<u32> = also.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        let fits = |number: &u32| (3..=ALSO_HIGHEST).contains(number);
        if numbers.len() == also.len() && also.len() <= ALSO_MOST && numbers.iter().all(fits) {
            return Ok(());
        }
        let why =
            format!("there may be {ALSO_MOST} of them, from 3 to {ALSO_HIGHEST}, and none twice");
        Err(SysError::because("give descriptors to", "a process", why))
    }
}

/// So many descriptors beside the standard ones may be given to a process.
pub const ALSO_MOST: usize = 96;
/// The highest number that one of them may have.
pub const ALSO_HIGHEST: u32 = 255;

/// A process as a shell starts one: in a process group of its own within our session.
#[derive(Debug)]
pub struct Job {
    /// The terminal whose foreground its group becomes before it executes anything.
    pub terminal: Option<OwnedFd>,
    /// Signals that stay ignored as we inherited them: bit `n - 1` stands for signal `n`.
    pub ignored: u64,
}

/// What a process runs with; nothing said leaves what we have.
#[derive(Clone, Debug, Default)]
pub struct Attributes {
    /// Whom it runs as.
    pub run_as: RunAs,
    /// Its resource limits, `open_files` of [`Spec`] apart.
    pub limits: Vec<Limit>,
    /// Its file mode creation mask.
    pub umask: Option<u32>,
    /// Its nice value.
    pub nice: Option<i32>,
    /// Its oom_score_adj.
    pub oom_score_adj: Option<i32>,
    /// Whether its environment names its own pid as LISTEN_PID (sd_listen_fds(3)).
    pub listen_pid: bool,
}

/// Whom a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunAs {
    /// Its user, for all of the three ids that decide.
    pub uid: Option<u32>,
    /// Its group, likewise.
    pub gid: Option<u32>,
    /// Its supplementary groups.
    pub groups: Option<Vec<u32>>,
}

/// A [`Spec`] with everything that can fail or allocate behind it.
#[derive(Debug)]
pub struct Prepared {
    pub(super) candidates: Vec<CString>,
    pub(super) argv: Vec<CString>,
    pub(super) env: Vec<CString>,
    pub(super) dir: CString,
    pub(super) stdio: Stdio,
    pub(super) open_files: Option<OpenFiles>,
    /// The cgroup's directory, or its cgroup.procs, whichever the method needs.
    pub(super) cgroup: Option<OwnedFd>,
    pub(super) method: SpawnMethod,
    pub(super) mark: bool,
    pub(super) join: Option<OwnedFd>,
    pub(super) pid_namespace: Option<Forward>,
    pub(super) enter: Option<World>,
    pub(super) new_session: bool,
    pub(super) job: Option<Job>,
    pub(super) attributes: Attributes,
    /// The value of oom_score_adj as the kernel reads it.
    pub(super) oom_score_adj: Option<CString>,
}

/// Where programs are looked for when the environment has no PATH, as execvp(3) does.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

impl Prepared {
    /// Checks and converts everything, and opens the cgroup. EINVAL: a NUL byte in a string,
    /// or an empty program.
    pub fn new(spec: Spec, method: SpawnMethod) -> Result<Self, SysError> {
        let env = spec.env.iter().map(|(key, value)| {
            let mut entry = key.clone();
            entry.push("=");
            entry.push(value);
            c_string(&entry)
        });
        let (flags, file) = match method {
            SpawnMethod::Clone3Into => (OFlag::O_RDONLY | OFlag::O_DIRECTORY, ""),
            _ => (OFlag::O_WRONLY, "cgroup.procs"),
        };
        let open_cgroup = |cgroup: &PathBuf| {
            let path = if file.is_empty() {
                cgroup.clone()
            } else {
                cgroup.join(file)
            };
            open(&path, flags | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|e| SysError::at("open the cgroup", &path, e))
        };
        spec.stdio.check()?;
        if let (Some(uid), Some(three)) = (spec.attributes.run_as.uid, spec.stdio.three()) {
            give_pipes_to(three, uid)?;
        }
        let mut attributes = spec.attributes;
        attributes.run_as = unlike_ours(attributes.run_as);
        let oom_score_adj = attributes.oom_score_adj.map(|adj| adj.to_string());
        Ok(Self {
            candidates: candidates(&spec.program, &spec.env)?,
            argv: spec
                .argv
                .iter()
                .map(|arg| c_string(arg))
                .collect::<Result<_, _>>()?,
            env: env.collect::<Result<_, _>>()?,
            dir: c_string(spec.dir.as_os_str())?,
            stdio: spec.stdio,
            open_files: spec.open_files,
            cgroup: spec.cgroup.as_ref().map(open_cgroup).transpose()?,
            method,
            mark: spec.mark && spec.join.is_none(),
            join: spec.join,
            pid_namespace: spec.pid_namespace,
            enter: spec.enter,
            new_session: spec.new_session,
            job: spec.job,
            attributes,
            oom_score_adj: oom_score_adj
                .map(|adj| c_string(adj.as_ref()))
                .transpose()?,
        })
    }
}

impl Prepared {
    /// Every resource limit, as the child sets them: the one on open files, unless the
    /// attributes have another.
    pub(super) fn limits(&self) -> impl Iterator<Item = (u32, libc::rlimit)> {
        let open_files = self.open_files.map(|limit| Limit {
            resource: Resource::RLIMIT_NOFILE,
            soft: limit.soft,
            hard: limit.hard,
        });
        let limits = open_files
            .into_iter()
            .chain(self.attributes.limits.iter().copied());
        limits.map(|limit| {
            let limits = libc::rlimit {
                rlim_cur: limit.soft,
                rlim_max: limit.hard,
            };
            (limit.resource as u32, limits)
        })
    }
}

/// So that another user can open /dev/stdout and /dev/stderr, which opens the pipe anew, as
/// container engines do it.
fn give_pipes_to(stdio: &[OwnedFd; 3], uid: u32) -> Result<(), SysError> {
    for fd in stdio {
        let failed = |e| SysError::new("give the output pipe to", format!("user {uid}"), e);
        let mode = SFlag::from_bits_truncate(fstat(fd).map_err(failed)?.st_mode);
        if mode & SFlag::S_IFMT == SFlag::S_IFIFO {
            fchown(fd, Some(Uid::from_raw(uid)), None).map_err(failed)?;
        }
    }
    Ok(())
}

/// What of `run_as` we are not ourselves: an ordinary user may name itself, and its own group and
/// groups, but may set none of them.
fn unlike_ours(run_as: RunAs) -> RunAs {
    let uids = getresuid().map(|ids| [ids.real, ids.effective, ids.saved].map(Uid::as_raw));
    let gids = getresgid().map(|ids| [ids.real, ids.effective, ids.saved].map(Gid::as_raw));
    // Our own group counts as one of them, whether or not it is named among them.
    let with_own = |groups: BTreeSet<u32>| match &gids {
        Ok([own, ..]) => groups.into_iter().chain([*own]).collect(),
        Err(_) => groups,
    };
    let groups = getgroups().map(|groups| groups.into_iter().map(Gid::as_raw).collect());
    let groups = groups.map(with_own);
    let same_groups = |wanted: &Vec<u32>| {
        let wanted = with_own(wanted.iter().copied().collect());
        groups.as_ref().is_ok_and(|ours| *ours == wanted)
    };
    let gid = run_as.gid.filter(|gid| gids != Ok([*gid; 3]));
    RunAs {
        uid: run_as.uid.filter(|uid| uids != Ok([*uid; 3])),
        gid,
        // With another group of its own it is not the same set any more.
        groups: run_as
            .groups
            .filter(|wanted| gid.is_some() || !same_groups(wanted)),
    }
}

fn c_string(text: &OsStr) -> Result<CString, SysError> {
    CString::new(text.as_bytes()).map_err(|_| {
        SysError::because(
            "pass on",
            format!("{:?}", procfs::lossy(text)),
            "it holds a NUL byte",
        )
    })
}

/// Every path at which the program may be, in the order in which execvp(3) tries them.
fn candidates(program: &OsStr, env: &[(OsString, OsString)]) -> Result<Vec<CString>, SysError> {
    if program.is_empty() {
        return Err(SysError::new(
            "execute",
            "an empty program name",
            Errno::ENOENT,
        ));
    }
    if program.as_bytes().contains(&b'/') {
        return Ok(vec![c_string(program)?]);
    }
    // The last of several wins in no shell; the first is what getenv(3) finds.
    let path = env
        .iter()
        .find(|(key, _)| key == "PATH")
        .map(|(_, path)| path.as_os_str());
    let path = path.unwrap_or(OsStr::new(DEFAULT_PATH));
    path.as_bytes()
        .split(|&b| b == b':')
        .map(|dir| {
            // An empty entry is the working directory, as in execvp(3).
            let dir = if dir.is_empty() { b".".as_slice() } else { dir };
            let mut candidate = OsString::from_vec(dir.to_vec());
            candidate.push("/");
            candidate.push(program);
            c_string(&candidate)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(program: &str, path: Option<&str>) -> Vec<String> {
        let env: Vec<_> = path.iter().map(|p| ("PATH".into(), p.into())).collect();
        let found = candidates(OsStr::new(program), &env).unwrap();
        found
            .into_iter()
            .map(|c| c.into_string().unwrap())
            .collect()
    }

    #[test]
    fn programs_are_looked_up_as_execvp_does() {
        assert_eq!(tried("/a/b", Some("/x")), ["/a/b"]);
        assert_eq!(tried("./b", None), ["./b"]);
        assert_eq!(tried("b", Some("/x::/y")), ["/x/b", "./b", "/y/b"]);
        assert_eq!(tried("b", None), ["/bin/b", "/usr/bin/b"]);
        assert!(candidates(OsStr::new(""), &[]).is_err());
    }

    #[test]
    fn what_we_are_already_is_not_set() {
        let (uid, gid) = (Uid::current().as_raw(), Gid::current().as_raw());
        let groups: Vec<u32> = getgroups().unwrap().into_iter().map(Gid::as_raw).collect();
        let same = RunAs {
            uid: Some(uid),
            gid: Some(gid),
            groups: Some(groups.clone()),
        };
        assert_eq!(unlike_ours(same.clone()), RunAs::default());
        let own_too = groups.iter().copied().chain([gid]).collect();
        let own_too = RunAs {
            groups: Some(own_too),
            ..same.clone()
        };
        assert_eq!(unlike_ours(own_too), RunAs::default());
        for other in [
            RunAs {
                uid: Some(uid + 1),
                ..RunAs::default()
            },
            RunAs {
                gid: Some(gid + 1),
                groups: Some(groups),
                ..RunAs::default()
            },
            RunAs {
                groups: Some(vec![4_000_000]),
                ..RunAs::default()
            },
        ] {
            assert_eq!(unlike_ours(other.clone()), other);
        }
    }

    #[test]
    fn a_nul_byte_is_refused_by_name() {
        let error = c_string(OsStr::from_bytes(b"a\0b")).unwrap_err();
        assert!(error.to_string().contains("NUL byte"), "{error}");
    }
}
