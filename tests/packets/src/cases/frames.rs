//! Rows about headers: from the Ethernet frame to the start of the payload.

use std::slice::from_ref;

use filter_common::decision::Reason::{
    self, Fragment, KeepAlive, Malformed, NotIp, NotSip, OtherPort, OtherProtocol, Register,
    Request, TcpControl,
};

use super::{Case, World, ip, messages};
use crate::packet_builder::{
    ARP, ETHERNET_LEN, Extension, Frame, IPV4, IPV6, OLD_SERVICE_VLAN, SERVICE_VLAN, VLAN, arp,
    ethernet, flag,
};

/// The rows.
pub fn cases() -> Vec<Case> {
    [runts(), ethernet_frames(), ipv4(), ipv4_fragments(), ipv6(), ipv6_fragments(), udp(), tcp()]
        .concat()
}

/// An OPTIONS from an IPv4 address.
fn v4() -> Frame {
    Frame::from(ip("192.0.2.66")).payload(messages::request("OPTIONS"))
}

/// An OPTIONS from an IPv6 address.
fn v6() -> Frame {
    Frame::from(ip("2001:db8::66")).payload(messages::request("OPTIONS"))
}

fn row(name: &str, frame: &Frame, expect: Reason) -> Case {
    Case::new(name, frame.build(), expect)
}

/// Frames cut on both sides of each header's end.
fn runts() -> Vec<Case> {
    let chain = v6().extension(Extension::hop_by_hop(1)).extension(Extension::destination(2));
    // Where the headers end, and whether the first eight bytes of the payload show its kind.
    let table = [
        ("udp over ipv4", v4(), vec![34, 42]),
        ("udp over ipv4 with options", v4().ip_options(&[1; 8]), vec![34, 42, 50]),
        ("udp over ipv4 in a vlan", v4().tag(VLAN, 7), vec![18, 38, 46]),
        (
            "udp over ipv4 in two vlans",
            v4().tag(SERVICE_VLAN, 7).tag(VLAN, 8),
            vec![18, 22, 42, 50],
        ),
        ("udp over ipv6", v6(), vec![54, 62]),
        ("udp over ipv6 in a vlan", v6().tag(VLAN, 7), vec![18, 58, 66]),
        ("udp over ipv6 with extensions", chain, vec![54, 62, 78, 86]),
        ("tcp over ipv4", v4().tcp(5060), vec![34, 54]),
        ("tcp over ipv6", v6().tcp(5060), vec![54, 74]),
    ];
    let mut cases: Vec<_> = [0, 1, 12, 13]
        .map(|len| Case::new(format!("runt: {len} bytes"), v4().cut(len), Malformed))
        .into();
    for (name, frame, ends) in table {
        let mut cut = |len, expect| {
            cases.push(Case::new(format!("runt: {name} cut at {len}"), frame.cut(len), expect));
        };
        cut(ETHERNET_LEN, Malformed);
        cut(ETHERNET_LEN + 1, Malformed);
        let (payload, headers) = ends.split_last().expect("every frame has headers");
        for end in headers {
            cut(end - 1, Malformed);
            cut(*end, Malformed);
            cut(end + 1, Malformed);
        }
        cut(payload - 1, Malformed);
        cut(*payload, KeepAlive);
        cut(payload + 7, NotSip);
        cut(payload + 8, Request);
    }
    cases
}

fn ethernet_frames() -> Vec<Case> {
    let stacked = v4().tag(SERVICE_VLAN, 7).tag(VLAN, 8);
    vec![
        row("plain ipv4", &v4(), Request),
        row("plain ipv6", &v6(), Request),
        row("vlan", &v4().tag(VLAN, 7), Request),
        row("vlan 0, a priority alone", &v4().tag(VLAN, 0xe000), Request),
        row("vlan of a provider", &v4().tag(SERVICE_VLAN, 7), Request),
        row("vlan of a provider, old EtherType", &v4().tag(OLD_SERVICE_VLAN, 7), Request),
        row("two vlans", &stacked, Request),
        row("two vlans, both customer's", &v4().tag(VLAN, 7).tag(VLAN, 8), Request),
        row("two vlans, ipv6", &v6().tag(OLD_SERVICE_VLAN, 7).tag(VLAN, 8), Request),
        row("four vlans", &stacked.clone().tag(VLAN, 9).tag(VLAN, 0), Request),
        row(
            "five vlans are one more than is looked behind",
            &stacked.tag(VLAN, 9).tag(VLAN, 0).tag(VLAN, 0),
            OtherProtocol,
        ),
        row("arp in a vlan", &v4().tag(VLAN, 7).ethertype(ARP), NotIp),
        Case::new("arp", arp(), NotIp),
        Case::new("lldp", ethernet(0x88cc, &[2, 7, 4, 2, 0, 0, 0, 0, 0x66, 0, 0]), NotIp),
        Case::new("spanning tree in 802.3", ethernet(38, &[0x42, 0x42, 3, 0, 0, 0]), NotIp),
        Case::new("pppoe discovery", ethernet(0x8863, &[0x11, 9, 0, 0, 0, 4, 1, 1]), NotIp),
        Case::new("pppoe echo", ethernet(0x8864, &[0x11, 0, 0, 1, 0, 6, 0xc0, 0x21]), NotIp),
        Case::new("pppoe cut", ethernet(0x8864, &[0x11, 0, 0, 1, 0, 6, 0]), NotIp),
        Case::new("pppoe session", v4().in_pppoe(), Request),
        Case::new("pppoe session, ipv6", v6().in_pppoe(), Request),
        Case::new("pppoe session in a vlan", v6().tag(VLAN, 7).in_pppoe(), Request),
        Case::new("mpls", ethernet(0x8847, &[0, 1, 0x11, 64, 0x45, 0]), NotIp),
        row("ipv6 under the EtherType of ipv4", &v6().ethertype(IPV4), Malformed),
        row("ipv4 under the EtherType of ipv6", &v4().ethertype(IPV6), Malformed),
    ]
}

