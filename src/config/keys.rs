//! A mapping's keys: which are known, which occur twice, which were probably meant.

use super::Dialect;
use super::problem::Severity;
use super::read::Reader;
use super::yaml::{Kind, Mark, Node};

/// Every key of a service file.
pub(super) const SERVICE: &[&str] = &[
    "exec",
    "test",
    "ready",
    "health",
    "watchdog",
    "fd_store",
    "sockets",
    "start",
    "reload",
    "oneshot",
    "after",
    "requires",
    "stop_after",
    "role",
    "stop",
    "signal",
    "shutdown_timeout",
    "exit_grace",
    "kill_timeout",
    "start_timeout",
    "restart",
    "remain",
    "on_end",
    "on_failure",
    "essential",
    "survivors",
    "pid_namespace",
    "min_guarantee",
    "log",
    "env",
    "env_file",
    "dir",
    "user",
    "group",
    "umask",
    "limits",
    "nice",
    "oom_score_adj",
    "resources",
];
/// Those that zinit knows, too.
pub(super) const ZINIT: &[&str] = &[
    "exec",
    "test",
    "oneshot",
    "after",
    "shutdown_timeout",
    "signal",
    "log",
    "env",
    "dir",
];
/// Keys of `test`, when it is a mapping.
pub(super) const TEST: &[&str] = &["exec", "interval", "timeout", "retries"];
/// Keys of `ready`.
pub(super) const READY: &[&str] = &[
    "exec",
    "tcp",
    "http",
    "unix",
    "file",
    "notify",
    "fd",
    "log_regex",
    "interval",
    "timeout",
    "retries",
    "start_period",
];
/// Keys of `health`.
pub(super) const HEALTH: &[&str] = &[
    "exec",
    "tcp",
    "http",
    "unix",
    "file",
    "interval",
    "timeout",
    "failures",
    "start_period",
];
/// Keys of `log`, when it is a mapping.
pub(super) const LOG: &[&str] = &[
    "to",
    "path",
    "max_size",
    "keep",
    "compress",
    "format",
    "backpressure",
];
/// Keys of a socket in `sockets`.
pub(super) const SOCKET: &[&str] = &[
    "tcp",
    "udp",
    "unix",
    "unix_datagram",
    "name",
    "backlog",
    "mode",
    "user",
    "group",
];
/// Keys of `reload`, when it is a mapping.
pub(super) const RELOAD: &[&str] = &["signal", "exec", "notify", "timeout"];
/// Keys of `signal`.
pub(super) const SIGNAL: &[&str] = &["stop", "to"];
/// Keys of `restart`.
pub(super) const RESTART: &[&str] = &[
    "policy",
    "delay",
    "max_delay",
    "stable_after",
    "burst",
    "window",
];

/// Keys of `survivors`.
pub(super) const SURVIVORS: &[&str] = &["keep"];
/// Keys of `resources`.
pub(super) const RESOURCES: &[&str] = &[
    "memory_max",
    "memory_high",
    "memory_swap_max",
    "oom_group",
    "cpu_max",
    "cpu_weight",
    "pids_max",
    "io_weight",
    "io_max",
    "cpuset",
    "delegate",
    "optional",
];
/// Keys of a disk in `io_max`.
pub(super) const IO_MAX: &[&str] = &["rbps", "wbps", "riops", "wiops"];
/// Keys of a limit, when it is a mapping.
pub(super) const LIMIT: &[&str] = &["soft", "hard"];

