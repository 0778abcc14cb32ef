//! Translates Python's regular expressions (`re`) into the syntax of `fancy-regex`.
//!
//! Both descend from Perl. This translates the differences: special characters in classes, where `$` and
//! `\Z` match, literal `{` and `\<`, conditions, escapes. Features of Python without an equivalent are
//! refused, so that no expression silently means something else.

use std::collections::BTreeSet;
use std::iter::Peekable;
use std::str::Chars;

/// How deep groups may be nested.
const DEPTH_MAX: usize = 50;

/// Translates an expression for a search in a line that ends with a newline, as fail2ban's lines do.
///
/// # Errors
///
/// The part that is not supported.
pub(in super::super) fn translate(pattern: &str) -> Result<String, String> {
    let mut translator = Translator {
        rest: pattern.chars().peekable(),
        out: String::with_capacity(pattern.len() * 2),
        multi_line: vec![false],
        names: BTreeSet::new(),
    };
    translator.all()?;
    Ok(translator.out)
}

struct Translator<'a> {
    rest: Peekable<Chars<'a>>,
    out: String,
    /// Whether `^` and `$` match at lines, for each open group.
    multi_line: Vec<bool>,
    names: BTreeSet<String>,
}

impl Translator<'_> {
    fn all(&mut self) -> Result<(), String> {
        while let Some(c) = self.rest.next() {
            match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                ')' => {
                    self.multi_line.pop();
                    if self.multi_line.is_empty() {
                        return Err("an unmatched `)`".to_owned());
                    }
                    self.out.push(')');
                }
                '$' if self.multi_line.last() == Some(&true) => self.out.push('$'),
                // It also matches before the newline at the end of the line.
                '$' => self.put(r"(?:\n?\z)"),
                '{' => self.brace(),
                '^' | '.' | '|' | '*' | '+' | '?' => self.out.push(c),
                c => self.literal(c),
            }
        }
        if self.multi_line.len() > 1 {
            return Err("an unclosed `(`".to_owned());
        }
        Ok(())
    }

    fn put(&mut self, text: &str) {
        self.out.push_str(text);
    }

    fn literal(&mut self, c: char) {
        if r"\.+*?()|[]{}^$".contains(c) {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    /// A literal character, even within a class.
    fn exactly(&mut self, c: char) {
        self.put(&format!(r"\x{{{:X}}}", u32::from(c)));
    }

    fn take(&mut self, expected: char) -> bool {
        self.rest.next_if_eq(&expected).is_some()
    }

    fn until(&mut self, end: char) -> Result<String, String> {
        let mut text = String::new();
        for c in self.rest.by_ref() {
            if c == end {
                return Ok(text);
            }
            text.push(c);
        }
        Err(format!("`{end}` is missing after `{text}`"))
    }

    fn group(&mut self) -> Result<(), String> {
        if self.multi_line.len() > DEPTH_MAX {
            return Err(format!("groups are nested deeper than {DEPTH_MAX}"));
        }
        let multi_line = self.multi_line.last() == Some(&true);
        if !self.take('?') {
            if self.rest.peek() == Some(&'*') {
                return Err("nothing to repeat before `*`".to_owned());
            }
            self.out.push('(');
            self.multi_line.push(multi_line);
            return Ok(());
        }
        match self.rest.next() {
            Some(c @ (':' | '=' | '!' | '>')) => {
                self.put("(?");
                self.out.push(c);
            }
            Some('<') => match self.rest.next() {
                Some(c @ ('=' | '!')) => {
                    self.put("(?<");
                    self.out.push(c);
                }
                _ => return Err("a name must be written `(?P<name>…)`".to_owned()),
            },
            Some('P') => {
                if self.take('=') {
                    let name = self.until(')')?;
                    if !self.names.contains(&name) {
                        return Err(format!("`(?P={name})`: no group before has this name"));
                    }
                    self.put(&format!("(?P={name})"));
                    return Ok(());
                }
                self.name()?;
            }
            Some('(') => {
                let name = self.until(')')?;
                let number = name.bytes().all(|b| b.is_ascii_digit());
                if number && !name.is_empty() {
                    self.put(&format!("(?({name})"));
                } else if self.names.contains(&name) {
                    self.put(&format!("(?(<{name}>)"));
                } else {
                    return Err(format!("`(?({name})`: no group before has this name"));
                }
            }
            Some('#') => {
                self.until(')')?;
                return Ok(());
            }
            Some(c) => return self.flags(c, multi_line),
            None => return Err("an unclosed `(`".to_owned()),
        }
        self.multi_line.push(multi_line);
        Ok(())
    }

    /// `<name>` behind `(?P`.
    fn name(&mut self) -> Result<(), String> {
        if !self.take('<') {
            return Err("`(?P` must be followed by `<name>` or `=name`".to_owned());
        }
        let name = self.until('>')?;
        let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(letter) || !name.chars().all(|c| letter(c) || c.is_ascii_digit()) {
            return Err(format!("`{name}` cannot be the name of a group"));
        }
        self.put(&format!("(?P<{name}>"));
        if !self.names.insert(name.clone()) {
            return Err(format!("two groups are called `{name}`"));
        }
        Ok(())
    }

    /// `(?i)`, `(?i:…)`, `(?-i:…)`.
    fn flags(&mut self, first: char, mut multi_line: bool) -> Result<(), String> {
        let mut flags = String::new();
        let (mut next, mut on) = (Some(first), true);
        let closed = loop {
            match next {
                Some(c @ ('i' | 's')) => flags.push(c),
                Some('m') => {
                    flags.push('m');
                    multi_line = on;
                }
                // Text is always Unicode.
                Some('u') => {}
                Some('-') => {
                    on = false;
                    flags.push('-');
                }
                Some(')') => break true,
                Some(':') => break false,
                Some(c) => return Err(format!("the flag `{c}` of `(?…)` is not supported")),
                None => return Err("an unclosed `(`".to_owned()),
            }
            next = self.rest.next();
        };
        let flags = flags.strip_suffix('-').unwrap_or(&flags);
        match (closed, flags.is_empty()) {
            (true, true) => {}
            (true, false) => self.put(&format!("(?{flags})")),
            (false, _) => self.put(&format!("(?{flags}:")),
        }
        if closed {
            // Until the end of its group.
            if let Some(current) = self.multi_line.last_mut() {
                *current = multi_line;
            }
        } else {
            self.multi_line.push(multi_line);
        }
        Ok(())
    }

    /// A `{`: the start of a count, or a literal.
    fn brace(&mut self) {
        let mut ahead = self.rest.clone();
        let mut digits = |end: &mut Option<char>| {
            let mut number = String::new();
            loop {
                *end = ahead.next();
                match end {
                    Some(c) if c.is_ascii_digit() => number.push(*c),
                    _ => return number,
                }
            }
        };
        let mut end = None;
        let least = digits(&mut end);
        let most = (end == Some(',')).then(|| digits(&mut end));
        if end != Some('}') || (least.is_empty() && most.is_none()) {
            self.put(r"\{");
            return;
        }
        self.rest = ahead;
        let least = if least.is_empty() { "0" } else { &least };
        self.out.push('{');
        self.put(least);
        if let Some(most) = most {
            self.out.push(',');
            self.put(&most);
        }
        self.out.push('}');
    }

    /// The character after a backslash outside a class.
    fn escape(&mut self) -> Result<(), String> {
        let c = self.rest.next().ok_or("a `\\` at the end")?;
        match c {
            'A' | 'b' | 'B' | 'd' | 'D' | 's' | 'S' | 'w' | 'W' => {
                self.out.push('\\');
                self.out.push(c);
            }
            'Z' => self.put(r"\z"),
            '1'..='9' => {
                let mut ahead = self.rest.clone();
                let digits: String =
                    [Some(c), ahead.next(), ahead.next()].into_iter().flatten().collect();
                if digits.len() == 3
                    && let Some(octal) = octal(&digits)
                {
                    self.rest = ahead;
                    self.exactly(octal);
                    return Ok(());
                }
                let mut number = c.to_string();
                if let Some(second) = self.rest.next_if(char::is_ascii_digit) {
                    number.push(second);
                }
                self.put(&format!(r"(?:\{number})"));
            }
            c => {
                let c = self.character(c)?;
                self.literal(c);
            }
        }
        Ok(())
    }

    /// The character that an escape denotes, inside or outside a class.
    fn character(&mut self, c: char) -> Result<char, String> {
        Ok(match c {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'f' => '\x0c',
            'v' => '\x0b',
            'a' => '\x07',
            'x' => self.hexadecimal(2)?,
            'u' => self.hexadecimal(4)?,
            'U' => self.hexadecimal(8)?,
            '0' => {
                let mut digits = "0".to_owned();
                while digits.len() < 3
                    && let Some(digit) = self.rest.next_if(|c| c.is_digit(8))
                {
                    digits.push(digit);
                }
                octal(&digits).ok_or("a bad octal escape")?
            }
            c if c.is_ascii_alphanumeric() => return Err(format!("`\\{c}` is not supported")),
            c => c,
        })
    }

    fn hexadecimal(&mut self, digits: usize) -> Result<char, String> {
        let text: String = self.rest.by_ref().take(digits).collect();
        let number = u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == digits);
        number.and_then(char::from_u32).ok_or_else(|| format!("`{text}` is not a character"))
    }

    /// A class whose `[` has been read.
    fn class(&mut self) -> Result<(), String> {
        self.out.push('[');
        if self.take('^') {
            self.out.push('^');
        }
        let mut first = true;
        // The `-` of a range may follow a character, but not a class such as `\w`.
        let mut ranged = false;
        loop {
            let c = self.rest.next().ok_or("an unclosed `[`")?;
            match c {
                ']' if !first => break,
                '-' if ranged && self.rest.peek().is_some_and(|next| *next != ']') => {
                    let mut ahead = self.rest.clone();
                    let named = ahead.next() == Some('\\')
                        && ahead.next().is_some_and(|c| "dDsSwW".contains(c));
                    if named {
                        return Err("a range that ends with a class".to_owned());
                    }
                    self.out.push('-');
                    ranged = false;
                    let end = self.rest.next().ok_or("an unclosed `[`")?;
                    self.member(end)?;
                    first = false;
                    continue;
                }
                _ => {}
            }
            first = false;
            ranged = self.member(c)?;
        }
        self.out.push(']');
        Ok(())
    }

    /// One member of a class; returns whether it is a single character.
    fn member(&mut self, c: char) -> Result<bool, String> {
        let c = if c == '\\' {
            let escaped = self.rest.next().ok_or("a `\\` at the end")?;
            match escaped {
                'd' | 'D' | 's' | 'S' | 'w' | 'W' => {
                    self.out.push('\\');
                    self.out.push(escaped);
                    return Ok(false);
                }
                'b' => '\x08',
                '1'..='7' => {
                    let mut digits = escaped.to_string();
                    while digits.len() < 3
                        && let Some(digit) = self.rest.next_if(|c| c.is_digit(8))
                    {
                        digits.push(digit);
                    }
                    octal(&digits).ok_or("a bad octal escape")?
                }
                escaped => self.character(escaped)?,
            }
        } else {
            c
        };
        if c.is_alphanumeric() || c == ' ' || c == '_' {
            self.out.push(c);
        } else {
            self.exactly(c);
        }
        Ok(true)
    }
}

