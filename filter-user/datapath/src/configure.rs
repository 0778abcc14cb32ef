//! Translates the settings into the form that the program reads.
//!
//! Must never let the program see half a configuration.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, MapData};
use detection::clock::KernelTime;
use detection::settings::{PortClasses, PortGuard, PortRange, SipPorts};
use filter_common::abi::{
    ABI_VERSION, CLASSES, Config, FLAG_CLOSED_TO_KNOWN, FLAG_DISABLED, FLAG_DRY_RUN,
    FLAG_EXPOSURE_DRY_RUN, FLAG_GEO, FLAG_GEO_DRY_RUN, FLAG_GREYLIST, FLAG_GUARDED, FLAG_RETURN,
    FLAG_SIGNATURES, OPEN_TO_ALL, OPEN_TO_REPLIES, PORT_BLOCKS, PORT_GUARDED, PORTS_PER_BLOCK,
    RECORDED, SCOPE_SIP, SCOPE_THROTTLE, SEARCHES, Signature, port_place,
};
use filter_common::limits::AGENT_WORDS;
use filter_common::rate::Gcra;
use filter_common::sip::agent_of;

use super::clocks::Clocks;
use super::settings::{ClassLimits, Guarded, Limit, Limits, Settings, UserAgent};

/// How long after maintenance the phones of one network may come back faster than usual: a phone that has lost its
/// connection may wait for minutes before it tries again.
const RETURN: Duration = Duration::from_mins(5);

/// How many times as fast: 500 phones in one network register over TLS with 800,000 bytes.
const RETURN_FACTOR: u64 = 10;

/// Flags of the configuration that belong to maintenance and to the table of countries, not to the settings.
const STANDING_FLAGS: u32 = FLAG_CLOSED_TO_KNOWN | FLAG_GEO | FLAG_GEO_DRY_RUN;

/// The limit of searches for credentials for a source over a limit: more than a legitimate source needs,
/// and little work for the host.
const SEARCH: Gcra = Gcra { interval: 20_000_000, tolerance: 2_000_000_000 };

/// The value of the configuration map. Parts that are not settings are kept from `old`.
pub(super) fn config(
    settings: &Settings,
    old: &Config,
    clocks: Clocks,
    (ban_lines, cache_lines): (u32, u32),
    now: KernelTime,
) -> Config {
    let flags = [
        (settings.dry_run, FLAG_DRY_RUN),
        (settings.disabled, FLAG_DISABLED),
        (settings.limits.greylist, FLAG_GREYLIST),
        (!settings.guarded.ports.is_empty(), FLAG_GUARDED),
        (settings.guarded.dry_run, FLAG_EXPOSURE_DRY_RUN),
        (!settings.user_agents.is_empty(), FLAG_SIGNATURES),
    ];
    let mut config = Config {
        abi_version: ABI_VERSION,
        flags: flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).sum::<u32>()
            | old.flags & STANDING_FLAGS,
        seed: old.seed,
        jiffies_epoch: clocks.epoch,
        tick: clocks.tick,
        maintenance_until: old.maintenance_until,
        known_for: nanoseconds(settings.known_for),
        ban_lines,
        cache_lines,
        ..limits(&settings.limits)
    };
    ease(&mut config, settings.limits.tcp_bytes.prefix, now);
    config
}

/// Lets the phones of a site come back: while SIP is closed, when no limit applies, and for a while after that, the
/// unknown sources of one network may send more bytes over TCP than its `limit`, and each IPv6 address is a source.
pub(super) fn ease(config: &mut Config, limit: Limit, now: KernelTime) {
    let limit = gcra(limit);
    let until = config.maintenance_until;
    let returns = until != 0 && now.0 < until.saturating_add(nanoseconds(RETURN));
    if returns {
        config.prefix_bytes = limit.times(RETURN_FACTOR);
        config.flags |= FLAG_RETURN;
    } else {
        config.prefix_bytes = limit;
        config.flags &= !FLAG_RETURN;
    }
}

/// The part of the configuration that the limits determine. Everything else has its default.
pub fn limits(limits: &Limits) -> Config {
    let Limits { source, prefix, shared, tcp_bytes, known, admitted, flood, .. } = limits;
    let mut of_source = gcras(source);
    if let Some(place) = of_source.get_mut(SEARCHES) {
        *place = SEARCH;
    }
    Config {
        flood_ban: nanoseconds(flood.ban),
        prefix_v4: mask(96 + u32::from(prefix.ipv4)),
        prefix_v6: mask(u32::from(prefix.ipv6)),
        source: of_source,
        prefix: gcras(&prefix.classes),
        shared: gcras(shared),
        known: gcra(*known),
        admitted: gcra(*admitted),
        flood: gcra(flood.after),
        connection_bytes: gcra(tcp_bytes.connection),
        source_bytes: gcra(tcp_bytes.source),
        prefix_bytes: gcra(tcp_bytes.prefix),
        shared_bytes: gcra(tcp_bytes.shared),
        ..Config::default()
    }
}

