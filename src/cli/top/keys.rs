//! What is typed: bytes of a terminal to keys.
//!
//! A slow line may bring a key's bytes one by one, and Esc is the first byte of most of them: what
//! begins a key is kept until its end comes, or until [`Keys::settle`] says that nothing did. What
//! is pasted is text and no keys, and what is not understood is left out whole: its letters are no
//! keys either.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Char(char),
    /// With Ctrl, as the letter that is on the key.
    Ctrl(char),
    /// A character of what was pasted, by a terminal that says so (xterm's mode 2004).
    Pasted(char),
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
/// Nobody takes more of what is pasted.
const MOST_PASTED: usize = 256;
const PASTE_ENDS: &[u8] = b"\x1b[201~";
/// What comes later than this after the beginning of a key is another key: ten bytes at 2400 baud.
const KEY_MS: u16 = 50;
/// A paste that pauses for so long has lost its end.
const PASTE_MS: u16 = 2000;

/// Takes bytes, gives keys.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// The beginning of a key.
    open: Vec<u8>,
    inside: Inside,
}

/// What the next bytes belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Inside {
    #[default]
    Nothing,
    /// A paste, of which so many characters were given.
    Paste(usize),
    /// A control sequence that is too long for a key.
    Sequence,
    /// A string for whoever asks the terminal something (ECMA-48, 5.6): its answer.
    String,
}

enum Step {
    /// A key of so many bytes; `None`: bytes that are no key of ours.
    Whole(Option<Key>, usize),
    /// So many bytes, after which this begins.
    Enters(Inside, usize),
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
            let step = match self.inside {
                Inside::Nothing => step(rest),
                Inside::Paste(given) => pasted(rest, given),
                Inside::Sequence => rest_of_sequence(rest),
                Inside::String => rest_of_string(rest),
            };
            match step {
                Step::Whole(key, len) => {
                    if let (Inside::Paste(given), Some(_)) = (&mut self.inside, key) {
                        *given += 1;
                    }
                    keys.extend(key);
                    at += len;
                }
                Step::Enters(inside, len) => {
                    self.inside = inside;
                    at += len;
                }
                Step::Open => break,
            }
        }
        self.open.drain(..at);
        keys
    }

    /// How many milliseconds to wait for the rest of what has begun; `None`: nothing has.
    pub(super) fn patience(&self) -> Option<u16> {
        match self.inside {
            Inside::Paste(_) => Some(PASTE_MS),
            Inside::Nothing if self.open.is_empty() => None,
            _ => Some(KEY_MS),
        }
    }

    /// Nothing came after the beginning of a key: Esc alone is a key, anything else is none.
    pub(super) fn settle(&mut self) -> Option<Key> {
        let alone = self.inside == Inside::Nothing && self.open == [0x1b];
        self.open.clear();
        self.inside = Inside::Nothing;
        alone.then_some(Key::Escape)
    }
}

fn step(bytes: &[u8]) -> Step {
    match bytes {
        [0x1b] => Step::Open,
        [0x1b, b'[', rest @ ..] => control_sequence(rest),
        [0x1b, b'O', rest @ ..] => single_shift(rest),
        [0x1b, b'P' | b'X' | b']' | b'^' | b'_', ..] => Step::Enters(Inside::String, 2),
        [0x1b, 0x00..=0x1f | 0x7f, ..] => Step::Whole(Some(Key::Escape), 1),
        // Alt with a key is another key than that alone.
        [0x1b, rest @ ..] => match character(rest) {
            Step::Whole(_, len) => Step::Whole(None, 1 + len),
            other => other,
        },
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
    let of = |len: usize| match rest.len() >= len {
        true => Step::Whole(None, 2 + len),
        false => Step::Open,
    };
    let Some(end) = rest.iter().position(|byte| !matches!(byte, 0x20..=0x3f)) else {
        return match rest.len() {
            0..LONGEST => Step::Open,
            len => Step::Enters(Inside::Sequence, 2 + len),
        };
    };
    let parameters = rest.get(..end).unwrap_or_default();
    match rest.get(end) {
        // The Linux console's F1 to F5 have one byte more, a mouse's report of X10 three.
        Some(b'[') if end == 0 => of(2),
        Some(b'M') if end == 0 => of(4),
        Some(b'~') if parameters == b"200" => Step::Enters(Inside::Paste(0), 3 + end),
        Some(last @ 0x40..=0x7e) => Step::Whole(named(*last, parameters), 3 + end),
        // It was broken off.
        _ => Step::Whole(None, 2 + end),
    }
}

/// After ESC and `O`: arrows and the keypad of a VT100 in its application mode, with a number
/// before where Shift or Ctrl is held.
fn single_shift(rest: &[u8]) -> Step {
    let Some(end) = rest.iter().position(|byte| !byte.is_ascii_digit()) else {
        return match rest.len() {
            0..LONGEST => Step::Open,
            len => Step::Whole(None, 2 + len),
        };
    };
    match rest.get(end) {
        Some(b'M') => Step::Whole(Some(Key::Enter), 3 + end),
        Some(last @ 0x40..=0x7e) => Step::Whole(named(*last, &[]), 3 + end),
        _ => Step::Whole(None, 2 + end),
    }
}

/// Shift, Ctrl and Alt with a key (`1;5A`) are the key. With `<` or `?` before it is a mouse's
/// report or an answer.
fn named(last: u8, parameters: &[u8]) -> Option<Key> {
    let is_number = |byte: &u8| byte.is_ascii_digit() || *byte == b';';
    if !parameters.iter().all(is_number) {
        return None;
    }
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
        _ => return None,
    })
}

