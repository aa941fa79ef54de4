//! Cuts a stream of bytes into JSON values, however they were split or run together.

use std::fmt;

use serde_json::Value;

use super::twice::{self, Frame};

/// A request larger than this ends the connection (bytes).
pub const MAX_FRAME_BYTES: usize = 1 << 20;

/// A buffer that has become larger than this is given back when its values are taken (bytes).
const KEPT_BYTES: usize = 16 << 10;

/// Takes bytes as they come, gives whole JSON objects and arrays. White space between them is
/// free, no separator is needed. Nothing is looked at twice, and no more than one value and the
/// last read are held.
#[derive(Debug)]
pub struct Frames {
    limit: usize,
    buffer: Vec<u8>,
    /// Where the current value begins.
    start: usize,
    /// Up to where it was looked at.
    seen: usize,
    depth: usize,
    in_string: bool,
    escaped: bool,
    broken: bool,
}

/// Why the stream cannot go on: what follows cannot be told apart any more. Answer with its
/// error, a null id, and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// This is not JSON (-32700).
    NotJson,
    /// JSON, and neither an object nor an array (-32600).
    NotARequest,
    /// A value of more bytes than this (-32600).
    TooLarge(usize),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::NotJson => f.write_str("what came is not JSON"),
            FrameError::NotARequest => f.write_str("what came is neither an object nor an array"),
            FrameError::TooLarge(limit) => write!(f, "what came is larger than {limit} bytes"),
        }
    }
}

impl std::error::Error for FrameError {}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

impl Frames {
    /// An empty stream whose values have at most [`MAX_FRAME_BYTES`].
    pub fn new() -> Self {
        Self::with_limit(MAX_FRAME_BYTES)
    }

    /// An empty stream whose values have at most `limit` bytes.
    pub fn with_limit(limit: usize) -> Self {
        Frames {
            limit,
            buffer: Vec::new(),
            start: 0,
            seen: 0,
            depth: 0,
            in_string: false,
            escaped: false,
            broken: false,
        }
    }

