//! The place we run in: our cgroups, what the start-up test found, and what follows from it.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use super::resources::Together;
use crate::core::{Containment, GenId, Guarantee, ScanQuality, Spec};
use crate::state::{Instance, Record, StateDir};
use crate::sys::kill::{KillHow, KillResult, kill_tree};
use crate::sys::limits;
use crate::sys::mount::{self, CgroupBase};
use crate::sys::selftest::{self, Abilities};
use crate::sys::spawn::SpawnMethod;
use crate::sys::{SysError, cgroup, clock, procfs, rlimit};

/// What we need ourselves, and a service or two beside.
pub(super) const FEW_OPEN_FILES: u64 = 64;

/// Where we are and what can be done here.
#[derive(Debug)]
pub(super) struct Place {
    /// The cgroup we were started in.
    base: Option<CgroupBase>,
    /// Our directory below it, which holds everything of ours.
    tree: Option<PathBuf>,
    /// A cgroup above those of all services, for what they may use together.
    pub(super) together: Option<Together>,
    abilities: Abilities,
    /// Names this supervisor in the environment of its processes.
    instance: String,
    pub(super) notes: Vec<String>,
    /// The inode number of our own time namespace.
    pub(super) own_mark: Option<u64>,
    /// Held while controllers are enabled.
    enabling: Mutex<()>,
}

impl Place {
    /// Makes our directory, moves us into its leaf, and tries everything out.
    ///
    /// The directory is written down first: killed before it has any record, the next
    /// supervisor still finds and removes it.
    ///
    /// Started from a service of the previous supervisor (a session of its sshd, say), we would
    /// live in what we are about to end: then we go to where that one was started.
    pub(super) fn find(state: &StateDir) -> Self {
        let previous = state.previous_instance();
        let instance = format!("{:x}-{:x}", clock::boot_now(), std::process::id());
        let mut notes = Vec::new();
        if let Ok(limit) = rlimit::open_files()
            && limit.soft < FEW_OPEN_FILES
        {
            notes.push(format!(
                "no more than {} open files are allowed here (RLIMIT_NOFILE), and services start \
                 or do not as there are any left: raise the limit to {FEW_OPEN_FILES} or more",
                limit.soft
            ));
        }
        let base = match mount::find_base() {
            Ok(base) => Some(outside_of(previous, &base).unwrap_or(base)),
            Err(error) => {
                notes.push(format!("no cgroup of our own: {error}"));
                None
            }
        };
        let tree = base
            .as_ref()
            .and_then(|base| match make_tree(base, &instance, state) {
                Ok(tree) => Some(tree),
                Err(error) => {
                    notes.push(format!("no cgroup of our own: failed to {error}"));
                    None
                }
            });
        let abilities = selftest::find_abilities(tree.as_deref(), Path::new("/proc/self/exe"));
        notes.extend(abilities.notes.iter().cloned());
        let mut place = Self {
            base,
            tree,
            together: None,
            abilities,
            instance,
            notes,
            own_mark: procfs::own_mark().ok(),
            enabling: Mutex::new(()),
        };
        if !place.has_cgroups()
            && let Some(tree) = place.tree.take()
        {
            place.leave(&tree);
        }
        place
    }

    /// What can be promised.
    pub(super) fn guarantee(&self) -> Guarantee {
        guarantee_of(&self.abilities)
    }

    /// Why this place does not do, where at least that is asked for.
    pub(super) fn refuses(&self, least: Guarantee) -> Option<String> {
        let here = self.guarantee();
        if here.meets(least) {
            return None;
        }
        let why = if self.notes.is_empty() {
            String::new()
        } else {
            format!(" ({})", self.notes.join("; "))
        };
        Some(format!(
            "refused to start: --min-guarantee asks for at least {least}, and this place offers \
             {here}{why}; see `nought doctor` for what to change"
        ))
    }

    /// Goes back to where we were started, and leaves nothing there.
    pub(super) fn abandon(&self) {
        if let Some(tree) = &self.tree {
            self.leave(tree);
        }
    }

    pub(super) fn has_cgroups(&self) -> bool {
        matches!(
            self.abilities.containment,
            selftest::Containment::CgroupKill | selftest::Containment::CgroupSignal
        )
    }

    pub(super) fn marks(&self) -> bool {
        self.abilities.scan == crate::sys::scan::Quality::Marked
    }

