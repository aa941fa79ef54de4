//! A shell on the console, for when there are no services to log in through.
#![expect(unsafe_code, reason = "fork, setsid and the controlling terminal")]

use std::ffi::CString;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::unistd::{ForkResult, fork};

use super::{SysError, early};

/// Starts `program` with the console as its controlling terminal, in a session of its own, and
/// returns its pid. Without an environment besides `environment` (`NAME=value` each).
///
/// # Errors
/// When there is no console or no process; that the program is missing shows in its exit code
/// 127 only.
pub fn on_console(program: &str, environment: &[&str]) -> Result<u32, SysError> {
    let console = early::open_console()?;
    let invalid = |_| SysError::new("start", program, Errno::EINVAL);
    let path = CString::new(program).map_err(invalid)?;
    let words: Result<Vec<CString>, _> = environment.iter().map(|w| CString::new(*w)).collect();
    let words = words.map_err(invalid)?;
    let mut env: Vec<*const libc::c_char> = words.iter().map(|word| word.as_ptr()).collect();
    env.push(std::ptr::null());
    let argv = [path.as_ptr(), std::ptr::null()];
    // SAFETY: the child makes raw system calls on memory prepared above and ends in exec or
    // _exit: it takes no lock and allocates nothing.
    unsafe {
        match fork().map_err(|e| SysError::new("start", program, e))? {
            ForkResult::Parent { child } => Ok(child.as_raw().unsigned_abs()),
            ForkResult::Child => {
                let console = console.as_raw_fd();
                let mut none: libc::sigset_t = std::mem::zeroed();
                libc::sigemptyset(&raw mut none);
                libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
                for signal in 1..=64 {
                    // The two that cannot be changed, and numbers of the C library, refuse.
                    libc::signal(signal, libc::SIG_DFL);
                }
                libc::setsid();
                for standard in 0..3 {
                    libc::dup2(console, standard);
                }
                // Taken from whoever has it: nobody who matters runs now.
                libc::ioctl(0, libc::TIOCSCTTY as _, 1);
                libc::chdir(c"/".as_ptr());
                libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr());
                libc::_exit(127)
            }
        }
    }
}
