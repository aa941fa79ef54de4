//! Service files: text in, the core's [`Spec`]s out, and every problem of every file at once.
//!
//! A file is read in two steps: `yaml` turns text into a tree in which every node knows its
//! place, and `read` turns that tree into a [`Spec`]. `graph` then looks at all files
//! together. One bad file never keeps the others from loading.

mod duration;
mod environment;
mod graph;
mod keys;
mod load;
mod problem;
mod read;
mod ready;
mod values;
mod words;
mod yaml;

use std::path::Path;

use crate::core::Spec;

pub use duration::parse as parse_duration;
pub use environment::{BadLine, Environment, parse_environment};
pub use load::{Loaded, load_dir, load_dir_with, load_one};
pub use problem::{Position, Problem, Severity};
pub use words::{SplitError, split_words};

/// A service file larger than this is refused (bytes).
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// What becomes of keys that mean nothing here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leniency {
    /// They are refused: a typing error must not change what runs.
    #[default]
    Strict,
    /// They are warned of: zinit ignores them, and its directories load as they are.
    Zinit,
}

/// Reads one service file: `name` is the service's, `path` is what problems say.
///
/// # Errors
/// Every problem of the file, when at least one of them keeps it from being a service. Warnings
/// about a file that is one are what [`load_dir`] reports and this does not.
pub fn parse(name: &str, text: &str, path: &Path) -> Result<Spec, Vec<Problem>> {
    parse_with(name, text, path, Leniency::Strict)
}

/// The same with a choice of leniency.
///
/// # Errors
/// As [`parse`].
pub fn parse_with(
    name: &str,
    text: &str,
    path: &Path,
    leniency: Leniency,
) -> Result<Spec, Vec<Problem>> {
    let read = read::read(name, text, path, leniency);
    read.spec.ok_or(read.problems)
}

/// Why `name` cannot be a service's name; `None` when it can.
pub fn bad_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("a service's name cannot be empty".into());
    }
    let bad = name
        .chars()
        .find(|c| matches!(c, '/' | '\\' | '.') || c.is_control())?;
    Some(format!("a service's name cannot contain {bad:?}"))
}
