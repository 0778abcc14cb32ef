//! Reads from the kernel over netlink: interfaces and their XDP programs, default routes, and filters and
//! qdiscs at an interface. Own code: `rtnetlink` needs a running tokio before the program is attached,
//! brings eight crates, and does not support generic netlink, which reports the abilities of a driver.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto,
    setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

// include/uapi/linux/netlink.h, rtnetlink.h, if_link.h
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;
pub(crate) const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_ECHO: u16 = 8;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
pub(crate) const NLMSG_HEADER: usize = 16;
const INTERFACE_INFO: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_SKB: u8 = 2;
const NLA_TYPE_MASK: u16 = 0x3fff;
const IFF_UP: u32 = 1;
const ROUTE_MESSAGE: usize = 12;
const RTN_UNICAST: u8 = 1;
const RTM_F_CLONED: u32 = 0x200;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
const NEXT_HOP: usize = 8;
// include/uapi/linux/pkt_sched.h, pkt_cls.h, if_ether.h
const TC_MESSAGE: usize = 20;
const CLSACT: u32 = 0xffff_fff1;
const CLSACT_HANDLE: u32 = 0xffff_0000;
const INGRESS: u32 = 0xffff_fff2;
const EGRESS: u32 = 0xffff_fff3;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const ETH_P_ALL: u16 = 3;
// include/uapi/linux/genetlink.h, netdev.h
const GENL_ID_CTRL: u16 = 16;
const GENL_HEADER: usize = 4;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const NETDEV_XDP_ACT_BASIC: u64 = 1;
// include/uapi/linux/if_arp.h
const ARPHRD_ETHER: u16 = 1;
const ARPHRD_PPP: u16 = 512;
const ARPHRD_LOOPBACK: u16 = 772;

/// The most bytes that are read of one list.
const LIST_MAX: usize = 64 << 20;

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attached {
    /// The program's id; zero if there are several.
    pub(crate) program: u32,
    /// Whether it runs in the driver.
    pub(crate) native: bool,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    /// Its index.
    pub(crate) index: u32,
    /// Its name.
    pub(crate) name: String,
    /// Its kind, such as `bridge` or `veth`; empty for a card.
    pub(crate) kind: String,
    /// The type of its frames' header (`ARPHRD_*`).
    pub(crate) device: u16,
    /// Whether it is up.
    pub(crate) up: bool,
    /// The maximum length of a packet.
    pub(crate) mtu: u32,
    /// The interface beneath it.
    pub(crate) beneath: Option<u32>,
    /// The bridge or bond of which it is a port.
    pub(crate) master: Option<u32>,
    /// Its XDP program.
    pub(crate) xdp: Option<Attached>,
}

impl Link {
    /// Whether its frames begin with an Ethernet header, which the program requires.
    pub(crate) fn has_ethernet(&self) -> bool {
        [ARPHRD_ETHER, ARPHRD_LOOPBACK].contains(&self.device)
    }

    /// Whether it is a PPP connection.
    pub(crate) fn is_ppp(&self) -> bool {
        self.device == ARPHRD_PPP
    }
}

/// A route out of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Route {
    /// Whether it is a default route.
    pub(crate) default: bool,
    /// The route with the lowest metric is used.
    pub(crate) metric: u32,
    /// The interface through which it leaves.
    pub(crate) interface: u32,
    /// The gateway that its packets are sent to.
    pub(crate) gateway: Option<IpAddr>,
}

/// The XDP program of an interface, if it has one.
pub(crate) fn attached(index: u32) -> Result<Option<Attached>> {
    Ok(link(index)?.xdp)
}

/// An interface.
pub(crate) fn link(index: u32) -> Result<Link> {
    let request = message(RTM_GETLINK, NLM_F_REQUEST, &interface_info(index));
    let answer = ask(SockProtocol::NetlinkRoute, &request)
        .with_context(|| format!("ask the kernel about interface {index}"))?;
    parse_link(&answer)
}

/// All interfaces.
pub(crate) fn links() -> Result<Vec<Link>> {
    let request = message(RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, &interface_info(0));
    let all = list(&request).context("ask the kernel for the interfaces")?;
    all.iter()
        .filter(|one| u16_at(one, 4) == Some(RTM_NEWLINK))
        .map(|one| parse_link(one))
        .collect()
}

