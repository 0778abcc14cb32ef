//! The keys of the bucket, and what each is for.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::host::Host;

/// The shortest prefix of an IPv6 network that is shared: what one customer has.
const WIDEST_IPV6: u8 = 48;

/// A key of the bucket.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// `bans.HOST.NETWORK`: a ban of a host.
    Ban(Host, IpNet),
    /// `hosts.HOST`: a host's sign of life.
    Host(Host),
    /// `allows.NETWORK`: a network that every host trusts.
    Allow(IpNet),
    /// `cuts.HOST`: a host whose bans no host accepts.
    Cut(Host),
    /// `maintenance.all`: SIP is closed on every host that accepts it.
    Maintenance,
}

/// Whether a ban of this network may be shared: of one address, or one customer's network, that is in use on the
/// Internet. A private address is another machine elsewhere.
pub fn is_shared(network: IpNet) -> bool {
    let is_narrow = match network {
        IpNet::V4(network) => network.prefix_len() == 32,
        IpNet::V6(network) => network.prefix_len() >= WIDEST_IPV6,
    };
    is_narrow && network == network.trunc() && !feeds::is_bogon(network)
}

/// The form of a network in a key: the bits in hexadecimal, and the length of the prefix.
struct Bits(IpNet);

impl fmt::Display for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            IpNet::V4(net) => write!(f, "{:08x}-{}", u32::from(net.network()), net.prefix_len()),
            IpNet::V6(net) => write!(f, "{:032x}-{}", u128::from(net.network()), net.prefix_len()),
        }
    }
}

impl FromStr for Bits {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (bits, length) = text.split_once('-').ok_or(())?;
        let length: u8 = length.parse().map_err(drop)?;
        let is_hex = |c: u8| matches!(c, b'0'..=b'9' | b'a'..=b'f');
        if !bits.bytes().all(is_hex) {
            return Err(());
        }
        let network: IpNet = match bits.len() {
            8 => {
                let bits = u32::from_str_radix(bits, 16).map_err(drop)?;
                Ipv4Net::new(Ipv4Addr::from(bits), length).map_err(drop)?.into()
            }
            32 => {
                let bits = u128::from_str_radix(bits, 16).map_err(drop)?;
                Ipv6Net::new(Ipv6Addr::from(bits), length).map_err(drop)?.into()
            }
            _ => return Err(()),
        };
        // So that each network has one key.
        let found = Self(network);
        if network == network.trunc() && found.to_string() == text { Ok(found) } else { Err(()) }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ban(host, network) => write!(f, "bans.{host}.{}", Bits(*network)),
            Self::Host(host) => write!(f, "hosts.{host}"),
            Self::Allow(network) => write!(f, "allows.{}", Bits(*network)),
            Self::Cut(host) => write!(f, "cuts.{host}"),
            Self::Maintenance => f.write_str("maintenance.all"),
        }
    }
}

impl FromStr for Key {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, rest) = text.split_once('.').ok_or(())?;
        let network = |text: &str| text.parse::<Bits>().map(|Bits(network)| network);
        match kind {
            "bans" => {
                let (host, bits) = rest.split_once('.').ok_or(())?;
                Ok(Self::Ban(host.parse().map_err(drop)?, network(bits)?))
            }
            "hosts" => Ok(Self::Host(rest.parse().map_err(drop)?)),
            "allows" => Ok(Self::Allow(network(rest)?)),
            "cuts" => Ok(Self::Cut(rest.parse().map_err(drop)?)),
            "maintenance" if rest == "all" => Ok(Self::Maintenance),
            _ => Err(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_are_written_as_documented() {
        let host: Host = "pbx-3".parse().unwrap();
        for (key, text) in [
            (Key::Ban(host.clone(), "185.0.0.66/32".parse().unwrap()), "bans.pbx-3.b9000042-32"),
            (
                Key::Ban(host.clone(), "2a01:4f8::/64".parse().unwrap()),
                "bans.pbx-3.2a0104f8000000000000000000000000-64",
            ),
            (Key::Host(host.clone()), "hosts.pbx-3"),
            (Key::Allow("185.0.0.0/24".parse().unwrap()), "allows.b9000000-24"),
            (Key::Cut(host), "cuts.pbx-3"),
            (Key::Maintenance, "maintenance.all"),
        ] {
            assert_eq!(key.to_string(), text);
            assert_eq!(text.parse(), Ok(key));
        }
        for wrong in [
            "bans.pbx-3.b9000042-24",
            "bans.pbx-3.B9000042-32",
            "bans.pbx-3.b9000042-032",
            "bans.pbx-3.+9000042-32",
            "bans.PBX.b9000042-32",
            "bans.b9000042-32",
            "hosts.a.b",
            "maintenance.pbx-3",
            "hosts.",
            "",
            "bans",
        ] {
            assert_eq!(wrong.parse::<Key>(), Err(()), "{wrong}");
        }
    }

    #[test]
    fn only_what_means_the_same_everywhere_is_shared() {
        for (network, is) in [
            ("185.0.0.66/32", true),
            ("185.0.0.0/24", false),
            ("10.0.0.1/32", false),
            ("127.0.0.1/32", false),
            ("2a01:4f8::/64", true),
            ("2a01::/32", false),
            ("fd00::1/128", false),
            ("0.0.0.0/0", false),
            ("::/0", false),
        ] {
            assert_eq!(is_shared(network.parse().unwrap()), is, "{network}");
        }
    }

    proptest! {
        #[test]
        fn no_key_panics(text in "(bans|hosts|allows|cuts|maintenance)?[.a-f0-9-]{0,60}") {
            if let Ok(key) = text.parse::<Key>() {
                prop_assert_eq!(key.to_string(), text);
            }
        }
    }
}
