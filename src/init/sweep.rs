//! The final sweep of a machine: everything but us and kernel threads is asked, killed, and
//! proven gone, whoever it belonged to.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::bounded::bounded;
use super::minimal::Minimal;
use super::receipt::{Receipt, Survivor};
use crate::sys::inspect::{self, SurvivorInfo};
use crate::sys::power::Machine;
use crate::sys::procfs::Proc;
use crate::sys::{SysError, clock, end};

/// How long whoever is left has after being asked, and after being killed. The supervisor's own
/// services had their graces before.
const ASKED: Duration = Duration::from_secs(5);
const KILLED: Duration = Duration::from_secs(5);
/// Looked at again so often, and whenever a child ends.
const AGAIN: Duration = Duration::from_millis(20);
/// Passes without anybody that count as proof although something was forked during each.
const EMPTY_PASSES: u32 = 3;
/// How long reading a survivor's command line may take.
const ARGV: Duration = Duration::from_millis(200);

/// Sweeps, and says on the receipt what it found.
pub(super) fn sweep(machine: Machine, minimal: &Minimal, receipt: &mut Receipt) -> String {
    let found = pids(machine);
    if let Err(error) = &found {
        // Who is there is not known, and kill(-1) asks them all the same.
        trouble(receipt, format!("failed to {error}"));
    }
    let before = found.as_ref().map_or(0, Vec::len);
    if found.is_err() || before > 0 {
        signal(machine, Signal::SIGTERM, receipt);
        signal(machine, Signal::SIGCONT, receipt);
        // Whom a stop has killed already has nothing to be asked, and nothing to wait for here.
        wait(machine, minimal, ASKED, Wait::UntilKilled);
    }
    let found = pids(machine);
    let left = found.as_ref().map_or(0, Vec::len);
    receipt.asked = before.saturating_sub(left);
    if found.is_err() || left > 0 {
        wait(machine, minimal, KILLED, Wait::Killing(receipt));
    }
    let last_pid = || Proc::open().and_then(|proc| proc.last_pid()).ok();
    let (survivors, conclusive) = prove(|| pids(machine), last_pid);
    receipt.killed = left.saturating_sub(survivors.len());
    receipt.conclusive = conclusive;
    let counts = format!("{} asked, {} killed", receipt.asked, receipt.killed);
    if survivors.is_empty() {
        let proof = match (conclusive, pids(machine)) {
            (true, _) => "nobody is left",
            (false, Ok(_)) => "nobody was seen any more",
            (false, Err(_)) => "who is left cannot be seen",
        };
        return format!("{counts}, {proof}");
    }
    for survivor in inspect(&survivors) {
        tracing::error!("  {}", line(&survivor));
        receipt.survivors.push(Survivor::from(survivor));
    }
    format!("{counts}, {} cannot be ended", receipt.survivors.len())
}

fn signal(machine: Machine, signal: Signal, receipt: &mut Receipt) {
    if let Err(error) = end::signal_everyone(machine, signal) {
        trouble(receipt, format!("failed to {error}"));
    }
}

fn trouble(receipt: &mut Receipt, text: String) {
    if !receipt.trouble.contains(&text) {
        tracing::error!("  {text}");
        receipt.trouble.push(text);
    }
}

fn pids(machine: Machine) -> Result<Vec<u32>, SysError> {
    let everyone = end::everyone(machine)?;
    Ok(everyone.into_iter().map(|stat| stat.pid).collect())
}

/// What a wait is for, and what is done meanwhile.
enum Wait<'a> {
    /// Everybody has gone, or was sent SIGKILL before.
    UntilKilled,
    /// Everybody has gone. Killed again at each turn: a fork may have outrun it.
    Killing(&'a mut Receipt),
}

/// Reaps until it is over, for `bound` at the most; asked for the end again, no longer.
fn wait(machine: Machine, minimal: &Minimal, bound: Duration, mut what: Wait<'_>) {
    let began = clock::boot_now();
    let spent = || clock::since(began);
    while spent() < bound {
        if let Wait::Killing(receipt) = &mut what {
            signal(machine, Signal::SIGKILL, receipt);
        }
        let hurried = minimal.turn(AGAIN).is_some();
        let left = pids(machine);
        let over = match what {
            Wait::UntilKilled => {
                hurried || left.is_ok_and(|left| left.into_iter().all(end::is_killed))
            }
            Wait::Killing(_) => left.is_ok_and(|left| left.is_empty()),
        };
        if over {
            return;
        }
    }
}

/// Who is left as `look` sees it, and whether nobody can have been missed: nothing was forked
/// during the pass.
fn prove(
    look: impl Fn() -> Result<Vec<u32>, SysError>,
    last_pid: impl Fn() -> Option<u32>,
) -> (Vec<u32>, bool) {
    let mut left = Vec::new();
    for _ in 0..EMPTY_PASSES {
        let before = last_pid();
        // An error is no proof that nobody is there.
        let Ok(seen) = look() else {
            return (left, false);
        };
        left = seen;
        if before.is_some() && before == last_pid() {
            return (left, true);
        }
    }
    (left, false)
}

fn inspect(pids: &[u32]) -> Vec<SurvivorInfo> {
    let survivors = inspect::inspect(pids);
    let read = survivors.into_iter().map(|survivor| {
        let mut own = survivor.clone();
        bounded(ARGV, move || {
            inspect::read_argv(&mut own);
            own
        })
        .unwrap_or(survivor)
    });
    read.collect()
}

/// A survivor in a line.
pub(super) fn line(survivor: &SurvivorInfo) -> String {
    let mut text = format!(
        "survivor {}: {}: state {}",
        survivor.pid,
        survivor.argv.join(" "),
        survivor.state
    );
    if !survivor.wchan.is_empty() {
        text.push_str(&format!(" in {}", survivor.wchan));
    }
    if survivor.tracer > 0 {
        text.push_str(&format!(", traced by {}", survivor.tracer));
    }
    text
}

/// Who among `pids` has something open at or below `path`.
pub(super) fn users_of(path: &std::path::Path, pids: &[u32]) -> Result<Vec<String>, SysError> {
    let proc = Proc::open()?;
    let mut users = Vec::new();
    for &pid in pids {
        // Links are read, nothing behind them is touched.
        let link = |name: String| std::fs::read_link(format!("/proc/{pid}/{name}")).ok();
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd"));
        let fds = fds.into_iter().flatten().flatten();
        let mut links = fds
            .map(|fd| format!("fd/{}", fd.file_name().to_string_lossy()))
            .chain(["cwd".to_owned(), "root".to_owned(), "exe".to_owned()]);
        if links.any(|name| link(name).is_some_and(|to| to.starts_with(path))) {
            let comm = proc.stat(pid)?.map(|stat| stat.comm).unwrap_or_default();
            users.push(format!("process {pid} ({comm})"));
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::*;

    #[test]
    fn what_cannot_be_read_or_changes_meanwhile_proves_nothing() {
        let unread = || Err(SysError::new("read", "/proc", Errno::EIO));
        assert_eq!(prove(unread, || Some(7)), (Vec::new(), false));
        assert_eq!(prove(|| Ok(Vec::new()), || None), (Vec::new(), false));
        let forked = std::cell::Cell::new(0);
        let next = || {
            forked.set(forked.get() + 1);
            Some(forked.get())
        };
        assert_eq!(prove(|| Ok(vec![9]), next), (vec![9], false));
        assert_eq!(prove(|| Ok(vec![9]), || Some(7)), (vec![9], true));
        assert_eq!(prove(|| Ok(Vec::new()), || Some(7)), (Vec::new(), true));
    }
}
