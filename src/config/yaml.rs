//! YAML text as a tree in which every node knows its place. Bounded in depth and in nodes, so
//! that neither nesting nor aliases can make a small file large.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

/// Deeper nesting is refused; no service file needs more than three.
const MAX_DEPTH: usize = 32;
/// More nodes are refused, those that aliases repeat counted each time.
const MAX_NODES: usize = 50_000;

/// Where something stands in the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// From 1.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
    /// In characters, on its first line.
    pub(super) width: usize,
}

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) mark: Mark,
    pub(super) kind: Kind,
}

/// What a value is. Scalars keep their text: what they mean depends on who asks.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// Any scalar; `plain`: without quotes, so it may be a number, a bool or null.
    Scalar { text: String, plain: bool },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in its order, duplicates included.
    Map(Vec<(Node, Node)>),
}

impl Node {
    /// Whether this is YAML's null: nothing, `~`, `null`.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.kind, Kind::Scalar { text, plain: true }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What this is, in words.
    pub(super) fn describe(&self) -> String {
        match &self.kind {
            _ if self.is_null() => "nothing".into(),
            Kind::Scalar { text, .. } => {
                let short: String = text.chars().take(40).collect();
                let dots = if short.len() < text.len() { "…" } else { "" };
                format!("`{}{dots}`", short.escape_debug())
            }
            Kind::List(_) => "a list".into(),
            Kind::Map(_) => "a mapping".into(),
        }
    }

    fn nodes(&self) -> usize {
        match &self.kind {
            Kind::Scalar { .. } => 1,
            Kind::List(items) => 1 + items.iter().map(Node::nodes).sum::<usize>(),
            Kind::Map(pairs) => {
                pairs
                    .iter()
                    .map(|(k, v)| k.nodes() + v.nodes())
                    .sum::<usize>()
                    + 1
            }
        }
    }
}

/// Why a text is no tree.
#[derive(Debug)]
pub(super) struct Bad {
    pub(super) mark: Mark,
    pub(super) message: String,
    pub(super) hint: Option<&'static str>,
}

const START: Mark = Mark {
    line: 1,
    column: 1,
    width: 1,
};

/// What tags are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tags {
    /// Those of YAML's core schema: others would ask for types that service files do not have.
    Core,
    /// All; those of others have no effect.
    Any,
}

/// The one document of `text`; an empty text is a null.
pub(super) fn parse(text: &str, tags: Tags) -> Result<Node, Bad> {
    guarded(|| document(text, tags))
}

/// A panic of the parser is a problem of the one file: PID 1 reads these, and may not end.
fn guarded(read: impl FnOnce() -> Result<Node, Bad> + std::panic::UnwindSafe) -> Result<Node, Bad> {
    std::panic::catch_unwind(read).unwrap_or_else(|_| {
        Err(Bad {
            mark: START,
            message: "the YAML parser failed on this file".into(),
            hint: Some("write it more simply, and report the file as a bug"),
        })
    })
}

fn document(text: &str, tags: Tags) -> Result<Node, Bad> {
    let mut tree = Tree::new(tags);
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let (event, span) = event.map_err(|error| syntax(&error))?;
        tree.on_event(event, mark(span))?;
    }
    Ok(tree.root.unwrap_or(Node {
        mark: START,
        kind: Kind::Scalar {
            text: String::new(),
            plain: true,
        },
    }))
}

fn mark(span: Span) -> Mark {
    let same_line = span.end.line() == span.start.line();
    Mark {
        width: if same_line { span.len().max(1) } else { 1 },
        ..at(&span.start)
    }
}

fn at(marker: &Marker) -> Mark {
    Mark {
        line: marker.line().max(1),
        column: marker.col() + 1,
        width: 1,
    }
}

fn syntax(error: &ScanError) -> Bad {
    let info = error.info();
    let hint = if info.contains("tab") {
        "YAML is indented with blanks, never with tabs"
    } else if info.contains("mapping values") {
        "a value that contains `: ` needs quotes around it"
    } else {
        "look for a quote or bracket that is not closed, a missing `: `, or other indentation"
    };
    Bad {
        mark: at(error.marker()),
        message: format!("this is not YAML: {info}"),
        hint: Some(hint),
    }
}

