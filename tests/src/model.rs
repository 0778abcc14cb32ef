//! The tables on the host: plain collections in place of the BPF maps.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};

use filter_common::abi::{BanEntry, Config};
use filter_common::address::Address;
use filter_common::limits::{BUCKETS, WINDOW_WORDS};
use filter_common::packet::{Packet, Window, Words};
use filter_common::policy::Tables;
use filter_common::rate::Bucket;
use filter_common::sip::{self, Step};
use ipnet::IpNet;

use crate::cases::{Who, World};

/// A [`World`] at one moment.
#[derive(Debug)]
pub struct Model {
    config: Config,
    now: u64,
    ports: BTreeMap<u16, u8>,
    bans: HashMap<Address, Cell<BanEntry>>,
    networks: Vec<(IpNet, Cell<BanEntry>)>,
    trusted: Vec<IpNet>,
    buckets: RefCell<BTreeMap<u64, u64>>,
    window: RefCell<Window>,
}

impl Model {
    /// `world` at `now`.
    pub fn new(world: &World, now: u64) -> Self {
        let mut model = Self {
            config: world.config(),
            now,
            ports: BTreeMap::new(),
            bans: HashMap::new(),
            networks: Vec::new(),
            trusted: world.trusted.clone(),
            buckets: RefCell::default(),
            // As in the kernel, what is in it is anything.
            window: RefCell::new([u64::from_le_bytes(*b"\nAuthori"); WINDOW_WORDS]),
        };
        for (port, class) in world.ports() {
            *model.ports.entry(port).or_default() |= class;
        }
        for ban in &world.bans {
            let entry = Cell::new(ban.entry(now));
            match ban.who {
                Who::Address(address) => {
                    model.bans.insert(address.into(), entry);
                }
                Who::Network(network) => model.networks.push((network, entry)),
            }
        }
        model
    }

    /// Packets that bans say they have dropped.
    pub fn ban_packets(&self) -> u64 {
        let networks = self.networks.iter().map(|(_, entry)| entry);
        self.bans.values().chain(networks).map(|entry| entry.get().packets).sum()
    }
}

/// A bucket in a [`Model`].
#[derive(Debug)]
pub struct ModelBucket<'a> {
    buckets: &'a RefCell<BTreeMap<u64, u64>>,
    index: u64,
}

impl Bucket for ModelBucket<'_> {
    fn load(&self) -> u64 {
        self.buckets.borrow().get(&self.index).copied().unwrap_or(0)
    }

    fn replace(&self, current: u64, new: u64) -> bool {
        let same = self.load() == current;
        if same {
            self.buckets.borrow_mut().insert(self.index, new);
        }
        same
    }
}

impl Tables for Model {
    type Ban<'a> = &'a Cell<BanEntry>;
    type Bucket<'a> = ModelBucket<'a>;

    fn config(&self) -> Option<Config> {
        Some(self.config)
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn ban(&self, source: Address) -> Option<&Cell<BanEntry>> {
        self.bans.get(&source)
    }

    fn network_ban(&self, source: Address) -> Option<&Cell<BanEntry>> {
        let around = self.networks.iter().filter(|(network, _)| contains(network, source));
        around.max_by_key(|(network, _)| mapped_prefix(network)).map(|(_, entry)| entry)
    }

    fn trusted(&self, source: Address) -> bool {
        self.trusted.iter().any(|network| contains(network, source))
    }

    fn port_classes(&self, port: u16) -> u8 {
        self.ports.get(&port).copied().unwrap_or(0)
    }

    fn register_bucket(&self, hash: u64) -> Option<ModelBucket<'_>> {
        let index = hash & u64::from(BUCKETS - 1);
        Some(ModelBucket { buckets: &self.buckets, index })
    }

    fn join_paths(&self, words: Words) -> Words {
        words
    }

    fn with_window<R>(&self, fill: impl FnOnce(&mut Window) -> R) -> Option<R> {
        Some(fill(&mut self.window.borrow_mut()))
    }

    fn search(&self, steps: usize) -> Step {
        let window = self.window.borrow();
        let mut answers = (0..steps).map(|step| sip::search(&window, step));
        answers.find(|step| *step != Step::On).unwrap_or(Step::On)
    }
}

/// A network's prefix length among the 128 bits that both families share.
pub fn mapped_prefix(network: &IpNet) -> u32 {
    let family = match network {
        IpNet::V4(_) => 96,
        IpNet::V6(_) => 0,
    };
    family + u32::from(network.prefix_len())
}

/// Whether an address, in the form that both families share, is in a network.
fn contains(network: &IpNet, source: Address) -> bool {
    let bits = |address: Address| {
        let [first, second] = address.words();
        u128::from(first.swap_bytes()) << 64 | u128::from(second.swap_bytes())
    };
    let host_bits = 128 - mapped_prefix(network);
    let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
    bits(source) & mask == bits(Address::from(network.network())) & mask
}

/// A frame as the kernel shows it to a program for fragmented buffers: read where it lies as far as
/// the first buffer goes, copied from wherever it is.
#[derive(Clone, Copy, Debug)]
pub struct SplitFrame<'a> {
    /// The whole frame.
    pub bytes: &'a [u8],
    /// Bytes in the first buffer.
    pub linear: usize,
}

impl Packet for SplitFrame<'_> {
    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.get(..self.linear).unwrap_or(self.bytes).array(offset)
    }

    fn copy(&self, offset: usize, window: &mut Window) -> usize {
        self.bytes.copy(offset, window)
    }
}
