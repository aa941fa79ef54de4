//! A pid namespace of a process's own: what is born first in it, and what enters it later.
//!
//! The first process is a copy of ours that executes nothing. It mounts a /proc of the new
//! namespace, makes the process that becomes the program, and stays: it inherits and reaps all
//! orphans of the namespace, passes signals on, and ends when nobody is left.
//!
//! ```text
//!  we ──clone3(NEWPID|NEWNS)──► process 1: reaps, forwards ──► the program ──► ...
//!        │                         │
//!        └── reports ◄─────────────┘  "exited 3", "stopped by 20", "continued"
//! ```
//!
//! **When process 1 has been reaped nobody of the namespace lives**: at its end the kernel kills
//! everyone in it and waits for their end before the process can be waited for
//! (zap_pid_ns_processes, kernel/pid_namespace.c), and nobody can leave a pid namespace. That is
//! proof without any cgroup.

use std::os::fd::OwnedFd;

use libc::{c_int, c_long, c_void};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

use super::child::{errno, fail, set_default_actions};
use super::outcome::Stage;
use crate::sys::procfs::Proc;
use crate::sys::reap::Ended;
use crate::sys::{SysError, procfs};

/// Whom the first process of a pid namespace passes on the signals that are sent to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forward {
    /// The program's process.
    Program,
    /// The program's process group.
    Group,
}

/// The namespaces of a process that has a pid namespace of its own, for others to enter.
#[derive(Debug)]
pub struct World {
    pid: OwnedFd,
    mounts: OwnedFd,
}

impl World {
    /// That of a process that lives. ENOENT when it does not.
    pub(super) fn of(pid: u32) -> Result<Self, SysError> {
        let proc = Proc::open()?;
        let name = |name: &str| {
            let path = format!("{pid}/ns/{name}");
            let failed = |e| SysError::new("open the namespace", format!("/proc/{path}"), e);
            proc.open_file(&path).map_err(failed)
        };
        Ok(Self {
            pid: name("pid")?,
            mounts: name("mnt")?,
        })
    }

    /// Another handle on the same.
    pub fn try_clone(&self) -> Result<Self, SysError> {
        let copy = |fd: &OwnedFd| {
            fd.try_clone().map_err(|e| {
                let errno = Errno::from_raw(e.raw_os_error().unwrap_or(libc::EMFILE));
                SysError::new("keep", "a namespace", errno)
            })
        };
        Ok(Self {
            pid: copy(&self.pid)?,
            mounts: copy(&self.mounts)?,
        })
    }

    pub(super) fn mounts(&self) -> &OwnedFd {
        &self.mounts
    }

    /// What `make` makes is born in this pid namespace. It changes what this thread's children
    /// are born in, and back.
    pub(super) fn born_here<T>(
        &self,
        make: impl FnOnce() -> Result<T, SysError>,
    ) -> Result<T, SysError> {
        let own = "thread-self/ns/pid";
        let failed = |e| SysError::new("open the namespace", format!("/proc/{own}"), e);
        let back = Proc::open()?.open_file(own).map_err(failed)?;
        let enter = |fd: &OwnedFd| {
            setns(fd, CloneFlags::CLONE_NEWPID)
                .map_err(|e| SysError::new("start a process in", "a pid namespace", e))
        };
        enter(&self.pid)?;
        let made = make();
        enter(&back)?;
        made.map_err(|error| match error.errno {
            // What clone answers when process 1 of the namespace is gone (kernel/pid.c).
            libc::ENOMEM => SysError::because(
                error.doing,
                error.what,
                "the service's pid namespace has ended",
            ),
            _ => error,
        })
    }
}

/// Something that happened to the program, said by the first process of its pid namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It has ended; what it left running lives on.
    Exited(Ended),
    /// A signal has stopped it.
    Stopped(i32),
    /// It goes on.
    Continued,
}

const KIND_EXITED: u8 = b'E';
const KIND_KILLED: u8 = b'K';
const KIND_DUMPED: u8 = b'D';
const KIND_STOPPED: u8 = b'S';
const KIND_CONTINUED: u8 = b'C';

