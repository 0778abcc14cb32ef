//! Translates an expression of a filter, in Python's syntax with tags such as `<HOST>`, into one that
//! finds its groups in a line.
//!
//! Must never resolve a host name.

mod python;

use std::collections::BTreeMap;

use fancy_regex::{Captures, Regex, RegexBuilder};

pub(super) use python::translate;

/// How often a search may backtrack before it is abandoned. This bounds the cost of any line with any
/// expression.
const BACKTRACK_MAX: usize = 200_000;

/// The longest expression, in bytes, with all its references expanded.
const PATTERN_MAX: usize = 64 * 1024;

/// The expressions for `<HOST>` and similar tags, in Python's syntax. A match is parsed as an address
/// before it is used.
mod tag {
    pub(super) const IP4: &str = r"(?:::f{4,6}:)?(?P<ip4>(?:\d{1,3}\.){3}\d{1,3})";
    pub(super) const IP6: &str = r"(?P<ip6>(?:[0-9a-fA-F]{1,4}::?|::){1,7}(?:[0-9a-fA-F]{1,4}|:))";
    pub(super) const DNS: &str = r"(?P<dns>[\w\-.^_]*\w)";
    pub(super) const CIDR: &str = r"(?P<cidr>\d+)";
}

/// The groups that contain the address, in the order in which they are tried.
const ADDRESS_GROUPS: [&str; 2] = ["ip4", "ip6"];

/// An expression, compiled.
#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// The named groups, and the name under which each is reported.
    groups: Vec<(String, String)>,
}

/// The matches of a search, by the name of the group; groups without a match are missing.
pub(super) type Groups = BTreeMap<String, String>;

impl Pattern {
    /// Compiles an expression.
    ///
    /// # Errors
    ///
    /// The error in it.
    pub(super) fn new(source: &str) -> Result<Self, String> {
        if source.trim().is_empty() {
            return Err("an empty expression".to_owned());
        }
        let expanded = expand(source)?;
        let regex = compile(&translate(&expanded)?)?;
        let groups = regex.capture_names().flatten().map(|name| {
            // `alt_user` is another place for `user`.
            let known = name.strip_prefix("alt_").map_or(name, |rest| {
                let digits = rest.trim_end_matches(|c: char| c.is_ascii_digit());
                digits.strip_suffix('_').filter(|_| digits.len() < rest.len()).unwrap_or(rest)
            });
            let known = match known {
                "id" => "fid",
                "port" => "fport",
                known => known,
            };
            (name.to_owned(), known.to_owned())
        });
        let mut groups: Vec<_> = groups.collect();
        // A group with the name itself comes before its substitutes.
        groups.sort_by_key(|(name, known)| (name != known, name.clone()));
        Ok(Self { regex, groups })
    }

    /// Whether it has one of these groups.
    pub(super) fn has_any(&self, names: &[&str]) -> bool {
        self.groups.iter().any(|(_, known)| names.contains(&known.as_str()))
    }

    /// Whether it has a group for an address.
    pub(super) fn has_address(&self) -> bool {
        self.has_any(&ADDRESS_GROUPS) || self.has_any(&["fid"])
    }

    /// Whether it matches in `text`.
    pub(super) fn is_in(&self, text: &str) -> Result<bool, TooComplex> {
        self.regex.is_match(text).map_err(|_limit| TooComplex)
    }

    /// Its groups in `text`, if it matches.
    pub(super) fn find(&self, text: &str) -> Result<Option<Groups>, TooComplex> {
        let found = self.regex.captures(text).map_err(|_limit| TooComplex)?;
        Ok(found.map(|captures| self.groups_of(&captures)))
    }

    fn groups_of(&self, captures: &Captures<'_, str>) -> Groups {
        let mut groups = Groups::new();
        for (name, known) in &self.groups {
            if let Some(found) = captures.name(name)
                && groups.get(known).is_none_or(String::is_empty)
            {
                groups.insert(known.clone(), found.as_str().to_owned());
            }
        }
        groups
    }
}

/// A search was abandoned: the expression has too many ways to match this line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooComplex;

/// Compiles an expression in Rust's syntax.
pub(super) fn compile(translated: &str) -> Result<Regex, String> {
    if translated.len() > PATTERN_MAX {
        return Err("longer than 64 KiB".to_owned());
    }
    RegexBuilder::new(translated)
        .backtrack_limit(BACKTRACK_MAX)
        .build()
        .map_err(|why| why.to_string().replace('\n', " "))
}

