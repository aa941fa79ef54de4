//! Starting a process: in its cgroup from its first instruction, marked, and only executing
//! its program after the caller has written down who it is.
//!
//! Everything is prepared before the clone. The child shares no memory with us (fork-style:
//! no CLONE_VM; docs/decisions/0001), makes only raw system calls (child.rs), and reports
//! through a pipe that its exec closes:
//!
//! ```text
//!  parent                                       child
//!  prepare; pipes; signals blocked; clone3 ───► (cgroup, mark, if the clone did not)
//!  start time, mark                             descriptors, session
//!  before_go(&born): records                    ... reads the go pipe
//!  go ────────────────────────────────────────► signals, limits, user, chdir
//!  Born returned                                "executing" ─► exec pipe
//!  exec pipe: [executing] EOF = executed        execve: EOF, or "failed" {stage, errno}, exit
//! ```
//!
//! EOF alone would not tell an exec from a SIGKILL: the word "executing" does. A child that a
//! once-killed cgroup kills at birth never says it.
#![expect(
    unsafe_code,
    reason = "clone3 has no wrapper, and the child may only make raw calls"
)]

mod child;
mod newborn;
mod outcome;
mod pid_namespace;
mod prepare;

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::unistd::{pipe2, write};

pub use outcome::{ExecOutcome, Stage, read_exec_outcome};
pub use pid_namespace::{Forward, REPORT, Report, World};
pub use prepare::{
    ALSO_HIGHEST, ALSO_MOST, Attributes, Job, Prepared, RunAs, SpawnMethod, Spec, Stdio,
};

use super::SysError;
use super::pidfd::PidFd;
use super::procfs::ProcId;
use newborn::{describe, find_out};

/// A time namespace of a process's own, inherited by all its descendants through fork, exec,
/// setsid, a wiped environment and a change of cgroup.
#[derive(Debug)]
pub struct Mark {
    /// The namespace's inode number, as in /proc/PID/ns/time.
    pub inode: u64,
    /// The namespace's own number, which no other has in this boot; `None` before Linux 6.18.
    pub id: Option<u64>,
    /// Keeps the inode's number from being given to another namespace: hold it until the verdict.
    pub fd: OwnedFd,
}

/// A process that exists in its cgroup and has not executed its program yet.
#[derive(Debug)]
pub struct Born {
    /// Who it is: pid and start time.
    pub id: ProcId,
    /// A handle on it; `None` on kernels without (before 5.3).
    pub pidfd: Option<PidFd>,
    /// Its mark, if one was wanted and could be had.
    pub mark: Option<Mark>,
    /// Why there is no mark although one was wanted.
    pub unmarked: Option<SysError>,
    /// Says how its exec went, at EOF: [`read_exec_outcome`]. Non-blocking.
    pub exec_pipe: OwnedFd,
    /// What belongs to a pid namespace of its own, if it was to have one: then it is the first
    /// process of that, and the program's process is its child.
    pub first: Option<FirstBorn>,
}

/// What the parent has of the first process of a new pid namespace.
#[derive(Debug)]
pub struct FirstBorn {
    /// What happens to the program, as [`Report`]s of [`REPORT`] bytes; EOF when the first
    /// process is gone. Non-blocking.
    pub reports: OwnedFd,
    /// The namespaces, for others of the same start to enter.
    pub world: World,
}

/// Why there is no process, or will soon be none any more.
#[derive(Debug)]
pub enum SpawnError {
    /// Nothing was born.
    NotBorn(SysError),
    /// A process was born and ends without executing anything; its exit has to be reaped.
    Stillborn {
        /// Its pid.
        pid: u32,
        /// Why it ends.
        error: SysError,
    },
}

impl std::fmt::Display for SpawnError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SpawnError::NotBorn(error) | SpawnError::Stillborn { error, .. } => {
                write!(f, "{error}")
            }
        }
    }
}

impl std::error::Error for SpawnError {}

