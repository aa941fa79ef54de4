//! A host: Debian's own programs from the kernel's hand-over to a login, and its disk clean
//! after each end.

use crate::debian::Disk;
use crate::machine::{End, Machine};

#[test]
fn debian_boots_to_a_login_and_leaves_its_disk_clean() {
    let disk = Disk::new();
    let mut machine = disk.booted("debian");
    let mounts = machine.run("findmnt -rn -o TARGET,FSTYPE | tr ' ' = | sort | xargs");
    for mount in [
        "/proc=proc",
        "/sys=sysfs",
        "/dev=devtmpfs",
        "/dev/pts=devpts",
        "/dev/shm=tmpfs",
        "/run=tmpfs",
        "/sys/fs/cgroup=cgroup2",
        "/mnt=tmpfs",
    ] {
        assert!(mounts.contains(mount), "{mount}: {mounts}");
    }
    assert_eq!(machine.answer("hostname"), "debian");
    assert!(machine.run("ip -o addr show lo").contains("127.0.0.1/8"));
    assert_eq!(machine.answer("readlink /proc/1/exe"), "/usr/sbin/nought");
    assert!(
        machine
            .run("dmesg")
            .contains("nought: INFO guarantee here: cgroup-kill marked")
    );
    assert!(machine.run("touch /written && echo yes").contains("yes"));
    machine.type_line("poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    assert!(said.contains("end 5/7: root: read-only"), "{said}");
    disk.assert_clean();
    assert!(
        disk.read("/var/lib/nought/last-shutdown.json")
            .contains("\"kind\":\"power off\"")
    );
}

/// Says these words over ssh, as soon as somebody listens.
fn until_ssh(words: &str) -> String {
    format!("for i in $(seq 300); do ssh localhost echo {words} && break; sleep 0.2; done")
}

#[test]
fn a_restart_of_sshd_from_an_ssh_session_leaves_the_session_alive() {
    let disk = Disk::new();
    let mut machine = disk.booted("sshd");
    let main = |machine: &mut Machine| {
        let status = machine.run("nought --json status sshd");
        let json = status.lines().find(|line| line.starts_with('{')).unwrap();
        let status: serde_json::Value = serde_json::from_str(json).unwrap();
        status["pid"].as_u64().unwrap()
    };
    let before = main(&mut machine);
    // Up is who was executed; it listens a little later.
    let said = machine.run(&until_ssh("from the first one"));
    assert!(said.contains("from the first one"), "{said}");
    machine.type_line("ssh -tt localhost");
    machine.expect("debian:~# ");
    machine.run("stty cols 400; PS1='# '");
    let session = machine.answer("echo $SSH_CONNECTION; echo $$");
    assert!(session.contains(" 22"), "{session}");
    machine.run("nought restart sshd");
    assert_eq!(machine.answer("echo $SSH_CONNECTION; echo $$"), session);
    assert_ne!(main(&mut machine), before);
    // A new session goes to the new daemon, as soon as that listens.
    let said = machine.run(&until_ssh("from the new one"));
    assert!(said.contains("from the new one"), "{said}");
    machine.type_line("poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    assert!(said.contains("nobody is left"), "{said}");
    disk.assert_clean();
}

#[test]
fn boots_again_and_again_and_is_clean_each_time() {
    let rounds = std::env::var("NOUGHT_BOOT_ROUNDS").map_or(5, |rounds| rounds.parse().unwrap());
    let disk = Disk::new();
    for round in 0..rounds {
        let mut machine = disk.boot(&format!("round {round}"), "");
        machine.expect("every service is up");
        machine.log_in();
        machine.type_line(if round % 2 == 0 { "reboot" } else { "poweroff" });
        let (end, said) = machine.end();
        let wanted = if round % 2 == 0 {
            End::Rebooted
        } else {
            End::PoweredOff
        };
        assert_eq!(end, wanted, "{said}");
        assert!(
            said.contains("verified: every service is gone, nothing is left"),
            "{said}"
        );
        assert!(said.contains("nobody is left"), "{said}");
        assert!(!said.contains("recovering journal"), "{said}");
        disk.assert_clean();
    }
}

#[test]
fn an_escapee_is_found_and_ended_on_an_older_kernel() {
    let disk = Disk::new();
    let mut machine = disk.booted("6.1");
    assert!(
        machine.answer("uname -r").starts_with("6.1."),
        "the fallbacks are not proven here"
    );
    assert!(machine.run("nought status").contains("cgroup-kill marked"));
    let escaped = machine.answer(
        "nought init --container -c /root/runaway -s /run/s 2>/dev/null & \
         for i in $(seq 300); do pgrep -xfc 'sleep 1234' && break; sleep 0.2; done",
    );
    assert!(escaped.ends_with('1'), "nobody has escaped: {escaped}");
    let receipt =
        machine.run("nought -s /run/s stop runaway; nought -s /run/s --json receipt runaway");
    let json = receipt.lines().find(|line| line.starts_with('{')).unwrap();
    let receipt: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(receipt["verdict"], "verified", "{receipt}");
    assert_eq!(
        receipt["escaped"].as_array().map(Vec::len),
        Some(1),
        "{receipt}"
    );
    assert_eq!(machine.answer("pgrep -f 'sleep 1234' | wc -l"), "0");
    machine.type_line("poweroff");
    assert_eq!(machine.end().0, End::PoweredOff);
}

#[test]
fn what_fails_while_it_boots_keeps_nobody_from_logging_in() {
    let disk = Disk::new();
    disk.write(
        "/etc/fstab",
        "/dev/nvme0n1 / ext4 errors=remount-ro 0 1\n/dev/nowhere /opt ext4 defaults 0 2\n",
    );
    disk.write("/etc/sysctl.d/wrong.conf", "no.such.key = 1\n");
    let mut machine = disk.boot("bad fstab", "");
    machine.expect("fstab: failed");
    machine.log_in();
    let list = machine.run("nought list; touch /writable && echo root is writable");
    assert!(list.contains("root is writable"), "{list}");
    let said = machine.run(&until_ssh("from afar"));
    assert!(said.contains("from afar"), "{said}");
    // Put right, what waited for it comes up.
    machine.run(
        "sed -i /nowhere/d /etc/fstab; nought restart fstab; \
         until nought list | grep -q '^told  *done'; do sleep 0.2; done",
    );
    machine.type_line("poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    disk.assert_clean();
}

/// What the kernel has read of it is not what there is any more: fsck(8)'s code 2.
#[test]
fn a_root_that_was_corrected_is_booted_anew() {
    let disk = Disk::new();
    disk.damage(&[]);
    let (end, said) = disk.boot("corrected", "").end();
    assert_eq!(end, End::Rebooted, "{said}");
    assert!(!said.contains("every service is up"), "{said}");
    disk.assert_clean();
    let mut machine = disk.booted("corrected, next");
    machine.type_line("poweroff");
    assert_eq!(machine.end().0, End::PoweredOff);
}

/// fsck(8)'s code 4.
#[test]
fn a_root_with_errors_stays_as_it_is_until_somebody_has_looked() {
    let disk = Disk::new();
    disk.damage(&["unlink /etc/debian_version"]);
    let mut machine = disk.boot("errors", "");
    machine.expect("errors are left on the root file system: log in at the console and run fsck /");
    machine.log_in();
    let mounted = machine.run("grep ' / ext4' /proc/mounts");
    assert!(mounted.contains(" / ext4 ro,"), "{mounted}");
    machine.run("fsck -y /");
    machine.type_line("reboot");
    let (end, said) = machine.end();
    assert_eq!(end, End::Rebooted, "{said}");
    disk.assert_clean();
    let mut machine = disk.booted("errors, next");
    machine.type_line("poweroff");
    assert_eq!(machine.end().0, End::PoweredOff);
}
