//! Reading receipts.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Everything a receipt has to show to say verified.
pub(crate) fn assert_verified(receipt: &Value) {
    assert_eq!(receipt["verdict"], "verified", "{receipt:#}");
    assert_eq!(receipt["survivors"], json!([]), "{receipt:#}");
    assert_eq!(receipt["reason"], Value::Null, "{receipt:#}");
    let rungs = rungs(receipt);
    assert_eq!(
        rungs.last().map(String::as_str),
        Some("fence"),
        "{receipt:#}"
    );
    let scan = rungs.iter().rposition(|rung| rung == "scan");
    let kill = rungs.iter().rposition(|rung| rung == "kill");
    assert!(scan.is_some() && kill < scan, "{receipt:#}");
}

/// The words of a receipt's rungs.
pub(crate) fn rungs(receipt: &Value) -> Vec<String> {
    let rungs = receipt["rungs"].as_array().unwrap();
    rungs
        .iter()
        .map(|rung| rung["rung"].as_str().unwrap().to_owned())
        .collect()
}

/// The pids in one of a receipt's lists.
pub(crate) fn pids(receipt: &Value, list: &str) -> BTreeSet<u32> {
    let list = receipt[list].as_array().unwrap();
    list.iter()
        .map(|process| u32::try_from(process["pid"].as_u64().unwrap()).unwrap())
        .collect()
}
