//! What this place offers, why not more, and what to change: `nought doctor`.
//!
//! Found by doing, like the supervisor's own start-up test, in a scratch cgroup that is gone
//! afterwards. Takes no lock and touches nothing of a supervisor that runs.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::place;
use crate::core::{Containment, Guarantee, ScanQuality};
use crate::sys::mount::{self, CgroupBase, NoBase};
use crate::sys::{cgroup, procfs, reap, rlimit, selftest};

/// Where we run, as far as advice depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surroundings {
    /// A machine, or a virtual one.
    Host,
    /// A container of Docker, Podman or another engine.
    Container,
    /// A container of a Kubernetes pod.
    Pod,
}

impl Surroundings {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Surroundings::Host => "a host",
            Surroundings::Container => "a container",
            Surroundings::Pod => "a Kubernetes pod",
        }
    }

    /// The word for it on a command line.
    ///
    /// # Errors
    /// The words that there are.
    pub fn named(word: &str) -> Result<Self, String> {
        match word {
            "host" => Ok(Surroundings::Host),
            "container" => Ok(Surroundings::Container),
            "pod" => Ok(Surroundings::Pod),
            _ => Err("say host, container or pod".into()),
        }
    }

    /// By what engines and the kubelet leave in every container.
    fn find() -> Self {
        let pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
            || Path::new("/var/run/secrets/kubernetes.io").exists();
        let container = std::env::var_os("container").is_some()
            || ["/.dockerenv", "/run/.containerenv"]
                .iter()
                .any(|path| Path::new(path).exists());
        match (pod, container) {
            (true, _) => Surroundings::Pod,
            (false, true) => Surroundings::Container,
            (false, false) => Surroundings::Host,
        }
    }
}

/// Something that keeps the guarantee from being the best.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What is missing, and why.
    pub what: String,
    /// What to change.
    pub change: String,
}

/// What this place offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examination {
    /// The guarantee.
    pub guarantee: Guarantee,
    /// Where we are.
    pub surroundings: Surroundings,
    /// The cgroup we were started in, if there is one.
    pub cgroup: Option<PathBuf>,
    /// What keeps it from being better; each with advice.
    pub findings: Vec<Finding>,
    /// What the start-up test said, word by word.
    pub notes: Vec<String>,
}

/// Tries out what this place offers, with advice for `surroundings`; `None`: for those that are
/// found. **Blocks** for some 10 ms.
pub fn examine(surroundings: Option<Surroundings>) -> Examination {
    let surroundings = surroundings.unwrap_or_else(Surroundings::find);
    // As the supervisor is; only our probes are below us.
    let subreaper = reap::set_child_subreaper();
    let base = mount::find_base();
    let mut notes: Vec<String> = subreaper
        .err()
        .map(|error| error.to_string())
        .into_iter()
        .collect();
    let scratch = base.as_ref().ok().map(|base| {
        base.dir
            .join(format!("nought-doctor-{}", std::process::id()))
    });
    let made = scratch.as_deref().map(cgroup::make_dir);
    let usable = scratch.as_deref().filter(|_| matches!(made, Some(Ok(()))));
    let abilities = selftest::find_abilities(usable, Path::new("/proc/self/exe"));
    if let Some(scratch) = usable
        && !matches!(cgroup::remove_tree(scratch), cgroup::Removal::Removed)
    {
        notes.push(format!(
            "the scratch cgroup {} stays: remove it by hand",
            scratch.display()
        ));
    }
    notes.extend(abilities.notes.iter().cloned());
    let guarantee = place::guarantee_of(&abilities);
    let mut findings = Vec::new();
    if guarantee.containment != Containment::CgroupKill {
        let refused = made.and_then(Result::err);
        findings.push(no_cgroups(surroundings, &base, refused.as_ref(), guarantee));
    }
    if guarantee.scan != ScanQuality::Marked {
        findings.push(no_marks(surroundings, guarantee.scan));
    }
    if let Ok(limit) = rlimit::open_files()
        && limit.hard < place::FEW_OPEN_FILES
    {
        findings.push(Finding {
            what: format!(
                "no more than {} open files are allowed (RLIMIT_NOFILE)",
                limit.hard
            ),
            change: "raise the limit: `ulimit -Hn 4096`, LimitNOFILE= in a unit, --ulimit nofile= \
                     of a container engine"
                .into(),
        });
    }
    Examination {
        guarantee,
        surroundings,
        cgroup: base.ok().map(|base| base.dir),
        findings,
        notes,
    }
}

