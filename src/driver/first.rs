//! Generations with a pid namespace of their own: what its first process says, and what its end
//! proves where there are no cgroups.

use std::sync::Arc;

use tokio::io::unix::AsyncFd;
use tokio::task::AbortHandle;

use super::generation::{Generation, Process};
use super::intake::exit;
use super::message::Message;
use super::run::{Driver, now};
use super::translate::failed;
use crate::core::{Event, Exit, Failed, GenId};
use crate::sys::spawn::{FirstBorn, REPORT, Report, World};
use crate::sys::{SysError, readiness};

/// The first process of a generation's pid namespace.
#[derive(Debug)]
pub(super) struct First {
    process: Arc<Process>,
    world: World,
    /// What it says, and the task that waits for that; `None`: it cannot be watched.
    reports: Option<(Arc<AsyncFd<std::os::fd::OwnedFd>>, AbortHandle)>,
    /// The core knows that the program has ended.
    told: bool,
    /// It is reaped: nobody of the namespace lives.
    reaped: bool,
}

impl Drop for First {
    fn drop(&mut self) {
        if let Some((_, task)) = &self.reports {
            task.abort();
        }
    }
}

impl First {
    /// The namespaces, for one more process to be born in.
    pub(super) fn world(&self) -> Result<World, SysError> {
        self.world.try_clone()
    }

    /// Ends everybody in the namespace by ending the first.
    fn kill(&self) -> Result<(), SysError> {
        match (&self.process.pidfd, self.reaped) {
            (_, true) => Ok(()),
            (Some(pidfd), false) => pidfd.send(libc::SIGKILL).map(drop),
            // Not reaped: its number is its own.
            (None, false) => {
                crate::sys::signal::send_group(self.process.id.pid, libc::SIGKILL).map(drop)
            }
        }
    }
}

impl Generation {
    /// Whether somebody lives in its pid namespace, where that is what holds it: it has no
    /// cgroup. `None`: it has one, or no pid namespace.
    pub(super) fn populated_by_first(&self) -> Option<bool> {
        let holds = self.own_pids && self.dir.is_none();
        holds.then(|| self.rare.first.as_ref().is_some_and(|first| !first.reaped))
    }

    /// Kills whoever is in its pid namespace, if that is what holds it.
    pub(super) fn kill_first(&self) -> Option<Failed> {
        let first = self.rare.first.as_ref().filter(|_| self.dir.is_none())?;
        first.kill().err().as_ref().map(failed)
    }
}

impl Driver {
    /// A main process was born first in a pid namespace: its reports are read from now on.
    pub(super) fn take_first(&mut self, r#gen: GenId, process: &Arc<Process>, born: FirstBorn) {
        let FirstBorn { reports, world } = born;
        let reports = match readiness::readable(reports) {
            Ok(reports) => Some(self.await_words(reports, move || Message::Reported { r#gen })),
            Err(error) => {
                // Its own end tells of the program's all the same.
                let what = format!("its program's end shows late: failed to watch it: {error}");
                self.trouble(r#gen, &what);
                None
            }
        };
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        generation.rare.first = Some(First {
            process: Arc::clone(process),
            world,
            reports,
            told: false,
            reaped: false,
        });
    }

    /// Reads what the first process has said.
    pub(super) fn on_reported(&mut self, r#gen: GenId) {
        let first = |driver: &Self| {
            let first = driver.gens.get(&r#gen)?.rare.first.as_ref()?;
            let (reports, _) = first.reports.as_ref()?;
            (!first.told).then(|| Arc::clone(reports))
        };
        while let Some(reports) = first(self) {
            let mut word = [0; REPORT];
            match nix::unistd::read(reports.get_ref(), &mut word) {
                Ok(REPORT) => {}
                Err(nix::errno::Errno::EINTR) => continue,
                Ok(_) | Err(_) => return,
            }
            if let Some(Report::Exited(ended)) = Report::read(&word) {
                self.program_ended(r#gen, exit(ended));
            }
        }
    }

    fn program_ended(&mut self, r#gen: GenId, exit: Exit) {
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        if let Some(first) = &mut generation.rare.first {
            first.told = true;
        }
        // What it said of its exec comes before its end.
        if let Some(pid) = generation.leader {
            self.on_exec_ready(pid);
        }
        self.main_ended(r#gen, exit);
    }

    /// The main process is reaped: whether it was the first of a pid namespace whose program's
    /// end is known already.
    pub(super) fn first_ended(&mut self, r#gen: GenId) -> bool {
        self.on_reported(r#gen);
        let generation = self.gens.get_mut(&r#gen);
        let Some(first) =
            generation.and_then(|generation| generation.rare.if_any()?.first.as_mut())
        else {
            return false;
        };
        first.reaped = true;
        first.told
    }

    /// Tells the core who lives in a generation that its pid namespace holds; whether it is one.
    pub(super) fn read_first(&mut self, r#gen: GenId) -> Option<bool> {
        let whole = self.gens.get(&r#gen)?.populated_by_first()?;
        let main = whole;
        self.core
            .handle(now(), Event::Cgroup { r#gen, main, whole });
        Some(whole)
    }
}
