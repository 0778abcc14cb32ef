//! The rows of ports and of the services on them, which the detection declares.

use std::rc::Rc;

use crate::config::kind;
use crate::config::schema::{Field, field};
use crate::config::{Exposure, PortClass, PortClasses, SipPorts, services};

/// The ports that carry SIP.
pub(in crate::config) fn sip<'a>(sip: &'a mut SipPorts, _scopes: &Rc<[String]>) -> [Field<'a>; 2] {
    [
        field(
            "sip.udp",
            "The UDP ports that carry SIP. Write a range as `\"5060-5070\"`.",
            kind::Ports(&mut sip.udp),
        ),
        field(
            "sip.tcp",
            "The TCP ports that carry SIP, with or without TLS.",
            kind::Ports(&mut sip.tcp),
        ),
    ]
}

/// The other ports, by name.
pub(in crate::config) fn classes<'a>(
    ports: &'a mut PortClasses,
    _scopes: &Rc<[String]>,
) -> Vec<Field<'a>> {
    let fields = ports.iter_mut().flat_map(|class| {
        let PortClass { name, udp, tcp } = class;
        let doc = |transport| format!("The {transport} ports that a ban of scope {name} closes.");
        [
            field(&format!("ports.{name}.udp"), &doc("UDP"), kind::Ports(udp)),
            field(&format!("ports.{name}.tcp"), &doc("TCP"), kind::Ports(tcp)),
        ]
    });
    fields.collect()
}

/// The services that are not open to everybody.
pub(in crate::config) fn exposure<'a>(
    exposure: &'a mut Exposure,
    _scopes: &Rc<[String]>,
) -> [Field<'a>; 3] {
    let names: Vec<&str> = services().collect();
    [
        field(
            "exposure.trusted",
            &format!(
                "The services that are open to `trusted` networks only, by name or as `8080/tcp`. New TCP \
                 connections and UDP packets of all others are dropped; connections that exist, and UDP \
                 replies to the host, are not. Known peers may still use `sip` and `rtp`. The names are \
                 {}.",
                names.join(", ")
            ),
            kind::Services(&mut exposure.trusted),
        ),
        field(
            "exposure.closed",
            "The services that are open to nobody, not even to `trusted` networks. The host's own \
             connections over loopback are not affected.",
            kind::Services(&mut exposure.closed),
        ),
        field(
            "exposure.dry_run",
            "Count the packets that `exposure` would drop, but let them pass.",
            kind::Flag(&mut exposure.dry_run),
        ),
    ]
}
