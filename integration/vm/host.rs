//! A host: Debian's own programs from the kernel's hand-over to a login, and its disk clean
//! after each end.

use crate::debian::Disk;
use crate::machine::End;

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
    assert_eq!(machine.run("hostname").trim(), "debian");
    assert!(machine.run("ip -o addr show lo").contains("127.0.0.1/8"));
    assert_eq!(
        machine.run("readlink /proc/1/exe").trim(),
        "/usr/sbin/nought"
    );
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
