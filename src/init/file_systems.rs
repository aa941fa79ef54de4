//! Swap off and file systems unmounted, in the reverse of the order in which they came; what is
//! left after that is made read-only, or frozen, all at a time (`rest`), and goes lazily as the
//! last resort. What hangs is left. All of it is bounded, and whatever stays writable is named.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bounded::bounded;
use super::receipt::{DIR, Receipt};
use super::rest::{self, Rest};
use super::sweep;
use crate::sys::mount::MountEntry;
use crate::sys::power::Machine;
use crate::sys::{SysError, clock, end, last_resort};

/// How long one call may take, and all of one step.
const CALL: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_secs(8);
/// How long making safe all that is left may take.
const SAFE: Duration = Duration::from_secs(6);
/// What is kept of the time before the last resort acts, for the steps after the file systems;
/// and what making them safe has even when that time is short.
const RESERVE: Duration = Duration::from_secs(12);
const LEAST: Duration = Duration::from_secs(1);
/// Loops on devices on loops: nobody has more layers.
const PASSES: u32 = 10;

/// Kernel interfaces: nothing is written to a disk through them, and some are needed to the end.
const INTERFACES: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "hugetlbfs",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "rootfs",
    "securityfs",
    "selinuxfs",
    "sysfs",
    "tracefs",
];
/// In memory, and ours to the end.
const KEPT: &[&str] = &["/", "/run", "/dev/shm"];

/// One call on one thing: what came of it.
enum Came {
    Done,
    Failed(SysError),
    Hung,
}

fn call(work: impl FnOnce() -> Result<(), SysError> + Send + 'static) -> Came {
    match bounded(CALL, work) {
        Some(Ok(())) => Came::Done,
        Some(Err(error)) => Came::Failed(error),
        None => Came::Hung,
    }
}

/// `bound`, or what the last resort leaves of it.
fn within(bound: Duration) -> Duration {
    let left = last_resort::left().map_or(bound, |left| left.saturating_sub(RESERVE));
    bound.min(left).max(LEAST)
}

/// The time of one step.
struct Step {
    began: u64,
    bound: Duration,
}

impl Step {
    fn begin(bound: Duration) -> Self {
        Self {
            began: clock::boot_now(),
            bound: within(bound),
        }
    }

    fn over(&self) -> bool {
        clock::since(self.began) > self.bound
    }
}

/// The end of what is mounted.
pub(super) struct FileSystems {
    machine: Machine,
    /// What did not answer: nothing more is asked of it.
    hung: BTreeSet<PathBuf>,
    /// The devices in use when it began.
    devices: usize,
}

/// Switches every swap off; the step's line.
pub(super) fn swap_off(machine: Machine, receipt: &mut Receipt) -> String {
    let swaps = end::swaps();
    let step = Step::begin(STEP);
    let mut off = 0;
    for swap in &swaps {
        let path = swap.clone();
        if step.over() {
            trouble(
                receipt,
                format!("swap on {} was left on for want of time", path.display()),
            );
            continue;
        }
        match call(move || end::swap_off(machine, &path)) {
            Came::Done => off += 1,
            Came::Failed(error) => trouble(receipt, format!("failed to {error}")),
            Came::Hung => trouble(
                receipt,
                format!(
                    "swap on {} is not off after {} s",
                    swap.display(),
                    CALL.as_secs()
                ),
            ),
        }
    }
    match swaps.len() {
        0 => "none in use".to_owned(),
        all => format!("{off} of {all} switched off"),
    }
}

fn trouble(receipt: &mut Receipt, text: String) {
    tracing::error!("  {text}");
    receipt.trouble.push(text);
}

impl FileSystems {
    pub(super) fn new(machine: Machine) -> Self {
        Self {
            machine,
            hung: BTreeSet::new(),
            devices: end::stacked().len(),
        }
    }

    /// Unmounts everything but the root and what the receipt is on.
    pub(super) fn unmount(&mut self, receipt: &mut Receipt) -> String {
        let kept = receipts_mount();
        self.all(kept.as_deref(), receipt);
        let mut text = format!("{} unmounted", receipt.unmounted.len());
        for (list, how) in [(&receipt.lazily, "lazily"), (&receipt.hung, "hung")] {
            if !list.is_empty() {
                text.push_str(&format!(", {how}: {}", list.join(", ")));
            }
        }
        text
    }

    /// Takes apart what loop and device-mapper devices are left; unmounted file systems free
    /// them, and they free file systems, so that most are gone already.
    pub(super) fn detach(&mut self, receipt: &mut Receipt) -> String {
        self.detach_pass(&Step::begin(STEP));
        let left = end::stacked();
        for device in &left {
            trouble(receipt, format!("still in use: {device}"));
        }
        match (self.devices.saturating_sub(left.len()), left.len()) {
            (0, 0) => "none in use".to_owned(),
            (gone, 0) => format!("{gone} detached"),
            (gone, left) => format!("{gone} detached, {left} still in use"),
        }
    }

    /// The receipt is written: what it was on goes too.
    pub(super) fn unmount_receipts(&mut self, receipt: &mut Receipt) {
        if receipts_mount().is_some() {
            self.all(None, receipt);
        }
    }

