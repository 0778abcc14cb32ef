//! One date pattern: an expression with `%Y` and the like.

use fancy_regex::{Captures, Regex};
use jiff::Timestamp;
use jiff::civil;
use jiff::tz::Offset;

use super::super::pattern::{compile, translate};
use super::{Found, LINE_BEGIN};
use detection::failure::LoggedAt;

/// Begins a pattern whose match needs no word boundary around it.
const UNBOUND: &str = "{UNB}";

/// The expression for each `%` sign, in Python's syntax. Longer names come first.
const FIELDS: [(&str, &str); 30] = [
    ("ExY", r"(?P<Y>20\d\d)"),
    ("Exy", r"(?P<y>\d\d)"),
    ("Exm", r"(?P<m>0[1-9]|1[0-2])"),
    ("Exd", r"(?P<d>[12]\d|0[1-9]|3[01])"),
    ("ExH", r"(?P<H>[01]\d|2[0-3])"),
    ("Exk", r" ?(?P<H>[01]?\d|2[0-3])"),
    ("Exl", r" ?(?P<I>1[0-2]|\d)"),
    ("ExM", r"(?P<M>[0-5]\d)"),
    ("ExS", r"(?P<S>[0-5]\d|6[01])"),
    ("ExZ", r"(?P<Z>[A-Z](?:[A-Z]{2,4})?)"),
    ("Exz", r"(?P<z>(?:[A-Z](?:[A-Z]{2,4})?)?[+-][01]\d(?::?\d{2})?|[A-Z](?:[A-Z]{2,4})?)"),
    ("Y", r"(?P<Y>\d{4})"),
    ("y", r"(?P<y>\d\d)"),
    ("m", r"(?P<m>0?[1-9]|1[0-2])"),
    ("b", r"(?P<b>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"),
    (
        "B",
        r"(?P<B>january|february|march|april|may|june|july|august|september|october|november|december)",
    ),
    ("d", r"(?P<d>[12]\d|[0 ]?[1-9]|3[01])"),
    ("j", r"(?P<j>36[0-6]|3[0-5]\d|[12]\d\d|0[1-9]\d|00[1-9]|[1-9]\d|0[1-9]|[1-9])"),
    ("H", r"(?P<H>[01]?\d|2[0-3])"),
    ("k", r" ?(?P<H>[0-2]?\d)"),
    ("I", r"(?P<I>1[0-2]|0[1-9]|[1-9])"),
    ("l", r" ?(?P<I>1?\d)"),
    ("M", r"(?P<M>[0-5]?\d)"),
    ("S", r"(?P<S>[0-5]?\d|6[01])"),
    ("f", r"(?P<f>\d{1,6})"),
    ("p", r"(?P<p>am|pm)"),
    ("a", r"(?P<a>mon|tue|wed|thu|fri|sat|sun)"),
    ("A", r"(?P<A>monday|tuesday|wednesday|thursday|friday|saturday|sunday)"),
    ("Z", r"(?P<Z>Z|[A-Z]{3,5})"),
    ("z", r"(?P<z>Z|UTC|GMT|[+-][01]\d(?::?\d{2})?)"),
];

/// Seconds since 1970.
const EPOCH: &str = r"\d{10,11}\b(?:\.\d{3,6})?";

/// The same, or milliseconds or microseconds.
const LONG_EPOCH: &str = r"\d{10,11}(?:\d{3}(?:\.\d{1,6}|\d{3})?)?";

/// The kind of date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Fields by name.
    Fields,
    /// A number of seconds, in this group.
    Epoch(usize),
    /// TAI64N, as daemontools writes it.
    Tai64n,
}

/// A date pattern, compiled.
#[derive(Debug)]
pub(super) struct Template {
    regex: Regex,
    /// An expression for one quick pass: every line that matches the pattern matches it too.
    hint: Option<Regex>,
    kind: Kind,
    begins_line: bool,
}

