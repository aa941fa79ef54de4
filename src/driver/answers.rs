//! What clients ask: handed to the core, or answered from what is there to see.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tokio::sync::oneshot;

use super::generation::Answer;
use super::run::{Driver, now};
use super::service_files::ServiceFiles;
use crate::control::{self, Ask, Definition, KillError, Look, Seen, Use};
use crate::core::{Event, GenId, RequestId, ServiceView, Signal, Target};
use crate::sys::pressure;
use crate::sys::usage::{self, CgroupUsage};
use crate::sys::{cgroup, clock, signal};

impl Driver {
    pub(super) fn on_ask(&mut self, ask: Ask) {
        // What is seen is seen now, however long ago the core last heard of the time.
        self.core.handle_timeout(now());
        match ask {
            Ask::Do(request, answer) => {
                if self.replies.len() >= self.replies_most {
                    self.forsake();
                }
                self.next_request += 1;
                let id = RequestId(self.next_request);
                self.replies.insert(id, answer);
                self.core.handle(now(), Event::Request { id, request });
            }
            Ask::Info(answer) => {
                let base = self.place.base();
                // A client that has gone needs no answer, here and below.
                let _ = answer.send(control::info(
                    &self.core,
                    base,
                    &self.files.dir,
                    &self.place.notes,
                ));
            }
            Ask::Look(look, answer) => self.look(&look, answer),
            Ask::Use(name, answer) => self.usage(name.as_deref(), answer),
            Ask::Plan(goal, answer) => {
                let _ = answer.send(self.core.plan(&goal));
            }
            Ask::Kill(name, signal, answer) => {
                self.signal_main(&name, signal, answer);
            }
            Ask::ReadSpecs(answer) => self.with_files(answer, ServiceFiles::read_all),
            Ask::Definitions(answer) => {
                let _ = answer.send(self.definitions());
            }
            Ask::ReadSpec(name, answer) => {
                self.with_files(answer, move |files| files.read_spec(&name));
            }
            Ask::CreateFile(name, content, answer) => {
                self.with_files(answer, move |files| files.create(&name, &content));
            }
            Ask::DeleteFile(name, answer) => {
                self.with_files(answer, move |files| files.delete(&name));
            }
            Ask::ReadFile(name, answer) => {
                self.with_files(answer, move |files| files.read(&name));
            }
            Ask::Receipts(name, last, answer) => {
                let known = self.core.view(&name).is_some();
                self.store.push(move |dir| {
                    let stored = dir.receipts(&name, last).unwrap_or_else(|error| {
                        tracing::warn!("{name}: {error}");
                        Vec::new()
                    });
                    let _ = answer.send((known || !stored.is_empty()).then_some(stored));
                });
            }
            Ask::Courses(answer) => self.store.courses(answer),
        }
    }

    /// Forgets the requests whose clients have gone: their number is nobody's business but
    /// theirs. Often enough that no more wait than twice those that somebody waits for.
    fn forsake(&mut self) {
        let mut gone = BTreeSet::new();
        self.replies.retain(|id, answer| {
            if answer.is_closed() {
                gone.insert(*id);
            }
            !answer.is_closed()
        });
        self.core.forsake(&gone);
        self.replies_most = super::run::REPLIES.max(self.replies.len() * 2);
    }

    fn definitions(&self) -> Vec<Definition> {
        let views = self.core.views().into_iter().filter(|view| !view.ghost);
        let definitions = views.map(|view| Definition {
            spec: view.spec.clone(),
            state: view.state,
            active: view.active,
            wanted: view.target == Target::Up,
        });
        definitions.collect()
    }

