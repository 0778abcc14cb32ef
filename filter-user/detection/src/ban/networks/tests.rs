use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::clock::KernelTime;
use crate::settings::Scope;

/// One of a few networks, so that they nest: 32 addresses of each family.
fn networks() -> impl Strategy<Value = IpNet> {
    (0..32_u8, 0..=5_u8, any::<bool>()).prop_map(|(last, wider, v6)| {
        let (address, length) = if v6 {
            (IpAddr::from(Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(last))), 128 - wider)
        } else {
            (IpAddr::from([192, 0, 2, last]), 32 - wider)
        };
        IpNet::new_assert(address, length).trunc()
    })
}

fn ends() -> impl Strategy<Value = Ends> {
    let scope = select(&[Scope::Sip, Scope::Ports(1), Scope::Ports(5), Scope::All]);
    let until =
        prop_oneof![4 => (1..20_u64).prop_map(|end| Some(KernelTime(end))), 1 => Just(None)];
    vec((scope, until), 0..3).prop_map(|bans| {
        bans.into_iter().fold(Ends::NONE, |ends, (scope, until)| ends.and(scope, until))
    })
}

/// The bans and exceptions, network by network.
#[derive(Default)]
struct Model(HashMap<IpNet, (Ends, bool)>);

impl Model {
    /// From the address outwards, up to the first exception.
    fn of(&self, address: IpAddr) -> Ends {
        let mut says = Ends::NONE;
        let mut around = Some(IpNet::from(address));
        while let Some(network) = around {
            if let Some((own, is_exception)) = self.0.get(&network) {
                says = says.union(*own);
                if *is_exception {
                    break;
                }
            }
            around = network.supernet();
        }
        says
    }
}

/// The kernel's trie, written only by the changes.
#[derive(Default)]
struct Trie(BTreeMap<IpNet, Ends>);

impl Trie {
    fn write(&mut self, changes: &[Change]) -> Result<(), TestCaseError> {
        for change in changes {
            let old = match change.ends {
                Some(ends) => self.0.insert(change.network, ends),
                None => self.0.remove(&change.network),
            };
            prop_assert_ne!(old, change.ends, "{} did not change", change.network);
        }
        Ok(())
    }

    fn of(&self, address: IpAddr) -> Ends {
        let around = self.0.iter().filter(|(network, _)| network.contains(&address));
        around.max_by_key(|(network, _)| network.prefix_len()).map_or(Ends::NONE, |(_, ends)| *ends)
    }
}

fn addresses() -> impl Iterator<Item = IpAddr> {
    // The last address of each family is in none of the networks.
    let v4 = (0..=32).map(|last| IpAddr::from(Ipv4Addr::new(192, 0, 2, last)));
    let v6 = (0..=32_u128).map(|last| IpAddr::from(Ipv6Addr::from(0x2001_0db8 << 96 | last)));
    v4.chain(v6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// For every address, the longest written prefix gives the combined result of bans and exceptions.
    #[test]
    fn the_longest_prefix_gives_the_combined_result(
        steps in vec((networks(), ends(), prop::bool::weighted(0.2)), 1..20),
    ) {
        let (mut model, mut trie) = (Model::default(), Trie::default());
        let mut networks = PrefixTree::default();
        for (network, own, is_exception) in steps {
            model.0.insert(network, (own, is_exception));
            trie.write(&networks.set(network, own, is_exception))?;
            for address in addresses() {
                prop_assert_eq!(trie.of(address), model.of(address), "{} after {}", address, network);
            }
        }
        let there: Vec<IpNet> = trie.0.keys().copied().collect();
        prop_assert_eq!(there.len(), networks.len());
        for network in there {
            trie.write(&networks.set(network, Ends::NONE, false))?;
        }
        prop_assert!(trie.0.is_empty() && networks.is_empty());
    }

    /// The entries that are read back after a restart close the same to every address.
    #[test]
    fn written_entries_are_read_back(
        steps in vec((networks(), ends(), prop::bool::weighted(0.2)), 1..20),
    ) {
        let (mut trie, mut networks) = (Trie::default(), PrefixTree::default());
        for (network, own, is_exception) in steps {
            trie.write(&networks.set(network, own, is_exception))?;
        }
        let written: Vec<(IpNet, Ends)> = trie.0.iter().map(|(n, ends)| (*n, *ends)).collect();
        let (mut again, mut networks) = (Trie::default(), PrefixTree::default());
        for OwnBans { network, own, is_exception } in read_back(&written) {
            again.write(&networks.set(network, own, is_exception))?;
        }
        for address in addresses() {
            prop_assert_eq!(again.of(address), trie.of(address), "{}", address);
        }
    }
}

#[test]
fn a_change_affects_only_the_networks_inside() {
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let forever = Ends::NONE.and(Scope::Sip, None);
    let short = Ends::NONE.and(Scope::Sip, Some(KernelTime(5)));
    let mut networks = PrefixTree::default();
    for network in ["10.1.0.0/16", "10.2.0.0/16", "10.2.3.0/24"] {
        networks.set(net(network), short, false);
    }
    assert!(!networks.is_empty());
    let changes = networks.set(net("10.2.0.0/15"), forever, false);
    let names: Vec<String> = changes.iter().map(|change| change.network.to_string()).collect();
    assert_eq!(names, ["10.2.0.0/15", "10.2.0.0/16", "10.2.3.0/24"]);
    // The exception shields the networks inside it.
    assert_eq!(networks.set(net("10.2.0.0/16"), Ends::NONE, true).len(), 2);
    assert_eq!(networks.set(net("10.2.0.0/15"), Ends::NONE, false).len(), 1);
}

/// If each change compared all networks, this would take minutes.
#[test]
fn thirty_thousand_networks() {
    let network = |n: u32| IpNet::new_assert(Ipv4Addr::from((10 << 24) | (n << 6)).into(), 26);
    let own = Ends::NONE.and(Scope::All, None);
    let mut networks = PrefixTree::default();
    for n in 0..30_000 {
        assert_eq!(networks.set(network(n), own, false).len(), 1);
    }
    for n in 0..3_000 {
        assert_eq!(networks.set(network(n), Ends::NONE, false).len(), 1);
        assert_eq!(networks.set(network(n), own, false).len(), 1);
    }
    // A network around all of them changes none that closes as much for as long.
    let around = "10.0.0.0/8".parse().unwrap();
    assert_eq!(networks.set(around, own, false).len(), 1);
    let wider = own.and(Scope::Sip, None);
    assert_eq!(networks.set(around, wider, false).len(), 30_001);
}