/// `CLONE_PIDFD` and friends of <linux/sched.h>; libc's CLONE_INTO_CGROUP and
/// CLONE_CLEAR_SIGHAND overflow their type to 0.
const CLONE_PIDFD: u64 = 0x1000;
const CLONE_NEWTIME: u64 = 0x80;
const CLONE_NEWNS: u64 = 0x2_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;
pub(super) const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `struct clone_args` as of Linux 5.7.
#[repr(C)]
#[derive(Default)]
pub(super) struct CloneArgs {
    pub(super) flags: u64,
    pub(super) pidfd: u64,
    pub(super) child_tid: u64,
    pub(super) parent_tid: u64,
    pub(super) exit_signal: u64,
    pub(super) stack: u64,
    pub(super) stack_size: u64,
    pub(super) tls: u64,
    pub(super) set_tid: u64,
    pub(super) set_tid_size: u64,
    pub(super) cgroup: u64,
}

/// Room for a pid's digits (at most 2^22, proc_sys_kernel(5)) and the zero behind them.
const DIGITS: usize = 8;
/// The variable that names its own pid to a process that sockets are handed to, without the pid.
const LISTEN_PID: &[u8; 11 + DIGITS] = b"LISTEN_PID=\0\0\0\0\0\0\0\0";

/// What runs a program that is neither a binary nor begins with `#!`, as in execvp(3).
const SHELL: &CStr = c"/bin/sh";

/// One spawn at a time: a child that is born while another's pipe is open here inherits that
/// pipe for a moment, and one born into a *frozen* cgroup would keep it open until thawed.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Starts the process. `before_go` is called while it waits, in its cgroup and marked: record
/// it there. If that fails the process ends without having executed anything.
///
/// **Blocks** for a fork (0.3 ms, more with our memory) and for `before_go`, never for the
/// child's chdir or exec, which may hang on a dead file system.
pub fn spawn(
    prepared: &Prepared,
    before_go: impl FnOnce(&Born) -> Result<(), SysError>,
) -> Result<Born, SpawnError> {
    let (born, go) = {
        let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let pipes = Pipes::new(prepared.pid_namespace.is_some()).map_err(SpawnError::NotBorn)?;
        let newborn = match &prepared.enter {
            Some(world) => world.born_here(|| clone_with(prepared, &pipes)),
            None => clone_with(prepared, &pipes),
        };
        let newborn = newborn.map_err(SpawnError::NotBorn)?;
        take_over(prepared, newborn, pipes)?
    };
    let pid = born.id.pid;
    if let Err(error) = before_go(&born) {
        return Err(stillborn(pid, born.pidfd.as_ref(), error));
    }
    // The child's end is held open here, too: no SIGPIPE if the child has died.
    if let Err(e) = write(&go.write, b"g") {
        let error = SysError::new("let go", describe(pid), e);
        return Err(stillborn(pid, born.pidfd.as_ref(), error));
    }
    Ok(born)
}

/// Ends a child that is not let go: the end of the go pipe does that, and the signal one that
/// is stopped or frozen.
fn stillborn(pid: u32, handle: Option<&PidFd>, error: SysError) -> SpawnError {
    // That it is gone already is what is wanted.
    let _ = handle.map(|handle| handle.send(libc::SIGKILL));
    SpawnError::Stillborn { pid, error }
}

struct GoPipe {
    read: OwnedFd,
    write: OwnedFd,
}

struct Pipes {
    exec_read: OwnedFd,
    exec_write: OwnedFd,
    go: GoPipe,
    /// Read and write end of the reports of a pid namespace's first process.
    reports: Option<(OwnedFd, OwnedFd)>,
}

impl Pipes {
    fn new(reports: bool) -> Result<Self, SysError> {
        let failed = |e| SysError::new("make a pipe for", "a new process", e);
        let nonblocking = || pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(failed);
        let (exec_read, exec_write) = nonblocking()?;
        let (read, write) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        Ok(Self {
            exec_read,
            exec_write,
            go: GoPipe { read, write },
            reports: reports.then(nonblocking).transpose()?,
        })
    }
}

struct Newborn {
    pid: u32,
    pidfd: Option<OwnedFd>,
    unmarked: Option<Errno>,
}

