//! The classifier of outgoing packets in the real kernel: `BPF_PROG_TEST_RUN` runs it over packets; it is
//! not attached to any interface.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::maps::{Array, HashMap, MapData};
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use filter_common::abi::{
    ABI_VERSION, Config, Configs, EGRESS_PROGRAM, Learning, OPEN_TO_ALL, PORT_GUARDED,
    PORTS_PER_BLOCK, Peer, RECORDED, SCOPE_SIP, Visits, maps, port_place, visited_key,
};
use filter_common::address::Address;
use filter_common::gate;
use filter_common::limits::{KNOWN_PEERS, PEERS_OF_48, PEERS_OF_64};
use filter_user::datapath::OBJECT;

/// `TC_ACT_UNSPEC` and `TCX_NEXT`.
const NEXT: u32 = u32::MAX;
const PBX6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// A port whose users are recorded.
const SERVICE: u16 = 5432;
const HOUR: u64 = 3_600_000_000_000;
const SEED: u64 = 7;
/// The offset of `ingress_ifindex` in `struct __sk_buff`, and the size of the structure
/// (`include/uapi/linux/bpf.h`).
const INGRESS: usize = 36;
const CONTEXT: usize = 192;
/// The most instructions that a kernel's verifier may follow: half of its limit.
const INSTRUCTION_BUDGET: u32 = 500_000;

struct Kernel {
    ebpf: Ebpf,
}

impl Kernel {
    fn load(room: u32) -> Self {
        let mut ebpf = EbpfLoader::new().map_max_entries(maps::KNOWN, room).load(OBJECT).unwrap();
        let mut config: Array<_, Configs> = ebpf.map_mut(maps::CONFIG).unwrap().try_into().unwrap();
        // A clock with its own ticks, from zero at its own epoch.
        let entry = Config {
            abi_version: ABI_VERSION,
            known_for: HOUR,
            tick: 4_000_000,
            seed: SEED,
            ..Config::default()
        };
        config.set(0, Configs { current: 1, sides: [Config::default(), entry] }, 0).unwrap();
        let mut ports: Array<_, [u8; PORTS_PER_BLOCK]> =
            ebpf.map_mut(maps::PORTS).unwrap().try_into().unwrap();
        for (tcp, port, class) in
            [(false, 5060, SCOPE_SIP), (true, 5060, SCOPE_SIP), (true, SERVICE, PORT_GUARDED)]
        {
            set_port(&mut ports, tcp, port, class);
        }
        let mut guards = ebpf.map_mut(maps::GUARDS).unwrap().try_into().unwrap();
        set_port(&mut guards, true, SERVICE, OPEN_TO_ALL | RECORDED);
        let mut visited: HashMap<_, u32, Visits> =
            ebpf.map_mut(maps::VISITED).unwrap().try_into().unwrap();
        visited.insert(visited_key(true, SERVICE), Visits::default(), 0).unwrap();
        let program: &mut SchedClassifier =
            ebpf.program_mut(EGRESS_PROGRAM).unwrap().try_into().unwrap();
        program.load().unwrap();
        Self { ebpf }
    }

    fn program(&self) -> &SchedClassifier {
        self.ebpf.program(EGRESS_PROGRAM).unwrap().try_into().unwrap()
    }

    /// Lets a frame leave, and checks that it is unchanged.
    fn sees(&self, frame: &[u8], from_interface: u32) {
        let mut context = [0; CONTEXT];
        context[INGRESS..INGRESS + 4].copy_from_slice(&from_interface.to_ne_bytes());
        let mut out = vec![0; frame.len()];
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut out),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        assert_eq!(self.program().test_run(options).unwrap().return_value, NEXT);
        assert_eq!(out, frame);
    }

    fn peer(&self, address: IpAddr) -> Option<Peer> {
        let known: HashMap<_, [u64; 2], Peer> =
            self.ebpf.map(maps::KNOWN).unwrap().try_into().unwrap();
        known.get(&Address::from(address).words(), 0).ok()
    }

    fn set_peer(&mut self, address: IpAddr, peer: Peer) {
        let mut known: HashMap<_, [u64; 2], Peer> =
            self.ebpf.map_mut(maps::KNOWN).unwrap().try_into().unwrap();
        known.insert(Address::from(address).words(), peer, 0).unwrap();
    }

    fn learned(&self) -> Learning {
        let learned: Array<_, Learning> = self.ebpf.map(maps::LEARNED).unwrap().try_into().unwrap();
        learned.get(&0, 0).unwrap()
    }

    /// The users of the recorded port, first those with private addresses.
    fn users(&self) -> [u64; 2] {
        let visited: HashMap<_, u32, Visits> =
            self.ebpf.map(maps::VISITED).unwrap().try_into().unwrap();
        visited.get(&visited_key(true, SERVICE), 0).unwrap().networks
    }

    fn is_announced(&self, address: IpAddr) -> bool {
        let words: Array<_, u64> = self.ebpf.map(maps::KNOWN_GATE).unwrap().try_into().unwrap();
        let place = gate::known(address.into(), SEED);
        words.get(&place.word, 0).unwrap() >> place.shift & 1 != 0
    }
}

