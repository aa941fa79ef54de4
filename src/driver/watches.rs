//! Cgroups that changed: watched, and read again in a moment when something may have emptied them.

use std::time::Duration;

use super::run::{Driver, now};
use crate::core::{Event, GenId};
use crate::sys::notify::Drained;
use crate::sys::{SysError, cgroup};

/// When a cgroup is read again after something happened that may have emptied it. The kernel
/// notifies at most once in 10 ms, and a reading shows the change within 0.1 ms.
const REREADS_MS: [u64; 4] = [1, 2, 4, 8];
/// And after those, where nothing notifies us.
const POLL_MS: [u64; 4] = [16, 32, 64, 128];

impl Driver {
    /// Watches a generation's cgroups, where there are any.
    pub(super) fn watch(&mut self, r#gen: GenId) {
        let Some(notify) = &mut self.notify else {
            return;
        };
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        let Some(dir) = generation.dir.clone() else {
            return;
        };
        if generation.is_watched() {
            return;
        }
        for (path, slot) in [dir.join("main"), dir].iter().zip(&mut generation.watches) {
            match notify.get_mut().add(path) {
                Ok(watch) => {
                    *slot = Some(watch);
                    self.watches.insert(watch, r#gen);
                }
                Err(error) => {
                    tracing::warn!(
                        "{}: failed to {error}: it is read again and again while it stops",
                        generation.name
                    );
                }
            }
        }
    }

    /// Takes the watches away: before the rmdir, or they leak.
    pub(super) fn unwatch(&mut self, r#gen: GenId) {
        let watches = self
            .gens
            .get_mut(&r#gen)
            .map(|g| std::mem::take(&mut g.watches));
        for watch in watches.into_iter().flatten().flatten() {
            self.watches.remove(&watch);
            if let Some(notify) = &mut self.notify {
                notify.get_mut().remove(watch);
            }
        }
    }

    pub(super) fn on_changed(&mut self, drained: Result<Drained, SysError>) {
        match drained {
            Ok(drained) => {
                let mut gens: Vec<GenId> = if drained.overflow {
                    self.gens.keys().copied().collect()
                } else {
                    drained
                        .changed
                        .iter()
                        .filter_map(|w| self.watches.get(w))
                        .copied()
                        .collect()
                };
                gens.sort_unstable();
                gens.dedup();
                for r#gen in gens {
                    self.read(r#gen);
                }
            }
            Err(error) => {
                tracing::error!(
                    "failed to {error}: cgroups are read again and again while they stop"
                );
                self.notify = None;
                self.watches.clear();
                for generation in self.gens.values_mut() {
                    generation.watches = [None; 2];
                }
            }
        }
    }

    /// Something happened that may empty the cgroup: read it now and again in a moment.
    pub(super) fn look_closely(&mut self, r#gen: GenId) {
        self.forget_rereads(r#gen);
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.rereads = Some(0);
        }
        self.read_again(r#gen);
    }

    /// No reading of the cgroup is due any more.
    pub(super) fn forget_rereads(&mut self, r#gen: GenId) {
        if let Some(generation) = self.gens.get_mut(&r#gen) {
            generation.rereads = None;
            if let Some(due) = generation.reread_due.take() {
                self.rereads.remove(&(due, r#gen));
            }
        }
    }

    /// A reading, and the time of the next one if this one does not settle it.
    pub(super) fn read_again(&mut self, r#gen: GenId) {
        let populated = self.read(r#gen);
        let notified = self.notify.is_some();
        let Some(generation) = self.gens.get_mut(&r#gen) else {
            return;
        };
        let notified = notified && generation.is_watched();
        let step = generation.rereads.unwrap_or(0);
        let pause = match REREADS_MS.get(step) {
            Some(ms) => Some(*ms),
            None if notified || !generation.stopping => None,
            None => POLL_MS
                .get(step - REREADS_MS.len())
                .or(POLL_MS.last())
                .copied(),
        };
        if let Some(due) = generation.reread_due.take() {
            self.rereads.remove(&(due, r#gen));
        }
        if populated == Some(false) {
            generation.rereads = None;
        } else if let Some(ms) = pause {
            let due = now() + Duration::from_millis(ms);
            generation.rereads = Some(step + 1);
            generation.reread_due = Some(due);
            self.rereads.insert((due, r#gen));
        }
    }

    /// Reads whether anything lives in the generation and tells the core; `None` while that is
    /// being found out, or cannot be.
    fn read(&mut self, r#gen: GenId) -> Option<bool> {
        let generation = self.gens.get(&r#gen)?;
        let Some(dir) = &generation.dir else {
            if generation.own_pids {
                return self.read_first(r#gen);
            }
            self.count_members(r#gen);
            return None;
        };
        let whole = populated(dir);
        // With nobody in the whole there is nobody in it.
        let main = match whole {
            Ok(false) => Ok(false),
            _ => populated(&dir.join("main")),
        };
        let (main, whole) = match (main, whole) {
            (Ok(main), Ok(whole)) => (main, whole),
            (Err(error), _) | (_, Err(error)) => {
                tracing::warn!("{}: failed to {error}", generation.name);
                return None;
            }
        };
        self.core
            .handle(now(), Event::Cgroup { r#gen, main, whole });
        Some(whole)
    }

    pub(super) fn on_members(&mut self, r#gen: GenId, count: usize, error: Option<SysError>) {
        match error {
            None => {
                let alive = count > 0;
                self.core.handle(
                    now(),
                    Event::Cgroup {
                        r#gen,
                        main: alive,
                        whole: alive,
                    },
                );
                if !alive {
                    self.forget_rereads(r#gen);
                }
            }
            Some(error) => self.trouble(r#gen, &format!("failed to {error}")),
        }
    }
}

/// Whether somebody lives in a cgroup. One that is gone holds nobody.
fn populated(dir: &std::path::Path) -> Result<bool, SysError> {
    match cgroup::read_events(dir) {
        Ok(events) => Ok(events.populated),
        Err(error) if cgroup::is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}
