//! Ways in which a machine ends, and that each is told from the others.

use std::time::Duration;

use serde_json::json;

use crate::debian::Disk;
use crate::machine::{End, Machine};
use crate::tiny;

/// What every orderly end says, in this order.
fn assert_orderly(said: &str, last: &str) {
    let steps = [
        "verified: every service is gone, nothing is left",
        "end 1/7: processes: 0 asked, 0 killed, nobody is left",
        "end 2/7: swap: ",
        "end 3/7: file systems: ",
        "end 4/7: loop and device-mapper devices: ",
        "end 5/7: root: ",
        "end 6/7: sync: everything is written out",
        last,
    ];
    let mut rest = said;
    for step in steps {
        let at = rest.find(step);
        let at = at.unwrap_or_else(|| panic!("no {step:?} in its place:\n{said}"));
        rest = &rest[at..];
    }
    assert!(!said.contains("ERROR"), "{said}");
}

#[test]
fn poweroff_switches_the_machine_off() {
    let mut machine = tiny::booted("poweroff", "");
    machine.type_line("/sbin/poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    assert_orderly(&said, "end 7/7: power off");
}

#[test]
fn reboot_resets_the_machine() {
    let mut machine = tiny::booted("reboot", "");
    machine.type_line("nought reboot");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
    assert_orderly(&said, "end 7/7: reboot");
}

#[test]
fn halt_stops_the_machine_and_leaves_the_power_on() {
    let mut machine = tiny::booted("halt", "");
    machine.type_line("/sbin/shutdown -H now");
    machine.expect("reboot: System halted");
    assert!(machine.runs_on_for(Duration::from_secs(1)), "it ended");
    let said = machine.said();
    assert_orderly(&said, "end 7/7: halt");
    assert!(!said.contains("Kernel panic"), "{said}");
}

#[test]
fn a_signal_halts_the_machine_too() {
    let mut machine = tiny::booted("halt by signal", "");
    machine.type_line("kill -37 1");
    machine.expect("reboot: System halted");
    assert!(machine.runs_on_for(Duration::from_secs(1)), "it ended");
    assert_orderly(&machine.said(), "end 7/7: halt");
}

#[test]
fn ctrl_alt_del_reboots_in_order() {
    let mut machine = tiny::booted("ctrl-alt-del", "");
    machine.send_keys("ctrl-alt-delete");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
    assert!(said.contains("SIGINT: shutting down"), "{said}");
    assert_orderly(&said, "end 7/7: reboot");
}

#[test]
fn signals_to_process_1_end_the_machine() {
    for (signal, end, last) in [
        ("PWR", End::PoweredOff, "end 7/7: power off"),
        ("38", End::PoweredOff, "end 7/7: power off"),
        ("39", End::Rebooted, "end 7/7: reboot"),
    ] {
        let mut machine = tiny::booted("signal", "");
        // A closed terminal is no reason to end a machine.
        machine.run("kill -HUP 1; kill -QUIT 1");
        machine.type_line(&format!("kill -{signal} 1"));
        let (how, said) = machine.end();
        assert_eq!(how, end, "{signal}: {said}");
        assert_eq!(
            said.matches("ignored, process 1 of a machine stays")
                .count(),
            2
        );
        assert_orderly(&said, last);
    }
}

/// Breaks process 1 of a running machine with a signal that would end any other program.
fn broken(signal: &str) -> Machine {
    let mut machine = tiny::booted("broken", "");
    machine.type_line(&format!("kill -{signal} 1"));
    machine.expect("process 1 is broken: services run on");
    machine
}

#[test]
fn a_broken_process_1_panics_no_kernel_reaps_and_reboots() {
    for signal in ["SEGV", "ABRT"] {
        let mut machine = broken(signal);
        machine.run(
            "for i in 1 2 3 4 5; do (sleep 0.1 &) ; done; \
             while ps -o args | grep -q '^sleep 0[.]1'; do sleep 0.2; done; \
             for i in $(seq 300); do ps -o stat | grep -q ^Z || break; sleep 0.1; done",
        );
        let zombies = machine.answer("ps -o stat,comm | grep -c ^Z");
        assert_eq!(zombies, "0", "orphans are not reaped");
        machine.type_line("/sbin/reboot");
        let (end, said) = machine.end();
        assert_eq!(end, End::Rebooted, "{said}");
        assert!(
            said.contains("ending the machine without its supervisor"),
            "{said}"
        );
        // Nobody waited for an answer that cannot come.
        assert!(said.contains("cannot reach a supervisor"), "{said}");
        assert!(!said.contains("did not answer"), "{said}");
    }
}

#[test]
fn a_broken_process_1_still_takes_ctrl_alt_del() {
    let mut machine = broken("BUS");
    machine.send_keys("ctrl-alt-delete");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
}

#[test]
fn a_supervisor_that_cannot_begin_says_why_and_reboots() {
    let initrd = tiny::initrd("cannot-begin", &[]);
    let mut machine = tiny::boot(
        "cannot-begin",
        &initrd,
        "nought.rescue NOUGHT_SOCKET=/proc/no/such",
    );
    // The shell before anything is started, then the one because nothing can be.
    machine.expect("nought rescue #");
    machine.type_line("exit");
    machine.expect("the supervisor cannot begin: failed to resolve");
    machine.expect("nought rescue #");
    machine.type_line("exit");
    machine.expect("rebooting in 10 s");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
}

#[test]
fn a_rescue_shell_comes_before_any_service_and_can_end_the_machine() {
    let initrd = tiny::initrd("rescue", &[]);
    let mut machine = tiny::boot("rescue", &initrd, "nought.rescue");
    machine.expect("nought rescue #");
    // With job control: the console is its controlling terminal.
    let said = machine.run("ls /run/nought.sock; tty");
    assert!(said.contains("No such file"), "{said}");
    machine.type_line("exit");
    machine.expect("every service is up");
    machine.expect("# ");
    machine.type_line("/sbin/poweroff");
    assert_eq!(machine.end().0, End::PoweredOff);

    let mut machine = tiny::boot("rescue-reboot", &initrd, "nought.rescue");
    machine.expect("nought rescue #");
    machine.type_line("/sbin/reboot");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
    assert!(!said.contains("every service is up"), "{said}");
}

#[test]
fn the_power_button_of_qmp_reaches_nobody_and_the_machine_goes_on() {
    // ACPI's button is an input device (KEY_POWER), read by a service where one wants it.
    let mut machine = tiny::booted("button", "");
    machine.tell(&json!({"execute": "system_powerdown"}));
    assert_eq!(machine.answer("echo still here"), "still here");
    machine.type_line("/sbin/poweroff");
    assert_eq!(machine.end().0, End::PoweredOff);
}

/// Its end stops everything.
const VITAL: (&str, &str) = (
    "vital",
    "exec: sh -c 'until test -e /go; do sleep 0.2; done; exit 3'\nrestart: never\n\
     on_failure: stop_all\n",
);

#[test]
fn the_end_of_a_service_that_stops_everything_leads_to_the_rescue_shell_or_a_reboot() {
    let initrd = tiny::initrd("vital", &[VITAL]);
    for (append, rescue) in [("nought.rescue", true), ("", false)] {
        let mut machine = tiny::boot("vital", &initrd, append);
        if rescue {
            machine.expect("nought rescue #");
            machine.type_line("exit");
        }
        machine.expect("every service is up");
        machine.expect("# ");
        machine.type_line("touch /go");
        machine.expect("vital has ended, and everything with it");
        if rescue {
            machine.expect("nought rescue #");
            let left = machine.answer("ps -o args | grep -c '^sleep 100000'");
            assert_eq!(left, "0", "services still run");
            machine.type_line("exit");
        }
        let (end, said) = machine.end();
        assert_eq!(end, End::Rebooted, "{said}");
        assert_eq!(said.contains("nought rescue #"), rescue, "{said}");
        assert!(said.contains("end 7/7: reboot"), "{said}");
    }
}

#[test]
fn kexec_starts_the_kernel_that_was_loaded_from_a_clean_disk_and_is_refused_without_one() {
    let disk = Disk::new();
    let mut machine = disk.booted("kexec");
    let said = machine.run("nought kexec");
    assert!(said.contains("there is no kernel to start"), "{said}");
    let loaded = machine.answer(
        "kexec -l /boot/vmlinuz --command-line=\"$(cat /proc/cmdline) second\"; \
         cat /sys/kernel/kexec_loaded",
    );
    assert!(loaded.ends_with('1'), "{loaded}");
    machine.type_line("nought kexec");
    machine.expect("end 7/7: kexec");
    // The machine is the same, the kernel another.
    machine.expect("every service is up at ");
    machine.rest_of_line();
    machine.log_in();
    let line = machine.answer("cat /proc/cmdline; dmesg | grep -c 'recovering journal'");
    assert!(line.contains(" second") && line.ends_with('0'), "{line}");
    machine.type_line("poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    disk.assert_clean();
}

/// A tiny machine whose process 1 is called by its own name, with these words for it.
fn called_nought(name: &str, words: &str) -> Machine {
    let initrd = tiny::initrd(name, &[]);
    tiny::boot(name, &initrd, &format!("rdinit=/bin/nought {words}"))
}

#[test]
fn no_word_and_no_variable_ends_process_1() {
    for (words, said) in [
        (
            "-- --watchdog 30s",
            "no watchdog yet: failed to open /dev/watchdog",
        ),
        (
            "-- --no-such-option",
            "unexpected argument '--no-such-option'",
        ),
        ("-- --help", "options are ignored"),
        ("-- --container", "ignored: --container"),
        (
            "NOUGHT_DEADLINE=90sec NOUGHT_HTTP=",
            "ignored: NOUGHT_DEADLINE=90sec: write",
        ),
    ] {
        let mut machine = called_nought("words", words);
        // Some of it is said by another thread, in its own time.
        machine.expect_all(&[said, "every service is up", "/ # "]);
        machine.type_line("/sbin/poweroff");
        let (end, said) = machine.end();
        assert_eq!(end, End::PoweredOff, "{words}: {said}");
        assert!(!said.contains("NOUGHT_HTTP="), "{said}");
    }
}

/// Whoever asks it to end is told otherwise.
const CONTRARY: (&str, &str) = (
    "contrary",
    "exec: sh -c 'trap \"/bin/nought reboot & sleep 3; exit 0\" TERM; echo >/set; while :; do sleep 0.2; done'\n\
     shutdown_timeout: 30s\n",
);

#[test]
fn the_later_of_two_ends_counts() {
    let initrd = tiny::initrd("two-ends", &[CONTRARY]);
    let mut machine = tiny::boot("two-ends", &initrd, "");
    machine.expect("every service is up");
    machine.expect("# ");
    machine.run("until test -e /set; do sleep 0.1; done");
    machine.type_line("/sbin/poweroff");
    machine.expect("asked for another end: it is to be a reboot");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
    assert!(said.contains("end 7/7: reboot"), "{said}");
}

#[test]
fn without_proc_the_end_comes_and_says_what_it_cannot_know() {
    let mut machine = tiny::booted("no proc", "");
    machine.type_line("umount -l /proc; /sbin/poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    let line = "what is mounted stays as it is: failed to read /proc/self/mountinfo";
    assert_eq!(said.matches(line).count(), 1, "{said}");
    assert!(said.contains("end 7/7: power off"), "{said}");
}
