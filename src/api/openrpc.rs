//! The OpenRPC document, made of the same list that the dispatcher is tested against.

use serde_json::{Value, json};

use super::ErrorCode;
use super::catalog::{METHODS, Method};

/// The version of the OpenRPC specification that the document follows.
const OPENRPC: &str = "1.3.2";

/// The document (<https://spec.open-rpc.org>).
pub fn openrpc() -> Value {
    json!({
        "openrpc": OPENRPC,
        "info": {
            "title": "nought",
            "description": "A cgroup-v2 service supervisor. zinit's methods answer as zinit's; \
                            parameters may be given by position or by name.",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "methods": METHODS.iter().map(method).collect::<Vec<_>>(),
        "components": {"errors": errors()},
    })
}

fn method(method: &Method) -> Value {
    let params = method.params.iter().map(|param| {
        json!({"name": param.name, "required": param.required, "schema": schema(param.schema)})
    });
    let errors = method
        .errors
        .iter()
        .map(|name| json!({"$ref": format!("#/components/errors/{name}")}));
    json!({
        "name": method.name,
        "summary": method.summary,
        "paramStructure": "either",
        "params": params.collect::<Vec<_>>(),
        "result": {"name": "result", "schema": schema(method.result)},
        "errors": errors.collect::<Vec<_>>(),
    })
}

/// A schema of the list, which a test shows to be JSON.
fn schema(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}

fn errors() -> Value {
    let errors = ErrorCode::all().map(|code| {
        let error = json!({"code": code.number(), "message": code.name()});
        (code.name().to_owned(), error)
    });
    Value::Object(errors.collect())
}