impl Template {
    /// Compiles a pattern.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let upper = pattern.to_uppercase();
        let begins = ["^", LINE_BEGIN].into_iter().find_map(|begin| upper.strip_prefix(begin));
        if let Some(kind) = [("EPOCH", EPOCH), ("LEPOCH", LONG_EPOCH)]
            .into_iter()
            .find_map(|(name, number)| (begins.unwrap_or(&upper) == name).then_some(number))
        {
            let expression = if begins.is_some() {
                format!(r"^\W{{0,2}}({kind})(?=\b|\W|$)")
            } else {
                format!(r"(?:^|^\[|\baudit\()({kind})(?=\b|\W|$)")
            };
            return Self::compile(&expression, Kind::Epoch(1), begins.is_some());
        }
        if begins.unwrap_or(&upper) == "TAI64N" {
            let expression = "(@[0-9a-f]{24})";
            let expression = if begins.is_some() {
                format!(r"^\W{{0,2}}{expression}(?=\b|\W|$)")
            } else {
                format!(r"{expression}(?=\b|\W|$)")
            };
            return Self::compile(&expression, Kind::Tai64n, begins.is_some());
        }
        for (name, number) in [("{EPOCH}", EPOCH), ("{LEPOCH}", LONG_EPOCH)] {
            if let Some(at) = pattern.to_ascii_uppercase().find(name) {
                let (before, after) = (&pattern[..at], &pattern[at + name.len()..]);
                let whole = format!("({before}({number}){after})");
                let (expression, begins_line) = bounded(whole, Bounds::Word);
                return Self::compile(&expression, Kind::Epoch(2), begins_line);
            }
        }
        let (expression, begins_line) = expression(pattern)?;
        Self::compile(&expression, Kind::Fields, begins_line)
    }

    fn compile(expression: &str, kind: Kind, begins_line: bool) -> Result<Self, String> {
        let regex = compile(&translate(expression)?)?;
        Ok(Self { regex, hint: hint(expression), kind, begins_line })
    }

    /// Whether it matches only at the start of a line.
    pub(super) fn begins_line(&self) -> bool {
        self.begins_line
    }

    /// Where the match begins in `line`, and the date. A search with too many steps finds nothing.
    pub(super) fn find(&self, line: &str) -> Option<(usize, Found)> {
        // The expression itself is tried at each position of a line, and most lines do not match.
        if self.hint.as_ref().is_some_and(|hint| hint.is_match(line).is_ok_and(|found| !found)) {
            return None;
        }
        self.find_without_hint(line)
    }

    fn find_without_hint(&self, line: &str) -> Option<(usize, Found)> {
        let captures = self.regex.captures(line).ok()??;
        let start = captures.get(0)?.start();
        let text = captures.get(1)?;
        let time = match self.kind {
            Kind::Fields => fields(&captures),
            Kind::Epoch(group) => captures.get(group).and_then(|number| epoch(number.as_str())),
            Kind::Tai64n => text.as_str().get(2..17).and_then(|seconds| {
                let seconds = i64::from_str_radix(seconds, 16).ok()?;
                Timestamp::from_second(seconds).ok().map(LoggedAt::Instant)
            }),
        };
        Some((start, Found { range: text.range(), time }))
    }
}

/// The expression without lookarounds and back-references, so that every match of the one is a match of
/// the other; `None` if that is impossible.
fn hint(expression: &str) -> Option<Regex> {
    const APART: [&str; 2] = [r"(?:\b|(?=\W))", r"(?=\b|\W|$)"];
    let mut loose = expression.to_owned();
    for apart in APART {
        loose = loose.replace(apart, "");
    }
    // A back-reference to the separator: any separator.
    for signs in ["[-/.]", "[-/]"] {
        if loose.contains(&format!("(?P<_sep>{signs})")) {
            loose = loose.replace("(?P=_sep)", signs);
        }
    }
    let fancy = ["(?=", "(?!", "(?<", "(?P=", "(?>", "(?("];
    if fancy.iter().any(|look| loose.contains(look)) || has_number(&loose) {
        return None;
    }
    compile(&translate(&loose).ok()?).ok()
}

/// Whether an expression may contain a back-reference by number.
fn has_number(expression: &str) -> bool {
    expression.as_bytes().windows(2).any(|pair| pair[0] == b'\\' && pair[1].is_ascii_digit())
}

/// The boundary that a date needs on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bounds {
    /// Not at all.
    None,
    /// A word boundary.
    Word,
    /// A word boundary, with at most two characters between it and the start of the line.
    LineBegin,
}

/// The expression of a pattern with fields, in Python's syntax, and whether it begins the line.
fn expression(pattern: &str) -> Result<(String, bool), String> {
    let (pattern, bounds) = match (pattern.strip_prefix(UNBOUND), pattern.strip_prefix(LINE_BEGIN))
    {
        (Some(rest), _) => (rest, Bounds::None),
        (_, Some(rest)) => (rest, Bounds::LineBegin),
        _ => (pattern, Bounds::Word),
    };
    let (text, letters) = with_fields(pattern)?;
    // Names, such as those of months, match in any case.
    let (text, flags) = match text.strip_prefix("(?i)").or_else(|| text.strip_prefix("(?iu)")) {
        Some(rest) => (rest.to_owned(), "(?i)"),
        None => (text, if letters { "(?i)" } else { "" }),
    };
    let (text, begins_line) = bounded(text, bounds);
    Ok((format!("{flags}{text}"), begins_line))
}

