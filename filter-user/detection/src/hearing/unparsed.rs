//! Lines that look like failures and match no rule: their number and some samples.

use std::hash::{DefaultHasher, Hasher as _};

use jiff::Timestamp;

/// The most samples that are kept, each with a different shape.
pub const SAMPLES: usize = 5;

/// The longest sample, in characters.
pub const SAMPLE_MAX: usize = 300;

/// How many bytes of a line determine its shape.
const SHAPE_MAX: usize = 256;

/// The unrecognised lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unparsed {
    lines: u64,
    first: Option<Timestamp>,
    samples: Vec<Sample>,
}

/// One of the lines with the same shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The latest of them, printable: at most [`SAMPLE_MAX`] characters of it.
    pub text: String,
    /// How many of them were read.
    pub lines: u64,
    /// When the last one was read.
    pub last: Timestamp,
    shape: u64,
}

impl Unparsed {
    /// How many lines there were.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// When the first one was read.
    pub fn first(&self) -> Option<Timestamp> {
        self.first
    }

    /// Some of the lines, the latest first.
    pub fn samples(&self) -> Vec<&Sample> {
        let mut samples: Vec<&Sample> = self.samples.iter().collect();
        samples.sort_by_key(|sample| std::cmp::Reverse(sample.last));
        samples
    }

    /// Whether there were no such lines.
    pub fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// Adds a line.
    pub fn add(&mut self, line: &[u8], now: Timestamp) {
        self.lines = self.lines.saturating_add(1);
        self.first.get_or_insert(now);
        let shape = shape(line);
        if let Some(sample) = self.samples.iter_mut().find(|sample| sample.shape == shape) {
            // The text stays: an attack can cause thousands of these lines.
            sample.lines = sample.lines.saturating_add(1);
            sample.last = sample.last.max(now);
        } else {
            self.put(Sample { text: printable(line), lines: 1, last: now, shape });
        }
    }

    /// Adds the lines of another collection.
    pub fn merge(&mut self, other: Self) {
        self.lines = self.lines.saturating_add(other.lines);
        self.first = self.first.or(other.first);
        for sample in other.samples {
            match self.samples.iter_mut().find(|known| known.shape == sample.shape) {
                Some(known) => {
                    known.text = sample.text;
                    known.lines = known.lines.saturating_add(sample.lines);
                    known.last = known.last.max(sample.last);
                }
                None => self.put(sample),
            }
        }
    }

    /// Adds a sample of another shape, in place of the oldest if there is no room.
    fn put(&mut self, sample: Sample) {
        if self.samples.len() < SAMPLES {
            self.samples.push(sample);
        } else if let Some(oldest) = self.samples.iter_mut().min_by_key(|sample| sample.last) {
            *oldest = sample;
        }
    }
}

/// A hash of the words of a line up to the first quote: roughly the program's own text, without the
/// names that it quotes.
fn shape(line: &[u8]) -> u64 {
    let end = line.iter().take(SHAPE_MAX).position(|byte| b"'\"".contains(byte));
    let text = &line[..end.unwrap_or(line.len().min(SHAPE_MAX))];
    let mut hasher = DefaultHasher::new();
    for word in text.split(|byte| !byte.is_ascii_alphabetic()).filter(|word| word.len() > 2) {
        hasher.write(word);
        hasher.write_u8(0);
    }
    hasher.finish()
}

