//! Service files: text in, the core's [`Spec`]s out, and every problem of every file at once.
//!
//! A file is read in two steps: `yaml` turns text into a tree in which every node knows its
//! place, and `read` turns that tree into a [`Spec`]. `graph` then looks at all files
//! together. One bad file never keeps the others from loading.

mod amount;
mod content;
mod duration;
mod ends;
mod environment;
mod graph;
mod keys;
mod load;
mod log;
mod problem;
mod process;
mod read;
mod ready;
mod resources;
mod sockets;
mod values;
mod words;
mod yaml;

use std::path::Path;

use crate::core::Spec;
/// The JSON schema of service files, for editors.
pub const SCHEMA: &str = include_str!("service.schema.json");

pub use crate::core::{bad_name, is_hidden};

pub use amount::{parse_bytes, parse_processors};
pub use content::content;
pub use duration::parse as parse_duration;
pub use environment::{BadLine, Environment, parse_environment};
pub use load::{Loaded, load_dir, load_dir_as, load_one_as, text as read_text};
pub use problem::{Position, Problem, Severity};
pub use words::{SplitError, split_words};

/// A service file larger than this is refused (bytes).
pub const MAX_FILE_BYTES: usize = 1 << 20;

/// Whose service files they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Ours: what is unknown or cannot be is an error.
    #[default]
    Nought,
    /// zinit's, for a supervisor that is called by its name: whatever zinit takes loads. Unknown
    /// keys are warnings; so are bad values of keys that zinit does not know, which then have
    /// no effect.
    Zinit,
}

/// Reads one service file: `name` is the service's, `path` is what problems say.
///
/// # Errors
/// Every problem of the file, when at least one of them keeps it from being a service. Warnings
/// about a file that is one are what [`load_dir`] reports and this does not.
pub fn parse(name: &str, text: &str, path: &Path) -> Result<Spec, Vec<Problem>> {
    parse_as(Dialect::Nought, name, text, path)
}

/// The same for a file of this dialect.
///
/// # Errors
/// As for [`parse`].
pub fn parse_as(
    dialect: Dialect,
    name: &str,
    text: &str,
    path: &Path,
) -> Result<Spec, Vec<Problem>> {
    let read = read::read(dialect, name, text, path);
    read.spec.ok_or(read.problems)
}