/// Every report has this many bytes: its kind, three zeroes, a number in native order.
pub const REPORT: usize = 8;

impl Report {
    /// Reads one report; `None`: it is none.
    pub fn read(word: &[u8; REPORT]) -> Option<Self> {
        let [kind, _, _, _, number @ ..] = *word;
        let number = i32::from_ne_bytes(number);
        Some(match kind {
            KIND_EXITED => Report::Exited(Ended::Code(number)),
            KIND_KILLED | KIND_DUMPED => Report::Exited(Ended::Signal {
                signal: number,
                core: kind == KIND_DUMPED,
            }),
            KIND_STOPPED => Report::Stopped(number),
            KIND_CONTINUED => Report::Continued,
            _ => return None,
        })
    }
}

// ---- process 1 ------------------------------------------------------------------------------

/// What the first process needs, as plain numbers.
pub(super) struct First {
    pub(super) forward: Forward,
    /// Where its reports go; non-blocking.
    pub(super) reports: c_int,
    /// Whether it leads a session; otherwise it leads a process group of ours, so that no
    /// terminal's signal reaches it.
    pub(super) session: bool,
    /// Where our arguments and environment are, which /proc shows of the copy, too: start and
    /// end of each, zeroes when that is not known.
    pub(super) named: [usize; 4],
}

/// The shape of mount(2)'s flags for what follows.
const PRIVATE_PROC: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// In the first process of a new pid and mount namespace: makes the process that becomes the
/// program, and returns in that one alone.
///
/// # Safety
/// As for `child::run`.
pub(super) unsafe fn begin(first: &First, exec_pipe: c_int) {
    let stage = Stage::PidNamespace;
    let none = std::ptr::null::<libc::c_char>();
    let no_data = std::ptr::null::<c_void>();
    // SAFETY: raw system calls on constants.
    unsafe {
        // What is mounted outside from now on is seen here, and nothing goes the other way.
        let slaves = libc::MS_REC | libc::MS_SLAVE;
        if libc::mount(none, c"/".as_ptr(), none, slaves, no_data) < 0 {
            fail(exec_pipe, stage, errno());
        }
        let proc = c"proc".as_ptr();
        if libc::mount(proc, c"/proc".as_ptr(), proc, PRIVATE_PROC, no_data) < 0 {
            fail(exec_pipe, stage, errno());
        }
        // Ignored, SIGCHLD would let the kernel reap.
        set_default_actions(0);
        let led = match first.session {
            true => libc::setsid(),
            false => libc::setpgid(0, 0),
        };
        if led < 0 {
            fail(exec_pipe, stage, errno());
        }
        // Raw: a C library's fork takes locks whose holders did not come along.
        let program = libc::syscall(libc::SYS_clone, c_long::from(libc::SIGCHLD), 0, 0, 0, 0);
        match program {
            0 => {}
            -1 => fail(exec_pipe, stage, errno()),
            program => stay(first, program as c_int),
        }
    }
}

/// Reaps, reports and passes signals on until nobody is left.
unsafe fn stay(first: &First, program: c_int) -> ! {
    // SAFETY: raw system calls, and writes to memory of this copy that nothing reads any more.
    unsafe {
        libc::chdir(c"/".as_ptr());
        close_all_but(first.reports);
        rename(first.named);
        let every = u64::MAX;
        let mut code = 0;
        let mut alive = true;
        loop {
            reap(first, program, &mut alive, &mut code);
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let no_bound = std::ptr::null::<libc::timespec>();
            let signal = libc::syscall(
                libc::SYS_rt_sigtimedwait,
                &raw const every,
                &raw mut info,
                no_bound,
                8,
            ) as c_int;
            // A pipe that nobody reads answers with a signal from ourselves.
            let own = info.si_code == libc::SI_USER && info.si_pid() == libc::getpid();
            if signal <= 0 || signal == libc::SIGCHLD || own || !alive {
                continue;
            }
            match first.forward {
                Forward::Program => _ = libc::kill(program, signal),
                // It may not have come to lead its group yet.
                Forward::Group if libc::kill(-program, signal) == 0 => {}
                Forward::Group => _ = libc::kill(program, signal),
            }
        }
    }
}

