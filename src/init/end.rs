//! The end of a machine, step by step: each bounded, each named on the console. Nothing that
//! hangs or refuses keeps the next step from coming; should one hang beyond all bounds, the last
//! resort calls reboot(2).

use std::path::Path;
use std::time::Duration;

use super::bounded::bounded;
use super::file_systems::{self, FileSystems};
use super::minimal::Minimal;
use super::receipt::Receipt;
use super::rest;
use super::sweep;
use super::watchdog::Petting;
use crate::driver::End;
use crate::logs::Sink;
use crate::sys::power::{Machine, Power};
use crate::sys::{clock, early, end, last_resort};

const STEPS: u32 = 7;
/// How long everything may take to reach the disks, the receipt its own, and the last lines the
/// console.
const SYNC: Duration = Duration::from_secs(5);
const ROOT: Duration = Duration::from_secs(5);
const RECEIPT: Duration = Duration::from_secs(2);
const LAST_LINES: Duration = Duration::from_secs(1);

/// Says what a step did.
struct Steps {
    at: u32,
    began: u64,
}

impl Steps {
    fn say(&mut self, text: &str) {
        self.at += 1;
        let now = clock::boot_now();
        let took = Duration::from_nanos(now.saturating_sub(self.began));
        self.began = now;
        tracing::info!(
            "end {}/{STEPS}: {text} ({:.2} s)",
            self.at,
            took.as_secs_f64()
        );
    }
}

/// Ends the machine. Returns only when the kernel refuses.
pub(super) fn end(
    machine: Machine,
    power: Power,
    ended: Option<&End>,
    petting: Option<&Petting>,
    sink: &Sink,
) {
    let minimal = Minimal::begin();
    let began = clock::boot_now();
    let mut steps = Steps { at: 0, began };
    let mut receipt = Receipt::new(power, ended);
    let text = sweep::sweep(machine, &minimal, &mut receipt);
    steps.say(&format!("processes: {text}"));
    // Whatever hangs from here on, this much is known.
    store(&mut receipt, began);
    steps.say(&format!(
        "swap: {}",
        file_systems::swap_off(machine, &mut receipt)
    ));
    let mut file_systems = FileSystems::new(machine);
    steps.say(&format!(
        "file systems: {}",
        file_systems.unmount(&mut receipt)
    ));
    steps.say(&format!(
        "loop and device-mapper devices: {}",
        file_systems.detach(&mut receipt)
    ));
    store(&mut receipt, began);
    file_systems.unmount_receipts(&mut receipt);
    steps.say(&format!("root: {}", root(machine)));
    let synced = bounded(SYNC, nix::unistd::sync);
    steps.say(match synced {
        Some(()) => "sync: everything is written out",
        None => "sync: HUNG: not everything is written out",
    });
    if power == Power::Halt
        && let Some(petting) = petting
    {
        petting.disarm();
    }
    steps.say(power.as_str());
    sink.flush(LAST_LINES);
    bounded(LAST_LINES, early::drain_console);
    last_resort::reboot_is_called();
    let mut refused = machine.end(power);
    if power == Power::Kexec {
        tracing::error!("failed to {refused}: rebooting instead");
        sink.flush(LAST_LINES);
        refused = machine.end(Power::Reboot);
    }
    tracing::error!("failed to {refused}");
}

/// Writes the receipt, if that goes.
fn store(receipt: &mut Receipt, began: u64) {
    receipt.elapsed_ms = clock::boot_now().saturating_sub(began) / 1_000_000;
    let text = receipt.to_line();
    let trouble = match bounded(RECEIPT, move || Receipt::write(&text)) {
        Some(Ok(())) => return,
        Some(Err(error)) => format!("failed to {error}"),
        None => "the receipt is not written: its file system hangs".to_owned(),
    };
    tracing::error!("  {trouble}");
    receipt.trouble.push(trouble);
}

/// Makes the root read-only; what it is in memory needs nothing.
fn root(machine: Machine) -> String {
    let root = Path::new("/");
    let mounts = end::mounts().unwrap_or_default();
    let on = mounts.iter().rfind(|mount| mount.mount_point == root);
    match on {
        Some(mount) if matches!(mount.fstype.as_str(), "rootfs" | "tmpfs" | "ramfs") => {
            "in memory".to_owned()
        }
        Some(mount) if mount.read_only => "read-only before".to_owned(),
        _ => match bounded(ROOT, move || rest::safe(machine, Path::new("/"))) {
            Some(Ok(how)) => how.to_owned(),
            Some(Err(why)) => {
                tracing::error!("  {why}");
                "STILL WRITABLE".to_owned()
            }
            None => "STILL WRITABLE: it hung".to_owned(),
        },
    }
}
