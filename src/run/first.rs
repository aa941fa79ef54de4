//! The first process of the command's own pid namespace (`--pidns`): what it says of the command,
//! and what its end proves where there are no cgroups.

use std::os::fd::OwnedFd;

use super::watch::Runner;
use crate::core::Exit;
use crate::driver::KILL_SETTLE;
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::Proc;
use crate::sys::spawn::{REPORT, Report};

/// The first process, which is ours: the command is its child.
#[derive(Debug)]
pub(super) struct First {
    pub(super) pid: u32,
    pub(super) handle: Option<PidFd>,
    /// What it says; `None` once that is over.
    pub(super) reports: Option<OwnedFd>,
    /// The command's pid as we see it, once that could be found.
    program: Option<u32>,
    /// The command's end was said.
    told: bool,
    /// It is reaped: nobody of the namespace lives.
    reaped: bool,
}

impl First {
    pub(super) fn new(pid: u32, handle: Option<PidFd>, reports: OwnedFd) -> Self {
        Self {
            pid,
            handle,
            reports: Some(reports),
            program: None,
            told: false,
            reaped: false,
        }
    }

    /// Whether somebody of the namespace may live.
    pub(super) fn lives(&self) -> bool {
        !self.reaped
    }

    /// Where a signal for the command goes: it is passed on.
    pub(super) fn passes_on(&self) -> Option<&PidFd> {
        self.handle.as_ref().filter(|_| !self.told)
    }
}

impl Runner<'_> {
    /// The command's main process, which leads its process group.
    pub(super) fn program(&self) -> Option<u32> {
        match &self.first {
            Some(first) => first.program,
            None => self.main_id.map(|id| id.pid),
        }
    }

    /// Whether the process is the first of the command's pid namespace: nothing of the command's.
    pub(super) fn is_first(&self, pid: u32) -> bool {
        self.first.as_ref().is_some_and(|first| first.pid == pid)
    }

    /// Looks for the command's process: the first child of the first, until it inherits orphans.
    pub(super) fn find_program(&mut self) {
        let Some(first) = &mut self.first else { return };
        if first.program.is_none() && !first.told && !first.reaped {
            let children = Proc::open().and_then(|proc| proc.children(first.pid));
            first.program = children.ok().and_then(|children| children.first().copied());
        }
    }

    /// Reads what the first process has said.
    pub(super) fn on_reports(&mut self) {
        loop {
            let Some(first) = &mut self.first else { return };
            let Some(reports) = &first.reports else {
                return;
            };
            let mut word = [0; REPORT];
            match nix::unistd::read(reports, &mut word) {
                Ok(REPORT) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Err(nix::errno::Errno::EAGAIN) => return,
                Ok(_) | Err(_) => {
                    first.reports = None;
                    return;
                }
            }
            match Report::read(&word) {
                Some(Report::Exited(ended)) if !first.told => {
                    first.told = true;
                    self.on_main_exited(super::children::exit(ended));
                }
                Some(Report::Stopped(by)) => {
                    self.find_program();
                    if let Some(program) = self.program().filter(|_| self.exit.is_none()) {
                        self.on_stopped(program, by);
                    }
                }
                Some(Report::Exited(_) | Report::Continued) | None => {}
            }
        }
    }

    /// It is reaped: the kernel has ended everybody in its namespace before.
    pub(super) fn on_first_reaped(&mut self, exit: Exit) {
        self.on_reports();
        let Some(first) = &mut self.first else { return };
        first.reaped = true;
        first.handle = None;
        if !std::mem::replace(&mut first.told, true) {
            // Killed from outside before it could say anything.
            self.on_main_exited(exit);
        }
        self.look_closely();
    }

    /// Ends everybody in the namespace by ending the first, where no cgroup does that.
    pub(super) fn end_namespace(&mut self) {
        let handle = self.first.as_ref().and_then(|first| first.handle.as_ref());
        if let Some(handle) = handle {
            // That it is gone already is what is wanted.
            let _ = handle.send(libc::SIGKILL);
            handle.ends_within(KILL_SETTLE);
            self.reap();
        }
    }
}