    fn with_files<T: Send + 'static>(
        &self,
        answer: oneshot::Sender<T>,
        work: impl FnOnce(&ServiceFiles) -> T + Send + 'static,
    ) {
        let files = self.files.clone();
        self.file_jobs.push(move || {
            let _ = answer.send(work(&files));
        });
    }

    /// Signals a service's main process, or as soon as there is one when it is just being started.
    fn signal_main(&mut self, name: &str, signal: Signal, answer: Answer) {
        let r#gen = self.core.view(name).and_then(|view| view.r#gen);
        let generation = r#gen.and_then(|r#gen| self.gens.get_mut(&r#gen));
        match generation.filter(|generation| generation.is_being_born()) {
            Some(generation) => generation.rare.signals.push((signal, answer)),
            None => {
                let _ = answer.send(self.kill_main(name, signal));
            }
        }
    }

    /// The start of a generation has come back: what was to be signalled is there, or never will
    /// be.
    pub(super) fn send_waiting_signals(&mut self, r#gen: GenId) {
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        let Some(rare) = generation.rare.if_any() else {
            return;
        };
        let signals = std::mem::take(&mut rare.signals);
        let name = generation.name.clone();
        for (signal, answer) in signals {
            let _ = answer.send(self.kill_main(&name, signal));
        }
    }

    /// Signals the process group of a service's main process, as long as that is not reaped: its
    /// number is its own until then.
    fn kill_main(&self, name: &str, signal: Signal) -> Result<(), KillError> {
        let view = self.core.view(name).ok_or(KillError::NotFound)?;
        let generation = view.r#gen.and_then(|r#gen| self.gens.get(&r#gen));
        let main = generation.and_then(|generation| generation.main.as_ref());
        let Some(main) = main else {
            return Err(KillError::Down(view.state));
        };
        let number = signal.number();
        let sent = match signal::send_group_bare(main.id.pid, number) {
            // It may not have come to lead its group yet.
            Ok(false) => match &main.pidfd {
                Some(pidfd) => pidfd.send(number),
                None => Ok(false),
            },
            other => other,
        };
        match sent {
            Ok(true) => Ok(()),
            Ok(false) => Err(KillError::Down(view.state)),
            Err(error) => Err(KillError::Failed(error.to_string())),
        }
    }

    /// What there is to see, and where its processes are.
    fn seen(&self, name: Option<&str>) -> Vec<(Seen, Whereabouts)> {
        let views = match name {
            Some(name) => self.core.view(name).into_iter().collect(),
            None => self.core.views(),
        };
        let whereabouts = |view: &ServiceView<'_>| {
            let generation = view.r#gen.and_then(|r#gen| self.gens.get(&r#gen));
            Whereabouts {
                dir: generation.and_then(|generation| generation.dir.clone()),
                main: generation.and_then(|g| g.main.as_ref().map(|main| main.id.pid)),
            }
        };
        views
            .iter()
            .map(|view| (control::see(&self.core, view), whereabouts(view)))
            .collect()
    }

    /// What there is to see; how many processes each has is counted off the loop.
    fn look(&self, look: &Look, answer: oneshot::Sender<Vec<Seen>>) {
        let seen = self.seen(look.name.as_deref());
        let memory = look.memory;
        self.threads.run(move || {
            let seen = seen.into_iter().map(|(mut seen, at)| {
                let pids = at.pids();
                seen.status.processes = u64::try_from(pids.len()).unwrap_or(u64::MAX);
                if memory {
                    seen.status.memory_bytes = Some(at.memory(&pids));
                }
                seen
            });
            let _ = answer.send(seen.collect());
        });
    }

    /// What services use, read off the loop.
    fn usage(&self, name: Option<&str>, answer: oneshot::Sender<Vec<(Seen, Use)>>) {
        let seen = self.seen(name);
        self.threads.run(move || {
            let used = seen.into_iter().map(|(mut seen, at)| {
                let used = at.usage();
                seen.status.processes = u64::try_from(used.processes.len()).unwrap_or(u64::MAX);
                (seen, used)
            });
            let _ = answer.send(used.collect());
        });
    }
}

/// Where the processes of a service are.
struct Whereabouts {
    /// The cgroup of its generation, where there are cgroups.
    dir: Option<PathBuf>,
    main: Option<u32>,
}

impl Whereabouts {
    /// Everybody. Without a cgroup, what is known is the main process.
    fn pids(&self) -> Vec<u32> {
        let members = self.dir.as_deref().map(cgroup::procs_recursive);
        match members {
            Some(Ok(members)) => members,
            Some(Err(_)) | None => self.main.into_iter().collect(),
        }
    }

    fn accounts(&self) -> CgroupUsage {
        self.dir
            .as_deref()
            .map(usage::of_cgroup)
            .unwrap_or_default()
    }

    fn memory(&self, pids: &[u32]) -> u64 {
        self.accounts().memory_bytes.unwrap_or_else(|| {
            let processes = pids.iter().filter_map(|pid| usage::of_process(*pid).ok()?);
            processes.map(|process| process.memory_bytes).sum()
        })
    }

    fn usage(&self) -> Use {
        let pids = self.pids();
        let processes = pids.iter().filter_map(|pid| usage::of_process(*pid).ok()?);
        Use {
            main: self.main,
            processes: processes.collect(),
            cgroup: self.accounts(),
            moved: self.dir.as_deref().and_then(pressure::moved),
            pressure: self.dir.as_deref().and_then(pressure::of_cgroup),
            now: std::time::Duration::from_nanos(clock::boot_now()),
        }
    }
}
