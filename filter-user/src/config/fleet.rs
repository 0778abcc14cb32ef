//! The settings of the fleet: the administrator's other hosts, with which this one shares bans.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use ::fleet::Accept;
use detection::settings::Scope;

use super::kind::LIST_MAX;
use super::section::section;

pub use ::fleet::Host as FleetHost;

/// The longest address of a server.
const SERVER_MAX: usize = 256;

/// The most servers.
pub const SERVERS_MAX: usize = 16;

section! {
    /// The fleet. Without servers it is off.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Fleet(scopes) {
        servers: Vec<FleetServer> = Vec::new(),
            "The NATS servers of the fleet, with `tls`; without any, the fleet is off. `nats` is possible for a \
             server on this host only.",
            Items(SERVERS_MAX, "a list of servers such as `[\"tls://nats-1.example:4222\"]`", &[
                "tls://nats-1.example:4222",
            ]);
        host: Option<FleetHost> = None,
            "The name of this host in the fleet. `\"\"` takes the host's own name.",
            OrNone("a name, or `\"\"` for the host's own", "pbx-1");
        bucket: Bucket = Bucket("ringfence".to_owned()),
            "The JetStream bucket of the fleet.",
            Text("a name", "ringfence");
        ca_file: Option<PathBuf> = None,
            "The certificate authorities of the servers; `\"\"` for those of the system.",
            OptionalPath("/etc/ringfence/fleet-ca.pem");
        credentials_file: Option<PathBuf> = None,
            "The file with this host's credentials (`.creds`), readable by `fleet.user` only.",
            OptionalPath("/etc/ringfence/fleet.creds");
        nkey_file: Option<PathBuf> = None,
            "The file with the seed of this host's NKey, readable by `fleet.user` only.",
            OptionalPath("/etc/ringfence/fleet.nkey");
        user: String = "ringfence-fleet".to_owned(),
            "The user that `ringfence-fleet` runs as.",
            Word("a user such as `ringfence-fleet`");
        publish: Publish = Publish::Proven,
            "Which bans by its jails this host shares: those whose source is `proven`, `all`, or `none`. Private \
             addresses, and networks that several customers use, are never shared.",
            Choice(&Publish::ALL, Publish::as_str);
        /// What this host accepts from the others.
        accept: FleetAccept = FleetAccept::default() => section "accept";
        cut: Vec<FleetHost> = Vec::new(),
            "Hosts whose bans do not count.",
            Items(LIST_MAX, "a list of hosts such as `[pbx-3]`", &["pbx-3"]);
    }
}

impl Fleet {
    /// Whether this host is part of a fleet.
    pub fn is_on(&self) -> bool {
        !self.servers.is_empty()
    }
}

section! {
    /// What this host accepts from the others.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct FleetAccept(scopes) {
        proven: bool = Accept::default().proven,
            "Whether a ban by another host counts only if its source is proven. If not, one that is not proven \
             throttles.",
            Flag();
        hosts: u32 = Accept::default().hosts,
            "How many hosts must ban an address before it is banned here.",
            Count(1..=100, "hosts");
        scope: Scope = Scope::Sip,
            "What a ban by another host closes: `sip`, a name under `ports`, or `all`.",
            Scope(Rc::clone(scopes));
        longest: Duration = Duration::from_secs(Accept::default().longest),
            "The longest time of a ban by another host.",
            Time(Duration::from_mins(1)..=Duration::from_hours(7 * 24));
        rate: u32 = Accept::default().rate,
            "The rate at which bans by one host are accepted. Up to forty seconds' worth may arrive at once.",
            Count(1..=10_000, "bans a second");
        most: u32 = Accept::default().most,
            "The most bans by one host that can be in force.",
            Count(1..=1_000_000, "bans");
        total: u32 = Accept::default().total,
            "The most bans by all hosts together that can be in force.",
            Count(1..=1_000_000, "bans");
        allows: bool = true,
            "Whether networks that the administrator of the fleet trusts are trusted here.",
            Flag();
        maintenance: Duration = Duration::ZERO,
            "The longest time for which the administrator of the fleet may close SIP here for maintenance, within \
             24 hours; `0` means never.",
            TimeOrZero(Duration::from_mins(1)..=::api::MAINTENANCE_MAX);
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