fn octal(digits: &str) -> Option<char> {
    let number = u32::from_str_radix(digits, 8).ok()?;
    if number > 0o377 { None } else { char::from_u32(number) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::compile;
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        compile(&translate(pattern).unwrap()).unwrap().is_match(text).unwrap()
    }

    #[test]
    fn what_is_special_in_one_syntax_only() {
        for (pattern, text, expected) in [
            (r"^a$", "a\n", true),
            (r"^a$", "a\nb", false),
            (r"(?m)^b$", "a\nb\n", true),
            (r"(?m:a$)|x$", "a\nb", true),
            (r"^a\Z", "a\n", false),
            (r"\<a\>", "<a>", true),
            (r"{a} {1,x}", "{a} {1,x}", true),
            (r"^a{,2}$", "aa", true),
            (r"^a{,2}$", "aaa", false),
            (r"^[^[]+\[", "a[", true),
            (r"^[][]+$", "[]", true),
            (r"^[a&&b~~-]+$", "a&~-b", true),
            (r"^[\w-]+$", "a-b", true),
            (r"^[a-c\-]+$", "ab-", true),
            (r"[\b]", "\x08", true),
            (r"\x41\101\0|\u00e9", "\u{e9}", true),
            (r"^(a)(b)\2\1$", "abba", true),
            (r"^(?P<x>[-/])\d(?P=x)$", "-1-", true),
            (r"^(?P<x>[-/])\d(?P=x)$", "-1/", false),
            (r"^(?P<q>')?a(?(q)'|\.)$", "'a'", true),
            (r"^(?P<q>')?a(?(q)'|\.)$", "a'", false),
            (r"^(x)?(?(1)y|z)$", "z", true),
            (r"(?i)ABC", "abc", true),
            (r"^((?i)A)B$", "aB", true),
            (r"^((?i)A)B$", "ab", false),
            (r"a(?#not this)b", "ab", true),
            (r"(?<!x)a(?!b)(?<=a)", "ac", true),
            (r"a#b c&d~e", "a#b c&d~e", true),
            (r"a\-\ \#\'", "a- #'", true),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} in {text:?}");
        }
    }

    #[test]
    fn what_is_not_supported_is_refused() {
        for pattern in [
            r"\q",
            r"\K",
            r"\Ga",
            r"\g<1>",
            "(?<n>a)",
            "(?x)a # b",
            "(?a)x",
            "(*FAIL)",
            "a)",
            "(a",
            "[a",
            r"a\",
            r"\x4",
            "(?P<n>a)(?P<n>b)",
            "(?P=n)",
            "(?(n)a)",
            "(?P<a-b>x)",
            r"[\q]",
            r"\N{DASH}",
            "(?~a)",
            r"[a-\w]",
        ] {
            assert!(translate(pattern).is_err(), "{pattern}: {:?}", translate(pattern));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_translated_or_refused(pattern in "\\PC{0,24}") {
            drop(translate(&pattern));
        }

        #[test]
        fn literals_stand_for_themselves(text in "[ -~é]{1,12}") {
            let pattern: String = text.chars().flat_map(|c| {
                (!c.is_ascii_alphanumeric()).then_some('\\').into_iter().chain([c])
            }).collect();
            let class: String = text.chars().map(|c| {
                if c.is_ascii_alphanumeric() { format!("[{c}]") } else { format!("[\\{c}]") }
            }).collect();
            for whole in [format!("^{pattern}$"), format!("^{class}$")] {
                prop_assert!(matches(&whole, &text), "{}", whole);
            }
        }
    }
}
