//! Debian on an ext4 disk: its own programs, examples/host as its services, our static binary
//! as /sbin/init. No initramfs: the kernel mounts the disk and hands over, with nothing else
//! mounted.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::machine::{Hardware, Machine};
use crate::parts;

/// What is in it besides Debian's essential packages.
const PACKAGES: &str = "udev,kmod,openssh-server,openssh-client,util-linux,login,mount,e2fsprogs,\
                        procps,iproute2,systemd,dbus,cron,nginx-light,dmsetup,fuse3,fdisk,\
                        kexec-tools";
const DISK: &str = "768M";

/// The unpacked system, made once: Debian as its mirror gives it.
fn base() -> &'static Path {
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    BASE.get_or_init(|| {
        let dir = parts::cache().join("debian");
        // Of these packages, and not of those of an earlier day.
        let packages = dir.join("packages");
        if fs::read_to_string(&packages).is_ok_and(|of| of == PACKAGES) {
            return dir;
        }
        let _ = fs::remove_dir_all(&dir);
        let part = parts::cache().join(format!("debian.{}", std::process::id()));
        bootstrap(&part);
        fs::rename(&part, &dir).unwrap();
        fs::write(packages, PACKAGES).unwrap();
        dir
    })
}

/// From the mirror and the release that this machine's apt uses.
fn bootstrap(to: &Path) {
    let targets = parts::run(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(ORIGIN)|$(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages",
    ]));
    let lines: BTreeSet<&str> = targets
        .lines()
        .filter_map(|line| line.strip_prefix("Debian|"))
        .collect();
    // The release itself, not its updates: `bookworm` before `bookworm-updates`.
    let release = lines
        .iter()
        .filter_map(|line| line.split(' ').nth(1))
        .min_by_key(|release| release.len())
        .expect("apt's lists know Debian: run apt-get update");
    let sources: String = lines.iter().map(|line| format!("deb {line}\n")).collect();
    let list = to.with_extension("list");
    fs::write(&list, sources).unwrap();
    parts::run(
        Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase"])
            .arg(format!("--include={PACKAGES}"))
            .arg(release)
            .arg(to)
            .arg(&list),
    );
    fs::remove_file(list).unwrap();
}

/// A disk with it, our program and its services; made once, copied for each machine.
fn golden() -> &'static Path {
    static GOLDEN: OnceLock<PathBuf> = OnceLock::new();
    GOLDEN.get_or_init(|| {
        let base = base();
        let own = parts::cache().join(format!("root.{}", std::process::id()));
        parts::run(
            Command::new("cp")
                .args(["-a", "--reflink=auto"])
                .arg(base)
                .arg(&own),
        );
        furnish(&own);
        let image = parts::cache().join(format!("golden.{}.img", std::process::id()));
        parts::run(Command::new("truncate").args(["-s", DISK]).arg(&image));
        parts::run(
            Command::new("mkfs.ext4")
                .args(["-q", "-F", "-E", "root_owner=0:0,lazy_itable_init=1", "-d"])
                .arg(&own)
                .arg(&image),
        );
        fs::remove_dir_all(own).unwrap();
        image
    })
}

