//! The tests of the kernel layer on Debian's kernel, which is older than what they were written
//! on: what it lacks has a fallback, and the same is true of it. Every controller is real there.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::debian::Disk;
use crate::machine::{End, Machine};
use crate::parts;

/// An emulated processor takes its time.
const BOUND: Duration = Duration::from_secs(900);

/// The table that they hold against what they see, read where they were built.
const TABLE: &str = "docs/catalogue.md";

/// What of `--test kernel` runs here each time; `NOUGHT_VM_SUITE=all` runs the rest, too.
const GROUPS: &[&str] = &[
    "degraded::",
    "ends::",
    "escapes::",
    "order::",
    "survivors::",
];

/// What needs programs that this machine has not, or measures what an emulated processor cannot
/// keep.
const NOT_HERE: &[&str] = &[
    "catalogue::engine::",
    "catalogue::notify::",
    "catalogue::program::",
    "contract::",
    "habits::",
    "order::two_hundred",
    "pods::",
    "run::terminal::",
];

/// The test programs, built as we were, without what debuggers want, on a disk of their own.
fn programs() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build.args(["test", "--locked", "--no-run", "--message-format=json"]);
    build.args(["--test", "sys", "--test", "kernel"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let built = parts::run(build.current_dir(root));
    let dir = parts::cache().join(format!("programs.{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    for line in built.lines() {
        let Ok(message) = serde_json::from_str::<serde_json::Value>(line) else {
            continue;
        };
        let (name, path) = (&message["target"]["name"], &message["executable"]);
        if let (Some(name @ ("sys" | "kernel")), Some(path)) = (name.as_str(), path.as_str()) {
            let stripped = dir.join(name);
            parts::run(Command::new("strip").arg("-o").arg(&stripped).arg(path));
        }
    }
    std::fs::copy(root.join(TABLE), dir.join("table")).unwrap();
    let image = parts::cache().join(format!("programs.{}.img", std::process::id()));
    parts::run(Command::new("truncate").args(["-s", "128M"]).arg(&image));
    let mut format = Command::new("mkfs.ext4");
    format
        .args(["-q", "-F", "-E", "root_owner=0:0", "-d"])
        .arg(&dir);
    parts::run(format.arg(&image));
    std::fs::remove_dir_all(dir).unwrap();
    image
}

/// Runs one of them with these words: everything it was asked for passed, and that was something.
fn passes(machine: &mut Machine, name: &str, words: &str) {
    let said = machine.run_within(&format!("/opt/{name} --test-threads=2 {words}"), BOUND);
    let result = said.lines().find(|line| line.starts_with("test result:"));
    let result = result.unwrap_or_else(|| panic!("{name} {words}: no result:\n{said}"));
    println!("{name}: {result}");
    let ran = said.lines().filter(|line| line.ends_with("... ok")).count();
    assert!(
        result.contains(" 0 failed; 0 ignored;") && ran > 0,
        "{name} {words}:\n{said}"
    );
}

#[test]
fn the_kernel_layer_holds_on_debians_kernel() {
    let disk = Disk::new();
    let image = programs();
    let mut machine = disk.boot_with_another("suites", &image);
    machine.expect("every service is up at ");
    machine.rest_of_line();
    machine.log_in();
    let version = machine.answer("uname -r");
    assert!(
        version.starts_with("6.1."),
        "the fallbacks are not proven here: {version}"
    );
    // They start the program where it was built.
    let program = Path::new(env!("CARGO_BIN_EXE_nought"));
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    let said = machine.run(&format!(
        "mount /dev/nvme0n2 /opt && modprobe fuse && mkdir -p {} {} && cp /opt/table {} && \
         ln -s /usr/sbin/nought {} && echo ready",
        program.parent().unwrap().display(),
        table.parent().unwrap().display(),
        table.display(),
        program.display()
    ));
    assert!(said.contains("ready"), "{said}");
    passes(&mut machine, "sys", "");
    let mut words: String = NOT_HERE
        .iter()
        .map(|name| format!("--skip {name} "))
        .collect();
    if !std::env::var("NOUGHT_VM_SUITE").is_ok_and(|suite| suite == "all") {
        words += &GROUPS.join(" ");
    }
    passes(&mut machine, "kernel", &words);
    machine.type_line("poweroff");
    let (end, said) = machine.end();
    assert_eq!(end, End::PoweredOff, "{said}");
    assert!(said.contains("nobody is left"), "{said}");
    std::fs::remove_file(image).unwrap();
}
