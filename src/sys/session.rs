//! Who is in the session or the process group of a process that may have gone.

use super::SysError;
use super::procfs::{Proc, ProcId, ProcStat};

/// Those of `all` who are proven to be in the session or the process group that `leader` led. Its
/// number is given to somebody else once it is reaped and nobody is in either any more, so that
/// of those who bear it:
///
/// - who was born before `until`, while the leader had the number, is proven: nobody joins the
///   session of others;
/// - everybody else is while such a one lives: the number was never free.
///
/// `until` is when the leader was reaped, or a moment before ([`super::procfs::ticks_now`]).
///
/// # Errors
/// When /proc cannot be read.
pub(super) fn members<'a>(
    proc: &Proc,
    leader: ProcId,
    until: u64,
    all: impl Iterator<Item = &'a ProcStat>,
) -> Result<Vec<&'a ProcStat>, SysError> {
    let bears = |process: &&ProcStat| {
        [process.session, process.pgrp].contains(&leader.pid)
            && process.start_time >= leader.start_time
    };
    let is_elder = |process: &ProcStat| process.start_time < until || process.id() == leader;
    let all: Vec<&ProcStat> = all.filter(bears).collect();
    let mut goes_on = false;
    for elder in all.iter().filter(|process| is_elder(process)) {
        // It lived when the others were read.
        goes_on = goes_on || proc.stat_of(elder.id())?.is_some();
    }
    #[cfg(test)]
    let goes_on = goes_on || super::scan::tests::planted(super::scan::tests::Bug::SessionOfNumber);
    let proven = all.into_iter();
    Ok(proven
        .filter(|member| goes_on || is_elder(member))
        .collect())
}

/// Everybody who lives in what `leader` led, as [`members`] proves them; us not.
///
/// # Errors
/// When /proc cannot be read.
pub(super) fn living_members(leader: ProcId, until: u64) -> Result<Vec<ProcId>, SysError> {
    let proc = Proc::open()?;
    let mut all = Vec::new();
    for pid in proc.pids()? {
        all.extend(proc.stat(pid)?);
    }
    let members = members(&proc, leader, until, all.iter())?;
    let living = members.into_iter().filter(|member| !member.is_dead());
    let living = living.filter(|member| member.pid > 1 && member.pid != std::process::id());
    Ok(living.map(ProcStat::id).collect())
}
