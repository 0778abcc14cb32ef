//! Turns sockets into the rows of the report: sockets of one process with one address and port are one
//! listener.
//!
//! Must never lose or invent a listener.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::{Listener, OpenTo, Reach, Transport};

use crate::facts::{Facts, Owner, Socket};
use crate::firewall::{self, Packet};
use crate::reach;
use crate::services::{self, Service};
use crate::words::shown;

/// A listener and further facts about it.
#[derive(Clone, Debug)]
pub struct Row {
    /// As the report has it.
    pub listener: Listener,
    /// What it is.
    pub service: Option<&'static Service>,
    /// Whether it is one of Asterisk's sockets for media.
    pub is_media: bool,
}

/// The rows of all sockets: by port, transport and address.
pub fn rows(facts: &Facts) -> Vec<Row> {
    type Key<'a> = (u16, Transport, IpAddr, bool, &'a Option<String>, u32, &'a Option<Owner>);
    let mut sockets: BTreeMap<Key<'_>, u64> = BTreeMap::new();
    for socket in &facts.sockets {
        let Socket { transport, address, port, v6_only, interface, uid, owner, .. } = socket;
        let key = (*port, *transport, *address, *v6_only, interface, *uid, owner);
        let count = sockets.entry(key).or_default();
        *count = count.saturating_add(1);
    }
    let row =
        |((port, transport, address, v6_only, interface, uid, owner), sockets): (Key<'_>, u64)| {
            let is_mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
            let canonical = address.to_canonical();
            let ipv6 = address.is_ipv6() && !is_mapped;
            let ipv4 = !ipv6 || (address.is_unspecified() && !v6_only);
            let names =
                owner.iter().flat_map(|owner| [Some(&*owner.process), owner.unit.as_deref()]);
            let service = services::find(transport, port, names.flatten(), facts.wazo);
            let is_on_loopback = interface.as_deref() == Some("lo");
            let reach = if is_on_loopback { Reach::Loopback } else { reach::of(address) };
            let mut row = Row {
                is_media: is_media(facts, transport, port, owner.as_ref()),
                service,
                listener: Listener {
                    transport,
                    address: canonical,
                    port,
                    ipv4,
                    ipv6,
                    interface: interface.as_deref().map(shown),
                    reach,
                    process: owner.as_ref().map(|owner| shown(&owner.process)),
                    pid: owner.as_ref().map(|owner| owner.pid),
                    unit: owner.as_ref().and_then(|owner| owner.unit.as_deref()).map(shown),
                    uid,
                    user: facts.users.get(&uid).map(|user| shown(user)),
                    sockets,
                    service: service.map(|service| service.name.to_owned()),
                    closed: false,
                    guards: Vec::new(),
                    finding: None,
                },
            };
            if row.is_media {
                row.service = None;
                row.listener.service = Some("rtp".to_owned());
            }
            guard(facts, &mut row.listener);
            row
        };
    sockets.into_iter().map(row).collect()
}

/// Whether it is one of Asterisk's sockets for media.
fn is_media(facts: &Facts, transport: Transport, port: u16, owner: Option<&Owner>) -> bool {
    let range = facts.asterisk.as_ref().and_then(|asterisk| asterisk.rtp);
    transport == Transport::Udp
        && owner.is_some_and(|owner| owner.process == "asterisk")
        && range.is_some_and(|(first, last)| (first..=last).contains(&port))
}

/// The interfaces through which packets from outside reach a listener, with the addresses.
pub fn ways<'a>(facts: &'a Facts, listener: &'a Listener) -> Vec<(&'a str, IpAddr)> {
    let takes = move |address: &IpAddr| {
        let family = if address.is_ipv4() { listener.ipv4 } else { listener.ipv6 };
        family && (listener.address.is_unspecified() || listener.address == *address)
    };
    let bound = listener.interface.as_deref();
    let interfaces =
        facts.interfaces.iter().filter(|one| bound.is_none_or(|name| name == one.name));
    interfaces
        .filter(|interface| interface.name != "lo")
        .flat_map(move |one| {
            let addresses = one.addresses.iter().filter(move |address| takes(address));
            addresses.map(|address| (&*one.name, *address))
        })
        .collect()
}

