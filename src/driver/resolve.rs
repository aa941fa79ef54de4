//! What a start needs from files that its service's file names, or from /etc/passwd: read off
//! the loop, each reading on a thread of its own, and not waited for longer than a bound.
//!
//! Such a file may be on a file system that answers nothing. Then its service fails to start,
//! in words, and nobody else is held up: no thread that kills or starts waits for it. A thread
//! that hangs is left behind, and as long as it does the same file is not read again.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::AbortHandle;

use super::message::Message;
use super::run::{Driver, now};
use super::sockets::{self, Sockets};
use super::translate::failed;
use crate::config::{self, MAX_FILE_BYTES};
use crate::core::{EnvFile, Event, GenId, Limit, Resource, SocketAt, Spec};
use crate::sys::accounts::{self, Account};
use crate::sys::rlimit::{self, UNLIMITED};
use crate::sys::spawn::{Attributes, RunAs};
use crate::sys::{SysError, clock};

/// How long the files of one start may take to be read: less than a stop waits for a start.
pub(super) const READ_BOUND: Duration = Duration::from_secs(3);
pub(super) const STACK_BYTES: usize = 128 * 1024;
/// A home directory for users that have none.
const NO_HOME: &str = "/";

/// What one start was given beside its command.
#[derive(Debug, Default)]
pub(super) struct Resolved {
    pub(super) run_as: RunAs,
    /// Variables for its environment, the later ones counting.
    pub(super) vars: Vec<(OsString, OsString)>,
    /// Variables that would tell of another user.
    pub(super) without: &'static [&'static str],
    /// Its sockets.
    pub(super) sockets: Sockets,
}

/// Files that are being read, each with when that began (CLOCK_BOOTTIME, nanoseconds).
pub(super) type Readings = Arc<Mutex<BTreeSet<(PathBuf, u64)>>>;

/// Whether a start has to wait for files.
pub(super) fn is_needed(spec: &Spec) -> bool {
    spec.user.is_some() || spec.group.is_some() || !spec.env_files.is_empty()
}