fn ipv4() -> Vec<Case> {
    let len = u16::try_from(messages::request("OPTIONS").len()).expect("a short message");
    let crlf = v4().payload("\r\n");
    vec![
        row("ipv4 with one option", &v4().ip_options(&[0x94, 4, 0, 0]), Request),
        row("ipv4 with eight bytes of options", &v4().ip_options(&[1; 8]), Request),
        row("ipv4 with all the options there can be", &v4().ip_options(&[1; 40]), Request),
        row("ipv4 with a header of no words", &v4().ihl(0), Malformed),
        row("ipv4 with a header of four words", &v4().ihl(4), Malformed),
        row("ipv4 with a header longer than its packet", &v4().ihl(15).ip_len(59), Malformed),
        row("ipv4 whose options are the payload", &v4().ihl(15), OtherPort),
        row("ipv4 of version 5", &v4().version(5), Malformed),
        row("ipv4 of version 0", &v4().version(0), Malformed),
        // As the kernel delivers a packet that it has assembled and whose length exceeds the field.
        row("ipv4 with a total length of 0", &v4().ip_len(0), Request),
        row("ipv4 with a total length of 19", &v4().ip_len(19), Malformed),
        row("ipv4 whose length ends before its udp header", &v4().ip_len(20), KeepAlive),
        row("ipv4 whose length ends in the payload", &v4().ip_len(28 + 4), NotSip),
        row("ipv4 whose length ends behind the method", &v4().ip_len(28 + 8), Request),
        row("ipv4 whose length is one more than there is", &v4().ip_len(29 + len), Request),
        row("ipv4 whose length is all there can be", &v4().ip_len(u16::MAX), Request),
        row("ipv4 that must not be fragmented", &v4().unfragmentable(), Request),
        Case::new("padding is no payload", crlf.padded(), KeepAlive),
        row("icmp", &v4().protocol(1).payload([8, 0, 0xf7, 0xff, 0, 0, 0, 0]), OtherProtocol),
        row("gre", &v4().protocol(47), OtherProtocol),
        row("esp over ipv4", &v4().protocol(50), OtherProtocol),
        row("sctp", &v4().protocol(132), OtherProtocol),
        row("ipv4 in ipv4", &v4().protocol(4), OtherProtocol),
        row("icmp without a header", &v4().protocol(1).payload([]), OtherProtocol),
    ]
}

fn ipv4_fragments() -> Vec<Case> {
    let first = v4().fragment(0, true);
    vec![
        row("first fragment", &first, Request),
        row("first fragment to another port", &first.clone().udp(10_000), OtherPort),
        row("first fragment of tcp", &first.clone().tcp(5060), Request),
        row("first fragment of icmp", &first.clone().protocol(1), OtherProtocol),
        row(
            "first fragment without all of its udp header",
            &first.clone().protocol(17).payload([1; 7]),
            OtherProtocol,
        ),
        row(
            "first fragment that ends before its method does",
            &first.clone().payload("OPTI"),
            Register,
        ),
        row("middle fragment", &v4().protocol(17).fragment(181, true), Fragment),
        row("last fragment", &v4().protocol(17).fragment(362, false), Fragment),
        row("last fragment there can be", &v4().protocol(17).fragment(0x1fff, false), Fragment),
        row("later fragment that looks like a udp header", &v4().fragment(181, true), Fragment),
        row("later fragment that would replace the udp header", &v4().fragment(1, false), Fragment),
        row("later fragment of tcp", &v4().protocol(6).fragment(1, false), Fragment),
        row("later fragment of icmp", &v4().protocol(1).fragment(185, false), Fragment),
        row(
            "later fragment without bytes",
            &v4().protocol(17).payload([]).fragment(9, false),
            Fragment,
        ),
    ]
}

