//! The settings of the program, as values. The crate that reads the files knows their syntax there.

mod limits;
mod signatures;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

pub use detection::settings::Rate;
use detection::settings::{PortClasses, PortGuard, SipPorts};
use ipnet::IpNet;

pub use self::limits::{ByteLimits, ClassLimits, Flood, Limit, Limits, PrefixLimits};
pub use self::signatures::{USER_AGENT_MAX, USER_AGENTS_MAX, UserAgent};

/// The settings of the kernel's part.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of the pins.
    pub bpffs: PathBuf,
    /// The interfaces to protect.
    pub interfaces: Vec<String>,
    /// How the program is attached to them.
    pub mode: Mode,
    /// Whether this is a dry run: judge and count, but drop nothing.
    pub dry_run: bool,
    /// The same, but switched at run time: see [`Datapath::disable`](crate::Datapath::disable).
    pub disabled: bool,
    /// The host's own addresses, from which no packet can arrive.
    pub own: BTreeSet<IpAddr>,
    /// Networks that are never dropped.
    pub trusted: Vec<IpNet>,
    /// Whether they are trusted only on interfaces through which a reply to them would leave.
    pub trusted_by_route: bool,
    /// The SIP ports.
    pub sip: SipPorts,
    /// Other ports that a ban can close.
    pub ports: PortClasses,
    /// Ports that are not open to everybody.
    pub guarded: Guarded,
    /// The limits of packets.
    pub limits: Limits,
    /// How long known peers are remembered.
    pub known_for: Duration,
    /// The User-Agents of scanners.
    pub user_agents: Vec<UserAgent>,
    /// How long the controller may be silent before the filter counts as unattended; `None`: for ever.
    pub unattended_after: Option<Duration>,
    /// The number of IPv4 addresses that can be banned.
    pub bans: u32,
    /// The number of IPv6 addresses that can be banned.
    pub bans_ipv6: u32,
}

/// Ports that are not open to everybody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guarded {
    /// The ports; of several entries for one port the last counts.
    pub ports: Vec<PortGuard>,
    /// Whether packets to them are only counted, and still pass.
    pub dry_run: bool,
}

/// How the XDP program is attached to an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Native if the driver supports it, otherwise generic.
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the network stack: works everywhere, costs more.
    Generic,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Native, Self::Generic];

    /// The name in the configuration and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| "use `auto`, `native` or `generic`".to_owned())
    }
}
