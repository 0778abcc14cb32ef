//! What `ringfence audit` prints with `--json`, and what `--baseline` reads. The daemon does not answer with it.

use std::net::IpAddr;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An audit of the host.
///
/// Names of processes, units and users are text that any user of the host may have chosen: characters that
/// control a terminal are escaped, and they are shortened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Audit {
    /// The version of Ringfence.
    pub version: String,
    /// The name of the host.
    pub host: String,
    /// When the audit was made.
    pub time: String,
    /// What was examined.
    pub parts: Vec<AuditPart>,
    /// Whether this is a Wazo host.
    pub wazo: bool,
    /// The worst severity among `findings`; null: there are none.
    pub worst: Option<Severity>,
    /// What was found, the worst first.
    pub findings: Vec<AuditFinding>,
    /// How many findings are left out because the baseline has them; null: there was no baseline.
    pub known: Option<u64>,
    /// What listens.
    pub listeners: Vec<Listener>,
    /// The interfaces that are up, with their addresses.
    pub interfaces: Vec<AuditedInterface>,
    /// The rules of nftables and iptables.
    pub firewall: Vec<RuleSet>,
    /// Asterisk's SIP transports and RTP range; null: there is no Asterisk.
    pub asterisk: Option<AuditedAsterisk>,
    /// The state of the filter; null: it was not asked for.
    pub filter: Option<AuditedFilter>,
    /// What could not be read, so that the audit is incomplete.
    pub unread: Vec<Unread>,
}

/// A part of the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AuditPart {
    /// What listens, and who can reach it.
    Ports,
    /// What the doctor finds.
    Doctor,
    /// The state of the filter.
    Filter,
}

/// How bad a finding is. Each finding says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing; nothing needs to be done.
    Note,
    /// To be solved soon.
    Warning,
    /// To be solved now.
    Critical,
}

impl Severity {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct AuditFinding {
    /// What identifies the finding from one audit to the next, such as `exposed/postgresql/tcp/5432`.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// The finding in a few words.
    pub title: String,
    /// Why it is as bad as that.
    pub reason: String,
    /// What shows it.
    pub evidence: Vec<String>,
    /// What to do about it.
    pub remedy: String,
    /// The line to paste that does it, into a shell as root or into the file that `remedy` names; null: there is
    /// none that suits every host.
    pub line: Option<String>,
    /// The page of Wazo's documentation; null: there is none.
    pub page: Option<String>,
}

/// The transport of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Transport {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Who can reach an address, as far as the address says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// This host alone.
    Loopback,
    /// The link alone.
    LinkLocal,
    /// Members of a multicast group.
    Multicast,
    /// Networks with private addresses.
    Private,
    /// Everybody.
    Public,
    /// Whoever reaches any address of the host: `0.0.0.0` or `::`.
    Any,
}

/// Something that listens. Sockets of one process at the same address and port are one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Listener {
    /// Its transport.
    pub transport: Transport,
    /// The address. One of IPv4 that is bound as `::ffff:192.0.2.7` is `192.0.2.7`.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// Whether it takes IPv4.
    pub ipv4: bool,
    /// Whether it takes IPv6.
    pub ipv6: bool,
    /// The interface that it is bound to; null: none.
    pub interface: Option<String>,
    /// Who can reach it.
    pub reach: Reach,
    /// The name of its process; null: not known.
    pub process: Option<String>,
    /// The id of its process; null: not known.
    pub pid: Option<u32>,
    /// The unit of its process; null: it is in none.
    pub unit: Option<String>,
    /// The user that owns it, by number.
    pub uid: u32,
    /// The name of that user; null: it has none.
    pub user: Option<String>,
    /// How many sockets it has.
    pub sockets: u64,
    /// What it is, such as `postgresql`; null: not known.
    pub service: Option<String>,
    /// Whether the host's firewall closes it to strangers.
    pub closed: bool,
    /// What stands before it, in words; empty: nothing.
    pub guards: Vec<String>,
    /// The finding about it; null: there is none.
    pub finding: Option<String>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct AuditedInterface {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether what arrives on it passes the filter.
    pub filtered: bool,
}

/// A set of rules in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct RuleSet {
    /// The program that lists them: `nft`, `iptables-save` or `ip6tables-save`.
    pub tool: String,
    /// Each chain that incoming packets pass, in words.
    pub chains: Vec<String>,
}

/// Asterisk as its configuration has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct AuditedAsterisk {
    /// What told of the transports: a command or a file.
    pub source: String,
    /// Its SIP transports.
    pub transports: Vec<SipTransport>,
    /// The first port for media; null: not known.
    pub rtp_first: Option<u16>,
    /// The last port for media; null: not known.
    pub rtp_last: Option<u16>,
}

/// A SIP transport of Asterisk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct SipTransport {
    /// Its name.
    pub name: String,
    /// Its protocol: `udp`, `tcp`, `tls`, `ws` or `wss`.
    pub protocol: String,
    /// The address that it is bound to.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
}

/// The state of the filter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct AuditedFilter {
    /// Whether the daemon answers.
    pub daemon: bool,
    /// Why it does not; null if it does.
    pub why: Option<String>,
    /// Whether packets are dropped; null: not known.
    pub enforcing: Option<bool>,
    /// The interfaces that have the filter.
    pub interfaces: Vec<String>,
    /// Bans in force; null: not known.
    pub bans: Option<u64>,
    /// Packets dropped since the filter was first attached; null: not known.
    pub dropped: Option<u64>,
}

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Unread {
    /// What.
    pub what: String,
    /// Why not.
    pub why: String,
}
