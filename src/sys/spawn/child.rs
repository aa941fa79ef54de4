//! The child between clone and exec: raw, async-signal-safe system calls on prepared memory.
//!
//! It is a copy of a process with threads of which only one came along: whatever lock the
//! others held is held for ever. So no allocation, no logging, no formatting, no panic.

use libc::{c_char, c_int, c_long, c_void};

use super::ALSO_MOST;
use super::outcome::{KIND_EXECUTING, KIND_FAILED, KIND_PLACED, Stage, WORD};
use super::pid_namespace;

/// Everything the child needs, as plain numbers and pointers into memory that the clone copies.
pub(super) struct Plan {
    /// Paths to try, ended by null.
    pub(super) candidates: *const *const c_char,
    /// Ended by null.
    pub(super) argv: *const *const c_char,
    /// The same behind the shell's name and a place for the program's path; ended by null.
    pub(super) shell_argv: *mut *const c_char,
    /// Ended by null.
    pub(super) env: *const *const c_char,
    /// Where in `env` its own pid is to stand: room for its digits and a zero.
    pub(super) listen_pid: Option<*mut c_char>,
    pub(super) dir: *const c_char,
    /// `None`: what is open stays open.
    /// Otherwise pairs of a descriptor here and its number there, and how many.
    pub(super) descriptors: Option<(*const (c_int, c_int), usize)>,
    pub(super) exec_pipe: c_int,
    pub(super) go_pipe: c_int,
    /// The other end of that, closed first of all: it is to end when the parent does.
    pub(super) parents_go_pipe: c_int,
    /// cgroup.procs of the cgroup to move into, where the clone did not.
    pub(super) cgroup_procs: Option<c_int>,
    pub(super) unshare_time: bool,
    /// A time namespace to enter.
    pub(super) join_time: Option<c_int>,
    /// A mount namespace to enter.
    pub(super) join_mounts: Option<c_int>,
    /// What makes this the first process of a new pid namespace.
    pub(super) first: Option<pid_namespace::First>,
    /// Resource limits, and how many.
    pub(super) limits: (*const (u32, libc::rlimit), usize),
    pub(super) nice: Option<c_int>,
    /// The text, and its length.
    pub(super) oom_score_adj: Option<(*const c_char, usize)>,
    pub(super) umask: Option<u32>,
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    /// Group ids, and how many.
    pub(super) groups: Option<(*const u32, usize)>,
    pub(super) new_session: bool,
    pub(super) job: Option<Job>,
    pub(super) say_placed: bool,
}

/// See `prepare::Job`.
pub(super) struct Job {
    pub(super) terminal: Option<c_int>,
    pub(super) ignored: u64,
}

/// The two pipes, by their numbers here.
#[derive(Clone, Copy)]
struct Pipes {
    exec: c_int,
    go: c_int,
}

/// The standard descriptors, the others that may be given, and the two pipes.
const DESCRIPTORS_MOST: usize = 3 + ALSO_MOST + 2;

/// Signal numbers run to 64 on every architecture but MIPS.
const LAST_SIGNAL: c_int = 64;
/// The kernel's signal set is 64 bits wide.
const KERNEL_SIGSET: usize = 8;

/// Runs the child's part; never returns.
///
/// # Safety
/// Only in the child of a fork-style clone, with every signal blocked and `plan` pointing to
/// NUL-ended strings and null-ended lists.
pub(super) unsafe fn run(plan: &Plan) -> ! {
    // SAFETY: the caller vouches for `plan`; everything called is a raw system call on it.
    unsafe {
        libc::close(plan.parents_go_pipe);
        place(plan);
        if let Some(first) = &plan.first {
            pid_namespace::begin(first, plan.exec_pipe);
        }
        let pipes = arrange_descriptors(plan);
        if plan.new_session && libc::setsid() < 0 {
            fail(pipes.exec, Stage::Session, errno());
        }
        if let Some(job) = &plan.job {
            become_job(job, pipes);
        }
        // While it waits anyway.
        set_default_actions(plan.job.as_ref().map_or(0, |job| job.ignored));
        await_go(pipes);
        // Before what may hang: signals act from here on, with their default actions.
        unblock_signals(pipes);
        // After the go: what ends before it is taken for killed at birth, and its word is lost.
        set_attributes(plan, pipes);
        // After the parent has looked at it, before what is done as that user.
        become_user(plan, pipes);
        if *plan.dir != 0 && libc::chdir(plan.dir) < 0 {
            fail(pipes.exec, Stage::Directory, errno());
        }
        if let Some(at) = plan.listen_pid {
            write_pid(at);
        }
        execute(plan, pipes)
    }
}