fn set_port(map: &mut Array<&mut MapData, [u8; PORTS_PER_BLOCK]>, tcp: bool, port: u16, value: u8) {
    let (block, byte) = port_place(tcp, port);
    let mut values = map.get(&block, 0).unwrap();
    values[byte] = value;
    map.set(block, values, 0).unwrap();
}

fn phone(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

/// A UDP datagram from port 5060 to a phone.
fn frame(to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let length = |more: usize| u16::try_from(payload.len() + more).unwrap().to_be_bytes();
    let mut frame = vec![2; 12];
    match to {
        IpAddr::V4(to) => {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend(length(28));
            frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 10]);
            frame.extend(to.octets());
        }
        IpAddr::V6(to) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length(8));
            frame.extend([17, 64]);
            frame.extend(PBX6.octets());
            frame.extend(to.octets());
        }
    }
    frame.extend([5060u16.to_be_bytes(), 40_000u16.to_be_bytes(), length(8), [0, 0]].concat());
    frame.extend(payload);
    frame
}

/// A TCP segment from a port to an address.
fn segment(to: IpAddr, port: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = frame(to, &[&[0; 12], payload].concat());
    let ip = if to.is_ipv4() { 20 } else { 40 };
    frame[14 + if to.is_ipv4() { 9 } else { 6 }] = 6;
    let header = &mut frame[14 + ip..14 + ip + 20];
    header.fill(0);
    header[..2].copy_from_slice(&port.to_be_bytes());
    header[2..4].copy_from_slice(&40_000u16.to_be_bytes());
    (header[12], header[13]) = (0x50, flags);
    frame
}

/// Replies of Asterisk, embedded in the program, because it also runs where there are no files.
macro_rules! answers {
    ($($file:literal),* $(,)?) => {
        vec![$(include_bytes!(concat!("../../filter-common/tests/fixtures/leaving/", $file)).to_vec()),*]
    };
}

/// Replies to unauthenticated clients.
fn to_strangers() -> Vec<Vec<u8>> {
    answers![
        "none/stock22-acl-contact-401-register.sip",
        "none/stock22-acl-contact-404-invite.sip",
        "none/stock22-acl-global-403-register.sip",
        "none/stock22-invite-good-badext-401-invite.sip",
        "none/stock22-options-noauth-unknown-401-options.sip",
        "none/stock22-sipp-goodauth-481-bye.sip",
        "none/stock22-sipp-regflood-tcp-401-register.sip",
        "none/stock22-subscribe-unknown-401-subscribe.sip",
        "none/stock22-v6-reg-unknown-401-register.sip",
        "none/stock22-v6-tcp-wrongpw-401-register.sip",
    ]
}

/// Replies to authenticated clients.
fn proofs() -> Vec<Vec<u8>> {
    answers![
        "proof/stock22-reg-other-aor-200-register.sip",
        "proof/stock22-sipp-goodauth-200-register.sip",
        "proof/stock22-svcrack-found-200-register.sip",
    ]
}

#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn it_learns_what_the_host_learns() {
    let kernel = Kernel::load(16);
    let info = kernel.program().info().unwrap();
    assert_eq!(info.name_as_str(), Some(EGRESS_PROGRAM));
    let verified = info.verified_instruction_count().unwrap();
    assert!(verified <= INSTRUCTION_BUDGET, "{verified} of {INSTRUCTION_BUDGET}");
    for message in to_strangers() {
        kernel.sees(&frame(phone(66), &message), 0);
    }
    assert_eq!(kernel.peer(phone(66)), None);
    assert_eq!(kernel.learned(), Learning::default());
    let messages = proofs();
    assert!(messages.len() >= 3);
    for (message, last) in messages.iter().zip(20..) {
        kernel.sees(&frame(phone(last), message), 0);
        let peer = kernel.peer(phone(last)).unwrap();
        assert!(peer.until > HOUR);
        assert_eq!(peer, Peer { until: peer.until, ..Peer::default() });
        assert!(kernel.is_announced(phone(last)));
    }
    assert_eq!(kernel.learned().learned, u64::try_from(messages.len()).unwrap());
}

