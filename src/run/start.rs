//! Starting the command: in its cgroup, marked, in a process group of its own, and not executing
//! anything before the guardian knows of it.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::unistd::{Pid, setpgid};

use super::guardian::Guard;
use super::orphan::Orphan;
use super::result::NotStarted;
use super::site::Site;
use super::{JobOptions, Onlooker};
use crate::core::{Containment, Guarantee, ScanQuality};
use crate::sys::accounts::{self, Account};
use crate::sys::note::{self, Note};
use crate::sys::spawn::{
    self, Born, ExecOutcome, Forward, Job, Prepared, SpawnError, SpawnMethod, Spec, Stage, Stdio,
};
use crate::sys::terminal::Terminal;
use crate::sys::{SysError, procfs, reap};

/// What the command is given of ours.
pub(super) struct Ours<'a> {
    /// The terminal, if its foreground is ours to give.
    pub(super) terminal: Option<&'a Terminal>,
    /// Whom it runs as, if not as us.
    pub(super) account: Option<&'a Account>,
    /// What was ignored when we were started.
    pub(super) ignored: u64,
}

/// Looks up whom the command runs as.
pub(super) fn account(user: &str) -> Result<Account, SysError> {
    let (user, group) = match user.split_once(':') {
        Some((user, group)) => (Some(user).filter(|user| !user.is_empty()), Some(group)),
        None => (Some(user), None),
    };
    let read = |path: &'static str| procfs::read_file(Path::new(path));
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let (passwd, groups) = (text(read(accounts::PASSWD)?), text(read(accounts::GROUP)?));
    accounts::find(&passwd, &groups, user, group)
}

/// The environment of whoever runs as somebody else: what a login gives is theirs, not ours.
fn login(env: &mut Vec<(OsString, OsString)>, account: &Account) {
    let Some(user) = &account.user else { return };
    let theirs = [
        ("HOME", &user.home),
        ("USER", &user.name),
        ("LOGNAME", &user.name),
        ("SHELL", &user.shell),
    ];
    for (name, value) in theirs {
        env.retain(|(known, _)| known != name);
        env.push((name.into(), value.into()));
    }
}

/// Starts the command, trying one way after the other; what does not work is noted.
pub(super) fn start(
    options: &JobOptions,
    site: &mut Site,
    guard: &mut Guard,
    ours: &Ours<'_>,
    onlooker: &mut dyn Onlooker,
) -> Result<Born, NotStarted> {
    use SpawnMethod::{Clone3Into, Clone3ThenWrite, ForkThenWrite};
    let in_cgroup = [Clone3Into, Clone3ThenWrite, ForkThenWrite];
    let mut last = None;
    if site.job().is_some() {
        for method in in_cgroup {
            match try_once(options, site, guard, ours, method, onlooker) {
                Ok(born) => return Ok(born),
                Err(Tried::Refused(refused)) => return Err(refused),
                Err(Tried::Failed(error)) => {
                    site.note(format!(
                        "starting by {} does not work: {error}",
                        method.as_str()
                    ));
                    last = Some(error);
                }
            }
        }
        if site.is_limited() && !options.limits_optional {
            let why = last.map_or_else(String::new, |error| error.to_string());
            let text = format!("start the command in the cgroup that has its limits: {why}");
            return Err(NotStarted { code: 125, text });
        }
        site.give_up_cgroups();
    }
    for method in [Clone3ThenWrite, ForkThenWrite] {
        match try_once(options, site, guard, ours, method, onlooker) {
            Ok(born) => return Ok(born),
            Err(Tried::Refused(refused)) => return Err(refused),
            Err(Tried::Failed(error)) => last = Some(error),
        }
    }
    let text = last.map_or_else(|| "start the command".to_owned(), |error| error.to_string());
    Err(NotStarted { code: 125, text })
}

enum Tried {
    /// Another way may work.
    Failed(SysError),
    /// Nothing is to be started.
    Refused(NotStarted),
}