/// The default routes and the routes with a gateway, in order of preference, IPv4 before IPv6.
pub(crate) fn routes() -> Result<Vec<Route>> {
    let mut routes = Vec::new();
    for family in [nix::libc::AF_INET, nix::libc::AF_INET6] {
        let all = dump_routes(family)?;
        let mut of_family: Vec<Route> = all.iter().flat_map(|one| parse_route(one)).collect();
        of_family.sort_by_key(|route| (!route.default, route.metric));
        routes.extend(of_family);
    }
    Ok(routes)
}

/// Every network with a route, and the interface through which the route leaves.
pub(crate) fn destinations() -> Result<Vec<(IpNet, u32)>> {
    let mut destinations = Vec::new();
    for family in [nix::libc::AF_INET, nix::libc::AF_INET6] {
        let all = dump_routes(family)?;
        destinations.extend(all.iter().flat_map(|one| {
            let hops =
                network(one).map(|to| next_hops(one).into_iter().map(move |hop| (to, hop.0)));
            hops.into_iter().flatten().collect::<Vec<_>>()
        }));
    }
    Ok(destinations)
}

/// The kernel's routes of a family, one message each.
fn dump_routes(family: i32) -> Result<Vec<Vec<u8>>> {
    let mut body = [0; ROUTE_MESSAGE];
    if let (Some(place), Ok(family)) = (body.first_mut(), u8::try_from(family)) {
        *place = family;
    }
    let request = message(RTM_GETROUTE, NLM_F_REQUEST | NLM_F_DUMP, &body);
    list(&request).context("ask the kernel for the routes")
}

/// Whether an interface's driver supports XDP; `None` if the kernel does not report it (before Linux
/// 6.3).
pub(crate) fn does_xdp(index: u32) -> Option<bool> {
    let name = attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let family = generic(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &name).ok()?;
    let family = find(family.get(GENL_HEADER..)?, CTRL_ATTR_FAMILY_ID)?.first_chunk().copied()?;
    let device = attribute(NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes());
    let answer = generic(u16::from_ne_bytes(family), NETDEV_CMD_DEV_GET, &device).ok()?;
    let features = find(answer.get(GENL_HEADER..)?, NETDEV_A_DEV_XDP_FEATURES)?;
    Some(u64::from_ne_bytes(features.first_chunk().copied()?) & NETDEV_XDP_ACT_BASIC != 0)
}

/// The answer of a generic netlink family to a command: its header and attributes.
fn generic(family: u16, command: u8, attributes: &[u8]) -> Result<Vec<u8>> {
    let body = [&[command, 1, 0, 0], attributes].concat();
    let answer = ask(SockProtocol::NetlinkGeneric, &message(family, NLM_F_REQUEST, &body))?;
    Ok(self::attributes(&answer, 0)?.unwrap_or_default().to_vec())
}

/// A filter's place at an interface's egress.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FilterPlace {
    /// The interface's index.
    pub(crate) interface: u32,
    /// Lower priorities come first.
    pub(crate) priority: u16,
    /// Distinguishes filters of the same priority.
    pub(crate) handle: u32,
}

/// The name of the filter at a place, empty if it is not a BPF filter; `None` if there is no filter.
pub(crate) fn egress_filter(place: FilterPlace) -> Result<Option<String>> {
    let FilterPlace { interface, priority, handle } = place;
    let info = u32::from(priority) << 16 | u32::from(ETH_P_ALL.to_be());
    let body = traffic_control(interface, handle, EGRESS, info);
    let answer =
        ask(SockProtocol::NetlinkRoute, &message(RTM_GETTFILTER, NLM_F_REQUEST | NLM_F_ACK, &body))
            .with_context(|| {
                format!("ask the kernel about the filters of interface {interface}")
            })?;
    parse_filter(&answer)
}

/// The kind of qdisc at an interface's ingress, if there is one: `clsact` or `ingress`.
pub(crate) fn ingress_qdisc(interface: u32) -> Result<Option<String>> {
    let body = traffic_control(interface, 0, CLSACT, 0);
    let answer = ask(
        SockProtocol::NetlinkRoute,
        &message(RTM_GETQDISC, NLM_F_REQUEST | NLM_F_ACK | NLM_F_ECHO, &body),
    )
    .with_context(|| format!("ask the kernel about the qdiscs of interface {interface}"))?;
    let Some(attributes) = unless_missing(attributes(&answer, TC_MESSAGE))? else {
        return Ok(None);
    };
    Ok(find(attributes, TCA_KIND).map(text))
}

