//! MAINPID=: a service names another process of its own as its main one (sd_notify(3)), as daemons
//! do that fork, or that replace themselves.
//!
//! The claim counts with proof alone: the process is held by a handle, and while it is it is found
//! in the cgroup of this start, or with its mark. Being our child proves nothing, nor does who says
//! so: a number of another pid namespace would be somebody else's here.

use std::os::fd::AsFd as _;
use std::sync::Arc;

use super::generation::Process;
use super::message::Message;
use super::run::{Driver, Owner, now};
use super::told::Sender;
use crate::core::{Event, GenId, Told};
use crate::sys::pidfd::PidFd;
use crate::sys::procfs::{Proc, ProcId};
use crate::sys::readiness;

impl Driver {
    /// A process of the generation says that `pid` is its main process.
    pub(super) fn name_main(&mut self, r#gen: GenId, pid: u32) {
        let Some(generation) = self.gens.get(&r#gen) else {
            return;
        };
        let main = generation.main.as_ref().map(|main| main.id.pid);
        if main == Some(pid) {
            return;
        }
        let found = match (generation.own_pids, main) {
            (true, _) => Err("the service has a pid namespace of its own, whose process 1 it is"),
            (_, None) => Err("the main process has ended already"),
            (false, Some(_)) => self.prove_main(r#gen, pid),
        };
        match found {
            Ok((id, handle)) => self.take_named_main(r#gen, id, handle),
            Err(why) => {
                let service = &generation.name;
                tracing::warn!("{service}: it says MAINPID={pid}: ignored, {why}");
            }
        }
    }

    /// The process that has this number now, if it is one of the generation.
    fn prove_main(&self, r#gen: GenId, pid: u32) -> Result<(ProcId, PidFd), &'static str> {
        const NOBODY: &str = "there is no such process";
        let generation = self.gens.get(&r#gen).ok_or(NOBODY)?;
        let unseen = "it cannot be looked at";
        let handle = PidFd::open(pid).map_err(|_| unseen)?.ok_or(NOBODY)?;
        let proc = Proc::open().map_err(|_| unseen)?;
        let stat = proc.stat(pid).map_err(|_| unseen)?.ok_or(NOBODY)?;
        let aux = matches!(self.pids.get(&pid), Some(Owner::Aux(..)));
        if aux || self.sender(generation, pid) != Sender::Ours {
            return Err("that is no process of this start");
        }
        // Held all the while: what was looked at was this process.
        match handle.is_gone() {
            true => Err(NOBODY),
            false => Ok((stat.id(), handle)),
        }
    }

    fn take_named_main(&mut self, r#gen: GenId, id: ProcId, handle: PidFd) {
        let pid = id.pid;
        // Its end is watched, too: its parent may be another process, who reaps it.
        let own = handle.as_fd().try_clone_to_owned();
        match own.and_then(readiness::readable) {
            Ok(watched) => {
                let inbox = self.inbox.clone();
                let task = tokio::spawn(async move {
                    if watched.readable().await.is_ok() {
                        let _ = inbox.send(Message::NamedMainEnded { r#gen, pid });
                    }
                });
                if let Some(generation) = self.gens.get_mut(&r#gen) {
                    generation.rare.hearing.push(task.abort_handle());
                }
            }
            Err(error) => {
                let what = format!("its new main process cannot be watched: {error}");
                return self.trouble(r#gen, &what);
            }
        }
        // It has executed its program long ago; that may not have been heard yet.
        let before = self.gens.get(&r#gen).and_then(|g| g.main.as_ref());
        if let Some(before) = before.map(|main| main.id.pid) {
            self.on_exec_ready(before);
        }
        let pidfd = Some(handle);
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        generation.main_id = Some(id);
        let before = generation.main.replace(Arc::new(Process { id, pidfd }));
        tracing::info!("{}: its main process is {pid} now", generation.name);
        if let Some(before) = before {
            self.pids.remove(&before.id.pid);
            self.execs.remove(&before.id.pid);
        }
        self.pids.insert(pid, Owner::Main(r#gen));
        let told = Told::MainPid(pid);
        self.core.handle(now(), Event::Told { r#gen, told });
    }

    /// It has ended. Were it our child, its status is there to be reaped.
    pub(super) fn on_named_main_ended(&mut self, r#gen: GenId, pid: u32) {
        self.reap();
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        if generation.main.as_ref().map(|main| main.id.pid) != Some(pid) {
            return;
        }
        generation.main = None;
        generation.stopping = true;
        self.pids.remove(&pid);
        self.look_closely(r#gen);
        self.read_oom_kills(r#gen);
        self.core.handle(now(), Event::MainLost { r#gen });
    }
}
