//! Swap off and file systems unmounted, in the reverse of the order in which they came; what is
//! busy is made read-only, or frozen, and goes lazily as the last resort; what hangs is left.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::bounded::bounded;
use super::receipt::{DIR, Receipt};
use super::sweep;
use crate::sys::mount::MountEntry;
use crate::sys::power::Machine;
use crate::sys::{SysError, clock, end};

/// How long one call may take, and all of one step.
const CALL: Duration = Duration::from_secs(3);
const STEP: Duration = Duration::from_secs(8);
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

/// The end of what is mounted.
pub(super) struct FileSystems<'a> {
    machine: Machine,
    receipt: &'a mut Receipt,
    hung: BTreeSet<PathBuf>,
    /// The devices in use when it began.
    devices: usize,
    began: u64,
}

/// Switches every swap off; the step's line.
pub(super) fn swap_off(machine: Machine, receipt: &mut Receipt) -> String {
    let swaps = end::swaps();
    let mut off = 0;
    for swap in &swaps {
        let path = swap.clone();
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

impl<'a> FileSystems<'a> {
    pub(super) fn new(machine: Machine, receipt: &'a mut Receipt) -> Self {
        Self {
            machine,
            receipt,
            hung: BTreeSet::new(),
            devices: end::stacked().len(),
            began: clock::boot_now(),
        }
    }

    /// Unmounts everything but the root and what the receipt is on.
    pub(super) fn unmount(&mut self) -> String {
        let kept = self.receipts_mount();
        let busy = self.passes(kept.as_deref());
        for (mount, error) in busy {
            self.by_force(&mount, &error);
        }
        let mut text = format!("{} unmounted", self.receipt.unmounted.len());
        for (list, how) in [
            (&self.receipt.lazily, "lazily"),
            (&self.receipt.hung, "hung"),
        ] {
            if !list.is_empty() {
                text.push_str(&format!(", {how}: {}", list.join(", ")));
            }
        }
        text
    }

    /// Takes apart what loop and device-mapper devices are left; unmounted file systems free
    /// them, and they free file systems, so that most are gone already.
    pub(super) fn detach(&mut self) -> String {
        self.detach_pass();
        let left = end::stacked();
        for device in &left {
            trouble(self.receipt, format!("still in use: {device}"));
        }
        match (self.devices.saturating_sub(left.len()), left.len()) {
            (0, 0) => "none in use".to_owned(),
            (gone, 0) => format!("{gone} detached"),
            (gone, left) => format!("{gone} detached, {left} still in use"),
        }
    }

    /// The receipt is written: what it was on goes too.
    pub(super) fn unmount_receipts(&mut self) {
        if self.receipts_mount().is_some() {
            let busy = self.passes(None);
            for (mount, error) in busy {
                self.by_force(&mount, &error);
            }
        }
    }

    /// The mount that the receipt is on, if that is one that goes.
    fn receipts_mount(&self) -> Option<PathBuf> {
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

    fn candidates(&self, kept: Option<&Path>) -> Vec<MountEntry> {
        let mut mounts = end::mounts().unwrap_or_default();
        mounts.reverse();
        mounts.retain(|mount| {
            let point = mount.mount_point.as_path();
            // What the receipt's mount stands on stays below it.
            let holds_kept = kept.is_some_and(|kept| kept.starts_with(point));
            !INTERFACES.contains(&mount.fstype.as_str())
                && !KEPT.iter().any(|kept| point == Path::new(kept))
                && !holds_kept
                && !self.hung.iter().any(|hung| hung.starts_with(point))
        });
        mounts
    }

    /// Unmounts, and takes devices apart, again and again while that frees something. What is
    /// left, with the reason.
    fn passes(&mut self, kept: Option<&Path>) -> Vec<(MountEntry, SysError)> {
        let mut busy = Vec::new();
        for _ in 0..PASSES {
            busy.clear();
            let mut progress = false;
            for mount in self.candidates(kept) {
                let (machine, path) = (self.machine, mount.mount_point.clone());
                match call(move || end::unmount(machine, &path, false)) {
                    Came::Done => {
                        progress = true;
                        let point = mount.mount_point.display().to_string();
                        self.receipt.unmounted.push(point);
                    }
                    Came::Failed(error) => busy.push((mount, error)),
                    Came::Hung => self.on_hung(&mount, "unmount"),
                }
                if self.out_of_time() {
                    return busy;
                }
            }
            progress |= self.detach_pass();
            if !progress {
                break;
            }
        }
        busy
    }

    fn out_of_time(&self) -> bool {
        Duration::from_nanos(clock::boot_now().saturating_sub(self.began)) > STEP
    }

    fn detach_pass(&mut self) -> bool {
        let mut progress = false;
        for device in end::stacked() {
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

    fn on_hung(&mut self, mount: &MountEntry, doing: &str) {
        let point = mount.mount_point.display();
        self.receipt.hung.push(point.to_string());
        trouble(
            self.receipt,
            format!(
                "hung: {doing} {point} ({}): no answer in {} s",
                mount.fstype,
                CALL.as_secs()
            ),
        );
        self.hung.insert(mount.mount_point.clone());
    }

    /// Somebody uses it, and nobody is there any more to ask: its data is made safe, and it goes
    /// when they go.
    fn by_force(&mut self, mount: &MountEntry, error: &SysError) {
        let point = &mount.mount_point;
        let left: Vec<u32> = self.receipt.survivors.iter().map(|s| s.pid).collect();
        let users = sweep::users_of(point, &left).unwrap_or_default();
        let users = match users.len() {
            0 => String::new(),
            _ => format!(", used by {}", users.join(", ")),
        };
        let safe = match make_safe(self.machine, point) {
            Ok(how) => how.to_owned(),
            Err(why) => why,
        };
        let (machine, path) = (self.machine, point.clone());
        match call(move || end::unmount(machine, &path, true)) {
            Came::Done => {
                self.receipt.lazily.push(point.display().to_string());
                trouble(
                    self.receipt,
                    format!("failed to {error}{users}: {safe}, unmounted lazily"),
                );
            }
            Came::Failed(lazily) => trouble(
                self.receipt,
                format!("failed to {error}{users}: {safe}, and failed to {lazily}"),
            ),
            Came::Hung => self.on_hung(mount, "lazily unmount"),
        }
    }
}

/// Read-only, or frozen where a file is still open for writing or was removed while it was open
/// (our own program, after an upgrade): either way everything is written out.
pub(super) fn make_safe(machine: Machine, path: &Path) -> Result<&'static str, String> {
    let own = path.to_path_buf();
    let refused = match call(move || end::make_read_only(machine, &own)) {
        Came::Done => return Ok("read-only"),
        Came::Failed(error) => format!("failed to {error}"),
        Came::Hung => "hung while made read-only".to_owned(),
    };
    let own = path.to_path_buf();
    match call(move || end::freeze(machine, &own)) {
        Came::Done => Ok("frozen with everything written out (it could not be made read-only)"),
        Came::Failed(error) => Err(format!("{refused}, and failed to {error}")),
        Came::Hung => Err(format!("{refused}, and it hung while it was frozen")),
    }
}
