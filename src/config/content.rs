//! What a service file holds, as JSON: read as the loader reads it, sound as a service or not.

use std::path::Path;

use serde_json::{Map, Number, Value};

use super::keys::{self, Twice, unique};
use super::read::Reader;
use super::yaml::{Kind, Node};
use super::{Dialect, Problem};

/// The keys and values of a service file. Scalars are what YAML's core schema makes of them; a
/// number that JSON would write otherwise (`027`, `1e3`, `1.50`) stays the text that it is.
///
/// # Errors
/// The problems that keep the text from being a mapping of keys: no YAML, no mapping, a key that
/// occurs twice.
pub fn content(dialect: Dialect, text: &str, path: &Path) -> Result<Value, Vec<Problem>> {
    let mut reader = Reader::new(dialect, text, path);
    let twice = match dialect {
        Dialect::Nought => Twice::Refused,
        Dialect::Zinit => Twice::RefusedOf(keys::ZINIT),
    };
    let value = reader
        .root()
        .map(|(_, pairs)| mapping(&mut reader, &pairs, twice));
    let problems = reader.finish(None).problems;
    match value {
        Some(value) if !problems.iter().any(Problem::is_error) => Ok(value),
        _ => Err(problems),
    }
}

fn mapping(reader: &mut Reader<'_>, pairs: &[(Node, Node)], twice: Twice) -> Value {
    let inner = match reader.dialect {
        Dialect::Nought => Twice::Refused,
        Dialect::Zinit => Twice::LastCounts,
    };
    let pairs = unique(reader, pairs, twice).into_iter();
    let pairs: Vec<(String, &Node)> = pairs.map(|((key, _), node)| (key.into(), node)).collect();
    let members = pairs
        .into_iter()
        .map(|(key, node)| (key, value(reader, node, inner)));
    Value::Object(members.collect::<Map<_, _>>())
}

fn value(reader: &mut Reader<'_>, node: &Node, twice: Twice) -> Value {
    match &node.kind {
        Kind::Map(pairs) => mapping(reader, pairs, twice),
        Kind::List(items) => {
            let items = items.iter().map(|item| value(reader, item, twice));
            Value::Array(items.collect())
        }
        Kind::Scalar { .. } if node.is_null() => Value::Null,
        Kind::Scalar { text, plain: true } => plain(text),
        Kind::Scalar { text, plain: false } => Value::from(text.as_str()),
    }
}

fn plain(text: &str) -> Value {
    match text {
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => number(text).map_or_else(|| Value::from(text), Value::Number),
    }
}

fn number(text: &str) -> Option<Number> {
    let number = serde_json::from_str::<Number>(text).ok()?;
    (number.to_string() == text).then_some(number)
}
