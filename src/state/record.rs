//! What is written down about generations and supervisors.
//!
//! A successor, perhaps of another version, reads these: unknown keys are ignored, and a key
//! added later needs a default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::core::{GenId, Reach};

/// A generation, as far as it is known before its main process exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The generation.
    #[serde(rename = "gen", with = "Number")]
    pub r#gen: GenId,
    /// The service it is a start of.
    pub service: String,
    /// Its cgroup, an absolute path; `None` where there are no cgroups for us.
    pub cgroup: Option<PathBuf>,
    /// The directory under which the supervisor made its own, an absolute path.
    pub base: Option<PathBuf>,
    /// The supervisor that started it.
    pub supervisor_pid: u32,
    /// The polite signal's number.
    pub stop_signal: i32,
    /// Whom that reaches.
    #[serde(with = "ReachWord")]
    pub reach: Reach,
    /// How long a stop waits after the polite signal.
    pub grace_ms: u64,
    /// How long what the main process leaves behind has.
    pub exit_grace_ms: u64,
    /// How long after a kill the verdict may take.
    pub kill_timeout_ms: u64,
    /// The services it comes after.
    pub after: Vec<String>,
    /// The services it requires.
    pub requires: Vec<String>,
    /// A hash of the service's file as it was, to tell whether it has changed since.
    pub spec_hash: u64,
    /// The guarantee's two words, as receipts have them.
    pub guarantee: String,
    /// The `KEY=value` that its processes inherit in their environment, if any.
    pub env_marker: Option<String>,
}

/// What is known once the main process exists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The main process.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of proc_pid_stat(5)): with the pid,
    /// what tells it from a later process of the same number.
    pub start_time: u64,
    /// Its cgroup's id: the inode of the directory.
    pub cgroup_id: Option<u64>,
    /// The inode of its time namespace, where it has one of its own. Reused by the kernel as
    /// soon as nothing holds the namespace: a witness, not proof.
    pub mark_inode: Option<u64>,
    /// That namespace's own number (NS_GET_ID, Linux 6.18), never given out twice in a boot:
    /// proof.
    pub mark_id: Option<u64>,
    /// Its session.
    pub session: u32,
    /// When it was spawned, in milliseconds since the epoch.
    pub spawned_at_wall_ms: u64,
}

/// A process that was seen to belong to a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// Its pid.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of proc_pid_stat(5)).
    pub start_time: u64,
}

/// A supervisor, as it describes itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its pid.
    pub pid: u32,
    /// When it started, in clock ticks since boot (field 22 of proc_pid_stat(5)).
    pub start_time: u64,
    /// The directory that holds everything of ours, an absolute path; `None` without cgroups.
    pub cgroup_root: Option<PathBuf>,
    /// The directory under which that was made.
    pub base: Option<PathBuf>,
    /// The boot it ran in (/proc/sys/kernel/random/boot_id).
    pub boot_id: String,
    /// The inode of its pid namespace: in another one its pids mean other processes. `None` when
    /// it could not be read.
    #[serde(default)]
    pub pid_namespace: Option<u64>,
    /// When it started, in milliseconds since the epoch.
    pub started_wall_ms: u64,
}

/// A generation on record: nobody has seen the end of it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// What was written before the spawn.
    pub record: Record,
    /// What was written after it; `None` when the supervisor was killed in between, or there was
    /// no room: a process may or may not have come to be.
    pub completion: Option<Completion>,
    /// The members that were written down last.
    pub members: Vec<Member>,
}

/// One line of a generation's file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line {
    Begin(Box<Record>),
    Complete(Completion),
    Members(Vec<Member>),
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "GenId")]
struct Number(u64);

#[derive(Serialize, Deserialize)]
#[serde(remote = "Reach", rename_all = "lowercase")]
enum ReachWord {
    Main,
    Group,
    All,
}