    pub(super) fn spawn_method(&self) -> SpawnMethod {
        self.abilities.spawn_method
    }

    /// Kills everything in a cgroup of ours, watching it for up to `settle`. If somebody has
    /// moved us there, we go back to our leaf first.
    pub(super) fn kill(&self, dir: &Path, settle: Duration) -> KillResult {
        let killed = kill_tree(dir, self.kill_how(), settle);
        if !killed.holds_us {
            return killed;
        }
        match self.come_home(dir) {
            Ok(()) => kill_tree(dir, self.kill_how(), settle),
            Err(error) => KillResult {
                error: Some(error),
                ..killed
            },
        }
    }

    /// Moves us back to our leaf, if we are in `dir`.
    pub(super) fn come_home(&self, dir: &Path) -> Result<(), SysError> {
        let Some(leaf) = self.leaf() else {
            return Ok(());
        };
        if !cgroup::procs_recursive(dir)?.contains(&std::process::id()) {
            return Ok(());
        }
        tracing::warn!("somebody has moved us into {}: moving back", dir.display());
        cgroup::move_self_to(&leaf)
    }

    fn kill_how(&self) -> KillHow {
        match self.abilities.containment {
            selftest::Containment::CgroupKill => KillHow::CgroupKill,
            _ => KillHow::FreezeAndSignal,
        }
    }

    /// One start at a time enables controllers.
    pub(super) fn enabling(&self) -> MutexGuard<'_, ()> {
        self.enabling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory that holds everything of ours.
    pub(super) fn tree(&self) -> Option<&Path> {
        self.tree.as_deref()
    }

    /// Whether our cgroups can still be reached: an ENOENT below them means nothing otherwise.
    pub(super) fn stands(&self) -> bool {
        self.leaf()
            .is_some_and(|leaf| leaf.join("cgroup.procs").exists())
    }

    /// The cgroup we live in.
    pub(super) fn leaf(&self) -> Option<PathBuf> {
        Some(self.tree.as_ref()?.join(SUPERVISOR))
    }

    /// The cgroup we were started in.
    pub(super) fn base(&self) -> Option<&Path> {
        self.base.as_ref().map(|base| base.dir.as_path())
    }

    /// A directory below the base as /proc/PID/cgroup names it.
    pub(super) fn path_in_proc(&self, dir: &Path) -> Option<String> {
        mount::path_in_proc(self.base.as_ref()?, dir)
    }