impl Driver {
    /// Reads what the start needs; it goes on, or fails, when that is there or late.
    pub(super) fn resolve(&mut self, r#gen: GenId, spec: Spec) {
        let paths = paths(&spec);
        let service = self.gens.get(&r#gen).map(|generation| generation.service);
        let open = service.map(|id| self.open_sockets(id)).unwrap_or_default();
        let readings = Arc::clone(&self.readings);
        let work = move || {
            let mut resolved = resolve(&spec, &readings)?;
            resolved.sockets = sockets::open(&spec, &open, &readings)?;
            Ok(resolved)
        };
        let doing = ["start a thread to read", "read"];
        let message = move |result| Message::Resolved { r#gen, result };
        let bound = self.within_bound(doing, paths, work, message);
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.rare.resolving = Some(bound);
        }
    }

    /// Does `work` at `paths`, which may hang, on a thread of its own, and sends what came of it;
    /// after [`READ_BOUND`] that it did not answer. `doing`: to start the thread, and to do it.
    pub(super) fn within_bound<T: Send + 'static>(
        &self,
        [to_start, doing]: [&'static str; 2],
        paths: String,
        work: impl FnOnce() -> Result<T, SysError> + Send + 'static,
        message: impl Fn(Result<T, SysError>) -> Message + Clone + Send + 'static,
    ) -> AbortHandle {
        let (inbox, of_work) = (self.inbox.clone(), message.clone());
        let worker = std::thread::Builder::new()
            .name("nought-files".into())
            .stack_size(STACK_BYTES)
            .spawn(move || {
                // Fails only when the loop has ended.
                let _ = inbox.send(of_work(work()));
            });
        if let Err(error) = worker {
            let error = SysError::io(to_start, Path::new(&paths), &error);
            // Not at once: the core may be in the midst of asking for this.
            let _ = self.inbox.send(message(Err(error)));
        }
        let inbox = self.inbox.clone();
        let bound = tokio::spawn(async move {
            tokio::time::sleep(READ_BOUND).await;
            let why = format!("no answer within {} s", READ_BOUND.as_secs());
            let _ = inbox.send(message(Err(SysError::because(doing, paths, why))));
        });
        bound.abort_handle()
    }

    /// The files are read, or were not in time; what comes second means nothing.
    pub(super) fn on_resolved(&mut self, r#gen: GenId, result: Result<Resolved, SysError>) {
        let generation = self.gens.get_mut(&r#gen);
        let waiting =
            generation.and_then(|g| Some((g.rare.if_any()?.resolving.take()?, g.service)));
        let Some((bound, service)) = waiting else {
            if let Ok(late) = result {
                self.unlink(late.sockets);
            }
            return;
        };
        bound.abort();
        match result {
            Ok(mut resolved) => {
                self.keep_open(service, std::mem::take(&mut resolved.sockets));
                let Some(generation) = self.gens.get_mut(&r#gen) else {
                    return;
                };
                generation.resolved = Some(Arc::new(resolved));
                self.waiting_starts.push_back(r#gen);
                self.start_waiting();
            }
            Err(error) => {
                self.trouble(r#gen, &format!("failed to {error}"));
                let error = failed(&error);
                self.core.handle(now(), Event::SpawnFailed { r#gen, error });
            }
        }
    }
}

pub(super) fn paths(spec: &Spec) -> String {
    let mut paths: Vec<&str> = spec
        .env_files
        .iter()
        .map(|file| file.path.as_str())
        .collect();
    if spec.user.is_some() || spec.group.is_some() {
        paths.extend([accounts::PASSWD, accounts::GROUP]);
    }
    paths.extend(spec.sockets.iter().filter_map(|socket| match &socket.at {
        SocketAt::Stream(path) | SocketAt::Datagram(path) => Some(path.as_str()),
        SocketAt::Tcp(_) | SocketAt::Udp(_) => None,
    }));
    paths.join(", ")
}

/// Who a user and a group are, each a name or a number; `None`: neither is named.
pub(super) fn account(
    user: Option<&str>,
    group: Option<&str>,
    readings: &Readings,
) -> Result<Option<Account>, SysError> {
    if user.is_none() && group.is_none() {
        return Ok(None);
    }
    let passwd = read(accounts::PASSWD, readings)?.unwrap_or_default();
    let groups = read(accounts::GROUP, readings)?.unwrap_or_default();
    accounts::find(&passwd, &groups, user, group).map(Some)
}

fn resolve(spec: &Spec, readings: &Readings) -> Result<Resolved, SysError> {
    let mut resolved = Resolved::default();
    if let Some(account) = account(spec.user.as_deref(), spec.group.as_deref(), readings)? {
        resolved.login(account, spec.user.is_some());
    }
    for EnvFile { path, optional } in &spec.env_files {
        let Some(text) = read(path, readings)? else {
            if *optional {
                continue;
            }
            let error = std::io::Error::from_raw_os_error(libc::ENOENT);
            return Err(SysError::io("read the env_file", Path::new(path), &error));
        };
        let read = config::parse_environment(&text);
        if let Some(bad) = read.bad_lines.first() {
            let place = format!("{path}:{}", bad.line);
            return Err(SysError::because("read the env_file", place, bad.why));
        }
        let vars = read.vars.into_iter();
        resolved
            .vars
            .extend(vars.map(|(key, value)| (key.into(), value.into())));
    }
    Ok(resolved)
}

impl Resolved {
    /// What a login gives: HOME, USER, LOGNAME and SHELL of whom it runs as, never ours.
    fn login(&mut self, account: Account, as_user: bool) {
        self.run_as = account.run_as;
        if !as_user {
            return;
        }
        self.without = &["HOME", "USER", "LOGNAME", "SHELL", "MAIL"];
        let Some(user) = account.user else {
            self.vars.push(("HOME".into(), NO_HOME.into()));
            return;
        };
        let home = if user.home.is_empty() {
            NO_HOME.into()
        } else {
            user.home
        };
        self.vars.extend([
            ("HOME".into(), home.into()),
            ("USER".into(), user.name.clone().into()),
            ("LOGNAME".into(), user.name.into()),
            ("SHELL".into(), user.shell.into()),
        ]);
    }
}

/// The text of a file; `None`: there is none. **May hang** for as long as its file system does.
pub(super) fn read(path: &str, readings: &Readings) -> Result<Option<String>, SysError> {
    let key = (PathBuf::from(path), clock::boot_now());
    let lock = || readings.lock().unwrap_or_else(PoisonError::into_inner);
    {
        let mut under_way = lock();
        let bound = clock::as_nanos(READ_BOUND);
        let hangs =
            |(of, since): &(PathBuf, u64)| of == &key.0 && since.saturating_add(bound) < key.1;
        if under_way.iter().any(hangs) {
            let why = "an earlier attempt to read it still hangs: is its file system there?";
            return Err(SysError::because("read", path, why));
        }
        under_way.insert(key.clone());
    }
    let text = read_text(&key.0);
    lock().remove(&key);
    text
}

fn read_text(path: &Path) -> Result<Option<String>, SysError> {
    let io = |error: std::io::Error| SysError::io("read", path, &error);
    // Looked at before it is opened: opening a fifo would wait for a writer.
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => {}
        Ok(_) => {
            let what = path.display().to_string();
            return Err(SysError::because("read", what, "it is not a file"));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    }
    let file = std::fs::File::open(path).map_err(io)?;
    let most = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let mut text = String::new();
    let read = file.take(most.saturating_add(1)).read_to_string(&mut text);
    read.map_err(io)?;
    if text.len() > MAX_FILE_BYTES {
        let why = format!("it has more than {MAX_FILE_BYTES} bytes");
        return Err(SysError::because("read", path.display().to_string(), why));
    }
    Ok(Some(text))
}

/// What the kernel is told of how a service's processes run.
pub(super) fn attributes(spec: &Spec, run_as: &RunAs) -> Attributes {
    Attributes {
        run_as: run_as.clone(),
        limits: limits(&spec.limits),
        umask: spec.umask,
        nice: spec.nice,
        oom_score_adj: spec.oom_score_adj,
        listen_pid: false,
    }
}

fn limits(limits: &BTreeMap<Resource, Limit>) -> Vec<rlimit::Limit> {
    use rlimit::Resource as R;
    let limits = limits.iter().map(|(resource, limit)| rlimit::Limit {
        resource: match resource {
            Resource::AddressSpace => R::RLIMIT_AS,
            Resource::Core => R::RLIMIT_CORE,
            Resource::Cpu => R::RLIMIT_CPU,
            Resource::Data => R::RLIMIT_DATA,
            Resource::FileSize => R::RLIMIT_FSIZE,
            Resource::LockedMemory => R::RLIMIT_MEMLOCK,
            Resource::MessageQueues => R::RLIMIT_MSGQUEUE,
            Resource::Nice => R::RLIMIT_NICE,
            Resource::OpenFiles => R::RLIMIT_NOFILE,
            Resource::Processes => R::RLIMIT_NPROC,
            Resource::RealtimePriority => R::RLIMIT_RTPRIO,
            Resource::RealtimeCpu => R::RLIMIT_RTTIME,
            Resource::PendingSignals => R::RLIMIT_SIGPENDING,
            Resource::Stack => R::RLIMIT_STACK,
        },
        soft: limit.soft.unwrap_or(UNLIMITED),
        hard: limit.hard.unwrap_or(UNLIMITED),
    });
    limits.collect()
}