fn no_cgroups(
    surroundings: Surroundings,
    base: &Result<CgroupBase, NoBase>,
    refused: Option<&crate::sys::SysError>,
    guarantee: Guarantee,
) -> Finding {
    let (what, unmounted) = match (base, refused) {
        (Err(NoBase::Unreadable(error)), _) => (format!("failed to {error}"), false),
        (Err(none), _) => (none.to_string(), true),
        (Ok(_), Some(error)) => (format!("failed to {error}"), false),
        (Ok(base), None) if guarantee.containment == Containment::CgroupSignal => {
            let what = format!("cgroup.kill is missing or fails in {}", base.dir.display());
            let change = "Linux 5.14 or newer has it; in a threaded cgroup it does not work: start \
                          the supervisor outside of one";
            return Finding {
                what,
                change: change.into(),
            };
        }
        (Ok(base), None) => (
            format!(
                "no process can be started in a cgroup below {}",
                base.dir.display()
            ),
            false,
        ),
    };
    let forbidden =
        |error: &&crate::sys::SysError| error.is(Errno::EACCES) || error.is(Errno::EPERM);
    let change = match surroundings {
        _ if refused.filter(forbidden).is_some() => {
            "run it as root, or in a cgroup that is delegated: `Delegate=yes` in its unit, or \
             `systemd-run --user --scope -p Delegate=yes nought init …`"
        }
        Surroundings::Pod => {
            "give the container `securityContext: {privileged: true}`, or use a runtime that makes \
             cgroups writable (containerd: cgroup_writable)"
        }
        Surroundings::Container => {
            "run the container with --privileged, or with a cgroup2 of its own that it may write: \
             --cgroupns=host -v /sys/fs/cgroup:/sys/fs/cgroup:rw"
        }
        Surroundings::Host if unmounted => {
            "mount cgroup2: `mount -t cgroup2 none /sys/fs/cgroup` (with systemd: boot with \
             systemd.unified_cgroup_hierarchy=1)"
        }
        Surroundings::Host => "see what the start-up test says",
    };
    Finding {
        what,
        change: change.into(),
    }
}

const CAP_SYS_ADMIN: u32 = 21;

fn no_marks(surroundings: Surroundings, scan: ScanQuality) -> Finding {
    if scan == ScanQuality::None {
        let what = mount::proc_is_complete()
            .err()
            .unwrap_or_else(|| "/proc cannot be read".into());
        let change = match surroundings {
            Surroundings::Host => {
                "mount /proc without hidepid, or run it as root with CAP_SYS_PTRACE"
            }
            _ => "mount a /proc of the container's own pid namespace, without hidepid",
        };
        return Finding {
            what,
            change: change.into(),
        };
    }
    let none_left = procfs::read_file(Path::new("/proc/sys/user/max_time_namespaces"))
        .is_ok_and(|text| text.trim_ascii() == b"0");
    let (what, change) = if !Path::new("/proc/self/ns/time").exists() {
        (
            "this kernel has no time namespaces, by which processes are marked",
            "Linux 5.6 or newer, with CONFIG_TIME_NS",
        )
    } else if none_left {
        (
            "no time namespace may be made, by which processes are marked",
            "raise user.max_time_namespaces (sysctl)",
        )
    } else if !procfs::has_capability(CAP_SYS_ADMIN) {
        let change = match surroundings {
            Surroundings::Host => "run it as root (CAP_SYS_ADMIN)",
            Surroundings::Container => {
                "run the container with --cap-add SYS_ADMIN, or --privileged"
            }
            Surroundings::Pod => {
                "add the capability: `securityContext: {capabilities: {add: [SYS_ADMIN]}}`, or privileged"
            }
        };
        ("without CAP_SYS_ADMIN processes cannot be marked", change)
    } else {
        (
            "processes cannot be marked here",
            "see the notes: a filter on system calls, or a security module, may refuse it",
        )
    };
    Finding {
        what: what.into(),
        change: change.into(),
    }
}
