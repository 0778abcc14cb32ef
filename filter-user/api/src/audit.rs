//! The output of `ringfence audit --json`, which `--baseline` reads. It is not an answer of the daemon.

use std::net::IpAddr;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An audit of the host.
///
/// Any user of the host may have chosen the names of processes, units and users. Control characters in
/// them are escaped, and long names are shortened.
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
    /// The worst severity among `findings`; null if there are none.
    pub worst: Option<Severity>,
    /// What was found, the worst first.
    pub findings: Vec<AuditFinding>,
    /// The number of findings that are left out because they are in the baseline; null if there was no
    /// baseline.
    pub known: Option<u64>,
    /// What listens.
    pub listeners: Vec<Listener>,
    /// The interfaces that are up, with their addresses.
    pub interfaces: Vec<AuditedInterface>,
    /// The rules of nftables and iptables.
    pub firewall: Vec<RuleSet>,
    /// Asterisk's SIP transports and RTP range; null if Asterisk is not installed.
    pub asterisk: Option<AuditedAsterisk>,
    /// The state of the filter; null if it was not requested.
    pub filter: Option<AuditedFilter>,
    /// Facts that could not be read, so that the audit is incomplete.
    pub unread: Vec<Unread>,
}

/// A part of the audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AuditPart {
    /// The listening sockets, and who can reach them.
    Ports,
    /// The passwords of SIP accounts.
    Accounts,
    /// The telephones that wazo-provd configures.
    Devices,
    /// What the doctor finds.
    Doctor,
    /// The state of the filter.
    Filter,
}

/// The severity of a finding. Each finding has a reason for it.
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
    /// Identifies the finding in later audits, such as `exposed/postgresql/tcp/5432`.
    pub id: String,
    /// How bad it is.
    pub severity: Severity,
    /// The finding in a few words.
    pub title: String,
    /// The reason for the severity.
    pub reason: String,
    /// What shows it.
    pub evidence: Vec<String>,
    /// What to do about it.
    pub remedy: String,
    /// A line that solves it, to paste into a root shell or into the file that `remedy` names; null if no
    /// line suits every host.
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

/// Who can reach an address, judging by the address alone.
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
    /// Anybody who can reach any address of the host: `0.0.0.0` or `::`.
    Any,
}

/// A listener. Sockets of one process with the same address and port count as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Listener {
    /// Its transport.
    pub transport: Transport,
    /// The address. An IPv4 address that is bound as `::ffff:192.0.2.7` is shown as `192.0.2.7`.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// Whether it takes IPv4.
    pub ipv4: bool,
    /// Whether it takes IPv6.
    pub ipv6: bool,
    /// The interface that it is bound to, or null.
    pub interface: Option<String>,
    /// Who can reach it.
    pub reach: Reach,
    /// The name of its process; null if unknown.
    pub process: Option<String>,
    /// The process ID; null if unknown.
    pub pid: Option<u32>,
    /// The systemd unit of its process; null if it has none.
    pub unit: Option<String>,
    /// The user that owns it, by number.
    pub uid: u32,
    /// The name of that user; null if it has none.
    pub user: Option<String>,
    /// How many sockets it has.
    pub sockets: u64,
    /// The service, such as `postgresql`; null if unknown.
    pub service: Option<String>,
    /// Whether the host's firewall or `exposure` closes it to strangers.
    pub closed: bool,
    /// The protection in front of it as text; empty if there is none.
    pub guards: Vec<String>,
    /// The finding about it; null if there is none.
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
    /// A summary of each chain that incoming packets pass.
    pub chains: Vec<String>,
}

/// Asterisk as its configuration has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct AuditedAsterisk {
    /// The command or file that the transports were read from.
    pub source: String,
    /// Its SIP transports.
    pub transports: Vec<SipTransport>,
    /// The first port for media; null if unknown.
    pub rtp_first: Option<u16>,
    /// The last port for media; null if unknown.
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
    /// Whether packets are dropped; null if unknown.
    pub enforcing: Option<bool>,
    /// The interfaces that have the filter.
    pub interfaces: Vec<String>,
    /// Bans in force; null if unknown.
    pub bans: Option<u64>,
    /// Packets dropped since the filter was first attached; null if unknown.
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
