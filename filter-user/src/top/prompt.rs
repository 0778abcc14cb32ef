//! A line that the user types, and what it asks for.

use std::net::IpAddr;
use std::time::Duration;

use api::{Request, Unban};

use super::key::Key;
use super::safe::is_plain;
use crate::ban_list::network;
use crate::duration;
use crate::prefix::show;

/// The longest line.
const LENGTH_MAX: usize = 120;

/// How long a ban lasts if no time is given, as for `ringfence ban`.
const BAN_TIME: Duration = Duration::from_hours(1);

/// What a line is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Why,
    Ban,
    Unban,
    Allow,
    Filter,
}

impl Purpose {
    /// What is shown before the line.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Why => "why, address",
            Self::Ban => "ban, network and time (1h, forever)",
            Self::Unban => "unban, network",
            Self::Allow => "allow, network and time (without: until disallow)",
            Self::Filter => "show only what contains",
        }
    }

    /// The command that does the same.
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Why => "why",
            Self::Ban => "ban",
            Self::Unban => "unban",
            Self::Allow => "allow",
            Self::Filter => "filter",
        }
    }
}

/// What to do with a line after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Typed {
    More,
    Done,
    Left,
}

/// A line that is being typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) purpose: Purpose,
    pub(super) text: String,
    /// Why the line was not accepted.
    pub(super) wrong: Option<String>,
}

impl Prompt {
    pub(super) fn new(purpose: Purpose, text: String) -> Self {
        Self { purpose, text, wrong: None }
    }

    pub(super) fn key(&mut self, key: Key) -> Typed {
        self.wrong = None;
        match key {
            Key::Char(c) if is_plain(c) && self.text.len() < LENGTH_MAX => self.text.push(c),
            Key::Backspace => drop(self.text.pop()),
            Key::EraseLine => self.text.clear(),
            Key::Enter => return Typed::Done,
            Key::Escape => return Typed::Left,
            Key::Char(_)
            | Key::Tab
            | Key::BackTab
            | Key::Up
            | Key::Down
            | Key::PageUp
            | Key::PageDown
            | Key::Home
            | Key::End
            | Key::Redraw
            | Key::Interrupt => {}
        }
        Typed::More
    }

    /// The request of the line, and the question to ask before it is sent. A change by this session must not shut
    /// it out.
    pub(super) fn request(&self, session: Option<IpAddr>) -> Result<(Request, String), String> {
        let mut words = self.text.split_whitespace();
        let first = words.next().ok_or("an address or a network is missing")?;
        let net = network(first)?;
        let second = words.next();
        if let Some(more) = words.next() {
            return Err(format!("`{more}` is too much"));
        }
        match self.purpose {
            Purpose::Why | Purpose::Filter => {
                let address = net.addr();
                none(second)?;
                Ok((Request::Why { address }, String::new()))
            }
            Purpose::Ban => {
                if let Some(session) = session.filter(|from| net.contains(from)) {
                    return Err(format!("you are logged in from {session}"));
                }
                let time = match second {
                    Some("forever") => None,
                    Some(time) => Some(length(time)?),
                    None => Some(BAN_TIME),
                };
                let lasts = time.map_or("without an end".to_owned(), |time| {
                    format!("for {}", duration::format(time))
                });
                let request = Request::Ban {
                    network: net,
                    seconds: time.map(|time| time.as_secs().max(1)),
                    scope: "all".to_owned(),
                    except: Vec::new(),
                    reason: None,
                    force: false,
                };
                Ok((request, format!("Ban {} {lasts}, all ports?", show(net))))
            }
            Purpose::Unban => {
                none(second)?;
                let request = Request::Unban(Unban::Network { network: net, inside: false });
                Ok((request, format!("Unban {}, and forget its failures?", show(net))))
            }
            Purpose::Allow => {
                let time = second.map(length).transpose()?;
                let lasts = time.map_or("until `disallow`".to_owned(), |time| {
                    format!("for {}", duration::format(time))
                });
                let seconds = time.map(|time| time.as_secs().max(1));
                let request = Request::Allow { network: net, seconds, comment: None };
                Ok((request, format!("Allow {} {lasts}: never drop or ban it?", show(net))))
            }
        }
    }
}

fn none(word: Option<&str>) -> Result<(), String> {
    word.map_or(Ok(()), |word| Err(format!("`{word}` is too much")))
}

fn length(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(purpose: Purpose, line: &str) -> Result<(Request, String), String> {
        let mut prompt = Prompt::new(purpose, String::new());
        for c in line.chars() {
            assert_eq!(prompt.key(Key::Char(c)), Typed::More);
        }
        prompt.request(Some([198, 51, 100, 9].into()))
    }

    #[test]
    fn a_line_becomes_a_request() {
        let (request, question) = asked(Purpose::Ban, "192.0.2.7 7d").unwrap();
        assert!(matches!(request, Request::Ban { seconds: Some(604_800), force: false, .. }));
        assert_eq!(question, "Ban 192.0.2.7 for 7d, all ports?");
        let (request, question) = asked(Purpose::Ban, " 2001:db8::/64  forever ").unwrap();
        assert!(matches!(request, Request::Ban { seconds: None, .. }), "{request:?}");
        assert_eq!(question, "Ban 2001:db8::/64 without an end, all ports?");
        let (request, _) = asked(Purpose::Ban, "192.0.2.7").unwrap();
        assert!(matches!(request, Request::Ban { seconds: Some(3600), .. }));
        let (request, _) = asked(Purpose::Allow, "192.0.2.7").unwrap();
        assert!(matches!(request, Request::Allow { seconds: None, .. }));
        let (request, _) = asked(Purpose::Unban, "192.0.2.0/24").unwrap();
        assert!(matches!(request, Request::Unban(Unban::Network { inside: false, .. })));
        let (request, _) = asked(Purpose::Why, "::ffff:192.0.2.7").unwrap();
        assert_eq!(request, Request::Why { address: [192, 0, 2, 7].into() });
    }

    #[test]
    fn a_wrong_line_says_what_is_wrong() {
        for (purpose, line, why) in [
            (Purpose::Ban, "", "missing"),
            (Purpose::Ban, "phone", "not an address"),
            (Purpose::Ban, "192.0.2.7 soon", "soon"),
            (Purpose::Ban, "192.0.2.7 1h now", "`now` is too much"),
            (Purpose::Ban, "198.51.100.0/24", "logged in from 198.51.100.9"),
            (Purpose::Unban, "192.0.2.7 1h", "`1h` is too much"),
            (Purpose::Allow, "192.0.2.7/24", "192.0.2.0/24"),
        ] {
            let said = asked(purpose, line).unwrap_err();
            assert!(said.contains(why), "{line}: {said}");
        }
    }

    #[test]
    fn a_line_has_a_bound_and_only_plain_text() {
        let mut prompt = Prompt::new(Purpose::Filter, "x".to_owned());
        for key in [Key::Char('\u{202e}'), Key::Tab, Key::Char('\u{7}')] {
            prompt.key(key);
        }
        assert_eq!(prompt.text, "x");
        for _ in 0..1000 {
            prompt.key(Key::Char('é'));
        }
        assert!(prompt.text.len() <= LENGTH_MAX + 1);
        prompt.key(Key::EraseLine);
        prompt.key(Key::Backspace);
        assert_eq!(prompt.text, "");
        assert_eq!((prompt.key(Key::Enter), prompt.key(Key::Escape)), (Typed::Done, Typed::Left));
    }
}
