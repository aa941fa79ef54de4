//! The arrows between modules, and what may stand in which of them.

#![expect(
    clippy::unwrap_used,
    reason = "tests may be blunt, in what they share too"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each module and what of the crate it may use.
const ARROWS: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("config", &["core"]),
    ("api", &[]),
    ("sys", &[]),
    ("logs", &["sys"]),
    ("state", &["core", "sys"]),
    ("pictures", &["api"]),
    ("web", &["api", "pictures", "sys"]),
    ("control", &["api", "core", "logs", "state", "sys", "web"]),
    (
        "driver",
        &["core", "config", "state", "sys", "control", "logs"],
    ),
    ("init", &["driver", "logs", "sys"]),
    ("run", &["api", "control", "core", "driver", "sys"]),
    (
        "cli",
        &["api", "config", "pictures", "sys", "state", "driver", "web"],
    ),
];

/// What the core may not name: I/O, clocks, threads, and maps whose order is not the same twice.
const NOT_IN_CORE: &[&str] = &[
    "std::fs",
    "std::io",
    "std::net",
    "std::os",
    "std::env",
    "std::thread",
    "std::process",
    "std::sync",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "async fn",
    "tokio",
    "libc",
    "nix",
];

struct Source {
    path: PathBuf,
    /// The module below `src`: `core`, `main`, `lib`.
    module: String,
    /// The text without comments, string contents and what is compiled for tests only.
    code: String,
    /// The same with what is compiled into tests alone.
    whole: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut todo = vec![root.clone()];
    let mut out = Vec::new();
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.ends_with("tests.rs") {
                // A module of unit tests beside its subject: `#[cfg(test)] mod tests;` there.
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                let inside = path.strip_prefix(&root).unwrap();
                let first = inside.iter().next().unwrap().to_string_lossy().into_owned();
                let whole = bare(&fs::read_to_string(&path).unwrap());
                let code = without_tests(&whole);
                out.push(Source {
                    whole,
                    module: first.trim_end_matches(".rs").to_string(),
                    path: inside.to_path_buf(),
                    code,
                });
            }
        }
    }
    out.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(out.iter().any(|source| source.module == "core"));
    out
}

/// Rust text with comments and the insides of strings and characters blanked, line by line.
fn bare(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < chars.len() {
        let rest = &chars[i..];
        let end = if rest.starts_with(&['/', '/']) {
            rest.iter().position(|c| *c == '\n').unwrap_or(rest.len())
        } else if rest.starts_with(&['/', '*']) {
            block_comment(rest)
        } else if let Some(end) = raw_string(rest, i.checked_sub(1).map(|before| chars[before])) {
            end
        } else if rest[0] == '"' {
            quoted(rest)
        } else if rest[0] == '\'' {
            character(rest)
        } else {
            out.push(rest[0]);
            i += 1;
            continue;
        };
        out.extend(
            rest[..end]
                .iter()
                .map(|c| if *c == '\n' { '\n' } else { ' ' }),
        );
        i += end;
    }
    out
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < rest.len() {
        if rest[i..].starts_with(&['/', '*']) {
            depth += 1;
            i += 2;
        } else if rest[i..].starts_with(&['*', '/']) {
            depth -= 1;
            i += 2;
            if depth == 0 {
                return i;
            }
        } else {
            i += 1;
        }
    }
    rest.len()
}

fn raw_string(rest: &[char], before: Option<char>) -> Option<usize> {
    let inside_word = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest[0] != 'r' || (inside_word && before != Some('b')) {
        return None;
    }
    let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + hashes) != Some(&'"') {
        return None;
    }
    let mut close = vec!['"'];
    close.extend(vec!['#'; hashes]);
    let body = 2 + hashes;
    let found = rest[body..].windows(close.len()).position(|w| w == close);
    Some(found.map_or(rest.len(), |at| body + at + close.len()))
}

