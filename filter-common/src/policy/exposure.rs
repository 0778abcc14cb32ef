//! Ports that are not open to everybody, and ports whose users are recorded.

use super::{Tables, tiers};
use crate::abi::{
    OPEN_TO_ALL, OPEN_TO_KNOWN, OPEN_TO_REPLIES, OPEN_TO_TRUSTED, PORT_GUARDED, RECORDED,
};
use crate::decision::{Code, Reason};
use crate::limits::REPLY_WINDOW;
use crate::packet::{Headers, Layer4, Words};

/// Whether the packet's port is open to it: `open`, also if the port is not guarded;
/// [`Reason::ClosedPort`], which does not apply to trusted sources; or [`Code::SHUT`], which applies to all.
///
/// Over TCP, only the first packet of a connection is checked, so that established connections and those
/// that the host opens continue. Over UDP, a packet is a reply if the host has recently sent something
/// from this port to its source. What the host sends to itself over a protected loopback interface is not
/// checked.
#[inline(always)]
pub fn admit<T: Tables + ?Sized>(words: Words, open: Code, tables: &T) -> Code {
    let Some(config) = tables.config() else {
        return open;
    };
    let headers = Headers::from_words(words);
    let source = headers.source;
    let (tcp, port) = match headers.layer4 {
        Layer4::Udp { port, .. } => (false, port),
        Layer4::Tcp { port, syn: true, .. } => (true, port),
        // It may go to any port, and hiding the port must not be an advantage.
        Layer4::Unknown => return Reason::ClosedPort.into(),
        Layer4::Tcp { .. } | Layer4::LaterFragment | Layer4::Other => return open,
    };
    if tables.port_classes(tcp, port) & PORT_GUARDED == 0 || tables.is_loopback() {
        return open;
    }
    let guards = tables.guards(tcp, port);
    let now = tables.now(config);
    let is_reply = !tcp
        && guards & OPEN_TO_REPLIES != 0
        && tables.asked(source, port).is_some_and(|asked| now < asked.saturating_add(REPLY_WINDOW));
    if is_reply {
        return open;
    }
    // The request for a TCP connection may be forged: `learn::note_visit` records its users.
    if !tcp && guards & RECORDED != 0 {
        tables.visited(source, tcp, port, now);
    }
    if guards & OPEN_TO_ALL != 0 {
        return open;
    }
    if guards & OPEN_TO_KNOWN != 0 && tiers::known_peer(source, config, tables, now).is_some() {
        return open;
    }
    if guards & OPEN_TO_TRUSTED != 0 { Reason::ClosedPort.into() } else { Code::SHUT }
}
