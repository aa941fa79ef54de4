//! What depends on what, with states.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::svg::{STYLE, cut};
use super::xml::escaped;
use crate::api::{ServiceState, ServiceStatus};

const BOX_W: f64 = 150.0;
const BOX_H: f64 = 42.0;
const GAP_X: f64 = 70.0;
const GAP_Y: f64 = 16.0;
const MARGIN: f64 = 20.0;

#[expect(clippy::cast_precision_loss, reason = "a number of services")]
fn to_float(count: usize) -> f64 {
    count as f64
}

/// One row of a layer: a service, or the way of an arrow that goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Row {
    Node(usize),
    Way(usize),
}

/// An arrow from what is waited for to who waits, by their places.
struct Arrow {
    from: usize,
    to: usize,
    requires: bool,
}

pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) state: ServiceState,
    /// What it waits for, and whether it requires it.
    pub(crate) on: Vec<(String, bool)>,
    /// Everything it waits for stands in earlier ones.
    layer: usize,
}

/// Services, those first that wait for nobody.
pub(crate) struct Graph {
    pub(crate) nodes: Vec<Node>,
}

impl Graph {
    pub(crate) fn of(services: &[ServiceStatus]) -> Self {
        let mut nodes: Vec<Node> = services
            .iter()
            .map(|status| {
                let after = status.after.keys().map(|name| (name.clone(), false));
                let after = after.filter(|(name, _)| !status.requires.contains_key(name));
                let requires = status.requires.keys().map(|name| (name.clone(), true));
                Node {
                    name: status.name.clone(),
                    state: status.state,
                    on: after.chain(requires).collect(),
                    layer: 0,
                }
            })
            .collect();
        layer(&mut nodes);
        nodes.sort_by(|a, b| (a.layer, &a.name).cmp(&(b.layer, &b.name)));
        Self { nodes }
    }

    pub(crate) fn document(&self) -> Value {
        let nodes = self.nodes.iter().map(|node| {
            let on = |requires: bool| {
                let of = node.on.iter().filter(move |(_, r)| *r == requires);
                of.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
            };
            json!({
                "service": node.name,
                "state": node.state.as_str(),
                "layer": node.layer,
                "after": on(false),
                "requires": on(true),
            })
        });
        json!({"services": nodes.collect::<Vec<_>>()})
    }

    /// In layers from left to right: what starts first stands left.
    pub(crate) fn svg(&self) -> String {
        let arrows = self.arrows();
        let rows = self.rows(&arrows);
        let at = |row: Row, layer: usize| {
            let row = rows
                .get(layer)
                .and_then(|rows| rows.iter().position(|r| *r == row));
            let (x, y) = (to_float(layer) * (BOX_W + GAP_X), BOX_H + GAP_Y);
            (MARGIN + x, MARGIN + to_float(row.unwrap_or_default()) * y)
        };
        let most = rows.iter().map(Vec::len).max().unwrap_or(1).max(1);
        let width = 2.0 * MARGIN + to_float(rows.len().max(1)) * (BOX_W + GAP_X) - GAP_X;
        let height = 2.0 * MARGIN + to_float(most) * (BOX_H + GAP_Y) - GAP_Y;
        let mut out = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">{STYLE}\
             <title>{} services and what they wait for</title>\
             <rect class=\"box\" width=\"{width}\" height=\"{height}\"/>",
            self.nodes.len()
        );
        for (n, arrow) in arrows.iter().enumerate() {
            let (from, to) = (self.layer_of(arrow.from), self.layer_of(arrow.to));
            let ways = (from + 1..to).map(|layer| at(Row::Way(n), layer));
            let ends = (at(Row::Node(arrow.from), from), at(Row::Node(arrow.to), to));
            let class = if arrow.requires {
                "edge requires"
            } else {
                "edge"
            };
            draw(ends, ways, class, &mut out);
        }
        for (n, node) in self.nodes.iter().enumerate() {
            let (x, y) = at(Row::Node(n), node.layer);
            let state = node.state.as_str();
            let _ = write!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{BOX_W}\" height=\"{BOX_H}\" rx=\"6\" fill=\"{}\"/>\
                 <svg x=\"{}\" y=\"{y}\" width=\"{}\" height=\"{BOX_H}\">\
                 <text y=\"17\" style=\"fill:#1f2328;font-weight:bold\">{}</text>\
                 <text y=\"33\" style=\"fill:#424a53\">{state}</text></svg>",
                color(node.state),
                x + 10.0,
                BOX_W - 14.0,
                escaped(&cut(&node.name, 20)),
            );
        }
        out.push_str("</svg>\n");
        out
    }

    fn layer_of(&self, node: usize) -> usize {
        self.nodes.get(node).map_or(0, |node| node.layer)
    }

    fn arrows(&self) -> Vec<Arrow> {
        let place = |name: &str| self.nodes.iter().position(|node| node.name == name);
        let mut arrows = Vec::new();
        for (to, node) in self.nodes.iter().enumerate() {
            for (on, requires) in &node.on {
                arrows.extend(place(on).map(|from| Arrow {
                    from,
                    to,
                    requires: *requires,
                }));
            }
        }
        arrows
    }

    /// What stands in each layer, from top to bottom: near what it waits for, and every arrow
    /// that passes has a row of its own, so that none runs behind a service.
    fn rows(&self, arrows: &[Arrow]) -> Vec<Vec<Row>> {
        let layers = self
            .nodes
            .iter()
            .map(|node| node.layer + 1)
            .max()
            .unwrap_or(0);
        let mut rows: Vec<Vec<Row>> = Vec::with_capacity(layers);
        for layer in 0..layers {
            let nodes = (0..self.nodes.len()).filter(|n| self.layer_of(*n) == layer);
            let passes = |arrow: &Arrow| {
                self.layer_of(arrow.from) < layer && layer < self.layer_of(arrow.to)
            };
            let ways = (0..arrows.len()).filter(|n| arrows.get(*n).is_some_and(passes));
            let mut here: Vec<Row> = nodes.map(Row::Node).chain(ways.map(Row::Way)).collect();
            let before = layer.checked_sub(1).and_then(|layer| rows.get(layer));
            if let Some(before) = before {
                here.sort_by_cached_key(|row| (self.height(*row, arrows, before), *row));
            }
            rows.push(here);
        }
        rows
    }

    /// Where, in the layer before, the things are that lead to it: the mean, in thousandths.
    fn height(&self, row: Row, arrows: &[Arrow], before: &[Row]) -> usize {
        let leads = |n: usize, arrow: &Arrow| match row {
            Row::Way(way) => way == n,
            Row::Node(node) => arrow.to == node,
        };
        let own = arrows
            .iter()
            .enumerate()
            .filter(|(n, arrow)| leads(*n, arrow));
        let heights: Vec<usize> = own
            .filter_map(|(n, arrow)| {
                let through = |r: &Row| *r == Row::Way(n) || *r == Row::Node(arrow.from);
                before.iter().position(through)
            })
            .collect();
        heights.iter().sum::<usize>() * 1000 / heights.len().max(1)
    }
}

