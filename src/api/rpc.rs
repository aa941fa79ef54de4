//! JSON-RPC 2.0: requests, responses, and parameters by position or by name.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};

use super::twice::{Frame, Twice};
use super::{ErrorCode, RpcError};

/// What a client calls its request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Id {
    /// A number, echoed as it came.
    Number(Number),
    /// A string.
    String(String),
    /// Null: allowed, and what an answer carries when the id could not be read.
    Null,
}

/// A request as a client writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Always `2.0`.
    pub jsonrpc: String,
    /// Names the answer.
    pub id: Id,
    /// What to do.
    pub method: String,
    /// With what; an object or an array, absent for nothing.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub params: Value,
}

impl Request {
    /// The request `method` with `params`, to be answered with `id`.
    pub fn new(id: i64, method: &str, params: Value) -> Self {
        Request {
            jsonrpc: "2.0".into(),
            id: Id::Number(id.into()),
            method: method.into(),
            params,
        }
    }
}

/// An answer: exactly one of `result` and `error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Response {
    /// Always `2.0`.
    pub jsonrpc: String,
    /// The request's.
    pub id: Id,
    /// What came of it; `null` is a result too.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "present"
    )]
    pub result: Option<Value>,
    /// Why nothing came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<RpcError>,
}

/// A field that is there is `Some`, null included.
fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(from).map(Some)
}

impl Response {
    /// The answer to `id`.
    pub fn new(id: Id, outcome: Result<Value, RpcError>) -> Self {
        let (result, error) = match outcome {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error)),
        };
        Response {
            jsonrpc: "2.0".into(),
            id,
            result,
            error,
        }
    }
}

/// One call that arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// What the answer carries; `None`: a notification, which gets no answer at all.
    pub id: Option<Id>,
    /// What to do.
    pub method: String,
    /// With what.
    pub params: Params,
}

/// What one JSON value from a client is.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// One call, or the answer to what is none.
    Single(Result<Call, Response>),
    /// Several; their answers go into one array, in any order, none for notifications, and no
    /// array at all when there are none.
    Batch(Vec<Result<Call, Response>>),
}

/// A batch of more calls than this is refused as a whole: a megabyte of `{}` would otherwise
/// become a third of a million answers.
pub const MAX_BATCH_CALLS: usize = 256;

/// Reads what a client sent. An empty batch is a single invalid request (JSON-RPC 2.0,
/// section 6), and so is one of more than [`MAX_BATCH_CALLS`], and a call in which a name stands
/// twice in one object.
pub fn incoming(frame: impl Into<Frame>) -> Incoming {
    let Frame { value, twice } = frame.into();
    let of = |call: usize| -> Vec<&Twice> {
        let here = twice.iter().filter(|(at, _)| *at == call);
        here.map(|(_, twice)| twice).collect()
    };
    match value {
        Value::Array(items) if items.len() > MAX_BATCH_CALLS => {
            let error = RpcError::new(
                ErrorCode::InvalidRequest,
                format!(
                    "a batch of {} calls: at most {MAX_BATCH_CALLS} are taken at a time",
                    items.len()
                ),
            );
            let error = error.hint("send several smaller batches");
            Incoming::Single(Err(Response::new(Id::Null, Err(error))))
        }
        Value::Array(items) if !items.is_empty() => {
            let calls = items.into_iter().enumerate();
            Incoming::Batch(calls.map(|(n, item)| call(item, &of(n))).collect())
        }
        other => Incoming::Single(call(other, &of(0))),
    }
}