#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn a_peer_keeps_what_it_has_used_up() {
    let mut kernel = Kernel::load(16);
    let used = Peer { until: 1, bucket: 2, excess: 3, blocked_until: 4, passed: 5, dropped: 6 };
    kernel.set_peer(phone(20), used);
    let message = proofs().remove(0);
    kernel.sees(&frame(phone(20), &message), 0);
    let peer = kernel.peer(phone(20)).unwrap();
    assert!(peer.until > HOUR);
    assert_eq!(peer, Peer { until: peer.until, ..used });
    kernel.sees(&frame(phone(20), &message), 0);
    assert_eq!(kernel.peer(phone(20)), Some(peer), "its end moves once a minute");
    assert_eq!(kernel.learned(), Learning { refreshed: 1, ..Learning::default() });
}

#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn a_full_table_keeps_whom_it_has() {
    let kernel = Kernel::load(1);
    let message = proofs().remove(0);
    kernel.sees(&frame(phone(20), &message), 0);
    kernel.sees(&frame(phone(21), &message), 0);
    assert!(kernel.peer(phone(20)).is_some());
    assert_eq!(kernel.peer(phone(21)), None);
    assert!(!kernel.is_announced(phone(21)));
    assert_eq!(kernel.learned(), Learning { learned: 1, refreshed: 0, full: 1 });
}

#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn one_network_does_not_fill_the_table() {
    let kernel = Kernel::load(KNOWN_PEERS);
    let message = proofs().remove(0);
    let in_network = |network: u16, host: u16| {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, network, 0, 0, 0, host))
    };
    let learned = || kernel.learned().learned;
    for host in 0..1000 {
        kernel.sees(&frame(in_network(1, host), &message), 0);
    }
    assert_eq!(learned(), PEERS_OF_64);
    assert_eq!(kernel.learned().full, 1000 - PEERS_OF_64);
    assert_eq!(kernel.peer(in_network(1, 999)), None);
    assert!(!kernel.is_announced(in_network(1, 999)));
    kernel.sees(&frame(in_network(2, 1), &message), 0);
    kernel.sees(&frame(phone(20), &message), 0);
    assert_eq!(learned(), PEERS_OF_64 + 2);
    for network in 3..100 {
        for host in 0..100 {
            kernel.sees(&frame(in_network(network, host), &message), 0);
        }
    }
    assert_eq!(learned(), PEERS_OF_48 + 1);
    let elsewhere = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 1, 0, 0, 0, 1));
    kernel.sees(&frame(elsewhere, &message), 0);
    assert!(kernel.peer(elsewhere).is_some());
}

#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn what_the_host_only_forwards_is_nobodys_proof() {
    let kernel = Kernel::load(16);
    kernel.sees(&frame(phone(20), &proofs().remove(0)), 1);
    assert_eq!(kernel.peer(phone(20)), None);
}

#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn a_service_is_used_by_those_to_whom_the_host_sends() {
    const SYN_ACK: u8 = 0x12;
    const ACK: u8 = 0x10;
    const FIN_ACK: u8 = 0x11;
    const RST_ACK: u8 = 0x14;
    let kernel = Kernel::load(16);
    let [public, private] = [phone(20), Ipv4Addr::new(10, 1, 2, 3).into()];
    let public6 = IpAddr::V6(PBX6);
    for to in [public, private, public6] {
        // What forged requests for connections are answered with.
        for flags in [SYN_ACK, ACK, RST_ACK] {
            kernel.sees(&segment(to, SERVICE, flags, b""), 0);
        }
        // Another port, and what the host only forwards.
        kernel.sees(&segment(to, SERVICE + 1, ACK, b"data"), 0);
        kernel.sees(&segment(to, SERVICE, ACK, b"data"), 1);
    }
    assert_eq!(kernel.users(), [0, 0]);
    kernel.sees(&segment(public, SERVICE, ACK, b"data"), 0);
    assert_eq!(kernel.users(), [0, 1]);
    kernel.sees(&segment(public6, SERVICE, FIN_ACK, b""), 0);
    kernel.sees(&segment(private, SERVICE, ACK, b"data"), 0);
    for _ in 0..10 {
        kernel.sees(&segment(phone(21), SERVICE, ACK, b"data"), 0);
    }
    assert_eq!(kernel.users(), [1, 2], "each network counts once");
}
