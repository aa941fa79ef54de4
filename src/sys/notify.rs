//! One inotify descriptor that watches every `cgroup.events`.
//!
//! A notification is a hint to read the file: the kernel sends at most one per cgroup in 10 ms
//! and delays the rest, and a removed cgroup sends nothing at all (before 7.1 its watch leaks,
//! too): take the watch away before the rmdir. Watch first, then read, and no change is lost.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;

use inotify::{Event, EventMask, Inotify, WatchDescriptor, WatchMask};
use nix::errno::Errno;

use super::{SysError, heap};

/// Names one watched cgroup. Never reused within the life of its [`CgroupEvents`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watch(i32);

/// What had changed when [`CgroupEvents::drain`] looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// The cgroups whose events file changed, each once.
    pub changed: Vec<Watch>,
    /// Notifications were lost (IN_Q_OVERFLOW): every watched file must be read again.
    pub overflow: bool,
}

/// The inotify descriptor and its watches. Readable (poll, epoll) when [`Self::drain`] has
/// something to give; non-blocking and close-on-exec.
#[derive(Debug)]
pub struct CgroupEvents {
    inotify: Inotify,
    watches: BTreeMap<i32, WatchDescriptor>,
}

impl CgroupEvents {
    /// A descriptor without watches. EMFILE: max_user_instances or our open files are used up;
    /// then cgroups have to be polled while they are being stopped.
    pub fn new() -> Result<Self, SysError> {
        let inotify = Inotify::init()
            .map_err(|e| limited(SysError::io("watch cgroups with", Path::new("inotify"), &e)))?;
        Ok(Self {
            inotify,
            watches: BTreeMap::new(),
        })
    }

    /// Watches the cgroup in directory `cgroup`. Adding one twice gives the same watch. ENOSPC:
    /// fs.inotify.max_user_watches is used up.
    pub fn add(&mut self, cgroup: &Path) -> Result<Watch, SysError> {
        let file = cgroup.join("cgroup.events");
        let descriptor = self
            .inotify
            .watches()
            .add(&file, WatchMask::MODIFY)
            .map_err(|e| limited(SysError::io("watch", &file, &e)))?;
        let id = descriptor.get_watch_descriptor_id();
        self.watches.insert(id, descriptor);
        Ok(Watch(id))
    }

    /// Takes a watch away. One that is gone already is no error.
    pub fn remove(&mut self, watch: Watch) {
        if let Some(descriptor) = self.watches.remove(&watch.0) {
            // EINVAL says that the kernel dropped it before us, with its file.
            let _ = self.inotify.watches().remove(descriptor);
        }
    }

    /// Gives back memory that was left over when many watches were added.
    pub fn tidy_up(&mut self) {
        heap::pack(&mut self.watches);
    }

    /// How many cgroups are watched.
    pub fn len(&self) -> usize {
        self.watches.len()
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Takes everything that has arrived; never blocks.
    pub fn drain(&mut self) -> Result<Drained, SysError> {
        let mut drained = Drained::default();
        let watches = &mut self.watches;
        drain(&mut self.inotify, |event| {
            let id = event.wd.get_watch_descriptor_id();
            if event.mask.contains(EventMask::Q_OVERFLOW) {
                drained.overflow = true;
            } else if event.mask.contains(EventMask::IGNORED) {
                watches.remove(&id);
            } else if watches.contains_key(&id) {
                drained.changed.push(Watch(id));
            }
        })?;
        drained.changed.sort_unstable();
        drained.changed.dedup();
        Ok(drained)
    }
}

/// Names the limit that an inotify descriptor or watch has met.
pub(super) fn limited(error: SysError) -> SysError {
    error
        .limited_by(
            Errno::EMFILE,
            "fs.inotify.max_user_instances or RLIMIT_NOFILE",
        )
        .limited_by(Errno::ENOSPC, "fs.inotify.max_user_watches")
}

/// Takes everything that has arrived; never blocks.
pub(super) fn drain(
    inotify: &mut Inotify,
    mut take: impl FnMut(Event<&OsStr>),
) -> Result<(), SysError> {
    let mut buffer = [0_u8; 4096];
    loop {
        match inotify.read_events(&mut buffer) {
            Ok(events) => events.for_each(&mut take),
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(SysError::io("read", Path::new("inotify"), &e)),
        }
    }
}

impl AsFd for CgroupEvents {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

impl AsRawFd for CgroupEvents {
    fn as_raw_fd(&self) -> RawFd {
        self.inotify.as_raw_fd()
    }
}