/// One call, in which these names stand twice.
fn call(value: Value, twice: &[&Twice]) -> Result<Call, Response> {
    let invalid = |id: Id, why: &str| {
        let error = RpcError::new(ErrorCode::InvalidRequest, why);
        let error = error.hint(r#"{"jsonrpc": "2.0", "id": 1, "method": "service_list"} is one"#);
        Response::new(id, Err(error))
    };
    let Value::Object(mut map) = value else {
        return Err(invalid(Id::Null, "a request is an object"));
    };
    let id = match map.remove("id").map(serde_json::from_value::<Id>) {
        None => None,
        Some(Ok(id)) => Some(id),
        Some(Err(_)) => return Err(invalid(Id::Null, "`id` is a number, a string or null")),
    };
    let or_null = || id.clone().unwrap_or(Id::Null);
    if let Some(first) = twice.first() {
        // Nobody knows which of two ids it has.
        let two_ids = twice.iter().any(|t| t.of_request && t.name == "id");
        let id = if two_ids { Id::Null } else { or_null() };
        let why = format!("`{}` stands twice in one object", first.name);
        return Err(invalid(id, &why));
    }
    if map.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Err(invalid(or_null(), "`jsonrpc` must be \"2.0\""));
    }
    let Some(Value::String(method)) = map.remove("method") else {
        return Err(invalid(or_null(), "`method` must be a string"));
    };
    let params = match map.remove("params") {
        None | Some(Value::Null) => Params::None,
        Some(Value::Array(values)) => Params::ByPosition(values),
        Some(Value::Object(values)) => Params::ByName(values),
        Some(_) => return Err(invalid(or_null(), "`params` is an array or an object")),
    };
    Ok(Call { id, method, params })
}

/// A call's parameters as they came.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Params {
    /// None were given.
    #[default]
    None,
    /// An array.
    ByPosition(Vec<Value>),
    /// An object.
    ByName(Map<String, Value>),
}

/// A method's parameters, typed; their order is that of the names.
pub trait Parameters: DeserializeOwned {
    /// Every parameter, in its position.
    const NAMES: &'static [&'static str];
}

