//! Shutdowns with something in their way: none of it keeps the machine from ending, all of it is
//! named on the console and on the receipt.

use std::time::{Duration, Instant};

use crate::debian::Disk;
use crate::machine::{End, Machine};

/// A file system on a loop device at /srv, frozen, and a service that waits for it: not even
/// SIGKILL ends it.
fn unkillable(machine: &mut Machine) {
    let said = machine.run(
        "modprobe loop && truncate -s 16M /img && mkfs.ext4 -q /img && mount -o loop /img /srv && \
         fsfreeze -f /srv && touch /run/go && nought restart stuck; sleep 1; \
         ps -o stat,comm -C sh | grep ^D",
    );
    assert!(said.contains('D'), "nobody is stuck: {said}");
}

#[test]
fn a_service_that_will_not_die_and_what_it_holds_are_named_and_the_machine_ends() {
    let disk = Disk::new();
    let mut machine = disk.booted("unkillable");
    unkillable(&mut machine);
    let began = Instant::now();
    machine.type_line("poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    assert!(
        began.elapsed() < Duration::from_secs(120),
        "{:?}\n{said}",
        began.elapsed()
    );
    for line in [
        "lingering: stuck",
        "state D",
        "1 cannot be ended",
        "unmount /srv: Device or resource busy, used by process",
        "unmounted lazily",
        "end 7/7: power off",
    ] {
        assert!(said.contains(line), "no {line:?}:\n{said}");
    }
    // It was killed before: nobody waits for it to do what it is asked.
    let sweep = said.split("end 1/7: ").nth(1).unwrap();
    let took = sweep.split([' ', '(']).zip(sweep.split([' ', '(']).skip(1));
    let took = took
        .into_iter()
        .find(|(_, unit)| unit.starts_with("s)"))
        .unwrap()
        .0;
    let took: f64 = took.parse().unwrap();
    assert!((4.9..9.0).contains(&took), "{took} s:\n{said}");
    let receipt = disk.read("/var/lib/nought/last-shutdown.json");
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(receipt["lingering"][0], "stuck", "{receipt}");
    assert_eq!(receipt["survivors"][0]["state"], "D", "{receipt}");
    assert_eq!(receipt["lazily"][0], "/srv", "{receipt}");
    // The journal of the disk itself needs no recovery all the same.
    disk.assert_no_recovery();
    // And the next boot says what happened.
    let mut machine = disk.boot("unkillable, next", "quiet");
    machine.expect("the last shutdown left 1 process(es) alive");
    machine.expect("every service is up");
}

#[test]
fn a_hung_fuse_file_system_does_not_hold_up_the_end() {
    let disk = Disk::new();
    let mut machine = disk.booted("fuse");
    // Nobody ever answers a request of it, and whoever could is not to be killed.
    unkillable(&mut machine);
    let said = machine.run(
        "modprobe fuse; exec 3<>/dev/fuse; \
         mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 none /media; \
         (echo x >/srv/other) & (ls /media) & sleep 1; jobs | grep -c Running",
    );
    assert!(said.contains('2'), "{said}");
    machine.type_line("reboot");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
    assert!(said.contains("end 7/7: reboot"), "{said}");
    assert!(said.contains("2 cannot be ended"), "{said}");
    disk.assert_no_recovery();
}

#[test]
fn swap_loops_mappings_and_nested_mounts_are_taken_apart() {
    let disk = Disk::new();
    let mut machine = disk.booted("layers");
    let said = machine.run(
        "set -e; modprobe loop; modprobe dm-mod; \
         dd if=/dev/zero of=/swap bs=1M count=8 status=none; chmod 600 /swap; \
         mkswap -q /swap; swapon /swap; \
         truncate -s 16M /img; mkfs.ext4 -q /img; mount -o loop /img /srv; \
         mkdir /srv/in; mount --bind /srv/in /media; mount -t tmpfs none /media; \
         truncate -s 8M /srv/inner; d=$(losetup -f --show /srv/inner); \
         dmsetup create layer --table \"0 16384 linear $d 0\"; \
         mkfs.ext4 -q /dev/mapper/layer; mount /dev/mapper/layer /opt; \
         echo kept >/opt/file; echo all set; set +e",
    );
    assert!(said.contains("all set"), "{said}");
    machine.type_line("poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    for line in [
        "end 2/7: swap: 1 of 1 switched off",
        "end 4/7: loop and device-mapper devices: 3 detached",
        "end 5/7: root: read-only",
    ] {
        assert!(said.contains(line), "no {line:?}:\n{said}");
    }
    assert!(!said.contains("lazily"), "{said}");
    disk.assert_clean();
}

#[test]
fn a_program_that_was_replaced_while_it_ran_leaves_no_journal_to_recover() {
    let disk = Disk::new();
    let mut machine = disk.booted("upgrade");
    machine.run("cp /usr/sbin/nought /usr/sbin/new && mv /usr/sbin/new /usr/sbin/nought && sync");
    machine.type_line("poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    disk.assert_no_recovery();
}

#[test]
fn a_full_process_table_does_not_keep_ctrl_alt_del_from_rebooting() {
    let disk = Disk::new();
    let mut machine = disk.booted("bomb");
    machine.run("sysctl -q kernel.threads-max=300");
    machine.type_line("bomb() { bomb | bomb & sleep 1000; }; bomb");
    machine.expect("Resource temporarily unavailable");
    machine.send_keys("ctrl-alt-delete");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
    assert!(said.contains("nobody is left"), "{said}");
    disk.assert_clean();
}

#[test]
fn the_last_resort_reboots_when_process_1_stands_still() {
    let disk = Disk::new();
    let mut machine = disk.boot("last resort", "quiet -- --deadline 2s");
    machine.expect("every service is up");
    machine.log_in();
    // A shutdown begins, and then the thread that carries it out is stopped for ever.
    machine.type_line(
        "perl -e '$SIG{HUP}=$SIG{TERM}=\"IGNORE\"; kill 39, 1; select(undef,undef,undef,0.1); \
         syscall(101, 16, 1, 0, 0); sleep 1000'",
    );
    machine.expect("last resort: reboot");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
    assert!(!said.contains("end 1/7"), "{said}");
}

#[test]
fn a_watchdog_is_petted_and_resets_a_machine_whose_process_1_broke() {
    let disk = Disk::new();
    let mut machine = disk.boot("watchdog", "quiet -- --watchdog 4s");
    machine.expect("no watchdog yet: failed to open /dev/watchdog");
    machine.expect("every service is up");
    machine.log_in();
    machine.run("modprobe softdog");
    machine.expect("watchdog: resets the machine after 4 s without us");
    assert!(
        machine.runs_on_for(Duration::from_secs(8)),
        "{}",
        machine.said()
    );
    machine.type_line("kill -SEGV 1");
    machine.expect("watchdog: not petted any more");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
}
