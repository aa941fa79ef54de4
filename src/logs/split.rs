//! Bytes in, lines out: joins what one read leaves open with what the next one brings.

use std::cell::Cell;
use std::io::BufRead;

use super::Cut;

/// No piece handed on is longer than this many bytes; a longer line is cut.
pub const LINE_MAX: usize = 16 * 1024;

/// The open end of one stream. Holds no memory between whole lines.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    open: Vec<u8>,
    continues: bool,
}

impl Splitter {
    /// Takes `chunk` and calls `line` with each line that it completes, without its line end, until
    /// that says that it wants no more (a last piece comes with the end of its line): how many bytes
    /// were taken.
    pub(super) fn feed(&mut self, chunk: &[u8], mut line: impl FnMut(&[u8], Cut) -> bool) -> usize {
        let wants_more = Cell::new(true);
        let mut line = |text: &[u8], cut: Cut| wants_more.set(line(text, cut));
        let mut rest = chunk;
        while !rest.is_empty() && wants_more.get() {
            rest = match line_end(rest) {
                Some(end) if end <= LINE_MAX => {
                    self.complete(&rest[..end], &mut line);
                    &rest[end + 1..]
                }
                // Not more than a piece at a time.
                _ => {
                    let (piece, later) = rest.split_at(rest.len().min(LINE_MAX));
                    self.hold(piece, &mut line);
                    later
                }
            };
        }
        chunk.len() - rest.len()
    }

    /// The stream has ended: hands on what has no line end.
    pub(super) fn finish(&mut self, mut line: impl FnMut(&[u8], Cut)) {
        if !self.open.is_empty() {
            self.complete(&[], &mut line);
        }
        self.continues = false;
    }

    fn complete(&mut self, tail: &[u8], line: &mut impl FnMut(&[u8], Cut)) {
        if self.open.is_empty() && !self.continues && tail.len() <= LINE_MAX {
            line(without_cr(tail), Cut::default());
            return;
        }
        self.hold(tail, line);
        let whole = std::mem::take(&mut self.open);
        let cut = Cut {
            before: std::mem::take(&mut self.continues),
            after: false,
        };
        line(without_cr(&whole), cut);
    }

    fn hold(&mut self, bytes: &[u8], line: &mut impl FnMut(&[u8], Cut)) {
        let mut rest = bytes;
        loop {
            let room = LINE_MAX.saturating_sub(self.open.len());
            if rest.len() <= room {
                self.open.extend_from_slice(rest);
                return;
            }
            self.open.extend_from_slice(&rest[..room]);
            rest = &rest[room..];
            let end = character_end(&self.open);
            let cut = Cut {
                before: self.continues,
                after: true,
            };
            line(&self.open[..end], cut);
            self.open.drain(..end);
            self.continues = true;
        }
    }
}

/// Where the first line feed is. `skip_until` searches with memchr(3); a loop over bytes takes
/// ten times as long, and a flood is nothing but this.
fn line_end(bytes: &[u8]) -> Option<usize> {
    let mut cursor = bytes;
    let skipped = cursor.skip_until(b'\n').ok()?;
    let last = skipped.checked_sub(1)?;
    (bytes.get(last) == Some(&b'\n')).then_some(last)
}