/// Makes our program its process 1, with the services of examples/host and what tests need.
fn furnish(root: &Path) {
    let at = |path: &str| root.join(path);
    fs::copy(parts::nought(), at("usr/sbin/nought")).unwrap();
    for name in ["init", "poweroff", "reboot", "halt", "shutdown"] {
        let link = at("usr/sbin").join(name);
        let _ = fs::remove_file(&link);
        symlink("nought", &link).unwrap();
    }
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/host");
    fs::create_dir_all(at("etc/nought")).unwrap();
    for entry in fs::read_dir(examples).unwrap().flatten() {
        fs::copy(entry.path(), at("etc/nought").join(entry.file_name())).unwrap();
    }
    for (name, text) in SERVICES {
        fs::write(at(&format!("etc/nought/{name}.yaml")), text).unwrap();
    }
    fs::write(at("etc/hostname"), "debian\n").unwrap();
    fs::write(at("etc/hosts"), "127.0.0.1 localhost debian\n").unwrap();
    let fstab = "/dev/nvme0n1 / ext4 errors=remount-ro 0 1\ntmpfs /mnt tmpfs size=16m 0 0\n";
    fs::write(at("etc/fstab"), fstab).unwrap();
    // What kexec starts.
    fs::create_dir_all(at("boot")).unwrap();
    fs::copy(&parts::kernel().image, at("boot/vmlinuz")).unwrap();
    // Root logs in without a password: it is a test's machine.
    let passwd = fs::read_to_string(at("etc/passwd")).unwrap();
    fs::write(at("etc/passwd"), passwd.replacen("root:x:", "root::", 1)).unwrap();
    // Its modules, which come with the kernel's package and not with the system.
    let modules = &parts::kernel().modules;
    let to = at("lib/modules").join(modules.file_name().unwrap());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    parts::run(Command::new("mkdir").arg("-p").arg(&to));
    for module in [
        "drivers/block/loop.ko",
        "drivers/md/dm-mod.ko",
        "fs/fuse/fuse.ko",
        "drivers/watchdog/softdog.ko",
        "drivers/watchdog/watchdog.ko",
        "drivers/input/evdev.ko",
    ] {
        let target = to.join("kernel").join(module);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::copy(modules.join("kernel").join(module), target).unwrap();
    }
    for list in [
        "modules.builtin",
        "modules.order",
        "modules.builtin.modinfo",
    ] {
        fs::copy(modules.join(list), to.join(list)).unwrap();
    }
    let version = modules.file_name().unwrap();
    parts::run(
        Command::new("chroot")
            .arg(root)
            .args(["depmod"])
            .arg(version),
    );
    // For a supervisor of its own: a child that leaves its session and its cgroup.
    fs::create_dir_all(at("root/runaway")).unwrap();
    let runaway = "exec: sh -c '(echo 0 >/sys/fs/cgroup/cgroup.procs; exec setsid sleep 1234) & \
                   exec sleep 1000'\n";
    fs::write(at("root/runaway/runaway.yaml"), runaway).unwrap();
    // The same for systemd, which a bench boots from the same disk.
    fs::write(at("etc/systemd/system/told.service"), UNIT).unwrap();
    let wants = at("etc/systemd/system/multi-user.target.wants/told.service");
    symlink("/etc/systemd/system/told.service", wants).unwrap();
    let key = at("root/.ssh/id_ed25519");
    fs::create_dir_all(key.parent().unwrap()).unwrap();
    parts::run(
        Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(&key),
    );
    fs::copy(key.with_extension("pub"), at("root/.ssh/authorized_keys")).unwrap();
    let config = "Host *\n  StrictHostKeyChecking accept-new\n";
    fs::write(at("root/.ssh/config"), config).unwrap();
}

const UNIT: &str = "[Unit]\n\
    After=ssh.service cron.service dbus.service nginx.service serial-getty@ttyS0.service\n\
    Wants=dbus.service\n[Service]\nType=oneshot\n\
    ExecStart=/bin/sh -c 'read up idle </proc/uptime; echo every service is up at $$up >/dev/console'\n";

/// Beside those of examples/host.
const SERVICES: &[(&str, &str)] = &[
    (
        "nginx",
        "exec: nginx -g 'daemon off;'\nafter: [fstab]\nsignal: {stop: SIGQUIT, to: main}\n",
    ),
    // Writes to /srv once it is told to: on a frozen file system it waits for ever.
    (
        "stuck",
        "exec: sh -c 'test -e /run/go && cd /srv && echo x >file; exec sleep 100000'\n\
         shutdown_timeout: 1s\nkill_timeout: 1s\n",
    ),
    (
        "told",
        "exec: sh -c 'read up idle </proc/uptime; echo every service is up at $up >/dev/console'\n\
         oneshot: true\n\
         after: [sshd, cron, dbus, nginx, getty-ttyS0]\n",
    ),
];

/// A disk of one machine's own; removed when dropped.
pub(crate) struct Disk(PathBuf);