fn ipv6() -> Vec<Case> {
    let with = |extensions: &[Extension]| {
        extensions.iter().fold(v6(), |frame, extension| frame.extension(extension.clone()))
    };
    let hop = Extension::hop_by_hop(1);
    let options = Extension::destination(1);
    let off = v6().extension(Extension::destination(1).claiming(255));
    vec![
        row("hop-by-hop options", &with(from_ref(&hop)), Request),
        row("routing header", &with(&[Extension::routing(1)]), Request),
        row("destination options", &with(from_ref(&options)), Request),
        row("mobility header", &with(&[Extension::mobility(1)]), Request),
        row("authentication header", &with(&[Extension::authentication(3)]), Request),
        row("authentication header of odd length", &with(&[Extension::authentication(0)]), Request),
        row("the longest authentication header", &with(&[Extension::authentication(254)]), Request),
        row("the longest destination options", &with(&[Extension::destination(255)]), Request),
        row(
            "the extensions in the order of RFC 8200",
            &with(&[
                hop.clone(),
                options.clone(),
                Extension::routing(3),
                Extension::fragment(0, false),
                Extension::authentication(3),
                options.clone(),
            ]),
            Request,
        ),
        row("hop-by-hop options where they must not be", &with(&[options.clone(), hop]), Request),
        row("six extensions", &with(&vec![options.clone(); 6]), Request),
        row("six extensions before tcp", &with(&vec![options.clone(); 6]).tcp(5060), Request),
        row(
            "seven extensions are one more than are followed",
            &with(&vec![options.clone(); 7]),
            OtherProtocol,
        ),
        row("twenty extensions", &with(&vec![options.clone(); 20]), OtherProtocol),
        row(
            "six extensions before icmp",
            &with(&vec![options.clone(); 6]).protocol(58),
            OtherProtocol,
        ),
        row("an extension that runs off the frame", &off, Malformed),
        row("an extension cut before its length", &v6().protocol(60).payload([17]), Malformed),
        row(
            "an extension that says less than it is",
            &with(&[Extension::destination(2).claiming(0)]),
            OtherPort,
        ),
        row("esp over ipv6", &v6().protocol(50), OtherProtocol),
        row("esp behind an extension", &with(&[options]).protocol(50), OtherProtocol),
        row("no next header", &v6().protocol(59), OtherProtocol),
        row("icmpv6", &v6().protocol(58).payload([128, 0, 0, 0, 0, 0, 0, 0]), OtherProtocol),
        row("an experimental protocol", &v6().protocol(253), OtherProtocol),
        row("ipv6 of version 4", &v6().version(4), Malformed),
        row("ipv6 with a payload length of 0", &v6().ip_len(0), KeepAlive),
        row("ipv6 whose length ends in the udp header", &v6().ip_len(4), KeepAlive),
        row("ipv6 whose length ends in the payload", &v6().ip_len(8 + 7), NotSip),
        row("ipv6 whose length is all there can be", &v6().ip_len(u16::MAX), Request),
        row("jumbogram", &with(&[Extension::hop_by_hop(1)]).ip_len(0).udp_len(0), Request),
        row("ipv6 of no length", &v6().ip_len(0).udp_len(0), KeepAlive),
    ]
}

fn ipv6_fragments() -> Vec<Case> {
    let fragment = |offset, more| v6().extension(Extension::fragment(offset, more));
    let options = Extension::destination(1);
    let behind = v6().extension(options.clone()).extension(Extension::fragment(181, true));
    vec![
        row("first fragment, ipv6", &fragment(0, true), Request),
        row("first fragment of tcp, ipv6", &fragment(0, true).tcp(5060), Request),
        row(
            "first fragment that ends before its method does, ipv6",
            &fragment(0, true).payload("OPTI"),
            Register,
        ),
        row("the only fragment (RFC 6946)", &fragment(0, false), Request),
        row("the only fragment is not cut", &fragment(0, false).payload("OPTI"), NotSip),
        row("middle fragment, ipv6", &fragment(181, true), Fragment),
        row("last fragment, ipv6", &fragment(362, false), Fragment),
        row("later fragment behind options, ipv6", &behind, Fragment),
        row(
            "first fragment with options behind, ipv6",
            &fragment(0, true).extension(options),
            Request,
        ),
        row("later fragment of icmp, ipv6", &fragment(1, false).protocol(58), Fragment),
        row(
            "later fragment without bytes, ipv6",
            &fragment(9, false).protocol(17).payload([]),
            Fragment,
        ),
    ]
}