fn quoted(rest: &[char]) -> usize {
    let mut i = 1;
    while i < rest.len() {
        match rest[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    rest.len()
}

/// A character's length; 1 for the quote of a lifetime.
fn character(rest: &[char]) -> usize {
    match (rest.get(1), rest.get(2)) {
        (Some('\\'), _) => {
            let close = rest.iter().skip(3).position(|c| *c == '\'');
            close.map_or(rest.len(), |at| at + 4)
        }
        (Some(_), Some('\'')) => 3,
        _ => 1,
    }
}

/// The text without items that stand under `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        let item = &rest[at..];
        let (open, semicolon) = (item.find('{'), item.find(';'));
        rest = match (open, semicolon) {
            (Some(open), semicolon) if semicolon.is_none_or(|end| open < end) => {
                let mut depth = 0;
                let end = item[open..].char_indices().find_map(|(i, c)| {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    (depth == 0).then_some(open + i + 1)
                });
                &item[end.unwrap_or(item.len())..]
            }
            (_, Some(end)) => &item[end + 1..],
            _ => "",
        };
    }
    out.push_str(rest);
    out
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands in `code` as a whole word (or path), not within a longer one.
fn places<'c>(code: &'c str, word: &'c str) -> impl Iterator<Item = usize> + 'c {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |at| {
            let before = code[..*at].chars().next_back();
            let after = code[at + word.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The first names after a path's prefix at `rest`: one, or those of a `{…}` group.
fn first_names(rest: &str) -> Vec<String> {
    let rest = rest.trim_start();
    let name = |text: &str| {
        text.trim_start()
            .chars()
            .take_while(|c| is_word(*c))
            .collect::<String>()
    };
    let Some(group) = rest.strip_prefix('{') else {
        return vec![name(rest)];
    };
    let mut names = vec![name(group)];
    let mut depth = 0;
    for (i, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(name(&group[i + 1..])),
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

/// In how many `mod x { … }` of its own file the place `at` is.
fn inline_modules(code: &str, at: usize) -> usize {
    places(&code[..at], "mod")
        .filter(|start| {
            let Some(open) = code[*start..].find(['{', ';']).map(|end| start + end) else {
                return false;
            };
            if open >= at || code[open..].starts_with(';') {
                return false;
            }
            let between = code[open..at].chars();
            let depth = between.fold(0i32, |depth, c| match c {
                '{' => depth + 1,
                '}' if depth > 0 => depth - 1,
                _ => depth,
            });
            depth > 0
        })
        .count()
}

/// Every module of the crate that `source` names, with the line.
fn uses(source: &Source) -> Vec<(String, usize)> {
    let mut out = Vec::new();
    for prefix in ["crate::", "nought::"] {
        for (at, _) in source.code.match_indices(prefix) {
            if source.code[..at].chars().next_back().is_some_and(is_word) {
                continue;
            }
            let line = line_of(&source.code, at);
            let names = first_names(&source.code[at + prefix.len()..]);
            out.extend(names.into_iter().map(|name| (name, line)));
        }
    }
    // How far up `super::super::…` goes: out of the module it is a way around the arrows.
    let is_mod = source.path.file_name().is_some_and(|name| name == "mod.rs");
    let depth = source.path.components().count() - usize::from(is_mod);
    for (at, _) in source.code.match_indices("super::") {
        if source.code[..at].ends_with("super::") {
            continue;
        }
        let mut rest = &source.code[at..];
        let mut up = 0;
        while let Some(shorter) = rest.strip_prefix("super::") {
            (rest, up) = (shorter, up + 1);
        }
        if up >= depth + inline_modules(&source.code, at) {
            let line = line_of(&source.code, at);
            out.extend(first_names(rest).into_iter().map(|name| (name, line)));
        }
    }
    out
}

fn fail_if_any(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn modules_use_only_what_their_arrows_point_to() {
    let arrows: BTreeMap<&str, &[&str]> = ARROWS.iter().copied().collect();
    let mut problems = Vec::new();
    for source in sources() {
        let root = matches!(source.module.as_str(), "main" | "lib");
        let Some(allowed) = arrows.get(source.module.as_str()) else {
            if !root {
                problems.push(format!(
                    "{}: no arrows for this module",
                    source.path.display()
                ));
            }
            continue;
        };
        for (used, line) in uses(&source) {
            let known = arrows.contains_key(used.as_str());
            if used != source.module && (!known || !allowed.contains(&used.as_str())) {
                problems.push(format!(
                    "{}:{line}: {} may not use `{used}`; its arrows are {allowed:?}",
                    source.path.display(),
                    source.module,
                ));
            }
        }
    }
    fail_if_any(&problems);
}

#[test]
fn the_core_has_no_io_no_clock_and_no_unordered_map() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| source.module == "core") {
        for word in NOT_IN_CORE {
            for at in places(&source.code, word) {
                let line = line_of(&source.code, at);
                problems.push(format!("{}:{line}: `{word}`", source.path.display()));
            }
        }
        for (at, _) in source.code.match_indices("std::{") {
            let grouped = first_names(&source.code[at + "std::".len()..]);
            for name in grouped {
                if NOT_IN_CORE.contains(&format!("std::{name}").as_str()) {
                    let line = line_of(&source.code, at);
                    problems.push(format!("{}:{line}: `std::{name}`", source.path.display()));
                }
            }
        }
    }
    fail_if_any(&problems);
}

#[test]
fn unsafe_code_is_in_sys_only_and_says_why_it_is_safe() {
    let mut problems = Vec::new();
    for source in sources().iter().filter(|source| source.module != "sys") {
        for at in places(&source.code, "unsafe") {
            let line = line_of(&source.code, at);
            problems.push(format!(
                "{}:{line}: unsafe outside sys",
                source.path.display()
            ));
        }
    }
    fail_if_any(&problems);
}

#[test]
fn nothing_outside_tests_unwraps_or_panics() {
    const CALLS: [&str; 7] = [
        ".unwrap()",
        ".expect(",
        "panic!(",
        "todo!(",
        "unimplemented!(",
        "unreachable!(",
        "#[allow(",
    ];
    let mut problems = Vec::new();
    for source in sources() {
        for call in CALLS {
            for (at, _) in source.code.match_indices(call) {
                let line = line_of(&source.code, at);
                problems.push(format!("{}:{line}: `{call}`", source.path.display()));
            }
        }
    }
    fail_if_any(&problems);
}

#[test]
fn every_file_is_reachable() {
    let sources = sources();
    let mut declared: BTreeSet<PathBuf> = ["lib.rs", "main.rs"].map(PathBuf::from).into();
    for source in &sources {
        let stem = source
            .path
            .file_stem()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let parent = source.path.parent().unwrap();
        let dir = match stem.as_str() {
            "mod" | "lib" | "main" => parent.to_path_buf(),
            stem => parent.join(stem),
        };
        for at in places(&source.whole, "mod") {
            let rest = source.whole[at + 3..].trim_start();
            let name: String = rest.chars().take_while(|c| is_word(*c)).collect();
            if rest[name.len()..].trim_start().starts_with(';') {
                declared.insert(dir.join(format!("{name}.rs")));
                declared.insert(dir.join(&name).join("mod.rs"));
            }
        }
    }
    let problems: Vec<String> = sources
        .iter()
        .filter(|source| !declared.contains(&source.path))
        .map(|source| format!("{}: no `mod` names this file", source.path.display()))
        .collect();
    fail_if_any(&problems);
}

/// A note, not a rule: files aim below 500 lines.
#[test]
fn long_files_are_noted() {
    for source in sources() {
        let lines = source
            .code
            .lines()
            .filter(|line| !line.trim().is_empty())
            .count();
        if lines > 500 {
            println!("{}: {lines} lines of code", source.path.display());
        }
    }
}

#[test]
fn these_tests_bite() {
    let of = |path: &str, text: &str| {
        let path = PathBuf::from(path);
        let first = path.iter().next().unwrap().to_string_lossy().into_owned();
        Source {
            whole: String::new(),
            module: first.trim_end_matches(".rs").to_string(),
            path,
            code: without_tests(&bare(text)),
        }
    };
    let names = |path, text| {
        let uses = uses(&of(path, text));
        uses.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(
        names("core/a.rs", "use crate::{sys::x, api};"),
        ["sys", "api"]
    );
    assert_eq!(names("core/a.rs", "fn f() { crate::sys::g() }"), ["sys"]);
    assert_eq!(names("core/a.rs", "use super::super::sys;"), ["sys"]);
    assert_eq!(names("core/mod.rs", "use super::sys;"), ["sys"]);
    assert_eq!(names("core/a.rs", "use super::event;"), [""; 0]);
    assert_eq!(
        names("core/a.rs", "// crate::sys\nlet s = \"crate::sys\";"),
        [""; 0]
    );
    assert_eq!(
        names("core/a.rs", "#[cfg(test)]\nmod tests { use crate::sys; }"),
        [""; 0]
    );
    assert_eq!(
        names(
            "core/a.rs",
            "#[cfg(test)]\nuse crate::sys;\nuse crate::api;"
        ),
        ["api"]
    );
    assert_eq!(names("core/mod.rs", "mod a; use super::sys;"), ["sys"]);
    let inline = "mod a { fn f() {} use super::sys; use super::super::sys; }";
    assert_eq!(names("core/mod.rs", inline), ["sys"]);
    let words = |text| bare(text).split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words("a/* b /* c */ */d // e\nf"), "a d f");
    assert_eq!(
        words(r##"r#"x"# 'y' 'a g('\'', '\u{1f}') b"z\"" h"##),
        "a g( , ) b h"
    );
}
