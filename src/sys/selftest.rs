//! What this place allows, found by doing it once at start-up.
//!
//! A probe (ourselves, called `nought-probe`) is started in a scratch cgroup, forks a child that
//! leaves its session, and both are looked at, killed, and their cgroup is removed: what works
//! there works for services, and what does not is named with its errno and its consequence.
#![expect(unsafe_code, reason = "the probe forks")]

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, fork, pipe2, setsid};

use super::cgroup::Removal;
use super::kill::KillHow;
use super::pidfd::PidFd;
use super::procfs::Proc;
use super::scan::Quality;
use super::spawn::{self, Born, Prepared, SpawnMethod, Spec, Stdio};
use super::{SysError, cgroup, clock, kill, mount, procfs, reap};

/// The name (`argv[0]`) under which our program is the probe.
pub const PROBE_NAME: &str = "nought-probe";

/// What holds a service's processes together here, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Containment {
    /// A cgroup with cgroup.kill.
    CgroupKill,
    /// A cgroup without: frozen, then signalled.
    CgroupSignal,
    /// No cgroup, but we inherit orphans.
    Subreaper,
    /// Neither: the process group.
    ProcessGroup,
}

/// What this place allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// What holds processes together.
    pub containment: Containment,
    /// How processes get into their cgroup.
    pub spawn_method: SpawnMethod,
    /// How escapees can be recognised.
    pub scan: Quality,
    /// What is missing: each says what, why (errno), and what follows from it.
    pub notes: Vec<String>,
}

