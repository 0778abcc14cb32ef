//! `<name>` in a filter's values: replaced by the value of that name, which may contain other tags.
//!
//! Must never grow without a bound.

use std::collections::BTreeMap;

use super::layers::VALUE_MAX;

/// How often one tag is replaced in a value, as in fail2ban.
const REPLACED_MAX: usize = 25;

/// How many tags are replaced in a value in total.
const REPLACED_ALL_MAX: usize = 1000;

/// Replaces every tag in the value of `own` that `find` knows. Others stay, such as `<HOST>`.
///
/// # Errors
///
/// The error in the value.
pub(super) fn replace(
    own: &str,
    mut value: String,
    mut find: impl FnMut(&str) -> Result<Option<String>, String>,
) -> Result<String, String> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut all = 0;
    let mut from = 0;
    while let Some((start, name)) = next(&value, from) {
        let name = name.to_owned();
        let Some(text) = find(&name)? else {
            from = start + 1;
            continue;
        };
        let count = counts.entry(name.clone()).or_default();
        *count += 1;
        all += 1;
        if name == own || *count > REPLACED_MAX || all > REPLACED_ALL_MAX {
            return Err(format!("`<{name}>` refers to itself"));
        }
        value = value.replace(&format!("<{name}>"), &text);
        if value.len() > VALUE_MAX {
            return Err(format!("is longer than 256 KiB after `<{name}>` is expanded"));
        }
        // `<a-<b>>` has become a tag that begins earlier.
        from = 0;
    }
    Ok(value)
}

/// The next innermost `<name>` at or after `from`, and its name.
fn next(value: &str, from: usize) -> Option<(usize, &str)> {
    let mut start = None;
    for (at, c) in value[from..].char_indices() {
        match c {
            '<' => start = Some(from + at),
            ' ' => start = None,
            '>' => {
                if let Some(start) = start.take()
                    && start + 1 < from + at
                {
                    return Some((start, &value[start + 1..from + at]));
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replaced(value: &str, tags: &[(&str, &str)]) -> Result<String, String> {
        replace("own", value.to_owned(), |name| {
            Ok(tags.iter().find(|(tag, _)| *tag == name).map(|(_, text)| (*text).to_owned()))
        })
    }

    #[test]
    fn tags_in_tags_are_replaced_and_unknown_ones_stay() {
        let tags = [("mode", "normal"), ("mdre-normal", "^<x> from <HOST>"), ("x", "failed")];
        let text = replaced("<mdre-<mode>> <F-USER>.*</F-USER> < mode>", &tags).unwrap();
        assert_eq!(text, "^failed from <HOST> <F-USER>.*</F-USER> < mode>");
    }

    #[test]
    fn circles_and_growth_are_refused() {
        assert!(replaced("<own>", &[("own", "x")]).is_err());
        assert!(replaced("<a>", &[("a", "<b>"), ("b", "<a>")]).is_err());
        let long = "<b>".repeat(1000);
        assert!(replaced("<a>", &[("a", &long), ("b", &"x".repeat(1000))]).is_err());
    }

    proptest! {
        #[test]
        fn any_text_comes_to_an_end(value in "[<>ab é]{0,20}", a in "[<>ab é]{0,8}", b in "[<>ab]{0,8}") {
            drop(replaced(&value, &[("a", &a), ("b", &b)]));
        }
    }
}
