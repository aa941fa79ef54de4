//! Whoever ends what is left when `nought run` itself is killed: a copy of us in a session and a
//! cgroup of its own, with another name and no environment. It sleeps until our pidfd says that
//! we have ended; if we come to an end of our own, we end it first.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use super::orphan::{Orphan, end_orphan};
use super::report::report;
use super::site::Site;
use super::{JobOptions, Onlooker};
use crate::sys::guard::{self, Guardian, Making};
use crate::sys::pidfd::PidFd;
use crate::sys::spawn::Born;
use crate::sys::{SysError, cgroup, reap};

/// How long a killed guardian may take to be gone.
const DEATH_BOUND: Duration = Duration::from_secs(1);

/// The guardian, and how to tell it something. Before it is begun, and where there is none, all of
/// this does nothing.
#[derive(Debug, Default)]
pub(super) struct Guard {
    begun: bool,
    /// It is being made on another processor while we go on.
    making: Option<Making>,
    made: Option<Guardian>,
    line: Option<OwnedFd>,
}

impl Guard {
    /// Begins to make the guardian; once more it does nothing. Process 1 needs none: whatever is
    /// below it dies with it.
    ///
    /// While we have one thread, and before we inherit orphans. From here until the command is born
    /// every page that we write to is copied: what can be prepared is to be prepared before.
    pub(super) fn begin(
        &mut self,
        site: &Site,
        options: &JobOptions,
        onlooker: &mut dyn Onlooker,
    ) -> Result<(), SysError> {
        if std::mem::replace(&mut self.begun, true) || std::process::id() == 1 {
            return Ok(());
        }
        let gone = || SysError::because("open a handle on", "ourselves", "we are not to be seen");
        let us = PidFd::open(std::process::id())?.ok_or_else(gone)?;
        let (line, theirs) = guard::line()?;
        let home = site.guardian().and_then(|dir| {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            open(&dir, flags, Mode::empty()).ok()
        });
        // Where nobody reaps orphans it would stay a zombie for ever: there it is our child.
        let detached = guard::reaps(1);
        let keep = [us.as_fd(), theirs.as_fd()];
        let watch = || keep_watch(site, options, onlooker, &us, &theirs);
        let making = guard::begin(home.as_ref().map(AsFd::as_fd), detached, &keep, watch)?;
        self.making = Some(making);
        self.line = Some(line);
        Ok(())
    }

    /// Waits until it is there. To be called before the command may do anything, and before we
    /// inherit orphans; once more it does nothing.
    pub(super) fn settle(&mut self) -> Result<(), SysError> {
        let Some(making) = self.making.take() else {
            return Ok(());
        };
        let made = making.finish();
        if made.is_err() {
            self.line = None;
        }
        self.made = Some(made?);
        Ok(())
    }

    /// Its pid, once it is there.
    pub(super) fn pid(&self) -> Option<u32> {
        self.made.as_ref().map(|guardian| guardian.pid)
    }

    /// Tells it who was born.
    pub(super) fn tell(&self, born: &Born, site: &Site) -> Result<(), SysError> {
        let text = Orphan::words(born, site.tree.is_some());
        let mark = born.mark.as_ref().map(|mark| mark.fd.as_fd());
        let line = self.line.as_ref();
        line.map_or(Ok(()), |line| guard::send(line, text.as_bytes(), mark))
    }

    /// Ends it without waiting: there is nothing to guard any more.
    pub(super) fn end(&self) {
        // That it is gone already is what is wanted.
        let made = self.made.as_ref();
        let _ = made.map(|guardian| guardian.handle.send(libc::SIGKILL));
    }

    /// Ends it, and waits until it is gone.
    pub(super) fn dismiss(&mut self) {
        self.end();
        let Some(guardian) = self.made.take() else {
            return;
        };
        if guardian.handle.ends_within(DEATH_BOUND) && guardian.is_child {
            let _ = reap::reap_pid(guardian.pid);
        }
    }
}

/// The guardian's life.
fn keep_watch(
    site: &Site,
    options: &JobOptions,
    onlooker: &mut dyn Onlooker,
    us: &PidFd,
    line: &OwnedFd,
) -> u8 {
    while !us.is_gone() {
        // What we are told waits in the line until it is needed: whoever runs commands waits for
        // us, and is not to wait until we have read.
        let mut fds = [PollFd::new(us.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return 1,
        }
    }
    let told = std::iter::from_fn(|| guard::receive(line)).last();
    let orphan = told.and_then(|(text, mark)| Orphan::parse(&text, mark));
    let (site, spared) = match &orphan {
        Some(orphan) if !orphan.in_cgroup => (site.without_cgroups(), false),
        _ => (site.clone(), true),
    };
    let reaper = nix::unistd::getppid().as_raw().unsigned_abs();
    let end = end_orphan(site.clone(), orphan, options, Some(reaper));
    onlooker.orphaned(&report(&end, options));
    if spared {
        leave(&site);
    }
    0
}

/// Out of our own cgroup, and away with everything.
fn leave(site: &Site) {
    let Some(base) = &site.base else { return };
    // What cannot be removed is found by the next run here.
    let mut site = site.clone();
    site.take_limits_back();
    let _ = cgroup::move_self_to(&base.dir);
    let _ = site.remove();
}
