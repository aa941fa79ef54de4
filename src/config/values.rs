//! The values that keys have: commands, names, durations, counts, words of a choice. What is
//! none becomes a problem with a hint.

use std::time::Duration;

use super::keys::nearest;
use super::problem::Severity;
use super::read::Reader;
use super::yaml::{Kind, Node};
use super::{Dialect, bad_name, duration, words};

impl Reader<'_> {
    /// The text of a scalar without NUL bytes, which no path, word or variable can hold.
    pub(super) fn text<'t>(&mut self, what: &str, node: &'t Node) -> Option<&'t str> {
        match &node.kind {
            Kind::Scalar { text, .. } if !text.contains('\0') => Some(text),
            Kind::Scalar { .. } => {
                let hint =
                    Some("take the `\\0` out: no path, word or variable can hold one".into());
                self.error(node.mark, format!("`{what}` contains a NUL"), hint);
                None
            }
            _ => {
                let message = format!("`{what}` must be a string, this is {}", node.describe());
                let hint = Some("write one value, in quotes if it has braces or brackets".into());
                self.error(node.mark, message, hint);
                None
            }
        }
    }

    /// A command: a string split into words as a shell does, or a list of words.
    pub(super) fn command(&mut self, what: &str, node: &Node) -> Option<Vec<String>> {
        let words = match &node.kind {
            Kind::List(items) => {
                let words: Vec<Option<&str>> =
                    items.iter().map(|item| self.text(what, item)).collect();
                let words: Option<Vec<&str>> = words.into_iter().collect();
                words?.into_iter().map(str::to_string).collect()
            }
            Kind::Map(_) => {
                let message = format!("`{what}` must be a command, this is a mapping");
                let hint =
                    Some("a string, split as a shell splits words, or a list of words".into());
                self.error(node.mark, message, hint);
                return None;
            }
            Kind::Scalar { .. } if node.is_null() => Vec::new(),
            Kind::Scalar { .. } => self.split(what, node)?,
        };
        if words.first().is_none_or(String::is_empty) {
            let message = format!("`{what}` names no command");
            self.error(node.mark, message, Some("give the program to run".into()));
            return None;
        }
        Some(words)
    }

    fn split(&mut self, what: &str, node: &Node) -> Option<Vec<String>> {
        let text = self.text(what, node)?;
        let words = match words::split(text) {
            Ok(words) => words,
            Err(error) => {
                let message = format!("`{what}` cannot be split into words: {error}");
                let hint = Some("close it, or write a list with one word per element".into());
                self.error(node.mark, message, hint);
                return None;
            }
        };
        const OPERATORS: [&str; 9] = ["|", "||", "&", "&&", ";", ">", ">>", "<", "2>&1"];
        let operator = words
            .iter()
            .find(|word| !word.quoted && OPERATORS.contains(&word.text.as_str()));
        if let Some(operator) = operator {
            let message = format!(
                "no shell runs `{what}`: the command gets `{}` as an argument",
                operator.text
            );
            let hint = Some("for a shell write a list: [sh, -c, '…']".into());
            self.problem(Severity::Warning, node.mark, message, hint);
        }
        let mut words: Vec<String> = words.into_iter().map(|word| word.text).collect();
        // It is kept as long as the service is, and was collected in the room of larger things.
        words.shrink_to_fit();
        Some(words)
    }

    pub(super) fn names(&mut self, what: &str, node: &Node) -> Vec<String> {
        let Kind::List(items) = &node.kind else {
            let message = format!(
                "`{what}` must be a list of names, this is {}",
                node.describe()
            );
            let hint = match &node.kind {
                Kind::Scalar { text, .. } if bad_name(text).is_none() => {
                    format!("write `{what}: [{text}]`")
                }
                _ => format!("write `{what}: [NAME]`, names of other services' files"),
            };
            self.error(node.mark, message, Some(hint));
            return Vec::new();
        };
        let mut names: Vec<String> = Vec::new();
        for item in items {
            let Some(name) = self.text(what, item) else {
                continue;
            };
            let bad = bad_name(name).filter(|_| self.dialect == Dialect::Nought);
            if let Some(why) = bad {
                let hint = Some("the name of another service's file, without `.yaml`".into());
                self.error(item.mark, why, hint);
            } else if names.iter().any(|known| known == name) {
                let message = format!("`{name}` is in `{what}` twice");
                let hint = Some("keep one of the two".into());
                self.problem(Severity::Warning, item.mark, message, hint);
            } else {
                names.push(name.to_string());
                self.dependencies.push((name.to_string(), item.mark));
            }
        }
        names.shrink_to_fit();
        names
    }

    pub(super) fn bool(&mut self, what: &str, node: &Node) -> Option<bool> {
        match &node.kind {
            Kind::Scalar { text, plain: true } => match text.as_str() {
                "true" | "True" | "TRUE" => return Some(true),
                "false" | "False" | "FALSE" => return Some(false),
                _ => {}
            },
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => {}
        }
        let message = format!(
            "`{what}` must be true or false, this is {}",
            node.describe()
        );
        self.error(
            node.mark,
            message,
            Some("write `true` or `false`, without quotes".into()),
        );
        None
    }

    pub(super) fn duration(&mut self, what: &str, node: &Node) -> Option<Duration> {
        let parsed = match &node.kind {
            Kind::Scalar { text, .. } => duration::parse(text),
            Kind::List(_) | Kind::Map(_) => None,
        };
        if parsed.is_none() {
            let message = format!("`{what}` must be a duration, this is {}", node.describe());
            self.error(node.mark, message, Some(duration::EXAMPLES.into()));
        }
        parsed
    }

    /// A whole number within bounds; `meaning` says what it is.
    pub(super) fn within(
        &mut self,
        what: &str,
        node: &Node,
        (least, most): (i32, i32),
        meaning: &str,
    ) -> Option<i32> {
        let number = match &node.kind {
            Kind::Scalar { text, .. } => text.parse().ok(),
            Kind::List(_) | Kind::Map(_) => None,
        };
        let number = number.filter(|number| (least..=most).contains(number));
        if number.is_none() {
            let message = format!(
                "`{what}` must be a whole number from {least} to {most}, this is {}",
                node.describe()
            );
            self.error(node.mark, message, Some(meaning.into()));
        }
        number
    }

    /// One text, or a list of them.
    pub(super) fn texts<'t>(&mut self, what: &str, node: &'t Node) -> Vec<(&'t str, &'t Node)> {
        let items = match &node.kind {
            Kind::List(items) => items.as_slice(),
            Kind::Scalar { .. } | Kind::Map(_) => std::slice::from_ref(node),
        };
        let texts = items.iter().filter_map(|item| {
            let text = self.text(what, item)?;
            Some((text, item))
        });
        texts.collect()
    }

    /// A duration that may not be zero; `zero` says what it would mean.
    pub(super) fn positive(&mut self, what: &str, node: &Node, zero: &str) -> Option<Duration> {
        let duration = self.duration(what, node)?;
        if duration.is_zero() {
            self.error(
                node.mark,
                format!("`{what}` cannot be zero"),
                Some(zero.into()),
            );
            return None;
        }
        Some(duration)
    }

    pub(super) fn count(&mut self, what: &str, node: &Node, zero: &str) -> Option<u32> {
        let parsed = match &node.kind {
            Kind::Scalar { text, plain: true } => text.parse::<u32>().ok(),
            Kind::Scalar { .. } | Kind::List(_) | Kind::Map(_) => None,
        };
        match parsed {
            Some(0) => self.error(
                node.mark,
                format!("`{what}` cannot be zero"),
                Some(zero.into()),
            ),
            Some(count) => return Some(count),
            None => {
                let message = format!(
                    "`{what}` must be a whole number, this is {}",
                    node.describe()
                );
                let hint = format!("write 1 to {}, without quotes", u32::MAX);
                self.error(node.mark, message, Some(hint));
            }
        }
        None
    }

    /// One of a few words; the nearest is the hint.
    pub(super) fn choice<T: Copy>(
        &mut self,
        what: &str,
        node: &Node,
        choices: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(what, node)?;
        if let Some((_, value)) = choices.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        let message = format!(
            "`{what}` must be one of {}, this is {}",
            words.join(", "),
            node.describe()
        );
        let hint = match nearest(text, &words) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "write one of these words".into(),
        };
        self.error(node.mark, message, Some(hint));
        None
    }
}