/// Its own pid, as it sees it itself, in this copy of the environment.
unsafe fn write_pid(at: *mut c_char) {
    // SAFETY: the parent left room for the digits of any pid and a zero behind them.
    unsafe {
        let mut rest = libc::getpid();
        let mut digits = 1;
        while rest >= 10 {
            rest /= 10;
            digits += 1;
        }
        rest = libc::getpid();
        *at.add(digits) = 0;
        while digits > 0 {
            digits -= 1;
            *at.add(digits) = b'0' as c_char + (rest % 10) as c_char;
            rest /= 10;
        }
    }
}

/// A process group of its own, in the terminal's foreground if it is to be there: before the
/// exec, so that the program never sees itself in the background.
unsafe fn become_job(job: &Job, pipes: Pipes) {
    // SAFETY: raw system calls on integers and a local. SIGTTOU is blocked, as every signal is,
    // so that a group in the background may take the foreground (tcsetpgrp(3)).
    unsafe {
        if libc::setpgid(0, 0) < 0 {
            fail(pipes.exec, Stage::Session, errno());
        }
        if let Some(terminal) = job.terminal {
            let group = libc::getpid();
            // A terminal that was hung up meanwhile is no reason not to start.
            libc::ioctl(terminal, libc::TIOCSPGRP, &raw const group);
        }
    }
}

/// Into the cgroup before anything else, where the clone has not done it; then the mark.
unsafe fn place(plan: &Plan) {
    // SAFETY: raw system calls on descriptors that the parent opened.
    unsafe {
        if let Some(procs) = plan.cgroup_procs
            && libc::write(procs, c"0".as_ptr().cast(), 1) < 0
        {
            fail(plan.exec_pipe, Stage::Cgroup, errno());
        }
        if let Some(namespace) = plan.join_time
            && libc::setns(namespace, 0x80) < 0
        {
            fail(plan.exec_pipe, Stage::Mark, errno());
        }
        if let Some(namespace) = plan.join_mounts
            && libc::setns(namespace, libc::CLONE_NEWNS) < 0
        {
            fail(plan.exec_pipe, Stage::PidNamespace, errno());
        }
        let mut unshare_errno = 0;
        if plan.unshare_time && libc::unshare(0x80) < 0 {
            unshare_errno = errno();
        }
        if plan.say_placed {
            say(plan.exec_pipe, KIND_PLACED, 0, unshare_errno);
        }
    }
}

/// Each descriptor to its number, the pipes behind them (close-on-exec), and nothing else: closed now and not at the exec, so that a child that hangs in its exec, or is frozen before
/// it, holds no socket, pipe or cgroup of ours.
unsafe fn arrange_descriptors(plan: &Plan) -> Pipes {
    let stage = Stage::Descriptors;
    let Some((given, count)) = plan.descriptors else {
        // Ours are close-on-exec, the pipes included.
        return Pipes {
            exec: plan.exec_pipe,
            go: plan.go_pipe,
        };
    };
    // SAFETY: raw system calls on descriptor numbers; what is closed is only this process's. The
    // parent prepared `count` pairs, which `Stdio::check` has bounded.
    unsafe {
        let mut moves = [(0, 0); DESCRIPTORS_MOST];
        let mut last = 2;
        for (n, place) in moves.iter_mut().enumerate().take(count) {
            *place = *given.add(n);
            last = last.max(place.1);
        }
        let pipes = Pipes {
            exec: last + 1,
            go: last + 2,
        };
        moves[count] = (plan.exec_pipe, pipes.exec);
        moves[count + 1] = (plan.go_pipe, pipes.go);
        let moves = &mut moves[..count + 2];
        let first_closed = pipes.go + 1;
        // First above all targets, lest one overwrites another's source.
        let mut exec_pipe = plan.exec_pipe;
        for (from, to) in &mut *moves {
            *from = libc::fcntl(*from, libc::F_DUPFD_CLOEXEC, first_closed);
            if *from < 0 {
                fail(exec_pipe, stage, errno());
            }
            if *to == pipes.exec {
                exec_pipe = *from;
            }
        }
        for (from, to) in &*moves {
            let flags = if *to < pipes.exec { 0 } else { libc::O_CLOEXEC };
            if libc::dup3(*from, *to, flags) < 0 {
                fail(exec_pipe, stage, errno());
            }
        }
        for between in 3..pipes.exec {
            if !moves.iter().any(|(_, to)| *to == between) {
                libc::close(between);
            }
        }
        let end = libc::c_uint::MAX as c_long;
        if libc::syscall(libc::SYS_close_range, c_long::from(first_closed), end, 0) < 0 {
            close_one_by_one(first_closed);
        }
        pipes
    }
}