fn try_once(
    options: &JobOptions,
    site: &mut Site,
    guard: &mut Guard,
    ours: &Ours<'_>,
    method: SpawnMethod,
    onlooker: &mut dyn Onlooker,
) -> Result<Born, Tried> {
    let prepared = Prepared::new(spec(options, site, ours), method).map_err(|error| {
        // A cgroup that cannot be opened is no fault of the command's.
        match error.doing {
            "open the cgroup" => Tried::Failed(error),
            "execute" if error.is(nix::errno::Errno::ENOENT) => Tried::Refused(NotStarted {
                code: 127,
                text: error.to_string(),
            }),
            _ => Tried::Refused(NotStarted {
                code: 125,
                text: error.to_string(),
            }),
        }
    })?;
    site.settle_containment();
    if let Err(error) = guard.begin(site, options, onlooker) {
        unguarded(&error, onlooker);
    }
    let mut refused = None;
    let born = spawn::spawn(&prepared, |born| {
        settle(site, guard, onlooker);
        site.settle_scan(is_marked(born, method));
        if !site.notes.is_empty() {
            let (guarantee, notes) = (site.guarantee, site.notes.join("; "));
            onlooker.note(&format!(
                "only `{guarantee}` can be guaranteed here: {notes}"
            ));
        }
        if let Err(missing) = suffices(site.guarantee, options.min_guarantee) {
            refused = Some(missing.clone());
            return Err(SysError::because("start", "the command", missing));
        }
        if born.first.is_none() {
            // The child does so, too; this makes sure of it before anybody signals the group.
            let pid = Pid::from_raw(i32::try_from(born.id.pid).unwrap_or(-1));
            let _ = setpgid(pid, pid);
        }
        tell(born, site, guard, onlooker);
        Ok(())
    });
    born.map_err(|error| {
        if let SpawnError::Stillborn { pid, .. } = error {
            let _ = reap::reap_pid(pid);
        }
        match (refused, error) {
            (Some(text), _) => Tried::Refused(NotStarted { code: 125, text }),
            (None, SpawnError::NotBorn(error) | SpawnError::Stillborn { error, .. }) => {
                Tried::Failed(error)
            }
        }
    })
}

/// The guardian is there, and then we inherit orphans: before the newborn does anything, and
/// while it is born, which takes as long.
fn settle(site: &mut Site, guard: &mut Guard, onlooker: &mut dyn Onlooker) {
    if let Err(error) = guard.settle() {
        unguarded(&error, onlooker);
    }
    if let Err(error) = reap::set_child_subreaper() {
        site.note(format!("failed to {error}"));
    }
}

/// Says that nobody guards this run.
fn unguarded(error: &SysError, onlooker: &mut dyn Onlooker) {
    onlooker.note(&format!(
        "failed to {error}: if this run is killed, what it started lives on"
    ));
}

/// Tells the guardian who was born, and whoever comes after it.
fn tell(born: &Born, site: &Site, guard: &Guard, onlooker: &mut dyn Onlooker) {
    if let Err(error) = guard.tell(born, site) {
        unguarded(&error, onlooker);
    }
    if let Some(job) = site.job() {
        // Without it, what a killed guardian leaves is found by its cgroup alone.
        let _ = note::write(&job, Note::Birth, &Orphan::words(born, true));
    }
}

fn spec(options: &JobOptions, site: &Site, ours: &Ours<'_>) -> Spec {
    let (name, value) = site.marker();
    let mut env = options.env.clone();
    env.push((name.into(), value.into()));
    if let Some(account) = ours.account {
        login(&mut env, account);
    }
    Spec {
        program: options.argv.first().cloned().unwrap_or_default(),
        argv: options.argv.clone(),
        env,
        dir: options.dir.clone().unwrap_or_default(),
        stdio: Stdio::Inherited,
        open_files: None,
        cgroup: site.job(),
        mark: true,
        join: None,
        pid_namespace: options.pidns.then_some(Forward::Program),
        enter: None,
        new_session: false,
        job: Some(Job {
            terminal: ours.terminal.and_then(Terminal::try_clone),
            ignored: ours.ignored,
        }),
        attributes: spawn::Attributes {
            run_as: ours
                .account
                .map(|account| account.run_as.clone())
                .unwrap_or_default(),
            ..spawn::Attributes::default()
        },
    }
}

