//! Bans as lines of text, which `bans --export` prints and `--from` reads.
//!
//! Turns bytes into bans, or errors for single lines. Nothing here asks the daemon.
//!
//! Must never keep a whole file in memory.

use std::io::{self, BufRead, Read as _};
use std::net::IpAddr;
use std::time::Duration;

use api::{BanRow, TEXT_MAX};
use ipnet::IpNet;
use jiff::Timestamp;

use crate::duration;

/// The longest line, in bytes.
const LINE_MAX: u64 = 8192;

/// What some editors put at the beginning of a file in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The most characters of a line that an error shows.
const SHOWN: usize = 60;

/// A ban in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// The address or network.
    pub network: IpNet,
    /// When it ends, if the line says it.
    pub end: Option<End>,
    /// The name of its scope, if the line says it.
    pub scope: Option<String>,
    /// The jail whose ban it is, if the line says it.
    pub jail: Option<String>,
    /// The exceptions inside it.
    pub except: Vec<IpNet>,
    /// Its reason, if the line has one.
    pub reason: Option<String>,
}

/// When a ban ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Not by itself.
    Never,
    /// After this time.
    After(Duration),
    /// At this time.
    At(Timestamp),
}

/// Reads a line; `None` if it is empty or a comment.
///
/// # Errors
///
/// A description of the first fault.
pub fn parse(line: &str) -> Result<Option<Ban>, String> {
    let mut rest = line.trim();
    let mut next = || {
        let word = rest.split_whitespace().next().filter(|word| !word.starts_with('#'))?;
        if word.starts_with("reason=") {
            return Some(std::mem::take(&mut rest));
        }
        rest = rest.get(word.len()..).unwrap_or_default().trim_start();
        Some(word)
    };
    let Some(network) = next() else { return Ok(None) };
    let network = self::network(network).map_err(|why| format!("`{}`: {why}", shown(network)))?;
    let (end, scope, jail, reason) = (None, None, None, None);
    let mut ban = Ban { network, end, scope, jail, except: Vec::new(), reason };
    while let Some(word) = next() {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        match key {
            "until" if value == "never" => ban.end = Some(End::Never),
            "until" => {
                let time = value.parse().map_err(|_wrong| {
                    format!(
                        "`{}` is neither a time such as `2026-11-29T04:40:05Z` nor `never`",
                        shown(value)
                    )
                })?;
                ban.end = Some(End::At(time));
            }
            "for" => {
                ban.end = Some(End::After(time(value)?));
            }
            "scope" => ban.scope = Some(value.to_owned()),
            "jail" => ban.jail = Some(value.to_owned()),
            "except" => {
                for exception in value.split(',') {
                    let exception = self::network(exception);
                    ban.except.push(exception.map_err(|why| format!("`{}`: {why}", shown(value)))?);
                }
            }
            "reason" => ban.reason = Some(unescaped(value)),
            _ => {
                return Err(format!(
                    "`{}` is unknown; after the network, use `until=`, `for=`, `scope=`, `jail=`, \
                     `except=` and `reason=`",
                    shown(word)
                ));
            }
        }
    }
    Ok(Some(ban))
}

/// Writes a ban as [`parse`] reads it, with the end of the line.
pub fn write(row: &BanRow) -> String {
    let BanRow { network, except, jail, scope, until, reason, .. } = row;
    let until = until.as_deref().unwrap_or("never");
    let except = match &except[..] {
        [] => String::new(),
        some => format!(" except={}", some.join(",")),
    };
    let mut end = reason.len().min(TEXT_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let reason = match reason.get(..end).unwrap_or_default().trim() {
        "" => String::new(),
        some => format!(" reason={}", escaped(some)),
    };
    format!("{network} until={until} scope={scope} jail={jail}{except}{reason}\n")
}

/// Text in one line.
fn escaped(text: &str) -> String {
    let mut line = String::new();
    for c in text.chars() {
        match c {
            '\\' => line.push_str("\\\\"),
            c if c.is_control() => line.extend(c.escape_unicode()),
            c => line.push(c),
        }
    }
    line
}

/// The inverse of [`escaped`]. A backslash before anything else stands for itself.
fn unescaped(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\\') {
        text.push_str(before);
        let escape = after.strip_prefix("u{").and_then(|code| code.split_once('}'));
        let letter = escape.and_then(|(code, behind)| {
            let code = u32::from_str_radix(code, 16).ok()?;
            Some((char::from_u32(code)?, behind))
        });
        let letter = letter.or_else(|| Some(('\\', after.strip_prefix('\\')?)));
        let (letter, behind) = letter.unwrap_or(('\\', after));
        text.push(letter);
        rest = behind;
    }
    text + rest
}

