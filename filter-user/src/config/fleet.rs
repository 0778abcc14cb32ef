//! The settings of the fleet: the administrator's other hosts, with which this one shares bans.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ::fleet::Accept;
use detection::settings::Scope;

pub use ::fleet::Host as FleetHost;

/// The longest address of a server.
const SERVER_MAX: usize = 256;

/// The most servers.
pub const SERVERS_MAX: usize = 16;

/// The fleet. Without servers it is off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// The servers of NATS.
    pub servers: Vec<FleetServer>,
    /// The name of this host; `None` for the host's own name.
    pub host: Option<FleetHost>,
    /// The bucket with the records.
    pub bucket: Bucket,
    /// The certificate authorities of the servers.
    pub ca_file: Option<PathBuf>,
    /// The credentials (a JWT and the seed of its `NKey`).
    pub credentials_file: Option<PathBuf>,
    /// The seed of an `NKey`.
    pub nkey_file: Option<PathBuf>,
    /// The user that the agent runs as.
    pub user: String,
    /// Which bans are shared.
    pub publish: Publish,
    /// What counts of that which others share.
    pub accept: FleetAccept,
    /// Hosts whose bans do not count.
    pub cut: Vec<FleetHost>,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            host: None,
            bucket: Bucket("ringfence".to_owned()),
            ca_file: None,
            credentials_file: None,
            nkey_file: None,
            user: "ringfence-fleet".to_owned(),
            publish: Publish::Proven,
            accept: FleetAccept::default(),
            cut: Vec::new(),
        }
    }
}

impl Fleet {
    /// Whether this host is part of a fleet.
    pub fn is_on(&self) -> bool {
        !self.servers.is_empty()
    }
}

/// What counts of that which others share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetAccept {
    /// Only bans whose source is proven; others throttle.
    pub proven: bool,
    /// By how many hosts an address must be banned.
    pub hosts: u32,
    /// What a ban closes.
    pub scope: Scope,
    /// The longest time of a ban.
    pub longest: Duration,
    /// How many bans a second one host may share in the long run.
    pub rate: u32,
    /// How many bans of one host are in force at most.
    pub most: u32,
    /// How many bans of all hosts are in force at most.
    pub total: u32,
    /// Whether the networks that the fleet trusts are trusted here.
    pub allows: bool,
    /// The longest time for which the administrator of the fleet may close SIP here within a day; zero for not at
    /// all.
    pub maintenance: Duration,
}

impl Default for FleetAccept {
    fn default() -> Self {
        let Accept { proven, hosts, longest, rate, most, total, .. } = Accept::default();
        let (scope, longest) = (Scope::Sip, Duration::from_secs(longest));
        let maintenance = Duration::ZERO;
        Self { proven, hosts, scope, longest, rate, most, total, allows: true, maintenance }
    }
}

/// Which bans are shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Publish {
    /// Those whose source is proven.
    Proven,
    /// All that jails decide.
    All,
    /// None.
    None,
}

impl Publish {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Proven, Self::All, Self::None];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::All => "all",
            Self::None => "none",
        }
    }
}

/// A server: `tls://HOST:PORT`, or `nats://` for one on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetServer(String);

impl fmt::Display for FleetServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FleetServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "use `tls://HOST:PORT`, such as `tls://nats-1.example:4222`".to_owned();
        let (scheme, host) = text.split_once("://").ok_or_else(wrong)?;
        let letters = |c: char| c.is_ascii_alphanumeric() || ".-:[]".contains(c);
        if text.len() > SERVER_MAX || host.is_empty() || !host.chars().all(letters) {
            return Err(wrong());
        }
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        match scheme {
            "tls" => Ok(Self(text.to_owned())),
            "nats" if ["127.0.0.1", "::1", "localhost"].contains(&name) => {
                Ok(Self(text.to_owned()))
            }
            "nats" => {
                Err("over `nats`, anybody on the way can ban and unban; use `tls`".to_owned())
            }
            _ => Err(wrong()),
        }
    }
}

/// The name of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket(String);

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Bucket {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if text.is_empty() || text.len() > 64 || !text.bytes().all(letters) {
            return Err("use letters, digits, `-` and `_`, at most 64".to_owned());
        }
        Ok(Self(text.to_owned()))
    }
}

/// What the settings contradict.
pub(super) fn contradictions(fleet: &Fleet) -> BTreeMap<&'static str, String> {
    let mut found = BTreeMap::new();
    if fleet.credentials_file.is_some() && fleet.nkey_file.is_some() {
        let why = "`fleet.credentials_file` has a key of its own; remove `fleet.nkey_file`";
        found.insert("fleet.nkey_file", why.to_owned());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_cross_a_network_only_encrypted() {
        for text in
            ["tls://nats-1.example:4222", "tls://[2001:db8::1]:4222", "nats://127.0.0.1:4222"]
        {
            assert_eq!(
                text.parse::<FleetServer>().map(|server| server.to_string()),
                Ok(text.to_owned())
            );
        }
        for text in [
            "",
            "nats-1.example",
            "nats://nats-1.example:4222",
            "nats://127.0.0.1.example",
            "tls://",
            "tls://user:secret@host",
            "tls://a b",
            "ws://127.0.0.1",
        ] {
            assert!(text.parse::<FleetServer>().is_err(), "{text}");
        }
    }
}