/// What other supervisors call it.
const ELSEWHERE: &[(&str, &str)] = &[
    ("command", "exec"),
    ("cmd", "exec"),
    ("execstart", "exec"),
    ("run", "exec"),
    ("depends_on", "requires"),
    ("depends", "requires"),
    ("wants", "after"),
    ("environment", "env"),
    ("working_dir", "dir"),
    ("workdir", "dir"),
    ("cwd", "dir"),
    ("healthcheck", "test"),
    ("readiness", "ready"),
    ("stop_signal", "signal: {stop: …}"),
    ("stop_command", "stop"),
    ("grace", "shutdown_timeout"),
    ("stop_grace_period", "shutdown_timeout"),
    ("stop_timeout", "shutdown_timeout"),
    ("logging", "log"),
    ("stdout", "log"),
    ("once", "oneshot"),
    ("remain_after_exit", "remain"),
    ("remainafterexit", "remain"),
    ("forking", "remain"),
    ("pidns", "pid_namespace"),
    ("private_pids", "pid_namespace"),
    ("privatepids", "pid_namespace"),
    ("environment_file", "env_file"),
    ("environmentfile", "env_file"),
    ("dotenv", "env_file"),
    ("memorymax", "resources: {memory_max: …}"),
    ("memory", "resources: {memory_max: …}"),
    ("memory_max", "resources: {memory_max: …}"),
    ("mem_limit", "resources: {memory_max: …}"),
    ("cpuquota", "resources: {cpu_max: …}"),
    ("cpus", "resources: {cpu_max: …}"),
    ("cpu_max", "resources: {cpu_max: …}"),
    ("tasksmax", "resources: {pids_max: …}"),
    ("pids_limit", "resources: {pids_max: …}"),
    ("pids_max", "resources: {pids_max: …}"),
    ("run_as", "user"),
    ("runas", "user"),
    ("uid", "user"),
    ("gid", "group"),
    ("rlimits", "limits"),
    ("ulimit", "limits"),
    ("ulimits", "limits"),
    ("priority", "nice"),
    ("oomscoreadjust", "oom_score_adj"),
    ("exit_on_end", "on_end: stop_all"),
    ("exit_on_failure", "on_failure: stop_all"),
    ("critical", "essential"),
    ("listen", "sockets"),
    ("socket", "sockets"),
    ("listenstream", "sockets"),
    ("listendatagram", "sockets"),
    ("socket_activation", "start: on_demand"),
    ("on_demand", "start: on_demand"),
    ("lazy", "start: on_demand"),
    ("execreload", "reload"),
    ("reload_signal", "reload"),
    ("reload_command", "reload"),
    ("filedescriptorstoremax", "fd_store"),
];

/// The known keys of one mapping, each with its value.
pub(super) struct Fields<'t> {
    pairs: Vec<(&'t str, Mark, &'t Node)>,
}

impl<'t> Fields<'t> {
    /// Reads the keys of `pairs`; unknown and repeated ones become problems. `what` is the key
    /// the mapping belongs to, none for the file itself.
    pub(super) fn new(
        reader: &mut Reader<'_>,
        pairs: &'t [(Node, Node)],
        known: &'static [&'static str],
        what: Option<&str>,
    ) -> Self {
        let mut fields = Fields { pairs: Vec::new() };
        let inside = what.map_or_else(String::new, |what| format!(" in `{what}`"));
        let theirs = match what {
            None => ZINIT,
            Some("signal") => &["stop"],
            Some(_) => &[],
        };
        let twice = match reader.dialect {
            Dialect::Nought => Twice::Refused,
            Dialect::Zinit => Twice::RefusedOf(theirs),
        };
        for (key, value) in unique(reader, pairs, twice) {
            let known_key = known.iter().find(|known| **known == key.0);
            match known_key {
                Some(_) => fields.pairs.push((key.0, key.1, value)),
                None if key.0.starts_with("x-") => {}
                None => {
                    let hint = meant(key.0, known).unwrap_or_else(|| match reader.dialect {
                        Dialect::Nought => format!(
                            "the keys are {}; one of your own may begin with `x-`",
                            known.join(", ")
                        ),
                        Dialect::Zinit => "it has no effect, as in zinit: one of your own may \
                                           begin with `x-`"
                            .into(),
                    });
                    let name = key.0.escape_debug();
                    reader.unknown(key.1, format!("unknown key `{name}`{inside}"), Some(hint));
                }
            }
        }
        fields
    }

    /// The value of `key`, unless it is missing or null.
    pub(super) fn get(&self, key: &str) -> Option<&'t Node> {
        self.raw(key).filter(|value| !value.is_null())
    }

    /// The value of `key`, null included.
    pub(super) fn raw(&self, key: &str) -> Option<&'t Node> {
        let found = self.pairs.iter().find(|(name, ..)| *name == key);
        found.map(|(_, _, value)| *value)
    }

    /// Where `key` itself stands.
    pub(super) fn key_mark(&self, key: &str) -> Option<Mark> {
        let found = self.pairs.iter().find(|(name, ..)| *name == key);
        found.map(|(_, mark, _)| *mark)
    }
}

/// What becomes of a key that occurs twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twice {
    /// It is an error.
    Refused,
    /// It is an error if it is one of these; of others the last one counts, with a warning.
    RefusedOf(&'static [&'static str]),
    /// The last one counts, with a warning.
    LastCounts,
}

