//! Lists of networks and host names.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde_json::{Value as Json, json};

use super::{Kind, Read, many, too_many};
use crate::config::yaml::{Node, Scalar};
use crate::config::{HOST_NAMES_MAX, HostName};
use crate::duration::snippet;

/// Networks and names, and advice for the error if they cover every address.
pub(crate) struct Hosts<'a>(
    pub(crate) &'a mut Vec<IpNet>,
    pub(crate) &'a mut Vec<HostName>,
    pub(crate) &'static str,
);

impl Kind for Hosts<'_> {
    fn read(&mut self, node: &Node) -> Read<()> {
        (*self.0, *self.1) = hosts(node, self.2)?;
        Ok(())
    }

    fn value(&self) -> Json {
        let networks = self.0.iter().map(|network| network_text(*network));
        networks.chain(self.1.iter().map(ToString::to_string)).map(Json::from).collect()
    }

    fn expected(&self) -> String {
        "a list of addresses, networks and names such as `[198.51.100.7, 203.0.113.0/24]`".into()
    }

    fn example(&self) -> Json {
        json!(["198.51.100.0/24", "2001:db8:5::/48", "office.example.org"])
    }
}

/// Networks, and the names of hosts.
fn hosts(node: &Node, instead: &str) -> Read<(Vec<IpNet>, Vec<HostName>)> {
    let read = |scalar: &Scalar| match network(&scalar.text, instead) {
        Ok(network) => Ok(Ok(network)),
        // Text with a letter that no address has is meant to be a name.
        Err(_) if !is_numeric(&scalar.text) => scalar.text.parse().map(Err),
        Err(why) => Err(why),
    };
    let mut networks = Vec::new();
    let mut names: Vec<HostName> = Vec::new();
    for host in many(node, read)? {
        match host {
            Ok(network) => networks.push(network),
            Err(name) if names.contains(&name) => {}
            Err(name) => names.push(name),
        }
    }
    if names.len() > HOST_NAMES_MAX {
        return Err(too_many(node, names.len(), "names", HOST_NAMES_MAX));
    }
    Ok((networks, names))
}

/// Whether a text is written like an address or a network.
fn is_numeric(text: &str) -> bool {
    text.contains([':', '/']) || text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

fn network(text: &str, instead: &str) -> Result<IpNet, String> {
    let shown = snippet(text);
    let Some(written) = parse_network(text) else {
        return Err(match netmask(text) {
            Some(network) => format!("write `{shown}` as `{}`", network_text(network)),
            None => format!(
                "`{shown}` is not an address or a network; write one such as `198.51.100.7`, \
                 `203.0.113.0/24` or `2001:db8::/64`, or a name such as `office.example.org`"
            ),
        });
    };
    let network = unmapped(written);
    if network.prefix_len() == 0 {
        return Err(format!("`{shown}` covers every address; {instead}"));
    }
    if network != written {
        return Err(format!("write `{shown}` as the IPv4 `{}`", network_text(network)));
    }
    if network.trunc() != network {
        return Err(format!(
            "`{shown}` has host bits set; write `{}` for the network or `{}` for \
             the host",
            network.trunc(),
            network.addr()
        ));
    }
    Ok(network)
}

fn parse_network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A network with a mask, as in Asterisk's `permit`.
fn netmask(text: &str) -> Option<IpNet> {
    let (address, mask) = text.split_once('/')?;
    let network = IpNet::with_netmask(address.parse().ok()?, mask.parse().ok()?).ok()?;
    Some(network.trunc())
}

/// The IPv4 network that an IPv4-mapped one stands for: packets never carry the mapped form.
fn unmapped(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let mapped: Option<Ipv4Addr> = v6.addr().to_ipv4_mapped();
    let v4 = mapped
        .zip(v6.prefix_len().checked_sub(96))
        .and_then(|(address, prefix)| Ipv4Net::new(address, prefix).ok());
    v4.map_or(network, IpNet::V4)
}

/// An address without `/32` or `/128`.
fn network_text(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}
