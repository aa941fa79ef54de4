//! Which controllers a cgroup gives to those below it (cgroup.subtree_control), and taking back
//! what was given.
//!
//! The kernel has one rule in the way: but for the root of all, a cgroup that holds processes
//! gives no controllers (cgroup-v2.rst, 'No Internal Process Constraint'). Processes of others are
//! named, and never moved.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::super::note::{self, Note};
use super::super::procfs::{self, Proc};
use super::super::{SysError, cgroup};
use super::Controller;

/// What gives controllers to those below.
const SUBTREE: &str = "cgroup.subtree_control";
/// How often a controller is asked for again that somebody else took away at the same moment.
const TRIES: usize = 5;
/// How many foreign processes are named.
const NAMED: usize = 5;

/// Whether the cgroup is the root of all, which may hold processes and give controllers.
pub fn is_root(cgroup: &Path) -> bool {
    !cgroup.join("cgroup.type").exists()
}

/// Gives `wanted` downwards: from `base`, which somebody else made, and from each of `ours`, the
/// uppermost first, to the cgroups directly below it. Says which controllers could not be given
/// all the way, and why; nobody is moved.
///
/// What `base` did not give before is noted on it, for [`undo`]. Whoever calls this and lives in
/// `base` moves into a cgroup below it first, if that is not the root and nobody else is there.
pub fn enable(
    base: &Path,
    ours: &[PathBuf],
    wanted: &[Controller],
) -> BTreeMap<Controller, String> {
    let mut refused = BTreeMap::new();
    for &controller in wanted {
        let mut given = Ok(());
        for _ in 0..TRIES {
            given = enable_one(base, ours, controller);
            match &given {
                // Another of us ended, and took back what it had given, between two steps.
                Err(Refused::Gone(_)) => {}
                _ => break,
            }
        }
        if let Err(Refused::Gone(why) | Refused::For(why)) = given {
            refused.insert(controller, why);
        }
    }
    refused
}

enum Refused {
    /// It was there a moment before.
    Gone(String),
    For(String),
}

fn enable_one(base: &Path, ours: &[PathBuf], controller: Controller) -> Result<(), Refused> {
    let name = controller.as_str();
    if !lists(base, "cgroup.controllers", name) {
        return Err(Refused::For(absent(base, name)));
    }
    if !lists(base, SUBTREE, name) {
        if !is_root(base)
            && let Some(others) = inhabitants(base)
        {
            return Err(Refused::For(others));
        }
        // Noted first: who is killed in between has given nothing that nobody knows of.
        let mut given = noted(base);
        given.insert(controller);
        write_noted(base, &given);
        cgroup::set(&base.join(SUBTREE), &format!("+{name}"))
            .map_err(|error| Refused::For(refusal(base, &error)))?;
    }
    for dir in ours {
        cgroup::set(&dir.join(SUBTREE), &format!("+{name}")).map_err(|error| {
            let why = refusal(dir, &error);
            match error.is(Errno::ENOENT) || error.is(Errno::EINVAL) {
                true => Refused::Gone(why),
                false => Refused::For(why),
            }
        })?;
    }
    Ok(())
}

fn refusal(dir: &Path, error: &SysError) -> String {
    let others = error.is(Errno::EBUSY).then(|| inhabitants(dir)).flatten();
    others.unwrap_or_else(|| format!("failed to {error}"))
}

