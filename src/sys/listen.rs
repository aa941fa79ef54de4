//! Sockets that are opened for others: bound, their files private until they are as they shall be,
//! and only then listening. Close-on-exec; blocking, as sd_listen_fds(3) hands them over.
#![expect(
    unsafe_code,
    reason = "nix bounds the backlog by a constant, the kernel by a sysctl"
)]

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, open};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, UnixAddr, bind, setsockopt, socket,
    sockopt,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat, lstat};
use nix::unistd::{Gid, Uid, chown};

use super::SysError;
use super::socket::{SocketError, make_way, too_long};

/// Where a socket listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// For TCP connections.
    Tcp(SocketAddr),
    /// For UDP datagrams.
    Udp(SocketAddr),
    /// For connections, at this path.
    Stream(PathBuf),
    /// For datagrams, at this path.
    Datagram(PathBuf),
}

/// What is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Where.
    pub address: Address,
    /// Connections that wait, at the most; `None`: as many as net.core.somaxconn allows.
    pub backlog: Option<u32>,
    /// The mode of a Unix socket's file, whatever the umask.
    pub mode: u32,
    /// Whose file it is; `None`: ours.
    pub uid: Option<u32>,
    /// Its group, likewise.
    pub gid: Option<u32>,
}

/// A socket that listens, and the file that it is bound to, if it is a Unix socket.
#[derive(Debug)]
pub struct Open {
    fd: OwnedFd,
    file: Option<(PathBuf, (u64, u64))>,
}

const OPEN: &str = "open the socket";

impl Open {
    /// Opens it. A Unix socket's directory is made (mode 0755) where it is missing, and a socket
    /// file that nobody listens on any more is replaced. **May block** for as long as the file
    /// system of a path does.
    ///
    /// # Errors
    /// What is in the way, in words that say what to do.
    pub fn new(wanted: &Wanted) -> Result<Self, SysError> {
        let open = match &wanted.address {
            Address::Tcp(address) => Self::inet(*address, SockType::Stream),
            Address::Udp(address) => Self::inet(*address, SockType::Datagram),
            Address::Stream(path) => Self::unix(path, SockType::Stream),
            Address::Datagram(path) => Self::unix(path, SockType::Datagram),
        }?;
        match open.adjust(wanted) {
            Ok(()) => Ok(open),
            Err(error) => {
                // It is of no use to anybody.
                let _ = open.unlink();
                Err(error)
            }
        }
    }

    /// Sets the backlog, mode and owner, as often as they change. **May block** likewise.
    pub fn adjust(&self, wanted: &Wanted) -> Result<(), SysError> {
        if let Some((path, made)) = &self.file {
            own(path, *made, wanted)?;
        }
        if matches!(wanted.address, Address::Tcp(_) | Address::Stream(_)) {
            let backlog = wanted.backlog.map(i32::try_from);
            // The kernel cuts it to net.core.somaxconn.
            let backlog = backlog.and_then(Result::ok).unwrap_or(i32::MAX);
            // SAFETY: a descriptor that we own and an integer.
            let listening = unsafe { libc::listen(self.fd.as_raw_fd(), backlog) };
            let what = wanted.address.to_string();
            Errno::result(listening).map_err(|e| hinted("listen on", what, e))?;
        }
        Ok(())
    }

    fn inet(address: SocketAddr, kind: SockType) -> Result<Self, SysError> {
        let family = match address {
            SocketAddr::V4(_) => AddressFamily::Inet,
            SocketAddr::V6(_) => AddressFamily::Inet6,
        };
        let what = match kind {
            SockType::Stream => Address::Tcp(address),
            _ => Address::Udp(address),
        };
        let failed = |e| hinted(OPEN, what.to_string(), e);
        let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
        if kind == SockType::Stream {
            // Or connections of before (TIME_WAIT) would keep the port. For datagrams it would let
            // others take them.
            setsockopt(&fd, sockopt::ReuseAddr, &true).map_err(failed)?;
        }
        let bound = match address {
            SocketAddr::V4(address) => bind(fd.as_raw_fd(), &SockaddrIn::from(address)),
            SocketAddr::V6(address) => bind(fd.as_raw_fd(), &SockaddrIn6::from(address)),
        };
        bound.map_err(failed)?;
        Ok(Self { fd, file: None })
    }