/// Does what the probe does if that is what we were started as: forks a child that leaves the
/// session, says so on standard output, and stays until standard input ends. `None`: we are
/// not the probe. To be called first thing in `main`, before any thread.
pub fn run_if_probe() -> Option<ExitCode> {
    if std::env::args_os().next()? != PROBE_NAME {
        return None;
    }
    // SAFETY: no other thread exists yet, so that the child may use everything.
    let name: &[u8] = match unsafe { fork() } {
        Ok(ForkResult::Child) => match setsid() {
            Ok(_) => b"c",
            Err(_) => return Some(ExitCode::FAILURE),
        },
        Ok(ForkResult::Parent { .. }) => b"p",
        Err(_) => return Some(ExitCode::FAILURE),
    };
    let mut stdout = std::io::stdout();
    if stdout
        .write_all(name)
        .and_then(|()| stdout.flush())
        .is_err()
    {
        return Some(ExitCode::FAILURE);
    }
    let ended = std::io::stdin().read_to_end(&mut Vec::new());
    Some(if ended.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How long one step of the test may take on a machine that is busy booting.
const STEP_BOUND: Duration = Duration::from_secs(5);

/// Finds out what works: below the existing cgroup `parent`, if there is one to work in, with
/// `program` (usually /proc/self/exe) as the probe. Whether we are a subreaper (or process 1)
/// is to be settled before. **Blocks** for some 5 ms when all is well. Leaves nothing behind;
/// what it could not remove is in the notes.
pub fn find_abilities(parent: Option<&Path>, program: &Path) -> Abilities {
    let mut notes = Vec::new();
    let containment = match inherits_orphans() {
        true => Containment::Subreaper,
        false => {
            notes.push(
                "we do not inherit orphans (PR_SET_CHILD_SUBREAPER): only process groups hold \
                 services together"
                    .to_owned(),
            );
            Containment::ProcessGroup
        }
    };
    let mut abilities = Abilities {
        containment,
        spawn_method: SpawnMethod::Clone3Into,
        scan: Quality::None,
        notes,
    };
    let marked = match try_methods(parent, program, &mut abilities) {
        Some(trial) => trial.marked,
        None => Err("no probe could be started".to_owned()),
    };
    abilities.scan = match (mount::proc_is_complete(), marked) {
        (Err(why), _) => {
            abilities
                .notes
                .push(format!("{why}: escapees cannot be looked for"));
            Quality::None
        }
        (Ok(()), Ok(())) => Quality::Marked,
        (Ok(()), Err(why)) => {
            abilities.notes.push(format!(
                "no mark by time namespaces ({why}): escapees are recognised by descent, session \
                 and environment only"
            ));
            Quality::Descent
        }
    };
    abilities
}

fn inherits_orphans() -> bool {
    nix::unistd::getpid().as_raw() == 1 || nix::sys::prctl::get_child_subreaper().unwrap_or(false)
}

struct Trial {
    /// Whether the mark was there and inherited; why not.
    marked: Result<(), String>,
    /// Whether cgroup.kill ended it; `None` without a cgroup.
    kill_file: Option<bool>,
}

const METHODS: [SpawnMethod; 3] = [
    SpawnMethod::Clone3Into,
    SpawnMethod::Clone3ThenWrite,
    SpawnMethod::ForkThenWrite,
];

fn try_methods(parent: Option<&Path>, program: &Path, abilities: &mut Abilities) -> Option<Trial> {
    if let Some(parent) = parent {
        for method in METHODS {
            let scratch = parent.join(format!("selftest-{}", method.as_str()));
            if let Err(e) = cgroup::make_dir(&scratch) {
                let note = format!("no cgroup can be made ({e}): services run without");
                abilities.notes.push(note);
                break;
            }
            let trial = try_one(Some(&scratch), program, method, &mut abilities.notes);
            remove(&scratch, &mut abilities.notes);
            if let Some(trial) = settle(trial, method, "in a cgroup", abilities) {
                return Some(trial);
            }
        }
    }
    // Without a cgroup the first two are the same.
    for method in METHODS.into_iter().skip(1) {
        let trial = try_one(None, program, method, &mut abilities.notes);
        if let Some(trial) = settle(trial, method, "without a cgroup", abilities) {
            return Some(trial);
        }
    }
    None
}

fn settle(
    trial: Result<Trial, String>,
    method: SpawnMethod,
    place: &str,
    abilities: &mut Abilities,
) -> Option<Trial> {
    match trial {
        Ok(trial) => {
            abilities.spawn_method = method;
            match trial.kill_file {
                Some(true) => abilities.containment = Containment::CgroupKill,
                Some(false) => {
                    let note = "cgroup.kill is missing or fails here: services are frozen and \
                                signalled one by one";
                    abilities.notes.push(note.to_owned());
                    abilities.containment = Containment::CgroupSignal;
                }
                None => {}
            }
            Some(trial)
        }
        Err(why) => {
            let method = method.as_str();
            abilities
                .notes
                .push(format!("starting by {method} {place} does not work: {why}"));
            None
        }
    }
}

fn remove(scratch: &Path, notes: &mut Vec<String>) {
    match cgroup::remove_tree(scratch) {
        Removal::Removed => {}
        Removal::Busy { path } => {
            notes.push(format!(
                "the scratch cgroup {} stays: it is busy",
                path.display()
            ));
        }
        Removal::Failed(e) => notes.push(format!("the scratch cgroup stays: {e}")),
    }
}

/// A running probe; our end of its standard input keeps it there.
struct Probe {
    born: Born,
    stdin: OwnedFd,
    stdout: OwnedFd,
}

fn try_one(
    scratch: Option<&Path>,
    program: &Path,
    method: SpawnMethod,
    notes: &mut Vec<String>,
) -> Result<Trial, String> {
    let probe = match start(scratch, program, method) {
        Ok(probe) => probe,
        Err(e) => {
            if let spawn::SpawnError::Stillborn { pid, .. } = e {
                let _ = reap::reap_pid(pid);
            }
            return Err(e.to_string());
        }
    };
    let looked = look_at(&probe, scratch);
    let ended = match scratch {
        Some(scratch) => end_in(scratch).map(Some),
        None => Ok(None),
    };
    end(probe, looked.as_ref().ok().map(|l| l.child), notes);
    Ok(Trial {
        marked: looked?.marked,
        kill_file: ended?,
    })
}

fn start(
    scratch: Option<&Path>,
    program: &Path,
    method: SpawnMethod,
) -> Result<Probe, spawn::SpawnError> {
    let not_born = |doing| {
        move |e| spawn::SpawnError::NotBorn(SysError::new(doing, "the start-up test's probe", e))
    };
    let piped = || pipe2(OFlag::O_CLOEXEC).map_err(not_born("make a pipe for"));
    let (stdin, our_stdin) = piped()?;
    let (our_stdout, stdout) = piped()?;
    let null = open(
        "/dev/null",
        OFlag::O_WRONLY | OFlag::O_CLOEXEC,
        Mode::empty(),
    );
    let spec = Spec {
        program: program.into(),
        argv: vec![PROBE_NAME.into()],
        env: Vec::new(),
        dir: PathBuf::from("/"),
        stdio: Stdio::Only([stdin, stdout, null.map_err(not_born("open /dev/null for"))?]),
        open_files: None,
        cgroup: scratch.map(Path::to_path_buf),
        mark: true,
        join: None,
        pid_namespace: None,
        enter: None,
        new_session: true,
        job: None,
        attributes: spawn::Attributes::default(),
    };
    let prepared = Prepared::new(spec, method).map_err(spawn::SpawnError::NotBorn)?;
    let born = spawn::spawn(&prepared, |_| Ok(()))?;
    Ok(Probe {
        born,
        stdin: our_stdin,
        stdout: our_stdout,
    })
}

struct Look {
    child: u32,
    marked: Result<(), String>,
}

fn look_at(probe: &Probe, scratch: Option<&Path>) -> Result<Look, String> {
    await_both(&probe.stdout)?;
    let pid = probe.born.id.pid;
    let in_words = |e: SysError| e.to_string();
    let proc = Proc::open().map_err(in_words)?;
    let children = proc.children(pid).map_err(in_words)?;
    let [child] = *children.as_slice() else {
        return Err(format!(
            "the probe {pid} has the children {children:?}, not one"
        ));
    };
    if let Some(scratch) = scratch {
        let mut expected = vec![pid, child];
        expected.sort_unstable();
        let members = cgroup::procs_recursive(scratch).map_err(in_words)?;
        if members != expected {
            return Err(format!(
                "the probe's cgroup holds {members:?}, not {expected:?}"
            ));
        }
    }
    let marked = check_mark(&proc, &probe.born, child);
    Ok(Look { child, marked })
}

fn check_mark(proc: &Proc, born: &Born, child: u32) -> Result<(), String> {
    let mark = match (&born.mark, &born.unmarked) {
        (Some(mark), _) => Some(mark.inode),
        (None, Some(e)) => return Err(e.to_string()),
        (None, None) => return Err("none was given".to_owned()),
    };
    let in_words = |e: SysError| e.to_string();
    if mark == Some(procfs::own_mark().map_err(in_words)?) {
        return Err("the probe shares our own time namespace".to_owned());
    }
    for (who, pid) in [("the probe", born.id.pid), ("the probe's child", child)] {
        if proc.mark(pid).map_err(in_words)?.inode() != mark {
            return Err(format!("{who} does not bear the mark"));
        }
    }
    Ok(())
}

/// Waits until the probe and its child have both said that they are there.
fn await_both(stdout: &OwnedFd) -> Result<(), String> {
    let bound = clock::as_nanos(STEP_BOUND);
    let deadline = clock::boot_now().saturating_add(bound);
    let mut said = Vec::new();
    while said.len() < 2 {
        let left_ms = deadline.saturating_sub(clock::boot_now()) / 1_000_000;
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(left_ms).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(0) => {
                return Err(format!(
                    "no word from the probe in {} s",
                    STEP_BOUND.as_secs()
                ));
            }
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(format!("wait for the probe: {}", e.desc())),
        }
        let mut buffer = [0_u8; 8];
        match nix::unistd::read(stdout, &mut buffer) {
            Ok(0) => return Err("the probe ended before it said anything".to_owned()),
            Ok(len) => said.extend_from_slice(buffer.get(..len).unwrap_or_default()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(format!("read from the probe: {}", e.desc())),
        }
    }
    Ok(())
}

/// Whether cgroup.kill did it, if anything did.
fn end_in(scratch: &Path) -> Result<bool, String> {
    let has_file = scratch.join("cgroup.kill").exists();
    let how = if has_file {
        KillHow::CgroupKill
    } else {
        KillHow::FreezeAndSignal
    };
    let result = kill::kill_tree(scratch, how, STEP_BOUND);
    match (result.populated, result.error) {
        (Some(false), None) => Ok(has_file),
        (Some(false), Some(_)) => Ok(false),
        (_, Some(e)) => Err(e.to_string()),
        (_, None) => Err("its cgroup could not be emptied".to_owned()),
    }
}

/// Reaps the probe and its child, after making sure that both are at their end.
fn end(probe: Probe, child: Option<u32>, notes: &mut Vec<String>) {
    let Probe {
        born,
        stdin,
        stdout,
    } = probe;
    let pid = born.id.pid;
    let handles = [
        born.pidfd,
        child.and_then(|child| PidFd::open(child).ok().flatten()),
    ];
    for handle in handles.iter().flatten() {
        let _ = handle.send(libc::SIGKILL);
    }
    // Ends those that have no handle: their standard input is over.
    drop((stdin, stdout));
    for (pid, handle) in [Some(pid), child].into_iter().zip(&handles) {
        let Some(pid) = pid else { continue };
        if handle.as_ref().is_some_and(|handle| !ends_in_time(handle)) {
            notes.push(format!("the start-up test's process {pid} does not end"));
            continue;
        }
        match reap::reap_pid(pid) {
            Ok(_) => {}
            // Where we do not inherit orphans, process 1 reaps the child.
            Err(e) if e.is(nix::errno::Errno::ECHILD) => {}
            Err(e) => notes.push(format!("the start-up test's process {pid}: {e}")),
        }
    }
}

fn ends_in_time(handle: &PidFd) -> bool {
    let bound_ms = STEP_BOUND.as_millis();
    let mut fds = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(bound_ms).unwrap_or(PollTimeout::MAX);
    loop {
        match poll(&mut fds, timeout) {
            Err(nix::errno::Errno::EINTR) => {}
            other => return other.is_ok_and(|ready| ready > 0),
        }
    }
}