/// Whether there are filters in an interface's `clsact`.
pub(crate) fn has_filters(interface: u32) -> Result<bool> {
    for parent in [INGRESS, EGRESS] {
        let body = traffic_control(interface, 0, parent, 0);
        let filters = list(&message(RTM_GETTFILTER, NLM_F_REQUEST | NLM_F_DUMP, &body))?;
        if filters.iter().any(|one| u16_at(one, 4) == Some(RTM_NEWTFILTER)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes an interface's `clsact`.
pub(crate) fn remove_clsact(interface: u32) -> Result<()> {
    let body = traffic_control(interface, CLSACT_HANDLE, CLSACT, 0);
    let request = message(RTM_DELQDISC, NLM_F_REQUEST | NLM_F_ACK, &body);
    attributes(&ask(SockProtocol::NetlinkRoute, &request)?, 0)?;
    Ok(())
}

fn open(protocol: SockProtocol) -> io::Result<std::os::fd::OwnedFd> {
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    // The kernel answers at once or not at all; do not wait for ever.
    setsockopt(&fd, ReceiveTimeout, &TimeVal::seconds(1))?;
    Ok(fd)
}

/// Sends a request with a single answer, and returns the answer. Where there may be nothing to report,
/// the request must ask for an acknowledgement.
pub(crate) fn ask(protocol: SockProtocol, request: &[u8]) -> Result<Vec<u8>> {
    let fd = open(protocol)?;
    let raw = fd.as_raw_fd();
    sendto(raw, request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = vec![0; 32 * 1024];
    let length = recv(raw, &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

/// Sends a request about interfaces and routes that is answered by a list; returns its messages.
fn list(request: &[u8]) -> Result<Vec<Vec<u8>>> {
    list_of(SockProtocol::NetlinkRoute, request)
}

/// Sends a request, and returns the messages of the list.
pub(crate) fn list_of(protocol: SockProtocol, request: &[u8]) -> Result<Vec<Vec<u8>>> {
    let fd = open(protocol)?;
    let raw = fd.as_raw_fd();
    sendto(raw, request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let (mut messages, mut total) = (Vec::new(), 0);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = recv(raw, &mut buffer, MsgFlags::empty())?;
        total += length;
        if length == 0 || total > LIST_MAX {
            bail!("the kernel's list is too long");
        }
        let is_end =
            |message: &Vec<u8>| matches!(u16_at(message, 4), Some(NLMSG_DONE | NLMSG_ERROR));
        let some = split(buffer.get(..length).unwrap_or_default());
        let ended = some.iter().any(is_end);
        if let Some(last) = some.iter().find(|message| is_end(message)) {
            refusal(last)?;
        }
        messages.extend(some.into_iter().filter(|message| !is_end(message)));
        if ended {
            return Ok(messages);
        }
    }
}

/// The error at the end of a list, if there is one.
fn refusal(last: &[u8]) -> io::Result<()> {
    match u32_at(last, NLMSG_HEADER).unwrap_or_default().cast_signed() {
        code @ ..0 => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        _ => Ok(()),
    }
}

/// The messages of a datagram.
fn split(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some(length) = u32_at(bytes, 0).and_then(|length| usize::try_from(length).ok()) {
        let Some(message) = bytes.get(..length).filter(|_| length >= NLMSG_HEADER) else { break };
        messages.push(message.to_vec());
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}

/// `struct nlmsghdr`, then `body`.
pub(crate) fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(NLMSG_HEADER + body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(NLMSG_HEADER + body.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]); // sequence number, port
    bytes.extend(body);
    bytes
}

/// `struct ifinfomsg`.
fn interface_info(index: u32) -> [u8; INTERFACE_INFO] {
    let mut body = [0; INTERFACE_INFO];
    for (to, from) in body.iter_mut().skip(4).zip(index.to_ne_bytes()) {
        *to = from;
    }
    body
}

/// `struct tcmsg`.
fn traffic_control(interface: u32, handle: u32, parent: u32, info: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4]; // family, padding
    for word in [interface, handle, parent, info] {
        bytes.extend(word.to_ne_bytes());
    }
    bytes
}

fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(ATTRIBUTE_HEADER + payload.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(payload);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// `None` if there is no such filter, chain or qdisc, for which Linux uses several errors.
fn unless_missing(answer: io::Result<Option<&[u8]>>) -> io::Result<Option<&[u8]>> {
    let missing = [io::ErrorKind::NotFound, io::ErrorKind::InvalidInput];
    match answer {
        Err(error) if missing.contains(&error.kind()) => Ok(None),
        answer => answer,
    }
}

fn parse_filter(answer: &[u8]) -> Result<Option<String>> {
    let Some(attributes) = unless_missing(attributes(answer, TC_MESSAGE))? else {
        return Ok(None);
    };
    let name = find(attributes, TCA_OPTIONS).and_then(|options| find(options, TCA_BPF_NAME));
    Ok(Some(text(name.unwrap_or_default())))
}

/// The attributes after the fixed part of `fixed` bytes of an answer, or its error.
fn attributes(answer: &[u8], fixed: usize) -> io::Result<Option<&[u8]>> {
    if u16_at(answer, 4) == Some(NLMSG_ERROR) {
        let code = u32_at(answer, NLMSG_HEADER).unwrap_or_default().cast_signed();
        // Zero means an acknowledgement.
        return if code == 0 {
            Ok(None)
        } else {
            Err(io::Error::from_raw_os_error(code.saturating_neg()))
        };
    }
    Ok(answer.get(NLMSG_HEADER + fixed..))
}

fn parse_link(answer: &[u8]) -> Result<Link> {
    u16_at(answer, 4).context("a netlink answer without a header")?;
    let attributes = attributes(answer, INTERFACE_INFO)?.unwrap_or_default();
    let word = |kind| find(attributes, kind).and_then(|bytes| u32_at(bytes, 0));
    let kind = find(attributes, IFLA_LINKINFO).and_then(|info| find(info, IFLA_INFO_KIND));
    Ok(Link {
        index: u32_at(answer, NLMSG_HEADER + 4).unwrap_or_default(),
        name: find(attributes, IFLA_IFNAME).map(text).unwrap_or_default(),
        kind: kind.map(text).unwrap_or_default(),
        device: u16_at(answer, NLMSG_HEADER + 2).unwrap_or_default(),
        up: u32_at(answer, NLMSG_HEADER + 8).unwrap_or_default() & IFF_UP != 0,
        mtu: word(IFLA_MTU).unwrap_or_default(),
        beneath: word(IFLA_LINK).filter(|index| *index != 0),
        master: word(IFLA_MASTER).filter(|index| *index != 0),
        xdp: find(attributes, IFLA_XDP).and_then(parse_xdp),
    })
}

fn parse_xdp(xdp: &[u8]) -> Option<Attached> {
    let native = match find(xdp, IFLA_XDP_ATTACHED).and_then(<[u8]>::first) {
        None | Some(0) => return None,
        Some(&XDP_ATTACHED_SKB) => false,
        // In the driver, in the card, or several at once.
        Some(_) => true,
    };
    let program = find(xdp, IFLA_XDP_PROG_ID).and_then(|id| u32_at(id, 0));
    Some(Attached { program: program.unwrap_or_default(), native })
}

/// The interfaces through which a route leaves: several, or none that matters.
fn parse_route(answer: &[u8]) -> Vec<Route> {
    let byte = |at: usize| answer.get(NLMSG_HEADER + at).copied().unwrap_or_default();
    let attributes = answer.get(NLMSG_HEADER + ROUTE_MESSAGE..).unwrap_or_default();
    let metric = find(attributes, RTA_PRIORITY).and_then(|bytes| u32_at(bytes, 0));
    let (default, metric) = (byte(1) == 0, metric.unwrap_or_default());
    let hops = next_hops(answer).into_iter().filter(|(_, gateway)| default || gateway.is_some());
    hops.map(|(interface, gateway)| Route { default, metric, interface, gateway }).collect()
}

/// The destination of a route.
fn network(answer: &[u8]) -> Option<IpNet> {
    let byte = |at: usize| answer.get(NLMSG_HEADER + at).copied().unwrap_or_default();
    let attributes = answer.get(NLMSG_HEADER + ROUTE_MESSAGE..).unwrap_or_default();
    let to = find(attributes, RTA_DST);
    let address = if i32::from(byte(0)) == nix::libc::AF_INET {
        let octets = to.map_or(Some([0; 4]), |bytes| bytes.first_chunk().copied());
        IpAddr::from(octets?)
    } else {
        let octets = to.map_or(Some([0; 16]), |bytes| bytes.first_chunk().copied());
        IpAddr::from(octets?)
    };
    IpNet::new(address, byte(1)).ok()
}

/// The interfaces that a route leads out by, and the gateway of each.
fn next_hops(answer: &[u8]) -> Vec<(u32, Option<IpAddr>)> {
    let byte = |at: usize| answer.get(NLMSG_HEADER + at).copied().unwrap_or_default();
    let flags = u32_at(answer, NLMSG_HEADER + 8).unwrap_or_default();
    if u16_at(answer, 4) != Some(RTM_NEWROUTE)
        || byte(7) != RTN_UNICAST
        || flags & RTM_F_CLONED != 0
    {
        return Vec::new();
    }
    let attributes = answer.get(NLMSG_HEADER + ROUTE_MESSAGE..).unwrap_or_default();
    let mut routes = Vec::new();
    let mut add = |interface: Option<u32>, gateway: Option<IpAddr>| {
        let interface = interface.filter(|index| *index != 0);
        routes.extend(interface.map(|interface| (interface, gateway)));
    };
    let interface = find(attributes, RTA_OIF).and_then(|bytes| u32_at(bytes, 0));
    add(interface, gateway(attributes));
    let mut hops = find(attributes, RTA_MULTIPATH).unwrap_or_default();
    while let Some(length) = u16_at(hops, 0).map(usize::from).filter(|length| *length >= NEXT_HOP) {
        let of_hop = hops.get(NEXT_HOP..length).unwrap_or_default();
        add(u32_at(hops, 4), gateway(of_hop));
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    routes
}

/// The gateway of a route. With `RTA_VIA` it may be of the other family: the attribute has the family
/// and the address.
fn gateway(attributes: &[u8]) -> Option<IpAddr> {
    let bytes = find(attributes, RTA_GATEWAY).or_else(|| find(attributes, RTA_VIA)?.get(2..))?;
    let v4 = || <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(IpAddr::from);
    v4().or_else(|_| v6()).ok()
}

/// The payload of the first attribute of a kind.
pub(crate) fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)? & NLA_TYPE_MASK;
        if kind == wanted {
            return attributes.get(ATTRIBUTE_HEADER..length);
        }
        attributes = attributes.get(length.max(ATTRIBUTE_HEADER).next_multiple_of(4)..)?;
    }
}

/// A text that is terminated by a zero.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An answer about interface 7, an Ethernet device that is up.
    fn answer(attributes: &[u8]) -> Vec<u8> {
        let mut body = interface_info(7);
        body[2] = 1;
        body[8] = 1;
        message(RTM_NEWLINK, 0, &[&body, attributes].concat())
    }

    fn route(length: u8, kind: u8, attributes: &[u8]) -> Vec<u8> {
        let mut body = [0; ROUTE_MESSAGE];
        (body[1], body[7]) = (length, kind);
        message(RTM_NEWROUTE, 0, &[&body, attributes].concat())
    }

    #[test]
    fn reads_the_program_and_its_mode() {
        let name = attribute(IFLA_IFNAME, b"eth0\0");
        let kind = attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, b"veth"));
        let xdp = [
            attribute(IFLA_XDP_ATTACHED, &[XDP_ATTACHED_SKB]),
            attribute(IFLA_XDP_PROG_ID, &77u32.to_ne_bytes()),
        ]
        .concat();
        let bytes = answer(&[name, kind, attribute(IFLA_XDP | 0x8000, &xdp)].concat());
        let link = parse_link(&bytes).unwrap();
        assert_eq!((link.index, &*link.name, &*link.kind, link.up), (7, "eth0", "veth", true));
        assert!(link.has_ethernet() && !link.is_ppp());
        assert_eq!(link.xdp, Some(Attached { program: 77, native: false }));
        let none = answer(&attribute(IFLA_XDP, &attribute(IFLA_XDP_ATTACHED, &[0])));
        assert_eq!(parse_link(&none).unwrap().xdp, None);
    }

    #[test]
    fn reads_where_routes_lead_out() {
        let word = |kind, word: u32| attribute(kind, &word.to_ne_bytes());
        let one = [word(RTA_OIF, 3), word(RTA_PRIORITY, 100)].concat();
        let expected = Route { default: true, metric: 100, interface: 3, gateway: None };
        assert_eq!(parse_route(&route(0, RTN_UNICAST, &one)), [expected]);
        // Unreachable; to a connected network; through a gateway.
        assert_eq!(parse_route(&route(0, 7, &one)), []);
        assert_eq!(parse_route(&route(24, RTN_UNICAST, &one)), []);
        let v4 = IpAddr::from([192, 0, 2, 1]);
        let v6: std::net::Ipv6Addr = "2001:db8::1".parse().unwrap();
        let via = [&10_u16.to_ne_bytes()[..], &v6.octets()].concat();
        for (attribute, gateway) in [
            (attribute(RTA_GATEWAY, &[192, 0, 2, 1]), v4),
            (attribute(RTA_GATEWAY, &v6.octets()), IpAddr::from(v6)),
            (attribute(RTA_VIA, &via), IpAddr::from(v6)),
        ] {
            let bytes = [one.clone(), attribute].concat();
            let expected = Route { default: false, gateway: Some(gateway), ..expected };
            assert_eq!(parse_route(&route(32, RTN_UNICAST, &bytes)), [expected]);
        }
        let hop = |index: u32| [&[8, 0, 0, 0], &index.to_ne_bytes()[..]].concat();
        let hops = attribute(RTA_MULTIPATH, &[hop(3), hop(4)].concat());
        let bytes = route(0, RTN_UNICAST, &hops);
        let interfaces: Vec<u32> =
            parse_route(&bytes).iter().map(|route| route.interface).collect();
        assert_eq!(interfaces, [3, 4]);
        for length in 0..bytes.len() {
            let _any = parse_route(&bytes[..length]);
        }
    }

    #[test]
    fn reads_the_name_of_a_filter() {
        let options = attribute(TCA_OPTIONS, &attribute(TCA_BPF_NAME, b"ringfence_out\0"));
        let bytes = message(44, 0, &[vec![0; TC_MESSAGE], options].concat());
        assert_eq!(parse_filter(&bytes).unwrap().as_deref(), Some("ringfence_out"));
        for length in 0..bytes.len() {
            let _any = parse_filter(&bytes[..length]);
        }
        let missing = message(NLMSG_ERROR, 0, &(-nix::libc::ENOENT).to_ne_bytes());
        assert_eq!(parse_filter(&missing).unwrap(), None);
        let refused = message(NLMSG_ERROR, 0, &(-nix::libc::EPERM).to_ne_bytes());
        assert!(parse_filter(&refused).is_err());
    }

    #[test]
    fn cut_answers_are_no_panic() {
        let bytes = answer(&attribute(IFLA_XDP, &attribute(IFLA_XDP_ATTACHED, &[1])));
        for length in 0..bytes.len() {
            let _any = parse_link(&bytes[..length]);
            let _any = split(&bytes[..length]);
        }
        assert_eq!(split(&[&bytes[..], &bytes[..]].concat()).len(), 2);
        assert!(find(&[0; 64], 1).is_none());
    }

    #[test]
    fn the_end_of_a_list_may_be_a_refusal() {
        let end = |code: i32| message(NLMSG_DONE, 0, &code.to_ne_bytes());
        assert!(refusal(&end(0)).is_ok() && refusal(&end(7)).is_ok());
        assert!(refusal(&message(NLMSG_DONE, 0, &[])).is_ok());
        let error = refusal(&end(-nix::libc::ENOENT)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn this_host_has_interfaces() {
        let links = links().unwrap();
        let lo = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(lo.has_ethernet());
        assert_eq!(link(lo.index).unwrap().name, "lo");
        let _any = routes().unwrap();
    }
}
