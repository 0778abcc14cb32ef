//! fail2ban's times: `600`, `10m`, `1d12h`, `1 week 2 days`, `60*60*24`, and `-1` for permanent.

use std::time::Duration;

/// Units by their abbreviations, in seconds.
const UNITS: [(&[&str], u64); 7] = [
    (&["s", "ss", "sec", "secs", "second", "seconds"], 1),
    (&["m", "mm", "min", "mins", "minute", "minutes"], 60),
    (&["h", "hh", "hour", "hours"], 3600),
    (&["d", "dd", "da", "day", "days"], 86_400),
    (&["w", "ww", "wee", "week", "weeks"], 604_800),
    (&["mo", "mon", "month", "months"], 2_629_800),
    (&["y", "yy", "yea", "year", "years"], 31_557_600),
];

/// A time as fail2ban reads it; `None` for permanent.
///
/// # Errors
///
/// If it is anything else, such as a longer formula.
pub(super) fn parse(text: &str) -> Result<Option<Duration>, String> {
    let text = text.trim();
    if text.strip_prefix('-').is_some_and(|rest| rest.trim() == "1") {
        return Ok(None);
    }
    let wrong = || format!("`{text}` is not a time such as `600`, `10m` or `1d12h`");
    let mut total: u64 = 0;
    let mut product: Option<u64> = None;
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits).and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
        rest = rest.get(digits..).unwrap_or_default().trim_start();
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = rest.get(..letters).unwrap_or_default().to_ascii_lowercase();
        rest = rest.get(letters..).unwrap_or_default().trim_start();
        let scale = match unit.as_str() {
            "" => 1,
            unit => UNITS
                .iter()
                .find_map(|(names, seconds)| names.contains(&unit).then_some(*seconds))
                .ok_or_else(wrong)?,
        };
        let factor = number.checked_mul(scale).ok_or_else(wrong)?;
        let so_far = product.take().unwrap_or(1).checked_mul(factor).ok_or_else(wrong)?;
        if let Some(after) = rest.strip_prefix('*') {
            product = Some(so_far);
            rest = after;
            continue;
        }
        total = total.checked_add(so_far).ok_or_else(wrong)?;
        rest = rest.strip_prefix('+').unwrap_or(rest);
        if rest.is_empty() {
            return Ok(Some(Duration::from_secs(total)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_of_all_kinds() {
        for (text, seconds) in [
            ("600", 600),
            ("10m", 600),
            ("1d12h", 129_600),
            ("1d 12h", 129_600),
            ("1 week", 604_800),
            ("2 Weeks 1 day + 30 sec", 1_296_030),
            ("60*60*24", 86_400),
            ("1mo", 2_629_800),
            ("1h 2m 3s", 3723),
        ] {
            assert_eq!(parse(text), Ok(Some(Duration::from_secs(seconds))), "{text}");
        }
        assert_eq!(parse(" -1 "), Ok(None));
        for text in
            ["", "ten", "1x", "-5", "10 m 5 fortnights", "1d12h*", "99999999999999999999", "1h-5m"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "[0-9 mhdw*+é-]{0,12}") {
            drop(parse(&text));
        }
    }
}
