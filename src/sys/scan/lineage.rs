//! Who is below us by the table of a look, and the table made true again.
//!
//! A table is read one process after the other. A parent that ended meanwhile left its children
//! to somebody else, most of all to us: then what the table says of them is no longer so.

use std::collections::BTreeMap;

use super::attribute::Found;
use super::look::{CHAIN_BOUND, Whole};
use crate::sys::SysError;
use crate::sys::procfs::ProcStat;

/// How often those whose parents went away are read again.
const ROUNDS: usize = 8;

/// Where the parents of a process lead by the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// To us, through this child of ours.
    BelowUs(u32),
    Elsewhere,
    /// To somebody who is not there, has ended, or is younger than his child.
    Broken,
}

impl Whole<'_> {
    /// Where the parents of `process` lead; `known` holds what was found out so far.
    pub(super) fn line(&self, process: &ProcStat, known: &mut BTreeMap<u32, Line>) -> Line {
        let mut chain = Vec::new();
        let mut at = process;
        let line = loop {
            if let Some(&line) = known.get(&at.pid) {
                break line;
            }
            chain.push(at.pid);
            if at.ppid == self.context.own_pid {
                break Line::BelowUs(at.pid);
            }
            if at.ppid <= 1 {
                break Line::Elsewhere;
            }
            match self.table.get(&at.ppid) {
                Some(parent)
                    if chain.len() <= CHAIN_BOUND
                        && !parent.is_dead()
                        && parent.start_time <= at.start_time =>
                {
                    at = parent;
                }
                _ => break Line::Broken,
            }
        };
        known.extend(chain.into_iter().map(|pid| (pid, line)));
        line
    }

    /// Reads everyone below us once more, each parent after the child that names it, until every
    /// line leads somewhere; and those of our children whom the look did not see.
    pub(super) fn refresh(&mut self, found: &mut Found) -> Result<(), SysError> {
        for process in self.unknown_children()? {
            self.table.entry(process.pid).or_insert(process);
        }
        let mut again = self.lines_but(Line::Elsewhere);
        for _ in 0..ROUNDS {
            for (pid, line) in again {
                self.read_again(pid, line, found)?;
            }
            again = self.lines_but(Line::Elsewhere);
            again.retain(|(_, line)| *line == Line::Broken);
            if again.is_empty() {
                return Ok(());
            }
        }
        found.missed = true;
        Ok(())
    }

    /// The living whose lines are another than this one.
    fn lines_but(&self, but: Line) -> Vec<(u32, Line)> {
        let mut known = BTreeMap::new();
        let living = self.table.values().filter(|process| !process.is_dead());
        living
            .map(|process| (process.pid, self.line(process, &mut known)))
            .filter(|(_, line)| *line != but)
            .collect()
    }

    fn read_again(&mut self, pid: u32, line: Line, found: &mut Found) -> Result<(), SysError> {
        let before = self.table.remove(&pid).map(|process| process.id());
        let now = self.living(pid)?;
        if before.is_some() && before != now.as_ref().map(ProcStat::id) {
            // It may have left a child that was born after the look; a child of somebody who is
            // known is nobody else's.
            let known = &self.context.known_children;
            match line {
                Line::BelowUs(top) if known.contains(&top) => {}
                // An orphan of ours: nothing says any more whose.
                Line::BelowUs(_) => found.met = true,
                Line::Broken | Line::Elsewhere => found.missed = true,
            }
        }
        let Some(now) = now else {
            return Ok(());
        };
        let parent = now.ppid;
        self.table.insert(pid, now);
        if !self.table.contains_key(&parent)
            && let Some(parent) = self.living(parent)?
        {
            self.table.insert(parent.pid, parent);
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "a test starts a process, and no reaper runs"
)]
mod tests {
    use std::process::{Child, Command};

    use super::*;
    use crate::sys::procfs::Proc;
    use crate::sys::scan::{Escapee, Evidence, Orphans, ScanContext, ScanTarget};

    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            Self(Command::new("sleep").arg("1000").spawn().unwrap())
        }

        fn stat(&self) -> ProcStat {
            let proc = Proc::open().unwrap();
            proc.stat(self.0.id()).unwrap().unwrap()
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    fn context() -> ScanContext {
        ScanContext {
            orphans: Orphans::Ours,
            ..ScanContext::new()
        }
    }

    fn target() -> ScanTarget {
        ScanTarget {
            cgroup: Some("/not/asked".into()),
            env_marker: Some(("NOUGHT_TEST".into(), "lineage".into())),
            ..ScanTarget::default()
        }
    }

    #[test]
    fn an_orphan_whose_parent_ended_during_the_look_leaves_a_doubt() {
        let orphan = Sleeper::start();
        let parent = Sleeper::start();
        let (mut listed, mut ended) = (orphan.stat(), parent.stat());
        drop(parent);
        let context = context();
        for in_table in [false, true] {
            let mut whole = Whole::new(Proc::open().unwrap(), &context);
            // As the look read them, the child before its parent's end.
            listed.ppid = ended.pid;
            whole.table.insert(listed.pid, listed.clone());
            if in_table {
                // It is older than its child, as parents are.
                ended.start_time = listed.start_time;
                whole.table.insert(ended.pid, ended.clone());
            }
            let mut found = Found::default();
            whole.find_by_descent(&target(), &mut found).unwrap();
            assert!(found.doubt.is_some());
            let named = |stranger: &crate::sys::scan::Stranger| stranger.process.pid == listed.pid;
            assert!(found.foreign.iter().any(named));
        }
    }

    #[test]
    fn children_of_a_later_owner_of_the_number_are_nobodys() {
        let child = Sleeper::start();
        let proc = Proc::open().unwrap();
        let parent = proc.stat(child.stat().ppid).unwrap().unwrap();
        // We are that parent, which a look passes over: as another supervisor sees us.
        let context = ScanContext {
            own_pid: u32::MAX,
            ..context()
        };
        let mut whole = Whole::new(proc, &context);
        let escapee = |start_time| Escapee {
            process: ProcStat {
                start_time,
                ..parent.clone()
            },
            evidence: Evidence::Recorded,
        };
        let mut found = Found::default();
        found.ours.push(escapee(parent.start_time - 1));
        whole.add_descendants(&target(), &mut found).unwrap();
        assert_eq!(found.ours.len(), 1, "{:?}", found.ours);
        assert!(found.missed);
        found.ours = vec![escapee(parent.start_time)];
        whole.add_descendants(&target(), &mut found).unwrap();
        let is_child = |escapee: &Escapee| escapee.process.pid == child.0.id();
        assert!(found.ours.iter().any(is_child));
    }
}