/// Whether the newborn and all its descendants bear a mark. After a plain fork it enters its time
/// namespace at the exec only, and before Linux 6.3 not even then: not counted on.
fn is_marked(born: &Born, method: SpawnMethod) -> Result<(), String> {
    match (&born.mark, &born.unmarked) {
        (Some(_), _) if method == SpawnMethod::ForkThenWrite => {
            Err("clone3 does not work here".to_owned())
        }
        (Some(_), _) => Ok(()),
        (None, Some(error)) => Err(error.to_string()),
        (None, None) => Err("none was given".to_owned()),
    }
}

/// The words that were asked for: the least of each kind goes without saying.
fn asked_for(wanted: Guarantee) -> String {
    let mut words = Vec::new();
    if wanted.containment != Containment::ProcessGroup {
        words.push(wanted.containment.as_str());
    }
    if wanted.scan != ScanQuality::None {
        words.push(wanted.scan.as_str());
    }
    if words.is_empty() {
        return wanted.to_string();
    }
    words.join(" ")
}

fn suffices(has: Guarantee, wanted: Option<Guarantee>) -> Result<(), String> {
    match wanted {
        Some(wanted) if has.containment > wanted.containment || has.scan > wanted.scan => {
            Err(format!(
                "start the command: this place guarantees `{has}`, and `{}` was asked for",
                asked_for(wanted)
            ))
        }
        _ => Ok(()),
    }
}

/// What an exec that failed means to whoever called us.
pub(super) fn not_executed(outcome: &ExecOutcome, options: &JobOptions) -> Option<NotStarted> {
    let program = options.argv.first().cloned().unwrap_or_default();
    let program = program.to_string_lossy();
    match outcome {
        // Killed before it came to that, by whom ever: its end says so.
        ExecOutcome::Executed | ExecOutcome::KilledBefore => None,
        ExecOutcome::Failed { stage, errno } => {
            let dir = options.dir.clone().unwrap_or_else(|| PathBuf::from("."));
            let what = match stage {
                Stage::Directory => dir.display().to_string(),
                _ => program.into_owned(),
            };
            let code = match (stage, errno) {
                (Stage::Exec, nix::errno::Errno::ENOENT) => 127,
                (Stage::Exec, _) => 126,
                _ => 125,
            };
            let text = format!("{} {what}: {}", stage.doing(), errno.desc());
            Some(NotStarted { code, text })
        }
    }
}

/// Runs what is wanted when the time is over: by a shell, its output on our standard error.
pub(super) fn start_aux(
    command: &std::ffi::OsStr,
    options: &JobOptions,
    site: &Site,
    stdio: [OwnedFd; 3],
    main: u32,
) -> Result<Born, SysError> {
    let (name, value) = site.marker();
    let mut env = options.env.clone();
    env.push((name.into(), value.into()));
    env.push(("NOUGHT_PID".into(), main.to_string().into()));
    if let Some(job) = site.job() {
        env.push(("NOUGHT_CGROUP".into(), job.into()));
    }
    let cgroup = site.aux();
    if let Some(cgroup) = &cgroup {
        crate::sys::cgroup::make_dir(cgroup)?;
    }
    let spec = Spec {
        program: "/bin/sh".into(),
        argv: vec!["sh".into(), "-c".into(), command.to_owned()],
        env,
        dir: options.dir.clone().unwrap_or_default(),
        stdio: Stdio::Only(stdio),
        open_files: None,
        cgroup,
        mark: false,
        join: None,
        pid_namespace: None,
        enter: None,
        new_session: true,
        job: None,
        attributes: spawn::Attributes::default(),
    };
    let prepared = Prepared::new(spec, SpawnMethod::Clone3Into)?;
    spawn::spawn(&prepared, |_| Ok(())).map_err(|error| match error {
        SpawnError::NotBorn(error) => error,
        SpawnError::Stillborn { pid, error } => {
            let _ = reap::reap_pid(pid);
            error
        }
    })
}
