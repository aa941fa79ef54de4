//! Who runs, as a person wants to know it: looked at while it stands still.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::result::Process;
use super::watch::Runner;
use crate::core::Why;
use crate::driver::pattern;
use crate::sys::holdings::{self, Ours, Sockets};
use crate::sys::procfs::{Proc, ProcId, ProcStat};
use crate::sys::{cgroup, clock, inspect};

/// How many are described; of the others there are name and number.
const DESCRIBED: usize = 256;
/// How long to wait for a cgroup to be frozen: one in an uninterruptible wait never is.
const FREEZE_BOUND_MS: u64 = 50;
/// Ancestors of one process that are named.
const CHAIN_BOUND: usize = 32;

impl Runner<'_> {
    /// Who outlived the command, in its cgroup.
    pub(super) fn list_leaks(&mut self) {
        self.take_census(Some(std::process::id()));
        let Some(dir) = self.site.job() else {
            let found = self.members_by_scan().unwrap_or_default();
            return self.list_escapees(&found);
        };
        // Once frozen all of them wait for the same.
        let waits: BTreeMap<u32, (char, String)> =
            inspect::inspect(&cgroup::procs_recursive(&dir).unwrap_or_default())
                .into_iter()
                .map(|seen| (seen.pid, (seen.state, seen.wchan)))
                .collect();
        freeze(&dir);
        let members = cgroup::procs_recursive(&dir).unwrap_or_default();
        let mut found = self.describe(&members);
        for process in &mut found {
            let (state, wchan) = waits
                .get(&process.pid)
                .cloned()
                .unwrap_or(('R', String::new()));
            (process.state, process.wchan) = (state, wchan);
        }
        let kept: BTreeSet<u32> = self
            .to_keep(&members)
            .into_iter()
            .map(|id| id.pid)
            .collect();
        self.spare_kept();
        self.kept
            .extend(found.extract_if(.., |process| kept.contains(&process.pid)));
        self.leaks.append(&mut found);
        if !self.options.settings.leak_grace.is_zero() {
            // Frozen, nobody could follow the signal that comes now.
            let _ = cgroup::set_freeze(&dir, false);
        }
    }

    /// Who left the cgroup, and lives.
    pub(super) fn list_escapees(&mut self, found: &[ProcStat]) {
        let pids: Vec<u32> = found.iter().map(|stat| stat.pid).collect();
        let kept = self.to_keep(&pids);
        let new = |stat: &&ProcStat| !self.kept_ids.contains(&stat.id());
        let to_end: Vec<ProcStat> = found.iter().filter(new).cloned().collect();
        self.kept_ids.extend(&kept);
        let to_end: Vec<ProcStat> = to_end
            .into_iter()
            .filter(|stat| !kept.contains(&stat.id()))
            .collect();
        if self.site.tree.is_some() {
            Self::stop_each(&to_end);
        }
        let mut described = self.describe(&pids);
        let is_kept = |process: &mut Process| kept.iter().any(|id| id.pid == process.pid);
        let known: BTreeSet<u32> = self.kept.iter().chain(&self.leaks).map(|p| p.pid).collect();
        described.retain(|process| !known.contains(&process.pid));
        self.kept.extend(described.extract_if(.., is_kept));
        if self.job.why() == Why::Itself {
            let ended: BTreeSet<u32> = to_end.iter().map(|stat| stat.pid).collect();
            described.retain(|process| ended.contains(&process.pid));
            self.leaks.append(&mut described);
        }
    }

    /// Who is kept where the pass came upon them: below somebody who is kept, elsewhere.
    pub(super) fn list_kept(&mut self, found: &[ProcStat]) {
        let known: BTreeSet<u32> = self.kept.iter().map(|process| process.pid).collect();
        let new = found.iter().map(|stat| stat.pid);
        let new: Vec<u32> = new.filter(|pid| !known.contains(pid)).collect();
        if !new.is_empty() {
            let mut described = self.describe(&new);
            self.kept.append(&mut described);
        }
    }

    /// What runs when the time is over.
    pub(super) fn show_evidence(&mut self) {
        let pids = match self.site.job() {
            Some(dir) => cgroup::procs_recursive(&dir).unwrap_or_default(),
            None => {
                let members = self.members_by_scan().unwrap_or_default();
                members.iter().map(|stat| stat.pid).collect()
            }
        };
        let running: Vec<_> = self
            .describe(&pids)
            .iter()
            .map(super::report::process)
            .collect();
        let after = self.options.settings.timeout.unwrap_or_default();
        if let Some(onlooker) = &mut self.onlooker {
            onlooker.evidence(after, &running);
        }
    }

    /// Of these, whoever matches a pattern, and whoever of them is below one who does.
    pub(super) fn to_keep(&self, pids: &[u32]) -> BTreeSet<ProcId> {
        let mut kept = BTreeSet::new();
        if self.options.keep.is_empty() {
            return kept;
        }
        let Ok(proc) = Proc::open() else {
            return kept;
        };
        let stats: BTreeMap<u32, ProcStat> = pids
            .iter()
            .filter_map(|pid| Some((*pid, proc.stat(*pid).ok()??)))
            .filter(|(_, stat)| !stat.is_dead())
            .collect();
        let argvs = inspect::with_argv(inspect::inspect(pids));
        for seen in &argvs {
            if let Some(stat) = stats.get(&seen.pid)
                && self
                    .options
                    .keep
                    .iter()
                    .any(|pattern| matches(pattern, stat, &seen.argv))
            {
                kept.insert(stat.id());
            }
        }
        // Down from those: as often as somebody new is found.
        loop {
            let below: Vec<ProcId> = stats
                .values()
                .filter(|stat| !kept.contains(&stat.id()))
                .filter(|stat| kept.iter().any(|id| id.pid == stat.ppid))
                .map(ProcStat::id)
                .collect();
            if below.is_empty() {
                return kept;
            }
            kept.extend(below);
        }
    }

    fn describe(&self, pids: &[u32]) -> Vec<Process> {
        let (pids, others) = pids.split_at(pids.len().min(DESCRIBED));
        let (ours, mut sockets) = (Ours::now(), Sockets::default());
        let Ok(proc) = Proc::open() else {
            return Vec::new();
        };
        let seen = inspect::with_argv(inspect::inspect(pids));
        let mut processes = Vec::with_capacity(seen.len());
        for seen in seen.into_iter().filter(|seen| !self.is_first(seen.pid)) {
            let Ok(Some(stat)) = proc.stat(seen.pid) else {
                continue;
            };
            processes.push(Process {
                pid: seen.pid,
                ppid: seen.ppid,
                state: seen.state,
                wchan: seen.wchan,
                age: age(&stat),
                chain: chain(&proc, &stat, self.main_id),
                left: self.how_it_left(&stat, &seen.cgroup),
                cgroup: seen.cgroup,
                argv: seen.argv,
                holdings: holdings::look(seen.pid, &ours, &mut sockets),
            });
        }
        let others = others.iter().filter_map(|pid| proc.stat(*pid).ok()?);
        let others = others.filter(|stat| !stat.is_dead() && !self.is_first(stat.pid));
        processes.extend(others.map(|stat| Process {
            pid: stat.pid,
            ppid: stat.ppid,
            state: stat.state,
            age: age(&stat),
            argv: vec![format!("[{}]", stat.comm)],
            ..Process::default()
        }));
        processes
    }

    fn how_it_left(&self, stat: &ProcStat, cgroup: &str) -> Vec<&'static str> {
        let main = self.program().unwrap_or(0);
        let own_session = nix::unistd::getsid(None).map_or(0, |pid| pid.as_raw().unsigned_abs());
        let mut left = Vec::new();
        let job = self.site.job().and_then(|dir| self.site.path_in_proc(&dir));
        if job.is_some_and(|job| !crate::sys::procfs::is_at_or_below(cgroup, &job)) {
            left.push("left the cgroup");
        }
        if stat.pid == main {
            return left;
        }
        if stat.session != own_session {
            left.push("a session of its own (setsid)");
        } else if stat.pgrp != main {
            left.push("a process group of its own");
        }
        if stat.pid != main && self.is_first(stat.ppid)
            || stat.ppid == std::process::id()
            || stat.ppid == 1
            || stat.ppid == 0
        {
            left.push("its parent has ended");
        }
        left
    }
}

