//! The writers of the gates: bits that say where a lookup is worthwhile. [`filter_common::gate`]
//! describes their layout.
//!
//! Must never clear a bit that an entry needs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use filter_common::address::Address;
use filter_common::gate::{
    self, KNOWN_WORDS, PRESENCE_V6_NETWORKS, PRESENCE_V6_WORDS, PRESENCE_WORDS, Place,
    TRUST_V6_WORDS, TRUST_WORDS,
};
use ipnet::IpNet;

/// The gate of bans, in memory that the program reads at the same time.
///
/// When a ban is lifted its bit stays, and costs a lookup that finds nothing; [`rebuild`](Self::rebuild)
/// clears such bits.
#[derive(Debug)]
pub struct Presence<M> {
    memory: M,
    seed: u64,
}

impl<M: AsRef<[AtomicU64]>> Presence<M> {
    /// The gate in `memory`, which may already contain bits.
    pub fn new(memory: M, seed: u64) -> Self {
        Self { memory, seed }
    }

    /// Marks that this address may be banned; must be called before it is.
    pub fn add_address(&self, address: IpAddr) {
        set(self.memory.as_ref(), gate::presence(address.into(), self.seed), 1);
    }

    /// Marks that there may be an entry of this network; must be called before there is.
    pub fn add_network(&self, network: IpNet) {
        let memory = self.memory.as_ref();
        add_network(
            network,
            self.seed,
            |place| set(memory, place, 1),
            |words| {
                for word in words.filter_map(|word| memory.get(usize::try_from(word).ok()?)) {
                    word.fetch_or(PRESENCE_V6_NETWORKS, Ordering::Release);
                }
            },
        );
    }

    /// Sets the bits of these addresses and networks, and clears all others.
    pub fn rebuild(
        &self,
        addresses: impl Iterator<Item = IpAddr>,
        networks: impl Iterator<Item = IpNet>,
    ) {
        let new = Presence::new(words(PRESENCE_WORDS), self.seed);
        addresses.for_each(|address| new.add_address(address));
        networks.for_each(|network| new.add_network(network));
        for (word, new) in self.memory.as_ref().iter().zip(&new.memory) {
            word.store(new.load(Ordering::Relaxed), Ordering::Release);
        }
    }
}

/// Sets these bits in a gate that the program reads and writes at the same time.
pub fn open(memory: &[AtomicU64], bits: &[u64]) {
    for (word, bits) in memory.iter().zip(bits) {
        word.fetch_or(*bits, Ordering::Release);
    }
}

/// Clears all bits except these in a gate that the program reads and writes at the same time.
pub fn close(memory: &[AtomicU64], bits: &[u64]) {
    for (word, bits) in memory.iter().zip(bits) {
        word.fetch_and(*bits, Ordering::Release);
    }
}

/// Sets the bit of a known peer in the gate, which the program does too.
pub fn add_known(memory: &[AtomicU64], peer: Address, seed: u64) {
    set(memory, gate::known(peer, seed), 1);
}

/// Memory for a gate, for tests and models.
pub fn words(count: u32) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::default()).collect()
}

/// The words of the gate of trust for these networks.
pub fn trust(networks: &[IpNet], seed: u64) -> Vec<u64> {
    let gate = words(TRUST_WORDS);
    let set_all = |words: Range<u32>| {
        for word in words.filter_map(|word| gate.get(usize::try_from(word).ok()?)) {
            word.store(u64::MAX, Ordering::Relaxed);
        }
    };
    for network in networks {
        match network {
            IpNet::V4(v4) => {
                let number = |address: Ipv4Addr| address.to_bits() >> 15;
                (number(v4.network())..=number(v4.broadcast()))
                    .for_each(|number| set(&gate, gate::trust_v4(number), 1));
            }
            IpNet::V6(v6) => {
                let address = IpAddr::V6(v6.network()).into();
                match v6.prefix_len() {
                    128 => set(&gate, gate::trust_v6(address, seed), 1),
                    32..128 => set(&gate, gate::trust_v6_network(address, seed), 1),
                    _ => set_all(TRUST_V6_WORDS),
                }
            }
        }
    }
    // Networks that contain all of IPv4, as in the trie that both families share.
    let around = |network: &IpNet| network.contains(&IpNet::from(IpAddr::V6(MAPPED)));
    if networks.iter().any(around) {
        set_all(0..TRUST_V6_WORDS.start);
    }
    gate.into_iter().map(AtomicU64::into_inner).collect()
}

/// The words of the gate of known peers for these addresses.
pub fn known(peers: impl Iterator<Item = Address>, seed: u64) -> Vec<u64> {
    let gate = words(KNOWN_WORDS);
    peers.for_each(|peer| add_known(&gate, peer, seed));
    gate.into_iter().map(AtomicU64::into_inner).collect()
}

