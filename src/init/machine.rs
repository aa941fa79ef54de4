//! Process 1 of a machine, from the kernel's hand-over to reboot(2). It never returns an error
//! and never ends but by the machine's end: the kernel panics when its process 1 does.

use std::process::ExitCode;
use std::time::Duration;

use super::last_time::LastTime;
use super::minimal::{self, Broke, Minimal, guarded};
use super::watchdog::{self, Petting};
use super::{Home, cmdline, early, end};
use crate::driver::{self, End, OnMachine, Options};
use crate::logs::{self, Sink};
use crate::sys::power::{Machine, Power};
use crate::sys::{clock, crash, last_resort};

/// How long after a shutdown's deadline the last resort acts.
const LAST_RESORT_AFTER: Duration = Duration::from_secs(30);
/// How long a machine whose supervisor cannot begin shows why before it reboots.
const REBOOT_AFTER: Duration = Duration::from_secs(10);

pub(super) fn run(machine: Machine, mut options: Options, home: &Home) -> ExitCode {
    let wrong = early::prepare(machine);
    let sink = driver::ready(home.debug).unwrap_or_else(|error| {
        // Most likely a wrong NOUGHT_LOG: then without what it would have shown.
        eprintln!("nought: {error:#}");
        Sink::stdio()
    });
    logs::copy_to_kernel();
    for guard in [crash::keep_alive(machine), last_resort::begin(machine)] {
        if let Err(error) = guard {
            tracing::error!("failed to {error}");
        }
    }
    for wrong in wrong {
        tracing::error!("{wrong}");
    }
    early::settle(machine);
    let asked = cmdline::read();
    if let Some(config) = asked.config {
        tracing::info!("services from {}", config.display());
        options.config = config;
    }
    let last_time = LastTime::look();
    let petting = home.watchdog.and_then(watchdog::begin);
    let deadline = options.deadline;
    let power = if asked.rescue {
        minimal::rescue_shell()
    } else {
        None
    };
    let (power, ended) = match power {
        Some(power) => (power, None),
        None => supervise(options, &sink, petting.as_ref(), asked.rescue),
    };
    last_time.over();
    // A shutdown has armed it already, and the earlier moment counts.
    let last = nanos_from_now(deadline + LAST_RESORT_AFTER);
    last_resort::arm(last, power);
    if let Some(petting) = &petting {
        petting.until(last);
    }
    loop {
        end::end(machine, power, ended.as_ref(), petting.as_ref(), &sink);
        // The kernel refused every way there is: whoever is asked again may have more luck.
        let _ = Minimal::begin().until_asked();
    }
}

/// Runs the supervisor; whatever becomes of it, what is to become of the machine.
fn supervise(
    mut options: Options,
    sink: &Sink,
    petting: Option<&Petting>,
    rescue: bool,
) -> (Power, Option<End>) {
    options.machine = Some(OnMachine {
        last_resort_after: LAST_RESORT_AFTER,
        beat: petting.map(Petting::by_loop),
    });
    match guarded(|| driver::run(&options, sink)) {
        Ok(Ok(end)) => match &end.because {
            Some(service) => {
                tracing::error!("{service} has ended, and everything with it");
                (nobody_asked(rescue, petting), Some(end))
            }
            None => (end.power, Some(end)),
        },
        Ok(Err(error)) => {
            if let Some(petting) = petting {
                petting.until(u64::MAX);
            }
            tracing::error!("the supervisor cannot begin: {error:#}");
            (cannot_begin(rescue), None)
        }
        Err(Broke) => {
            // Not petted: a machine with a watchdog is to be reset now.
            tracing::error!(
                "the supervisor broke: services run on, nobody supervises them; `nought reboot` \
                 or SIGINT to process 1 reboots, `nought poweroff` powers off"
            );
            (Minimal::begin().until_asked(), None)
        }
    }
}

/// Everything has stopped because of a service: a shell where one was asked for, and a new boot.
fn nobody_asked(rescue: bool, petting: Option<&Petting>) -> Power {
    if !rescue {
        return Power::Reboot;
    }
    if let Some(petting) = petting {
        petting.until(u64::MAX);
    }
    // The shutdown that is over has armed it.
    last_resort::disarm();
    minimal::rescue_shell().unwrap_or(Power::Reboot)
}

/// A shell where one was asked for; else the next boot may fare better.
fn cannot_begin(rescue: bool) -> Power {
    if rescue && let Some(power) = minimal::rescue_shell() {
        return power;
    }
    tracing::error!("rebooting in {} s", REBOOT_AFTER.as_secs());
    let minimal = Minimal::begin();
    let end = nanos_from_now(REBOOT_AFTER);
    while clock::boot_now() < end {
        if let Some(power) = minimal.turn(Duration::from_millis(100)) {
            return power;
        }
    }
    Power::Reboot
}

fn nanos_from_now(after: Duration) -> u64 {
    let after = clock::as_nanos(after);
    clock::boot_now().saturating_add(after)
}
