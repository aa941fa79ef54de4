//! Survivors that a service's file wants kept: the sessions of a restarted sshd, the containers
//! of an engine.
//!
//! Before anything but the main process and its group is signalled or killed, whoever matches a
//! pattern goes, with all that descends from it, from the generation's cgroup to one beside it,
//! which no kill of the generation reaches. What left the cgroup by itself is told by the scan.
//! Both are on the receipt, and the final sweep of a shutdown ends them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::generation::Generation;
use super::pattern::matches;
use super::run::Driver;
use crate::core::GenId;
use crate::sys::procfs::{Proc, ProcId, ProcStat};
use crate::sys::{SysError, cgroup, set_aside};

/// Who is to be kept of one generation.
#[derive(Clone, Debug)]
pub(super) struct Keeping {
    patterns: Vec<String>,
    /// Its main process, which never is.
    main: Option<u32>,
    /// The generation's own cgroup, and where those to be kept go.
    dirs: Option<(PathBuf, PathBuf)>,
}

/// How often the cgroup is listed again because somebody was found to be moved: what is kept
/// may fork meanwhile.
const ROUNDS: usize = 16;

impl Keeping {
    /// Whether a process is kept for what it is called.
    pub(super) fn names(&self, process: &ProcStat) -> bool {
        let mut patterns = self.patterns.iter();
        Some(process.pid) != self.main && patterns.any(|pattern| matches(pattern, &process.comm))
    }

    /// Moves whoever is to be kept out of the generation's cgroup. **Blocks** for a file of /proc
    /// for each member.
    pub(super) fn set_aside(&self) -> Result<(), SysError> {
        let Some((from, to)) = &self.dirs else {
            return Ok(());
        };
        let proc = Proc::open()?;
        let look = |pids: Vec<u32>| -> Result<Vec<ProcStat>, SysError> {
            let stats = pids.into_iter().map(|pid| proc.stat(pid));
            stats.filter_map(Result::transpose).collect()
        };
        let mut moved = BTreeSet::new();
        for _ in 0..ROUNDS {
            let members = look(cgroup::procs_recursive(from)?)?;
            // Looked at in this order: the kill's turn may come while the signal's is at it, and
            // whom that one moves is in the one list or in the other.
            let there = look(cgroup::procs(to)?)?;
            moved.extend(there.iter().map(ProcStat::id));
            let chosen = self.choose(&members, &moved);
            if chosen.is_empty() {
                return Ok(());
            }
            make_dir(to)?;
            moved.extend(set_aside::move_members(from, to, &chosen)?);
        }
        Ok(())
    }

    /// Those of `members` that match or descend from one that does, or from one in `moved`.
    fn choose(&self, members: &[ProcStat], moved: &BTreeSet<ProcId>) -> BTreeSet<ProcId> {
        let named = members.iter().filter(|process| self.names(process));
        let mut chosen: BTreeMap<u32, ProcId> = named.map(|stat| (stat.pid, stat.id())).collect();
        let moved: BTreeMap<u32, ProcId> = moved.iter().map(|&id| (id.pid, id)).collect();
        // Nobody is older than his parent: then the number was another's.
        let is_parent = |among: &BTreeMap<u32, ProcId>, of: &ProcStat| {
            let parent = among.get(&of.ppid);
            parent.is_some_and(|parent| parent.start_time <= of.start_time)
        };
        loop {
            let before = chosen.len();
            for process in members {
                let below = is_parent(&chosen, process) || is_parent(&moved, process);
                if below && Some(process.pid) != self.main {
                    chosen.insert(process.pid, process.id());
                }
            }
            if chosen.len() == before {
                return chosen.into_values().collect();
            }
        }
    }
}

fn make_dir(dir: &Path) -> Result<(), SysError> {
    match cgroup::make_dir(dir) {
        Err(error) if error.is(nix::errno::Errno::EEXIST) => Ok(()),
        other => other,
    }
}

impl Driver {
    /// Who is to be kept of a generation; `None` for nobody. What a killed supervisor left is
    /// ended whole.
    pub(super) fn keeping(&self, generation: &Generation) -> Option<Keeping> {
        let spec = self.core.spec(generation.service)?;
        if spec.keep.is_empty() {
            return None;
        }
        let dir = generation.dir.clone();
        Some(Keeping {
            patterns: spec.keep.clone(),
            main: generation.leader,
            dirs: dir.zip(generation.kept_dir()),
        })
    }

    /// Takes in a generation with its last verdict: while somebody of it lives on purpose it is
    /// known, its mark is nobody else's, and its record tells the next supervisor, should we be
    /// killed.
    pub(super) fn keep(&mut self, r#gen: GenId, mut generation: Box<Generation>) {
        if generation.rare.kept.is_empty() {
            return;
        }
        generation.rare.auxes.clear();
        self.kept.insert(r#gen, generation);
        let proc = Proc::open();
        let lives = |id: &ProcId| match &proc {
            Ok(proc) => !matches!(proc.stat_of(*id), Ok(None)),
            Err(_) => true,
        };
        let gone: Vec<GenId> = self
            .kept
            .iter()
            .filter(|(_, kept)| {
                let dir = kept.kept_dir();
                let populated = dir.is_some_and(|dir| cgroup::is_populated(&dir).unwrap_or(true));
                !populated && !kept.rare.kept.iter().any(lives)
            })
            .map(|(r#gen, _)| *r#gen)
            .collect();
        for r#gen in gone {
            let dir = self.kept.remove(&r#gen).and_then(|kept| kept.kept_dir());
            self.store.remove(r#gen);
            self.fences.push(move || {
                // What stays is found by the final sweep.
                dir.map(|dir| cgroup::remove_tree(&dir));
            });
        }
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test starts programs as people do"
)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::sys::kill::{KillHow, kill_tree};
    use crate::sys::mount;

    /// The signal's turn has moved the session, and the kill's comes before the session's child
    /// was moved, too.
    #[test]
    fn the_child_of_one_that_another_turn_has_moved_is_kept() {
        let base = mount::find_base().unwrap().dir;
        let [from, to] = ["from", "kept"]
            .map(|name| base.join(format!("nought-test-keep-{}-{name}", std::process::id())));
        for dir in [&from, &to] {
            cgroup::make_dir(dir).unwrap();
        }
        let mut session = Command::new("sh")
            .args(["-c", "read go; sleep 1000 & echo $!; wait"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        cgroup::move_process(&from, session.id()).unwrap();
        drop(session.stdin.take());
        let mut said = String::new();
        BufReader::new(session.stdout.take().unwrap())
            .read_line(&mut said)
            .unwrap();
        let child: u32 = said.trim().parse().unwrap();
        cgroup::move_process(&to, session.id()).unwrap();
        let keeping = Keeping {
            patterns: vec!["sh".into()],
            main: None,
            dirs: Some((from.clone(), to.clone())),
        };
        keeping.set_aside().unwrap();
        let kept: BTreeSet<u32> = cgroup::procs(&to).unwrap().into_iter().collect();
        let all = BTreeSet::from([session.id(), child]);
        for dir in [&to, &from] {
            kill_tree(dir, KillHow::CgroupKill, Duration::from_secs(60));
            cgroup::remove_tree(dir);
        }
        session.wait().unwrap();
        assert_eq!(kept, all);
    }
}