/// An address in the network that represents IPv4.
const MAPPED: Ipv6Addr = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();

/// Calls `at` for the places of a network, or `all` for the words of all networks of its family.
fn add_network(network: IpNet, seed: u64, at: impl Fn(Place), all: impl Fn(Range<u32>)) {
    match network {
        IpNet::V4(v4) => {
            let (first, last) = (u32::from(v4.network()) >> 8, u32::from(v4.broadcast()) >> 8);
            for number in first..=last {
                at(gate::network_presence_v4(number));
                at(gate::presence_v4(number));
            }
        }
        IpNet::V6(v6) if v6.prefix_len() >= 32 => {
            at(gate::network_presence(Address::from(IpAddr::V6(v6.network())), seed));
        }
        IpNet::V6(_) => all(PRESENCE_V6_WORDS),
    }
}

fn set(memory: &[AtomicU64], place: Place, bits: u64) {
    let word = usize::try_from(place.word).ok().and_then(|word| memory.get(word));
    if let Some(word) = word {
        word.fetch_or(bits << place.shift, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn has(memory: &[AtomicU64], place: Place) -> bool {
        let word = memory[usize::try_from(place.word).unwrap()].load(Ordering::Relaxed);
        word >> place.shift & 1 != 0
    }

    /// Whether the program looks an address up.
    fn has_address(memory: &[AtomicU64], address: IpAddr) -> bool {
        has(memory, gate::presence(address.into(), 7))
    }

    /// Whether the program looks its network up.
    fn has_network(memory: &[AtomicU64], address: IpAddr) -> bool {
        let asked = address.is_ipv6() || has_address(memory, address);
        asked && has(memory, gate::network_presence(address.into(), 7))
    }

    fn trusts(gate: &[u64], address: IpAddr) -> bool {
        let places = match address {
            IpAddr::V4(v4) => vec![gate::trust_v4(v4.to_bits() >> 15)],
            IpAddr::V6(_) => {
                vec![gate::trust_v6(address.into(), 7), gate::trust_v6_network(address.into(), 7)]
            }
        };
        places
            .iter()
            .any(|place| gate[usize::try_from(place.word).unwrap()] >> place.shift & 1 != 0)
    }

    fn network() -> impl Strategy<Value = (IpNet, u128)> {
        let v4 = (any::<u32>(), 8u8..=32).prop_map(|(address, length)| {
            IpNet::new(Ipv4Addr::from(address).into(), length).unwrap().trunc()
        });
        let v6 = (any::<u128>(), 8u8..=128).prop_map(|(address, length)| {
            IpNet::new(Ipv6Addr::from(address).into(), length).unwrap().trunc()
        });
        (prop_oneof![v4, v6], any::<u128>())
    }

    /// Some address in a network.
    fn inside(network: IpNet, random: u128) -> IpAddr {
        match network {
            IpNet::V4(v4) => {
                let host = u32::try_from(random & 0xffff_ffff).unwrap() & u32::from(v4.hostmask());
                Ipv4Addr::from(u32::from(v4.network()) | host).into()
            }
            IpNet::V6(v6) => {
                let host = random & u128::from(v6.hostmask());
                Ipv6Addr::from(u128::from(v6.network()) | host).into()
            }
        }
    }

    #[test]
    fn few_bits_for_few_networks() {
        let networks: Vec<IpNet> =
            ["192.0.2.1/32", "::1/128"].iter().map(|net| net.parse().unwrap()).collect();
        let ones: u32 = trust(&networks, 7).iter().map(|word| word.count_ones()).sum();
        assert_eq!(ones, 2);
        let gate = Presence::new(words(PRESENCE_WORDS), 7);
        gate.add_network("198.51.100.0/23".parse().unwrap());
        assert!(has_network(&gate.memory, "198.51.101.7".parse().unwrap()));
        assert!(!has_address(&gate.memory, "198.51.102.7".parse().unwrap()));
        gate.rebuild(["192.0.2.1".parse().unwrap()].into_iter(), std::iter::empty());
        assert!(!has_network(&gate.memory, "198.51.101.7".parse().unwrap()));
        assert!(has_address(&gate.memory, "192.0.2.200".parse().unwrap()));
        assert!(!has_network(&gate.memory, "192.0.2.200".parse().unwrap()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_in_a_network_is_found((network, random) in network()) {
            let gate = Presence::new(words(PRESENCE_WORDS), 7);
            gate.add_network(network);
            prop_assert!(has_network(&gate.memory, inside(network, random)));
            prop_assert!(trusts(&trust(&[network], 7), inside(network, random)));
        }
    }
}