impl Disk {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = parts::cache().join(format!("disk.{}-{n}.img", std::process::id()));
        let mut copy = Command::new("cp");
        copy.args(["--sparse=always", "--reflink=auto"]);
        parts::run(copy.arg(golden()).arg(&path));
        Self(path)
    }

    /// Switches on a machine with this disk.
    pub(crate) fn boot(&self, name: &str, append: &str) -> Machine {
        Machine::boot(name, &self.hardware(append))
    }

    /// The same with a second disk, /dev/nvme0n2.
    pub(crate) fn boot_with_another(&self, name: &str, disk: &Path) -> Machine {
        let mut hardware = self.hardware("");
        hardware.memory_mib = 1024;
        let drive = format!(
            "file={},format=raw,if=none,id=more,cache=unsafe",
            disk.display()
        );
        let device = "nvme-ns,drive=more,nsid=2";
        hardware.more = ["-drive", &drive, "-device", device]
            .map(str::to_owned)
            .into();
        Machine::boot(name, &hardware)
    }

    fn hardware(&self, append: &str) -> Hardware<'_> {
        let mut hardware = Hardware::new(&parts::kernel().image);
        hardware.disk = Some(&self.0);
        hardware.memory_mib = 512;
        hardware.append = format!("root=/dev/nvme0n1 ro rootwait {append}");
        hardware
    }

    /// The same, until every service is up and root has logged in at the console.
    pub(crate) fn booted(&self, name: &str) -> Machine {
        let mut machine = self.boot(name, "");
        machine.expect("every service is up at ");
        machine.rest_of_line();
        machine.log_in();
        machine
    }

    /// Fails unless the file system was left clean: nothing wrong in it, and no journal that
    /// the next boot would have to recover (e2fsck -n calls both clean).
    pub(crate) fn assert_clean(&self) {
        self.assert_no_recovery();
        parts::run(Command::new("e2fsck").args(["-n", "-f"]).arg(&self.0));
    }

    /// Fails if the next boot would have to recover the journal.
    pub(crate) fn assert_no_recovery(&self) {
        assert_no_recovery(&self.0);
    }

    /// Writes a file of it from outside.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let from = parts::cache().join(format!("written.{}", std::process::id()));
        fs::write(&from, text).unwrap();
        let said = parts::run(
            Command::new("sh")
                .arg("-c")
                .arg(format!(
                    "printf 'rm {path}\\nwrite {} {path}\\n' | debugfs -w -f - \"$0\"",
                    from.display()
                ))
                .arg(&self.0),
        );
        fs::remove_file(from).unwrap();
        assert_eq!(self.read(path), text, "{said}");
    }

    /// Changes its file system behind the kernel's back: commands of debugfs(8). The next check
    /// looks at everything.
    pub(crate) fn damage(&self, commands: &[&str]) {
        for command in commands.iter().chain(&["ssv state 2"]) {
            let mut change = Command::new("debugfs");
            parts::run(change.args(["-w", "-R", command]).arg(&self.0));
        }
    }

    /// A file of it, read from outside.
    pub(crate) fn read(&self, path: &str) -> String {
        parts::run(
            Command::new("debugfs")
                .args(["-R", &format!("cat {path}")])
                .arg(&self.0),
        )
    }
}

/// A disk for a machine to write on, empty; removed when dropped.
pub(crate) struct SecondDisk(pub(crate) PathBuf);

impl SecondDisk {
    pub(crate) fn new(name: &str) -> Self {
        let path = parts::cache().join(format!("{name}.{}.img", std::process::id()));
        parts::run(Command::new("truncate").args(["-s", "64M"]).arg(&path));
        Self(path)
    }

    /// Fails if the file system at its beginning was not left clean.
    pub(crate) fn assert_no_recovery(&self) {
        assert_no_recovery(&self.0);
    }
}

impl Drop for SecondDisk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn assert_no_recovery(disk: &Path) {
    let header = parts::run(Command::new("dumpe2fs").arg("-h").arg(disk));
    assert!(!header.contains("needs_recovery"), "{header}");
    let state = header
        .lines()
        .find(|line| line.starts_with("Filesystem state:"));
    assert!(state.unwrap().ends_with(" clean"), "{header}");
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// integration/run asks for this first: the mirror's time is not the machines'.
#[test]
fn its_system_and_its_kernel_are_there() {
    assert!(base().join("usr/sbin/sshd").exists());
    assert!(parts::kernel().image.exists());
}