    /// Where a generation's cgroup is, or would be.
    pub(super) fn generation_dir(&self, service: &str, r#gen: GenId) -> Option<PathBuf> {
        let above = match &self.together {
            Some(together) => &together.dir,
            None => self.tree.as_ref()?,
        };
        Some(
            above
                .join(directory_name(service))
                .join(r#gen.0.to_string()),
        )
    }

    /// What a generation's processes have in their environment.
    pub(super) fn marker(&self, service: &str, r#gen: GenId) -> String {
        format!("{}/{service}/{}", self.instance, r#gen.0)
    }

    /// Makes a cgroup; one that is there already will do.
    pub(super) fn make_dir(&self, dir: &Path) -> Result<(), SysError> {
        match cgroup::make_dir(dir) {
            Err(error) if error.is(Errno::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Makes a generation's cgroup, and the service's above it where this is its first.
    pub(super) fn make_generation(&self, dir: &Path) -> Result<(), SysError> {
        if let Some(service) = dir.parent() {
            self.make_service(service)?;
        }
        cgroup::make_dir(dir)?;
        cgroup::make_dir(&dir.join("main"))
    }

    /// A service that is root may have limited or frozen its own directory: it is made anew for
    /// each start, or set right where a predecessor still stands in it.
    fn make_service(&self, service: &Path) -> Result<(), SysError> {
        match cgroup::make_dir(service) {
            Err(error) if error.is(Errno::EEXIST) && cgroup::is_unlimited(service) => return Ok(()),
            Err(error) if error.is(Errno::EEXIST) => {}
            other => return other,
        }
        tracing::warn!(
            "{} was limited or frozen, by the service as a rule: that is undone for this start",
            service.display()
        );
        // Nothing is removed that holds anything.
        let _ = std::fs::remove_dir(service);
        match cgroup::make_dir(service) {
            Err(error) if error.is(Errno::EEXIST) => {
                cgroup::unlimit(service);
                Ok(())
            }
            other => other,
        }
    }

    /// What is written down before a generation is started.
    pub(super) fn record(
        &self,
        spec: &Spec,
        r#gen: GenId,
        cgroup: Option<PathBuf>,
        marker: &str,
    ) -> Record {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Record {
            r#gen,
            service: spec.name.clone(),
            cgroup,
            base: self.base.as_ref().map(|base| base.dir.clone()),
            supervisor_pid: std::process::id(),
            stop_signal: spec.stop_signal.number(),
            reach: spec.signal_to,
            grace_ms: ms(spec.grace),
            exit_grace_ms: ms(spec.exit_grace),
            kill_timeout_ms: ms(spec.kill_timeout),
            after: spec.after.clone(),
            requires: spec.requires.clone(),
            spec_hash: spec_hash(spec),
            guarantee: self.guarantee().to_string(),
            env_marker: Some(format!("{}={marker}", super::births::MARKER)),
        }
    }

    /// Moves us back to where we were started and removes our directory; what could not be
    /// removed.
    pub(super) fn leave(&self, tree: &Path) -> Vec<String> {
        let Some(base) = &self.base else {
            return Vec::new();
        };
        // Where controllers are enabled nobody may live in the base: then our leaf stays until
        // we are gone, and the next start removes it.
        let together = self.together.iter().map(|together| together.dir.clone());
        let ours: Vec<PathBuf> = together.chain([tree.to_path_buf()]).collect();
        limits::withdraw(&ours);
        limits::undo(&base.dir);
        let moved = cgroup::move_self_to(&base.dir);
        match cgroup::remove_tree(tree) {
            cgroup::Removal::Removed => Vec::new(),
            cgroup::Removal::Busy { path } if moved.is_err() && path.ends_with(SUPERVISOR) => {
                Vec::new()
            }
            cgroup::Removal::Busy { path } => vec![path.display().to_string()],
            cgroup::Removal::Failed(error) => vec![error.what],
        }
    }
}

/// What can be promised with these abilities.
pub(super) fn guarantee_of(abilities: &Abilities) -> Guarantee {
    Guarantee {
        containment: match abilities.containment {
            selftest::Containment::CgroupKill => Containment::CgroupKill,
            selftest::Containment::CgroupSignal => Containment::CgroupSignal,
            selftest::Containment::Subreaper => Containment::Subreaper,
            selftest::Containment::ProcessGroup => Containment::ProcessGroup,
        },
        scan: match abilities.scan {
            crate::sys::scan::Quality::Marked => ScanQuality::Marked,
            crate::sys::scan::Quality::Descent => ScanQuality::Descent,
            crate::sys::scan::Quality::None => ScanQuality::None,
        },
    }
}

fn outside_of(previous: Option<&Instance>, base: &CgroupBase) -> Option<CgroupBase> {
    let previous = previous?;
    let inside = base.dir.starts_with(previous.cgroup_root.as_ref()?);
    base.above(previous.base.as_ref()?).filter(|_| inside)
}

/// Our own leaf, so that controllers can be enabled on the directory above it.
pub(super) const SUPERVISOR: &str = "supervisor";

fn make_tree(base: &CgroupBase, instance: &str, state: &StateDir) -> Result<PathBuf, SysError> {
    let tree = base.dir.join(format!("nought-{instance}"));
    if let Err(error) = state.begin_tree(&tree) {
        tracing::warn!("our cgroup is not recorded: {error}");
    }
    cgroup::make_dir(&tree)?;
    let leaf = tree.join(SUPERVISOR);
    let moved = cgroup::make_dir(&leaf).and_then(|()| cgroup::move_self_to(&leaf));
    if let Err(error) = moved {
        // What is left of it when even this fails is empty and harms nobody.
        let _ = cgroup::remove_tree(&tree);
        return Err(error);
    }
    Ok(tree)
}

/// A service's directory: its name, unless that is one of ours or of the kernel's. The kernel's
/// files all hold a dot, which no service's name does.
fn directory_name(service: &str) -> String {
    if service == SUPERVISOR {
        format!("{service}.service")
    } else {
        service.to_owned()
    }
}

/// Tells whether a service's definition has changed: FNV-1a over its words.
fn spec_hash(spec: &Spec) -> u64 {
    let text = format!("{spec:?}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}