    /// Takes what was read.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            (self.start, self.seen) = (0, 0);
        } else if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            if self.buffer.capacity() > KEPT_BYTES {
                self.buffer.shrink_to(KEPT_BYTES);
            }
            self.seen -= self.start;
            self.start = 0;
        }
        if !self.broken {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// Whether bytes wait that are no whole value yet: at the end of a stream it was cut short.
    pub fn is_partial(&self) -> bool {
        self.depth > 0
    }

    /// How much memory is held for what is no whole value yet (bytes).
    pub fn held_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    /// The next whole value; `None` until more is pushed.
    ///
    /// # Errors
    /// When the stream cannot go on. After that there is nothing more.
    pub fn next_value(&mut self) -> Option<Result<Value, FrameError>> {
        self.next_frame()
            .map(|frame| frame.map(|frame| frame.value))
    }

    /// The same, and which names stand twice in it.
    ///
    /// # Errors
    /// When the stream cannot go on. After that there is nothing more.
    pub fn next_frame(&mut self) -> Option<Result<Frame, FrameError>> {
        if self.broken {
            return None;
        }
        let next = self.advance();
        if matches!(next, Some(Err(_))) {
            self.broken = true;
            self.buffer = Vec::new();
            (self.start, self.seen, self.depth) = (0, 0, 0);
        }
        next
    }

    fn advance(&mut self) -> Option<Result<Frame, FrameError>> {
        while let Some(&byte) = self.buffer.get(self.seen) {
            self.seen += 1;
            if self.depth == 0 {
                match byte {
                    b' ' | b'\t' | b'\r' | b'\n' => self.start = self.seen,
                    b'{' | b'[' => self.depth = 1,
                    b'"' | b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                        return Some(Err(FrameError::NotARequest));
                    }
                    _ => return Some(Err(FrameError::NotJson)),
                }
                continue;
            }
            if self.seen - self.start > self.limit {
                return Some(Err(FrameError::TooLarge(self.limit)));
            }
            if self.closes(byte) {
                let value = self.buffer.get(self.start..self.seen).unwrap_or_default();
                let value = twice::read(value).map_err(|_| FrameError::NotJson);
                self.start = self.seen;
                self.give_back();
                return Some(value);
            }
        }
        None
    }

    /// A large value's memory is not kept for the small ones that follow.
    fn give_back(&mut self) {
        if self.start == self.buffer.len() && self.buffer.capacity() > KEPT_BYTES {
            self.buffer = Vec::new();
            (self.start, self.seen) = (0, 0);
        }
    }

    /// Follows `byte` inside a value; whether the value ends with it.
    fn closes(&mut self, byte: u8) -> bool {
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return false;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth -= 1,
            _ => {}
        }
        self.depth == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(chunks: impl IntoIterator<Item = Vec<u8>>) -> Vec<Result<Value, FrameError>> {
        let mut frames = Frames::new();
        let mut out = Vec::new();
        for chunk in chunks {
            frames.push(&chunk);
            while let Some(value) = frames.next_value() {
                out.push(value);
            }
        }
        out
    }

    #[test]
    fn values_split_and_run_together_come_out_whole() {
        let text = b"{\"a\":\"}{\\\"\\\\\"}[1,[2]] \n\t{}\r\n{\"b\":[{}]}";
        let expected: Vec<Result<Value, FrameError>> = [
            serde_json::json!({"a": "}{\"\\"}),
            serde_json::json!([1, [2]]),
            serde_json::json!({}),
            serde_json::json!({"b": [{}]}),
        ]
        .map(Ok)
        .into();
        for size in 1..=text.len() {
            let chunks = text.chunks(size).map(<[u8]>::to_vec);
            assert_eq!(all(chunks), expected, "chunks of {size}");
        }
    }

    #[test]
    fn what_cannot_go_on_says_why_once() {
        for (text, error) in [
            ("x", FrameError::NotJson),
            ("}", FrameError::NotJson),
            ("{]", FrameError::NotJson),
            ("{'a':1}", FrameError::NotJson),
            ("{\"a\":\"\u{ff}\"}", FrameError::NotJson),
            ("12 ", FrameError::NotARequest),
            ("\"a\"", FrameError::NotARequest),
            ("null", FrameError::NotARequest),
        ] {
            // Latin-1, so that one of them is no UTF-8.
            let bytes: Vec<u8> = text.chars().map(|c| u8::try_from(c).unwrap()).collect();
            assert_eq!(all([bytes, b"{}".to_vec()]), [Err(error)], "{text}");
        }
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert_eq!(all([deep.into_bytes()]), [Err(FrameError::NotJson)]);
    }

    #[test]
    fn a_value_is_bounded_and_the_buffer_with_it() {
        let fits = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_FRAME_BYTES - 8));
        assert_eq!(fits.len(), MAX_FRAME_BYTES);
        assert!(matches!(all([fits.into_bytes()])[..], [Ok(_)]));
        let chunk = vec![b'['; 64 * 1024];
        assert_eq!(
            all(vec![chunk; 40]),
            [Err(FrameError::TooLarge(MAX_FRAME_BYTES))]
        );
        let mut frames = Frames::new();
        frames.push(format!("[\"{}", "x".repeat(MAX_FRAME_BYTES / 2)).as_bytes());
        assert!(frames.next_value().is_none());
        assert!(frames.held_bytes() > MAX_FRAME_BYTES / 2);
        frames.push(b"\"]");
        assert!(frames.next_value().unwrap().is_ok());
        assert!(
            frames.held_bytes() <= KEPT_BYTES,
            "an idle client costs little"
        );
        for _ in 0..100_000 {
            frames.push(b"{\"a\": 1} \n {\"b\"");
            assert!(frames.next_value().unwrap().is_ok());
            assert!(frames.next_value().is_none() && frames.is_partial());
            frames.push(b":2}");
            assert!(frames.next_value().unwrap().is_ok());
            assert!(!frames.is_partial() && frames.buffer.len() < 100);
        }
    }
}
