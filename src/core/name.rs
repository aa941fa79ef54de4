//! What a service can be called. A name becomes a file's, a directory's and a cgroup's name, and is
//! shown in tables and logs.

/// Bytes of a name: with `.yaml` after it a file's name has at most 255 (path_resolution(7)).
pub const MAX_NAME_BYTES: usize = 250;

/// Why `name` cannot be a service's name; `None` when it can.
pub fn bad_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a service's name cannot be empty".into());
    }
    if name.len() > MAX_NAME_BYTES {
        let bytes = name.len();
        return Some(format!(
            "a service's name has at most {MAX_NAME_BYTES} bytes, this one has {bytes}"
        ));
    }
    let bad = name
        .chars()
        .find(|c| matches!(c, '/' | '\\' | '.') || is_hidden(*c))?;
    Some(format!("a service's name cannot contain {bad:?}"))
}

/// Whether a character is not seen where it is shown, or changes how others are seen: controls,
/// directions of writing, and what has no width (Unicode's Cc and Cf, and line separators).
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_seen() {
        for name in ["web", "a b", "größe", "数据库", "x-1_2@3", &"x".repeat(250)] {
            assert_eq!(bad_name(name), None, "{name}");
        }
        for (name, why) in [
            ("", "a service's name cannot be empty"),
            ("a/b", "a service's name cannot contain '/'"),
            ("a\u{202e}b", "a service's name cannot contain '\\u{202e}'"),
            ("a\u{200b}", "a service's name cannot contain '\\u{200b}'"),
            ("a\n", "a service's name cannot contain '\\n'"),
            (
                &"ä".repeat(126),
                "a service's name has at most 250 bytes, this one has 252",
            ),
        ] {
            assert_eq!(bad_name(name).as_deref(), Some(why), "{name:?}");
        }
    }
}
