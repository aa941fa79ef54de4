//! /etc/environment: lines of `KEY=value`.

use std::collections::BTreeMap;

/// What an environment file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// The variables; of two lines for one key the later counts.
    pub vars: BTreeMap<String, String>,
    /// Lines that are none of: empty, a comment, `KEY=value`.
    pub bad_lines: Vec<BadLine>,
}

/// A line that could not be read; the others count all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Its number; the first is 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: &'static str,
}

/// Reads the text of /etc/environment as pam_env(8) does: `KEY=value`, an `export` before it is
/// allowed, a `#` at the start makes a comment, one pair of quotes around the value is taken
/// off, nothing is expanded.
pub fn parse_environment(text: &str) -> Environment {
    let mut out = Environment::default();
    for (index, line) in text.lines().enumerate() {
        match variable(line.trim()) {
            Ok(None) => {}
            Ok(Some((key, value))) => {
                out.vars.insert(key.to_string(), value.to_string());
            }
            Err(why) => out.bad_lines.push(BadLine {
                line: index + 1,
                why,
            }),
        }
    }
    out
}

fn variable(line: &str) -> Result<Option<(&str, &str)>, &'static str> {
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let line = match line.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => line,
    };
    let (key, value) = line.split_once('=').ok_or("it has no `=`")?;
    if let Some(why) = bad_key(key) {
        return Err(why);
    }
    let value = value.trim_start();
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''));
    let value = quote
        .and_then(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .unwrap_or(value);
    if value.contains('\0') {
        return Err("the value contains a NUL");
    }
    Ok(Some((key, value)))
}

/// Why `key` cannot name an environment variable (environ(7)).
pub(super) fn bad_key(key: &str) -> Option<&'static str> {
    if key.is_empty() {
        return Some("the variable has no name");
    }
    key.contains(['=', '\0', ' ', '\t', '\n'])
        .then_some("the variable's name contains a blank, `=` or NUL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_comments_and_quotes() {
        let text = "# a comment\n\nPATH=/usr/bin:/bin\nexport LANG=\"de_DE.UTF-8\"\n  A = b\n\
            HASH=a#b\nQ='it is'\nHALF=\"x\nEMPTY=\nnonsense\n=x\nPATH=/bin\nexported=1\n";
        let env = parse_environment(text);
        let vars: Vec<_> = env
            .vars
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            vars,
            [
                ("EMPTY", ""),
                ("HALF", "\"x"),
                ("HASH", "a#b"),
                ("LANG", "de_DE.UTF-8"),
                ("PATH", "/bin"),
                ("Q", "it is"),
                ("exported", "1"),
            ]
        );
        let bad: Vec<_> = env.bad_lines.iter().map(|bad| bad.line).collect();
        assert_eq!(bad, [5, 10, 11]);
    }
}
