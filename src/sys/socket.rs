//! The control socket's file: made private, never over somebody else's, gone when we go.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, getsockopt, listen,
    socket, sockopt,
};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmod, fchmodat, fstat, lstat};
use nix::unistd::{Gid, chown};

use super::SysError;

/// A listening Unix socket and the file it is bound to. Non-blocking and close-on-exec.
#[derive(Debug)]
pub struct Listening {
    /// Accepts connections.
    pub listener: UnixListener,
    path: PathBuf,
    file: (u64, u64),
}

/// Why the socket could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SocketError {
    /// Somebody listens there: another supervisor, most likely.
    Live(PathBuf),
    /// Something that is no socket is in the way (a symbolic link is not followed).
    InTheWay {
        /// Where.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// A system call failed.
    Failed(SysError),
}

impl std::fmt::Display for SocketError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SocketError::Live(path) => write!(
                f,
                "somebody already listens on {}: stop that supervisor or choose another socket",
                path.display()
            ),
            SocketError::InTheWay { path, kind } => write!(
                f,
                "{} is {kind}, not a socket: move it away or choose another socket",
                path.display()
            ),
            SocketError::Failed(error) => write!(f, "{error}"),
        }
    }
}

impl std::error::Error for SocketError {}

impl SocketError {
    /// What to do about it, where the words do not say so themselves.
    pub fn hint(&self) -> Option<&'static str> {
        let SocketError::Failed(error) = self else {
            return None;
        };
        let hint = match Errno::from_raw(error.errno) {
            Errno::ENOENT | Errno::ENOTDIR => {
                "make the directory that the socket is to be in, or choose another socket with -s"
            }
            Errno::EACCES | Errno::EPERM | Errno::EROFS => {
                "see who may write in that directory (ls -ld), or choose another socket with -s"
            }
            Errno::ENAMETOOLONG => "choose a shorter path with -s",
            Errno::ENOSPC | Errno::EDQUOT => {
                "make room on that file system (df), or choose another socket with -s"
            }
            Errno::EMFILE | Errno::ENFILE => "allow more open files (ulimit -n)",
            _ => "choose another socket with -s",
        };
        Some(hint)
    }
}

impl From<SysError> for SocketError {
    fn from(error: SysError) -> Self {
        SocketError::Failed(error)
    }
}

/// Binds and listens on `path` with mode 0600, whatever the umask. A socket file that nobody
/// listens on any more is replaced.
///
/// bind(2) follows no symbolic link in the last component and never replaces a file. Two that
/// race to replace a stale file are kept apart by the caller's lock on its state directory.
///
/// With a `group` its members may connect, too: the file becomes that group's, with mode 0660.
pub fn listen_at(path: &Path, group: Option<u32>) -> Result<Listening, SocketError> {
    make_way(path, SockType::Stream)?;
    let failed = |doing| move |e| SysError::at(doing, path, e);
    let addr = UnixAddr::new(path).map_err(|e| too_long(path, e))?;
    let fd = new_socket(path, SockType::Stream)?;
    // On Linux the file gets the mode of the unbound socket, less the umask (unix_bind_bsd,
    // net/unix/af_unix.c): there is no moment at which others could connect.
    fchmod(&fd, Mode::from_bits_truncate(0o600)).map_err(failed("set the mode of"))?;
    bind(fd.as_raw_fd(), &addr).map_err(failed("bind the socket"))?;
    listen(&fd, Backlog::MAXCONN).map_err(failed("listen on"))?;
    let file = lstat(path).map_err(failed("look at"))?;
    if let Some(group) = group {
        share(path, &file, group)?;
    }
    let listener = UnixListener::from(fd);
    Ok(Listening {
        listener,
        path: path.to_owned(),
        file: (file.st_dev, file.st_ino),
    })
}

