//! Splits chunks of bytes into whole lines.

use std::ops::ControlFlow;

use memchr::memchr;

/// The longest line that is delivered, in bytes. Asterisk's are below 2 KiB.
pub const LINE_MAX: usize = 64 * 1024;

/// Joins lines that arrive in pieces.
#[derive(Debug, Default)]
pub(in crate::source) struct LineSplitter {
    held: Vec<u8>,
    skipping: bool,
}

/// The result for one chunk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::source) struct Split {
    pub(in crate::source) lines: u64,
    pub(in crate::source) skipped: u64,
    /// How much of the chunk was consumed.
    pub(in crate::source) read: usize,
    /// Whether `each` had enough; otherwise everything was consumed.
    pub(in crate::source) enough: bool,
}

impl LineSplitter {
    /// Starts in the middle of a line and leaves out its rest, which could be an attacker's text that
    /// looks like a line.
    pub(in crate::source) fn in_mid_line() -> Self {
        Self { held: Vec::new(), skipping: true }
    }

    /// Calls `each` for every line that ends in `chunk`, without its newline, until it has enough.
    pub(in crate::source) fn split(
        &mut self,
        mut chunk: &[u8],
        each: &mut impl FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Split {
        let mut split = Split::default();
        while let Some(end) = memchr(b'\n', chunk) {
            let (line, rest) = (&chunk[..end], &chunk[end + 1..]);
            chunk = rest;
            split.read += end + 1;
            if std::mem::take(&mut self.skipping) {
                continue;
            }
            if self.held.len() + line.len() > LINE_MAX {
                self.held.clear();
                split.skipped += 1;
                continue;
            }
            split.lines += 1;
            let flow = if self.held.is_empty() {
                each(line)
            } else {
                self.held.extend_from_slice(line);
                let flow = each(&self.held);
                self.held.clear();
                flow
            };
            if flow.is_break() {
                split.enough = true;
                return split;
            }
        }
        split.read += chunk.len();
        if !self.skipping {
            if self.held.len() + chunk.len() > LINE_MAX {
                self.held.clear();
                self.skipping = true;
                split.skipped += 1;
            } else {
                self.held.extend_from_slice(chunk);
            }
        }
        split
    }

    /// The bytes of the incomplete line.
    pub(in crate::source) fn held(&self) -> u64 {
        self.held.len() as u64
    }

    /// Whether the rest of a line is being left out.
    pub(in crate::source) fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Whether there is an incomplete line.
    pub(in crate::source) fn holds_part(&self) -> bool {
        !self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn split_all(splitter: &mut LineSplitter, chunks: &[&[u8]]) -> (Vec<Vec<u8>>, u64) {
        let mut lines = Vec::new();
        let mut skipped = 0;
        for chunk in chunks {
            let split = splitter.split(chunk, &mut |line| {
                lines.push(line.to_vec());
                ControlFlow::Continue(())
            });
            assert_eq!(split.read, chunk.len());
            skipped += split.skipped;
        }
        (lines, skipped)
    }

    #[test]
    fn holds_a_line_until_its_newline() {
        let mut splitter = LineSplitter::default();
        let (lines, _) = split_all(&mut splitter, &[b"one\ntw", b"o", b"", b"\n\nthree"]);
        assert_eq!(lines, [&b"one"[..], b"two", b""]);
        assert!(splitter.holds_part());
    }

    #[test]
    fn stops_behind_the_line_that_was_enough() {
        let mut splitter = LineSplitter::default();
        splitter.split(b"on", &mut |_| ControlFlow::Continue(()));
        let mut rest = &b"e\ntwo\nthree\nfo"[..];
        let mut lines = Vec::new();
        while !rest.is_empty() {
            let split = splitter.split(rest, &mut |line| {
                lines.push(String::from_utf8_lossy(line).into_owned());
                ControlFlow::Break(())
            });
            assert_eq!((split.lines == 1, split.enough), (split.enough, split.read < rest.len()));
            rest = &rest[split.read..];
        }
        assert_eq!(lines, ["one", "two", "three"]);
        assert_eq!(splitter.held(), 2);
    }

    #[test]
    fn leaves_out_the_rest_of_the_line_it_began_in() {
        let (lines, skipped) =
            split_all(&mut LineSplitter::in_mid_line(), &[b"[forged] ", b"line\ntrue\n"]);
        assert_eq!((lines, skipped), (vec![b"true".to_vec()], 0));
    }

    #[test]
    fn leaves_out_lines_that_are_too_long_and_counts_them() {
        let longest = vec![b'x'; LINE_MAX];
        let mut splitter = LineSplitter::default();
        let (lines, skipped) = split_all(
            &mut splitter,
            &[&longest, b"\n", &longest, b"x", &longest, &longest, b"\nok\n", &longest, b"y\nok\n"],
        );
        assert_eq!(lines, [&longest[..], b"ok", b"ok"]);
        assert_eq!(skipped, 2);
        assert!(splitter.held.capacity() <= 2 * LINE_MAX);
    }

    proptest! {
        #[test]
        fn cuts_do_not_matter(
            lines in vec(vec(any::<u8>().prop_filter("newline", |b| *b != b'\n'), 0..20), 0..20),
            cuts in vec(1_usize..30, 1..40),
        ) {
            let bytes: Vec<u8> = lines.iter().flat_map(|l| [&l[..], b"\n"].concat()).collect();
            let mut chunks = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.iter().cycle() {
                let (chunk, after) = rest.split_at((*cut).min(rest.len()));
                chunks.push(chunk);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(split_all(&mut LineSplitter::default(), &chunks), (lines, 0));
        }
    }
}