    /// Unmounts what goes, and makes safe what does not.
    fn all(&mut self, kept: Option<&Path>, receipt: &mut Receipt) {
        let why = self.passes(kept, receipt);
        let mounts = mounted(receipt);
        // The root's turn, and the receipt's, is later: their other mounts must not end it.
        let later: BTreeSet<(u32, u32)> = mounts
            .iter()
            .filter(|mount| {
                Some(mount.mount_point.as_path()) == kept || mount.mount_point == Path::new("/")
            })
            .map(|mount| mount.device)
            .collect();
        let mut left = candidates(mounts, kept);
        left.retain(|mount| !self.hung.contains(&mount.mount_point));
        // While they are where they were: of a mount that is gone nobody can tell who uses it.
        let pids: Vec<u32> = receipt.survivors.iter().map(|s| s.pid).collect();
        let points = left.iter().map(|mount| mount.mount_point.clone());
        let users: BTreeMap<PathBuf, Vec<String>> = points
            .map(|point| {
                let users = sweep::users_of(&point, &pids).unwrap_or_default();
                (point, users)
            })
            .collect();
        let rests = rest::make_safe(self.machine, left, &later, within(SAFE), within(CALL));
        for rest in rests {
            let users = users.get(&rest.mount.mount_point);
            self.name(&rest, &why, users.map_or(&[], Vec::as_slice), receipt);
        }
    }

    /// Says what became of one that could not be unmounted: nobody is there any more to ask, and
    /// it goes when they go who use it.
    fn name(
        &mut self,
        rest: &Rest,
        why: &BTreeMap<PathBuf, SysError>,
        users: &[String],
        receipt: &mut Receipt,
    ) {
        let point = rest.mount.mount_point.as_path();
        let hung_below = self.hung.iter().find(|hung| hung.starts_with(point));
        let reason = match (why.get(point), hung_below) {
            (_, Some(hung)) => format!("{} holds {}, which hangs", point.display(), hung.display()),
            (Some(error), None) => format!("failed to {error}"),
            (None, None) => format!("{} was not unmounted in time", point.display()),
        };
        let users = match users.len() {
            0 => String::new(),
            _ => format!(", used by {}", users.join(", ")),
        };
        let lazily = match &rest.lazily {
            Some(Ok(())) => {
                receipt.lazily.push(point.display().to_string());
                "unmounted lazily".to_owned()
            }
            Some(Err(error)) => format!("and failed to {error}"),
            None => "and hung while it was unmounted lazily".to_owned(),
        };
        trouble(receipt, format!("{reason}{users}: {}, {lazily}", rest.safe));
        if rest.hung {
            receipt.hung.push(point.display().to_string());
            self.hung.insert(point.to_path_buf());
        }
    }

    /// Unmounts, and takes devices apart, again and again while that frees something. Why the
    /// rest was refused, by mount point.
    fn passes(
        &mut self,
        kept: Option<&Path>,
        receipt: &mut Receipt,
    ) -> BTreeMap<PathBuf, SysError> {
        let step = Step::begin(STEP);
        let mut why = BTreeMap::new();
        for _ in 0..PASSES {
            let mut progress = false;
            let mut mounts = candidates(mounted(receipt), kept);
            // It cannot go before what hangs on it.
            mounts.retain(|mount| {
                !self
                    .hung
                    .iter()
                    .any(|hung| hung.starts_with(&mount.mount_point))
            });
            for mount in mounts {
                if step.over() {
                    return why;
                }
                let (machine, path) = (self.machine, mount.mount_point.clone());
                match call(move || end::unmount(machine, &path, false)) {
                    Came::Done => {
                        progress = true;
                        let point = mount.mount_point.display().to_string();
                        receipt.unmounted.push(point);
                    }
                    Came::Failed(error) => {
                        why.insert(mount.mount_point, error);
                    }
                    Came::Hung => self.on_hung(mount, receipt),
                }
            }
            progress |= self.detach_pass(&step);
            if !progress {
                break;
            }
        }
        why
    }

    fn detach_pass(&mut self, step: &Step) -> bool {
        let mut progress = false;
        for device in end::stacked() {
            if step.over() {
                break;
            }
            let machine = self.machine;
            let gone = {
                let device = device.clone();
                call(move || end::detach(machine, &device))
            };
            // A loop in use says yes and goes when it is free.
            if matches!(gone, Came::Done) && !end::stacked().contains(&device) {
                progress = true;
            }
        }
        progress
    }

    fn on_hung(&mut self, mount: MountEntry, receipt: &mut Receipt) {
        let point = mount.mount_point.display();
        receipt.hung.push(point.to_string());
        trouble(
            receipt,
            format!(
                "hung: unmount {point} ({}): no answer in {} s",
                mount.fstype,
                CALL.as_secs()
            ),
        );
        self.hung.insert(mount.mount_point);
    }
}

/// What is mounted; that nobody can know it is said once.
fn mounted(receipt: &mut Receipt) -> Vec<MountEntry> {
    end::mounts().unwrap_or_else(|error| {
        let text = format!("what is mounted stays as it is: failed to {error}");
        if !receipt.trouble.contains(&text) {
            trouble(receipt, text);
        }
        Vec::new()
    })
}

/// The mount that the receipt is on, if that is one that goes.
fn receipts_mount() -> Option<PathBuf> {
    let mounts = end::mounts().unwrap_or_default();
    let mut holding: Vec<&Path> = mounts
        .iter()
        .map(|mount| mount.mount_point.as_path())
        .filter(|point| Path::new(DIR).starts_with(point))
        .collect();
    holding.sort_by_key(|point| point.components().count());
    let found = holding.last()?.to_path_buf();
    (!KEPT.iter().any(|kept| found == Path::new(kept))).then_some(found)
}

/// Of `mounts` what is to go, the last first. What the receipt's mount stands on stays below it.
fn candidates(mut mounts: Vec<MountEntry>, kept: Option<&Path>) -> Vec<MountEntry> {
    mounts.reverse();
    mounts.retain(|mount| {
        let point = mount.mount_point.as_path();
        let holds_kept = kept.is_some_and(|kept| kept.starts_with(point));
        !INTERFACES.contains(&mount.fstype.as_str())
            && !KEPT.iter().any(|kept| point == Path::new(kept))
            && !holds_kept
    });
    mounts
}
