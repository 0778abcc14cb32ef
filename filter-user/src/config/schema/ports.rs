//! The rows of ports, which the detection declares.

use std::rc::Rc;

use crate::config::kind;
use crate::config::schema::{Field, field};
use crate::config::{PortClass, PortClasses, SipPorts};

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
