//! Ready and healthy: `test`, as zinit has it, `ready`, which can look at more than a command or
//! wait for what the service says, and `health`, which looks while it is up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::keys::{self, Fields};
use super::problem::Severity;
use super::read::Reader;
use super::yaml::{Kind, Node};
use crate::core::{Check, Health, HttpGet, Spec, Test};

/// What can be looked at.
const LOOKS: [&str; 5] = ["exec", "tcp", "http", "unix", "file"];
/// What a service can say that it is ready with.
const TOLD: [&str; 3] = ["notify", "fd", "log_regex"];
/// Descriptors that a service may be given to say that it is ready.
const FDS: std::ops::RangeInclusive<u32> = 3..=255;
const ADDRESS: &str = "write `127.0.0.1:5432`, `localhost:5432` or a port alone; \
                       for other names, `exec` a command";
const URL: &str = "write `http://127.0.0.1:8080/path`; for anything else, `exec` a command: \
                   `curl -fsS https://…`";

impl Reader<'_> {
    /// The keys `test` and `ready`.
    pub(super) fn readiness(&mut self, fields: &Fields<'_>, spec: &mut Spec) {
        if let Some(node) = fields.get("test") {
            spec.test = self.test(node).map(Box::new);
            self.needless("test", node, spec);
        }
        let tested = spec.test.is_some();
        let ready = self.key("ready", fields, |reader, node| {
            if tested {
                let message = "`ready` and `test` both say when it is ready".into();
                let hint = Some("keep one of the two".into());
                reader.error(node.mark, message, hint);
            }
            reader.ready(node)
        });
        if let (Some(ready), Some(node)) = (ready, fields.get("ready")) {
            spec.test = Some(Box::new(ready));
            self.needless("ready", node, spec);
        }
        let health = self.key("health", fields, |reader, node| reader.health(node));
        spec.health = health.map(Box::new);
        spec.watchdog = self.key("watchdog", fields, |reader, node| {
            let hint = "it says `WATCHDOG=1` this often (sd_notify): `30s` is usual";
            reader.positive("watchdog", node, hint)
        });
        for (key, given) in [
            ("health", spec.health.is_some()),
            ("watchdog", spec.watchdog.is_some()),
        ] {
            if let (true, true, Some(node)) = (spec.oneshot, given, fields.get(key)) {
                let message = format!("`{key}` has no effect on a oneshot");
                let hint = Some("a oneshot is done when it has exited 0, and never up".into());
                self.problem(Severity::Warning, node.mark, message, hint);
            }
        }
    }

    /// A oneshot's readiness is its exit.
    fn needless(&mut self, key: &str, node: &Node, spec: &Spec) {
        if spec.oneshot && spec.test.is_some() {
            let message = format!("`{key}` has no effect on a oneshot");
            let hint = Some("a oneshot is ready when it has exited 0".into());
            self.problem(Severity::Warning, node.mark, message, hint);
        }
    }

    fn test(&mut self, node: &Node) -> Option<Test> {
        let pairs = match &node.kind {
            Kind::Map(pairs) => pairs,
            // zinit's default is an empty string.
            Kind::Scalar { text, .. } if text.is_empty() => return None,
            _ => {
                let argv = self.command("test", node)?;
                return Some(Test::new(Check::Exec(argv)));
            }
        };
        let fields = Fields::new(self, pairs, keys::TEST, Some("test"));
        let Some(exec) = fields.get("exec") else {
            let hint = Some("add `exec: COMMAND`, the command that tests".into());
            self.error(node.mark, "`test` has no `exec`".into(), hint);
            return None;
        };
        let argv = self.command("test.exec", exec).unwrap_or_default();
        let mut test = Test::new(Check::Exec(argv));
        self.pace("test", &fields, &mut test);
        Some(test)
    }

    fn ready(&mut self, node: &Node) -> Option<Test> {
        let Kind::Map(pairs) = &node.kind else {
            let message = format!("`ready` must be a mapping, this is {}", node.describe());
            let hint = "write `ready: {tcp: 5432}`; a command alone is `test: COMMAND`";
            self.error(node.mark, message, Some(hint.into()));
            return None;
        };
        let fields = Fields::new(self, pairs, keys::READY, Some("ready"));
        let choices: Vec<&str> = LOOKS.into_iter().chain(TOLD).collect();
        let mut test = Test::new(self.check("ready", node, &fields, &choices)?);
        if test.check.is_told() {
            self.no_pace(&fields);
        } else {
            self.pace("ready", &fields, &mut test);
        }
        Some(test)
    }

    fn health(&mut self, node: &Node) -> Option<Health> {
        let Kind::Map(pairs) = &node.kind else {
            let message = format!("`health` must be a mapping, this is {}", node.describe());
            let hint =
                "write `health: {http: \"http://127.0.0.1:8080/health\"}`, or `exec` and a command";
            self.error(node.mark, message, Some(hint.into()));
            return None;
        };
        let fields = Fields::new(self, pairs, keys::HEALTH, Some("health"));
        let check = self.check("health", node, &fields, &LOOKS)?;
        let mut health = Health::new(check);
        let interval = health.test.interval;
        self.pace("health", &fields, &mut health.test);
        health.test.interval = health.test.interval.or(interval);
        if let Some(node) = fields.get("failures") {
            let hint = "so many failed looks in a row are a failure: 3 when not given";
            let failures = self.count("health.failures", node, hint);
            health.failures = failures.unwrap_or(health.failures);
        }
        Some(health)
    }

    /// The one thing of `choices` that is given.
    fn check(
        &mut self,
        of: &str,
        node: &Node,
        fields: &Fields<'_>,
        choices: &[&str],
    ) -> Option<Check> {
        let given: Vec<&str> = choices
            .iter()
            .copied()
            .filter(|key| fields.get(key).is_some())
            .collect();
        let &[key] = given.as_slice() else {
            let message = match given.as_slice() {
                [] => format!("`{of}` says nothing to look at"),
                keys => format!("`{of}` has {}", keys.join(" and ")),
            };
            let hint = format!("give one of {}", choices.join(", "));
            self.error(node.mark, message, Some(hint));
            return None;
        };
        let value = fields.get(key)?;
        let what = format!("{of}.{key}");
        match key {
            "exec" => self.command(&what, value).map(Check::Exec),
            "tcp" => self.addresses(&what, value).map(Check::Tcp),
            "http" => self.url(&what, value).map(Check::Http),
            "unix" => self.path(&what, value).map(Check::Unix),
            "file" => self.path(&what, value).map(Check::File),
            "notify" => self.notify(&what, value),
            "fd" => self.descriptor(&what, value).map(Check::Fd),
            _ => self.regex(&what, value).map(Check::LogRegex),
        }
    }

    fn notify(&mut self, what: &str, node: &Node) -> Option<Check> {
        let wanted = self.bool(what, node)?;
        let hint = "write `true`, or leave `ready` out";
        let check = wanted.then_some(Check::Notify);
        self.or_problem(what, node, check, "not `true`", hint)
    }

    fn descriptor(&mut self, what: &str, node: &Node) -> Option<u32> {
        let number = self.text(what, node)?.parse().ok();
        let number = number.filter(|number| FDS.contains(number));
        let hint = "0, 1 and 2 are taken: `fd: 3` is usual, and 255 the last";
        self.or_problem(what, node, number, "no descriptor that can be given", hint)
    }

    fn regex(&mut self, what: &str, node: &Node) -> Option<String> {
        let text = self.text(what, node)?.to_owned();
        if let Err(error) = regex_lite::Regex::new(&text) {
            let message = format!("`{what}` is no regular expression: {error}");
            let hint = "quote it with '…' so that YAML leaves `\\` and `:` alone";
            self.error(node.mark, message, Some(hint.into()));
            return None;
        }
        Some(text)
    }

    /// Nothing is looked at, so there is no pace.
    fn no_pace(&mut self, fields: &Fields<'_>) {
        for key in ["interval", "timeout", "retries", "start_period"] {
            if let Some(node) = fields.get(key) {
                let message =
                    format!("`ready.{key}` has no effect on what the service says itself");
                let hint = Some("`start_timeout` says how long it may take".into());
                self.problem(Severity::Warning, node.mark, message, hint);
            }
        }
    }

    /// How often, how long and how many times.
    fn pace(&mut self, what: &str, fields: &Fields<'_>, test: &mut Test) {
        if let Some(node) = fields.get("interval") {
            let hint = "the test would run without a pause: `100ms` is often";
            test.interval = self.positive(&format!("{what}.interval"), node, hint);
        }
        if let Some(node) = fields.get("timeout") {
            let hint = "no run could pass";
            test.timeout = self
                .positive(&format!("{what}.timeout"), node, hint)
                .unwrap_or_default();
        }
        if let Some(node) = fields.get("retries") {
            let hint = "leave the key out to try for ever; 1 gives up after the first failure";
            test.retries = self.count(&format!("{what}.retries"), node, hint);
        }
        if let Some(node) = fields.get("start_period") {
            let period = self.duration(&format!("{what}.start_period"), node);
            test.start_period = period.unwrap_or(Duration::ZERO);
        }
    }

    fn addresses(&mut self, what: &str, node: &Node) -> Option<Vec<SocketAddr>> {
        let text = self.text(what, node)?;
        let port = text.parse::<u16>().ok().filter(|port| *port > 0);
        let found = match port {
            Some(port) => Some(vec![(Ipv4Addr::LOCALHOST, port).into()]),
            None => resolve(text),
        };
        self.or_problem(what, node, found, "no address with a port", ADDRESS)
    }

    fn url(&mut self, what: &str, node: &Node) -> Option<HttpGet> {
        let text = self.text(what, node)?;
        let is_plain = |c: char| c.is_ascii_graphic();
        let found = text.strip_prefix("http://").and_then(|rest| {
            let (host, path) = match rest.find(['/', '?']) {
                Some(end) => rest.split_at(end),
                None => (rest, "/"),
            };
            let addresses = resolve(host).or_else(|| resolve(&format!("{host}:80")))?;
            let path = path.split('#').next().unwrap_or_default();
            let slash = if path.starts_with('/') { "" } else { "/" };
            let path = format!("{slash}{path}");
            path.chars().all(is_plain).then(|| HttpGet {
                addresses,
                host: host.to_owned(),
                path,
            })
        });
        self.or_problem(what, node, found, "no URL that can be asked here", URL)
    }

    fn path(&mut self, what: &str, node: &Node) -> Option<String> {
        let text = self.text(what, node)?;
        let found = text.starts_with('/').then(|| text.to_owned());
        let hint = "give the whole path, from `/`";
        self.or_problem(what, node, found, "no absolute path", hint)
    }

    fn or_problem<T>(
        &mut self,
        what: &str,
        node: &Node,
        found: Option<T>,
        none: &str,
        hint: &str,
    ) -> Option<T> {
        if found.is_none() {
            let message = format!("`{what}` is {none}: {}", node.describe());
            self.error(node.mark, message, Some(hint.into()));
        }
        found
    }
}

/// The addresses of `HOST:PORT`; a name other than `localhost` has none that would stay true.
fn resolve(text: &str) -> Option<Vec<SocketAddr>> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    if let Some(rest) = text.strip_prefix("localhost:") {
        let port = port(rest)?;
        let both: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Some(both.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    let address: SocketAddr = text.parse().ok()?;
    (address.port() > 0).then(|| vec![address])
}