/// Takes everybody who has ended; ends with the program's code when nobody is left.
unsafe fn reap(first: &First, program: c_int, alive: &mut bool, code: &mut c_int) {
    loop {
        // SAFETY: siginfo_t is plain data, for which zeroes are valid; it is valid for writes.
        let (result, info) = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            let flags = libc::WEXITED | libc::WSTOPPED | libc::WCONTINUED | libc::WNOHANG;
            let result = libc::waitid(libc::P_ALL, 0, &raw mut info, flags | libc::__WALL);
            (result, info)
        };
        // SAFETY: filled by waitid(2), or zero; the rest are raw calls.
        unsafe {
            if result < 0 && errno() == libc::ECHILD {
                libc::_exit(*code);
            }
            if result < 0 || info.si_pid() == 0 {
                return;
            }
            if info.si_pid() != program || !*alive {
                continue;
            }
            let status = info.si_status();
            let kind = match info.si_code {
                libc::CLD_EXITED => KIND_EXITED,
                libc::CLD_DUMPED => KIND_DUMPED,
                libc::CLD_KILLED => KIND_KILLED,
                libc::CLD_CONTINUED => KIND_CONTINUED,
                _ => KIND_STOPPED,
            };
            if matches!(kind, KIND_EXITED | KIND_KILLED | KIND_DUMPED) {
                *alive = false;
                let by_signal = kind != KIND_EXITED;
                *code = if by_signal { 128 + status } else { status };
            }
            let [a, b, c, d] = status.to_ne_bytes();
            let word: [u8; REPORT] = [kind, 0, 0, 0, a, b, c, d];
            libc::write(first.reports, word.as_ptr().cast(), REPORT);
        }
    }
}

unsafe fn close_all_but(keep: c_int) {
    let close = |from: c_int, to: c_int| {
        if from > to {
            return;
        }
        let (from, to) = (c_long::from(from), c_long::from(to));
        // SAFETY: closes descriptors of this process alone, which uses them no more.
        unsafe {
            if libc::syscall(libc::SYS_close_range, from, to, 0) < 0 {
                // Before Linux 5.9.
                for fd in from..=to.min(1 << 16) {
                    libc::close(fd as c_int);
                }
            }
        }
    };
    close(0, keep - 1);
    close(keep + 1, c_int::MAX);
}

/// Not to be taken for the supervisor, nor found by its environment.
unsafe fn rename([arg_start, arg_end, env_start, env_end]: [usize; 4]) {
    const NAME: &std::ffi::CStr = c"nought-reaper";
    // SAFETY: the kernel put the strings of our exec there, and in this copy they are nobody's.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, NAME.as_ptr());
        for (start, end) in [(arg_start, arg_end), (env_start, env_end)] {
            if start != 0 && start < end {
                std::ptr::write_bytes(start as *mut u8, 0, end - start);
            }
        }
        let bytes = NAME.to_bytes();
        if arg_start != 0 && arg_end > arg_start + bytes.len() {
            let name = arg_start as *mut u8;
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), name, bytes.len());
        }
    }
}

/// Where exec put our own arguments and environment.
pub(super) fn named() -> [usize; 4] {
    procfs::own_strings().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_what_happened_to_the_program() {
        let word = |kind: u8, number: i32| {
            let [a, b, c, d] = number.to_ne_bytes();
            Report::read(&[kind, 0, 0, 0, a, b, c, d])
        };
        assert_eq!(word(b'E', 3), Some(Report::Exited(Ended::Code(3))));
        let dumped = Ended::Signal {
            signal: 11,
            core: true,
        };
        assert_eq!(word(b'D', 11), Some(Report::Exited(dumped)));
        assert_eq!(word(b'S', 20), Some(Report::Stopped(20)));
        assert_eq!(word(b'C', 18), Some(Report::Continued));
        assert_eq!(word(0, 0), None);
    }
}
