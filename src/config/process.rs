//! What a service's processes run with: user, group, limits, priorities, environment, directory.

use std::time::Duration;

use super::environment::bad_key;
use super::keys::{self, Fields, Twice, nearest, unique};
use super::problem::Severity;
use super::read::Reader;
use super::yaml::{Kind, Node};
use super::{Dialect, duration};
use crate::core::{EnvFile, Limit, Resource, Spec};

/// In what a limit is given.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Count,
    Bytes,
    Seconds,
    Microseconds,
}

/// The names are those of prlimit(1) and of systemd's Limit…= in small letters.
const LIMITS: [(&str, Resource, Unit); 14] = [
    ("as", Resource::AddressSpace, Unit::Bytes),
    ("core", Resource::Core, Unit::Bytes),
    ("cpu", Resource::Cpu, Unit::Seconds),
    ("data", Resource::Data, Unit::Bytes),
    ("fsize", Resource::FileSize, Unit::Bytes),
    ("memlock", Resource::LockedMemory, Unit::Bytes),
    ("msgqueue", Resource::MessageQueues, Unit::Bytes),
    ("nice", Resource::Nice, Unit::Count),
    ("nofile", Resource::OpenFiles, Unit::Count),
    ("nproc", Resource::Processes, Unit::Count),
    ("rtprio", Resource::RealtimePriority, Unit::Count),
    ("rttime", Resource::RealtimeCpu, Unit::Microseconds),
    ("sigpending", Resource::PendingSignals, Unit::Count),
    ("stack", Resource::Stack, Unit::Bytes),
];

