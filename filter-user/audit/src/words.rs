//! Makes foreign text safe to show, and formats numbers with nouns.
//!
//! Must never let a name become markup or control a terminal.

/// The most characters of a name that are shown.
const NAME_MAX: usize = 64;

/// Text that anybody may have chosen, without characters that control a terminal or reverse the direction
/// of writing, shortened to the length of a name.
pub fn shown(text: &str) -> String {
    let escape = |c: char| match c {
        '\'' | '"' => vec![c],
        c => c.escape_debug().collect(),
    };
    let mut out: String = text.chars().take(NAME_MAX).flat_map(escape).collect();
    if text.chars().nth(NAME_MAX).is_some() {
        out.push('…');
    }
    out
}

/// The most characters of a sentence that are shown.
const SENTENCE_MAX: usize = 1000;

/// A sentence that may contain foreign text, without characters that control a terminal.
pub fn printable(text: &str) -> String {
    let escape = |c: char| match c {
        '\'' | '"' | '\\' => vec![c],
        c => c.escape_debug().collect(),
    };
    text.chars().take(SENTENCE_MAX).flat_map(escape).collect()
}

/// The same as a part of an identifier: lower-case letters, digits, and `.`, `+`, `-`, `_`, `@`.
pub fn part_of_id(text: &str) -> String {
    let letter = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || ".+-_@".contains(c) => c,
        _ => '_',
    };
    text.chars().take(NAME_MAX).map(letter).collect()
}

/// Whether a name can be used in a shell command without quoting.
pub fn is_plain(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._@:-".contains(c);
    !text.is_empty() && !text.starts_with('-') && text.chars().all(plain)
}

/// A number with a noun: `1 rule`, `2 rules`.
pub fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_shown_without_what_controls_a_terminal() {
        assert_eq!(shown("nginx"), "nginx");
        assert_eq!(shown("it's"), "it's");
        assert_eq!(shown("a\x1b[2Jb\u{202e}c\n"), "a\\u{1b}[2Jb\\u{202e}c\\n");
        assert_eq!(part_of_id("Postgres: x/y"), "postgres__x_y");
        assert!(is_plain("postgresql@15-main.service") && !is_plain("a;b") && !is_plain("-f"));
    }

    proptest! {
        #[test]
        fn no_name_is_long_or_unprintable(name in any::<String>()) {
            let text = shown(&name);
            prop_assert!(!text.chars().any(char::is_control));
            prop_assert!(text.len() <= NAME_MAX * 12 + 3);
            prop_assert!(part_of_id(&name).chars().all(|c| c.is_ascii() && c != '/'));
        }
    }
}
