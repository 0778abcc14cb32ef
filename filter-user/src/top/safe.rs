//! Foreign text for a terminal: each character takes one column, and none has an effect on others.
//!
//! Attackers choose account names. Control characters, wide and combining characters and those that change the
//! direction of text are escaped, so that no name can move, hide or imitate anything on the screen.

/// The text with everything escaped that is not plain.
pub(super) fn safe(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_plain(c) {
            out.push(c);
        } else {
            out.extend(c.escape_default());
        }
    }
    out
}

/// Whether a character takes one column in every terminal, and is written from left to right: ASCII, and Latin,
/// Greek and Cyrillic letters.
pub(super) fn is_plain(c: char) -> bool {
    match c {
        ' '..='~' => true,
        '\u{a1}'..='\u{24f}' => c != '\u{ad}',
        '\u{370}'..='\u{52f}' => c.is_alphanumeric(),
        _ => false,
    }
}

/// The text, or as much of its beginning as fits into `width` columns. The text is safe.
pub(super) fn cut(text: &str, width: usize, more: char) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept = text.chars().take(width.saturating_sub(1));
    kept.chain((width > 0).then_some(more)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_plain_text_is_shown_as_it_is() {
        for (text, expected) in [
            ("1001", "1001"),
            ("Zoë Müller", "Zoë Müller"),
            ("Ольга", "Ольга"),
            ("a\x1b[2Jb", "a\\u{1b}[2Jb"),
            ("a\r\nb\t", "a\\r\\nb\\t"),
            ("\u{9b}31m", "\\u{9b}31m"),
            // An override of the direction, a Hebrew letter, a wide one, and a combining accent.
            ("\u{202e}x", "\\u{202e}x"),
            ("\u{5d0}", "\\u{5d0}"),
            ("\u{6f22}", "\\u{6f22}"),
            ("e\u{301}", "e\\u{301}"),
            ("\u{200b}\u{ad}\u{483}", "\\u{200b}\\u{ad}\\u{483}"),
        ] {
            assert_eq!(safe(text), expected);
        }
        assert_eq!(cut("abcdef", 4, '…'), "abc…");
        assert_eq!((cut("abcd", 4, '…'), cut("ab", 0, '…')), ("abcd".to_owned(), String::new()));
    }

    proptest! {
        #[test]
        fn nothing_else_ever_appears(text: String) {
            prop_assert!(safe(&text).chars().all(is_plain));
        }
    }
}
