//! Which XDP program an interface has, and which filter at its egress, asked of the kernel over
//! rtnetlink.

use std::io;
use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

// include/uapi/linux/netlink.h, rtnetlink.h, if_link.h
const RTM_GETLINK: u16 = 18;
const RTM_GETTFILTER: u16 = 46;
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_HEADER: usize = 16;
const INTERFACE_INFO: usize = 16;
const ATTRIBUTE_HEADER: usize = 4;
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_SKB: u8 = 2;
const NLA_TYPE_MASK: u16 = 0x3fff;
// include/uapi/linux/pkt_sched.h, pkt_cls.h, if_ether.h
const TC_MESSAGE: usize = 20;
const EGRESS: u32 = 0xffff_fff3;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_NAME: u16 = 7;
const ETH_P_ALL: u16 = 3;

/// An XDP program on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    /// The program's id; zero where there are several.
    pub(super) program: u32,
    /// Whether it runs in the driver.
    pub(super) native: bool,
}

/// The XDP program of an interface, if it has one.
pub(super) fn attached(index: u32) -> Result<Option<Attached>> {
    let answer =
        ask(&request(index)).with_context(|| format!("ask the kernel about interface {index}"))?;
    parse(&answer)
}

/// A filter's place at an interface's egress.
#[derive(Clone, Copy, Debug)]
pub(super) struct FilterPlace {
    /// The interface's index.
    pub(super) interface: u32,
    /// Which come first.
    pub(super) priority: u16,
    /// Which of those of a priority.
    pub(super) handle: u32,
}

/// The name of the filter at a place, empty where it is none of BPF; `None` where there is no filter.
pub(super) fn egress_filter(place: FilterPlace) -> Result<Option<String>> {
    let index = place.interface;
    let answer = ask(&filter_request(place))
        .with_context(|| format!("ask the kernel about the filters of interface {index}"))?;
    parse_filter(&answer)
}

fn ask(request: &[u8]) -> Result<Vec<u8>> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let raw = fd.as_raw_fd();
    sendto(raw, request, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = vec![0; 32 * 1024];
    let length = recv(raw, &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    Ok(answer)
}

/// `struct nlmsghdr`, then `struct tcmsg`.
fn filter_request(place: FilterPlace) -> Vec<u8> {
    let protocol = u32::from(ETH_P_ALL.to_be());
    let mut bytes = Vec::with_capacity(NLMSG_HEADER + TC_MESSAGE);
    bytes.extend((NLMSG_HEADER + TC_MESSAGE).to_ne_bytes().iter().take(4));
    bytes.extend(RTM_GETTFILTER.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]); // sequence number, port
    bytes.extend([0; 4]); // family, padding
    bytes.extend(place.interface.to_ne_bytes());
    bytes.extend(place.handle.to_ne_bytes());
    bytes.extend(EGRESS.to_ne_bytes());
    bytes.extend((u32::from(place.priority) << 16 | protocol).to_ne_bytes());
    bytes
}

fn parse_filter(answer: &[u8]) -> Result<Option<String>> {
    // No such filter, chain or qdisc, of which Linux says either.
    let missing = [io::ErrorKind::NotFound, io::ErrorKind::InvalidInput];
    let attributes = match attributes(answer, TC_MESSAGE) {
        Ok(Some(attributes)) => attributes,
        Ok(None) => return Ok(None),
        Err(error) if missing.contains(&error.kind()) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let name = find(attributes, TCA_OPTIONS).and_then(|options| find(options, TCA_BPF_NAME));
    let name = name.unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(name).into_owned()))
}

