//! The settings of alerts and actions: what is reported to whom, and how.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Time;

use super::feeds::Place;
use super::section::section;

/// The most alerts, and the most actions.
pub const ALERTS_MAX: usize = 16;

/// The most words of a command, mailboxes or jails.
pub const ITEMS_MAX: usize = 32;

/// The longest word of a command.
const WORD_MAX: usize = 1024;

/// The longest address of a mailbox (RFC 5321 section 4.5.3.1.3).
const MAILBOX_MAX: usize = 254;

macro_rules! named {
    ($(#[$of:meta])* $type:ident { $($variant:ident = $name:literal, $meaning:literal;)+ }) => {
        $(#[$of])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $type {
            $(#[doc = $meaning] $variant,)+
        }

        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name in the configuration.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// What it is, for the documentation.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $type {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let found = Self::ALL.iter().find(|one| one.as_str() == text);
                found.copied().ok_or_else(|| {
                    let names: Vec<&str> = Self::ALL.iter().map(|one| one.as_str()).collect();
                    let shown = detection::duration::snippet(text);
                    format!("there is no event `{shown}`; there are: {}", names.join(", "))
                })
            }
        }
    };
}

named! {
    /// What an alert can report. The order is that of the documentation.
    AlertKind {
        Interface = "interface", "an interface is unprotected";
        Exposure = "exposure", "traffic reaches Asterisk without passing the filter";
        Enforcement = "enforcement", "packets are not dropped";
        Source = "source", "a source of failures is not read, is silent, or is probably not understood";
        Overload = "overload", "packets of unknown sources are dropped because of a limit that they share";
        Network = "network", "a network is banned for the offenders in it";
        Protected = "protected", "a ban is prevented because the address is essential, trusted, the host's own or a peer's";
        Account = "account", "an account is guessed from many sources";
        Country = "country", "somebody logs in from a country from which nobody has logged in before";
        Store = "store", "bans cannot be stored";
        Feed = "feed", "the list of a feed cannot be fetched or was refused, or a database of `geo` cannot be used";
        Fleet = "fleet", "bans are not shared with the other hosts of the fleet";
        Capacity = "capacity", "there is little room left for bans";
        Alert = "alert", "another alert or an action cannot be sent";
    }
}

named! {
    /// The events for which an action runs.
    ActionKind {
        Ban = "ban", "a ban is in force";
        Unban = "unban", "a ban has ended or was lifted";
    }
}

/// The names of all events, as the end of a sentence.
fn names<T: ToString>(all: &[T]) -> String {
    let names: Vec<String> = all.iter().map(|one| format!("`{}`", one.to_string())).collect();
    format!("{}.", names.join(", "))
}

section! {
    /// What gets messages as JSON: a command, or a webhook.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Hook {
        command: Vec<Argument> = Vec::new(),
            "The program that is run, by its path, and its arguments. It gets the message as JSON on its \
             standard input.",
            Items(ITEMS_MAX, "a list such as `[/usr/local/bin/notify]`", &[
                "/usr/local/bin/notify", "--quiet",
            ]);
        webhook: Option<Place> = None,
            "The URL that the message is posted to, with `https`, or `http` on this host only. If the URL is a \
             secret, write the path of a file whose first line it is.",
            OrNone("a URL, or the path of a file with one", "https://alerts.example/ringfence");
        key_file: Option<PathBuf> = None,
            "A file whose first line is the key that signs what the webhook gets; `\"\"` for none.",
            OptionalPath("/etc/ringfence/alerts.key");
    }
}

impl Hook {
    /// The names of the ways that are set.
    pub fn ways(&self) -> impl Iterator<Item = &'static str> {
        let ways = [("command", !self.command.is_empty()), ("webhook", self.webhook.is_some())];
        ways.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name)
    }
}