/// Replaces `<HOST>`, `<F-USER>` and other tags by groups.
fn expand(source: &str) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = source;
    let mut open: Vec<&str> = Vec::new();
    while let Some(start) = rest.find('<') {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let end = rest.find('>').filter(|end| {
            let name = rest[1..*end].trim_matches('/');
            !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "_-".contains(c))
        });
        let Some(end) = end else {
            out.push('<');
            rest = &rest[1..];
            continue;
        };
        let (whole, name) = (&rest[..=end], &rest[1..end]);
        rest = &rest[end + 1..];
        match name {
            "HOST" => out.push_str(&host()),
            "ADDR" | "F-ADDR/" => out.push_str(&address("")),
            "SUBNET" | "F-SUBNET/" => out.push_str(&address(&format!("(?:/{})?", tag::CIDR))),
            "IP4" | "F-IP4/" => out.push_str(tag::IP4),
            "IP6" | "F-IP6/" => out.push_str(tag::IP6),
            "DNS" | "F-DNS/" => out.push_str(tag::DNS),
            "CIDR" | "F-CIDR/" => out.push_str(tag::CIDR),
            "F-ID/" => out.push_str(r"(?P<fid>\S+)"),
            "F-PORT/" => out.push_str(r"(?P<fport>\w+)"),
            "SKIPLINES" => {
                return Err(
                    "<SKIPLINES> needs several lines, but an expression is matched against one \
                            line"
                        .to_owned(),
                );
            }
            _ => match custom(name) {
                Some((true, tag)) if open.contains(&tag) => out.push(')'),
                Some((false, tag)) => {
                    open.push(tag);
                    let group = match tag.to_lowercase().as_str() {
                        "id" => "fid".to_owned(),
                        "port" => "fport".to_owned(),
                        group => group.to_owned(),
                    };
                    out.extend(["(?P<", &group, ">"]);
                }
                _ => out.push_str(whole),
            },
        }
    }
    out.push_str(rest);
    Ok(out)
}

/// The name in `F-NAME`, and whether it is a closing tag.
fn custom(name: &str) -> Option<(bool, &str)> {
    let (closes, name) = match name.strip_prefix('/') {
        Some(name) => (true, name),
        None => (false, name),
    };
    let tag = name.strip_prefix("F-")?;
    let fits = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    (!tag.is_empty() && tag.chars().all(fits)).then_some((closes, tag))
}

fn address(suffix: &str) -> String {
    format!(r"\[?(?:{}|{}){suffix}\]?", tag::IP4, tag::IP6)
}

fn host() -> String {
    format!("(?:{}|{})", address(""), tag::DNS)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(pattern: &str, text: &str, group: &str) -> Option<String> {
        Pattern::new(pattern).unwrap().find(text).unwrap()?.remove(group)
    }

    #[test]
    fn host_finds_addresses_and_names() {
        let pattern = "^from <HOST>(?::\\d+)?$";
        for (text, group, expected) in [
            ("from 192.0.2.1", "ip4", "192.0.2.1"),
            ("from 192.0.2.1:5060", "ip4", "192.0.2.1"),
            ("from ::ffff:192.0.2.1", "ip4", "192.0.2.1"),
            ("from 2001:db8::1", "ip6", "2001:db8::1"),
            ("from [2001:db8::1]:5060", "ip6", "2001:db8::1"),
            ("from ::1", "ip6", "::1"),
            ("from fe80::", "ip6", "fe80::"),
            ("from host.example.org", "dns", "host.example.org"),
        ] {
            assert_eq!(found(pattern, text, group).as_deref(), Some(expected), "{text}");
        }
        assert_eq!(found(pattern, "from nobody else", "dns"), None);
    }

    #[test]
    fn other_tags_are_groups() {
        let pattern = "<F-USER>\\S+</F-USER> <ADDR> <F-PORT/> <F-MLFID>x(<F-ALT_USER_2>y</F-ALT_USER_2>)?</F-MLFID>";
        let groups = Pattern::new(pattern).unwrap().find("me 192.0.2.1 80 xy").unwrap().unwrap();
        let groups: Vec<_> = groups.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let expected = [("fport", "80"), ("ip4", "192.0.2.1"), ("mlfid", "xy"), ("user", "me")];
        assert_eq!(groups, expected);
        assert_eq!(found("<SUBNET>", "192.0.2.0/24", "cidr").as_deref(), Some("24"));
        // A substitute is used if the group itself has no match.
        let pattern = "a=<F-ALT_USER>\\S*</F-ALT_USER>(?: b=<F-USER>\\S*</F-USER>)? <HOST>";
        assert_eq!(found(pattern, "a=x b=y 192.0.2.1", "user").as_deref(), Some("y"));
        assert_eq!(found(pattern, "a=x 192.0.2.1", "user").as_deref(), Some("x"));
    }

    #[test]
    fn what_is_no_tag_stays_as_it_is() {
        assert!(
            found("user=<<F-USER>[^>]*</F-USER>>, <HOST>", "user=<me>, 192.0.2.1", "user")
                .is_some()
        );
        assert!(
            Pattern::new("^<\\d+>1 </F-USER> <W> <HOST>")
                .unwrap()
                .find("<34>1 </F-USER> <W> 192.0.2.1")
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn several_lines_are_refused() {
        let error = Pattern::new("a<SKIPLINES>b <HOST>").unwrap_err();
        assert!(error.contains("SKIPLINES"), "{error}");
    }

    #[test]
    fn a_search_that_goes_nowhere_is_given_up() {
        let pattern = Pattern::new(r"(?=(x+x+)+y)\1z <HOST>").unwrap();
        assert_eq!(pattern.find(&"x".repeat(60)), Err(TooComplex));
    }

    proptest! {
        #[test]
        fn any_pattern_is_compiled_or_refused(pattern in "[a<>/()\\[\\]{}?*+|^$.\\\\wF1=!:-]{0,16}", text in "[a-c ]{0,8}") {
            if let Ok(pattern) = Pattern::new(&pattern) {
                drop(pattern.find(&text));
            }
        }
    }
}
