//! What is typed: bytes of a terminal to keys.
//!
//! A slow line may bring a key's bytes one by one, and Esc is the first byte of most of them: what
//! begins a key is kept until its end comes, or until [`Keys::settle`] says that nothing did.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    /// With Ctrl, as the letter that is on the key.
    Ctrl(char),
    Enter,
    Escape,
    Tab,
    Backspace,
    Up,
    Down,
    Left,
    Right,
    PageUp,
    PageDown,
    Home,
    End,
}

/// The longest sequence that a key sends; what is longer is none.
const LONGEST: usize = 16;

/// Takes bytes, gives keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The beginning of a key.
    open: Vec<u8>,
}

enum Step {
    /// A key of so many bytes; `None`: bytes that are no key of ours.
    Whole(Option<Key>, usize),
    /// More has to come.
    Open,
}

impl Keys {
    /// Every key that is whole with these bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Key> {
        self.open.extend_from_slice(bytes);
        let mut keys = Vec::new();
        let mut at = 0;
        while let Some(rest) = self.open.get(at..).filter(|rest| !rest.is_empty()) {
            match step(rest) {
                Step::Whole(key, len) => {
                    keys.extend(key);
                    at += len;
                }
                Step::Open => break,
            }
        }
        self.open.drain(..at);
        keys
    }

    /// Whether a key has begun.
    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Nothing came after the beginning of a key: Esc alone is a key, anything else is none.
    pub(super) fn settle(&mut self) -> Option<Key> {
        let alone = self.open == [0x1b];
        self.open.clear();
        alone.then_some(Key::Escape)
    }
}

fn step(bytes: &[u8]) -> Step {
    match bytes {
        [0x1b] | [0x1b, b'O'] => Step::Open,
        [0x1b, b'[', rest @ ..] => control_sequence(rest),
        // SS3: arrows and the keypad of a VT100 in its application mode.
        [0x1b, b'O', last, ..] => Step::Whole(named(*last, &[]), 3),
        [0x1b, ..] => Step::Whole(Some(Key::Escape), 1),
        [b'\r' | b'\n', ..] => Step::Whole(Some(Key::Enter), 1),
        [b'\t', ..] => Step::Whole(Some(Key::Tab), 1),
        [0x7f | 0x08, ..] => Step::Whole(Some(Key::Backspace), 1),
        [letter @ 0x01..=0x1a, ..] => Step::Whole(Some(Key::Ctrl(char::from(letter | 0x60))), 1),
        [0x00..=0x1f, ..] => Step::Whole(None, 1),
        _ => character(bytes),
    }
}

/// After ESC and `[`: parameters, then one byte that says which (ECMA-48, 5.4).
fn control_sequence(rest: &[u8]) -> Step {
    let Some(end) = rest.iter().position(|byte| matches!(byte, 0x40..=0x7e)) else {
        return match rest.len() {
            0..LONGEST => Step::Open,
            len => Step::Whole(None, 2 + len),
        };
    };
    let (parameters, last) = (rest.get(..end).unwrap_or_default(), rest.get(end));
    Step::Whole(last.and_then(|last| named(*last, parameters)), 3 + end)
}

/// Shift, Ctrl and Alt with a key (`1;5A`) are the key.
fn named(last: u8, parameters: &[u8]) -> Option<Key> {
    let first = parameters.split(|byte| *byte == b';').next();
    Some(match (last, first) {
        (b'A', _) => Key::Up,
        (b'B', _) => Key::Down,
        (b'C', _) => Key::Right,
        (b'D', _) => Key::Left,
        (b'H', _) | (b'~', Some(b"1" | b"7")) => Key::Home,
        (b'F', _) | (b'~', Some(b"4" | b"8")) => Key::End,
        (b'~', Some(b"5")) => Key::PageUp,
        (b'~', Some(b"6")) => Key::PageDown,
        (b'M', _) => Key::Enter,
        _ => return None,
    })
}

fn character(bytes: &[u8]) -> Step {
    let len = match bytes.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 1,
    };
    let Some(whole) = bytes.get(..len) else {
        return Step::Open;
    };
    match std::str::from_utf8(whole).map(|text| text.chars().next()) {
        Ok(c) => Step::Whole(c.map(Key::Char), len),
        Err(_) => Step::Whole(None, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_the_same_however_their_bytes_come() {
        let typed = "q\x1b[A\x1bOBä\x1b[5~\x1b[1;5C\x03\r\t\x7f\x1b[4~語\x1b[99zx";
        let expected = [
            Key::Char('q'),
            Key::Up,
            Key::Down,
            Key::Char('ä'),
            Key::PageUp,
            Key::Right,
            Key::Ctrl('c'),
            Key::Enter,
            Key::Tab,
            Key::Backspace,
            Key::End,
            Key::Char('語'),
            Key::Char('x'),
        ];
        assert_eq!(Keys::default().push(typed.as_bytes()), expected);
        let mut keys = Keys::default();
        let one_by_one = typed.bytes().flat_map(|byte| keys.push(&[byte]));
        assert_eq!(one_by_one.collect::<Vec<_>>(), expected);
        assert!(!keys.is_open());
    }

    #[test]
    fn escape_is_a_key_when_nothing_follows() {
        let mut keys = Keys::default();
        assert_eq!(keys.push(b"\x1b"), []);
        assert!(keys.is_open());
        assert_eq!(keys.settle(), Some(Key::Escape));
        assert_eq!(keys.push(b"\x1bq"), [Key::Escape, Key::Char('q')]);
        assert_eq!(keys.push(b"\x1b["), []);
        assert_eq!(keys.settle(), None);
        assert_eq!(keys.push(b"a"), [Key::Char('a')]);
    }

    #[test]
    fn garbage_is_no_key_and_ends() {
        let mut keys = Keys::default();
        assert_eq!(keys.push(b"\xff\xc3(\x00\x1c"), [Key::Char('(')]);
        assert_eq!(
            keys.push(b"\x1b[11111111111111111111111111"),
            [Key::Char('1'); 0]
        );
        assert!(!keys.is_open());
        assert_eq!(keys.push(b"q"), [Key::Char('q')]);
    }
}