/// The beginning of a line in a file, for an error.
fn shown(text: &str) -> String {
    text.chars().take(SHOWN).flat_map(char::escape_debug).collect()
}

/// Reads the lines of a file, one at a time.
pub struct Lines<R> {
    input: R,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    /// The lines of this file.
    pub fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// The next line and its number; `None` at the end.
    fn read(&mut self) -> io::Result<Option<Result<Option<Ban>, String>>> {
        let mut line = Vec::new();
        if (&mut self.input).take(LINE_MAX).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        if self.number == 1 && line.starts_with(BYTE_ORDER_MARK) {
            line.drain(..BYTE_ORDER_MARK.len());
        }
        let is_long = line.len() as u64 == LINE_MAX && line.last() != Some(&b'\n');
        if is_long {
            self.skip_line()?;
            return Ok(Some(Err(format!("it is longer than {LINE_MAX} bytes"))));
        }
        let text = std::str::from_utf8(&line);
        Ok(Some(text.map_err(|_wrong| "it is not UTF-8".to_owned()).and_then(parse)))
    }

    fn skip_line(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.input.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let (length, is_end) = match end {
                Some(place) => (place + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.input.consume(length);
            if is_end {
                return Ok(());
            }
        }
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    /// The number of a line that is neither empty nor a comment, and its ban or its error.
    type Item = io::Result<(u64, Result<Ban, String>)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.read() {
                Err(error) => return Some(Err(error)),
                Ok(None) => return None,
                Ok(Some(Ok(None))) => {}
                Ok(Some(Ok(Some(ban)))) => return Some(Ok((self.number, Ok(ban)))),
                Ok(Some(Err(why))) => return Some(Ok((self.number, Err(why)))),
            }
        }
    }
}

/// Reads an address, or a network.
///
/// # Errors
///
/// If it is neither; why, in words.
pub fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    without_zone(text)?;
    let network: IpNet = text.parse().map_err(|_invalid| {
        "not an address or network such as `192.0.2.7` or `2001:db8::/64`".to_owned()
    })?;
    if network.trunc() != network {
        return Err(format!("not a network; the network around it is {}", network.trunc()));
    }
    if let (IpNet::V6(v6), IpAddr::V4(v4)) = (network, network.addr().to_canonical()) {
        let length = v6.prefix_len().saturating_sub(96);
        return Err(format!("IPv4 packets have no such address; write {v4}/{length}"));
    }
    Ok(network)
}

/// Reads an address, also as a network of one.
///
/// # Errors
///
/// If it is none; why, in words.
pub fn address(text: &str) -> Result<IpAddr, String> {
    without_zone(text)?;
    let network = network(text).ok().filter(|net| net.prefix_len() == net.max_prefix_len());
    let wrong = || "not an address such as `192.0.2.7` or `2001:db8::7`".to_owned();
    network.map(|network| network.addr()).ok_or_else(wrong)
}

/// A link-local address of IPv6 may be written with its interface, which a packet does not have.
fn without_zone(text: &str) -> Result<(), String> {
    let Some((address, _)) = text.split_once('%') else { return Ok(()) };
    match address.parse::<IpAddr>() {
        Ok(address) => Err(format!("write it without its interface: {address}")),
        Err(_other) => Ok(()),
    }
}

