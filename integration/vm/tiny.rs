//! The smallest machine: an initramfs with our static binary as its process 1, busybox, and a
//! few service files.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::cpio::Archive;
use crate::machine::{Hardware, Machine};
use crate::parts;

/// What busybox is to be in it.
const APPLETS: &[&str] = &[
    "sh", "sleep", "cat", "echo", "ls", "mount", "umount", "ps", "kill", "touch", "mkdir", "dmesg",
    "ip", "grep", "hostname", "setsid", "mkfifo", "true", "false", "date", "id", "stat", "mknod",
    "rm", "insmod", "losetup", "mkswap", "swapon", "dd", "fsfreeze", "test", "readlink", "head",
    "nohup", "mke2fs", "tty", "syslogd", "seq", "mv", "tail", "cut", "rmdir", "pkill",
];

/// The services of every tiny machine.
const SERVICES: &[(&str, &str)] = &[
    ("database", "exec: sleep 100000\nlog: stdout\n"),
    ("web", "exec: sleep 100000\nrequires: [database]\n"),
    (
        "ready",
        "exec: sh -c 'echo every service is up >/dev/console'\noneshot: true\nafter: [web]\n",
    ),
    (
        "console",
        "exec: sh -c 'exec sh -i </dev/ttyS0 >/dev/ttyS0 2>&1'\nafter: [ready]\nsignal: {stop: SIGHUP}\n",
    ),
];

/// An initramfs with these services beside its own.
pub(crate) fn initrd(name: &str, more: &[(&str, &str)]) -> PathBuf {
    initrd_with(name, more, &[], &[])
}

/// The same with the services of a second supervisor in /etc/box, and scripts in its root.
pub(crate) fn initrd_with(
    name: &str,
    more: &[(&str, &str)],
    boxed: &[(&str, &str)],
    scripts: &[(&str, &str)],
) -> PathBuf {
    let mut archive = Archive::new();
    for dir in [
        "bin",
        "sbin",
        "etc",
        "etc/nought",
        "etc/box",
        "proc",
        "mnt",
        "root",
    ] {
        archive.dir(dir);
    }
    archive.program("init", &parts::nought());
    archive.link("bin/nought", "/init");
    for name in ["init", "poweroff", "reboot", "halt", "shutdown"] {
        archive.link(&format!("sbin/{name}"), "/init");
    }
    archive.program("bin/busybox", &PathBuf::from("/bin/busybox"));
    for applet in APPLETS {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.file("etc/hostname", "tiny\n");
    for (service, text) in SERVICES.iter().chain(more) {
        archive.file(&format!("etc/nought/{service}.yaml"), text);
    }
    for (service, text) in boxed {
        archive.file(&format!("etc/box/{service}.yaml"), text);
    }
    for (script, text) in scripts {
        archive.script(script, text);
    }
    let path = parts::cache().join(format!("{name}.{}.cpio", std::process::id()));
    archive.write(&path);
    path
}

/// A machine on its way up from this initramfs.
pub(crate) fn boot(name: &str, initrd: &Path, append: &str) -> Machine {
    let mut hardware = Hardware::new(&parts::kernel().image);
    hardware.initrd = Some(initrd);
    hardware.append = append.to_owned();
    Machine::boot(name, &hardware)
}

/// A machine that has booted, with every service up and a shell at the console.
pub(crate) fn booted(name: &str, append: &str) -> Machine {
    static PLAIN: OnceLock<PathBuf> = OnceLock::new();
    let initrd = PLAIN.get_or_init(|| initrd("tiny", &[]));
    let mut machine = boot(name, initrd, append);
    machine.expect("every service is up");
    machine.expect("# ");
    machine
}