impl Twice {
    fn last_counts(self, key: &str) -> bool {
        match self {
            Twice::Refused => false,
            Twice::RefusedOf(keys) => !keys.contains(&key),
            Twice::LastCounts => true,
        }
    }
}

/// Every pair whose key is a scalar and has not occurred before; the others become problems.
pub(super) fn unique<'t>(
    reader: &mut Reader<'_>,
    pairs: &'t [(Node, Node)],
    twice: Twice,
) -> Vec<((&'t str, Mark), &'t Node)> {
    let mut seen = std::collections::BTreeMap::new();
    let mut out: Vec<((&str, Mark), &Node)> = Vec::new();
    for (key, value) in pairs {
        let Kind::Scalar { text, .. } = &key.kind else {
            let message = format!("a key must be a word, this is {}", key.describe());
            let hint = "write `key: value`, one of the keys on each line";
            reader.error(key.mark, message, Some(hint.into()));
            continue;
        };
        match seen.get(text.as_str()) {
            Some(line) if twice.last_counts(text) => {
                let name = text.escape_debug();
                let message = format!("`{name}` occurs twice, first on line {line}");
                let hint = Some("the last one counts, as in zinit: keep one of the two".into());
                reader.problem(Severity::Warning, key.mark, message, hint);
                out.retain(|((known, _), _)| *known != text.as_str());
                out.push(((text.as_str(), key.mark), value));
            }
            Some(line) => reader.error(
                key.mark,
                format!(
                    "`{}` occurs twice, first on line {line}",
                    text.escape_debug()
                ),
                Some("keep one of the two".into()),
            ),
            None => {
                seen.insert(text.as_str(), key.mark.line);
                out.push(((text.as_str(), key.mark), value));
            }
        }
    }
    out
}

fn meant(key: &str, known: &[&str]) -> Option<String> {
    let plain = key.to_lowercase().replace('-', "_");
    let elsewhere = ELSEWHERE.iter().find(|(name, ours)| {
        *name == plain && known.contains(&ours.split(':').next().unwrap_or(ours))
    });
    match (nearest(key, known), elsewhere) {
        (Some(near), _) => Some(format!("did you mean `{near}`?")),
        (None, Some((_, ours))) => Some(format!("here it is called `{ours}`")),
        (None, None) => None,
    }
}

/// The one of `known` that `word` is probably a slip of.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    if word.len() > 64 {
        return None;
    }
    let word = word.to_lowercase().replace('-', "_");
    let distance = |known: &str| strsim::osa_distance(&word, &known.replace('-', "_"));
    known
        .iter()
        .map(|known| (distance(known), *known))
        // A third of the letters may be wrong, and of two names of one letter neither is meant.
        .filter(|(distance, known)| {
            *distance <= (known.len() / 3).max(1) && distance * 2 < known.len()
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The keys that the schema has at `place`; of several shapes those of the mapping.
    fn keys_at<'a>(schema: &'a Value, place: &str) -> Vec<&'a str> {
        let at = schema.pointer(place).unwrap();
        let shapes = at["anyOf"].as_array().into_iter().flatten();
        let mapping = shapes
            .chain([at])
            .find(|shape| shape["properties"].is_object());
        let keys = mapping.unwrap()["properties"].as_object().unwrap();
        keys.keys().map(String::as_str).collect()
    }

    #[test]
    fn the_schema_has_every_key_and_no_other() {
        let schema: Value = serde_json::from_str(crate::config::SCHEMA).unwrap();
        for (place, keys) in [
            ("", SERVICE),
            ("/properties/test", TEST),
            ("/properties/ready", READY),
            ("/properties/health", HEALTH),
            ("/properties/log", LOG),
            ("/properties/reload", RELOAD),
            ("/properties/sockets/items", SOCKET),
            ("/properties/signal", SIGNAL),
            ("/properties/restart", RESTART),
            ("/properties/survivors", SURVIVORS),
            ("/properties/resources", RESOURCES),
            ("/properties/limits/properties/nofile", LIMIT),
        ] {
            let mut wanted = keys.to_vec();
            wanted.sort_unstable();
            let mut found = keys_at(&schema, place);
            found.sort_unstable();
            assert_eq!(found, wanted, "{place}");
        }
    }
}
