//! Batched reads find all entries of a hash, like single look-ups.

use std::collections::BTreeSet;

use aya::maps::IterableMap as _;
use filter_common::abi::Peer;
use filter_common::limits::KNOWN_PEERS;
use filter_user::datapath::batch;
use ringfence_tests::kernel::Kernel;

#[test]
#[ignore = "requires root: CAP_BPF"]
fn all_entries_are_read() {
    let mut kernel = Kernel::load(0).unwrap();
    let mut known = kernel.known_peers().unwrap();
    for (entries, next) in [(0, 1), (1, 5000), (5000, u64::from(KNOWN_PEERS))] {
        let read: Vec<([u64; 2], Peer)> = batch::entries(known.map().fd()).unwrap();
        let keys: BTreeSet<[u64; 2]> = read.iter().map(|(key, _)| *key).collect();
        let one_by_one: BTreeSet<[u64; 2]> = known.keys().map(Result::unwrap).collect();
        assert_eq!((read.len(), keys.len()), (entries, entries));
        assert_eq!(keys, one_by_one);
        assert!(read.iter().all(|([number, _], peer)| peer.until == number + 1));
        for number in entries as u64..next {
            let peer = Peer { until: number + 1, ..Peer::default() };
            known.insert([number, 7], peer, 0).unwrap();
        }
    }
    let read: Vec<([u64; 2], Peer)> = batch::entries(known.map().fd()).unwrap();
    assert_eq!(read.len(), usize::try_from(KNOWN_PEERS).unwrap());
}
