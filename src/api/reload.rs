//! The directory of service files is read again: what that changes.

use serde::{Deserialize, Serialize};

use super::rpc::Parameters;

/// Parameters of `nought_reload`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Reload {
    /// Only say what would change.
    #[serde(default)]
    pub dry_run: bool,
}

impl Parameters for Reload {
    const NAMES: &'static [&'static str] = &["dry_run"];
}

/// What becomes of one service.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Its file is new: it is taken in and started.
    Add,
    /// Its file is gone: it is stopped and taken out.
    Remove,
    /// It runs, and a key changed that needs a new start.
    Restart,
    /// It had failed or waits to be started again, and is started by its new file.
    Start,
    /// It takes over its new file as it is: nothing of it is stopped or started.
    Amend,
}

/// One service that changes.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Changed {
    /// Its name.
    pub service: String,
    /// What becomes of it.
    pub change: Change,
    /// The keys that differ; those that decide come first.
    pub keys: Vec<String>,
    /// Why it did not come about; null when it did, or is only planned.
    pub failed: Option<String>,
}

/// Result of `nought_reload`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Reloaded {
    /// Whether nothing was done.
    pub dry_run: bool,
    /// What changes, by name.
    pub changes: Vec<Changed>,
    /// Services whose files say what they said.
    pub untouched: usize,
    /// What is odd in the files and keeps nothing from running, a text for each.
    pub warnings: Vec<String>,
}