fn without_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// The longest prefix that does not end inside a UTF-8 sequence; all of `bytes` when its end is
/// no UTF-8 anyway.
fn character_end(bytes: &[u8]) -> usize {
    for (back, byte) in bytes.iter().rev().take(3).enumerate() {
        let length = match byte {
            0x80..=0xBF => continue,
            0xC0..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF7 => 4,
            _ => 1,
        };
        let present = back + 1;
        return if length > present {
            bytes.len() - present
        } else {
            bytes.len()
        };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(chunks: &[&[u8]]) -> Vec<(Vec<u8>, Cut)> {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        for chunk in chunks {
            let taken = splitter.feed(chunk, |text, cut| {
                lines.push((text.to_vec(), cut));
                true
            });
            assert_eq!(taken, chunk.len());
        }
        splitter.finish(|text, cut| lines.push((text.to_vec(), cut)));
        assert_eq!(
            splitter.open.capacity(),
            0,
            "memory is held between whole lines"
        );
        lines
    }

    fn texts(chunks: &[&[u8]]) -> Vec<String> {
        split(chunks)
            .into_iter()
            .map(|(text, _)| String::from_utf8_lossy(&text).into_owned())
            .collect()
    }

    #[test]
    fn lines_join_and_split_wherever_the_reads_fall() {
        let text = b"one\ntwo\r\n\nthree";
        for at in 0..=text.len() {
            let (head, tail) = text.split_at(at);
            assert_eq!(
                texts(&[head, tail]),
                ["one", "two", "", "three"],
                "split at {at}"
            );
        }
        let single: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(texts(&single), ["one", "two", "", "three"]);
        assert!(texts(&[b""]).is_empty());
    }

    #[test]
    fn no_more_is_taken_than_is_wanted() {
        let text = [
            b"one\ntwo\r\n".as_slice(),
            &vec![b'x'; 3 * LINE_MAX],
            b"\n\n",
        ]
        .concat();
        let (mut splitter, mut rest) = (Splitter::default(), text.as_slice());
        let mut lines = Vec::new();
        while !rest.is_empty() {
            let mut came = 0;
            let taken = splitter.feed(rest, |line, _| {
                lines.push(line.to_vec());
                came += 1;
                false
            });
            assert!(came <= 2 && taken > 0, "{came} lines of {taken} bytes");
            rest = &rest[taken..];
        }
        splitter.finish(|line, _| lines.push(line.to_vec()));
        assert_eq!(lines[..2], [b"one", b"two"]);
        let long: usize = lines[2..].iter().map(Vec::len).sum();
        assert_eq!(long, 3 * LINE_MAX);
        assert_eq!(lines.last(), Some(&Vec::new()));
    }

    #[test]
    fn a_long_line_is_cut_into_marked_pieces_that_make_the_whole() {
        for length in [
            LINE_MAX - 1,
            LINE_MAX,
            LINE_MAX + 1,
            3 * LINE_MAX,
            3 * LINE_MAX + 7,
        ] {
            let mut line = vec![b'x'; length];
            line.push(b'\n');
            line.extend_from_slice(b"next\n");
            for step in [1000, 65536] {
                let chunks: Vec<&[u8]> = line.chunks(step).collect();
                let mut pieces = split(&chunks);
                assert_eq!(pieces.pop(), Some((b"next".to_vec(), Cut::default())));
                assert_eq!(pieces.iter().map(|(p, _)| p.len()).sum::<usize>(), length);
                assert!(pieces.iter().all(|(p, _)| p.len() <= LINE_MAX));
                let last = pieces.len() - 1;
                for (at, (_, cut)) in pieces.iter().enumerate() {
                    assert_eq!((cut.before, cut.after), (at > 0, at < last), "{length}");
                }
            }
        }
    }

    #[test]
    fn a_cut_does_not_tear_a_character() {
        let line = "aä€😀".repeat(LINE_MAX / 5);
        let pieces = split(&[line.as_bytes()]);
        assert!(pieces.len() > 1);
        let whole: String = pieces
            .iter()
            .map(|(piece, _)| std::str::from_utf8(piece).unwrap())
            .collect();
        assert_eq!(whole, line);
    }

    #[test]
    fn bytes_that_are_no_utf8_are_cut_and_kept() {
        let line = vec![0xFFu8; LINE_MAX + 10];
        let pieces = split(&[&line]);
        assert_eq!(
            pieces
                .iter()
                .flat_map(|(p, _)| p.clone())
                .collect::<Vec<_>>(),
            line
        );
        let stuck = vec![0x80u8; 2 * LINE_MAX];
        assert_eq!(split(&[&stuck]).len(), 2);
    }
}