/// Why the cgroup does not have a controller.
fn absent(base: &Path, name: &str) -> String {
    let own = procfs::read_file(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let own = String::from_utf8_lossy(&own);
    let v1 = own.lines().any(|line| {
        let named = line.split(':').nth(1).unwrap_or_default();
        named.split(',').any(|controller| controller == name)
    });
    if v1 {
        return format!(
            "the controller `{name}` is bound to cgroup v1 here (a kernel parameter, \
             cgroup_no_v1=all, gives it to v2)"
        );
    }
    if is_root(base) {
        return format!("this kernel has no controller `{name}`");
    }
    format!(
        "the controller `{name}` is not given to our cgroup {}: whoever made it has to enable it \
         in cgroup.subtree_control above",
        base.display()
    )
}

/// Whoever lives directly in the cgroup, ourselves included; `None`: nobody that can be seen.
fn inhabitants(cgroup: &Path) -> Option<String> {
    let pids = cgroup::procs(cgroup).ok()?;
    let proc = Proc::open().ok()?;
    let mut named: Vec<String> = Vec::new();
    for &pid in pids.iter().take(NAMED) {
        let comm = proc.stat(pid).ok().flatten().map(|stat| stat.comm);
        named.push(format!("{pid} ({})", comm.unwrap_or_default()));
    }
    if pids.len() > NAMED {
        named.push(format!("and {} more", pids.len() - NAMED));
    }
    (!named.is_empty()).then(|| {
        format!(
            "other processes are in our cgroup {}, which then cannot give controllers to those \
             below it: {}. They are not ours to move: start us in a cgroup of our own",
            cgroup.display(),
            named.join(", ")
        )
    })
}

/// Takes back what each of `ours`, the lowest first, gives: nothing of ours below them uses it
/// any more.
pub fn withdraw(ours: &[PathBuf]) {
    for dir in ours {
        for controller in Controller::ALL {
            if lists(dir, SUBTREE, controller.as_str()) {
                // Whoever still has something below keeps it, and the kernel says so.
                let _ = cgroup::set(&dir.join(SUBTREE), &format!("-{}", controller.as_str()));
            }
        }
    }
}

/// Takes back what [`enable`] had `base` give, as far as nobody uses it: the kernel refuses where
/// a cgroup below gives it on, and a limit that somebody set directly below stays in force.
///
/// Where another of us needs it still, whoever ends last takes it back.
pub fn undo(base: &Path) {
    let given = noted(base);
    if given.is_empty() {
        return;
    }
    let mut left = given.clone();
    for controller in given {
        let name = controller.as_str();
        let done = !lists(base, SUBTREE, name)
            || (!is_used(base, controller)
                && cgroup::set(&base.join(SUBTREE), &format!("-{name}")).is_ok());
        if done {
            left.remove(&controller);
        }
    }
    write_noted(base, &left);
}

/// Whether a cgroup directly below has a limit of this kind.
fn is_used(base: &Path, controller: Controller) -> bool {
    let unlimited: &[(&str, &[&str])] = match controller {
        Controller::Memory => &[
            ("memory.max", &["max"]),
            ("memory.high", &["max"]),
            ("memory.low", &["0"]),
            ("memory.min", &["0"]),
        ],
        Controller::Cpu => &[("cpu.max", &["max 100000"]), ("cpu.weight", &["100"])],
        Controller::Pids => &[("pids.max", &["max"])],
        Controller::Io => &[
            ("io.max", &[""]),
            ("io.weight", &["default 100"]),
            ("io.bfq.weight", &["100", "default 100"]),
        ],
        Controller::Cpuset => &[("cpuset.cpus", &[""]), ("cpuset.mems", &[""])],
    };
    let below = std::fs::read_dir(base).into_iter().flatten().flatten();
    let dirs = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    dirs.into_iter().any(|entry| {
        unlimited.iter().any(|(file, values)| {
            // What is not there limits nothing.
            procfs::read_file(&entry.path().join(file)).is_ok_and(|text| {
                let text = String::from_utf8_lossy(&text);
                !values.contains(&text.trim())
            })
        })
    })
}

fn lists(dir: &Path, file: &str, name: &str) -> bool {
    let text = procfs::read_file(&dir.join(file)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.split_ascii_whitespace().any(|word| word == name)
}

fn noted(base: &Path) -> BTreeSet<Controller> {
    let text = note::read(base, Note::Controllers).unwrap_or_default();
    let all = Controller::ALL.into_iter();
    all.filter(|controller| text.split(' ').any(|word| word == controller.as_str()))
        .collect()
}

/// Where no note can be left (before Linux 5.7), what is given stays given.
fn write_noted(base: &Path, given: &BTreeSet<Controller>) {
    let words: Vec<&str> = given.iter().map(|controller| controller.as_str()).collect();
    let _ = note::write(base, Note::Controllers, &words.join(" "));
}