section! {
    /// An alert.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Alert(scopes) {
        events: Vec<AlertKind> = Vec::new(),
            "The events that it reports; an empty list means all: " + names(AlertKind::ALL),
            Items(AlertKind::ALL.len(), "a list of events such as `[interface, store]`", &[
                "interface", "store",
            ]);
        /// What gets its messages, unless people do.
        hook: Hook = Hook::default() => section "";
        mail: Vec<Mailbox> = Vec::new(),
            "The mailboxes that its messages are mailed to.",
            Items(ITEMS_MAX, "a list of mailboxes such as `[admin@example.org]`", &["admin@example.org"]);
        from: Option<Mailbox> = None,
            "The sender of its mails; `\"\"` for `ringfence@HOST`.",
            OrNone("a mailbox, or `\"\"` for the default", "ringfence@example.org");
        smtp: Smtp = Smtp::default(),
            "The mail server. The connection to another host is encrypted: with TLS from the start \
             (`smtps://`), or with STARTTLS.",
            Text("a mail server such as `smtp://127.0.0.1:25`", "smtps://mail.example.org");
        login_file: Option<PathBuf> = None,
            "A file whose first line is `NAME:PASSWORD` for the mail server; `\"\"` for none.",
            OptionalPath("/etc/ringfence/smtp.login");
        syslog: bool = false, "Send its messages to syslog, with the facility `daemon`.", Flag();
        group: Duration = Duration::from_mins(5),
            "The shortest time between two messages of a kind. Events within this time are sent \
             together.",
            Time(Duration::from_secs(1)..=Duration::from_hours(24));
        limit: u32 = 20,
            "The most messages in an hour; critical events may use as many again. Further messages wait.",
            Count(1..=3600, "messages");
        quiet: Option<Hours> = None,
            "The hours in which only critical events are sent, in local time, such as \
             `\"22:00-07:00\"`; the others wait. `\"\"` for none.",
            OrNone("two times of the day, or `\"\"` for none", "22:00-07:00");
    }
}

impl Alert {
    /// The names of the ways that are set.
    pub fn ways(&self) -> Vec<&'static str> {
        let others = [("mail", !self.mail.is_empty()), ("syslog", self.syslog)];
        let others = others.into_iter().filter(|(_, is_set)| *is_set).map(|(name, _)| name);
        self.hook.ways().chain(others).collect()
    }
}

section! {
    /// An action.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Action(scopes) {
        events: Vec<ActionKind> = Vec::new(),
            "The events for which it runs; an empty list means both: " + names(ActionKind::ALL),
            Items(ActionKind::ALL.len(), "a list such as `[ban]`", &["ban"]);
        jails: Vec<JailName> = Vec::new(),
            "The jails for whose bans it runs, or `manual`, `escalation` or `flood`; an empty list \
             means all. It does not run for bans by feeds.",
            Items(ITEMS_MAX, "a list of jails such as `[sshd]`", &["sshd"]);
        /// What gets its messages, unless `CrowdSec` does.
        hook: Hook = Hook::default() => section "";
        crowdsec: Option<PathBuf> = None,
            "A file with the `url`, `login` and `password` of a machine at CrowdSec's local API, as `cscli \
             machines add` writes it: bans become its alerts. `\"\"` for none.",
            OptionalPath("/etc/ringfence/crowdsec.yaml");
    }
}

impl Action {
    /// The names of the ways that are set.
    pub fn ways(&self) -> Vec<&'static str> {
        self.hook.ways().chain(self.crowdsec.as_ref().map(|_| "crowdsec")).collect()
    }
}

/// Declares a text with a rule.
macro_rules! text {
    ($(#[$of:meta])* $name:ident, $is:expr, $why:literal) => {
        $(#[$of])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name(String);

        impl $name {
            /// As it was written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let is: fn(&str) -> bool = $is;
                if is(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(format!("`{}` {}", detection::duration::snippet(text), $why))
            }
        }
    };
}

text!(
    /// A word of a command.
    Argument,
    |text| text.len() <= WORD_MAX && !text.chars().any(char::is_control),
    "is too long or has control characters"
);

text!(
    /// The address of a mailbox.
    Mailbox,
    is_mailbox,
    "is not the address of a mailbox, such as `admin@example.org`"
);

text!(
    /// The name of a jail, or `manual`, `escalation` or `flood`.
    JailName,
    |text| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        !text.is_empty() && text.len() <= 64 && text.chars().all(is_plain)
    },
    "is not the name of a jail"
);

fn is_mailbox(text: &str) -> bool {
    let (local, domain) = text.split_once('@').unwrap_or((text, "localhost"));
    let is_local = |c: char| c.is_ascii_alphanumeric() || "._+=-".contains(c);
    let is_domain = |c: char| c.is_ascii_alphanumeric() || ".-".contains(c);
    let begins = |text: &str| text.starts_with(|c: char| c.is_ascii_alphanumeric());
    text.len() <= MAILBOX_MAX
        && begins(local)
        && begins(domain)
        && local.chars().all(is_local)
        && domain.chars().all(is_domain)
}

/// A mail server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smtp(String);

impl Default for Smtp {
    fn default() -> Self {
        Self("smtp://127.0.0.1:25".to_owned())
    }
}

impl Smtp {
    /// Its URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is on this host.
    pub fn is_here(&self) -> bool {
        let host = self.0.split_once("://").map_or("", |(_, rest)| rest);
        let host = host.strip_prefix('[').map_or_else(
            || host.split(':').next().unwrap_or_default(),
            |rest| rest.split(']').next().unwrap_or_default(),
        );
        ["127.0.0.1", "::1", "localhost"].contains(&host)
    }
}

impl fmt::Display for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Smtp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, host) = text.split_once("://").unwrap_or(("", text));
        let is_host = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        let is_right = ["smtp", "smtps"].contains(&scheme)
            && !host.is_empty()
            && text.len() <= MAILBOX_MAX
            && host.chars().all(is_host);
        if is_right {
            return Ok(Self(text.to_owned()));
        }
        Err("use a mail server such as `smtp://127.0.0.1:25` or `smtps://mail.example.org`".into())
    }
}

