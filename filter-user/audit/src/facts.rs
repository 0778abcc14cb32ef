//! What is known about the host.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use api::{AuditedFilter, OpenTo, SipTransport, Transport, Unread};
use detection::settings::{Exposure, PortClasses, SipPorts};
use ipnet::IpNet;

use crate::firewall::Rules;

/// What is known about the host.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The version of Ringfence.
    pub version: String,
    /// The name of the host.
    pub host: String,
    /// The time, as text.
    pub time: String,
    /// Whether this is a Wazo host.
    pub wazo: bool,
    /// Listening TCP sockets, and UDP sockets that accept packets from anybody.
    pub sockets: Vec<Socket>,
    /// The names of users.
    pub users: BTreeMap<u32, String>,
    /// The interfaces that are up.
    pub interfaces: Vec<Interface>,
    /// The first and last port that the kernel assigns to sockets that do not request one.
    pub ephemeral: (u16, u16),
    /// Asterisk, if it is on this host.
    pub asterisk: Option<Asterisk>,
    /// The rules of nftables and iptables.
    pub firewall: Vec<Rules>,
    /// The ports that the filter closes now, on the interfaces that have it.
    pub closed: BTreeMap<(Transport, u16), OpenTo>,
    /// Who used which port; `None` if nothing is recorded.
    pub visits: Option<Vec<Visits>>,
    /// The services that the configuration closes.
    pub exposure: Exposure,
    /// The trusted networks of the configuration.
    pub trusted: Vec<IpNet>,
    /// The SIP ports of the configuration.
    pub sip: SipPorts,
    /// Its other ports, by name.
    pub ports: PortClasses,
    /// The state of the filter, if it was asked for.
    pub filter: Option<AuditedFilter>,
    /// What could not be read.
    pub unread: Vec<Unread>,
}

/// The uses of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visits {
    /// Its transport.
    pub transport: Transport,
    /// The port.
    pub port: u16,
    /// Since when they are recorded.
    pub since: Time,
    /// By private addresses.
    pub private: Uses,
    /// By all other addresses.
    pub public: Uses,
    /// The networks that used it, each with its last use, the latest first. Some may be missing.
    pub networks: Vec<(IpNet, Time)>,
}

/// The uses of a port by addresses of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// The number of networks; one may count twice.
    pub networks: u64,
    /// Packets of networks that were not recorded.
    pub missed: u64,
    /// The last use.
    pub last: Option<Time>,
}

/// A time in the past.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Time {
    /// How long ago it was.
    pub ago: Duration,
    /// The time as text.
    pub text: String,
}

/// A socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its transport.
    pub transport: Transport,
    /// The address that it is bound to.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// Whether it is an IPv6 socket that does not accept IPv4.
    pub v6_only: bool,
    /// The interface that it is bound to.
    pub interface: Option<String>,
    /// The inode number, by which its process is found.
    pub inode: u32,
    /// The user that made it.
    pub uid: u32,
    /// Its process, if it is known.
    pub owner: Option<Owner>,
}

/// The process of a socket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// Its id.
    pub pid: u32,
    /// Its name, which any user may have chosen.
    pub process: String,
    /// Its unit.
    pub unit: Option<String>,
}

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether what arrives on it passes the filter.
    pub filtered: bool,
}

/// Asterisk's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asterisk {
    /// What told of the transports.
    pub source: String,
    /// Its SIP transports.
    pub transports: Vec<SipTransport>,
    /// Its ports for media, the first and the last.
    pub rtp: Option<(u16, u16)>,
}

impl Default for Facts {
    /// A host on which nothing listens.
    fn default() -> Self {
        Self {
            version: String::new(),
            host: String::new(),
            time: String::new(),
            wazo: false,
            sockets: Vec::new(),
            users: BTreeMap::new(),
            interfaces: Vec::new(),
            ephemeral: (32_768, 60_999),
            asterisk: None,
            firewall: Vec::new(),
            closed: BTreeMap::new(),
            visits: None,
            exposure: Exposure::default(),
            trusted: Vec::new(),
            sip: SipPorts { udp: Vec::new(), tcp: Vec::new() },
            ports: PortClasses::default(),
            filter: None,
            unread: Vec::new(),
        }
    }
}
