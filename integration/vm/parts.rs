//! What machines are built from: our static binary, Debian's kernel and busybox. Kept below
//! `target/`, nowhere else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The target that a static binary is built for: without one, RUSTFLAGS would reach build
/// scripts and procedural macros, which cannot be static.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// `target/vm`, without what earlier runs made for themselves (their names hold their pid).
pub(crate) fn cache() -> PathBuf {
    static CACHE: OnceLock<PathBuf> = OnceLock::new();
    let dir = CACHE.get_or_init(|| {
        let dir = target().join("vm");
        fs::create_dir_all(&dir).unwrap();
        for entry in fs::read_dir(&dir).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let pid = name
                .split(['.', '-'])
                .find_map(|part| part.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let path = entry.path();
                let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
            }
        }
        dir
    });
    dir.clone()
}

fn target() -> PathBuf {
    // target/PROFILE/nought, or target/TRIPLE/PROFILE/nought.
    let own = Path::new(env!("CARGO_BIN_EXE_nought"));
    let found = own.ancestors().find(|dir| dir.ends_with("target"));
    found.unwrap().to_path_buf()
}

/// The static binary: `$NOUGHT_STATIC`, or what `integration/run` built.
pub(crate) fn nought() -> PathBuf {
    let built = target().join(TARGET).join("release/nought");
    let path = std::env::var_os("NOUGHT_STATIC").map_or(built, PathBuf::from);
    assert!(
        path.exists(),
        "{} is not there; build it: RUSTFLAGS='-C target-feature=+crt-static' \
         cargo build --release --target {TARGET}",
        path.display()
    );
    path
}

/// Debian's kernel for clouds, and where its modules are.
pub(crate) struct Kernel {
    pub(crate) image: PathBuf,
    pub(crate) modules: PathBuf,
}

/// Downloads it once.
pub(crate) fn kernel() -> &'static Kernel {
    static KERNEL: OnceLock<Kernel> = OnceLock::new();
    KERNEL.get_or_init(|| {
        let dir = cache().join("kernel");
        if !dir.exists() {
            download_kernel(&dir);
        }
        let image = only(&dir.join("boot"), "vmlinuz-");
        let modules = only(&dir.join("lib/modules"), "");
        Kernel { image, modules }
    })
}

fn download_kernel(to: &Path) {
    let depends = run(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]));
    let package = depends
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: linux-image-"))
        .expect("apt knows Debian's linux-image-cloud-amd64");
    let part = cache().join(format!("kernel.{}", std::process::id()));
    fs::create_dir_all(&part).unwrap();
    let package = format!("linux-image-{package}");
    run(Command::new("apt-get")
        .args(["download", &package])
        .current_dir(&part));
    let archive = only(&part, &package);
    run(Command::new("dpkg").arg("-x").arg(&archive).arg(&part));
    fs::remove_file(archive).unwrap();
    fs::rename(&part, to).unwrap();
}

/// The only entry of `dir` whose name begins with `prefix`.
fn only(dir: &Path, prefix: &str) -> PathBuf {
    let entries = fs::read_dir(dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut found = entries.flatten().map(|entry| entry.path()).filter(|path| {
        path.file_name()
            .unwrap()
            .to_string_lossy()
            .starts_with(prefix)
    });
    let first = found.next();
    first.unwrap_or_else(|| panic!("{}: nothing called {prefix}…", dir.display()))
}

/// Runs a command to its end and returns its output; fails the test when it fails.
pub(crate) fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    said
}
