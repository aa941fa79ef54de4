//! What happens when a service ends: keys that decide over its restart, over everything else,
//! over what it leaves, and whether it starts at all.

use super::keys::{self, Fields};
use super::problem::Severity;
use super::read::Reader;
use super::yaml::{Kind, Mark, Node};
use crate::core::{
    Containment, EndAction, Guarantee, RestartPolicy, RestartWhen, Role, ScanQuality, Spec,
};

/// The kernel keeps so many bytes of a command's name (proc_pid_comm(5)).
const COMM_BYTES: usize = 15;

const WORDS: [(&str, Level); 6] = [
    ("cgroup-kill", Level::Holds(Containment::CgroupKill)),
    ("cgroup-signal", Level::Holds(Containment::CgroupSignal)),
    ("pid-namespace", Level::Holds(Containment::PidNamespace)),
    ("subreaper", Level::Holds(Containment::Subreaper)),
    ("marked", Level::Tells(ScanQuality::Marked)),
    ("descent", Level::Tells(ScanQuality::Descent)),
];

/// One word of a guarantee.
#[derive(Clone, Copy)]
enum Level {
    Holds(Containment),
    Tells(ScanQuality),
}

impl Reader<'_> {
    pub(super) fn end_keys(&mut self, fields: &Fields<'_>, spec: &mut Spec) {
        let actions = [
            ("ignore", EndAction::Ignore),
            ("stop_all", EndAction::StopAll),
        ];
        for (key, action) in [
            ("on_end", &mut spec.on_end),
            ("on_failure", &mut spec.on_failure),
        ] {
            let read = self.key(key, fields, |reader, node| {
                reader.choice(key, node, &actions)
            });
            *action = read.unwrap_or(*action);
        }
        let essential = self.key("essential", fields, |reader, node| {
            reader.bool("essential", node)
        });
        spec.essential = essential.unwrap_or_default();
        let remain = self.key("remain", fields, |reader, node| reader.bool("remain", node));
        spec.remain = remain.unwrap_or_default();
        let roles = [
            ("main", Role::Main),
            ("sidecar", Role::Sidecar),
            ("init", Role::Init),
        ];
        spec.role = self.key("role", fields, |reader, node| {
            reader.choice("role", node, &roles)
        });
        self.implied_by_role(fields, spec);
        let stops_all = spec.essential
            || spec.on_end == EndAction::StopAll
            || spec.on_failure == EndAction::StopAll;
        if stops_all {
            spec.restart.when = RestartWhen::Never;
        }
        if let Some(restart) =
            self.key("restart", fields, |reader, node| Some(reader.restart(node)))
        {
            spec.restart = restart;
            self.restart_in_vain(fields, spec, stops_all);
        }
        self.contradictions(fields, spec);
        let own_pids = self.key("pid_namespace", fields, |reader, node| {
            reader.bool("pid_namespace", node)
        });
        spec.pid_namespace = own_pids.unwrap_or_default();
        let own_pids = spec.pid_namespace;
        let keep = self.key("survivors", fields, |reader, node| {
            if own_pids {
                let message = "nobody survives the end of a pid namespace".into();
                let hint = Some("take `survivors` out, or `pid_namespace`".into());
                reader.error(node.mark, message, hint);
            }
            reader.survivors(node)
        });
        spec.keep = keep.unwrap_or_default();
        spec.min_guarantee = self.key("min_guarantee", fields, Reader::min_guarantee);
    }

    /// What a role says where the file itself says nothing.
    fn implied_by_role(&mut self, fields: &Fields<'_>, spec: &mut Spec) {
        match spec.role {
            Some(Role::Main) => spec.restart.when = RestartWhen::Never,
            Some(Role::Init) => {
                let stays = fields.get("oneshot").filter(|_| !spec.oneshot);
                if let Some(node) = stays {
                    let message = "an init runs to completion: it is a oneshot".into();
                    let hint = Some("take `oneshot` out, or write `role: sidecar`".into());
                    self.error(node.mark, message, hint);
                }
                spec.oneshot = true;
                if fields.get("on_failure").is_none() {
                    spec.on_failure = EndAction::StopAll;
                }
            }
            Some(Role::Sidecar) if spec.oneshot => {
                if let Some(node) = fields.get("role") {
                    let message = "a sidecar is there until the mains have gone: it is no oneshot";
                    let hint = Some("write `role: init`, or take `oneshot` out".into());
                    self.error(node.mark, message.into(), hint);
                }
            }
            Some(Role::Sidecar) | None => {}
        }
    }

    /// `restart` that decides nothing, or keeps another key from ever deciding.
    fn restart_in_vain(&mut self, fields: &Fields<'_>, spec: &Spec, stops_all: bool) {
        let Some(mark) = fields.get("restart").map(|node| node.mark) else {
            return;
        };
        if spec.oneshot {
            let message = "`restart` has no effect on a oneshot".into();
            let hint = Some("leave it out: a oneshot runs once for each start".into());
            self.problem(Severity::Warning, mark, message, hint);
        } else if stops_all
            && spec.restart.when == RestartWhen::Always
            && spec.restart.burst.is_none()
        {
            let message = "it is always started again, so that its end never stops everything";
            let hint = "give `restart` a `burst`, or `policy: on-failure`, or leave it out";
            self.problem(Severity::Warning, mark, message.into(), Some(hint.into()));
        }
    }

    fn contradictions(&mut self, fields: &Fields<'_>, spec: &Spec) {
        for key in ["on_end", "on_failure"] {
            let ignores = match key {
                "on_end" => spec.on_end == EndAction::Ignore,
                _ => spec.on_failure == EndAction::Ignore,
            };
            if spec.essential
                && ignores
                && let (Some(_), Some(mark)) = (fields.get(key), fields.key_mark(key))
            {
                let message = format!("`{key}: ignore` has no effect: the service is essential");
                let hint = Some("take one of the two out".into());
                self.problem(Severity::Warning, mark, message, hint);
            }
        }
    }

    fn survivors(&mut self, node: &Node) -> Option<Vec<String>> {
        let Kind::Map(pairs) = &node.kind else {
            let message = format!("`survivors` must be a mapping, this is {}", node.describe());
            let hint = Some("write `survivors: {keep: [NAME]}`".into());
            self.error(node.mark, message, hint);
            return None;
        };
        let fields = Fields::new(self, pairs, keys::SURVIVORS, Some("survivors"));
        let mut keep: Vec<String> = Vec::new();
        for (pattern, item) in self.texts("survivors.keep", fields.get("keep")?) {
            if let Some((message, hint)) = bad_pattern(pattern) {
                self.error(item.mark, message, Some(hint));
            } else if !keep.iter().any(|known| known == pattern) {
                keep.push(pattern.to_owned());
            }
        }
        Some(keep)
    }

    fn min_guarantee(&mut self, node: &Node) -> Option<Guarantee> {
        let mut least = Guarantee::LEAST;
        let (mut holds, mut tells) = (false, false);
        let words = self.texts("min_guarantee", node);
        let words = words
            .into_iter()
            .flat_map(|(text, item)| text.split_whitespace().map(|word| (word, item.mark)));
        let words: Vec<(&str, Mark)> = words.collect();
        if words.is_empty() {
            let hint = "`cgroup-kill marked` is the most, `subreaper` the least";
            let message = "`min_guarantee` says nothing".to_owned();
            self.error(node.mark, message, Some(hint.into()));
        }
        for (word, mark) in words {
            let twice = match WORDS.iter().find(|(known, _)| *known == word) {
                Some((_, Level::Holds(containment))) => {
                    least.containment = *containment;
                    std::mem::replace(&mut holds, true)
                }
                Some((_, Level::Tells(scan))) => {
                    least.scan = *scan;
                    std::mem::replace(&mut tells, true)
                }
                None => {
                    let known = WORDS.map(|(word, _)| word);
                    let near = keys::nearest(word, &known);
                    let hint = match near {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => {
                            let places =
                                |(_, level): &&(_, Level)| matches!(level, Level::Holds(_));
                            let (places, scans) =
                                known.split_at(WORDS.iter().filter(places).count());
                            format!(
                                "one of {}, one of {}, or one of each",
                                places.join(", "),
                                scans.join(", ")
                            )
                        }
                    };
                    let word = word.escape_debug();
                    let message = format!("`{word}` is no word of a guarantee");
                    self.error(mark, message, Some(hint));
                    false
                }
            };
            if twice {
                let message = format!("`min_guarantee` asks twice for the same: `{word}`");
                let hint = "one word for what holds processes together, one for the scan";
                self.error(mark, message, Some(hint.into()));
            }
        }
        Some(least)
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
                    Some("the delay grows from the one to the other: make it no shorter".into()),
                ),
                None => restart.max_delay = restart.delay,
            }
        }
        restart
    }
}

/// Why a pattern can match no command name, or matches all, and what to write.
fn bad_pattern(pattern: &str) -> Option<(String, String)> {
    let fixed: usize = pattern
        .chars()
        .filter(|c| *c != '*')
        .map(char::len_utf8)
        .sum();
    let hint = "the name of a command as in /proc/PID/comm; `*` and `?` stand for anything";
    let shown = pattern.escape_debug();
    if pattern.chars().all(|c| matches!(c, '*' | '?')) {
        let message = format!("`{shown}` would keep everything that is not the main process");
        return Some((message, hint.into()));
    }
    if pattern.contains('/') {
        return Some((
            format!("`{shown}` is a path, not a command name"),
            hint.into(),
        ));
    }
    if fixed > COMM_BYTES {
        let mut cut = String::new();
        for c in pattern.chars() {
            if cut.len() + c.len_utf8() > COMM_BYTES {
                break;
            }
            cut.push(c);
        }
        let message = format!("`{shown}` matches nothing: the kernel keeps 15 bytes of a name");
        return Some((message, format!("write `{cut}`")));
    }
    None
}
