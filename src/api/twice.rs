//! JSON in which a name that stands twice in one object is noticed.
//!
//! RFC 8259 leaves open which of the two counts, and readers differ. A request whose `method`
//! another reader understands otherwise must not be carried out.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::rpc::MAX_BATCH_CALLS;

/// So many names of one request that stand twice are noticed.
const NAMES: usize = 8;

/// A JSON value as it came.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// The value; of two that bear one name in one object the later one.
    pub value: Value,
    /// Which names stand twice, by the place in the outermost array (0 where there is none). No
    /// more than [`MAX_BATCH_CALLS`] places are looked at: what is longer is refused anyway.
    pub(super) twice: Vec<(usize, Twice)>,
}

/// A name that stands twice in one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Twice {
    /// Whether the object is the request itself, and not something inside of it.
    pub(super) of_request: bool,
    /// The name.
    pub(super) name: String,
}

impl From<Value> for Frame {
    fn from(value: Value) -> Self {
        let twice = Vec::new();
        Frame { value, twice }
    }
}

/// Reads one value.
///
/// # Errors
/// When it is no JSON, or nested deeper than serde_json goes (128).
pub(super) fn read(bytes: &[u8]) -> serde_json::Result<Frame> {
    let found = RefCell::<BTreeMap<usize, BTreeSet<Twice>>>::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let several = bytes.first() == Some(&b'[');
    let at = At {
        found: &found,
        call: 0,
        depth: 0,
        several,
    };
    let value = at.deserialize(&mut json)?;
    json.end()?;
    let found = found.into_inner().into_iter();
    let twice = found.flat_map(|(call, names)| names.into_iter().map(move |name| (call, name)));
    let twice = twice.collect();
    Ok(Frame { value, twice })
}

/// Where in the frame a value is.
#[derive(Clone, Copy)]
struct At<'a> {
    found: &'a RefCell<BTreeMap<usize, BTreeSet<Twice>>>,
    /// The place in the outermost array.
    call: usize,
    depth: usize,
    several: bool,
}

impl At<'_> {
    fn inside(self) -> Self {
        At {
            depth: self.depth + 1,
            ..self
        }
    }

    fn note(self, name: &str) {
        let of_request = self.depth == usize::from(self.several);
        if self.call >= MAX_BATCH_CALLS {
            return;
        }
        let mut found = self.found.borrow_mut();
        let here = found.entry(self.call).or_default();
        // One name inside of a request is enough to say, and a few of its own: a crowd of them
        // costs no more. Whether the id does is always wanted.
        let full = match of_request {
            true => here.len() >= NAMES && name != "id",
            false => here.iter().any(|twice| !twice.of_request),
        };
        if !full {
            let name = name.to_owned();
            here.insert(Twice { of_request, name });
        }
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let outermost = self.depth == 0;
        let mut inside = self.inside();
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(inside)? {
            values.push(value);
            inside.call += usize::from(outermost);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self.inside())?;
            if map.contains_key(&name) {
                self.note(&name);
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twice(text: &str) -> Vec<(usize, bool, String)> {
        let frame = read(text.as_bytes()).unwrap();
        // The same value as everybody else reads.
        assert_eq!(frame.value, serde_json::from_str::<Value>(text).unwrap());
        let found = frame.twice.into_iter();
        found
            .map(|(call, twice)| (call, twice.of_request, twice.name))
            .collect()
    }

    #[test]
    fn names_that_stand_twice_are_found_where_they_stand() {
        let found = |call, of_request, name: &str| (call, of_request, name.to_owned());
        assert_eq!(twice(r#"{"a": {"b": 1}, "b": [{"a": 1}, {"a": 2}]}"#), []);
        assert_eq!(twice(r#"{"a": 1, "b": 2, "a": 1}"#), [found(0, true, "a")]);
        assert_eq!(twice(r#"{"a": 1, "\u0061": 1}"#), [found(0, true, "a")]);
        assert_eq!(
            twice(r#"{"p": {"q": [{"a": 1, "a": 2}], "q": 3}, "m": "", "m": "", "i": 1, "i": 1}"#),
            [
                found(0, false, "a"),
                found(0, true, "i"),
                found(0, true, "m")
            ]
        );
        assert_eq!(
            twice(r#"[{"a": 1}, {"a": 1, "a": 2}, 5, {"p": [{"b": 1, "b": 2}]}]"#),
            [found(1, true, "a"), found(3, false, "b")]
        );
        assert_eq!(twice(r#"[[{"a": 1, "a": 2}]]"#), [found(0, false, "a")]);
    }

    #[test]
    fn every_kind_of_value_comes_out_as_it_went_in() {
        for text in [
            r#"[null, true, -1, 18446744073709551615, 1.5, 1e300, "x\n\u00e9", [], {}]"#,
            r#"{"a": [{"b": {"c": [1, [2, [3]]]}}]}"#,
        ] {
            assert_eq!(twice(text), []);
        }
        let deep = "[".repeat(129) + &"]".repeat(129);
        assert!(read(deep.as_bytes()).is_err());
        assert!(read(b"{} x").is_err());
    }

    #[test]
    fn a_crowd_of_names_costs_little() {
        let many = format!(
            "[{}{{}}]",
            r#"{"a": {"b": 1, "b": 2, "b": 3}},"#.repeat(9000)
        );
        assert_eq!(twice(&many).len(), MAX_BATCH_CALLS);
        // As many different ones in one request as a request may hold.
        let pairs: Vec<String> = (0..60_000)
            .map(|n| format!("\"{n}\":1,\"{n}\":1"))
            .collect();
        let found = twice(&format!("{{{},\"id\":1,\"id\":1}}", pairs.join(",")));
        assert_eq!(found.len(), NAMES + 1);
        assert!(
            found
                .iter()
                .any(|(_, of_request, name)| *of_request && name == "id")
        );
    }
}