/// From the right side of what is waited for, through free rows, to the left side of who waits.
fn draw(
    (from, to): ((f64, f64), (f64, f64)),
    ways: impl Iterator<Item = (f64, f64)>,
    class: &str,
    out: &mut String,
) {
    let middle = |y: f64| y + BOX_H / 2.0;
    let (mut x, mut y) = (from.0 + BOX_W, middle(from.1));
    let _ = write!(out, "<path class=\"{class}\" d=\"M{x:.1} {y:.1}");
    let bend_to = |nx: f64, ny: f64, out: &mut String, x: &mut f64, y: &mut f64| {
        let bend = ((nx - *x) / 2.0).max(30.0);
        let _ = write!(
            out,
            " C{:.1} {:.1} {:.1} {ny:.1} {nx:.1} {ny:.1}",
            *x + bend,
            *y,
            nx - bend
        );
        (*x, *y) = (nx, ny);
    };
    for way in ways {
        bend_to(way.0, middle(way.1), out, &mut x, &mut y);
        x += BOX_W;
        let _ = write!(out, " H{x:.1}");
    }
    bend_to(to.0, middle(to.1), out, &mut x, &mut y);
    let _ = write!(
        out,
        "\"/><path class=\"arrow\" d=\"M{x:.1} {y:.1} l-7 -4 v8 z\"/>"
    );
}

/// What a state is filled with.
pub(crate) fn color(state: ServiceState) -> &'static str {
    match state {
        ServiceState::Up | ServiceState::Done | ServiceState::Listening => "#aceebb",
        ServiceState::Failed | ServiceState::Lingering => "#ffcecb",
        ServiceState::Down => "#eaeef2",
        _ => "#f8e3a1",
    }
}

/// The longest way to each; what is on a cycle, or waits for one, comes last.
fn layer(nodes: &mut [Node]) {
    let places: BTreeMap<String, usize> = nodes
        .iter()
        .enumerate()
        .map(|(n, node)| (node.name.clone(), n))
        .collect();
    let on: Vec<Vec<usize>> = nodes
        .iter()
        .map(|node| {
            node.on
                .iter()
                .filter_map(|(name, _)| places.get(name).copied())
                .collect()
        })
        .collect();
    let mut layers: Vec<Option<usize>> = vec![None; nodes.len()];
    for _ in 0..=nodes.len() {
        let mut changed = false;
        for n in 0..nodes.len() {
            let below: Option<Vec<usize>> = on[n].iter().map(|dep| layers[*dep]).collect();
            if layers[n].is_none()
                && let Some(below) = below
            {
                layers[n] = Some(below.iter().max().map_or(0, |most| most + 1));
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    let last = layers.iter().flatten().max().map_or(0, |most| most + 1);
    for (node, layer) in nodes.iter_mut().zip(layers) {
        node.layer = layer.unwrap_or(last);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn graph() -> Graph {
        let service = |name: &str, after: &[&str], requires: &[&str], state| {
            let of = |names: &[&str]| {
                let names = names
                    .iter()
                    .map(|name| ((*name).to_owned(), "up".to_owned()));
                names.collect::<BTreeMap<_, _>>()
            };
            ServiceStatus {
                name: name.into(),
                state,
                after: of(after),
                requires: of(requires),
                ..ServiceStatus::default()
            }
        };
        let (up, failed) = (ServiceState::Up, ServiceState::Failed);
        Graph::of(&[
            service("web", &["cache"], &["db"], failed),
            service("cache", &[], &[], up),
            service("db", &["nobody"], &[], up),
            service("a\"<b", &["c"], &[], up),
            service("c", &["a\"<b"], &[], up),
        ])
    }

    #[test]
    fn pictures_quote_what_names_may_hold() {
        let svg = graph().svg();
        assert!(
            svg.contains("a&quot;&lt;b") && !svg.contains("a\"<b"),
            "{svg}"
        );
        assert_eq!(svg.matches("class=\"edge").count(), 4);
    }
}
