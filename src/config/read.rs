//! One tree to one [`Spec`]: what each key means, all problems collected.

use std::path::Path;
use std::time::Duration;

use super::keys::{self, Fields};
use super::problem::{Position, Problem, Severity};
use super::yaml::{self, Kind, Mark, Node, Tags};
use super::{Dialect, MAX_FILE_BYTES, bad_name};
use crate::core::{Reach, Signal, Spec};

/// More problems than this in one file are counted, not listed.
const MAX_PROBLEMS: usize = 40;

/// What one file gave.
pub(super) struct Read {
    /// The service, when no problem is an error.
    pub(super) spec: Option<Spec>,
    /// In the order of their places.
    pub(super) problems: Vec<Problem>,
    /// Every dependency's place, for what only all files together show.
    pub(super) dependencies: Vec<(String, Position)>,
    /// The same of `stop_after`.
    pub(super) stop_after: Vec<(String, Position)>,
}

pub(super) fn read(dialect: Dialect, name: &str, text: &str, path: &Path) -> Read {
    let mut reader = Reader::new(dialect, text, path);
    if let Some(why) = bad_name(name) {
        let hint = "a service is called what its file is called, without `.yaml`: rename the file";
        reader.push(Problem::whole(Severity::Error, path, why, hint));
    }
    let spec = match text.len() {
        0..=MAX_FILE_BYTES => reader.service(name),
        size => {
            let message = format!("the file has {size} bytes, the most is {MAX_FILE_BYTES}");
            let hint = "a service file holds one service: is this another file?";
            reader.push(Problem::whole(Severity::Error, path, message, hint));
            None
        }
    };
    reader.finish(spec)
}

/// Collects problems while values are read.
pub(super) struct Reader<'a> {
    pub(super) dialect: Dialect,
    /// What is being read is a key that zinit does not know, in a file of zinit's: nothing
    /// about it keeps the service from running.
    foreign_key: bool,
    text: &'a str,
    path: &'a Path,
    problems: Vec<Problem>,
    unlisted: usize,
    errors: usize,
    pub(super) dependencies: Vec<(String, Mark)>,
    stop_after: Vec<(String, Mark)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(dialect: Dialect, text: &'a str, path: &'a Path) -> Self {
        Reader {
            dialect,
            foreign_key: false,
            text,
            path,
            problems: Vec::new(),
            unlisted: 0,
            errors: 0,
            dependencies: Vec::new(),
            stop_after: Vec::new(),
        }
    }
}

