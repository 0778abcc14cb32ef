//! Which networks use which ports, and which ports are closed: chooses the ports of which the program records it, and reads what it
//! has recorded.
//!
//! Must never let the program see half an entry.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, IterableMap as _, Map, MapData};
use detection::clock::KernelTime;
use filter_common::abi::{
    self, ABI_VERSION, FLAG_DISABLED, FLAG_DRY_RUN, FLAG_EXPOSURE_DRY_RUN, OPEN_TO_ALL,
    OPEN_TO_TRUSTED, PORT_GUARDED, Visitor, maps, port_place, visited_key, visitor_of,
};
use filter_common::limits::VISITED_PORTS;
use ipnet::IpNet;

use super::bans::unless_missing;
use super::batch;
use super::config_map::ConfigMap;
use super::configure::PortMap;
use super::pins;

/// The most ports.
const PORTS_MAX: usize = VISITED_PORTS as usize;

/// The ports of which the program records the users.
#[derive(Debug)]
pub(super) struct Visits {
    map: HashMap<MapData, u32, abi::Visits>,
    ports: BTreeSet<(bool, u16)>,
}

impl Visits {
    /// None are recorded until [`record`](Self::record).
    pub(super) fn new(map: Map) -> Result<Self> {
        Ok(Self { map: HashMap::try_from(map)?, ports: BTreeSet::new() })
    }

    /// The ports that are recorded, each with whether it is a TCP port.
    pub(super) fn ports(&self) -> &BTreeSet<(bool, u16)> {
        &self.ports
    }

    /// Records none for now; what has been recorded stays. Returns whether the ports have changed.
    pub(super) fn pause(&mut self) -> bool {
        let changed = !self.ports.is_empty();
        self.ports.clear();
        changed
    }

    /// Records these ports from now on, and those that were recorded before if there is room: a service
    /// may just be starting again. Returns whether the ports have changed.
    pub(super) fn record(
        &mut self,
        listening: &BTreeSet<(bool, u16)>,
        now: KernelTime,
    ) -> Result<bool> {
        if !self.ports.is_empty() && listening.is_subset(&self.ports) {
            return Ok(false);
        }
        let there = self.map.keys().collect::<Result<BTreeSet<u32>, _>>();
        let there: BTreeSet<(bool, u16)> =
            there.context("read the recorded ports")?.into_iter().map(port_of).collect();
        let wanted = choose(listening, &there);
        for (tcp, port) in there.difference(&wanted) {
            unless_missing(self.map.remove(&visited_key(*tcp, *port)))
                .context("forget a recorded port")?;
        }
        for (tcp, port) in wanted.difference(&there) {
            let begun = abi::Visits { since: now.0, ..abi::Visits::default() };
            self.map.insert(visited_key(*tcp, *port), begun, 0).context("record a port")?;
        }
        let changed = self.ports != wanted;
        self.ports = wanted;
        Ok(changed)
    }
}

/// The ports that listen, and as many of the others as there is room for.
fn choose(
    listening: &BTreeSet<(bool, u16)>,
    there: &BTreeSet<(bool, u16)>,
) -> BTreeSet<(bool, u16)> {
    listening.iter().chain(there.difference(listening)).take(PORTS_MAX).copied().collect()
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn port_of(key: u32) -> (bool, u16) {
    (key >> 16 != 0, key as u16)
}

/// The uses of a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortVisits {
    /// Whether it is a TCP port; otherwise it is a UDP port.
    pub tcp: bool,
    /// The port.
    pub port: u16,
    /// Since when they are recorded.
    pub since: KernelTime,
    /// By private addresses.
    pub private: Uses,
    /// By all other addresses.
    pub public: Uses,
    /// The networks that used it, each with the time of its last use, the latest first. Some may be
    /// missing.
    pub networks: Vec<(IpNet, KernelTime)>,
}

/// The uses of a port by addresses of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// The number of networks that were recorded; one may count twice.
    pub networks: u64,
    /// Packets of networks that were not recorded because too many came at once.
    pub missed: u64,
    /// When it was last used.
    pub last: Option<KernelTime>,
}

/// What the program has recorded into the maps that are pinned in `directory`; `None` if there are none. Without
/// TCP ports if an interface has no classifier of outgoing packets, because their users would be missing.
///
/// # Errors
///
/// If the kernel refuses.
pub fn visits(directory: &Path) -> Result<Option<Vec<PortVisits>>> {
    let (Some(ports), Some(visitors)) =
        (open(directory, maps::VISITED)?, open(directory, maps::VISITORS)?)
    else {
        return Ok(None);
    };
    let ports: HashMap<MapData, u32, abi::Visits> = HashMap::try_from(ports)?;
    let visitors: HashMap<MapData, [u64; 2], Visitor> = HashMap::try_from(visitors)?;
    let mut networks: Vec<([u64; 2], Visitor)> =
        batch::entries(visitors.map().fd()).context("read the recorded networks")?;
    networks.sort_unstable_by_key(|(_, visitor)| std::cmp::Reverse(visitor.last));
    let ports = batch::entries::<u32, abi::Visits>(ports.map().fd());
    let ports = ports.context("read the recorded ports")?.into_iter();
    let has_tcp = pins::hears_all(directory)?;
    let ports = ports.map(|(key, visits)| port_visits(key, visits, &networks));
    Ok(Some(ports.filter(|port| has_tcp || !port.tcp).collect()))
}