fn udp() -> Vec<Case> {
    let bound = |udp: &[u16], tcp: &[u16]| World {
        sip_udp: udp.to_vec(),
        sip_tcp: tcp.to_vec(),
        ..World::default()
    };
    vec![
        row("udp with a length of 0", &v4().udp_len(0), Request),
        row("udp with a length of 0, ipv6", &v6().udp_len(0), Request),
        row("udp with a length of 1", &v4().udp_len(1), Malformed),
        row("udp with a length of 7", &v4().udp_len(7), Malformed),
        row("udp with a length of 7, ipv6", &v6().udp_len(7), Malformed),
        row("udp that says it is empty", &v4().udp_len(8), KeepAlive),
        row("udp whose length ends in the method", &v4().udp_len(8 + 7), NotSip),
        row("udp whose length ends behind the method", &v4().udp_len(8 + 8), Request),
        row("udp longer than its packet", &v4().udp_len(5000), Request),
        row("udp longer than its packet, ipv6", &v6().udp_len(u16::MAX), Request),
        row("udp longer than its empty packet", &v4().payload([]).udp_len(500), KeepAlive),
        row("udp without a checksum", &v4().checksum(0), Request),
        row("udp with a wrong checksum", &v4().checksum(0x1234), Request),
        row("udp to another port", &v4().udp(5062), OtherPort),
        row("udp to a port that is sip over tcp alone", &v4().udp(5061), OtherPort),
        row("an answer of dns", &v4().udp(40_000).source_port(53), OtherPort),
        row("from port 5060 to another", &v4().udp(16_384).source_port(5060), OtherPort),
        row(
            "rtp",
            &v4().udp(10_000).payload([0x80, 0, 0, 1, 0, 0, 0, 0xa0, 1, 2, 3, 4]),
            OtherPort,
        ),
        row("no sip port", &v4(), OtherPort).within(bound(&[], &[])),
        row("another sip port", &v4().udp(15_060), Request).within(bound(&[5060, 15_060], &[])),
        row("the first port", &v4().udp(0), Request).within(bound(&[0], &[])),
        row("the last port", &v4().udp(u16::MAX), Request).within(bound(&[u16::MAX], &[])),
        row("the port before", &v4().udp(5059), OtherPort),
        row("udp where sip is over tcp alone", &v4(), OtherPort).within(bound(&[], &[5060])),
    ]
}

fn tcp() -> Vec<Case> {
    let bare = v4().tcp(5060).payload([]);
    let timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
    let syn = bare.clone().tcp_flags(flag::SYN).tcp_options(&[2, 4, 5, 0xb4]);
    vec![
        row("tcp open", &syn, TcpControl),
        row("tcp open, ipv6", &v6().tcp(5060).payload([]).tcp_flags(flag::SYN), TcpControl),
        row("tcp open, padded", &syn, TcpControl).padded(&syn),
        row("tcp open with data (RFC 7413)", &v4().tcp(5060).tcp_flags(flag::SYN), TcpControl),
        row("tcp acknowledgement", &bare.clone().tcp_flags(flag::ACK), TcpControl),
        row("tcp end", &bare.clone().tcp_flags(flag::FIN | flag::ACK), TcpControl),
        row("tcp reset", &bare.clone().tcp_flags(flag::RST), TcpControl),
        row("tcp with every flag", &bare.clone().tcp_flags(0xff), TcpControl),
        row("tcp data", &v4().tcp(5060), Request),
        row("tcp data, ipv6", &v6().tcp(5060), Request),
        row("tcp data behind options", &v4().tcp(5060).tcp_options(&timestamps), Request),
        row(
            "tcp data behind all the options there can be",
            &v4().tcp(5060).tcp_options(&[1; 40]),
            Request,
        ),
        row("tcp with a header of no words", &v4().tcp(5060).data_offset(0), Malformed),
        row("tcp with a header of four words", &v4().tcp(5060).data_offset(4), Malformed),
        row("tcp with a header longer than its packet", &bare.data_offset(15), TcpControl),
        row("tcp to another port", &v4().tcp(22), OtherPort),
        row(
            "tcp to the port of sip over tls",
            &v4().tcp(5061).payload(messages::tls_client_hello()),
            NotSip,
        ),
        row("tcp where sip is over udp alone", &v4().tcp(5060), OtherPort)
            .within(World { sip_tcp: Vec::new(), ..World::default() }),
        row(
            "the middle of a message",
            &v4().tcp(5060).payload("tag=1\r\nTo: <sip:600@192.0.2.10>\r\n"),
            NotSip,
        ),
    ]
}

impl Case {
    fn padded(self, frame: &Frame) -> Self {
        Self { packet: frame.padded(), ..self }
    }
}