impl Reader<'_> {
    pub(super) fn error(&mut self, mark: Mark, message: String, hint: Option<String>) {
        self.errors += 1;
        if !self.foreign_key {
            return self.problem(Severity::Error, mark, message, hint);
        }
        let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
        let hint = Some(format!("the key has no effect, as in zinit{hint}"));
        self.problem(Severity::Warning, mark, message, hint);
    }

    /// A key that nobody knows.
    pub(super) fn unknown(&mut self, mark: Mark, message: String, hint: Option<String>) {
        let severity = match self.dialect {
            Dialect::Nought => Severity::Error,
            Dialect::Zinit => Severity::Warning,
        };
        self.problem(severity, mark, message, hint);
    }

    /// Reads `key`; when zinit does not know it and the file is zinit's, what is wrong with it
    /// is a warning and the key has no effect.
    pub(super) fn key<T>(
        &mut self,
        key: &str,
        fields: &Fields<'_>,
        read: impl FnOnce(&mut Self, &Node) -> Option<T>,
    ) -> Option<T> {
        let node = fields.get(key)?;
        self.foreign_key = self.dialect == Dialect::Zinit && !keys::ZINIT.contains(&key);
        let errors = self.errors;
        let value = read(self, node);
        let bad = self.errors > errors;
        let ignored = std::mem::take(&mut self.foreign_key) && bad;
        value.filter(|_| !ignored)
    }

    pub(super) fn problem(
        &mut self,
        severity: Severity,
        mark: Mark,
        message: String,
        hint: Option<String>,
    ) {
        if self.problems.len() >= MAX_PROBLEMS {
            self.unlisted += 1;
            return;
        }
        let position = Some(self.position(mark));
        self.push(Problem {
            severity,
            path: self.path.to_path_buf(),
            position,
            message,
            hint,
        });
    }

    fn push(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    fn position(&self, mark: Mark) -> Position {
        Position {
            line: mark.line,
            column: mark.column,
            width: mark.width,
            source: source_line(self.text, mark.line).to_string(),
        }
    }

    pub(super) fn finish(mut self, spec: Option<Spec>) -> Read {
        self.problems.sort_by_key(|problem| {
            let position = problem.position.as_ref();
            position.map(|at| (at.line, at.column))
        });
        if self.unlisted > 0 {
            let message = format!("and {} more problems like these", self.unlisted);
            let hint = "mend the first ones: the others may go with them";
            self.push(Problem::whole(Severity::Error, self.path, message, hint));
        }
        let failed = self.problems.iter().any(Problem::is_error);
        let dependencies = std::mem::take(&mut self.dependencies);
        let stop_after = std::mem::take(&mut self.stop_after);
        let places = |names: Vec<(String, Mark)>| {
            let names = names.into_iter();
            names
                .map(|(name, mark)| (name, self.position(mark)))
                .collect()
        };
        let (dependencies, stop_after) = (places(dependencies), places(stop_after));
        Read {
            spec: spec.filter(|_| !failed),
            problems: self.problems,
            dependencies,
            stop_after,
        }
    }

    /// The file's keys, and where they begin.
    pub(super) fn root(&mut self) -> Option<(Mark, Vec<(Node, Node)>)> {
        let tags = match self.dialect {
            Dialect::Nought => Tags::Core,
            Dialect::Zinit => Tags::Any,
        };
        let root = match yaml::parse(self.text, tags) {
            Ok(root) => root,
            Err(bad) => {
                self.error(bad.mark, bad.message, bad.hint.map(str::to_string));
                return None;
            }
        };
        let (mark, null, described) = (root.mark, root.is_null(), root.describe());
        match root.kind {
            Kind::Map(pairs) => Some((mark, pairs)),
            _ if null => Some((mark, Vec::new())),
            _ => {
                let message = format!("a service file is a mapping of keys, this is {described}");
                self.error(mark, message, Some("begin with `exec: COMMAND`".into()));
                None
            }
        }
    }

    fn service(&mut self, name: &str) -> Option<Spec> {
        let (mark, pairs) = self.root()?;
        let fields = Fields::new(self, &pairs, keys::SERVICE, None);
        let exec = self.exec(&fields, mark);
        let mut spec = Spec::new(name, exec);
        self.dependency_keys(&fields, &mut spec);
        self.stop_keys(&fields, &mut spec);
        self.start_keys(&fields, &mut spec);
        self.end_keys(&fields, &mut spec);
        self.process_keys(&fields, &mut spec);
        if let Some(node) = fields.raw("log") {
            self.log(node, &mut spec);
        }
        self.socket_keys(&fields, &mut spec);
        Some(spec)
    }

    fn start_keys(&mut self, fields: &Fields<'_>, spec: &mut Spec) {
        if let Some(node) = fields.get("oneshot") {
            spec.oneshot = self.bool("oneshot", node).unwrap_or_default();
        }
        self.readiness(fields, spec);
        spec.start_timeout = self.key("start_timeout", fields, |reader, node| {
            reader.positive("start_timeout", node, "leave the key out to wait for ever")
        });
    }

    fn exec(&mut self, fields: &Fields<'_>, root: Mark) -> Vec<String> {
        match fields.raw("exec") {
            Some(node) => self.command("exec", node).unwrap_or_default(),
            None => {
                let start = Mark { width: 1, ..root };
                let hint = Some("add `exec: COMMAND`, the command to run".into());
                self.error(start, "`exec` is missing".into(), hint);
                Vec::new()
            }
        }
    }

    fn dependency_keys(&mut self, fields: &Fields<'_>, spec: &mut Spec) {
        if let Some(node) = fields.get("after") {
            spec.after = self.names("after", node);
        }
        let requires = self.key("requires", fields, |reader, node| {
            Some(reader.names("requires", node))
        });
        spec.requires = requires.unwrap_or_default();
        let stop_after = self.key("stop_after", fields, |reader, node| {
            let dependencies = reader.dependencies.len();
            let names = reader.names("stop_after", node);
            // They order stops alone: nobody waits for them to be there.
            reader.stop_after = reader.dependencies.split_off(dependencies);
            Some(names)
        });
        spec.stop_after = stop_after.unwrap_or_default();
        let both = spec.after.iter().find(|name| spec.requires.contains(name));
        if let (Some(name), Some(mark)) = (both, fields.key_mark("after")) {
            let message = format!("`{name}` is in `after` and in `requires`");
            let hint = Some("`requires` includes `after`: name it there only".into());
            self.problem(Severity::Warning, mark, message, hint);
        }
    }

    fn stop_keys(&mut self, fields: &Fields<'_>, spec: &mut Spec) {
        spec.stop_command = self.key("stop", fields, |reader, node| reader.command("stop", node));
        if let Some(node) = fields.get("signal") {
            self.signal(node, spec);
        }
        if let Some(node) = fields.get("shutdown_timeout") {
            let grace = self.zinit_seconds(node);
            let grace = grace.or_else(|| self.duration("shutdown_timeout", node));
            spec.grace = grace.unwrap_or(spec.grace);
        }
        let exit_grace = self.key("exit_grace", fields, |reader, node| {
            reader.duration("exit_grace", node)
        });
        spec.exit_grace = exit_grace.unwrap_or(spec.exit_grace);
        let kill_timeout = self.key("kill_timeout", fields, |reader, node| {
            let hint = "every stop that has to kill would end lingering";
            reader.positive("kill_timeout", node, hint)
        });
        spec.kill_timeout = kill_timeout.unwrap_or(spec.kill_timeout);
    }

    /// A number as zinit reads it, in any of YAML's notations; 584 years at the most.
    fn zinit_seconds(&self, node: &Node) -> Option<Duration> {
        match &node.kind {
            Kind::Scalar { text, plain: true } if self.dialect == Dialect::Zinit => {
                let seconds = serde_yaml::from_str::<u64>(text).ok()?;
                Some(Duration::from_secs(seconds).min(Duration::from_nanos(u64::MAX)))
            }
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => None,
        }
    }

    fn signal(&mut self, node: &Node, spec: &mut Spec) {
        let Kind::Map(pairs) = &node.kind else {
            let message = format!("`signal` must be a mapping, this is {}", node.describe());
            let hint = Some("write `signal: {stop: SIGTERM, to: group}`".into());
            self.error(node.mark, message, hint);
            return;
        };
        let fields = Fields::new(self, pairs, keys::SIGNAL, Some("signal"));
        if let Some(node) = fields.get("stop")
            && let Some(text) = self.text("signal.stop", node)
        {
            match Signal::parse(text) {
                Some(signal) => spec.stop_signal = signal,
                None => {
                    let message = format!("{} is no signal", node.describe());
                    let hint = "a name in any case (`SIGTERM`, `term`), `RTMIN+3`, or a number from 1 to 64";
                    self.error(node.mark, message, Some(hint.into()));
                }
            }
        }
        let to = self.key("to", &fields, |reader, node| {
            let choices = [
                ("main", Reach::Main),
                ("group", Reach::Group),
                ("all", Reach::All),
            ];
            reader.choice("signal.to", node, &choices)
        });
        spec.signal_to = to.unwrap_or(spec.signal_to);
    }
}

/// The text of line `number` (from 1), by YAML's line breaks.
fn source_line(text: &str, number: usize) -> &str {
    let mut rest = text;
    for _ in 1..number {
        let Some(end) = rest.find(['\n', '\r']) else {
            return "";
        };
        let width = if rest[end..].starts_with("\r\n") {
            2
        } else {
            1
        };
        rest = &rest[end + width..];
    }
    rest.split(['\n', '\r']).next().unwrap_or_default()
}