fn clone_with(prepared: &Prepared, pipes: &Pipes) -> Result<Newborn, SysError> {
    let pointers = |strings: &[CString]| {
        let mut list: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        list.push(std::ptr::null());
        list
    };
    let mut listen_pid = *LISTEN_PID;
    let (candidates, argv, mut env) = (
        pointers(&prepared.candidates),
        pointers(&prepared.argv),
        pointers(&prepared.env),
    );
    let mut shell_argv = vec![SHELL.as_ptr(), std::ptr::null()];
    shell_argv.extend(argv.iter().skip(1));
    let listen_pid = prepared.attributes.listen_pid.then(|| {
        let variable = listen_pid.as_mut_ptr();
        let end = env.len().saturating_sub(1);
        env.insert(end, variable.cast_const().cast());
        // Behind the `=`, where the child writes what only it knows.
        variable.wrapping_add(LISTEN_PID.len() - DIGITS)
    });
    let limits: Vec<(u32, libc::rlimit)> = prepared.limits().collect();
    let arranged = prepared.stdio.arranged();
    let attributes = &prepared.attributes;
    let writes_itself = prepared.method != SpawnMethod::Clone3Into;
    let plan = child::Plan {
        candidates: candidates.as_ptr(),
        argv: argv.as_ptr(),
        shell_argv: shell_argv.as_mut_ptr(),
        env: env.as_ptr(),
        listen_pid: listen_pid.map(<*mut u8>::cast),
        dir: prepared.dir.as_ptr(),
        descriptors: arranged.as_ref().map(|all| (all.as_ptr(), all.len())),
        exec_pipe: pipes.exec_write.as_raw_fd(),
        go_pipe: pipes.go.read.as_raw_fd(),
        parents_go_pipe: pipes.go.write.as_raw_fd(),
        cgroup_procs: prepared
            .cgroup
            .as_ref()
            .filter(|_| writes_itself)
            .map(AsRawFd::as_raw_fd),
        unshare_time: prepared.mark && prepared.method == SpawnMethod::ForkThenWrite,
        join_time: prepared.join.as_ref().map(AsRawFd::as_raw_fd),
        join_mounts: prepared.enter.as_ref().map(|w| w.mounts().as_raw_fd()),
        first: (prepared.pid_namespace.zip(pipes.reports.as_ref())).map(
            |(forward, (_, reports))| pid_namespace::First {
                forward,
                reports: reports.as_raw_fd(),
                session: prepared.new_session,
                named: pid_namespace::named(),
            },
        ),
        limits: (limits.as_ptr(), limits.len()),
        nice: attributes.nice,
        oom_score_adj: prepared
            .oom_score_adj
            .as_ref()
            .map(|adj| (adj.as_ptr(), adj.count_bytes())),
        umask: attributes.umask,
        uid: attributes.run_as.uid,
        gid: attributes.run_as.gid,
        groups: attributes
            .run_as
            .groups
            .as_ref()
            .map(|groups| (groups.as_ptr(), groups.len())),
        new_session: prepared.new_session,
        job: prepared.job.as_ref().map(|job| child::Job {
            terminal: job.terminal.as_ref().map(AsRawFd::as_raw_fd),
            ignored: job.ignored,
        }),
        say_placed: writes_itself,
    };
    // The child must run none of our signal handlers: it starts with every signal blocked.
    let old_mask = SigSet::all()
        .thread_swap_mask(SigmaskHow::SIG_SETMASK)
        .map_err(|e| SysError::new("block signals before", "a clone", e))?;
    let newborn = match prepared.method {
        SpawnMethod::ForkThenWrite => fork_child(prepared, &plan),
        _ => clone3_child(prepared, &plan),
    };
    // Cannot fail with a mask that came from the kernel; and if it did, nothing could be done.
    let _ = old_mask.thread_set_mask();
    newborn
}

