//! Rows about bans and trusted sources.

use std::time::Duration;

use filter_common::abi::{SCOPE_ALL, SCOPE_SIP};
use filter_common::decision::Reason::{
    self, Banned, BannedNetwork, Fragment, KeepAlive, Malformed, NotIp, OtherPort, OtherProtocol,
    Register, RegisterLimit, Request, Spoofed, TcpControl, Trusted,
};

use tables::ban_cache::BanCache;

use super::Ends::{Ago, In, Never};
use super::{Case, World, ip, messages};
use crate::model::cache_lines;
use crate::packet_builder::{Extension, Frame, VLAN, arp, flag};

const V4: &str = "192.0.2.66";
const V6: &str = "2001:db8::66";

/// The rows.
pub fn cases() -> Vec<Case> {
    [addresses(), crowded(), times(), scopes(), networks(), trusted(), dry_run()].concat()
}

/// As many banned IPv6 addresses as leave some of them without a slot in the cache.
fn crowded() -> Vec<Case> {
    let addresses: Vec<String> = (0..CROWD).map(|number| format!("2001:db8::{number:x}")).collect();
    let world = addresses
        .iter()
        .fold(World::default(), |world, address| world.ban(address, SCOPE_SIP, In(600)));
    let lines = cache_lines(&world, 1 << 40);
    let cache = BanCache::new(lines, World::SEED);
    let has_slot = |address: &&String| cache.contains(ip(address).into());
    let (with, without): (Vec<_>, Vec<_>) = addresses.iter().partition(has_slot);
    let mut cases = vec![row("crowd: none of it", &from("2001:db8::1:1"), &world, Request)];
    for (name, addresses) in [("with a slot", with), ("without a slot", without)] {
        for address in addresses.into_iter().take(2) {
            let name = |what: &str| format!("crowd: {address}, {name}{what}");
            cases.push(row(&name(""), &from(address), &world, Banned));
            cases.push(row(&name(", many packets"), &from(address), &world, Banned).after(300));
            cases.push(row(&name(", another port"), &from(address).udp(53), &world, OtherPort));
        }
    }
    cases
}

/// The number of them.
const CROWD: u32 = 220;

fn from(source: &str) -> Frame {
    Frame::from(ip(source)).payload(messages::request("OPTIONS"))
}

fn row(name: &str, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(name, frame.build(), expect).within(world.clone())
}

fn addresses() -> Vec<Case> {
    let v4 = World::default().ban(V4, SCOPE_SIP, In(600));
    let v6 = World::default().ban(V6, SCOPE_SIP, In(600));
    let loopback = World::default().ban("::1", SCOPE_ALL, Never);
    vec![
        row("banned: ipv4", &from(V4), &v4, Banned),
        row("banned: ipv6", &from(V6), &v6, Banned),
        row("banned: many packets", &from(V4), &v4, Banned).after(20),
        row("banned: ipv6, the packets of a byte", &from(V6), &v6, Banned).after(254),
        row("banned: ipv6, one more", &from(V6), &v6, Banned).after(255),
        row("banned: ipv6, many packets", &from(V6), &v6, Banned).after(600),
        row("banned: ipv6, not the same halves", &from("::66:2001:db8:0:0"), &v6, Request),
        row("banned: in a vlan", &from(V4).tag(VLAN, 7), &v4, Banned),
        row("banned: behind ipv4 options", &from(V4).ip_options(&[1; 12]), &v4, Banned),
        row(
            "banned: behind an extension",
            &from(V6).extension(Extension::hop_by_hop(1)),
            &v6,
            Banned,
        ),
        row("banned: not the neighbour", &from("192.0.2.67"), &v4, Request),
        row("banned: not the neighbour, ipv6", &from("2001:db8::67"), &v6, Request),
        row("banned: not the other half of an address", &from("2001:db8:0:1::66"), &v6, Request),
        row("banned: not the same words backwards", &from("66.2.0.192"), &v4, Request),
        // Invalid on the wire, so it belongs to no host.
        row("banned: ipv4 mapped into ipv6", &from("::ffff:192.0.2.66"), &v4, Spoofed),
        row("banned: ipv4-compatible ipv6 is another", &from("::192.0.2.66"), &v4, Request),
        row("banned: a loopback address is nobody's", &from("::1"), &loopback, Spoofed),
        row("banned: malformed passes", &from(V4).version(5), &v4, Malformed),
        Case::new("banned: no ip passes", arp(), NotIp).within(v4),
    ]
}

