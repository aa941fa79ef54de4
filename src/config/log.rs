//! Where a service's output goes.

use super::keys::{self, Fields};
use super::problem::Severity;
use super::process::bytes;
use super::read::Reader;
use super::yaml::{Kind, Node};
use crate::core::{LogFormat, LogMode, LogTarget, LogTo, Spec};

/// Where systemd's journal and syslog daemons listen.
const JOURNAL: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";
const MAX_SIZE: u64 = 10 << 20;
const KEEP: u32 = 5;
/// Smaller files would be rotated with every line.
const LEAST_SIZE: u64 = 4096;

/// What `to` may say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Mode(LogMode),
    File,
    Journal,
    Syslog,
}

const PLACES: [(&str, To); 7] = [
    ("ring", To::Mode(LogMode::Ring)),
    ("stdout", To::Mode(LogMode::Stdout)),
    ("none", To::Mode(LogMode::None)),
    ("null", To::Mode(LogMode::None)),
    ("file", To::File),
    ("journald", To::Journal),
    ("syslog", To::Syslog),
];

impl Reader<'_> {
    /// The key `log`.
    pub(super) fn log(&mut self, node: &Node, spec: &mut Spec) {
        if node.is_null() {
            spec.log = LogMode::None;
            return;
        }
        let Kind::Map(pairs) = &node.kind else {
            let to = self.choice("log", node, &PLACES);
            return match to {
                Some(To::File) => {
                    let hint = "write `log: {to: file, path: /var/log/NAME.log}`";
                    self.error(
                        node.mark,
                        "`log: file` says no path".into(),
                        Some(hint.into()),
                    );
                }
                Some(to) => self.log_to(to, node, None, spec),
                None => {}
            };
        };
        let fields = Fields::new(self, pairs, keys::LOG, Some("log"));
        let to = match fields.get("to") {
            Some(to) => self.choice("log.to", to, &PLACES),
            None if fields.get("path").is_some() => Some(To::File),
            None => {
                let hint = "add `to: ring`, `stdout`, `file`, `journald`, `syslog` or `none`";
                self.error(node.mark, "`log` has no `to`".into(), Some(hint.into()));
                None
            }
        };
        if let Some(to) = to {
            self.log_to(to, node, Some(&fields), spec);
        }
    }

    fn log_to(&mut self, to: To, node: &Node, fields: Option<&Fields<'_>>, spec: &mut Spec) {
        let get = |key: &str| fields.and_then(|fields| fields.get(key));
        if let To::Mode(mode) = to {
            spec.log = mode;
            for key in keys::LOG.iter().filter(|key| **key != "to") {
                if let Some(node) = get(key) {
                    let message = format!("`log.{key}` has no effect here");
                    let hint = Some("it is for `to: file`, `journald` and `syslog`".into());
                    self.problem(Severity::Warning, node.mark, message, hint);
                }
            }
            return;
        }
        let path = get("path").and_then(|node| self.log_path(node));
        let target = match to {
            To::Journal => LogTarget::Journal(path.unwrap_or_else(|| JOURNAL.into())),
            To::Syslog => LogTarget::Syslog(path.unwrap_or_else(|| SYSLOG.into())),
            To::File | To::Mode(_) => {
                let Some(path) = path else {
                    if get("path").is_none() {
                        let hint = Some("add `path: /var/log/NAME.log`".into());
                        self.error(node.mark, "`log` to a file has no `path`".into(), hint);
                    }
                    return;
                };
                self.log_file(path, &get)
            }
        };
        let only_files: &[&str] = match target {
            LogTarget::File { .. } => &[],
            _ => &["max_size", "keep", "compress", "format"],
        };
        for key in only_files {
            if let Some(node) = get(key) {
                let message = format!("`log.{key}` is for files only");
                let hint = Some("leave it out, or name a `path`".into());
                self.problem(Severity::Warning, node.mark, message, hint);
            }
        }
        let formats = [
            ("prefix", LogFormat::Prefix),
            ("plain", LogFormat::Plain),
            ("json", LogFormat::Json),
        ];
        let format = get("format").and_then(|node| self.choice("log.format", node, &formats));
        let pressures = [("drop", false), ("block", true)];
        let block =
            get("backpressure").and_then(|node| self.choice("log.backpressure", node, &pressures));
        spec.log_to = Some(Box::new(LogTo {
            target,
            format: format.unwrap_or_default(),
            block: block.unwrap_or_default(),
        }));
    }

    fn log_file<'n>(&mut self, path: String, get: &dyn Fn(&str) -> Option<&'n Node>) -> LogTarget {
        let max_size = get("max_size").and_then(|node| self.log_size(node));
        let keep = get("keep").and_then(|node| self.log_keep(node));
        let compress = get("compress").and_then(|node| self.bool("log.compress", node));
        LogTarget::File {
            path,
            max_size: max_size.unwrap_or(MAX_SIZE),
            keep: keep.unwrap_or(KEEP),
            compress: compress.unwrap_or_default(),
        }
    }

    fn log_path(&mut self, node: &Node) -> Option<String> {
        let text = self.text("log.path", node)?;
        if text.starts_with('/') {
            return Some(text.to_owned());
        }
        let message = format!("`log.path` is no absolute path: {}", node.describe());
        let hint = Some("give the whole path, from `/`".into());
        self.error(node.mark, message, hint);
        None
    }

    fn log_size(&mut self, node: &Node) -> Option<u64> {
        let size = self.text("log.max_size", node).and_then(bytes);
        if let Some(size @ (0 | LEAST_SIZE..)) = size {
            return Some(size);
        }
        let message = format!("`log.max_size` is no size: {}", node.describe());
        let hint = "write `10M`; 0 never rotates, and less than 4K would with every few lines";
        self.error(node.mark, message, Some(hint.into()));
        None
    }

    fn log_keep(&mut self, node: &Node) -> Option<u32> {
        let keep = self.text("log.keep", node)?.parse().ok();
        let keep = keep.filter(|keep| *keep <= 1000);
        if keep.is_none() {
            let message = format!("`log.keep` is no number of files: {}", node.describe());
            self.error(node.mark, message, Some("write 0 to 1000".into()));
        }
        keep
    }
}