fn freeze(dir: &Path) {
    // A kernel without a freezer (before 5.2) shows them as they run.
    if cgroup::set_freeze(dir, true).is_err() {
        return;
    }
    let bound = clock::boot_now() + FREEZE_BOUND_MS * 1_000_000;
    while cgroup::read_events(dir).is_ok_and(|events| !events.frozen && events.populated)
        && clock::boot_now() < bound
    {
        let pause = nix::poll::PollTimeout::from(1_u8);
        let _ = nix::poll::poll(&mut [], pause);
    }
}

fn age(stat: &ProcStat) -> Duration {
    let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK);
    let ticks = ticks
        .ok()
        .flatten()
        .and_then(|t| u64::try_from(t).ok())
        .unwrap_or(100);
    let started = stat.start_time.saturating_mul(1_000_000_000 / ticks.max(1));
    clock::since(started)
}

/// Its ancestors, up to the command or to us.
fn chain(proc: &Proc, stat: &ProcStat, main: Option<ProcId>) -> Vec<(u32, String)> {
    let mut chain = Vec::new();
    let mut parent = stat.ppid;
    let own = std::process::id();
    while chain.len() < CHAIN_BOUND
        && parent > 1
        && parent != own
        && let Ok(Some(above)) = proc.stat(parent)
    {
        chain.push((parent, above.comm.clone()));
        if main.is_some_and(|main| main.pid == parent) {
            break;
        }
        parent = above.ppid;
    }
    chain
}

/// Whether a pattern (`*` and `?` stand for any text and any character) is the name of a process,
/// the last part of its program's path, or its whole command line.
fn matches(pattern: &str, stat: &ProcStat, argv: &[String]) -> bool {
    let program = argv
        .first()
        .map_or("", |first| first.rsplit('/').next().unwrap_or(first));
    [stat.comm.as_str(), program, &argv.join(" ")]
        .into_iter()
        .any(|text| pattern::matches(pattern, text))
}