/// `line` for a screen: characters that could move the cursor or reverse the direction of text are
/// replaced.
fn printable(line: &[u8]) -> String {
    let mut text = String::new();
    // At most four bytes a character.
    let shown = line.get(..4 * SAMPLE_MAX).unwrap_or(line);
    for c in String::from_utf8_lossy(shown).chars().take(SAMPLE_MAX) {
        let plain = c == ' ' || c.is_ascii_graphic() || (c.is_alphanumeric() && !c.is_ascii());
        text.push(if plain { c } else { char::REPLACEMENT_CHARACTER });
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn lines_of_one_shape_leave_one_sample() {
        let mut unparsed = Unparsed::default();
        for second in 0..1000 {
            let line = format!("[Nov 22 09:43:0{second}] NOTICE[{second}] x.c: Refused '{second}'");
            unparsed.add(line.as_bytes(), at(second));
        }
        unparsed.add(b"NOTICE[1] y.c: Denied 192.0.2.1", at(2000));
        let mut batch = Unparsed::default();
        batch.add(b"[Nov 23 09:43:06] NOTICE[7] x.c: Refused 'the last'", at(3000));
        unparsed.merge(batch);
        let samples = unparsed.samples();
        assert_eq!((unparsed.lines(), samples.len()), (1002, 2));
        assert_eq!((samples[0].lines, samples[0].last), (1001, at(3000)));
        assert!(samples[0].text.ends_with("'the last'"), "{}", samples[0].text);
    }

    #[test]
    fn words_of_three_letters_and_more_make_a_shape() {
        let same = |one: &str, other: &str| shape(one.as_bytes()) == shape(other.as_bytes());
        assert!(same("failed in 7 ms", "failed at 9 s"));
        assert!(!same("failed now", "failed yet"));
    }

    #[test]
    fn a_new_shape_replaces_the_oldest() {
        let mut unparsed = Unparsed::default();
        for (second, word) in (0..).zip(["one", "two", "three", "four", "five", "six"]) {
            unparsed.add(word.as_bytes(), at(second));
        }
        let texts: Vec<&str> = unparsed.samples().iter().map(|s| s.text.as_str()).collect();
        assert_eq!(texts, ["six", "five", "four", "three", "two"]);
    }

    #[test]
    fn a_sample_has_as_many_characters_as_are_shown() {
        for (written, shown) in [(299, 299), (300, 300), (301, 300)] {
            for character in ["x", "é", "語"] {
                let mut unparsed = Unparsed::default();
                unparsed.add(character.repeat(written).as_bytes(), at(0));
                assert_eq!(unparsed.samples()[0].text, character.repeat(shown));
            }
        }
    }

    #[test]
    fn lines_of_batches_are_added() {
        let mut unparsed = Unparsed::default();
        assert!(unparsed.is_empty() && unparsed.first().is_none());
        for second in [5, 7] {
            let mut batch = Unparsed::default();
            batch.add(b"refused", at(second));
            batch.add(b"refused", at(second));
            unparsed.merge(batch);
        }
        assert!(!unparsed.is_empty());
        assert_eq!((unparsed.lines(), unparsed.first()), (4, Some(at(5))));
        assert_eq!((unparsed.samples()[0].lines, unparsed.samples()[0].last), (4, at(7)));
    }

    #[test]
    fn the_text_up_to_the_first_quote_makes_a_shape() {
        let same = |one: &str, other: &str| shape(one.as_bytes()) == shape(other.as_bytes());
        assert!(same("failed for 'alice'", "failed for \"robert\""));
        assert!(!same("failed alice", "failed robert"));
        let long = |start: usize| format!("{} end", " ".repeat(start));
        assert!(!same(&long(252), &long(300)) && same(&long(255), &long(300)));
    }

    #[test]
    fn attacker_text_cannot_control_the_screen() {
        let mut unparsed = Unparsed::default();
        unparsed.add("\x1b[2Jden\u{202e}ied \u{200b}né\r\n".as_bytes(), at(0));
        assert_eq!(
            unparsed.samples()[0].text,
            "\u{fffd}[2Jden\u{fffd}ied \u{fffd}né\u{fffd}\u{fffd}"
        );
    }

    proptest! {
        #[test]
        fn samples_of_any_bytes_are_few_short_and_printable(
            lines in vec(vec(any::<u8>(), 0..2000), 0..20),
        ) {
            let mut unparsed = Unparsed::default();
            for line in &lines {
                let mut batch = Unparsed::default();
                batch.add(line, at(0));
                unparsed.merge(batch);
                unparsed.add(line, at(0));
            }
            prop_assert_eq!(unparsed.lines(), 2 * lines.len() as u64);
            prop_assert!(unparsed.samples().len() <= SAMPLES);
            for sample in unparsed.samples() {
                prop_assert!(sample.text.chars().count() <= SAMPLE_MAX);
                let plain = |c: char| !c.is_control() && !('\u{2000}'..'\u{2070}').contains(&c);
                prop_assert!(sample.text.chars().all(plain), "{:?}", sample.text);
            }
        }
    }
}
