//! Services with their processes, and what they depend on.

use std::collections::{BTreeMap, BTreeSet};

use super::{clean, colored, count};
use crate::api::{ProcessUsage, ServiceStatus, Usage};
use crate::cli::output::Style;

/// Nobody reads further to the right.
const DEEPEST: usize = 60;

/// One line and what hangs below it.
struct Node {
    text: String,
    below: Vec<Node>,
}

/// `nought tree`: whatever nobody waits for, and below it what it waits for. A service that was
/// shown is not opened again.
pub(in crate::cli) fn tree(
    known: &BTreeMap<&str, &Usage>,
    names: &[String],
    style: Style,
) -> String {
    if known.is_empty() {
        return "no services\n".into();
    }
    let mut forest = Forest {
        known,
        style,
        shown: BTreeSet::new(),
    };
    let mut out = String::new();
    let named: Vec<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| known.contains_key(name))
        .collect();
    let roots = if names.is_empty() {
        roots(known)
    } else {
        named
    };
    for root in roots {
        let node = forest.service(root, "", 0);
        draw(&node, &mut out);
    }
    // What only waits for each other has no root.
    if names.is_empty() {
        for name in known.keys() {
            if !forest.shown.contains(name) {
                let node = forest.service(name, "", 0);
                draw(&node, &mut out);
            }
        }
    }
    out
}

fn roots<'a>(known: &BTreeMap<&'a str, &'a Usage>) -> Vec<&'a str> {
    let waited: BTreeSet<&str> = known
        .values()
        .flat_map(|usage| dependencies(&usage.status))
        .map(|(_, name)| name)
        .collect();
    let names = known.keys().copied();
    names.filter(|name| !waited.contains(name)).collect()
}

/// Each name it waits for, once, with the word that says how.
fn dependencies(status: &ServiceStatus) -> Vec<(&'static str, &str)> {
    let requires = status
        .requires
        .keys()
        .map(|name| ("requires ", name.as_str()));
    let after = status
        .after
        .keys()
        .filter(|name| !status.requires.contains_key(*name))
        .map(|name| ("after ", name.as_str()));
    requires.chain(after).collect()
}

struct Forest<'a> {
    known: &'a BTreeMap<&'a str, &'a Usage>,
    style: Style,
    shown: BTreeSet<&'a str>,
}

impl<'a> Forest<'a> {
    fn service(&mut self, name: &'a str, how: &str, depth: usize) -> Node {
        let shown = clean(name);
        let Some(usage) = self.known.get(name) else {
            let text = format!("{how}{shown}  {}", self.style.bad("unknown"));
            return Node {
                text,
                below: Vec::new(),
            };
        };
        let state = colored(self.style, usage.status.state.as_str()).shown;
        if !self.shown.insert(name) {
            return Node {
                text: format!("{how}{shown}  {state}, shown above"),
                below: Vec::new(),
            };
        }
        let mut text = format!("{how}{shown}  {state}");
        if !usage.processes.is_empty() {
            let processes = count(usage.processes.len(), "process", "processes");
            text.push_str(&format!(", {processes}"));
        }
        let mut below = processes(&usage.processes);
        for (how, name) in dependencies(&usage.status) {
            if depth == DEEPEST {
                below.push(Node {
                    text: format!("{how}{}  …", clean(name)),
                    below: Vec::new(),
                });
            } else {
                below.push(self.service(name, how, depth + 1));
            }
        }
        Node { text, below }
    }
}

/// Those whose parents are not of the same service, and the children of each of the others, in
/// their order.
pub(in crate::cli) fn descent(
    all: &[ProcessUsage],
) -> (Vec<&ProcessUsage>, BTreeMap<u32, Vec<&ProcessUsage>>) {
    let pids: BTreeSet<u32> = all.iter().map(|process| process.pid).collect();
    let mut children: BTreeMap<u32, Vec<&ProcessUsage>> = BTreeMap::new();
    let mut tops = Vec::new();
    for process in all {
        if pids.contains(&process.ppid) && process.ppid != process.pid {
            children.entry(process.ppid).or_default().push(process);
        } else {
            tops.push(process);
        }
    }
    (tops, children)
}

/// Processes below their parents.
fn processes(all: &[ProcessUsage]) -> Vec<Node> {
    let (tops, mut children) = descent(all);
    tops.into_iter()
        .map(|top| process(top, &mut children, 0))
        .collect()
}

fn process(
    at: &ProcessUsage,
    children: &mut BTreeMap<u32, Vec<&ProcessUsage>>,
    depth: usize,
) -> Node {
    let below = match depth {
        DEEPEST => Vec::new(),
        _ => children.remove(&at.pid).unwrap_or_default(),
    };
    Node {
        text: format!("{} {}", at.pid, clean(&at.comm)),
        below: below
            .into_iter()
            .map(|child| process(child, children, depth + 1))
            .collect(),
    }
}

fn draw(node: &Node, out: &mut String) {
    out.push_str(&node.text);
    out.push('\n');
    draw_below(&node.below, "", out);
}

fn draw_below(nodes: &[Node], indent: &str, out: &mut String) {
    for (index, node) in nodes.iter().enumerate() {
        let last = index + 1 == nodes.len();
        let (branch, rest) = if last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        out.push_str(&format!("{indent}{branch}{}\n", node.text));
        draw_below(&node.below, &format!("{indent}{rest}"), out);
    }
}
