//! What a child says through its exec pipe, and how to read it.

use nix::errno::Errno;

/// Every word has this many bytes: kind, stage, two zeroes, the errno in native order.
pub(super) const WORD: usize = 8;

pub(super) const KIND_PLACED: u8 = b'P';
pub(super) const KIND_EXECUTING: u8 = b'X';
pub(super) const KIND_FAILED: u8 = b'F';

/// What a new process does before its program runs, and can fail at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Moving into its cgroup.
    Cgroup = 1,
    /// Becoming the leader of a session.
    Session = 2,
    /// Arranging its descriptors.
    Descriptors = 3,
    /// Resetting signals.
    Signals = 4,
    /// Setting its limits.
    Limits = 5,
    /// Changing to its working directory.
    Directory = 6,
    /// Executing its program.
    Exec = 7,
    /// Joining a mark.
    Mark = 8,
    /// Becoming another user or group.
    Credentials = 9,
    /// Setting its nice value.
    Nice = 10,
    /// Setting its oom_score_adj.
    OomScore = 11,
    /// Setting up a pid namespace, or entering one.
    PidNamespace = 12,
}

impl Stage {
    /// What was being done, as a fragment that follows "failed to".
    pub fn doing(self) -> &'static str {
        match self {
            Stage::Cgroup => "move into its cgroup",
            Stage::Session => "start a session of its own",
            Stage::Descriptors => "arrange its descriptors",
            Stage::Signals => "reset its signals",
            Stage::Limits => "set its limits",
            Stage::Directory => "change to its working directory",
            Stage::Exec => "execute",
            Stage::Mark => "join the mark of its service for",
            Stage::Credentials => "become",
            Stage::Nice => "set the nice value of",
            Stage::OomScore => "set the oom_score_adj of",
            Stage::PidNamespace => "set up the pid namespace, and the /proc to it, of",
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        use Stage::*;
        [
            Cgroup,
            Session,
            Descriptors,
            Signals,
            Limits,
            Directory,
            Exec,
            Mark,
            Credentials,
            Nice,
            OomScore,
            PidNamespace,
        ]
        .into_iter()
        .find(|&stage| stage as u8 == byte)
    }
}

/// How a child's exec went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExecOutcome {
    /// It executed its program. (If the kernel or somebody killed it within the execve, its
    /// exit says so: that is the program's end then.)
    Executed,
    /// It could not, and has exited with code 127.
    Failed {
        /// At what.
        stage: Stage,
        /// The kernel's answer.
        errno: Errno,
    },
    /// It was killed before it came to execute anything: by somebody, or at birth by a cgroup
    /// that was killed once.
    KilledBefore,
}

/// Reads everything that came through the exec pipe before EOF (a reset counts as one).
pub fn read_exec_outcome(said: &[u8]) -> ExecOutcome {
    let mut outcome = ExecOutcome::KilledBefore;
    for word in said.chunks_exact(WORD) {
        match word {
            [KIND_EXECUTING, ..] => outcome = ExecOutcome::Executed,
            [KIND_FAILED, stage, _, _, errno @ ..] => {
                let errno = <[u8; 4]>::try_from(errno).map_or(0, i32::from_ne_bytes);
                if let Some(stage) = Stage::from_byte(*stage) {
                    return ExecOutcome::Failed {
                        stage,
                        errno: Errno::from_raw(errno),
                    };
                }
            }
            _ => {}
        }
    }
    outcome
}

/// Whether the child has said that it is in its cgroup; with what errno its unshare failed (0:
/// it did not, or was not asked for).
pub(super) fn placed(said: &[u8]) -> Option<i32> {
    match said {
        [KIND_PLACED, _, _, _, errno @ ..] => {
            Some(i32::from_ne_bytes(errno.get(..4)?.try_into().ok()?))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(kind: u8, stage: u8, errno: i32) -> Vec<u8> {
        let mut word = vec![kind, stage, 0, 0];
        word.extend(errno.to_ne_bytes());
        word
    }

    #[test]
    fn the_pipe_tells_an_exec_from_a_kill() {
        assert_eq!(read_exec_outcome(b""), ExecOutcome::KilledBefore);
        let placed_only = word(KIND_PLACED, 0, 0);
        assert_eq!(read_exec_outcome(&placed_only), ExecOutcome::KilledBefore);
        let both = [placed_only, word(KIND_EXECUTING, 0, 0)].concat();
        assert_eq!(read_exec_outcome(&both), ExecOutcome::Executed);
    }

    #[test]
    fn a_failure_names_stage_and_errno() {
        let said = [
            word(KIND_EXECUTING, 0, 0),
            word(KIND_FAILED, 7, libc::ENOENT),
        ]
        .concat();
        let failed = ExecOutcome::Failed {
            stage: Stage::Exec,
            errno: Errno::ENOENT,
        };
        assert_eq!(read_exec_outcome(&said), failed);
        let said = word(KIND_FAILED, 6, libc::ENOTDIR);
        let failed = ExecOutcome::Failed {
            stage: Stage::Directory,
            errno: Errno::ENOTDIR,
        };
        assert_eq!(read_exec_outcome(&said), failed);
    }

    #[test]
    fn placed_carries_the_unshares_errno() {
        assert_eq!(placed(&word(KIND_PLACED, 0, 0)), Some(0));
        assert_eq!(
            placed(&word(KIND_PLACED, 0, libc::EPERM)),
            Some(libc::EPERM)
        );
        assert_eq!(placed(&word(KIND_EXECUTING, 0, 0)), None);
        assert_eq!(placed(b"P"), None);
    }
}
