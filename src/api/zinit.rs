//! What zinit's own methods answer, field for field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `service_list`: every service's state, in zinit's words (`Running`, `Success`, …).
pub type ZinitStates = BTreeMap<String, String>;

/// `service_status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZinitStatus {
    /// The service's name.
    pub name: String,
    /// The main process's pid, a survivor's when it lingers, 0 for none.
    pub pid: u32,
    /// The state, in zinit's words.
    pub state: String,
    /// `Up` or `Down`.
    pub target: String,
    /// Every dependency's state, in zinit's words.
    pub after: BTreeMap<String, String>,
}