fn gcras(limits: &ClassLimits) -> [Gcra; CLASSES] {
    let mut gcras = [Gcra::default(); CLASSES];
    for (place, limit) in gcras.iter_mut().zip(limits.in_class_order()) {
        *place = gcra(limit);
    }
    gcras
}

fn gcra(limit: Limit) -> Gcra {
    Gcra::new(limit.rate.events().into(), nanoseconds(limit.rate.period()), limit.burst.into())
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// The words of a mask with `length` bits of 128.
pub(super) fn mask(length: u32) -> [u64; 2] {
    let bits = u128::MAX.checked_shl(128 - length.min(128)).unwrap_or(0);
    filter_common::address::words(bits.into())
}

/// A map with a byte for each port.
pub(super) type PortMap = Array<MapData, [u8; PORTS_PER_BLOCK]>;

/// A byte for each port, in blocks.
type Blocks = Vec<[u8; PORTS_PER_BLOCK]>;

fn blocks() -> Blocks {
    vec![[0; PORTS_PER_BLOCK]; usize::try_from(PORT_BLOCKS).unwrap_or(0)]
}

fn change(blocks: &mut Blocks, tcp: bool, ranges: &[PortRange], change: impl Fn(&mut u8)) {
    for port in ranges.iter().flat_map(|range| range.ports()) {
        let (block, byte) = port_place(tcp, port);
        let block = usize::try_from(block).ok().and_then(|block| blocks.get_mut(block));
        if let Some(of_port) = block.and_then(|block| block.get_mut(byte)) {
            change(of_port);
        }
    }
}

fn read(map: &PortMap) -> Result<Blocks> {
    Ok((0..PORT_BLOCKS).map(|block| map.get(&block, 0)).collect::<Result<_, _>>()?)
}

/// Writes the blocks that differ from those in the map, which most do not.
fn write(map: &mut PortMap, blocks: &Blocks, there: &Blocks) -> Result<()> {
    for ((block, bytes), there) in (0..).zip(blocks).zip(there) {
        if bytes != there {
            map.set(block, bytes, 0)?;
        }
    }
    Ok(())
}

/// Marks the ports whose users are to be recorded, except those that are closed and those of SIP.
fn record(
    classes: &mut Blocks,
    open_to: &mut Blocks,
    guarded: &Guarded,
    recorded: &BTreeSet<(bool, u16)>,
) {
    for (tcp, port) in recorded {
        let (block, byte) = port_place(*tcp, *port);
        let Ok(block) = usize::try_from(block) else { continue };
        let of_port = |blocks: &mut Blocks| blocks.get(block)?.get(byte).copied();
        let Some(class) = of_port(classes).filter(|class| class & SCOPE_SIP == 0) else { continue };
        let more = if class & PORT_GUARDED == 0 {
            OPEN_TO_ALL | if *tcp { 0 } else { OPEN_TO_REPLIES }
        } else if guarded.dry_run {
            0
        } else {
            continue;
        };
        let range = [PortRange::single(*port)];
        change(classes, *tcp, &range, |of_port| *of_port |= PORT_GUARDED);
        change(open_to, *tcp, &range, |of_port| *of_port |= RECORDED | more);
    }
}

/// Writes the classes of all ports, and the sources to which guarded ports are open. The latter are
/// written first, so that no packet finds a guarded port without them.
pub(super) fn write_ports(
    ports: &mut PortMap,
    guards: &mut PortMap,
    sip: &SipPorts,
    named: &PortClasses,
    guarded: &Guarded,
    recorded: &BTreeSet<(bool, u16)>,
) -> Result<()> {
    let mut classes = blocks();
    let mut add = |tcp, ranges: &[PortRange], class: u8| {
        change(&mut classes, tcp, ranges, |of_port| *of_port |= class);
    };
    add(false, &sip.udp, SCOPE_SIP | SCOPE_THROTTLE);
    add(true, &sip.tcp, SCOPE_SIP);
    for (scope, class) in named.iter() {
        add(false, &class.udp, 1 << scope.bit());
        add(true, &class.tcp, 1 << scope.bit());
    }
    let mut open_to = blocks();
    for PortGuard { tcp, range, open_to: of_guard } in &guarded.ports {
        add(*tcp, &[*range], PORT_GUARDED);
        change(&mut open_to, *tcp, &[*range], |of_port| *of_port = *of_guard);
    }
    record(&mut classes, &mut open_to, guarded, recorded);
    let (old_open_to, old_classes) = read(guards)
        .and_then(|guards| Ok((guards, read(ports)?)))
        .context("read the classes of ports")?;
    // The entries of ports that are no longer guarded remain until the ports have changed.
    let mut both = old_open_to.clone();
    for ((both, new), classes) in both.iter_mut().zip(&open_to).zip(&classes) {
        for ((byte, new), class) in both.iter_mut().zip(new).zip(classes) {
            if class & PORT_GUARDED != 0 {
                *byte = *new;
            }
        }
    }
    let guards_failed = "write the sources to which ports are open";
    write(guards, &both, &old_open_to).context(guards_failed)?;
    write(ports, &classes, &old_classes).context("write the classes of ports")?;
    write(guards, &open_to, &both).context(guards_failed)
}

/// The map of User-Agents whose packets are dropped.
pub(super) type SignatureMap = LpmTrie<MapData, [u64; AGENT_WORDS], Signature>;

/// The key of a User-Agent. For an exact match it includes the zero after it.
pub(super) fn signature_key(agent: &UserAgent) -> Key<[u64; AGENT_WORDS]> {
    let text = agent.folded();
    let (words, len) = agent_of(text.as_bytes());
    let bytes = if agent.is_prefix() { len } else { len + 1 };
    Key::new(u32::try_from(bytes * 8).unwrap_or(0), words)
}

/// Sets the contents of the map; entries that stay keep their counts.
pub(super) fn write_signatures(map: &mut SignatureMap, agents: &[UserAgent]) -> Result<()> {
    let wanted: Vec<_> = agents.iter().map(signature_key).collect();
    let same = |a: &Key<[u64; AGENT_WORDS]>, b: &Key<[u64; AGENT_WORDS]>| {
        a.prefix_len() == b.prefix_len() && a.data() == b.data()
    };
    let there: Vec<_> = map.keys().collect::<Result<_, _>>().context("read the signatures")?;
    for key in there.iter().filter(|key| !wanted.iter().any(|wanted| same(wanted, key))) {
        map.remove(key).context("remove a signature")?;
    }
    for key in wanted.iter().filter(|key| !there.iter().any(|there| same(there, key))) {
        map.insert(key, Signature::default(), 0).context("write the signatures")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use filter_common::address::Address;

    use super::*;

    #[test]
    fn masks_keep_the_network() {
        let masked = |text: &str, length| {
            let address: std::net::IpAddr = text.parse().unwrap();
            let [first, second] = Address::from(address).words();
            let [m0, m1] = mask(length);
            std::net::IpAddr::from(Address::from_words([first & m0, second & m1])).to_string()
        };
        assert_eq!(masked("192.0.2.66", 96 + 24), "192.0.2.0");
        assert_eq!(masked("192.0.2.66", 128), "192.0.2.66");
        assert_eq!(masked("2001:db8:1:2:3::4", 64), "2001:db8:1:2::");
        assert_eq!(masked("2001:db8:1:2:3::4", 0), "::");
    }

    #[test]
    fn ports_that_are_closed_or_carry_sip_are_not_recorded() {
        let guard = |port| PortGuard { tcp: true, range: PortRange::single(port), open_to: 1 };
        let recorded = [(true, 22), (true, 80), (true, 5060), (false, 69)].into();
        let marked = |dry_run| {
            let guarded = Guarded { ports: vec![guard(22)], dry_run };
            let (mut classes, mut open_to) = (blocks(), blocks());
            let one = |port| [PortRange::single(port)];
            change(&mut classes, true, &one(5060), |of_port| *of_port = SCOPE_SIP);
            change(&mut classes, true, &one(22), |of_port| *of_port = PORT_GUARDED);
            change(&mut open_to, true, &one(22), |of_port| *of_port = 1);
            record(&mut classes, &mut open_to, &guarded, &recorded);
            [(true, 22), (true, 80), (true, 5060), (false, 69), (false, 70)].map(|(tcp, port)| {
                let (block, byte) = port_place(tcp, port);
                let of_port = |blocks: &Blocks| blocks[block as usize][byte];
                (of_port(&classes), of_port(&open_to))
            })
        };
        let all = RECORDED | OPEN_TO_ALL;
        let others =
            [(PORT_GUARDED, all), (SCOPE_SIP, 0), (PORT_GUARDED, all | OPEN_TO_REPLIES), (0, 0)];
        let [closed, rest @ ..] = marked(false);
        assert_eq!((closed, rest), ((PORT_GUARDED, 1), others));
        assert_eq!(marked(true)[0], (PORT_GUARDED, 1 | RECORDED));
    }

    #[test]
    fn phones_come_back_faster_after_maintenance() {
        let limit = Limits::default().tcp_bytes.prefix;
        let usual = gcra(limit);
        let at = |second: u64| KernelTime(second * 1_000_000_000);
        let eased = |maintenance_until, second| {
            let mut config =
                Config { maintenance_until, flags: FLAG_GREYLIST, ..Config::default() };
            ease(&mut config, limit, at(second));
            // And back.
            let Config { prefix_bytes, flags, .. } = config;
            config.maintenance_until = 0;
            ease(&mut config, limit, at(second));
            assert_eq!((config.prefix_bytes, config.flags), (usual, FLAG_GREYLIST));
            (prefix_bytes, flags)
        };
        assert_eq!(eased(0, 1), (usual, FLAG_GREYLIST));
        for second in [1, 100, 399] {
            let more = (usual.times(RETURN_FACTOR), FLAG_GREYLIST | FLAG_RETURN);
            assert_eq!(eased(at(100).0, second), more);
        }
        assert_eq!(eased(at(100).0, 400), (usual, FLAG_GREYLIST));
    }

    #[test]
    fn an_exact_signature_includes_its_end() {
        let length = |text: &str| signature_key(&text.parse().unwrap()).prefix_len();
        assert_eq!(length("sipcli*"), 48);
        assert_eq!(length("sipcli"), 56);
    }
}