fn times() -> Vec<Case> {
    let until = |ends| World::default().ban(V4, SCOPE_ALL, ends);
    let network = |ends| World::default().ban_network("192.0.2.0/24", SCOPE_ALL, ends);
    let v6 = |ends| World::default().ban(V6, SCOPE_ALL, ends);
    let almost = Duration::from_mins(2).saturating_sub(Duration::from_secs(1));
    let almost = u64::try_from(almost.as_millis()).unwrap_or(0);
    vec![
        row("ipv6 ban that ends in a minute", &from(V6), &v6(In(60)), Banned),
        row("ipv6 ban that ends in two minutes, a second before", &from(V6), &v6(In(120)), Banned)
            .then_wait(almost),
        row("ipv6 ban that ends in two minutes, a second after", &from(V6), &v6(In(120)), Request)
            .then_wait(almost + 2000),
        row("ipv6 ban that ends in a second", &from(V6), &v6(In(1)), Banned),
        row("ipv6 ban that does not end", &from(V6), &v6(Never), Banned),
        row("ipv6 ban that ends now", &from(V6), &v6(Ago(0)), Request),
        row("ipv6 ban that ended a second ago", &from(V6), &v6(Ago(1)), Request),
        row(
            "ipv6 ban that ended before the machine started",
            &from(V6),
            &v6(Ago(1 << 30)),
            Request,
        ),
        row("ban that ends in a minute", &from(V4), &until(In(60)), Banned),
        row("ban that does not end", &from(V4), &until(Never), Banned),
        row("ban that ends now", &from(V4), &until(Ago(0)), Request),
        row("ban that ended a second ago", &from(V4), &until(Ago(1)), Request),
        row("ban that ended before the machine started", &from(V4), &until(Ago(1 << 30)), Request),
        row("network ban that ends in a minute", &from(V4), &network(In(60)), BannedNetwork),
        row("network ban that does not end", &from(V4), &network(Never), BannedNetwork),
        row("network ban that ended a second ago", &from(V4), &network(Ago(1)), Request),
    ]
}

fn scopes() -> Vec<Case> {
    let sip = World::default().ban(V4, SCOPE_SIP, In(600)).ban(V6, SCOPE_SIP, In(600));
    let all = World::default().ban(V4, SCOPE_ALL, In(600)).ban(V6, SCOPE_ALL, In(600));
    let none = World::default().ban(V4, 0, In(600));
    let too_many = (0..7).fold(from(V6), |frame, _| frame.extension(Extension::destination(1)));
    let later_v6 = from(V6).extension(Extension::fragment(9, false));
    // The frame, its reason under a ban of scope `sip`, and its reason without a ban.
    let frames = [
        ("udp to sip", from(V4), Banned),
        ("tcp to sip", from(V4).tcp(5060), Banned),
        ("tls to sip", from(V4).tcp(5061), Banned),
        ("tcp open to sip", from(V4).tcp(5060).payload([]).tcp_flags(flag::SYN), Banned),
        ("keep-alive", from(V4).payload("\r\n\r\n"), Banned),
        ("response", from(V4).payload(messages::response("200 OK")), Banned),
        ("later fragment", from(V4).protocol(17).fragment(9, false), Banned),
        ("later fragment, ipv6", later_v6, Banned),
        ("first fragment", from(V4).fragment(0, true), Banned),
        ("more extensions than are followed", too_many, Banned),
        ("udp to another port", from(V4).udp(10_000), OtherPort),
        ("udp to the port of sip over tcp", from(V4).udp(5061), OtherPort),
        ("tcp to another port", from(V4).tcp(22), OtherPort),
        ("icmp", from(V4).protocol(1), OtherProtocol),
        ("icmpv6", from(V6).protocol(58), OtherProtocol),
    ];
    let mut cases = Vec::new();
    for (name, frame, expect) in &frames {
        cases.push(row(&format!("banned from sip: {name}"), frame, &sip, *expect));
        cases.push(row(&format!("banned from all: {name}"), frame, &all, Banned));
    }
    cases.push(row("ban without scope", &from(V4), &none, Request));
    cases
}

