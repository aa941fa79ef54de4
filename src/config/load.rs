//! A directory of service files.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::graph::{self, File};
use super::problem::{Position, Problem, Severity};
use super::read::{self, Read};
use super::{Dialect, MAX_FILE_BYTES};
use crate::core::Spec;

/// What a directory of service files gave.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// Every service whose own file is sound, by name, with its file. Members of a dependency
    /// cycle are among them: they exist, and the core says why they cannot start.
    pub services: Vec<(Spec, PathBuf)>,
    /// Every problem of every file, by file and place.
    pub problems: Vec<Problem>,
}

impl Loaded {
    /// Whether any problem is an error.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(Problem::is_error)
    }
}

/// Reads every `*.yaml` of `dir`. Hidden files are skipped; `*.yml`, `*.YAML`
/// and the like get a warning, as nobody else reads them either. It never
/// fails as a whole: what cannot be read is a problem, the directory itself included.
pub fn load_dir(dir: &Path) -> Loaded {
    load_dir_as(Dialect::Nought, dir)
}

/// Reads the file of one service of `dir`.
///
/// # Errors
/// Every problem that keeps it from being a service; one about the whole file when it cannot be
/// read.
pub fn load_one_as(dialect: Dialect, dir: &Path, name: &str) -> Result<Spec, Vec<Problem>> {
    let path = dir.join(format!("{name}.yaml"));
    let text = text(&path).map_err(|problem| vec![*problem])?;
    super::parse_as(dialect, name, &text, &path)
}

/// The same for files of this dialect.
pub fn load_dir_as(dialect: Dialect, dir: &Path) -> Loaded {
    let mut loaded = Loaded::default();
    let paths = match list(dir) {
        Ok(paths) => paths,
        Err(error) => {
            let message = format!("cannot read the directory of service files: {error}");
            let hint = "make it, or name another with `-c DIR`";
            loaded
                .problems
                .push(Problem::whole(Severity::Error, dir, message, hint));
            return loaded;
        }
    };
    let mut files = BTreeMap::new();
    for path in paths {
        let file_name = path.file_name().unwrap_or_default();
        let unreadable = file_name.to_str().is_none();
        let file_name = file_name.to_string_lossy();
        if file_name.starts_with('.') {
            continue;
        }
        if unreadable && file_name.ends_with(".yaml") {
            // Read with replacements, two files could bear one name.
            let message = "the name of the file is no UTF-8, and so no service's name";
            let problem = Problem::whole(Severity::Error, &path, message, "rename it");
            loaded.problems.push(problem);
            continue;
        }
        if let Some(stem) = nearly(&file_name) {
            let message = "this file is ignored: service files end in `.yaml`";
            let hint = format!("rename it to {stem}.yaml, or move it away");
            let problem = Problem::whole(Severity::Warning, &path, message, hint);
            loaded.problems.push(problem);
        }
        let Some(name) = file_name.strip_suffix(".yaml").map(str::to_string) else {
            continue;
        };
        let read = match text(&path) {
            Ok(text) => read::read(dialect, &name, &text, &path),
            Err(problem) => Read {
                spec: None,
                problems: vec![*problem],
                dependencies: Vec::new(),
                stop_after: Vec::new(),
            },
        };
        loaded.problems.extend(read.problems);
        let file = File {
            path: path.clone(),
            sound: read.spec.is_some(),
            requires: read
                .spec
                .iter()
                .flat_map(|spec| spec.requires.iter().cloned())
                .collect(),
            dependencies: read.dependencies,
            stop_after: read.stop_after,
        };
        files.insert(name, file);
        loaded.services.extend(read.spec.map(|spec| (spec, path)));
    }
    loaded.problems.extend(graph::check(&files));
    loaded
        .problems
        .sort_by(|a, b| (&a.path, place(a)).cmp(&(&b.path, place(b))));
    loaded.services.sort_by(|a, b| a.0.name.cmp(&b.0.name));
    loaded
}

/// The stem of a name that ends like a service file's, and differently: `.yml`, `.YAML`.
fn nearly(file_name: &str) -> Option<&str> {
    let (stem, end) = file_name.rsplit_once('.')?;
    let alike = end.eq_ignore_ascii_case("yaml") || end.eq_ignore_ascii_case("yml");
    (alike && end != "yaml").then_some(stem)
}

fn place(problem: &Problem) -> Option<(usize, usize)> {
    let position = problem.position.as_ref();
    position.map(|at| (at.line, at.column))
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.sort();
    Ok(paths)
}

/// The text of one service file, as it stands there.
///
/// # Errors
/// When it cannot be read, is no file, is larger than [`MAX_FILE_BYTES`] or no UTF-8.
pub fn text(path: &Path) -> Result<String, Box<Problem>> {
    let bad = |message: String, hint: &str| {
        Box::new(Problem::whole(Severity::Error, path, message, hint))
    };
    let io = |error: io::Error| {
        bad(
            format!("cannot read the file: {error}"),
            "check that it exists and may be read",
        )
    };
    // Looked at before it is opened: opening a fifo would wait for a writer.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(bad(
            "this is not a file".into(),
            "move it away, or rename it",
        ));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX);
    let opened = fs::File::open(path).map_err(io)?;
    opened
        .take(most.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(io)?;
    if bytes.len() > MAX_FILE_BYTES {
        return Err(bad(
            format!("the file has more than {MAX_FILE_BYTES} bytes"),
            "a service file holds one service: is this another file?",
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let bytes = error.into_bytes();
        let mut problem = bad("this is not UTF-8".into(), "save the file as UTF-8");
        problem.position = Some(byte_position(&bytes, good));
        problem
    })
}

fn byte_position(bytes: &[u8], at: usize) -> Position {
    let (before, after) = bytes.split_at_checked(at).unwrap_or((bytes, &[]));
    let start = before
        .iter()
        .rposition(|b| *b == b'\n')
        .map_or(0, |newline| newline + 1);
    let line_before = String::from_utf8_lossy(before.get(start..).unwrap_or_default());
    let rest = after.split(|b| *b == b'\n').next().unwrap_or_default();
    Position {
        line: before.iter().filter(|b| **b == b'\n').count() + 1,
        column: line_before.chars().count() + 1,
        width: 1,
        source: format!("{line_before}{}", String::from_utf8_lossy(rest)),
    }
}