/// The ports among these that the program closes to strangers, by the maps that are pinned in `directory`,
/// and whether each is open to trusted sources.
///
/// # Errors
///
/// If the kernel refuses.
pub fn closed(
    directory: &Path,
    ports: &BTreeSet<(bool, u16)>,
) -> Result<BTreeMap<(bool, u16), bool>> {
    let (Some(config), Some(classes), Some(guards)) = (
        open(directory, maps::CONFIG)?,
        open(directory, maps::PORTS)?,
        open(directory, maps::GUARDS)?,
    ) else {
        return Ok(BTreeMap::new());
    };
    let config = ConfigMap::new(config)?.get()?;
    let drops = config.flags & (FLAG_DRY_RUN | FLAG_DISABLED | FLAG_EXPOSURE_DRY_RUN) == 0;
    if config.abi_version != ABI_VERSION || !drops {
        return Ok(BTreeMap::new());
    }
    let (classes, guards) = (PortMap::try_from(classes)?, PortMap::try_from(guards)?);
    let mut found = BTreeMap::new();
    for (tcp, port) in ports {
        let (block, byte) = port_place(*tcp, *port);
        let of = |map: &PortMap| -> Result<u8> {
            let block = map.get(&block, 0).context("read the classes of ports")?;
            Ok(block.get(byte).copied().unwrap_or(0))
        };
        if of(&classes)? & PORT_GUARDED == 0 {
            continue;
        }
        let open_to = of(&guards)?;
        if open_to & OPEN_TO_ALL == 0 {
            found.insert((*tcp, *port), open_to & OPEN_TO_TRUSTED != 0);
        }
    }
    Ok(found)
}

fn open(directory: &Path, name: &str) -> Result<Option<Map>> {
    let pin = directory.join(name);
    if !pin.try_exists().with_context(|| format!("look for {}", pin.display()))? {
        return Ok(None);
    }
    let map = MapData::from_pin(&pin).with_context(|| format!("open {}", pin.display()))?;
    Ok(Some(Map::from_map_data(map)?))
}

fn port_visits(key: u32, visits: abi::Visits, visitors: &[([u64; 2], Visitor)]) -> PortVisits {
    let (tcp, port) = port_of(key);
    let time = |time: u64| (time != 0).then_some(KernelTime(time));
    let [private, public] = [0, 1].map(|kind: usize| {
        let of = |pair: [u64; 2]| pair.get(kind).copied().unwrap_or(0);
        Uses {
            networks: of(visits.networks),
            missed: of(visits.missed),
            last: time(of(visits.last)),
        }
    });
    let network = |(visitor, times): &([u64; 2], Visitor)| {
        let (address, length, of) = visitor_of(*visitor);
        // An entry from before the port was recorded anew belongs to an earlier service.
        let is_it = of == key && times.last >= visits.since;
        let network = IpNet::new(address.into(), length).ok().filter(|_| is_it)?;
        Some((network, KernelTime(times.last)))
    };
    PortVisits {
        tcp,
        port,
        since: KernelTime(visits.since),
        private,
        public,
        networks: visitors.iter().filter_map(network).collect(),
    }
}

#[cfg(test)]
mod tests {
    use filter_common::abi::visitor_key;
    use filter_common::address::Address;

    use super::*;

    #[test]
    fn ports_that_listen_come_first() {
        let ports = |range: std::ops::Range<u16>| -> BTreeSet<(bool, u16)> {
            range.map(|port| (true, port)).collect()
        };
        let (listening, there) = (ports(1000..1100), ports(1..500));
        let chosen = choose(&listening, &there);
        assert_eq!(chosen.len(), PORTS_MAX);
        assert!(chosen.is_superset(&listening));
        assert!(chosen.is_subset(&listening.union(&there).copied().collect()));
        assert_eq!(choose(&ports(0..999), &there).len(), PORTS_MAX);
    }

    #[test]
    fn each_port_has_its_networks() {
        let visitor = |address: &str, port, last| {
            let address: std::net::IpAddr = address.parse().unwrap();
            (visitor_key(Address::from(address), port), Visitor { first: last, last })
        };
        let (tcp, udp) = (visited_key(true, 69), visited_key(false, 69));
        let all = [
            visitor("192.0.2.7", tcp, 30),
            visitor("2001:db8:1:2::3", tcp, 20),
            visitor("192.0.2.7", udp, 20),
            visitor("198.51.100.1", tcp, 9),
        ];
        let visits = abi::Visits {
            since: 10,
            networks: [0, 3],
            last: [0, 30],
            missed: [0, 1],
            ..abi::Visits::default()
        };
        let of_port = port_visits(tcp, visits, &all);
        assert_eq!((of_port.tcp, of_port.port), (true, 69));
        assert_eq!(of_port.private, Uses::default());
        let expected = Uses { networks: 3, missed: 1, last: Some(KernelTime(30)) };
        assert_eq!(of_port.public, expected);
        let networks: Vec<(String, u64)> =
            of_port.networks.iter().map(|(network, last)| (network.to_string(), last.0)).collect();
        assert_eq!(networks, [("192.0.2.0/24".into(), 30), ("2001:db8:1::/48".into(), 20)]);
    }
}