/// Before Linux 5.9. No descriptor can be above the soft limit (it is only ever raised).
unsafe fn close_one_by_one(first: c_int) {
    // SAFETY: raw system calls; `limit` is valid for writes.
    unsafe {
        let mut limit = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        let known = libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0;
        let end = if known {
            limit.rlim_cur.min(1 << 20) as c_int
        } else {
            1 << 16
        };
        for fd in first..end {
            libc::close(fd);
        }
    }
}

/// Limits last: with few descriptors allowed nothing more can be opened.
unsafe fn set_attributes(plan: &Plan, pipes: Pipes) {
    // SAFETY: raw system calls on memory that the parent prepared.
    unsafe {
        if let Some((text, len)) = plan.oom_score_adj {
            let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
            if fd < 0 || libc::write(fd, text.cast(), len) < 0 {
                fail(pipes.exec, Stage::OomScore, errno());
            }
            libc::close(fd);
        }
        if let Some(nice) = plan.nice
            && libc::setpriority(libc::PRIO_PROCESS, 0, nice) < 0
        {
            fail(pipes.exec, Stage::Nice, errno());
        }
        if let Some(umask) = plan.umask {
            libc::umask(umask);
        }
        let (limits, count) = plan.limits;
        for n in 0..count {
            let (resource, limit) = &*limits.add(n);
            // Not libc's own, whose resource has another type in each C library.
            let no_old = std::ptr::null_mut::<c_void>();
            let limit = &raw const *limit;
            if libc::syscall(libc::SYS_prlimit64, 0, *resource, limit, no_old) < 0 {
                fail(pipes.exec, Stage::Limits, errno());
            }
        }
    }
}

/// The groups first: whoever is another user already may not change them.
///
/// Raw calls: those of the C library tell every thread that it knows of, and the copy of its
/// list in this process names threads that did not come along.
unsafe fn become_user(plan: &Plan, pipes: Pipes) {
    #[cfg(not(any(target_arch = "x86", target_arch = "arm")))]
    use libc::{
        SYS_setgroups as SETGROUPS, SYS_setresgid as SETRESGID, SYS_setresuid as SETRESUID,
    };
    #[cfg(any(target_arch = "x86", target_arch = "arm"))]
    use libc::{
        SYS_setgroups32 as SETGROUPS, SYS_setresgid32 as SETRESGID, SYS_setresuid32 as SETRESUID,
    };
    // SAFETY: raw system calls on memory that the parent prepared.
    unsafe {
        if let Some((groups, count)) = plan.groups
            && libc::syscall(SETGROUPS, count, groups) < 0
        {
            fail(pipes.exec, Stage::Credentials, errno());
        }
        if let Some(gid) = plan.gid
            && libc::syscall(SETRESGID, gid, gid, gid) < 0
        {
            fail(pipes.exec, Stage::Credentials, errno());
        }
        if let Some(uid) = plan.uid
            && libc::syscall(SETRESUID, uid, uid, uid) < 0
        {
            fail(pipes.exec, Stage::Credentials, errno());
        }
    }
}

