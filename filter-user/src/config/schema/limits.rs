//! The rows of the limits and the signatures, which the datapath declares.

use std::rc::Rc;
use std::time::Duration;

use crate::config::kind;
use crate::config::schema::{Field, field};
use crate::config::{ByteLimits, ClassLimits, Limit, Limits, Signatures};

/// The limits.
pub(in crate::config) fn fields<'a>(
    limits: &'a mut Limits,
    _scopes: &Rc<[String]>,
) -> Vec<Field<'a>> {
    let Limits { source, prefix, shared, tcp_bytes, known, greylist, admitted, flood } = limits;
    let mut fields = class_fields("limits", "one source that is not a known peer", source);
    fields.extend([
        field(
            "limits.prefix.ipv4",
            "The length of the IPv4 networks to which the limits in this section apply.",
            kind::Length(&mut prefix.ipv4, 8..=32),
        ),
        field(
            "limits.prefix.ipv6",
            "The length of the IPv6 networks to which the limits in this section apply.",
            kind::Length(&mut prefix.ipv6, 16..=128),
        ),
    ]);
    let who = "all unknown sources in one network together";
    fields.extend(class_fields("limits.prefix", who, &mut prefix.classes));
    let who = "all unknown sources together";
    fields.extend(class_fields("limits.shared", who, shared));
    fields.extend(byte_fields(tcp_bytes));
    fields.extend(limit_field(
        "limits.known",
        "How fast each known peer may send packets of any kind to SIP ports.",
        known,
    ));
    fields.push(field(
        "limits.greylist",
        "When a shared limit is reached, admit a REGISTER of an unknown source when it is \
         retransmitted. Forged floods do not retransmit.",
        kind::Flag(greylist),
    ));
    fields.extend(limit_field(
        "limits.admitted",
        "How fast the greylist admits retransmissions, from all sources together.",
        admitted,
    ));
    fields.extend(limit_field(
        "limits.flood.after",
        "How far over its limit a source may go before the program bans it. Only a source with a \
         TCP connection or a known peer is banned in this way.",
        &mut flood.after,
    ));
    fields.push(field(
        "limits.flood.ban",
        "How long a ban for flooding lasts.",
        kind::Time(&mut flood.ban, Duration::from_secs(1)..=Duration::from_hours(24)),
    ));
    fields
}

/// The limits of each class for `who`.
fn class_fields<'a>(section: &str, who: &str, limits: &'a mut ClassLimits) -> Vec<Field<'a>> {
    let ClassLimits { register, register_credentials, invite, options, subscribe, other, syn } =
        limits;
    let classes = [
        ("register", "REGISTER without credentials", register),
        ("register_credentials", "REGISTER with credentials", register_credentials),
        ("invite", "INVITE", invite),
        ("options", "OPTIONS", options),
        ("subscribe", "SUBSCRIBE", subscribe),
        ("other", "anything else", other),
        ("syn", "TCP connection requests", syn),
    ];
    let fields = classes.into_iter().flat_map(|(name, what, limit)| {
        let doc = format!("How fast {who} may send {what} to SIP ports.");
        limit_field(&format!("{section}.{name}"), &doc, limit)
    });
    fields.collect()
}

/// The limits of bytes over TCP.
fn byte_fields(limits: &mut ByteLimits) -> Vec<Field<'_>> {
    let ByteLimits { connection, source, prefix, shared } = limits;
    let who = [
        ("connection", "one TCP connection to a SIP port", connection),
        ("source", "one source over TCP to SIP ports", source),
        ("prefix", "one network over TCP to SIP ports", prefix),
        ("shared", "all unknown sources over TCP to SIP ports", shared),
    ];
    let fields = who.into_iter().flat_map(|(name, how, limit)| {
        let doc = format!("How many bytes may come from {how}, known peers excepted.");
        limit_of(&format!("limits.tcp_bytes.{name}"), &doc, limit, 1_000_000, "bytes")
    });
    fields.collect()
}

fn limit_field<'a>(path: &str, doc: &str, limit: &'a mut Limit) -> [Field<'a>; 2] {
    limit_of(path, doc, limit, 100_000, "packets")
}

/// The two fields of a limit whose burst is at most `most`.
fn limit_of<'a>(
    path: &str,
    doc: &str,
    limit: &'a mut Limit,
    most: u32,
    unit: &'static str,
) -> [Field<'a>; 2] {
    let Limit { rate, burst } = limit;
    [
        field(&format!("{path}.rate"), doc, kind::Rate(rate, unit)),
        field(
            &format!("{path}.burst"),
            "How many may come at once before the rate applies.",
            kind::Count(burst, 1..=most, unit),
        ),
    ]
}

/// The signatures of scanners.
pub(in crate::config) fn signatures<'a>(
    signatures: &'a mut Signatures,
    _scopes: &Rc<[String]>,
) -> [Field<'a>; 1] {
    [field(
        "signatures.user_agents",
        "The User-Agents of scanners, whose packets are dropped. A final `*` matches any ending. \
         A match does not ban the source.",
        kind::UserAgents(&mut signatures.user_agents),
    )]
}
