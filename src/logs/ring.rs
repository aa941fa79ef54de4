//! The last lines of one source, bounded in bytes and lines, in one piece of memory.
//!
//! Each source has a ring of its own, so that a chatty one evicts nobody else's lines. A line
//! costs its text and [`HEADER`] bytes: no allocation of its own.

use std::collections::VecDeque;
use std::ops::Range;

use super::split::LINE_MAX;
use super::{Cut, Limits, Stream};

/// Bytes a line takes besides its text: length, flags, sequence number, wall time (µs).
pub const HEADER: usize = 19;

const FLAG_STDERR: u8 = 1;
const FLAG_BEFORE: u8 = 2;
const FLAG_AFTER: u8 = 4;

// A piece's length has 16 bits in the header.
const _: () = assert!(LINE_MAX <= u16::MAX as usize);

/// What a line has besides its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) stream: Stream,
    pub(super) cut: Cut,
    pub(super) seq: u64,
    pub(super) wall_us: u64,
}

#[derive(Debug, Default)]
pub(super) struct Ring {
    blob: VecDeque<u8>,
    lines: usize,
    evicted: u64,
}

impl Ring {
    /// Keeps a line, evicting the oldest ones as the limits demand.
    pub(super) fn push(&mut self, limits: Limits, head: Head, text: &[u8]) {
        let Some(room) = limits.ring_bytes.checked_sub(HEADER) else {
            self.evicted += 1;
            return;
        };
        if limits.ring_lines == 0 {
            self.evicted += 1;
            return;
        }
        let kept = &text[..text.len().min(room).min(LINE_MAX)];
        let mut head = head;
        head.cut.after |= kept.len() < text.len();
        let needed = HEADER + kept.len();
        while self.lines >= limits.ring_lines || self.blob.len() + needed > limits.ring_bytes {
            if !self.evict_oldest() {
                break;
            }
        }
        self.grow(needed, limits.ring_bytes);
        self.blob.extend(encode(head, kept.len()));
        self.blob.extend(kept);
        self.lines += 1;
    }

    /// How many lines had to go.
    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    /// How many lines are there.
    pub(super) fn len(&self) -> usize {
        self.lines
    }

    /// The lines from the oldest on: what each has, and where its text is.
    pub(super) fn entries(&self) -> Entries<'_> {
        Entries { ring: self, at: 0 }
    }

    /// The bytes at `range`, as [`Ring::entries`] gave it.
    pub(super) fn text(&self, range: Range<usize>) -> Vec<u8> {
        let end = range.end.min(self.blob.len());
        let start = range.start.min(end);
        self.blob.range(start..end).copied().collect()
    }

    /// Bytes of memory that the ring holds.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> usize {
        self.blob.capacity()
    }

    fn evict_oldest(&mut self) -> bool {
        let Some((_, text)) = self.entries().next() else {
            return false;
        };
        self.blob.drain(..text.end);
        self.lines -= 1;
        self.evicted += 1;
        true
    }

    /// Doubles, but never beyond the limit: `VecDeque` by itself would hold up to twice that.
    fn grow(&mut self, needed: usize, limit: usize) {
        let total = self.blob.len() + needed;
        if total > self.blob.capacity() {
            let target = (self.blob.capacity() * 2).clamp(total, limit.max(total));
            self.blob.reserve_exact(target - self.blob.len());
        }
    }
}

pub(super) struct Entries<'a> {
    ring: &'a Ring,
    at: usize,
}

impl Iterator for Entries<'_> {
    type Item = (Head, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let start = self.at + HEADER;
        if start > self.ring.blob.len() {
            return None;
        }
        let mut raw = [0; HEADER];
        for (to, from) in raw.iter_mut().zip(self.ring.blob.range(self.at..start)) {
            *to = *from;
        }
        let (head, length) = decode(raw);
        self.at = start + length;
        Some((head, start..self.at))
    }
}

fn encode(head: Head, length: usize) -> [u8; HEADER] {
    let mut flags = 0;
    if head.stream == Stream::Stderr {
        flags |= FLAG_STDERR;
    }
    if head.cut.before {
        flags |= FLAG_BEFORE;
    }
    if head.cut.after {
        flags |= FLAG_AFTER;
    }
    let [len0, len1] = u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes();
    let mut raw = [0; HEADER];
    raw[..3].copy_from_slice(&[len0, len1, flags]);
    raw[3..11].copy_from_slice(&head.seq.to_le_bytes());
    raw[11..].copy_from_slice(&head.wall_us.to_le_bytes());
    raw
}

fn decode(raw: [u8; HEADER]) -> (Head, usize) {
    let word = |at: usize| {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&raw[at..at + 8]);
        u64::from_le_bytes(bytes)
    };
    let flags = raw[2];
    let head = Head {
        stream: if flags & FLAG_STDERR == 0 {
            Stream::Stdout
        } else {
            Stream::Stderr
        },
        cut: Cut {
            before: flags & FLAG_BEFORE != 0,
            after: flags & FLAG_AFTER != 0,
        },
        seq: word(3),
        wall_us: word(11),
    };
    (head, usize::from(u16::from_le_bytes([raw[0], raw[1]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(seq: u64) -> Head {
        Head {
            stream: if seq.is_multiple_of(2) {
                Stream::Stdout
            } else {
                Stream::Stderr
            },
            cut: Cut {
                before: seq.is_multiple_of(3),
                after: seq.is_multiple_of(5),
            },
            seq,
            wall_us: u64::MAX - seq,
        }
    }

    fn limits(ring_bytes: usize, ring_lines: usize) -> Limits {
        Limits {
            ring_bytes,
            ring_lines,
        }
    }

    fn contents(ring: &Ring) -> Vec<(Head, Vec<u8>)> {
        ring.entries()
            .map(|(head, text)| (head, ring.text(text)))
            .collect()
    }

    #[test]
    fn an_empty_ring_holds_no_memory() {
        assert_eq!(Ring::default().footprint(), 0);
    }

    #[test]
    fn the_newest_lines_stay_whole_and_the_bounds_hold() {
        for (bytes, lines) in [(1000, 2000), (64 * 1024, 7), (1000, 3), (999, 50)] {
            let mut ring = Ring::default();
            let mut all = Vec::new();
            for seq in 0..500u64 {
                let text = vec![b'a' + (seq % 26) as u8; (seq % 60) as usize];
                ring.push(limits(bytes, lines), head(seq), &text);
                all.push((head(seq), text));
                let kept = contents(&ring);
                assert!(kept.len() <= lines);
                assert!(ring.footprint() <= bytes, "{} of {bytes}", ring.footprint());
                assert_eq!(kept, all[all.len() - kept.len()..]);
                assert_eq!(ring.evicted() + kept.len() as u64, all.len() as u64);
                assert_eq!(ring.len(), kept.len());
            }
            assert!(ring.evicted() > 0);
        }
    }

    #[test]
    fn a_line_that_does_not_fit_is_kept_in_part() {
        let mut ring = Ring::default();
        ring.push(limits(HEADER + 4, 10), head(1), b"0123456789");
        let kept = contents(&ring);
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].1, b"0123");
        assert!(kept[0].0.cut.after);
    }

    #[test]
    fn a_ring_without_room_counts_what_it_could_not_keep() {
        for nothing in [limits(0, 10), limits(HEADER - 1, 10), limits(1000, 0)] {
            let mut ring = Ring::default();
            ring.push(nothing, head(1), b"x");
            assert_eq!((ring.len(), ring.evicted()), (0, 1));
        }
    }
}