fn clone3_child(prepared: &Prepared, plan: &child::Plan) -> Result<Newborn, SysError> {
    let failed = |e| not_created("clone3", prepared, e);
    let mut pidfd: RawFd = -1;
    let mut args = CloneArgs {
        flags: CLONE_PIDFD | CLONE_CLEAR_SIGHAND,
        pidfd: &raw mut pidfd as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if let (SpawnMethod::Clone3Into, Some(cgroup)) = (prepared.method, &prepared.cgroup) {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::try_from(cgroup.as_raw_fd()).unwrap_or(u64::MAX);
    }
    let mut unmarked = None;
    if prepared.pid_namespace.is_some() {
        args.flags |= CLONE_NEWPID | CLONE_NEWNS;
    }
    if prepared.mark {
        args.flags |= CLONE_NEWTIME;
    }
    let pid = match clone3(&args, plan) {
        // Not allowed, no more namespaces, no such flag: better unmarked than not started. If
        // the errno was about something else, it comes back.
        Err(e @ (Errno::EPERM | Errno::ENOSPC | Errno::EINVAL)) if prepared.mark => {
            args.flags &= !CLONE_NEWTIME;
            unmarked = Some(e);
            clone3(&args, plan)
        }
        other => other,
    };
    let pid = pid.map_err(failed)?;
    // SAFETY: the kernel has made this descriptor for us as part of the clone.
    let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    Ok(Newborn {
        pid,
        pidfd,
        unmarked,
    })
}

fn clone3(args: &CloneArgs, plan: &child::Plan) -> Result<u32, Errno> {
    // SAFETY: `args` has the size passed and outlives the call; the descriptors in it are
    // open. Without CLONE_VM the child goes on, on this stack, in a copy of our memory that no
    // other thread writes; it never returns from here and makes only raw system calls, so the
    // locks other threads may have held in the copied memory do not matter.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const *args,
            std::mem::size_of::<CloneArgs>(),
        )
    };
    match Errno::result(result)? {
        // SAFETY: this is the child of a fork-style clone, and `plan` holds pointers into our
        // memory as it was, which is all there.
        0 => unsafe { child::run(plan) },
        pid => Ok(u32::try_from(pid).unwrap_or(0)),
    }
}

fn not_created(how: &str, prepared: &Prepared, errno: Errno) -> SysError {
    if prepared.pid_namespace.is_some() && matches!(errno, Errno::EPERM | Errno::ENOSPC) {
        return SysError::new("make a pid namespace with", how, errno)
            .limited_by(
                Errno::EPERM,
                "it takes CAP_SYS_ADMIN, and a seccomp filter that lets it",
            )
            .limited_by(
                Errno::ENOSPC,
                "user.max_pid_namespaces, or 32 of them nested",
            );
    }
    SysError::new("create a process with", how, errno)
        .limited_by(Errno::EAGAIN, "pids.max, kernel.pid_max or RLIMIT_NPROC")
}

fn fork_child(prepared: &Prepared, plan: &child::Plan) -> Result<Newborn, SysError> {
    let pid = match prepared.pid_namespace {
        Some(_) => {
            let flags = CLONE_NEWPID | CLONE_NEWNS | libc::SIGCHLD as u64;
            // SAFETY: the old clone without CLONE_VM and without a stack is a fork; as below.
            Errno::result(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })
        }
        // SAFETY: as for clone3 above: the child makes only raw system calls and never returns.
        None => Errno::result(unsafe { libc::fork() }).map(i64::from),
    };
    let pid = pid.map_err(|e| not_created("fork", prepared, e))?;
    if pid == 0 {
        // SAFETY: this is the child of a fork.
        unsafe { child::run(plan) }
    }
    let pid = u32::try_from(pid).unwrap_or(0);
    Ok(Newborn {
        pid,
        pidfd: None,
        unmarked: None,
    })
}

/// The parent's half after the clone: closes the child's ends, finds out who was born.
fn take_over(
    prepared: &Prepared,
    newborn: Newborn,
    pipes: Pipes,
) -> Result<(Born, GoPipe), SpawnError> {
    let Pipes {
        exec_read,
        exec_write,
        go,
        reports,
    } = pipes;
    drop(exec_write);
    let pid = newborn.pid;
    let pidfd = match newborn.pidfd {
        Some(fd) => Some(PidFd::from_fd(fd)),
        // After a fork. The child lives until we let it go, so the pid is its own.
        None => PidFd::open(pid).ok().flatten(),
    };
    let unmarked = newborn
        .unmarked
        .map(|e| SysError::new("give a mark to", describe(pid), e));
    let found = find_out(prepared, pid, pidfd.as_ref(), unmarked, &exec_read);
    let first = |(reports, _)| {
        let world = World::of(pid)?;
        Ok(FirstBorn { reports, world })
    };
    match found.and_then(|found| Ok((found, reports.map(first).transpose()?))) {
        Ok(((id, mark, unmarked), first)) => Ok((
            Born {
                id,
                pidfd,
                mark,
                unmarked,
                exec_pipe: exec_read,
                first,
            },
            go,
        )),
        Err(error) => Err(stillborn(pid, pidfd.as_ref(), error)),
    }
}