/// Hours of the day, which may include midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    from: Time,
    to: Time,
}

impl Hours {
    /// Whether a time of the day is in them.
    pub fn contains(&self, time: Time) -> bool {
        if self.from <= self.to {
            self.from <= time && time < self.to
        } else {
            self.from <= time || time < self.to
        }
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from.hour(), from.minute(), to.hour(), to.minute())
    }
}

impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let time = |text: &str| {
            let (hour, minute) = text.split_once(':')?;
            let is_number =
                |text: &str| text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit());
            if !is_number(hour) || !is_number(minute) {
                return None;
            }
            Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
        };
        let both = text.split_once('-').and_then(|(from, to)| Some((time(from)?, time(to)?)));
        match both {
            Some((from, to)) if from != to => Ok(Self { from, to }),
            Some(_) | None => Err("use two times of the day such as `\"22:00-07:00\"`".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_explained() {
        let page = include_str!("../../../docs/alerts.md");
        for kind in AlertKind::ALL {
            let row = format!("| `{kind}` | {} |", kind.meaning());
            assert!(page.contains(&row), "missing in docs/alerts.md: {row}");
        }
    }

    #[test]
    fn quiet_hours_may_include_midnight() {
        let at = |hour, minute| Time::new(hour, minute, 0, 0).unwrap();
        let night: Hours = "22:00-07:30".parse().unwrap();
        assert!(night.contains(at(22, 0)) && night.contains(at(0, 0)) && night.contains(at(7, 29)));
        assert!(!night.contains(at(7, 30)) && !night.contains(at(21, 59)));
        let lunch: Hours = "12:00-13:00".parse().unwrap();
        assert!(lunch.contains(at(12, 30)) && !lunch.contains(at(13, 0)));
        assert_eq!(
            (night.to_string(), lunch.to_string()),
            ("22:00-07:30".into(), "12:00-13:00".into())
        );
        for wrong in
            ["", "22:00", "22-7", "24:00-07:00", "22:00-22:00", "22:60-07:00", "+2:00-07:00"]
        {
            assert!(wrong.parse::<Hours>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_mailbox_cannot_become_an_option_or_a_header() {
        for right in ["root", "admin@example.org", "a.b+c@mail-1.example"] {
            assert!(right.parse::<Mailbox>().is_ok(), "{right}");
        }
        for wrong in
            ["", "-f", "a@", "@b", "a b@c", "a@b\r\nBcc: x@y", "\"a\"@b", "a@b>", "a,b@c", "a@-b"]
        {
            assert!(wrong.parse::<Mailbox>().is_err(), "{wrong}");
        }
        assert!("smtp://[::1]:25".parse::<Smtp>().unwrap().is_here());
        assert!(!"smtp://mail.example.org".parse::<Smtp>().unwrap().is_here());
        for wrong in
            ["mail", "http://x", "smtp://a b", "smtp://a\"", "smtp://me:secret@x", "smtp://"]
        {
            assert!(wrong.parse::<Smtp>().is_err(), "{wrong}");
        }
    }
}