/// The same expression with its boundaries, and with group 1 around the part to remove; and whether it
/// begins the line.
fn bounded(mut text: String, bounds: Bounds) -> (String, bool) {
    let inner = text.trim_start_matches('(');
    let inner = inner.strip_prefix("?:").unwrap_or(inner);
    let free_start = bounds == Bounds::None || inner.starts_with(['^']) || inner.starts_with("**");
    let free_end = bounds == Bounds::None
        || [r"\b", r"\s"].iter().any(|end| text.ends_with(end))
        || ["$", "$)"].iter().any(|end| text.strip_suffix(end).is_some_and(|t| !t.ends_with('\\')))
        || text.trim_end_matches(')').ends_with("**");
    let begins_line =
        bounds == Bounds::LineBegin || ["^", "(^", "(?:^"].iter().any(|s| text.starts_with(s));
    // `**` means that no boundary is needed there.
    if let Some(at) = text.find("**").filter(|at| text[..*at].bytes().all(|b| b == b'(')) {
        text.replace_range(at..at + 2, "");
    }
    if let Some(at) = text.rfind("**").filter(|at| text[at + 2..].bytes().all(|b| b == b')')) {
        text.replace_range(at..at + 2, "");
    }
    if !has_group(&text) {
        let (start, rest) = match text.strip_prefix('^') {
            Some(rest) => ("^", rest),
            None => ("", text.as_str()),
        };
        let (rest, end) = match rest.strip_suffix('$') {
            Some(rest) => (rest, "$"),
            None => (rest, ""),
        };
        text = format!("{start}({rest}){end}");
    }
    let before = match bounds {
        _ if free_start => "",
        Bounds::LineBegin => r"^\W{0,2}",
        Bounds::Word | Bounds::None => r"(?:\b|(?=\W))",
    };
    let after = if free_end { "" } else { r"(?=\b|\W|$)" };
    (format!("{before}{text}{after}"), begins_line)
}

/// Replaces `%Y` and other fields; also says whether any of them is a name, which matches in any case.
fn with_fields(pattern: &str) -> Result<(String, bool), String> {
    let mut out = String::new();
    let mut letters = false;
    let mut rest = pattern;
    while let Some((plain, field)) = rest.split_once('%') {
        out.push_str(plain);
        if let Some(after) = field.strip_prefix('%') {
            out.push('%');
            rest = after;
            continue;
        }
        let known =
            FIELDS.iter().find_map(|(name, text)| Some((name, text, field.strip_prefix(name)?)));
        let Some((name, text, after)) = known else {
            let sign: String = field.chars().take(1).collect();
            return Err(format!("`%{sign}` is not supported"));
        };
        letters |= ["a", "A", "b", "B", "p"].contains(name);
        out.push_str(text);
        rest = after;
    }
    out.push_str(rest);
    Ok((out, letters))
}

/// Whether an expression has a group without a name.
fn has_group(text: &str) -> bool {
    text.match_indices('(').any(|(at, _)| {
        !text[..at].ends_with(['\\'])
            && !text[..at].ends_with("(?")
            && !text[at + 1..].starts_with('?')
    })
}

/// The time in the fields, if they contain the year.
fn fields(captures: &Captures<'_, str>) -> Option<LoggedAt> {
    let text = |name: &str| captures.name(name).map(|found| found.as_str());
    let number = |name: &str| text(name).and_then(|digits| digits.trim().parse::<i8>().ok());
    let year = match (text("Y"), text("y")) {
        (Some(year), _) => year.parse::<i16>().ok()?,
        (None, Some(year)) => 2000 + year.parse::<i16>().ok()?,
        (None, None) => return None,
    };
    let date = if let Some(day) = text("j") {
        let first = civil::Date::new(year, 1, 1).ok()?;
        first.checked_add(jiff::Span::new().days(day.parse::<i32>().ok()? - 1)).ok()?
    } else {
        let month = match number("m") {
            Some(month) => month,
            None => month(text("b").or_else(|| text("B"))?)?,
        };
        civil::Date::new(year, month, number("d")?).ok()?
    };
    let hour = match (number("H"), number("I")) {
        (Some(hour), _) => hour,
        (None, Some(hour)) => {
            let afternoon = text("p").is_some_and(|half| half.eq_ignore_ascii_case("pm"));
            hour % 12 + if afternoon { 12 } else { 0 }
        }
        (None, None) => 0,
    };
    let fraction =
        text("f").map_or(Some(0), |digits| format!("{digits:0<9}").parse::<i32>().ok())?;
    let time = civil::Time::new(hour, number("M").unwrap_or(0), number("S").unwrap_or(0), fraction);
    let time = date.to_datetime(time.ok()?);
    let Some(zone) = text("z").or_else(|| text("Z")) else { return Some(LoggedAt::Host(time)) };
    offset(zone)?.to_timestamp(time).ok().map(LoggedAt::Instant)
}