fn pasted(bytes: &[u8], given: usize) -> Step {
    if bytes.starts_with(PASTE_ENDS) {
        return Step::Enters(Inside::Nothing, PASTE_ENDS.len());
    }
    if PASTE_ENDS.starts_with(bytes) {
        return Step::Open;
    }
    match character(bytes) {
        Step::Whole(Some(Key::Char(c)), len) => {
            let takes = given < MOST_PASTED && !c.is_control();
            Step::Whole(takes.then_some(Key::Pasted(c)), len)
        }
        other => other,
    }
}

fn rest_of_sequence(bytes: &[u8]) -> Step {
    match bytes.first() {
        Some(0x20..=0x3f) => Step::Whole(None, 1),
        Some(0x40..=0x7e) => Step::Enters(Inside::Nothing, 1),
        _ => Step::Enters(Inside::Nothing, 0),
    }
}

/// To its end, BEL or ESC and `\`.
fn rest_of_string(bytes: &[u8]) -> Step {
    match bytes {
        [0x07, ..] => Step::Enters(Inside::Nothing, 1),
        [0x1b] => Step::Open,
        [0x1b, b'\\', ..] => Step::Enters(Inside::Nothing, 2),
        // It was broken off; so does Ctrl-C.
        [0x1b | 0x03, ..] => Step::Enters(Inside::Nothing, 0),
        _ => Step::Whole(None, 1),
    }
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
        assert_eq!(keys.patience(), None);
    }

    #[test]
    fn escape_is_a_key_when_nothing_follows() {
        let mut keys = Keys::default();
        assert_eq!(keys.push(b"\x1b"), []);
        assert_eq!(keys.patience(), Some(KEY_MS));
        assert_eq!(keys.settle(), Some(Key::Escape));
        assert_eq!(keys.push(b"\x1b\x1b[A"), [Key::Escape, Key::Up]);
        assert_eq!(keys.push(b"\x1b["), []);
        assert_eq!(keys.settle(), None);
        assert_eq!(keys.push(b"a"), [Key::Char('a')]);
    }

    #[test]
    fn garbage_is_no_key_and_ends() {
        let mut keys = Keys::default();
        assert_eq!(keys.push(b"\xff\xc3(\x00\x1c"), [Key::Char('(')]);
    }

    #[test]
    fn what_is_not_understood_is_left_out_whole() {
        for bytes in [
            "\x1b[11111111111111111111111111x",
            // F1 of the Linux console, of xterm, with Shift; reports of a mouse, in three ways.
            "\x1b[[A",
            "\x1bOP",
            "\x1bO2P",
            "\x1b[M ys",
            "\x1b[<0;12;3M\x1b[<0;12;3m",
            "\x1b[32;12;3M",
            // Alt with a key, and answers: the background's colour, attributes, the version.
            "\x1bx\x1bä",
            "\x1b]11;rgb:ffff/ffff/ffff\x07",
            "\x1b]11;rgb:ffff/ffff/ffff\x1b\\",
            "\x1b[?62;4c",
            "\x1bP>|xterm(390)\x1b\\",
        ] {
            let mut keys = Keys::default();
            assert_eq!(keys.push(bytes.as_bytes()), [], "{bytes:?}");
            assert_eq!(keys.push(b"q"), [Key::Char('q')], "{bytes:?}");
            let one_by_one = bytes.bytes().flat_map(|byte| keys.push(&[byte]));
            assert_eq!(one_by_one.collect::<Vec<_>>(), [], "{bytes:?}");
            assert_eq!(keys.patience(), None, "{bytes:?}");
        }
        let mut keys = Keys::default();
        assert_eq!(keys.push(b"\x1b[1\x1b[A"), [Key::Up], "broken off");
        assert_eq!(keys.push(b"\x1b]no end\x03"), [Key::Ctrl('c')]);
    }

    #[test]
    fn what_is_pasted_is_text_and_no_keys() {
        let bytes = "\x1b[200~xy\x03\x1b[A\r\x1bä\x1b[201~q";
        let expected = [
            Key::Pasted('x'),
            Key::Pasted('y'),
            Key::Pasted('['),
            Key::Pasted('A'),
            Key::Pasted('ä'),
            Key::Char('q'),
        ];
        assert_eq!(Keys::default().push(bytes.as_bytes()), expected);
        let mut keys = Keys::default();
        let one_by_one = bytes.bytes().flat_map(|byte| keys.push(&[byte]));
        assert_eq!(one_by_one.collect::<Vec<_>>(), expected);
        let long = format!("\x1b[200~{}", "y".repeat(100_000));
        assert_eq!(keys.push(long.as_bytes()).len(), MOST_PASTED);
        assert_eq!(keys.patience(), Some(PASTE_MS));
        assert_eq!(keys.push(b"still"), []);
        assert_eq!(keys.settle(), None, "its end was lost");
        assert_eq!(keys.push(b"q"), [Key::Char('q')]);
    }
}
