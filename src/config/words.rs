//! Splitting a command line into words as a POSIX shell does, and nothing else of a shell:
//! no expansion, no redirection, no operators.

/// Why a command line could not be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SplitError {
    /// A quote, this one, is never closed.
    OpenQuote(char),
    /// The last character is a backslash with nothing to escape.
    TrailingBackslash,
}

impl std::fmt::Display for SplitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SplitError::OpenQuote(quote) => write!(f, "the quote {quote} is never closed"),
            SplitError::TrailingBackslash => f.write_str("it ends in a backslash"),
        }
    }
}

impl std::error::Error for SplitError {}

/// One word, and whether any of it was quoted or escaped.
pub(super) struct Word {
    pub(super) text: String,
    pub(super) quoted: bool,
}

/// Splits `line` into words by the rules of the POSIX shell's section 2.2 (quoting) and its
/// comments: a word that begins with an unquoted `#` ends the line.
///
/// # Errors
/// When a quote is open at the end, or the last character is a lone backslash.
pub fn split_words(line: &str) -> Result<Vec<String>, SplitError> {
    Ok(split(line)?.into_iter().map(|word| word.text).collect())
}

pub(super) fn split(line: &str) -> Result<Vec<Word>, SplitError> {
    let mut words = Vec::new();
    let mut word: Option<Word> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '#' if word.is_none() => {
                let _comment = chars.by_ref().find(|c| *c == '\n');
            }
            '\'' | '"' => {
                let word = quoted(&mut word);
                if c == '\'' {
                    single(&mut chars, &mut word.text)?;
                } else {
                    double(&mut chars, &mut word.text)?;
                }
            }
            '\\' => match chars.next() {
                None => return Err(SplitError::TrailingBackslash),
                Some('\n') => {}
                Some(escaped) => quoted(&mut word).text.push(escaped),
            },
            _ => word.get_or_insert_with(Word::bare).text.push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

impl Word {
    fn bare() -> Self {
        Word {
            text: String::new(),
            quoted: false,
        }
    }
}

fn quoted(word: &mut Option<Word>) -> &mut Word {
    let word = word.get_or_insert_with(Word::bare);
    word.quoted = true;
    word
}

fn single(chars: &mut std::str::Chars<'_>, into: &mut String) -> Result<(), SplitError> {
    for c in chars {
        if c == '\'' {
            return Ok(());
        }
        into.push(c);
    }
    Err(SplitError::OpenQuote('\''))
}

fn double(chars: &mut std::str::Chars<'_>, into: &mut String) -> Result<(), SplitError> {
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok(()),
            '\\' => match chars.next() {
                None => break,
                Some('\n') => {}
                Some(c @ ('$' | '`' | '"' | '\\')) => into.push(c),
                Some(c) => into.extend(['\\', c]),
            },
            c => into.push(c),
        }
    }
    Err(SplitError::OpenQuote('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_a_posix_shell_splits_them() {
        for (line, words) in [
            ("", &[][..]),
            ("  \t\n", &[]),
            ("a b\tc\nd", &["a", "b", "c", "d"]),
            (
                "sh -c 'echo \"x y\"; true'",
                &["sh", "-c", "echo \"x y\"; true"],
            ),
            ("a\\ b", &["a b"]),
            ("a\"b\"'c'd", &["abcd"]),
            ("'' \"\"", &["", ""]),
            ("\"\\$ \\` \\\" \\\\ \\n\"", &["$ ` \" \\ \\n"]),
            ("a\\\nb", &["ab"]),
            ("\"a\\\nb\"", &["ab"]),
            ("a #b\nc", &["a", "c"]),
            ("a#b", &["a#b"]),
            ("$HOME *.txt a|b", &["$HOME", "*.txt", "a|b"]),
            ("é 'ü ö'", &["é", "ü ö"]),
        ] {
            assert_eq!(
                split_words(line).as_deref(),
                Ok(words_of(words).as_slice()),
                "{line:?}"
            );
        }
    }

    fn words_of(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_string()).collect()
    }

    #[test]
    fn what_is_left_open_is_refused() {
        for (line, error) in [
            ("a 'b", SplitError::OpenQuote('\'')),
            ("a \"b", SplitError::OpenQuote('"')),
            ("a \"b\\", SplitError::OpenQuote('"')),
            ("a\\", SplitError::TrailingBackslash),
        ] {
            assert_eq!(split_words(line), Err(error), "{line:?}");
        }
    }
}
