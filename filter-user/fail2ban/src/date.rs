//! The date in a line: in the format of `datepattern`, or in one of fail2ban's own formats. It is removed
//! from the line before any expression is tried.
//!
//! If a line contains several dates, a date at its beginning wins, then the first one. Unlike in
//! fail2ban, earlier lines have no influence, so that a line always means the same.

mod template;

use std::ops::Range;

use detection::failure::LoggedAt;
use template::Template;

/// Begins a pattern that matches only at the start of a line.
const LINE_BEGIN: &str = "{^LN-BEG}";

/// Stands for each of fail2ban's own formats.
const ANY_DATE: &str = "{DATE}";

/// The formats that fail2ban knows, in its own order (`server/datedetector.py`), with an example of each.
const FORMATS: [&str; 17] = [
    // 2005-01-23T21:59:59.981746, 2005-01-23 21:59:59, 2005/01/23 21:59:59, 2006.12.21 06:43:20
    r"%ExY(?P<_sep>[-/.])%m(?P=_sep)%d(?:T|  ?)%H:%M:%S(?:[.,]%f)?(?:\s*%z)?",
    // Sun Jan 23 21:59:59.011 2005
    r"(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    // Sun Jan 23 2005 21:59:59.011
    r"(?:%a )?%b %d %ExY %k:%M:%S(?:\.%f)?",
    // 23/01/2005 21:59:59, 23-01-05 21:59:59
    r"%d(?P<_sep>[-/])%m(?P=_sep)(?:%ExY|%Exy) %k:%M:%S",
    // 31/Oct/2006:09:22:55 -0000, 26-Jul-2007 15:20:52.252
    r"%d(?P<_sep>[-/])%b(?P=_sep)%ExY[ :]?%H:%M:%S(?:\.%f)?(?: %z)?",
    // 05/20/2008:01:57:39
    r"%m/%d/%ExY:%H:%M:%S",
    // 01-27-2012 16:22:44.252
    r"%m-%d-%ExY %k:%M:%S(?:\.%f)?",
    // 1138049999, [1138049999], audit(1138049999.123:45)
    "EPOCH",
    "{^LN-BEG}%H:%M:%S",
    // <09/16/08@05:03:30>
    r"^<%m/%d/%Exy@%H:%M:%S>",
    // 130322 11:46:11
    r"%Exy%Exm%Exd  ?%H:%M:%S",
    // Apr 27, 2013 11:46:11 AM
    r"%b %d, %ExY %I:%M:%S %p",
    // Apr-27-13 02:33:06
    r"^%b-%d-%Exy %k:%M:%S",
    // 20050123T215959, 20050123 215959
    r"%ExY%Exm%Exd(?:T|  ?)%ExH%ExM%ExS(?:[.,]%f)?(?:\s*%z)?",
    // PDT Apr 16 21:05:29
    r"(?:%Z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    // +00:00 Jan 23 21:59:59.011 2005
    r"(?:%z )?(?:%a )?%b %d %k:%M:%S(?:\.%f)?(?: %ExY)?",
    // @4000000041f4104f00000000
    "TAI64N",
];

/// Finds dates.
#[derive(Debug)]
pub(super) struct Detector {
    /// In the order of trial.
    templates: Vec<Template>,
}

/// A date in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The part of the line to remove.
    pub(super) range: Range<usize>,
    /// The time, if the date contains the year.
    pub(super) time: Option<LoggedAt>,
}

impl Detector {
    /// The formats in the lines of a `datepattern`; without one, all of fail2ban's formats.
    ///
    /// # Errors
    ///
    /// The error in a pattern.
    pub(super) fn new(patterns: Option<&str>) -> Result<Self, String> {
        let mut templates = Vec::new();
        let lines = patterns.unwrap_or_default().lines().map(str::trim);
        for pattern in lines.filter(|line| !line.is_empty()) {
            let failed = |why: String| format!("the date pattern `{pattern}`: {why}");
            let upper = pattern.to_uppercase();
            match if pattern.contains('%') { pattern } else { &upper } {
                "{NONE}" => return Ok(Self { templates: Vec::new() }),
                LINE_BEGIN => templates.extend(all()?.into_iter().filter(Template::begins_line)),
                "{DEFAULT}" => templates.extend(all()?),
                _ if upper.contains(ANY_DATE) => {
                    for format in FORMATS {
                        templates.extend(around(pattern, format).map_err(failed)?);
                    }
                }
                _ => templates.push(Template::new(pattern).map_err(failed)?),
            }
        }
        if patterns.is_none_or(|patterns| patterns.trim().is_empty()) {
            templates = all()?;
        }
        Ok(Self { templates })
    }

    /// The date in `line`, if there is one.
    pub(super) fn find(&self, line: &str) -> Option<Found> {
        let mut first: Option<(usize, Found)> = None;
        for template in &self.templates {
            let Some((start, found)) = template.find(line) else { continue };
            if template.begins_line() || start <= 1 {
                return Some(found);
            }
            if first.as_ref().is_none_or(|(other, _)| start < *other) {
                first = Some((start, found));
            }
        }
        first.map(|(_, found)| found)
    }
}

/// All formats: first each at the start of the line, then anywhere.
fn all() -> Result<Vec<Template>, String> {
    let mut templates = Vec::new();
    for format in FORMATS.iter().filter(|format| !format.starts_with(['^', '{'])) {
        templates.push(Template::new(&format!("{LINE_BEGIN}{format}"))?);
    }
    for format in FORMATS {
        templates.push(Template::new(format)?);
    }
    Ok(templates)
}

/// A format within a pattern that contains `{DATE}`.
fn around(pattern: &str, format: &str) -> Result<Option<Template>, String> {
    let format = format.strip_prefix(LINE_BEGIN).unwrap_or(format);
    let Some(at) = pattern.to_ascii_uppercase().find(ANY_DATE) else { return Ok(None) };
    let (before, after) = (&pattern[..at], &pattern[at + ANY_DATE.len()..]);
    if !format.contains('%') && (!after.is_empty() || !["^", LINE_BEGIN].contains(&before)) {
        // Within other text, a plain number of seconds is not a date.
        return Ok(None);
    }
    Template::new(&format!("{before}{format}{after}")).map(Some)
}

#[cfg(test)]
mod tests;