/// Gives the file that was just made to a group. It is held meanwhile: whatever else is put in
/// its place is not touched.
fn share(path: &Path, made: &FileStat, group: u32) -> Result<(), SysError> {
    let failed = |doing| move |e| SysError::at(doing, path, e);
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::empty()).map_err(failed("look at"))?;
    let held = fstat(&file).map_err(failed("look at"))?;
    if (held.st_dev, held.st_ino) != (made.st_dev, made.st_ino) {
        return Err(SysError::at("share", path, Errno::ESTALE));
    }
    let own = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    chown(&own, None, Some(Gid::from_raw(group))).map_err(failed("give a group to"))?;
    let mode = Mode::from_bits_truncate(0o660);
    fchmodat(AT_FDCWD, &own, mode, FchmodatFlags::FollowSymlink).map_err(failed("set the mode of"))
}

impl Listening {
    /// The file it is bound to.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, if it is still ours.
    pub fn unlink(&self) -> Result<(), SysError> {
        match lstat(&self.path) {
            Ok(file) if (file.st_dev, file.st_ino) == self.file => unlink(&self.path),
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(SysError::at("look at", &self.path, e)),
        }
    }
}

fn new_socket(path: &Path, kind: SockType) -> Result<OwnedFd, SysError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Unix, kind, flags, None)
        .map_err(|e| SysError::at("make a socket for", path, e))
}

pub(super) fn too_long(path: &Path, errno: Errno) -> SysError {
    let mut error = SysError::at("use as a socket's name", path, errno);
    if errno == Errno::ENAMETOOLONG {
        error.why = "a socket's path may have at most 107 bytes (unix(7))".to_owned();
    }
    error
}

fn look(path: &Path) -> Result<Option<FileStat>, SysError> {
    match lstat(path) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT) => Ok(None),
        Err(e) => Err(SysError::at("look at", path, e)),
    }
}

/// Removes a socket's file of this kind that nobody listens on any more.
///
/// # Errors
/// When somebody does, or something else is there.
pub(super) fn make_way(path: &Path, kind: SockType) -> Result<(), SocketError> {
    match look(path)? {
        Some(found) => clear_the_way(path, kind, &found),
        None => Ok(()),
    }
}

fn clear_the_way(path: &Path, of: SockType, found: &FileStat) -> Result<(), SocketError> {
    let kind = match SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFSOCK => None,
        SFlag::S_IFLNK => Some("a symbolic link"),
        SFlag::S_IFDIR => Some("a directory"),
        SFlag::S_IFIFO => Some("a named pipe"),
        SFlag::S_IFREG => Some("a file"),
        _ => Some("a device"),
    };
    if let Some(kind) = kind {
        return Err(SocketError::InTheWay {
            path: path.to_owned(),
            kind,
        });
    }
    let addr = UnixAddr::new(path).map_err(|e| too_long(path, e))?;
    match connect(new_socket(path, of)?.as_raw_fd(), &addr) {
        Err(Errno::ECONNREFUSED) => {}
        Err(Errno::ENOENT) => return Ok(()),
        // EAGAIN: a full backlog. Somebody owns it who is slow to accept.
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => {
            return Err(SocketError::Live(path.to_owned()));
        }
        Err(e) => return Err(SysError::at("connect to", path, e).into()),
    }
    // Refused: unless somebody has replaced it since, it is a leftover.
    match look(path)? {
        Some(now) if (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino) => Ok(unlink(path)?),
        Some(_) => Err(SocketError::Live(path.to_owned())),
        None => Ok(()),
    }
}

fn unlink(path: &Path) -> Result<(), SysError> {
    match nix::unistd::unlink(path) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(e) => Err(SysError::at("remove", path, e)),
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its pid when it connected; 0 when it is outside our pid namespace.
    pub pid: u32,
    /// Its effective user when it connected.
    pub uid: u32,
    /// Its effective group when it connected.
    pub gid: u32,
}

/// The peer's credentials (SO_PEERCRED, unix(7)).
pub fn peer(connection: impl AsFd) -> Result<Peer, SysError> {
    getsockopt(&connection, sockopt::PeerCredentials)
        .map(|c| Peer {
            pid: u32::try_from(c.pid()).unwrap_or(0),
            uid: c.uid(),
            gid: c.gid(),
        })
        .map_err(|e| SysError::new("ask who is at the other end of", "a connection", e))
}