    fn unix(path: &Path, kind: SockType) -> Result<Self, SysError> {
        let failed = |e| SysError::at(OPEN, path, e);
        let address = UnixAddr::new(path).map_err(|e| too_long(path, e))?;
        if let Some(dir) = path.parent() {
            let made = std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(dir);
            made.map_err(|e| SysError::io("make the directory", dir, &e))?;
        }
        make_way(path, kind).map_err(|error| in_the_way(path, error))?;
        let fd = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
        // The file gets the mode of the unbound socket, less the umask (unix_bind_bsd,
        // net/unix/af_unix.c): nobody connects before it is whose it shall be.
        fchmod(&fd, Mode::from_bits_truncate(0o600)).map_err(failed)?;
        bind(fd.as_raw_fd(), &address).map_err(failed)?;
        let made = lstat(path).map_err(failed)?;
        let file = Some((path.to_owned(), (made.st_dev, made.st_ino)));
        Ok(Self { fd, file })
    }

    /// Whether there is a file to be removed with it: it is a Unix socket.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Removes its file, if it has one and that is still its own. **May block** likewise.
    pub fn unlink(&self) -> Result<(), SysError> {
        let Some((path, made)) = &self.file else {
            return Ok(());
        };
        match lstat(path) {
            Ok(file) if (file.st_dev, file.st_ino) == *made => {
                nix::unistd::unlink(path).map_err(|e| SysError::at("remove", path, e))
            }
            Ok(_) | Err(Errno::ENOENT) => Ok(()),
            Err(e) => Err(SysError::at("look at", path, e)),
        }
    }
}

impl AsFd for Open {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "tcp {address}"),
            Address::Udp(address) => write!(f, "udp {address}"),
            Address::Stream(path) | Address::Datagram(path) => path.display().fmt(f),
        }
    }
}

/// Gives the file its owner and mode. It is held meanwhile: whatever else is put in its place is
/// not touched.
fn own(path: &Path, made: (u64, u64), wanted: &Wanted) -> Result<(), SysError> {
    let failed = |doing| move |e| SysError::at(doing, path, e);
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = open(path, flags, Mode::empty()).map_err(failed("look at"))?;
    let held = fstat(&file).map_err(failed("look at"))?;
    if (held.st_dev, held.st_ino) != made {
        return Err(SysError::because(
            "open the socket",
            path.display().to_string(),
            "somebody has put another file there",
        ));
    }
    let file = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    if wanted.uid.is_some() || wanted.gid.is_some() {
        let (uid, gid) = (wanted.uid.map(Uid::from_raw), wanted.gid.map(Gid::from_raw));
        chown(&file, uid, gid).map_err(failed("give an owner to"))?;
    }
    // After the owner: chown(2) would take bits off it.
    let mode = Mode::from_bits_truncate(wanted.mode);
    fchmodat(AT_FDCWD, &file, mode, FchmodatFlags::FollowSymlink).map_err(failed("set the mode of"))
}

fn hinted(doing: &'static str, what: String, errno: Errno) -> SysError {
    SysError::new(doing, what, errno)
        .limited_by(
            Errno::EADDRINUSE,
            "`ss -lntup` says who has it: stop that, or give another address",
        )
        .limited_by(
            Errno::EADDRNOTAVAIL,
            "no interface has this address: give one of this machine's, or come `after` what sets \
             it up",
        )
        .limited_by(
            Errno::EACCES,
            "a port below 1024 takes CAP_NET_BIND_SERVICE",
        )
}

fn in_the_way(path: &Path, error: SocketError) -> SysError {
    let because = |why: String| SysError::because(OPEN, path.display().to_string(), why);
    match error {
        SocketError::Live(_) => {
            because("somebody listens there already: stop that, or give another path".into())
        }
        SocketError::InTheWay { kind, .. } => because(format!(
            "{kind} is in its place: move it away, or give another path"
        )),
        SocketError::Failed(error) => error,
    }
}