/// Reads how long a ban or the like lasts.
///
/// # Errors
///
/// If it is not a duration, or zero; why, in words.
pub fn time(text: &str) -> Result<Duration, String> {
    match duration::parse(text) {
        Ok(Duration::ZERO) => Err(format!("`{text}` is no time; write one such as `10m`")),
        Ok(time) => Ok(time),
        Err(why) => Err(why.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(network: &str, reason: &str) -> BanRow {
        BanRow {
            network: network.to_owned(),
            except: vec!["192.0.2.8".to_owned(), "192.0.2.16/28".to_owned()],
            jail: "asterisk-wazo".to_owned(),
            scope: "sip".to_owned(),
            kind: api::BanKind::Ban,
            proven: true,
            since: String::new(),
            since_ms: 0,
            until: Some("2026-11-29T04:40:05Z".to_owned()),
            packets: 0,
            reason: reason.to_owned(),
            country: None,
            asn: None,
        }
    }

    #[test]
    fn lines_say_as_much_as_they_like() {
        let ban = |line: &str| parse(line).unwrap();
        for nothing in ["", "  ", "# 192.0.2.7", "\t#"] {
            assert_eq!(ban(nothing), None, "{nothing:?}");
        }
        let plain = ban("192.0.2.7").unwrap();
        assert_eq!((plain.network.to_string(), plain.end), ("192.0.2.7/32".to_owned(), None));
        assert_eq!(ban(" 192.0.2.7\t# a scanner, for=1h\r\n"), Some(plain));
        let whole = "2001:db8::/64 for=7d scope=ssh jail=sshd except=2001:db8::7 reason=a # b=c  d";
        let whole = ban(whole).unwrap();
        assert_eq!(whole.end, Some(End::After(Duration::from_hours(7 * 24))));
        assert_eq!((whole.scope.as_deref(), whole.jail.as_deref()), (Some("ssh"), Some("sshd")));
        assert_eq!((whole.reason.as_deref(), whole.except.len()), (Some("a # b=c  d"), 1));
        assert_eq!(ban("192.0.2.7 until=never").unwrap().end, Some(End::Never));
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong() {
        for (line, word) in [
            ("phone.example", "not an address"),
            ("fe80::1%eth0", "without its interface: fe80::1"),
            ("::ffff:192.0.2.0/120", "write 192.0.2.0/24"),
            ("192.0.2.7 for=0", "`0` is no time"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("192.0.2.7 until=tomorrow", "neither a time"),
            ("192.0.2.7 for=ever", "ever"),
            ("192.0.2.7 except=192.0.2.8,x", "not an address"),
            ("192.0.2.7 192.0.2.8", "unknown"),
            ("\u{1b}[31m", "\\u{1b}"),
        ] {
            let why = parse(line).unwrap_err();
            assert!(why.contains(word) && !why.contains('\u{1b}'), "{line}: {why}");
        }
        assert!(parse(&"x".repeat(8000)).unwrap_err().len() < 300);
    }

    #[test]
    fn every_line_has_its_number() {
        let long = format!("{}\n", "x".repeat(20_000));
        let text =
            [b"192.0.2.7\n\n# \xff\n\xff\n".as_slice(), long.as_bytes(), b"192.0.2.8"].concat();
        let lines: Vec<_> = Lines::new(&text[..]).map(Result::unwrap).collect();
        let numbers: Vec<(u64, bool)> = lines.iter().map(|(n, line)| (*n, line.is_ok())).collect();
        assert_eq!(numbers, [(1, true), (3, false), (4, false), (5, false), (6, true)]);
    }

    #[test]
    fn a_file_of_an_editor_is_read() {
        let text = b"\xef\xbb\xbf192.0.2.7\r\n192.0.2.8 reason=a\r\n";
        let bans: Vec<Ban> = Lines::new(&text[..]).map(|line| line.unwrap().1.unwrap()).collect();
        assert_eq!(bans.len(), 2);
        assert_eq!(bans[1].reason.as_deref(), Some("a"));
    }

    #[test]
    fn an_address_may_be_a_network_of_one() {
        for (text, expected) in [
            ("192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.7/32", Some("192.0.2.7")),
            ("::ffff:192.0.2.7", Some("192.0.2.7")),
            ("192.0.2.0/24", None),
            ("phone.example", None),
            ("fe80::1%eth0", None),
        ] {
            let expected = expected.map(|text| text.parse::<IpAddr>().unwrap());
            assert_eq!(address(text).ok(), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(reason in any::<String>(), network in any::<u32>()) {
            let address = std::net::Ipv4Addr::from(network).to_string();
            let row = row(&address, &reason);
            let line = write(&row);
            prop_assert_eq!(line.matches('\n').count(), 1);
            let ban = parse(&line).unwrap().unwrap();
            prop_assert_eq!(&ban.network.addr().to_string(), &address);
            prop_assert_eq!(ban.except.len(), 2);
            prop_assert_eq!(ban.end, Some(End::At("2026-11-29T04:40:05Z".parse().unwrap())));
            let kept = ban.reason.unwrap_or_default();
            prop_assert!(reason.trim().starts_with(&kept));
            prop_assert!(reason.len() > TEXT_MAX || kept == reason.trim());
        }

        #[test]
        fn any_bytes_are_read_to_the_end(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            prop_assert!(Lines::new(&bytes[..]).count() <= lines);
        }
    }
}
