//! Shutdowns with something in their way: none of it keeps the machine from ending, all of it is
//! named on the console and on the receipt.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::debian::{Disk, SecondDisk};
use crate::machine::{End, Machine};
use crate::parts;

/// A file system on a loop device at /srv, frozen, and a service that waits for it: not even
/// SIGKILL ends it.
fn unkillable(machine: &mut Machine) {
    let said = machine.run(
        "modprobe loop && truncate -s 16M /img && mkfs.ext4 -q /img && mount -o loop /img /srv && \
         fsfreeze -f /srv && touch /run/go && nought restart stuck; \
         for i in $(seq 300); do ps -o stat,comm -C sh | grep ^D && break; sleep 0.2; done",
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
    let mut machine = disk.boot("unkillable, next", "");
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
         (echo x >/srv/other) & (ls /media) & \
         for i in $(seq 300); do \
         n=$(ps -eo stat=,comm= | grep -Ec '^D[^ ]* +(sh|bash|ls)$'); [ $n = 3 ] && break; sleep 0.2; \
         done; echo hang: $n",
    );
    assert!(said.contains("hang: 3"), "{said}");
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
fn a_hung_file_system_is_named_and_takes_nothing_from_its_neighbours() {
    let disk = Disk::new();
    let more = SecondDisk::new("hung");
    let mut machine = disk.boot_with_another("hung", &more.0);
    machine.expect("every service is up at ");
    machine.rest_of_line();
    machine.log_in();
    let said = machine.run(
        "set -e; modprobe dm-mod; \
         dmsetup create plain --table '0 65536 linear /dev/nvme0n2 0'; \
         dmsetup create stuck --table '0 65536 linear /dev/nvme0n2 65536'; \
         mkfs.ext4 -q /dev/mapper/plain; mkfs.ext4 -q /dev/mapper/stuck; \
         mount /dev/mapper/plain /srv; mkdir /srv/in; mount /dev/mapper/stuck /srv/in; sync; \
         echo dirty >/srv/in/file; echo dirty >/srv/file; mount -t tmpfs none /opt; \
         dmsetup suspend --nolockfs --noflush stuck; echo all set; set +e",
    );
    assert!(said.contains("all set"), "{said}");
    machine.type_line("poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    for line in [
        "hung: unmount /srv/in (ext4)",
        "unmounted, hung: /srv/in (",
        "loop and device-mapper devices: 1 detached, 1 still in use",
        "end 5/7: root: read-only",
    ] {
        assert!(said.contains(line), "no {line:?}:\n{said}");
    }
    assert!(!said.contains("STILL WRITABLE"), "{said}");
    let receipt = disk.read("/var/lib/nought/last-shutdown.json");
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    assert_eq!(receipt["hung"], serde_json::json!(["/srv/in"]), "{receipt}");
    disk.assert_clean();
    // Its file system begins where the disk does.
    more.assert_no_recovery();
}

#[test]
fn a_busy_bind_mount_of_the_root_leaves_the_root_to_its_turn() {
    let disk = Disk::new();
    let mut machine = disk.booted("bind");
    // Its directory is on the root, and whoever is in it hangs on another file system.
    machine.run(
        "mkdir /bound; mount --bind /bound /media; sed -i 's/cd \\/srv/cd \\/media/; s/x >file/x >\\/srv\\/file/' \
         /etc/nought/stuck.yaml; nought reload; nought restart stuck",
    );
    unkillable(&mut machine);
    machine.type_line("poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    let line = said.lines().find(|line| line.contains("unmount /media: "));
    let line = line.unwrap_or_else(|| panic!("/media was not busy:\n{said}"));
    assert!(
        line.contains("whose turn is later, unmounted lazily"),
        "{line}"
    );
    assert!(!said.contains("STILL WRITABLE"), "{said}");
    let receipt = disk.read("/var/lib/nought/last-shutdown.json");
    let receipt: serde_json::Value = serde_json::from_str(&receipt).unwrap();
    // The second receipt, written after the mounts went.
    let lazily = receipt["lazily"].as_array().unwrap();
    assert!(lazily.iter().any(|point| point == "/media"), "{receipt}");
    disk.assert_no_recovery();
}

#[test]
fn the_receipt_of_a_var_of_its_own_is_read_once_that_is_mounted() {
    let disk = Disk::new();
    let more = SecondDisk::new("var");
    parts::run(Command::new("mkfs.ext4").arg("-q").arg(&more.0));
    disk.write(
        "/etc/fstab",
        "/dev/nvme0n1 / ext4 errors=remount-ro 0 1\n/dev/nvme0n2 /var ext4 defaults 0 2\n",
    );
    let left = "{\"survivors\":[{\"pid\":7}],\"hung\":[],\"lazily\":[]}\n";
    let mut machine = disk.boot_with_another("var", &more.0);
    machine.log_in();
    machine.run("for i in $(seq 300); do mountpoint -q /var && break; sleep 0.2; done");
    // Typed, not run: the line may come before the command's end does.
    machine.type_line(&format!("mkdir -p /var/lib/nought; echo '{}' >/var/lib/nought/last-shutdown.json; sync; umount -l /var; mount /dev/nvme0n2 /var", left.trim()));
    machine.expect("the last shutdown left 1 process(es) alive");
    machine.type_line("poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    assert_eq!(said.matches("the last shutdown left").count(), 1, "{said}");
    disk.assert_clean();
    more.assert_no_recovery();
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
    let mut machine = disk.boot("last resort", "-- --deadline 2s");
    machine.expect("every service is up");
    machine.log_in();
    // A shutdown begins, and then the thread that carries it out is stopped for ever.
    machine.type_line(
        "perl -e '$SIG{HUP}=$SIG{TERM}=\"IGNORE\"; open K, \"</dev/kmsg\"; sysseek K,0,2; kill 39, 1; \
         1 until !sysread(K,$_,9999) || /: stopping \\d/; select(undef,undef,undef,0.1); \
         syscall(101, 16, 1, 0, 0); sleep 1000'",
    );
    machine.expect("last resort: reboot");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
    assert!(!said.contains("end 1/7"), "{said}");
}

#[test]
fn the_last_resort_reboots_after_an_end_that_nobody_asked_for() {
    let disk = Disk::new();
    disk.write(
        "/etc/nought/vital.yaml",
        "exec: sh -c 'mkfifo /run/go; read go </run/go; exit 3'\nrestart: never\n\
         on_failure: stop_all\nafter: [directories]\n",
    );
    let mut machine = disk.boot("last resort, vital", "-- --deadline 2s");
    machine.expect("every service is up");
    machine.log_in();
    machine.type_line(
        "perl -e '$SIG{HUP}=$SIG{TERM}=\"IGNORE\"; open K, \"</dev/kmsg\"; sysseek K,0,2; \
         open F, \">/run/go\"; print F \"go\\n\"; close F; \
         1 until !sysread(K,$_,9999) || /: stopping \\d/; select(undef,undef,undef,0.1); \
         syscall(101, 16, 1, 0, 0); sleep 1000'",
    );
    machine.expect("vital: exit code 3: everything stops");
    machine.expect("last resort: reboot");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
    assert!(!said.contains("end 1/7"), "{said}");
}

#[test]
fn a_watchdog_is_petted_and_resets_a_machine_whose_process_1_broke() {
    let disk = Disk::new();
    let mut machine = disk.boot("watchdog", "-- --watchdog 4s");
    machine.expect_all(&[
        "no watchdog yet: failed to open /dev/watchdog",
        "every service is up",
    ]);
    machine.log_in();
    machine.type_line("modprobe softdog");
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

#[test]
fn a_watchdog_waits_as_long_as_it_can_and_is_petted_through_the_shutdown() {
    let disk = Disk::new();
    let mut machine = disk.boot("watchdog, long", "-- --watchdog 24h");
    machine.expect("every service is up");
    machine.log_in();
    machine.type_line("modprobe softdog");
    machine.expect("watchdog: it cannot wait 86400 s, 65535 s is its longest");
    machine.type_line("poweroff");
    assert_eq!(machine.end().0, End::PoweredOff);

    let mut machine = disk.boot("watchdog, halt", "-- --watchdog 4s");
    machine.expect("every service is up");
    machine.log_in();
    machine.type_line("modprobe softdog");
    machine.expect("watchdog: resets the machine after 4 s without us");
    // The end takes longer than the watchdog waits.
    unkillable(&mut machine);
    machine.type_line("halt");
    machine.expect("reboot: System halted");
    assert!(
        machine.runs_on_for(Duration::from_secs(8)),
        "{}",
        machine.said()
    );
}