fn networks() -> Vec<Case> {
    let v4 = World::default().ban_network("192.0.2.64/26", SCOPE_SIP, In(600));
    let v6 = World::default().ban_network("2001:db8::/32", SCOPE_SIP, In(600));
    let all_v4 = World::default().ban_network("0.0.0.0/0", SCOPE_ALL, Never);
    let single = World::default().ban_network("192.0.2.66/32", SCOPE_SIP, In(600));
    let both = v4.clone().ban(V4, SCOPE_SIP, In(600));
    let expired = v4.clone().ban(V4, SCOPE_ALL, Ago(5));
    let narrower =
        World::default().ban_network("192.0.2.0/24", SCOPE_ALL, Never).ban(V4, SCOPE_SIP, Never);
    let nested = World::default().ban_network("192.0.2.0/24", SCOPE_ALL, In(600)).ban_network(
        "192.0.2.64/26",
        SCOPE_SIP,
        In(600),
    );
    vec![
        row("banned network: ipv4", &from(V4), &v4, BannedNetwork),
        row("banned network: ipv6", &from(V6), &v6, BannedNetwork),
        row("banned network: first address", &from("192.0.2.64"), &v4, BannedNetwork),
        row("banned network: last address", &from("192.0.2.127"), &v4, BannedNetwork),
        row("banned network: one before", &from("192.0.2.63"), &v4, Request),
        row("banned network: one behind", &from("192.0.2.128"), &v4, Request),
        row("banned network: other family", &from(V6), &v4, Request),
        row("banned network: all of ipv4", &from(V4), &all_v4, BannedNetwork),
        row("banned network: all of ipv4 is not ipv6", &from(V6), &all_v4, Request),
        row("banned network: a single address", &from(V4), &single, BannedNetwork),
        row("banned network: tcp open", &from(V4).tcp(5061).payload([]), &v4, BannedNetwork),
        row("banned network: later fragment", &from(V4).fragment(9, true), &v4, BannedNetwork),
        row("banned network: another port", &from(V4).udp(53), &v4, OtherPort),
        row("banned network: and the address", &from(V4), &both, Banned),
        row("banned network: the address's ban is over", &from(V4), &expired, BannedNetwork),
        row(
            "banned network: wider than the address's scope",
            &from(V4).tcp(22),
            &narrower,
            BannedNetwork,
        ),
        row("banned network: the narrowest counts", &from(V4), &nested, BannedNetwork),
        row("banned network: the wider one counts too", &from(V4).tcp(22), &nested, BannedNetwork),
        row(
            "banned network: the wider one outside",
            &from("192.0.2.1").tcp(22),
            &nested,
            BannedNetwork,
        ),
    ]
}

fn trusted() -> Vec<Case> {
    let trust = |world: World| world.trust("192.0.2.64/26").trust("2001:db8::/64");
    let ban = trust(World::default().ban(V4, SCOPE_ALL, Never).ban(V6, SCOPE_ALL, Never));
    let network = trust(World::default().ban_network("192.0.2.0/24", SCOPE_ALL, Never));
    let limit = trust(World::default().limit(1));
    let register = from(V4).payload(messages::register());
    let everybody = World::default().ban(V6, SCOPE_ALL, Never).trust("::/0");
    let one = World::default().ban(V4, SCOPE_ALL, Never).trust("192.0.2.66/32");
    let both = one.clone().trust("192.0.2.0/24");
    vec![
        row("trusted: banned", &from(V4), &ban, Trusted),
        row("trusted: banned, address and network", &from(V4), &both, Trusted),
        row("trusted: banned, ipv6", &from(V6), &ban, Trusted),
        row("trusted: banned, later fragment", &from(V4).fragment(9, false), &ban, Trusted),
        row("trusted: banned, icmp", &from(V4).protocol(1), &ban, Trusted),
        row("trusted: banned, single address", &from(V4), &one, Trusted),
        row("trusted: banned, everybody", &from(V6), &everybody, Trusted),
        row("trusted: banned network", &from(V4), &network, Trusted),
        row("trusted: outside, banned network", &from("192.0.2.1"), &network, BannedNetwork),
        row("trusted: over the limit", &register, &limit, Trusted).after(1),
        row("trusted: within the limit", &register, &limit, Register),
        row("trusted: watching", &from(V4), &ban.clone().watching(), Trusted),
        row("trusted: not banned", &from("192.0.2.70"), &ban, Request),
        row("trusted: tcp open", &from("192.0.2.70").tcp(5060).payload([]), &ban, TcpControl),
        row("trusted: keep-alive", &from("192.0.2.70").payload([]), &ban, KeepAlive),
        row("trusted: fragment", &from("192.0.2.70").fragment(9, true), &ban, Fragment),
    ]
}

fn dry_run() -> Vec<Case> {
    let ban = World::default().ban(V4, SCOPE_SIP, In(600)).watching();
    let network = World::default().ban_network("192.0.2.0/24", SCOPE_SIP, Never).watching();
    let limit = World::default().limit(1).watching();
    let register = from(V4).payload(messages::register());
    vec![
        row("watching: banned", &from(V4), &ban, Banned),
        row("watching: banned network", &from(V4), &network, BannedNetwork),
        row("watching: over the limit", &register, &limit, RegisterLimit).after(1),
        row("watching: within the limit", &register, &limit, Register),
        row("watching: nothing", &from(V6), &ban, Request),
    ]
}