/// Waits until the parent lets us go. If it dies, or decides against us, the pipe ends.
unsafe fn await_go(pipes: Pipes) {
    let mut byte = 0_u8;
    loop {
        // SAFETY: one byte into a local.
        let len = unsafe { libc::read(pipes.go, (&raw mut byte).cast::<c_void>(), 1) };
        match len {
            1 => return,
            // SAFETY: raw exit.
            -1 if unsafe { errno() } == libc::EINTR => {}
            // SAFETY: raw exit.
            _ => unsafe { libc::_exit(127) },
        }
    }
}

/// From here on no signal is blocked.
unsafe fn unblock_signals(pipes: Pipes) {
    let empty = 0_u64;
    let no_old = std::ptr::null_mut::<c_void>();
    // SAFETY: raw system calls with pointers to locals as large as what the kernel reads.
    unsafe {
        let set = &raw const empty;
        let done = libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            set,
            no_old,
            KERNEL_SIGSET,
        );
        if done < 0 {
            fail(pipes.exec, Stage::Signals, errno());
        }
    }
}

/// Every signal to its default action, those that are ignored in us, too (CLONE_CLEAR_SIGHAND
/// leaves them ignored, and Rust ignores SIGPIPE) unless they are in the set `but`.
pub(super) unsafe fn set_default_actions(but: u64) {
    // All zeroes in the kernel's struct sigaction: SIG_DFL, no flags, an empty mask. Its size
    // is 32 bytes on the architectures we know; more is harmless.
    let default = [0_u64; 8];
    let no_old = std::ptr::null_mut::<c_void>();
    for signal in 1..=LAST_SIGNAL {
        if but & (1 << (signal - 1)) != 0 {
            continue;
        }
        // SAFETY: a raw system call with a pointer to a local larger than what the kernel reads.
        // Raw because libc refuses to touch its own signals 32 and 33. KILL and STOP answer
        // EINVAL.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                no_old,
                KERNEL_SIGSET,
            );
        }
    }
}

/// Tries each candidate as execvp(3) does: one that is not there, or not for us, leads to the
/// next; the refusal (EACCES) is reported if nothing else is found.
unsafe fn execute(plan: &Plan, pipes: Pipes) -> ! {
    // SAFETY: the lists and strings of `plan` are ended as execve wants them.
    unsafe {
        say(pipes.exec, KIND_EXECUTING, 0, 0);
        let mut answer = libc::ENOENT;
        let mut next = plan.candidates;
        while !(*next).is_null() {
            libc::execve(*next, plan.argv, plan.env);
            match errno() {
                libc::EACCES => answer = libc::EACCES,
                libc::ENOENT | libc::ENOTDIR => {}
                // A directory of PATH on a dead network mount: execvp goes on, too.
                libc::ENODEV | libc::ETIMEDOUT | libc::ESTALE => {}
                // Neither a binary nor with `#!`: a shell's script, as for execvp(3).
                libc::ENOEXEC => {
                    *plan.shell_argv.add(1) = *next;
                    libc::execve(*plan.shell_argv, plan.shell_argv.cast_const(), plan.env);
                    fail(pipes.exec, Stage::Exec, errno());
                }
                other => fail(pipes.exec, Stage::Exec, other),
            }
            next = next.add(1);
        }
        fail(pipes.exec, Stage::Exec, answer)
    }
}

pub(super) unsafe fn fail(pipe: c_int, stage: Stage, errno: c_int) -> ! {
    // SAFETY: a raw write and a raw exit.
    unsafe {
        say(pipe, KIND_FAILED, stage as u8, errno);
        libc::_exit(127)
    }
}

/// Eight bytes into an empty non-blocking pipe: whole or, if nobody reads any more, not at all
/// (SIGPIPE is ignored or blocked until the signals are reset; the parent holds its end then).
unsafe fn say(pipe: c_int, kind: u8, stage: u8, errno: c_int) {
    let [a, b, c, d] = errno.to_ne_bytes();
    let word: [u8; WORD] = [kind, stage, 0, 0, a, b, c, d];
    // SAFETY: writes a local array of that length.
    unsafe { libc::write(pipe, word.as_ptr().cast(), WORD) };
}

pub(super) unsafe fn errno() -> c_int {
    // SAFETY: errno of this thread, of which the clone made a copy.
    unsafe { *libc::__errno_location() }
}