/// A collection that is still open.
enum Open {
    List(Vec<Node>),
    Map(Vec<(Node, Node)>, Option<Node>),
}

struct Tree {
    tags: Tags,
    open: Vec<(Mark, usize, Open)>,
    anchors: BTreeMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

impl Tree {
    fn new(tags: Tags) -> Self {
        Tree {
            tags,
            open: Vec::new(),
            anchors: BTreeMap::new(),
            nodes: 0,
            root: None,
        }
    }

    fn on_event(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Bad> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if self.root.is_some() => Err(Bad {
                mark,
                message: "a second document begins here".into(),
                hint: Some("one file is one service: give each a file of its own"),
            }),
            Event::DocumentStart(_) => Ok(()),
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(node) => {
                    let node = node.clone();
                    self.count(node.nodes(), mark)?;
                    self.add(node, 0)
                }
                None => Err(Bad {
                    mark,
                    message: "this alias stands inside what it names".into(),
                    hint: Some("write out what is meant"),
                }),
            },
            Event::Scalar(text, style, anchor, tag) => {
                self.count(1, mark)?;
                let string = self.tagged_string(tag.as_deref(), mark)?;
                let plain = style == ScalarStyle::Plain && !string;
                let text = text.into_owned();
                self.add(
                    Node {
                        mark,
                        kind: Kind::Scalar { text, plain },
                    },
                    anchor,
                )
            }
            Event::SequenceStart(anchor, tag) => {
                self.tagged_string(tag.as_deref(), mark)?;
                self.begin(mark, anchor, Open::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                self.tagged_string(tag.as_deref(), mark)?;
                self.begin(mark, anchor, Open::Map(Vec::new(), None))
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some((mark, anchor, Open::List(items))) => {
                    let kind = Kind::List(items);
                    self.add(Node { mark, kind }, anchor)
                }
                Some((mark, anchor, Open::Map(pairs, _))) => {
                    let kind = Kind::Map(pairs);
                    self.add(Node { mark, kind }, anchor)
                }
                None => Ok(()),
            },
        }
    }

    fn begin(&mut self, mark: Mark, anchor: usize, open: Open) -> Result<(), Bad> {
        self.count(1, mark)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(Bad {
                mark,
                message: format!("this is nested deeper than {MAX_DEPTH} levels"),
                hint: Some("no key of a service file needs more than three"),
            });
        }
        self.open.push((mark, anchor, open));
        Ok(())
    }

    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Bad> {
        if anchor != 0 {
            self.count(node.nodes(), node.mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some((_, _, Open::List(items))) => items.push(node),
            Some((_, _, Open::Map(pairs, key))) => match key.take() {
                None => *key = Some(node),
                Some(key) => pairs.push((key, node)),
            },
        }
        Ok(())
    }

    fn count(&mut self, nodes: usize, mark: Mark) -> Result<(), Bad> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes <= MAX_NODES {
            return Ok(());
        }
        Err(Bad {
            mark,
            message: format!(
                "the file has more than {MAX_NODES} values, aliases counted each time"
            ),
            hint: Some("write less, and with fewer aliases: a service file is small"),
        })
    }

    /// Whether the tag says string.
    fn tagged_string(&self, tag: Option<&Tag>, mark: Mark) -> Result<bool, Bad> {
        match tag {
            None => Ok(false),
            Some(tag) if tag.is_yaml_core_schema() => Ok(tag.suffix == "str"),
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(true),
            Some(_) if self.tags == Tags::Any => Ok(false),
            Some(tag) => Err(Bad {
                mark,
                message: format!("the tag `{tag}` has no meaning here"),
                hint: Some("leave it out"),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_of_the_parser_stays_in_its_file() {
        let bad = guarded(|| panic!("a bug of the parser")).unwrap_err();
        assert_eq!(bad.message, "the YAML parser failed on this file");
        assert!(guarded(|| document("exec: a", Tags::Core)).is_ok());
    }
}