/// The attributes behind an answer's fixed part of `fixed` bytes, or the error that it is.
fn attributes(answer: &[u8], fixed: usize) -> io::Result<Option<&[u8]>> {
    if u16_at(answer, 4) == Some(NLMSG_ERROR) {
        let code = answer.get(NLMSG_HEADER..NLMSG_HEADER + 4).and_then(|c| c.try_into().ok());
        let code = i32::from_ne_bytes(code.unwrap_or_default());
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    Ok(answer.get(NLMSG_HEADER + fixed..))
}

fn request(index: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(NLMSG_HEADER + INTERFACE_INFO);
    bytes.extend((NLMSG_HEADER + INTERFACE_INFO).to_ne_bytes().iter().take(4));
    bytes.extend(RTM_GETLINK.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend([0; 8]); // sequence number, port
    bytes.extend([0; 4]); // family, padding, device type
    bytes.extend(index.to_ne_bytes());
    bytes.extend([0; 8]); // flags, change mask
    bytes
}

fn parse(answer: &[u8]) -> Result<Option<Attached>> {
    u16_at(answer, 4).context("a netlink answer without a header")?;
    let attributes = attributes(answer, INTERFACE_INFO)?.unwrap_or_default();
    let Some(xdp) = find(attributes, IFLA_XDP) else {
        return Ok(None);
    };
    let native = match find(xdp, IFLA_XDP_ATTACHED).and_then(<[u8]>::first) {
        None | Some(0) => return Ok(None),
        Some(&XDP_ATTACHED_SKB) => false,
        // In the driver, in the card, or several at once.
        Some(_) => true,
    };
    let program = find(xdp, IFLA_XDP_PROG_ID).and_then(|id| id.try_into().ok());
    Ok(Some(Attached { program: program.map_or(0, u32::from_ne_bytes), native }))
}

/// The payload of the first attribute of a kind.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(attributes, 0)?);
        let kind = u16_at(attributes, 2)? & NLA_TYPE_MASK;
        if kind == wanted {
            return attributes.get(ATTRIBUTE_HEADER..length);
        }
        attributes = attributes.get(length.max(ATTRIBUTE_HEADER).next_multiple_of(4)..)?;
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..)?.first_chunk().copied()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(ATTRIBUTE_HEADER + payload.len()).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn answer(attributes: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; NLMSG_HEADER + INTERFACE_INFO];
        bytes[4..6].copy_from_slice(&16u16.to_ne_bytes());
        bytes.extend(attributes);
        bytes
    }

    #[test]
    fn reads_the_program_and_its_mode() {
        let name = attribute(3, b"eth0\0");
        let xdp = [
            attribute(IFLA_XDP_ATTACHED, &[XDP_ATTACHED_SKB]),
            attribute(IFLA_XDP_PROG_ID, &77u32.to_ne_bytes()),
        ]
        .concat();
        let bytes = answer(&[name, attribute(IFLA_XDP | 0x8000, &xdp)].concat());
        assert_eq!(parse(&bytes).unwrap(), Some(Attached { program: 77, native: false }));
        let none = answer(&attribute(IFLA_XDP, &attribute(IFLA_XDP_ATTACHED, &[0])));
        assert_eq!(parse(&none).unwrap(), None);
    }

    #[test]
    fn reads_the_name_of_a_filter() {
        let options = attribute(TCA_OPTIONS, &attribute(TCA_BPF_NAME, b"ringfence_out\0"));
        let mut bytes = vec![0; NLMSG_HEADER + TC_MESSAGE];
        bytes[4..6].copy_from_slice(&44u16.to_ne_bytes());
        bytes.extend(&options);
        assert_eq!(parse_filter(&bytes).unwrap().as_deref(), Some("ringfence_out"));
        for length in 0..bytes.len() {
            let _any = parse_filter(&bytes[..length]);
        }
        let mut missing = vec![0; NLMSG_HEADER + 4];
        missing[4..6].copy_from_slice(&NLMSG_ERROR.to_ne_bytes());
        missing[NLMSG_HEADER..].copy_from_slice(&(-nix::libc::ENOENT).to_ne_bytes());
        assert_eq!(parse_filter(&missing).unwrap(), None);
    }

    #[test]
    fn cut_answers_are_no_panic() {
        let bytes = answer(&attribute(IFLA_XDP, &attribute(IFLA_XDP_ATTACHED, &[1])));
        for length in 0..bytes.len() {
            let _any = parse(&bytes[..length]);
        }
        assert!(find(&[0; 64], 1).is_none());
    }
}