impl Reader<'_> {
    pub(super) fn process_keys(&mut self, fields: &Fields<'_>, spec: &mut Spec) {
        if let Some(node) = fields.get("env") {
            self.env(node, spec);
        }
        let env_files = self.key("env_file", fields, |reader, node| {
            Some(reader.env_files(node))
        });
        spec.env_files = env_files.unwrap_or_default();
        if let Some(node) = fields.get("dir") {
            spec.dir = self.dir(node);
        }
        spec.user = self.key("user", fields, |reader, node| reader.account("user", node));
        spec.group = self.key("group", fields, |reader, node| {
            reader.account("group", node)
        });
        spec.umask = self.key("umask", fields, Reader::umask);
        let limits = self.key("limits", fields, |reader, node| {
            reader.limits(node, spec);
            Some(())
        });
        if limits.is_none() {
            spec.limits.clear();
        }
        spec.nice = self.key("nice", fields, |reader, node| {
            let meaning = "19 is the kindest to others, below 0 needs privileges";
            reader.within("nice", node, (-20, 19), meaning)
        });
        spec.resources = self.key("resources", fields, Reader::resources);
        spec.oom_score_adj = self.key("oom_score_adj", fields, |reader, node| {
            let meaning = "1000 is the first to be killed when memory is short, -1000 never is";
            reader.within("oom_score_adj", node, (-1000, 1000), meaning)
        });
    }

    fn env(&mut self, node: &Node, spec: &mut Spec) {
        let Kind::Map(pairs) = &node.kind else {
            let message = format!("`env` must be a mapping, this is {}", node.describe());
            self.error(
                node.mark,
                message,
                Some("write `env: {NAME: value}`".into()),
            );
            return;
        };
        let twice = match self.dialect {
            Dialect::Nought => Twice::Refused,
            Dialect::Zinit => Twice::LastCounts,
        };
        for ((key, mark), value) in unique(self, pairs, twice) {
            let bad = bad_key(key);
            if let Some(why) = bad {
                let message = format!("in `env`, {why}");
                match self.dialect {
                    Dialect::Nought => {
                        let hint = "write `NAME: value`, the name of letters, digits and `_`";
                        self.error(mark, message, Some(hint.into()));
                        continue;
                    }
                    Dialect::Zinit => {
                        let hint = "it is handed on as it is, as zinit does";
                        self.problem(Severity::Warning, mark, message, Some(hint.into()));
                    }
                }
            }
            if let Some(value) = self.text(&format!("env.{key}"), value) {
                spec.env.insert(key.to_string(), value.to_string());
            }
        }
    }

    fn dir(&mut self, node: &Node) -> String {
        let Some(dir) = self.text("dir", node).filter(|dir| !dir.is_empty()) else {
            return "/".into();
        };
        if !dir.starts_with('/') {
            let message = "`dir` is relative to wherever the supervisor was started".into();
            let hint = Some("give the whole path, from `/`".into());
            self.problem(Severity::Warning, node.mark, message, hint);
        }
        dir.to_string()
    }

    fn env_files(&mut self, node: &Node) -> Vec<EnvFile> {
        let mut files: Vec<EnvFile> = Vec::new();
        for (text, item) in self.texts("env_file", node) {
            let (path, optional) = match text.strip_prefix('-') {
                Some(path) => (path, true),
                None => (text, false),
            };
            if path.starts_with('/') {
                let path = path.to_owned();
                files.push(EnvFile { path, optional });
                continue;
            }
            let message = format!(
                "`env_file` must be a whole path, this is {}",
                item.describe()
            );
            let hint = "give it from `/`; a `-` before it means that it may be missing";
            self.error(item.mark, message, Some(hint.into()));
        }
        files
    }

    /// The name or number of a user or a group; whether there is such a one is found out at the
    /// start.
    pub(super) fn account(&mut self, what: &str, node: &Node) -> Option<String> {
        let text = self.text(what, node)?;
        if text.is_empty() || text.contains([':', '/', ' ', '\t', '\n', ',']) {
            let message = format!(
                "`{what}` must be a name or a number, this is {}",
                node.describe()
            );
            let hint = match (what, text.split_once(':')) {
                ("user", Some((user, group))) => {
                    format!(
                        "write `user: {}` and `group: {}`",
                        user.escape_debug(),
                        group.escape_debug()
                    )
                }
                _ => "one, as in /etc/passwd or /etc/group".into(),
            };
            self.error(node.mark, message, Some(hint));
            return None;
        }
        let number = text.bytes().all(|b| b.is_ascii_digit());
        // The last one means 'no change' to the kernel (chown(2), setresuid(2)).
        if !number || text.parse::<u32>().is_ok_and(|id| id < u32::MAX) {
            return Some(text.to_owned());
        }
        let message = format!("`{what}`: {} is no id", node.describe());
        let hint = format!("a number below {}, or a name", u32::MAX);
        self.error(node.mark, message, Some(hint));
        None
    }

    fn umask(&mut self, node: &Node) -> Option<u32> {
        self.octal("umask", node, "from 000 to 777: `027`")
    }

    /// An octal number up to 777.
    pub(super) fn octal(&mut self, what: &str, node: &Node, hint: &str) -> Option<u32> {
        let number = match &node.kind {
            Kind::Scalar { text, .. } => {
                let digits = text.strip_prefix("0o").unwrap_or(text);
                let octal = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                octal.then(|| u32::from_str_radix(digits, 8).ok()).flatten()
            }
            Kind::List(_) | Kind::Map(_) => None,
        };
        let number = number.filter(|number| *number <= 0o777);
        if number.is_none() {
            let message = format!(
                "`{what}` must be an octal number, this is {}",
                node.describe()
            );
            self.error(node.mark, message, Some(hint.into()));
        }
        number
    }

    fn limits(&mut self, node: &Node, spec: &mut Spec) {
        let Kind::Map(pairs) = &node.kind else {
            let message = format!("`limits` must be a mapping, this is {}", node.describe());
            let hint = Some("write `limits: {nofile: 65536, core: 0}`".into());
            return self.error(node.mark, message, hint);
        };
        for ((key, mark), value) in unique(self, pairs, Twice::Refused) {
            if key.starts_with("x-") {
                continue;
            }
            let Some((name, resource, unit)) = LIMITS.iter().find(|(name, ..)| *name == key) else {
                let known = LIMITS.map(|(name, ..)| name);
                let plain = key.to_lowercase();
                let plain = plain.strip_prefix("limit").unwrap_or(&plain);
                let plain = plain.strip_prefix("rlimit_").unwrap_or(plain);
                let hint = match nearest(plain, &known) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("the limits are {}", known.join(", ")),
                };
                let message = format!("unknown limit `{}`", key.escape_debug());
                self.unknown(mark, message, Some(hint));
                continue;
            };
            if let Some(limit) = self.limit(&format!("limits.{name}"), value, *unit) {
                spec.limits.insert(*resource, limit);
            }
        }
    }

    fn limit(&mut self, what: &str, node: &Node, unit: Unit) -> Option<Limit> {
        let limit = match &node.kind {
            Kind::Map(pairs) => {
                let fields = Fields::new(self, pairs, keys::LIMIT, Some(what));
                let (soft, hard) = (fields.get("soft"), fields.get("hard"));
                let mut one = |node: &Node| {
                    let text = self.text(what, node)?;
                    self.amount(what, node, text, unit)
                };
                match (soft, hard) {
                    (None, None) => {
                        let hint = Some("write `{soft: N, hard: N}`".into());
                        self.error(node.mark, format!("`{what}` says nothing"), hint);
                        return None;
                    }
                    (Some(soft), Some(hard)) => Limit {
                        soft: one(soft)?,
                        hard: one(hard)?,
                    },
                    (Some(both), None) | (None, Some(both)) => {
                        let both = one(both)?;
                        Limit {
                            soft: both,
                            hard: both,
                        }
                    }
                }
            }
            Kind::Scalar { .. } | Kind::List(_) => {
                let text = self.text(what, node)?;
                let (soft, hard) = text.split_once(':').unwrap_or((text, text));
                Limit {
                    soft: self.amount(what, node, soft, unit)?,
                    hard: self.amount(what, node, hard, unit)?,
                }
            }
        };
        let (soft, hard) = (
            limit.soft.unwrap_or(u64::MAX),
            limit.hard.unwrap_or(u64::MAX),
        );
        if soft > hard {
            let message = format!("`{what}`: the soft limit is above the hard one");
            let hint = Some("the soft one comes first: `1024:65536`".into());
            self.error(node.mark, message, hint);
            return None;
        }
        Some(limit)
    }

    /// One number of a limit: `Some(None)` is unlimited.
    fn amount(&mut self, what: &str, node: &Node, text: &str, unit: Unit) -> Option<Option<u64>> {
        let text = text.trim();
        if matches!(text, "unlimited" | "infinity") {
            return Some(None);
        }
        let amount = match unit {
            Unit::Count => digits(text),
            Unit::Bytes => bytes(text),
            Unit::Seconds => duration::parse(text).and_then(whole_seconds),
            Unit::Microseconds => digits(text).or_else(|| {
                let micros = duration::parse(text)?.as_micros();
                u64::try_from(micros).ok()
            }),
        };
        // The kernel's word for unlimited.
        let amount = amount.filter(|amount| *amount < u64::MAX);
        if amount.is_none() {
            let hint = match unit {
                Unit::Count => "a whole number, `unlimited`, or both limits: `1024:65536`",
                Unit::Bytes => "bytes, or with a unit of 1024: `64K`, `512M`, `2G`; `unlimited`",
                Unit::Seconds => "whole seconds, or with a unit: `90s`, `10m`; `unlimited`",
                Unit::Microseconds => "microseconds, or with a unit: `200ms`; `unlimited`",
            };
            let message = format!("`{what}` must be a limit, this is {}", node.describe());
            self.error(node.mark, message, Some(hint.into()));
        }
        amount.map(Some)
    }
}

fn digits(text: &str) -> Option<u64> {
    let only = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    only.then(|| text.parse().ok()).flatten()
}

/// A number of bytes: `512`, `64K`, `10M`.
pub(super) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    );
    let factor: u64 = match unit {
        "" => 1,
        "K" | "k" | "KiB" => 1 << 10,
        "M" | "m" | "MiB" => 1 << 20,
        "G" | "g" | "GiB" => 1 << 30,
        "T" | "t" | "TiB" => 1 << 40,
        _ => return None,
    };
    digits(number)?.checked_mul(factor)
}

fn whole_seconds(duration: Duration) -> Option<u64> {
    (duration.subsec_nanos() == 0).then_some(duration.as_secs())
}