impl Params {
    /// Reads them as `P`, whichever way they came. One that is absent or null has its default,
    /// where it has one.
    ///
    /// # Errors
    /// -32602 when one is missing, unknown, one too many, or of the wrong type; its message
    /// names it.
    pub fn read<P: Parameters>(self) -> Result<P, RpcError> {
        let invalid = |why: String| {
            RpcError::new(
                ErrorCode::InvalidParams,
                format!("invalid parameters: {why}"),
            )
            .hint(format!("they are, in this order: {}", listed(P::NAMES)))
        };
        let mut named = match self {
            Params::None => Map::new(),
            Params::ByName(map) => map,
            Params::ByPosition(values) if values.len() > P::NAMES.len() => {
                let (most, given) = (P::NAMES.len(), values.len());
                return Err(invalid(format!("{given} were given, the most is {most}")));
            }
            Params::ByPosition(values) => {
                let names = P::NAMES.iter().map(|name| (*name).to_string());
                names.zip(values).collect()
            }
        };
        if let Some(unknown) = named.keys().find(|name| !P::NAMES.contains(&name.as_str())) {
            return Err(invalid(format!("`{unknown}` is not one")));
        }
        named.retain(|_, value| !value.is_null());
        serde_json::from_value(Value::Object(named)).map_err(|error| invalid(error.to_string()))
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::{Named, Start};
    use super::*;
    use serde_json::json;

    #[test]
    fn calls_notifications_and_batches_are_told_apart() {
        let ok = |value| match incoming(value) {
            Incoming::Single(Ok(call)) => call,
            other => panic!("{other:?}"),
        };
        let call = ok(json!({"jsonrpc": "2.0", "id": 7, "method": "m", "more": 1}));
        assert_eq!(
            (call.id, call.params),
            (Some(Id::Number(7.into())), Params::None)
        );
        let call = ok(json!({"jsonrpc": "2.0", "id": null, "method": "m"}));
        assert_eq!(call.id, Some(Id::Null));
        let call = ok(json!({"jsonrpc": "2.0", "method": "m", "params": ["a"]}));
        assert_eq!(
            (call.id, call.params),
            (None, Params::ByPosition(vec![json!("a")]))
        );
        let one = json!({"jsonrpc": "2.0", "id": "x", "method": "m"});
        let Incoming::Batch(items) = incoming(json!([one, 1, one])) else {
            panic!("no batch");
        };
        assert_eq!(
            items.iter().map(Result::is_ok).collect::<Vec<_>>(),
            [true, false, true]
        );
    }

    #[test]
    fn what_is_no_request_is_answered_with_the_id_it_has() {
        for (value, id) in [
            (json!([]), Id::Null),
            (json!({}), Id::Null),
            (json!({"id": 3, "method": "m"}), Id::Number(3.into())),
            (
                json!({"id": 1.5, "method": "m"}),
                Id::Number(Number::from_f64(1.5).unwrap()),
            ),
            (
                json!({"id": u64::MAX, "method": "m"}),
                Id::Number(u64::MAX.into()),
            ),
            (json!({"id": true, "method": "m"}), Id::Null),
            (
                json!({"jsonrpc": "1.0", "id": 3, "method": "m"}),
                Id::Number(3.into()),
            ),
            (
                json!({"jsonrpc": "2.0", "id": 3, "method": 5}),
                Id::Number(3.into()),
            ),
            (
                json!({"jsonrpc": "2.0", "id": 3, "method": "m", "params": 1}),
                Id::Number(3.into()),
            ),
            (json!({"jsonrpc": "2.0", "id": [], "method": "m"}), Id::Null),
        ] {
            let Incoming::Single(Err(response)) = incoming(value.clone()) else {
                panic!("{value}");
            };
            assert_eq!(response.id, id, "{value}");
            assert_eq!(response.error.unwrap().code, -32600, "{value}");
        }
    }

    #[test]
    fn a_request_that_says_something_twice_is_none() {
        let read = |text: &str| incoming(super::super::twice::read(text.as_bytes()).unwrap());
        let one = Id::Number(1.into());
        for (text, name, id) in [
            (r#""id": 1, "method": "m", "method": "n""#, "method", &one),
            (r#""id": 1, "method": "m", "method": "m""#, "method", &one),
            (
                r#""id": 1, "method": "m", "params": [], "params": []"#,
                "params",
                &one,
            ),
            (r#""id": 1, "id": 2, "method": "m""#, "id", &Id::Null),
            (
                r#""id": 1, "method": "m", "params": {"name": "a", "name": "b"}"#,
                "name",
                &one,
            ),
            (
                r#""id": 1, "method": "m", "params": {"id": "a", "id": "b"}"#,
                "id",
                &one,
            ),
        ] {
            let call = format!(r#"{{"jsonrpc": "2.0", {text}}}"#);
            let Incoming::Single(Err(response)) = read(&call) else {
                panic!("{call}");
            };
            assert_eq!(response.id, *id, "{call}");
            let error = response.error.unwrap();
            assert_eq!(error.code, -32600, "{call}");
            let said = format!("`{name}` stands twice in one object");
            assert_eq!(error.message, said, "{call}");
            assert!(error.data.unwrap().hint.is_some(), "{call}");
            // One of a batch keeps the others from nothing.
            let good = r#"{"jsonrpc": "2.0", "id": 7, "method": "m"}"#;
            let Incoming::Batch(calls) = read(&format!("[{good}, {call}, {good}]")) else {
                panic!("{call}");
            };
            let sound: Vec<bool> = calls.iter().map(Result::is_ok).collect();
            assert_eq!(sound, [true, false, true], "{call}");
        }
    }

    #[test]
    fn parameters_come_by_position_and_by_name() {
        let start = Start {
            name: "web".into(),
            wait: true,
            force: false,
        };
        for params in [
            Params::ByPosition(vec![json!("web")]),
            Params::ByPosition(vec![json!("web"), json!(null), json!(false)]),
            Params::ByName([("name".to_string(), json!("web"))].into_iter().collect()),
        ] {
            assert_eq!(params.read::<Start>().unwrap(), start);
        }
        for (params, why) in [
            (Params::None, "missing field `name`"),
            (
                Params::ByPosition(vec![json!(1)]),
                "invalid type: integer `1`, expected a string",
            ),
            (
                Params::ByPosition(vec![json!("a"), json!("b")]),
                "2 were given, the most is 1",
            ),
            (
                Params::ByName([("nam".to_string(), json!("web"))].into_iter().collect()),
                "`nam` is not one",
            ),
        ] {
            let error = params.read::<Named>().unwrap_err();
            assert_eq!(error.code, -32602);
            assert_eq!(error.message, format!("invalid parameters: {why}"));
            assert_eq!(
                error.data.unwrap().hint.as_deref(),
                Some("they are, in this order: name")
            );
        }
    }

    #[test]
    fn a_null_result_stays_one() {
        let response = Response::new(Id::Number(1.into()), Ok(Value::Null));
        let text = serde_json::to_string(&response).unwrap();
        assert_eq!(text, r#"{"jsonrpc":"2.0","id":1,"result":null}"#);
        assert_eq!(serde_json::from_str::<Response>(&text).unwrap(), response);
    }
}
