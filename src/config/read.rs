//! One tree to one [`Spec`]: what each key means, all problems collected.

use std::path::Path;

use super::environment::bad_key;
use super::keys::{self, Fields, unique};
use super::problem::{Position, Problem, Severity};
use super::yaml::{self, Kind, Mark, Node};
use super::{Leniency, MAX_FILE_BYTES, bad_name};
use crate::core::{LogMode, Reach, RestartPolicy, RestartWhen, Signal, Spec};

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
}

pub(super) fn read(name: &str, text: &str, path: &Path, leniency: Leniency) -> Read {
    let mut reader = Reader {
        leniency,
        text,
        path,
        problems: Vec::new(),
        unlisted: 0,
        dependencies: Vec::new(),
    };
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
    text: &'a str,
    path: &'a Path,
    leniency: Leniency,
    problems: Vec<Problem>,
    unlisted: usize,
    pub(super) dependencies: Vec<(String, Mark)>,
}

impl Reader<'_> {
    pub(super) fn error(&mut self, mark: Mark, message: String, hint: Option<String>) {
        self.problem(Severity::Error, mark, message, hint);
    }

    /// A key that means nothing here.
    pub(super) fn unknown(&mut self, mark: Mark, message: String, hint: Option<String>) {
        let severity = match self.leniency {
            Leniency::Strict => Severity::Error,
            Leniency::Zinit => Severity::Warning,
        };
        self.problem(severity, mark, message, hint);
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

    fn finish(mut self, spec: Option<Spec>) -> Read {
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
        let dependencies = std::mem::take(&mut self.dependencies)
            .into_iter()
            .map(|(name, mark)| (name, self.position(mark)))
            .collect();
        Read {
            spec: spec.filter(|_| !failed),
            problems: self.problems,
            dependencies,
        }
    }

    fn service(&mut self, name: &str) -> Option<Spec> {
        let root = match yaml::parse(self.text) {
            Ok(root) => root,
            Err(bad) => {
                self.error(bad.mark, bad.message, bad.hint.map(str::to_string));
                return None;
            }
        };
        let pairs = match &root.kind {
            Kind::Map(pairs) => pairs.as_slice(),
            _ if root.is_null() => &[],
            _ => {
                let message = format!(
                    "a service file is a mapping of keys, this is {}",
                    root.describe()
                );
                self.error(
                    root.mark,
                    message,
                    Some("begin with `exec: COMMAND`".into()),
                );
                return None;
            }
        };
        let fields = Fields::new(self, pairs, keys::SERVICE, None);
        let exec = self.exec(&fields, root.mark);
        let mut spec = Spec::new(name, exec);
        self.dependency_keys(&fields, &mut spec);
        self.stop_keys(&fields, &mut spec);
        self.readiness(&fields, &mut spec);
        if let Some(node) = fields.get("oneshot") {
            spec.oneshot = self.bool("oneshot", node).unwrap_or_default();
        }
        if let Some(node) = fields.get("start_timeout") {
            spec.start_timeout =
                self.positive("start_timeout", node, "leave the key out to wait for ever");
        }
        if let Some(node) = fields.get("restart") {
            spec.restart = self.restart(node);
            if spec.oneshot {
                let message = "`restart` has no effect on a oneshot".into();
                self.problem(Severity::Warning, node.mark, message, None);
            }
        }
        if let Some(node) = fields.raw("log") {
            spec.log = self.log(node);
        }
        if let Some(node) = fields.get("env") {
            self.env(node, &mut spec);
        }
        if let Some(node) = fields.get("dir") {
            spec.dir = self.dir(node);
        }
        Some(spec)
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
        if let Some(node) = fields.get("requires") {
            spec.requires = self.names("requires", node);
        }
        let both = spec.after.iter().find(|name| spec.requires.contains(name));
        if let (Some(name), Some(mark)) = (both, fields.key_mark("after")) {
            let message = format!("`{name}` is in `after` and in `requires`");
            let hint = Some("`requires` includes `after`: name it there only".into());
            self.problem(Severity::Warning, mark, message, hint);
        }
    }

    fn stop_keys(&mut self, fields: &Fields<'_>, spec: &mut Spec) {
        if let Some(node) = fields.get("stop") {
            spec.stop_command = self.command("stop", node);
        }
        if let Some(node) = fields.get("signal") {
            self.signal(node, spec);
        }
        if let Some(node) = fields.get("shutdown_timeout") {
            spec.grace = self.duration("shutdown_timeout", node).unwrap_or_default();
        }
        if let Some(node) = fields.get("exit_grace") {
            spec.exit_grace = self.duration("exit_grace", node).unwrap_or_default();
        }
        if let Some(node) = fields.get("kill_timeout") {
            let hint = "every stop that has to kill would end lingering";
            spec.kill_timeout = self
                .positive("kill_timeout", node, hint)
                .unwrap_or_default();
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
        if let Some(node) = fields.get("to") {
            let choices = [
                ("main", Reach::Main),
                ("group", Reach::Group),
                ("all", Reach::All),
            ];
            if let Some(reach) = self.choice("signal.to", node, &choices) {
                spec.signal_to = reach;
            }
        }
    }

    fn restart(&mut self, node: &Node) -> RestartPolicy {
        const POLICIES: [(&str, RestartWhen); 3] = [
            ("always", RestartWhen::Always),
            ("on-failure", RestartWhen::OnFailure),
            ("never", RestartWhen::Never),
        ];
        let mut restart = RestartPolicy::default();
        let Kind::Map(pairs) = &node.kind else {
            restart.when = self
                .choice("restart", node, &POLICIES)
                .unwrap_or(restart.when);
            return restart;
        };
        let fields = Fields::new(self, pairs, keys::RESTART, Some("restart"));
        if let Some(node) = fields.get("policy") {
            restart.when = self
                .choice("restart.policy", node, &POLICIES)
                .unwrap_or(restart.when);
        }
        let no_pause = "a service that fails at once would be restarted without a pause";
        let durations = [
            ("delay", &mut restart.delay),
            ("max_delay", &mut restart.max_delay),
            ("stable_after", &mut restart.stable_after),
            ("window", &mut restart.window),
        ];
        for (key, value) in durations {
            if let Some(node) = fields.get(key) {
                let what = format!("restart.{key}");
                *value = self.positive(&what, node, no_pause).unwrap_or(*value);
            }
        }
        if let Some(node) = fields.get("burst") {
            restart.burst = self.count("restart.burst", node, "write `policy: never` instead");
        }
        if restart.max_delay < restart.delay {
            match fields.get("max_delay") {
                Some(node) => self.error(
                    node.mark,
                    "`restart.max_delay` is shorter than `restart.delay`".into(),
                    None,
                ),
                None => restart.max_delay = restart.delay,
            }
        }
        restart
    }

    fn log(&mut self, node: &Node) -> LogMode {
        if node.is_null() {
            return LogMode::None;
        }
        let choices = [
            ("ring", LogMode::Ring),
            ("stdout", LogMode::Stdout),
            ("none", LogMode::None),
            ("null", LogMode::None),
        ];
        self.choice("log", node, &choices).unwrap_or_default()
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
        for ((key, mark), value) in unique(self, pairs) {
            if let Some(why) = bad_key(key) {
                self.error(mark, format!("in `env`, {why}"), None);
            } else if let Some(value) = self.text(&format!("env.{key}"), value) {
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
