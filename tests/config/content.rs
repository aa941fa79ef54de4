//! What a file holds as JSON, which is what the loader sees.

use std::path::Path;

use nought::config::{Dialect, content};
use serde_json::{Value, json};

use crate::rendered;

fn held(dialect: Dialect, text: &str) -> Result<Value, String> {
    content(dialect, text, Path::new("web.yaml")).map_err(|all| rendered(&all))
}

#[test]
fn scalars_are_what_they_are_written_as() {
    let text = "exec: a\numask: 027\nnice: -5\nwait: 1.5\nbig: 18446744073709551615\n\
                bigger: 99999999999999999999999\nyes: yes\non: True\nnothing:\ntilde: ~\n\
                quoted: '5'\nexponent: 1e3\nhex: 0x1f\nlist: [1, a, [null]]\nalias: &x {a: 1}\n\
                again: *x\n";
    let expected = json!({
        "exec": "a", "umask": "027", "nice": -5, "wait": 1.5, "big": u64::MAX,
        "bigger": "99999999999999999999999", "yes": "yes", "on": true, "nothing": null,
        "tilde": null, "quoted": "5", "exponent": "1e3", "hex": "0x1f",
        "list": [1, "a", [null]], "alias": {"a": 1}, "again": {"a": 1},
    });
    assert_eq!(held(Dialect::Nought, text), Ok(expected));
    assert_eq!(held(Dialect::Nought, "# nothing\n"), Ok(json!({})));
}

#[test]
fn what_the_loader_refuses_to_read_is_refused() {
    for (text, why) in [
        (
            "exec: a\nexec: b\n",
            "web.yaml:2:1: error: `exec` occurs twice, first on line 1",
        ),
        (
            "env: {A: 1, A: 2}\n",
            "web.yaml:1:13: error: `A` occurs twice, first on line 1",
        ),
        (
            "just words\n",
            "a service file is a mapping of keys, this is `just words`",
        ),
        (
            "- exec\n",
            "a service file is a mapping of keys, this is a list",
        ),
        ("exec: [a\n", "this is not YAML"),
        ("{[a]: b}\n", "a key must be a word, this is a list"),
    ] {
        let said = held(Dialect::Nought, text).unwrap_err();
        assert!(said.contains(why), "{text}\n{said}");
    }
    // As in zinit, the last of two variables counts; of two keys of the file none does.
    let twice = held(Dialect::Zinit, "env: {A: 1, A: 2}\n");
    assert_eq!(twice, Ok(json!({"env": {"A": 2}})));
    assert!(held(Dialect::Zinit, "exec: a\nexec: b\n").is_err());
}
