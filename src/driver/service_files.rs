//! Service files at run time: read, written and removed in the configuration directory alone, on
//! threads for what blocks.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::config::{self, Dialect, Problem};
use crate::control::{FileError, Files};
use crate::core::{Spec, imply_order};

/// The configuration directory.
#[derive(Clone, Debug)]
pub(super) struct ServiceFiles {
    pub(super) dir: PathBuf,
    pub(super) dialect: Dialect,
}

/// Environments may hold secrets.
const MODE: u32 = 0o600;

impl ServiceFiles {
    fn path(&self, name: &str) -> Result<PathBuf, FileError> {
        match config::bad_name(name) {
            Some(why) => Err(FileError::BadName(why)),
            None => Ok(self.dir.join(format!("{name}.yaml"))),
        }
    }

    /// What the service's file says.
    pub(super) fn read_spec(&self, name: &str) -> Result<Spec, FileError> {
        let path = self.path(name)?;
        exists(&path)?;
        config::load_one_as(self.dialect, &self.dir, name).map_err(|all| problems(&all))
    }

    /// What every service's file says, with the order that their roles imply; every problem when
    /// one is not sound.
    pub(super) fn read_all(&self) -> Result<Files, Vec<String>> {
        let loaded = config::load_dir_as(self.dialect, &self.dir);
        let texts = |errors: bool| {
            let problems = loaded.problems.iter();
            let wanted = problems.filter(move |problem| problem.is_error() == errors);
            wanted.map(ToString::to_string).collect::<Vec<_>>()
        };
        if loaded.has_errors() {
            return Err(texts(true));
        }
        let warnings = texts(false);
        let mut specs: Vec<Spec> = loaded.services.into_iter().map(|(spec, _)| spec).collect();
        imply_order(&mut specs);
        Ok(Files { specs, warnings })
    }

    /// What the service's file holds, as JSON.
    pub(super) fn read(&self, name: &str) -> Result<Value, FileError> {
        let path = self.path(name)?;
        // Sound as a service or not: but it is a file of an ordinary size.
        exists(&path)?;
        let text = config::read_text(&path).map_err(|problem| problems(&[*problem]))?;
        config::content(self.dialect, &text, &path).map_err(|all| problems(&all))
    }

    /// Writes the file of a service that has none. It is there whole or not at all, and holds
    /// what a service file can hold.
    pub(super) fn create(&self, name: &str, content: &Map<String, Value>) -> Result<(), FileError> {
        let path = self.path(name)?;
        if fs::symlink_metadata(&path).is_ok() {
            return Err(FileError::Exists(path.display().to_string()));
        }
        let text = serde_yaml::to_string(content)
            .map_err(|error| FileError::Problems(vec![error.to_string()]))?;
        // Nothing is there yet that could be looked at.
        let draft = Path::new("the content");
        config::parse_as(self.dialect, name, &text, draft).map_err(|all| problems(&all))?;
        // Hidden, so that nobody takes it for a service file; a name of its own for every write.
        let draft = self.dir.join(format!(
            ".nought.{:x}.{:x}",
            std::process::id(),
            crate::sys::clock::boot_now()
        ));
        let written = write(&draft, &text).and_then(|()| {
            // link(2) replaces nothing, which rename(2) would.
            fs::hard_link(&draft, &path)?;
            fs::File::open(&self.dir)?.sync_all()
        });
        // What is left of a draft is never read.
        let _ = fs::remove_file(&draft);
        written.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => FileError::Exists(path.display().to_string()),
            _ => failed("write", &path, &error),
        })
    }

    /// Removes the service's file; a symbolic link is removed itself.
    pub(super) fn delete(&self, name: &str) -> Result<(), FileError> {
        let path = self.path(name)?;
        fs::remove_file(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => FileError::Missing(path.display().to_string()),
            _ => failed("remove", &path, &error),
        })
    }
}

fn write(draft: &Path, text: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn exists(path: &Path) -> Result<(), FileError> {
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        // A link that leads nowhere is a file that cannot be read, here as at the start.
        Err(error) if error.kind() == io::ErrorKind::NotFound => match path.is_symlink() {
            true => Ok(()),
            false => Err(FileError::Missing(path.display().to_string())),
        },
        Err(error) => Err(failed("read", path, &error)),
    }
}

fn problems(problems: &[Problem]) -> FileError {
    let errors = problems.iter().filter(|problem| problem.is_error());
    FileError::Problems(errors.map(ToString::to_string).collect())
}

fn failed(doing: &'static str, path: &Path, error: &io::Error) -> FileError {
    FileError::Failed {
        doing,
        path: path.display().to_string(),
        why: error.to_string(),
    }
}
