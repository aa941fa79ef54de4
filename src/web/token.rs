//! The secret that whoever may change something shows.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::sys::{SysError, random};

/// A token, made anew at every start, and the file that says it.
#[derive(Clone)]
pub struct Token(Arc<Inner>);

struct Inner {
    text: String,
    file: PathBuf,
}

/// Why there is no token.
#[derive(Debug)]
pub enum TokenError {
    /// There were no random bytes.
    Random(SysError),
    /// The file could not be written.
    File {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Random(error) => write!(f, "make a token for HTTP: failed to {error}"),
            TokenError::File { path, source } => {
                let path = path.display();
                write!(f, "write the token for HTTP into {path}: {source}")
            }
        }
    }
}

impl std::error::Error for TokenError {}

impl Token {
    /// Makes one of 32 random bytes, and writes it into `file` (mode 0600, never over what is not
    /// ours: an older file is removed first). Its directory must be writable by nobody else.
    ///
    /// # Errors
    /// When there are no random bytes, or the file cannot be written.
    pub fn make(file: &Path) -> Result<Self, TokenError> {
        let text = random::hex().map_err(TokenError::Random)?;
        write(file, &text).map_err(|source| TokenError::File {
            path: file.into(),
            source,
        })?;
        let file = file.into();
        Ok(Token(Arc::new(Inner { text, file })))
    }

    /// The file that says it.
    pub fn file(&self) -> &Path {
        &self.0.file
    }

    /// Removes the file: nobody takes the token any more. That it cannot be removed is no matter,
    /// because it then says what is worth nothing.
    pub fn withdraw(&self) {
        let _ = fs::remove_file(&self.0.file);
    }

    /// Whether `shown` is the token. Takes as long whatever is wrong with it, its length apart.
    pub(super) fn is(&self, shown: &[u8]) -> bool {
        let own = self.0.text.as_bytes();
        if own.len() != shown.len() {
            return false;
        }
        let differences = own.iter().zip(shown).fold(0, |all, (a, b)| {
            // Not to be cut short once there is a difference.
            black_box(all | (a ^ b))
        });
        differences == 0
    }
}

/// Never shown, in a log either.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.0.file.display())
    }
}

/// Whether what is there is a token of an earlier start, whole or cut short, and no file of
/// somebody's.
fn is_a_token(path: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(false);
    }
    let mut text = Vec::new();
    fs::File::open(path)?.take(66).read_to_end(&mut text)?;
    let digits = text.strip_suffix(b"\n").unwrap_or(&text);
    Ok(digits.len() <= 64 && digits.iter().all(u8::is_ascii_hexdigit))
}

fn write(path: &Path, text: &str) -> io::Result<()> {
    match is_a_token(path) {
        Ok(false) => {
            let why = "it is there, and holds no token: it is somebody's";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_its_owners_alone_and_new_each_time() {
        let dir = std::env::temp_dir().join(format!("nought-token-{}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        let file = dir.join("http-token");
        for somebodys in ["precious\n", &"0".repeat(65)] {
            fs::write(&file, somebodys).unwrap();
            assert!(Token::make(&file).is_err());
            assert_eq!(fs::read_to_string(&file).unwrap(), somebodys);
        }
        fs::write(&file, "01ab\n").unwrap();
        let token = Token::make(&file).unwrap();
        let said = fs::read_to_string(&file).unwrap();
        let said = said.trim_end();
        assert_eq!(said.len(), 64);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(token.is(said.as_bytes()));
        for wrong in ["", "old", &said[1..], &said.to_uppercase(), &"0".repeat(64)] {
            // Sixty-four decimal digits have no upper case, which does not happen.
            assert!(wrong == said || !token.is(wrong.as_bytes()), "{wrong}");
        }
        assert!(!format!("{token:?}").contains(said));
        let second = Token::make(&file).unwrap();
        assert!(!second.is(said.as_bytes()));
        second.withdraw();
        assert!(fs::read_dir(&dir).unwrap().next().is_none());
        fs::remove_dir(&dir).unwrap();
    }
}