fn month(name: &str) -> Option<i8> {
    const NAMES: [&str; 12] =
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
    let start = name.get(..3)?;
    let index = NAMES.iter().position(|known| known.eq_ignore_ascii_case(start))?;
    i8::try_from(index + 1).ok()
}

/// The offset of `Z`, `UTC`, `+01`, `+0100` or `-01:30`. Other zone names are ambiguous.
fn offset(zone: &str) -> Option<Offset> {
    if ["Z", "UTC", "GMT"].iter().any(|utc| zone.eq_ignore_ascii_case(utc)) {
        return Some(Offset::UTC);
    }
    let (sign, digits) = match zone.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, zone.strip_prefix('+')?),
    };
    let digits = digits.replace(':', "");
    let part = |range| digits.get(range).map_or(Ok(0), str::parse::<i32>);
    Offset::from_seconds(sign * (part(0..2).ok()? * 3600 + part(2..4).ok()? * 60)).ok()
}

/// Seconds since 1970 with a fraction; with 13 digits milliseconds, with 16 microseconds.
fn epoch(number: &str) -> Option<LoggedAt> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction}");
    let seconds = if whole.len() >= 13 { 10 } else { whole.len() };
    let (whole, fraction) = digits.split_at_checked(seconds)?;
    let nanoseconds = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    Timestamp::new(whole.parse().ok()?, nanoseconds).ok().map(LoggedAt::Instant)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::FORMATS;
    use super::*;

    /// The processor time of this thread.
    fn processor_time() -> std::time::Duration {
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
    }

    fn all() -> Vec<Template> {
        let patterns = FORMATS.iter().map(|format| (*format).to_owned());
        let begin = FORMATS.iter().map(|format| format!("{LINE_BEGIN}{format}"));
        let others = ["%Y-%m-%d %H:%M", "(?:at )?%b/%d(?!x)", r"(\d)\1:%H"].map(str::to_owned);
        patterns
            .chain(begin)
            .chain(others)
            .map(|pattern| Template::new(&pattern).unwrap())
            .collect()
    }

    #[test]
    fn each_of_the_formats_has_a_hint() {
        for (template, format) in all().iter().zip(FORMATS) {
            assert!(template.hint.is_some(), "{format}");
        }
        let without = all().iter().filter(|template| template.hint.is_none()).count();
        assert_eq!(without, 2);
    }

    /// A line of 8,000 characters once took 14 ms.
    #[test]
    fn a_long_line_without_a_date_costs_little() {
        let templates = all();
        let lines = [
            "x".repeat(8000),
            "x y ".repeat(2000),
            "10.2.3.4 ".repeat(900),
            "a=1&b=%20".repeat(900),
        ];
        for line in lines {
            let before = processor_time();
            for _ in 0..10 {
                assert!(templates.iter().take(FORMATS.len()).all(|t| t.find(&line).is_none()));
            }
            let each = processor_time().saturating_sub(before) / 10;
            println!("{each:?} for {}", &line[..20]);
            assert!(each < std::time::Duration::from_millis(4), "{each:?} for {}", &line[..20]);
        }
    }

    proptest! {
        #[test]
        fn a_hint_changes_nothing(
            before in "[ a-z\\[(<]{0,4}|\\PC{0,6}",
            date in "[0-3]?[0-9][-/. :][0-1]?[0-9][-/. :](20)?[0-9]{2}[ T:][0-9]{1,2}:[0-9]{2}:[0-9]{2}\
                |(Mon )?(Jan|oct) [ 0-3][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}|20[0-9]{6}T?[0-9]{6}\
                |20[0-9]{2}[-/.]1[0-2][-/.][0-3][0-9][ T][0-9]{2}:[0-9]{2}:[0-9]{2}\
                |[0-9:/. -]{0,24}|1[0-9]{9,12}|@[0-9a-f]{24}",
            after in "[ a-z\\]),]{0,4}|\\PC{0,6}",
        ) {
            thread_local!(static TEMPLATES: Vec<Template> = all());
            let line = format!("{before}{date}{after}");
            TEMPLATES.with(|templates| {
                for template in templates {
                    prop_assert_eq!(template.find(&line), template.find_without_hint(&line));
                }
                Ok(())
            })?;
        }
    }
}
