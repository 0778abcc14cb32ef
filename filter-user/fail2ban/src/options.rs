//! `name[option=value, other="a, b"]`, the syntax in which jails name filters and actions.
//!
//! Must never grow without a bound.

use std::collections::BTreeMap;

/// The name and the options, with their names in lower case.
///
/// # Errors
///
/// The problem, and where it is.
pub(super) fn parse(text: &str) -> Result<(&str, BTreeMap<String, String>), String> {
    let text = text.trim();
    let Some((name, mut rest)) = text.split_once('[') else {
        return Ok((text, BTreeMap::new()));
    };
    let mut options = BTreeMap::new();
    loop {
        rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix(']') {
            // `name[a=1][b=2]` is the same as `name[a=1, b=2]`.
            match after.trim_start().strip_prefix('[') {
                Some(more) => rest = more,
                None if after.trim().is_empty() => return Ok((name.trim_end(), options)),
                None => return Err(format!("`{}` follows the last `]`", after.trim())),
            }
            continue;
        }
        let Some((option, value)) = rest.split_once('=') else {
            return Err(format!("`{rest}` is neither `option=value` nor a closing `]`"));
        };
        let option = option.trim().to_lowercase();
        let fits = |c: char| c.is_alphanumeric() || "-_.".contains(c);
        if option.is_empty() || !option.chars().all(fits) {
            return Err(format!("`{option}` cannot be the name of an option"));
        }
        let (value, after) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => value[1..].split_once(quote).ok_or_else(|| {
                format!("the {quote} before the value of `{option}` is never closed")
            })?,
            _ => value.split_at(
                value.find([',', ']']).ok_or_else(|| format!("no `]` after `{option}`"))?,
            ),
        };
        options.insert(option, value.trim().to_owned());
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn options(text: &str) -> Vec<(String, String)> {
        parse(text).unwrap().1.into_iter().collect()
    }

    #[test]
    fn options_with_and_without_quotes() {
        assert_eq!(parse(" sshd ").unwrap(), ("sshd", BTreeMap::new()));
        assert_eq!(parse("sshd[]").unwrap(), ("sshd", BTreeMap::new()));
        let text = "sshd[mode=aggressive, Port=\"1, 2]\"\n  ][x='a=b',y=]";
        let expected = [("mode", "aggressive"), ("port", "1, 2]"), ("x", "a=b"), ("y", "")];
        assert_eq!(
            options(text),
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("sshd[mode", "closing"),
            ("sshd[mode=x", "no `]`"),
            ("sshd[mode=\"x]", "never closed"),
            ("sshd[a b=x]", "name of an option"),
            ("sshd[a=x] y", "follows the last"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed(text in "[a\\[\\]=,\"' é]{0,24}") {
            drop(parse(&text));
        }
    }
}