/// Sets the protection in front of a listener that others can reach.
fn guard(facts: &Facts, listener: &mut Listener) {
    if matches!(listener.reach, Reach::Loopback) {
        return;
    }
    let mut guards = Vec::new();
    let ways = ways(facts, listener);
    let is_filtered =
        |name: &str| facts.interfaces.iter().any(|one| one.name == name && one.filtered);
    let is_all = !ways.is_empty() && ways.iter().all(|(name, _)| is_filtered(name));
    let is_some = ways.iter().any(|(name, _)| is_filtered(name));
    if is_some {
        let what = if is_sip(facts, listener.transport, listener.port) {
            "the filter: bans, and limits for SIP"
        } else {
            "the filter: bans only"
        };
        let place = if is_all { "" } else { ", on some interfaces" };
        guards.push(format!("{what}{place}"));
    }
    let place = (listener.transport, listener.port);
    if let Some(open_to) = facts.closed.get(&place).filter(|_| is_all) {
        listener.closed = true;
        guards.push(match open_to {
            OpenTo::Nobody => "`exposure` closes it".to_owned(),
            OpenTo::Trusted | OpenTo::Everybody => {
                "`exposure` closes it, except to trusted networks".to_owned()
            }
        });
    }
    let families = [(listener.ipv4, false), (listener.ipv6, true)];
    let mut taken = families.iter().filter(|(takes, _)| *takes).peekable();
    let closed = |is_v6: bool| {
        let packet = Packet { is_v6, transport: listener.transport, port: listener.port };
        facts.firewall.iter().find(|rules| firewall::closes(rules, packet))
    };
    if taken.peek().is_some() && taken.clone().all(|(_, is_v6)| closed(*is_v6).is_some()) {
        listener.closed = true;
        let tools: Vec<&str> =
            taken.filter_map(|(_, is_v6)| closed(*is_v6)).map(|rules| &*rules.tool).collect();
        guards.extend(tools.first().map(|tool| format!("the firewall closes it ({tool})")));
    } else if facts.firewall.iter().any(firewall::has_rules) {
        guards.push("the firewall has rules, which may let it pass".to_owned());
    }
    listener.guards = guards;
}

/// Whether the configuration has this port under `sip`.
pub fn is_sip(facts: &Facts, transport: Transport, port: u16) -> bool {
    let ranges = match transport {
        Transport::Udp => &facts.sip.udp,
        Transport::Tcp => &facts.sip.tcp,
    };
    ranges.iter().any(|range| range.contains(port))
}

/// A listener in a line.
pub fn in_words(listener: &Listener) -> String {
    let address = match listener.address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    let mut text = format!("{} {address}:{}", listener.transport.as_str(), listener.port);
    match (listener.address.is_unspecified(), listener.ipv4, listener.ipv6) {
        (true, true, true) => text += " (IPv4 too)",
        (true, false, true) => text += " (IPv6 only)",
        _ => {}
    }
    if let Some(interface) = &listener.interface {
        add!(text, " on {interface}");
    }
    add!(text, ": {}", owner_in_words(listener));
    text
}

/// The owner of a listener as text.
pub fn owner_in_words(listener: &Listener) -> String {
    let user = listener.user.clone().unwrap_or_else(|| listener.uid.to_string());
    let Some(process) = &listener.process else {
        return format!("an unknown process, user {user}");
    };
    let mut text = process.clone();
    if let Some(pid) = listener.pid {
        add!(text, " (process {pid})");
    }
    if let Some(unit) = &listener.unit {
        add!(text, ", {unit}");
    }
    add!(text, ", user {user}");
    text
}
