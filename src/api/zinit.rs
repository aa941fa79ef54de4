//! What zinit's own methods answer, field for field.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::rpc::Parameters;

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

/// `service_stats`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ZinitStats {
    /// The service's name.
    pub name: String,
    /// The main process's pid.
    pub pid: u32,
    /// Bytes of memory, of everybody together.
    pub memory_usage: u64,
    /// Percent of one processor, over the time since the main process started.
    pub cpu_usage: f64,
    /// Everybody but the main process.
    pub children: Vec<ZinitChild>,
}

/// One process of `service_stats`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ZinitChild {
    /// Its pid.
    pub pid: u32,
    /// Bytes of memory.
    pub memory_usage: u64,
    /// Percent of one processor, over its life.
    pub cpu_usage: f64,
}

/// The parameters of `service_kill`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// The service.
    pub name: String,
    /// A signal's name, in any case, with or without `SIG`, or its number.
    pub signal: String,
}

impl Parameters for Kill {
    const NAMES: &'static [&'static str] = &["name", "signal"];
}

/// The parameters of `service_create`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Create {
    /// The service.
    pub name: String,
    /// What its file is to hold.
    pub content: Map<String, Value>,
}

impl Parameters for Create {
    const NAMES: &'static [&'static str] = &["name", "content"];
}

/// The parameters of `stream_currentLogs` and `stream_subscribeLogs`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The exact name of the service; none: all of them.
    #[serde(default)]
    pub name: Option<String>,
}

impl Parameters for Filter {
    const NAMES: &'static [&'static str] = &["name"];
}

/// The parameters of `system_start_http_server`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartHttp {
    /// `ADDRESS:PORT`, or a port of 127.0.0.1.
    pub address: String,
}

impl Parameters for StartHttp {
    const NAMES: &'static [&'static str] = &["address"];
}
