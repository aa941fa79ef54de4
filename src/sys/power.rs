//! The machine's power: reboot(2), and never from anything but process 1.

use nix::errno::Errno;
use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};
use nix::unistd::{Pid, getpid};

use super::SysError;

/// What becomes of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Power {
    /// Switch it off.
    Off,
    /// Start it again.
    Reboot,
    /// Stop it, power stays on.
    Halt,
    /// Start the kernel that was loaded for it (kexec_load(2)).
    Kexec,
}

impl Power {
    /// In words, to follow "to".
    pub fn as_str(self) -> &'static str {
        match self {
            Power::Off => "power off",
            Power::Reboot => "reboot",
            Power::Halt => "halt",
            Power::Kexec => "kexec",
        }
    }

    /// reboot(2)'s command.
    pub(super) fn mode(self) -> RebootMode {
        match self {
            Power::Off => RebootMode::RB_POWER_OFF,
            Power::Reboot => RebootMode::RB_AUTOBOOT,
            Power::Halt => RebootMode::RB_HALT_SYSTEM,
            Power::Kexec => RebootMode::RB_KEXEC,
        }
    }
}

/// Proof that we are process 1 of the initial pid namespace, so that the machine's mounts, swap
/// and power are ours to end: what does that takes one of these.
#[derive(Clone, Copy, Debug)]
pub struct Machine(());

/// The initial pid namespace's inode number, the same on every machine (PROC_PID_INIT_INO of
/// <linux/proc_ns.h>, since Linux 3.8).
const INITIAL_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

impl Machine {
    /// Takes the machine, if it is ours: Ctrl-Alt-Del sends us a SIGINT from now on instead of
    /// rebooting on the spot.
    ///
    /// That it succeeds is the proof. Below the initial pid namespace the kernel answers
    /// RB_DISABLE_CAD with EINVAL (reboot_pid_ns, kernel/pid_namespace.c) and changes nothing,
    /// whoever asks. /proc, where it is there, is the second witness.
    ///
    /// # Errors
    /// EPERM when we are not process 1 or may not reboot, EINVAL in a pid namespace.
    pub fn take() -> Result<Self, SysError> {
        only_as_init("take Ctrl-Alt-Del")?;
        set_cad_enabled(false)
            .map_err(|e| SysError::new("change the meaning of", "Ctrl-Alt-Del", e))?;
        match super::procfs::pid_namespace() {
            Ok(inode) if inode != INITIAL_PID_NAMESPACE => Err(SysError::because(
                "take over",
                "the machine",
                format!("our pid namespace is {inode}, which is not the initial one"),
            )),
            _ => Ok(Self(())),
        }
    }

    /// [`end_machine`], for a machine.
    pub fn end(self, power: Power) -> SysError {
        end_machine(power)
    }
}

/// Ends the machine, or the pid namespace whose first process we are (reboot(2): there, the
/// namespace's init dies by SIGHUP for a reboot and by SIGINT otherwise). Nothing is synced or
/// unmounted here. Returns only to say why it did not: EPERM without CAP_SYS_BOOT, or always
/// when we are not process 1; EINVAL for kexec in a pid namespace or without a kernel loaded.
pub fn end_machine(power: Power) -> SysError {
    let what = power.as_str();
    if let Err(refused) = only_as_init(what) {
        return refused;
    }
    match reboot(power.mode()) {
        Ok(never) => match never {},
        Err(e) => SysError::new("end the machine by", what, e),
    }
}

fn only_as_init(what: &str) -> Result<(), SysError> {
    if getpid() == Pid::from_raw(1) {
        return Ok(());
    }
    let mut error = SysError::new("use reboot(2) to", what, Errno::EPERM);
    error.why = format!("only process 1 may, and this is process {}", getpid());
    Err(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_process_1_takes_or_ends_a_machine() {
        // This test is never process 1 of a machine; were it, it would not get here.
        assert_ne!(std::process::id(), 1);
        assert!(Machine::take().unwrap_err().is(Errno::EPERM));
        for power in [Power::Off, Power::Reboot, Power::Halt, Power::Kexec] {
            assert!(end_machine(power).is(Errno::EPERM));
        }
    }
}
