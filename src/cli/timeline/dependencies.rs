//! What depends on what, as text: for a terminal and for Graphviz.

use std::fmt::Write as _;

use crate::api::ServiceState;
use crate::cli::output::Style;
use crate::cli::render::clean;
use crate::pictures::graph::{Graph, color};

/// A line for each service, those first that wait for nobody.
pub(super) fn text(graph: &Graph, style: Style) -> String {
    let names = graph
        .nodes
        .iter()
        .map(|node| clean(&node.name).chars().count());
    let width = names.max().unwrap_or(0);
    let mut text = String::new();
    for node in &graph.nodes {
        let state = node.state.as_str();
        let painted = match node.state {
            ServiceState::Up | ServiceState::Done | ServiceState::Listening => style.good(state),
            ServiceState::Failed | ServiceState::Lingering => style.bad(state),
            _ => style.warn(state),
        };
        let pad = " ".repeat(10_usize.saturating_sub(state.len()));
        let on: Vec<String> = node
            .on
            .iter()
            .map(|(name, requires)| {
                let sign = if *requires { "!" } else { "" };
                format!("{}{sign}", clean(name))
            })
            .collect();
        let arrow = if on.is_empty() { "" } else { "← " };
        let line = format!(
            "{:width$}  {painted}{pad}{arrow}{}",
            clean(&node.name),
            on.join(", ")
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str("← what it waits for, ! what it requires\n");
    text
}

/// For Graphviz: an edge from each service to what it waits for.
pub(super) fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| {
        let plain: String = clean(text)
            .chars()
            .flat_map(|c| match c {
                '"' | '\\' => vec!['\\', c],
                c => vec![c],
            })
            .collect();
        format!("\"{plain}\"")
    };
    let mut text =
        String::from("digraph nought {\n  rankdir=RL;\n  node [shape=box, style=filled];\n");
    for node in &graph.nodes {
        let state = node.state.as_str();
        let color = color(node.state);
        let label = quoted(&format!("{} ({state})", node.name));
        let _ = writeln!(
            text,
            "  {} [label={label}, fillcolor=\"{color}\"];",
            quoted(&node.name)
        );
    }
    for node in &graph.nodes {
        for (on, requires) in &node.on {
            let style = if *requires { "bold" } else { "solid" };
            let _ = writeln!(
                text,
                "  {} -> {} [style={style}];",
                quoted(&node.name),
                quoted(on)
            );
        }
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pictures::graph::tests::graph;

    #[test]
    fn who_waits_for_nobody_comes_first_and_a_cycle_last() {
        let style = Style { color: false };
        assert_eq!(
            text(&graph(), style),
            "cache  up\n\
             db     up        ← nobody\n\
             web    failed    ← cache, db!\n\
             a\"<b   up        ← c\n\
             c      up        ← a\"<b\n\
             ← what it waits for, ! what it requires\n"
        );
    }

    #[test]
    fn graphviz_reads_what_names_may_hold() {
        let dot = dot(&graph());
        assert!(dot.contains("\"web\" -> \"db\" [style=bold];"), "{dot}");
        assert!(dot.contains("\"a\\\"<b\" -> \"c\""), "{dot}");
    }
}
