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
}

/// Ends the machine, or the pid namespace whose first process we are (reboot(2): there, the
/// namespace's init dies by SIGHUP for a reboot and by SIGINT otherwise). Nothing is synced or
/// unmounted here. Returns only to say why it did not: EPERM without CAP_SYS_BOOT, or always
/// when we are not process 1.
pub fn end_machine(power: Power) -> SysError {
    let what = match power {
        Power::Off => "power off",
        Power::Reboot => "reboot",
        Power::Halt => "halt",
    };
    if let Err(refused) = only_as_init(what) {
        return refused;
    }
    let mode = match power {
        Power::Off => RebootMode::RB_POWER_OFF,
        Power::Reboot => RebootMode::RB_AUTOBOOT,
        Power::Halt => RebootMode::RB_HALT_SYSTEM,
    };
    match reboot(mode) {
        Ok(never) => match never {},
        Err(e) => SysError::new("end the machine by", what, e),
    }
}

/// Has Ctrl-Alt-Del send process 1 a SIGINT instead of rebooting on the spot
/// (RB_DISABLE_CAD). Refused when we are not process 1; EINVAL in a pid namespace, where there
/// is no such key.
pub fn take_ctrl_alt_del() -> Result<(), SysError> {
    only_as_init("take Ctrl-Alt-Del")?;
    set_cad_enabled(false).map_err(|e| SysError::new("change the meaning of", "Ctrl-Alt-Del", e))
}

fn only_as_init(what: &str) -> Result<(), SysError> {
    if getpid() == Pid::from_raw(1) {
        return Ok(());
    }
    let mut error = SysError::new("use reboot(2) to", what, Errno::EPERM);
    error.why = format!("only process 1 may, and this is process {}", getpid());
    Err(error)
}
