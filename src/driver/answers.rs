//! What clients ask: handed to the core, or answered from what is there to see.

use std::path::PathBuf;

use tokio::sync::oneshot;

use super::run::{Driver, now};
use crate::control::{self, Ask, Seen};
use crate::core::{Event, RequestId};
use crate::sys::cgroup;

impl Driver {
    pub(super) fn on_ask(&mut self, ask: Ask) {
        // What is seen is seen now, however long ago the core last heard of the time.
        self.core.handle_timeout(now());
        match ask {
            Ask::Do(request, answer) => {
                self.next_request += 1;
                let id = RequestId(self.next_request);
                self.replies.insert(id, answer);
                self.core.handle(now(), Event::Request { id, request });
            }
            Ask::Info(answer) => {
                let base = self.place.base();
                // A client that has gone needs no answer, here and below.
                let _ = answer.send(control::info(&self.core, base, &self.place.notes));
            }
            Ask::Look(name, answer) => self.look(name.as_deref(), answer),
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
        }
    }

    /// What there is to see; how many processes each has is counted off the loop.
    fn look(&self, name: Option<&str>, answer: oneshot::Sender<Vec<Seen>>) {
        let views = match name {
            Some(name) => self.core.view(name).into_iter().collect(),
            None => self.core.views(),
        };
        let mut seen: Vec<(Seen, Option<PathBuf>)> = views
            .iter()
            .map(|view| {
                let generation = view.r#gen.and_then(|r#gen| self.gens.get(&r#gen));
                let mut seen = control::see(&self.core, view);
                // Without a cgroup, what is known is the main process.
                seen.status.processes = u64::from(generation.is_some_and(|g| g.main.is_some()));
                (
                    seen,
                    generation.and_then(|generation| generation.dir.clone()),
                )
            })
            .collect();
        self.threads.run(move || {
            for (seen, dir) in &mut seen {
                if let Some(pids) = dir
                    .as_deref()
                    .and_then(|dir| cgroup::procs_recursive(dir).ok())
                {
                    seen.status.processes = u64::try_from(pids.len()).unwrap_or(u64::MAX);
                }
            }
            let _ = answer.send(seen.into_iter().map(|(seen, _)| seen).collect());
        });
    }
}
