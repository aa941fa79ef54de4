//! A problem in a service file, and how it looks to whoever has to mend it.

use std::fmt;
use std::path::{Path, PathBuf};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It runs, and perhaps not as it was meant.
    Warning,
    /// The service cannot run as its file is.
    Error,
}

impl Severity {
    /// The severity's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The line; the first is 1.
    pub line: usize,
    /// The column in characters; the first is 1.
    pub column: usize,
    /// How many characters of the line are meant; at least 1.
    pub width: usize,
    /// The line itself.
    pub source: String,
}

/// Something wrong with a service file, or with several of them together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// The file, or the directory when it is about that.
    pub path: PathBuf,
    /// Where in the file; `None` when it is about the whole of it.
    pub position: Option<Position>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// Whether this keeps the service from running.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    pub(super) fn whole(
        severity: Severity,
        path: &Path,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Problem {
            severity,
            path: path.to_path_buf(),
            position: None,
            message: message.into(),
            hint: Some(hint.into()),
        }
    }
}

/// A longer source line is shown in part.
const SHOWN_CHARS: usize = 120;

/// `file:line:column: error: what`, the source line with a caret below it, the hint.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.path.display())?;
        if let Some(at) = &self.position {
            write!(f, "{}:{}:", at.line, at.column)?;
        }
        write!(f, " {}: {}", self.severity.as_str(), self.message)?;
        if let Some(at) = &self.position {
            let start = at.column.saturating_sub(1);
            let from = start.saturating_sub(SHOWN_CHARS / 2);
            let shown: String = at
                .source
                .chars()
                .skip(from)
                .take(SHOWN_CHARS)
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            let room = shown.chars().count().saturating_sub(start - from).max(1);
            write!(f, "\n    {}", shown.trim_end())?;
            write!(
                f,
                "\n    {}{}",
                " ".repeat(start - from),
                "^".repeat(at.width.clamp(1, room))
            )?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n    hint: {hint}")?;
        }
        Ok(())
    }
}
